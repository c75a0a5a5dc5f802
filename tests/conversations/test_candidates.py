"""Candidates and their features, by histories of a few minutes. Minute 0 is a Monday at ten, UTC."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest

from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.plain_columns import columns_json
from beepgpt.conversations.rules import MINUTE, SECOND, Rules
from beepgpt.conversations.shard import Shard
from tests.support import at, edit, features_by_person, made_from, post, read_into
from tests.support.histories import lines_of

MOMENT = 1 / MINUTE
"""A microsecond, in minutes."""
TOMORROW = 24 * 60.0
"""Minutes after which a horizon ends."""
ENCODING = load_encoding("o200k_base")


def rules(**more: Any) -> Rules:
    """The default settings without candidates, but for these."""
    return Rules(**({"candidates": False} | more))


class TestCandidates:
    """Facts about people, known at `prompt_ts`; the numbers are worked out by hand."""

    def facts(self, *history: Any) -> dict[str, dict[str, Any]]:
        """The candidates of the last example."""
        return features_by_person(made_from(*history, rules=Rules()).examples[-1])

    def test_who_and_in_which_order(self):
        """The window's other authors, newest first, then the channel's most active; never the last author."""
        far = [post("ed", minute=-200), post("ed", minute=-199), post("di", minute=-100)]

        facts = self.facts(*far, post("ana", minute=0), post("bo", minute=1), post("cy", minute=2), post("zoe", minute=3))

        assert list(facts) == ["bo", "ana", "ed", "di"]
        assert [facts[user]["in_window"] for user in facts] == [2, 3, 0, 0]

    def test_the_answer_is_not_among_what_is_known(self):
        """Zoe answers for the first time: she is no candidate yet, and nobody's numbers have her answer in them."""
        facts = self.facts(post("ana", minute=0), post("bo", minute=1), post("zoe", minute=2))

        assert list(facts) == ["ana"]
        assert facts["ana"]["answers_3d"] == 0.0

    def test_who_is_named_is_known_from_the_text_as_it_then_is(self):
        """An edit that names somebody else counts from its own time on, and a name in code never."""
        made = made_from(
            post("ana", "ask <@cy>, not ```<@dee>```", minute=0), edit("ask <@eve>", of=0, minute=1), post("bo", minute=2), rules=Rules()
        )
        facts = features_by_person(made.examples[0])

        assert made.examples[0]["prompt_ts"] == f"{at(1) // SECOND}.000000"
        assert {user: features["mentioned"] for user, features in facts.items()} == {"eve": 1}

    def test_an_edit_of_nothing_but_whom_it_names_is_a_new_point(self):
        """The words are the same, who is asked is not."""
        made = made_from(post("ana", "ask <@cy>", minute=0), edit("ask <@eve>", of=0, minute=1), post("bo", minute=2), rules=Rules())

        assert made.examples[0]["prompt_ts"] == f"{at(1) // SECOND}.000000"
        assert list(features_by_person(made.examples[0])) == ["eve"]

    def test_who_spoke_before_the_window_is_still_a_candidate(self):
        """Ana began; six messages later she stands in no window, but has her place."""
        made = made_from(*[post(user, minute=minute) for minute, user in enumerate(["ana", *["bo", "cy"] * 4])], rules=Rules())
        last = features_by_person(made.examples[-1])

        assert (last["ana"]["spoke"], last["ana"]["in_window"]) == (1, 0)

    def test_columns_stand_in_order(self):
        """So that bytes agree."""
        made = made_from(post("ana", minute=0), post("bo", minute=1), rules=Rules())

        assert list(made.examples[0]["candidates"]) == [
            "user", "in_window", "mentioned", "spoke", "answers_3d", "answers_30d", "answers_180d", "share_3d", "share_30d", "share_180d",
            "first_7d", "first_60d", "posts_30d", "seen_hours", "to_author", "hour_share", "closeness",
        ]  # fmt: skip

    def test_answers_decay_by_their_half_lives(self):
        """Bo answered once, three days ago: half an answer by three days, and 2^(-3/30), 2^(-3/180) by the others."""
        days = 3 * TOMORROW
        facts = self.facts(post("ana", minute=-1), post("bo", minute=0), post("ana", minute=days), post("cy", minute=days + 1))

        assert facts["bo"]["answers_3d"] == 0.5
        assert facts["bo"]["answers_30d"] == round(2 ** (-3 / 30), 4)
        assert facts["bo"]["answers_180d"] == round(2 ** (-3 / 180), 4)
        assert facts["bo"]["first_7d"] == round(2 ** (-3 / 7), 4)
        assert facts["bo"]["first_60d"] == round(2 ** (-3 / 60), 4)
        assert facts["bo"]["posts_30d"] == round(2 ** (-3 / 30), 4)
        assert facts["bo"]["seen_hours"] == 72.0

    def test_shares_are_of_all_answers_in_the_channel(self):
        """Bo answered twice, Cy once, at nearly one time: two thirds."""
        history = [post("ana", minute=0), post("bo", minute=0.01), post("ana", minute=0.02), post("bo", minute=0.03)]

        facts = self.facts(*history, post("ana", minute=0.04), post("zoe", minute=1))

        # Ana answered Bo twice, Bo answered Ana twice.
        assert facts["bo"]["share_3d"] == facts["bo"]["share_30d"] == facts["bo"]["share_180d"] == 0.5
        assert facts["bo"]["to_author"] == 2.0

    def test_only_the_first_reply_is_a_first_reply(self):
        """Bo's came when one person had spoken; Ana's, back to him, when two had."""
        facts = self.facts(post("ana", minute=0), post("bo", minute=1), post("ana", minute=2), post("cy", minute=3), post("zoe", minute=4))

        assert (facts["bo"]["first_7d"], facts["ana"]["first_7d"]) == (pytest.approx(1, abs=1e-3), 0.0)
        assert (facts["bo"]["answers_3d"], facts["ana"]["answers_3d"]) == (pytest.approx(1, abs=1e-3), pytest.approx(1, abs=1e-3))

    def test_the_hours_of_the_day(self):
        """Bo posted three times around ten and once at midnight: at ten, three of four."""
        nights = [*(post("bo", minute=-1440 + hour * 60) for hour in (-1, 0, 1)), post("bo", minute=-600)]

        facts = self.facts(*nights, post("ana", minute=0), post("cy", minute=1))

        assert facts["bo"]["hour_share"] == 0.75

    def test_closeness_is_to_what_they_answered_before(self):
        """Bo answered about the build, Cy about food: a question about the build is closer to Bo."""
        history = [
            post("ana", "build broken", minute=0), post("bo", minute=1),
            post("ana", "food today", minute=100), post("cy", minute=101),
            post("ana", "build slow", minute=200), post("di", minute=201),
        ]  # fmt: skip
        facts = self.facts(*history)

        # `build` stood in two messages and weighs 1/3, `slow` in one and weighs 1/2. Bo has answered `build` and `broken` once each.
        expected = (1 / 3) / math.hypot(1 / 3, 1 / 2) / math.sqrt(2)
        assert facts["bo"]["closeness"] == pytest.approx(expected, abs=1e-3)
        assert facts["cy"]["closeness"] == 0.0

    def test_facts_do_not_change_when_they_are_read(self):
        """Asked once, asked a hundred times: the same, and not a byte of what is kept has moved."""
        shard = Shard(Rules(), ENCODING)
        read_into(shard, lines_of(post(("ana", "bo", "cy")[number % 3], "the build", minute=number) for number in range(20)))
        channel = shard.followed["C1"].channel
        people, point = channel.people, channel.open_points[-1].point
        before = pickle.dumps(people)
        assert point is not None

        first = columns_json(people.candidates(at(30), point.window, 40))

        assert all(columns_json(people.candidates(at(30), point.window, 40)) == first for _ in range(100))
        assert pickle.dumps(people) == before

    def test_most_is_most(self):
        """No more than `max_candidates`, and no more people than `kept_people`."""
        history = [post(f"u{number}", minute=number) for number in range(10)]
        made = made_from(*history, rules=Rules(max_candidates=3, kept_people=4))

        assert max(len(each["candidates"]["user"]) for each in made.examples) == 3
