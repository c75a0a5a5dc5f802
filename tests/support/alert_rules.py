"""A second reading of docs/alerts.md: who is alerted to what, who is not and why, in plain Python that shares nothing with beepgpt/alerts/.

`AlertRules` is told everything that happens, in the order in which it happens, and holds what must be true after each: the state of every
alert, the messages that people see in Slack and in App Home, what went to `--to`, and how often each reason was counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


def micros(ts: str) -> int:
    seconds, _, fraction = ts.partition(".")
    return int(seconds) * SECOND + int(fraction.ljust(6, "0"))


def ts_text(at: int) -> str:
    return f"{at // SECOND}.{at % SECOND:06d}"


@dataclass
class Defaults:
    """The settings: as the policy has them."""

    threshold: float
    list_from: float | None
    per_hour: int
    quiet: tuple[int, int]
    zone: str
    max_age: int
    opted_in: bool
    topic_from: float


@dataclass
class Wishes:
    """What one person asked for; None: nothing, so the settings hold."""

    opted_in: bool | None = None
    threshold: float | None = None
    per_hour: int | None = None
    quiet: tuple[int, int] | None = None
    zone: str | None = None
    muted: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()


@dataclass
class Someone:
    """A person as Slack knows them: `full`, `guest`, `stranger`, `left`, or `unknown`."""

    kind: str = "full"
    zone: str | None = "Etc/UTC"


@dataclass
class Place:
    """A channel as Slack knows it: `known`, `gone` (Slack refuses), or `other` (Slack answers for another one)."""

    members: set[str]
    private: bool = False
    answer: str = "known"


@dataclass
class Expected:
    """One alert that was decided on."""

    id: str
    user: str
    kind: str
    way: str
    p: float
    channel: str
    conversations: tuple[str, ...]
    window: tuple[tuple[int, str], ...]
    made_at: int
    prediction: str
    text: str
    """The newest message's; empty once it may not be shown."""
    state: str = "due"
    cleared_at: int = 0
    message: str = "none"
    """Of its direct message: `none`, `queued`, `sent`, `changing` (sent, and a message that it shows was deleted since), or why not."""

    shown: str = ""
    """What its direct message shows in Slack: as it was sent, or last changed."""

    @property
    def ts(self) -> int:
        return self.window[-1][0]


@dataclass
class AlertRules:
    """What docs/alerts.md says must happen."""

    defaults: Defaults
    started: float
    """Seconds, as the pauses count them: nothing is sent within a second of it."""
    wishes: dict[str, Wishes] = field(default_factory=lambda: defaultdict(Wishes))
    people: dict[str, Someone] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    missing: set[tuple[str, int]] = field(default_factory=set)
    """Messages that are gone in Slack, before or after anybody told us."""
    deleted: set[tuple[str, int]] = field(default_factory=set)
    wrote: set[tuple[str, str]] = field(default_factory=set)
    posts: list[tuple[str, int, int | None, str]] = field(default_factory=list)
    """Channel, time, root (of a reply) and author of all messages that events told of."""
    session_of: dict[str, str] = field(default_factory=dict)
    counted_as_alerted: set[tuple[str, str]] = field(default_factory=set)
    alerts: dict[str, Expected] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    forwarded: list[str] = field(default_factory=list)
    with_home: set[str] = field(default_factory=set)
    _seen: dict[tuple[str, str], float] = field(default_factory=dict)
    _free: dict[str, float] = field(default_factory=dict)
    _opened: set[str] = field(default_factory=set)

    # Decisions

    def predicted(self, value: Mapping[str, Any], ids: Mapping[tuple[str, str], str], closeness: float, now: int) -> None:
        """A prediction is read. `ids`: those of its alerts by person and kind. `closeness`: of its text to every topic."""
        point = {
            "channel": value["channel"],
            "conversations": tuple(value["conversations"]),
            "window": tuple((micros(each["ts"]), each["user"]) for each in value["window"]),
        }
        window = point["window"]
        newest = window[-1][0]
        names = set(self._one_conversation(**point))
        everybodys = self._why_nobody(value, window, newest, now)
        if everybodys:
            self.counts[f"passed:{everybodys}"] += 1
        else:
            likely = min(self.defaults.threshold, 1.0 if self.defaults.list_from is None else self.defaults.list_from)
            candidates = [(each["user"], "answer", each["p"], each["p"] >= likely) for each in value["people"]]
            if closeness >= self.defaults.topic_from:
                asked = sorted((user, words) for user, wishes in self.wishes.items() for words in wishes.topics)
                candidates += [(user, "topic", closeness, True) for user, _ in asked]
            for user, kind, p, is_likely in candidates:
                why_not, way = self._decision(user, 1.0 if kind == "topic" else p, value["channel"], window, names, newest, now)
                if why_not:
                    if is_likely and why_not != "not_opted_in":
                        self.counts[f"passed:{why_not}"] += 1
                    continue
                alert = Expected(
                    ids[user, kind], user, kind, way, p, **point, made_at=now, prediction=value["id"], text=_newest_text(value["prompt"])
                )
                self.counted_as_alerted |= {(user, name) for name in (*names, f"{value['channel']}:{newest}")}
                if alert.id not in self.alerts:
                    self.alerts[alert.id] = alert
                    self.counts[f"{kind}:{way}"] += 1
        for name in point["conversations"]:
            self.wrote |= {(_by_the_hour(name, ts), user) for ts, user in window}
            if name.endswith(":session"):
                self.session_of |= {f"{value['channel']}:{ts_text(ts)}:thread": name for ts, _ in window}

    def _why_nobody(self, value: Mapping[str, Any], window: tuple[tuple[int, str], ...], newest: int, now: int) -> str:
        if not value["fresh"]:
            return "not_fresh"
        if now - min(newest, micros(value["prompt_ts"])) > self.defaults.max_age:
            return "too_old"
        if any((value["channel"], ts) in self.deleted for ts, _ in window):
            return "deleted"
        own = f"{value['channel']}:{ts_text(newest)}:thread"
        return "root_alone" if list(value["conversations"]) == [own] and len(window) == 1 else ""

    def _decision(
        self, user: str, p: float, channel: str, window: tuple[tuple[int, str], ...], names: set[str], newest: int, now: int
    ) -> tuple[str, str]:
        """(why not, how): one of the two is empty. The rules in the order of the table."""
        if why_not := self._never(user, channel, window, names):
            return why_not, ""
        how, reason = self._how(user, p, now)
        if not how:
            return reason, ""
        if any((user, name) in self.counted_as_alerted for name in (*names, f"{channel}:{newest}")):
            return "told_before", ""
        return "", how

    def _never(self, user: str, channel: str, window: tuple[tuple[int, str], ...], names: set[str]) -> str:
        wishes = self.wishes[user]
        if not (self.defaults.opted_in if wishes.opted_in is None else wishes.opted_in):
            return "not_opted_in"
        if window[-1][1] == user:
            return "author"
        if user in {author for _, author in window} or any((name, user) in self.wrote for name in names):
            return "participant"
        if any(user in self._authors_in(channel, name) for name in names):
            return "participant"
        return "muted" if channel in wishes.muted else ""

    def _authors_in(self, channel: str, name: str) -> set[str]:
        """Who wrote in a conversation, by the events: a thread, an hour of a whole channel, or a session's own messages."""
        here = sorted(each for each in self.posts if each[0] == channel)
        if ":channel:" in name:
            return {author for _, at, _, author in here if at // HOUR == int(name.split(":")[2])}
        begin = micros(name.split(":")[1])
        if name.endswith(":thread"):
            return {author for _, at, root, author in here if begin in (at, root)}
        found, last = set(), begin
        for _, at, root, author in here:
            if root is None and at >= begin:
                if at - last > 10 * MINUTE:
                    break
                last = at
                found.add(author)
        return found

    def _how(self, user: str, p: float, now: int, without: str = "") -> tuple[str, str]:
        wishes = self.wishes[user]
        if p < (self.defaults.threshold if wishes.threshold is None else wishes.threshold):
            is_listed = self.defaults.list_from is not None and p >= self.defaults.list_from
            return ("list", "less_likely") if is_listed else ("", "unlikely")
        if self._is_quiet(user, now):
            return "list", "quiet_hours"
        got = sum(
            each.user == user
            and each.id != without
            and each.way == "direct"
            and each.made_at > now - HOUR
            and (not each.state.startswith("refused") or each.message in ("sent", "changing", "deleted"))
            for each in self.alerts.values()
        )
        limit = self.defaults.per_hour if wishes.per_hour is None else wishes.per_hour
        return ("direct", "likely") if got < limit else ("list", "hourly_limit")

    def _is_quiet(self, user: str, now: int) -> bool:
        wishes = self.wishes[user]
        begin, end = wishes.quiet or self.defaults.quiet
        local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=now)).astimezone(ZoneInfo(wishes.zone or self.defaults.zone))
        minutes = [(begin + each) % (24 * 60) for each in range((end - begin) % (24 * 60))]
        return local.hour * 60 + local.minute in minutes

    def _one_conversation(self, channel: str, conversations: tuple[str, ...], window: tuple[tuple[int, str], ...]) -> Iterator[str]:
        """What counts as one conversation: a session with its threads, as far as the window shows them; an hour of a whole channel."""
        for name in conversations:
            yield _by_the_hour(name, window[-1][0])
            if name in self.session_of:
                yield self.session_of[name]
            if name.endswith(":session"):
                yield from (f"{channel}:{ts_text(ts)}:thread" for ts, _ in window)

    # What people and Slack do meanwhile

    def wished(self, user: str, **wishes: Any) -> None:
        """A person asks for something else."""
        self.wishes[user] = replace(self.wishes[user], **wishes)

    def posted(self, channel: str, at: int, root: int | None, user: str) -> None:
        """An event is read: somebody wrote a message."""
        self.posts.append((channel, at, root, user))

    def message_deleted(self, channel: str, ts: int) -> None:
        """A deletion is read."""
        self.deleted.add((channel, ts))
        for alert in self.alerts.values():
            if alert.channel != channel or ts not in {each for each, _ in alert.window}:
                continue
            alert.text = ""
            if ts == alert.ts and alert.state in ("due", "cleared"):
                alert.state = "withdrawn"
                self.counts["withdrawn"] += 1
            if alert.message == "sent":
                alert.message = "changing"

    def prediction_gone(self, prediction: str) -> None:
        """A prediction's tombstone is read: its text goes from what shows it, and the link stays."""
        for alert in self.alerts.values():
            if alert.prediction == prediction and alert.text:
                alert.text = ""
                if alert.message == "sent":
                    alert.message = "changing"

    def restarted(self, seconds: float) -> None:
        """A new process knows nothing of who may see what."""
        self._seen, self._free, self._opened, self.started = {}, {}, set(), seconds

    # Delivery

    def delivered(self, now: int, seconds: float, *, takes_messages: bool) -> None:
        """Everything that can be done now is done. `takes_messages`: whether Slack takes any."""
        for alert in self.alerts.values():
            if alert.message == "changing":  # one whose alert stands no more can't be shown without it
                alert.message, alert.shown = ("sent" if alert.state == "cleared" else "deleted"), alert.text
        for alert in sorted((each for each in self.alerts.values() if each.state == "due"), key=lambda each: (each.made_at, each.id)):
            self._check(alert, now, seconds)
        for alert in sorted(
            (each for each in self.alerts.values() if each.message == "queued"), key=lambda each: (each.cleared_at, each.id)
        ):
            self._send(alert, now, seconds, takes_messages=takes_messages)
        for alert in self.alerts.values():
            if alert.user in self.with_home and alert.state == "cleared" and (reason := self._unseen(alert.user, alert.channel, seconds)):
                self._refuse(alert, reason)
        for alert in self.alerts.values():
            is_delivered = alert.way == "list" or alert.message in ("sent", "changing")
            if alert.state == "cleared" and is_delivered and alert.id not in self.forwarded:
                self.forwarded.append(alert.id)

    def _check(self, alert: Expected, now: int, seconds: float) -> None:
        reason = self._refusal(alert, now, seconds)
        if not reason and (alert.channel, alert.ts) in self.missing:
            reason = "deleted"
        if not reason and alert.way == "direct":
            how, why = self._how(alert.user, 1.0 if alert.kind == "topic" else alert.p, now, alert.id)
            alert.way = how or alert.way
            reason = "" if how else why
        if reason:
            self._refuse(alert, reason)
            return
        alert.state, alert.cleared_at = "cleared", now
        if alert.way == "direct":
            alert.message = "queued"

    def _send(self, alert: Expected, now: int, seconds: float, *, takes_messages: bool) -> None:
        if alert.state == "cleared" and (reason := self._refusal(alert, now, seconds)):
            self._refuse(alert, reason)
        if alert.state != "cleared":
            self._not_sent(alert, "nothing_left")
            return
        how, why = self._how(alert.user, 1.0 if alert.kind == "topic" else alert.p, now, alert.id)
        if how != "direct":
            self._not_sent(alert, why)
            alert.way = how or alert.way
            if not how:
                self._refuse(alert, why)
            return
        if alert.user not in self._opened and self.people[alert.user].kind == "unknown":
            self._not_sent(alert, "user_not_found")
            alert.way = "list"
            return
        self._opened.add(alert.user)
        if seconds < self._free.get(alert.user, self.started + 1.05):
            return
        self._free[alert.user] = seconds + 1.05
        if takes_messages:
            alert.message, alert.shown = "sent", alert.text
            self.counts["letters_sent"] += 1
            self.counts["told:slack"] += 1

    def _refusal(self, alert: Expected, now: int, seconds: float) -> str:
        if now - alert.ts > self.defaults.max_age:
            return "too_old"
        names = set(self._one_conversation(alert.channel, alert.conversations, alert.window))
        others = tuple((ts, "") for ts, _ in alert.window)  # its authors were asked for at the decision, and don't change
        return self._never(alert.user, alert.channel, others, names) or self._unseen(alert.user, alert.channel, seconds)

    def _unseen(self, user: str, channel: str, seconds: float) -> str:
        """Why a person may not see a channel now. A yes holds for half a minute, and for this channel alone."""
        if seconds < self._seen.get((user, channel), 0.0):
            return ""
        someone, place = self.people[user], self.places[channel]
        if someone.kind == "unknown" or place.answer != "known":
            return "membership_in_doubt"
        if someone.zone:
            self.wished(user, zone=someone.zone)
        may_see = someone.kind != "left" and (user in place.members or (someone.kind == "full" and not place.private))
        if not may_see:
            return "not_a_member"
        self._seen[user, channel] = seconds + 30.0
        return ""

    def _refuse(self, alert: Expected, reason: str) -> None:
        alert.state, alert.text = f"refused:{reason}", ""
        self.counts[alert.state] += 1

    def _not_sent(self, alert: Expected, reason: str) -> None:
        alert.message = f"refused:{reason}"
        self.counts[f"letters_refused:{reason}"] += 1

    # What must be seen

    def messages_of(self, user: str) -> dict[str, str]:
        """The direct messages that stand in Slack: each alert's id and the text that it shows."""
        return {each.id: each.shown for each in self.alerts.values() if each.user == user and each.message in ("sent", "changing")}

    def home_of(self, user: str) -> set[str]:
        """The texts in a person's App Home."""
        return {each.text for each in self.alerts.values() if each.user == user and each.state == "cleared" and each.text}


def _by_the_hour(name: str, ts: int) -> str:
    return f"{name}:{ts // HOUR}" if name.endswith(":channel") else name


def _newest_text(prompt: str) -> str:
    return prompt.removesuffix("\n\n###\n\n").split("\n\n")[-1]
