"""Where the log is JSON, every line of standard error is: accounts, refusals, faults, warnings, whatever a library prints."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from beepgpt.simulation.slack.alerts_api import AlertedWorkspace
from tests.support import post, quiet, run_program, slack_web_api
from tests.support.alerts import prediction
from tests.support.scoring import save

JSON = {"BEEPGPT_RUN__LOG_FORMAT": "json", "BEEPGPT_RUN__LOG_LEVEL": "info"}
CLOSING = "closing account"


def events_in(text: str) -> list[dict[str, Any]]:
    """Every line is an event, and none is empty."""
    events = [json.loads(line) for line in text.splitlines()]
    assert events and all({"time", "level", "logger", "message"} <= set(each) for each in events), text
    return events


def ended(folder: Path, *arguments: object, **more: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit status and the events of a command that ends by itself."""
    store = {"BEEPGPT_ALERTS__STORE": str(folder / "alerts.sqlite")}
    done = run_program(*arguments, env=JSON | store | more)
    assert done.stdout == ""
    return done.returncode, events_in(done.stderr)


def history(folder: Path) -> Path:
    """A file of events."""
    path = folder / "events.jsonl"
    lines = [post(who, minute=minute).line for minute, who in enumerate(("ana", "bo", "ana", "cy"))]
    path.write_bytes(b"\n".join([*lines, b"oops"]) + b"\n")
    return path


def test_the_closing_account_is_one_event(tmp_path: Path, slack: AlertedWorkspace):
    """With all that the report has, and after it what else is said."""
    events, out = history(tmp_path), tmp_path / "out.jsonl"
    predictions = tmp_path / "predictions.jsonl"
    predictions.write_text(json.dumps(prediction()) + "\n")
    settings = {"BEEPGPT_SLACK__BOT_TOKEN": slack_web_api.TOKEN, "BEEPGPT_SLACK__BASE_URL": slack.url}
    runs = {
        "examples": ended(tmp_path, "examples", events, "--to", out),
        "two workers": ended(tmp_path, "examples", events, "--to", out, "--workers", 2),
        "score": ended(tmp_path, "score", events, "--model", save(tmp_path / "model"), "--to", tmp_path / "scores.jsonl"),
        "alert": ended(tmp_path, "alert", predictions, "--threshold", 0.5, **settings),
    }
    for name, (status, said) in runs.items():
        closing = [each["closing"] for each in said if each["message"] == CLOSING]
        assert (status, len(closing)) == (0, 1), (name, said)
        counted = closing[0]["counts"]["predictions"] if name == "alert" else closing[0]["account"]["events"]["read"]
        assert counted == (1 if name == "alert" else 5), name


@pytest.mark.parametrize("way", ["variable", "file"])
def test_a_refusal_is_an_event(tmp_path: Path, way: str):
    """Wherever the setting stands: its message, and the status with which the command ends."""
    config = tmp_path / "beepgpt.toml"
    config.write_text('[run]\nlog_format = "json"\n' if way == "file" else "")
    setting = {"BEEPGPT_RUN__LOG_FORMAT": "json" if way == "variable" else ""}
    setting = {name: value for name, value in setting.items() if value}
    events, model, out = history(tmp_path), tmp_path / "no model", tmp_path / "out.jsonl"
    commands: list[list[object]] = [
        ["examples", tmp_path / "nothing.jsonl", "--to", out],
        ["score", events, "--model", model, "--to", out],
        ["alert", events, "--model", model],
        ["ingest", events, "--to", out],
    ]
    for command in commands:
        done = run_program(*command, "--config", config, env=setting)
        last = events_in(done.stderr)[-1]
        assert (last["level"], last["status"]) == ("ERROR", done.returncode) and done.returncode in (1, 2), last
        assert not last["message"].startswith("beepgpt:")


def test_a_worker_that_fails_says_why_in_one_event(tmp_path: Path):
    """Its message is text until the process that started it logs it."""
    events = history(tmp_path)
    (tmp_path / "out.jsonl.parts").write_text("no folder")
    status, said = ended(tmp_path, "examples", events, "--to", tmp_path / "out.jsonl", "--workers", 2)

    assert (status, said[-1]["level"], said[-1]["status"]) == (1, "ERROR", 1)
    assert "out.jsonl.parts" in said[-1]["message"] and "{" not in said[-1]["message"]


def test_a_wrong_command_is_an_event(tmp_path: Path):
    """The setting is read from the environment, before there is a command that could read its settings."""
    status, said = ended(tmp_path, "score", "--no-such-flag")

    assert status == 2 and "No such option: --no-such-flag" in said[-1]["message"]


FAULTS = """
import gc, logging, sys, threading, warnings
from beepgpt.runtime import logs
from beepgpt.runtime.console import console, quiet_engine

logs.configure("warning", "json", whole=True)
class Bad:
    def __del__(self): raise ValueError("where nobody can catch it")
console.print("a table\\nof two lines")
print("by a library", file=sys.stderr)
warnings.warn("old")
logging.getLogger("slack_sdk.web").warning("two\\nlines")
with quiet_engine():
    console.print("inside")
    logging.getLogger("beepgpt").warning("logged inside")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start(); thread.join()
del (bad := [Bad()])[0]
gc.collect()
sys.stderr.write("no line end")
{"a": 1}["b"]
"""


def test_faults_and_what_libraries_print_are_events():
    """Uncaught errors, of threads and of what is deleted too, warnings, and printed texts: each is one event, in their order."""
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, env=quiet(), check=False)

    said = events_in(done.stderr)
    assert done.returncode == 1
    messages = [each["message"] for each in said]
    assert messages[:2] == ["a table\nof two lines", "by a library"]
    assert "UserWarning: old" in messages[2] and messages[3:6] == ["two\nlines", "inside", "logged inside"]
    faults = [each["exception"].partition(" (at")[0] for each in said if each["message"] == "a fault of the program"]
    assert faults == ["ZeroDivisionError: division by zero", "ValueError: where nobody can catch it", "KeyError: 'b'"]
    assert [each["level"] for each in said if "exception" in each] == ["CRITICAL"] * 3
    assert "no line end" in messages
