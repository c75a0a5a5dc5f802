"""`beepgpt up` in processes of its own, beside the tests' Slack: from an export to an alert, through kills, to the end."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.simulation.people import SimulatedWorkspace
from beepgpt.simulation.slack.server import ApiError
from beepgpt.simulation.workspace import write_export
from tests.support import program, run_program
from tests.support.deploy import services
from tests.support.kafka import started
from tests.support.speed import slowness, wait_until
from tests.support.up import children_of, kill, page_of, plan, settings_of, values_on, wait_until_back, wait_until_live, workspace

SECRET = "Does anybody know why the build of the zeppelin is red?"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_from_an_export_to_an_alert_through_kills_to_the_end(tmp_path: Path):
    """The export first, then what is live; no record is late. Each command that is killed comes back, and nobody is alerted twice."""
    of = plan()
    simulated, export, data = SimulatedWorkspace(of), tmp_path / "acme.zip", tmp_path / "live"
    write_export(of, export)
    night = datetime.now(UTC) + timedelta(seconds=60 * slowness())
    command = program("up", "--data", data, "--export", export, "--night", f"{night:%H:%M:%S}")
    with workspace(simulated) as (server, people), ExitStack() as stack:
        channel = simulated.channel(0).id
        server.workspace.post(channel, simulated.people[1].id, "Said when the export was made already")
        run = stack.enter_context(started(command, tmp_path / "run", settings_of(server)))
        wait_until_live(run, data)
        second = subprocess.run(command, env=os.environ | settings_of(server), capture_output=True, text=True, check=False)
        assert second.returncode == 2 and "another `beepgpt up` runs on it" in second.stderr

        def alerts() -> int:
            return sum(len(people.sent_to(each.id)) for each in simulated.people)

        def post(text: str) -> None:
            server.workspace.post(channel, simulated.people[0].id, text)

        post(SECRET)
        wait_until(lambda: alerts() > 0, "somebody is alerted", said=lambda: run.said)

        for name in ("ingest", "score", "alert", "examples"):
            kill(run, name)
            post(f"After {name} was killed: who knows why?")
            wait_until_back(run, name)
        log = SqliteLog(f"sqlite://{data / 'log'}")
        wait_until(
            lambda: all(
                any(text in json.dumps(each) for each in values_on(log, "slack.predictions"))
                for text in ("ingest was killed", "examples was killed")
            ),
            "what was said meanwhile is scored", said=lambda: run.said,
        )  # fmt: skip
        copied = run_program("backup", "--data", data, "--to", copy := tmp_path / "backup")
        assert copied.returncode == 0 and "are copied to" in copied.stdout, copied.stderr
        post("After the copy was made: who knows why?")
        wait_until(lambda: "After the copy" in str(values_on(log, "slack.events")), "it is on the log", said=lambda: run.said)
        wait_until(lambda: "All is well" in page_of(run), "the page says so", said=lambda: page_of(run))
        assert SECRET not in page_of(run) and "as it was set" in page_of(run)
        wait_until(lambda: "training: " in run.said, "the night's training", 120, said=lambda: run.said)
        assert run.stop() == 0, run.said

        shutil.rmtree(data)
        copy.rename(data)
        with started(command, tmp_path / "again", settings_of(server)) as again:
            wait_until(lambda: "After the copy" in str(values_on(log, "slack.events")), "it is filled in", said=lambda: again.said)
            wait_until(lambda: "After the copy" in str(values_on(log, "slack.predictions")), "it is scored", said=lambda: again.said)
            assert again.stop() == 0, again.said

    events = [each["event"] for each in values_on(log, "slack.events") if "event" in each]
    assert [each["text"] for each in events if "when the export was made" in each.get("text", "")] != []
    live = [each["text"] for each in events if "killed" in each.get("text", "")]
    assert sorted(live) == sorted(set(live)) and len(live) == 4
    assert values_on(log, "slack.late") == values_on(log, "slack.dead-letters") == []
    alerted = [(each["user"], each["conversation"]) for each in values_on(log, "slack.alerts")]
    assert alerted and len(alerted) == len(set(alerted))
    ends = [line for line in run.said.splitlines() if " ended with status 0" in line]
    assert [line.split()[0] for line in ends[-4:]] == ["ingest", "examples", "score", "alert"]
    assert SECRET not in run.said
    assert "it is lost" not in run.said, "nothing was there before"
    assert re.findall(r"--[a-z]+", run.said) == [], "flags of the commands are none of up's"
    assert data.stat().st_mode & 0o777 == 0o700
    assert {each.stat().st_mode & 0o077 for each in data.rglob("*")} == {0}
    left = {each.name: each for each in (data / "first").rglob("*") if each.is_file()}
    assert left.keys() == {"index.html", "outcomes.html", "rehearsal.html", "rehearsal.alerts.jsonl", "report.html"}
    named = re.findall(r"<code>([^<]*)</code>", "".join(left[each].read_text() for each in left if each.endswith(".html")))
    assert {each for each in named if ".jsonl" in each or "set" in each} == {".alerts.jsonl"}, "no page names a file that is gone"
    assert len([each for each in events if each.get("text", "").startswith("After the copy")]) == 1


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_without_an_export_the_history_comes_from_slack(tmp_path: Path):
    """From two tokens to a first model: killed while it reads, it goes on; all that was said is on the log, and nothing of it is late."""
    of, data = plan(), tmp_path / "live"
    write_export(of, export := tmp_path / "acme.zip")
    command = program("up", "--data", data, "--history", "60d")
    with workspace(SimulatedWorkspace(of)) as (server, _):
        server.workspace.load_export(export)
        said = {(channel, ts) for channel, messages in server.workspace.messages.items() for ts in messages}
        answer = server.methods["conversations.replies"]
        server.methods["conversations.replies"] = refused = Refusing()
        with started(command, tmp_path / "first", settings_of(server)) as run:
            wait_until(lambda: refused.asked, "it reads", said=lambda: run.said)
            started_by_it = children_of(run).values()
            run.kill()
            wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started_by_it), "what it started ends with it")
        server.methods["conversations.replies"] = answer
        server.workspace.post(meanwhile := next(iter(server.workspace.channels)), "U1", "Said between the two starts")
        with started(command, tmp_path / "second", settings_of(server)) as run:
            wait_until_live(run, data)
            assert run.stop() == 0, run.said
        with started(command, tmp_path / "third", settings_of(server)) as again:
            wait_until(lambda: "ingest: Caught up" in again.said, "it goes on", said=lambda: again.said)
            assert again.stop() == 0 and "history: " not in again.said, again.said
    log = SqliteLog(f"sqlite://{data / 'log'}")
    events = [each for each in (record.get("event", record) for record in values_on(log, "slack.events")) if "ts" in each]
    assert said <= {(each["channel"], each["ts"]) for each in events}
    assert [each["channel"] for each in events if each.get("text") == "Said between the two starts"] == [meanwhile]
    assert values_on(log, "slack.late") == values_on(log, "slack.dead-letters") == []
    assert "first model: " in run.said and not (data / "history").exists()


class Refusing:
    """A method of Slack's that is refused for its rate, whenever it is called."""

    asked = 0

    def __call__(self, given: dict[str, str]) -> dict[str, object]:
        self.asked += 1
        raise ApiError("ratelimited")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_without_an_export_it_collects_until_there_is_enough(tmp_path: Path):
    """It says how many are missing; then it makes a model of what was said live. No history joins behind live events any more.

    Started as in a container by the compose file, which brings no other service up.
    """
    assert "depends_on" not in services()["up"]
    data, simulated = tmp_path / "live", SimulatedWorkspace(plan())
    in_container = services()["up"]["command"][1:]
    command = program(*(each.replace("/live", str(data)).replace("8787", "0") for each in in_container))
    channel = simulated.channel(0).id
    with workspace(simulated) as (server, _):
        settings = settings_of(server)
        with started(command, tmp_path / "first", settings) as run:
            wait_until(lambda: "ingest: 3 channels" in run.said, "it is connected", said=lambda: run.said)
            assert "Collecting: 0 of the 200 answered examples that a first model needs are there." in run.said
            started_by_it = children_of(run).values()
            os.kill(run.process.pid, signal.SIGKILL)
            wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started_by_it), "what it started ends with it")
        with started(command, tmp_path / "second", settings) as run:
            wait_until(lambda: "ingest: 3 channels" in run.said, "it is connected", said=lambda: run.said)
            for number in range(230):
                asks, answers = (simulated.people[(number + each) % 5].id for each in (0, 1))
                ts = server.workspace.post(channel, asks, f"The build is red again, for the time {number}")
                server.workspace.post(channel, answers, "It is mended", thread_ts=ts)
                time.sleep(0.03)
            wait_until_live(run, data)
            assert "training: " in run.said and "is live now, with its threshold" in run.said
            assert run.stop(signal.SIGINT) == 0, run.said

        write_export(plan(), export := tmp_path / "acme.zip")
        late = run_program("up", "--data", data, "--export", export, env=os.environ | settings)
    assert late.returncode == 2 and "began with live events, and behind that a history would be late" in late.stderr


def test_what_is_wrong_is_said_before_anything_is_made(tmp_path: Path):
    """A folder of somebody else, times that are none, two histories, a missing token."""
    (tmp_path / "notes.txt").write_text("mine")
    data = tmp_path / "live"
    env = {"BEEPGPT_CONVERSATIONS__WORKSPACE": "acme"}
    foreign, timeless, tokenless, endless, both = (
        run_program("up", "--data", *more, env=env)
        for more in (
            (tmp_path,),
            (data, "--night", "soon"),
            (data,),
            (data, "--history", "long"),
            (data, "--history", "7d", "--export", tmp_path),
        )
    )

    assert foreign.returncode == 2 and "holds files that are not of `beepgpt up`" in foreign.stderr
    assert timeless.returncode == 2 and "a time of day like 03:00 is expected" in timeless.stderr
    assert endless.returncode == 2 and "--history long: a duration like 180d is expected" in endless.stderr
    assert both.returncode == 2 and "is for a first start without --export" in both.stderr
    assert tokenless.returncode == 1 and "slack.bot_token is missing" in tokenless.stdout
    assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("not_allowed_token_type", "slack.app_token is refused (apps.connections.open: not_allowed_token_type): it is of another kind"),
        ("missing_scope", "slack.app_token lacks the scope connections:write: generate another with it"),
        ("", "slack.app_token is refused (apps.connections.open: invalid_auth): Slack does not know it: copy it again"),
    ],
)
def test_an_app_token_that_opens_no_connection_is_refused_at_the_start(code: str, words: str, tmp_path: Path):
    """The bot's token is known, and so all other checks pass; nothing is made."""
    with workspace(SimulatedWorkspace(plan())) as (server, _):
        settings = settings_of(server) | ({} if code else {"BEEPGPT_SLACK__APP_TOKEN": "xapp-1-wrong"})
        if code:
            server.faults.refuse["apps.connections.open"] = code
        done = run_program("up", "--data", tmp_path / "live", env=settings)

    assert done.returncode == 1 and words in " ".join(done.stdout.split()), done.stdout
    assert "1 of 5 checks failed" in done.stdout and list(tmp_path.iterdir()) == []
