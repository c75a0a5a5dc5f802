"""Law 3: a run until T gives exactly those examples of the full run that had settled by T."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import HOUR, Rules
from beepgpt.conversations.shard import Shard
from beepgpt.simulation.workspace import Plan, live_records
from tests.support import beep, read_into, run_of
from tests.support.histories import late_arrivals, lines_of
from tests.support.worlds import History, end_of, patient, times_in, up_to, worlds


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

    @pytest.mark.slow
    def test_the_file_until_T_is_the_beginning_of_the_file(self, tmp_path: Path):
        """Byte for byte: lines stand in the order in which they settled."""
        (tmp_path / "events.jsonl").write_bytes(b"".join(line + b"\n" for line in live_records(PLAN)))
        made = []
        for hours in (30, 49, 72):
            to = tmp_path / f"{hours}.jsonl"
            beep("examples", tmp_path / "events.jsonl", "--to", to, "--until", ts_text(PLAN.start_us + hours * HOUR))
            made.append(to.read_bytes())

        assert made[2].startswith(made[1]) and made[1].startswith(made[0])
        assert 0 < len(made[0]) < len(made[1]) < len(made[2])

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


PLAN = Plan(seed=5, messages=800, days=3, channels=7, people=20, deletions=0.05, too_late=0.02)


def settled_by(t: int, examples: Iterable[bytes]) -> list[bytes]:
    """Examples that had settled at `t`."""
    return [line for line in examples if json.loads(line)["settled_ts"] <= ts_text(t)]
