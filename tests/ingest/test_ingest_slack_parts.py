"""The parts of `beepgpt ingest slack`, each by itself: what is known of a topic, what is asked, how connections end and begin."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beepgpt.config.settings import read_settings
from beepgpt.connectors.slack.live import Arrival, CallStopped, Changed, Down, SocketLine, Up, Web, history, sockets
from beepgpt.connectors.slack.live import web as web_api
from beepgpt.conversations.events import micros, ts_text
from beepgpt.conversations.rules import SECOND
from beepgpt.errors import SlackFailed, SlackRefused
from beepgpt.ingest.slack.history_notes import notes_on_history, time_text
from beepgpt.ingest.slack.known_records import KnownRecords, heartbeat_in, identify, record_of
from beepgpt.ingest.slack.run import calls_of
from beepgpt.ingest.slack.web_queries import channel_of
from beepgpt.simulation.slack.faults import Faults
from beepgpt.simulation.slack.server import APP_TOKEN, BOT_TOKEN, SlackServer, serving
from beepgpt.simulation.slack.workspace import ChatWorkspace
from tests.support import MONDAY_AT_TEN
from tests.support.speed import wait_until

NOW = MONDAY_AT_TEN + 10**6 * SECOND


# What is known of a topic


class Clock:
    """A minute for every question."""

    def __init__(self) -> None:
        self.at = MONDAY_AT_TEN

    def __call__(self) -> int:
        self.at += 60 * SECOND
        return self.at


def workspace() -> ChatWorkspace:
    slack = ChatWorkspace(clock=Clock())
    slack.add_channel("C1")
    return slack


def stored(slack: ChatWorkspace) -> list[dict[str, Any]]:
    return list(slack.messages["C1"].values())


def known_of(events: list[dict[str, Any]]) -> KnownRecords:
    """What is known when these came live."""
    known = KnownRecords()
    for number, event in enumerate(events):
        payload = {"type": "event_callback", "event_id": f"Ev{number}", "event": event}
        known.add(identify(record_of(payload, NOW), NOW))
    return known


def test_a_deletion_brings_no_text_to_the_topic():
    """Slack sends with it what the message said; the topic gets the message's name."""
    slack = workspace()
    ts = slack.post("C1", "U1", "a secret")
    slack.edit("C1", ts, "less of it")
    slack.delete("C1", ts)
    sent = slack.events[1:]
    assert ["secret" in json.dumps(each) for each in sent] == [True, False] and "less of it" in json.dumps(sent[1])

    edit, deletion = (record_of({"type": "event_callback", "event": event}, NOW) for event in sent)
    assert b"a secret" not in edit and b"less of it" in edit and b"less of it" not in deletion
    assert identify(deletion, NOW).key == ("C1", 2, int(ts.replace(".", "")))
    assert sent[1]["previous_message"]["text"] == "less of it", "Slack's payload itself is as it was"


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["post", "reply", "bot", "join", "edit", "react"])), max_size=30))
def test_what_came_live_and_what_is_filled_in_are_all_and_nothing_twice(steps: list[tuple[bool, str]]):
    """Whichever posts came: those that are missing are found in the history, and no others; an edit that came is not found again."""
    slack = workspace()
    came: list[dict[str, Any]] = []
    for comes, what in steps:
        is_live = comes or what in ("edit", "react")
        first = next(iter(slack.messages["C1"]), None)
        match what:
            case "edit" if first is not None:
                slack.edit("C1", first, f"edited {len(slack.events)}")
            case "react" if first is not None:
                slack.react("C1", first, "U3")
            case "bot":
                slack.post("C1", "U9", "beep", bot_id="B1")
            case "join":
                slack.post("C1", "U4", "joined", subtype="channel_join")
            case _:
                slack.post("C1", "U1", "hello", thread_ts=first if what == "reply" else None)
        if is_live:
            came.append(slack.events[-1])
    found = known_of(came).missing("C1", stored(slack), 0)

    posts = {each["ts"] for each in slack.events if "ts" in each and each.get("subtype") != "message_changed"}
    live = {each["ts"] for each in came if "ts" in each and each.get("subtype") != "message_changed"}
    assert [event["ts"] for _, event in found.events] == sorted(posts - live)
    assert found.gone == []


def test_an_edit_in_the_gap_is_found_once_and_at_the_end_of_its_second():
    """With its text, though the message itself is known; once it is on the topic it is not found again."""
    slack = workspace()
    ts = slack.post("C1", "U1", "before")
    known = known_of(slack.events)
    slack.edit("C1", ts, "after")
    ((t, event),) = known.missing("C1", stored(slack), 0).events
    known.add(identify(json.dumps(event).encode(), NOW))

    assert (event["subtype"], event["message"]) == ("message_changed", {"ts": ts, "text": "after"})
    assert t == micros(slack.events[-1]["ts"]) // SECOND * SECOND + 999_999
    assert known.missing("C1", stored(slack), 0).events == []
    assert identify(json.dumps(slack.events[-1]).encode(), NOW) in known, "Slack sends it after all"


def test_another_edit_in_the_gap_is_found():
    """Of a message whose first edit came live."""
    slack = workspace()
    ts = slack.post("C1", "U1", "before")
    slack.edit("C1", ts, "between")
    known = known_of(slack.events)
    slack.edit("C1", ts, "after")

    assert [event["message"]["text"] for _, event in known.missing("C1", stored(slack), 0).events] == ["after"]


def test_what_a_history_cannot_tell_is_counted():
    """Reactions have no time, a deleted message is just gone, one without a time can't be placed."""
    slack = workspace()
    first, second = slack.post("C1", "U1", "one"), slack.post("C1", "U1", "two")
    known = known_of(slack.events)
    slack.react("C1", first, "U2")
    slack.delete("C1", second)
    found = known.missing("C1", [*stored(slack), {"type": "message", "text": "when?"}], 0)

    assert (found.events, found.untimed, found.gone, found.unreadable) == ([], 1, [micros(second)], 1)
    assert known_of(slack.events).missing("C1", stored(slack), 0).gone == [], "its deletion came live"


def test_what_came_while_a_history_was_read_is_not_taken_for_deleted():
    """It is newer than the history, and known already."""
    slack = workspace()
    slack.post("C1", "U1", "one")
    history = stored(slack)
    late = slack.post("C1", "U1", "two")
    known = known_of(slack.events)

    assert known.missing("C1", history, 0).gone == [micros(late)]
    assert known.missing("C1", history, 0, waiting={micros(late)}).gone == []


def test_calls_are_read_between_two_of_them():
    """A monitor asks by a thread of its own, and a method that is called for the first time meanwhile would break its reading."""
    web = Web(BOT_TOKEN, "http://127.0.0.1:9/api/", threading.Event())
    web._note("auth.test", "ok")
    found: list[dict[tuple[str, str], int]] = []
    asking = threading.Thread(target=lambda: found.append(calls_of([web, web])))
    with web._lock:
        asking.start()
        asking.join(0.3)
        assert found == [], "it waits for who counts"
    asking.join(60)

    assert found == [{("auth.test", "ok"): 2}]


def test_what_is_long_ago_is_forgotten():
    """Copies are known as long as it is asked for, and no longer; the newest time of a channel stays."""
    slack = workspace()
    for number in range(5):
        slack.post("C1", "U1", str(number))
    known = known_of(slack.events)
    known.forget_before(micros(slack.events[3]["ts"]))
    again = [identify(json.dumps(each).encode(), NOW) in known for each in slack.events]

    assert again == [False, False, False, True, True] and len(known) == 2
    assert known.newest("C1") == micros(slack.events[-1]["ts"])


def test_an_event_names_its_channel_wherever_it_stands():
    """As a text, an object, or of the message that was reacted to."""
    assert channel_of({"type": "channel_rename", "channel": {"id": "C1", "name": "new"}}) == "C1"
    assert channel_of({"type": "reaction_added", "item": {"channel": "C2"}}) == "C2"
    assert channel_of({"type": "team_join", "user": {"id": "U1"}}) is None


def test_only_a_heartbeat_is_one():
    """A message about heartbeats is none, and neither is one without a time."""
    assert heartbeat_in(b'{"type":"heartbeat","at":"1690360253.000000"}') == 1_690_360_253 * SECOND
    for other in (None, b"{", b'{"type":"message","text":"heartbeat"}', b'{"type":"heartbeat","at":5}', b'["heartbeat"]'):
        assert heartbeat_in(other) is None


def test_channels_of_an_export_and_of_the_app_are_compared():
    """Which have no history, by kind, and which are no longer followed, and why; nothing is said where they are the same."""
    followed, names = {"C1": "channels", "C2": "groups", "C3": "groups"}, {"C1": "", "C2": "ops", "C3": ""}
    assert notes_on_history(followed, names, ["C1", "C2", "C3"], 0) == []
    (new,) = notes_on_history(followed, names, ["C1"], MONDAY_AT_TEN)
    assert new.startswith(f"Without history on the topic: 2 groups (#ops, C3). Theirs begins at {time_text(MONDAY_AT_TEN)}. ")
    (left,) = notes_on_history({"C1": "channels"}, {"C1": "", "C2": "ops"}, ["C1", "C2"], 0)
    assert left == "On the topic and not followed: #ops: this --include leaves it out, and its history ends with the export."
    (gone,) = notes_on_history({"C1": "channels"}, {"C1": ""}, ["C1", *(f"C{number}" for number in range(2, 9))], 0)
    assert gone.startswith("On the topic and not followed: C2, C3, C4, C5, C6 and 2 more: the app is not in them, or this --include")


# What is asked


@pytest.fixture
def web(slack_server: SlackServer) -> Iterator[Web]:
    stopping = threading.Event()
    yield Web(BOT_TOKEN, slack_server.base_url, stopping, per_minute=10_000)
    stopping.set()


def test_answers_come_whole_and_limits_are_kept(slack_server: SlackServer, web: Web, monkeypatch: pytest.MonkeyPatch):
    """All pages, in spite of 429 and 500; Slack's `Retry-After` is waited for."""
    monkeypatch.setattr(web_api, "BACKOFF", (0.01,))
    for number in range(20):
        slack_server.workspace.add_channel(f"C{number}", is_private=number % 2 == 0)
    slack_server.faults = Faults(limited=0.3, broken=0.2, retry_after=1)
    began = time.monotonic()
    found = [each["id"] for each in web.pages("users.conversations", "channels", types="public_channel,private_channel")]

    assert found == [f"C{number}" for number in range(20)]
    slack_server.faults.limited, slack_server.faults.broken = 1.0, 0.0
    threading.Timer(0.5, lambda: setattr(slack_server.faults, "limited", 0.0)).start()
    limited, began = web.limited, time.monotonic()
    web.ask("team.info")
    assert web.limited > limited and time.monotonic() - began >= 1


def test_our_own_limit_is_kept_and_a_stop_ends_the_wait(slack_server: SlackServer):
    """The third call of a minute that has two waits, until somebody asks to stop."""
    stopping = threading.Event()
    web = Web(BOT_TOKEN, slack_server.base_url, stopping, per_minute=2)
    web.ask("team.info")
    web.ask("team.info")
    threading.Timer(0.2, stopping.set).start()

    with pytest.raises(CallStopped):
        web.ask("team.info")
    assert slack_server.asked["team.info"] == 2


def test_refusals_are_told_apart(slack_server: SlackServer, web: Web):
    """A token that is dead, with what to do; a question that is wrong by itself."""
    for code, advice in (
        ("token_revoked", "install the app again"),
        ("account_inactive", "uninstalled"),
        ("invalid_auth", "copy it again"),
    ):
        slack_server.faults.refuse["auth.test"] = code
        with pytest.raises(SlackFailed, match=f"slack.bot_token is refused .auth.test: {code}.: .*{advice}"):
            web.ask("auth.test")
        with pytest.raises(SlackFailed, match=code):
            web.try_once("auth.test")
    slack_server.faults.refuse["auth.test"] = "missing_scope"
    with pytest.raises(SlackFailed, match="lacks the scope"):
        web.ask("auth.test")
    with pytest.raises(SlackRefused, match="channel_not_found"):
        web.ask("conversations.info", channel="C404")


def test_a_clock_that_is_ahead_of_slacks_is_known(slack_server: SlackServer, web: Web):
    """By the date of an answer, to the second; one that is behind does no harm."""
    slack_server.date_ahead = 30.0
    web.ask("auth.test")
    assert 28.5 < web.ahead < 31.5
    slack_server.date_ahead = -30.0
    web.try_once("auth.test")
    assert web.ahead == 0.0


def test_a_history_has_late_replies_too(slack_server: SlackServer, web: Web):
    """To roots of before the gap, and to older ones that are named; each message once, broadcasts too."""
    slack = slack_server.workspace
    slack.add_channel("C1")
    ancient, old = slack.post("C1", "U1", "ancient"), slack.post("C1", "U1", "old")
    slack.post("C1", "U2", "answered before", thread_ts=old)
    since = slack.now()
    replies = [slack.post("C1", "U2", "late", thread_ts=old) for _ in range(10)]
    replies.append(slack.post("C1", "U2", "to the ancient", thread_ts=ancient))
    replies.append(slack.post("C1", "U2", "broadcast", thread_ts=old, subtype="thread_broadcast"))
    root = slack.post("C1", "U3", "new")
    read = history(web, "C1", since=since, roots_since=old, replies_since=since, threads=[ancient, ts_text(1)])
    found = [each["ts"] for each in read.messages]

    assert sorted(ts for ts in found if ts >= since) == sorted([*replies, root])
    assert len(found) == len(set(found))


# Connections


class Listener:
    """A line, and all that it brings, acknowledged at once unless a test wants otherwise."""

    def __init__(self, server: SlackServer) -> None:
        self.came: queue.Queue[Any] = queue.Queue()
        self.seen: list[Any] = []
        self.stopping = threading.Event()
        self.line = SocketLine("1", Web(APP_TOKEN, server.base_url, self.stopping), self.came.put)
        self.acknowledges = True

    def texts(self) -> list[str]:
        self.take()
        return [each.payload["event"]["text"] for each in self.seen if isinstance(each, Arrival)]

    def kinds(self) -> list[type]:
        self.take()
        return [type(each) for each in self.seen if not isinstance(each, Arrival)]

    def take(self) -> None:
        while not self.came.empty():
            came = self.came.get()
            self.seen.append(came)
            if isinstance(came, Arrival) and self.acknowledges:
                came.acknowledge()

    def wait_for(self, is_so: Callable[[], bool], what: str) -> None:
        """The condition asks for what came, and so takes it."""
        wait_until(is_so, what, 40)


@contextmanager
def listening(server: SlackServer) -> Iterator[Listener]:
    listener = Listener(server)
    listener.line.start()
    try:
        yield listener
    finally:
        listener.stopping.set()
        listener.line.close()


def test_events_come_in_slacks_order(slack_server: SlackServer):
    """Hundreds at once, and each in its turn."""
    slack_server.workspace.add_channel("C1")
    slack_server.ack_within = 30
    with listening(slack_server) as listener:
        listener.wait_for(lambda: listener.kinds() == [Up], "it is up")
        for number in range(500):
            slack_server.workspace.post("C1", "U1", str(number))
        listener.wait_for(lambda: len(listener.texts()) == 500, "all came")
        listener.wait_for(lambda: len(listener.texts()) == len(slack_server.acknowledged), "all is acknowledged")
    assert listener.texts() == [str(number) for number in range(500)]


def test_a_renewal_is_no_outage(slack_server: SlackServer):
    """The new connection has said hello before the old one, which is read to its end, is gone: whatever is said meanwhile comes."""
    slack_server.workspace.add_channel("C1")
    with listening(slack_server) as listener:
        listener.wait_for(lambda: listener.kinds() == [Up], "it is up")
        for reason in ("warning", "refresh_requested"):
            slack_server.disconnect(reason, closes_after=1.0)
            for number in range(20):
                slack_server.workspace.post("C1", "U1", f"{reason} {number}")
                time.sleep(0.02)
            listener.wait_for(lambda: listener.kinds()[-1] is Changed and not listener.line._draining, "it is renewed")
        listener.wait_for(lambda: len(set(listener.texts())) == 40, "all came")
    assert listener.kinds() == [Up, Changed, Changed]


def test_an_old_connection_that_slack_does_not_close_is_an_outage(slack_server: SlackServer, monkeypatch: pytest.MonkeyPatch):
    """It is closed here in the end, and what was on its way over it would come late."""
    monkeypatch.setattr(sockets, "DRAIN", 0.5)
    with listening(slack_server) as listener:
        listener.wait_for(lambda: listener.kinds() == [Up], "it is up")
        slack_server.disconnect("warning", closes_after=60)
        listener.wait_for(lambda: listener.kinds() == [Up, Changed, Down, Up], "it is given up")


@pytest.mark.parametrize("how", ["reset", "end", "freeze"])
def test_an_end_without_a_goodbye_is_an_outage(slack_server: SlackServer, monkeypatch: pytest.MonkeyPatch, how: str):
    """A connection that breaks, ends or is silent is known to be gone, and is replaced."""
    monkeypatch.setattr(sockets, "PING_EVERY", 0.2)
    monkeypatch.setattr(sockets, "PING_PATIENCE", 3.0)
    with listening(slack_server) as listener:
        listener.wait_for(lambda: listener.kinds() == [Up], "it is up")
        began = time.time()
        listener.wait_for(lambda: (listener.line.good_until or 0) > began, "pings are answered")
        if how == "end":
            slack_server.do(ended(slack_server))
        else:
            (slack_server.reset if how == "reset" else slack_server.freeze)()
        gone = time.time()
        listener.wait_for(lambda: Down in listener.kinds(), "it is down")
        assert time.time() - gone < 15
        listener.wait_for(lambda: listener.kinds() == [Up, Down, Up], "it is up again")
        assert listener.line.good_until is not None


async def ended(server: SlackServer) -> None:
    """The sockets' ends, without WebSocket's own goodbye."""
    for link in list(server.links):
        link.connection.transport.close()


def test_what_is_not_acknowledged_comes_again(slack_server: SlackServer):
    """In another envelope, with the same `event_id`, marked as another try."""
    slack_server.workspace.add_channel("C1")
    with listening(slack_server) as listener:
        listener.acknowledges = False
        listener.wait_for(lambda: listener.kinds() == [Up], "it is up")
        slack_server.workspace.post("C1", "U1", "hello")
        listener.wait_for(lambda: len(listener.texts()) == 2, "it came again")
        first, second = (each for each in listener.seen if isinstance(each, Arrival))
        listener.acknowledges = True
        second.acknowledge()
    assert first.payload["event_id"] == second.payload["event_id"] and first.name != second.name
    assert (first.retry, second.retry) == (0, 1)


# Settings


def test_tokens_are_in_no_repr():
    """Neither in that of the settings nor in that of what asks."""
    environ = {"BEEPGPT_SLACK__APP_TOKEN": "xapp-hush", "BEEPGPT_SLACK__BOT_TOKEN": "xoxb-hush", "BEEPGPT_SLACK__SIGNING_SECRET": "hush"}
    settings = read_settings(environ=environ)

    assert "hush" not in repr(settings) + repr(Web("xoxb-hush", "http://localhost/", threading.Event()))


def test_a_server_can_be_given_more(slack_server: SlackServer):
    """Web API methods by name, and routes of any kind: for tests of other parts."""
    slack_server.methods["chat.postMessage"] = lambda given: {"ts": slack_server.workspace.post(given["channel"], "U0BOT", given["text"])}
    slack_server.workspace.add_channel("C1")
    web = Web(BOT_TOKEN, slack_server.base_url, threading.Event())

    assert web.ask("chat.postMessage", channel="C1", text="hi")["ts"] in slack_server.workspace.messages["C1"]
    with serving() as other, pytest.raises(SlackRefused, match="unknown_method"):
        Web(BOT_TOKEN, other.base_url, threading.Event()).ask("chat.postMessage", channel="C1", text="hi")
