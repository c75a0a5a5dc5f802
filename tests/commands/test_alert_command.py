"""`beepgpt alert` as its user meets it: from files and topics, stopped, killed, or lacking something."""

import json
import random
import shutil
import signal
import subprocess
import threading
import time
import zipfile
from contextlib import closing, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from slack_sdk.signature import SignatureVerifier

from beepgpt.alerts.store import AlertStore
from beepgpt.clock import now_us
from beepgpt.commands.alert import say_threshold, threshold_of
from beepgpt.commands.rehearse import keep
from beepgpt.config.settings import read_settings
from beepgpt.connectors.kafka import Connection, Writer, create_topics, records_of
from beepgpt.connectors.log import OutgoingRecord, TopicSpec, folder_place
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import DAY, HOUR, SECOND, Rules, shaping_settings
from beepgpt.errors import BadCommand
from beepgpt.simulation.slack.alerts_api import AlertedWorkspace
from beepgpt.simulation.workspace import Plan, write_export
from beepgpt.training.folder import METRICS
from beepgpt.training.live import name_of
from tests.support import histories, program, run_program
from tests.support.alerts import outcome, prediction
from tests.support.broker import Broker, GivenBroker
from tests.support.kafka import KEPT, address, started
from tests.support.scoring import save
from tests.support.slack_web_api import TOKEN
from tests.support.speed import slowness, wait_until
from tests.support.strangers import stranger
from tests.training.test_live import pair

SECRET = "a-secret-word"


def settings_of(slack: AlertedWorkspace | None, folder: Path, **more: str) -> dict[str, str]:
    """An environment for the program; nobody sleeps, whenever the test runs."""
    settings = {"BEEPGPT_ALERTS__STORE": str(folder / "alerts.sqlite"), "BEEPGPT_ALERTS__QUIET": "", "BEEPGPT_ALERTS__OPTED_IN": "true"}
    settings |= {"BEEPGPT_RUN__LOG_LEVEL": "info"}
    if slack is not None:
        settings |= {"BEEPGPT_SLACK__BOT_TOKEN": TOKEN, "BEEPGPT_SLACK__BASE_URL": slack.url}
    return settings | more


def run(folder: Path, slack: AlertedWorkspace | None, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    return run_program("alert", *arguments, env=settings_of(slack, folder, **more))


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in records))
    return path


def just_now(back: int = 2) -> int:
    return now_us() - back * SECOND


def test_a_file_of_predictions_is_given_once(tmp_path: Path, slack: AlertedWorkspace):
    """To Slack and beside it; the same command again has nothing to do, and more lines are gone on with."""
    at = just_now()
    slack.users["bo"]["is_restricted"] = True  # a guest, who is a member of C1
    first, second = prediction(at, texts=[SECRET]), prediction(at + SECOND, people={"cy": 0.9}, texts=[SECRET])
    source, to = write(tmp_path / "predictions.jsonl", first), tmp_path / "alerts.jsonl"
    done = run(tmp_path, slack, source, "--threshold", 0.5, "--to", to, "--report", tmp_path / "report.json")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("alerts.sqlite: is a new store: nobody counts as alerted before.") == 1
    write(source, first, second, outcome(first, HOUR, "bo"), outcome(first, DAY, how="superseded"))
    for _ in range(2):
        done = run(tmp_path, slack, source, "--threshold", 0.5, "--to", to, "--report", tmp_path / "report.json")
        assert done.returncode == 0, done.stderr
        assert "is a new store" not in done.stderr

    assert (len(slack.sent_to("bo")), len(slack.sent_to("cy"))) == (1, 1)
    lines = [json.loads(line) for line in to.read_text().splitlines()]
    assert [(each["user"], each["way"], each["channel"]) for each in lines] == [("bo", "direct", "C1"), ("cy", "direct", "C1")]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["alerts"] == {"cleared": 2} and report["counts"]["letters_sent"] == 2 and report["right"] == 1.0
    assert SECRET not in done.stderr + done.stdout + to.read_text()


def test_all_that_people_asked_for_is_read_before_the_first_prediction(tmp_path: Path, slack: AlertedWorkspace):
    """However much that is: Bo opts in with the last of many lines, and none of them is left for after the prediction."""
    opened = {"type": "event_callback", "event": {"type": "app_home_opened", "user": "bo", "tab": "messages"}}
    opting_in = {"type": "block_actions", "user": {"id": "bo"}, "actions": [{"action_id": "opt_in", "value": "on"}]}
    interactions = write(tmp_path / "interactions.jsonl", *[opened] * 3000, opting_in)
    source = write(tmp_path / "predictions.jsonl", prediction(just_now(), people={"bo": 0.9, "cy": 0.9}))
    done = run(tmp_path, slack, source, "--interactions", interactions, "--threshold", 0.5, "--opt-in")

    assert done.returncode == 0, done.stderr
    assert (len(slack.sent_to("bo")), len(slack.sent_to("cy"))) == (1, 0)


def test_all_that_was_deleted_is_read_before_the_first_prediction(tmp_path: Path, slack: AlertedWorkspace):
    """However much came before it: nobody is alerted to a message that is gone, and no alert to it is written anywhere."""
    at = just_now()
    said = {"type": "message", "channel": "C9", "user": "ana", "text": "hello"}
    deleted = {"type": "message", "subtype": "message_deleted", "channel": "C1", "deleted_ts": ts_text(at), "ts": ts_text(at + SECOND)}
    events = write(tmp_path / "events.jsonl", *({**said, "ts": ts_text(at - (3000 - each) * 1000)} for each in range(3000)), deleted)
    source = write(tmp_path / "predictions.jsonl", prediction(at), prediction(at + 2 * SECOND, channel="C2", people={"cy": 0.9}))
    slack.channel("C2", "ana", "cy")
    done = run(tmp_path, slack, source, "--deletions", events, "--threshold", 0.5, "--to", tmp_path / "alerts.jsonl")

    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["channel"] for line in (tmp_path / "alerts.jsonl").read_text().splitlines()] == ["C2"]
    assert (len(slack.sent_to("bo")), len(slack.sent_to("cy"))) == (0, 1)


@pytest.mark.slow
def test_a_file_that_forget_has_shortened_is_gone_on_with(tmp_path: Path, slack: AlertedWorkspace):
    """Nobody is alerted twice, what comes is alerted to, and what people asked for stays."""
    for name in ("C2", "C3"):
        slack.channel(name, "ana", "bo")
    at, listed = just_now(), {"BEEPGPT_RUN__FORGOTTEN": str(tmp_path / "list" / "forgotten.json")}
    first, gone, new = (prediction(at + each, people={"bo": 0.9}, channel=f"C{each + 1}") for each in range(3))
    source = write(tmp_path / "predictions.jsonl", first, gone)
    done = [run(tmp_path, slack, source, "--threshold", 0.5, **listed)]
    with closing(AlertStore(tmp_path / "alerts.sqlite")) as store:
        store.set_preferences("cy", opted_in=False)
    places = ("--from", source, "--from", tmp_path / "alerts.sqlite")
    done += [run_program("forget", "--channel", "C2", *places, "--yes", env=settings_of(slack, tmp_path, **listed))]
    done += [run(tmp_path, slack, source, "--threshold", 0.5, **listed)]
    assert source.read_text() == json.dumps(first) + "\n" and len(slack.sent_to("bo")) == 1
    write(source, first, new)
    done += [run(tmp_path, slack, source, "--threshold", 0.5, **listed)]

    assert [each.returncode for each in done] == [0] * 4, [each.stderr for each in done]
    assert ["is read again from its beginning" in each.stderr for each in done] == [False, False, True, False]
    assert len(slack.calls("chat.postMessage")) == 3 and len(slack.sent_to("bo")) == 2
    with closing(AlertStore(tmp_path / "alerts.sqlite")) as store:
        assert store.preferences("cy").opted_in is False


@pytest.mark.slow
def test_a_topic_that_forget_has_rewritten_is_read_again(tmp_path: Path, slack: AlertedWorkspace):
    """It has another id: nobody is alerted twice, what people asked for stays, and what comes is read."""
    log, listed = SqliteLog(folder_place(str(tmp_path / "log"))), {"BEEPGPT_RUN__FORGOTTEN": str(tmp_path / "forgotten.json")}
    opened = b'{"type":"event_callback","event":{"type":"app_home_opened","user":"cy","tab":"home"}}'
    opting_out = b'{"type":"block_actions","user":{"id":"cy"},"actions":[{"action_id":"opt_out","value":"off"}]}'
    source = write(tmp_path / "predictions.jsonl", prediction(just_now(), people={"bo": 0.9, "cy": 0.9}))
    flags = ("--interactions", f"{log.place}/slack.interactions", "--threshold", 0.5)
    said = []
    for records in ([opened, opened, opting_out], [opened, opting_out]):
        log.create([TopicSpec("slack.interactions", 1, {})])
        with log.writer("slack.interactions") as writer:
            writer.send(OutgoingRecord(b"cy", each) for each in records)
        done = run(tmp_path, slack, source, *flags, **listed)
        assert done.returncode == 0, done.stderr
        said.append("slack.interactions: is not what was read before" in done.stderr)
        log.delete("slack.interactions")

    assert said == [False, True] and (len(slack.sent_to("bo")), len(slack.sent_to("cy"))) == (1, 0)


def test_a_threshold_is_that_of_the_model_that_stands_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """One that is trained over it waits until it is validated, as is said. Figures of another model say nothing of this one's."""
    folder, settings = save(tmp_path / "model"), read_settings(environ={})
    card = {name: value for name, value in json.loads((folder / "model.json").read_text()).items() if name not in ("files", "labels")}
    (folder / "metrics.json").write_text(json.dumps({"model": card, "threshold": {"threshold": 0.13}}))
    assert threshold_of(settings, folder) == (0.13, "validated", "as it was validated")

    validated = name_of(folder)
    save(folder, seed=2)
    assert threshold_of(settings, folder).value == 0.13
    say_threshold(folder, threshold_of(settings, folder))
    said = " ".join(capsys.readouterr().err.split())
    assert f"the model {name_of(folder)} there has no threshold yet: going on with {validated}, which has." in said

    other = save(tmp_path / "other", seed=3)
    shutil.copy(folder / "metrics.json", other)
    with pytest.raises(BadCommand, match="is of another model"):
        threshold_of(settings, other)


def test_why_alerts_begin_at_a_threshold_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """And what finds a better one, where something can: a retrained model has its candidate's, and nothing is left to choose by."""
    live, settings = tmp_path / "live", read_settings(environ={})

    def said() -> str:
        say_threshold(live, threshold_of(settings, live))
        return " ".join(capsys.readouterr().err.split())

    version = pair(live, 1, 0.3)
    assert said().startswith("Alerts from 30.0 % on, as it was validated: by all next answers")
    assert "beepgpt rehearse PREDICTIONS" in said()
    keep({"threshold": 0.25, "why": "half of the readers join"}, version, [version.name], stays=True)
    capsys.readouterr()
    assert said() == "Alerts from 25.0 % on, half of the readers join."

    retrained = pair(live, 2, 0.4)
    figures = json.loads((retrained / METRICS).read_bytes())
    of = {"model": "cafe00000000", "fitted_until": "1700000000.000000"}
    (retrained / METRICS).write_text(json.dumps({**figures, "figures_of": of}))
    words = said()
    assert words.startswith(
        "Alerts from 40.0 % on, as its candidate cafe00000000, fitted until 2023-11-14 22:13 UTC, was validated. The model"
    )
    assert "nothing is left to choose another one by" in words and "beepgpt rehearse PREDICTIONS" not in words
    given = read_settings(overrides={"alerts": {"threshold": 0.5}}, environ={})
    say_threshold(live, threshold_of(given, live))
    assert capsys.readouterr().err == ""


def test_predictions_of_other_settings_are_refused(tmp_path: Path, slack: AlertedWorkspace):
    """By this run's settings, or the model's whose threshold it takes; nobody is alerted, and the message names what differs."""
    hours = Rules(horizon=2 * HOUR)
    source = write(tmp_path / "predictions.jsonl", prediction(just_now(), spec=hours.spec))

    by_settings = run(tmp_path, slack, source, "--threshold", 0.5, BEEPGPT_CONVERSATIONS__HORIZON="2h")
    assert by_settings.returncode == 0, by_settings.stderr
    assert len(slack.sent_to("bo")) == 1
    write(source, prediction(just_now()))
    (tmp_path / "alerts.sqlite").unlink()
    other = run(tmp_path, slack, source, "--threshold", 0.5, BEEPGPT_CONVERSATIONS__HORIZON="2h")
    folder = save(tmp_path / "model", spec=hours.spec, settings=shaping_settings(hours))
    by_model = run(tmp_path, slack, source, "--model", folder, "--threshold", 0.5)

    assert (other.returncode, by_model.returncode) == (1, 1)
    assert "other settings than these settings: horizon is 1 day there, 2 hours here" in other.stderr
    assert f"other settings than the examples of {folder}: horizon is 1 day there, 2 hours here" in by_model.stderr
    assert len(slack.sent_to("bo")) == 1


@pytest.mark.slow
def test_killed_before_and_after_sending_nobody_is_alerted_twice(tmp_path: Path, slack: AlertedWorkspace):
    """Bo's DM was queued and never sent, Cy's was sent and never noted: each stands there once at last."""
    at = just_now()
    source = write(tmp_path / "predictions.jsonl", prediction(at, people={"bo": 0.9, "cy": 0.8}))
    slack.faults = {"chat.postMessage:Dbo": ["hold"], "chat.postMessage:Dcy": ["wait:60"]}
    for is_time in (lambda: slack.calls("chat.postMessage"), lambda: slack.sent_to("cy")):
        with started(program("alert", source, "--threshold", 0.5), tmp_path, settings_of(slack, tmp_path)) as process:
            wait_until(is_time, "it is so at Slack")
            process.process.send_signal(signal.SIGKILL)
            process.process.wait()
    done = run(tmp_path, slack, source, "--threshold", 0.5, "--report", tmp_path / "report.json")

    assert done.returncode == 0, done.stderr
    assert (len(slack.sent_to("bo")), len(slack.sent_to("cy"))) == (1, 1)
    counts = json.loads((tmp_path / "report.json").read_text())["counts"]
    assert (counts["looked_up:due"], counts["looked_up:sent"], counts["letters_sent"]) == (1, 1, 2)


@pytest.mark.proof
def test_killed_at_any_time_everybody_is_alerted_once(tmp_path: Path, slack: AlertedWorkspace):
    """Twelve kills at random, with answers that come late and servers that fail."""
    draws = random.Random(7)
    at = just_now()
    predictions = [
        prediction(at + number * 1000, people={"bo": 0.9, "cy": 0.8, "di": 0.7}, conversations=[f"s{number}"]) for number in range(8)
    ]
    source = write(tmp_path / "predictions.jsonl", *predictions)
    slack.faults["chat.postMessage"] = [draws.choice((None, "wait:0.3", "done", "500", "429:1")) for _ in range(40)]
    settings = settings_of(slack, tmp_path, BEEPGPT_ALERTS__PER_HOUR="100")
    for _ in range(12):
        with started(program("alert", source, "--threshold", 0.5), tmp_path, settings) as process:
            many = len(slack.calls("chat.postMessage"))
            end = time.monotonic() + 30
            while len(slack.calls("chat.postMessage")) == many and process.process.poll() is None and time.monotonic() < end:
                time.sleep(0.05)
            time.sleep(draws.random() * 2)
            process.process.kill()
            process.process.wait()
    done = run(tmp_path, slack, source, "--threshold", 0.5, BEEPGPT_ALERTS__PER_HOUR="100")
    assert done.returncode == 0, done.stderr
    for user in ("bo", "cy", "di"):
        ids = [each["metadata"]["event_payload"]["id"] for each in slack.sent_to(user)]
        assert len(ids) == len(set(ids)) <= 8
    store = AlertStore(tmp_path / "alerts.sqlite")
    sent = sum(len(slack.sent_to(user)) for user in ("bo", "cy", "di"))
    given_up = store._rows("SELECT 1 FROM letter WHERE state = 'unknown' OR state LIKE 'refused%'")
    assert sent == 24 - len(given_up)
    store.close()


def test_from_topic_to_slack_and_to_another_topic(tmp_path: Path, slack: AlertedWorkspace, broker: Broker | GivenBroker):
    """Opting in comes from a topic, too; a deletion is read from slack.events itself; SIGTERM ends it; nobody is alerted again."""
    connection = Connection(broker.bootstrap)
    name = f"test-{uuid4().hex[:12]}"
    topics = {each: f"{name}.{each}" for each in ("predictions", "interactions", "alerts", "events")}
    create_topics(connection, [TopicSpec(each, 2, KEPT) for each in topics.values()])

    def put(topic: str, key: str, value: Any) -> None:
        with Writer(connection, topics[topic]) as writer:
            writer.send([OutgoingRecord(key.encode(), None if value is None else json.dumps(value).encode())])
            writer.flush()

    def follow(topic: str) -> str:
        return address(connection, topics[topic]) + "?follow=true"

    command = program(
        *("alert", follow("predictions"), "--interactions", follow("interactions"), "--deletions", follow("events")),
        *("--to", address(connection, topics["alerts"]), "--threshold", 0.5, "--opt-in"),
    )
    settings = settings_of(slack, tmp_path)
    put("interactions", "bo", {"type": "event_callback", "event": {"type": "app_home_opened", "user": "bo", "tab": "home"}})
    put("interactions", "bo", {"type": "block_actions", "user": {"id": "bo"}, "actions": [{"action_id": "opt_in", "value": "on"}]})
    put("predictions", "old", prediction(just_now(3600), people={"bo": 0.9, "cy": 0.9}, conversations=["old"]))
    with started(command, tmp_path, settings) as process:
        wait_until(lambda: "Turn off" in json.dumps(slack.homes), "it is so at Slack")
        at = just_now(0)
        put("predictions", "C1", prediction(at, people={"bo": 0.9, "cy": 0.9}, texts=[SECRET]))
        wait_until(lambda: slack.sent_to("bo"), "it is so at Slack")
        wait_until(lambda: SECRET in json.dumps(slack.homes), "it is so at Slack")
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(30 * slowness()) == 0, process.said
        first = process.said
    assert SECRET not in first
    put("predictions", prediction(at)["id"], None)
    with started(command, tmp_path, settings) as process:
        wait_until(lambda: SECRET not in json.dumps([slack.sent_to("bo"), slack.homes]), "its prediction is gone")
        assert len(slack.sent_to("bo")) == 1, "the link stays"
        put("events", "C1", histories.delete("C1", at + SECOND, at).data)
        wait_until(lambda: not slack.sent_to("bo") and SECRET not in json.dumps(slack.homes), "it is so at Slack")
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(30 * slowness()) == 0, process.said

    assert len(slack.calls("chat.postMessage")) == 1 and not slack.sent_to("cy"), (
        "Cy did not ask for it, and nobody is alerted to old things"
    )
    # The store is lost, and Slack has no DM that tells of the alert: points from before the new one are too old.
    (tmp_path / "alerts.sqlite").rename(tmp_path / "lost.sqlite")
    put("predictions", "C1", prediction(at + 1, people={"bo": 0.9}))
    with started(command, tmp_path, settings) as process:
        wait_until((tmp_path / "alerts.sqlite").exists, "there is a store again", 30)
        put("predictions", "C1", prediction(just_now(0), channel="C1", people={"bo": 0.9}))
        wait_until(lambda: len(slack.calls("chat.postMessage")) == 2, "he is alerted to what is new")
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(30 * slowness()) == 0, process.said
        new = process.said
    with closing(AlertStore(tmp_path / "alerts.sqlite")) as store:
        assert store.counts()["passed:too_old"] == 3
        born = f"{datetime.fromtimestamp(store.born / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
    said = f"alerts.sqlite: is a new store: points of before {born} alert nobody. If there was one before, it is lost"
    assert new.count(said) == 1 and "it is lost" not in first
    alert, _ = [(record.key, json.loads(record.value or b"")) for _, record in records_of(connection, topics["alerts"])]
    assert alert[0] == b"bo" and alert[1]["channel"] == "C1" and alert[1]["reason"] == "likely"


def test_without_slack_an_export_says_who_may_see_what(tmp_path: Path):
    """And a webhook gets each alert, signed, with its id, without what was written or a proxy; one that fails is called again."""
    plan = Plan(seed=3, messages=200, channels=4, people=8)
    write_export(plan, tmp_path / "export.zip")
    with zipfile.ZipFile(tmp_path / "export.zip") as archive:
        listed = json.loads(archive.read("channels.json"))
    channel, member = listed[0]["id"], listed[0]["members"][0]
    at = just_now()
    source = write(
        tmp_path / "predictions.jsonl",
        prediction(at, channel=channel, people={member: 0.9, "U-UNKNOWN": 0.9}, texts=[SECRET]),
    )
    with hooked(fails=1) as hook, stranger() as proxy:
        done = run(
            *(tmp_path, None, source, "--threshold", 0.5, "--members", tmp_path / "export.zip", "--to", "-"),
            BEEPGPT_ALERTS__WEBHOOK=f"http://127.0.0.1:{hook.port}/alerts",
            BEEPGPT_ALERTS__WEBHOOK_SECRET="s3cret",
            HTTP_PROXY=proxy.url,
            NO_PROXY="",
        )
    assert done.returncode == 0, done.stderr
    assert proxy.connections == 0
    verifier = SignatureVerifier("s3cret")
    assert [verifier.is_valid(body, *signed) for body, signed in zip(hook.got, hook.signed, strict=True)] == [True, True]
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["user"] == member
    assert [json.loads(each)["id"] for each in hook.got] == [json.loads(line)["id"]] * 2 and SECRET not in done.stdout + str(hook.got)


def test_a_webhook_elsewhere_without_tls_is_refused_at_the_start(tmp_path: Path):
    """The setting is named, and no store is made."""
    source = write(tmp_path / "predictions.jsonl", prediction())
    url = "http://10.255.255.1/alerts"
    done = run(tmp_path, None, source, "--threshold", 0.5, "--members", tmp_path, BEEPGPT_ALERTS__WEBHOOK=url)
    said = (
        "alerts.webhook: 10.255.255.1 leads to 10.255.255.1, which is not only this machine, so nothing is sent there: use an address with"
    )
    assert done.returncode == 2 and said in " ".join(done.stderr.split())
    assert [each.name for each in tmp_path.iterdir()] == ["predictions.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "how likely must an answer be"),
        (("--threshold", "0.5"), "nobody can say who may see which channel"),
        (("--threshold", "7"), "--threshold is '7'"),
    ],
)
def test_what_is_lacking_is_named(tmp_path: Path, arguments: tuple[str, ...], said: str):
    """Before anything is begun."""
    source = write(tmp_path / "predictions.jsonl", prediction())
    done = run(tmp_path, None, source, *arguments)
    assert done.returncode == 2 and said in done.stderr


def test_a_broken_record_is_named_and_the_others_count(tmp_path: Path):
    """With its line, and without its words; nothing is written over what is read."""
    plan = Plan(seed=3, messages=200, channels=4, people=8)
    write_export(plan, tmp_path / "export.zip")
    with zipfile.ZipFile(tmp_path / "export.zip") as archive:
        listed = json.loads(archive.read("channels.json"))
    channel, member = listed[0]["id"], listed[0]["members"][0]
    good = prediction(just_now(), channel=channel, people={member: 0.9})
    source = write(tmp_path / "predictions.jsonl", {**good, "id": "a", "people": SECRET}, good)
    source.write_text('{"broken": "' + SECRET + "\n\n" + source.read_text())
    common = ("--threshold", 0.5, "--members", tmp_path / "export.zip")
    over = run(tmp_path, None, source, *common, "--to", source)
    done = run(tmp_path, None, source, *common, "--to", "-")

    assert over.returncode == 2 and "predictions.jsonl: would be written over SOURCE" in over.stderr
    assert done.returncode == 0 and json.loads(done.stdout)["user"] == member, done.stderr
    assert "predictions.jsonl:1" in done.stderr and "predictions.jsonl:3" in done.stderr and SECRET not in done.stderr


def test_a_source_that_is_not_there_makes_no_store(tmp_path: Path):
    """Each of them is looked for first."""
    source = write(tmp_path / "predictions.jsonl", prediction())
    common = ("--threshold", 0.5, "--members", tmp_path)
    for arguments in ((tmp_path / "none.jsonl",), (source, "--outcomes", tmp_path / "none.jsonl")):
        done = run(tmp_path, None, *arguments, *common)
        assert done.returncode == 2 and "none.jsonl: there is no such file" in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["predictions.jsonl"]


class Hook:
    """A web server that takes alerts, the first `fails` of them not."""

    def __init__(self, fails: int) -> None:
        self.got: list[bytes] = []
        self.signed: list[tuple[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.signed.append((self.headers["X-BeepGPT-Request-Timestamp"], self.headers["X-BeepGPT-Signature"]))
                outer.got.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(503 if len(outer.got) <= fails else 204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]

    def __enter__(self) -> "Hook":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self.server.shutdown()
            self.server.server_close()


def hooked(fails: int) -> Hook:
    return Hook(fails)
