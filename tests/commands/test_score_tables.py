"""Predictions and outcomes as tables: what `score` writes as lines, and read where lines are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from beepgpt.connectors.files import parquet
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.forgetting.kinds import kind_of
from beepgpt.forgetting.records import Cleaning
from tests.support import run_program
from tests.support.scoring import save, workspace

KINDS = {"p": "prediction", "p.outcomes": "outcome"}


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with events in `in.jsonl`, a `model`, and the lines that it made of them."""
    folder = tmp_path_factory.mktemp("scored")
    (folder / "in.jsonl").write_bytes(b"\n".join(workspace()) + b"\n")
    save(folder / "model")
    run_program("score", "in.jsonl", "--model", "model", "--to", "p.jsonl", cwd=folder)
    return folder


def rows(path: Path) -> list[bytes]:
    """What a table holds, as lines."""
    return list(parquet.lines_of(path, KINDS[path.stem]))


@pytest.mark.parametrize(
    "how",
    [(), *(pytest.param(each, marks=pytest.mark.slow) for each in (("--recovery", "state"), ("--workers", "2"), ("--with-candidates",)))],
)
def test_tables_have_the_values_of_the_lines(scored: Path, tmp_path: Path, how: tuple[str, ...]):
    """As one file or in parts, outcomes beside predictions; deletions stay lines, which say what is to be forgotten of the rows."""
    kept = scored / "p.jsonl"
    if how == ("--with-candidates",):
        kept = tmp_path / "c.jsonl"
        run_program("score", scored / "in.jsonl", "--model", scored / "model", "--to", kept, *how)
    command = ("score", scored / "in.jsonl", "--model", scored / "model", "--to", "p.parquet", *how)
    done = run_program(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr

    for name, lines in (("p.parquet", kept), ("p.outcomes.parquet", kept.with_suffix(".outcomes.jsonl"))):
        assert (tmp_path / name).is_dir() == (how[:1] in (("--recovery",), ("--workers",)))
        assert sorted(rows(tmp_path / name)) == sorted(lines.read_bytes().splitlines())
    assert len(rows(tmp_path / "p.parquet")) > 100
    assert (tmp_path / "p.deletions.jsonl").read_bytes() == kept.with_suffix(".deletions.jsonl").read_bytes()
    if how[:1] == ("--recovery",):
        before = rows(tmp_path / "p.parquet")
        assert run_program(*command, cwd=tmp_path).returncode == 0 and rows(tmp_path / "p.parquet") == before


def test_tables_are_read_as_lines_are(scored: Path, tmp_path: Path):
    """By `outcomes` and `rehearse`, which finds the outcomes beside the predictions; `alert` says what it reads."""
    run_program("score", scored / "in.jsonl", "--model", scored / "model", "--to", tmp_path / "p.parquet")
    found = []
    for place, ending in ((scored, "jsonl"), (tmp_path, "parquet")):
        reports = [tmp_path / f"{what}-{ending}.json" for what in ("outcomes", "rehearse")]
        page = tmp_path / "page.html"
        run_program("outcomes", place / f"p.outcomes.{ending}", "--model", scored / "model", "--report", reports[0])
        run_program("rehearse", place / f"p.{ending}", "--threshold", 0.3, "--to", page, "--report", reports[1])
        bodies = [json.loads(report.read_bytes()) for report in reports]
        found.append([{name: value for name, value in body.items() if name != "source"} for body in bodies])
    assert found[0] == found[1] and found[0][0]["models"]

    refused = run_program("alert", tmp_path / "p.parquet", "--threshold", 0.5, cwd=tmp_path)
    assert refused.returncode == 2 and "and this is a table" in refused.stderr, refused.stderr


def test_nothing_of_the_forgotten_is_left_in_them(scored: Path, tmp_path: Path):
    """A person who was predicted, as one who wrote: the rows go, and forget says which command makes them again."""
    run_program("score", scored / "in.jsonl", "--model", scored / "model", "--to", tmp_path / "p.parquet")
    person = json.loads(rows(tmp_path / "p.parquet")[5])["people"][0]["user"]
    cleaning = Cleaning(Forgotten(b"salt", []).with_names([person], [], []), True)

    for name in KINDS:
        path = tmp_path / f"{name}.parquet"
        before = rows(path)
        kind = kind_of(path)
        assert kind is not None and kind.name == "table"
        removal = kind.clean(path, cleaning)
        assert rows(path) == [line for line in before if person.encode() not in line]
        assert removal.found == len(before) - len(rows(path)) > 0 and removal.rebuild == "beepgpt score"


@pytest.mark.parametrize("flag", ["--to", "--outcomes"])
def test_a_place_where_no_table_can_be_is_refused_first(scored: Path, tmp_path: Path, flag: str):
    """Before anything is scored."""
    (tmp_path / "t.parquet").mkdir()
    places = ("--to", "t.parquet") if flag == "--to" else ("--to", "-", flag, "t.parquet")
    refused = run_program("score", scored / "in.jsonl", "--model", scored / "model", *places, cwd=tmp_path)
    assert refused.returncode == 2 and "is a folder, and this run writes a file" in refused.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["t.parquet"]
