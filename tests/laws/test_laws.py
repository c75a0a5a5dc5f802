"""The laws of the README, as far as examples reach: 1 to 6. Each holds for any history, so each is tried on random ones.

A law says what a history's examples may depend on. So most properties here have one form: change something that must not matter,
and look whether anything moved.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from beepgpt.connectors.slack.export import open_export, read_days
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations import channel as channel_module
from beepgpt.conversations.events import POST, REACT, Event, Heartbeat, micros, parse, ts_text
from beepgpt.conversations.export import records_of
from beepgpt.conversations.points import MessageDeleted, PointEmitted, PointSettled
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.shard import RunOutput, Shard
from beepgpt.simulation.workspace import Plan, live_records, unchanged, undisturbed, write_export
from tests.support import (
    NOW,
    OUTCOME,
    Place,
    beep,
    features_of,
    files_in,
    flow_of,
    ours,
    outcome,
    place_of,
    read_into,
    resumed,
    run_of,
)
from tests.support.histories import (
    START,
    Record,
    arrivals,
    cases,
    histories,
    inner_of,
    late_arrivals,
    latest_of,
    lines_of,
    messages_of,
    post,
    react,
    record_of,
    thread_of,
)
from tests.support.histories import heartbeat as heartbeat_record
from tests.support.oracle import DAY, SECOND

History = list[Record]

patient = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much])


@st.composite
def worlds(draw: st.DrawFn, /, **options: Any) -> tuple[Rules, History]:
    """Settings with small limits, and a history that reaches them."""
    rules, history = draw(cases(**options))
    return ours(rules), history


def end_of(history: Iterable[Record], rules: Rules) -> int:
    """A time at which everything has settled."""
    return latest_of(history) + (rules.horizon or 0) + DAY


def up_to(history: Iterable[Record], t: int) -> History:
    """What had happened by `t`; what can't be read happened at no time."""
    return [record for record in history if record.t is None or record.t <= t]


def event_of(record: Record) -> Event | None:
    """The event that a record is, if it is one."""
    parsed = parse(record.line, NOW, bots="context")
    return parsed if isinstance(parsed, Event) else None


def is_heartbeat(record: Record) -> bool:
    """Whether a record speaks of time alone."""
    return (record.data or {}).get("type") == "heartbeat"


# What was known at a time, seen without what came later: history is cut there, and a stranger answers whatever is open.


def points_known_at(t: int, history: Iterable[Record], rules: Rules) -> dict[Place, dict[str, Any]]:
    """All that was known at the points that were open at `t`, from nothing but what had happened by then."""
    past = up_to(history, t)
    end = t + SECOND + 10 * (rules.horizon or 0)
    answered = features_of(run_of([*past, *answers_by_a_stranger(past, t)], rules, until=end))
    silent = features_of(run_of(past, rules, until=end))  # an old session can't be answered any more: a root would start another
    return silent | answered


def answers_by_a_stranger(past: History, t: int) -> Iterator[Record]:
    """Right after `t`, somebody who never spoke before reacts to everything, and posts in every thread and session."""
    for channel in dict.fromkeys(message.channel for message in messages_of(past)):
        if channel is None:
            continue
        said = messages_of(past, channel)
        number = 1
        for message in said:
            yield react(channel, t + number, message.t or 0, "stranger")
        for thread in dict.fromkeys(map(thread_of, said)):
            yield post(channel, t + number, "stranger", "may I?", thread)
            number += 1
        yield post(channel, t + number, "stranger", "hello all")


class TestLaw1PastOnly:
    """A prompt, and every feature beside it, is a function of the events known at `prompt_ts`."""

    @patient
    @given(worlds())
    def test_every_example_is_what_its_past_alone_shows(self, world: tuple[Rules, History]):
        """Whatever came later: with the history cut at its `prompt_ts`, the point is there, with the same prompt and features."""
        rules, history = world
        examples = features_of(run_of(history, rules, until=end_of(history, rules)))

        for t in sorted({t for _, t in examples}):
            known = points_known_at(t, history, rules)
            for place, features in examples.items():
                if place[1] == t:
                    assert known[place] == features

    @patient
    @given(worlds(), st.data())
    def test_another_future_leaves_every_point_as_it_was(self, world: tuple[Rules, History], data: st.DataObject):
        """Events after T are changed, removed, added: up to T, both runs know the same, wherever both make an example."""
        rules, history = world
        times = [record.t for record in history if record.t is not None]
        assume(times)
        t = data.draw(st.sampled_from(times), label="T")
        past, future = up_to(history, t), [record for record in history if record.t is not None and record.t > t]
        another = data.draw(futures(future, history, t), label="another future")

        one, other = (features_of(run_of(run, rules, until=end_of(history, rules))) for run in (past + future, past + another))

        assert up_to_time(one, t).items() <= (up_to_time(other, t) | points_known_since(one, past, rules, t)).items()
        for place in up_to_time(one, t).keys() & other.keys():
            assert one[place] == other[place]


def up_to_time(features: dict[Place, dict[str, Any]], t: int) -> dict[Place, dict[str, Any]]:
    """The points up to `t`."""
    return {place: known for place, known in features.items() if place[1] <= t}


def points_known_since(one: dict[Place, dict[str, Any]], past: History, rules: Rules, t: int) -> dict[Place, dict[str, Any]]:
    """What the past alone shows at the points of a run up to `t`: for those that only one of two futures has answered."""
    known: dict[Place, dict[str, Any]] = {}
    for moment in sorted({when for _, when in one if when <= t}):
        known |= points_known_at(moment, past, rules)
    return known


@st.composite
def futures(draw: st.DrawFn, future: History, history: History, t: int) -> History:
    """Another future: some of what came is left out, some is said by somebody else or otherwise, and more is added."""
    kept = [change(record, draw(st.sampled_from(CHANGES))) for record in future if draw(st.booleans())]
    said = messages_of(up_to(history, t))
    for number in range(draw(st.integers(0, 3))):
        user, when = draw(st.sampled_from(["ana", "eve"])), t + 1 + draw(st.integers(0, 40)) * SECOND + number
        about = draw(st.sampled_from(said)) if said else None
        if about is None or about.channel is None or draw(st.booleans()):
            kept.append(post("C1", when, user, "something else"))
        else:
            kept.append(post(about.channel, when, user, "something else", thread_of(about)))
    return sorted(kept, key=lambda record: record.t or 0)


CHANGES = ("nothing", "author", "text")


def change(record: Record, what: str) -> Record:
    """The same event by somebody else, or with other words."""
    inner = dict(inner_of(record))
    if what == "author" and "user" in inner:
        inner["user"] = "eve"
    elif what == "text" and "text" in inner:
        inner["text"] = "other words"
    else:
        return record
    return record_of(inner, record.channel, record.t)


class TestLaw2BlindToTheAnswer:
    """Who answered, and whether anybody did, changes nothing in the prompt or the features."""

    @patient
    @given(worlds(), st.data())
    def test_another_answerer_gets_the_same_prompt(self, world: tuple[Rules, History], data: st.DataObject):
        """The answer is given by a stranger instead: the same point, the same features, and the stranger as its answer."""
        rules, history = world
        end = end_of(history, rules)
        run = run_of(history, rules, until=end)
        answered = [each for each in map(json.loads, run.examples) if each["answer"]]
        assume(answered)
        example = data.draw(st.sampled_from(answered), label="example")
        place = place_of(example)
        # Slack gives no ts twice in a channel. Where a history does, one of the posts counts, by its author's name: a stranger has another.
        same = [each.data or {} for each in history if each.channel == example["channel"]]
        assume(len({each.get("user") for each in same if each.get("ts") == example["answer_ts"]}) <= 1)

        others = features_and_answers(run_of(by_a_stranger(history, example), rules, until=end))

        features, answer = others[place]
        assert features == features_of(run)[place]
        assert answer == ["stranger"]

    @patient
    @given(worlds(), st.data())
    def test_without_its_answer_a_point_is_the_same(self, world: tuple[Rules, History], data: st.DataObject):
        """The answer never came: what was known at the point stays as it was."""
        rules, history = world
        run = run_of(history, rules, until=end_of(history, rules))
        answered = [each for each in map(json.loads, run.examples) if each["answer"]]
        assume(answered)
        example = data.draw(st.sampled_from(answered), label="example")
        place = place_of(example)
        unanswered = [record for record in history if not is_answer(record, example)]

        assert points_known_at(place[1], unanswered, rules)[place] == features_of(run)[place]
        elsewhere = features_of(run_of(unanswered, rules, until=end_of(history, rules)))
        assert elsewhere.get(place, features_of(run)[place]) == features_of(run)[place]


def is_answer(record: Record, example: dict[str, Any]) -> bool:
    """Whether a record is the post that answers an example, or for the set targets any act of others after it."""
    event = event_of(record)
    if event is None or event.kind not in (POST, REACT) or event.channel != example["channel"]:
        return False
    if example["target"] == "next_user":
        return event.kind == POST and ts_text(event.t) == example["answer_ts"]
    is_later = ts_text(event.t) > example["prompt_ts"] or event.untimed
    return is_later and event.user != example["window"][-1]["user"]


def by_a_stranger(history: History, example: dict[str, Any]) -> History:
    """The history with the example's answer given by a stranger."""
    return [
        record_of(inner_of(record) | {"user": "stranger"}, record.channel, record.t) if is_answer(record, example) else record
        for record in history
    ]


def features_and_answers(run: RunOutput) -> dict[Place, tuple[dict[str, Any], list[str]]]:
    """What was known at each point, and who answered."""
    answers = {place_of(each): each["answer"] for each in map(json.loads, run.examples)}
    return {place: (known, answers[place]) for place, known in features_of(run).items()}


class TestLaw3Prefix:
    """A run over the events up to T, with `--until T`, gives exactly those examples of the full run with `settled_ts` <= T."""

    @patient
    @given(worlds(unlimited=False), st.data())
    def test_a_run_until_T_is_the_beginning_of_the_full_run(self, world: tuple[Rules, History], data: st.DataObject):
        """For every T: at events, at the ends of horizons, a microsecond beside them. Retractions, too."""
        rules, history = world
        full = run_of(history, rules, until=end_of(history, rules))
        t = data.draw(times_in(history, rules), label="T")

        beginning = run_of(up_to(history, t), rules, until=t)
        until_t = run_of(history, rules, until=t)

        assert sorted(beginning.examples) == sorted(settled_by(t, full.examples))
        assert sorted(until_t.examples) == sorted(beginning.examples)
        assert sorted(until_t.retractions) == sorted(beginning.retractions)
        known = {json.loads(line)["id"] for line in beginning.examples}
        retracted_by_then = [
            line for line in full.retractions if json.loads(line)["id"] in known and json.loads(line)["retracted_ts"] <= ts_text(t)
        ]
        assert sorted(beginning.retractions) == sorted(retracted_by_then)

    @patient
    @given(worlds(unlimited=False), st.data())
    def test_until_T_takes_nothing_but_the_later_away(self, world: tuple[Rules, History], data: st.DataObject):
        """In any order of arrival, late events too: until T, the run over all records is the beginning of the run until a later time."""
        rules, history = world
        arrived = data.draw(late_arrivals(history), label="arrivals")
        t = data.draw(times_in(history, rules), label="T")

        later, until_t = run_of(arrived, rules, until=end_of(history, rules)), run_of(arrived, rules, until=t)

        assert sorted(until_t.examples) == sorted(settled_by(t, later.examples))

    @patient
    @given(worlds(unlimited=False))
    def test_without_until_only_silences_may_be_missing(self, world: tuple[Rules, History]):
        """A channel that fell quiet is closed at its own clock: what was open then is censored, and would have been a silence."""
        rules, history = world
        bounded, unbounded = run_of(history, rules, until=end_of(history, rules)), run_of(history, rules)

        assert Counter(unbounded.examples) <= Counter(bounded.examples)
        missing = [json.loads(line) for line in (Counter(bounded.examples) - Counter(unbounded.examples)).elements()]
        assert rules.target != "next_user" or not any(example["answer"] for example in missing)
        assert len(missing) <= unbounded.account["censored"]

    @patient
    @given(worlds(unlimited=False), st.data())
    def test_what_is_written_on_the_way_stays_written(self, world: tuple[Rules, History], data: st.DataObject):
        """Followed live, at any moment: all that has been written is in the full run, each line once."""
        rules, history = world
        full = run_of(history, rules, until=end_of(history, rules))
        shard = Shard(rules, load_encoding(rules.encoding))
        read_into(shard, lines_of(history[: data.draw(st.integers(0, len(history)), label="records read")]))

        assert Counter(shard.drain().examples) <= Counter(full.examples)


def settled_by(t: int, examples: Iterable[bytes]) -> list[bytes]:
    """Examples that had settled at `t`."""
    return [line for line in examples if json.loads(line)["settled_ts"] <= ts_text(t)]


def times_in(history: History, rules: Rules) -> st.SearchStrategy[int]:
    """Moments at which something happens or ends, and a microsecond before and after them."""
    events = [record.t for record in history if record.t is not None] or [NOW]
    ends = [t + (rules.horizon or 0) for t in events]
    return st.builds(lambda t, beside: t + beside, st.sampled_from(sorted({*events, *ends})), st.sampled_from([0, 0, -1, 1]))


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
    edits=0.1, deletions=0.05, reactions=0.3, duplicates=0.05, too_late=0.01, broken=0.01,
)  # fmt: skip
"""More than 5,000 records, with everything in them."""


def is_event(record: Record, rules: Rules) -> bool:
    """Whether a record is an event to these rules, so that a second one is a duplicate."""
    parsed = parse(record.line, NOW, bots=rules.bots, edits=rules.edits)
    return isinstance(parsed, Event) and not (parsed.untimed and rules.horizon is not None)


def time_of(record: Record) -> int:
    """When a record happened; what can't be read, before all else."""
    return START if record.t is None else record.t


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
    return replace(record, line=_CHANNEL.sub(r'"channel": "D\1"', text).encode(), data=None)


_TIME = re.compile(r'"([0-9]{10}\.[0-9]{6})"')
_CHANNEL = re.compile(r'"channel": "C([0-9])"')


Step = tuple[list[bytes], list[bytes], list[bytes]]


def interrupted(records: History, after_each: Sequence[str], rules: Rules) -> tuple[list[Step], dict[str, Any]]:
    """What a run with snapshots, some of which another process takes up, has made after each record and at the end; its account."""
    shard = Shard(rules, load_encoding(rules.encoding))
    steps = []
    for record, what in zip([*records, None], [*after_each, "nothing"], strict=True):
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


class TestLaw4LiveAndExport:
    """An export is a poorer stream than the live one: equal where nothing was changed, and every other difference has a named rule."""

    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("target", ["next_user", "interacting_users"])
    def test_an_unchanged_workspace_is_the_same_live_and_exported(self, tmp_path: Path, seed: int, target: Literal["next_user"]):
        """Without edits, deletions and reactions: byte for byte, private channels included."""
        plan = unchanged(undisturbed(Plan(seed=seed, messages=500, days=5, channels=5, people=15, private=0.4)))
        rules = Rules(target=target)
        end = plan.end_us + 2 * DAY

        live, exported = run_of(live_records(plan), rules, until=end), run_of(exported_records(plan, tmp_path), rules, until=end)

        assert sorted(live.examples) == sorted(exported.examples)
        assert live.account.as_json()["points"] == exported.account.as_json()["points"]
        assert len(live.examples) > 100

    @pytest.mark.parametrize("target", ["next_user", "interacting_users"])
    @pytest.mark.parametrize("seed", range(4))
    def test_every_other_difference_has_a_rule(self, tmp_path: Path, seed: int, target: Literal["next_user"]):
        """With all that changes a workspace, the export is the live stream after four named rules, each counted: byte for byte."""
        plan = undisturbed(Plan(seed=seed, messages=700, days=7, channels=5, people=15, private=0.4, edits=0.1, deletions=0.05))
        rules = Rules(target=target)
        end = plan.end_us + 2 * DAY
        poorer, counts = made_poorer(live_records(plan))

        live, exported = run_of(poorer, rules, until=end), run_of(exported_records(plan, tmp_path), rules, until=end)

        assert sorted(live.examples) == sorted(exported.examples)
        assert live.account.as_json()["points"] == exported.account.as_json()["points"]
        assert set(counts) == {
            "a reaction has no time",
            "a deleted message is gone",
            "only the last edit is kept",
            "an edited text is unknown",
        }
        assert counts["a reaction has no time"] >= exported.account.by_reason("ignored")["untimed"] > 0
        assert exported.account["withheld"] > 0 and exported.retractions == []


def exported_records(plan: Plan, folder: Path) -> Iterator[bytes]:
    """The export of a simulated workspace, as the program reads it."""
    write_export(plan, folder / "export.zip")
    export = open_export(folder / "export.zip", include=("channels", "groups"))
    for channel in export.channels:
        yield from records_of(channel.id, read_days(export, channel))


def made_poorer(live: Iterable[bytes]) -> tuple[list[bytes], Counter[str]]:
    """What an export can know of a live stream: the stream after four rules, and how often each took something away.

    This is docs/semantics.md, "What an export loses", read once more, from the live side; it shares no code with
    `beepgpt.conversations.export`.
    """
    bodies = [json.loads(line)["event"] for line in live]
    gone = {(each["channel"], each["deleted_ts"]) for each in bodies if each.get("subtype") == "message_deleted"}
    gone |= {(each["channel"], each["message"]["ts"]) for each in changes(bodies) if each["message"].get("subtype") == "tombstone"}
    edits = {(each["channel"], each["message"]["ts"]): each for each in changes(bodies) if each["message"].get("text") != text_before(each)}
    counts: Counter[str] = Counter()
    timed: list[tuple[int, dict[str, Any]]] = []
    for body in bodies:
        what = body.get("message", body.get("item", body))
        name = (body.get("channel") or what.get("channel"), body.get("deleted_ts") or what.get("ts"))
        if body["type"].startswith("reaction_"):
            counts["a reaction has no time"] += 1
        elif name in gone:
            counts["a deleted message is gone"] += 1
        elif body.get("subtype") != "message_changed":
            timed.append((micros(body["ts"]), body | {"text": None} if name in edits else body))
            counts["an edited text is unknown"] += name in edits
        elif name in edits and edits[name] is body:
            known = max(micros(what["edited"]["ts"]) // SECOND * SECOND + SECOND - 1, micros(what["ts"]))
            timed.append((known, body | {"event_ts": ts_text(known), "previous_message": None}))
        elif body["message"].get("text") != text_before(body):
            counts["only the last edit is kept"] += 1
    return [json.dumps(body).encode() for _, body in sorted(timed, key=lambda each: each[0])], counts


def changes(bodies: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The `message_changed` among them."""
    return (each for each in bodies if each.get("subtype") == "message_changed")


def text_before(changed: dict[str, Any]) -> object:
    """What a message said before it was changed."""
    return (changed.get("previous_message") or {}).get("text")


A_FEW = (post("C1", START, "ana"), react("C1", START + 1, START, "bo"), heartbeat_record(START), post("C1", START, "ana", "copy"))


class TestLaw5TrainAsYouServe:
    """For every example there is a scored point with the same conversation, `prompt_ts`, prompt and facts, byte for byte."""

    @patient
    @given(worlds())
    def test_every_example_is_a_point_that_was_scored(self, world: tuple[Rules, History]):
        """All that an example says of its past, the point said, in the same bytes; and its end is logged, too."""
        rules, history = world
        run = run_of(history, rules, until=end_of(history, rules), points_since=0)
        points = {place: point for point in points_in(run) for place in places_of(point)}
        ends = {(each.conversation, each.prompt_ts): each for each in run.points if isinstance(each, PointSettled)}

        for example in map(json.loads, run.examples):
            point, end = points[place_of(example)], ends[place_of(example)]
            assert {name: value for name, value in example.items() if name not in (*OUTCOME, "conversation")} == {
                name: value for name, value in point.items() if name not in ("id", "conversations")
            }
            assert (list(end.answer), end.how == "answered") == (example["answer"], bool(example["answer"]))

    @patient
    @given(worlds(), st.data())
    def test_a_point_is_emitted_as_soon_as_it_is_made(self, world: tuple[Rules, History], data: st.DataObject):
        """Nothing is read but what had happened by T, and nothing has ended: the points up to T are emitted, byte for byte."""
        rules, history = world
        times = [record.t for record in history if record.t is not None]
        assume(times)
        t = data.draw(st.sampled_from(times), label="T")
        whole = run_of(history, rules, until=end_of(history, rules), points_since=0)
        shard = Shard(rules, load_encoding(rules.encoding), recoverable=False, points_since=0)
        read_into(shard, lines_of([*up_to(history, t), heartbeat_record(t + rules.lateness + 1)]))
        points = shard.drain().points
        assert points is not None

        def lines(entries: Iterable[PointEmitted | PointSettled | MessageDeleted]) -> list[bytes]:
            return sorted(each.line for each in entries if isinstance(each, PointEmitted) and each.t <= t)

        assert lines(points.entries) == lines(whole.points)

    @patient
    @given(worlds())
    def test_a_point_is_emitted_once_and_ends_once(self, world: tuple[Rules, History]):
        """Whoever predicts learns what became of it in each of its conversations; asking changes nothing in the examples."""
        rules, history = world
        end = end_of(history, rules)
        run = run_of(history, rules, until=end, points_since=0)
        emitted = Counter(place for point in points_in(run) for place in places_of(point))
        ends = Counter((each.conversation, each.prompt_ts) for each in run.points if isinstance(each, PointSettled))

        assert emitted == ends
        assert outcome(run) == outcome(run_of(history, rules, until=end))
        assert run.account["told"] + run.account["together"] + run.account["withheld"] + run.account["empty"] == run.account["points"]

    @patient
    @given(worlds(), st.data())
    def test_points_from_a_time_on_are_those_of_the_whole_run(self, world: tuple[Rules, History], data: st.DataObject):
        """A scorer that starts warm, going through the past without a word, then says what one that always ran would have said."""
        rules, history = world
        times = [record.t for record in history if record.t is not None]
        assume(times)
        t = data.draw(st.sampled_from(times), label="from")
        end = end_of(history, rules)
        whole, since = (run_of(history, rules, until=end, points_since=each) for each in (0, t))

        def time_of(each: PointEmitted | PointSettled | MessageDeleted) -> int:
            return each.t if isinstance(each, PointEmitted) else each.prompt_ts if isinstance(each, PointSettled) else t

        assert since.points == [each for each in whole.points if time_of(each) >= t]


def points_in(run: RunOutput) -> list[dict[str, Any]]:
    """The points that a run emitted, decoded."""
    return [json.loads(each.line) for each in run.points if isinstance(each, PointEmitted)]


def places_of(point: dict[str, Any]) -> list[Place]:
    """Where a point stands, as an example would say it."""
    return [(conversation, micros(point["prompt_ts"])) for conversation in point["conversations"]]


class TestLaw6NothingIsLostInSilence:
    """Every event read and every point made is in exactly one place, and all places are counted."""

    @patient
    @given(worlds(), st.data())
    def test_both_sums_add_up_whatever_comes(self, world: tuple[Rules, History], data: st.DataObject):
        """In any order of arrival, with garbage: what is counted is what was handed out."""
        rules, history = world
        arrived = data.draw(late_arrivals(history), label="arrivals")
        run = run_of(arrived, rules)
        events, points = run.account.as_json()["events"], run.account.as_json()["points"]

        assert events["read"] == sum(not is_heartbeat(record) for record in arrived)
        assert events["late"] == len(run.late)
        assert sum(events["rejected"].values()) == len(run.rejects)
        came = Counter(getattr(parse(line, NOW), "record", line) for line in lines_of(arrived))  # less what a message said before
        assert Counter(run.late) + Counter(reject.record for reject in run.rejects) <= came
        assert points["answered"] + points["silent"] == len(run.examples) == run.account["examples"]
        assert run.account["retractions"] == len(run.retractions)
        assert len({json.loads(line)["id"] for line in run.examples}) == len(run.examples)
        assert len({json.loads(line)["id"] for line in run.retractions}) == len(run.retractions)

    @patient
    @given(worlds(), st.data())
    def test_they_add_up_at_every_moment(self, world: tuple[Rules, History], data: st.DataObject):
        """Before the end, too, with what is held and what is open."""
        rules, history = world
        shard = Shard(rules, load_encoding(rules.encoding))
        for record in data.draw(late_arrivals(history), label="arrivals"):
            read_into(shard, [record.line])
            assert shard.account_now().check() == []

    @patient
    @given(worlds(), st.data())
    def test_each_record_is_in_one_place(self, world: tuple[Rules, History], data: st.DataObject):
        """One record more is one more of exactly one of applied, duplicate, ignored, rejected, late and held, or of heartbeats."""
        rules, history = world
        shard = Shard(rules, load_encoding(rules.encoding))
        before = 0
        for record in data.draw(late_arrivals(history), label="arrivals"):
            read_into(shard, [record.line])
            events = shard.account_now().as_json()["events"]
            now = sum(sum(value.values()) if isinstance(value, dict) else value for name, value in events.items() if name != "read")
            assert now - before == (not is_heartbeat(record))
            before = now

    @patient
    @given(st.lists(st.binary(max_size=60) | st.sampled_from([record.line for record in A_FEW]), max_size=30))
    def test_garbage_is_counted(self, records: list[bytes]):
        """Whatever the bytes."""
        assert run_of(records, Rules()).account["read"] == sum(not isinstance(parse(line, NOW), Heartbeat) for line in records)
