"""The flows in examples/ run as they say, each in a process of its own."""

import re
import sqlite3
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import beepgpt
from tests.support.command_line import environment
from tests.support.speed import slowness

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run_flow(name: str, folder: Path, *more: str) -> None:
    """The command in an example's docstring, in a folder."""
    command = re.search(r"^python -m bytewax.run '(.*)'$", (EXAMPLES / name).read_text("utf-8"), re.MULTILINE)
    assert command is not None
    flow = command[1].replace("examples/", f"{EXAMPLES}/")
    done = subprocess.run(
        [sys.executable, "-m", "bytewax.run", flow, *more],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=60 * slowness(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def write_events(folder: Path, events: list[beepgpt.ChatEvent]) -> None:
    (folder / "events.jsonl").write_bytes(b"".join(event.record + b"\n" for event in events))


def at(minute: int) -> datetime:
    return datetime(2024, 1, 1, 10, minute, tzinfo=UTC)


def test_a_plain_flow_makes_the_examples_of_the_command(tmp_path: Path):
    """Byte for byte, also with two workers."""
    events = list(beepgpt.read_events(beepgpt.simulate(tmp_path / "workspace.zip", messages=300)))
    write_events(tmp_path, events)

    run_flow("events_to_examples.py", tmp_path, "--workers-per-process", "2")

    ours = sorted(example.line for example in beepgpt.examples(tmp_path / "events.jsonl", horizon="4h"))
    assert sorted((tmp_path / "examples.jsonl").read_bytes().splitlines()) == ours != []


def test_a_sink_of_one_s_own_gets_examples_and_retractions(tmp_path: Path):
    """A deleted message's example leaves its id alone, and a second run changes nothing."""
    asked = beepgpt.ChatEvent.post("general", "ana", at(0), "Is it red?")
    reply = beepgpt.ChatEvent.post("general", "bo", at(1), "It is.", thread=asked.at)
    again = beepgpt.ChatEvent.post("random", "cy", at(2), "Who has the key?")
    found = beepgpt.ChatEvent.post("random", "dee", at(5), "I do.", thread=again.at)
    gone = beepgpt.ChatEvent.delete("random", at(2), at(20))
    write_events(tmp_path, [asked, reply, again, found, gone])

    for _ in range(2):
        run_flow("answers_to_sqlite.py", tmp_path)
        with sqlite3.connect(tmp_path / "answers.sqlite") as database:
            rows = database.execute("select channel, asked_by, answered_by, seconds from answers order by channel").fetchall()
        assert rows == [(None, None, None, None), ("general", "ana", "bo", 60.0)]


def test_zulip_s_export_becomes_events(tmp_path: Path):
    """Texts and topics as they were when they were written, public channels alone; and the examples that the guide tells of."""
    script = [sys.executable, str(EXAMPLES / "zulip.py"), str(EXAMPLES / "zulip-export")]
    done = subprocess.run(script, env=environment(), capture_output=True, timeout=60 * slowness(), check=True)
    (tmp_path / "zulip.jsonl").write_bytes(done.stdout)
    events = list(beepgpt.read_events(tmp_path / "zulip.jsonl"))

    assert Counter((event.channel, event.kind) for event in events) == {
        ("kitchen", "post"): 4, ("kitchen", "edit"): 1, ("kitchen", "react"): 1, ("releases", "post"): 5, ("releases", "ignored"): 1,
    }  # fmt: skip
    texts = {(event.kind, event.text) for event in events if event.text is not None}
    assert {("post", "The door sensor was loose."), ("edit", "The door sensor was loose. Push it in until it clicks.")} <= texts
    assert ("post", "<@13> It did that last winter, too. Leila Haddad fixed it then.") in texts
    icons = next(event for event in events if event.text and event.text.startswith("The new icons"))
    assert icons.thread == 1_717_406_400_000_000, "its topic, that of the release, got another name later"
    made = beepgpt.examples(tmp_path / "zulip.jsonl", horizon="4h").kept()
    guide = (EXAMPLES.parent / "docs" / "guides" / "python.md").read_text("utf-8")
    first = min(made, key=lambda example: example.prompt_ts)
    assert f"Its {len(events)} public messages, edits and reactions give {len(made)} examples; the first" in guide
    assert f"is `{first.prompt.splitlines()[0]}`, answered by `{first.answer[0]}`" in guide
