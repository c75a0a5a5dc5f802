"""The threshold that a rehearsal recommends: chosen on one part of time, judged on the next.

Validation can choose a threshold only by all next answers, most of which come from people who take part already. Here the measure is what
alerts are for: who joined within a day, or how many alerts a person gets a week.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from beepgpt.alerts.rehearsal import RehearsalHistory, Rehearsed
from beepgpt.figures import percent, share
from beepgpt.training.intervals import LEAST_CONVERSATIONS, LEAST_COUNT

WEEK = 7
"""Days."""


class WantedAlerts(NamedTuple):
    """What alerts should be like; where both are given, both have to hold."""

    precision: float | None = 0.5
    """The least share of those alerted who join within a day."""
    per_week: float | None = None
    """Alerts to a person in a week, at most: of those who are alerted at all."""

    def holds(self, figures: Mapping[str, Any]) -> bool:
        """Whether alerts with these figures are what is wanted."""
        enough_right = self.precision is None or figures["joined"] >= self.precision
        return enough_right and (self.per_week is None or WEEK * figures["per_person_per_day"] <= self.per_week)

    @property
    def words(self) -> str:
        """The wish, in words."""
        wishes = [] if self.precision is None else [f"{percent(self.precision)} of those alerted join within a day"]
        wishes += [] if self.per_week is None else [f"a person gets at most {self.per_week:g} a week"]
        return " and ".join(wishes)


def recommend(rehearsed: Sequence[Rehearsed], history: RehearsalHistory, wanted: WantedAlerts) -> dict[str, Any]:
    """The least of these thresholds at which alerts are what is wanted, as far as was known before the part that judges began.

    `threshold` is None where the alerts are too few to tell, or none is good enough; `why` says which, in words.
    """
    judges = history.parts.get("judge", [])
    until = judges[0].prompt_ts if judges else history.end
    tried = sorted(((each, each.figures_of("choose", until)) for each in rehearsed), key=lambda pair: pair[0].threshold or 0.0)
    enough = [(each, figures) for each, figures in tried if figures["intervals"]["joined"]["low"] is not None]
    good = next(((each, figures) for each, figures in enough if wanted.holds(figures)), None)
    found: dict[str, Any] = {"wanted": wanted._asdict(), "threshold": None, "chosen": None, "judged": None}
    if good is not None:
        each, figures = good
        joined = figures["intervals"]["joined"]
        why = f"the least threshold at which {wanted.words}, chosen on the days before those that judge: there, of the {joined['count']:,}"
        why += f" alerted whose day was over when judging began, {share(joined)} joined"
        return found | {"threshold": each.threshold, "why": why, "chosen": figures, "judged": each.figures}
    if enough:
        best, figures = max(enough, key=lambda pair: pair[1]["joined"])
        joined = figures["intervals"]["joined"]
        is_sure = wanted.precision is None or joined["high"] < wanted.precision
        why = "" if is_sure else "too few to tell: "
        why += f"on the days before those that judge, at no threshold {wanted.words};"
        return found | {"why": f"{why} at {percent(best.threshold)}, {share(joined)} of {joined['count']:,} joined"}
    if not history.parts.get("choose"):
        return found | {"why": f"no prediction is of the part to choose by (they are of: {', '.join(history.parts)})"}
    alerts, sessions = max(
        ((each["intervals"]["joined"]["count"], each["intervals"]["joined"]["conversations"]) for _, each in tried), default=(0, 0)
    )
    why = f"too few to tell: of the days before those that judge, at most {alerts:,} alerts in {sessions:,} conversations are known, and"
    return found | {"why": f"{why} {LEAST_COUNT} in {LEAST_CONVERSATIONS} are needed"}
