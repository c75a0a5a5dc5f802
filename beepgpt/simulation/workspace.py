"""A simulated workspace of any size: its live stream, its export, and who would answer what.

This module is the simulator's interface; a `Plan` says what to simulate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from beepgpt.conversations.events import ts_text
from beepgpt.simulation.broken_records import BROKEN_KINDS, broken_record
from beepgpt.simulation.delivery import deliver
from beepgpt.simulation.export import write_export
from beepgpt.simulation.history import history
from beepgpt.simulation.people import KNOWS_LITTLE, TOPICS, SimulatedWorkspace, person_name
from beepgpt.simulation.plan import Plan, unchanged, undisturbed
from beepgpt.simulation.slack_json import inner_events

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
    `join`, `topic`, `duplicate`, `broken` and `heartbeat`; `root`, `reply`, `broadcast`, `file`, `private`, `tombstone`,
    `unreact`, `delayed`, `late` and `broken: …` are among them. `late` are those behind their channel's watermark.
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
