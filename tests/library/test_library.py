"""What `import beepgpt` gives: few names, loaded when they are used, and the same examples as the command line's."""

from __future__ import annotations

import inspect
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given

import beepgpt
from beepgpt.connectors.kafka import Connection
from beepgpt.connectors.log import OutgoingRecord
from beepgpt.conversations.points import PointEmitted, PointSettled
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.shard import RunOutput
from beepgpt.errors import BadCommand
from beepgpt.library.follower import Emitted
from beepgpt.packages import MissingPackage
from beepgpt.training.formats import microseconds
from beepgpt.training.parts import parts_of
from tests.support import NOW, beep, outcome, run_of
from tests.support.broker import Broker, GivenBroker
from tests.support.histories import START, delete, edit, heartbeat, post, react
from tests.support.kafka import new_topics, put
from tests.support.oracle_records import MINUTE
from tests.support.worlds import History, end_of, patient, worlds


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return beepgpt.simulate(tmp_path_factory.mktemp("library") / "workspace.zip", messages=400)


# Names


def test_each_public_name_has_an_example_that_runs():
    """Of all docstrings, this file's run with the others: here is that each has one."""
    assert [name for name in beepgpt.__all__ if ">>> " not in (getattr(beepgpt, name).__doc__ or "")] == []


def test_the_names_are_few_and_each_says_what_it_is():
    """15 at most; a test of each runs as a doctest in its module."""
    assert len(beepgpt.__all__) <= 15 and sorted(chain(*beepgpt._FROM.values())) == beepgpt.__all__ == sorted(beepgpt.__all__)
    assert [getattr(beepgpt, name).__name__ for name in beepgpt.__all__] == beepgpt.__all__
    for name in beepgpt.__all__:
        found = getattr(beepgpt, name)
        assert len((inspect.getdoc(found) or "").split()) > 4, name
        if name not in ("BeepGPTError", "Examples", "Model", "Point", "TrainingSet"):
            assert ">>>" in (inspect.getdoc(found) or ""), name
    assert dir(beepgpt) == sorted([*beepgpt.__all__, "__version__"])
    with pytest.raises(AttributeError, match="no attribute 'exmaples'"):
        beepgpt.exmaples  # noqa: B018


def test_what_takes_time_is_loaded_when_it_is_used():
    """Neither the engine nor the libraries of tables and models come with the name alone, nor with a look at what it has."""
    code = "import beepgpt, sys; dir(beepgpt); print(sorted({each.partition('.')[0] for each in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert not {"bytewax", "numpy", "orjson", "pyarrow", "pydantic", "sklearn", "rich"} & set(eval(loaded))


# The same examples


@pytest.mark.parametrize(
    ("flags", "settings"),
    [
        ((), {}),
        (("--horizon", "4h", "--window", "8"), {"horizon": timedelta(hours=4), "window": 8}),
        (("--until", "2024-01-31", "--no-candidates"), {"until": datetime(2024, 1, 31, tzinfo=UTC), "candidates": False}),
        (("--include", "channels,groups"), {"include": ["channels", "groups"]}),
    ],
)
def test_examples_of_an_export_are_the_command_s(export: Path, tmp_path: Path, flags: tuple[str, ...], settings: dict[str, object]):
    """Byte for byte, with the same account."""
    ran = beep("examples", export, "--to", tmp_path / "examples.jsonl", "--json", *flags)
    made = beepgpt.examples(export, **settings)  # type: ignore[arg-type]
    lines = [each.line for each in made]

    assert ran.returncode == 0
    assert sorted(lines) == sorted((tmp_path / "examples.jsonl").read_bytes().splitlines()) and len(lines) > 50
    assert [each.line for each in made] == lines, "a second reading gives the same"
    assert f'"examples": {len(lines)}' in ran.stdout and made.account["examples"] == len(lines)


def fed(history: History, rules: Rules, until: int | None = None) -> tuple[list[bytes], list[bytes], dict[str, object]]:
    """What a Follower gives of a history, event by event."""
    follower = beepgpt.Follower(rules, until=until)
    steps = [Emitted.of(follower.apply(("all", number, [record.line]), NOW)) for number, record in enumerate(history)]
    steps.append(follower.end())
    retractions = [
        b'{"id":"%s","retracted_ts":"%d.%06d"}' % (each.id.encode(), *divmod(each.retracted_ts, 1_000_000))
        for step in steps
        for each in step.retractions
    ]
    return sorted(each.line for step in steps for each in step.examples), sorted(retractions), follower.account


@patient
@given(worlds())
def test_a_follower_is_the_same_core(world: tuple[Rules, History]):
    """Event by event, it gives the examples, retractions and account of the batch, byte for byte."""
    rules, history = world

    assert fed(history, rules) == outcome(run_of(history, rules))


@patient
@given(worlds())
def test_a_follower_that_stops_early_is_the_same_core(world: tuple[Rules, History]):
    """`until` is that of the command line."""
    rules, history = world
    middle = (START + end_of(history, rules)) // 2

    assert fed(history, rules, middle) == outcome(run_of(history, rules, middle))


def test_points_are_those_that_score_predicts():
    """Each once, when it is made, and how it ended."""
    history = [post("C1", START, "ana", "red?"), post("C1", START + MINUTE, "bo", "yes", START)]
    run: RunOutput = run_of(history, Rules(), points_since=0)
    follower = beepgpt.Follower(Rules(), points=True)
    steps = [*(follower.feed(record.line) for record in history), follower.end()]

    assert [each.line for step in steps for each in step.points] == [each.line for each in run.points if isinstance(each, PointEmitted)]
    assert [each for step in steps for each in step.settled] == [each for each in run.points if isinstance(each, PointSettled)]
    assert next(each.prompt for step in steps for each in step.points) == "red?\n\n###\n\n"


# Events


def test_neutral_events_are_what_slack_would_send():
    """Made by hand, they are read as the callbacks of Slack are."""
    event = beepgpt.ChatEvent
    pairs = [
        (event.post("C1", "ana", START, "red?"), post("C1", START, "ana", "red?")),
        (event.post("C1", "bo", START + MINUTE, "yes", thread=START), post("C1", START + MINUTE, "bo", "yes", START)),
        (event.edit("C1", START, START + MINUTE, "blue?"), edit("C1", START + MINUTE, START, "blue?")),
        (event.delete("C1", START, START + MINUTE), delete("C1", START + MINUTE, START)),
        (event.react("C1", START, "bo", "+1", START + MINUTE), react("C1", START + MINUTE, START, "bo", "+1", "reaction_added")),
        (event.react("C1", START, "bo", "+1", None), react("C1", None, START, "bo", "+1", "reaction_added")),
        (event.heartbeat(START), heartbeat(START)),
    ]
    for made, record in pairs:
        theirs = event.from_record(record.line)
        same = ("kind", "channel", "at", "user", "message", "thread", "text", "reaction", "reason")
        assert {name: getattr(made, name) for name in same} == {name: getattr(theirs, name) for name in same}


def test_what_is_written_is_text():
    """Another chat's text is no markup of Slack's: it stands in the prompt as it was written, and names people only where that is said."""
    follower = beepgpt.Follower(Rules())
    asked = beepgpt.ChatEvent.post("C1", "ana", START, "is a < b & <@bo>?", mentions=["cy"])
    steps = [follower.feed(asked), follower.feed(beepgpt.ChatEvent.post("C1", "cy", START + MINUTE, "yes", thread=START)), follower.end()]
    (example,) = (each for step in steps for each in step.examples if each.answer)

    assert example.prompt == "is a < b & <@bo>?\n\n###\n\n"
    assert dict(zip(example.candidates["user"], example.candidates["mentioned"], strict=True)) == {"cy": 1}


def test_times_need_a_zone():
    """A time without one would be another on another machine."""
    with pytest.raises(BadCommand, match="has no time zone"):
        beepgpt.ChatEvent.post("C1", "ana", datetime(2024, 1, 1), "red?")  # noqa: DTZ001


def test_events_of_a_file_are_all_there(tmp_path: Path):
    """What can't be used says why; fed to a Follower, all is in one row of the account."""
    lines = [post("C1", START, "ana", "red?").line, b"not JSON", heartbeat(START + MINUTE).line, b'{"type":"hello"}']
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    events = list(beepgpt.read_events(tmp_path / "events.jsonl"))
    follower = beepgpt.Follower()
    rejected = [each for event in events for each in follower.feed(event).rejected]
    follower.end()

    assert [event.kind for event in events] == ["post", "rejected", "heartbeat", "ignored"]
    assert [event.record for event in events] == lines
    assert [(each.reason, each.place, each.record) for each in rejected] == [("not_json", "events.jsonl:2", b"not JSON")]
    assert follower.account["events"]["read"] == 3 and follower.account["adds_up"]


def test_a_topic_is_read_as_a_file_is(broker: Broker | GivenBroker, tmp_path: Path):
    """All its partitions, with a heartbeat in each: the same examples as of the file, and the same events."""
    connection = Connection(broker.bootstrap)
    topics = new_topics(connection, 2)
    history = [post(f"C{each % 3}", START + each * MINUTE, f"user{each % 4}", f"message {each}") for each in range(40)]
    put(topics, [OutgoingRecord(each.channel.encode() if each.channel else None, each.line) for each in history])
    (tmp_path / "events.jsonl").write_bytes(b"".join(each.line + b"\n" for each in history))
    topic = f"kafka://{broker.bootstrap}/{topics.events}"

    assert sorted(each.line for each in beepgpt.examples(topic)) == sorted(
        each.line for each in beepgpt.examples(tmp_path / "events.jsonl")
    )
    assert sorted(each.record for each in beepgpt.read_events(topic)) == sorted(each.line for each in history)


# Tables and messages


def test_a_missing_package_is_named_with_the_line_that_installs_it(export: Path, monkeypatch: pytest.MonkeyPatch):
    """Before anything is read; a package has its own line where no extra brings it."""
    monkeypatch.setitem(sys.modules, "polars", None)

    with pytest.raises(MissingPackage, match=r"^a table needs polars, which is not installed: pip install polars$"):
        beepgpt.examples(export).to_polars()
    with pytest.raises(MissingPackage, match=r"^a model needs sklearn, which is not installed: pip install 'beepgpt\[train\]'$"):
        monkeypatch.setitem(sys.modules, "sklearn", None)
        beepgpt.Model.load(export.parent / "none")


WITHOUT_TRAINING = """
import importlib.metadata, sys
lacking = {"lightgbm": "lightgbm", "scikit-learn": "sklearn", "skops": "skops", "threadpoolctl": "threadpoolctl", "scipy": "scipy"}
sys.modules.update(dict.fromkeys(lacking.values()))
found = importlib.metadata.version
def version(name):
    if name in lacking:
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)
importlib.metadata.version = version
import beepgpt
made = beepgpt.split(beepgpt.examples(sys.argv[1]), sys.argv[2])
print(made.manifest["account"]["adds_up"], made.to_arrow("train").num_rows > 100)
"""


def test_a_split_needs_nothing_that_trains(export: Path, tmp_path: Path):
    """Tables need pyarrow; what fits models may be missing."""
    command = [sys.executable, "-c", WITHOUT_TRAINING, str(export), str(tmp_path / "set")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (ran.returncode, ran.stdout) == (0, "True True\n"), ran.stderr


def test_what_is_chosen_by_was_settled_before_judging_begins(export: Path, tmp_path: Path):
    """The validation side has two parts; what was settled later than that is in neither."""
    ours = beepgpt.split(beepgpt.examples(export), tmp_path / "set")

    parts = parts_of(ours.manifest)
    assert parts is not None and parts.judge_from is not None
    table = ours.to_arrow("valid")
    columns = (microseconds(table[name]).to_pylist() for name in ("prompt_ts", "settled_ts"))
    times = dict(zip(table["id"].to_pylist(), zip(*columns, strict=True), strict=True))
    choose, judge = (set(ours.to_arrow(side)["id"].to_pylist()) for side in ("choose", "judge"))
    assert judge == {name for name, (at, _) in times.items() if at >= parts.judge_from} and len(judge) > 5
    assert choose == {name for name, (at, settled) in times.items() if at < parts.judge_from and settled < parts.judge_from}
    assert 5 < len(choose) < len(times) - len(judge), "some were settled only when judging had begun"


def test_tables_lack_what_was_retracted():
    """A `for` gives it, as the command line writes it; a table is of what still holds."""
    event = beepgpt.ChatEvent
    events = [
        event.post("C1", "ana", START, "red?"),
        event.post("C1", "bo", START + MINUTE, "yes", thread=START),
        event.delete("C1", START, START + 2 * MINUTE),
        event.post("C2", "ana", START, "blue?"),
        event.post("C2", "bo", START + MINUTE, "no", thread=START),
    ]
    made = beepgpt.examples(events)

    assert sorted(each.channel for each in made if each.answer) == ["C1", "C2"]
    assert len(made.retractions) == 1
    assert set(made.to_arrow()["channel"].to_pylist()) == {"C2"}


def test_settings_are_called_as_keywords_are():
    """A message names what was written."""
    with pytest.raises(beepgpt.BeepGPTError) as wrong:
        beepgpt.rules(window=0, horizon="soon", edit="final")

    assert str(wrong.value).splitlines() == [
        "edit= is unknown; did you mean edits=?",
        "horizon= is 'soon': must be a duration like 500ms, 10m, 1h 30m or 30 days, or unlimited",
        "window= is 0: must be more than 0",
    ]


# Models


@pytest.mark.slow
def test_a_model_predicts_what_the_command_line_does(export: Path, tmp_path: Path):
    """The same model, by the library's split and train, and by prepare's and train's."""
    made = beepgpt.examples(export)
    ours = beepgpt.split(made, tmp_path / "ours")
    model = beepgpt.train(ours, threads=1)
    assert beep("examples", export, "--to", tmp_path / "examples.jsonl").returncode == 0
    assert beep("prepare", tmp_path / "examples.jsonl", "--to", tmp_path / "set").returncode == 0
    theirs = beepgpt.TrainingSet(tmp_path / "set")

    assert ours.manifest["parts"] == theirs.manifest["parts"] and ours.manifest["cut"] == theirs.manifest["cut"]
    assert ours.to_arrow("valid").equals(theirs.to_arrow("valid"))
    again = beepgpt.Model.load(model.folder)
    points = made.kept()[:20]
    predicted = model.predict(points)
    assert again.predict(points) == predicted == [model.predict([each])[0] for each in points] and len(predicted) == 20
    assert model.card["trained_on"]["examples"] == ours.to_arrow("train").num_rows


def test_an_audit_says_which_law_is_broken(export: Path, tmp_path: Path):
    """Of what was made, of a file, and of examples with a planted leak."""
    made = beepgpt.examples(export, horizon="4h")
    assert not beepgpt.audit_examples(export, made).is_broken
    (tmp_path / "examples.jsonl").write_bytes(b"".join(each.line + b"\n" for each in made))
    assert not beepgpt.audit_examples(export, tmp_path / "examples.jsonl", horizon="4h").is_broken

    leaking = tmp_path / "leaking.jsonl"
    leaking.write_bytes((tmp_path / "examples.jsonl").read_bytes().replace(b'\\n\\n###\\n\\n"', b' and what came next\\n\\n###\\n\\n"', 3))
    assert beepgpt.audit_examples(export, leaking, horizon="4h").is_broken
