"""An audit counts each breach once, and nothing else: against a count that is made from the examples alone."""

from random import Random

import pytest

from beepgpt.audit.findings import Audit
from beepgpt.conversations.events import micros
from tests.support.audits import audited, body_of, made_up


def counts(audit: Audit, law: int) -> dict[str, int]:
    """How often each breach of a law was found."""
    return {finding.what: finding.count for finding in audit.findings if finding.law == law}


def test_one_retraction_that_nobody_gave_is_one_finding():
    """Named by the id of its example."""
    _, run = made_up()
    audit = audited(run.examples, retractions=run.retractions[1:])

    assert counts(audit, 4) == {"examples that should be retracted": 1}
    (finding,) = audit.findings
    assert body_of(run.retractions[0])["id"] in finding.examples[0].where


def test_one_retraction_of_what_was_not_deleted_is_one_finding():
    """Though other examples are rightly retracted."""
    _, run = made_up()
    retracted = {body_of(line)["id"] for line in run.retractions}
    wrong = next(line for line in run.examples if body_of(line)["id"] not in retracted)
    audit = audited(run.examples, retractions=[*run.retractions, wrong])

    assert counts(audit, 4) == {"retractions of what was not deleted": 1}


def test_all_retractions_and_no_other_are_no_finding():
    """As the run gave them."""
    _, run = made_up()

    assert counts(audited(run.examples, retractions=run.retractions), 4) == {}


@pytest.mark.parametrize(("side", "time"), [(1, "settled_ts"), (0, "prompt_ts")])
def test_a_random_split_has_as_many_leaks_as_there_are(side: int, time: str):
    """Messages, conversations, prompts and times, each counted. The cut is the time of a training row, or of a validation row."""
    lines = list(made_up()[1].examples)
    Random(1).shuffle(lines)
    valid, train = lines[:100], lines[100:]
    times = sorted(micros(body_of(line)[time]) for line in (valid, train)[side])
    cut = times[len(times) // 2]
    shown = {(body_of(line)["channel"], each["ts"]) for line in valid for each in body_of(line)["window"]}
    talks = {body_of(line)["conversation"] for line in valid}
    asked = {body_of(line)["prompt"] for line in valid}
    bodies = [body_of(line) for line in train]

    assert counts(audited(train, valid=valid, cut=cut), 7) == {
        "messages in windows on both sides": sum(any((body["channel"], each["ts"]) in shown for each in body["window"]) for body in bodies),
        "conversations on both sides": sum(body["conversation"] in talks for body in bodies),
        "prompts on both sides": sum(body["prompt"] in asked for body in bodies),
        "training examples settled after the cut": sum(micros(body["settled_ts"]) >= cut for body in bodies),
        "validation prompts from before the cut": sum(micros(body_of(line)["prompt_ts"]) < cut for line in valid),
    }
