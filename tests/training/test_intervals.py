"""Intervals by conversation: they hold the truth as often as they say, and say so where there is too little to tell."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beepgpt.training.intervals import LEAST_CONVERSATIONS, LEAST_COUNT, Bootstrap, needed_to_see, paired_gain, share_of, widest_to_see
from beepgpt.training.metrics import spread
from beepgpt.training.outcomes import columns_of
from beepgpt.training.reloading import least_expected

WORKSPACES = 400


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 4), st.integers(0, 4)), max_size=60))
def test_a_share_lies_in_its_interval_or_is_of_too_little(rows: list[tuple[int, int, int]]):
    """Never 5.7 in 5.8 to 18.7, and never 100.0 (100.0 to 100.0)."""
    below = np.array([float(of) for _, of, _ in rows])
    above = np.array([float(min(right, of)) for _, of, right in rows])
    conversation = [str(name) for name, _, _ in rows]
    figure = share_of(above, below, conversation)

    is_little = below.sum() < LEAST_COUNT or len(set(conversation)) < LEAST_CONVERSATIONS
    assert np.isnan(figure.low) == np.isnan(figure.high) == is_little
    if not is_little:
        assert 0 <= figure.low <= figure.value <= figure.high <= 1
        assert figure.high - figure.low > 0.02
        found = Bootstrap(conversation, draws=50).share(above, below)
        assert (found.value, found.low, found.high) == (figure.value, figure.low, figure.high)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=12, max_size=80))
def test_a_calibration_error_lies_in_its_interval(rows: list[tuple[float, bool]]):
    """Noise adds to it, and drawing adds noise again: both are taken off."""
    said, came = np.array([p for p, _ in rows]), np.array([float(right) for _, right in rows])
    boot = Bootstrap([str(place) for place in range(len(rows))], draws=100)
    gaps = [np.where((said * 5).astype(int) == place, said - came, 0.0) for place in range(6)]
    figure = boot.gap(gaps, np.ones(len(rows)))

    assert 0 <= figure.low <= figure.value <= figure.high


def test_few_alerts_of_many_conversations_or_many_of_few_are_too_little():
    """Nine of nine; or a hundred of seven conversations."""
    nine = share_of(np.ones(9), np.ones(9), [str(place) for place in range(9)])
    seven = share_of(np.ones(100), np.ones(100), [str(place % 7) for place in range(100)])

    assert np.isnan([nine.low, nine.high, seven.low, seven.high]).all()
    assert (nine.count, nine.conversations, seven.count, seven.conversations) == (9, 9, 100, 7)


def test_alerts_that_all_came_true_say_as_much_as_the_conversations_that_they_are_of():
    """Twenty in each of twelve conversations are no two hundred and forty draws; nor are they where none came true."""
    for value in (1.0, 0.0):
        one, twenty = (share_of(np.full(12 * of, value), np.ones(12 * of), [str(place % 12) for place in range(12 * of)]) for of in (1, 20))
        assert (twenty.low, twenty.high) == (one.low, one.high) and twenty.high - twenty.low > 0.2


def workspace(random: np.random.Generator, share: float) -> tuple[np.ndarray, list[str]]:
    """Alerts, right or not, and their conversations: 8 to 300 of these, of one to twenty alerts, which go together more or less."""
    count = int(random.choice([8, 12, 20, 40, 80, 150, 300]))
    sizes = random.geometric(1 / random.choice([1.5, 3.0]), count)
    together = random.choice([2.0, 5.0, 20.0])
    of_each = random.beta(share * together, (1 - share) * together, count)
    right = [random.random(size) < p for size, p in zip(sizes, of_each, strict=True)]
    return np.concatenate(right).astype(np.float64), [str(place) for place, size in enumerate(sizes) for _ in range(size)]


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8])
def test_intervals_hold_the_truth_in_95_of_100_workspaces(share: float):
    """93 to 97, of simulated workspaces of every size; intervals that took alerts for independent would not."""
    random = np.random.default_rng(11)
    held, naive, told = 0, 0, 0
    for _ in range(WORKSPACES * 4):
        right, conversation = workspace(random, share)
        figure = share_of(right, np.ones(len(right)), conversation)
        if np.isnan(figure.low):
            continue
        alone = share_of(right, np.ones(len(right)), [str(place) for place in range(len(right))])
        told += 1
        held += figure.low <= share <= figure.high
        naive += alone.low <= share <= alone.high

    assert 0.93 <= held / told <= 0.97
    assert naive / told < held / told - 0.03


@pytest.mark.slow
@pytest.mark.parametrize(("ours", "theirs"), [(0.5, 0.5), (0.6, 0.3), (0.15, 0.1)])
def test_intervals_of_a_gain_hold_the_truth_in_95_of_100_workspaces(ours: float, theirs: float):
    """94 to 98, of alerts of two rules that share some conversations, in which both are right more often or less; those of the two alone,
    one held against the other, would say a gain far less often."""
    random = np.random.default_rng(13)
    held, told, ups, apart = 0, 0, 0, 0
    for _ in range(1_600):
        count = int(random.choice([12, 20, 40, 80, 150]))
        level, both = random.random(count), random.random(count) < 0.7
        sides = []
        for share in (ours, theirs):
            of = np.flatnonzero(both | (random.random(count) < 0.4)).repeat(random.integers(1, 3))
            right = np.where(random.random(len(of)) < 0.5, level[of] < share, random.random(len(of)) < share)
            sides.append((right.astype(np.float64), [str(each) for each in of]))
        gain = paired_gain(*sides)
        if np.isnan(gain.low):
            continue
        one, other = (share_of(right, np.ones(len(right)), names) for right, names in sides)
        told += 1
        held += gain.low <= ours - theirs <= gain.high
        ups += gain.low > 0
        apart += one.low > other.high

    assert told > 1_200 and 0.94 <= held / told <= 0.98
    assert ups / told <= 0.03 if ours == theirs else ups > 1.1 * apart


def test_a_gain_is_of_conversations_that_both_alert_to():
    """Where both are right in the same ones, the interval is narrower than that of others; of too little there is none."""
    names = [str(each) for each in range(20)]
    ours, theirs = np.array([1.0] * 12 + [0.0] * 8), np.array([1.0] * 6 + [0.0] * 14)
    same, others = paired_gain((ours, names), (theirs, names)), paired_gain((ours, names), (theirs, [f"{each} b" for each in names]))

    assert same.as_json() == {"value": 0.3, "low": 0.07269, "high": 0.47492, "count": 20, "conversations": 20}
    assert others.as_json() == {"value": 0.3, "low": -0.03306, "high": 0.5544, "count": 20, "conversations": 20}
    assert np.isnan(paired_gain((ours, names), (theirs[:9], names[:9])).low)
    assert np.isnan(paired_gain((ours, names), (theirs[:0], [])).value)


@pytest.mark.parametrize(("share", "more", "each"), [(0.5, 0.1, 388), (0.59, 0.1, 361), (0.3, 0.2, 93), (0.1, 0.1, 199), (0.95, 0.1, None)])
def test_a_trial_is_as_long_as_textbooks_say(share: float, more: float, each: int | None):
    """Two shares, a two-sided test at 5 %, a power of 80 % (Fleiss, Levin and Paik, 2003, without the correction for continuity)."""
    assert needed_to_see(share, more) == each


@pytest.mark.slow
def test_a_model_as_good_as_validated_is_seldom_said_to_be_worse():
    """Of 300 that are as good as their validation said, looked at 70 times each, a few are warned of by chance; of as many that are not,
    most are."""
    random = np.random.default_rng(5)

    def is_warned(share: float) -> bool:
        def answers(count: int, p: float) -> tuple[np.ndarray, list[str]]:
            sizes = random.geometric(1 / 3, count)
            of_each = random.beta(p * 3, (1 - p) * 3, len(sizes))
            right = np.concatenate([random.random(size) < p for size, p in zip(sizes, of_each, strict=True)]).astype(np.float64)
            return right, [str(place) for place, size in enumerate(sizes) for _ in range(size)]

        before, conversation = answers(120, 0.5)
        validated = share_of(before, np.ones(len(before)), conversation).as_json()
        live, _ = answers(400, share)
        return any(live[:seen].mean() < least_expected(validated, seen) for seen in range(300, min(1000, len(live)), 10))

    assert sum(is_warned(0.5) for _ in range(300)) <= 9
    assert sum(is_warned(0.25) for _ in range(300)) >= 285


def test_no_difference_is_said_only_where_one_would_most_likely_have_shown():
    """With intervals as wide as that, a true difference of 10 points lies apart from zero in 8 of 10 cases."""
    width = widest_to_see(0.1)
    seen = np.random.default_rng(3).normal(0.1, width / 2 / 1.96, 50_000) - width / 2 > 0

    assert seen.mean() == pytest.approx(0.8, abs=0.01)


def answered(ranks: list[int]) -> list[dict[str, Any]]:
    """Outcomes of answered points, one a second, in an order that isn't that of time."""
    return [
        {
            "conversation": str(at),
            "prompt_ts": f"{1_700_000_000 + at}.000000",
            "how": "answered",
            "speakers": 1,
            "rank": rank,
            "people": [],
            "answer": [],
        }
        for at, rank in sorted(enumerate(ranks), key=lambda each: each[0] % 7)
    ]


def test_how_much_rows_of_answers_differ():
    """Of 300 right ones and then 300 wrong ones each share between comes once; of 599 nobody knows; and a drop has to be as much lower."""
    found = spread(columns_of(answered([1] * 300 + [3] * 300)))

    assert found == {"300": {"hit@1": pytest.approx(np.std(np.arange(301) / 300)), "hit@5": 0.0}}
    assert spread(columns_of(answered([1] * 599))) == {}


def test_weeks_that_differ_are_no_drop():
    """Right in 6 of 10 answers of one week and in 7 of the next, as it was validated: without what rows differ by, each bad week is one."""
    random = np.random.default_rng(8)
    weeks = np.repeat([0.6, 0.72] * 4, 1_200)
    before, live = (np.where(random.random(len(weeks)) < weeks, 1, 0) for _ in range(2))
    validated = share_of((before == 1).astype(np.float64), np.ones(len(before)), [str(place) for place in range(len(before))]).as_json()
    rows = {count: of["hit@1"] for count, of in spread(columns_of(answered(before.tolist()))).items()}
    seen = [(min(end, 1000), live[max(end - 1000, 0) : end].mean()) for end in range(300, len(live), 10)]

    assert [share for count, share in seen if share < least_expected({**validated, "spread": rows}, count)] == []
    assert [share for count, share in seen if share < least_expected({**validated, "spread": {}}, count)]
    assert 0.5 < least_expected({**validated, "spread": rows}, 1000) < 0.56
