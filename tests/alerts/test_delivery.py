"""Alerts are delivered in Slack over real HTTP: within its rates, to who may see them, once, and taken back."""

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSource, run_main

from beepgpt.alerts.decisions import Policy
from beepgpt.alerts.store import AlertStore
from beepgpt.connectors.slack.alerts import SlackMessenger
from beepgpt.connectors.slack.members import Everybody, SlackPerson
from beepgpt.connectors.webhook import webhook
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import DAY, HOUR, MINUTE, SECOND
from beepgpt.dataflows.alerts import AlertSink
from beepgpt.errors import SlackFailed
from beepgpt.simulation.slack.alerts_api import AlertedWorkspace
from tests.support.alerts import NOON, Clock, Office, deletion, outcome, prediction
from tests.support.slack_web_api import TOKEN
from tests.support.strangers import stranger


def test_somebody_is_alerted_with_a_link_an_excerpt_a_reason_and_buttons(tmp_path: Path, slack: AlertedWorkspace):
    """Nothing is unfurled, nobody is called, and the message can be found again by its id."""
    office = Office(tmp_path, slack)
    office.opt_in("bo")
    office.apply("prediction", prediction(texts=["<!channel> is the build red & hot? @here"]))
    office.work()

    (message,) = slack.sent_to("bo")
    shown = json.dumps(message, ensure_ascii=False)
    assert "https://acme.slack.com/archives/C1/p1700049600000000" in shown
    assert "&lt;!channel&gt; is the build red &amp; hot?" in shown and "@here" not in shown and "<!" not in shown
    assert "80 % likely that you answer" in shown and "feedback_buttons" in shown
    assert message["metadata"]["event_payload"]["id"] == office.forwarded[0]["id"]
    assert slack.bad_blocks == []
    assert "build" not in json.dumps(office.forwarded), "what was written goes to Slack alone"


def test_only_who_may_see_the_channel_is_alerted(tmp_path: Path, slack: AlertedWorkspace):
    """A member of a private channel; any full member of a public one; no guest, nobody who left, and nobody in doubt."""
    slack.user("guest", is_restricted=True)
    slack.user("stranger", team_id="T2")
    slack.user("left", deleted=True)
    people = {"bo": 0.9, "cy": 0.9, "guest": 0.9, "stranger": 0.9, "left": 0.9, "nobody-knows": 0.9}
    office = Office(tmp_path, slack)
    office.opt_in(*people)
    office.apply("prediction", prediction(channel="C2", people=people))
    office.apply("prediction", prediction(channel="C1", people={each: p for each, p in people.items() if each != "cy"}))
    office.apply("prediction", prediction(channel="CGONE", people=people))
    office.work()

    alerted = {user for user in people if slack.sent_to(user)}
    assert alerted == {"bo", "cy"}
    assert "archives/C2" in json.dumps(slack.sent_to("cy")) and "archives/C1" in json.dumps(slack.sent_to("bo"))
    assert office.counts["refused:not_a_member"] == 7 and office.counts["refused:membership_in_doubt"] == 8


@pytest.mark.parametrize("hidden", ["is_private", "is_channel"])
def test_a_channel_that_slack_does_not_call_public_is_its_members_alone(slack: AlertedWorkspace, hidden: str):
    """An answer that leaves a flag out is a doubt: a full member of the workspace who is none of the channel may not see it."""
    messenger = SlackMessenger(TOKEN, slack.url)
    seen = [messenger.may_see(each, "C1", messenger.person(each)) for each in ("bo", "di")]
    slack.channels["C1"]["hides"] = hidden
    in_doubt = [messenger.may_see(each, "C1", messenger.person(each)) for each in ("bo", "di")]

    assert (seen, in_doubt) == ([True, True], [True, False])


@pytest.mark.slow
def test_slacks_rates_are_kept(tmp_path: Path, slack: AlertedWorkspace):
    """About one message a second to one person; Retry-After is obeyed; others don't wait for it."""
    office = Office(tmp_path, slack, policy={"per_hour": 10})
    office.opt_in("bo", "cy")
    slack.faults["chat.postMessage"] = ["429:1"]
    for number in range(3):
        office.apply("prediction", prediction(NOON + number * SECOND, people={"bo": 0.9, "cy": 0.8}))
    office.work()

    assert (len(slack.sent_to("bo")), len(slack.sent_to("cy"))) == (3, 3)
    assert slack.too_fast == 0 and office.counts["slack_busy"] == 1
    first, *later = slack.calls("chat.postMessage")
    assert next(each.at for each in later if each.args["channel"] == first.args["channel"]) - first.at >= 1.0
    assert any(each.args["channel"] != first.args["channel"] and each.at - first.at < 1.0 for each in later)


def test_who_is_written_to_too_often_holds_up_nobody_else(tmp_path: Path, slack: AlertedWorkspace):
    """Bo's conversation is at its limit for half a minute: Cy and Di are alerted, the webhook is called; and a pause is no try."""
    got: list[str] = []

    def taken(alert: Mapping[str, Any]) -> str:
        got.append(alert["user"])
        return ""

    office = Office(tmp_path, slack, webhook=taken)
    office.opt_in("bo", "cy", "di")
    slack.faults["chat.postMessage:Dbo"] = ["429:30"]
    began = time.monotonic()
    office.apply("prediction", prediction(people={"bo": 0.9, "cy": 0.8, "di": 0.7}))
    office.work(lambda: slack.sent_to("cy") and slack.sent_to("di") and {"cy", "di"} <= set(got))
    for _ in range(20):
        office.delivery.work()

    assert time.monotonic() - began < 25 and slack.sent_to("bo") == []
    assert len([each for each in slack.calls("chat.postMessage") if each.args["channel"] == "Dbo"]) == 1, "Retry-After is obeyed"
    (dm,) = office.store.dms("due")
    assert (dm["user"], dm["tries"]) == ("bo", 0) and office.counts["slack_busy"] == 1


@pytest.mark.slow
def test_now_and_then_no_answer_makes_no_long_pauses(tmp_path: Path, slack: AlertedWorkspace):
    """Each pause is the first one where something got through in between; an outage's are longer and longer."""
    office = Office(tmp_path, slack, policy={"per_hour": 100})
    people = [f"u{number}" for number in range(12)]
    for user in people:
        office.opt_in(slack.user(user))
    slack.channel("C3", *people)
    slack.faults["chat.postMessage"] = [None, "drop"] * 5
    began = time.monotonic()
    office.apply("prediction", prediction(channel="C3", people=dict.fromkeys(people, 0.9)))
    office.work(lambda: not office.store.dms("due") and not office.store.alerts_to_check())

    assert office.counts["slack_unclear"] == 5 and len(office.store.dms("sending")) == 5
    assert time.monotonic() - began < 25, "and not 1 + 2 + 4 + 8 + 16"


@pytest.mark.slow
def test_a_limit_of_the_app_holds_up_all_messages_and_nothing_else(tmp_path: Path, slack: AlertedWorkspace):
    """When a second conversation is refused, too, no third one is tried; what is not a message goes on."""
    office = Office(tmp_path, slack)
    office.opt_in("bo", "cy", "di")
    office.store.note_home_opened("di")
    slack.faults["chat.postMessage"] = ["429:3", "429:3"]
    began = time.monotonic()
    office.apply("prediction", prediction(people={"bo": 0.9, "cy": 0.8, "di": 0.7}))
    office.work(lambda: "di" in slack.homes and len(slack.calls("chat.postMessage")) == 2)
    office.work(lambda: len(slack.calls("chat.postMessage")) > 2)
    first, second, third = slack.calls("chat.postMessage")[:3]
    office.work()

    assert third.at - second.at >= 2.9 and second.at - first.at < 2.9
    assert all(slack.sent_to(user) for user in ("bo", "cy", "di")) and time.monotonic() - began < 25
    assert office.counts["slack_busy"] == 2 and slack.too_fast == 0


@pytest.mark.parametrize("ahead", [0, 4 * 60, -4 * 60])
@pytest.mark.parametrize("fault", ["done", "done500", "wait:2"])
def test_what_was_sent_without_an_answer_is_found_and_not_sent_again(tmp_path: Path, slack: AlertedWorkspace, fault: str, ahead: int):
    """The DM stands in the conversation, under its id, though Slack's clock be minutes off."""
    office = Office(tmp_path, slack, timeout=1)
    slack.clock = lambda: office.clock() / SECOND + ahead
    office.opt_in("bo")
    slack.faults["chat.postMessage"] = [fault]
    office.apply("prediction", prediction())
    office.work(lambda: office.store.dms("sending"))
    office.clock.set(office.clock() + MINUTE)
    office.work()

    assert len(slack.sent_to("bo")) == 1 and office.counts["looked_up:sent"] == 1


@pytest.mark.parametrize("fault", ["drop", "500", "html"])
def test_what_certainly_is_not_there_is_sent_again_once(tmp_path: Path, slack: AlertedWorkspace, fault: str):
    """It was looked up first; a second time it stays unknown, and is counted."""
    office = Office(tmp_path, slack)
    office.opt_in("bo", "cy")
    slack.faults["chat.postMessage"] = [fault, fault, fault]
    office.apply("prediction", prediction())
    office.work(lambda: office.store.dms("sending"))
    office.clock.set(office.clock() + MINUTE)
    office.work(lambda: len(slack.calls("chat.postMessage")) == 2)
    office.clock.set(office.clock() + MINUTE)
    office.work()

    assert len(slack.calls("chat.postMessage")) == 2 and slack.sent_to("bo") == []
    assert office.counts["looked_up:due"] == 1 and office.counts["letters_unknown"] == 1


def test_what_stays_unknown_is_counted_and_not_sent_again(tmp_path: Path, slack: AlertedWorkspace):
    """Nobody may read the conversation."""
    office = Office(tmp_path, slack)
    office.opt_in("bo")
    slack.faults["chat.postMessage"] = ["done"]
    slack.faults["conversations.history"] = ["error:channel_not_found"]
    office.apply("prediction", prediction())
    office.work(lambda: office.store.dms("sending"))
    office.clock.set(office.clock() + MINUTE)
    office.work()

    assert len(slack.sent_to("bo")) == 1 and office.counts["letters_unknown"] == 1


def test_what_alerts_show_of_a_prediction_that_is_gone_goes(tmp_path: Path, slack: AlertedWorkspace):
    """A tombstone of it: the DM stays as a link, without text; it is counted, and changes no other."""
    office = Office(tmp_path, slack)
    office.opt_in("bo")
    office.apply("prediction", prediction(texts=["a secret"]))
    office.apply("prediction", prediction(NOON + SECOND, channel="C2", people={"cy": 0.9}))
    office.work()
    for identity in (prediction()["id"], "unknown"):
        with office.store.transaction():
            office.decider.apply_tombstone(identity.encode(), office.clock())
    office.work()

    (message,) = slack.sent_to("bo")
    assert "a secret" not in json.dumps(message) and "archives/C1" in json.dumps(message)
    assert (office.counts["predictions_gone"], office.counts["letters_updated"]) == (2, 1)


@pytest.mark.parametrize(("is_there", "ahead"), [(True, 0), (True, 4 * 60), (True, -4 * 60), (False, 0)])
def test_what_was_unknown_is_looked_for_again_when_its_message_is_deleted(
    tmp_path: Path, slack: AlertedWorkspace, is_there: bool, ahead: int
):
    """A DM that stood there all the time is deleted, though Slack's clock be minutes off; one that is nowhere is counted, and asked for
    once."""
    office = Office(tmp_path, slack)
    slack.clock = lambda: office.clock() / SECOND + ahead
    office.opt_in("bo")
    slack.faults["chat.postMessage"] = ["done" if is_there else "drop"]
    slack.faults["conversations.history"] = ["error:channel_not_found"]
    office.apply("prediction", prediction(texts=["a secret"]))
    office.work(lambda: office.store.dms("sending"))
    office.clock.set(office.clock() + MINUTE)
    office.work()
    assert len(slack.sent_to("bo")) == is_there and office.counts["letters_unknown"] == 1

    office.clock.set(office.clock() + DAY)
    asked = len(slack.calls("conversations.history"))
    office.apply("deletion", deletion(NOON))
    office.work()
    assert slack.sent_to("bo") == [] and len(slack.calls("chat.postMessage")) == 1
    assert (office.counts.get("letters_deleted", 0), office.counts.get("letters_not_found", 0)) == (is_there, not is_there)
    office.apply("deletion", deletion(NOON))
    office.work()
    assert len(slack.calls("conversations.history")) == asked + 1 + (not is_there), "what is said again may be looked for again"


def edited(ts: int, text: str, at: int, channel: str = "C1") -> bytes:
    """As Slack sends it, on `slack.events`."""
    inner = {"type": "message", "user": "ana", "text": text, "ts": ts_text(ts), "edited": {"user": "ana", "ts": ts_text(at)}}
    before = {**inner, "text": "another"}
    event = {"type": "message", "subtype": "message_changed", "channel": channel, "message": inner, "previous_message": before}
    return json.dumps({**event, "ts": ts_text(at), "event_ts": ts_text(at)}).encode()


def test_an_edited_message_changes_what_was_sent(tmp_path: Path, slack: AlertedWorkspace):
    """By the prediction that the edit made, or by the event itself; the newest text counts, in whatever order they come."""
    office = Office(tmp_path, slack)
    office.opt_in("bo")
    office.store.note_home_opened("bo")
    office.apply("prediction", prediction(texts=["is it a-secret?"]))
    office.work(lambda: slack.sent_to("bo") and "a-secret" in json.dumps(slack.homes) and not office.store.stale_homes())
    reply = [(NOON, "ana"), (NOON + 2 * SECOND, "cy")]
    office.apply("prediction", {**prediction(NOON + 9 * SECOND, window=reply, texts=["is it blue?", "no"]), "people": []})
    office.apply("prediction", {**prediction(NOON + 12 * SECOND, window=reply, texts=["only one of two"]), "people": []})
    office.work()
    (message,) = slack.sent_to("bo")
    assert "a-secret" not in json.dumps([message, slack.homes]) and "is it blue?" in message["text"]
    assert message["metadata"]["event_payload"]["id"] == office.forwarded[0]["id"], "it can still be found"

    office.apply("prediction", prediction(texts=["is it a-secret?"]))  # it comes again, after a kill of scoring
    office.decider.apply_record(edited(NOON, "of long ago", NOON + 8 * SECOND), office.clock())
    office.decider.apply_record(edited(NOON, "is it *red* &amp; hot?", NOON + 13 * SECOND), office.clock())
    office.decider.apply_record(edited(NOON, "of long ago", NOON + 11 * SECOND), office.clock())
    office.work()
    (message,) = slack.sent_to("bo")
    assert "is it *red* &amp; hot?" in message["text"] and len(slack.calls("chat.update")) == 2 == office.counts["letters_updated"]
    assert b"a-secret" not in (tmp_path / "alerts.sqlite").read_bytes()

    slack.faults["chat.update"] = ["error:edit_window_closed"]
    office.decider.apply_record(edited(NOON, "too late", NOON + 20 * SECOND), office.clock())
    office.work()
    office.apply("deletion", deletion(NOON))
    office.work()
    assert office.counts["letters_not_changed"] == 1 and slack.sent_to("bo") == [], "what can't be changed can still be taken back"


def test_an_edit_that_came_too_late_for_the_flow_stays(tmp_path: Path, slack: AlertedWorkspace):
    """Predictions go on with the old text, which its author took away."""
    office = Office(tmp_path, slack)
    office.opt_in("bo")
    office.apply("prediction", prediction(texts=["a-secret"]))
    office.work()
    office.decider.apply_record(edited(NOON, "nothing", NOON + 2 * SECOND), office.clock())
    reply = [(NOON, "ana"), (NOON + 9 * SECOND, "cy")]
    office.apply("prediction", {**prediction(NOON + 9 * SECOND, window=reply, texts=["a-secret", "no"]), "people": []})
    office.work()
    assert "nothing" in slack.sent_to("bo")[0]["text"] and "a-secret" not in json.dumps(slack.sent_to("bo"))


def test_an_edit_is_not_shown_to_who_left_the_channel(tmp_path: Path, slack: AlertedWorkspace):
    """What was written there since is no more theirs than a new message; nor is what it says now worth keeping."""
    office = Office(tmp_path, slack)
    office.opt_in("cy")
    office.apply("prediction", prediction(channel="C2", people={"cy": 0.9}, texts=["old"]))
    office.work()
    slack.channels["C2"]["members"].remove("cy")
    office.delivery.eligibility._checked.clear()  # half a minute later
    office.decider.apply_record(edited(NOON, "a-secret", NOON + SECOND, "C2"), office.clock())
    office.work()
    shown = json.dumps(slack.sent_to("cy"))
    assert "a-secret" not in shown and "no longer shown" in shown and office.counts["letters_updated"] == 1


def test_a_deletion_does_not_wait_until_it_is_known_who_may_see_an_edit(tmp_path: Path, slack: AlertedWorkspace):
    """Slack has no time for the one: the other is done meanwhile."""
    office = Office(tmp_path, slack)
    office.opt_in("bo", "cy")
    office.apply("prediction", prediction(people={"bo": 0.9}))
    office.apply("prediction", prediction(NOON + SECOND, people={"cy": 0.9}))
    office.work()
    office.delivery.eligibility._checked.clear()  # half a minute later
    slack.faults["users.info"] = ["429:30"]
    began = time.monotonic()
    office.decider.apply_record(edited(NOON, "a new text", NOON + SECOND), office.clock())
    office.delivery.work()
    office.apply("deletion", deletion(NOON + SECOND))
    office.work(lambda: slack.sent_to("cy") == [])

    assert time.monotonic() - began < 25 and "a new text" not in json.dumps(slack.sent_to("bo")) and len(office.store.dms_to_change()) == 1


def test_what_another_process_edits_while_slack_is_asked_is_not_lost(tmp_path: Path, slack: AlertedWorkspace):
    """Before a DM is sent it shows the new text; while it is changed, it is changed once more."""
    other = AlertStore(tmp_path / "alerts.sqlite")
    texts = ["second", "third", "fourth"]

    def edit() -> None:
        other.edit_message("C1", NOON, texts.pop(0), NOON + (4 - len(texts)) * SECOND, is_edit=True)

    class Slow(Everybody):
        def may_see(self, user: str, channel: str, person: SlackPerson) -> bool:
            if other.dms_to_change() and texts:
                edit()
            return True

    office = Office(tmp_path, slack, members=Slow(), beat=lambda: edit() if len(texts) == 3 and other.dms("due") else None)
    office.opt_in("bo")
    office.apply("prediction", prediction(texts=["first"]))
    office.work(lambda: slack.sent_to("bo"))
    assert "second" in slack.sent_to("bo")[0]["text"]
    office.delivery.eligibility._checked.clear()  # half a minute later
    edit()
    office.work()
    assert "fourth" in slack.sent_to("bo")[0]["text"] and texts == []
    other.close()


def test_what_could_not_be_changed_is_taken_back_when_its_own_message_is_deleted(tmp_path: Path, slack: AlertedWorkspace):
    """Another message of its window went first, and Slack took no change any more."""
    office = Office(tmp_path, slack)
    office.opt_in("bo")
    office.apply("prediction", prediction(window=[(NOON - MINUTE, "ana"), (NOON, "ana")], texts=["first", "second"]))
    office.work()
    slack.faults["chat.update"] = ["error:edit_window_closed"]
    for ts in (NOON - MINUTE, NOON):
        office.apply("deletion", deletion(ts))
        office.work()
    assert slack.sent_to("bo") == [] and office.counts["letters_not_changed"] == office.counts["letters_deleted"] == 1


def test_a_webhook_that_takes_things_again_is_not_left_alone_for_long(tmp_path: Path):
    """Each pause is the first one where something was taken in between."""
    answers = ["HTTP 503", "", "HTTP 503", ""]
    office = Office(tmp_path, webhook=lambda alert: answers.pop(0))
    office.opt_in("bo", "cy")
    began = time.monotonic()
    for number, user in enumerate(("bo", "cy")):
        office.apply("prediction", prediction(NOON + number * SECOND, people={user: 0.9}))
        office.work()

    assert (answers, office.counts["webhook_taken"], office.counts["webhook_unclear"]) == ([], 2, 2)
    assert time.monotonic() - began < 2.9, "1 + 1, and not 1 + 2"


def test_a_webhook_that_redirects_is_tried_again_and_then_given_up_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """A redirect took nothing: where it leads is in the log, and nothing is sent there."""
    with stranger() as hook, stranger() as other:
        hook.redirect = (302, f"{other.url}/login")
        office = Office(tmp_path, webhook=webhook(hook.url))
        office.opt_in("bo")
        office.apply("prediction", prediction(people={"bo": 0.9}))
        office.work(lambda: office.counts.get("webhook_unclear"))
        assert not office.counts.get("webhook_taken")
        office.clock.set(NOON + 2 * HOUR)
        office.work(lambda: office.counts.get("webhook_given_up"))

        assert len(hook.got) >= 2 and other.connections == 0
    place = other.url.removeprefix("http://")
    assert [f"redirects to {place} (HTTP 302)" in str(vars(each)) for each in caplog.records if "is given up" in each.message] == [True]


def test_an_edit_before_anything_is_sent_is_what_is_sent(tmp_path: Path, slack: AlertedWorkspace):
    """And one of a deleted message's excerpt brings nothing back."""
    office = Office(tmp_path, slack)
    office.opt_in("bo")
    both = [(NOON - MINUTE, "ana"), (NOON, "ana")]
    office.apply("prediction", prediction(window=both, texts=["first", "a typpo"]))
    office.decider.apply_record(edited(NOON, "a typo", NOON + SECOND), office.clock())
    office.work()
    assert "a typo" in slack.sent_to("bo")[0]["text"] and slack.calls("chat.update") == []
    office.apply("deletion", deletion(NOON - MINUTE))
    office.decider.apply_record(edited(NOON, "a secret", NOON + 2 * SECOND), office.clock())
    office.work()
    assert "secret" not in json.dumps(slack.sent_to("bo")) and "no longer shown" in json.dumps(slack.sent_to("bo"))


def test_an_alert_that_waited_too_long_is_not_given(tmp_path: Path, slack: AlertedWorkspace):
    """Slack was busy for longer than max_alert_age."""
    office = Office(tmp_path, slack)
    office.opt_in("bo")
    slack.faults["chat.postMessage"] = ["429:1"]
    office.apply("prediction", prediction())
    office.work(lambda: slack.calls("chat.postMessage"))
    office.clock.set(NOON + HOUR)
    office.work()

    assert slack.sent_to("bo") == [] and office.counts["refused:too_old"] == 1


def test_who_changed_their_mind_or_joined_in_is_not_alerted(tmp_path: Path, slack: AlertedWorkspace):
    """All is asked again just before it is sent."""
    office = Office(tmp_path, slack)
    office.opt_in("bo", "cy", "di")
    office.apply("prediction", prediction(people={"bo": 0.9, "cy": 0.9, "di": 0.9}))
    office.store.set_preferences("bo", opted_in=0)
    office.store.set_muted("cy", ["C1"])
    later = prediction(NOON + SECOND, window=[(NOON, "ana"), (NOON + SECOND, "di")], people={"ana": 0.1})
    office.apply("prediction", later)
    office.work()

    assert not any(slack.sent_to(user) for user in ("bo", "cy", "di"))
    assert {name for name in office.counts if name.startswith("refused")} == {
        "refused:not_opted_in",
        "refused:muted",
        "refused:participant",
    }


def test_a_deleted_message_leaves_dms_and_app_home(tmp_path: Path, slack: AlertedWorkspace):
    """The one that it was about takes the DM with it; another one takes the excerpt."""
    office = Office(tmp_path, slack)
    office.opt_in("bo", "cy")
    office.store.note_home_opened("bo")
    office.store.note_home_opened("cy")
    both = [(NOON - MINUTE, "ana"), (NOON, "ana")]
    office.apply("prediction", prediction(people={"bo": 0.9}, window=both, texts=["a secret", "of mine"]))
    office.apply(
        "prediction", prediction(NOON + SECOND, channel="C2", people={"cy": 0.9}, window=[(NOON + SECOND, "ana")], texts=["another secret"])
    )
    office.work(lambda: len(slack.homes) == 2 and slack.sent_to("bo") and slack.sent_to("cy") and not office.store.stale_homes())
    assert "of mine" in json.dumps(slack.homes["bo"]) and "another secret" in json.dumps(slack.homes["cy"])

    office.apply("deletion", deletion(NOON - MINUTE))
    office.apply("deletion", deletion(NOON + SECOND, "C2"))
    office.work(lambda: not office.store.dms_to_change() and not office.store.stale_homes())

    assert "of mine" not in json.dumps(slack.sent_to("bo")) and "no longer shown" in json.dumps(slack.sent_to("bo"))
    assert slack.sent_to("cy") == []
    assert (
        "mine" not in json.dumps(slack.homes) and "secret" not in json.dumps(slack.homes) and "archives/C2" not in json.dumps(slack.homes)
    )
    assert b"secret" not in (tmp_path / "alerts.sqlite").read_bytes()


def test_a_message_that_was_deleted_first_alerts_nobody(tmp_path: Path, slack: AlertedWorkspace):
    """The deletion may be read before the prediction, and Slack may know of it before we do."""
    slack.missing.add(("C1", ts_text(NOON + SECOND)))
    office = Office(tmp_path, slack)
    office.opt_in("bo", "cy")
    office.apply("deletion", deletion(NOON))
    office.apply("prediction", prediction())
    office.apply("prediction", prediction(NOON + SECOND, people={"cy": 0.9}))
    office.work()

    assert slack.dms.get("Dbo", []) == [] and slack.dms.get("Dcy", []) == []
    assert office.counts["passed:deleted"] == 1 and office.counts["refused:deleted"] == 1


def test_less_likely_ones_come_once_a_day(tmp_path: Path, slack: AlertedWorkspace):
    """At the time that is set, where the person is; what was deleted since is not in it, and what is deleted later leaves it."""
    office = Office(tmp_path, slack, digest_at=15 * 60)
    slack.users["bo"]["tz"] = "Europe/Berlin"  # UTC+1
    office.opt_in("bo", low="digest")
    for number in range(3):
        at = NOON + number * SECOND
        office.apply(
            "prediction",
            prediction(at, people={"bo": 0.3}, window=[(at, "ana")], texts=[f"question {number}"], conversations=[f"s{number}"]),
        )
    office.work()
    assert slack.sent_to("bo") == []
    office.apply("deletion", deletion(NOON))
    office.clock.set(NOON + 2 * HOUR + MINUTE)
    office.work(lambda: slack.sent_to("bo"))

    assert "question 0" not in json.dumps(slack.sent_to("bo"))
    assert "question 1" in json.dumps(slack.sent_to("bo")) and "question 2" in json.dumps(slack.sent_to("bo"))

    office.apply("deletion", deletion(NOON + SECOND))
    office.work(lambda: not office.store.dms_to_change())
    assert "question 1" not in json.dumps(slack.sent_to("bo")) and "question 2" in json.dumps(slack.sent_to("bo"))
    assert len(slack.sent_to("bo")) == 1 and slack.bad_blocks == []
    office.clock.set(NOON + DAY)
    office.work()
    assert len(slack.sent_to("bo")) == 1, "nothing new, no digest"


def test_app_home_changes_what_somebody_gets(tmp_path: Path, slack: AlertedWorkspace):
    """Opening it shows it; each of its fields is heard; buttons below an alert are counted, the last word of each."""
    office = Office(tmp_path, slack)
    opened = {"type": "event_callback", "event": {"type": "app_home_opened", "user": "bo", "tab": "home"}}

    def acted(**action: object) -> bytes:
        return json.dumps({"type": "block_actions", "user": {"id": "bo"}, "actions": [action]}).encode()

    office.decider.apply_interaction(json.dumps(opened).encode())
    office.work(lambda: "bo" in slack.homes)
    assert "Turn on" in json.dumps(slack.homes["bo"])

    office.decider.apply_interaction(acted(action_id="opt_in", value="on"))
    office.decider.apply_interaction(acted(action_id="threshold", selected_option={"value": "0.9"}))
    office.decider.apply_interaction(acted(action_id="muted", selected_conversations=["C2"]))
    office.decider.apply_interaction(acted(action_id="quiet_from", selected_time="23:00"))
    office.decider.apply_interaction(acted(action_id="quiet_to", selected_time="06:30"))
    office.decider.apply_interaction(acted(action_id="topic_add", value="Kafka upgrades"))
    office.decider.apply_interaction(b"[1]")
    office.decider.apply_interaction(acted(action_id="foreign", value="x"))
    office.work(lambda: not office.store.stale_homes())
    home = json.dumps(slack.homes["bo"])
    assert all(each in home for each in ("Turn off", '"0.9"', "C2", "23:00", "06:30", "Kafka upgrades"))
    assert office.counts["interactions_unreadable"] == 2 and slack.bad_blocks == []

    office.apply("prediction", prediction(people={"bo": 0.8}))
    office.work(lambda: "archives/C1" in json.dumps(slack.homes["bo"]) and not office.store.stale_homes())
    assert slack.sent_to("bo") == [], "listed: it is less likely than what was asked for"
    identity = office.forwarded[0]["id"]
    for value in ("good", "bad", "bad"):
        office.decider.apply_interaction(acted(action_id="alert_feedback", value=f"{value}:{identity}"))
    office.decider.apply_interaction(acted(action_id="alert_feedback", value="good:ffff"))
    assert (office.counts["feedback:good"], office.counts["feedback:bad"], office.counts["feedback:unknown_alert"]) == (0, 1, 1)


def test_a_token_that_does_nothing_stops_with_what_to_do(slack: AlertedWorkspace):
    """Before anybody is alerted: a wrong token, or a scope that is missing."""
    with pytest.raises(SlackFailed, match=r"slack\.bot_token"):
        SlackMessenger("xoxb-wrong", slack.url).check()
    slack.scopes = "chat:write"
    with pytest.raises(SlackFailed, match="im:history"):
        SlackMessenger(TOKEN, slack.url).check()


def test_logs_hold_nothing_that_people_wrote(tmp_path: Path, slack: AlertedWorkspace, caplog: pytest.LogCaptureFixture):
    """Whatever goes wrong, and however much is logged."""
    caplog.set_level(logging.DEBUG)
    office = Office(tmp_path, slack, timeout=1)
    office.opt_in("bo", "cy")
    slack.faults = {"chat.postMessage": ["html", "error:is_archived"], "views.publish": ["500"], "users.info": ["drop"]}
    office.store.note_home_opened("bo")
    office.apply("prediction", prediction(texts=["a-secret-word"], people={"bo": 0.9, "cy": 0.8}))
    office.apply("prediction", {"people": [], "window": "a-secret-word"})
    office.work(lambda: not office.store.dms("due") and not office.store.alerts_to_check())

    assert caplog.records and "a-secret-word" not in caplog.text


def test_a_flow_may_decide_in_its_own_process(tmp_path: Path):
    """Through a sink that takes its items as they come; those that come again after a kill tell nobody twice."""
    store = AlertStore(tmp_path / "alerts.sqlite")
    store.set_preferences("bo", opted_in=1)
    items = [
        ("prediction", prediction()),
        ("outcome", outcome(prediction(), MINUTE, "bo")),
        ("outcome", outcome(prediction(), DAY, how="superseded")),
    ]
    items.append(("prediction", prediction()))
    flow = Dataflow("test")
    op.output("alerts", op.input("items", flow, TestingSource(items)), AlertSink(store.path, Policy(threshold=0.5), lambda: NOON))
    run_main(flow)
    run_main(flow)
    assert [(row["user"], row["answered"]) for row in store.alerts_to_check()] == [("bo", 1)]
    store.close()


def test_nobody_is_alerted_to_old_things(tmp_path: Path, slack: AlertedWorkspace):
    """A topic that is read again, or predictions of a rebuild, tell nobody; the clock decides, and the flow's own word."""
    office = Office(tmp_path, slack, clock=Clock(NOON + HOUR))
    office.opt_in("bo")
    office.apply("prediction", prediction())
    office.apply("prediction", prediction(NOON + HOUR, fresh=False))
    office.work()

    assert slack.called == [] and office.counts["passed:too_old"] == 1 and office.counts["passed:not_fresh"] == 1
