"""Where the rows of another tool's file stand in the history, and whether their prompts leave out who answers (law 2)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import comb, erfc, exp, lgamma, sqrt
from typing import Any, NamedTuple

from beepgpt.audit.pairs import Index, KnownUnits, Pair, PostedMessage
from beepgpt.conversations.channel import FOREVER
from beepgpt.conversations.rules import MINUTE, Rules

SIGNIFICANT = 0.001
MUCH_MORE = 1.5
"""How many times as often the answerer's messages must be left out, beside the p-value: with many rows anything is significant."""

EXACT = 1500
"""Sums up to which the exact distribution is used; above, its normal approximation."""

TRUSTED = 0.7
"""Share of completions that must agree with who posted next before they help to place the others."""


class Place(NamedTuple):
    """Where a row stands: the message after its window, the window, and the messages of it that the prompt shows."""

    answer: int
    window: tuple[int, ...]
    """Messages, oldest first."""
    shown: frozenset[int]

    @property
    def left_out(self) -> int:
        """Messages of the window that the prompt does not show."""
        return len(self.window) - len(self.shown)


Places = dict[int, list[tuple[int, int]]]
"""By message: (conversation, position) for each conversation that it stands in."""


def conversations_of(index: Index, gap: int) -> dict[str, list[list[int]]]:
    """The conversations of the history, as (messages of) each, by the name of each way in which tools form them."""
    messages = index.messages
    people = [number for number, message in enumerate(messages) if not message.bot]
    named = {(message.channel, message.thread_ts) for message in messages if message.thread_ts is not None}
    channels: defaultdict[str, list[int]] = defaultdict(list)
    threads: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    ours: list[list[int]] = []
    apart: list[list[int]] = []
    last: dict[tuple[str, bool], tuple[int, list[int]]] = {}

    def add_root(number: int, is_ours: bool) -> None:
        """Add a root to its channel's session, or begin one."""
        message = messages[number]
        when, session = last.get((message.channel, is_ours), (-FOREVER, []))
        if message.ts - when > gap:
            session = []
            (ours if is_ours else apart).append(session)
        session.append(number)
        last[message.channel, is_ours] = message.ts, session

    for number in people:
        message = messages[number]
        channels[message.channel].append(number)
        if message.thread_ts is not None:
            threads[message.channel, message.thread_ts].append(number)
            continue
        add_root(number, True)
        if (message.channel, message.ts) in named:
            threads[message.channel, message.ts].append(number)
        else:
            add_root(number, False)
    return {
        "sessions and threads": [*ours, *threads.values()],
        "sessions without threads' roots, and threads": [*apart, *threads.values()],
        "channels": list(channels.values()),
    }


def place_rows(
    pairs: Sequence[Pair], found: Sequence[KnownUnits], index: Index, window: int, rules: Rules
) -> tuple[list[Place | None], list[list[Place]], str, bool]:
    """Place each row; returns (places, all possible places of each row, how the tool forms conversations, whether rows are in time order).

    Of the ways to form conversations, the one is taken with which the most prompts leave nothing out.
    """
    best: tuple[int, int] = (-1, -1)
    options: list[list[Place]] = []
    chosen = ""
    for name, conversations in conversations_of(index, rules.session_gap or 10 * MINUTE).items():
        where = positions_in(conversations)
        tried = [options_of(row, conversations, where, window, index) for row in found]
        fit = (sum(any(place.left_out == 0 for place in each) for each in tried), sum(map(bool, tried)))
        if fit > best:
            best, options, chosen = fit, tried, name
    in_order = _is_in_order(options, index)
    places = _choose(pairs, options, index, in_order, {})
    answers = [(pair.completion, index.messages[place.answer].user) for pair, place in zip(pairs, places, strict=True) if place is not None]
    if agreement(answers) >= TRUSTED:
        places = _choose(pairs, options, index, in_order, _names_of(answers))
    return places, options, chosen, in_order


def positions_in(conversations: Sequence[Sequence[int]]) -> Places:
    """Each message's (conversation, index) positions."""
    places: Places = defaultdict(list)
    for number, conversation in enumerate(conversations):
        for place, message in enumerate(conversation):
            places[message].append((number, place))
    return places


def options_of(row: KnownUnits, conversations: Sequence[Sequence[int]], where: Places, window: int, index: Index) -> list[Place]:
    """All places where the last messages of a conversation hold all sentences of a prompt, and another message follows."""
    distinct = list({key: unit for _, key, unit in row}.values())
    if not distinct:
        return []
    anchor, *others = sorted(distinct, key=len)
    sets = [set(unit) for unit in others]
    options: dict[tuple[int, frozenset[int]], Place] = {}
    for message in anchor[:200]:
        for number, place in where.get(message, ()):
            conversation = conversations[number]
            for answer in range(place + 1, min(place + window, len(conversation) - 1) + 1):
                before = conversation[max(0, answer - window) : answer]
                shown = {message}
                for unit in sets:
                    at = next((each for each in reversed(before) if each in unit and each not in shown), None)
                    if at is None:
                        break
                    shown.add(at)
                else:
                    texts = tuple(each for each in before if index.messages[each].shown)
                    options[conversation[answer], frozenset(shown)] = Place(conversation[answer], texts, frozenset(shown))
    return list(options.values())


def _is_in_order(options: Sequence[Sequence[Place]], index: Index) -> bool:
    """Whether the rows that have one possible place are in order of time."""
    answers = [min(place.answer for place in each) for each in options if each and len({place.window[-1] for place in each}) == 1]
    rising = sum(one <= after for one, after in pairwise(answers))
    return len(answers) > 1 and rising >= 0.8 * (len(answers) - 1)


def _choose(
    pairs: Sequence[Pair], options: Sequence[Sequence[Place]], index: Index, in_order: bool, named: Mapping[str, str]
) -> list[Place | None]:
    """Choose a place for each row: best where its answerer goes with its completion, little is left out, and it is free and next in time.

    Whose messages are left out is not considered: otherwise the leak test would find what this choice had caused.
    """
    chosen: list[Place | None] = []
    taken: set[int] = set()
    last = 0
    for pair, places in zip(pairs, options, strict=True):

        def rank(place: Place, pair: Pair = pair, last: int = last) -> tuple[Any, ...]:
            answerer = index.messages[place.answer].user
            strange = pair.completion in named and named[pair.completion] != answerer
            back = in_order and place.answer < last
            return strange, place.left_out, place.answer in taken, back, abs(place.answer - last) if in_order else place.answer

        place = min(places, key=rank, default=None)
        chosen.append(place)
        if place is not None:
            taken.add(place.answer)
            last = place.answer
    return chosen


def _counted(answers: Iterable[tuple[str, str]]) -> dict[str, Counter[str]]:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for completion, user in answers:
        counts[completion][user] += 1
    return counts


def _names_of(answers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """By completion, the person that it goes with most often."""
    return {completion: min(users, key=lambda user: (-users[user], user)) for completion, users in _counted(answers).items()}


def agreement(answers: Sequence[tuple[str, str]]) -> float:
    """The share of rows whose completion goes with the same person as in most *other* rows that have it.

    >>> agreement([("1", "ana"), ("1", "ana"), ("2", "bo"), ("2", "ana"), ("3", "cy")])
    0.5
    """
    judged = right = 0
    for users in _counted(answers).values():
        if users.total() < 2:
            continue
        for user, count in users.items():
            judged += count
            most = max((others for other, others in users.items() if other != user), default=0)
            right += count if count - 1 > most else 0
    return share_of(right, judged)


def share_of(part: int, whole: int) -> float:
    """The ratio; 0 if the whole is 0."""
    return part / whole if whole else 0.0


# The leak test (law 2): whether prompts leave out the person who answers more often than others


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

    @property
    def p_text(self) -> str:
        """The p-value as it stands in messages."""
        p_value = "p < 1e-300" if self.p_value < 1e-300 else f"p = {self.p_value:.2g}"
        return p_value if self.exact else f"{p_value}, normal approximation"


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
