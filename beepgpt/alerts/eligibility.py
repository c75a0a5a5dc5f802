"""The checks just before delivery: whether a person may still be alerted, and may see the channel at all."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from beepgpt.alerts.database import StoreRow
from beepgpt.alerts.decisions import AlertVerdict, Policy, exclusion_reason, in_quiet_hours, route_for
from beepgpt.alerts.predictions import PredictedConversation
from beepgpt.alerts.store import AlertStore
from beepgpt.conversations.rules import HOUR
from beepgpt.errors import SlackRefused

log = logging.getLogger(__name__)

CHECKED = 30.0
"""Seconds for which a positive check of membership holds."""
MOST_CHECKED = 10_000


class Recipient(Protocol):
    """A person who may be alerted."""

    @property
    def zone(self) -> str | None: ...


class Members(Protocol):
    """Looks people up, and knows whether a person, as `person` returned them, may see a channel."""

    def person(self, user: str) -> Recipient: ...
    def may_see(self, user: str, channel: str, person: Any) -> bool: ...


class Eligibility:
    """Whether alerts may be delivered now. Only what the store and `members` know at this moment counts."""

    def __init__(self, store: AlertStore, policy: Policy, members: Members, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`monotonic`: seconds, for how long a check of membership holds."""
        self._store, self.policy, self._members, self._monotonic = store, policy, members, monotonic
        self._checked: dict[tuple[str, str], float] = {}

    def refusal(self, row: StoreRow, now: int, *, ages: bool = True) -> str:
        """Why an alert is not delivered after all; empty if it may be. `ages`: whether it can be too old.

        The checks that cost nothing come first: Slack is asked about membership only for alerts that pass them.
        """
        if ages and now - row["ts"] > self.policy.max_age:
            return "too_old"
        user = row["user"]
        if reason := exclusion_reason(user, _point_of(row), self._store.conversations_of(row), self._store, self.policy):
            return reason
        return self.visibility_refusal(user, row["channel"])

    def route(self, row: StoreRow, now: int) -> AlertVerdict:
        """How an alert that was decided on as a direct message is delivered now: their hours, limit or threshold may be others by now."""
        user = row["user"]
        p = 1.0 if row["kind"] == "topic" else row["p"]
        others = self._store.direct_alerts(user, now - HOUR, row["id"])
        preferences = self._store.preferences(user)
        is_quiet = in_quiet_hours(now, preferences, self.policy)
        return route_for(p, preferences, self.policy.of(row["model"]), others, is_quiet=is_quiet)

    def visibility_refusal(self, user: str, channel: str) -> str:
        """Why a person may not see a channel; empty if they may. In doubt they may not. Raises SlackBusy or SlackUnclear."""
        if self._monotonic() < self._checked.get((user, channel), 0.0):
            return ""
        try:
            person = self._members.person(user)
            may_see = self._members.may_see(user, channel, person)
        except SlackRefused as error:
            log.info("membership can't be checked", extra={"channel": channel, "why": error.code})
            return "membership_in_doubt"
        if person.zone and self._store.preference_row(user)["zone"] != person.zone:
            self._store.set_preferences(user, zone=person.zone)
        if not may_see:
            return "not_a_member"
        if len(self._checked) > MOST_CHECKED:
            self._checked.clear()
        self._checked[user, channel] = self._monotonic() + CHECKED
        return ""


def _point_of(row: StoreRow) -> PredictedConversation:
    """A stored alert as a point, as far as `exclusion_reason` needs it."""
    return PredictedConversation(
        row["prediction"], row["channel"], (row["conversation"],), row["prompt_ts"], ((row["ts"], ""),), "", True, row["model"], (), {}
    )
