"""The metrics of alerts: what was read, what became of it, who waits, and whether the loop turns."""

import json
import re
from pathlib import Path

import pytest

from beepgpt import __version__
from beepgpt.commands import alert_run
from beepgpt.connectors.kafka import Connection, Writer, create_topics
from beepgpt.connectors.log import OutgoingRecord, TopicSpec
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import DAY, HOUR, MINUTE, SECOND
from beepgpt.runtime.flow_metrics import AlertFigures, AlertPulse
from beepgpt.runtime.metrics import serve
from beepgpt.simulation.slack.alerts_api import AlertedWorkspace
from beepgpt.training.live import LiveThresholds
from tests.commands.test_alert_command import just_now, settings_of
from tests.runtime.test_metrics import Clock, Values, get, scraped, values
from tests.support import program
from tests.support.alerts import NOON, Office, deletion, outcome, prediction
from tests.support.broker import Broker, GivenBroker
from tests.support.kafka import KEPT, address, started
from tests.support.ports import free_ports
from tests.support.slack_web_api import TOKEN
from tests.support.speed import wait_until
from tests.training.test_live import pair


def figures_of(office: Office, thresholds: LiveThresholds | None = None) -> AlertFigures:
    """What the command serves of an office from now on, by the office's clock."""
    thresholds = thresholds or LiveThresholds(None, office.policy.threshold)
    return alert_run.figures_of(office.store, office.decider, office.waits, office.slack, [], thresholds, office.clock)


def scraped_of(figures: AlertFigures) -> Values:
    """As Prometheus reads them, zeros left out."""
    with serve(0, "127.0.0.1", figures, AlertPulse()) as server:
        return values(scraped(server))


@pytest.mark.slow
def test_what_became_of_every_alert_is_told(tmp_path: Path, slack: AlertedWorkspace):
    """Told in Slack and handed on, refused and why, once only, unknown, taken back, and what was done about it; each where it belongs."""
    office = Office(tmp_path, slack, forwarded_to="topic", policy={"per_hour": 10})
    figures = figures_of(office)
    slack.clock = lambda: office.clock() / SECOND
    office.opt_in("bo", "cy", "di")
    office.store.set_preferences("ana", opted_in=0)
    slack.faults["chat.postMessage:Dcy"] = ["drop", "drop"]
    slack.faults["chat.postMessage:Ddi"] = ["429:1", "error:is_archived"]
    with office.store.transaction():
        office.decider.apply("prediction", prediction(people={"bo": 0.9, "cy": 0.9, "di": 0.8}), office.clock(), NOON + SECOND)
    office.apply("prediction", prediction(NOON + SECOND, people={"bo": 0.9}, conversations=["C1:1700049600.000000:session"]))
    office.work(lambda: slack.sent_to("bo") and office.store.dms("sending") and not office.store.dms("due"))
    waiting = scraped_of(figures)
    assert waiting["beepgpt_alerts_waiting{what=doubt}"] == 1 and "beepgpt_alerts_waiting{what=letter}" not in waiting
    for _ in range(2):
        office.clock.set(office.clock() + MINUTE)
        office.work()
    office.apply("outcome", outcome(prediction(), MINUTE, "bo"))
    office.apply("outcome", outcome(prediction(), DAY, how="superseded"))
    office.apply("deletion", deletion(NOON, at=NOON + MINUTE))
    office.work()
    office.decider.apply_interaction(b"[1]")
    found = scraped_of(figures)

    assert found["beepgpt_alert_records_total{what=prediction}"] == 2
    assert (found["beepgpt_alert_records_total{what=outcome}"], found["beepgpt_alert_records_total{what=deletion}"]) == (2, 1)
    assert found["beepgpt_alert_records_total{what=unreadable_interaction}"] == 1
    assert found["beepgpt_alerts_decided_total{kind=answer}{way=direct}"] == 3
    assert found["beepgpt_alerts_passed_total{reason=told_before}"] == 1
    assert found["beepgpt_alerts_told_total{by=slack}"] == 1
    assert found["beepgpt_alerts_told_total{by=topic}"] == 3, "one in Slack, one unknown, one in App Home alone"
    assert found["beepgpt_alerts_withdrawn_total"] == 3
    assert found["beepgpt_alert_letters_total{end=sent}"] == found["beepgpt_alert_letters_total{end=unknown}"] == 1
    assert found["beepgpt_alert_letters_total{end=deleted}"] == 1
    assert found["beepgpt_alert_letters_refused_total{reason=is_archived}"] == 1
    assert found["beepgpt_alert_outcomes_total{end=answered}{kind=answer}"] == 1
    assert found["beepgpt_alert_outcomes_total{end=not_answered}{kind=answer}"] == 2
    assert (found["beepgpt_alert_people{asked=in}"], found["beepgpt_alert_people{asked=out}"]) == (3, 1)
    assert found["beepgpt_slack_calls_total{method=chat.postMessage}{result=rate_limited}"] == 1
    assert found["beepgpt_slack_calls_total{method=chat.postMessage}{result=unclear}"] == 2
    assert found["beepgpt_slack_calls_total{method=chat.postMessage}{result=refused}"] == 1
    assert found["beepgpt_slack_calls_total{method=chat.postMessage}{result=ok}"] == 1
    assert 120 < found["beepgpt_alert_prediction_age_seconds"] < 160
    assert found["beepgpt_alert_seconds_count{since=release}"] == found["beepgpt_alert_seconds_count{since=message}"] == 1
    assert 4 <= found["beepgpt_alert_seconds_sum{since=release}"] + 1 <= found["beepgpt_alert_seconds_sum{since=message}"] + 0.1 < 30


def test_what_is_held_for_a_digest_is_told_and_so_is_the_digest(tmp_path: Path, slack: AlertedWorkspace):
    """Two alerts wait; then one message has them both."""
    office = Office(tmp_path, slack, digest_at=15 * 60)
    figures = figures_of(office)
    office.opt_in("bo", low="digest")
    for number in range(2):
        at = NOON + number * SECOND
        office.apply("prediction", prediction(at, people={"bo": 0.3}, window=[(at, "ana")], conversations=[f"s{number}"]))
    office.work()
    assert scraped_of(figures)["beepgpt_alerts_waiting{what=digest}"] == 2
    office.clock.set(NOON + 3 * HOUR + MINUTE)
    office.work(lambda: slack.sent_to("bo"))
    found = scraped_of(figures)

    assert found["beepgpt_alerts_told_total{by=digest}"] == 2 and "beepgpt_alerts_waiting{what=digest}" not in found
    assert not any("beepgpt_alert_seconds" in name for name in found if "bucket" not in name), "a digest's time is everybody's own"


def test_a_digest_in_quiet_hours_is_no_message_that_waits(tmp_path: Path, slack: AlertedWorkspace):
    """Slack was busy when it was to be sent, then its reader's night began: nobody has to look, and a run over a file ends. In the morning
    it is a message to be sent, as is one of a reader whose hours are others."""
    office = Office(tmp_path, slack, digest_at=15 * 60, policy={"quiet": (15 * 60 + 30, 16 * 60)})
    figures = figures_of(office)
    office.opt_in("bo", low="digest")
    office.opt_in("cy", low="digest", quiet_from=22 * 60, quiet_to=7 * 60)
    office.apply("prediction", prediction(people={"bo": 0.3, "cy": 0.3}))
    office.work()
    office.clock.set(NOON + 3 * HOUR + MINUTE)
    slack.faults["chat.postMessage"] = ["429:3600", "429:3600"]
    office.work(lambda: slack.calls("chat.postMessage"))

    def waiting() -> dict[str, float]:
        found = scraped_of(figures)
        return {what: found[name] for what in ("letter", "quiet") if (name := f"beepgpt_alerts_waiting{{what={what}}}") in found}

    assert waiting() == {"letter": 2} and not office.delivery.is_idle()
    office.clock.set(NOON + 3 * HOUR + 40 * MINUTE)
    assert waiting() == {"letter": 1, "quiet": 1} and not office.delivery.is_idle()
    with office.store.transaction():
        office.store._db.execute("DELETE FROM letter WHERE user = 'cy'")
    assert waiting() == {"quiet": 1} and office.delivery.is_idle()
    office.clock.set(NOON + 4 * HOUR + MINUTE)
    assert waiting() == {"letter": 1} and not office.delivery.is_idle()


def test_the_pair_that_is_in_use_is_shown(tmp_path: Path):
    """The model and its threshold, as they stand in the live folder now."""
    live = tmp_path / "live"
    first = pair(live, 1, 0.3)
    figures = figures_of(Office(tmp_path), LiveThresholds(live, every=0))

    def shown() -> set[str]:
        return {name for name in scraped_of(figures) if name.startswith("beepgpt_build_info")}

    assert shown() == {f"beepgpt_build_info{{model={first.name}}}{{threshold=0.3}}{{version={__version__}}}"}
    second = pair(live, 2, 0.7)
    assert shown() == {f"beepgpt_build_info{{model={second.name}}}{{threshold=0.7}}{{version={__version__}}}"}


def test_counters_begin_with_the_process_and_never_fall(tmp_path: Path):
    """What the store counted before is not counted again; who changes their mind about an alert lowers no counter."""
    office = Office(tmp_path)
    office.opt_in("bo")
    office.apply("prediction", prediction())
    figures = figures_of(office)
    office.delivery.work()
    identity = office.forwarded[0]["id"]
    office.store.record_feedback(identity, "bo", "good")
    before = scraped_of(figures)
    office.store.record_feedback(identity, "bo", "bad")
    after = scraped_of(figures)

    assert "beepgpt_alert_records_total{what=prediction}" not in before
    assert before["beepgpt_alert_feedback{said=good}"] == after["beepgpt_alert_feedback{said=bad}"] == 1
    assert all(after.get(name, 0) >= value for name, value in before.items() if re.search(r"_total\b", name))


def test_figures_are_there_before_anything_is_counted(tmp_path: Path):
    """A rate over a counter that first appears with its first event would miss that event."""
    office = Office(tmp_path)
    with serve(0, "127.0.0.1", figures_of(office), AlertPulse()) as server:
        metrics = [metric for metric in scraped(server) if metric.name.startswith("beepgpt_")]
        names = {sample.name for metric in metrics for sample in metric.samples}

    wanted = (
        "records",
        "alerts_told",
        "alerts_decided",
        "alerts_withdrawn",
        "letters",
        "alert_outcomes",
        "seconds_bucket",
        "waiting",
        "people",
    )
    assert all(any(each in name for name in names) for each in wanted)
    (refused,) = (metric for metric in metrics if metric.name == "beepgpt_alerts_refused")
    assert {sample.labels["reason"]: sample.value for sample in refused.samples}["too_old"] == 0, "a rule asks for its increase"
    for metric in metrics:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", metric.name) and metric.documentation.endswith(".")
        assert not re.search(r"_(ms|millis|minutes|hours|percent|count|counter|gauge)(_|$)", metric.name)


def test_nothing_that_people_wrote_is_told(tmp_path: Path, slack: AlertedWorkspace):
    """No text, no person and no channel is a label."""
    office = Office(tmp_path, slack)
    office.opt_in("bo")
    figures = figures_of(office)
    office.apply("prediction", prediction(texts=["a-secret-word"], channel="C1"))
    office.work()
    with serve(0, "127.0.0.1", figures, AlertPulse()) as server:
        text = get(server, "/metrics")[1]

    assert not re.search(r'a-secret-word|"(bo|ana|C1)"', text)


def test_ready_is_who_has_read_what_was_there():
    """Healthy is whose loop turns."""
    clock = Clock()
    pulse = AlertPulse(clock=clock)
    assert pulse.why_dead() == "" and "starting" in pulse.why_not_ready()
    pulse.beat()
    pulse.missing = "predictions: 2 of 3 partitions are not read to where they ended at the start"
    assert pulse.why_dead() == "" and "2 of 3" in pulse.why_not_ready()
    pulse.missing = ""
    assert pulse.why_not_ready() == ""
    clock.now += 61
    assert "hangs" in pulse.why_dead() and "hangs" in pulse.why_not_ready()


def test_the_command_serves_them_and_is_ready_once_it_caught_up(tmp_path: Path, slack: AlertedWorkspace, broker: Broker | GivenBroker):
    """From a topic: the lag is served, a point's release comes from the record's header, and a wrong port is named first."""
    connection = Connection(broker.bootstrap)
    topic = f"test-alert-metrics-{free_ports()}.predictions"
    create_topics(connection, [TopicSpec(topic, 2, KEPT)])
    port = free_ports()
    source = address(connection, topic) + "?follow=true"
    at = just_now()

    def put(value: object, released: int) -> None:
        with Writer(connection, topic) as writer:
            writer.send([OutgoingRecord(b"C1", json.dumps(value).encode(), [("released_at", ts_text(released).encode())])])

    put(prediction(just_now(3600), people={"bo": 0.9}, conversations=["old"]), at)
    command = program("alert", source, "--threshold", 0.5, "--metrics-port", port, "--to", tmp_path / "alerts.jsonl")
    with started(command, tmp_path, settings_of(slack, tmp_path), port, 1) as run:
        run.wait_until_ready()
        assert run.figure("beepgpt_alert_records_total") == 1, "ready is who has read what was there"
        at = just_now(0)  # a store takes what was said before it was made as too old
        put(prediction(at, people={"bo": 0.9}), at)
        wait_until(lambda: run.figure("beepgpt_alert_seconds_count") == 2, "somebody was alerted")
        (served,) = run.metrics()
        lags = {name for name in served if name.startswith("beepgpt_consumer_lag_records")}
        assert lags == {f'beepgpt_consumer_lag_records{{partition="{number}",topic="{topic}"}}' for number in (0, 1)}
        assert served['beepgpt_alerts_told_total{by="slack"}'] == served['beepgpt_alerts_passed_total{reason="too_old"}'] == 1
        assert served['beepgpt_slack_calls_total{method="chat.postMessage",result="ok"}'] == 1
        assert served[f'beepgpt_build_info{{threshold="0.5",version="{__version__}"}}'] == 1
        wait_until(lambda: run.figure("beepgpt_alerts_told_total") == 2, "and it stands in the file")
        assert run.stop() == 0, run.said
    assert TOKEN not in run.said
