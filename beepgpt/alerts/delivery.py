"""Deliver the alerts that were decided on: in Slack and its App Homes, to `--to`, and to a webhook. Everything that waits, waits here."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from beepgpt.alerts.decisions import Policy, in_quiet_hours, local_minute, local_time
from beepgpt.alerts.direct_messages import BATCH, GIVE_UP, LONGEST_PAUSE, Backoff, DirectMessages, Messenger, StoreRows
from beepgpt.alerts.eligibility import Eligibility, Members
from beepgpt.alerts.messages import LISTED, home_view
from beepgpt.alerts.store import AlertStore, SentMessage, quiet_hours_of
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import DAY, MINUTE
from beepgpt.errors import SlackRefused, SlackUnclear

log = logging.getLogger(__name__)

SHOWN = 7 * DAY
"""Microseconds for which an App Home shows an alert."""
FORGET_EVERY = 60 * MINUTE
GONE = {"user_not_found", "users_not_found", "user_disabled", "user_not_visible", "cannot_dm_bot"}
"""Slack's error codes for people who get no DMs from anybody. Other refusals may end once the app or the workspace is set up otherwise."""
TO_DESTINATION, TO_WEBHOOK = 1, 2
"""Bits of the store's `handed_on`."""


class AlertDelivery:
    """One process's deliveries, in one thread: each call of `work` does everything that can be done now."""

    def __init__(
        self,
        store: AlertStore,
        policy: Policy,
        members: Members,
        slack: Messenger | None,
        *,
        clock: Callable[[], int],
        forward: Callable[[StoreRows], None] = lambda alerts: None,
        forwarded_to: str = "",
        webhook: Callable[[Mapping[str, Any]], str] | None = None,
        digest_at: int | None = None,
        kept: int = 30 * DAY,
        beat: Callable[[], None] = lambda: None,
        observe: Callable[[str, float], None] = lambda since, seconds: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up delivery.

        `slack`: None if nothing goes to Slack. `clock`: microseconds. `forward` writes alerts to the `--to` destination or raises;
        `forwarded_to`: the name under which they are counted (empty: not). `webhook` returns why it did not take an alert, or nothing.
        `digest_at`: minute
        of the local day. `kept`: microseconds after which alerts are forgotten. `beat` is called before everything that may take long;
        `observe` gets how long people waited: since `message` or `release`, and seconds. `monotonic`: seconds, for pauses.
        """
        self.store, self.policy = store, policy
        self.eligibility = Eligibility(store, policy, members, monotonic)
        self._slack, self._clock, self._beat = slack, clock, beat
        self._forward, self._forwarded_to, self._webhook = forward, forwarded_to, webhook
        self._digest_at, self._kept = digest_at, kept
        self._forgot_at = 0
        self._monotonic = monotonic
        self._restore_again: dict[str, float] = {}
        self._backoff = Backoff(store, monotonic)
        self._stages: list[tuple[str, Callable[[], bool]]] = [("check", self._check_alerts)]
        if slack is not None:
            dms = DirectMessages(
                store, slack, self.eligibility, self._backoff, clock=clock, beat=beat, observe=observe, monotonic=monotonic
            )
            self._stages = [
                ("in_flight", dms.look_up_in_flight),
                ("unconfirmed", dms.look_up_unconfirmed),
                ("changes", dms.apply_changes),
                *self._stages,
                ("send", dms.send_queued),
                ("digests", self._queue_digests),
                ("homes", self._publish_homes),
            ]
        self._stages += [("forward", self._forward_alerts), ("webhook", self._call_webhook), ("forget", self._forget)]

    def work(self) -> bool:
        """Run each stage that isn't paused once; returns whether any of them did something."""
        done = False
        for name, stage in self._stages:
            self._beat()
            done = self._backoff.run(name, stage) or done
        return done

    def is_idle(self) -> bool:
        """Whether nothing is left to do but what waits for a time of day."""
        store = self.store
        if store.alerts_to_check() or store.alerts_to_forward(TO_DESTINATION):
            return False
        if self._webhook is not None and store.alerts_to_forward(TO_WEBHOOK):
            return False
        if self._slack is None:
            return True
        is_due = any(not self._waits_for_morning(dm) for dm in store.dms("due"))
        return not (is_due or store.dms("sending") or store.unconfirmed_dms_to_change() or store.dms_to_change())

    def _waits_for_morning(self, dm: Mapping[str, Any]) -> bool:
        """Whether a DM is a digest whose reader has quiet hours now."""
        return dm["kind"] == "digest" and in_quiet_hours(self._clock(), self.store.preferences(dm["user"]), self.policy)

    def _check_alerts(self) -> bool:
        """Check for new alerts whether they may still be delivered, and queue a DM for those that may."""
        done, left = False, BATCH
        for row in self.store.alerts_to_check():
            if not left:
                break
            if self._monotonic() < self._restore_again.get(row["user"], 0.0):
                continue
            left -= 1
            self._beat()
            now = self._clock()
            refused, permalink = self.eligibility.refusal(row, now), ""
            if not refused and self._slack is not None:
                try:
                    permalink = self._slack.permalink(row["channel"], ts_text(row["ts"]))
                except SlackRefused as error:
                    refused = "deleted" if error.code == "message_not_found" else "no_permalink"
            if not refused and self._slack is not None:
                if not self._restore_dms(self._slack, row["user"], now):
                    continue
                refused = "told_before" if self.store.was_sent_before(row) else ""
            with self.store.transaction():
                route = row["way"]
                if not refused and route == "direct":
                    route, reason = self.eligibility.route(row, now)
                    if route == "list":
                        self.store.downgrade_to_list(row["id"], reason)
                    refused = "" if route else reason
                if refused:
                    self.store.refuse(row["id"], refused)
                else:
                    self.store.clear(row["id"], permalink, dm=route == "direct" and self._slack is not None, now=now)
            self._backoff.reset("check")
            done = True
        return done

    def _restore_dms(self, slack: Messenger, user: str, now: int) -> bool:
        """Ask Slack once for the DMs to a person that a store before this one sent: it may be lost, and they are not sent again.

        Returns whether they are known now. If Slack refuses, it is asked again later, and the person's alerts wait; only of who is gone
        there is nothing to know.
        """
        if not self.store.lacks_history(user, now, self._kept):
            return True
        dm = ""
        sent: Sequence[SentMessage] = ()
        try:
            dm = slack.open_dm(user)
            sent = slack.sent(dm, ts_text(max(self.store.born - self._kept, 0)))
        except SlackRefused as error:
            log.warning("the direct messages to somebody can't be read", extra={"user": user, "why": error.code})
            if error.code not in GONE:
                self._restore_again[user] = self._monotonic() + LONGEST_PAUSE
                with self.store.transaction():
                    self.store.count("restores_refused")
                return False
        with self.store.transaction():
            self.store.restore_dms(user, dm, sent)
        return True

    def _queue_digests(self) -> bool:
        """Queue a DM with the less likely alerts, once a local day, for those who chose that."""
        if self._digest_at is None:
            return False
        done = False
        for user in self.store.users_awaiting_digest():
            now = self._clock()
            preferences = self.store.preferences(user)
            zone = preferences.zone or self.policy.zone
            today = f"{local_time(now, zone):%Y-%m-%d}"
            is_due = self.store.last_digest(user) != today and local_minute(now, zone) >= self._digest_at
            if not is_due or in_quiet_hours(now, preferences, self.policy):
                continue
            with self.store.transaction():
                rows = self.store.alerts_for_digest(user, now - 2 * DAY, LISTED)
                self.store.set_last_digest(user, today)
                if rows:
                    identity = hashlib.sha256(f"digest\n{user}\n{today}".encode()).hexdigest()[:32]
                    self.store.queue_dm(identity, user, "digest", [row["id"] for row in rows], now)
                    self.store.count("digests")
            done = True
        return done

    def _publish_homes(self) -> bool:
        """Publish stale App Homes; returns whether there were any. Alerts of channels that a person may no longer see are dropped."""
        assert self._slack is not None
        done = False
        for user in self.store.stale_homes()[:BATCH]:
            self._beat()
            since = self._clock() - SHOWN
            for row in self.store.listed(user, since, LISTED):
                self._beat()
                if reason := self.eligibility.visibility_refusal(user, row["channel"]):
                    with self.store.transaction():
                        self.store.revoke(row["id"], reason)
            with self.store.transaction():
                rows = self.store.listed(user, since, LISTED)
                home = home_of(self.store, self.policy, user, rows)
                self.store.mark_home_published(user)
            try:
                self._slack.publish_home(user, home_view(home, {row["id"]: local_time(row["made_at"], home["zone"]) for row in rows}))
            except SlackRefused as error:
                self.store.count("homes_refused")
                log.warning("an App Home can't be published", extra={"user": user, "why": error.code})
            except Exception:
                with self.store.transaction():
                    self.store.mark_home_stale(user)
                raise
            done = True
        return done

    def _forward_alerts(self) -> bool:
        """Write delivered alerts to the `--to` destination: at least once, with the same bytes."""
        if not (rows := self.store.alerts_to_forward(TO_DESTINATION)):
            return False
        self._forward([alert_body(row) for row in rows])
        with self.store.transaction():
            bits = TO_DESTINATION if self._webhook else TO_DESTINATION | TO_WEBHOOK
            self.store.mark_forwarded([row["id"] for row in rows], bits)
            if self._forwarded_to:
                self.store.count(f"told:{self._forwarded_to}", len(rows))
        return True

    def _call_webhook(self) -> bool:
        """Send delivered alerts to the webhook, until it takes them or they are given up."""
        if self._webhook is None:
            return False
        done = False
        for row in self.store.alerts_to_forward(TO_WEBHOOK)[:BATCH]:
            self._beat()
            why_not = self._webhook(alert_body(row))
            taken = not why_not
            if not taken and self._clock() - row["made_at"] < GIVE_UP:
                raise SlackUnclear(f"the webhook: {why_not}")
            with self.store.transaction():
                self.store.mark_forwarded([row["id"]], TO_WEBHOOK)
                self.store.count("webhook_taken" if taken else "webhook_given_up")
            if taken:
                self._backoff.reset("webhook")
            else:
                log.warning("the webhook did not take an alert within an hour, and is given up", extra={"alert": row["id"], "why": why_not})
            done = True
        return done

    def _forget(self) -> bool:
        """Delete what is older than `kept`, once an hour, and deleted texts from the store's log."""
        self.store.empty_wal()
        now = self._clock()
        if now - self._forgot_at > FORGET_EVERY:
            self._forgot_at = now
            with self.store.transaction():
                self.store.forget_before(now - self._kept)
        return False


def alert_body(row: Mapping[str, Any]) -> dict[str, Any]:
    """An alert as it is forwarded: who, where, how likely and why; no text of the channel."""
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


def home_of(store: AlertStore, policy: Policy, user: str, alerts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a person's App Home shows, as `beepgpt.alerts.messages.Home`."""
    row = store.preference_row(user)
    return {
        "opted_in": policy.opted_in if row["opted_in"] is None else bool(row["opted_in"]),
        "threshold": row["threshold"],
        "default_threshold": policy.of("").threshold,
        "per_hour": policy.per_hour if row["per_hour"] is None else row["per_hour"],
        "quiet": quiet_hours_of(row) or policy.quiet,
        "zone": row["zone"] or policy.zone,
        "low": row["low"] or "list",
        "muted": store.muted(user),
        "topics": [words for _, words in store.topics(user)],
        "alerts": alerts,
    }
