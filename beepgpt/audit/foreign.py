"""Prompts and completions of other tools against the events: what was said, when, and whether prompts tell who answers.

Such files have no times, so each row is first looked for in the history. All choices on the way favour a row without a fault.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import comb, erfc, exp, lgamma, sqrt
from typing import Any, NamedTuple
from zlib import crc32

import orjson

from beepgpt.audit.laws import LAWS, Audit, AuditedRecord, ChannelHistories, Findings, Judged, hear
from beepgpt.conversations.channel import FOREVER
from beepgpt.conversations.cleaning import clean
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import DAY, MINUTE, Rules

SIGNIFICANT = 0.001
MUCH_MORE = 1.5
"""How many times as often the answerer's messages must be left out, beside the p-value: with many rows anything is significant."""
TRUSTED = 0.7
"""Share of completions that must agree with who posted next before they help to place the others."""
CUT = 20
"""Characters that a cut message must keep to be recognised by its beginning."""
NEVER_LATE = 700 * DAY
"""Other tools read what came late, too. No more: the oldest times have nine digits, and copies are told by what came before."""
EXACT = 1500
"""Sums up to which the exact distribution is used; above, its normal approximation."""

_WORDS = re.compile(r"\w+")
_PARAGRAPHS = re.compile(r"\n\s*\n")
_SPEAKER = re.compile(r"[^\n:]{1,40}:\s")
_CRUDE = re.compile(r"<[^<>]*>|:[^:]*:", re.DOTALL)


class Pair(NamedTuple):
    """A prompt and what is to follow it."""

    where: str
    prompt: str
    completion: str


class PostedMessage(NamedTuple):
    """Something that was said."""

    channel: str
    ts: int
    user: str
    thread_ts: int | None
    bot: bool
    known_from: int
    """From when a text of it was known; later than `ts` for exports' edited messages."""
    shown: bool
    """Whether any word of it can stand in a prompt."""


Unit = list[int]
"""The messages that a sentence of a prompt may be."""


class Place(NamedTuple):
    """Where a row stands: the message that follows its window, what the window holds, and which of it the prompt shows."""

    answer: int
    window: tuple[int, ...]
    """Messages, oldest first."""
    shown: frozenset[int]

    @property
    def left_out(self) -> int:
        """Messages of the window that the prompt does not show."""
        return len(self.window) - len(self.shown)


@dataclass(frozen=True, slots=True)
class LeakTest:
    """Whether prompts leave out the person who answers more often than others."""

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
        """Both unlikely by chance, and much."""
        return self.own > 0 and self.p_value < SIGNIFICANT and _share(self.own_left_out, self.own) > MUCH_MORE * _share(
            self.others_left_out, self.others
        )  # fmt: skip


def audit_pairs(
    records: Iterable[AuditedRecord],
    lines: Iterable[bytes],
    rules: Rules,
    *,
    valid: Iterable[bytes] | None = None,
    sample: int | None = None,
    now: int = FOREVER,
) -> Audit:
    """Prompts and completions of another tool, a JSON object a line, against the events that they are said to be made of.

    Read are `{"prompt", "completion"}` and `{"messages": [...]}`. `valid`: the validation side, if there is one. `sample`: so many rows.
    """
    findings = Findings()
    sides = [list(_pairs(lines, "" if valid is None else "train ", findings))]
    if valid is not None:
        sides.append(list(_pairs(valid, "valid ", findings)))
    if sample is not None:
        sides = [_sampled(side, sample) for side in sides]
    pairs = [pair for side in sides for pair in side]
    history = hear(records, replace(rules, bots="context", lateness=NEVER_LATE), now=now)
    said = Index(history)
    notes: list[str] = []

    units = [said.units_of(pair.prompt) for pair in pairs]
    template = _template(units)
    if template:
        notes.append(f"{len(template)} sentences stand in most prompts and were said by nobody: taken for the tool's own words")
    found, unknown = _matched(pairs, units, template)
    known = sum(map(len, found))
    readable = known > 0 and known * 2 >= known + sum(map(len, unknown))
    window = _longest(found)
    places, options, grouping, times_told = _placed(pairs, found, said, window, rules)
    placed = [(pair, place) for pair, place in zip(pairs, places, strict=True) if place is not None]
    if readable:
        _past_only(pairs, found, unknown, options, said, window, findings)
    agree = _agreement([(pair.completion, said.messages[place.answer].user) for pair, place in placed])
    newest = _agreement([(pair.completion, said.messages[max(place.shown)].user) for pair, place in placed])
    test = leak_test(placed, said.messages)
    if test.is_leak:
        _tell_leak(test, placed, said, findings)
    if newest > 0.9 and newest > agree + 0.2:
        for pair, place in placed:
            why = f"its completion goes with who said the newest message of its prompt ({said.messages[max(place.shown)].user})"
            findings.add(2, "prompts that hold the answer itself", pair.where, why)
    notes += _overlaps(sides, placed, findings, said, valid is not None)

    measured: dict[str, Any] = {
        "window": window,
        "grouping": grouping,
        "in_order_of_time": times_told,
        "completions_agree_with_who_posted_next": round(agree, 4),
        "completions_agree_with_newest_author": round(newest, 4),
        "leak_test": {name: getattr(test, name) for name in LeakTest.__slots__},
        "answerer_absent_from_prompts": round(_share(_absent(placed, said, shown=True), len(placed)), 4),
        "answerer_absent_from_whole_windows": round(_share(_absent(placed, said, shown=False), len(placed)), 4),
    }
    checked = {
        "events": history.account["read"],
        "messages": len(said.messages),
        "examples": len(pairs),
        "sentences": sum(map(len, units)),
        "found": known,
        "placed": len(placed),
    }
    if placed:
        notes.append(
            f"{len(placed):,} of {len(pairs):,} rows were found in the history: the last {window} messages of {grouping}; "
            f"{agree:.1%} of their completions go with who posted next"
        )
    if len(placed) < len(pairs):
        notes.append(f"{len(pairs) - len(placed):,} rows could not be placed, so nothing is said of their answers")
    return Audit("others", checked, _verdicts(findings, checked, test, readable, valid is not None), findings.all(), tuple(notes), measured)


def _verdicts(findings: Findings, checked: Mapping[str, int], test: LeakTest, readable: bool, split: bool) -> tuple[Judged, ...]:
    """A verdict on every law; most of them can't be checked without times and ids."""
    share = _share(checked["found"], checked["sentences"])
    unreadable = "" if readable else f"only {share:.0%} of the sentences were found in the events: is SOURCE the history of these prompts?"
    few = "" if checked["placed"] else "no row could be found in the history"
    never = f"of {test.own:,} messages by the person who answers next, {test.own_left_out:,} are left out of the prompts; of "
    never += f"{test.others:,} by others, {test.others_left_out:,} ({told_p(test)})"
    return (
        findings.judged(1, f"{checked['found']:,} sentences, each said before the answer", unreadable),
        findings.judged(2, never, few),
        findings.judged(3, "", "the rows have no times"),
        findings.judged(4, "", "the rows have no ids, so another run's can't be compared with them"),
        findings.judged(5, "", "examples alone don't tell what was scored"),
        findings.judged(6, "", "the file has no account of what became of each event"),
        Judged(7, LAWS[7], "not checkable", "one file is no split: give a training and a validation file")
        if not split
        else findings.judged(7, "no prompt and no message is on both sides, and training comes first", few),
    )


# Rows and sentences


def _pairs(lines: Iterable[bytes], side: str, findings: Findings) -> Iterator[Pair]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{side}line {number:,}"
        pair = pair_of(line, where)
        if pair is None:
            findings.add(4, "lines without a prompt and a completion", where, 'neither {"prompt", "completion"} nor {"messages": [...]}')
        else:
            yield pair


def pair_of(line: bytes, where: str = "") -> Pair | None:
    """A line's prompt and completion; of a chat, its last message is the completion.

    >>> pair_of(b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "1"}]}')
    Pair(where='', prompt='hi', completion='1')
    """
    try:
        body = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(body, dict):
        return None
    prompt, completion = body.get("prompt"), body.get("completion", body.get("answer"))
    messages = body.get("messages")
    if prompt is None and isinstance(messages, list):
        texts = [each.get("content") if isinstance(each, dict) else None for each in messages]
        told = [text for text in texts if isinstance(text, str)]
        if len(told) != len(texts) or len(told) < 2:
            return None
        prompt, completion = "\n\n".join(told[:-1]), told[-1]
    if not isinstance(prompt, str):
        return None
    return Pair(where, prompt, completion if isinstance(completion, str) else orjson.dumps(completion).decode())


def _sampled(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """The same rows in every audit, in their order."""
    chosen = sorted(range(len(pairs)), key=lambda number: (crc32(pairs[number].prompt.encode()), number))[:count]
    return [pairs[number] for number in sorted(chosen)]


def key_of(text: str) -> str:
    """A text's words: equal for texts that differ in case, white space, punctuation.

    >>> key_of("Good  morning,\\n*everyone*!")
    'good morning everyone'
    """
    return " ".join(_WORDS.findall(text.casefold()))


class Index:
    """All that was said, by its words."""

    def __init__(self, history: ChannelHistories) -> None:
        self.messages: list[PostedMessage] = []
        """In order of their time, so that of two the later one has the greater number."""
        self.by_key: defaultdict[str, list[int]] = defaultdict(list)
        self.known_from: dict[tuple[str, int], int] = {}
        """When a text became a message's, by (text, message)."""
        every = [(said, name) for name, heard in history.channels.items() for said in heard.said().values()]
        for said, channel in sorted(every, key=lambda each: (each[0].ts, each[1])):
            number = len(self.messages)
            first, shown = FOREVER, False
            for known_from, text in said.versions:
                if text is None:
                    continue
                first = min(first, known_from)
                for key in _keys(text):
                    shown = True
                    if (key, number) not in self.known_from:
                        self.known_from[key, number] = known_from
                        self.by_key[key].append(number)
            self.messages.append(PostedMessage(channel, said.ts, said.user, said.thread_ts, said.bot, first, shown))
        self.sorted_keys = sorted(self.by_key)
        self._found: dict[str, tuple[str, Unit]] = {}

    def units_of(self, prompt: str) -> list[tuple[str, str, Unit]]:
        """A prompt's sentences: (as they stand, their words in the index, the messages they may be, none for what nobody said)."""
        units: list[tuple[str, str, Unit]] = []
        for paragraph in _PARAGRAPHS.split(prompt):
            key, found = self._find(paragraph)
            if not found and "\n" in paragraph.strip():
                lines = [(line, *self._find(line)) for line in paragraph.splitlines()]
                units += [line for line in lines if line[1]]
            elif key:
                units.append((paragraph.strip(), key, found))
        return units

    def _find(self, text: str) -> tuple[str, Unit]:
        """Whole, without who said it, or cut."""
        if text not in self._found:
            self._found[text] = self._found_now(text)
        return self._found[text]

    def _found_now(self, text: str) -> tuple[str, Unit]:
        whole = key_of(text)
        speaker = _SPEAKER.match(text.lstrip())
        for key in (whole, key_of(text.lstrip()[speaker.end() :]) if speaker else ""):
            if key in self.by_key:
                return key, self.by_key[key]
        if len(whole) >= CUT:
            place = bisect_left(self.sorted_keys, whole)
            if place < len(self.sorted_keys) and self.sorted_keys[place].startswith(whole):
                return self.sorted_keys[place], self.by_key[self.sorted_keys[place]]
        return whole, []


def _keys(text: str) -> set[str]:
    """A message's words, as it came, cleaned by us, and cleaned crudely; and those of each of its paragraphs and lines."""
    forms = {text, clean(text), _CRUDE.sub("", text)}
    for form in (text, _CRUDE.sub("", text)):
        if "\n" in form:
            forms.update(_PARAGRAPHS.split(form))
            forms.update(form.splitlines())
    return {key for form in forms if (key := key_of(form))}


def _template(units: Sequence[Sequence[tuple[str, str, Unit]]]) -> set[str]:
    """Sentences of the tool itself, as an instruction: said by nobody, and in most prompts."""
    counted = Counter(key for row in units for key in {key for _, key, found in row if not found})
    return {key for key, count in counted.items() if len(units) > 3 and count * 2 > len(units)}


KnownUnits = list[tuple[str, str, Unit]]


def _matched(
    pairs: Sequence[Pair], units: Sequence[Sequence[tuple[str, str, Unit]]], template: set[str]
) -> tuple[list[KnownUnits], list[list[str]]]:
    """Of each row the sentences that somebody said, and those that nobody did."""
    found: list[KnownUnits] = []
    unknown: list[list[str]] = []
    for row in units:
        found.append([unit for unit in row if unit[2]])
        unknown.append([text for text, key, messages in row if not messages and key not in template])
    return found, unknown


def _longest(found: Sequence[KnownUnits]) -> int:
    """The window: the greatest number of sentences that isn't a rarity."""
    counted = Counter(len({key for _, key, _ in row}) for row in found)
    often = [size for size, count in counted.items() if count * 100 >= len(found)]
    return max(often, default=1) or 1


# Where rows stand


Places = dict[int, list[tuple[int, int]]]
"""By message, the conversations it stands in, and where."""


def _conversations(said: Index, gap: int) -> dict[str, list[list[int]]]:
    """The history's conversations, in the ways that tools form them."""
    messages = said.messages
    people = [number for number, message in enumerate(messages) if not message.bot]
    named = {(message.channel, message.thread_ts) for message in messages if message.thread_ts is not None}
    channels: defaultdict[str, list[int]] = defaultdict(list)
    threads: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    ours: list[list[int]] = []
    apart: list[list[int]] = []
    last: dict[tuple[str, bool], tuple[int, list[int]]] = {}

    def joins(number: int, is_ours: bool) -> None:
        """A root joins its channel's session, or begins one."""
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
        joins(number, True)
        if (message.channel, message.ts) in named:
            threads[message.channel, message.ts].append(number)
        else:
            joins(number, False)
    return {
        "sessions and threads": [*ours, *threads.values()],
        "sessions without threads' roots, and threads": [*apart, *threads.values()],
        "channels": list(channels.values()),
    }


def _placed(
    pairs: Sequence[Pair], found: Sequence[KnownUnits], said: Index, window: int, rules: Rules
) -> tuple[list[Place | None], list[list[Place]], str, bool]:
    """Where each row stands and could stand, in the way of forming conversations that leaves the fewest prompts with something left out."""
    best: tuple[int, int] = (-1, -1)
    options: list[list[Place]] = []
    chosen = ""
    for name, conversations in _conversations(said, rules.session_gap or 10 * MINUTE).items():
        where = _where(conversations)
        tried = [_options(row, conversations, where, window, said) for row in found]
        fit = (sum(any(place.left_out == 0 for place in each) for each in tried), sum(map(bool, tried)))
        if fit > best:
            best, options, chosen = fit, tried, name
    in_order = _is_in_order(options, said)
    first = _choose(pairs, options, said, in_order, {})
    named = _names(
        (pair.completion, said.messages[place.answer].user) for pair, place in zip(pairs, first, strict=True) if place is not None
    )
    told = [(pair.completion, said.messages[place.answer].user) for pair, place in zip(pairs, first, strict=True) if place is not None]
    if _agreement(told) < TRUSTED:
        return first, options, chosen, in_order
    return _choose(pairs, options, said, in_order, named), options, chosen, in_order


def _where(conversations: Sequence[Sequence[int]]) -> Places:
    places: Places = defaultdict(list)
    for number, conversation in enumerate(conversations):
        for place, message in enumerate(conversation):
            places[message].append((number, place))
    return places


def _options(row: KnownUnits, conversations: Sequence[Sequence[int]], where: Places, window: int, said: Index) -> list[Place]:
    """Every place at which a conversation's last messages hold all sentences of a prompt, and another message follows."""
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
                held = conversation[max(0, answer - window) : answer]
                shown = {message}
                for unit in sets:
                    at = next((each for each in reversed(held) if each in unit and each not in shown), None)
                    if at is None:
                        break
                    shown.add(at)
                else:
                    texts = tuple(each for each in held if said.messages[each].shown)
                    options[conversation[answer], frozenset(shown)] = Place(conversation[answer], texts, frozenset(shown))
    return list(options.values())


def _is_in_order(options: Sequence[Sequence[Place]], said: Index) -> bool:
    """Whether rows stand in order of time, as far as they can stand in one place only."""
    answers = [min(place.answer for place in each) for each in options if each and len({place.window[-1] for place in each}) == 1]
    rising = sum(one <= after for one, after in pairwise(answers))
    return len(answers) > 1 and rising >= 0.8 * (len(answers) - 1)


def _choose(
    pairs: Sequence[Pair], options: Sequence[Sequence[Place]], said: Index, in_order: bool, named: Mapping[str, str]
) -> list[Place | None]:
    """One place a row: whose answerer goes with its completion, with the least left out, not taken, and next in time.

    Whose the left out messages are plays no part, lest the test below find what was put there by choosing.
    """
    chosen: list[Place | None] = []
    taken: set[int] = set()
    last = 0
    for pair, places in zip(pairs, options, strict=True):

        def rank(place: Place, pair: Pair = pair, last: int = last) -> tuple[Any, ...]:
            answerer = said.messages[place.answer].user
            strange = pair.completion in named and named[pair.completion] != answerer
            back = in_order and place.answer < last
            return strange, place.left_out, place.answer in taken, back, abs(place.answer - last) if in_order else place.answer

        place = min(places, key=rank, default=None)
        chosen.append(place)
        if place is not None:
            taken.add(place.answer)
            last = place.answer
    return chosen


def _names(told: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Whom each completion most often goes with."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for completion, user in told:
        counts[completion][user] += 1
    return {completion: min(users, key=lambda user: (-users[user], user)) for completion, users in counts.items()}


def _agreement(told: Sequence[tuple[str, str]]) -> float:
    """How often a completion goes with the same person as in most *other* rows that have it.

    >>> _agreement([("1", "ana"), ("1", "ana"), ("2", "bo"), ("2", "ana"), ("3", "cy")])
    0.5
    """
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for completion, user in told:
        counts[completion][user] += 1
    judged = right = 0
    for users in counts.values():
        if users.total() < 2:
            continue
        for user, count in users.items():
            judged += count
            most = max((others for other, others in users.items() if other != user), default=0)
            right += count if count - 1 > most else 0
    return _share(right, judged)


# The laws


def _past_only(
    pairs: Sequence[Pair],
    found: Sequence[KnownUnits],
    unknown: Sequence[Sequence[str]],
    options: Sequence[Sequence[Place]],
    said: Index,
    window: int,
    findings: Findings,
) -> None:
    """Law 1: sentences that nobody had said when the answer came."""
    for pair, row, strange, could in zip(pairs, found, unknown, options, strict=True):
        if strange:
            findings.add(1, "prompts with sentences that nobody said", pair.where, f"nobody said {_quoted(strange[0])}")
            continue
        edited = [_edited_later(row, place, said) for place in could]
        if edited and all(edited):
            findings.add(1, "prompts with text from after the answer", pair.where, edited[0])
    _later(pairs, found, options, said, window, findings)


def _edited_later(row: KnownUnits, place: Place, said: Index) -> str:
    """In words, the text of a row that was another one when the answer came; nothing if there is none."""
    answered = said.messages[place.answer].ts
    for text, key, unit in row:
        since = min((said.known_from[key, number] for number in unit if number in place.shown), default=0)
        if since > answered:
            return f"{_quoted(text)} is as edited at {ts_text(since)}, after the answer at {ts_text(answered)}"
    return ""


def _later(
    pairs: Sequence[Pair], found: Sequence[KnownUnits], options: Sequence[Sequence[Place]], said: Index, window: int, findings: Findings
) -> None:
    """Rows that stand nowhere, but would without one sentence, which was said only later."""
    lost = [number for number, could in enumerate(options) if not could and len(found[number]) > 1]
    conversations = _conversations(said, 10 * MINUTE)["sessions and threads"] if lost else []
    where = _where(conversations)
    for number in lost:
        row = found[number]
        for each, (text, _, unit) in enumerate(row):
            rest = [*row[:each], *row[each + 1 :]]
            without = _options(rest, conversations, where, window, said)
            earliest = min(unit)
            if without and all(earliest > place.answer for place in without):
                answer = min(place.answer for place in without)
                why = f"{_quoted(text)} was first said at {ts_text(said.messages[earliest].ts)}, "
                why += f"the answer came at {ts_text(said.messages[answer].ts)}"
                findings.add(1, "prompts with text from after the answer", pairs[number].where, why)
                break


def leak_test(placed: Sequence[tuple[Pair, Place]], messages: Sequence[PostedMessage]) -> LeakTest:
    """Compares how often messages by the person who answers next are left out, with other people's at the same place in the window.

    Under the law, whether a message is shown may depend on its place (what doesn't fit is dropped from the oldest) and on the window's
    size, but not on who answers. Given both, the number of left out messages of the answerer is a sum of hypergeometric variables.
    Rows whose oldest messages just didn't fit into the longest prompt of the file tell nothing, and are passed over.
    """
    longest = max((len(pair.prompt) for pair, _ in placed), default=0)
    cells: defaultdict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    present = dropped = tested = 0
    for pair, place in placed:
        if place.left_out and len(pair.prompt) > 0.9 * longest and _are_oldest_left_out(place):
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


def _are_oldest_left_out(place: Place) -> bool:
    return not any(number in place.shown for number in place.window[: place.left_out])


def stratified_tail(tables: Sequence[tuple[int, int, int, int]]) -> tuple[float, bool]:
    """How likely at least as many are both, by chance, over 2 x 2 tables (all, of one kind, of the other, both); whether it is exact.

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
    chances = [1.0]
    least = 0
    for size, one, other, _ in tables:
        low, high = max(0, one + other - size), min(one, other)
        of_table = [_hypergeometric(size, one, other, both) for both in range(low, high + 1)]
        summed = [0.0] * (len(chances) + len(of_table) - 1)
        for place, chance in enumerate(chances):
            if chance > 0.0:
                for more, other_chance in enumerate(of_table, start=place):
                    summed[more] += chance * other_chance
        chances, least = summed, least + low
    return min(1.0, sum(chances[max(0, seen - least) :])), True


def _hypergeometric(size: int, one: int, other: int, both: int) -> float:
    if size <= 60:
        return comb(one, both) * comb(size - one, other - both) / comb(size, other)
    return exp(_log_comb(one, both) + _log_comb(size - one, other - both) - _log_comb(size, other))


def _log_comb(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def told_p(test: LeakTest) -> str:
    """The p-value in words."""
    told = "p < 1e-300" if test.p_value < 1e-300 else f"p = {test.p_value:.2g}"
    return told if test.exact else f"{told}, normal approximation"


def _tell_leak(test: LeakTest, placed: Sequence[tuple[Pair, Place]], said: Index, findings: Findings) -> None:
    """Names the leak, and the rows that show it."""
    what = (
        f"prompts leave out the answerer's own messages: in {test.dropped:,} of {test.present:,} rows whose window holds messages by the "
        f"person who answers next, the prompt shows none of them ({_share(test.own_left_out, test.own):.1%} of such messages are left out, "
        f"but {_share(test.others_left_out, test.others):.1%} of other people's; {told_p(test)}). Who is missing tells who answers: "
        "make prompts of all that was known, whoever answers"
    )
    for pair, place in placed:
        answerer = said.messages[place.answer].user
        own = [number for number in place.window if said.messages[number].user == answerer]
        if own and not any(number in place.shown for number in own):
            first = said.messages[own[0]]
            why = f"{answerer} answers at {ts_text(said.messages[place.answer].ts)}, and what they said at {ts_text(first.ts)} is left out"
            findings.add(2, what, pair.where, why)


def _absent(placed: Sequence[tuple[Pair, Place]], said: Index, *, shown: bool) -> int:
    """Rows in which the answerer is not among the authors: of the prompt, or of the whole window."""
    return sum(
        said.messages[place.answer].user not in {said.messages[each].user for each in (place.shown if shown else place.window)}
        for _, place in placed
    )


def _overlaps(
    sides: Sequence[Sequence[Pair]], placed: Sequence[tuple[Pair, Place]], findings: Findings, said: Index, split: bool
) -> list[str]:
    """Law 7 where there are two sides; where there is one, how much a random split would leak."""
    notes = []
    every = [pair for side in sides for pair in side]
    same = len(every) - len({(pair.prompt, pair.completion) for pair in every})
    prompts = len(every) - len({pair.prompt for pair in every})
    if prompts:
        notes.append(f"{prompts:,} rows have a prompt that stands before them, {same:,} of these with the same completion")
    if split:
        _both_sides(sides[0], sides[1], placed, findings, said)
        return notes
    rows = [place for _, place in placed]
    held = [place for number, place in enumerate(rows) if crc32(b"%d" % number) % 5 == 0]
    rest = {message for number, place in enumerate(rows) if crc32(b"%d" % number) % 5 for message in place.shown}
    if held:
        shared = sum(not rest.isdisjoint(place.shown) for place in held)
        notes.append(
            f"windows overlap: were the file split at random (80/20), {shared / len(held):.0%} of the validation rows would show a message "
            "that stands in training, too; split it by time"
        )
    return notes


def _both_sides(
    train: Sequence[Pair], valid: Sequence[Pair], placed: Sequence[tuple[Pair, Place]], findings: Findings, said: Index
) -> None:
    place_of = {pair.where: place for pair, place in placed}
    in_train = {pair.prompt: pair.where for pair in reversed(train)}
    shown = {message: pair.where for pair in train if pair.where in place_of for message in place_of[pair.where].shown}
    latest = max((place_of[pair.where].answer for pair in train if pair.where in place_of), default=-1)
    for pair in valid:
        place = place_of.get(pair.where)
        if pair.prompt in in_train:
            findings.add(7, "prompts on both sides", pair.where, f"the same prompt as {in_train[pair.prompt]}")
        if place is None:
            continue
        both = sorted(place.shown & shown.keys())
        if both:
            message = said.messages[both[0]]
            why = f"what {message.user} said at {ts_text(message.ts)} is also in {shown[both[0]]}"
            findings.add(7, "messages on both sides", pair.where, why)
        if max(place.shown) < latest:
            why = f"its prompt is of {ts_text(said.messages[max(place.shown)].ts)}, training goes on to {ts_text(said.messages[latest].ts)}"
            findings.add(7, "validation prompts from before the last training answer", pair.where, why)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _quoted(text: str) -> str:
    return f"“{text[:50]}{'…' if len(text) > 50 else ''}”"
