"""A replay under many policies alerts as the live rules do, point by point and policy by policy."""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from beepgpt.alerts.decisions import Alert, Policy, Preferences, decide
from beepgpt.alerts.predictions import PredictedConversation, read_prediction
from beepgpt.alerts.rehearsal import EVERY_PART, RehearsalHistory
from beepgpt.alerts.replay import Replay, latest_other_author
from beepgpt.conversations.rules import HOUR, SECOND
from tests.alerts.test_decisions import CHANNELS, PEOPLE, everybodys, histories
from tests.support.alerts import NOON, InMemoryHistory

policies = st.builds(
    Policy,
    threshold=st.sampled_from((0.1, 0.3, 0.5, 0.7, 1.0)),
    list_from=st.sampled_from((None, 0.2, 0.6)),
    per_hour=st.sampled_from((1, 3)),
    quiet=st.sampled_from(((0, 0), (12 * 60 + 30, 13 * 60 + 30))),
    max_age=st.sampled_from((HOUR, HOUR, HOUR, 0)),
    not_before=st.sampled_from((0, NOON + HOUR // 2)),
    opted_in=st.booleans(),
    thresholds=st.sampled_from((None, {"m": 0.3, "n": 0.7}.__getitem__)),
)
judging = st.sampled_from((EVERY_PART, frozenset({"judge"}), frozenset({"choose"})))


@settings(deadline=None, max_examples=60)
@given(histories(), everybodys, st.lists(st.tuples(policies, judging), min_size=1, max_size=4), st.booleans())
def test_a_replay_decides_as_the_live_rules_do(
    records: list[dict[str, Any]], asked: dict[str, Preferences], under: list[tuple[Policy, frozenset[str]]], by_rule: bool
):
    """The same alerts in the same way for the same reasons, and the same people passed over, by a model and by a simple rule. Each point
    is decided on as if it had been scored at once, also if it was not.
    """
    found = {each["id"]: each for each in records if "people" in each}
    points = [
        read_prediction(each | {"model": "mn"[place % 2], "part": ("choose", "judge")[place * 2 // len(found)], "fresh": place % 3 > 0})
        for place, each in enumerate(found.values())
    ]
    history = RehearsalHistory(points, [])
    replay = Replay(history, asked=asked, people=latest_other_author() if by_rule else None, may_see=may_see)
    for policy, parts in under:
        rehearsed = replay.under(policy, parts=parts)
        alerts, passed, kept_back = one_by_one(points, policy, asked, parts, by_rule)
        assert ([each.alert for each in rehearsed.alerts], rehearsed.passed, rehearsed.kept_back) == (alerts, passed, kept_back)


def may_see(user: str, channel: str) -> bool:
    """Everybody but one sees all channels."""
    return (user, channel) != (PEOPLE[-1], CHANNELS[0])


def one_by_one(
    points: list[PredictedConversation], policy: Policy, asked: dict[str, Preferences], parts: frozenset[str], by_rule: bool
) -> tuple[list[Alert], Counter[str], Counter[str]]:
    """What `decide` says of each point, with a history that is kept as live: alerts, who was passed over, and why those who were likely
    enough got no direct message, where it is judged.
    """
    known, rule = InMemoryHistory(asked=asked), latest_other_author()
    alerts, passed, kept_back = [], Counter[str](), Counter[str]()
    for point in sorted((each._replace(fresh=True) for each in points), key=lambda each: (each.prompt_ts, each.id)):
        shown = point._replace(people=tuple(rule(point)), features={}) if by_rule else point
        now, why = point.prompt_ts + SECOND, dict[str, str]()
        for each in decide(shown, known, policy, now) if point.part in parts else ():
            if not isinstance(each, Alert):
                why[each.user] = each.reason
            elif not may_see(each.user, point.channel):
                why[each.user] = "not_a_member"
            else:
                known.record_alert(each, now)
                alerts.append(each)
                why[each.user] = "" if each.way == "direct" else each.reason
        known.record_point(point)
        if point.part == "judge" and "judge" in parts:
            sent = {each.user for each in alerts if each.point.id == point.id}
            passed.update(reason for user, reason in why.items() if user not in sent)
            likely = [user for user, p in shown.people if p >= policy.of(point.model).threshold]
            kept_back.update(why.get("") or why.get(user, "not_opted_in") for user in likely if why.get(user) != "")
    return alerts, +passed, +kept_back


@settings(deadline=None, max_examples=20)
@given(histories())
def test_a_baseline_gives_as_many_alerts_as_are_wanted_and_no_more(records: list[dict[str, Any]]):
    """Where all are wanted, all are given."""
    found = {each["id"]: each for each in records if "people" in each}
    history = RehearsalHistory(list(map(read_prediction, found.values())), [])
    replay, policy = Replay(history, people=latest_other_author()), Policy(threshold=0.0, opted_in=True, per_hour=9)
    most = len(replay.under(policy).direct())
    given_alerts = [len(replay.matched(policy, each, "rule", parts=EVERY_PART, on_end=lambda: None).direct()) for each in range(most + 1)]
    assert all(count <= wanted for wanted, count in enumerate(given_alerts)) and given_alerts[-1] == most
