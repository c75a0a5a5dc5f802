"""What became of live alerts: joined within a day that is over, and reacting apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from beepgpt.alerts.reading import closing_account
from beepgpt.conversations.rules import DAY, HOUR, MINUTE, SECOND
from beepgpt.simulation.slack.alerts_api import AlertedWorkspace
from tests.support.alerts import NOON, Office, outcome, prediction


def answers(office: Office) -> dict[str, int]:
    """Counts of what the readers of alerts did."""
    return {name: count for name, count in office.counts.items() if name.startswith("answer:") and "ed" in name}


def test_who_joined_counts_once_their_day_is_over(tmp_path: Path):
    """As those do who don't join: bo joins at once, and a day later both are counted; planted: an hour before it is over, nobody is."""
    office = Office(tmp_path)
    office.opt_in("bo", "cy")
    point = prediction(people={"bo": 0.9, "cy": 0.8})
    office.apply("prediction", point)
    office.apply("outcome", outcome(point, MINUTE, "bo"))
    office.apply("outcome", outcome(point, DAY - HOUR, how="superseded"))
    assert answers(office) == {} and closing_account(office.store, 0.5)["right"] is None

    office.apply("outcome", outcome(point, DAY, how="superseded"))
    assert answers(office) == {"answer:answered": 1, "answer:not_answered": 1}
    assert closing_account(office.store, 0.5)["right"] == 0.5


def test_who_had_posted_before_the_alert_came_has_not_joined(tmp_path: Path, slack: AlertedWorkspace):
    """Whatever they post later. The alert is made five seconds after the prompt, and Slack has its DM ten seconds after it."""
    office = Office(tmp_path, slack)
    slack.clock = lambda: NOON / SECOND + 10
    office.opt_in("bo", "cy", "di")
    point = prediction(people={"bo": 0.9, "cy": 0.8, "di": 0.3})
    office.apply("prediction", point)
    office.work()
    for user, after in (("bo", 9), ("cy", 11), ("di", 4)):
        office.apply("outcome", outcome(point, after * SECOND, user))
        office.apply("outcome", outcome(point, MINUTE, user))
    office.apply("outcome", outcome(point, DAY, how="superseded"))

    assert answers(office) == {"answer:answered": 1, "answer:not_answered": 2}


@pytest.mark.parametrize("is_named", [True, False])
def test_reacting_joins_nothing_and_is_counted_apart_once(tmp_path: Path, is_named: bool):
    """Of outcomes that name their target, and of those of 0.1.0, which name none; one that comes again counts once."""
    office = Office(tmp_path)
    office.opt_in("bo", "cy")
    point = prediction(people={"bo": 0.9, "cy": 0.8}, target="reactors")
    office.apply("prediction", point)
    became = outcome(point, DAY, "bo") | ({"target": "reactors"} if is_named else {})
    for _ in range(2):
        office.apply("outcome", became)

    assert answers(office) == {"answer:reacted": 1, "answer:not_reacted": 1, "answer:not_answered": 2}
    found = closing_account(office.store, 0.5)
    assert (found["right"], found["reacted"]) == (0.0, 0.5)


def test_where_nobody_has_reacted_no_share_is_given(tmp_path: Path):
    """Reactions of an export have no times: nobody knows who reacted after an alert."""
    office = Office(tmp_path)
    office.opt_in("bo")
    point = prediction(people={"bo": 0.9}, target="reactors")
    office.apply("prediction", point)
    office.apply("outcome", outcome(point, DAY) | {"target": "reactors"})

    assert closing_account(office.store, 0.5)["reacted"] is None


def test_a_post_joins_whatever_target_the_newest_prediction_had(tmp_path: Path):
    """The outcome's own target counts."""
    office = Office(tmp_path)
    office.opt_in("bo")
    point = prediction(people={"bo": 0.9})
    office.apply("prediction", point)
    office.apply("prediction", prediction(NOON + MINUTE, people={}, target="reactors", id="2", conversations=["C1:2:thread"]))
    office.apply("outcome", outcome(point, MINUTE, "bo") | {"target": "next_user"})
    office.apply("outcome", outcome(point, DAY, how="superseded"))

    assert answers(office) == {"answer:answered": 1}
