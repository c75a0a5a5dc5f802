"""`beepgpt prepare` as its user meets it: run for real, judged by what it leaves and says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from beepgpt.connectors.log import OutgoingRecord, folder_place
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.conversations.events import ts_text
from tests.support import at, beep, run_program
from tests.support.logs import topic_on, write_to
from tests.support.prepare import FIRST, LAST, ROWS, Example, Set, example, line_of, write

CUT = ts_text(at(100))
GONE, SHOT = example("gone", "ana", minute=10), example("shot", "ana", minute=150)


def refused(*arguments: object, cwd: Path) -> tuple[int, str]:
    """The status and the one line of a run that fails."""
    done = run_program("prepare", *arguments, cwd=cwd)
    assert done.stderr.startswith("beepgpt: ") and done.stderr.count("\n") == 1, done.stderr
    return done.returncode, done.stderr.removeprefix("beepgpt: ").rstrip("\n")


def test_examples_to_a_training_set(tmp_path):
    """With what stands beside SOURCE taken back, and the few-shots kept out of validation."""
    source = write(tmp_path / "made.jsonl", [FIRST, GONE, SHOT, LAST])
    write(tmp_path / "made.retractions.jsonl", [{"id": GONE["id"], "retracted_ts": "1"}])
    (tmp_path / "shots").mkdir()
    write(tmp_path / "shots" / "examples_pos.jsonl", [SHOT | {"signal": "strong"}])
    told = ["--cut", CUT, "--min-answers", 1, "--few-shots", tmp_path / "shots", "--report", tmp_path / "report.json"]
    done = beep("prepare", source, "--to", tmp_path / "set", *told, "--format", "chat", "--format", "completion")
    report = json.loads((tmp_path / "report.json").read_bytes())

    assert sorted(Set(tmp_path / "set").files) == [
        "chat_train.jsonl", "chat_valid.jsonl", "completion_train.jsonl", "completion_valid.jsonl", "labels.json", "manifest.json",
        *ROWS,
    ]  # fmt: skip
    assert Set(tmp_path / "set").rows("valid") == [("last", "0")]
    assert report["account"]["left_out"] == {"retracted": 1, "few_shot": 1}
    assert report["files"] == Set(tmp_path / "set").manifest["files"]
    assert "the account adds up; cut 2024-01-01T11:40:00.000000Z" in done.stderr and done.stdout == ""


def test_a_topic_s_tombstones_and_given_retractions_take_back_together(tmp_path):
    """Each takes back what the other does not."""
    log = SqliteLog(folder_place(str(tmp_path / "log")))
    topic = topic_on(log, 1)
    dead = example("dead", "ana", minute=20)
    lines = [OutgoingRecord(each["id"].encode(), line_of(each)) for each in (FIRST, GONE, dead, LAST)]
    write_to(log, topic, *lines, OutgoingRecord(dead["id"].encode(), None))
    write(tmp_path / "taken.jsonl", [{"id": GONE["id"], "retracted_ts": "1"}])
    told = ["--cut", CUT, "--min-answers", 1, "--retractions", tmp_path / "taken.jsonl"]
    beep("prepare", f"sqlite://{tmp_path}/log/{topic}", "--to", tmp_path / "set", *told)

    assert Set(tmp_path / "set").left_out == {"retracted": 2}
    assert [prompt for prompt, _ in Set(tmp_path / "set").rows("train")] == ["first"]


def test_nothing_anybody_wrote_is_told(tmp_path):
    """Neither in the report nor on the terminal: rows are named by their ids."""
    secret = "xoxb-not-for-the-terminal"
    long = example("long", "ana", minute=10, text=f"{secret} " * 1000)
    source = write(tmp_path / "made.jsonl", [FIRST, long, LAST, line_of(GONE)[:-9], b'{"prompt": "%s"}' % secret.encode()])
    done = beep("prepare", source, "--to", tmp_path / "set", "--cut", CUT, "--report", tmp_path / "report.json")

    assert long["id"] in done.stderr and "no JSON: line 4\n" in done.stderr and "no examples: line 5\n" in done.stderr
    assert secret not in done.stderr + (tmp_path / "report.json").read_text() + (tmp_path / "set" / "manifest.json").read_text()


@pytest.mark.slow
def test_settings_come_from_a_file_too(tmp_path):
    """As everywhere."""
    source = write(tmp_path / "made.jsonl", [FIRST, example("silent", minute=10), LAST])
    (tmp_path / "my.toml").write_text(f'[training]\ncut = "{CUT}"\nsilences = "drop"\nformat = "candidates"\n')
    beep("prepare", source, "--to", tmp_path / "set", "--config", tmp_path / "my.toml")

    assert Set(tmp_path / "set").left_out == {"silence": 1}
    assert sorted(Set(tmp_path / "set").files) == [
        "candidates_train.parquet",
        "candidates_valid.parquet",
        "labels.json",
        "manifest.json",
        *ROWS,
    ]


@pytest.mark.parametrize(
    ("told", "status", "said"),
    [
        (["none.jsonl"], 2, "none.jsonl: there is no such file"),
        (["."], 2, ".: is a folder, where a file of JSON lines was expected"),
        (["made.jsonl", "--format", "csv"], 2, "--format is 'csv': must be of chat, completion, candidates, examples, joined by commas"),
        (["made.jsonl", "--cut", "yesterday"], 2, "--cut is 'yesterday': must be a time like 2024-01-31T12:00:00Z or 1706702400.000000"),
        (["made.jsonl", "--valid-share", "1"], 2, "--valid-share is '1': must be less than 1"),
        (["made.jsonl", "--few-shots", "none"], 2, "--few-shots none: there is no such folder"),
        (["made.jsonl", "--retractions", "none.jsonl"], 2, "none.jsonl: there is no such file"),
        (["made.jsonl", "--report", "made.jsonl"], 2, "made.jsonl: would be written over SOURCE: name another file"),
        (["made.jsonl", "--model", "gpt-9"], 1, "the model gpt-9 is not known, so neither is its encoding: give --encoding"),
        (
            ["chat_train.jsonl", "--to", "."],
            1,
            ".: has chat_train.jsonl that no training set there brought, and that would be lost: name another folder",
        ),
        (
            ["kafka://localhost:9092/slack.labeled?follow=true"],
            2,
            "a training set is made of all that the topic holds: leave out from, to and",
        ),
        (["made.jsonl", "--cut", "2030-01-01"], 1, "nothing is left on the validation side"),
        (["other.jsonl"], 1, "other.jsonl: has no examples (not_an_example 1)"),
    ],
)
@pytest.mark.slow
def test_what_cant_be_done_is_told_in_a_line(tmp_path, told, status, said):
    """And what to do; nothing is written."""
    examples: list[Example] = [FIRST, LAST]
    write(tmp_path / "made.jsonl", examples), write(tmp_path / "chat_train.jsonl", examples), write(tmp_path / "other.jsonl", [{"a": 1}])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    got, line = refused(*told, *([] if "--to" in told else ["--to", "set"]), cwd=tmp_path)

    assert (got, said in line) == (status, True), line
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
