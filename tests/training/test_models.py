"""A model's folder: what goes in comes out, and what is not ours is not read."""

import json
import os
import subprocess
import sys
from functools import cache
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import orjson
import pytest
import skops.io

from beepgpt.conversations.rules import Rules
from beepgpt.errors import TooLittle
from beepgpt.simulation.workspace import Plan, live_records
from beepgpt.training.archives import repeatable
from beepgpt.training.folder import CARD, FITTED
from beepgpt.training.models import TRUSTED, BadModel, load_model, save_model, train_here
from beepgpt.training.points import Examples, examples_of
from beepgpt.training.ranking import Ranker, fit_ranker
from beepgpt.training.splits import HandledWeak, SplitOptions
from beepgpt.training.text import TextModel, fit_text
from tests.support import run_of
from tests.support.prepare import made

pytestmark = pytest.mark.xdist_group("models")  # one worker fits them, once


@cache
def lines() -> tuple[bytes, ...]:
    return tuple(run_of(live_records(Plan(seed=5, messages=1_500, channels=2, people=15, days=20)), Rules()).examples)


def examples() -> Examples:
    return examples_of([json.loads(line) for line in lines()]).by_settled()


@cache
def models() -> dict[str, Ranker | TextModel]:
    """One of each kind, quickly."""
    return {"local": fit_ranker(examples(), rounds=5, min_data_in_leaf=20)[0], "text": fit_text(examples(), least=5, rounds=5)}


def saved(tmp_path: Path, kind: str) -> Path:
    """A model's folder; of its training set only the manifest matters."""
    save_model(tmp_path / kind, models()[kind], {}, b"{}")
    return tmp_path / kind


@pytest.mark.parametrize("kind", ["local", "text"])
def test_a_model_says_the_same_when_it_is_read_again(tmp_path: Path, kind: str):
    """Bit by bit."""
    again = load_model(saved(tmp_path, kind))
    before, after = models()[kind].predict(examples().points), again.model.predict(examples().points)

    assert before.people == after.people
    assert np.array_equal(before.p, after.p)
    assert before.nobody is not None
    assert after.nobody is not None
    assert np.array_equal(before.nobody, after.nobody)


@pytest.mark.parametrize("kind", ["local", "text"])
def test_the_same_model_gives_the_same_bytes(kind: str):
    """Wherever its objects stand in memory, and whenever it is written."""
    archive = skops.io.dumps(models()[kind].state())
    read = [skops.io.loads(archive, trusted=sorted(TRUSTED[kind])) for _ in range(2)]
    one, other = map(skops.io.dumps, read)
    assert one != other
    assert repeatable(one) == repeatable(other)
    with ZipFile(BytesIO(repeatable(one))) as again:
        assert {each.date_time for each in again.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_the_card_tells_what_it_is(tmp_path: Path):
    """The training set by its manifest's hash, the labels where there are any, the versions."""
    local, text = (load_model(saved(tmp_path, kind)).card for kind in ("local", "text"))

    assert local["manifest"] == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert local["labels"] is None
    assert text["labels"] == models()["text"].labels != []
    assert {"lightgbm", "scikit-learn", "skops", "python"} <= set(local["versions"])


def test_labels_are_ignored_unless_weak_is_nil(tmp_path: Path):
    """The same bytes of a model with labels and without; `prepare --weak nil` has weak answers count as nobody's."""
    plain = [json.loads(line) for line in lines()]
    labeled = [{**each, "signal": "weak" if number % 3 else "strong"} for number, each in enumerate(plain)]
    cards = {}
    wanted: dict[str, tuple[list[dict[str, Any]], HandledWeak]] = {
        "plain": (plain, "weak"),
        "labeled": (labeled, "weak"),
        "nil": (labeled, "nil"),
    }
    for name, (some, weak) in wanted.items():
        (tmp_path / name).mkdir()
        folder = made(tmp_path / name, some, sides=SplitOptions(weak=weak), formats=("candidates",)).folder
        cards[name] = train_here(folder, "text", tmp_path / name / "model", seed=1, threads=1, status=lambda _: None)

    predicted = {name: load_model(tmp_path / name / "model").model.predict(examples().points).p.tolist() for name in cards}
    assert predicted["plain"] == predicted["labeled"] != predicted["nil"]
    answered = {name: card["trained_on"]["answered"] for name, card in cards.items()}
    assert answered["plain"] == answered["labeled"] > answered["nil"] > 0


def test_a_changed_file_is_refused(tmp_path: Path):
    """One byte is enough."""
    folder = saved(tmp_path, "local")
    parts = bytearray((folder / FITTED).read_bytes())
    parts[-30] ^= 1
    (folder / FITTED).write_bytes(parts)

    with pytest.raises(BadModel, match="is not the file that was trained"):
        load_model(folder)


class Alien:
    """What no model holds."""

    def __init__(self) -> None:
        self.name = "alien"


def test_a_file_with_anything_else_in_it_is_not_read(tmp_path: Path):
    """Even if the card vouches for it."""
    folder = saved(tmp_path, "local")
    parts = skops.io.dumps({"trees": Alien()})
    (folder / FITTED).write_bytes(parts)
    rewrite(folder, files={FITTED: sha256(parts).hexdigest()})

    with pytest.raises(BadModel, match="holds what no model of ours does"):
        load_model(folder)


def test_a_folder_without_a_card_is_no_model(tmp_path: Path):
    """The card is written last: where it is missing, a training was interrupted."""
    folder = saved(tmp_path, "local")
    (folder / CARD).unlink()

    with pytest.raises(BadModel, match=r"is no trained model \(model.json is missing\)"):
        load_model(folder)


@pytest.mark.parametrize("broken", [{"format": 99}, {"kind": "oracle"}])
def test_another_version_is_refused(tmp_path: Path, broken: dict[str, Any]):
    """With what to do."""
    folder = saved(tmp_path, "local")
    rewrite(folder, **broken)

    with pytest.raises(BadModel, match="train it again"):
        load_model(folder)


def test_estimators_of_another_scikit_learn_are_refused(tmp_path: Path):
    """They promise nothing between versions; the trees of the ranker do."""
    for kind, refused in (("text", True), ("local", False)):
        folder = saved(tmp_path, kind)
        card = orjson.loads((folder / CARD).read_bytes())
        rewrite(folder, versions={**card["versions"], "scikit-learn": "0.1"})
        if refused:
            with pytest.raises(BadModel, match=r"scikit-learn 0\.1"):
                load_model(folder)
        else:
            load_model(folder)


def test_too_little_is_said_with_numbers():
    """Rather than a model that knows nothing."""
    few = examples().at(np.arange(20))

    with pytest.raises(TooLittle, match="and a model needs 100"):
        fit_ranker(few)
    with pytest.raises(TooLittle, match="nobody answered 20 times"):
        fit_text(few)


def test_a_text_model_says_other_for_people_without_a_label():
    """Whoever answered too seldom has a part in it, and no name."""
    said = models()["text"].predict(examples().points)
    assert said.nobody is not None
    assert said.other is not None

    assert set(said.people) <= set(models()["text"].labels or [])
    assert (said.other >= 0).all()
    assert said.other.max() > 0
    sums = np.add.reduceat(said.p, said.starts[:-1]) + said.nobody + said.other
    assert sums == pytest.approx(np.ones(len(said)))


def rewrite(folder: Path, **more: Any) -> None:
    """The card with other values."""
    card = orjson.loads((folder / CARD).read_bytes())
    (folder / CARD).write_bytes(orjson.dumps({**card, **more}))


def test_threads_of_training_do_not_wait_busily_whoever_starts_it():
    """The variable is set before the libraries that read it are imported; who set it otherwise is listened to."""
    said = "import beepgpt.training, os, sys; print(os.environ['OMP_WAIT_POLICY'], {'lightgbm', 'sklearn'} & set(sys.modules))"
    plain = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    told = [
        subprocess.run([sys.executable, "-c", said], env=plain | more, capture_output=True, text=True, check=True).stdout
        for more in ({}, {"OMP_WAIT_POLICY": "ACTIVE"})
    ]

    assert told == ["PASSIVE set()\n", "ACTIVE set()\n"]
