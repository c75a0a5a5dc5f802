"""State is never resumed empty: a store that other steps or another version wrote is refused, or the run starts over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, run_main

from beepgpt.commands.examples import ExamplesJob, run_examples
from beepgpt.config.settings import BadSettings, read_settings
from beepgpt.connectors.log.records import Record
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.rules import DAY, Rules
from beepgpt.dataflows import examples, labeling, scoring
from beepgpt.dataflows.following import FollowChannels, Following, parse_records
from beepgpt.dataflows.label_examples import LabelingRun
from beepgpt.dataflows.records import CallbackSink
from beepgpt.dataflows.score_points import ScoringRun
from beepgpt.labeling.labelers.rules import RulesLabeler
from beepgpt.runtime.destinations import destination_of
from beepgpt.runtime.recovery import BadRecovery
from beepgpt.training.reloading import LocalModel
from tests.dataflows.test_scoring import ByPlace
from tests.support import NOW, chunks_of, heartbeat, lines_in, post, run_of
from tests.support.scoring import workspace

RULES = Rules(candidates=False)


def following(**more: Any) -> Following:
    return Following(RULES, load_encoding(RULES.encoding), NOW, recoverable=True, **more)


def sinks_for(*names: str) -> dict[str, Any]:
    return {name: TestingSink([]) for name in names}


def all_flows() -> Iterator[tuple[Any, Dataflow]]:
    """Each flow with all its sinks, and its module."""
    source: Any = TestingSource([])
    yield examples, examples.examples_flow(source, following(), sinks_for("examples", "retractions", "late", "dead_letters"), print)
    run = LabelingRun(RulesLabeler())
    yield labeling, labeling.labeling_flow(source, run, sinks_for("examples", "retractions", "dead_letters"), print)
    model = ByPlace()
    outputs = sinks_for("predictions", "deletions", "outcomes")
    yield scoring, scoring.scoring_flow(source, following(), ScoringRun(model, LocalModel(model), Rules()), outputs, print)


@pytest.mark.parametrize(("module", "flow"), list(all_flows()), ids=["examples", "labeling", "scoring"])
def test_the_note_names_every_step_that_has_state(module: Any, flow: Dataflow):
    """Sources, stateful steps and sinks that are cut back: a new one has to be noted, or a renamed one would resume with nothing."""
    kinds = {"input", "stateful_batch", "output"}
    with_state = [
        step.step_name
        for step in flow.substeps
        if type(step).__name__ in kinds and not isinstance(getattr(step, "sink", None), CallbackSink)
    ]
    assert with_state == list(module.STATEFUL)
    assert flow.flow_id == module.NAME


def job_in(folder: Path) -> ExamplesJob:
    (folder / "events.jsonl").write_bytes(b"".join(line + b"\n" for line in workspace()[:40]))
    settings = read_settings(environ={"BEEPGPT_RUN__PROGRESS": "false"})
    return ExamplesJob(
        str(folder / "events.jsonl"), destination_of(str(folder / "to.jsonl"), settings), settings, recovery=folder / "store"
    )


@pytest.mark.parametrize("change", ["as the last release wrote it", "another version", "a renamed step"])
def test_a_store_with_another_state_is_refused(tmp_path: Path, change: str):
    """By its note, before anything is read; it says what to do, and nothing is overwritten."""
    job = job_in(tmp_path)
    run_examples(job)
    note = tmp_path / "store" / "run.json"
    kept = json.loads(note.read_text("utf-8"))
    changed = {
        "as the last release wrote it": {name: value for name, value in kept.items() if name not in ("flow", "steps")},
        "another version": kept | {"flow": "examples_v1"},
        "a renamed step": kept | {"steps": [each.replace("follow_channels", "make_examples") for each in kept["steps"]]},
    }[change]
    changed.pop("ended")
    note.write_text(json.dumps(changed), "utf-8")
    before = (tmp_path / "to.jsonl").read_bytes()

    with pytest.raises(BadRecovery, match=r"older version of beepgpt.*delete it and run the same command again"):
        run_examples(job)
    assert (tmp_path / "to.jsonl").read_bytes() == before


def test_in_bytewax_s_own_runner_another_version_starts_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The flow's name has the version: what an older one read is read again from the beginning, and nothing is resumed empty."""
    init_db_dir(tmp_path, 1)
    store = RecoveryConfig(tmp_path, timedelta(0))
    lines = list(workspace())
    whole = sorted(run_of(lines, RULES).examples)

    def run(count: int) -> list[bytes]:
        """The first records that are not read yet, up to so many; a stop is no end."""
        made: list[Any] = []
        source: Any = TestingSource([*chunks_of(lines, [10] * (len(lines) // 10))][:count])
        stopping = count * 10 < len(lines)
        flow = examples.examples_flow(
            source, following(is_stopping=lambda: stopping), {"examples": TestingSink(made)}, lambda account: None
        )
        run_main(flow, epoch_interval=timedelta(0), recovery_config=store)
        return lines_in(made)

    half = len(lines) // 20
    monkeypatch.setattr(examples, "NAME", "examples_v0")
    first = run(half)
    monkeypatch.undo()
    assert sorted(run(half)) == sorted(first) != [], "from the beginning"
    assert sorted(first + run(len(lines))) == whole, "and with the same name it goes on"


@pytest.mark.parametrize(
    ("module", "more", "why"),
    [
        (examples, {}, "CLUSTER__SOURCE=kafka://host:port/slack.events"),
        (
            examples,
            {"CLUSTER__SOURCE": "sqlite:///srv/a", "CLUSTER__TO": "kafka://h:1/b"},
            "CLUSTER__SOURCE=kafka://host:port/slack.events",
        ),
        (examples, {"CLUSTER__SOURCE": "kafka://h:1/a", "CLUSTER__TO": "sqlite:///srv/b"}, "CLUSTER__TO=kafka://host:port/slack.examples"),
        (labeling, {"LABELING__LABELER": "provider"}, 'in a cluster there is "rules" alone.*Run `beepgpt label`'),
        (labeling, {"LABELING__LABELER": "rules"}, "CLUSTER__SOURCE=kafka://host:port/slack.examples"),
        (scoring, {"CLUSTER__SOURCE": "kafka://h:1/a?follow=true", "CLUSTER__TO": "kafka://h:1/b"}, "cluster.model: the folder of a model"),
        (
            scoring,
            {"CLUSTER__SOURCE": "kafka://h:1/a?follow=true", "CLUSTER__TO": "kafka://h:1/b", "CLUSTER__MODEL": "model"},
            "cluster.source: from= is expected",
        ),
    ],
)
def test_a_flow_for_bytewax_s_own_runner_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, module: Any, more: dict[str, str], why: str):
    """Before it reads anything or asks a broker."""
    for name, value in more.items():
        monkeypatch.setenv(f"BEEPGPT_{name}", value)
    with pytest.raises(BadSettings, match=why):
        module.flow()


ANA = b'{"type":"message","channel":"C1","user":"U0ANA","ts":"1716200000.000100","text":"Ready?"}'
ANA_AT = 1_716_200_000_000_100


@pytest.mark.parametrize(("is_stopped", "expected"), [(True, {"open": 2}), (False, {"censored": 2})])
def test_an_input_that_was_stopped_elsewhere_has_not_ended(is_stopped: bool, expected: dict[str, int]):
    """Another process of a cluster was asked to stop, and said so to every shard: what is open stays open for the resumed run."""
    step = FollowChannels(following(), None)
    step.on_batch(parse_records([("p", 0, [post("ana", minute=0).line, heartbeat(minute=1).line])], following()))
    if is_stopped:
        step.on_batch(parse_records([("p", 2, [])], following()))
    ((_, (account,)),) = (each for each in step.on_eof()[0] if each[0] == "account")

    assert {name: account[name] for name in ("open", "censored") if account[name]} == expected


@pytest.mark.parametrize(
    ("odd", "reason"),
    [(None, "no_value"), (b"", "not_json"), (b"{", "not_json"), (b"\xef\xbb\xbf" + ANA, "not_json"), (ANA + b"\r\n", None)],
)
def test_every_record_of_a_topic_is_placed_whatever_its_value(odd: bytes | None, reason: str | None):
    """First, last or alone in its chunk: it has a place by its offset, which may leave gaps, and a reason where it can't be used."""
    for values in ([odd], [odd, ANA], [ANA, odd], [ANA, odd, ANA]):
        records = [Record(value, 10 * number, 1_716_200_000_000_000, None, []) for number, value in enumerate(values)]
        (parsed,) = parse_records([("events/0", 0, records)], following())

        assert [(at, getattr(each, "reason", None)) for _, at, _, each in parsed] == [
            (f"events/0:{10 * number}", reason if value is odd else None) for number, value in enumerate(values)
        ]


@pytest.mark.parametrize(("written", "reason"), [(ANA_AT, None), (ANA_AT - 2 * DAY, "future")])
def test_a_record_is_from_the_future_of_the_time_it_was_written(written: int, reason: str | None):
    """And not of the reader's clock, which is years later: a replay judges as the first run did."""
    assert NOW > ANA_AT + DAY
    (parsed,) = parse_records([("events/0", 0, [Record(ANA, 0, written, None, [])])], following())

    assert [getattr(each, "reason", None) for *_, each in parsed] == [reason]
