"""Gives the alerts that were decided on: through Slack, to a topic, to a webhook, to the console. Everything that waits, waits here.

The order of steps makes a kill harmless. A letter is written down as on its way before it is sent, and carries its id; a letter that was on
its way when we were killed, or whose answer did not come, is looked up in the conversation before anything else is done about it.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from beepgpt.alerts.decisions import DAY, MINUTE, SECOND, Policy, is_quiet, local_minute, local_time, may_be_told
from beepgpt.alerts.handling import StoredHistory, home_of, point_of
from beepgpt.alerts.messages import LISTED, alert_blocks, alert_text, digest_blocks, digest_text, home_view
from beepgpt.alerts.store import AlertStore, StoreRow
from beepgpt.connectors.slack.alerts import POST, SlackMessenger, SlackPerson
from beepgpt.conversations.events import ts_text
from beepgpt.errors import SlackBusy, SlackRefused, SlackUnclear
from beepgpt.runtime.alert_metrics import Waits

log = logging.getLogger(__name__)

APART = 1.05
"""Seconds between two messages to one conversation: Slack takes about one a second."""
SETTLE = 10 * SECOND
"""Microseconds after which a request that nobody answered has arrived, or never will."""
SKEW = 5 * MINUTE
"""By which our clock and Slack's may differ."""
GIVE_UP = 60 * MINUTE
"""How long the history is asked for a letter, or a webhook to take an alert."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds until Slack is asked again after no answer."""
CHECKED = 30.0
"""Seconds for which it holds that somebody may see a channel."""
SHARE = 10
"""Letters, checks and homes in one go, so that reading goes on."""
TRIES = 2
"""Of a letter that was looked up and certainly isn't there."""
SHOWN = 7 * DAY

StoreRows = Sequence[Mapping[str, Any]]


class Members(Protocol):
    """Who says who may see a channel, and where somebody is. Raises SlackError when nobody can say."""

    def person(self, user: str) -> SlackPerson: ...
    def may_see(self, user: str, channel: str, person: SlackPerson) -> bool: ...


def _nothing() -> None:
    """Nobody asks."""


class AlertDelivery:
    """One process's deliveries. `work` does what can be done now, and says whether there was anything."""

    def __init__(
        self,
        store: AlertStore,
        policy: Policy,
        members: Members,
        desk: SlackMessenger | None,
        *,
        clock: Callable[[], int],
        hand_on: Callable[[StoreRows], None] = lambda alerts: None,
        webhook: Callable[[Mapping[str, Any]], bool] | None = None,
        digest_at: int | None = None,
        kept: int = 30 * DAY,
        handed_to: str = "",
        alive: Callable[[], None] = _nothing,
    ) -> None:
        """`desk`: None where nothing goes to Slack. `hand_on` takes alerts for good or raises; `webhook` says whether it was taken.

        `handed_to`: by what name that is counted; not, without one. `alive` is called before everything that may take long.
        """
        self.store, self.policy, self.members, self.desk = store, policy, members, desk
        self._ledger = StoredHistory(store)
        self._clock, self._hand_on, self._webhook = clock, hand_on, webhook
        self._digest_at, self._kept = digest_at, kept
        self._handed_to, self._alive = handed_to, alive
        self.waits = {"release": Waits(), "message": Waits()}
        """How long people waited for what they were told, since its point was released, and since its message."""
        self._paused: dict[str, float] = {}
        self._pauses: dict[str, float] = {}
        self._next_to: dict[str, float] = {}
        self._first = time.monotonic() + APART  # what was sent before a kill may have been sent just now
        self._checked: dict[tuple[str, str], float] = {}
        self._forgot = 0

    def work(self) -> bool:
        """Whatever can be done now; whether anything was."""
        stages: list[tuple[str, Callable[[], bool]]] = [("check", self._check_due)]
        if self.desk is not None:
            stages = [
                ("doubt", self._look_up),
                ("lost", self._look_for_lost),
                ("chores", self._do_chores),
                *stages,
                ("send", self._send_letters),
                ("digests", self._write_digests),
                ("homes", self._publish_homes),
            ]
        stages += [("hand_on", self._hand_on_all), ("webhook", self._call_webhook), ("forget", self._forget)]
        done = [self._stage(name, stage) for name, stage in stages]
        return any(done)

    def is_idle(self) -> bool:
        """Whether nothing is left to do but what waits for a time of day."""
        waiting = (self.store.due(), self.store.to_hand_on(1), self.store.to_hand_on(2) if self._webhook else ())
        letters = (self.store.letters("due"), self.store.letters("sending"), self.store.lost(), self.store.chores()) if self.desk else ()
        return not any((*waiting, *letters))

    def _stage(self, name: str, stage: Callable[[], bool]) -> bool:
        self._alive()
        if time.monotonic() < self._paused.get(name, 0.0):
            return False
        try:
            done = stage()
        except SlackBusy as busy:
            self._paused[name] = time.monotonic() + busy.after
            self._note_busy(busy)
            return False
        except SlackUnclear as unclear:
            pause = self._pauses[name] = min(self._pauses.get(name, FIRST_PAUSE / 2) * 2, LONGEST_PAUSE)
            self._paused[name] = time.monotonic() + pause
            self.store.count("webhook_unclear" if name == "webhook" else "slack_unclear")
            log.warning("no answer, or none that says whether it was done", extra={"what": str(unclear), "seconds": pause})
            return False
        if done:
            self._pauses.pop(name, None)
        return done

    def _note_busy(self, busy: SlackBusy) -> None:
        if busy.was_asked:
            self.store.count("slack_busy")
            log.info("Slack asks us to wait", extra={"method": busy.method, "seconds": busy.after})

    # Whether somebody may still be told

    def _refusal(self, row: Mapping[str, Any], now: int) -> str:
        """Why an alert is not given after all, by all that we know ourselves."""
        user, point = row["user"], point_of(row)
        wishes = self._ledger.wishes(user)
        if refused := may_be_told(user, point, wishes, self.policy):
            return refused
        if self.store.took_part(user, (row["conversation"],)):
            return "participant"
        return ""

    def _may_see(self, user: str, channel: str) -> str:
        """Why somebody may not see a channel; empty if they may. In doubt they may not."""
        if time.monotonic() < self._checked.get((user, channel), 0.0):
            return ""
        try:
            person = self.members.person(user)
            may = self.members.may_see(user, channel, person)
        except SlackRefused as error:
            log.info("nobody can say who may see a channel", extra={"channel": channel, "why": error.code})
            return "membership_in_doubt"
        if person.zone and self.store.asked(user)["zone"] != person.zone:
            self.store.ask(user, zone=person.zone)
        if not may:
            return "not_a_member"
        if len(self._checked) > 10_000:
            self._checked.clear()
        self._checked[user, channel] = time.monotonic() + CHECKED
        return ""

    def _check_due(self) -> bool:
        done = False
        for row in self.store.due()[:SHARE]:
            self._alive()
            now = self._clock()
            refused = "too_old" if now - row["ts"] > self.policy.max_age else self._refusal(row, now)
            refused = refused or self._may_see(row["user"], row["channel"])
            permalink = ""
            if not refused and self.desk is not None:
                try:
                    permalink = self.desk.permalink(row["channel"], ts_text(row["ts"]))
                except SlackRefused as error:
                    refused = "deleted" if error.code == "message_not_found" else "no_permalink"
            with self.store.transaction():
                if refused:
                    self.store.refuse(row["id"], refused)
                else:
                    if row["way"] == "direct" and self._is_quiet(row["user"], now):
                        self.store.list_only(row["id"], "quiet_hours")
                        row["way"] = "list"
                    self.store.clear(row["id"], permalink, letter=row["way"] == "direct" and self.desk is not None, now=now)
            self._pauses.pop("check", None)
            done = True
        return done

    def _is_quiet(self, user: str, now: int) -> bool:
        wishes = self._ledger.wishes(user)
        return is_quiet(now, self.policy.quiet if wishes.quiet is None else wishes.quiet, wishes.zone or self.policy.zone)

    # Letters

    def _send_letters(self) -> bool:
        """Who can't be written to now holds up nobody else, unless Slack has no time for any message of ours."""
        assert self.desk is not None
        done, sent = False, 0
        for letter in self.store.letters("due"):
            if sent >= SHARE:
                break
            self._alive()
            try:
                end = self._send_letter(letter, self.desk)
            except SlackBusy as busy:
                if busy.method == POST and self.desk.pause_of(POST):
                    raise
                self._note_busy(busy)
                continue
            done, sent = done or end != "waits", sent + (end == "sent")
            if end == "sent":
                self._pauses.pop("send", None)  # Slack is there: one letter without an answer is no reason for long pauses
        return done

    def _send_letter(self, letter: StoreRow, desk: SlackMessenger) -> str:
        """What became of it: `sent`, `refused` or `waits`."""
        now = self._clock()
        alerts = self._still_given(letter, now)
        if not alerts:
            with self.store.transaction():
                self.store.not_sent(letter["id"], "refused:nothing_left")
            return "refused"
        try:
            dm = desk.open_dm(letter["user"])
        except SlackRefused as error:
            self._give_up(letter, alerts, error.code)
            return "refused"
        if time.monotonic() < self._next_to.get(dm, self._first) or desk.pause_of(POST, dm) > 0:
            return "waits"
        given = {row["id"] for row in alerts}
        with self.store.transaction():
            # Another process may have edited or withdrawn something while Slack was asked; from here on it is changed in Slack, too.
            alerts = [row for row in self.store.in_letter(letter["id"]) if row["id"] in given]
            if alerts:
                self.store.sending(letter["id"], dm, now)
            else:
                self.store.not_sent(letter["id"], "refused:nothing_left")
        if not alerts:
            return "refused"
        text, blocks = said_in(letter, alerts)
        self._next_to[dm] = time.monotonic() + APART
        try:
            dm_ts = desk.send(dm, letter["id"], text, blocks)
        except SlackBusy:
            with self.store.transaction():
                self.store.not_tried(letter["id"])
            raise
        except SlackRefused as error:
            self._give_up(letter, alerts, error.code)
            return "refused"
        with self.store.transaction():
            self.store.sent(letter["id"], dm_ts)
        self._note_wait(letter, alerts, self._clock())
        return "sent"

    def _still_given(self, letter: StoreRow, now: int) -> list[StoreRow]:
        """The alerts of a letter that may be given now; those that no longer may are taken out for good."""
        left = []
        for row in self.store.in_letter(letter["id"]):
            self._alive()
            refused = self._refusal(row, now)
            if not refused and letter["kind"] == "alert" and now - row["ts"] > self.policy.max_age:
                refused = "too_old"
            refused = refused or self._may_see(row["user"], row["channel"])
            if refused:
                with self.store.transaction():
                    self.store.revoke(row["id"], refused)
            else:
                left.append(row)
        return left

    def _note_wait(self, letter: StoreRow, alerts: StoreRows, at: int) -> None:
        """What is told at once is told late by so much; a digest's time is everybody's own."""
        if letter["kind"] != "alert":
            return
        for row in alerts:
            self.waits["message"].add((at - row["ts"]) / SECOND)
            if row["released_at"] is not None:
                self.waits["release"].add((at - row["released_at"]) / SECOND)

    def _give_up(self, letter: StoreRow, alerts: StoreRows, reason: str) -> None:
        log.warning("a letter is refused", extra={"user": letter["user"], "why": reason})
        with self.store.transaction():
            self.store.not_sent(letter["id"], f"refused:{reason}")
            for row in alerts if letter["kind"] == "alert" else ():
                self.store.list_only(row["id"], "not_deliverable")

    def _look_up(self) -> bool:
        """Letters in doubt: they are there, or they aren't, or nobody will ever know."""
        assert self.desk is not None
        done = False
        for letter in self.store.letters("sending"):
            self._alive()
            now = self._clock()
            if 0 <= now - letter["tried_at"] < SETTLE:
                continue
            try:
                found = self.desk.find(letter["dm"], letter["id"], ts_text(max(letter["tried_at"] - SKEW, 0)))
            except SlackRefused as error:
                log.warning("a letter can't be looked up", extra={"user": letter["user"], "why": error.code})
                state = "unknown"
            except SlackUnclear:
                if now - letter["tried_at"] < GIVE_UP:
                    raise
                state = "unknown"
            else:
                state = "sent" if found is not None else "due" if letter["tries"] < TRIES else "unknown"
            with self.store.transaction():
                if state == "sent":
                    self.store.sent(letter["id"], found or "")
                    self._note_wait(letter, self.store.in_letter(letter["id"]), letter["tried_at"])
                else:
                    self.store.not_sent(letter["id"], state)
                self.store.count(f"looked_up:{state}")
            done = True
        return done

    def _look_for_lost(self) -> bool:
        """Letters that nobody could find, and that show what was deleted since: if they are there after all, they are taken back, too."""
        assert self.desk is not None
        done = False
        for letter in self.store.lost()[:SHARE]:
            self._alive()
            since, until = ts_text(max(letter["made_at"] - SKEW, 0)), ts_text(letter["tried_at"] + SKEW)
            found = None
            try:
                found = self.desk.find(letter["dm"], letter["id"], since, until)
            except SlackRefused as error:
                log.error("a letter that shows what was deleted can't be looked for", extra={"user": letter["user"], "why": error.code})
            with self.store.transaction():
                if found is None:
                    self.store.chore_done(letter["id"], "unknown")
                    self.store.count("letters_not_found")
                else:
                    self.store.sent(letter["id"], found)
                    self.store.count("looked_up:sent")
            done = True
        return done

    def _do_chores(self) -> bool:
        """Letters that show what was deleted or edited are changed, or taken back."""
        assert self.desk is not None
        done = False
        for letter in self.store.chores()[:SHARE]:
            self._alive()
            alerts = self.store.in_letter(letter["id"])
            state, is_taken_back = "sent", letter["chore"] == "delete" or not alerts
            try:
                shown = () if is_taken_back else self._still_shown(alerts)
            except SlackBusy as busy:
                self._note_busy(busy)
                continue  # what was deleted does not wait for it
            try:
                if is_taken_back:
                    self.desk.delete(letter["dm"], letter["dm_ts"])
                    state = "deleted"
                else:
                    text, blocks = said_in(letter, shown)
                    self.desk.update(letter["dm"], letter["dm_ts"], letter["id"], text, blocks)
            except SlackRefused as error:
                log.error("a letter can't be changed", extra={"user": letter["user"], "why": error.code, "since": letter["chore"]})
                state = "not_changed"
            with self.store.transaction():
                if is_taken_back:
                    self.store.chore_done(letter["id"], state)
                elif self.store.in_letter(letter["id"]) == alerts:  # else another process has changed it again meanwhile
                    self.store.chore_done(letter["id"], "sent")  # one that can't be changed may have to be taken back one day
                self.store.count(f"letters_{'updated' if state == 'sent' else state}")
            done = True
        return done

    def _still_shown(self, alerts: StoreRows) -> StoreRows:
        """As a letter may show them from now on: who may not see a channel any more is not told what was written there since."""
        return [{**row, "excerpt": ""} if row["excerpt"] and self._may_see(row["user"], row["channel"]) else row for row in alerts]

    # Once a day

    def _write_digests(self) -> bool:
        if self._digest_at is None:
            return False
        done = False
        for user in self.store.waiting_for_digest():
            now = self._clock()
            zone = self._ledger.wishes(user).zone or self.policy.zone
            today = f"{local_time(now, zone):%Y-%m-%d}"
            if self.store.digested(user) == today or local_minute(now, zone) < self._digest_at or self._is_quiet(user, now):
                continue
            with self.store.transaction():
                rows = self.store.for_digest(user, now - 2 * DAY, LISTED)
                self.store.set_digested(user, today)
                if rows:
                    identity = hashlib.sha256(f"digest\n{user}\n{today}".encode()).hexdigest()[:32]
                    self.store.write_letter(identity, user, "digest", [row["id"] for row in rows], now)
                    self.store.count("digests")
            done = True
        return done

    # App Home

    def _publish_homes(self) -> bool:
        assert self.desk is not None
        done = False
        for user in self.store.spoilt_homes()[:SHARE]:
            self._alive()
            now = self._clock()
            for row in self.store.listed(user, now - SHOWN, LISTED):
                self._alive()
                if refused := self._may_see(user, row["channel"]):
                    with self.store.transaction():
                        self.store.revoke(row["id"], refused)
            with self.store.transaction():
                rows = self.store.listed(user, now - SHOWN, LISTED)
                home = home_of(self.store, self.policy, user, rows)
                self.store.home_is_up_to_date(user)
            try:
                self.desk.publish_home(user, home_view(home, times_of(rows, home["zone"])))
            except SlackRefused as error:
                self.store.count("homes_refused")
                log.warning("an App Home can't be published", extra={"user": user, "why": error.code})
            except Exception:
                with self.store.transaction():
                    self.store.spoil_home(user)
                raise
            done = True
        return done

    # Others

    def _hand_on_all(self) -> bool:
        if not (rows := self.store.to_hand_on(1)):
            return False
        self._hand_on([alert_value(row) for row in rows])
        with self.store.transaction():
            self.store.handed_on([row["id"] for row in rows], 1 if self._webhook else 3)
            if self._handed_to:
                self.store.count(f"told:{self._handed_to}", len(rows))
        return True

    def _call_webhook(self) -> bool:
        if self._webhook is None:
            return False
        done = False
        for row in self.store.to_hand_on(2)[:SHARE]:
            self._alive()
            taken = self._webhook(alert_value(row))
            if not taken and self._clock() - row["made_at"] < GIVE_UP:
                raise SlackUnclear("the webhook")
            with self.store.transaction():
                self.store.handed_on([row["id"]], 2)
                self.store.count("webhook_taken" if taken else "webhook_given_up")
            if taken:
                self._pauses.pop("webhook", None)
            done = True
        return done

    def _forget(self) -> bool:
        now = self._clock()
        if now - self._forgot > 60 * MINUTE:
            self._forgot = now
            with self.store.transaction():
                self.store.forget(now - self._kept)
        return False


def said_in(letter: Mapping[str, Any], alerts: StoreRows) -> tuple[str, list[dict[str, Any]]]:
    """What a letter says: the text for notifications, and the blocks."""
    if letter["kind"] == "digest":
        return digest_text(alerts), digest_blocks(alerts)
    return alert_text(alerts[0]), alert_blocks(alerts[0])


def times_of(rows: StoreRows, zone: str) -> dict[str, datetime]:
    """When each alert was made, where its person is."""
    return {row["id"]: local_time(row["made_at"], zone) for row in rows}


def alert_value(row: Mapping[str, Any]) -> dict[str, Any]:
    """An alert as others get it: who, where, how likely and why; nothing that anybody wrote in the channel."""
    return {
        "id": row["id"],
        "user": row["user"],
        "kind": row["kind"],
        "way": row["way"],
        "reason": row["reason"],
        "prediction": row["prediction"],
        "conversation": row["conversation"],
        "channel": row["channel"],
        "message_ts": ts_text(row["ts"]),
        "prompt_ts": ts_text(row["prompt_ts"]),
        "permalink": row["permalink"] or None,
        "model": row["model"],
        "p": round(row["p"], 6),
        "why": row["why"],
        "alerted_ts": ts_text(row["made_at"]),
    }
