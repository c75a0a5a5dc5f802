"""Law 5: for every example there is a scored point with the same prompt and features, byte for byte."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.channel import FOREVER
from beepgpt.conversations.events import micros
from beepgpt.conversations.points import MessageDeleted, PointEmitted, PointSettled
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.shard import RunOutput, Shard
from tests.support import OUTCOME, Place, outcome, place_of, read_into, run_of
from tests.support.histories import heartbeat as heartbeat_record
from tests.support.histories import lines_of
from tests.support.worlds import History, end_of, patient, up_to, worlds


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

    @patient
    @given(worlds(), st.data())
    def test_what_nobody_reads_changes_nothing_of_what_is_read(self, world: tuple[Rules, History], data: st.DataObject):
        """Points from one time on and examples from another, or none at all: they are those of the whole run."""
        rules, history = world
        times = st.sampled_from([0, FOREVER, *(record.t for record in history if record.t is not None)])
        points_since, since = data.draw(times, label="points from"), data.draw(times, label="examples from")
        end = end_of(history, rules)
        whole = run_of(history, rules, until=end, points_since=points_since)
        shard = Shard(rules, load_encoding(rules.encoding), since=since, until=end, recoverable=False, points_since=points_since)
        read_into(shard, lines_of(history))
        shard.end()
        made = shard.drain()

        assert made.points is not None and made.points.entries == whole.points
        assert made.examples == [each for each in whole.examples if micros(json.loads(each)["prompt_ts"]) >= since]


def points_in(run: RunOutput) -> list[dict[str, Any]]:
    """The points that a run emitted, decoded."""
    return [json.loads(each.line) for each in run.points if isinstance(each, PointEmitted)]


def places_of(point: dict[str, Any]) -> list[Place]:
    """Where a point stands, as an example would say it."""
    return [(conversation, micros(point["prompt_ts"])) for conversation in point["conversations"]]
