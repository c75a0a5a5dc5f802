"""Audits prompts and completions of other tools: whether they hold what was said, when, and whether they give away who answers.

Such files have no times, so each row is first looked for in the history. All choices on the way favor a row without a fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from zlib import crc32

from beepgpt.audit.findings import Audit, Findings, Judged, quoted
from beepgpt.audit.history import AuditedRecord, read_histories
from beepgpt.audit.pairs import Index, KnownUnits, Pair, match, read_pairs, sampled, template_of, window_of
from beepgpt.audit.placing import LeakTest, Place, agreement, conversations_of, leak_test, options_of, place_rows, positions_in, share_of
from beepgpt.conversations.channel import FOREVER
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import DAY, MINUTE, Rules

NEVER_LATE = 700 * DAY
"""Other tools read late events, too. No longer: the oldest times have nine digits, and duplicates are recognized by what came before."""


GUESSED = (
    "rows without times and ids were looked for in the history by their texts: what is suspected rests on where they may stand. A sentence"
    " that is short, repeated or edited later may stand elsewhere. Audit examples, which name their place, to be sure"
)


class _Row(NamedTuple):
    """A row of the file, and what the history has of it."""

    pair: Pair
    found: KnownUnits
    """Sentences of the prompt that somebody posted."""
    unknown: list[str]
    """Texts of the prompt that nobody posted."""
    options: list[Place]
    """All places where it may stand."""
    place: Place | None


def audit_pairs(
    records: Iterable[AuditedRecord],
    lines: Iterable[bytes],
    rules: Rules,
    *,
    valid: Iterable[bytes] | None = None,
    sample: int | None = None,
    now: int = FOREVER,
) -> Audit:
    """Check prompts and completions of another tool, a JSON object a line, against the events that they should be made of.

    Lines are `{"prompt", "completion"}` or `{"messages": [...]}`. `valid`: the validation side, if there is one. `sample`: so many rows.
    """
    findings = Findings()
    sides = [list(read_pairs(lines, "" if valid is None else "train ", findings))]
    if valid is not None:
        sides.append(list(read_pairs(valid, "valid ", findings)))
    if sample is not None:
        sides = [sampled(side, sample) for side in sides]
    pairs = [pair for side in sides for pair in side]
    history = read_histories(records, replace(rules, bots="context", lateness=NEVER_LATE), now=now)
    index = Index(history)
    notes: list[str] = []

    units = [index.units_of(pair.prompt) for pair in pairs]
    template = template_of(units)
    if template:
        notes.append(f"{len(template)} sentences stand in most prompts and were said by nobody: taken for the tool's own words")
    found, unknown = match(units, template)
    known = sum(map(len, found))
    readable = known > 0 and known * 2 >= known + sum(map(len, unknown))
    window = window_of(found)
    places, options, grouping, in_order = place_rows(pairs, found, index, window, rules)
    placed = [(pair, place) for pair, place in zip(pairs, places, strict=True) if place is not None]
    if readable:
        rows = [_Row(*each) for each in zip(pairs, found, unknown, options, places, strict=True)]
        _past_only(rows, index, window, findings)
    agree = agreement([(pair.completion, index.messages[place.answer].user) for pair, place in placed])
    newest = agreement([(pair.completion, index.messages[max(place.shown)].user) for pair, place in placed])
    test = leak_test(placed, index.messages)
    if test.is_leak:
        _add_leak(test, placed, index, findings)
    if newest > 0.9 and newest > agree + 0.2:
        for pair, place in placed:
            why = f"its completion goes with who said the newest message of its prompt ({index.messages[max(place.shown)].user})"
            findings.add(2, "prompts that hold the answer itself", pair.where, why)
    notes += _overlaps(sides, placed, findings, index, valid is not None)

    measured: dict[str, Any] = {
        "window": window,
        "grouping": grouping,
        "in_order_of_time": in_order,
        "completions_agree_with_who_posted_next": round(agree, 4),
        "completions_agree_with_newest_author": round(newest, 4),
        "leak_test": {name: getattr(test, name) for name in LeakTest.__slots__},
        "answerer_absent_from_prompts": round(share_of(_absent(placed, index, shown=True), len(placed)), 4),
        "answerer_absent_from_whole_windows": round(share_of(_absent(placed, index, shown=False), len(placed)), 4),
    }
    checked = {
        "events": history.account["read"],
        "messages": len(index.messages),
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
    if any(finding.is_guess for finding in findings.all()):
        notes.append(GUESSED)
    if len(placed) < len(pairs):
        notes.append(f"{len(pairs) - len(placed):,} rows could not be placed, so nothing is said of their answers")
    return Audit("others", checked, _verdicts(findings, checked, test, readable, valid is not None), findings.all(), tuple(notes), measured)


def _verdicts(findings: Findings, checked: Mapping[str, int], test: LeakTest, readable: bool, split: bool) -> tuple[Judged, ...]:
    """A verdict on every law; most of them can't be checked without times and ids."""
    share = share_of(checked["found"], checked["sentences"])
    unreadable = "" if readable else f"only {share:.0%} of the sentences were found in the events: is SOURCE the history of these prompts?"
    few = "" if checked["placed"] else "no row could be found in the history"
    never = f"of {test.own:,} messages by the person who answers next, {test.own_left_out:,} are left out of the prompts; of "
    never += f"{test.others:,} by others, {test.others_left_out:,} ({test.p_text})"
    return (
        findings.judged(1, f"{checked['found']:,} sentences, each said before the answer", unreadable),
        findings.judged(2, never, few),
        findings.judged(3, "", "the rows have no times"),
        findings.judged(4, "", "the rows have no ids, so another run's can't be compared with them"),
        findings.judged(5, "", "examples alone don't show what was scored"),
        findings.judged(6, "", "the file has no account of what became of each event"),
        findings.judged(
            7,
            "no prompt and no message is on both sides, and training comes first",
            few if split else "one file is no split: give a training and a validation file",
        ),
    )


def _past_only(rows: Sequence[_Row], index: Index, window: int, findings: Findings) -> None:
    """Law 1: find sentences that nobody had posted when the answer came."""
    for row in rows:
        if row.unknown:
            findings.add(
                1, "prompts with sentences that nobody said", row.pair.where, f"nobody said {quoted(row.unknown[0])}", is_guess=True
            )
            continue
        edited = [_edited_later(row.found, place, index) for place in row.options]
        if edited and all(edited):
            findings.add(1, "prompts with text from after the answer", row.pair.where, edited[0], is_guess=True)
    _said_later([row for row in rows if not row.options and len(row.found) > 1], index, window, findings)


def _edited_later(row: KnownUnits, place: Place, index: Index) -> str:
    """Why law 1 is broken, if a row shows a text that was edited only after the answer; empty if it shows none."""
    answered = index.messages[place.answer].ts
    for text, key, unit in row:
        since = min((index.known_from[key, number] for number in unit if number in place.shown), default=0)
        if since > answered:
            return f"{quoted(text)} is as edited at {ts_text(since)}, after the answer at {ts_text(answered)}"
    return ""


def _said_later(lost: Sequence[_Row], index: Index, window: int, findings: Findings) -> None:
    """Law 1: of rows that fit no place in the history, find those that would without one sentence, which was posted only later."""
    conversations = conversations_of(index, 10 * MINUTE)["sessions and threads"] if lost else []
    where = positions_in(conversations)
    for row in lost:
        for each, (text, _, unit) in enumerate(row.found):
            without = options_of([*row.found[:each], *row.found[each + 1 :]], conversations, where, window, index)
            earliest = min(unit)
            if without and all(earliest > place.answer for place in without):
                answer = min(place.answer for place in without)
                why = f"{quoted(text)} was first said at {ts_text(index.messages[earliest].ts)}, "
                why += f"the answer came at {ts_text(index.messages[answer].ts)}"
                findings.add(1, "prompts with text from after the answer", row.pair.where, why, is_guess=True)
                break


def _add_leak(test: LeakTest, placed: Sequence[tuple[Pair, Place]], index: Index, findings: Findings) -> None:
    """Add a finding for each row that leaves out the answerer."""
    what = (
        f"prompts leave out the answerer's own messages: in {test.dropped:,} of {test.present:,} rows whose window holds messages by the "
        f"person who answers next, the prompt shows none of them ({share_of(test.own_left_out, test.own):.1%} of such messages are left "
        f"out, but {share_of(test.others_left_out, test.others):.1%} of other people's; {test.p_text}). Who is missing shows "
        "who answers: make prompts of all that was known, no matter who answers"
    )
    for pair, place in placed:
        answerer = index.messages[place.answer].user
        own = [number for number in place.window if index.messages[number].user == answerer]
        if own and not any(number in place.shown for number in own):
            first = index.messages[own[0]]
            why = f"{answerer} answers at {ts_text(index.messages[place.answer].ts)}, and what they said at {ts_text(first.ts)} is left out"
            findings.add(2, what, pair.where, why)


def _absent(placed: Sequence[tuple[Pair, Place]], index: Index, *, shown: bool) -> int:
    """Count the rows whose answerer is not among the authors of the prompt, or of the whole window."""
    return sum(
        index.messages[place.answer].user not in {index.messages[each].user for each in (place.shown if shown else place.window)}
        for _, place in placed
    )


def _overlaps(
    sides: Sequence[Sequence[Pair]], placed: Sequence[tuple[Pair, Place]], findings: Findings, index: Index, split: bool
) -> list[str]:
    """Law 7, if there are two sides; if there is one, a note on how much a random split would leak. Returns notes."""
    notes = []
    every = [pair for side in sides for pair in side]
    same = len(every) - len({(pair.prompt, pair.completion) for pair in every})
    prompts = len(every) - len({pair.prompt for pair in every})
    if prompts:
        notes.append(f"{prompts:,} rows have a prompt that stands before them, {same:,} of these with the same completion")
    if split:
        _both_sides(sides[0], sides[1], placed, findings, index)
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
    train: Sequence[Pair], valid: Sequence[Pair], placed: Sequence[tuple[Pair, Place]], findings: Findings, index: Index
) -> None:
    """Law 7: find prompts and messages on both sides, and validation rows from before the last training answer."""
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
            message = index.messages[both[0]]
            why = f"what {message.user} said at {ts_text(message.ts)} is also in {shown[both[0]]}"
            findings.add(7, "messages on both sides", pair.where, why, is_guess=True)
        if max(place.shown) < latest:
            newest = index.messages[max(place.shown)]
            why = f"its prompt is of {ts_text(newest.ts)}, training goes on to {ts_text(index.messages[latest].ts)}"
            findings.add(7, "validation prompts from before the last training answer", pair.where, why, is_guess=True)
