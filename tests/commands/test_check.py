"""`beepgpt check`: what is missing to go live, beside a real broker and a server that speaks Slack's protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from beepgpt.connectors.kafka import Connection, Writer
from beepgpt.connectors.log import OutgoingRecord
from beepgpt.simulation.slack.alerts_api import SCOPES as SCOPES_OF_ALERTS
from beepgpt.simulation.slack.server import SCOPES, SlackServer
from beepgpt.training.live import put_live
from beepgpt.training.models import save_model
from tests.support import run_program
from tests.support.broker import Broker, GivenBroker
from tests.support.scoring import SPEC, ranked, save

pytestmark = pytest.mark.slow


@pytest.fixture
def live(slack_server: SlackServer, broker: Broker | GivenBroker) -> tuple[SlackServer, str]:
    """A Slack app that may do all it has to, and a broker with all topics."""
    slack_server.scopes = f"{SCOPES},{SCOPES_OF_ALERTS}"
    made = run_program("topics", f"kafka://{broker.bootstrap}")
    assert made.returncode == 0, made.stderr
    return slack_server, broker.bootstrap


def checked(live: tuple[SlackServer, str], model: Path, **env: str) -> tuple[int, dict[str, tuple[bool | None, str]]]:
    """The exit status, and what was found by subject."""
    server, bootstrap = live
    settings = server.settings | {"BEEPGPT_CONVERSATIONS__WORKSPACE": "acme", "BEEPGPT_ALERTS__THRESHOLD": "0.4"} | env
    done = run_program("check", "--broker", f"kafka://{bootstrap}", "--model", model, "--json", env=settings)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return done.returncode, {each["check"]: (each["is_ok"], each["found"]) for each in found}


def test_what_is_ready_is_ready(live: tuple[SlackServer, str], tmp_path: Path):
    """Also where the model is the live pair of a folder."""
    put_live(tmp_path / "live", lambda version: save_model(version, ranked()[0], {"spec": SPEC}, b"{}") and None)  # type: ignore[arg-type]
    for model in (save(tmp_path / "model"), tmp_path / "live"):
        status, found = checked(live, model)

        assert (status, {name for name, (is_ok, _) in found.items() if not is_ok}) == (0, set()), found
        assert list(found) == ["settings", "packages", "tokens", "scopes", "clock", "topics", "model"]
        assert "alerts from 40 % on" in found["model"][1]


def test_each_thing_that_is_missing_is_named(live: tuple[SlackServer, str], tmp_path: Path):
    """And nothing else: a scope, the clock, a workspace, other settings, a model, tokens."""
    server, _ = live
    model = save(tmp_path / "model")
    server.scopes = server.scopes.replace("im:history,", "").replace(",im:history", "")
    faults: dict[str, tuple[Path, dict[str, str], str]] = {
        "settings": (model, {"BEEPGPT_CONVERSATIONS__WORKSPACE": "workspace"}, "has its default"),
        "model": (model, {"BEEPGPT_CONVERSATIONS__HORIZON": "2h"}, "horizon is 1 day there, 2 hours here"),
    }
    for name, (folder, env, said) in faults.items():
        status, found = checked(live, folder, **env)
        assert (status, found[name][0], said in found[name][1]) == (1, False, True), found
        assert {each for each, (is_ok, _) in found.items() if is_ok is False} == {name, "scopes"}
        assert "im:history" in found["scopes"][1]

    server.scopes, server.date_ahead = f"{SCOPES},{SCOPES_OF_ALERTS}", 60.0
    status, found = checked(live, tmp_path / "none", BEEPGPT_SLACK__APP_TOKEN="")
    server.date_ahead = 0.0
    assert {each: said for each, (is_ok, said) in found.items() if is_ok is False}.keys() == {"tokens", "clock", "model"}
    assert "app_token" in found["tokens"][1] and "ahead of Slack's" in found["clock"][1] and "is no trained model" in found["model"][1]


def test_the_history_is_what_comes_next_while_the_topic_of_events_is_empty(
    slack_server: SlackServer, mortal_broker: Broker, tmp_path: Path
):
    """Behind live events it could not be written any more; `topics`, which makes the topic, says the same."""
    slack_server.scopes = f"{SCOPES},{SCOPES_OF_ALERTS}"
    model, at = save(tmp_path / "model"), f"kafka://{mortal_broker.bootstrap}"
    env = slack_server.settings | {"BEEPGPT_CONVERSATIONS__WORKSPACE": "acme", "BEEPGPT_ALERTS__THRESHOLD": "0.4"}

    def next_after(*command: object) -> str:
        done = run_program(*command, env=env)
        assert done.returncode == 0, done.stdout
        return done.stderr.splitlines()[-1]

    history = f"next: beepgpt ingest EXPORT.zip --to {at}/slack.events  # The history, before anything live"
    assert next_after("topics", at) == history
    assert next_after("check", "--broker", at, "--model", model) == history
    with Writer(Connection(mortal_broker.bootstrap), "slack.events") as writer:
        writer.send([OutgoingRecord(b"C1", b"{}")])
        writer.flush()
    assert next_after("check", "--broker", at, "--model", model) == f"next: beepgpt ingest slack --to {at}/slack.events"
