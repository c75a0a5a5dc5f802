"""The rules and the store brought together: what becomes of each prediction, outcome, deletion and interaction.

Nothing here talks to Slack: `beepgpt/alerts/delivery.py` gives what was decided here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from beepgpt.alerts.decisions import (
    Alert,
    NoPrediction,
    Policy,
    PredictedConversation,
    Quiet,
    Wishes,
    alerts_of,
    links_of,
    newest_text,
    read_point,
    shortened,
    texts_of,
)
from beepgpt.alerts.interests import closeness_of, features_of, wanted_of
from beepgpt.alerts.messages import TOPICS, BadInteraction, PreferenceChange, wishes_in
from beepgpt.alerts.store import AlertStore
from beepgpt.config.settings import Settings
from beepgpt.conversations.cleaning import clean
from beepgpt.conversations.events import DELETE, EDIT, Event, micros, parse

log = logging.getLogger(__name__)


def policy_of(settings: Settings, threshold: float) -> Policy:
    """What holds for everybody who says nothing else."""
    ours = settings.alerts
    return Policy(
        threshold=threshold,
        list_from=ours.list_from,
        per_hour=ours.per_hour,
        quiet=ours.quiet,
        zone=ours.zone,
        max_age=ours.max_alert_age,
        opted_in=ours.opted_in,
        topic_from=ours.topic_from,
    )


def wishes_of(row: Mapping[str, Any], muted: frozenset[str]) -> Wishes:
    """What a person asked for, as the rules want it."""
    return Wishes(
        opted_in=None if row["opted_in"] is None else bool(row["opted_in"]),
        threshold=row["threshold"],
        per_hour=row["per_hour"],
        quiet=quiet_of(row),
        zone=row["zone"],
        muted=muted,
    )


def quiet_of(row: Mapping[str, Any]) -> Quiet | None:
    """A person's own quiet hours, if they asked for any: both ends."""
    return None if row["quiet_from"] is None or row["quiet_to"] is None else (row["quiet_from"], row["quiet_to"])


@dataclass(frozen=True, slots=True)
class StoredHistory:
    """A store, as the rules ask it."""

    store: AlertStore

    def wishes(self, user: str) -> Wishes:
        """What they asked for."""
        return wishes_of(self.store.asked(user), self.store.muted(user))

    def topics(self) -> Collection[tuple[str, str]]:
        """Who asked for what in words."""
        return self.store.topics()

    def took_part(self, user: str, conversations: Sequence[str]) -> bool:
        """Whether they were seen to write there."""
        return self.store.took_part(user, conversations)

    def session_of(self, thread: str) -> str | None:
        """Where a thread's root stands."""
        return self.store.session_of(thread)

    def was_told(self, user: str, keys: Sequence[str]) -> bool:
        """Whether they were told of any of it."""
        return self.store.was_told(user, keys)

    def told_directly(self, user: str, since: int) -> int:
        """How often they were told at once after `since`."""
        return self.store.told_directly(user, since)

    def is_deleted(self, channel: str, ts: int) -> bool:
        """Whether a message is gone."""
        return self.store.is_deleted(channel, ts)


class Words:
    """How close texts are to topics by their words; how rare words are, is learned from the messages that pass."""

    def __init__(self, store: AlertStore) -> None:
        self._store = store
        self._seen: dict[int, int] = store.words_seen()

    def closeness(self, words: str, text: str) -> float:
        """From 0 to 1."""
        return closeness_of(wanted_of(words), features_of(text), self._seen)

    def learn(self, text: str) -> None:
        """One more message."""
        buckets = sorted(features_of(text))
        self._store.see_words(buckets)
        for bucket in (-1, *buckets):
            self._seen[bucket] = self._seen.get(bucket, 0) + 1


class Matcher(Protocol):
    """Says how close texts are to what people asked for in words."""

    def closeness(self, words: str, text: str) -> float:
        """From 0 to 1."""

    def learn(self, text: str) -> None:
        """One more message has passed."""


class AlertDecider:
    """Takes what a scoring flow gives, and what people ask for; decides, and writes down who is to be told.

    Each call is to stand in a transaction of the store, together with how far was read.
    """

    def __init__(self, store: AlertStore, policy: Policy, *, topics: bool = True, matcher: Matcher | None = None) -> None:
        """`matcher`: in the place of words."""
        self.store = store
        self.policy = policy
        self._ledger = StoredHistory(store)
        self._words: Matcher | None = (matcher or Words(store)) if topics else None
        self.newest = 0
        """The time of the newest prediction taken, microseconds."""

    def take(self, kind: str, value: Mapping[str, Any], now: int, released: int | None = None, place: str = "") -> None:
        """A `prediction`, an `outcome` or a `deletion`, at `now`; `released`: when its point was, if that is known (microseconds)."""
        if kind == "prediction":
            self._predicted(value, now, released, place)
        elif kind == "outcome":
            self.store.settle(str(value["id"]), [str(each) for each in value["answer"]])
            self.store.count("outcomes")
        elif kind == "deletion":
            self.store.delete_message(str(value["channel"]), micros(value["deleted_ts"]), now)
            self.store.count("deletions")
        else:
            self.store.count(f"unknown:{kind}")

    def texts_of(self, records: Iterable[bytes], now: int) -> Iterator[tuple[str, frozenset[str], str]]:
        """Of records, what will be compared with topics: the newest messages of points that are not too old, with channel and people."""
        for record in records:
            try:
                value = orjson.loads(record)
                point = read_point(value) if kind_of(value) == "prediction" else None
            except (ValueError, NoPrediction):
                continue  # it is counted when its turn comes
            if point is not None and point.fresh and now - point.told_of <= self.policy.max_age:
                yield point.channel, frozenset(user for _, user in point.window), newest_text(point.prompt)

    def _predicted(self, value: Mapping[str, Any], now: int, released: int | None, place: str) -> None:
        self.store.count("predictions")
        try:
            point = read_point(value)
        except NoPrediction as error:
            log.warning("a prediction can't be read", extra={"place": place, "why": str(error)})
            self.store.count("unreadable")
            return
        self.newest = max(self.newest, point.prompt_ts)
        for ts, text in texts_of(point).items():
            self.store.edit_message(point.channel, ts, shortened(text), point.prompt_ts, is_edit=False)
        closeness = self._words.closeness if self._words is not None else None
        for each in alerts_of(point, self._ledger, self.policy, now, closeness):
            if isinstance(each, Alert):
                self._decided(each, now, released)
            else:
                self.store.count(f"passed:{each.reason}")
        authors = dict.fromkeys(user for _, user in point.window)
        self.store.see(point.conversations, authors, links_of(point), point.message)
        if self._words is not None:
            self._words.learn(newest_text(point.prompt))

    def _decided(self, alert: Alert, now: int, released: int | None) -> None:
        point = alert.point
        row = {
            "id": alert.id, "user": alert.user, "kind": alert.kind, "way": alert.way, "reason": alert.reason, "prediction": point.id,
            "conversation": point.conversations[0] if point.conversations else point.channel, "channel": point.channel,
            "ts": point.message, "prompt_ts": point.prompt_ts, "model": point.model, "p": alert.p, "why": alert.why,
            "excerpt": shortened(newest_text(point.prompt)), "made_at": now, "released_at": released,
        }  # fmt: skip
        if self.store.add(row, alert.keys, [ts for ts, _ in point.window]):
            self.store.count(f"{alert.kind}:{alert.way}")

    def record(self, record: bytes, now: int, released: int | None = None, place: str = "") -> None:
        """A prediction, an outcome or a deletion as JSON, told apart by form; or an event of Slack's: deletions and edits count.

        `place`: where it stands, for the log.
        """
        try:
            value = orjson.loads(record)
        except ValueError:
            log.warning("a record can't be read", extra={"place": place, "why": "it is no JSON"})
            self.store.count("unreadable")
            return
        kind = kind_of(value)
        if kind == "event":
            event = parse(record, now)
            if isinstance(event, Event) and event.kind == DELETE:
                self.store.delete_message(event.channel, event.ts, now)
                self.store.count("deletions")
            elif isinstance(event, Event) and event.kind == EDIT and event.text is not None:
                self.store.edit_message(event.channel, event.ts, shortened(clean(event.text)), event.t, is_edit=True)
            return
        try:
            self.take(kind, value, now, released, place)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning("a record can't be read", extra={"place": place, "kind": kind, "why": type(error).__name__})
            self.store.count("unreadable")

    def interaction(self, record: bytes, place: str = "") -> None:
        """What somebody did in Slack, as Slack sent it."""
        try:
            payload = orjson.loads(record)
            wishes = wishes_in(payload)
        except (ValueError, AttributeError, BadInteraction) as error:
            told = str(error) if isinstance(error, BadInteraction) else "it is no JSON object"
            log.warning("an interaction can't be read", extra={"place": place, "why": told})
            self.store.count("interactions_unreadable")
            return
        self.store.count("interactions")
        for wish in wishes:
            self.wish(wish)

    def wish(self, wish: PreferenceChange) -> None:
        """One thing that somebody asked for."""
        user, name, value = wish
        if name == "home":
            self.store.open_home(user)
        elif name == "feedback":
            self.store.give_feedback(value[0], user, value[1])
        elif name == "muted":
            self.store.mute(user, value)
        elif name == "topic_add":
            if len(self.store.topics(user)) < TOPICS:
                self.store.ask_topic(user, value)
        elif name == "topic_remove":
            self.store.ask_topic(user, value, wanted=False)
        elif name in ("quiet_from", "quiet_to"):
            asked = self.store.asked(user)
            other = "quiet_to" if name == "quiet_from" else "quiet_from"
            both = {other: self.policy.quiet[other == "quiet_to"] if asked[other] is None else asked[other], name: value}
            self.store.ask(user, **both)
        else:
            self.store.ask(user, **{name: int(value) if name == "opted_in" else value})


class AlertSink(DynamicSink[tuple[str, Mapping[str, Any]]]):
    """A scoring flow's items, as (kind, value), decided on in its own process; items that come again decide nothing new."""

    def __init__(self, path: Path, policy: Policy, clock: Callable[[], int]) -> None:
        self.path, self.policy, self.clock = path, policy, clock

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _AlertSinkPartition:
        return _AlertSinkPartition(AlertDecider(AlertStore(self.path), self.policy), self.clock)


class _AlertSinkPartition(StatelessSinkPartition[tuple[str, Mapping[str, Any]]]):
    def __init__(self, desk: AlertDecider, clock: Callable[[], int]) -> None:
        self._desk, self._clock = desk, clock

    def write_batch(self, items: list[tuple[str, Mapping[str, Any]]]) -> None:
        self._desk.store.forget_cached()
        with self._desk.store.transaction():
            for kind, value in items:
                self._desk.take(kind, value, self._clock())

    def close(self) -> None:
        self._desk.store.close()


def kind_of(value: Any) -> str:
    """What a record is, by its form.

    >>> kind_of({"channel": "C1", "ts": "1.0", "deleted_ts": "1.0"}), kind_of({"type": "heartbeat"})
    ('deletion', 'event')
    """
    if not isinstance(value, dict):
        return "no_object"
    if "type" in value:
        return "event"
    if "people" in value and "window" in value:
        return "prediction"
    if "answer" in value and "id" in value:
        return "outcome"
    if "deleted_ts" in value:
        return "deletion"
    return "other"


def home_of(store: AlertStore, policy: Policy, user: str, alerts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What somebody's App Home is to show."""
    asked = store.asked(user)
    return {
        "opted_in": policy.opted_in if asked["opted_in"] is None else bool(asked["opted_in"]),
        "threshold": asked["threshold"],
        "default_threshold": policy.threshold,
        "per_hour": policy.per_hour if asked["per_hour"] is None else asked["per_hour"],
        "quiet": quiet_of(asked) or policy.quiet,
        "zone": asked["zone"] or policy.zone,
        "low": asked["low"] or "list",
        "muted": store.muted(user),
        "topics": [words for _, words in store.topics(user)],
        "alerts": alerts,
    }


def point_of(row: Mapping[str, Any]) -> PredictedConversation:
    """What is left of a point in an alert that was written down: enough to judge it again."""
    return PredictedConversation(
        row["prediction"], row["channel"], (row["conversation"],), row["prompt_ts"], ((row["ts"], ""),), "", True, row["model"], (), {}
    )
