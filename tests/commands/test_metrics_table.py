"""`--metrics`: a report's numbers as one tidy table, the same as in the report."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import beepgpt
from beepgpt.conversations.record_fields import METRIC
from beepgpt.training.metrics_table import outcome_rows
from beepgpt.training.outcomes import figures_by_model
from tests.commands.test_outcomes import half, outcome
from tests.support import run_program
from tests.support.cli import beep

pq = pytest.importorskip("pyarrow.parquet")

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "training.md"
NUMBERS = ("value", "low", "high", "count", "conversations")
KEY = ("metric", "part", "kind", "model", "by", "group")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated workspace's training set, model, predictions and outcomes."""
    folder = tmp_path_factory.mktemp("made")
    export = beepgpt.simulate(folder / "workspace.zip", messages=900, people=15, channels=3, days=30)
    model = beepgpt.train(beepgpt.split(beepgpt.examples(export), folder / "set"), threads=1)
    beep("score", export, "--model", model.folder, "--to", folder / "predictions.jsonl", "--no-progress")
    return folder


def figures_in(body: Any) -> Iterator[tuple[Any, ...]]:
    """Every number with an interval in a report, wherever it stands."""
    if isinstance(body, dict) and set(NUMBERS) <= set(body):
        yield tuple(body[name] for name in NUMBERS)
    elif isinstance(body, dict | list):
        for each in body.values() if isinstance(body, dict) else body:
            yield from figures_in(each)


def tabled(made: Path, *command: object) -> tuple[list[dict[str, Any]], Any]:
    """The rows of a command's table, which is the same as JSON, and its report."""
    found = []
    for name in ("metrics.parquet", "metrics.json"):
        said = beep(*command, "--metrics", made / name, "--json")
        found.append(pq.read_table(made / name).to_pylist() if name.endswith("parquet") else json.loads((made / name).read_bytes()))
    assert found[0] == found[1]
    rows = found[0]
    assert len({tuple(row[name] for name in KEY) for row in rows}) == len(rows) > 20, "each number has a row of its own"
    assert {type(row["value"]) for row in rows} <= {float, int, type(None)} and all(row["part"] and row["model"] for row in rows)
    return rows, json.loads(said.stdout)


def value_of(rows: list[dict[str, Any]], **key: Any) -> Any:
    """The number of the only row with this key."""
    (row,) = (row for row in rows if all(row[name] == value for name, value in {"by": None, **key}.items()))
    return row["value"]


@pytest.mark.slow
def test_validate_s_table_has_the_report_s_numbers(made: Path):
    """All that have an interval, and the counts beside them."""
    model = made / "set" / "models" / "local"
    rows, report = tabled(made, "validate", made / "set", "--model", model, "--precision", 0.2)

    assert {tuple(row[name] for name in NUMBERS) for row in rows} >= set(figures_in(report)) != set()
    assert {row["part"] for row in rows} == {"judge", "choose"}
    ours = report["rows"]["answered"][0]["figures"]
    assert value_of(rows, part="judge", kind="answered", model="local", metric="hit@1") == ours["hit@1"]["value"]
    half = next(row for row in report["alerts"]["all"] if row["threshold"] == 0.5)
    assert value_of(rows, part="judge", kind="all", metric="alerts", by="threshold", group="0.5") == half["alerts"]


@pytest.mark.slow
def test_outcomes_and_rehearse_have_tables_too(made: Path):
    """With the numbers of their reports; what validation promised is in its own table."""
    model = ("--model", made / "set" / "models" / "local")
    rows, report = tabled(made, "outcomes", made / "predictions.outcomes.jsonl", *model)
    found = [{name: value for name, value in each.items() if name != "validation"} for each in report["models"]]
    assert {tuple(row[name] for name in NUMBERS) for row in rows} >= set(figures_in(found)) != set()

    rows, report = tabled(made, "rehearse", made / "predictions.jsonl", *model, "--to", made / "rehearsal.html", "--precision", 0.1)
    assert {tuple(row[name] for name in NUMBERS) for row in rows} >= set(figures_in(report)) != set()
    assert value_of(rows, part="judge", model=report["models"][0], metric="alerts") == report["rules"][0]["alerts"]


def test_weeks_and_thresholds_are_groups():
    """A week's hits with the answers that they are of."""
    rows = outcome_rows(figures_by_model([outcome(number) for number in range(4)], half))

    assert [(row["metric"], row["value"], row["count"]) for row in rows if row["by"] == "week"] == [("hit@1", 1.0, 4), ("hit@5", 1.0, 4)]
    assert value_of(rows, metric="given", by="threshold", group="0.5") == 4


def test_the_guide_has_each_column():
    """With its meaning, as the table's own metadata have it."""
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", GUIDE.read_text("utf-8"), re.MULTILINE)

    assert [row for row in rows if row in {(field.name, field.about) for field in METRIC}] == [
        (field.name, field.about) for field in METRIC
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("metrics.txt", "--metrics metrics.txt: a .parquet or a .json is expected"),
        ("outcomes.json", "outcomes.json: would be written over"),
    ],
)
def test_a_table_that_can_t_be_written_is_refused_first(name: str, said: str, tmp_path: Path):
    """Before anything is read, and never over another file of the command."""
    (tmp_path / "outcomes.json").write_text(json.dumps(outcome(0)) + "\n", "utf-8")

    done = run_program("outcomes", "outcomes.json", "--metrics", name, cwd=tmp_path)

    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith(f"beepgpt: {said}"), done.stderr
