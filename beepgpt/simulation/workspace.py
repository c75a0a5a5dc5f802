"""A simulated workspace of any size: its live stream, its export, and who would answer what.

This module is the simulator's interface; a `Plan` says what to simulate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random

from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import SECOND
from beepgpt.simulation.export import write_export
from beepgpt.simulation.history import history
from beepgpt.simulation.people import KNOWS_LITTLE, TOPICS, SimulatedChannel, SimulatedWorkspace, person_name, slack_id
from beepgpt.simulation.plan import Plan, unchanged, undisturbed
from beepgpt.simulation.slack_json import InnerEvent, inner_events

_BROKEN: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"<html><body>502 Bad Gateway</body></html>",
    "truncated JSON": b'{"type":"event_callback","event":{"type":"message","channel":"C024BE91L","ts":"1690360240.2290',
    "array": b'[{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":"%ts"}]',
    "number": b"1690360240.229079",
    "string": b'"message"',
    "null": b"null",
    "NUL bytes": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"a\x00b","ts":"%ts"}\x00\x00',
    "invalid UTF-8": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"caf\xe9 \xff\xfe","ts":"%ts"}',
    "two objects": b'{"type":"message"}{"type":"message"}',
    "event is null": b'{"type":"event_callback","event_id":"Ev0","event":null}',
    "no channel": b'{"type":"message","user":"U1","text":"hi","ts":"%ts"}',
    "channel is a number": b'{"type":"message","channel":24,"user":"U1","text":"hi","ts":"%ts"}',
    "no ts": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi"}',
    "ts is a number": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":%ts}',
    "ts is NaN": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":"NaN"}',
    "ts is negative": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":"-%ts"}',
    "ts in the year 5138": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":"99999999999.000000"}',
    "ts in the year 2286": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":"9999999999.000000"}',
    "ts with 7 decimals": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":"%ts7"}',
    "ts in other digits": '{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","ts":"١٦٩٠٣٦٠٢٤٠.٢٢٩٠٧٩"}'.encode(),
    "user is a list": b'{"type":"message","channel":"C024BE91L","user":["U1"],"text":"hi","ts":"%ts"}',
    "text is an object": b'{"type":"message","channel":"C024BE91L","user":"U1","text":{"text":"hi"},"ts":"%ts"}',
    "thread_ts is garbage": b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi","thread_ts":"p1690","ts":"%ts"}',
    "edit without a message": b'{"type":"message","subtype":"message_changed","channel":"C024BE91L","ts":"%ts","event_ts":"%ts"}',
    "reaction without an item": b'{"type":"reaction_added","user":"U1","reaction":"eyes","event_ts":"%ts"}',
    "deep nesting": b'{"event":' * 50_000,
    "over 1 MiB": b"",
}

BROKEN_KINDS: tuple[str, ...] = tuple(_BROKEN)


def broken_record(kind: str, draws: Random | None = None) -> bytes:
    """Make a record of one of `BROKEN_KINDS`, which readers must reject.

    >>> broken_record("no ts")
    b'{"type":"message","channel":"C024BE91L","user":"U1","text":"hi"}'
    """
    number = int((draws or Random(0)).random() * 1_000_000)
    ts = f"1690360240.{number:06d}".encode()
    if kind == "over 1 MiB":
        return b'{"type":"message","channel":"C024BE91L","user":"U1","ts":"%s","text":"%s"}' % (ts, b"long " * 220_000)
    return _BROKEN[kind].replace(b"%ts", ts)


EVENT_KINDS = ("post", "edit", "delete", "react", "move")
"""Kinds of `planted` that become events; the others of a history are `bot`, `no_author`, `join`, `topic` and `unfurl`."""


def deliver(workspace: SimulatedWorkspace, records: Iterator[InnerEvent], planted: Counter[str]) -> Iterator[tuple[str | None, bytes]]:
    """Keys and callbacks in order of arrival, with the plan's delivery troubles; counts them in `planted`."""
    delivery = SlackDelivery(workspace, planted)
    for at, t, channel, traits, inner in records:
        yield from delivery.beats(at)
        delivery.accept(t, channel, traits, inner)
        yield from delivery.arrived(at)
    yield from delivery.beats(workspace.end)
    yield from delivery.arrived(None)


class SlackDelivery:
    """Records in flight, and the clock of each channel as a reader has it."""

    def __init__(self, workspace: SimulatedWorkspace, planted: Counter[str]) -> None:
        """Start with nothing in flight."""
        plan = workspace.plan
        self.workspace = workspace
        self.plan = plan
        self.planted = planted
        self.random = Random(f"{plan.seed}:delivery").random
        self.draws = Random(f"{plan.seed}:broken")
        self.disorder = int(plan.disorder * SECOND)
        self.lateness = int(plan.lateness * SECOND)
        self.every = int(plan.heartbeat_every * SECOND) if plan.heartbeat_every else 0
        self.next_beat = workspace.start + self.every
        self.accepted = 0
        self.sent = 0
        self.in_flight: list[tuple[int, int, int, str | None, bytes]] = []
        self.clocks: dict[str, int] = {}
        self.beat = 0
        app = slack_id("A", plan.seed, 0)
        self.head = f'{{"token":"","team_id":"{workspace.team}","api_app_id":"{app}","type":"event_callback","event":'

    def accept(self, t: int, channel: SimulatedChannel, traits: list[str], inner: str) -> None:
        """Send an event: maybe too late, maybe twice, maybe followed by a broken record."""
        plan = self.plan
        planted = self.planted
        for trait in traits:
            planted[trait] += 1
        self.accepted += 1
        mark = '"by_person":true,' if "by_app" in traits else ""
        value = (
            f'{self.head}{inner},{mark}"event_id":"Ev{channel.index:05X}{self.accepted:09X}","event_time":{t // SECOND},'
            '"is_ext_shared_channel":false}'
        ).encode()
        random = self.random
        if plan.too_late and random() < plan.too_late:
            planted["delayed"] += 1
            self.send(t + int((2 + random() * 18) * 60 * SECOND), t, channel.id, value)
        else:
            self.send(self.soon(t), t, channel.id, value)
            if plan.duplicates and random() < plan.duplicates and traits[0] in EVENT_KINDS:
                planted["duplicate"] += 1
                # Sent again by Slack, or backfilled from the history: then without an envelope.
                bare = f'{inner[:-1]},"by_person":true}}' if mark else inner
                self.send(self.soon(t), t, channel.id, value if random() < 0.7 else bare.encode())
        if plan.broken and random() < plan.broken:
            kind = BROKEN_KINDS[int(random() * len(BROKEN_KINDS))]
            if kind == "over 1 MiB" and random() < 0.95:
                kind = "empty"
            planted["broken"] += 1
            planted["broken: " + kind] += 1
            # No time of its own: it moves no clock.
            self.send(self.soon(t), -1, channel.id, broken_record(kind, self.draws))

    def soon(self, t: int) -> int:
        """Draw an arrival time within the plan's disorder."""
        return t + int(self.random() * self.disorder) if self.disorder else t

    def send(self, arrival: int, t: int, key: str | None, value: bytes) -> None:
        """Put a record in flight; at equal arrival times the first sent arrives first."""
        self.sent += 1
        heappush(self.in_flight, (arrival, self.sent, t, key, value))

    def beats(self, at: int) -> Iterator[tuple[str | None, bytes]]:
        """Send heartbeats up to a time, each when everything before it has arrived, and yield what arrives meanwhile."""
        while self.every and self.next_beat <= at:
            value = f'{{"type":"heartbeat","at":"{ts_text(self.next_beat)}"}}'.encode()
            self.planted["heartbeat"] += 1
            self.send(self.next_beat + self.disorder, self.next_beat, None, value)
            yield from self.arrived(self.next_beat)
            self.next_beat += self.every

    def arrived(self, at: int | None) -> Iterator[tuple[str | None, bytes]]:
        """Yield what arrives before a time; with None, all that is in flight."""
        in_flight = self.in_flight
        while in_flight and (at is None or in_flight[0][0] < at):
            _, _, t, key, value = heappop(in_flight)
            self.planted["records"] += 1
            if key is None:
                self.beat = t
            elif t >= 0:
                clock = max(self.clocks.get(key, 0), self.beat)
                if clock - t > self.lateness:
                    self.planted["late"] += 1
                self.clocks[key] = max(clock, t)
            yield key, value


__all__ = [
    "BROKEN_KINDS",
    "Plan",
    "Truth",
    "broken_record",
    "expected_topic_people",
    "keyed_records",
    "live_records",
    "names",
    "truth",
    "unchanged",
    "undisturbed",
    "write_export",
]


@dataclass(frozen=True, slots=True)
class Truth:
    """Who would post next after `ts` in its conversation, if anybody but the author does: the ten likeliest, likeliest first."""

    channel: str
    ts: str
    topic: str
    responders: tuple[tuple[str, float], ...]


def live_records(plan: Plan, planted: Counter[str] | None = None) -> Iterator[bytes]:
    """Kafka values in order of arrival, as Slack's Events API would have sent them.

    >>> import json
    >>> records = list(live_records(undisturbed(Plan(messages=1, bots=0, no_author=0, joins=0))))
    >>> len(records), json.loads(records[0])["event"]["type"]
    (1, 'message')
    """
    return (value for _, value in keyed_records(plan, planted))


def keyed_records(plan: Plan, planted: Counter[str] | None = None) -> Iterator[tuple[str | None, bytes]]:
    """Kafka keys and values in order of arrival; a heartbeat has no key and belongs in every partition.

    `planted` counts what was simulated. `records` is the sum of `post`, `edit`, `delete`, `react`, `unfurl`, `bot`, `no_author`,
    `join`, `topic`, `move`, `duplicate`, `broken` and `heartbeat`; `root`, `reply`, `broadcast`, `file`, `private`, `tombstone`,
    `unreact`, `delayed`, `late`, the forms of `Plan.elsewhere` and `broken: …` are among them. `late` are those behind their
    channel's watermark.
    """
    workspace = SimulatedWorkspace(plan)
    return deliver(workspace, inner_events(workspace), Counter() if planted is None else planted)


def truth(plan: Plan) -> Iterator[Truth]:
    """Who would answer each post, and with what probability: for posts by people that somebody else can answer, in order of time."""
    workspace = SimulatedWorkspace(plan, keeps_truth=True)
    for _, t, channel, kind, post, _ in history(workspace, range(plan.channels)):
        if kind == "post" and post.truth:
            yield Truth(channel.id, ts_text(t), TOPICS[post.topic], tuple((workspace.people[who].id, p) for who, p in post.truth))


def names(plan: Plan) -> dict[str, str]:
    """Map the people's ids to their names."""
    return {person.id: " ".join(person_name(index)) for index, person in enumerate(SimulatedWorkspace(plan).people)}


def expected_topic_people(plan: Plan) -> dict[str, tuple[str, ...]]:
    """For each topic, the ids of the people who know it, most knowledgeable and active first."""
    people = SimulatedWorkspace(plan).people
    known = {}
    for topic, name in enumerate(TOPICS):
        knowing = [person for person in people if person.knows[topic] > KNOWS_LITTLE]
        known[name] = tuple(person.id for person in sorted(knowing, key=lambda person: -person.knows[topic] * person.activity))
    return known
