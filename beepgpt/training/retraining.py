"""Retraining: a candidate is compared with the live model on time that neither has learned from, then fitted anew up to today.

The candidate is fitted up to the time from which on they are compared. If it isn't worse, a model with the same settings is fitted on
everything, and takes the candidate's threshold: nobody can judge that one before new outcomes come, so the figures beside it are the
candidate's, and say so. The candidate stays beside it, and stands for it when the next candidate comes: by then the live model has learned
from the time on which both would be compared.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from beepgpt.errors import BadCommand, TooLittle
from beepgpt.figures import percent
from beepgpt.training import metrics
from beepgpt.training.folder import ALERTS, CARD, COMPARED, METRICS, VALID
from beepgpt.training.intervals import Bootstrap, Figure, difference
from beepgpt.training.live import card_in, figures_in, live_in, name_of, put_live, recommended_in
from beepgpt.training.metrics import Outcomes
from beepgpt.training.models import Trained, load_model, train_here
from beepgpt.training.parts import parts_of
from beepgpt.training.points import read_examples

HERE = ("local", "text")
ENOUGH_POINTS, ENOUGH_CONVERSATIONS = 100, 8
"""With fewer, that a candidate isn't worse says nothing: the interval is as wide as any difference between models."""


class Comparison(NamedTuple):
    """A candidate beside the live model, on the same points."""

    against: str
    """The name of the model that was compared: the live one, or the one that stands for it."""
    since: int
    """Points made from this time on were compared: neither model had learned from them. Microseconds."""
    points: int
    gain: Figure
    """By how much the candidate's log loss is less, with its interval by conversation; more is better."""
    hits: Figure
    """The difference of hit@5 among the answered."""
    candidate: Outcomes
    live: Outcomes

    learned_until: int = 0
    """When the time ended from which the one that was compared has learned, microseconds: no comparison reaches further back."""

    @property
    def is_enough(self) -> bool:
        """Whether there were enough points and conversations to tell."""
        return self.points >= ENOUGH_POINTS and self.gain.conversations >= ENOUGH_CONVERSATIONS and not np.isnan(self.gain.high)

    @property
    def is_worse(self) -> bool:
        """Whether the candidate is worse for sure."""
        return bool(self.gain.high < 0)

    @property
    def can_reach_back(self) -> bool:
        """Whether a longer time before the last prompt has more points to compare on."""
        return self.since > self.learned_until

    def why_not(self, *, force: bool = False) -> str:
        """Why the candidate is not taken; empty if it is. `force`: few points are enough."""
        if self.is_worse:
            return f"it is worse: {self.words}"
        if self.is_enough or force:
            return ""
        more = "" if self.can_reach_back else f", after {_when(self.since)}: {self.against} has learned from all that was before"
        return (
            f"too few to tell: {self.points:,} points in {self.gain.conversations:,} conversations, and {ENOUGH_POINTS} in"
            f" {ENOUGH_CONVERSATIONS} are asked for{more}"
        )

    @property
    def words(self) -> str:
        """The difference, in words."""
        gain = self.gain
        if np.isnan(gain.high):
            return f"{self.points:,} points in {gain.conversations:,} conversations say nothing"
        sign, than = (1, "lower") if gain.value >= 0 else (-1, "higher")
        least, most = sorted((sign * gain.low, sign * gain.high))
        doubt = ", which may be chance" if gain.low <= 0 <= gain.high else ""
        return f"its log loss is {abs(gain.value):.4f} {than} ({least:.4f} to {most:.4f}) on {self.points:,} points{doubt}"

    def as_json(self) -> dict[str, Any]:
        """For reports, and beside the figures."""
        figures = {"log_loss_gain": self.gain.as_json(), "hit@5_gain": self.hits.as_json()}
        return {"against": self.against, "since": _when(self.since), "points": self.points, **figures}


def live_kind(live: Path) -> tuple[str, int]:
    """The kind and the seed of the live model, for a candidate; those of a first one if there is none. Raises BadCommand."""
    card = card_in(live_in(live))
    if card and card.get("kind") not in HERE:
        raise BadCommand(f"{live}: is a model of kind {card.get('kind')}: only models of this machine are retrained")
    return str(card.get("kind", "local")), int(card.get("seed", 1))


def compare_with_live(live: Path, candidate: Trained, folder: Path) -> Comparison | None:
    """Compare a candidate with the live model on the points of its training set that choose; None: there is no live model.

    Those that judge the candidate compare nothing (law 8). Raises BadCommand, BadModel; OtherFeatures.
    """
    at = live_in(live)
    if not (at / CARD).exists():
        return None
    other = load_model(at / COMPARED if (at / COMPARED / CARD).exists() else at)
    mine, theirs = parts_of(candidate.card), parts_of(other.card)
    if mine is None or mine.judge_from is None or theirs is None:
        raise BadCommand(f"{at}: its card doesn't say up to when it learned, so nobody knows what may compare it: train it again")
    since = max(mine.choose_from, theirs.choose_from)
    valid = read_examples(folder / VALID, as_happened=True)
    chooses = (valid.points.prompt_ts < mine.judge_from) & (valid.settled_ts < mine.judge_from)
    both = valid.at(np.flatnonzero((valid.points.prompt_ts >= since) & chooses))
    boot = Bootstrap(both.points.conversation)
    ours, before = (metrics.outcomes_of(each.model.predict(both.points), both) for each in (candidate, other))
    losses = [metrics.losses(each, "all", boot)["log_loss"] for each in (ours, before)]
    hits = [metrics.hits(each, "answered", boot)["hit@5"] for each in (before, ours)]
    gains = difference(*losses), difference(*hits)
    return Comparison(name_of(other.folder), since, len(both), *gains, ours, before, theirs.choose_from)


def threshold_like(live: Path, compared: Comparison | None) -> dict[str, Any] | None:
    """A threshold in place of a rehearsed one: it alerts as many of the people compared. None: the live model's was not rehearsed."""
    before = recommended_in(live_in(live))
    if before is None or compared is None:
        return None
    count = int((compared.live.alerts.p >= before).sum())
    p = np.sort(compared.candidate.alerts.p)[::-1]
    threshold = before if not 0 < count <= len(p) else float(p[count - 1])
    why = f"{count:,} people named on the points compared, as many as by the live model from {percent(before, 1)} on"
    return {"threshold": threshold, "why": why}


def put_retrained(
    live: Path, folder: Path, candidate: Path, compared: Comparison | None, *, threads: int, status: Callable[[str], None]
) -> Path:
    """Fit a model like the candidate on both sides of its training set, and make it live, with the candidate beside it.

    Raises TooLittle if the candidate's validation found no threshold, and none can be taken over.
    """
    kind, seed = live_kind(live)
    figures, alerts = figures_in(candidate), threshold_like(live, compared)
    if alerts is None and figures.get("threshold") is None:
        raise TooLittle(
            f"{live}: no threshold reached the precision that was asked for on the points to choose by, so the candidate can't be used for"
            " alerts, and is not taken: ask for a lower precision, or wait for more examples"
        )

    def write(version: Path) -> None:
        card = train_here(folder, kind, version, seed=seed, threads=threads, status=status, whole=True)
        of = {"model": name_of(candidate), "fitted_until": figures["parts"]["choose_from"]}
        about = {"model": _shown(card), "figures_of": of | ({} if compared is None else {"compared": compared.as_json()})}
        (version / METRICS).write_bytes(_json({**figures, **about}))
        if alerts is not None:
            (version / ALERTS).write_bytes(_json({"model": name_of(version), **alerts}))
        shutil.copytree(candidate, version / COMPARED)

    return put_live(live, write)


def _shown(card: Mapping[str, Any]) -> dict[str, Any]:
    """A card as figures quote it."""
    return {name: value for name, value in card.items() if name not in ("files", "labels")}


def _json(body: Mapping[str, Any]) -> bytes:
    return orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _when(at: int) -> str:
    return f"{datetime.fromtimestamp(at / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
