"""Edits and deletions that come when their session is over (docs/semantics.md, "Late changes")."""

from __future__ import annotations

import json
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from beepgpt.conversations.events import micros
from beepgpt.conversations.points import MessageDeleted
from tests.support import ours, run_of
from tests.support.histories import START, Record, any_arrivals, cases, delete, edit, heartbeat, lines_of, post
from tests.support.oracle_records import DAY, MINUTE, SECOND, Rules, stamp

CASE = [
    {"type": "message", "channel": "C1", "user": "U0ANA", "ts": "1716200000.000100", "text": "Wo is on call?"},
    {"type": "message", "channel": "C1", "user": "U0BO", "ts": "1716207200.000100", "text": "New topic: cake at three"},
    {
        "type": "message",
        "subtype": "message_changed",
        "channel": "C1",
        "event_ts": "1716207260.000100",
        "message": {"ts": "1716200000.000100", "user": "U0ANA", "text": "Who is on call?"},
        "previous_message": {"ts": "1716200000.000100", "text": "Wo is on call?"},
    },
    {"type": "message", "channel": "C1", "user": "U0EVE", "ts": "1716207300.000100", "text": "I am"},
    {"type": "heartbeat", "at": "1716500000.000100"},
]


def made(records: list[Record]) -> tuple[list[tuple[str, str, list[str], str]], dict[str, Any]]:
    """Examples (conversation, prompt_ts, answer, prompt) and the account's points."""
    run = run_of(lines_of(records), ours(Rules()))
    found = [json.loads(line) for line in run.examples]
    return [(each["conversation"], each["prompt_ts"], each["answer"], each["prompt"]) for each in found], run.account.as_json()["points"]


def test_edit_after_session_ended():
    """The typo's first point stays, with what was known at its time, and is silent by its own horizon; the edit makes none."""
    run = run_of(map(orjson.dumps, CASE), ours(Rules()))
    found = [json.loads(line) for line in run.examples]
    sessions = [each for each in found if each["conversation"] == "C1:1716200000.000100:session"]

    (only,) = sessions
    assert (only["prompt_ts"], only["settled_ts"], only["answer"]) == ("1716200000.000100", "1716286400.000100", [])
    assert only["prompt"].startswith("Wo is on call?")
    assert [each["answer"] for each in found if each["prompt_ts"] == "1716207200.000100"] == [["U0EVE"]]
    assert not [each for each in found if each["prompt_ts"] == "1716207260.000100"]


def test_an_edit_while_the_session_goes_on_makes_a_point():
    """Up to the last moment at which a post could join it; a microsecond later it makes none."""
    begun = [post("C1", START, "ana", "wo?"), heartbeat(START + 3 * DAY)]
    in_time = edit("C1", START + 10 * MINUTE, START, "who?", previous="wo?")
    too_late = edit("C1", START + 10 * MINUTE + 1, START, "who?", previous="wo?")
    session = f"C1:{stamp(START)}:session"

    assert [each[1:] for each in made([begun[0], in_time, begun[1]])[0] if each[0] == session] == [
        (stamp(START + 10 * MINUTE), [], "who?\n\n###\n\n")
    ]
    assert [each[1:] for each in made([begun[0], too_late, begun[1]])[0] if each[0] == session] == [(stamp(START), [], "wo?\n\n###\n\n")]


def test_the_roots_thread_can_still_be_answered():
    """After a late edit Bo replies to it: that is an example of the thread, and the session's silence is called off."""
    t = START + 11 * MINUTE
    records = [post("C1", START, "ana", "wo?"), edit("C1", t, START, "who?", previous="wo?"), post("C1", t + SECOND, "bo", thread=START)]

    examples, points = made([*records, heartbeat(START + 3 * DAY)])

    assert examples[0] == (f"C1:{stamp(START)}:thread", stamp(t), ["bo"], "who?\n\n###\n\n")
    assert points["elsewhere"] == 1


def test_a_late_deletion_ends_the_open_point():
    """The deleted text is never written, and what is left makes no point."""
    records = [post("C1", START, "ana", "secret"), post("C1", START + SECOND, "ana", "and more"), delete("C1", START + 30 * MINUTE, START)]

    examples, points = made([*records, heartbeat(START + 3 * DAY)])

    assert (examples, points["made"], points["superseded"], points["merged"]) == ([], 4, 3, 1)


@settings(max_examples=3 * settings().max_examples)
@given(cases(), st.data())
def test_what_is_deleted_is_not_written_without_its_retraction(case: tuple[Rules, list[Record]], data: st.DataObject):
    """No example's window holds a message that was deleted before it settled, unless the example is retracted at that time."""
    rules, history = case
    run = run_of(lines_of(data.draw(any_arrivals(history, rules.lateness), label="arrivals")), ours(rules), points_since=0)
    deleted: dict[tuple[str, int], list[int]] = {}
    for each in run.points:
        if isinstance(each, MessageDeleted):
            deleted.setdefault((each.channel, each.ts), []).append(each.deleted_ts)
    retracted = {each["id"]: micros(each["retracted_ts"]) for each in map(json.loads, run.retractions)}

    for example in map(json.loads, run.examples):
        shown = [(example["channel"], micros(message["ts"])) for message in example["window"]]
        begins, ends = micros(example["prompt_ts"]), micros(example["settled_ts"])
        times = [t for message in shown for t in deleted.get(message, []) if begins <= t < ends]
        assert not times or retracted.get(example["id"]) == min(times)
