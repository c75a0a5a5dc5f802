"""The audit of our own training sets, of every format: what each row was made of stands beside it, and nothing is guessed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beepgpt.audit.laws import audit_examples
from beepgpt.commands.audit import SUSPECTED
from beepgpt.library.auditing import set_in
from beepgpt.training.splits import SplitOptions
from tests.support import program, quiet
from tests.support.audits import ENCODING, RULES, broken, made_up
from tests.support.prepare import Set, made


def set_of(folder: Path, *formats: str) -> Set:
    """The training set of the simulated workspace's examples."""
    folder.mkdir(parents=True, exist_ok=True)
    return made(folder, made_up()[1].examples, sides=SplitOptions(valid_share=0.3), formats=formats)


def found_in(folder: Path) -> dict[int, str]:
    """What an audit of a training set finds broken, or suspects."""
    given = set_in(folder)
    audit = audit_examples(made_up()[0], given.lines, RULES, ENCODING, valid=given.valid, unlike=given.unlike)
    assert not audit.is_suspected
    return broken(audit)


FORMATS = [
    ("chat",),
    ("completion",),
    ("candidates",),
    ("examples",),
    ("chat", "candidates"),
    ("chat", "completion", "candidates", "examples"),
]


@pytest.mark.parametrize("formats", FORMATS)
def test_a_set_of_ours_keeps_the_laws_in_every_format(tmp_path: Path, formats: tuple[str, ...]):
    """All of its examples are made again, from a folder as prepare wrote it."""
    ours = set_of(tmp_path, *formats)
    given = set_in(ours.folder)
    audit = audit_examples(made_up()[0], given.lines, RULES, ENCODING, valid=given.valid, unlike=given.unlike)

    assert broken(audit) == {} and not audit.is_suspected
    assert {judged.law for judged in audit.laws if judged.verdict == "kept"} == {1, 2, 3, 4, 6, 7}
    assert audit.checked["recomputed"] == audit.checked["examples"] > 100


def changed(path: Path, change: Callable[[dict[str, object]], None], row: int = 3) -> None:
    """A file of which one row was changed afterwards."""
    lines = path.read_bytes().splitlines()
    body = orjson.loads(lines[row])
    change(body)
    path.write_bytes(b"".join(line + b"\n" for line in [*lines[:row], orjson.dumps(body), *lines[row + 1 :]]))


def a_later_word(body: dict[str, object]) -> None:
    messages = body["messages"]
    assert isinstance(messages, list)
    messages[-2]["content"] = "what was said later\n\n" + messages[-2]["content"]


def test_a_prompt_that_was_changed_is_named(tmp_path: Path):
    """In the rows alone, as another tool might; and in one of two files, which then disagree."""
    ours = set_of(tmp_path / "a", "chat")
    changed(ours.folder / "chat_train.jsonl", a_later_word)
    assert set(found_in(ours.folder)) == {1}

    both = set_of(tmp_path / "b", "chat", "candidates")
    changed(both.folder / "chat_train.jsonl", a_later_word)
    assert "rows that are not what the entries beside them say" in found_in(both.folder)[4]


def test_a_row_that_was_moved_over_the_cut_is_named(tmp_path: Path):
    """A validation example among those to learn from."""
    ours = set_of(tmp_path, "completion")
    for name in ("rows", "completion"):
        train, valid = (ours.folder / f"{name}_{side}.jsonl" for side in ("train", "valid"))
        train.write_bytes(train.read_bytes() + valid.read_bytes().splitlines(keepends=True)[-1])

    assert 7 in found_in(ours.folder)


def test_rows_too_many_or_in_another_order_are_named(tmp_path: Path):
    """Of a file of text, and of a table."""
    ours = set_of(tmp_path / "a", "completion")
    path = ours.folder / "completion_valid.jsonl"
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[0])
    assert "1 rows more than the entries beside it name" in found_in(ours.folder)[4]

    table = set_of(tmp_path / "b", "candidates").folder / "candidates_train.parquet"
    rows = pq.read_table(table)
    pq.write_table(rows.take(pa.array([1, 0, *range(2, len(rows))])), table)
    assert "its prompt is not that of" in found_in(table.parent)[4]


def test_the_command_tells_kept_broken_and_suspected_apart(tmp_path: Path):
    """README's two lines exit with 0; a changed row with 1; without what stands beside the rows, all is a guess: 3, and never 1."""
    events = tmp_path / "events.jsonl"
    events.write_bytes(b"".join(record.replace(b"\n", b" ") + b"\n" for record in made_up()[0]))
    folder = set_of(tmp_path, "chat", "candidates").folder

    def audited() -> tuple[int, str]:
        done = subprocess.run(program("audit", events, folder), capture_output=True, text=True, env=quiet(), timeout=300, check=False)
        return done.returncode, done.stderr

    assert audited()[0] == 0
    for each in folder.glob("rows_*.jsonl"):
        each.unlink()
    status, said = audited()
    assert status in (0, SUSPECTED)
    assert ("suspected" in said) == (status == SUSPECTED)
