"""Processes that share a run's channels: every shard is somebody's, each once, and each process has about as much to do."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beepgpt.commands.examples import ExamplesJob, run_examples
from beepgpt.config.settings import read_settings
from beepgpt.conversations.shard import SHARDS, assign_shards, shard_of
from beepgpt.runtime.destinations import destination_of
from beepgpt.runtime.places import origin_of
from beepgpt.runtime.recovery import BadRecovery
from beepgpt.runtime.running import recovery_of
from beepgpt.runtime.shares import shares_among

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
