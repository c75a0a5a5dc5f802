"""`beepgpt ingest slack`, from a local Slack over real sockets onto a real broker: nothing is lost, and nothing stands there twice."""

from __future__ import annotations

import json
import random
import re
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from beepgpt.connectors import kafka
from beepgpt.connectors.kafka import Connection, create_topics
from beepgpt.connectors.log import Record, TopicSpec, partition_of
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.events import micros, parse, ts_text
from beepgpt.conversations.rules import DAY, Rules
from beepgpt.conversations.shard import Shard, run_through
from beepgpt.simulation.slack.faults import Faults
from beepgpt.simulation.slack.server import SlackServer
from beepgpt.simulation.slack.workspace import ChatWorkspace
from tests.support import NOW, program
from tests.support.broker import Broker
from tests.support.kafka import KEPT, Running, address, started
from tests.support.ports import free_ports
from tests.support.slack_server import posted, posting_to, signed
from tests.support.speed import slowness, wait_until

QUICK = {
    "BEEPGPT_SLACK__DELAY": "1s",
    "BEEPGPT_SLACK__CHECK": "1s",
    "BEEPGPT_SLACK__CALLS_PER_MINUTE": "100000",
    "BEEPGPT_RUN__LOG_LEVEL": "info",
}
"""Heartbeats and checks come sooner than they should."""


class Place:
    """Topics of one test, and what stands there."""

    def __init__(self, connection: Connection, partitions: int = 3) -> None:
        name = f"test-{uuid4().hex[:12]}"
        self.connection, self.partitions = connection, partitions
        self.events, self.interactions = f"{name}.events", f"{name}.interactions"
        self.dead_letters = f"{name}.dead-letters"
        beside = [TopicSpec(self.interactions, 2, KEPT), TopicSpec(self.dead_letters, 1, KEPT)]
        create_topics(connection, [TopicSpec(self.events, partitions, KEPT), *beside])

    @property
    def to(self) -> str:
        return address(self.connection, self.events)

    def records(self) -> list[tuple[int, Record]]:
        return list(kafka.records_of(self.connection, self.events))

    def bodies(self) -> list[dict[str, Any]]:
        """All events, by partition, in their order there."""
        found = [json.loads(record.value or b"{}") for _, record in self.records()]
        return [each for each in found if each["type"] != "heartbeat"]

    def beats(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {number: [] for number in range(self.partitions)}
        for number, record in self.records():
            body = json.loads(record.value or b"{}")
            if body["type"] == "heartbeat":
                found[number].append(micros(body["at"]))
        return found

    def said(self) -> list[str]:
        """The texts of what was posted."""
        return [each["event"]["text"] for each in self.bodies() if "text" in each["event"] and "subtype" not in each["event"]]

    def wait_for(self, texts: list[str], seconds: float = 30) -> None:
        wait_until(lambda: len(self.said()) >= len(texts), f"{len(texts)} messages are on the topic", seconds)
        assert sorted(self.said()) == sorted(texts)

    def wait_for_beat(self, after: str | None = None) -> None:
        """Until every partition knows of that time."""
        at = 0 if after is None else micros(after)
        wait_until(lambda: all(beats and beats[-1] > at for beats in self.beats().values()), "heartbeats are there", 30)


@pytest.fixture
def place(broker: Broker) -> Place:
    return Place(Connection(broker.bootstrap))


@contextmanager
def ingesting(server: SlackServer, place: Place, folder: Path, *arguments: object, **settings: str) -> Iterator[Running]:
    """The command, with a metrics port; killed if it still runs at the end."""
    port = free_ports()
    command = program("ingest", "slack", "--to", place.to, "--metrics-port", port, *arguments)
    topics = {"BEEPGPT_SLACK__INTERACTIONS_TOPIC": place.interactions, "BEEPGPT_KAFKA__DEAD_LETTER_TOPIC": place.dead_letters}
    environ = QUICK | server.settings | topics
    environ |= {f"BEEPGPT_SLACK__{name.upper()}": value for name, value in settings.items()}
    with started(command, folder, environ, port, 1) as run:
        yield run


def connected(run: Running) -> None:
    """It is connected, whether or not it misses something."""

    def is_so() -> bool:
        assert run.process.poll() is None, run.said
        return run.figure("beepgpt_slack_connected") == 1

    wait_until(is_so, "it is connected")


def test_what_is_said_is_on_the_topic_in_order_and_then_acknowledged(slack_server: SlackServer, place: Place, tmp_path: Path):
    """Each event as Slack sent it and when it came, under its channel; heartbeats in every partition; a stop ends well."""
    slack = slack_server.workspace
    channels = [slack.add_channel(f"C{number}") for number in range(5)]
    with ingesting(slack_server, place, tmp_path, "--report", tmp_path / "report.json") as run:
        connected(run)
        texts = [f"message {number}" for number in range(60)]
        for number, text in enumerate(texts):
            ts = slack.post(channels[number % 5], f"U{number % 3}", text)
        place.wait_for(texts)
        run.wait_until_ready()
        place.wait_for_beat(ts)
        assert run.stop() == 0, run.said
    for number, record in place.records():
        body = json.loads(record.value or b"{}")
        if body["type"] == "event_callback":
            key = body["event"]["channel"].encode()
            assert (record.key, number) == (key, partition_of(key, place.partitions))
            assert body["event_id"] in slack_server.acknowledged and micros(body["received_at"]) >= micros(body["event"]["ts"])
            assert "token" not in body and body["team_id"] == "T0TEST"
    for channel in channels:
        times = [each["event"]["ts"] for each in place.bodies() if each["event"]["channel"] == channel]
        assert times == sorted(times)
    account = json.loads((tmp_path / "report.json").read_bytes())["account"]
    assert (account["arrived"], account["written"], account["adds_up"]) == (60, 60, True)


# Outages


Post = tuple[str, str]
"""Channel and ts."""


def examples_of(place: Place, until: int) -> tuple[list[bytes], set[Post]]:
    """What a flow makes of the topic, read partition by partition, and what of it came too late."""
    shard = Shard(Rules(), load_encoding("o200k_base"), until=until, recoverable=False)
    for number, record in place.records():
        shard.read(parse(record.value or b"", NOW), f"{place.events}/{number}")
    shard.end()
    made = shard.drain()
    return sorted(made.examples), posts_in(json.loads(each) for each in made.late)


def posts_in(bodies: Iterable[dict[str, Any]]) -> set[Post]:
    """The posts of what Slack sent, or would have."""
    return {(each["event"]["channel"], each["event"]["ts"]) for each in bodies if each["event"]["type"] == "message"}


def examples_of_file(server: SlackServer, until: int, without: set[Post]) -> list[bytes]:
    """The same of the history itself, as a file of events."""
    lines = [json.dumps(each).encode() for each in server.workspace.events if (each["channel"], each["ts"]) not in without]
    run = run_through(lines, Rules(), load_encoding("o200k_base"), now=NOW, until=until)
    return sorted(run.examples)


def check_nothing_lost_or_twice(server: SlackServer, place: Place) -> None:
    """Every post once; the topic gives the examples that the history gives; nothing was late but what a silent connection swallowed.

    That one may be late: what is newer comes over other connections, or over the next one, before anybody can know (docs/slack.md).
    """
    posts = [each for each in server.workspace.events if each["type"] == "message" and "subtype" not in each]
    found = Counter((each["event"]["channel"], each["event"]["ts"]) for each in place.bodies() if "subtype" not in each["event"])
    assert {name: count for name, count in found.items() if count > 1} == {}
    missing = {(each["channel"], each["ts"]) for each in posts} - found.keys()
    assert missing == set()
    until = micros(server.workspace.now()) + 3 * DAY
    made, late = examples_of(place, until)
    assert late <= posts_in(server.swallowed)
    assert made == examples_of_file(server, until, late) and made


def talk(slack: ChatWorkspace, seconds: float, dice: random.Random, every: float = 0.05) -> list[str]:
    """People post and reply for a while; the texts."""
    texts, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        channel = dice.choice(list(slack.channels))
        roots = [ts for ts, each in slack.messages[channel].items() if each.get("thread_ts") in (None, ts)]
        thread = dice.choice(roots[-5:]) if roots and dice.random() < 0.4 else None
        texts.append(f"message {len(slack.events)}")
        slack.post(channel, f"U{dice.randrange(4)}", texts[-1], thread_ts=thread)
        time.sleep(every * 2 * dice.random())
    return texts


@pytest.mark.slow
def test_what_was_said_while_nobody_listened_is_filled_in(slack_server: SlackServer, place: Place, tmp_path: Path):
    """Killed with -9, while events are on their way; posts and replies while it is gone; then live again: the same examples as by file."""
    slack, dice = slack_server.workspace, random.Random(1)
    for number in range(4):
        slack.add_channel(f"C{number}")
    texts = []
    with ingesting(slack_server, place, tmp_path) as run:
        connected(run)
        texts += talk(slack, 3, dice)
        place.wait_for_beat(ts_text(micros(slack.events[0]["ts"])))
        texts += talk(slack, 0.5, dice)
        run.kill()
    texts += talk(slack, 2, dice)
    beats = place.beats()
    with ingesting(slack_server, place, tmp_path) as run:
        texts += talk(slack, 3, dice)
        connected(run)
        texts += talk(slack, 2, dice)
        run.wait_until_ready()
        place.wait_for_beat(slack.now())
        assert run.figure("beepgpt_slack_filled_total") > 0
        assert run.stop() == 0, run.said
    assert place.said() and Counter(place.said()) == Counter(texts)
    assert beats == {number: found[: len(beats[number])] for number, found in place.beats().items()}
    check_nothing_lost_or_twice(slack_server, place)


@pytest.mark.slow
def test_connections_that_are_renewed_break_or_go_deaf(slack_server: SlackServer, place: Place, tmp_path: Path):
    """A renewal leaves no gap; a break is filled; one that says hello and brings nothing is noticed, and replaced; then all is there."""
    slack, dice = slack_server.workspace, random.Random(2)
    for number in range(3):
        slack.add_channel(f"C{number}")
    with ingesting(slack_server, place, tmp_path) as run:
        connected(run)
        talk(slack, 1, dice)
        run.wait_until_ready()
        opened = slack_server.opened
        slack_server.disconnect("warning")
        talk(slack, 2, dice)
        wait_until(lambda: slack_server.opened > opened, "it was renewed")
        assert run.figure("beepgpt_slack_outages_total") == 0
        slack_server.reset()
        talk(slack, 1, dice)
        wait_until(lambda: run.figure("beepgpt_slack_outages_total") == 1, "the break was noticed")
        connected(run)
        run.wait_until_ready()
        slack_server.faults.deaf = 1
        slack_server.reset()
        wait_until(lambda: slack_server.faults.deaf == 0, "there is a silent connection")
        talk(slack, 1, dice)
        wait_until(lambda: len(place.said()) == len(slack.events), "what the silent connection did not bring is there")
        assert "is silent" in run.said
        talk(slack, 1, dice)
        place.wait_for_beat(slack.now())
        assert run.stop(signal.SIGINT) == 0, run.said
    assert len(slack_server.lost) > 0
    check_nothing_lost_or_twice(slack_server, place)


@pytest.mark.slow
def test_a_deaf_connection_that_is_renewed_is_found_out_all_the_same(slack_server: SlackServer, place: Place, tmp_path: Path):
    """What was lost on it, no later connection brings: no heartbeat passes that until the histories were looked through."""
    slack, dice = slack_server.workspace, random.Random(3)
    slack.add_channel("C0")
    with ingesting(slack_server, place, tmp_path) as run:
        connected(run)
        talk(slack, 1, dice)
        run.wait_until_ready()
        outages = run.figure("beepgpt_slack_outages_total") or 0
        slack_server.faults.deaf = 1
        slack_server.reset()
        wait_until(lambda: run.figure("beepgpt_slack_outages_total") == outages + 1, "the break was noticed")
        connected(run)
        wait_until(lambda: run.figure("beepgpt_slack_gaps") == 0, "it was filled")
        lost, opened = slack.post("C0", "U1", "to nobody"), slack_server.opened
        slack_server.disconnect("warning")
        wait_until(lambda: slack_server.opened > opened, "it was renewed")
        talk(slack, 2, dice)
        place.wait_for_beat(lost)
        assert "to nobody" in place.said()
        assert run.stop() == 0, run.said
    assert any(each["event"]["ts"] == lost for each in slack_server.lost)
    assert "heartbeats covered them already" not in run.said


# What is left out, and what goes elsewhere


@pytest.mark.slow
def test_only_the_channels_that_were_asked_for_are_on_the_topic(slack_server: SlackServer, place: Place, tmp_path: Path):
    """Private channels, those shared with other companies and the bot's own talks are left out, and acknowledged; what people do
    with the app goes to another topic, under their names; a channel that the app was just added to needs no restart."""
    slack = slack_server.workspace
    open_, private, shared = slack.add_channel("C1"), slack.add_channel("C2", is_private=True), slack.add_channel("C3", is_ext_shared=True)
    talks = slack.add_channel("D4", is_im=True, is_channel=False)
    button = {
        "type": "block_actions",
        "user": {"id": "U7"},
        "token": "verification",
        "trigger_id": "t1",
        "actions": [{"action_id": "mute"}],
    }
    with ingesting(slack_server, place, tmp_path, "--report", tmp_path / "report.json") as run:
        connected(run)
        for channel in (open_, private, shared, talks):
            ts = slack.post(channel, "U1", f"in {channel}")
        slack.react(open_, slack.post(open_, "U2", "more"), "U3")
        slack.edit(open_, next(iter(slack.messages[open_])), "edited")
        slack.add_channel("C5")
        slack.post("C5", "U1", "in C5")
        slack_server.send_interaction(button)
        slack_server.send_event({"type": "app_home_opened", "user": "U8", "channel": "D8", "tab": "home"})
        slack_server.send_event({"type": "team_join", "user": {"id": "U9"}})
        slack_server.send_event({"type": "channel_rename", "channel": {"id": open_, "name": "new"}, "event_ts": slack.now()})
        place.wait_for(["in C1", "more", "in C5"])
        wait_until(lambda: len(slack_server.acknowledged) == 12, "all is acknowledged")
        place.wait_for_beat(ts)
        assert run.stop() == 0, run.said
    kinds = Counter(each["event"].get("subtype") or each["event"]["type"] for each in place.bodies())
    assert kinds == {"message": 3, "reaction_added": 1, "message_changed": 1, "channel_rename": 1}
    records = [(record.key, json.loads(record.value or b"")) for _, record in kafka.records_of(place.connection, place.interactions)]
    by_user = dict(records)
    assert len(records) == 2 and by_user[b"U7"] == {name: value for name, value in button.items() if name != "token"}
    assert by_user[b"U8"]["event"]["type"] == "app_home_opened"
    account = json.loads((tmp_path / "report.json").read_bytes())["account"]
    assert account["left_out"] == {"dms": 1, "groups": 1, "no_channel": 1, "shared": 1} and account["adds_up"]


# Over HTTP


def test_slack_may_post_its_events_to_a_port(slack_server: SlackServer, place: Place, tmp_path: Path):
    """With its signature, and no other; it is answered when the log has confirmed; what was sent again is there once."""
    slack, port = slack_server.workspace, free_ports()
    slack.add_channel("C1")
    with ingesting(slack_server, place, tmp_path, "--http", port, app_token="") as run:
        connected(run)
        slack_server.over_http = posting_to(there := f"http://127.0.0.1:{port}")
        check = json.dumps({"type": "url_verification", "challenge": "who?"}).encode()
        request = urllib.request.Request(f"{there}/slack/events", check, signed(check))
        with urllib.request.urlopen(request, timeout=10) as response:
            assert json.load(response) == {"challenge": "who?"}
        forged = json.dumps(
            slack_server.payload_of({"type": "message", "channel": "C1", "user": "U1", "text": "forged", "ts": slack.now()})
        )
        assert posted(f"{there}/slack/events", forged.encode(), signed(forged.encode(), secret="another")) == 401
        assert posted(f"{there}/slack/events", forged.encode(), signed(forged.encode(), at=time.time() - 400)) == 401
        large = json.dumps({"event": "x" * 3 * 2**20}).encode()
        assert posted(f"{there}/slack/events", large, signed(large)) == 200
        assert run.figure("beepgpt_slack_refused_total") == 2
        slack_server.faults.twice = 1.0
        texts = [f"message {number}" for number in range(10)]
        for text in texts:
            ts = slack.post("C1", "U1", text)
        slack_server.send_interaction({"type": "block_actions", "user": {"id": "U7"}, "trigger_id": "t1", "actions": []})
        wait_until(lambda: len(slack_server.acknowledged) >= 22, "all is acknowledged")
        place.wait_for(texts)
        place.wait_for_beat(ts)
        assert run.stop() == 0, run.said
    assert slack_server.asked["apps.connections.open"] == 0
    [(_, letter)] = kafka.records_of(place.connection, place.dead_letters)
    assert (letter.value, dict(letter.headers)["cut_from"]) == (large[: 64 * 1024], b"%d" % len(large))
    assert len(list(kafka.records_of(place.connection, place.interactions))) == 1


# What is wrong


def failed(place: Place, server: SlackServer, folder: Path, *arguments: object, **settings: str) -> tuple[int, str]:
    """Status and words of the command, which ends by itself."""
    with ingesting(server, place, folder, *arguments, **settings) as run:
        status = run.process.wait(60 * slowness())
        return status, run.said


@pytest.mark.slow
def test_a_token_that_will_not_do_is_told_and_not_shown(slack_server: SlackServer, place: Place, tmp_path: Path):
    """Missing or of another kind: before anybody is asked; unknown to Slack, or without a scope: with what to do."""
    slack_server.workspace.add_channel("C1")
    status, said = failed(place, slack_server, tmp_path / "1", bot_token="xapp-wrong-kind", app_token="")
    assert status == 2 and "slack.bot_token is no bot token (xoxb-…)" in said and "slack.app_token is missing" in said
    status, said = failed(place, slack_server, tmp_path / "2", bot_token="xoxb-unknown-one")
    assert status == 1 and "slack.bot_token is refused (auth.test: invalid_auth)" in said
    slack_server.faults.refuse["apps.connections.open"] = "token_revoked"
    status, said = failed(place, slack_server, tmp_path / "3")
    assert status == 1 and "slack.app_token is refused" in said and "install the app again" in said
    slack_server.scopes = "channels:read"
    status, said = failed(place, slack_server, tmp_path / "4")
    assert status == 1 and "lacks channels:history" in said and "config/slack-app.yaml" in said
    slack_server.scopes = "channels:history,channels:read,groups:read"
    status, said = failed(place, slack_server, tmp_path / "5", "--include", "channels,groups")
    assert status == 1 and "lacks groups:history" in said and "config/slack-app-private.yaml" in said
    for path in tmp_path.rglob("said-*"):
        assert not re.search("wrong-kind|unknown-one|not-a-secret", path.read_text())


# Everything at once


def ordeal(server: SlackServer, place: Place, folder: Path, seed: int, seconds: float) -> None:
    """Random faults for a while, kills among them; then peace, and the account."""
    slack, dice = server.workspace, random.Random(seed)
    for number in range(6):
        slack.add_channel(f"C{number}")
    server.faults = Faults(seed=seed, twice=0.1, swapped=0.1, unheard=0.05, limited=0.05, broken=0.05)
    end = time.monotonic() + seconds
    while True:
        with ingesting(server, place, folder, connections=str(dice.choice([1, 2]))) as run:
            connected(run)
            is_over = False
            while not is_over:
                talk(slack, dice.uniform(0.2, 2), dice)
                is_over = time.monotonic() > end
                match dice.choice(["renew", "break", "deaf", "kill", "wait", "ready"]):
                    case "renew":
                        server.disconnect(dice.choice(["warning", "refresh_requested"]), closes_after=dice.uniform(0.1, 1))
                    case "break":
                        server.reset()
                    case "deaf":
                        server.faults.deaf = 1
                        server.reset()
                    case "kill":
                        run.kill()
                        talk(slack, dice.uniform(0, 2), dice)
                        break
                    case "ready":
                        run.wait_until_ready()
            if is_over and run.process.poll() is None:
                server.faults = Faults(seed=seed)
                talk(slack, 1, dice)
                place.wait_for_beat(slack.now())
                assert run.stop() == 0, run.said
                break
    check_nothing_lost_or_twice(server, place)


@pytest.mark.slow
def test_whatever_goes_wrong_nothing_is_lost_and_nothing_is_there_twice(slack_server: SlackServer, place: Place, tmp_path: Path):
    """Copies, events that overtake each other, lost acknowledgements, limits, breaks, silent connections and kills, by one seed."""
    ordeal(slack_server, place, tmp_path, seed=7, seconds=12)


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(20))
def test_the_same_for_longer(slack_server: SlackServer, place: Place, tmp_path: Path, seed: int):
    """With many seeds."""
    ordeal(slack_server, place, tmp_path, seed=seed, seconds=90)
