"""The three parts of a model's time: it is fitted in the first, chosen in the second, and judged in the third (law 8).

*fit*: trees and calibration. *choose*: thresholds and volume. *judge*: every figure in a headline. A point belongs to
the part in which its prompt was made. `beepgpt prepare` decides the two times between them; manifest.json and model.json hold them as
`parts`, and each prediction and outcome names its part.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from beepgpt.conversations.events import micros, ts_text

Part = Literal["fit", "choose", "judge"]
PARTS: tuple[Part, ...] = ("fit", "choose", "judge")
LEAST_ANSWERED = 200
"""Answered points below which nothing is learned: a tenth of them, which judges, would be too few for any figure."""


class Parts(NamedTuple):
    """The times between the parts, microseconds since 1970."""

    choose_from: int
    judge_from: int | None
    """None: of a model of an older version, which names only what it was fitted on. Nobody knows on what its threshold was chosen."""

    def of(self, prompt_ts: int) -> Part | None:
        """The part of a point; None: it was not fitted on, and more isn't known.

        >>> [Parts(10, 20).of(t) for t in (9, 10, 19, 20)], Parts(10, None).of(20)
        (['fit', 'choose', 'choose', 'judge'], None)
        """
        if prompt_ts < self.choose_from:
            return "fit"
        if self.judge_from is None:
            return None
        return "choose" if prompt_ts < self.judge_from else "judge"

    def as_json(self) -> dict[str, str | None]:
        """The times as manifest.json and model.json have them."""
        return {"choose_from": ts_text(self.choose_from), "judge_from": None if self.judge_from is None else ts_text(self.judge_from)}


UNMARKED = "unmarked"
"""The part of records that name none, of a model whose parts nobody knows: they may be of points that it was fitted on."""


def part_of(named: str | None, parts: Parts | None, prompt_ts: int) -> str:
    """The part of a prediction or an outcome: as it says itself, else as its model's parts do.

    >>> part_of("judge", None, 30), part_of(None, Parts(10, 20), 30), part_of(None, Parts(10, None), 30)
    ('judge', 'judge', 'unmarked')
    """
    return named or (None if parts is None else parts.of(prompt_ts)) or UNMARKED


def parts_of(card: Mapping[str, Any]) -> Parts | None:
    """The parts that a manifest or a model's card names; None: it names none.

    >>> parts_of({"trained_on": {"settled_until": "1690360240.229079"}})
    Parts(choose_from=1690360240229080, judge_from=None)
    """
    with suppress(KeyError, TypeError, ValueError):
        return Parts(micros(card["parts"]["choose_from"]), micros(card["parts"]["judge_from"]))
    with suppress(KeyError, TypeError, ValueError):
        return Parts(micros(card["trained_on"]["settled_until"]) + 1, None)
    return None
