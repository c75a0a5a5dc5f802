"""The split: which examples train, which validate, and which do neither (law 7 of the README).

Every example of the training side is settled before the cut, and every prompt of the validation side is made at the cut or after it.
No message is in windows of both sides, no text is the prompt of both, and no conversation is on both (but where a channel is one). A
training example that clashes is left out, so that validation is whole. All of it is decided from a few numbers for each example, while the
examples themselves stay on the disk.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from beepgpt.training.checks import CannotPrepare, ExampleLine

Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

REASONS = (
    "stays",
    "replaced",
    "retracted",
    "silence",
    "weak",
    "few_shot",
    "across_cut",
    "conversation_on_both_sides",
    "message_on_both_sides",
    "prompt_on_both_sides",
    "over_cap",
    "over_balance",
)
"""Why an example is on no side; the first reason that applies counts."""
STAYS = 0

Handled = Literal["nil", "drop"]
"""What becomes of an example that nobody answered."""
HandledWeak = Literal["weak", "nil", "drop"]
"""What becomes of an answer with a weak signal: it is one of its own kind, as good as nobody's, or left out."""


def hash_of(text: str) -> int:
    """A 64-bit hash, the same in every run. A collision makes two texts look equal: it may cost a training example, and leaks none."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


class Ragged(NamedTuple):
    """A ragged column: values, and the row each belongs to."""

    values: Any
    rows: Integers
    """The row of each value."""


class ExampleNotes:
    """Collects what the split needs of each example: about 150 bytes, whatever the length of its line."""

    def __init__(self) -> None:
        self.people: dict[str, int] = {}
        """Numbers of all people who ever answered, in the order of their first answer."""
        self._places = array("q")
        self._sizes = array("q")
        self._ids = bytearray()
        self._prompt_ts = array("q")
        self._settled_ts = array("q")
        self._conversations = array("Q")
        self._prompts = array("Q")
        self._tokens = array("q")
        self._signals = array("b")
        self._messages = array("Q")
        self._message_counts = array("q")
        self._answers = array("q")
        self._answer_counts = array("q")

    def __len__(self) -> int:
        return len(self._places)

    def add(self, line: ExampleLine, place: int, size: int, tokens: int = 0) -> None:
        """Add an example. `place`, `size`: the offset and the bytes of its line; `tokens`: of its prompt."""
        self._places.append(place)
        self._sizes.append(size)
        self._ids += line.id
        self._prompt_ts.append(line.prompt_ts)
        self._settled_ts.append(line.settled_ts)
        self._conversations.append(hash_of(line.conversation))
        self._prompts.append(hash_of(line.prompt))
        self._tokens.append(tokens)
        self._signals.append({None: 0, "strong": 1, "weak": -1}[line.signal])
        self._messages.extend([hash_of(f"{line.channel}:{ts}") for ts in line.window])
        self._message_counts.append(len(line.window))
        self._answers.extend([self.people.setdefault(user, len(self.people)) for user in line.answer])
        self._answer_counts.append(len(line.answer))

    def columns(self) -> ExampleColumns:
        """All examples as arrays."""
        answered = np.frombuffer(self._answer_counts, np.int64) if len(self) else np.zeros(0, np.int64)
        signals = np.frombuffer(self._signals, np.int8) if len(self) else np.zeros(0, np.int8)
        return ExampleColumns(
            places=_whole(self._places),
            sizes=_whole(self._sizes),
            ids=np.frombuffer(bytes(self._ids), ">u8").astype(np.uint64).reshape(-1, 2),
            prompt_ts=_whole(self._prompt_ts),
            settled_ts=_whole(self._settled_ts),
            conversations=np.array(self._conversations, np.uint64),
            prompts=np.array(self._prompts, np.uint64),
            tokens=_whole(self._tokens),
            is_silence=answered == 0,
            is_weak=(signals < 0) & (answered > 0),
            is_labeled=(signals != 0) & (answered > 0),
            messages=_ragged(np.array(self._messages, np.uint64), self._message_counts),
            answers=_ragged(_whole(self._answers), self._answer_counts),
            people=list(self.people),
        )


def _whole(values: array[int]) -> Integers:
    return np.array(values, np.int64)


def _ragged(values: Any, counts: array[int]) -> Ragged:
    return Ragged(values, np.repeat(np.arange(len(counts), dtype=np.int64), _whole(counts)))


@dataclass(frozen=True)
class ExampleColumns:
    """Columns with a value, or several, for each example, in the order of their lines."""

    places: Integers
    sizes: Integers
    ids: Hashes
    """128 bits each, as two columns."""
    prompt_ts: Integers
    settled_ts: Integers
    conversations: Hashes
    prompts: Hashes
    tokens: Integers
    """Of the prompt, in the encoding of the model that is to be trained."""
    is_silence: Mask
    is_weak: Mask
    is_labeled: Mask
    messages: Ragged
    answers: Ragged
    people: Sequence[str]
    """The ids of the people numbered in `answers`."""

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def in_time(self) -> Integers:
        """The rows by prompt time and id, whatever the order of lines."""
        return np.lexsort((self.ids[:, 1], self.ids[:, 0], self.prompt_ts))


@dataclass(frozen=True)
class SplitOptions:
    """Options of the split."""

    valid_share: float = 0.2
    """The last share of the prompts, by time, that validates."""
    judge_share: float = 0.5
    """The last share of the validation side, by time, that judges; what is before it chooses."""
    cut: int | None = None
    """Microseconds; less than 0: so long before the last prompt; None: where `valid_share` says."""
    silences: Handled = "nil"
    weak: HandledWeak = "weak"
    cap: int | None = None
    """Training examples of one person, at most."""
    balance: float | None = None
    """Training examples that name nobody, at most, for each that names somebody."""


@dataclass(frozen=True)
class Sides:
    """The side of every example."""

    cut: int
    judge_from: int
    """The time from which on prompts of the validation side judge; the earlier ones choose."""
    train: Mask
    valid: Mask
    why: npt.NDArray[np.uint8]
    """Indices into `REASONS`: why an example is on no side."""

    def left_out(self) -> dict[str, int]:
        """Counts of examples on no side, by reason."""
        counts = np.bincount(self.why, minlength=len(REASONS))
        return {reason: int(count) for reason, count in zip(REASONS, counts, strict=True) if count and reason != "stays"}


def split(
    columns: ExampleColumns,
    choices: SplitOptions,
    *,
    by_conversation: bool,
    retracted: Iterable[bytes] = (),
    few_shots: Iterable[ExampleLine] = (),
) -> Sides:
    """Put every example on one side or on none. `by_conversation`: a conversation may not be on both. Raises CannotPrepare."""
    why = np.zeros(len(columns), np.uint8)

    def leave(which: Mask, reason: str) -> None:
        why[which & (why == STAYS)] = REASONS.index(reason)

    leave(_replaced(columns), "replaced")
    leave(_are_of(columns, retracted), "retracted")
    if choices.silences == "drop":
        leave(columns.is_silence, "silence")
    if choices.weak == "drop":
        leave(columns.is_weak, "weak")
    cut = cut_of(columns.prompt_ts[why == STAYS], choices)
    train, valid = columns.settled_ts < cut, columns.prompt_ts >= cut
    leave(valid & _like(columns, list(few_shots), by_conversation), "few_shot")
    leave(~train & ~valid, "across_cut")
    for reason, clashes in _clashes(columns, train & (why == STAYS), valid & (why == STAYS), by_conversation).items():
        leave(clashes, reason)
    # Who answered weakly counts as a model of this machine learns it: as an answer, unless weak answers are nobody's.
    nobody = columns.is_silence | columns.is_weak if choices.weak == "nil" else columns.is_silence
    if choices.cap is not None:
        leave(_over_cap(columns, train & (why == STAYS), nobody, choices.cap), "over_cap")
    if choices.balance is not None:
        leave(_over_balance(columns, train & (why == STAYS), nobody, choices.balance), "over_balance")
    train, valid = train & (why == STAYS), valid & (why == STAYS)
    sides = Sides(cut, begin_of_last(columns.prompt_ts[valid], choices.judge_share, cut), train, valid, why)
    _check_both(sides)
    return sides


def cut_of(prompt_ts: Integers, choices: SplitOptions) -> int:
    """The time between the sides: as it was chosen, or where the last `valid_share` of the prompts begins.

    >>> cut_of(np.array([50, 10, 30, 20, 40]), SplitOptions(valid_share=0.4))
    40
    """
    if choices.cut is not None:
        return choices.cut if choices.cut >= 0 else int(prompt_ts.max(initial=0)) + choices.cut
    if not len(prompt_ts):
        raise CannotPrepare("no examples are left to split: the account says what became of them")
    return begin_of_last(prompt_ts, choices.valid_share, 0)


def begin_of_last(prompt_ts: Integers, share: float, otherwise: int) -> int:
    """The time at which the last `share` of the prompts begins; `otherwise` if there is none.

    >>> begin_of_last(np.array([50, 10, 30, 20, 40]), 0.5, 0)
    30
    """
    if not len(prompt_ts):
        return otherwise
    first = min(int(len(prompt_ts) * (1 - share) + 1e-9), len(prompt_ts) - 1)
    return int(np.partition(prompt_ts, first)[first])


def _check_both(sides: Sides) -> None:
    for name, side, other in (("training", sides.train, "a later"), ("validation", sides.valid, "an earlier")):
        if not side.any():
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in sides.left_out().items()) or "none left out"
            raise CannotPrepare(
                f"nothing is left on the {name} side ({reasons}): choose {other} --cut, another --valid-share, or more examples"
            )


def _replaced(columns: ExampleColumns) -> Mask:
    """Examples whose id comes again later: the last line counts, as on a compacted topic."""
    by_id = np.lexsort((np.arange(len(columns)), columns.ids[:, 1], columns.ids[:, 0]))
    ids = columns.ids[by_id]
    again = np.zeros(len(columns), np.bool_)
    again[by_id[:-1]] = (ids[1:] == ids[:-1]).all(axis=1)
    return again


def _are_of(columns: ExampleColumns, ids: Iterable[bytes]) -> Mask:
    wanted = frozenset(ids)
    if not wanted:
        return np.zeros(len(columns), np.bool_)
    halves = np.frombuffer(b"".join(sorted(wanted)), ">u8").astype(np.uint64).reshape(-1, 2)
    maybe = np.flatnonzero(np.isin(columns.ids[:, 0], halves[:, 0]))
    are = np.zeros(len(columns), np.bool_)
    are[maybe] = [columns.ids[row].astype(">u8").tobytes() in wanted for row in maybe]
    return are


def _like(columns: ExampleColumns, few_shots: Sequence[ExampleLine], by_conversation: bool) -> Mask:
    """Few-shots, and examples that share their conversation or a message of their window."""
    shown = _are_of(columns, [each.id for each in few_shots])
    if by_conversation:
        shown |= _is_in(columns.conversations, np.array([hash_of(each.conversation) for each in few_shots], np.uint64))
    messages = [hash_of(f"{each.channel}:{ts}") for each in few_shots for ts in each.window]
    return shown | _have_any(columns.messages, np.array(messages, np.uint64), len(columns))


def _clashes(columns: ExampleColumns, train: Mask, valid: Mask, by_conversation: bool) -> Mapping[str, Mask]:
    """Training examples that have to go, by what they share with the validation side."""
    of_both = np.zeros(len(columns), np.bool_)
    if by_conversation:
        of_both = _is_in(columns.conversations, columns.conversations[valid])
    shown = columns.messages.values[valid[columns.messages.rows]]
    return {
        "conversation_on_both_sides": train & of_both,
        "message_on_both_sides": train & _have_any(columns.messages, shown, len(columns)),
        "prompt_on_both_sides": train & _is_in(columns.prompts, columns.prompts[valid]),
    }


def _is_in(values: Hashes, among: Hashes) -> Mask:
    """NumPy's `isin`, in a third of its memory."""
    wanted = np.unique(among)
    if not len(wanted):
        return np.zeros(len(values), np.bool_)
    found = np.searchsorted(wanted, values)
    found[found == len(wanted)] = 0
    return np.asarray(wanted[found] == values)


def _have_any(ragged: Ragged, among: Hashes, rows: int) -> Mask:
    """Rows with a value among these."""
    have = np.zeros(rows, np.bool_)
    have[ragged.rows[_is_in(ragged.values, among)]] = True
    return have


def _over_cap(columns: ExampleColumns, train: Mask, nobody: Mask, cap: int) -> Mask:
    """Training examples beyond a person's newest `cap`. One with several answers stays while any of its people is below the cap."""
    over = np.zeros(len(columns), np.bool_)
    if not len(columns.answers.values):
        return over
    people, counts = columns.answers.values, np.bincount(columns.answers.rows, minlength=len(columns))
    ends = np.cumsum(counts)
    taken = np.zeros(int(people.max()) + 1, np.int64)
    names_somebody = train & ~nobody
    for row in columns.in_time[::-1]:
        if names_somebody[row]:
            answered = people[ends[row] - counts[row] : ends[row]]
            over[row] = bool((taken[answered] >= cap).all())
            if not over[row]:
                taken[answered] += 1
    return over


def _over_balance(columns: ExampleColumns, train: Mask, nobody: Mask, balance: float) -> Mask:
    """Training examples that name nobody, beyond `balance` for each that names somebody: those with the highest ids (hashes)."""
    most = int(balance * int((train & ~nobody).sum()) + 1e-9)
    rows = np.flatnonzero(train & nobody)
    over = np.zeros(len(columns), np.bool_)
    over[rows[np.lexsort((columns.ids[rows, 1], columns.ids[rows, 0]))][most:]] = True
    return over
