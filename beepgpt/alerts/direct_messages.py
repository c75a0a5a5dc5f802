"""Direct messages (DMs) in Slack: sent once, looked up when their answer is missing, changed or deleted with what they show.

The order of steps makes a kill harmless. A DM is marked as in flight before Slack is called, and carries its id in its metadata. One that
is still in flight later (the process was killed, or no answer came) is looked up in the conversation before anything else is done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple, Protocol

from beepgpt.alerts.database import StoreRow
from beepgpt.alerts.decisions import in_quiet_hours
from beepgpt.alerts.eligibility import Eligibility
from beepgpt.alerts.messages import alert_blocks, alert_text, digest_blocks, digest_text
from beepgpt.alerts.store import AlertStore, SentMessage
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import MINUTE, SECOND
from beepgpt.errors import SlackBusy, SlackRefused, SlackUnclear

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds until a stage runs again after a call without an answer; doubled each time."""

log = logging.getLogger(__name__)


POST = "chat.postMessage"
"""The method behind `Messenger.send`. Its rate limit is each conversation's own (about one message a second) and the app's."""


class Backoff:
    """Runs stages by name and pauses each on its own."""

    def __init__(self, store: AlertStore, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store, self._monotonic = store, monotonic
        self._paused_until: dict[str, float] = {}
        self._pauses: dict[str, float] = {}

    def run(self, name: str, stage: Callable[[], bool]) -> bool:
        """Run a stage unless it is paused. Returns whether it did anything; SlackBusy and SlackUnclear pause it."""
        if self._monotonic() < self._paused_until.get(name, 0.0):
            return False
        try:
            done = stage()
        except SlackBusy as busy:
            self._paused_until[name] = self._monotonic() + busy.after
            self.note_busy(busy)
            return False
        except SlackUnclear as unclear:
            pause = self._pauses[name] = min(self._pauses.get(name, FIRST_PAUSE / 2) * 2, LONGEST_PAUSE)
            self._paused_until[name] = self._monotonic() + pause
            self._store.count("webhook_unclear" if name == "webhook" else "slack_unclear")
            log.warning("no answer, or none that says whether it was done", extra={"what": str(unclear), "seconds": pause})
            return False
        if done:
            self.reset(name)
        return done

    def reset(self, name: str) -> None:
        """Reset a stage's pause after a successful call."""
        self._pauses.pop(name, None)

    def note_busy(self, busy: SlackBusy) -> None:
        """Count and log that Slack asked for a pause, unless it was not called at all."""
        if busy.was_asked:
            self._store.count("slack_busy")
            log.info("Slack asks us to wait", extra={"method": busy.method, "seconds": busy.after})


APART = 1.05
"""Seconds between two messages to one conversation: Slack takes about one a second."""
SETTLE = 10 * SECOND
"""Microseconds after which a request without an answer has arrived, or never will."""
SKEW = 5 * MINUTE
"""Microseconds by which this machine's clock and Slack's may differ."""
GIVE_UP = 60 * MINUTE
"""Microseconds for which an unconfirmed DM is looked up, or the webhook called, before it is given up."""
BATCH = 10
"""DMs, checks, App Homes and webhook calls in one go, so that reading goes on."""
TRIES = 2
"""Sends of one DM, at most: it is sent again only if the look-up found that it certainly isn't there."""

StoreRows = Sequence[Mapping[str, Any]]


KEYS = 50
"""Keys in a DM's metadata, at most: Slack takes some kilobytes. Message and conversation of each alert in the longest digest fit."""


class DmIdentity(NamedTuple):
    """By what a DM is found in Slack when nothing else knows of it."""

    id: str
    kind: str
    """`alert` or `digest`."""
    keys: Sequence[str]
    """The conversations that it shows, and what counts as one with them."""


class Messenger(Protocol):
    """The calls of Slack's Web API that delivery makes. `send` posts a message under an id, by which `find` returns its `ts`.

    `sent` returns the messages of a conversation that were sent that way, newest first.

    `pause_of` returns the seconds for which a method must not be called: at all, or for a conversation.
    """

    def open_dm(self, user: str) -> str: ...
    def permalink(self, channel: str, ts: str) -> str: ...
    def send(self, dm: str, identity: DmIdentity, text: str, blocks: Sequence[Mapping[str, Any]]) -> str: ...
    def sent(self, dm: str, since: str) -> Sequence[SentMessage]: ...
    def find(self, dm: str, identity: str, since: str, until: str | None = None) -> str | None: ...
    def update(self, dm: str, ts: str, identity: DmIdentity, text: str, blocks: Sequence[Mapping[str, Any]]) -> None: ...
    def delete(self, dm: str, ts: str) -> None: ...
    def publish_home(self, user: str, view: Mapping[str, Any]) -> None: ...
    def pause_of(self, method: str, channel: str = "") -> float: ...


class DirectMessages:
    """Sends, confirms and changes the DMs that are queued in the store. Each public method is one stage of delivery.

    All of them return whether anything was done, and raise SlackBusy and SlackUnclear where the rest has to wait.
    """

    def __init__(
        self,
        store: AlertStore,
        slack: Messenger,
        eligibility: Eligibility,
        backoff: Backoff,
        *,
        clock: Callable[[], int],
        beat: Callable[[], None],
        observe: Callable[[str, float], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock`: microseconds; `monotonic`: seconds, for pauses; `beat` is called before what may take long.

        `observe` gets each wait: since what, and seconds.
        """
        self._store, self._slack, self._eligibility, self._backoff = store, slack, eligibility, backoff
        self._clock, self._beat, self._observe, self._monotonic = clock, beat, observe, monotonic
        self._not_before: dict[str, float] = {}
        self._first = monotonic() + APART  # a process before this one may have sent something just now

    # Sending

    def send_queued(self) -> bool:
        """Send queued DMs. A person whose conversation is at its limit holds up nobody else, unless the whole app is at its limit."""
        done, sent = False, 0
        for dm in self._store.dms("due"):
            if sent >= BATCH:
                break
            self._beat()
            try:
                end = self._send(dm)
            except SlackBusy as busy:
                if busy.method == POST and self._slack.pause_of(POST):
                    raise
                self._backoff.note_busy(busy)
                continue
            done, sent = done or end != "waits", sent + (end == "sent")
            if end == "sent":
                self._backoff.reset("send")  # Slack is there: one DM without an answer is no reason for long pauses
        return done

    def _send(self, dm: StoreRow) -> str:
        """Send one DM. Returns what became of it: `sent`, `refused` or `waits`."""
        now = self._clock()
        alerts = self._eligible_alerts(dm, now)
        if not alerts:
            return self._refuse_empty(dm)
        if dm["kind"] == "digest":
            if in_quiet_hours(now, self._store.preferences(dm["user"]), self._eligibility.policy):
                return "waits"
        elif (verdict := self._eligibility.route(alerts[0], now)).route != "direct":
            with self._store.transaction():
                self._store.mark_not_sent(dm["id"], f"refused:{verdict.reason}")
                if verdict.route is None:
                    self._store.revoke(alerts[0]["id"], verdict.reason)
                else:
                    self._store.downgrade_to_list(alerts[0]["id"], verdict.reason)
            return "refused"
        try:
            conversation = self._slack.open_dm(dm["user"])
        except SlackRefused as error:
            return self._refuse(dm, alerts, error.code)
        if self._monotonic() < self._not_before.get(conversation, self._first) or self._slack.pause_of(POST, conversation) > 0:
            return "waits"
        eligible = {row["id"] for row in alerts}
        with self._store.transaction():
            # Another process may have edited or withdrawn something while Slack was asked; from here on it is changed in Slack, too.
            alerts = [row for row in self._store.alerts_in_dm(dm["id"]) if row["id"] in eligible]
            if not alerts:
                return self._refuse_empty(dm)
            self._store.mark_in_flight(dm["id"], conversation, now)
        text, blocks = content_of(dm, alerts)
        self._not_before[conversation] = self._monotonic() + APART
        try:
            dm_ts = self._slack.send(conversation, self._identity(dm, alerts), text, blocks)
        except SlackBusy:
            with self._store.transaction():
                self._store.undo_try(dm["id"])
            raise
        except SlackRefused as error:
            return self._refuse(dm, alerts, error.code)
        with self._store.transaction():
            self._store.mark_sent(dm["id"], dm_ts)
        self._observe_waits(dm, alerts, self._clock())
        return "sent"

    def _identity(self, dm: StoreRow, alerts: StoreRows) -> DmIdentity:
        """By what a DM is found. Each alert's first keys, its message and its conversation, come before any alert's other keys."""
        by_rank = zip_longest(*(self._store.keys_of_alert(dict(row)) for row in alerts))
        keys = dict.fromkeys(key for rank in by_rank for key in rank if key is not None)
        return DmIdentity(dm["id"], dm["kind"], tuple(keys)[:KEYS])

    def _eligible_alerts(self, dm: StoreRow, now: int) -> list[StoreRow]:
        """The alerts that a DM may show now; the others are dropped for good. Digests may show old ones."""
        eligible = []
        for row in self._store.alerts_in_dm(dm["id"]):
            self._beat()
            if reason := self._eligibility.refusal(row, now, ages=dm["kind"] == "alert"):
                with self._store.transaction():
                    self._store.revoke(row["id"], reason)
            else:
                eligible.append(row)
        return eligible

    def _refuse_empty(self, dm: StoreRow) -> str:
        with self._store.transaction():
            self._store.mark_not_sent(dm["id"], "refused:nothing_left")
        return "refused"

    def _refuse(self, dm: StoreRow, alerts: StoreRows, reason: str) -> str:
        """Give a DM up that Slack refused; its alert stays listed in App Home."""
        log.warning("a direct message is refused", extra={"user": dm["user"], "why": reason})
        with self._store.transaction():
            self._store.mark_not_sent(dm["id"], f"refused:{reason}")
            for row in alerts if dm["kind"] == "alert" else ():
                self._store.downgrade_to_list(row["id"], "not_deliverable")
        return "refused"

    def _observe_waits(self, dm: StoreRow, alerts: StoreRows, at: int) -> None:
        """Report how long the person waited; not for digests, whose time they chose."""
        if dm["kind"] != "alert":
            return
        for row in alerts:
            self._observe("message", (at - row["ts"]) / SECOND)
            if row["released_at"] is not None:
                self._observe("release", (at - row["released_at"]) / SECOND)

    # In flight

    def look_up_in_flight(self) -> bool:
        """Find out what became of DMs in flight: sent, due again if they certainly aren't there, or unknown for good."""
        done = False
        for dm in self._store.dms("sending"):
            self._beat()
            now = self._clock()
            if 0 <= now - dm["tried_at"] < SETTLE:
                continue
            try:
                found = self._slack.find(dm["dm"], dm["id"], ts_text(max(dm["tried_at"] - SKEW, 0)))
            except SlackRefused as error:
                log.warning("a direct message can't be looked up", extra={"user": dm["user"], "why": error.code})
                state = "unknown"
            except SlackUnclear:
                if now - dm["tried_at"] < GIVE_UP:
                    raise
                state = "unknown"
            else:
                state = "sent" if found is not None else "due" if dm["tries"] < TRIES else "unknown"
            with self._store.transaction():
                if state == "sent":
                    self._store.mark_sent(dm["id"], found or "")
                    self._observe_waits(dm, self._store.alerts_in_dm(dm["id"]), dm["tried_at"])
                else:
                    self._store.mark_not_sent(dm["id"], state)
                self._store.count(f"looked_up:{state}")
            done = True
        return done

    def look_up_unconfirmed(self) -> bool:
        """Look once more for DMs given up as unknown that show what was deleted since: if they are there, they are changed, too."""
        done = False
        for dm in self._store.unconfirmed_dms_to_change()[:BATCH]:
            self._beat()
            since, until = ts_text(max(dm["made_at"] - SKEW, 0)), ts_text(dm["tried_at"] + SKEW)
            found = None
            try:
                found = self._slack.find(dm["dm"], dm["id"], since, until)
            except SlackRefused as error:
                why = {"user": dm["user"], "why": error.code}
                log.error("a direct message that shows what was deleted can't be looked up", extra=why)
            with self._store.transaction():
                if found is None:
                    self._store.mark_changed(dm["id"], "unknown")
                    self._store.count("letters_not_found")
                else:
                    self._store.mark_sent(dm["id"], found)
                    self._store.count("looked_up:sent")
            done = True
        return done

    # Changes

    def apply_changes(self) -> bool:
        """Update or delete sent DMs that show messages which were edited or deleted since."""
        done = False
        for dm in self._store.dms_to_change()[:BATCH]:
            self._beat()
            alerts = self._store.alerts_in_dm(dm["id"])
            state, is_deletion = "sent", dm["chore"] == "delete" or not alerts
            try:
                shown = () if is_deletion else self._visible(alerts)
            except SlackBusy as busy:
                self._backoff.note_busy(busy)
                continue  # deletions of other DMs don't wait for it
            try:
                if is_deletion:
                    self._slack.delete(dm["dm"], dm["dm_ts"])
                    state = "deleted"
                else:
                    text, blocks = content_of(dm, shown)
                    self._slack.update(dm["dm"], dm["dm_ts"], self._identity(dm, alerts), text, blocks)
            except SlackRefused as error:
                why = {"user": dm["user"], "why": error.code, "since": dm["chore"]}
                log.error("a direct message can't be changed", extra=why)
                state = "not_changed"
            with self._store.transaction():
                if is_deletion:
                    self._store.mark_changed(dm["id"], state)
                elif self._store.alerts_in_dm(dm["id"]) == alerts:  # else another process has changed it again meanwhile
                    self._store.mark_changed(dm["id"], "sent")  # one that can't be changed may have to be deleted one day
                self._store.count(f"letters_{'updated' if state == 'sent' else state}")
            done = True
        return done

    def _visible(self, alerts: StoreRows) -> StoreRows:
        """Alerts as a DM may show them now: without the text where the person may no longer see the channel."""
        return [
            {**row, "excerpt": ""} if row["excerpt"] and self._eligibility.visibility_refusal(row["user"], row["channel"]) else row
            for row in alerts
        ]


def content_of(dm: Mapping[str, Any], alerts: StoreRows) -> tuple[str, list[dict[str, Any]]]:
    """A DM's notification text and its blocks."""
    if dm["kind"] == "digest":
        return digest_text(alerts), digest_blocks(alerts)
    return alert_text(alerts[0]), alert_blocks(alerts[0])
