"""Law 4, for exports: equal to the live stream where nothing was changed, and every other difference has a named rule."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from beepgpt.connectors.slack.export import open_export, read_days
from beepgpt.conversations.events import micros, ts_text
from beepgpt.conversations.export import records_of
from beepgpt.conversations.rules import Rules
from beepgpt.simulation.workspace import Plan, live_records, unchanged, undisturbed, write_export
from tests.support import run_of
from tests.support.oracle_records import DAY, SECOND
from tests.support.oracle_speech import said_in


class TestLaw4LiveAndExport:
    """An export is a poorer stream than the live one: equal where nothing was changed, and every other difference has a named rule."""

    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("target", ["next_user", "interacting_users"])
    def test_an_unchanged_workspace_is_the_same_live_and_exported(self, tmp_path: Path, seed: int, target: Literal["next_user"]):
        """Without edits, deletions and reactions: byte for byte, private channels included."""
        elsewhere = 0.3 if seed % 2 else 0.0
        plan = unchanged(undisturbed(Plan(seed=seed, messages=500, days=5, channels=5, people=15, private=0.4, elsewhere=elsewhere)))
        rules = Rules(target=target)
        end = plan.end_us + 2 * DAY

        live, exported = run_of(live_records(plan), rules, until=end), run_of(exported_records(plan, tmp_path), rules, until=end)

        assert sorted(live.examples) == sorted(exported.examples)
        assert live.account.as_json()["points"] == exported.account.as_json()["points"]
        assert len(live.examples) > 100

    @pytest.mark.parametrize("target", ["next_user", "interacting_users"])
    @pytest.mark.parametrize("seed", range(4))
    def test_every_other_difference_has_a_rule(self, tmp_path: Path, seed: int, target: Literal["next_user"]):
        """With all that changes a workspace, the export is the live stream after four named rules, each counted: byte for byte."""
        plan = undisturbed(Plan(seed=seed, messages=700, days=7, channels=5, people=15, private=0.4, edits=0.1, deletions=0.05))
        plan = replace(plan, elsewhere=0.3 if seed % 2 else 0.0)
        rules = Rules(target=target)
        end = plan.end_us + 2 * DAY
        poorer, counts = made_poorer(live_records(plan))

        live, exported = run_of(poorer, rules, until=end), run_of(exported_records(plan, tmp_path), rules, until=end)

        assert sorted(live.examples) == sorted(exported.examples)
        assert live.account.as_json()["points"] == exported.account.as_json()["points"]
        assert set(counts) == {
            "a reaction has no time",
            "a deleted message is gone",
            "only the last edit is kept",
            "an edited text is unknown",
        }
        standing = standing_reactions(live_records(plan))
        assert 0 < exported.account.by_reason("ignored")["untimed"] == standing < counts["a reaction has no time"]
        assert exported.account["withheld"] > 0 and exported.retractions == []


def exported_records(plan: Plan, folder: Path) -> Iterator[bytes]:
    """The export of a simulated workspace, as the program reads it."""
    write_export(plan, folder / "export.zip")
    export = open_export(folder / "export.zip", include=("channels", "groups"))
    for channel in export.channels:
        yield from records_of(channel.id, read_days(export, channel), people=export.people)


def made_poorer(live: Iterable[bytes]) -> tuple[list[bytes], Counter[str]]:
    """What an export can know of a live stream: the stream after four rules, and how often each took something away.

    This is docs/semantics.md, "What an export loses", read once more, from the live side; it shares no code with
    `beepgpt.conversations.export`.
    """
    whole = [json.loads(line) for line in live]
    bodies = [each["event"] | ({"by_person": True} if each.get("by_person") else {}) for each in whole]
    gone = {(each["channel"], each["deleted_ts"]) for each in bodies if each.get("subtype") == "message_deleted"}
    gone |= {(each["channel"], each["message"]["ts"]) for each in changes(bodies) if each["message"].get("subtype") == "tombstone"}
    edits = {(each["channel"], each["message"]["ts"]): each for each in changes(bodies) if said_in(each["message"]) != text_before(each)}
    counts: Counter[str] = Counter()
    timed: list[tuple[int, dict[str, Any]]] = []
    for body in bodies:
        what = body.get("message", body.get("item", body))
        name = (body.get("channel") or what.get("channel"), body.get("deleted_ts") or what.get("ts"))
        if body["type"].startswith("reaction_"):
            counts["a reaction has no time"] += 1
        elif name in gone:
            counts["a deleted message is gone"] += 1
        elif body.get("subtype") != "message_changed":
            timed.append((micros(body["ts"]), body | {"text": None} if name in edits else body))
            counts["an edited text is unknown"] += name in edits
        elif name in edits and edits[name] is body:
            known = max(micros(what["edited"]["ts"]) // SECOND * SECOND + SECOND - 1, micros(what["ts"]))
            timed.append((known, body | {"event_ts": ts_text(known), "previous_message": None}))
        elif said_in(body["message"]) != text_before(body):
            counts["only the last edit is kept"] += 1
    return [json.dumps(body).encode() for _, body in sorted(timed, key=lambda each: each[0])], counts


def standing_reactions(live: Iterable[bytes]) -> int:
    """How many reactions the messages of a workspace have at its end: those that were removed again are gone, and those to deleted ones."""
    standing: set[tuple[str, ...]] = set()
    for body in (json.loads(line)["event"] for line in live):
        if body["type"].startswith("reaction_"):
            named = (body["item"]["channel"], body["item"]["ts"], body["user"], body["reaction"])
            (standing.add if body["type"] == "reaction_added" else standing.discard)(named)
        elif body.get("subtype") == "message_deleted" or body.get("message", {}).get("subtype") == "tombstone":
            gone = (body["channel"], body.get("deleted_ts") or body["message"]["ts"])
            standing = {each for each in standing if each[:2] != gone}
    return len(standing)


def changes(bodies: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The `message_changed` among them."""
    return (each for each in bodies if each.get("subtype") == "message_changed")


def text_before(changed: dict[str, Any]) -> object:
    """What a message said before it was changed."""
    return said_in(changed.get("previous_message") or {})
