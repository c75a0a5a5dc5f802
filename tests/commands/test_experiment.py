"""`beepgpt experiment`: framings of one history, each from its examples to its figures."""

import json
import os
import signal
import tomllib
from pathlib import Path
from typing import Any

import pytest

from beepgpt.commands.experiment import choose_framings
from beepgpt.simulation.workspace import Plan, live_records
from tests.support import beep, program, quiet, run_program, start
from tests.support.speed import slowness, wait_until

FRAMINGS = Path(__file__).resolve().parents[2] / "config" / "framings.toml"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The original's five framings of a simulated live stream, in which reactions have their times."""
    folder = tmp_path_factory.mktemp("tried")
    records = live_records(Plan(seed=5, messages=3_000, channels=3, people=15, days=30))
    (folder / "events.jsonl").write_bytes(b"".join(record.replace(b"\n", b" ") + b"\n" for record in records))
    beep("experiment", FRAMINGS, "--source", folder / "events.jsonl", "--to", folder / "framings", "--threads", 1)
    return folder / "framings"


def test_the_five_framings_of_the_original_are_told_in_one_table(tried: Path):
    """Each with its model's figures and those of a simple rule, on its own training set."""
    rows = json.loads((tried / "experiment.json").read_bytes())

    assert [row["framing"] for row in rows] == list(tomllib.loads(FRAMINGS.read_text("utf-8"))["framings"])
    assert len({row["spec"] for row in rows}) == 5
    for row in rows:
        metrics = json.loads((tried / row["framing"] / "model" / "metrics.json").read_bytes())
        assert row["figures"]["answered"]["model"] == metrics["choose"]["rows"]["answered"][0]["figures"]
        assert row["figures"]["answered_points"] == metrics["choose"]["answered"] > 0
        assert row["judged"]["answered"]["model"] == metrics["rows"]["answered"][0]["figures"]  # each alone asks its question


def test_of_framings_that_ask_the_same_the_best_to_choose_by_is_chosen():
    """Law 8: what judges says what it is worth, and chooses nothing."""
    asked = ("next", "next", "reacts", "next")
    losses = ((1.5, 0.1), (1.2, 0.9), (9.0, 0.5), (None, 0.0))
    rows: list[dict[str, Any]] = [
        {"framing": number, "target": target, "scope": "channel", "figures": {"log_loss": {"value": choose}}, "judged": {"log_loss": judge}}
        for number, (target, (choose, judge)) in enumerate(zip(asked, losses, strict=True))
    ]
    choose_framings([*rows, {"framing": 4, "why": "nobody answered"}])

    assert {row["framing"]: row["judged"]["log_loss"] for row in rows if "judged" in row} == {1: 0.9, 2: 0.5}


def test_framings_of_other_questions_are_not_compared(tried: Path):
    """Who reacts and who speaks next are two questions."""
    runs = [tried / name / "model" for name in ("conversation-next-user", "channel-reactors")]
    done = run_program("compare", *runs)

    assert done.returncode == 2
    assert "that can't be compared" in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("source = [", "is no TOML"),
        ('modle = "local"\n[framings.a]', "modle: extra inputs are not permitted"),
        ("framings = {}", "framings: dictionary should have at least 1 item"),
        ('model = "oracle"\nsource = "x"\n[framings.a]', "model is oracle: local or text is expected"),
        ('model = "openai"\nsource = "x"\n[framings.a]', "model is openai: local or text is expected"),
        ("[framings.a]", "names no source, and there is no --source"),
        ('source = "x"\n[framings.a.conversations]\ntarget = "all"', "--target is 'all'"),
    ],
)
def test_a_file_that_is_wrong_is_told_to_be(tmp_path: Path, text: str, said: str):
    """Before anything is made."""
    (tmp_path / "wrong.toml").write_text(text, "utf-8")
    done = run_program("experiment", tmp_path / "wrong.toml", "--to", tmp_path / "framings")

    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "framings").exists()


def test_a_framing_that_can_not_be_learned_says_why_and_the_others_go_on(tmp_path: Path):
    """Nobody reacts in this history."""
    records = live_records(Plan(seed=5, messages=900, channels=2, people=10, days=20))
    lines = [record.replace(b"\n", b" ") for record in records if b"reaction_" not in record]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    (tmp_path / "two.toml").write_text(
        '[framings.reactors.conversations]\ntarget = "reactors"\n[framings.next.conversations]\ntarget = "next_user"\n', "utf-8"
    )
    beep("experiment", tmp_path / "two.toml", "--source", tmp_path / "events.jsonl", "--to", tmp_path / "out", "--threads", 1)
    reactors, following = json.loads((tmp_path / "out" / "experiment.json").read_bytes())

    assert "the training side has 0 answered examples" in reactors["why"]
    assert "figures" in following


def test_stopped_it_learns_from_no_part_of_the_examples(tmp_path: Path):
    """It ends as what is interrupted does, and no framing is told."""
    events, to = tmp_path / "events.jsonl", tmp_path / "tried"
    os.mkfifo(events)
    with (tmp_path / "said").open("wb") as said:
        run = start(program("experiment", FRAMINGS, "--source", events, "--to", to), quiet(), (said, said, said))
        with events.open("wb"):  # whose end comes when it has been asked to stop
            wait_until(lambda: any(to.glob("*/examples.jsonl")), "it makes examples")
            run.send_signal(signal.SIGINT)
        status = run.wait(60 * slowness())

    assert status == 130 and not any(to.glob("*/set")) and not (to / "experiment.json").exists()
