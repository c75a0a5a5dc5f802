"""A simulated workspace that goes on living: its Slack's histories, what it tells, and its inbox."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from beepgpt.conversations.rules import DAY, HOUR, SECOND
from beepgpt.simulation.export import write_export
from beepgpt.simulation.life import LIFE, LivingWorkspace
from beepgpt.simulation.slack.alerts_api import AlertedWorkspace
from beepgpt.simulation.slack.inbox import inbox
from beepgpt.simulation.slack.whole import one_slack

PLAN = replace(LIFE, messages=900, days=20, channels=3, people=12, deletions=0.1, edits=0.2, broadcasts=0.0)
BORN = PLAN.start_us + 12 * DAY


@dataclass
class World:
    """A workspace whose time passes when a test says so, and what its Slack told."""

    at: int = BORN
    told: list[dict[str, Any]] = field(default_factory=list)
    messages: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    life: LivingWorkspace = field(init=False)

    def pass_by(self, span: int) -> None:
        """Time passes, five seconds at once."""
        until = self.at + span
        while self.at < until:
            self.at += 5 * SECOND
            self.life.catch_up()


@contextmanager
def world() -> Iterator[World]:
    with one_slack() as slack:
        found = World(messages=slack[0].workspace.messages)
        slack[0].workspace.tell = found.told.append
        found.life = LivingWorkspace(PLAN, BORN, slack, lambda: found.at)
        yield found


def exported(path: Path, until: int) -> dict[str, list[dict[str, Any]]]:
    """The messages of an export as of then, by the channel's id."""
    write_export(PLAN, path, until=until)
    with zipfile.ZipFile(path) as archive:
        ids = {each["name"]: each["id"] for each in json.loads(archive.read("channels.json"))}
        found: dict[str, list[dict[str, Any]]] = {each: [] for each in ids.values()}
        for name in sorted(each for each in archive.namelist() if "/" in each):
            found[ids[name.partition("/")[0]]] += json.loads(archive.read(name))
    return found


def said(message: dict[str, Any]) -> tuple[str, int]:
    """Its text, and how many kinds of reactions it has."""
    return message["text"], len(message.get("reactions", []))


def test_its_slack_has_the_past_that_the_export_has(tmp_path: Path):
    """Message by message, with edits, reactions and replies as they were then, and nothing of what comes later."""
    past = exported(tmp_path / "past.zip", BORN)

    with world() as found:
        assert {channel: list(each.values()) for channel, each in found.messages.items()} == past and found.told == []
    assert all(float(each["ts"]) * 1e6 < BORN for messages in past.values() for each in messages)
    for until in range(BORN, BORN + 2 * DAY, HOUR):
        messages = [each for found in exported(tmp_path / "then.zip", until).values() for each in found]
        named = [reply["ts"] for each in messages for reply in each.get("replies", [])]
        assert named and max(map(float, named)) * 1e6 < until


def test_it_lives_on_by_the_same_rules(tmp_path: Path):
    """Three days later its histories say what the plan has by then; each message's time is when Slack got it, and told it."""
    later = exported(tmp_path / "later.zip", BORN + 3 * DAY)
    with world() as found:
        found.pass_by(3 * DAY)
        for channel, messages in found.messages.items():
            assert list(map(said, messages.values())) == list(map(said, later[channel]))
        posted = [each for each in found.told if each.get("subtype") not in ("message_changed", "message_deleted") and "text" in each]
        kinds = {each.get("subtype", each["type"]) for each in found.told}

    assert {"message", "message_changed", "message_deleted", "reaction_added"} <= kinds
    assert len(posted) > 50 and [float(each["ts"]) for each in posted] == sorted(float(each["ts"]) for each in posted)
    assert all(each["ts"] == each["event_ts"] for each in posted)
    assert all((float(each["event_ts"]) * 1e6 - BORN) // HOUR in range(3 * 24 + 1) for each in found.told)


def test_what_happens_before_it_is_due_has_the_time_at_which_it_happens():
    """A benchmark may have things happen faster than planned: none is told with a time that is still to come."""
    with world() as found:
        for _ in range(300):
            found.at += SECOND // 1000
            found.life.happen()

    times = [round(float(each["event_ts"]) * 1e6) for each in found.told]
    assert len(times) == 300 and times == sorted(set(times)) and times[0] > BORN and times[-1] <= found.at


def test_the_inbox_has_names_and_the_newest_first():
    """And no digest, which has no buttons."""
    alerted = AlertedWorkspace()
    alerted.user("U1", real_name="Ana Abara")
    alerted.user("U2", real_name="Bo Dietz")
    button = {"positive_button": {"text": {}, "value": "good:alert-7"}}
    section = {"type": "section", "text": {"text": "<https://x|A conversation> in <#C1>\n> Is <@U2> there &amp; well?\nNobody knows."}}
    why = {"type": "context", "elements": [{"text": "22 % likely"}]}
    alert = [section, why, {"type": "context_actions", "elements": [button]}]
    alerted.dms["DU1"] = [{"ts": "5.000001", "blocks": alert}, {"ts": "9.000002", "blocks": [section, why]}]
    alerted.dms["DU2"] = [{"ts": "7.000003", "blocks": alert}]

    newest, oldest = inbox(alerted, {"C1": {"name": "general"}})

    assert newest[:3] == (7.000003, "Bo Dietz", "general")
    assert oldest == (5.000001, "Ana Abara", "general", "Is Bo Dietz there & well?\nNobody knows.", "22 % likely", "alert-7")
