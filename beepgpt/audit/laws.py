"""Audits our examples: checks them against the laws of the README, by the events and the examples alone."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

from beepgpt.audit.differences import Precision
from beepgpt.audit.example_rows import ExampleRow, body_of, digest_of, each_once, read_rows, rules_of, sampled
from beepgpt.audit.findings import Audit, Findings, Judged
from beepgpt.audit.history import AuditedRecord, read_histories, up_to
from beepgpt.audit.own_sets import SetSide
from beepgpt.audit.recomputing import Recomputation
from beepgpt.conversations.account import Account
from beepgpt.conversations.channel import FOREVER
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.tokens import Encoding

_KEPT_1: Mapping[Precision | Literal[False], str] = {
    "exact": "each prompt, window and feature is what the events up to its prompt_ts give, byte for byte",
    "single": "each prompt, window and feature is what the events up to its prompt_ts give, features in the table's single precision",
    "none": "each prompt and window is what the events up to its prompt_ts give; features stand in no file of this set: not looked at",
    False: "each prompt and window is what the events up to its prompt_ts give, byte for byte; the examples have no features",
}
SPOT_CHECKS = 12
"""Of the examples that are made again in one pass, so many are made again from their prefix alone, too."""


def audit_examples(
    records: Iterable[AuditedRecord],
    lines: Iterable[bytes],
    rules: Rules,
    encoding: Encoding,
    *,
    valid: Iterable[bytes] | None = None,
    retractions: Iterable[bytes] | None = None,
    sample: int | None = None,
    subset: bool = False,
    until: int | None = None,
    cut: int | None = None,
    apart: Mapping[str, str] | None = None,
    now: int = FOREVER,
) -> Audit:
    """Check our examples against the events that they should be made of.

    Examples are made again in one pass through time, and a few of them from nothing but the events of their prefix. `lines` are read twice.

    `valid`: the validation side, where `lines` are the training side of a split. `sample`: only so many examples, in the channels that
    they are of. `subset`: the file was chosen from more (a time range, labeling), so none is missing. `until`: as it was given to the
    run that made them. `cut`: the time at which a training set was split, if it is known. `apart`: of a topic, by id, why its tombstone
    can't take back an example. Of a training set `lines` and `valid` are its sides (`SetSide`): all that a model learns from in them is
    compared, too.
    """
    if sample is not None and sample < 1:
        raise ValueError("a sample has at least one example")
    rules = rules_of(lines, rules)
    findings = Findings()
    history = read_histories(records, rules, now=now, until=until)
    sides = [list(read_rows(lines, _place(lines, "line" if valid is None else "train line"), rules, findings))]
    if valid is not None:
        sides.append(list(read_rows(valid, _place(valid, "valid line"), rules, findings)))
    rows = each_once([row for side in sides for row in side], findings)
    whole = sample is None and not subset and valid is None

    recompute = Recomputation(history, rules, encoding, until, precision=_precision(lines))
    retracted: set[str] | None = None
    if retractions is not None:
        retracted = {body["id"] for line in retractions if (body := body_of(line)) is not None and "id" in body}
    looks_cut: dict[int, str] = {}
    if sample is None:
        recompute.in_one_pass(rows, retracted, whole=whole)
        wrong_laws = {law for law in (3, 4) if recompute.findings.of(law)}
        if wrong_laws and whole and until is None and (shorter := _cut_short(rows, retracted, recompute)) is not None:
            recompute = shorter
            last = ts_text(max(row.settled_ts for row in rows))
            why = "it looks as if these were made with --until, or by a run that was stopped before the events here end"
            looks_cut = dict.fromkeys(wrong_laws, f"{why}; give audit --until (the latest settled_ts is {last})")
        for wrong in history.account.check():
            findings.add(6, "sums that don't add up", "the account", wrong)
    else:
        rows = sampled(rows, sample)  # the same steps on fewer examples: a sample is never slower than the whole
        recompute.in_one_pass(rows, None, whole=False, only_theirs=True)
    recompute.from_prefixes(sampled(rows, SPOT_CHECKS))
    findings.add_all(recompute.findings)
    notes = list(recompute.notes())
    if sample is None:
        notes += _check_retractions(rows, recompute, retracted, findings)
    for identity, why in (apart or {}).items():
        findings.add(4, "retractions that compaction will never bring together with their examples", identity, why)
    for side in (lines, valid):
        if isinstance(side, SetSide):
            side.add_to(findings)
    if valid is not None:
        check_split(sides[0], sides[1], rules, cut, findings)

    checked = {
        "events": history.account["read"],
        "channels": len(history.channels),
        "examples": sum(map(len, sides)),
        "recomputed": recompute.passed,
        "from_scratch": recompute.from_scratch,
        "answered_by_a_stranger": recompute.answered_by_another,
    }
    verdicts = _verdicts(
        findings, checked, history.account,
        whole=whole, sample=sample, split=valid is not None, ended=not recompute.was_stopped, looks_cut=looks_cut,
        features=rules.candidates and _precision(lines),
    )  # fmt: skip
    return Audit("beepgpt", checked, verdicts, findings.all(), tuple(notes))


def _place(lines: Iterable[bytes], otherwise: str) -> str:
    return lines.place if isinstance(lines, SetSide) else otherwise


def _precision(lines: Iterable[bytes]) -> Precision:
    """In which candidates' features are compared: as they stand in what is audited."""
    if not isinstance(lines, SetSide) or lines.examples is not None:
        return "exact"
    return "none" if lines.table is None else "single"


def _cut_short(rows: Sequence[ExampleRow], retracted: Collection[str] | None, recompute: Recomputation) -> Recomputation | None:
    """The recomputation without what happened after the latest settled_ts, if that gives exactly these examples and retractions."""
    last = max((row.settled_ts for row in rows), default=FOREVER)
    if last > max((channel.clock for channel in recompute.history.channels.values()), default=0):
        return None
    shorter = Recomputation(up_to(last, recompute.history), recompute.rules, recompute.encoding, last)
    shorter.in_one_pass(rows, retracted, whole=True)
    unlike = Findings()
    unlike.add_all(shorter.findings)
    _check_retractions(rows, shorter, retracted, unlike)
    return None if unlike.all() or shorter.was_stopped else shorter


def _verdicts(
    findings: Findings,
    checked: Mapping[str, int],
    account: Account,
    *,
    whole: bool,
    sample: int | None,
    split: bool,
    ended: bool,
    looks_cut: Mapping[int, str],
    features: Precision | Literal[False],
) -> tuple[Judged, ...]:
    """A verdict on every law; `looks_cut`: by law, why it can't be checked without `until`; `features`: False if the rules give none."""
    recomputed, asked = checked["recomputed"], checked["answered_by_a_stranger"]
    nothing = "" if recomputed else "no example could be recomputed"
    how = f"{recomputed:,} examples made again"
    all_given = "all that the rules give" if ended else "all that the rules give before the input ends"
    if sample is None and not account.check():
        kept_6 = f"{account['read']:,} events read = applied + duplicate + ignored + rejected + late; {account['points']:,} points likewise"
        kept_6 += "" if ended else " (to the end of the input, which the run that made these had not come to)"
    else:
        kept_6 = ""
    return (
        findings.judged(1, f"{how}: {_KEPT_1[features]}", nothing),
        findings.judged(
            2,
            f"{how} before their answers are read; in a trial of {asked:,}, nothing in them changes if somebody else answers",
            nothing,
        ),
        findings.judged(3, f"{how}: each answer and silence is what the events up to its settled_ts give", nothing or looks_cut.get(3, "")),
        findings.judged(
            4,
            "every id is the right one and stands once" + (f"; the file holds {all_given} and nothing else" if whole else ""),
            looks_cut.get(4, "") if checked["examples"] else "the file holds no example",
        ),
        findings.judged(5, "", "examples alone don't show what was scored: tests/laws/test_train_as_you_serve.py does"),
        findings.judged(6, kept_6, "" if kept_6 else "a sample doesn't read what the rest became: leave out --sample"),
        findings.judged(
            7,
            "every training example is settled before every validation prompt, and no message or conversation is on both sides",
            "" if split else "one file is no split: give a training and a validation file",
        ),
    )


def _check_retractions(
    rows: Sequence[ExampleRow], recompute: Recomputation, retracted: Collection[str] | None, findings: Findings
) -> list[str]:
    """Compare the given retractions with those that the deletions ask for (law 4). Returns notes."""
    gone = [row for row in rows if row.identity in recompute.retracted]
    if retracted is None:
        if not gone:
            return []
        said = "hold messages that were deleted later: their readers need the retractions, which were not given"
        return [f"{len(gone):,} examples {said}"]
    for row in gone:
        if row.identity not in retracted and not (recompute.was_stopped and row.identity in recompute.retracted_at_end):
            why = "a message of its window was deleted, and no retraction says so"
            findings.add(4, "examples that should be retracted", row.where, why)
    for row in rows:
        if row.identity in retracted and row.identity not in recompute.retracted:
            why = "no message of its window was deleted while it was remembered"
            findings.add(4, "retractions of what was not deleted", row.where, why)
    return []


def check_split(train: Sequence[ExampleRow], valid: Sequence[ExampleRow], rules: Rules, cut: int | None, findings: Findings) -> None:
    """Law 7: find examples on the wrong side of the cut, and messages, conversations and prompts on both sides.

    `cut`: None if it isn't known.
    """
    if not train or not valid:
        return
    if cut is None:
        cut = _best_cut(sorted(row.settled_ts for row in train), sorted(row.prompt_ts for row in valid))
    messages: dict[tuple[str, str], str] = {}
    conversations: dict[str, str] = {}
    prompts: dict[bytes, str] = {}
    for row in valid:
        conversations.setdefault(row.conversation, row.where)
        body = row.body
        prompts.setdefault(digest_of(body["prompt"].encode()), row.where)
        for each in body["window"]:
            messages.setdefault((body["channel"], each["ts"]), row.where)
        if row.prompt_ts < cut:
            why = f"prompt_ts {ts_text(row.prompt_ts)} is not after the cut at {ts_text(cut)}"
            findings.add(7, "validation prompts from before the cut", row.where, why)
    for row in train:
        if row.settled_ts >= cut:
            why = f"settled at {ts_text(row.settled_ts)}, the cut is at {ts_text(cut)}"
            findings.add(7, "training examples settled after the cut", row.where, why)
        body = row.body
        shared = next(((body["channel"], each["ts"]) for each in body["window"] if (body["channel"], each["ts"]) in messages), None)
        if shared is not None:
            findings.add(7, "messages in windows on both sides", row.where, f"{shared[1]} stands in the window of {messages[shared]}, too")
        if rules.scope == "conversation" and row.conversation in conversations:
            other = conversations[row.conversation]
            findings.add(7, "conversations on both sides", row.where, f"{row.conversation} is that of {other}, too")
        if (twin := prompts.get(digest_of(body["prompt"].encode()))) is not None:
            findings.add(7, "prompts on both sides", row.where, f"its prompt is that of {twin}, word for word")


def _best_cut(settled: Sequence[int], prompts: Sequence[int]) -> int:
    """The first validation prompt; if the sides overlap, the time with the fewest examples on the wrong side.

    >>> _best_cut([1, 2, 3, 9], [2, 5, 6])
    5
    """
    return min(prompts, key=lambda cut: (len(settled) - bisect_left(settled, cut) + bisect_left(prompts, cut), cut))
