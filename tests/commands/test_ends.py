"""How commands end: with one status for one reason, without empty folders, and quietly where nobody reads any more."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from tests.support import program, quiet, run_program, start

MISSING = (
    "try no.zip --to made",
    "examples no.zip --to examples.jsonl",
    "examples here.jsonl --to made/examples.jsonl",
    "label no.jsonl --to labeled.jsonl",
    "review no.jsonl",
    "prepare no.jsonl --to made",
    "prepare here.jsonl --retractions no.jsonl --to made",
    "audit no.zip here.jsonl",
    "audit here.jsonl no.jsonl",
    "train no",
    "retrain no.jsonl --model made",
    "validate no --model no",
    "predict --model no --row 1",
    "compare no other",
    "experiment no.toml --to made",
    "score no.zip --model no --to predictions.jsonl",
    "alert no.jsonl --model no",
    "dead-letters no.jsonl",
    "forget --user U1 --from no",
    "outcomes no.jsonl",
    "rehearse no.jsonl --to page.html",
    "settings --config no.toml",
    "check --config no.toml",
)


@pytest.mark.parametrize("command", MISSING, ids=lambda each: each.partition(" ")[0])
def test_what_the_command_names_and_is_not_there_is_its_own_fault(tmp_path: Path, command: str):
    """Status 2 from every command, one message that names it, and nothing is left behind."""
    (tmp_path / "here.jsonl").write_text('{"type": "message"}\n')
    done = run_program(*command.split(), cwd=tmp_path)

    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("beepgpt: ") and "Traceback" not in done.stderr
    assert any(word in done.stderr for word in ("no", "made"))
    assert [each.name for each in tmp_path.iterdir()] == ["here.jsonl"]


@pytest.mark.parametrize("command", ["prepare here.jsonl --to made/set", "review here.jsonl --few-shots made/few"])
def test_failed_work_leaves_no_empty_folder(tmp_path: Path, command: str):
    """What was made for it goes again; an empty folder of somebody else stays."""
    (tmp_path / "here.jsonl").write_text("{}\n")
    (tmp_path / "theirs").mkdir()
    for arguments in (command, command.replace("made", "theirs")):
        assert run_program(*arguments.split(), cwd=tmp_path).returncode != 0

    assert {each.name for each in tmp_path.iterdir()} == {"here.jsonl", "theirs"} and list((tmp_path / "theirs").iterdir()) == []


@pytest.mark.parametrize("command", ["prepare here.jsonl --to s.csv", "try here.zip --to x.html", "prepare here.jsonl --to here.zip"])
def test_a_folder_is_not_called_as_a_file(tmp_path: Path, command: str):
    """Who asks for a table gets no folder of that name."""
    for name in ("here.jsonl", "here.zip"):
        (tmp_path / name).write_text("{}\n")
    done = run_program(*command.split(), cwd=tmp_path)

    assert done.returncode == 2 and "a folder is made there" in done.stderr, done.stderr
    assert {each.name for each in tmp_path.iterdir()} == {"here.jsonl", "here.zip"}


@pytest.mark.parametrize("command", ["settings", "settings --json", "--help", "help examples", "prepare --help", "--version"])
def test_output_that_nobody_reads_ends_quietly(command: str):
    """As of other tools: the status of SIGPIPE, and not a word."""
    read, write = os.pipe()
    os.close(read)
    with TemporaryFile() as said, open(os.devnull, "rb") as nothing, os.fdopen(write, "wb") as closed:
        run = start(program(*command.split()), quiet(), (nothing, closed, said))
        status = run.wait()
        said.seek(0)
        words = said.read().decode()

    assert (status, words) == (141, "")
