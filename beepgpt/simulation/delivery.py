"""The way from Slack to Kafka: duplicates, disorder, late and broken records, heartbeats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from heapq import heappop, heappush
from random import Random

from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import SECOND
from beepgpt.simulation.broken_records import BROKEN_KINDS, broken_record
from beepgpt.simulation.people import SimulatedChannel, SimulatedWorkspace, slack_id
from beepgpt.simulation.slack_json import InnerEvent

EVENT_KINDS = ("post", "edit", "delete", "react")
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
        value = (
            f'{self.head}{inner},"event_id":"Ev{channel.index:05X}{self.accepted:09X}","event_time":{t // SECOND},'
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
                self.send(self.soon(t), t, channel.id, value if random() < 0.7 else inner.encode())
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
