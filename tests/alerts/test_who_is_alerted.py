"""Somebody is alerted if, and only if, docs/alerts.md says so: over random worlds, through decisions, delivery and restarts."""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from beepgpt.alerts.deciding import AlertDecider
from beepgpt.alerts.decisions import Policy
from beepgpt.alerts.store import AlertStore
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import MINUTE, Bots
from beepgpt.dataflows.alerts import AlertSink
from beepgpt.simulation.slack.alerts_api import AlertedWorkspace
from tests.support.alert_worlds import NOON, AlertRun, Defaults, Step, World, worlds
from tests.support.alerts import Office, deletion, prediction


@given(worlds())
def test_who_is_alerted_is_who_the_rules_name(world: World):
    """After each step every alert, direct message, App Home and count is what a second reading of the rules expects, and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        run = AlertRun(world, Path(folder))
        try:
            run.do_all(world.steps)
        finally:
            run.close()


FIRST = ("predict", prediction(channel="C1", texts=[f"of C1 at {NOON}"]), 0.0)
SECOND = ("predict", prediction(channel="C2", texts=[f"of C2 at {NOON}"]), 0.0)


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[AlertRun]:
    """Bo has a message about C1, and one about C2 waits: Slack takes one a second."""
    run = AlertRun(quiet_world(), tmp_path)
    run.do_all([("wait", 2), FIRST, ("deliver", True), SECOND, ("deliver", True)])
    assert len(run.space.sent_to("bo")) == 1 and run.waits() == 1
    yield run
    run.close()


def quiet_world() -> World:
    """Bo and Cy are in the public C1 and the private C2, and Bo opted in; it is quiet from 12:10 to 12:20."""
    both = frozenset({"bo", "cy"})
    return World(
        Defaults(0.5, 0.2, 3, (12 * 60 + 10, 12 * 60 + 20), "UTC", 2 * 3_600_000_000, False, 0.5),
        dict.fromkeys(("ana", "bo", "cy", "di", "ed"), "full"),
        {"C1": False, "C2": True, "C3": False},
        {"C1": both, "C2": both, "C3": both},
        frozenset({"bo"}),
        frozenset(),
    )


def test_who_wrote_in_the_hour_before_is_alerted_in_this_one(tmp_path: Path):
    """Each hour of a whole channel is a conversation of its own, and only who wrote in it takes part in it."""
    shown = prediction(window=[(NOON - 1_000_000, "bo"), (NOON, "ana")], conversations=["C1:channel"], people={"bo": 0.9})
    texts = [f"of C1 at {NOON + 1_000_000}"]
    later = prediction(NOON + 1_000_000, conversations=["C1:channel"], texts=texts, people={"bo": 0.9})
    run = AlertRun(quiet_world(), tmp_path)
    run.do_all([("wait", 2), ("predict", shown, 0.0), ("deliver", True)])
    assert not run.space.sent_to("bo")

    run.do_all([("predict", later, 0.0), ("deliver", True)])

    assert len(run.space.sent_to("bo")) == 1
    run.close()


THREAD = prediction(
    NOON + 1_000_000,
    channel="C2",
    window=[(NOON, "ana"), (NOON + 1_000_000, "bo")],
    conversations=["C2:1700049600.000000:thread"],
    people={"cy": 0.1},
)


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize(
    ("changes", "counted"),
    [
        ([("wish", "bo", {"opted_in": False})], "refused:not_opted_in"),
        ([("wish", "bo", {"muted": frozenset({"C2"})})], "refused:muted"),
        ([("delete", "C2", NOON)], "withdrawn"),
        ([("predict", THREAD, 0.0)], "refused:participant"),
        ([("post", "C2", NOON + MINUTE // 60, None, "bo")], "refused:participant"),
        ([("post", "C2", NOON + MINUTE // 60, NOON, "bo")], "refused:participant"),
        ([("member", "C2", "bo", False), ("wait", 31)], "refused:not_a_member"),
        (
            [("private", "C2", False), ("member", "C2", "bo", False), ("person", "bo", "guest", "Etc/UTC"), ("wait", 31)],
            "refused:not_a_member",
        ),
        ([("person", "bo", "left", "Etc/UTC"), ("wait", 31)], "refused:not_a_member"),
        ([("person", "bo", "unknown", "Etc/UTC"), ("wait", 31)], "refused:membership_in_doubt"),
        ([("answers", "C2", "gone"), ("wait", 31)], "refused:membership_in_doubt"),
        ([("answers", "C2", "other"), ("wait", 31)], "refused:membership_in_doubt"),
        ([("wait", 2 * 60 * 60 + 1)], "refused:too_old"),
        ([("wish", "bo", {"threshold": 0.9})], "letters_refused:less_likely"),
        ([("wish", "bo", {"per_hour": 1})], "letters_refused:hourly_limit"),
        ([("wait", 10 * 60)], "letters_refused:quiet_hours"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_changes_between_decision_and_sending_counts(waiting: AlertRun, changes: list[Step], counted: str, restarts: bool):
    """The message that waits isn't sent, and the reason is counted once; in the same process as in a new one."""
    waiting.do_all([*changes, *([("restart",)] if restarts else []), ("wait", 2), ("deliver", True)])

    counts = waiting.store.counts()
    assert len(waiting.space.sent_to("bo")) == 1 and waiting.waits() == 0
    assert counts[counted] == 1 and counts["letters_sent"] == 1
    ends = ("refused:", "withdrawn") if not counted.startswith("letters_") else ("letters_refused:",)
    assert [name for name in counts if name.startswith(ends)] == [counted]


SESSION = ["C2:1700049600.000000:session"]
HOUR_OF = ["C3:channel"]


@pytest.mark.parametrize(
    ("posts", "channel", "conversations", "is_alerted"),
    [
        ([(10, None, "bo")], "C2", SESSION, False),
        ([(11, None, "bo")], "C2", SESSION, True),
        ([(9, None, "cy"), (18, None, "bo")], "C2", SESSION, False),
        ([(18, None, "bo"), (9, None, "cy")], "C2", SESSION, False),
        ([(9, None, "cy"), (20, None, "bo")], "C2", SESSION, True),
        ([(9, 0, "cy"), (18, None, "bo")], "C2", SESSION, True),
        ([(5, 0, "bo")], "C2", SESSION, False),
        ([(5, -30, "bo")], "C2", SESSION, True),
        ([(-1, None, "bo")], "C2", SESSION, True),
        ([(59, None, "bo")], "C3", HOUR_OF, False),
        ([(60, None, "bo")], "C3", HOUR_OF, True),
        ([(59, None, "bo")], "C2", HOUR_OF, True),
    ],
)
def test_who_has_answered_already_is_not_alerted(
    tmp_path: Path, posts: list[tuple[int, int | None, str]], channel: str, conversations: list[str], is_alerted: bool
):
    """Their message stands in Slack's events before any point shows it: in the session, a thread of its messages, or the channel's hour.

    Times are minutes after the message that the point is about, and the root's.
    """
    run = AlertRun(quiet_world(), tmp_path)
    text = f"of {conversations[0][:2]} at {NOON}"
    point = prediction(channel=conversations[0][:2], conversations=conversations, texts=[text], people={"bo": 0.9})
    said = [("post", channel, NOON + at * MINUTE, None if root is None else NOON + root * MINUTE, who) for at, root, who in posts]
    run.do_all([("wait", 2), *said, ("restart",), ("wait", 2), ("predict", point, 0.0), ("deliver", True)])

    assert len(run.space.sent_to("bo")) == is_alerted
    assert run.store.counts().get("passed:participant", 0) == (not is_alerted)
    run.close()


@pytest.mark.parametrize(("bots", "is_alerted"), [("context", False), ("ignore", True)])
def test_a_bots_message_goes_on_with_a_session_where_bots_stand_in_windows(tmp_path: Path, bots: Bots, is_alerted: bool):
    """As it does where points are made."""
    office = Office(tmp_path)
    office.opt_in("bo")
    decider = AlertDecider(office.store, office.policy, bots=bots)
    for minute, who in ((9, {"bot_id": "B1"}), (18, {"user": "bo"})):
        event = {"type": "message", "channel": "C1", "text": "well", "ts": ts_text(NOON + minute * MINUTE), **who}
        decider.apply_record(json.dumps(event).encode(), NOON)
    decider.apply("prediction", prediction(), NOON)

    assert len(office.store.alerts_to_check()) == is_alerted


def test_nothing_changes_and_it_is_sent(waiting: AlertRun):
    """A second later."""
    waiting.do_all([("wait", 2), ("deliver", True)])

    assert len(waiting.space.sent_to("bo")) == 2 and waiting.waits() == 0


def test_a_yes_for_one_channel_is_none_for_another(tmp_path: Path):
    """Within the half minute for which it holds."""
    world = quiet_world()
    world.members["C2"] = frozenset({"cy"})
    run = AlertRun(world, tmp_path)
    run.do_all([("wait", 2), FIRST, ("deliver", True), ("wait", 2), SECOND, ("deliver", True)])
    assert len(run.space.sent_to("bo")) == 1 and run.store.counts()["refused:not_a_member"] == 1
    run.close()


def test_a_no_lets_no_later_alert_through(tmp_path: Path):
    """Within the half minute for which a yes would hold."""
    world = quiet_world()
    world.members["C2"] = frozenset({"cy"})
    run = AlertRun(world, tmp_path)
    texts = [f"of C2 at {NOON + 1_000_000}"]
    later = ("predict", prediction(NOON + 1_000_000, channel="C2", conversations=["C2:channel"], texts=texts), 0.0)
    run.do_all([("wait", 2), SECOND, ("deliver", True), ("wait", 2), later, ("deliver", True)])
    assert not run.space.sent_to("bo") and run.store.counts()["refused:not_a_member"] == 2
    run.close()


def test_what_was_sent_counts_for_the_hour_though_it_may_not_be_shown_any_more(tmp_path: Path):
    """App Home drops an alert of a channel that its reader left: they got its message all the same."""
    world = quiet_world()
    world.defaults.per_hour = 1
    run = AlertRun(world, tmp_path)
    run.do_all([("home", "bo"), ("wait", 2), SECOND, ("deliver", True), ("member", "C2", "bo", False), ("wait", 31), ("deliver", True)])
    run.do_all([FIRST, ("wait", 2), ("deliver", True)])
    counts = run.store.counts()
    assert (counts["refused:not_a_member"], counts["answer:direct"], counts["answer:list"]) == (1, 1, 1)
    assert len(run.space.sent_to("bo")) == 1
    run.close()


@pytest.mark.parametrize("became", ["deleted", "unknown"])
def test_a_dm_that_was_deleted_or_never_confirmed_counts_for_the_hour_too(tmp_path: Path, slack: AlertedWorkspace, became: str):
    """Its reader had it, or may have had it, though they left the channel since and the alert is dropped."""
    later = [0.0]
    office = Office(tmp_path, slack, policy={"per_hour": 1}, monotonic=lambda: time.monotonic() + later[0])
    office.opt_in("bo")
    if became == "unknown":
        slack.faults = {"chat.postMessage": ["done"], "conversations.history": ["error:channel_not_found"]}
    office.apply("prediction", prediction())
    office.work(lambda: office.counts.get("letters_sent") or office.store.dms("sending"))
    office.clock.set(office.clock() + MINUTE)
    office.work()
    slack.channel("C1", "ana", private=True)
    later[0] = 31.0  # what was known of who is a member no longer counts
    office.store.note_home_opened("bo")
    office.work(lambda: "bo" in slack.homes)
    if became == "deleted":
        office.apply("deletion", deletion())
        office.work()
    assert [row["state"] for row in office.store._rows("SELECT state FROM letter")] == [became]
    assert office.store.alert_states() == {"refused:not_a_member": 1}

    slack.channel("C3", "bo")
    office.apply("prediction", prediction(NOON + MINUTE, channel="C3"))
    office.work()
    assert (office.counts["answer:direct"], office.counts["answer:list"], len(slack.calls("chat.postMessage"))) == (1, 1, 1)


def test_a_prediction_counts_from_the_threshold_of_its_own_model_on(tmp_path: Path, slack: AlertedWorkspace):
    """Also those of the model before, that still come; and a message that waits is judged by its own model's once more."""
    thresholds = {"before": 0.5, "now": 0.9, "": 0.9}
    office = Office(tmp_path, slack, policy={"thresholds": thresholds.__getitem__})
    office.opt_in("bo")
    for number, model in enumerate(("before", "now", "before")):
        at = office.clock() + number * MINUTE // 60
        office.apply("prediction", prediction(at, people={"bo": 0.8}, model=model, conversations=[f"s{number}"]))

    assert {name: count for name, count in office.counts.items() if name.startswith("answer:")} == {"answer:direct": 2, "answer:list": 1}
    office.work()
    assert office.counts["told:slack"] == 2


@pytest.mark.parametrize(
    ("wish", "then"),
    [({"opted_in": 0}, []), ({"threshold": 0.9}, []), ({"muted": ["C1"]}, []), ({"quiet_from": 0, "quiet_to": 1439}, ["list", "list"])],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_workers_that_decide_know_what_people_asked_another_process_for(tmp_path: Path, wish: dict[str, Any], then: list[str]):
    """Each has a cache of what people asked for; the process that delivers writes it, and it holds from the next batch on."""
    with closing(AlertStore(tmp_path / "alerts.sqlite")) as store:
        store.set_preferences("bo", opted_in=1)
        sink = AlertSink(store.path, Policy(threshold=0.5, per_hour=10), lambda: NOON + MINUTE)
        workers = [sink.build("alerts", worker, 2) for worker in range(2)]

        def decided(at: int) -> list[str]:
            """How somebody is alerted to what each worker has a batch of."""
            points = [prediction(at + number) for number in range(2)]
            for worker, point in zip(workers, points, strict=True):
                worker.write_batch([("prediction", point)])
            return [row["way"] for point in points for row in store._rows("SELECT way FROM alert WHERE prediction = ?", point["id"])]

        before = decided(NOON)
        if "muted" in wish:
            store.set_muted("bo", wish["muted"])
        else:
            store.set_preferences("bo", **wish)
        assert (before, decided(NOON + 10)) == (["direct", "direct"], then)
        for worker in workers:
            worker.close()
