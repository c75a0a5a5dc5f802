"""Law 2 for other tools' prompts: a test of whether they leave out the person who answers more often than others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, erfc, exp, lgamma, sqrt

from beepgpt.audit.pairs import Pair, PostedMessage
from beepgpt.audit.placing import Place, share_of

SIGNIFICANT = 0.001
MUCH_MORE = 1.5
"""How many times as often the answerer's messages must be left out, beside the p-value: with many rows anything is significant."""

EXACT = 1500
"""Sums up to which the exact distribution is used; above, its normal approximation."""


@dataclass(frozen=True, slots=True)
class LeakTest:
    """The result of `leak_test`: how often messages of the answerer and of others are left out of prompts."""

    placed: int
    present: int
    """Rows whose window holds a message by the person who answers."""
    dropped: int
    """Of these, rows whose prompt shows none of them."""
    own_left_out: int
    own: int
    others_left_out: int
    others: int
    p_value: float
    exact: bool

    @property
    def is_leak(self) -> bool:
        """Whether the answerer is left out more often than chance explains, and much more often than others."""
        others = share_of(self.others_left_out, self.others)
        return self.own > 0 and self.p_value < SIGNIFICANT and share_of(self.own_left_out, self.own) > MUCH_MORE * others


def leak_test(placed: Sequence[tuple[Pair, Place]], messages: Sequence[PostedMessage]) -> LeakTest:
    """Compare how often messages by the person who answers next and by others at the same place in the window are left out.

    Under the law, whether a message is shown may depend on its place (what doesn't fit is dropped from the oldest) and on the window's
    size, but not on who answers. Given both, the number of left out messages of the answerer is a sum of hypergeometric variables.
    Rows whose oldest messages just didn't fit into the longest prompt of the file prove nothing, and are skipped.
    """
    longest = max((len(pair.prompt) for pair, _ in placed), default=0)
    cells: defaultdict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    present = dropped = tested = 0
    for pair, place in placed:
        oldest_are_left_out = not any(number in place.shown for number in place.window[: place.left_out])
        if place.left_out and len(pair.prompt) > 0.9 * longest and oldest_are_left_out:
            continue
        tested += 1
        answerer = messages[place.answer].user
        own = [number for number in place.window if messages[number].user == answerer]
        present += bool(own)
        dropped += bool(own) and not any(number in place.shown for number in own)
        for back, number in enumerate(reversed(place.window), start=1):
            cell = cells[back, len(place.window)]
            is_own, is_left_out = messages[number].user == answerer, number not in place.shown
            cell[0] += 1
            cell[1] += is_own
            cell[2] += is_left_out
            cell[3] += is_own and is_left_out
    own_all, left_out = sum(cell[1] for cell in cells.values()), sum(cell[3] for cell in cells.values())
    all_messages, all_left_out = sum(cell[0] for cell in cells.values()), sum(cell[2] for cell in cells.values())
    p_value, exact = stratified_tail([(size, own, out, both) for size, own, out, both in cells.values()])
    return LeakTest(tested, present, dropped, left_out, own_all, all_left_out - left_out, all_messages - own_all, p_value, exact)


def stratified_tail(tables: Sequence[tuple[int, int, int, int]]) -> tuple[float, bool]:
    """One-sided p-value of the observed overlap over independent 2x2 tables (size, first margin, second margin, overlap).

    Returns it and whether it is exact rather than a normal approximation.

    >>> stratified_tail([(10, 5, 5, 5)])[0] == 1 / 252
    True
    """
    seen = sum(both for _, _, _, both in tables)
    if sum(min(one, other) for _, one, other, _ in tables) > EXACT:
        mean = sum(one * other / size for size, one, other, _ in tables if size)
        variance = sum(
            one * other * (size - one) * (size - other) / (size * size * (size - 1)) for size, one, other, _ in tables if size > 1
        )
        return (0.5 * erfc((seen - 0.5 - mean) / sqrt(2 * variance)) if variance > 0 else 1.0), False
    probabilities = [1.0]
    least = 0
    for size, one, other, _ in tables:
        low, high = max(0, one + other - size), min(one, other)
        of_table = [_hypergeometric(size, one, other, both) for both in range(low, high + 1)]
        summed = [0.0] * (len(probabilities) + len(of_table) - 1)
        for place, probability in enumerate(probabilities):
            if probability > 0.0:
                for more, other_probability in enumerate(of_table, start=place):
                    summed[more] += probability * other_probability
        probabilities, least = summed, least + low
    return min(1.0, sum(probabilities[max(0, seen - least) :])), True


def _hypergeometric(size: int, one: int, other: int, both: int) -> float:
    if size <= 60:
        return comb(one, both) * comb(size - one, other - both) / comb(size, other)
    return exp(_log_comb(one, both) + _log_comb(size - one, other - both) - _log_comb(size, other))


def _log_comb(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def p_in_words(test: LeakTest) -> str:
    """The p-value as it stands in messages."""
    p_value = "p < 1e-300" if test.p_value < 1e-300 else f"p = {test.p_value:.2g}"
    return p_value if test.exact else f"{p_value}, normal approximation"
