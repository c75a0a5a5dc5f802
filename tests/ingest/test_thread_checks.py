"""Threads that are read again after an outage, minutes or hours later: what of their answers is written, and what isn't."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from beepgpt.conversations.events import micros
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.conversations.rules import MINUTE, SECOND
from beepgpt.ingest.slack.run import OTHER_COUNTS
from beepgpt.simulation.slack.server import ApiError, SlackServer
from tests.ingest.test_agreement import server
from tests.support.slack_worlds import CHANNELS, World, world_of

__all__ = ["server"]


@pytest.fixture
def world(server: SlackServer) -> Iterator[World]:
    """Connected, and caught up."""
    methods = dict(server.methods)
    with world_of(server) as world:
        world.up()
        world.ask(4)
        world.pass_by(0)
        yield world
    server.methods = methods


def thread(world: World, replies: int = 2, user: str = "U1") -> tuple[str, list[str]]:
    """A thread that came live; its root, and its replies."""
    root = world.slack.post("C1", "U1", "root")
    found = [world.slack.post("C1", user, f"reply {number}", thread_ts=root) for number in range(replies)]
    world.pass_by(0)
    return root, found


def outage(world: World, deleted: str = "") -> None:
    """Over before the next event; the histories are read, and threads are still to be checked.

    `deleted`: a reply that is deleted meanwhile; its thread still counts as many, so that it waits like the others.
    """
    world.down()
    if deleted:
        world.slack.delete("C1", deleted)
    world.up()
    world.ask(10)
    assert world.loop.backfill.is_complete and world.loop.backfill.checks.left


def looked_through(world: World) -> None:
    """All threads are read and handled."""
    while world.loop.backfill.checks.left:
        world.read_thread()
        world.handle_threads()


def changes(world: World, kind: str) -> list[str]:
    """The messages whose edits or deletions stand on the topic."""
    found: list[dict[str, Any]] = [each["event"] for each in world.log.bodies() if each["type"] != "heartbeat"]
    return [str(each.get("deleted_ts") or each["message"]["ts"]) for each in found if each.get("subtype") == kind]


def hours(world: World, count: int) -> None:
    for _ in range(count):
        world.pass_by(60)


# What the start says


def test_an_app_that_is_in_no_channel_says_what_to_do(world: World, capfd: pytest.CaptureFixture[str]):
    """Else it would wait for ever, and nobody would know for what. A shared channel doesn't count."""
    assert world.loop.gauges()["channels"] == len(CHANNELS)
    for channel in CHANNELS:
        world.slack.channels[channel]["is_member"] = False
    world.slack.add_channel("C9", is_ext_shared=True)
    world.start()
    assert "channels" not in world.loop.gauges()
    world.up()
    world.ask(4)
    assert world.loop.gauges()["channels"] == 0
    assert "the app is in no channel but 1 that is left out: /invite @BeepGPT in those" in capfd.readouterr().err


# What is taken for deleted


def test_a_reply_from_before_what_was_read_is_not_taken_for_deleted(world: World):
    """It is still known, since another thread waits from before; its own thread is read from an hour before the second outage on."""
    root, _ = thread(world)
    thread(world)
    outage(world)
    world.read_thread()
    world.handle_threads()
    world.pass_by(40)
    world.slack.post("C1", "U1", "goes on", thread_ts=root)
    world.pass_by(40)
    outage(world)
    world.read_thread()
    world.read_thread()
    world.handle_threads()
    assert world.loop.backfill.checks.left == 0 and changes(world, "message_deleted") == []


def test_a_reply_that_came_after_its_thread_was_read_is_not_taken_for_deleted(world: World):
    """The answer waits, for the brokers say, while heartbeats have passed the reply already."""
    root, (gone, _) = thread(world)
    outage(world, gone)
    world.read_thread()
    new = world.slack.post("C1", "U1", "new", thread_ts=root)
    world.pass_by(1)
    assert world.covered > micros(new)
    world.handle_threads()
    assert changes(world, "message_deleted") == [gone]


# When what is found only now took place


@pytest.mark.parametrize("by", ["fill", "thread of a fill", "check"])
@pytest.mark.parametrize("kind", ["message_deleted", "message_changed"])
def test_what_is_found_has_no_posts_time_and_stands_before_the_post_that_is_held(world: World, by: str, kind: str):
    """Else the post's prediction has the text that is gone, and is made again under its id; and no flow has passed it.

    A channel's thread can also be looked through when its gap is closed and another's is not: then it stands behind the held post.
    """
    root, (reply, _) = thread(world)
    found = root if by == "fill" else reply
    if by == "fill":
        found = world.slack.post("C1", "U1", "no thread")
    world.pass_by(0)
    covered = world.covered
    world.down()
    if kind == "message_changed":
        world.clock.at -= 40 * SECOND  # before the last heartbeat, as when Slack had not delivered it
        world.slack.edit("C1", found, "edited, and nobody heard")
        world.clock.at += 40 * SECOND
    elif by == "check":
        world.slack.delete("C1", found)
    else:
        world.delete("C1", found)
    if by == "thread of a fill":
        world.slack.post("C1", "U2", "nobody heard that either", thread_ts=root)
    world.clock.at += 5 * SECOND
    world.up()
    held = micros(world.slack.events[-1]["ts"])
    while "C1" not in world.loop._channels or world.loop.backfill.has_gap("C1"):
        world.ask()
    looked_through(world)

    (at,) = [micros(each["event"]["event_ts"]) for each in world.log.bodies() if each.get("event", {}).get("subtype") == kind]
    assert changes(world, kind) == [found] and at > covered
    assert at == (held if by == "check" else covered) + 1
    assert at not in {micros(ts) for ts in world.slack.messages["C1"]}


# Hours later


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_thread_that_is_read_hours_later_is_held_against_what_was_known_at_the_outage(world: World, is_killed: bool):
    """What was edited before is not found edited again, no reply is filled in twice, and what went in the outage is found."""
    _, (edited, gone) = thread(world)
    world.slack.edit("C1", edited, "edited, and it came")
    world.pass_by(0)
    outage(world, gone)
    hours(world, 4)
    if is_killed:
        world.start()
        world.up()
        world.ask(10)
        assert world.loop.backfill.is_complete
    looked_through(world)
    assert (changes(world, "message_changed"), changes(world, "message_deleted")) == ([edited], [gone])
    posts = [each["event"]["ts"] for each in world.log.bodies() if each["type"] != "heartbeat" and "subtype" not in each["event"]]
    assert len(posts) == len(set(posts))
    world.pass_by(1)
    assert b"unchecked" not in (world.log.written[-1].value or b""), "nothing is left to look for"
    assert len(world.loop._known) < 10, "and nothing from before the last hour is remembered for it"


@pytest.mark.parametrize("goes_on", [False, True])
@pytest.mark.parametrize("read", ["amid it", "across it", "after it"])
def test_what_went_in_an_outage_is_found_though_another_begins_before_its_thread_is_read(world: World, read: str, goes_on: bool):
    """Hours later: the answer is read and handled while the connection is down again, read before and handled behind it, or both behind.

    `goes_on`: somebody has replied since, so that the other outage looks through the thread, too, but for what happened since then alone.
    """
    root, (edited, gone) = thread(world)
    world.down()
    world.slack.edit("C1", edited, "edited, and nobody heard")
    world.slack.delete("C1", gone)  # its thread still counts as many
    world.up()
    world.ask(10)
    assert world.loop.backfill.is_complete and world.loop.backfill.checks.left
    hours(world, 2)
    if goes_on:
        world.slack.post("C1", "U1", "goes on", thread_ts=root)
        world.pass_by(0)
    if read == "across it":
        world.read_thread()
    world.down()
    if read == "amid it":
        world.read_thread()
        world.handle_threads()
    world.up()
    world.ask(10)
    world.settle()
    assert (changes(world, "message_changed"), changes(world, "message_deleted")) == ([edited], [gone])


def unlisted_in_an_outage(world: World) -> None:
    """Of `C2` there is a gap, and Slack, which has archived it, is still to say what it is."""
    world.down()
    world.slack.channels["C2"]["is_archived"] = True
    world.up()
    while not world.loop.backfill.followed:
        world.ask()
    assert "C2" not in world.loop._channels and world.loop.backfill.has_gap("C2")


def test_a_thread_that_waits_for_its_channel_when_another_outage_begins_is_written(world: World):
    """It was edited in an outage before these two, and nobody else looks through it: its last reply is hours old."""
    root = world.slack.post("C2", "U1", "root")
    edited = world.slack.post("C2", "U1", "reply", thread_ts=root)
    world.pass_by(0)
    world.down()
    world.slack.edit("C2", edited, "edited, and nobody heard")
    world.up()
    world.ask(10)
    hours(world, 2)
    world.slack.post("C2", "U1", "goes on")
    world.pass_by(0)
    unlisted_in_an_outage(world)
    world.read_thread()
    world.handle_threads()
    assert world.loop.backfill._postponed
    world.down()
    world.up()
    world.settle()
    assert changes(world, "message_changed") == [edited]


def test_a_gap_that_is_open_when_another_outage_begins_still_begins_where_it_did(world: World):
    """Its channel was archived, and is listed again by the second one, as if the app had joined then; what was lost is written."""
    world.slack.post("C2", "U1", "heard")
    world.pass_by(0)
    world.slow()
    lost = world.slack.post("C2", "U1", "never delivered")
    world.clock.at += MINUTE
    world.turn()
    assert world.covered > micros(lost)
    unlisted_in_an_outage(world)
    world.down()
    world.slack.channels["C2"]["is_archived"] = False
    world.up()
    world.settle()
    assert [each for each in world.log.bodies() if each["type"] != "heartbeat" and each["event"]["ts"] == lost]


def test_a_thread_that_is_being_read_when_another_outage_begins_is_read_again(world: World):
    """What was read of it can't have what happened since."""
    _, (edited, _) = thread(world)
    outage(world)
    world.read_thread()
    world.down()
    world.slack.edit("C1", edited, "edited, and nobody heard")
    world.up()
    world.ask(10)
    looked_through(world)
    assert changes(world, "message_changed") == [edited]


def test_an_edit_that_is_found_before_its_reply_is_filled_in_comes_behind_it(world: World):
    """Both were lost in an outage, amid which a thread is read that waited since the one before: the history brings both."""
    root, _ = thread(world)
    outage(world)
    world.down()
    lost = world.slack.post("C1", "U1", "nobody heard", thread_ts=root)
    world.slack.edit("C1", lost, "edited, and nobody heard")
    world.read_thread()
    world.handle_threads()
    world.up()
    world.ask(10)
    looked_through(world)
    found = [each["event"] for each in world.log.bodies() if lost in json.dumps(each)]
    assert [each.get("subtype") for each in found] == [None, "message_changed"]


# What Slack refuses


def test_a_thread_that_slack_refuses_is_counted_and_named(world: World, server: SlackServer, caplog: pytest.LogCaptureFixture):
    """Its edits may be missing; the others are read."""
    root, _ = thread(world)
    _, (edited, _) = thread(world)
    world.down()
    world.slack.edit("C1", edited, "edited, and nobody heard")
    world.up()
    world.ask(10)
    read = server.methods["conversations.replies"]

    def refuse(given: dict[str, str]) -> dict[str, Any]:
        if given["ts"] == root:
            raise ApiError("restricted_action")
        return read(given)

    server.methods["conversations.replies"] = refuse
    looked_through(world)
    assert world.loop.account["checks_refused"] == 1 and "checks_refused" in OTHER_COUNTS
    (warned,) = [vars(each) for each in caplog.records if "refused a thread" in each.getMessage()]
    assert (warned["levelno"], warned["channel"], warned["why"]) == (logging.WARNING, "C1", "restricted_action")
    assert changes(world, "message_changed") == [edited]


def test_a_cursor_that_ran_out_ends_no_check(world: World, server: SlackServer):
    """The thread is read again from its first page."""
    _, replies = thread(world, replies=7)
    world.down()
    world.slack.edit("C1", replies[-1], "edited, and nobody heard")
    world.up()
    world.ask(10)
    read, cursors = server.methods["conversations.replies"], list[str | None]()

    def forgetful(given: dict[str, str]) -> dict[str, Any]:
        cursors.append(given.get("cursor"))
        if len(cursors) == 2:
            raise ApiError("invalid_cursor")
        return read(given)

    server.methods["conversations.replies"] = forgetful
    looked_through(world)
    assert cursors == [None, "c3", None, "c3", "c6"]
    assert changes(world, "message_changed") == [replies[-1]] and world.loop.account["checks_refused"] == 0


# What is forgotten


@pytest.mark.parametrize("by", ["message", "person"])
@pytest.mark.parametrize("is_in_gap", [False, True])
def test_a_forgotten_reply_comes_back_neither_by_a_check_nor_by_a_fill(world: World, by: str, is_in_gap: bool):
    """Neither its text, nor a later one; that it was deleted is not written either, whether it is still there or not.

    With a reply in the gap, the thread is read at once; else it waits.
    """
    root, (edited, deleted) = thread(world, user="U9")
    world.down()
    missed = world.slack.post("C1", "U9", "quokka, and nobody heard", thread_ts=root) if is_in_gap else ""
    world.slack.edit("C1", edited, "quokka")
    world.delete("C1", deleted)
    if not is_in_gap:  # as many as before
        late = world.slack.post("C1", "U2", "somebody else's", thread_ts=root)
        world.slack.messages["C1"][root]["latest_reply"] = deleted
    people = ["U9"] if by == "person" else []
    # Of a forgotten person's messages, those are on the list, too, that were on the topic when it was made.
    messages = [("C1", each) for each in (edited, deleted, missed) if each and (by == "message" or each == deleted)]
    world.forgotten = Forgotten(b"salt").with_names(people=people, messages=messages)
    before = len(world.log.written)
    world.up()
    world.ask(10)
    assert bool(world.loop.backfill.checks.left) is not is_in_gap
    looked_through(world)
    written = [each.value or b"" for each in world.log.written[before:]]
    assert not [each for each in written if b"quokka" in each or b"U9" in each]
    named = [each for each in (edited, deleted, missed) if each and any(each.encode() in record for record in written)]
    assert named == []
    assert is_in_gap or any(late.encode() in record for record in written), "the thread was read"
