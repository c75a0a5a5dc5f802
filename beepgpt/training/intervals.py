"""95 % intervals by conversation, for every figure that is shown: of validation, of outcomes, of rehearsed alerts.

Points and alerts of one conversation are not independent, so a conversation is what counts as drawn. A share gets Wilson's interval on its
effective number (Kish's: what as many independent draws would be worth), with Student's t for the conversations that are there. A mean that
is no share gets the bias-corrected and accelerated bootstrap (BCa, Efron 1987) of whole conversations. With few of either kind there is no
interval, and the figure says "too few to tell".

SciPy's own `bootstrap` would draw anew for each figure; here all figures of a run share their draws, so that `beepgpt compare` can take
differences draw by draw. In simulated workspaces of fewer than a hundred conversations BCa holds the truth about a share in 78 to 94 %,
where it should in 95 %, and Wilson's interval in 93 to 97 %: so Wilson's is taken for all shares (tests/training/test_intervals.py). Of 8
to 12 conversations it is wider than it need be, and holds the truth in 96 to 99 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from beepgpt.training.points import Floats, Ints

DRAWS = 1_000
"""Of the bootstrap."""
SEED = 20_230_101
LEAST_COUNT, LEAST_CONVERSATIONS = 10, 8
"""What a figure has to be of, to have an interval."""
TAILS = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its 95 % interval; NaN as `low` and `high` means that there is too little to tell."""

    value: float
    low: float
    high: float
    count: int
    """What it is a share of: points, alerts or answers."""
    conversations: int = 0
    """In how many conversations those are."""
    drawn: Floats = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)
    """The number in each draw of the bootstrap: comparable where two runs have the same draws."""

    def as_json(self) -> dict[str, Any]:
        """The figure as JSON, rounded, so that two runs give the same bytes. `low` and `high` are null if there is too little to tell."""
        numbers = {name: _rounded(getattr(self, name)) for name in ("value", "low", "high")}
        return {**numbers, "count": self.count, "conversations": self.conversations}


def share_of(above: Floats, below: Floats, conversation: Sequence[str] | Ints) -> Figure:
    """The ratio of two sums, where `above` is a part of `below`, with its interval. All three have a value for each alert or point.

    >>> share_of(np.array([1.0, 0.0] * 10), np.ones(20), [str(each) for each in range(20)]).as_json()
    {'value': 0.5, 'low': 0.28357, 'high': 0.71643, 'count': 20, 'conversations': 20}
    >>> share_of(np.ones(3), np.ones(3), ["a", "b", "c"]).as_json()
    {'value': 1.0, 'low': None, 'high': None, 'count': 3, 'conversations': 3}
    """
    place = np.unique(np.asarray(conversation), return_inverse=True)[1] if len(conversation) else np.zeros(0, np.int64)
    return _share(_sums(place, above), _sums(place, below))


def _sums(place: Ints, values: Floats, least: int = 0) -> Floats:
    return np.bincount(place, values, minlength=least).astype(np.float64)


def _share(tops: Floats, bottoms: Floats) -> Figure:
    """The same, of sums by conversation."""
    counted = bottoms > 0
    of, whole = int(counted.sum()), float(bottoms.sum())
    count = round(whole)
    if not of:
        return Figure(np.nan, np.nan, np.nan, count)
    p = float(tops.sum() / whole)
    if count < LEAST_COUNT or of < LEAST_CONVERSATIONS:
        return Figure(p, np.nan, np.nan, count, of)
    return Figure(p, *_wilson(tops[counted], bottoms[counted], p), count, of)


def _wilson(tops: Floats, bottoms: Floats, p: float) -> tuple[float, float]:
    """Wilson's interval of the share `p` on its effective number."""
    whole = bottoms.sum()
    clusters = whole**2 / (bottoms @ bottoms)  # of equal size, that would say as much
    variance = ((tops - p * bottoms) ** 2).sum() / whole**2 * clusters / max(clusters - 1, 1e-9)
    effective = min(whole, clusters if variance <= 0 else p * (1 - p) / variance)
    t = float(stdtrit(max(clusters - 1, 1.0), TAILS[1]))
    middle = (p + t * t / (2 * effective)) / (1 + t * t / effective)
    half = t / (1 + t * t / effective) * np.sqrt(p * (1 - p) / effective + (t / (2 * effective)) ** 2)
    return float(min(max(middle - half, 0.0), p)), float(max(min(middle + half, 1.0), p))


class Bootstrap:
    """Intervals of a run's figures, and the draws of whole conversations that these share."""

    def __init__(self, conversation: Sequence[str], draws: int = DRAWS, seed: int = SEED) -> None:
        names, self.place = np.unique(np.asarray(conversation), return_inverse=True)
        random = np.random.default_rng(seed)
        share = np.full(len(names), 1 / max(len(names), 1))
        self.drawn = random.multinomial(len(names), share, size=draws).astype(np.float64) if len(names) else np.zeros((draws, 0))
        """How often each conversation is drawn, a row for each draw; floats, which spares every sum a conversion."""

    def by_conversation(self, values: Floats, point: Ints | None = None) -> Floats:
        """Sums of values by conversation. `point`: the point of each value, if there is not one value a point."""
        return _sums(self.place if point is None else self.place[point], values, self.drawn.shape[1])

    def share(self, above: Floats, below: Floats, point: Ints | None = None, below_point: Ints | None = None) -> Figure:
        """The ratio of two sums, where `above` is a part of `below`. `below_point`: where its points are other ones."""
        tops, bottoms = self.by_conversation(above, point), self.by_conversation(below, point if below_point is None else below_point)
        found = _share(tops, bottoms)
        return Figure(found.value, found.low, found.high, found.count, found.conversations, self._ratios(tops, bottoms))

    def mean(self, above: Floats, below: Floats) -> Figure:
        """The ratio of two sums that is no share, such as a loss, with its BCa interval."""
        tops, bottoms = self.by_conversation(above), self.by_conversation(below)
        whole, of = bottoms.sum(), int((bottoms > 0).sum())
        if not of:
            return Figure(np.nan, np.nan, np.nan, 0)
        value, drawn = float(tops.sum() / whole), self._ratios(tops, bottoms)
        low, high = (np.nan, np.nan) if _is_little(round(whole), of) else _bca(value, drawn, _left_out(tops, bottoms))
        return Figure(value, low, high, round(whole), of, drawn)

    def gap(self, gaps: Sequence[Floats], ones: Floats) -> Figure:
        """The mean of absolute sums, one for each of `gaps`: a calibration error, each bin's sum being what was predicted less what came.

        Noise adds to absolute values, so the number itself is corrected by as much as drawing adds to it again.
        """
        off = np.asarray([self.by_conversation(each) for each in gaps])
        bottoms = self.by_conversation(ones)
        whole, of = bottoms.sum(), int((bottoms > 0).sum())
        if not of:
            return Figure(np.nan, np.nan, np.nan, 0)
        seen = np.abs(off.sum(axis=1)).sum() / whole
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn = np.abs(self.drawn @ off.T).sum(axis=1) / (self.drawn @ bottoms)
        corrected = np.maximum(2 * seen - drawn, 0.0)
        value = max(float(2 * seen - np.nanmean(drawn)), 0.0)
        low, high = (np.nan, np.nan) if _is_little(round(whole), of) else np.nanquantile(corrected, TAILS)
        return Figure(value, float(min(low, value)), float(max(high, value)), round(whole), of, drawn)

    def _ratios(self, tops: Floats, bottoms: Floats) -> Floats:
        below = self.drawn @ bottoms
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(below > 0, (self.drawn @ tops) / below, np.nan)


def _is_little(count: int, conversations: int) -> bool:
    return count < LEAST_COUNT or conversations < LEAST_CONVERSATIONS


def _left_out(tops: Floats, bottoms: Floats) -> Floats:
    """The ratio without each conversation in turn."""
    rest = bottoms.sum() - bottoms
    ratios: Floats = (tops.sum() - tops)[rest > 0] / rest[rest > 0]
    return ratios


def _bca(value: float, drawn: Floats, left_out: Floats) -> tuple[float, float]:
    """The bias-corrected and accelerated interval. `left_out`: the jackknife's values."""
    known = drawn[~np.isnan(drawn)]
    least = 0.5 / len(known)
    bias = ndtri(np.clip((known < value).mean() + (known == value).mean() / 2, least, 1 - least))
    apart = left_out.mean() - left_out
    scale = 6 * float(apart @ apart) ** 1.5
    speed = float((apart**3).sum()) / scale if scale > 0 else 0.0
    shifted = bias + ndtri(np.asarray(TAILS))
    low, high = np.quantile(known, ndtr(bias + shifted / (1 - speed * shifted)))
    return float(low), float(high)


def difference(one: Figure, other: Figure) -> Figure:
    """`other` minus `one`, with its interval. Both must come from the same draws of the same points.

    >>> one, other = (Figure(value, 0, 0, 30, 30, np.full(9, value)) for value in (0.5, 0.75))
    >>> difference(one, other).as_json()
    {'value': 0.25, 'low': 0.25, 'high': 0.25, 'count': 30, 'conversations': 30}
    """
    value = other.value - one.value
    if np.isnan(value) or _is_little(min(one.count, other.count), min(one.conversations, other.conversations)):
        return Figure(value, np.nan, np.nan, other.count, other.conversations)
    drawn = other.drawn - one.drawn
    low, high = np.nanquantile(drawn, TAILS)
    return Figure(value, float(low), float(high), other.count, other.conversations, drawn)


def paired_gain(one: tuple[Floats, Sequence[str]], other: tuple[Floats, Sequence[str]]) -> Figure:
    """How much greater the share of `one` is than that of `other`, both of the same time: each has a 0 or 1 for each alert, and the
    alert's conversation.

    The interval is Newcombe's for paired shares (1998, method 10): of the intervals of the two, and of how the two go together, which is
    taken from the conversations that both are of. NaN where one of the two is of too little.

    >>> some, names = np.array([1.0] * 9 + [0.0] * 3), [str(each) for each in range(12)]
    >>> paired_gain((some, names), (1 - some, names)).as_json()
    {'value': 0.5, 'low': -0.15554, 'high': 0.8498, 'count': 12, 'conversations': 12}
    """
    place = np.unique(np.asarray([*one[1], *other[1]]), return_inverse=True)[1].astype(np.int64)
    count = int(place.max(initial=-1)) + 1
    parts = []
    for (right, _), at in zip((one, other), np.split(place, [len(one[0])]), strict=True):
        tops, bottoms = _sums(at, right, count), _sums(at, np.ones(len(right)), count)
        figure = _share(tops, bottoms)
        parts.append((figure, tops - figure.value * bottoms))
    (ours, our_rest), (theirs, their_rest) = parts
    value = ours.value - theirs.value
    size = float(np.sqrt((our_rest @ our_rest) * (their_rest @ their_rest)))
    together = float(our_rest @ their_rest) / size if size > 0 else 0.0

    def reach(low: float, high: float) -> float:
        return float(np.sqrt(max(low * low - 2 * together * low * high + high * high, 0.0)))

    low = value - reach(ours.value - ours.low, theirs.high - theirs.value)
    high = value + reach(ours.high - ours.value, theirs.value - theirs.low)
    return Figure(value, low, high, min(ours.count, theirs.count), min(ours.conversations, theirs.conversations))


def needed_to_see(share: float, more: float, power: float = 0.8) -> int | None:
    """How many each of two groups must have, for a test at the 5 % level to find that one has `more` than the other, whose share is given,
    in `power` of all cases. None if there is no room for so much more.

    >>> needed_to_see(0.59, 0.1), needed_to_see(0.95, 0.1)
    (361, None)
    """
    greater = share + more
    if greater > 1:
        return None
    mean = share + more / 2
    by_chance, by_itself = 2 * mean * (1 - mean), share * (1 - share) + greater * (1 - greater)
    reach = float(ndtri(TAILS[1]) * np.sqrt(by_chance) + ndtri(power) * np.sqrt(by_itself))
    return ceil((reach / more) ** 2)


def widest_to_see(more: float, power: float = 0.8) -> float:
    """How wide the 95 % interval of a difference may be, for a difference of `more` to lie apart from zero in `power` of all cases.

    >>> round(widest_to_see(0.1), 3)
    0.14
    """
    return 2 * more * float(ndtri(TAILS[1]) / (ndtri(TAILS[1]) + ndtri(power)))


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 5)
