"""Law 6: every event read and every point made is in exactly one place, and all places are counted."""

from __future__ import annotations

import json
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.events import Heartbeat, parse
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.shard import Shard
from tests.support import NOW, read_into, run_of
from tests.support.histories import START, late_arrivals, lines_of, post, react
from tests.support.histories import heartbeat as heartbeat_record
from tests.support.worlds import History, is_heartbeat, patient, worlds

A_FEW = (post("C1", START, "ana"), react("C1", START + 1, START, "bo"), heartbeat_record(START), post("C1", START, "ana", "copy"))


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
