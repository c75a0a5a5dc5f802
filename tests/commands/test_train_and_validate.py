"""`beepgpt train` and `beepgpt validate` as their user meets them: a training set in, numbers and a page out."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beepgpt.commands.validate import print_figures
from beepgpt.library.training_sets import TrainingSet
from beepgpt.runtime.console import results
from beepgpt.simulation.workspace import Plan, live_records
from beepgpt.training.folder import BadSet
from beepgpt.training.models import load_model
from beepgpt.training.points import BadTable, examples_of, read_examples
from beepgpt.training.ranking import Ranker
from beepgpt.web.report import HEADS
from tests.support import beep, program, quiet, run_program
from tests.support.prepare import vouch_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HOSTILE = "<script>alert(1)</script> & </article>"


def refused(*arguments: object) -> tuple[int, str]:
    """The status and the one line of a run that fails."""
    done = run_program(*arguments)
    assert done.stderr.startswith("beepgpt: ") and done.stderr.count("\n") == 1, done.stderr
    return done.returncode, done.stderr.removeprefix("beepgpt: ").rstrip("\n")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training set with both models in it, and with hostile words in every message."""
    folder = tmp_path_factory.mktemp("trained")
    records = live_records(Plan(seed=5, messages=1_500, channels=3, people=15, days=30))
    (folder / "events.jsonl").write_bytes(b"".join(record.replace(b"\n", b" ") + b"\n" for record in records))
    beep("examples", folder / "events.jsonl", "--to", folder / "made.jsonl", "--no-progress")
    lines = (folder / "made.jsonl").read_text("utf-8").splitlines()
    told = [json.loads(line) for line in lines]
    spoiled = [{**each, "prompt": f"{HOSTILE}\n\n{each['prompt']}"} for each in told]
    (folder / "made.jsonl").write_text("\n".join(map(json.dumps, spoiled)) + "\n", "utf-8")
    beep("prepare", folder / "made.jsonl", "--to", folder / "set", "--format", "candidates", "--no-progress")
    beep("train", folder / "set", "--threads", 1)  # two would wait for each other where tests run side by side
    beep("train", folder / "set", "--model", "text", "--threads", 1)
    beep("validate", folder / "set", "--model", folder / "set" / "models" / "local")
    return folder


def metrics_of(trained: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((trained / "set" / "models" / "local" / "metrics.json").read_bytes())
    return found


def test_the_table_holds_the_examples(trained: Path):
    """What is read from Parquet is what the lines say, to the last bit of a 32-bit float."""
    from_table = read_examples(trained / "set" / "candidates_valid.parquet")
    lines = {each["id"]: each for each in map(json.loads, (trained / "made.jsonl").read_text("utf-8").splitlines())}
    from_lines = examples_of([lines[identity] for identity in from_table.ids])

    assert from_table.answers == from_lines.answers
    assert (from_table.settled_ts == from_lines.settled_ts).all()
    assert (from_table.points.features == from_lines.points.features).all()
    assert from_table.points.feature_names == from_lines.points.feature_names
    assert [from_table.points.candidates(each) for each in range(50)] == [from_lines.points.candidates(each) for each in range(50)]
    assert from_table.points.window_user == from_lines.points.window_user
    assert from_table.points.window_ts == from_lines.points.window_ts


def test_all_of_the_validation_part_is_judged(trained: Path):
    """Every kind of point has its rows, for the model, for text alone, and for what has to be beaten."""
    found = metrics_of(trained)
    rows = found["rows"]
    assert isinstance(rows, dict)

    manifest = json.loads((trained / "set" / "manifest.json").read_bytes())
    assert found["points"] == manifest["parts"]["examples"]["judge"]
    counts = [found[name] for name in ("chosen_on", "between", "points")]
    assert sum(counts) == manifest["account"]["valid"]["examples"] and min(counts) >= 0
    assert [row["name"] for row in rows["answered"]] == [
        "local", "text", "who wrote last in the conversation", "who answered most lately", "who answers most in the channel",
    ]  # fmt: skip
    assert [row["name"] for row in rows["all"]] == ["local", "text"]
    assert {row["figures"]["hit@1"]["count"] for row in rows["answered"]} == {found["answered"]}


def test_two_runs_give_the_same_numbers(trained: Path, tmp_path: Path):
    """Bytes of metrics.json and report.html; the model itself is trained again, on another number of threads."""
    first = trained / "set" / "models" / "local"
    beep("train", trained / "set", "--to", tmp_path / "local", "--threads", 2)
    beep("validate", trained / "set", "--model", tmp_path / "local")

    assert (tmp_path / "local" / "metrics.json").read_bytes() == (first / "metrics.json").read_bytes()
    assert (tmp_path / "local" / "report.html").read_bytes() == (first / "report.html").read_bytes()


def test_nothing_of_the_validation_part_is_learned(trained: Path, tmp_path: Path):
    """With its answers turned into each other's, the model is the same: its trees, and what makes chances of them."""
    spoiled = shutil.copytree(trained / "set", tmp_path / "set", ignore=shutil.ignore_patterns("models"))
    path = spoiled / "candidates_valid.parquet"
    table = pq.read_table(path)
    answers = table["answer"].to_pylist()
    place = table.schema.get_field_index("answer")
    turned = pa.array(answers[1:] + answers[:1], table.schema.field(place).type)
    pq.write_table(table.set_column(place, "answer", turned), path)
    vouch_for(path)
    beep("train", spoiled, "--threads", 1)

    models = [load_model(folder / "models" / "local").model for folder in (trained / "set", spoiled)]
    first, second = (model for model in models if isinstance(model, Ranker))

    assert answers != turned.to_pylist()
    assert first.trees.model_to_string() == second.trees.model_to_string()
    assert (first.sharpness, first.shifts) == (second.sharpness, second.shifts)


def test_runs_are_compared_as_they_were_validated(trained: Path, tmp_path: Path):
    """The local model beside text alone, each with its figures in the part to choose by; and the better one with those that judge."""
    local, text = (trained / "set" / "models" / name for name in ("local", "text"))
    beep("validate", trained / "set", "--model", text, "--against", local)
    beep("compare", local, text, "--to", tmp_path / "beside.json")
    found = json.loads((tmp_path / "beside.json").read_bytes())

    for place, folder in enumerate((local, text)):
        metrics = json.loads((folder / "metrics.json").read_bytes())
        told = {name: each[place]["figure"] for name, each in found["kinds"]["answered"].items() if not name.startswith("alert")}
        assert told == metrics["choose"]["rows"]["answered"][0]["figures"]
        assert found["points"] == metrics["choose"]["points"]
        if place == found["chosen"]["run"]:
            worth = {name: each for name, each in found["chosen"]["kinds"]["answered"].items() if not name.startswith("alert")}
            assert (worth, found["chosen"]["points"]) == (metrics["rows"]["answered"][0]["figures"], metrics["points"])
    assert refused("compare", local)[1] == "two runs or more are compared: beepgpt compare RUN RUN"


def check_that_it_fits(said: str, width: int) -> None:
    table = re.split(r"^(?:Not shown|calibration:|All figures|Of|No threshold|From) ", said, maxsplit=1, flags=re.MULTILINE)[
        0
    ].splitlines()[1:]

    assert max(map(len, table)) <= width
    assert ("mrr, log loss" in said) == (width < 116)  # what is left out is named
    assert any(re.search(r"local +\d+\.\d", line) for line in table)
    assert not any(re.fullmatch(r"[ \d.()–]+", line) and line.strip() for line in table)


@pytest.mark.parametrize("width", [40, 66, 80, 120])
def test_figures_fit_into_a_narrow_terminal(trained: Path, monkeypatch: pytest.MonkeyPatch, width: int):
    """No line is longer than the terminal is wide, and no number is torn."""
    monkeypatch.setattr(results, "width", width)
    monkeypatch.setattr(results, "_force_terminal", True)
    with results.capture() as said:
        print_figures(metrics_of(trained))

    check_that_it_fits(said.get(), width)


def test_the_command_asks_its_terminal_how_wide_it_is(trained: Path):
    """What it prints is what fits."""
    arguments = ("validate", trained / "set", "--model", trained / "set" / "models" / "local", "--to", trained / "narrow")
    command, env = (
        program(*arguments),
        quiet() | {"COLUMNS": "66", "LINES": "40", "TERM": "dumb", "TTY_COMPATIBLE": "1"},
    )  # from its start, when it asks
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr

    check_that_it_fits(done.stdout, 66)


class Page(HTMLParser):
    """The elements of a page, and what it asks of the network."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.addresses: list[str] = []
        self.said = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.said += data


def test_the_page_needs_nothing_and_runs_nothing(trained: Path):
    """No script, no address but its own drawings'; what people wrote is text."""
    text = (trained / "set" / "models" / "local" / "report.html").read_text("utf-8")
    page = Page(text)

    assert HOSTILE in page.said
    assert "script" not in page.elements
    assert page.elements.count("article") == 12
    assert page.elements.count("svg") == 4 + text.count('class="band"'), (
        "four pictures (of one month no line is drawn), and a band for each who is compared"
    )
    assert all(f'<th scope="col">{head}</th>' in text for head in HEADS.values())
    assert [address for address in page.addresses if not address.startswith("#")] == []
    assert not re.search(r"url\((?!#)", text)
    assert "prefers-color-scheme: dark" in text
    assert "default-src 'none'" in text


def test_the_page_says_how_many_first_messages_stayed_unanswered(trained: Path):
    """Beside how many the model had expected to."""
    silence = metrics_of(trained)["silences"]["first_messages"]
    text = (trained / "set" / "models" / "local" / "report.html").read_text("utf-8").replace("\xa0", " ")

    assert silence["came"]["count"] == metrics_of(trained)["rows"]["first_messages"][0]["figures"]["hit@1"]["count"] > 0
    assert f"the model had expected {100 * silence['said']:.0f} % of them to." in text
    unsure = silence["came"]["low"] is None or silence["came"]["low"] <= silence["said"] <= silence["came"]["high"]
    assert ("So it is too sure that" in text) == (not unsure)


def test_validation_says_what_its_training_set_leaves_out(trained: Path, tmp_path: Path):
    """Silences that a live model is asked about, and that judge nothing here: in the terminal, in metrics.json, and on the page."""
    beep("prepare", trained / "made.jsonl", "--to", tmp_path, "--format", "candidates", "--silences", "drop", "--no-progress")
    beep("train", tmp_path, "--threads", 1)
    said = beep("validate", tmp_path, "--model", tmp_path / "models" / "local").stdout
    found = json.loads((tmp_path / "models" / "local" / "metrics.json").read_bytes())
    silent = sum(not json.loads(line)["answer"] for line in (trained / "made.jsonl").read_text("utf-8").splitlines())

    assert metrics_of(trained)["not_judged"] == {}
    assert found["not_judged"] == {"silence": silent}
    assert f"Points that nobody answered (--silences drop) were left out of the training set, {silent:,} before the cut" in said
    assert f"{silent:,} examples that nobody answered (--silences drop)" in (tmp_path / "models" / "local" / "report.html").read_text(
        "utf-8"
    )


@pytest.mark.parametrize("name", ["candidates_train.parquet", "candidates_valid.parquet"])
def test_a_table_that_was_written_over_is_refused(trained: Path, tmp_path: Path, name: str):
    """By all that read it: the manifest names the files that were prepared."""
    folder = shutil.copytree(trained / "set", tmp_path / "set")
    table = pq.read_table(folder / name)
    place = table.schema.get_field_index("answer")
    nobody = pa.array([["UNOBODY"]] * len(table), table.schema.field(place).type)
    pq.write_table(table.set_column(place, "answer", nobody), folder / name)
    why = (
        f"{folder / name} is not the file that was prepared: manifest.json names another sha256. Put it back, or prepare the training set"
        f" again (beepgpt prepare SOURCE --to {folder}) and train anew"
    )
    model = folder / "models" / "local"

    assert refused("validate", folder, "--model", model) == (2, why)
    if name == "candidates_train.parquet":
        assert refused("train", folder, "--to", tmp_path / "model") == (2, why)
    else:
        assert refused("predict", "--model", model, "--row", 1) == (2, why)
    with pytest.raises(BadSet):
        TrainingSet(folder).to_arrow(name.split("_")[1].removesuffix(".parquet"))


def test_the_same_training_gives_the_same_bytes(trained: Path, tmp_path: Path):
    """In another process, at another time: so the model's id, and what is predicted with it, is the same."""
    for kind in ("local", "text"):
        beep("train", trained / "set", "--model", kind, "--threads", 1, "--to", tmp_path / kind)
        ours, again = trained / "set" / "models" / kind, tmp_path / kind
        for name in ("model.skops", "model.json"):
            assert (ours / name).read_bytes() == (again / name).read_bytes(), (kind, name)


def test_a_model_of_another_training_set_is_refused(trained: Path, tmp_path: Path):
    """It may have learned what would judge it."""
    beep("prepare", trained / "made.jsonl", "--to", tmp_path / "other", "--format", "candidates", "--valid-share", "0.3", "--no-progress")

    status, said = refused("validate", tmp_path / "other", "--model", trained / "set" / "models" / "local")

    assert status == 2
    assert said.endswith(f"was trained on another training set than {tmp_path / 'other'}, and may have seen what would judge it")


def test_what_is_missing_is_said_with_what_to_do(trained: Path, tmp_path: Path):
    """No training set, no table in it, no model."""
    nothing = refused("train", tmp_path)
    beep("prepare", trained / "made.jsonl", "--to", tmp_path / "chats", "--format", "chat", "--no-progress")

    assert nothing == (
        2,
        f"{tmp_path} is no training set (manifest.json is missing): beepgpt prepare SOURCE --to {tmp_path} --format candidates",
    )
    assert "candidates_train.parquet is missing: make it with beepgpt prepare" in refused("train", tmp_path / "chats")[1]
    assert "is no trained model (model.json is missing)" in refused("validate", trained / "set", "--model", tmp_path)[1]
    assert refused("train", trained / "set", "--model", "oracle") == (
        2,
        "--model oracle: local, text, openai:NAME, served:NAME or export is expected",
    )


def test_a_file_that_is_no_table_is_said_to_be_none(tmp_path: Path):
    """With its name."""
    (tmp_path / "table.parquet").write_bytes(b"PAR1 this is none")

    with pytest.raises(BadTable, match=r"table\.parquet is no table of candidates"):
        read_examples(tmp_path / "table.parquet")


def test_a_row_and_a_text_are_asked_about(trained: Path):
    """A local model is lent the facts of a row for a text, and says so; one of text needs none."""
    local, text = (trained / "set" / "models" / kind for kind in ("local", "text"))
    row = beep("predict", "--model", local, "--row", 3).stdout
    lent = json.loads(beep("predict", "--model", local, "--text", "Who knows the build?", "--json").stdout)
    own = json.loads(beep("predict", "--model", text, "--text", "Who knows the build?", "--json").stdout)

    assert HOSTILE in row
    who = r"(?!nil|other|\d+\b)\S.*"  # a name, an id, nobody or somebody else: no label of a row of text
    assert re.search(rf"^who answered  {who}$", row, re.MULTILINE)
    assert re.search(rf"^likeliest     {who}, \d+\.\d %$", row, re.MULTILINE)
    assert len(re.findall(r"^\S.*\t\d+\.\d %$", row, re.MULTILINE)) == 5
    assert lent["prompt"] == own["prompt"] == "Who knows the build?\n\n###\n\n"
    assert "those of that moment" in lent["facts"]
    assert "facts" not in own
    assert refused("predict", "--model", local) == (
        2,
        "--row N or --text TEXT is expected: a row of the validation file, or a conversation of your own",
    )
    assert refused("predict", "--model", "nowhere", "--row", 3) == (
        2,
        "--model nowhere: is no trained model (model.json is missing): name the folder that `beepgpt train` made",
    )
