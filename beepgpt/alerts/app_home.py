"""App Home: a person's preferences and their latest alerts, published in Slack whenever they change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from beepgpt.alerts.clients import Messenger
from beepgpt.alerts.decisions import Policy, local_time
from beepgpt.alerts.direct_messages import BATCH
from beepgpt.alerts.eligibility import Eligibility
from beepgpt.alerts.messages import LISTED, home_view
from beepgpt.alerts.preferences import quiet_hours_of
from beepgpt.alerts.store import AlertStore
from beepgpt.conversations.rules import DAY
from beepgpt.errors import SlackRefused

log = logging.getLogger(__name__)

SHOWN = 7 * DAY
"""Microseconds for which an App Home shows an alert."""


class AppHomes:
    """Publishes the App Homes that are out of date."""

    def __init__(
        self,
        store: AlertStore,
        policy: Policy,
        slack: Messenger,
        eligibility: Eligibility,
        *,
        clock: Callable[[], int],
        beat: Callable[[], None],
    ) -> None:
        self._store, self._policy, self._slack, self._eligibility = store, policy, slack, eligibility
        self._clock, self._beat = clock, beat

    def publish_stale(self) -> bool:
        """Publish stale App Homes; whether there were any. Alerts of channels that a person may no longer see are dropped."""
        done = False
        for user in self._store.stale_homes()[:BATCH]:
            self._beat()
            since = self._clock() - SHOWN
            for row in self._store.listed(user, since, LISTED):
                self._beat()
                if reason := self._eligibility.visibility_refusal(user, row["channel"]):
                    with self._store.transaction():
                        self._store.revoke(row["id"], reason)
            with self._store.transaction():
                rows = self._store.listed(user, since, LISTED)
                home = home_of(self._store, self._policy, user, rows)
                self._store.mark_home_published(user)
            try:
                self._slack.publish_home(user, home_view(home, {row["id"]: local_time(row["made_at"], home["zone"]) for row in rows}))
            except SlackRefused as error:
                self._store.count("homes_refused")
                log.warning("an App Home can't be published", extra={"user": user, "why": error.code})
            except Exception:
                with self._store.transaction():
                    self._store.mark_home_stale(user)
                raise
            done = True
        return done


def home_of(store: AlertStore, policy: Policy, user: str, alerts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a person's App Home shows, as `beepgpt.alerts.messages.Home`."""
    row = store.preference_row(user)
    return {
        "opted_in": policy.opted_in if row["opted_in"] is None else bool(row["opted_in"]),
        "threshold": row["threshold"],
        "default_threshold": policy.threshold,
        "per_hour": policy.per_hour if row["per_hour"] is None else row["per_hour"],
        "quiet": quiet_hours_of(row) or policy.quiet,
        "zone": row["zone"] or policy.zone,
        "low": row["low"] or "list",
        "muted": store.muted(user),
        "topics": [words for _, words in store.topics(user)],
        "alerts": alerts,
    }
