"""History at a pace: nothing comes before its time, and what is predicted is what is predicted without a pace."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bytewax.inputs import StatefulSourcePartition

from beepgpt.commands.score_run import check_job
from beepgpt.commands.scoring import ScoreJob
from beepgpt.config.settings import read_settings
from beepgpt.conversations.chunks import Chunk
from beepgpt.conversations.events import Event, Heartbeat, Ignored, Reject, parse
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.conversations.points import PointEmitted
from beepgpt.conversations.rules import MINUTE, Rules
from beepgpt.errors import BadCommand
from beepgpt.runtime import pacing
from beepgpt.runtime.destinations import score_outputs_of
from beepgpt.runtime.pacing import PacedSource
from beepgpt.runtime.places import origin_of, values_in
from beepgpt.simulation.workspace import Plan, write_export
from tests.support import NOW, beep, run_of
from tests.support.kafka import report_in
from tests.support.scoring import save, workspace

SETTINGS = read_settings(environ={})
PLAN = Plan(seed=4, messages=300, channels=3, people=9, days=20)
HOUR = 3_600.0
"""At this pace, an hour of events passes in a second."""
START = 1_700_000_000


class Clock:
    """Stands in for the machine's clock, so that days pass in a test; each look takes a tenth of a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.1
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pacing, "monotonic", clock)
    return clock


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "workspace.zip"
    write_export(PLAN, path)
    return path


def file_of(path: Path, lines: Iterable[bytes]) -> Path:
    path.write_bytes(b"".join(line.replace(b"\n", b" ") + b"\n" for line in lines))
    return path


def paced(source: Path, multiple: float, **more: Any) -> PacedSource:
    """A source that nobody stops."""
    callbacks: dict[str, Any] = {"stopping": lambda: False, "on_end": lambda: None, "progress": lambda count, share: None}
    return PacedSource(origin_of(str(source), ("channels",)), Rules(), multiple, **callbacks | more)


def post(channel: str, second: float) -> bytes:
    return json.dumps({"type": "message", "channel": channel, "user": "U1", "text": "hi", "ts": f"{START + second:.6f}"}).encode()


def time_of(record: bytes) -> int | None:
    parsed = parse(record, NOW, bots="context")
    if isinstance(parsed, Heartbeat):
        return parsed.at
    return parsed.t if isinstance(parsed, Event) else None


def all_of(source: PacedSource) -> list[Any]:
    return [value for _, _, value in values_in(source)]


def test_nothing_comes_before_its_time_nor_long_after(export: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch):
    """Not a record, not a heartbeat; and no partition sleeps past the time at which it has to look again."""
    monkeypatch.setattr(pacing, "AT_ONCE", 3)
    source = paced(export, HOUR)
    part = source.build_part("", source.list_parts()[0], None)
    given = 0
    for chunks in iter(lambda: batch_of(part), None):
        begun = part._began or clock.now
        for value in (value for *_, values in chunks for value in values):
            assert (time_of(value) or 0) <= source.begins + (clock.now - begun) * HOUR * 1e6
            given += 1
        if not chunks:
            assert (awake := part.next_awake()) is None or (awake - datetime.now(UTC)).total_seconds() <= pacing.TICK
    assert given > 500


def batch_of(part: StatefulSourcePartition[Chunk, None]) -> list[Chunk] | None:
    """None at the end."""
    try:
        return list(part.next_batch())
    except StopIteration:
        return None


def test_each_record_comes_once_in_one_order_of_time_and_heartbeats_between(export: Path, clock: Clock):
    """Channels stand one after the other in an export; a heartbeat stands between what is before it and what isn't, at each hour."""
    values = all_of(paced(export, HOUR))
    origin = origin_of(str(export), ("channels",))
    assert origin.export is not None
    times = [t for value in values if (t := time_of(value)) is not None]
    assert times == sorted(times)
    beats = [t for value in values if b'"heartbeat"' in value and (t := time_of(value)) is not None]
    assert beats == list(range(beats[0], beats[-1] + 1, 60 * MINUTE))
    assert len(beats) > 24 * 15
    unpaced = all_of(paced(export, 1e9))  # all of it lies between two heartbeats
    assert sorted(set(values) - {value for value in values if b'"heartbeat"' in value}) == sorted(unpaced)


@pytest.mark.slow
def test_the_same_points_as_without_a_pace(export: Path, clock: Clock):
    """Heartbeats settle what would be open; what is known at a point is the same, byte for byte."""
    with_pace = run_of(all_of(paced(export, HOUR)), Rules(), points_since=0)
    without = run_of(all_of(paced(export, 1e9)), Rules(), points_since=0)
    points = [{each.line for each in run.points if isinstance(each, PointEmitted)} for run in (with_pace, without)]
    assert points[0] == points[1]
    assert len(points[0]) > 200


@pytest.mark.slow
def test_two_runs_at_one_pace_give_the_same(export: Path, clock: Clock):
    """Heartbeats too, however fast the machine is."""
    first = all_of(paced(export, HOUR))
    clock.now += 1_000_000
    assert all_of(paced(export, HOUR)) == first


def test_what_is_from_before_since_comes_at_once(export: Path, clock: Clock):
    """The history that a prediction rests on takes no time; the time after it does."""
    whole = paced(export, HOUR)
    since = (whole.span.first + whole.span.last) // 2
    source = paced(export, HOUR, since=since)
    part = source.build_part("", source.list_parts()[0], None)
    first = [value for *_, values in part.next_batch() for value in values if isinstance(value, bytes)]
    assert part._began is not None, "what comes after it has to wait"
    times = [time_of(value) or 0 for value in first]
    assert max(times) <= since + 1 * MINUTE * 60
    assert len(times) > 100
    assert "at 3600x in" in source.summary()


def test_until_ends_it(clock: Clock, tmp_path: Path):
    """What is later has no effect, and no time passes for it."""
    source = paced(file_of(tmp_path / "events.jsonl", [post("C1", 0), post("C1", 86_400)]), 1.0, until=(START + 5) * 1_000_000)
    assert source.summary() == "2 records, at 1x in 0:00:05."
    assert [time_of(value) for value in all_of(source)][-2] == (START + 5) * 1_000_000
    assert clock.now < 60


def test_a_file_that_is_in_no_order_of_time_gets_no_heartbeats(clock: Clock, tmp_path: Path):
    """They would make late what isn't."""
    source = paced(file_of(tmp_path / "events.jsonl", [post("C1", 0), post("C1", 90), post("C2", 10), post("C2", 95)]), 1.0)
    assert source.summary() == "4 records, at 1x in 0:01:35. The source's channels are not in one order of time: no heartbeats are added."
    assert [time_of(value) for value in all_of(source)] == [(START + second) * 1_000_000 for second in (0, 90, 10, 95)]


def test_what_cannot_be_read_is_counted_with_its_place(clock: Clock, tmp_path: Path):
    """A broken line, and a day file of an export that is no JSON."""
    source = paced(file_of(tmp_path / "events.jsonl", [post("C1", 0), b"oops", post("C1", 1)]), 60.0)
    assert [(number, value) for _, number, value in values_in(source) if value == b"oops"] == [(2, b"oops")]
    (tmp_path / "export" / "general").mkdir(parents=True)
    (tmp_path / "export" / "channels.json").write_text('[{"id": "C1", "name": "general"}]')
    (tmp_path / "export" / "general" / "2023-11-14.json").write_text("[{")
    (tmp_path / "export" / "general" / "2023-11-15.json").write_text(
        f'[{{"type": "message", "user": "U1", "text": "hi", "ts": "{START}.1"}}]'
    )
    reject, record = all_of(paced(tmp_path / "export", 60.0))
    assert (reject.reason, reject.place) == ("day_file_not_json", "general/2023-11-14.json")
    assert time_of(record) == START * 1_000_000 + 100_000


def test_what_is_forgotten_takes_no_time_and_is_counted_as_without_a_pace(clock: Clock, tmp_path: Path):
    """It is `forgotten`, and nothing that can't be read."""
    ours = Forgotten(b"salt").with_names(["U9"])
    lines = [post("C1", 0), post("C1", 86_400).replace(b"U1", b"U9"), post("C1", 1)]
    source = paced(file_of(tmp_path / "events.jsonl", lines), 60.0, forgotten=ours)

    given = [parse(each, NOW, forgotten=ours) for each in all_of(source)]

    assert [each.reason if isinstance(each, Ignored | Reject) else "" for each in given] == ["", "forgotten", ""]
    assert source.span.last == (START + 1) * 1_000_000 and clock.now < 60


@pytest.mark.timeout(300)
def test_scored_at_a_pace_as_without(tmp_path: Path):
    """The whole program: the same predictions in the end, and an account that adds up."""
    model, source = save(tmp_path / "model"), file_of(tmp_path / "events.jsonl", workspace())
    for name, more in (("plain", ()), ("paced", ("--pace", "900000x"))):
        files = ("--to", tmp_path / f"{name}.jsonl", "--report", tmp_path / f"{name}.json")
        done = beep("score", source, "--model", model, "--no-progress", *files, *more)
    assert "records, at 900000x in 0:00:02" in done.stderr
    plain, with_pace = (sorted((tmp_path / f"{name}.jsonl").read_bytes().splitlines()) for name in ("plain", "paced"))
    assert plain == with_pace
    assert len(plain) > 100
    reports = [report_in(tmp_path / f"{name}.json") for name in ("plain", "paced")]
    assert [each["does_not_add_up"] for each in reports] == [[], []]
    assert reports[1]["account"]["heartbeats"] > reports[0]["account"]["heartbeats"]
    assert reports[1]["seconds"] > 2


@pytest.mark.parametrize(
    ("source", "more", "says"),
    [
        ("kafka://localhost:1/slack.events", {}, "is a topic: put its records on another one with `beepgpt ingest --pace`"),
        ("/dev/null", {}, "with --pace a file is expected, which is read twice"),
        ("here", {"recovery": Path("memory")}, "--pace goes with one worker and without --recovery"),
    ],
)
def test_what_does_not_go_at_a_pace(source: str, more: dict[str, Any], says: str, tmp_path: Path):
    """Told before anything is begun, with what does."""
    given = str(file_of(tmp_path / "events.jsonl", [post("C1", 0)])) if source == "here" else source
    job = ScoreJob(given, score_outputs_of(str(tmp_path / "predictions.jsonl"), None, SETTINGS), tmp_path, SETTINGS, pace=1.0, **more)
    with pytest.raises(BadCommand, match=says):
        check_job(job, origin_of(given, ("channels",)))
