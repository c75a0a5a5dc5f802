"""Two readings of docs/semantics.md that share no code agree, example by example: `conversations/` and `tests/support/oracle.py`."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beepgpt.connectors.slack.export import open_export, read_days
from beepgpt.conversations.events import Heartbeat, Reject, micros, parse
from beepgpt.conversations.export import records_of
from beepgpt.conversations.points import MessageDeleted, PointEmitted
from tests.support import NOW, oracle, oracle_records, ours, run_of
from tests.support.histories import Record, any_arrivals, callback, cases, delete, edit, lines_of, post, react
from tests.support.oracle_features import assert_candidates

thorough = settings(max_examples=8 * settings().max_examples, suppress_health_check=list(HealthCheck))
"""The rules have many corners, and a history reaches few of them."""
patient = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

EXPORTS = {
    "houston": "houstondatavis-scrubbed.zip",
    "dd2030": "dd2030.zip",
    "hubspot": "hubspot-dev-2016-2023.zip",
    "irc": "ubuntu-irc-train-dev.zip",
}
STRETCH = 80
"""Records that the oracle, which is cubic, reads in about a second."""


def assert_agreement(records: Sequence[bytes], rules: oracle_records.Rules, until: int | None = None):
    """Both readings give the same examples, candidates and all, the same retractions and account."""
    mine = ours(rules)
    run = run_of(records, mine, until)
    expected = oracle.run(records, replace(rules, spec=mine.spec), until=until, now=NOW)

    examples = [json.loads(line) for line in run.examples]
    candidates = {example["id"]: example.pop("candidates") for example in examples}
    assert sorted(map(json.dumps, examples)) == sorted(map(json.dumps, expected.examples))
    for identity, seen in expected.seen.items():
        assert_candidates(candidates[identity], seen.posts, seen.look, rules.kept_people, seen.bots)
    assert sorted(map(decoded, run.retractions)) == sorted(map(json.dumps, expected.retractions))
    account = run.account.as_json()
    for part in ("events", "points"):
        assert {name: count for name, count in account[part].items() if name not in ("held", "open")} == expected.account[part]
    assert account["heartbeats"] == expected.account["heartbeats"]


def decoded(line: bytes) -> str:
    """A line as the oracle's JSON would be written: the order of the keys counts."""
    return json.dumps(json.loads(line))


@thorough
@given(cases(), st.data())
def test_the_two_readings_agree(case: tuple[oracle_records.Rules, list[Record]], data: st.DataObject):
    """On random histories with every kind of record, in any order of arrival, under settings of every target and scope."""
    rules, history = case

    assert_agreement(lines_of(data.draw(any_arrivals(history, rules.lateness), label="arrivals")), rules)


@patient
@given(cases(), st.data())
def test_they_agree_on_any_until(case: tuple[oracle_records.Rules, list[Record]], data: st.DataObject):
    """Told to stop at a time: the same events are after it, and the same points are censored."""
    rules, history = case
    times = sorted({record.t for record in history if record.t is not None}) or [NOW]
    until = data.draw(st.sampled_from(times), label="T") + data.draw(st.sampled_from([0, -1, 1, rules.horizon or 0, rules.lateness]))

    assert_agreement(lines_of(history), rules, until)


@patient
@given(cases(), st.data())
def test_they_agree_on_what_readers_of_points_must_delete(case: tuple[oracle_records.Rules, list[Record]], data: st.DataObject):
    """Each deletion is logged once, behind the points, whether a window, an example or nothing at all still holds the message."""
    rules, history = case
    arrived = lines_of(data.draw(any_arrivals(history, rules.lateness), label="arrivals"))
    mine = ours(rules)
    run = run_of(arrived, mine, points_since=0)
    expected = oracle.run(arrived, replace(rules, spec=mine.spec), now=NOW)

    deleted = [each for each in run.points if isinstance(each, MessageDeleted)]
    assert sorted(deleted) == sorted(MessageDeleted(*each) for each in expected.deletions)
    emitted = [each for each in run.points if not isinstance(each, MessageDeleted)]
    for each in deleted:
        assert not any(each.ts == said for point in emitted if isinstance(point, PointEmitted) for said in held_by(point, after=each))


def held_by(point: PointEmitted, after: MessageDeleted) -> list[int]:
    """The messages of a point that was made later than a deletion in its channel."""
    if point.channel != after.channel or point.t <= after.deleted_ts:
        return []
    return [micros(each["ts"]) for each in json.loads(point.line)["window"]]


SAID = NOW // oracle_records.SECOND * oracle_records.SECOND - oracle_records.DAY


@pytest.mark.parametrize(
    "record",
    [
        post("C1", SAID, "ana"),
        post("C1", SAID, "ana", subtype="channel_join"),
        edit("C1", SAID - 1, SAID, "hi"),
        edit("C1", SAID - 1, SAID, "hi", previous="hi"),
        delete("C1", SAID - 1, SAID),
        react("C1", None, SAID, "ana"),
        react("C1", SAID - 1, SAID, "ana"),
        react("C1", SAID - 1, SAID, ""),
    ],
)
@pytest.mark.parametrize("horizon", [oracle_records.DAY, None])
def test_they_agree_on_what_is_from_the_future(record: Record, horizon: int | None):
    """A record is, whatever else it is, once one of its times is more than a day after it was received."""
    for early, future in ((oracle_records.DAY, 0), (oracle_records.DAY + 1, 1)):
        received = callback(record, "Ev1", received_at=oracle_records.stamp(SAID - early))
        rules = oracle_records.Rules(horizon=horizon)

        assert_agreement([received.line], rules)
        assert run_of([received.line], ours(rules)).account["rejected:future"] == future


# Real sets


def channels_of(path: Path) -> dict[str, list[bytes]]:
    """The records of each channel of an export."""
    export = open_export(path, include=("channels", "groups"))
    return {channel.id: list(records_of(channel.id, read_days(export, channel))) for channel in export.channels}


def channels_in(path: Path) -> dict[str, list[bytes]]:
    """The records of each channel in a file of events, in order of time."""

    def named(line: bytes) -> tuple[str, int]:
        parsed = parse(line, NOW)
        assert not isinstance(parsed, Heartbeat | Reject)
        return parsed.channel or "", parsed.t or 0

    lines = sorted(path.read_bytes().splitlines(), key=named)
    return {channel: list(records) for channel, records in groupby(lines, lambda line: named(line)[0])}


def read_set(shared: Path, name: str) -> dict[str, list[bytes]]:
    """The channels of one of the real sets."""
    return channels_in(shared / "golden" / "events.jsonl") if name == "golden" else channels_of(shared / "data" / EXPORTS[name])


def stretches(channels: dict[str, list[bytes]], length: int) -> list[list[bytes]]:
    """All channels, the longer ones cut into stretches of time."""
    return [records[first : first + length] for _, records in sorted(channels.items()) for first in range(0, len(records), length)]


def settings_for(number: int) -> dict[str, Any]:
    """One of the five framings, in turn."""
    target = ("next_user", "next_user", "interacting_users", "reactors", "next_user")[number % 5]
    return {"target": target, "scope": "channel" if number % 5 == 4 else "conversation", "horizon": oracle_records.DAY}


def check_stretch(numbered: tuple[int, list[bytes]]) -> int:
    """One stretch of a real set, in a process of its own; returns its number of records."""
    number, records = numbered
    assert_agreement(records, oracle_records.Rules(**settings_for(number)))
    return len(records)


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("houston", 5), ("dd2030", 5), ("hubspot", 5), ("irc", 4), ("golden", 4)])
def test_they_agree_on_stretches_of_real_sets(shared: Path, name: str, count: int):
    """Some stretches of each real set, in turn under the five framings; the same ones in every run."""
    found = stretches(read_set(shared, name), STRETCH)
    chosen = random.Random(f"agreement {name}").sample(found, min(count, len(found)))

    assert sum(map(check_stretch, enumerate(chosen))) > 0


@pytest.mark.realdata
@pytest.mark.proof
@pytest.mark.parametrize("name", ["houston", "dd2030", "hubspot", "irc", "golden"])
def test_they_agree_on_whole_real_sets(shared: Path, name: str):
    """Every record of a real set, long channels in stretches: the oracle would need hours for one of them in a piece."""
    found = stretches(read_set(shared, name), STRETCH if name in ("hubspot", "irc") else 2 * STRETCH)

    with ProcessPoolExecutor(2) as pool:
        read = sum(pool.map(check_stretch, enumerate(found), chunksize=4))

    assert read == sum(map(len, found))
