"""What a rehearsal's page is given: what it gains over simple rules, how long a trial must be, whose nights it reckons with."""

from __future__ import annotations

from typing import Any

import pytest

from beepgpt.alerts.choosing import WantedAlerts
from beepgpt.alerts.decisions import Policy, Preferences
from beepgpt.alerts.predictions import read_prediction
from beepgpt.alerts.rehearsal import RehearsalHistory, read_outcome
from beepgpt.alerts.rehearsal_report import rehearsal_report
from beepgpt.conversations.rules import DAY, HOUR, MINUTE
from tests.support.alerts import NOON, outcome, prediction

POLICY = Policy(threshold=0.5, list_from=0.2, quiet=(22 * 60, 7 * 60), opted_in=True)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Twenty days, on each of which somebody is alerted at noon, and joins on each second one; and three nights with a likely person."""
    points, outcomes = [], []
    for day in range(20):
        author = "ana" if day % 2 else "cy"
        at = NOON + day * DAY
        points.append(prediction(at, window=[(at, author)], people={"bo" if day < 12 else "ed": 0.8}))
        outcomes.append(outcome(points[-1], MINUTE, "di" if day % 2 else "bo" if day < 12 else "ed"))
    for day in range(3):
        points.append(prediction(NOON + day * DAY + 11 * HOUR, people={"di": 0.8}))
        outcomes.append(outcome(points[-1], HOUR))
    history = RehearsalHistory([*map(read_prediction, points)], map(read_outcome, outcomes))
    return rehearsal_report(
        *(history, POLICY, lambda threshold: POLICY, lambda why: 0.3),
        asked={"ed": Preferences(zone="Asia/Tokyo")},
        may_see=lambda user, channel: True,
        names={},
        everybody=True,
        wishes=[WantedAlerts()],
    )


def test_examples_come_in_turns(found: dict[str, Any]):
    """One whose reader joined, one whose reader did not: so that the first few are of both kinds."""
    assert [each["joined"] for each in found["shown"]] == [True, False] * 4


def test_what_quiet_hours_in_utc_change_is_counted(found: dict[str, Any]):
    """Whom they kept from a message, and how many people, alerted or listed, have no time zone of their own."""
    assert (found["in_quiet_hours"], found["unzoned"], found["own_zones"], found["list_from"]) == (3, 2, 1, 0.2)
    assert (found["figures"]["alerts"], found["figures"]["listed"]) == (20, 3)


def test_who_was_likely_enough_and_got_no_message_is_counted_by_reason(found: dict[str, Any]):
    """Nights here; and where nobody gets any, one by what they took part in or never asked for. Those who are less likely are none."""
    assert found["kept_back"] == [("quiet hours", 3)]

    people = {"ana": 0.9, "bo": 0.9, "cy": 0.9, "di": 0.3, "ed": 0.9}
    at = [NOON + number * HOUR for number in range(3)]
    points = [prediction(each, window=[(each - MINUTE, "cy"), (each, "ana")], people=people) for each in at]
    asked = {user: Preferences(zone="Asia/Tokyo") for user in ("bo", "di")} | {"ed": Preferences(opted_in=False)}
    policy = Policy(threshold=0.5, list_from=0.2, quiet=(0, 1439), opted_in=True)
    report = rehearsal_report(
        *(RehearsalHistory(list(map(read_prediction, points)), []), policy, lambda threshold: policy, lambda why: 0.3),
        asked=asked, may_see=lambda user, channel: True, names={}, everybody=True, wishes=[WantedAlerts()],
    )  # fmt: skip

    assert report["kept_back"] == [("author", 3), ("not opted in", 3), ("participant", 3), ("quiet hours", 3)]
    assert (report["figures"]["alerts"], report["figures"]["listed"]) == (0, 6)
    assert (report["own_zones"], report["unzoned"]) == (2, 0)  # both of the same people: those who are listed, too


def test_who_joined_most_is_counted(found: dict[str, Any]):
    """Of ten who joined, one person is six."""
    joined = found["figures"]["intervals"]["joined"]

    assert (round(joined["value"] * joined["count"]), joined["count"], found["most_joined"]) == (10, 19, 6)


def test_a_trial_is_of_two_halves_at_the_rate_of_these_alerts(found: dict[str, Any]):
    """20 in 19 days, of whom 10 in 19 joined unaided."""
    assert found["trial"] == [{"more": 0.1, "alerts": 766, "weeks": 104}, {"more": 0.2, "alerts": 182, "weeks": 25}]


def test_what_is_gained_over_a_rule_has_its_interval(found: dict[str, Any]):
    """Who wrote last never joins here; who answers most sometimes does, and then nothing can be told."""
    ours, *rules = found["rules"]
    gains = {row["name"]: row["gain"] for row in rules}
    latest, most = gains["who wrote last in the channel, as many"], gains["who answers most in the channel, as many"]

    assert (ours["name"], ours["gain"]) == ("the model, from 50 %", None)
    assert latest == {"value": 0.52632, "low": 0.22506, "high": 0.74277, "count": 18, "conversations": 18}
    assert most == {"value": 0.13743, "low": -0.13622, "high": 0.37837, "count": 18, "conversations": 18}


def test_an_oracle_shows_the_most_that_can_be_had(found: dict[str, Any]):
    """It alerts those whom the model names and who join, each of them once, and nobody else."""
    oracle = found["oracle"]

    assert (oracle["name"], oracle["alerts"], oracle["people"]) == ("the most that can be had", 10, 2)
    assert (oracle["joined"], oracle["announced"]) == (1.0, round(10 / 19, 4))


def test_a_report_shows_how_alerts_spread_over_people(found: dict[str, Any]):
    """Of twenty alerts, one on each day, Bo got the first twelve and Ed the rest; under a cap those beyond are listed, as nights are."""
    rows = {row["cap"]: (row["over"], row["alerts"], row["listed"], row["people"]) for row in found["caps"]}

    assert found["tenth"] == {"people": 1, "alerts": 12}
    assert rows == {1: (2, 4, 19, 2), 2: (2, 7, 16, 2), 5: (2, 16, 7, 2)}
