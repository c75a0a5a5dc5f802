"""How alerts spread over people, and what is left of them under a cap a week."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from beepgpt.alerts.decisions import Policy
from beepgpt.alerts.predictions import read_prediction
from beepgpt.alerts.rehearsal import RehearsalHistory, Rehearsed
from beepgpt.alerts.replay import Replay
from beepgpt.alerts.spread import WEEK, capped, tenth_of, with_caps
from beepgpt.conversations.rules import DAY
from tests.support.alerts import NOON, prediction

POLICY = Policy(threshold=0.5, per_hour=100, opted_in=True)


def alerted(*at: tuple[str, int]) -> Rehearsed:
    """Everybody is alerted at their times, microseconds after noon."""
    points = [prediction(NOON + t, conversations=[f"C1:{n}:session"], people={user: 0.9}) for n, (user, t) in enumerate(at)]
    return Replay(RehearsalHistory(list(map(read_prediction, points)), [])).under(POLICY)


def test_a_week_is_over_after_seven_days():
    """With one message a week, the next may come seven days later, and not a microsecond before."""
    found = capped(alerted(("bo", 0), ("bo", WEEK - 1), ("bo", WEEK), ("cy", 0)).alerts, 1)

    assert [(each.alert.user, each.alert.way) for each in found.alerts if each.alert.user == "bo"] == [
        ("bo", "direct"), ("bo", "list"), ("bo", "direct"),
    ]  # fmt: skip
    assert found.over == {"bo"}


def test_listed_alerts_count_for_no_cap():
    """Only messages disturb: one that is listed leaves room for the next."""
    first, second = alerted(("bo", 0), ("bo", DAY)).alerts
    listed = replace(first, alert=first.alert._replace(way="list"))

    assert [each.alert.way for each in capped([listed, second], 1).alerts] == ["list", "direct"]


@given(st.lists(st.tuples(st.sampled_from(["bo", "cy"]), st.integers(0, 40)), max_size=30), st.integers(1, 4))
def test_no_seven_days_hold_more_than_the_cap(days: list[tuple[str, int]], cap: int):
    """In any order of alerts; and whoever lost one had a full week just before it."""
    alerts = alerted(*[(user, day * DAY) for user, day in days]).alerts
    found = capped(list(reversed(alerts)), cap)
    sent = [(each.alert.user, each.alert.point.prompt_ts) for each in found.alerts if each.alert.way == "direct"]

    assert sorted(each.alert.id for each in found.alerts) == sorted(each.alert.id for each in alerts)
    for each in found.alerts:
        user, at = each.alert.user, each.alert.point.prompt_ts
        before = sum(other == user and at - WEEK < ts <= at for other, ts in sent)
        assert before <= cap
        assert before == cap or each.alert.way == "direct"
    assert found.over == {each.alert.user for each in found.alerts if each.alert.way == "list"}


def test_a_tenth_of_the_people_is_rounded_up():
    """Of eleven people two are the tenth; of nobody, none."""
    many = alerted(*[("bo", n) for n in range(5)], *[("cy", 10 + n) for n in range(3)], *[(f"u{n}", 20 + n) for n in range(9)])

    assert tenth_of(many.direct()) == {"people": 2, "alerts": 8}
    assert tenth_of([]) == {"people": 0, "alerts": 0}


def test_caps_are_of_the_part_that_judges():
    """Alerts of the days to choose by count for no cap."""
    rehearsed = alerted(("bo", 0), ("bo", DAY))
    first, second = rehearsed.alerts
    apart = replace(rehearsed, alerts=[replace(first, part="choose"), replace(second, part="judge")])

    assert [(cap, over, len(left.direct())) for cap, over, left in with_caps(apart)] == [(1, 0, 1), (2, 0, 1), (5, 0, 1)]
