"""A model knows among which people it was trained, names none of them, and says when it is asked about strangers."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from beepgpt.errors import BadCommand
from beepgpt.training.models import hash_of, read_card
from beepgpt.training.people import ENOUGH, LIMIT, SKETCH, StrangersCheck, known_share, sketch_of
from beepgpt.training.splits import SplitOptions
from tests.support import run_program
from tests.support.prepare import made
from tests.support.scoring import ranked, save
from tests.support.scoring import workspace as stream

SALT = hash_of(b"{}")


def ids(count: int, lot: random.Random) -> list[str]:
    """Made-up ids of people."""
    return [f"U{lot.randrange(36**8):08X}" for _ in range(count)]


def authors(records: tuple[bytes, ...]) -> set[str]:
    """Who posts in a stream of events, but for Slack's own bot, which is in every workspace."""
    events = [json.loads(record).get("event", {}) for record in records]
    return {each["user"] for each in events if each.get("user")} - {"USLACKBOT"}


@pytest.mark.parametrize(("known", "flagged"), [(0.0, 195), (0.36, 0), (0.68, 0)])
def test_strangers_are_told_from_newcomers(known: float, flagged: int):
    """Of 200 workspaces of 300 people: 195 in which nobody is known, and none with the shares that real workspaces had."""
    lot, found = random.Random(3), 0
    for _ in range(200):
        trained = ids(300, lot)
        asked = lot.sample(trained, round(known * ENOUGH)) + ids(ENOUGH - round(known * ENOUGH), lot)
        found += known_share(asked, sketch_of(trained, SALT), SALT) < LIMIT

    assert found == flagged


def test_of_nobody_it_can_be_shown_that_they_were_there(tmp_path: Path):
    """A quarter of all strangers look known, and neither the sketch nor the card holds an id; another set's is another sketch."""
    lot = random.Random(4)
    trained, strangers = ids(1_000, lot), ids(10_000, lot)
    sketch = sketch_of(trained, SALT)

    assert 0.23 < sum(known_share([each], sketch, SALT) == 1 for each in strangers) / len(strangers) < 0.27
    assert sketch != sketch_of(trained, hash_of(b"other")) and sketch == sketch_of(reversed(trained), SALT)
    folder = save(tmp_path / "model", trained)
    assert read_card(folder)["files"].keys() == {"model.skops", SKETCH}
    assert not [each for each in trained if each.encode() in (folder / "model.json").read_bytes() + (folder / SKETCH).read_bytes()]


def test_score_says_that_people_are_strangers(tmp_path: Path):
    """A model of one simulated workspace, asked about another; about its own it says nothing."""
    own, other = stream(300, 7), stream(300, 8)
    assert not authors(own) & authors(other)
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(own) + b"\n")
    for name, people in (("own", authors(own)), ("other", authors(other))):
        save(tmp_path / name, people)
    said = {}
    for name in ("own", "other"):
        done = run_program("score", "in.jsonl", "--model", name, "--to", "-", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        said[name] = " ".join(done.stderr.split())

    assert "strangers" not in said["own"]
    assert said["other"].count("the people here are strangers to this model") == 1


def test_validate_and_predict_say_so_before_they_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A model of another training set is refused anyway; whether it is of other people, too, is said."""
    from beepgpt.commands.predict import predicted
    from beepgpt.commands.validate import validated
    from beepgpt.config.settings import read_settings

    folder = made(tmp_path, ranked()[1], sides=SplitOptions(), formats=("candidates",)).folder
    settings = read_settings(environ={})
    save(tmp_path / "strangers", ids(30, random.Random(5)))
    for ask in (
        lambda: validated(folder, tmp_path / "strangers", [], [0.5], settings),
        lambda: predicted(folder, tmp_path / "strangers", 1, None, settings),
    ):
        with pytest.raises(BadCommand, match="was trained on another training set"):
            ask()
        assert "the people here are strangers to this model" in " ".join(capsys.readouterr().err.split())


def test_few_people_and_models_without_a_sketch_say_nothing(tmp_path: Path):
    """Of 9 people nothing can be told; a model of an older version knows nobody."""
    said: list[str] = []
    save(tmp_path / "old")
    save(tmp_path / "new", ["ana", "bo"])
    for folder, count in (("old", 100), ("new", 9), ("new", 10)):
        check = StrangersCheck(tmp_path / folder, SALT, said.append)
        check.add(ids(count, random.Random(count)))
        check.end()

    assert len(said) == 1
