"""Names of people and channels: from an export, a folder or a file; remembered beside what is made of it, and forgotten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from beepgpt.commands.app import app
from beepgpt.errors import BadCommand
from beepgpt.runtime.names import keep_names, known_names, names_beside, names_in, pass_names_on
from beepgpt.simulation.workspace import Plan, names, write_export
from tests.support import run_program

PLAN = Plan(seed=7, messages=60, channels=2, people=6, days=3)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an export, and the examples of it."""
    monkeypatch.setenv("BEEPGPT_RUN__FORGOTTEN", str(tmp_path / "forgotten.json"))
    write_export(PLAN, tmp_path / "acme.zip")
    run("examples", tmp_path / "acme.zip", "--to", tmp_path / "examples.jsonl")
    return tmp_path


def run(*arguments: object) -> None:
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 0, (done.output, done.exception)


def test_names_of_an_export_stand_beside_its_examples_and_go_on_to_what_is_made_of_them(made: Path):
    """People and channels; `--names` wins, `--no-names` shows none, and an older file goes where there is none to copy."""
    kept = json.loads((made / "examples.names.json").read_bytes())

    assert kept == names_in([made / "acme.zip"]) and names(PLAN).keys() <= kept.keys()
    assert {name for name in kept.values() if name.startswith("#")} and known_names(None, [made / "examples.jsonl"]) == kept
    person = min(names(PLAN))
    (made / "other.json").write_text(json.dumps([{"id": person, "profile": {"display_name": "Zoe"}}]))
    assert known_names([made / "other.json"], [made / "examples.jsonl"]) == kept | {person: "Zoe"}
    assert known_names([made / "acme.zip"], [made / "examples.jsonl"], no_names=True) == {}
    (made / "set").mkdir()
    pass_names_on(made / "examples.jsonl", made / "set")
    assert names_in([made / "set"]) == kept and names_beside(made / "set") == made / "set" / "names.json"
    pass_names_on(made / "acme.zip", made / "set")
    assert not (made / "set" / "names.json").exists()


def test_a_channel_that_is_left_out_is_not_named(tmp_path: Path):
    """Its name may say too much, and the file goes wherever the examples go; with its kind it is."""
    export = tmp_path / "acme"
    export.mkdir()
    (export / "users.json").write_text('[{"id": "U1", "real_name": "Ana"}]')
    (export / "channels.json").write_text('[{"id": "C1", "name": "general"}, {"id": "C2", "name": "board", "is_private": true}]')
    (export / "groups.json").write_text('[{"id": "G1", "name": "layoffs"}]')
    (export / "mpims.json").write_text('[{"id": "G2", "name": "mpdm-ana--bo-1"}]')

    for include, kept in ((("channels",), {"C1"}), (("channels", "groups"), {"C1", "C2", "G1"})):
        keep_names(export, tmp_path / "examples.jsonl", None, include)
        assert json.loads((tmp_path / "examples.names.json").read_bytes()).keys() == {"U1", *kept}


def test_without_names_none_are_written(made: Path):
    run("examples", made / "acme.zip", "--to", made / "bare.jsonl", "--no-names")

    assert (made / "bare.jsonl").exists() and not (made / "bare.names.json").exists()


def test_lists_of_an_export_are_told_apart(tmp_path: Path):
    """A folder with them, or each by itself: channels have a #, people none; something else is refused."""
    (tmp_path / "users.json").write_text('[{"id": "U1", "real_name": "Ana"}]')
    (tmp_path / "channels.json").write_text('[{"id": "C1", "name": "general"}]')
    (tmp_path / "events.jsonl").write_text('{"type": "message"}\n{"type": "message"}\n')

    assert names_in([tmp_path]) == names_in([tmp_path / "users.json", tmp_path / "channels.json"]) == {"U1": "Ana", "C1": "#general"}
    with pytest.raises(BadCommand, match="--names"):
        names_in([tmp_path / "events.jsonl"])


def test_who_is_forgotten_has_no_name_any_more(made: Path):
    """Neither in the file that stands there, nor in one that is made later."""
    person = min(names(PLAN))
    run("forget", "--user", person, "--from", made / "examples.names.json", "--yes")
    kept = json.loads((made / "examples.names.json").read_bytes())
    environ = {"BEEPGPT_RUN__FORGOTTEN": str(made / "forgotten.json")}  # another process: this one has read the list as it was
    later = run_program("examples", made / "acme.zip", "--to", made / "later.jsonl", env=environ)

    assert kept == {each: name for each, name in names_in([made / "acme.zip"]).items() if each != person}
    assert later.returncode == 0 and json.loads((made / "later.names.json").read_bytes()) == kept
