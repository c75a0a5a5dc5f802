"""Live ingest, whatever breaks: what stands on the topic in the end is what Slack has, and nothing that nobody did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beepgpt.conversations.events import micros
from beepgpt.conversations.rules import SECOND
from beepgpt.ingest.slack.known_records import REMEMBERED
from beepgpt.simulation.slack.server import SlackServer, serving
from tests.support.slack_worlds import CHANNELS, World, world_of


@pytest.fixture(scope="module")
def server() -> Iterator[SlackServer]:
    with serving(page=3) as server:
        yield server


CHANNEL, WHICH = st.sampled_from(CHANNELS), st.integers(0, 7)
CHANGES = st.one_of(
    st.tuples(st.just("post"), CHANNEL, st.none() | WHICH),
    st.tuples(st.just("post"), CHANNEL, WHICH),
    st.tuples(st.sampled_from(["edit", "delete"]), CHANNEL, WHICH),
)
STEPS = st.one_of(
    CHANGES,
    st.tuples(st.just("pass"), st.sampled_from([0, 1, 12, 40, 70]), st.none()),
    st.tuples(st.just("outage"), st.lists(CHANGES, max_size=3), st.booleans()),
    st.tuples(st.sampled_from(["read", "handle"]), st.none(), st.none()),
    st.tuples(st.sampled_from(["read", "handle", "down", "up", "ask", "slow", "kill"]), st.none(), st.none()),
)


def step(world: World, what: str, of: Any, which: Any) -> None:
    match what:
        case "post":
            world.post(of, which)
        case "edit" | "delete":
            world.change(of, which, is_deleted=what == "delete")
        case "pass":
            world.pass_by(of)
        case "outage":
            world.start() if which else world.down()
            for each in of:
                step(world, *each)
            world.up()
            world.ask(6)
        case "ask":
            world.ask(4)
        case "kill":
            world.start()
        case _:
            getattr(world, {"read": "read_thread", "handle": "handle_threads"}.get(what, what))()


HELD_AND_KILLED = [
    *[("pass", 0, None), ("post", "C1", None), ("pass", 0, None), ("pass", 0, None), ("pass", 70, None), ("down", None, None)],
    *[("up", None, None), ("post", "C1", None), ("post", "C1", None), ("post", "C1", None), ("delete", "C1", 0), ("outage", [], True)],
]
"""A message is deleted that is older than what is looked through, and the process is killed while it holds the deletion back."""


@example(HELD_AND_KILLED)
@given(st.lists(STEPS, min_size=12, max_size=40))
def test_what_stands_on_the_topic_agrees_with_what_slack_has(server: SlackServer, steps: list[tuple[str, Any, Any]]):
    """Posts, edits, deletions, outages, kills, and threads that are read again at any time, while more is said, and hours later.

    Nothing is deleted that Slack still has, nothing is edited that wasn't, nothing is posted twice, and no edit or deletion is late. All
    posts are there that Slack still has. What was edited or deleted in outages agrees, as far as docs/slack.md promises it.
    """
    with world_of(server) as world:
        world.up()
        world.ask(4)
        for each in steps:
            step(world, *each)
        world.settle()
        check(world)


Key = tuple[str, str]
"""Channel and `ts` of a message."""


def check(world: World) -> None:
    posts, edits, texts, deleted = Counter[Key](), Counter[tuple[Key, int]](), dict[Key, str | None](), set[Key]()
    covered = 0
    for body in world.log.bodies():
        if body["type"] == "heartbeat":
            covered = micros(body["at"])
            continue
        event = body["event"]
        kind, channel = event.get("subtype"), event["channel"]
        if kind is not None:
            assert micros(event["event_ts"]) >= covered, f"late: {body}"
        if kind == "message_deleted":
            deleted.add((channel, event["deleted_ts"]))
        elif kind == "message_changed":
            key = (channel, event["message"]["ts"])
            edits[key, micros(body.get("edited_at", event["event_ts"])) // SECOND] += 1
            texts[key] = event["message"]["text"]
        else:
            posts[channel, event["ts"]] += 1
            texts[channel, event["ts"]] = event["text"]

    stand = {(channel, ts): each["text"] for channel, messages in world.slack.messages.items() for ts, each in messages.items()}
    changes = [
        (each["channel"], each["message"]["ts"], each["ts"]) for each in world.slack.events if each.get("subtype") == "message_changed"
    ]
    made = {((channel, message), micros(ts) // SECOND) for channel, message, ts in changes}
    assert [key for key in deleted if key in stand] == [], "it is deleted on the topic, and Slack still has it"
    assert [each for each in edits if each not in made] == [], "nobody edited it then"
    assert [each for each, count in (posts | edits).items() if count > 1] == [], "it stands there twice"
    assert [key for key in stand if not posts[key]] == [], "Slack has it, and the topic has not"

    promised = stand.keys() | posts.keys()
    for covered, event in world.lost:
        if event.get("subtype") == "message_deleted" and not covered - REMEMBERED <= micros(event["deleted_ts"]) < covered:
            promised -= {(event["channel"], event["deleted_ts"])}
        elif event.get("subtype") == "message_changed" and micros(event["message"]["ts"]) < covered - REMEMBERED:
            promised -= {(event["channel"], event["message"]["ts"])}
    for key in sorted(promised):
        assert (key in stand) == (key not in deleted), f"{key} {'is' if key in stand else 'was'} there"
        assert key not in stand or texts[key] == stand[key], f"{key} says something else"


def test_what_waits_for_the_brokers_is_counted_while_they_are_away(server: SlackServer, monkeypatch: pytest.MonkeyPatch):
    """Three events were taken and are not confirmed, two come meanwhile; when all is written, nothing waits."""
    with world_of(server) as world:
        world.up()
        world.ask(4)
        world.pass_by(0)
        counted: list[int] = []

        def away() -> None:
            for number in range(0 if counted else 2):
                world.slack.post("C1", "U2", f"meanwhile {number}")
            counted.append(world.loop.cost()["events_waiting"])

        for number in range(3):
            world.slack.post("C1", "U1", f"before {number}")
        monkeypatch.setattr(world.log, "flush", away)
        world.loop.turn(0)
        world.turn()
        assert counted[0] == 5 and world.loop.cost() == {"events_waiting": 0, "channels_to_fill": 0}
