"""Others read our tables: pandas, polars and DuckDB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import beepgpt
from beepgpt.connectors.files import parquet
from tests.support.tables import write_table


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, beepgpt.Examples]:
    """A table in two parts, and the examples in it."""
    folder = tmp_path_factory.mktemp("readers")
    examples = beepgpt.examples(beepgpt.simulate(folder / "workspace.zip", messages=200))
    lines = [each.line for each in examples.kept()]
    (folder / "examples.parquet").mkdir()
    for number, some in enumerate((lines[:60], lines[60:])):
        write_table(folder / "examples.parquet" / f"part-00-{number:05d}.parquet", "example", some)
    return folder / "examples.parquet", examples


def expected(examples: beepgpt.Examples) -> list[tuple[str, float, int]]:
    """Of each example: its id, the sum of its candidates' closeness, and the time of its point in microseconds."""
    return sorted((each.id, round(sum(each.candidates["closeness"]), 4), each.prompt_ts) for each in examples)


def test_pandas_reads_it(made: tuple[Path, beepgpt.Examples], tmp_path: Path):
    """Times with their zone, lists as arrays; and what pandas wrote again is read by us."""
    pandas: Any = pytest.importorskip("pandas")
    path, examples = made
    frame = pandas.read_parquet(path)

    rows = zip(frame["id"], frame["candidates_closeness"], frame["prompt_ts"], strict=True)
    assert sorted((id, round(sum(close), 4), t.value // 1000) for id, close, t in rows) == expected(examples)
    assert str(frame["prompt_ts"].dtype) == "datetime64[us, UTC]"
    pandas.testing.assert_frame_equal(frame, examples.to_pandas())
    frame[frame["speakers"] > 1].to_parquet(tmp_path / "few.parquet")
    assert sorted(parquet.lines_of(tmp_path / "few.parquet", "example")) == sorted(each.line for each in examples if each.speakers > 1)


def test_polars_reads_it(made: tuple[Path, beepgpt.Examples]):
    """From the file, and from the library."""
    polars: Any = pytest.importorskip("polars")
    path, examples = made
    frame = polars.read_parquet(path / "*.parquet")

    rows = zip(frame["id"], frame["candidates_closeness"].list.sum(), frame["prompt_ts"].dt.epoch("us"), strict=True)
    assert sorted((id, round(close, 4), t) for id, close, t in rows) == expected(examples)
    assert frame.equals(examples.to_polars())


def test_duckdb_reads_it(made: tuple[Path, beepgpt.Examples]):
    """By a query over the parts."""
    duckdb: Any = pytest.importorskip("duckdb")
    path, examples = made
    query = f"select id, coalesce(round(list_sum(candidates_closeness), 4), 0), epoch_us(prompt_ts) from '{path}/*.parquet'"

    assert sorted(duckdb.sql(query).fetchall()) == expected(examples)
    answered = f"select unnest(answer) who, count(*) n from '{path}/*.parquet' group by who order by n desc, who limit 3"
    counts: dict[str, int] = {}
    for each in examples:
        for who in json.loads(each.line)["answer"]:
            counts[who] = counts.get(who, 0) + 1
    assert duckdb.sql(answered).fetchall() == sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:3]
