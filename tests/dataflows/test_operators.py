"""The operator for flows of others: the same points and examples as the product's own flow, with nothing lost on the way."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, run_main

import beepgpt
from beepgpt.conversations.account import sum_of
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.conversations.points import MessageDeleted, PointSettled
from beepgpt.conversations.rules import Rules
from beepgpt.dataflows import Followed, follow_channels
from beepgpt.dataflows.records import DeadLetter
from beepgpt.runtime.forgotten import write_forgotten
from tests.support.scoring import workspace

RULES = Rules(candidates=False)
KINDS = ("examples", "retractions", "points", "settled", "deleted", "late", "rejected", "accounts")


def followed(source: list[Any], rules: Rules | None = RULES, *, with_points: bool = True, **run: Any) -> dict[str, list[Any]]:
    """What each stream of a flow gave."""
    made: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    flow = Dataflow("mine")
    streams: Followed = follow_channels(
        "follow", op.input("read", flow, TestingSource(source, batch_size=10)), rules, with_points=with_points
    )
    for kind in KINDS:
        op.output(f"write_{kind}", getattr(streams, kind), TestingSink(made[kind]))
    run_main(flow, **run)
    return made


def records() -> list[bytes]:
    """Chat with a deletion, a late record and one that can't be used."""
    lines = list(workspace())
    posted = next(event for event in map(beepgpt.ChatEvent.from_record, lines) if event.kind == "post")
    assert posted.channel is not None and posted.at is not None
    deleted = beepgpt.ChatEvent.delete(posted.channel, posted.at, posted.at + 600_000_000).record
    lines = sorted([*lines, deleted], key=lambda line: beepgpt.ChatEvent.from_record(line).at or 0)
    return [*lines, beepgpt.ChatEvent.post(posted.channel, "zoe", posted.at + 1, "Sorry, late.").record, b"{"]


def test_each_stream_has_what_a_follower_emits():
    """Examples, points and how they ended; what was late or could not be used; and an account that adds up."""
    made = followed(records())

    follower = beepgpt.Follower(RULES, points=True)
    emitted = [*map(follower.feed, records()), follower.end()]
    assert sorted(made["examples"]) == sorted(each.line for one in emitted for each in one.examples)
    assert sorted(made["points"]) == sorted(each.line for one in emitted for each in one.points)
    assert sorted(made["settled"]) == sorted(each for one in emitted for each in one.settled)
    assert made["deleted"] == [each for one in emitted for each in one.deleted]
    assert [beepgpt.Example.from_line(line).answer for line in made["examples"]] and made["retractions"]
    assert [type(each) for each in (made["settled"][0], made["deleted"][0])] == [PointSettled, MessageDeleted]
    assert isinstance(made["late"][0], DeadLetter) and "not_json" in {each.reason for each in made["rejected"]}
    for kind in ("late", "rejected"):
        letters = [(each.reason, each.record) for one in emitted for each in getattr(one, kind)]
        assert sorted((each.reason, each.record) for each in made[kind]) == sorted(letters)
    account = sum_of(made["accounts"])
    assert account.check() == [] and account.as_json() == follower.account


def test_points_are_made_when_asked_for():
    """They cost time, and not all flows score."""
    made = followed(records(), with_points=False)

    assert made["examples"] and not made["points"] + made["settled"] + made["deleted"]


def test_without_rules_those_of_the_environment_hold(monkeypatch: pytest.MonkeyPatch):
    """As for `beepgpt examples`."""
    monkeypatch.setenv("BEEPGPT_CONVERSATIONS__CANDIDATES", "false")

    assert sorted(followed(records(), None)["examples"]) == sorted(followed(records())["examples"])


def test_who_is_forgotten_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The flow consults the list, as every reader of messages does."""
    whole = followed(records())
    someone = beepgpt.Example.from_line(whole["examples"][0]).window[0].user
    write_forgotten(tmp_path / "forgotten.json", Forgotten(b"salt").with_names(people=[someone]))
    monkeypatch.setenv("BEEPGPT_RUN__FORGOTTEN", str(tmp_path / "forgotten.json"))

    made = followed(records())

    assert made["examples"] and not any(someone.encode() in line for kind in ("examples", "points") for line in made[kind])


def test_a_killed_flow_goes_on_from_its_recovery_store(tmp_path: Path):
    """What was open is open again: both runs together make the examples of one."""
    init_db_dir(tmp_path, 1)
    store: dict[str, Any] = {"epoch_interval": timedelta(0), "recovery_config": RecoveryConfig(tmp_path, timedelta(0))}
    lines = records()
    broken: list[Any] = [*lines[: len(lines) // 2], TestingSource.ABORT(), *lines[len(lines) // 2 :]]

    first = followed(broken, **store)
    second = followed(broken, **store)

    assert first["examples"] and second["examples"] and not first["accounts"]
    assert {*first["examples"], *second["examples"]} == {*followed(lines)["examples"]}


def test_what_is_no_record_is_refused():
    """Text, say: it says what to give."""
    with pytest.raises(RuntimeError) as raised:
        followed(["text"])

    cause = raised.value.__cause__
    assert cause is not None and isinstance(cause.__cause__, beepgpt.BeepGPTError)
    assert str(cause.__cause__) == "'text' is no record: give bytes, such as ChatEvent.record"
