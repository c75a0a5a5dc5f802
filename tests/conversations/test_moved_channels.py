"""A channel that gets another id: what was open under the old one stays unknown (docs/semantics.md, "Records" and "Points")."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import orjson
import pytest

from beepgpt.conversations.events import MOVE, Event, Ignored, Reject, parse
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.conversations.points import PointSettled
from beepgpt.conversations.shard import RunOutput, shard_of, shard_of_parsed
from tests.support import NOW, ours, run_of
from tests.support.histories import START, Record, heartbeat, lines_of, post, record_of
from tests.support.oracle_records import DAY, MINUTE, SECOND, Rules, stamp


def moved(old: str, new: str, t: int, **more: Any) -> Record:
    """A `channel_id_changed`."""
    ids = {"old_channel_id": old, "new_channel_id": new}
    return record_of({"type": "channel_id_changed", **ids, "event_ts": stamp(t), **more}, old, t)


def run(*records: Record, until: int | None = None, **more: Any) -> RunOutput:
    return run_of(lines_of(records), ours(replace(Rules(), **more)), until, points_since=0)


def ends(made: RunOutput) -> dict[str, int]:
    """What became of points, by row of the account."""
    assert made.account.as_json()["adds_up"]
    return {name: count for name, count in made.account.as_json()["points"].items() if count}


TALK = [
    post("G1", START, "ana", "shall we share this channel?"),
    post("G1", START + MINUTE, "bo", "yes"),
    moved("G1", "C1", START + 2 * MINUTE),
]


def test_open_points_are_moved_and_not_silent():
    """The talk goes on under the new id: nobody knows under the old one whether Bo was answered. The new one begins from nothing."""
    made = run(*TALK, post("C1", START + 3 * MINUTE, "cy", "and I"), heartbeat(START + 3 * DAY))
    examples = [json.loads(line) for line in made.examples]

    assert ends(made) == {"made": 6, "answered": 1, "moved": 3, "silent": 1, "merged": 1}
    assert [(each["channel"], each["answer"], each["speakers"]) for each in examples] == [("G1", ["bo"], 1), ("C1", [], 1)]
    assert made.account["applied"] == 4
    settled = [each for each in made.points if isinstance(each, PointSettled) and each.how == "moved"]
    assert {each.settled_ts for each in settled} == {START + 2 * MINUTE} and not any(each.answer for each in settled)


def test_what_was_known_before_the_move_stays():
    """A horizon that ends by then is silent, as at the end of the input; a microsecond more is moved."""
    asked = post("G1", START, "ana")
    for after, name in ((0, "silent"), (-1, "moved")):
        assert name in ends(run(asked, moved("G1", "C1", START + DAY + after), heartbeat(START + 3 * DAY)))


@pytest.mark.parametrize("target", ["interacting_users", "reactors"])
def test_the_set_targets_lose_what_is_open_too(target: str):
    """Whoever acted by then is not all who did."""
    assert ends(run(*TALK, heartbeat(START + 3 * DAY), target=target)) == {"made": 2, "moved": 2}


def test_with_an_unlimited_horizon_a_move_settles():
    """As the end of the input does: all that will ever be known under the old id is known."""
    made = run(*TALK, heartbeat(START + 3 * DAY), target="interacting_users", horizon=None)

    assert [(each["settled_ts"], each["answer"]) for each in map(json.loads, made.examples)] == [
        (stamp(START + 2 * MINUTE), ["bo"]),
        (stamp(START + 2 * MINUTE), []),
    ]


def test_a_prefix_ends_before_the_move():
    """Law 3: until a microsecond before it the points are censored, and the examples are the same."""
    whole = run(*TALK, heartbeat(START + 3 * DAY))
    before = run(*TALK, heartbeat(START + 3 * DAY), until=START + 2 * MINUTE - 1)

    assert before.examples == whole.examples
    assert (ends(before)["censored"], ends(whole)["moved"]) == (3, 3)


def test_the_order_of_arrival_changes_nothing():
    """A post from before the move that comes behind it is applied before it; a copy of the move is a duplicate."""
    asked, answer, move = TALK
    soon = post("G1", START + 2 * MINUTE - SECOND, "cy", "me too")
    straight, mixed = run(asked, answer, soon, move), run(asked, answer, move, soon, move)

    assert (mixed.examples, ends(mixed)) == (straight.examples, ends(straight))
    assert mixed.account["duplicate"] == 1


def test_it_is_an_event_of_the_old_channel():
    """Its key, shard and clock are the old id's, though it has no field `channel`."""
    record = orjson.dumps({"type": "event_callback", "event_id": "Ev1", "event": TALK[2].data})
    event = parse(record, NOW)

    assert isinstance(event, Event)
    assert (event.kind, event.channel, event.t, event.text) == (MOVE, "G1", START + 2 * MINUTE, "C1")
    assert shard_of_parsed(event) == shard_of("G1")
    assert parse(record, NOW, wanted=lambda channel: channel == b"G1") == event
    assert parse(record, NOW, wanted=lambda channel: channel == b"C1") is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"old_channel_id": None}, "no_channel"),
        ({"new_channel_id": ""}, "no_channel"),
        ({"new_channel_id": 7}, "bad_channel"),
        ({"event_ts": None}, "no_ts"),
        ({"event_ts": 7}, "bad_ts"),
        ({"event_ts": stamp(NOW + DAY + 1)}, "future"),
    ],
)
def test_what_can_not_be_used_is_rejected(change: dict[str, Any], reason: str):
    """A move without both ids or a time is a dead letter."""
    found = parse(orjson.dumps((TALK[2].data or {}) | change), NOW)

    assert isinstance(found, Reject)
    assert found.reason == reason


@pytest.mark.parametrize("channel", ["G1", "C1"])
def test_a_move_from_or_to_a_forgotten_channel_is_forgotten(channel: str):
    """Its record names that channel, so nothing of it stays."""
    forgotten = Forgotten(b"salt").with_names(channels=[channel])
    found = parse(TALK[2].line, NOW, forgotten=forgotten)

    assert isinstance(found, Ignored)
    assert (found.reason, found.record) == ("forgotten", b"")
