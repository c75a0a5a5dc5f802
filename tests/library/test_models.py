"""Models in Python: validated as the command line does, beside one's own; tables as input; what is shown while one is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import beepgpt
from beepgpt.errors import BadCommand, CannotRead
from beepgpt.library.progress import shown_step
from tests.support import beep


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> beepgpt.Examples:
    return beepgpt.examples(beepgpt.simulate(tmp_path_factory.mktemp("models") / "workspace.zip", messages=1_500))


@pytest.fixture(scope="module")
def training_set(made: beepgpt.Examples, tmp_path_factory: pytest.TempPathFactory) -> beepgpt.TrainingSet:
    return beepgpt.split(made, tmp_path_factory.mktemp("models") / "set")


@pytest.fixture(scope="module")
def model(training_set: beepgpt.TrainingSet) -> beepgpt.Model:
    return beepgpt.train(training_set, threads=1)


# Validation


def test_a_model_is_validated_as_the_command_does_it(training_set: beepgpt.TrainingSet, model: beepgpt.Model, tmp_path: Path):
    """The same figures, and the same rows of them; beside a model of text, which is there."""
    text = beepgpt.train(training_set, kind="text", threads=1)
    found = model.validate(training_set)
    ran = beep("validate", training_set.folder, "--model", model.folder, "--to", tmp_path / "out", "--metrics", tmp_path / "metrics.json")

    assert ran.returncode == 0, ran.stderr
    assert found.figures == orjson.loads((tmp_path / "out" / "metrics.json").read_bytes())
    assert found.metrics == orjson.loads((tmp_path / "metrics.json").read_bytes()) == found.to_arrow().to_pylist()
    assert [row["name"] for row in found.figures["rows"]["answered"][:2]] == ["local", "text"]
    assert model.validate(training_set, [text]).figures == found.figures
    assert "answered points" in repr(found) and "\nlocal: hit@1 " in repr(found)


def test_a_model_of_ones_own_is_judged_on_the_same_points(training_set: beepgpt.TrainingSet, model: beepgpt.Model):
    """In both parts, by numbers for the candidates: a rule that the product has, too, has the same figures."""
    asked: list[pa.Table] = []

    def most_lately(rows: pa.Table) -> Any:
        asked.append(rows)
        return rows["answers_30d"]

    figures = model.validate(training_set, [most_lately]).figures
    for part in (figures, figures["choose"]):
        by_name = {row["name"]: row["figures"] for row in part["rows"]["answered"]}
        assert by_name["most_lately"] == by_name["who answered most lately"] != by_name["local"]
    for rows, side in zip(asked, ("judge", "choose"), strict=True):
        assert rows.equals(training_set.candidates(side).drop_columns(["id", "answered"]))


def test_a_model_of_ones_own_gives_a_number_for_each_candidate(training_set: beepgpt.TrainingSet, model: beepgpt.Model):
    """Neither fewer, nor what is none; and it has a name of its own."""

    def one(rows: pa.Table) -> list[float]:
        return [1.0]

    def no_number(rows: pa.Table) -> Any:
        return np.full(len(rows), np.nan)

    for wrong in (one, no_number):
        with pytest.raises(BadCommand, match=rf"^{wrong.__name__}: gives no number for each of [\d,]+ candidates"):
            model.validate(training_set, [wrong])
    one.__name__ = "local"
    with pytest.raises(BadCommand, match="has the name of another model"):
        model.validate(training_set, [one])


# Candidates


def test_each_candidate_is_a_row(training_set: beepgpt.TrainingSet):
    """With its example's id and whether they answered; who answered and is no candidate is in the table of examples alone."""
    for side in ("train", "choose", "judge"):
        rows, examples = training_set.candidates(side), training_set.to_arrow(side)
        assert rows.column_names == [
            "id",
            "conversation",
            "channel",
            "author",
            "prompt_ts",
            "speakers",
            "answered",
            "user",
            *training_set.features,
        ]
        wanted = [
            (example["id"], example["prompt_ts"], user, user in example["answer"], close)
            for example in examples.to_pylist()
            for user, close in zip(example["candidates_user"], example["candidates_closeness"], strict=True)
        ]
        columns = (rows[name].to_pylist() for name in ("id", "prompt_ts", "user", "answered", "closeness"))
        assert list(zip(*columns, strict=True)) == wanted
    assert pc.sum(rows["answered"]).as_py() > 10


def test_tables_of_both_kinds_have_one_form(made: beepgpt.Examples, training_set: beepgpt.TrainingSet):
    """The same names, times and meanings; numbers of candidates are in single precision, as models take them."""
    of_examples, of_set = made.to_arrow().schema, training_set.to_arrow("train").schema

    for field in of_set:
        if field.name in ("author", "signal", "signal_p"):
            continue
        known = of_examples.field(field.name)
        assert field.metadata == known.metadata, field.name
        if field.name == "candidates_user" or not field.name.startswith("candidates_"):
            assert field.type == known.type, field.name
    assert {each.removeprefix("candidates_") for each in of_set.names if each.startswith("candidates_")} == {"user", *training_set.features}


# Tables as input


def test_examples_may_come_as_a_table(made: beepgpt.Examples, model: beepgpt.Model, tmp_path: Path):
    """Of pandas, polars or pyarrow, filtered or not: to be split, predicted and audited."""
    kept = made.kept()
    frames = {"arrow": made.to_arrow()}
    for name in ("pandas", "polars"):
        pytest.importorskip(name)
        frames[name] = getattr(made, f"to_{name}")()
    wanted = beepgpt.split(kept, tmp_path / "wanted").to_arrow("train")
    for name, frame in frames.items():
        assert beepgpt.split(frame, tmp_path / name).to_arrow("train").equals(wanted)
        assert model.predict(frame[-3:]) == model.predict(kept[-3:])
    assert not beepgpt.audit_examples(made._origin.text, frames["arrow"]).is_broken  # type: ignore[union-attr]


def test_what_is_no_example_is_named(made: beepgpt.Examples, training_set: beepgpt.TrainingSet, model: beepgpt.Model, tmp_path: Path):
    """With what to give instead."""
    one = next(iter(made))
    for wrong in ([one, one.body], "examples.jsonl", one, 7, None):
        with pytest.raises(BadCommand, match="examples are expected"):
            model.predict(wrong)  # type: ignore[arg-type]
    with pytest.raises(BadCommand, match=r"examples are expected, what beepgpt\.examples returns"):
        beepgpt.split([one.body], tmp_path / "other")  # type: ignore[list-item]
    for other in (training_set.to_arrow("train"), pa.table({"id": ["1"]})):
        with pytest.raises(CannotRead, match=r"^the table: is no table of examples of beepgpt: the column spec is missing"):
            model.predict(other)


def test_kept_examples_are_in_the_order_of_time(made: beepgpt.Examples):
    """As the file of the command line: by when the answer was known, then by id; tables, too."""
    kept = [(each.settled_ts, each.id) for each in made.kept()]

    assert kept == sorted(kept) and made.to_arrow()["id"].to_pylist() == [identity for _, identity in kept]


# What is shown


def test_a_function_of_ones_own_gets_the_steps(training_set: beepgpt.TrainingSet, tmp_path: Path):
    """Whatever looks on; what a notebook shows without one stands in notebooks/, which tests run."""
    steps: list[str] = []
    beepgpt.train(training_set, tmp_path / "model", threads=1, status=steps.append)

    assert steps[:2] == ["reading", "fitting"] and steps[-1].startswith("tree ")


def test_a_program_shows_nothing(capfd: pytest.CaptureFixture[str]):
    """Neither on standard output nor beside it, where no terminal is."""
    with shown_step("done") as show:
        show("reading")
    assert capfd.readouterr() == ("", "")
