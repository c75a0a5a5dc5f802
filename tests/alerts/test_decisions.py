"""The rules in memory and in the database, without Slack; test_who_is_alerted.py has them with delivery, over random worlds."""

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beepgpt.alerts.deciding import AlertDecider
from beepgpt.alerts.decisions import Alert, PassedOver, Policy, Preferences, decide, explanation, is_quiet, local_time
from beepgpt.alerts.messages import BadInteraction, alert_blocks, digest_blocks, home_view, preference_changes
from beepgpt.alerts.predictions import NoPrediction, read_prediction, shortened
from beepgpt.alerts.store import AlertStore
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import HOUR, MINUTE, SECOND
from beepgpt.simulation.slack.alerts_api import problems_of
from tests.support.alerts import NOON, InMemoryHistory, deletion, prediction

PEOPLE = ("ana", "bo", "cy", "di")
CHANNELS = ("C1", "C2")
POLICY = Policy(threshold=0.5, list_from=0.2, per_hour=2, quiet=(13 * 60, 14 * 60))


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Predictions of sessions and threads of two channels in time order, some just an hour apart, and deletions among them."""
    records: list[dict[str, Any]] = []
    roots: dict[str, list[tuple[int, str]]] = {channel: [] for channel in CHANNELS}
    session: dict[str, int] = {}
    threads: dict[tuple[str, int], list[tuple[int, str]]] = {}
    at = NOON
    for _ in range(draw(st.integers(1, 25))):
        at += draw(st.integers(1, 12 * 60) | st.just(60 * 60)) * SECOND
        channel, author = draw(st.sampled_from(CHANNELS)), draw(st.sampled_from(PEOPLE))
        people = {user: draw(st.sampled_from((0.1, 0.3, 0.6, 0.9))) for user in PEOPLE}
        mine = [key for key in threads if key[0] == channel]
        what = draw(st.sampled_from(("root", "reply", "again", "delete")))
        if what == "delete" and mine:
            records.append(deletion(draw(st.sampled_from(mine))[1], channel, at=at))
        elif what == "again" and records and "people" in records[-1]:
            records.append(records[-1])
        elif what == "reply" and mine:
            key = draw(st.sampled_from(mine))
            threads[key].append((at, author))
            name = f"{channel}:{ts_text(key[1])}:thread"
            records.append(prediction(at, channel=channel, window=threads[key][-5:], conversations=[name], people=people))
        else:
            before = roots[channel][-1][0] if roots[channel] else -1
            starts = at - before > 10 * MINUTE
            if starts:
                session[channel], roots[channel] = at, []
            roots[channel].append((at, author))
            threads[channel, at] = [(at, author)]
            own, ours = f"{channel}:{ts_text(at)}:thread", f"{channel}:{ts_text(session[channel])}:session"
            if starts:
                records.append(prediction(at, channel=channel, window=[(at, author)], conversations=[ours, own], people=people))
            else:
                records.append(prediction(at, channel=channel, window=roots[channel][-5:], conversations=[ours], people=people))
                alone = prediction(at, channel=channel, window=[(at, author)], conversations=[own], people=people)
                records.append(alone | {"id": f"{alone['id']}-own"})
    return records


wishes = st.builds(
    Preferences,
    opted_in=st.sampled_from((True, True, False, None)),
    threshold=st.sampled_from((None, None, 0.8)),
    per_hour=st.sampled_from((None, 0, 1)),
    quiet=st.sampled_from((None, (0, 0))),
    zone=st.sampled_from((None, "Europe/Berlin", "no such place")),
    muted=st.sampled_from((frozenset(), frozenset({"C2"}))),
)
everybodys = st.fixed_dictionaries(dict.fromkeys(PEOPLE, wishes))


def alerts_in(history: list[dict[str, Any]], memory: InMemoryHistory) -> Iterator[tuple[int, Alert]]:
    """All alerts, each at the second after its point."""
    for each in history:
        if "people" not in each:
            memory.deleted.add((each["channel"], _micros(each["ts"])))
            continue
        point = read_prediction(each)
        now = point.prompt_ts + SECOND
        for found in decide(point, memory, POLICY, now):
            if isinstance(found, Alert):
                memory.record_alert(found, now)
                yield now, found
        memory.record_point(point)


def _micros(ts: str) -> int:
    return int(ts.replace(".", ""))


@given(histories(), everybodys)
def test_nobody_is_alerted_twice(history: list[dict[str, Any]], asked: dict[str, Preferences]):
    """Once a message, once a session together with the threads of its messages."""
    session_of = {}
    for each in history:
        for name in each.get("conversations", ()):
            if name.endswith(":session"):
                session_of.update({f"{each['channel']}:{one['ts']}:thread": name for one in each["window"]})
    messages, sessions = set(), set()
    for _, alert in alerts_in(history, InMemoryHistory(asked=asked)):
        message = (alert.user, alert.point.channel, alert.point.message)
        session = (alert.user, session_of.get(alert.point.conversations[0], alert.point.conversations[0]))
        assert message not in messages and session not in sessions
        messages.add(message)
        sessions.add(session)


@settings(max_examples=25)
@given(histories(), everybodys)
def test_the_database_decides_as_the_memory_does(history: list[dict[str, Any]], asked: dict[str, Preferences]):
    """The same rules over the same history; and what was deleted is in no list and no DM, whatever came first."""
    with tempfile.TemporaryDirectory() as folder:
        store = AlertStore(Path(folder) / "alerts.sqlite")
        store._db.execute("PRAGMA synchronous = OFF")
        for user, theirs in asked.items():
            begin, end = theirs.quiet or (None, None)
            opted_in = None if theirs.opted_in is None else int(theirs.opted_in)
            given = {"opted_in": opted_in, "threshold": theirs.threshold, "per_hour": theirs.per_hour, "zone": theirs.zone}
            store.set_preferences(user, **given, quiet_from=begin, quiet_to=end)
            store.set_muted(user, theirs.muted)
        decider = AlertDecider(store, POLICY, topics=False)
        for each in history:
            kind = "prediction" if "people" in each else "deletion"
            with store.transaction():
                now = _micros(each["prompt_ts"]) + SECOND if kind == "prediction" else _micros(each["deleted_ts"])
                decider.apply(kind, each, now)
                for row in store.alerts_to_check():
                    store.clear(row["id"], "https://x", dm=row["way"] == "direct", now=now)
        memory = InMemoryHistory(asked=asked)
        expected = {alert.id: alert.way for _, alert in alerts_in(history, memory)}
        rows = store._rows("SELECT * FROM alert")
        assert {row["id"]: row["way"] for row in rows} == expected

        for row in rows:
            shown = store._rows("SELECT ts FROM alert_message WHERE alert = ?", row["id"])
            if memory.deleted & {(row["channel"], each["ts"]) for each in shown}:
                assert row["excerpt"] == ""
            if (row["channel"], row["ts"]) in memory.deleted:
                listed = [each for user in PEOPLE for each in (*store.listed(user, 0, 100), *store.alerts_for_digest(user, 0, 100))]
                assert row["id"] not in {each["id"] for each in listed}
                assert row["id"] not in {each["id"] for each in store.alerts_in_dm(row["id"])}
        store.close()


def test_old_points_and_rebuilds_alert_nobody():
    """An edit of an old message is as old as its message."""
    memory = InMemoryHistory(asked={"bo": Preferences(opted_in=True)})
    point = read_prediction(prediction(NOON + HOUR, window=[(NOON, "ana")]))
    for each, now in ((point, NOON + HOUR), (point._replace(fresh=False), NOON), (point, NOON + 10 * MINUTE + 1)):
        assert not any(isinstance(found, Alert) for found in decide(each, memory, POLICY, now))
    assert any(isinstance(found, Alert) for found in decide(point, memory, POLICY, NOON + 10 * MINUTE))


def test_who_speaks_in_a_session_is_not_alerted_to_its_threads():
    """Bo is in the session and not in the window; a root's own thread is asked once it has a reply, and then Bo takes part already."""
    memory = InMemoryHistory(asked={"bo": Preferences(opted_in=True), "cy": Preferences(opted_in=True)})
    session, thread = f"C1:{ts_text(NOON)}:session", f"C1:{ts_text(NOON + MINUTE)}:thread"
    roots, people = [(NOON, "bo"), (NOON + MINUTE, "ana")], {"bo": 0.9, "cy": 0.9}
    memory.record_point(read_prediction(prediction(NOON, window=roots[:1], conversations=[session])))
    memory.record_point(read_prediction(prediction(NOON + MINUTE, window=roots, conversations=[session])))
    alone = read_prediction(prediction(NOON + MINUTE, window=roots[1:], conversations=[thread], people=people))
    replied = [*roots[1:], (NOON + 2 * MINUTE, "di")]
    later = read_prediction(prediction(NOON + 2 * MINUTE, window=replied, conversations=[thread], people=people))

    assert list(decide(alone, memory, POLICY, NOON + MINUTE)) == [PassedOver("", "root_alone")]
    bo, cy = decide(later, memory, POLICY, NOON + 2 * MINUTE)
    assert bo == PassedOver("bo", "participant") and isinstance(cy, Alert) and cy.user == "cy"


def test_who_asked_for_a_topic_is_alerted_whatever_the_model_predicts():
    """As a second kind, under the same rules; and the threshold of guesses isn't theirs."""
    memory = InMemoryHistory(
        asked={"bo": Preferences(opted_in=True), "di": Preferences(opted_in=True)}, asked_topics=[("di", "builds"), ("ana", "builds")]
    )
    point = read_prediction(prediction(people={"bo": 0.1}))

    found = [each for each in decide(point, memory, POLICY, NOON, lambda words, text: 0.7) if isinstance(each, Alert)]
    assert [(each.user, each.kind, each.way, each.p) for each in found] == [("di", "topic", "direct", 0.7)]
    assert "“builds”" in found[0].why


def test_the_reason_is_one_line_of_what_the_model_saw():
    """By the features where a prediction has them."""
    features = {"user": ["cy", "bo"], "share_30d": [0.0, 0.42], "to_author": [0.0, 3.2], "first_60d": [0.0, 0.0], "closeness": [0.0, 0.0]}
    point = read_prediction(prediction(candidates=features))

    expected = "80 % likely that you answer: 42 % of this channel's recent answers are yours, you have answered this author about 3 times"
    assert explanation(point, "bo", 0.8) == expected
    assert explanation(point, "bo", 0.8).count("\n") == 0


@pytest.mark.parametrize("wrong", [{}, {"window": []}, {"window": [{"ts": "x", "user": "a"}]}, {"people": [{"user": "bo"}]}, {"people": 3}])
def test_what_is_no_prediction_says_so(wrong: dict[str, Any]):
    """Naming what is wrong and nothing that was written."""
    value = prediction(texts=["a-secret"]) | wrong if wrong else {"id": "1"}
    with pytest.raises(NoPrediction) as caught:
        read_prediction(value)
    assert "a-secret" not in str(caught.value)


def test_quiet_hours_begin_and_end_on_the_minute():
    """The first minute is quiet, the one at which they end is not; over midnight, too."""
    for hours in ((12 * 60, 13 * 60), (12 * 60, 6 * 60)):
        assert is_quiet(NOON, hours, "UTC") and not is_quiet(NOON - 1, hours, "UTC")
    for hours in ((11 * 60, 12 * 60), (23 * 60, 12 * 60)):
        assert is_quiet(NOON - 1, hours, "UTC") and not is_quiet(NOON, hours, "UTC")


def test_quiet_hours_are_where_somebody_is():
    """Over midnight, and at the change to summer time."""
    assert is_quiet(NOON, (11 * 60, 13 * 60), "UTC") and not is_quiet(NOON, (11 * 60, 13 * 60), "America/New_York")
    assert is_quiet(NOON, (22 * 60, 7 * 60), "America/Los_Angeles") and not is_quiet(NOON, (0, 0), "UTC")


@given(st.text(max_size=5000), st.text(max_size=400))
def test_whatever_was_written_makes_blocks_that_slack_takes(text: str, more: str):
    """Within its limits, calling nobody; a digest and an App Home that are full, too."""
    excerpt = shortened("<!channel> <@U1> & " + text)
    alert = {"id": "f" * 32, "channel": "C1", "permalink": "https://x/y", "excerpt": excerpt, "why": more or "-", "way": "list"}
    alerts = [alert | {"id": f"{number}"} for number in range(40)]
    home = {
        "opted_in": True, "threshold": 0.37, "default_threshold": 0.51, "per_hour": 4, "quiet": (0, 1439), "zone": "UTC", "low": "digest",
        "muted": frozenset({"C1"}), "topics": [(more or "-")[:150]] * 10, "alerts": alerts,
    }  # fmt: skip
    moments = {each["id"]: local_time(NOON, "UTC") for each in alerts}
    for blocks, most in ((alert_blocks(alert), 50), (digest_blocks(alerts), 50), (home_view(home, moments)["blocks"], 100)):
        assert list(problems_of(blocks, most)) == []


FIELDS = ("type", "user", "id", "actions", "action_id", "value", "selected_option", "view", "state", "values", "event")
nested = st.recursive(
    st.none() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
)


@given(nested)
def test_no_interaction_is_trusted(payload: Any):
    """Whatever comes is understood or refused, and refused in our words."""
    with suppress(BadInteraction):
        preference_changes(payload if isinstance(payload, dict) else {"type": "block_actions", "user": {"id": "bo"}, "actions": payload})
