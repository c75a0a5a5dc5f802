"""Whether examples keep the laws of the README, told from the events and the examples alone, whoever made them."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from hashlib import sha256
from typing import Any, Literal, NamedTuple

import orjson

from beepgpt.conversations.account import Account
from beepgpt.conversations.channel import FOREVER, Channel, Output
from beepgpt.conversations.cleaning import clean
from beepgpt.conversations.events import DELETE, EDIT, POST, Event, Heartbeat, Ignored, Reject, micros, parse, ts_text
from beepgpt.conversations.examples import example_bytes
from beepgpt.conversations.reorder import ReorderBuffer
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.shard import Shard
from beepgpt.conversations.state import OpenPoint, conversation_id
from beepgpt.conversations.tokens import SEPARATOR, SUFFIX, Encoding
from beepgpt.errors import BeepGPTError

LAWS = {
    1: "past only",
    2: "blind to the answer",
    3: "prefix",
    4: "one result",
    5: "train as you serve",
    6: "nothing is lost in silence",
    7: "splits don't leak",
}

SHOWN = 5
"""Examples told of each finding."""
WITNESSES = 12
"""Examples that are made again from nothing but their prefix, where all others are checked in one pass through time."""
STRANGER = "?somebody else"
"""No id of Slack's: whoever answers in a made-up future."""
FIELDS = (
    "id", "spec", "target", "scope", "channel", "conversation", "speakers", "root_missing",
    "prompt_ts", "settled_ts", "answer_ts", "answer", "window", "prompt", "prompt_tokens",
)  # fmt: skip
KNOWN_THEN = ("speakers", "root_missing", "window", "prompt", "prompt_tokens", "candidates")
KNOWN_LATER = ("settled_ts", "answer_ts", "answer")

LawVerdict = Literal["kept", "broken", "not checkable"]


class OtherSettings(BeepGPTError):
    """The examples were made by other rules than these; the message says what to do."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class Instance:
    """One example that breaks a law: its id, or its line, and why."""

    where: str
    why: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One way in which examples break a law, how many do, and a few of them."""

    law: int
    what: str
    count: int
    examples: tuple[Instance, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """What is to be said about one law."""

    law: int
    name: str
    verdict: LawVerdict
    told: str


@dataclass(frozen=True, slots=True)
class Audit:
    """All that an audit found."""

    made_by: Literal["beepgpt", "others"]
    checked: Mapping[str, int]
    laws: tuple[Judged, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    measured: Mapping[str, Any] = field(default_factory=dict)
    """Figures of the tests, for a report."""

    @property
    def is_broken(self) -> bool:
        """Whether any law is."""
        return any(judged.verdict == "broken" for judged in self.laws)

    def as_json(self) -> dict[str, Any]:
        """The audit as a report writes it."""
        return {
            "made_by": self.made_by,
            "kept": not self.is_broken,
            "checked": dict(self.checked),
            "laws": [asdict(judged) for judged in self.laws],
            "findings": [asdict(finding) for finding in self.findings],
            "notes": list(self.notes),
            "measured": dict(self.measured),
        }


class Findings:
    """Collects what breaks a law: all is counted, a little is kept."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[int, str]] = Counter()
        self._shown: defaultdict[tuple[int, str], list[Instance]] = defaultdict(list)

    def add(self, law: int, what: str, where: str, why: str) -> None:
        """One example breaks `law`."""
        self._counts[law, what] += 1
        if len(self._shown[law, what]) < SHOWN:
            self._shown[law, what].append(Instance(where, why))

    def add_all(self, other: Findings) -> None:
        """All that another collected."""
        self._counts.update(other._counts)
        for key, shown in other._shown.items():
            self._shown[key] = [*self._shown[key], *shown][:SHOWN]

    def of(self, law: int) -> int:
        """How many times a law was found broken."""
        return sum(count for (which, _), count in self._counts.items() if which == law)

    def all(self) -> tuple[Finding, ...]:
        """By law, the most frequent first."""
        ordered = sorted(self._counts, key=lambda key: (key[0], -self._counts[key], key[1]))
        return tuple(Finding(*key, self._counts[key], tuple(self._shown[key])) for key in ordered)

    def judged(self, law: int, kept: str, not_checkable: str = "") -> Judged:
        """The verdict on one law: `kept` says what was checked, `not_checkable` why nothing could be."""
        findings = [finding for finding in self.all() if finding.law == law]
        if findings:
            return Judged(law, LAWS[law], "broken", "; ".join(f"{finding.count:,} x {finding.what}" for finding in findings))
        return Judged(law, LAWS[law], "not checkable" if not_checkable else "kept", not_checkable or kept)


# The events


class MessageVersions:
    """A message with all its versions."""

    __slots__ = ("bot", "deleted_at", "thread_ts", "ts", "user", "versions")

    def __init__(self, event: Event) -> None:
        self.ts = event.ts
        self.user = event.user
        self.bot = event.bot
        self.thread_ts = event.thread_ts
        self.versions: list[tuple[int, str | None]] = [(event.t, event.text)]
        """(from when it was known, text as it came; None for text not known yet)."""
        self.deleted_at: int | None = None


AuditedRecord = bytes | tuple[str, int, bytes]
"""A record; one of a topic with its partition and the time it was written, microseconds."""


class ChannelHistory:
    """A channel's events in the order in which they count, and the channel's clock at the end."""

    __slots__ = ("clock", "events", "name", "partition", "settled")

    def __init__(self, name: str, partition: str = "all") -> None:
        self.name = name
        self.partition = partition
        self.events: list[Event] = []
        self.clock = 0
        self.settled = 0
        """What is before this was settled on the way; the rest waits for the end of the input, which a run that was stopped has not."""

    def said(self) -> dict[int, MessageVersions]:
        """The channel's messages, by ts."""
        messages: dict[int, MessageVersions] = {}
        for event in self.events:
            if event.kind == POST:
                messages.setdefault(event.ts, MessageVersions(event))
            elif event.kind == EDIT and event.ts in messages:
                messages[event.ts].versions.append((event.t, event.text))
            elif event.kind == DELETE and event.ts in messages and messages[event.ts].deleted_at is None:
                messages[event.ts].deleted_at = event.t
        return messages


@dataclass(frozen=True)
class ChannelHistories:
    """All that the events say, channel by channel."""

    channels: Mapping[str, ChannelHistory]
    account: Account


def hear(records: Iterable[AuditedRecord], rules: Rules, *, now: int = FOREVER, until: int | None = None) -> ChannelHistories:
    """Records in order of arrival, without what is late, a copy, or of no use: docs/semantics.md, "Order", in the plainest way.

    All of it is kept in memory, so that any prefix can be gone through again.
    """
    channels: dict[str, ChannelHistory] = {}
    account = Account()
    beats: dict[str, int] = {}
    for record in records:
        partition, written, value = ("all", now, record) if isinstance(record, bytes) else record
        parsed = parse(value, written, bots=rules.bots, edits=rules.edits)
        beat = beats.get(partition, 0)
        if isinstance(parsed, Heartbeat):
            account.count("heartbeats")
            beats[partition] = max(beat, parsed.at)
            continue
        account.count("read")
        if isinstance(parsed, Reject):
            account.count(f"rejected:{parsed.reason}")
            continue
        if isinstance(parsed, Ignored):
            account.count(f"ignored:{parsed.reason}")
            if parsed.channel is not None and parsed.t is not None:
                heard = channels.setdefault(parsed.channel, ChannelHistory(parsed.channel, partition))
                heard.clock = max(heard.clock, parsed.t)
            continue
        if parsed.untimed and rules.horizon is not None:
            account.count("ignored:untimed")
            continue
        heard = channels.setdefault(parsed.channel, ChannelHistory(parsed.channel, partition))
        if max(heard.clock, beat) - parsed.t > rules.lateness:
            account.count("late")
            continue
        heard.clock = max(heard.clock, parsed.t)
        if until is not None and parsed.t > until:
            account.count("ignored:after_until")
        else:
            heard.events.append(parsed)
    for heard in channels.values():
        clock = max(heard.clock, beats.get(heard.partition, 0))
        heard.settled = clock - rules.lateness
        heard.clock = clock if until is None else until
        heard.events.sort()
        order = ReorderBuffer(rules.lateness)
        applied = [event for event in heard.events if not order.is_duplicate(event)]
        account.count("duplicate", len(heard.events) - len(applied))
        heard.events = applied
    return ChannelHistories(channels, account)


def _up_to(until: int, history: ChannelHistories) -> ChannelHistories:
    """What a run that was told `until` makes something of; its account starts anew."""
    channels = {}
    for name, heard in history.channels.items():
        channels[name] = cut = ChannelHistory(name, heard.partition)
        cut.events = heard.events[: _after(heard, until)]
        cut.clock, cut.settled = until, heard.settled
    return ChannelHistories(channels, Account())


# The examples


class ExampleRow(NamedTuple):
    """An example of a file, as far as it is always needed; the rest is read again where it is."""

    line: bytes
    where: str
    identity: str
    conversation: str
    prompt_ts: int
    settled_ts: int


def kind_of(lines: Iterable[bytes]) -> Literal["examples", "pairs"]:
    """Whether a file holds our examples, or prompts and completions of some other tool.

    >>> kind_of([b'{"prompt": "hello", "completion": " 1"}'])
    'pairs'
    """
    for line in lines:
        body = _object(line)
        if body is not None:
            return "examples" if {"id", "conversation", "prompt_ts"} <= body.keys() else "pairs"
    return "examples"


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        body = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def rules_of(lines: Iterable[bytes], rules: Rules) -> Rules:
    """The rules with what the first example tells by itself: its target, its scope, whether it carries candidates.

    Raises OtherSettings if the examples were made by other rules all the same.
    """
    for line in lines:
        body = _object(line)
        if body is None or "spec" not in body:
            continue
        shaped = rules
        if body.get("target") in ("next_user", "interacting_users", "reactors") and body.get("scope") in ("conversation", "channel"):
            shaped = replace(rules, target=body["target"], scope=body["scope"], candidates="candidates" in body)
        if body["spec"] not in (shaped.spec, rules.spec):
            raise OtherSettings(
                f"these examples are of spec {str(body['spec'])[:40]}, the settings here give spec {shaped.spec}: they were made by other "
                "settings (horizon, window, edits, ...) or another version. Give audit the flags or the --config that made them; "
                "the --report of the run that did lists them under rules"
            )
        return rules if body["spec"] == rules.spec else shaped
    return rules


def audit_examples(
    records: Iterable[AuditedRecord],
    lines: Iterable[bytes],
    rules: Rules,
    encoding: Encoding,
    *,
    valid: Iterable[bytes] | None = None,
    retractions: Iterable[bytes] | None = None,
    sample: int | None = None,
    subset: bool = False,
    until: int | None = None,
    cut: int | None = None,
    apart: Mapping[str, str] | None = None,
    now: int = FOREVER,
) -> Audit:
    """Our examples against the events that they are said to be made of.

    `valid`: the validation side, where `lines` are the training side of a split. `sample`: so many examples, each made again from
    nothing but the events of its prefix; otherwise all, in one pass through time, and a few in that way. `subset`: the file was
    chosen from more (a time range, labeling), so none is missing. `until`: as it was given to the run that made them. `cut`: the
    time at which a training set was split, if it is known. `apart`: of a topic, by id, why its tombstone can't take back an example.
    """
    given = list(lines)
    if sample is not None and sample < 1:
        raise ValueError("a sample has at least one example")
    rules = rules_of(given, rules)
    findings = Findings()
    history = hear(records, rules, now=now, until=until)
    sides = [list(_rows(given, "" if valid is None else "train ", rules, findings))]
    if valid is not None:
        sides.append(list(_rows(valid, "valid ", rules, findings)))
    rows = _once([row for side in sides for row in side], findings)
    whole = sample is None and not subset and valid is None

    recompute = _Recompute(history, rules, encoding, until)
    told = None if retractions is None else {body["id"] for line in retractions if (body := _object(line)) is not None and "id" in body}
    looks_cut: dict[int, str] = {}
    if sample is None:
        recompute.in_one_pass(rows, told, whole=whole)
        unlike = {law for law in (3, 4) if recompute.findings.of(law)}
        if unlike and whole and until is None and (shorter := _cut_short(rows, told, recompute)) is not None:
            recompute = shorter
            last = ts_text(max(row.settled_ts for row in rows))
            why = "it looks as if these were made with --until, or by a run that was stopped before the events here end"
            looks_cut = dict.fromkeys(unlike, f"{why}; give audit --until (the latest settled_ts is {last})")
        recompute.from_prefixes(_sampled(rows, WITNESSES), is_witness=True)
        recompute.accounted(history.account)
    else:
        recompute.from_prefixes(_sampled(rows, sample), is_witness=False)
    findings.add_all(recompute.findings)
    notes = list(recompute.notes())
    if sample is None:
        notes += _retractions(rows, recompute, told, findings)
    for identity, why in (apart or {}).items():
        findings.add(4, "retractions that compaction will never bring together with their examples", identity, why)
    if valid is not None:
        _split(sides[0], sides[1], rules, cut, findings)

    checked = {
        "events": history.account["read"],
        "channels": len(history.channels),
        "examples": sum(map(len, sides)),
        "recomputed": recompute.passed or recompute.scratch,
        "from_scratch": recompute.scratch,
        "answered_by_a_stranger": recompute.asked,
    }
    judged = _judged(
        findings, checked, history.account,
        whole=whole, sample=sample, split=valid is not None, ended=not recompute.was_stopped, looks_cut=looks_cut,
    )  # fmt: skip
    return Audit("beepgpt", checked, judged, findings.all(), tuple(notes))


def _cut_short(rows: Sequence[ExampleRow], told: Collection[str] | None, recompute: _Recompute) -> _Recompute | None:
    """The same with all that happened after the latest settled_ts left out, if that gives exactly these examples and retractions."""
    last = max((row.settled_ts for row in rows), default=FOREVER)
    if last > max((heard.clock for heard in recompute.history.channels.values()), default=0):
        return None
    shorter = _Recompute(_up_to(last, recompute.history), recompute.rules, recompute.encoding, last)
    shorter.in_one_pass(rows, told, whole=True)
    unlike = Findings()
    unlike.add_all(shorter.findings)
    _retractions(rows, shorter, told, unlike)
    return None if unlike.all() or shorter.was_stopped else shorter


def _judged(
    findings: Findings,
    checked: Mapping[str, int],
    account: Account,
    *,
    whole: bool,
    sample: int | None,
    split: bool,
    ended: bool,
    looks_cut: Mapping[int, str],
) -> tuple[Judged, ...]:
    """A verdict on every law; `looks_cut`: by law, why it can't be told without `until`."""
    recomputed, asked = checked["recomputed"], checked["answered_by_a_stranger"]
    nothing = "" if recomputed else "no example could be recomputed"
    how = f"{recomputed:,} examples made again"
    all_given = "all that the rules give" if ended else "all that the rules give before the input ends"
    if sample is None and not account.check():
        kept_6 = f"{account['read']:,} events read = applied + duplicate + ignored + rejected + late; {account['points']:,} points likewise"
        kept_6 += "" if ended else " (to the end of the input, which the run that made these had not come to)"
    else:
        kept_6 = ""
    return (
        findings.judged(1, f"{how}: each prompt, window and fact is what the events up to its prompt_ts give, byte for byte", nothing),
        findings.judged(
            2, f"no prompt leaves anything out by who answers; {asked:,} of {asked:,} are the same if a stranger answers", nothing
        ),
        findings.judged(3, f"{how}: each answer and silence is what the events up to its settled_ts give", nothing or looks_cut.get(3, "")),
        findings.judged(
            4,
            "every id is the right one and stands once" + (f"; the file holds {all_given} and nothing else" if whole else ""),
            looks_cut.get(4, "") if checked["examples"] else "the file holds no example",
        ),
        findings.judged(5, "", "examples alone don't tell what was scored: it needs the predictions of a scoring run"),
        findings.judged(6, kept_6, "" if kept_6 else "a sample doesn't read what the rest became: leave out --sample"),
        findings.judged(
            7,
            "every training example is settled before every validation prompt, and no message or conversation is on both sides",
            "" if split else "one file is no split: give a training and a validation file",
        ),
    )


def _rows(lines: Iterable[bytes], side: str, rules: Rules, findings: Findings) -> Iterator[ExampleRow]:
    """A file's examples; what is none, or has a wrong id or spec, is told."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{side}line {number:,}"
        body = _object(line)
        if body is None or not _is_example(body):
            missing = [name for name in FIELDS if body is None or name not in body]
            findings.add(4, "lines that are no examples", where, f"not JSON, or without {', '.join(missing[:3]) or 'right types'}")
            continue
        identity, conversation = body["id"], body["conversation"]
        told = f"{where} ({identity})"
        if body["spec"] != rules.spec:
            findings.add(4, "examples of another spec", told, f"spec {body['spec']}, where the file's first has {rules.spec}")
            continue
        parts = (body["spec"], body["target"], body["scope"], conversation, body["prompt_ts"], body["answer_ts"] or "")
        expected = sha256("\n".join((rules.workspace, *parts)).encode()).hexdigest()[:32]
        if identity != expected:
            findings.add(
                4,
                "ids that are not the hash of what they name (all of them: is --workspace right?)",
                told,
                f"workspace {rules.workspace}, spec, target, scope, conversation, prompt_ts and answer_ts give {expected}",
            )
        yield ExampleRow(line.strip(), told, identity, conversation, micros(body["prompt_ts"]), micros(body["settled_ts"]))


def _is_example(body: dict[str, Any]) -> bool:
    """Whether all that is read of an example is there, of the right types."""
    texts = ("id", "spec", "target", "scope", "channel", "conversation", "prompt_ts", "settled_ts", "prompt")
    if not all(name in body for name in FIELDS) or not all(isinstance(body[name], str) for name in texts):
        return False
    where = body["conversation"].removeprefix(f"{body['channel']}:")
    if not re.fullmatch(r"channel|[0-9]{9,10}\.[0-9]{6}:(thread|session)", where) or where == body["conversation"]:
        return False
    window, answer, answer_ts = body["window"], body["answer"], body["answer_ts"]
    if not (isinstance(window, list) and isinstance(answer, list) and all(isinstance(user, str) for user in answer)):
        return False
    try:
        for ts in (body["prompt_ts"], body["settled_ts"], *([] if answer_ts is None else [answer_ts]), *(each["ts"] for each in window)):
            micros(ts)
        return all(isinstance(each["user"], str) for each in window)
    except (KeyError, TypeError, ValueError):
        return False


def _once(rows: Sequence[ExampleRow], findings: Findings) -> list[ExampleRow]:
    """The rows whose id was not there before."""
    first: dict[str, ExampleRow] = {}
    for row in rows:
        other = first.setdefault(row.identity, row)
        if other is row:
            continue
        if other.line.strip() == row.line.strip():
            findings.add(4, "examples that stand twice", row.where, f"a copy of {other.where}")
        else:
            differs = [name for name in (*FIELDS, "candidates") if orjson.loads(row.line).get(name) != orjson.loads(other.line).get(name)]
            named = ", ".join(differs) or "form alone"
            findings.add(4, "ids that stand for two different examples", row.where, f"differs from {other.where} in {named}")
    return list(first.values())


def _sampled(rows: Sequence[ExampleRow], count: int) -> list[ExampleRow]:
    """The same few in every audit of the same file, spread by a hash."""
    return sorted(rows, key=lambda row: sha256(row.identity.encode()).digest())[:count]


# Making them again


class _Recompute:
    """Makes a file's examples again from the events, and says where they differ."""

    def __init__(self, history: ChannelHistories, rules: Rules, encoding: Encoding, until: int | None) -> None:
        self.history = history
        self.rules = rules
        self.encoding = encoding
        self.until = until
        self.findings = Findings()
        self.passed = 0
        self.scratch = 0
        self.asked = 0
        self.strange = 0
        self.pointless: set[str] = set()
        """Rows without a point: nothing more is to be said of those."""
        self.rewritten: defaultdict[str, set[str]] = defaultdict(set)
        self.lacking: list[dict[str, Any]] = []
        self.lacking_at_end: list[dict[str, Any]] = []
        """Examples that the rules give and the file lacks; those that only the end of the input settles."""
        self.retracted: set[str] = set()
        self.retracted_at_end: set[str] = set()
        """What the rules retract; what they retract only at the end of the input, though the file has the example."""
        self.heard_of_end = False
        """Whether anything is there that only the end of the input gives."""
        self.said = cache(lambda channel: history.channels[channel].said())
        """The messages of a channel, for explanations only."""

    @property
    def was_stopped(self) -> bool:
        """Whether all that only the end of the input gives is lacking: the run that made these was told of none."""
        return bool(self.lacking_at_end or self.retracted_at_end) and not self.heard_of_end

    def notes(self) -> Iterator[str]:
        """What is worth knowing, and breaks no law."""
        if self.was_stopped:
            more = ((len(self.lacking_at_end), "examples"), (len(self.retracted_at_end), "retractions"))
            what = " and ".join(f"{count:,} more {name}" for count, name in more if count)
            yield f"{what} are settled only by the end of the input: the run that made these had not come to it"
        if self.strange and self.strange * 2 > self.passed + self.strange:
            yield f"{self.strange:,} examples are of channels that the events don't have: is SOURCE the history they were made from?"
        for what, rows in self.rewritten.items():
            yield f"{len(rows):,} examples say the same in other bytes than ours ({what}): their fields were compared"

    def accounted(self, account: Account) -> None:
        """The sums of law 6, of what this audit read."""
        for wrong in account.check():
            self.findings.add(6, "sums that don't add up", "the account", wrong)

    # All, in one pass

    def in_one_pass(self, rows: Sequence[ExampleRow], told: Collection[str] | None, *, whole: bool) -> None:
        """Goes through each channel once, looks at each example's point when nothing after it has been seen, and at what it became.

        `told`: the ids that were retracted, if the retractions were given.
        """
        by_channel: defaultdict[str, list[ExampleRow]] = defaultdict(list)
        for row in rows:
            by_channel[row.conversation.rsplit(":", 1 if self.rules.scope == "channel" else 2)[0]].append(row)
        for name in sorted(self.history.channels.keys() | by_channel.keys()):
            if name not in self.history.channels:
                for row in by_channel[name]:
                    self.strange += 1
                    self.findings.add(1, "examples of channels that the events don't have", row.where, f"no event is of channel {name}")
            else:
                self._channel(self.history.channels[name], by_channel[name], told, whole)
        what = "examples that the rules give and the file lacks (chosen from more, as by a time range? say --subset)"
        for body in self.lacking if self.was_stopped else [*self.lacking, *self.lacking_at_end]:
            why = f"{body['conversation']} at {body['prompt_ts']}, settled at {body['settled_ts']}"
            self.findings.add(4, what, body["id"], why)

    def _channel(self, heard: ChannelHistory, rows: Sequence[ExampleRow], told: Collection[str] | None, whole: bool) -> None:
        channel = Channel(heard.name, self.rules, self.encoding)
        by_time: defaultdict[int, list[ExampleRow]] = defaultdict(list)
        for row in rows:
            by_time[row.prompt_ts].append(row)
        looks = deque(sorted(by_time.items(), key=lambda look: look[0]))
        on_the_way, at_end = Output(self.history.account), Output(self.history.account)
        held = bisect_left(heard.events, heard.settled, key=lambda event: event.t)
        self._go_on(channel, heard.events[:held], heard.settled, looks, on_the_way)
        channel.close(heard.settled if self.until is None else min(heard.settled, self.until + 1), on_the_way)
        self._go_on(channel, heard.events[held:], FOREVER, looks, at_end)
        channel.end(heard.clock, at_end)
        self._compare(heard, rows, on_the_way.examples, at_end.examples, whole)
        retracted, retracted_at_end = ({orjson.loads(line)["id"] for line in made.retractions} for made in (on_the_way, at_end))
        self.retracted |= retracted | retracted_at_end
        if told is not None:
            self.retracted_at_end |= retracted_at_end.intersection(row.identity for row in rows).difference(told)
            self.heard_of_end = self.heard_of_end or not retracted_at_end.isdisjoint(told)

    def _go_on(
        self, channel: Channel, events: Iterable[Event], before: int, looks: deque[tuple[int, list[ExampleRow]]], made: Output
    ) -> None:
        """Applies events, looking at the examples of each time in between, and at last at all from before `before`."""
        for event in events:
            while looks and looks[0][0] < event.t:
                self._look(channel, *looks.popleft())
            channel.apply(event, made)
        while looks and looks[0][0] < before:
            self._look(channel, *looks.popleft())

    def _look(self, channel: Channel, t: int, rows: Sequence[ExampleRow]) -> None:
        """Compares examples at `t` with the points of a channel that has seen the events up to then, and none after."""
        opened: dict[str, OpenPoint] = {}
        for waiting in reversed(channel.open_points):
            if waiting.t != t:
                break
            if waiting.is_open:
                opened[conversation_id(channel.id, waiting.conversation.key)] = waiting
        for row in rows:
            self.passed += 1
            waiting_here = opened.get(row.conversation)
            if waiting_here is None or waiting_here.point is None:
                self._no_point(row)
                continue
            point, body = waiting_here.point, orjson.loads(row.line)
            known = example_bytes(
                row.identity, self.rules, channel.id, row.conversation, point, point.prompt_of(self.encoding, self.rules.max_prompt_tokens),
                speakers=waiting_here.speakers, root_missing=waiting_here.root_missing, settled_ts=row.settled_ts,
                answer_ts=None if body["answer_ts"] is None else micros(body["answer_ts"]), answer=body["answer"],
            )  # fmt: skip
            if known != row.line:
                self._known_then(row, body, orjson.loads(known))

    def _no_point(self, row: ExampleRow) -> None:
        self.pointless.add(row.where)
        why = f"the events up to {ts_text(row.prompt_ts)} change no window of {row.conversation} at that time that could be shown"
        self.findings.add(1, "examples where there is no point", row.where, why)

    def _compare(
        self, heard: ChannelHistory, rows: Sequence[ExampleRow], on_the_way: Sequence[bytes], at_end: Sequence[bytes], whole: bool
    ) -> None:
        """What the examples' points became, against what the rows say."""
        lines = {row.line for row in rows}
        exact = lines.intersection(on_the_way) | lines.intersection(at_end)
        right = {(row.conversation, row.prompt_ts): row.line for row in rows if row.line in exact}
        others, others_at_end = (
            {(body["conversation"], micros(body["prompt_ts"])): body for line in made if line not in lines and (body := orjson.loads(line))}
            for made in (on_the_way, at_end)
        )
        given = set()
        for row in rows:
            key = (row.conversation, row.prompt_ts)
            given.add(key)
            if row.line not in exact and row.where not in self.pointless:
                expected = others.get(key) or others_at_end.get(key) or (orjson.loads(right[key]) if key in right else None)
                self._settled(row, orjson.loads(row.line), expected, heard)
        self.heard_of_end = self.heard_of_end or not given.isdisjoint(others_at_end) or not lines.isdisjoint(at_end)
        if whole:
            self.lacking += [body for key, body in others.items() if key not in given]
            self.lacking_at_end += [body for key, body in others_at_end.items() if key not in given]

    # A few, from scratch

    def from_prefixes(self, rows: Sequence[ExampleRow], *, is_witness: bool) -> None:
        """Makes each example again three times: from its prompt's prefix, from its answer's, and with a stranger for an answer.

        A witness's first two have been told by the pass already: they count here only if the pass found nothing.
        """
        for row in rows:
            heard = self.history.channels.get(row.conversation.rsplit(":", 1 if self.rules.scope == "channel" else 2)[0])
            if heard is None:
                if not is_witness:
                    self.findings.add(1, "examples of channels that the events don't have", row.where, "no event is of its channel")
                continue
            self.scratch += 1
            body = orjson.loads(row.line)
            prefix = self._shard(heard, row.prompt_ts)
            known = self._known_alone(heard, row, prefix)
            if not is_witness or not any(self.findings.of(law) for law in (1, 2, 3)):
                if known is None:
                    self._no_point(row)
                else:
                    self._known_then(row, body, known)
                    self._settled(row, body, self._settled_by(heard, row, prefix), heard)
            strange = self._answered_by_a_stranger(heard, row, body, prefix)
            if known is not None and strange is not None:
                self.asked += 1
                changed = [name for name in KNOWN_THEN if known.get(name) != strange.get(name)]
                if changed:
                    why = f"{', '.join(changed)} change if a stranger answers"
                    self.findings.add(2, "what is known at prompt_ts depends on who answers", row.where, why)

    def _shard(self, heard: ChannelHistory, until: int) -> dict[str, Any]:
        """The state of a fresh shard that has read one channel's events up to a time, and none after."""
        shard = Shard(self.rules, self.encoding)
        for event in heard.events[: _after(heard, until)]:
            shard.read(event, "all")
        return shard.__getstate__()

    def _known_alone(self, heard: ChannelHistory, row: ExampleRow, prefix: dict[str, Any]) -> dict[str, Any] | None:
        """The example that the events up to its prompt give by themselves: nobody answers, or, where that makes none, a stranger."""
        silent = self._future(prefix, [], row, row.prompt_ts + (self.rules.horizon or 0))
        if silent is not None or not row.conversation.endswith(":thread"):
            return silent
        root = micros(row.conversation.rsplit(":", 2)[1])
        return self._future(prefix, [_post(heard.name, row.prompt_ts + 1, root)], row, None)

    def _settled_by(self, heard: ChannelHistory, row: ExampleRow, prefix: dict[str, Any]) -> dict[str, Any] | None:
        """The example that has settled by `settled_ts`; if there is none, the one that settles later."""
        last = heard.clock if self.rules.horizon is None else row.prompt_ts + self.rules.horizon
        for until in (row.settled_ts, last):
            events = heard.events[_after(heard, row.prompt_ts) : _after(heard, until)]
            if (settled := self._future(prefix, events, row, min(until, heard.clock))) is not None:
                return settled
        return None

    def _answered_by_a_stranger(
        self, heard: ChannelHistory, row: ExampleRow, body: dict[str, Any], prefix: dict[str, Any]
    ) -> dict[str, Any] | None:
        """The same events up to the answer, but somebody else gave it."""
        if body["answer_ts"] is None or self.rules.horizon is None:
            return None
        answer_ts = micros(body["answer_ts"])
        events = heard.events[_after(heard, row.prompt_ts) : _after(heard, row.settled_ts)]
        changed = [event._replace(user=STRANGER) if event.kind == POST and event.t == answer_ts else event for event in events]
        return self._future(prefix, changed, row, row.settled_ts)

    def _future(self, prefix: dict[str, Any], events: Iterable[Event], row: ExampleRow, until: int | None) -> dict[str, Any] | None:
        """What becomes of a row's point if these events follow its prefix."""
        shard = Shard(self.rules, self.encoding, until=until, recoverable=False)
        shard.resume(prefix)
        for event in events:
            shard.read(event, "all")
        shard.end()
        for line in reversed(shard.drain().examples):
            body: dict[str, Any] = orjson.loads(line)
            if body["conversation"] == row.conversation and micros(body["prompt_ts"]) == row.prompt_ts:
                return body
        return None

    # What differs, and why

    def _known_then(self, row: ExampleRow, body: dict[str, Any], known: dict[str, Any]) -> None:
        """Tells what an example says of its own time that the events up to then don't."""
        differs = [name for name in KNOWN_THEN if _differs(body.get(name), known.get(name))]
        for name in ("target", "scope", "channel"):
            if body[name] != known[name]:
                self.findings.add(4, f"a wrong {name}", row.where, f"{body[name]}, where the rules give {known[name]}")
        if not differs:
            extra = [name for name in body if name not in FIELDS and name != "candidates"]
            if extra:
                self.rewritten[f"more keys: {', '.join(sorted(extra))}"].add(row.where)
            elif row.line != orjson.dumps({name: body[name] for name in known}):
                self.rewritten["white space or another order of keys"].add(row.where)
            return
        if "prompt" in differs or "window" in differs:
            left_out = self._left_out(body, known)
            if left_out:
                self.findings.add(2, "prompts that leave out the answerer's own messages", row.where, left_out)
                return
        why = []
        if "prompt" in differs:
            why += self._why_prompt(row, body, known)
        for name in differs:
            if name == "window":
                why.append(self._why_window(row, body["window"], known["window"]))
            elif name == "candidates":
                why.append(_why_candidates(body.get(name), known.get(name)))
            elif name != "prompt":
                why.append(f"{name} is {body.get(name)!r}, where {known.get(name)!r} was known")
        leaks = any("after prompt_ts" in each for each in why)
        what = "examples that know the future" if leaks else f"a {differs[0]} that is not what was known"
        self.findings.add(1, what, row.where, "; ".join(why))

    def _left_out(self, body: dict[str, Any], known: dict[str, Any]) -> str:
        """In words, if all that a prompt or window lacks is the answerer's, and it adds nothing; else nothing."""
        shown, units = _units(body["prompt"]), _units(known["prompt"])
        users = [each["user"] for each in known["window"]]
        messages = self.said(known["channel"])
        texts = [_text_at(messages.get(micros(each["ts"])), micros(known["prompt_ts"])) for each in known["window"]]
        authors: defaultdict[str, set[str]] = defaultdict(set)
        for text, user in zip(texts, users, strict=True):
            authors[text].add(user)
        lacking, added = Counter(units) - Counter(shown), Counter(shown) - Counter(units)
        answer = set(body["answer"])
        windows = [each for each in known["window"] if each not in body["window"]]
        if added or not answer or not (lacking or windows) or any(each not in known["window"] for each in body["window"]):
            return ""
        if not all(authors[text] and authors[text] <= answer for text in lacking):
            return ""
        if not all(each["user"] in answer for each in windows):
            return ""
        count = max(sum(lacking.values()), len(windows))
        return f"{count} of the {len(units)} messages known then are by {', '.join(sorted(answer))}, who answers, and are left out"

    def _why_prompt(self, row: ExampleRow, body: dict[str, Any], known: dict[str, Any]) -> list[str]:
        shown, units = _units(body["prompt"]), _units(known["prompt"])
        added = Counter(shown) - Counter(units)
        answer_ts = None if body["answer_ts"] is None else micros(body["answer_ts"])
        why = [self._why_unit(row.prompt_ts, known["channel"], unit, answer_ts) for unit in added]
        lacking = Counter(units) - Counter(shown)
        if lacking:
            why.append(f"it leaves out {_quoted(next(iter(lacking)))}" + (f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""))
        if not why:
            why.append("its messages stand in another order" if shown != units else "its ending or its white space is not the rules'")
        return why

    def _why_unit(self, t: int, channel: str, unit: str, answer_ts: int | None) -> str:
        """Where a sentence that doesn't belong into a prompt of time `t` comes from."""
        messages, best = self.said(channel), ""
        answer = messages.get(answer_ts) if answer_ts is not None else None
        if answer is not None and any(clean(text or "") == unit for _, text in answer.versions):
            return f"{_quoted(unit)} is the answer itself: it was said at {ts_text(answer.ts)} by {answer.user}, after prompt_ts"
        for message in messages.values():
            for place, (known_from, text) in enumerate(message.versions):
                if text is None or clean(text) != unit:
                    continue
                if message.ts > t:
                    best = best or f"{_quoted(unit)} was said at {ts_text(message.ts)} by {message.user}, after prompt_ts"
                elif known_from > t:
                    return f"{_quoted(unit)} is {ts_text(message.ts)} as edited at {ts_text(known_from)}, after prompt_ts"
                elif message.deleted_at is not None and message.deleted_at <= t:
                    return f"{_quoted(unit)} was deleted at {ts_text(message.deleted_at)}, before prompt_ts"
                elif place + 1 < len(message.versions) and message.versions[place + 1][0] <= t:
                    return f"{_quoted(unit)} had been edited at {ts_text(message.versions[place + 1][0])}, before prompt_ts"
                else:
                    return f"{_quoted(unit)} was said before, but is not in this window"
        return best or f"{_quoted(unit)} was said by nobody in {channel}"

    def _why_window(self, row: ExampleRow, window: list[dict[str, Any]], known: list[dict[str, Any]]) -> str:
        for each in window:
            if each not in known:
                later = "posted after prompt_ts" if micros(each["ts"]) > row.prompt_ts else "not in the window as known then"
                return f"its window has {each['ts']}, {later}"
        return f"its window has {len(window)} messages, where {len(known)} were known, or in another order"

    def _settled(self, row: ExampleRow, body: dict[str, Any], expected: dict[str, Any] | None, heard: ChannelHistory) -> None:
        """Tells what an example says of its answer that the events up to `settled_ts` don't."""
        if expected is not None:
            differs = [name for name in KNOWN_LATER if body[name] != expected[name]]
            if differs:
                why = "; ".join(f"{name} is {body[name]!r}, where the events give {expected[name]!r}" for name in differs)
                what = "silences that were answered" if not body["answer"] and expected["answer"] else f"a {differs[-1]} that is not so"
                self.findings.add(3, what, row.where, why)
            return
        if row.settled_ts > heard.clock:
            why = (
                f"settled_ts is {body['settled_ts']}, but {heard.name} is known up to {ts_text(heard.clock)} only: it would be censored"
                " (made with --until? say so)"
            )
            self.findings.add(3, "examples settled after the last event", row.where, why)
            return
        if not body["answer"]:
            end = FOREVER if self.rules.horizon is None else row.prompt_ts + self.rules.horizon
            why = f"something ended its point before {ts_text(min(end, heard.clock))}: it is no silence"
            later = self._next_post(row, heard)
            self.findings.add(3, "silences that were none", row.where, f"{why} ({later})" if later else why)
            return
        said = self.said(heard.name).get(micros(body["answer_ts"])) if body["answer_ts"] is not None else None
        if said is None:
            why = f"no message was posted at {body['answer_ts']}"
        else:
            why = f"what {said.user} posted at {body['answer_ts']} does not answer this point"
        self.findings.add(3, "answers that are none", row.where, why)

    def _next_post(self, row: ExampleRow, heard: ChannelHistory) -> str:
        place = _after(heard, row.prompt_ts)
        for event in heard.events[place : place + 50]:
            if event.kind == POST:
                return f"{event.user} posted at {ts_text(event.t)}"
        return ""


def _after(heard: ChannelHistory, t: int) -> int:
    """How many of a channel's events are no later than `t`."""
    return bisect_right(heard.events, t, key=lambda event: event.t)


def _post(channel: str, t: int, thread_ts: int | None) -> Event:
    """What a stranger might say."""
    return Event(t, POST, t, STRANGER, "", False, b"", channel, "", thread_ts, "", False, False)


def _differs(one: Any, other: Any) -> bool:
    """Whether two values are written in different bytes: to Python, 1 is 1.0 and True."""
    return one != other or orjson.dumps(one) != orjson.dumps(other)


def _units(prompt: str) -> list[str]:
    """The messages that a prompt shows."""
    body = prompt.removesuffix(SUFFIX)
    return body.split(SEPARATOR) if body else []


def _text_at(message: MessageVersions | None, t: int) -> str:
    """A message's text as it was known at `t`, cleaned."""
    if message is None:
        return ""
    texts = [text for known_from, text in message.versions if known_from <= t]
    return clean(texts[-1] or "") if texts else ""


def _quoted(text: str) -> str:
    return f"“{text[:50]}{'…' if len(text) > 50 else ''}”"


def _why_candidates(given: Any, known: Any) -> str:
    if not isinstance(given, dict) or not isinstance(known, dict):
        return "its candidates are missing" if given is None else "it has candidates, where the rules give none"
    if given.get("user") != known.get("user"):
        extra = [user for user in given.get("user") or () if user not in known["user"]]
        return "its candidates are other people, or in another order" + (f": {extra[0]} was no candidate then" if extra else "")
    return "of its candidates, other facts: " + ", ".join(name for name in {**known, **given} if _differs(given.get(name), known.get(name)))


# Retractions, splits


def _retractions(rows: Sequence[ExampleRow], recompute: _Recompute, told: Collection[str] | None, findings: Findings) -> list[str]:
    """A deleted message leaves everything: whether what has to be retracted was."""
    gone = [row for row in rows if row.identity in recompute.retracted]
    if told is None:
        if not gone:
            return []
        said = "hold messages that were deleted later: their readers must be told, and the retractions were not given"
        return [f"{len(gone):,} examples {said}"]
    for row in gone:
        if row.identity not in told and not (recompute.was_stopped and row.identity in recompute.retracted_at_end):
            findings.add(
                4, "examples that should be retracted", row.where, "a message of its window was deleted, and no retraction says so"
            )
    for row in rows:
        if row.identity in told and row.identity not in recompute.retracted:
            findings.add(
                4, "retractions of what was not deleted", row.where, "no message of its window was deleted while it was remembered"
            )
    return []


def _split(train: Sequence[ExampleRow], valid: Sequence[ExampleRow], rules: Rules, cut: int | None, findings: Findings) -> None:
    """Law 7: time, messages, conversations."""
    if not train or not valid:
        return
    if cut is None:
        cut = _best_cut(sorted(row.settled_ts for row in train), sorted(row.prompt_ts for row in valid))
    messages: dict[tuple[str, str], str] = {}
    conversations: dict[str, str] = {}
    for row in valid:
        conversations.setdefault(row.conversation, row.where)
        body = orjson.loads(row.line)
        for each in body["window"]:
            messages.setdefault((body["channel"], each["ts"]), row.where)
        if row.prompt_ts < cut:
            why = f"prompt_ts {ts_text(row.prompt_ts)} is not after the cut at {ts_text(cut)}"
            findings.add(7, "validation prompts from before the cut", row.where, why)
    for row in train:
        if row.settled_ts >= cut:
            why = f"settled at {ts_text(row.settled_ts)}, the cut is at {ts_text(cut)}"
            findings.add(7, "training examples settled after the cut", row.where, why)
        body = orjson.loads(row.line)
        shared = next(((body["channel"], each["ts"]) for each in body["window"] if (body["channel"], each["ts"]) in messages), None)
        if shared is not None:
            findings.add(7, "messages in windows on both sides", row.where, f"{shared[1]} stands in the window of {messages[shared]}, too")
        if rules.scope == "conversation" and row.conversation in conversations:
            other = conversations[row.conversation]
            findings.add(7, "conversations on both sides", row.where, f"{row.conversation} is that of {other}, too")


def _best_cut(settled: Sequence[int], prompts: Sequence[int]) -> int:
    """The first validation prompt; or, if sides overlap, where the fewest examples are on the wrong side.

    >>> _best_cut([1, 2, 3, 9], [2, 5, 6])
    5
    """
    return min(prompts, key=lambda cut: (len(settled) - bisect_left(settled, cut) + bisect_left(prompts, cut), cut))
