"""A first start that reads a history from Slack, while people go on talking."""

from __future__ import annotations

import json
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from beepgpt.connectors.kafka import Connection, KafkaLog
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.simulation.people import SimulatedWorkspace
from beepgpt.simulation.slack.server import ApiError
from beepgpt.simulation.slack.workspace import TEAM
from beepgpt.simulation.workspace import write_export
from beepgpt.up.folder import DataFolder
from tests.support import program, run_program
from tests.support.broker import Broker, GivenBroker
from tests.support.exports import records_in_export
from tests.support.kafka import Running, started
from tests.support.speed import wait_until
from tests.support.up import children_of, page_of, plan, settings_of, values_on, wait_until_live, workspace


class Gate:
    """A method of Slack's that is refused for its rate as long as it is shut."""

    def __init__(self, answer: Any) -> None:
        self._answer, self.is_open, self.asked = answer, threading.Event(), threading.Event()

    def __call__(self, given: dict[str, str]) -> Any:
        self.asked.set()
        if not self.is_open.is_set():
            raise ApiError("ratelimited")
        return self._answer(given)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_is_said_while_a_history_is_read_is_neither_lost_nor_late(tmp_path: Path):
    """Posts, edits and deletions, of what was said before, too: examples are those of one stream that has all, and no record is late.

    Killed in between, the same command goes on, and so does one without --history.
    """
    of, data = plan(), tmp_path / "live"
    simulated = SimulatedWorkspace(of)
    write_export(of, export := tmp_path / "acme.zip")
    with workspace(simulated) as (server, _):
        server.workspace.load_export(export)
        slack, settings = server.workspace, settings_of(server)
        gate = server.methods["conversations.replies"] = Gate(server.methods["conversations.replies"])
        with_roots = {channel for channel, said in slack.messages.items() if any(each.get("reply_count") for each in said.values())}
        newest = max(with_roots, key=lambda channel: max(slack.messages[channel]))
        other = next(each for each in slack.channels if each != newest)
        plain = [ts for ts, each in slack.messages[other].items() if not {"edited", "thread_ts", "bot_id", "subtype"} & each.keys()]
        edited, deleted = plain[-2:]
        ask, answer, third = (each.id for each in simulated.people[:3])

        def talk(round: int) -> None:
            """Questions and answers, one of them edited, one deleted."""
            for number in range(5):
                ts = slack.post(other, ask, f"Who knows about {round}.{number}?")
                slack.post(other, answer, f"I do, about {round}.{number}", thread_ts=ts)
            slack.edit(other, ts, f"Who really knows about {round}?")
            slack.post(other, third, "So do I", thread_ts=ts)
            slack.delete(newest, slack.post(newest, ask, f"Never mind {round}"))

        with up(tmp_path, settings, "--history", "60d") as run:
            wait_until(gate.asked.is_set, "it reads the history", said=lambda: run.said)
            assert "Slack permits an internal app about 50 calls" in run.said
            wait_until(lambda: "history: From " in page_of(run), "the page says what is left", said=lambda: page_of(run))
            talk(1)
            slack.edit(other, edited, "It was meant otherwise")
            slack.delete(other, deleted)
            log = SqliteLog(f"sqlite://{data / 'log'}")
            wait_until(lambda: deleted in str(values_on(log, "slack.events.0")), "all of it is collected", said=lambda: run.said)
            assert "slack.events" not in log.topics()
            run.kill()
        with up(tmp_path, settings) as run:
            wait_until(lambda: "ingest: Caught up" in run.said, "it collects again", said=lambda: run.said)
            talk(2)
            gate.is_open.set()
            wait_until_live(run, data)
            talk(3)
            wait_until(lambda: "knows about 3?" in str(values_on(log, "slack.events")), "it is on the new log", said=lambda: run.said)
            assert run.stop() == 0, run.said
        events = list(slack.events)

    assert "next log: " in run.said and not (data / "history").exists()
    assert not [name for name in log.topics() if name.endswith(".0")]
    assert values_on(log, "slack.late") == values_on(log, "slack.dead-letters") == []
    stream = [each for each in records_in_export(export) if deleted.encode() not in each]
    for record in stream:
        if json.loads(record).get("ts") == edited:  # Slack's history has the new text alone, which nobody knew before
            stream[stream.index(record)] = json.dumps(json.loads(record) | {"text": None}).encode()
    stream += [
        json.dumps({"type": "event_callback", "team_id": TEAM, "event_id": f"E{number}", "event": each}).encode()
        for number, each in enumerate(events)
    ]
    heartbeats = [json.dumps(each).encode() for each in values_on(log, "slack.events") if each["type"] == "heartbeat"]
    (tmp_path / "stream.jsonl").write_bytes(b"\n".join([*stream, heartbeats[-1]]) + b"\n")
    made, wanted = (tmp_path / f"{name}.jsonl" for name in ("made", "wanted"))
    done = run_program("examples", f"{log.place}/slack.events", "--to", made, "--json", env=settings)
    assert json.loads(done.stdout)["account"]["events"]["late"] == 0
    run_program("examples", tmp_path / "stream.jsonl", "--to", wanted, env=settings)
    assert sorted(made.read_bytes().splitlines()) == sorted(wanted.read_bytes().splitlines()) != []
    assert len([each for each in made.read_text().splitlines() if "Who really knows about" in each]) >= 3


def up(folder: Path, settings: dict[str, str], *more: str) -> AbstractContextManager[Running]:
    """`beepgpt up` on its data folder."""
    return started(program("up", "--data", folder / "live", *more), folder / "run", settings)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_log_may_be_on_brokers(tmp_path: Path, broker: Broker | GivenBroker):
    """The same command, the same order: what is collected, and the one log that is made of it and of the history, are topics there."""
    of, data = plan(), tmp_path / "live"
    simulated = SimulatedWorkspace(of)
    write_export(of, export := tmp_path / "acme.zip")
    log = KafkaLog(Connection(broker.bootstrap))
    try:
        with workspace(simulated) as (server, _):
            server.workspace.load_export(export)
            said = {(channel, ts) for channel, messages in server.workspace.messages.items() for ts in messages}
            with up(tmp_path, settings_of(server), "--log", log.place, "--history", "60d") as run:
                wait_until_live(run, data)
                server.workspace.post(next(iter(server.workspace.channels)), simulated.people[0].id, "Who knows about brokers?")
                wait_until(lambda: "about brokers" in str(values_on(log, "slack.predictions")), "it is scored", said=lambda: run.said)
                assert run.stop() == 0, run.said
            other = run_program("up", "--data", data, "--log", "kafka://127.0.0.1:1", env=settings_of(server))
        events = [each for each in (record.get("event", record) for record in values_on(log, "slack.events")) if "ts" in each]
        late, left = values_on(log, "slack.late"), sorted(each for each in log.topics() if each.startswith("slack."))
    finally:
        for name in log.topics():
            if name.startswith("slack."):
                log.delete(name)

    assert said <= {(each["channel"], each["ts"]) for each in events} and late == []
    assert not (data / "log").exists() and not [each for each in left if each.endswith(".0")]
    assert other.returncode == 2 and f"is at {log.place}: leave --log out" in other.stderr


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_other_settings_and_a_channel_that_was_joined_later_come_in_by_a_rebuild(tmp_path: Path):
    """It is offered, with how long it takes; then all is made anew of the log and of what the channel has of before, none of it late.

    What runs goes on meanwhile, by the settings that it was made with: people are alerted.
    """
    of, data = plan(), tmp_path / "live"
    simulated = SimulatedWorkspace(of)
    write_export(of, export := tmp_path / "acme.zip")
    with workspace(simulated) as (server, people):
        server.workspace.load_export(export)
        joined, *others = server.workspace.channels
        about = server.workspace.channels.pop(joined)
        before = {(joined, ts) for ts in server.workspace.messages[joined]}
        settings = settings_of(server)
        with up(tmp_path, settings, "--history", "60d") as run:
            wait_until_live(run, data)
            server.workspace.channels[joined] = about
            server.workspace.post(others[0], simulated.people[0].id, "Who knows about zeppelins?")
            wait_until(lambda: sum(len(people.sent_to(each.id)) for each in simulated.people), "somebody is alerted", said=lambda: run.said)
            assert run.stop() == 0, run.said
        log = SqliteLog(f"sqlite://{data / 'log'}")
        was = values_on(log, "slack.events")
        settings |= {"BEEPGPT_CONVERSATIONS__WINDOW": "4"}
        refused = run_program("up", "--data", data, env=settings)
        gate = server.methods["conversations.replies"] = Gate(server.methods["conversations.replies"])
        with up(tmp_path, settings, "--rebuild", "--history", "60d") as run:
            wait_until(gate.asked.is_set, "it reads the history", said=lambda: run.said)
            server.workspace.post(others[0], simulated.people[1].id, "Who knows about balloons?")
            wait_until(lambda: "balloons" in str(values_on(log, "slack.predictions")), "it is scored meanwhile", said=lambda: run.said)
            assert "the next generation of all that is made, built beside the live one (about 2 minutes): history" in page_of(run)
            gate.is_open.set()
            wait_until(lambda: DataFolder(data).generation == 2, "the next one is live", 200, said=lambda: run.said)
            wait_until(lambda: "alert" in children_of(run), "alerts go on", said=lambda: run.said)
            server.workspace.post(joined, simulated.people[0].id, "Who knows about airships?")
            wait_until(lambda: "airships" in str(values_on(log, "slack.predictions.2")), "it is scored", said=lambda: run.said)
            assert run.stop() == 0, run.said

    said = (
        "window was 5 and is 4: give what was given first, or add --rebuild, which makes all of it anew with these settings, from its log"
    )
    assert refused.returncode == 2 and f"{said}: about 2 minutes, while alerts go on as before" in refused.stderr
    now = values_on(log, "slack.events.2")
    found = [(each["channel"], each["ts"]) for each in (record.get("event", record) for record in now) if "ts" in each]
    assert before <= set(found) and not before & {(each.get("channel"), each.get("ts")) for each in was}
    assert [each for each in was if each["type"] != "heartbeat" and each not in now] == [] and "balloons" in str(now)
    assert values_on(log, "slack.late") == values_on(log, "slack.dead-letters") == []
    alerted = [(each["user"], each["conversation"]) for each in values_on(log, "slack.alerts")]
    assert alerted and len(alerted) == len(set(alerted))
    assert (
        {each.name for each in data.iterdir()} >= {"state.2", "model.2"}
        and not (data / "state").exists()
        and not (data / "history.2").exists()
    )
