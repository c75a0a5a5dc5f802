"""Processes that share a run's channels: every shard is somebody's, each once, and each process has about as much to do."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beepgpt.commands.examples import ExamplesJob, run_examples
from beepgpt.config.settings import read_settings
from beepgpt.conversations.shard import SHARDS, assign_shards, shard_of
from beepgpt.runtime.destinations import destination_of, in_parts
from beepgpt.runtime.places import origin_of
from beepgpt.runtime.recovery import BadRecovery
from beepgpt.runtime.running import recovery_of
from beepgpt.runtime.shares import PLAIN, shares_among, with_workers
from tests.support import beep
from tests.support.cli import run_program

weights = st.dictionaries(st.sampled_from(SHARDS), st.integers(0, 1000))


@given(weights, st.integers(1, 40))
def test_every_shard_is_in_one_share(weighed: dict[str, int], parts: int):
    """Whatever they weigh, and with more processes than shards, too."""
    shares = assign_shards(weighed, parts)

    assert len(shares) == parts
    assert sorted(shard for share in shares for shard in share) == list(SHARDS)
    assert assign_shards(weighed, parts) == shares


@given(weights, st.integers(1, 8))
def test_no_share_is_heavier_than_it_must_be(weighed: dict[str, int], parts: int):
    """Above an equal share by no more than the heaviest shard: Graham's bound for any order of giving them out."""
    shares = assign_shards(weighed, parts)
    loads = [sum(weighed.get(shard, 0) for shard in share) for share in shares]

    assert max(loads) <= sum(loads) / parts + max(weighed.values(), default=0)


def test_a_files_shares_are_weighed_by_its_lines(tmp_path: Path):
    """One channel with most of the lines, and 60 small ones: whoever has the large one has little else."""
    small = [f"C{number}" for number in range(60)]
    names = [name for name in small for _ in range(10)] + ["BIG"] * 2_000
    path = tmp_path / "events.jsonl"
    path.write_text("".join(f'{{"type":"message","channel":"{name}","ts":"1690360240.229079"}}\n' for name in names * 3))

    shares = shares_among(origin_of(str(path), ("channels",)), 2)

    (with_big,) = [share for share in shares if shard_of("BIG") in share]
    assert sum(shard_of(name) in with_big for name in small) < 20


def test_a_recovery_folder_of_an_older_version_is_refused(tmp_path: Path):
    """It doesn't say whose channels were whose, and guessing might lose some."""
    path = tmp_path / "events.jsonl"
    path.write_text('{"type":"message","channel":"C1","user":"U1","text":"hi","ts":"1690360240.229079"}\n')
    settings = read_settings()
    job = ExamplesJob(str(path), destination_of(str(tmp_path / "to.jsonl"), settings), settings, recovery=tmp_path / "memory")
    note = tmp_path / "memory" / "run.json"
    run_examples(job)
    kept = json.loads(note.read_text("utf-8"))
    note.write_text(json.dumps({name: value for name, value in kept.items() if name != "shares"}), "utf-8")

    run = job.run_of(origin_of(job.source, job.include))
    with pytest.raises(BadRecovery, match="older version"), recovery_of(run, shared=True):
        pass


def export_of(folder: Path, messages: int, *, channels: int = 3) -> Path:
    """An export's folder whose files have the sizes of so many messages; nothing stands in them."""
    folder.mkdir()
    (folder / "channels.json").write_text(json.dumps([{"id": f"C{number}", "name": f"c{number}"} for number in range(channels)]))
    for number in range(channels):
        (folder / f"c{number}").mkdir()
        with (folder / f"c{number}" / "2024-01-01.json").open("wb") as day:
            day.truncate(messages * PLAIN // channels)
    return folder


def workers_of(source: Path, **how: Any) -> int | None:
    settings = read_settings(environ={})
    return with_workers(
        settings, origin_of(str(source), ("channels",)), how.pop("recovery", None), alone=how.pop("alone", False)
    ).run.workers


def test_auto_is_one_worker_for_each_50_000_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """At most one for each processor, and for each channel's shard; the input is not read for it."""
    sizes = {10: 1, 49_000: 1, 60_000: 2, 140_000: 3, 900_000: 3}
    found: dict[int, list[int | None]] = {}
    for processors in (3, 1):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _process, processors=processors: set(range(processors)))
        for size in sizes:
            folder = tmp_path / str(size)
            export = folder if folder.exists() else export_of(folder, size)
            found.setdefault(size, []).append(workers_of(export))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(16)))

    assert found == {size: [workers, 1] for size, workers in sizes.items()}
    assert workers_of(export_of(tmp_path / "busy", 900_000, channels=1)) == 1
    assert workers_of(tmp_path / "900000", alone=True) == 1
    assert workers_of(export_of(tmp_path / "many", 420_000, channels=40)) == 9


def test_auto_looks_at_some_lines_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its size by the length of its lines."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(16)))
    path = tmp_path / "events.jsonl"
    line = b'{"type":"message","channel":"C%d","ts":"1690360240.229079"}\n'
    path.write_bytes(b"".join(line % (number % 10) for number in range(120_000)))

    assert workers_of(path) == 3


def test_a_run_that_goes_on_has_as_many_workers_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What `auto` chose is noted; another number is refused by name."""
    path = tmp_path / "events.jsonl"
    path.write_text('{"type":"message","channel":"C1","user":"U1","text":"hi","ts":"1690360240.229079"}\n')
    memory = tmp_path / "memory"
    to = ("examples", path, "--to", tmp_path / "o.jsonl", "--recovery", memory)
    beep(*to, "--workers", 2)
    note = json.loads((memory / "run.json").read_text())
    (memory / "run.json").write_text(json.dumps({name: value for name, value in note.items() if name not in ("ended", "reports")}))

    assert workers_of(path) == 1
    assert workers_of(path, recovery=memory) == 2
    assert "workers was 2 and is 3" in run_program(*to, "--workers", 3).stderr
    assert json.loads(beep(*to, "--json").stdout)["workers"] == 2


@pytest.mark.parametrize(
    ("to", "several"), [("o.jsonl", True), ("-", False), ("/dev/null", False), ("o.parquet", False), ("sqlite://log/examples", False)]
)
def test_what_somebody_reads_along_has_one_worker(to: str, several: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """So has a table in one file; a folder of parts may have several."""
    monkeypatch.chdir(tmp_path)
    settings = read_settings(environ={})
    destination = destination_of(to, settings, tables=True)

    assert destination.takes_several == several
    assert in_parts(destination, goes_on=True).takes_several == (several or to == "o.parquet")
