"""Apply records to the alert store: predictions, outcomes, deletions, Slack's events, and what people do in Slack.

Nothing here talks to Slack: `beepgpt.alerts.delivery` delivers what is decided here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import orjson

from beepgpt.alerts.decisions import Alert, Policy, decide
from beepgpt.alerts.interests import TopicMatcher, WordMatcher
from beepgpt.alerts.messages import TOPICS, BadInteraction, PreferenceChange, preference_changes
from beepgpt.alerts.predictions import NoPrediction, links_of, newest_text, participation, read_prediction, record_kind, shortened, texts_of
from beepgpt.alerts.store import AlertStore
from beepgpt.conversations.account import ANSWERED, CENSORED
from beepgpt.conversations.cleaning import clean
from beepgpt.conversations.events import DELETE, EDIT, MOVE, POST, Event, micros, parse
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.conversations.outcomes import KNOWN
from beepgpt.conversations.rules import Bots

log = logging.getLogger(__name__)


SAID = ("channel", "prompt_ts", "window", "prompt")
"""Fields of a prediction that say who wrote what. That its model still holds a person for likely is for the next training to end."""


class AlertDecider:
    """Decides on records and writes the alerts into the store.

    The caller puts each call in a transaction of the store, together with the read position.
    """

    def __init__(
        self,
        store: AlertStore,
        policy: Policy,
        *,
        topics: bool = True,
        matcher: TopicMatcher | None = None,
        forgotten: Forgotten | None = None,
        bots: Bots = "ignore",
        check_spec: Callable[[str], None] = lambda spec: None,
    ) -> None:
        """`topics`: whether people are alerted to topics; `matcher`: how, in the place of `WordMatcher`; `forgotten`: who is left out;
        `bots`: whether their posts stand in windows.

        `check_spec` raises an error for predictions of points that other settings made: their probabilities mean something else.
        """
        self._check_spec, self._bots = check_spec, bots
        self.store = store
        self._forgotten = forgotten
        self.policy = policy
        self._matcher: TopicMatcher | None = (matcher or WordMatcher(store)) if topics else None
        self.newest = 0
        """The time of the newest prediction, microseconds; 0: none was read."""
        self._target = "next_user"
        """The newest prediction's target."""

    def apply_record(self, record: bytes, now: int, released: int | None = None, place: str = "") -> None:
        """Apply a JSON record: a prediction, outcome or deletion, recognized by form; or an event of Slack's.

        `released`: when the point was released, if that is known; `place`: where the record stands, for the log. Times in microseconds.
        """
        try:
            value = orjson.loads(record)
        except ValueError:
            log.warning("a record can't be read", extra={"place": place, "why": "it is no JSON"})
            self.store.count("unreadable")
            return
        kind = record_kind(value)
        if kind == "event":
            self._apply_event(record, now)
            return
        if self._forgotten is not None and self._forgotten.holds({name: value[name] for name in SAID if name in value}):
            self.store.count("forgotten")
            return
        try:
            self.apply(kind, value, now, released, place)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning("a record can't be read", extra={"place": place, "kind": kind, "why": type(error).__name__})
            self.store.count("unreadable")

    def apply(self, kind: str, value: Mapping[str, Any], now: int, released: int | None = None, place: str = "") -> None:
        """Apply a `prediction`, an `outcome` or a `deletion`. Raises KeyError, TypeError, ValueError or AttributeError for a bad value."""
        if kind == "prediction":
            self._apply_prediction(value, now, released, place)
        elif kind == "outcome":
            self._apply_outcome(value)
            self.store.count("outcomes")
        elif kind == "deletion":
            self.store.delete_message(str(value["channel"]), micros(value["ts"]), now)  # `deleted_ts`: when, unlike in Slack's events
            self.store.count("deletions")
        else:
            self.store.count(f"unknown:{kind}")

    def _apply_outcome(self, value: Mapping[str, Any]) -> None:
        """Note who posted or reacted, and up to when all is known of the channel.

        Of the target `next_user` an answer is a post; of the others it may be a reaction, which joins nothing. An outcome whose answer is
        not known says nothing of anybody, and one that the end of the input cut off says nothing of the time either.
        """
        channel, how, answer = str(value["channel"]), str(value["how"]), [str(each) for each in value["answer"]]
        target = value.get("target") or self._target  # outcomes of 0.1.0 name none
        if target == "next_user" and how == ANSWERED and value.get("answer_ts") is not None:
            self.store.record_posts(channel, str(value["conversation"]), answer, micros(value["answer_ts"]))
        if target == "reactors" and how in KNOWN:
            self.store.record_reactions(str(value["id"]), answer)
        if how != CENSORED:
            self.store.record_time(channel, micros(value["settled_ts"]))

    def apply_tombstone(self, key: bytes, now: int) -> None:
        """Apply a null under a prediction's id: the prediction is gone, and so is what alerts show of it."""
        self.store.forget_prediction(key.decode(errors="replace"))
        self.store.count("predictions_gone")

    def _apply_event(self, record: bytes, now: int) -> None:
        event = parse(record, now, bots=self._bots, forgotten=self._forgotten)
        if not isinstance(event, Event):
            return
        if event.kind == POST:
            self.store.record_post(event.channel, event.ts, event.thread_ts, event.user)
        elif event.kind == DELETE:
            self.store.delete_message(event.channel, event.ts, now)
            self.store.count("deletions")
        elif event.kind == EDIT and event.text is not None:
            self.store.edit_message(event.channel, event.ts, shortened(clean(event.text)), event.t, is_edit=True)
        elif event.kind == MOVE and event.text:
            self.store.move_channel(event.channel, event.text)
            self.store.count("channels_moved")

    def _apply_prediction(self, value: Mapping[str, Any], now: int, released: int | None, place: str) -> None:
        self.store.count("predictions")
        try:
            point = read_prediction(value)
        except NoPrediction as error:
            log.warning("a prediction can't be read", extra={"place": place, "why": str(error)})
            self.store.count("unreadable")
            return
        if "spec" in value:
            self._check_spec(str(value["spec"]))
        self.newest = max(self.newest, point.prompt_ts)
        self._target = point.target
        for conversation in point.conversations:
            self.store.record_posts(point.channel, conversation, [point.author], point.message)
        for ts, text in texts_of(point).items():
            self.store.edit_message(point.channel, ts, shortened(text), point.prompt_ts, is_edit=False)
        closeness = self._matcher.closeness if self._matcher is not None else None
        for each in decide(point, self.store, self.policy, now, closeness):
            if isinstance(each, Alert):
                self._add_alert(each, now, released)
            else:
                self.store.count(f"passed:{each.reason}")
        self.store.record_participants(participation(point), links_of(point), point.message)
        if self._matcher is not None:
            self._matcher.learn(newest_text(point.prompt))

    def _add_alert(self, alert: Alert, now: int, released: int | None) -> None:
        point = alert.point
        row = {
            "id": alert.id, "user": alert.user, "kind": alert.kind, "way": alert.way, "reason": alert.reason, "prediction": point.id,
            "conversation": point.conversations[0] if point.conversations else point.channel, "channel": point.channel,
            "ts": point.message, "prompt_ts": point.prompt_ts, "model": point.model, "p": alert.p, "why": alert.why,
            "excerpt": shortened(newest_text(point.prompt)), "made_at": now, "released_at": released,
        }  # fmt: skip
        if self.store.add_alert(row, alert.keys, point.window):
            self.store.count(f"{alert.kind}:{alert.way}")

    def texts_to_match(self, records: Iterable[bytes], now: int) -> Iterator[tuple[str, frozenset[str], str]]:
        """(channel, window authors, newest text) of each recent prediction, to compare with topics."""
        for record in records:
            try:
                value = orjson.loads(record)
                point = read_prediction(value) if record_kind(value) == "prediction" else None
            except (ValueError, NoPrediction):
                continue  # apply_record counts it
            if point is not None and point.fresh and now - point.newest_at <= self.policy.max_age:
                yield point.channel, frozenset(user for _, user in point.window), newest_text(point.prompt)

    def apply_interaction(self, record: bytes, place: str = "") -> None:
        """Apply what somebody did in Slack, as Slack sent it."""
        try:
            changes = preference_changes(orjson.loads(record))
        except (ValueError, AttributeError, BadInteraction) as error:
            why = str(error) if isinstance(error, BadInteraction) else "it is no JSON object"
            log.warning("an interaction can't be read", extra={"place": place, "why": why})
            self.store.count("interactions_unreadable")
            return
        self.store.count("interactions")
        for change in changes:
            self._apply_change(change)

    def _apply_change(self, change: PreferenceChange) -> None:
        user, name, value = change
        if name == "home":
            self.store.note_home_opened(user)
        elif name == "feedback":
            self.store.record_feedback(value[0], user, value[1])
        elif name == "muted":
            self.store.set_muted(user, value)
        elif name == "topic_add":
            if len(self.store.topics(user)) < TOPICS:
                self.store.set_topic(user, value)
        elif name == "topic_remove":
            self.store.set_topic(user, value, wanted=False)
        elif name in ("quiet_from", "quiet_to"):
            row = self.store.preference_row(user)
            other = "quiet_to" if name == "quiet_from" else "quiet_from"
            both = {other: self.policy.quiet[other == "quiet_to"] if row[other] is None else row[other], name: value}
            self.store.set_preferences(user, **both)
        else:
            self.store.set_preferences(user, **{name: int(value) if name == "opted_in" else value})
