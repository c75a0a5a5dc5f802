"""Law 4: one stream of events gives one set of examples, byte for byte, however it is delivered."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations import channel as channel_module
from beepgpt.conversations.events import Event, micros, parse, ts_text
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.shard import RunOutput, Shard
from beepgpt.simulation.workspace import Plan, live_records
from tests.support import NOW, beep, files_in, flow_of, outcome, read_into, resumed, run_of
from tests.support.histories import START, Record, arrivals, histories, late_arrivals, lines_of
from tests.support.histories import heartbeat as heartbeat_record
from tests.support.oracle_records import DAY
from tests.support.worlds import History, end_of, is_heartbeat, patient, time_of, times_in, worlds


class TestLaw4OneResult:
    """One stream of events gives one set of examples, byte for byte, however it is delivered."""

    @patient
    @given(worlds(), st.data())
    def test_any_order_of_arrival_within_lateness(self, world: tuple[Rules, History], data: st.DataObject):
        """Each record is delayed by up to `lateness`, and a channel by days beside another: the same in all."""
        rules, history = world
        shuffled = data.draw(arrivals(history, rules.lateness), label="arrivals")

        assert outcome(run_of(shuffled, rules)) == outcome(run_of(history, rules))

    @patient
    @given(worlds(), st.data())
    def test_duplicates_change_nothing_but_their_count(self, world: tuple[Rules, History], data: st.DataObject):
        """Some events arrive twice or three times: they are counted as duplicates, and nothing else moves."""
        rules, history = world
        events = [record for record in history if is_event(record, rules)]
        assume(events)
        duplicates = data.draw(st.lists(st.sampled_from(events), max_size=8), label="duplicates")
        in_time = sorted([*history, *duplicates], key=lambda record: START if record.t is None else record.t)
        once = run_of(in_time_order(history), rules)

        twice = run_of(data.draw(arrivals(in_time, rules.lateness), label="arrivals"), rules)

        assert sorted(twice.examples) == sorted(once.examples)
        assert sorted(twice.retractions) == sorted(once.retractions)
        expected = once.account
        expected.count("read", len(duplicates))
        expected.count("duplicate", len(duplicates))
        assert twice.account.as_json() == expected.as_json()

    @settings(patient, max_examples=max(10, settings().max_examples // 4))
    @given(worlds(), st.data())
    def test_any_batches_through_the_dataflow(self, world: tuple[Rules, History], data: st.DataObject):
        """The real flow, cut into batches anywhere, with a snapshot after each: the same as the plain loop."""
        rules, history = world
        arrived = lines_of(data.draw(late_arrivals(history), label="arrivals"))
        batches = data.draw(st.lists(st.integers(1, 8), max_size=len(history)), label="batches")

        flowed, plain = flow_of(arrived, rules, batches), run_of(arrived, rules)

        assert outcome(flowed)[:2] == outcome(plain)[:2]
        assert without_heartbeats(flowed) == without_heartbeats(plain)
        assert Counter(json.loads(line)["record"].encode() for line in flowed.late) == Counter(plain.late)
        assert Counter(reject.reason for reject in flowed.rejects) == Counter(reject.reason for reject in plain.rejects)

    @pytest.mark.parametrize("size", [1, 2, 7, 100, 1000, 5000])
    def test_batches_of_1_to_5000(self, size: int):
        """A week of a simulated workspace with every kind of disturbance: the same examples in batches of any size."""
        records = list(live_records(WEEK))[: 400 * size]  # each batch is an epoch, and pays for a snapshot
        rules = Rules()

        flowed, plain = flow_of(records, rules, repeat(size, len(records) // size + 1)), run_of(records, rules)

        assert outcome(flowed)[:2] == outcome(plain)[:2]
        assert without_heartbeats(flowed) == without_heartbeats(plain)
        assert len(plain.examples) > 100

    @pytest.mark.slow
    def test_any_number_of_workers(self, tmp_path: Path):
        """The program with 1, 2 and 3 processes: the same lines in every file, and the same account."""
        (tmp_path / "events.jsonl").write_bytes(b"".join(line + b"\n" for line in live_records(WEEK)))
        made = []
        for workers in (1, 2, 3):
            folder = tmp_path / str(workers)
            folder.mkdir()
            to = ("--to", folder / "made.jsonl", "--report", folder / "report.json", "--workers", workers)
            beep("examples", tmp_path / "events.jsonl", *to)
            made.append((files_in(folder), json.loads((folder / "report.json").read_bytes())["account"]))

        assert made[0] == made[1] == made[2]
        assert all(made[0][0].values())

    @patient
    @given(worlds(unlimited=False), st.data())
    def test_with_heartbeats_and_without(self, world: tuple[Rules, History], data: st.DataObject):
        """Heartbeats come at any true time, or none at all: until the same end, the run is the same."""
        rules, history = world
        silent = [record for record in in_time_order(history) if not is_heartbeat(record)]
        end = end_of(history, rules)
        beats = data.draw(st.lists(times_in(silent, rules), max_size=8), label="heartbeats")
        beating = sorted([*silent, *map(heartbeat_record, beats)], key=lambda record: (time_of(record), not is_heartbeat(record)))

        with_beats, without = run_of(beating, rules, until=end), run_of(silent, rules, until=end)

        assert outcome(with_beats)[:2] == outcome(without)[:2]
        assert without_heartbeats(with_beats) == without_heartbeats(without)

    @patient
    @given(worlds(), st.data())
    def test_a_partition_is_not_moved_by_anothers_heartbeats(self, world: tuple[Rules, History], data: st.DataObject):
        """Two partitions with heartbeats of their own, far apart in time and read in turns: each as if it were alone."""
        rules, first = world
        second = [moved(record, DAY * 40) for record in data.draw(histories(), label="second partition")]
        turns = data.draw(st.permutations([0] * len(first) + [1] * len(second)), label="turns")
        alone = [run_of(part, rules) for part in (first, second)]

        shard, waiting = Shard(rules, load_encoding(rules.encoding)), [iter(lines_of(first)), iter(lines_of(second))]
        for turn in turns:
            read_into(shard, [next(waiting[turn])], partition=f"partition-{turn}")
        shard.end()
        made = shard.drain()

        assert sorted(made.examples) == sorted([*alone[0].examples, *alone[1].examples])
        assert sorted(made.late) == sorted([*alone[0].late, *alone[1].late])

    @patient
    @given(worlds(), st.data())
    def test_snapshot_and_resume_anywhere(self, world: tuple[Rules, History], data: st.DataObject):
        """A snapshot after any record, sometimes taken up by a new process, sometimes not: the same is made at each step."""
        rules, history = world
        arrived = data.draw(late_arrivals(history), label="arrivals")
        what_happens = st.sampled_from(["nothing", "snapshot", "resume"])
        places = data.draw(st.lists(what_happens, min_size=len(history), max_size=len(history)), label="after each record")

        assert interrupted(arrived, places, rules) == interrupted(arrived, ["nothing"] * len(history), rules)

    @patient
    @given(worlds())
    def test_a_resume_after_every_record(self, world: tuple[Rules, History]):
        """No process lives longer than one record: the same as one that lives for ever."""
        rules, history = world

        assert interrupted(history, ["resume"] * len(history), rules) == interrupted(history, ["nothing"] * len(history), rules)

    @patient
    @given(worlds())
    def test_when_memory_is_swept_changes_nothing(self, world: tuple[Rules, History]):
        """What is forgotten is a matter of event time: whether it is looked for at each event or never, the examples are the same."""
        rules, history = world
        swept = [outcome(run_sweeping(history, rules, every)) for every in (1, 3, 1 << 30)]

        assert swept[0] == swept[1] == swept[2]


WEEK = Plan(
    seed=7, messages=2_500, days=7, channels=9, people=25, heartbeat_every=1_800,
    edits=0.1, deletions=0.05, reactions=0.3, duplicates=0.05, too_late=0.01, broken=0.01, elsewhere=0.1, moves=0.5,
)  # fmt: skip
"""More than 5,000 records, with everything in them."""


def is_event(record: Record, rules: Rules) -> bool:
    """Whether a record is an event to these rules, so that a second one is a duplicate."""
    parsed = parse(record.line, NOW, bots=rules.bots, edits=rules.edits)
    return isinstance(parsed, Event) and not (parsed.untimed and rules.horizon is not None)


def in_time_order(history: History) -> History:
    """The history in the order of its times."""
    return sorted(history, key=time_of)


def without_heartbeats(run: RunOutput) -> dict[str, Any]:
    """The account, but for the heartbeats, which every partition and process has its own of."""
    return {name: value for name, value in run.account.as_json().items() if name != "heartbeats"}


def moved(record: Record, by: int) -> Record:
    """The record in a channel of the other partition, `by` later."""
    if record.data is None or record.t is None:
        return record
    if is_heartbeat(record):
        return heartbeat_record(record.t + by)
    text = _TIME.sub(lambda found: f'"{ts_text(micros(found[1]) + by)}"', record.line.decode())
    return replace(record, line=_CHANNEL.sub(r'\1": "D\2"', text).encode(), data=None)


_TIME = re.compile(r'"([0-9]{10}\.[0-9]{6})"')
_CHANNEL = re.compile(r'(channel(?:_id)?)": "C([0-9])"')


Step = tuple[list[bytes], list[bytes], list[bytes]]


def interrupted(records: History, after_each: Sequence[str], rules: Rules) -> tuple[list[Step], dict[str, Any]]:
    """What a run with snapshots, some of which another process takes up, has made after each record and at the end; its account.

    What its last snapshot says of the end is taken up, too: the same command is given again.
    """
    shard = Shard(rules, load_encoding(rules.encoding))
    steps = []
    for record, what in zip([*records, None, None], [*after_each, "resume", "nothing"], strict=True):
        if record is not None:
            read_into(shard, [record.line])
        else:
            shard.end()
        made = shard.drain()
        steps.append((sorted(made.examples), sorted(made.retractions), made.late))
        if what != "nothing":
            state = shard.snapshot()
            shard = resumed(state, rules) if what == "resume" else shard
    return steps, shard.account_now().as_json()


def run_sweeping(history: History, rules: Rules, every: int) -> RunOutput:
    """A run that looks for what can be forgotten every so many events."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(channel_module, "SWEEP_EVERY", every)
        return run_of(history, rules)
