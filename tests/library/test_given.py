"""What the library is given and gives: events of every form, tables that others wrote, files that only their owner may read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import beepgpt
from beepgpt.connectors.files import parquet
from beepgpt.errors import BadCommand, CannotRead
from tests.support.tables import write_table

ASKED = beepgpt.ChatEvent.post("general", "ana", 1704103200_000000, "Is it red?")
REPLY = beepgpt.ChatEvent.post("general", "bo", 1704103260_000000, "It is.", thread=ASKED.at)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Examples with candidates."""
    return [each.line for each in beepgpt.examples(beepgpt.simulate(tmp_path_factory.mktemp("given") / "workspace.zip", messages=200))]


def test_events_of_an_iterator_are_read_once():
    """A second reading would find none, and say so of a whole workspace."""
    made = beepgpt.examples(each for each in (ASKED, REPLY))
    first = list(made)
    account = made.account
    assert account["adds_up"] and first == list(beepgpt.examples([ASKED, REPLY]))
    for again in (lambda: list(made), made.kept, made.to_arrow):
        with pytest.raises(BadCommand, match="which can be read once, and was: give a list"):
            again()
    assert made.account == account


def test_events_may_be_records(lines: list[bytes]):
    """As a Follower takes them; what is no event is named."""
    wanted = list(beepgpt.examples([ASKED, REPLY]))
    assert list(beepgpt.examples([ASKED.record, orjson.loads(REPLY.record)])) == wanted
    with pytest.raises(BadCommand, match="'hello' is no event: give ChatEvents, or records"):
        list(beepgpt.examples(["hello"]))  # type: ignore[list-item]
    with pytest.raises(BadCommand, match="can't be written as JSON"):
        beepgpt.ChatEvent.post("general", "ana", 1704103200_000000, "half \ud800 of a sign")
    for at in (1704103200.5, "1704103200.000000", None):
        with pytest.raises(BadCommand, match="is no time: give whole microseconds since 1970"):
            beepgpt.ChatEvent.post("general", "ana", at, "Is it red?")  # type: ignore[arg-type]


def test_examples_stand_in_sets(lines: list[bytes]):
    """By their ids, points too."""
    some = [beepgpt.Example.from_line(each) for each in (*lines[:5], *lines[:5])]
    assert len(set(some)) == 5
    follower = beepgpt.Follower(points=True)
    follower.feed(ASKED)
    assert len(set(follower.feed(beepgpt.ChatEvent.heartbeat(1704103300_000000)).points)) == 1


def with_a_null(values: list[Any]) -> list[Any]:
    return [*values[:3], None, *values[4:]]


def with_a_null_inside(values: list[Any]) -> list[Any]:
    return [*values[:3], [None, *values[3][1:]], *values[4:]]


def without_the_last(values: list[Any]) -> list[Any]:
    return [*values[:3], values[3][:-1], *values[4:]]


@pytest.mark.parametrize(
    ("column", "change", "why"),
    [
        ("id", with_a_null, "is null"),
        ("prompt_ts", with_a_null, "is null"),
        ("window_ts", with_a_null, "does not have a value for each of window_ts|is null"),
        ("window_ts", with_a_null_inside, "holds a null"),
        ("window_user", without_the_last, "does not have a value for each of window_ts"),
        ("candidates_user", with_a_null, "does not have a value for each of candidates_user"),
        ("candidates_closeness", with_a_null, "does not have a value for each of candidates_user"),
        ("candidates_closeness", with_a_null_inside, "holds a null"),
    ],
)
def test_what_no_example_has_is_named_in_a_table(
    lines: list[bytes], tmp_path: Path, column: str, change: Callable[[list[Any]], list[Any]], why: str
):
    """Part, column and row of a value that another tool lost, wherever the table is read."""
    shown = [each for each in lines if len(orjson.loads(each)["candidates"]["user"]) > 1][:10]
    path = tmp_path / "examples.parquet"
    write_table(path, "example", shown)
    rows = pq.read_table(path)
    place = rows.schema.get_field_index(column)
    kind = rows.schema.field(column).type
    pq.write_table(rows.set_column(place, pa.field(column, kind), pa.array(change(rows[column].to_pylist()), kind)), path)

    with pytest.raises(CannotRead, match=rf"examples.parquet: column \w+ of row 4 ({why})"):
        list(parquet.lines_of(path, "example"))


@pytest.fixture
def open_to_all() -> Iterator[None]:
    """A program whose files everybody may read, as most are."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_to_all")
def test_what_holds_messages_is_for_its_owner_alone(tmp_path: Path):
    """A training set, its models and tables, in a program of somebody's own as from the command line; what else that writes is its own."""
    made = beepgpt.examples(beepgpt.simulate(tmp_path / "workspace.zip", messages=400))
    beepgpt.train(beepgpt.split(made, tmp_path / "sets" / "set"), threads=1)
    (tmp_path / "notes.txt").touch()

    found = {path.relative_to(tmp_path): path.stat().st_mode & 0o777 for path in (tmp_path / "sets").rglob("*")}
    assert len(found) > 10 and found[Path("sets/set/models/local/model.json")] == 0o600
    assert {path: mode for path, mode in found.items() if mode != (0o700 if (tmp_path / path).is_dir() else 0o600)} == {}
    assert (tmp_path / "notes.txt").stat().st_mode & 0o777 == 0o644
