"""`beepgpt forget` where something is in use: it is refused, and nothing is changed, the list of the forgotten included."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from beepgpt.alerts.store import AlertStore
from beepgpt.config.settings import read_settings
from beepgpt.connectors.log import OutgoingRecord, TopicSpec, folder_place
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.errors import BeepGPTError
from beepgpt.forgetting.run import ForgetJob, run_forget
from beepgpt.runtime.recovery import open_recovery
from beepgpt.up.folder import DataFolder

EVENT = b'{"type":"message","channel":"C1","user":"U9","text":"mine","ts":"1690360253.041239"}\n'


def alerting(live: Path, stack: ExitStack) -> None:
    """A `beepgpt alert` has the store."""
    stack.callback(AlertStore(live / "alerts.sqlite", alone=True).close)


def running(live: Path, stack: ExitStack) -> None:
    """A run has the recovery folder."""
    lock = open_recovery(live / "state", {"source": "x", "forgotten": None}, {}, {"flow": "f", "steps": []}).lock
    assert lock is not None
    stack.callback(os.close, lock)


def up(live: Path, stack: ExitStack) -> None:
    """A `beepgpt up` has the folder, which holds a topic, and an alert store that nobody has just now."""
    stack.callback(os.close, DataFolder(live).take())
    SqliteLog(folder_place(str(live / "log"))).create([TopicSpec("slack.events", 1, {})])
    AlertStore(live / "alerts.sqlite").close()


@pytest.mark.parametrize(
    ("use", "place", "why"),
    [
        (alerting, "{live}", "another beepgpt alert has it: stop that one first"),
        (running, "{live}", "a run is using this recovery folder: stop it first"),
        (up, "{live}", "live: `beepgpt up` runs on it: stop it first"),
        (up, "{live}/..", "live: `beepgpt up` runs on it: stop it first"),
        (up, "{live}/alerts.sqlite", "live: `beepgpt up` runs on it: stop it first"),
        (up, "sqlite://{live}/log/slack.events", "live: `beepgpt up` runs on it: stop it first"),
    ],
)
def test_where_something_is_in_use_nothing_is_changed(tmp_path: Path, use: Callable[[Path, ExitStack], None], place: str, why: str):
    """Not the list either, with which the next start would be refused; once it is stopped, the same command does it."""
    live, listed, event = tmp_path / "srv" / "live", tmp_path / "list" / "forgotten.json", tmp_path / "a.jsonl"
    live.mkdir(parents=True)
    event.write_bytes(EVENT)
    settings = read_settings(environ={"BEEPGPT_RUN__FORGOTTEN": str(listed)})
    job = ForgetJob([str(event), place.format(live=live)], settings, people=["U9"], apply=True)
    with ExitStack() as stack:
        use(live, stack)
        with pytest.raises(BeepGPTError, match=why):
            run_forget(job)

        assert not listed.exists() and event.read_bytes() == EVENT
    run_forget(job)
    assert listed.exists() and event.read_bytes() == b""


def test_what_up_made_is_made_anew_by_up(tmp_path: Path):
    """Not by the commands that it runs; how a model is made without them is said, too, since the nights keep what was fitted to them."""
    live = tmp_path / "live"
    os.close(DataFolder(live).take())
    log = SqliteLog(folder_place(str(live / "log")))
    log.create([TopicSpec("slack.predictions", 1, {"cleanup.policy": "compact"})])
    with log.writer("slack.predictions") as writer:
        writer.send([OutgoingRecord(b"C1:1", b'{"id":"a","channel":"C1","how":"reply","people":[{"user":"U9"}]}', (), 0, 1)])
        writer.flush()
    (live / "model").mkdir()
    (live / "model" / "model.json").write_text('{"kind": "local"}')
    settings = read_settings(environ={"BEEPGPT_RUN__FORGOTTEN": str(tmp_path / "forgotten.json")})

    def made_by(place: str) -> dict[str, str]:
        found = run_forget(ForgetJob([place], settings, people=["U9"]))["places"]
        return {each["kind"]: each["rebuild"] for each in found if each["rebuild"]}

    assert made_by(str(live)) == {"topic": f"beepgpt up --data {live}", "model": f"beepgpt up --data {live} --rebuild"}
    assert made_by(f"{log.place}/slack.predictions") == {"topic": f"beepgpt up --data {live}"}
