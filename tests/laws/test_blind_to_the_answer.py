"""Law 2: who answered, and whether anybody did, changes nothing in the prompt or the features."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from beepgpt.conversations.events import POST, REACT, ts_text
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.shard import RunOutput
from tests.support import Place, features_of, place_of, run_of
from tests.support.histories import Record, inner_of, record_of
from tests.support.worlds import History, end_of, event_of, patient, points_known_at, worlds


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
        assume(not shares_an_id(history, example))
        # A file comment's author stands in its text, which says no stranger's name.
        assume(not any(is_answer(each, example) and inner_of(each).get("subtype") == "file_comment" for each in history))

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
        assume(not shares_an_id(history, example))
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


def shares_an_id(history: History, example: dict[str, Any]) -> bool:
    """Whether an answer has the event id of another record, which is a duplicate of it, and would count without it."""
    ids = [(each.data or {}).get("event_id") for each in history]
    answers = [is_answer(each, example) for each in history]
    return any(each and name is not None and ids.count(name) > 1 for name, each in zip(ids, answers, strict=True))


def by_a_stranger(history: History, example: dict[str, Any]) -> History:
    """The history with the example's answer given by a stranger."""
    return [
        record_of(inner_of(record) | {"user": "stranger"} | marks_of(record), record.channel, record.t)
        if is_answer(record, example)
        else record
        for record in history
    ]


def marks_of(record: Record) -> dict[str, Any]:
    """What a callback's envelope says of its event: that a person posted it through an app."""
    return {name: value for name, value in (record.data or {}).items() if name == "by_person"}


def features_and_answers(run: RunOutput) -> dict[Place, tuple[dict[str, Any], list[str]]]:
    """What was known at each point, and who answered."""
    answers = {place_of(each): each["answer"] for each in map(json.loads, run.examples)}
    return {place: (known, answers[place]) for place, known in features_of(run).items()}
