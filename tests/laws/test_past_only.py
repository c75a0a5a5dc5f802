"""Law 1: a prompt, and every feature beside it, is a function of the events known at `prompt_ts`.

A law says what a history's examples may depend on. So most properties of tests/laws have one form: change something that must not
matter, and look whether anything moved.
"""

from __future__ import annotations

from typing import Any

from hypothesis import assume, example, given
from hypothesis import strategies as st

from beepgpt.conversations.rules import Rules
from tests.support import Place, features_of, run_of
from tests.support.histories import Record, inner_of, messages_of, post, record_of, thread_of
from tests.support.oracle_records import SECOND
from tests.support.worlds import NAMED_AND_A_BOT, History, end_of, patient, points_known_at, up_to, worlds


class TestLaw1PastOnly:
    """A prompt, and every feature beside it, is a function of the events known at `prompt_ts`."""

    @patient
    @given(worlds())
    @example(NAMED_AND_A_BOT)
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
