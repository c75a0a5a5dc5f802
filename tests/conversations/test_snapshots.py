"""A shard's snapshot: refused where it can't be read, and whole where it can."""

from __future__ import annotations

from typing import Any

import pytest

from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.account import POINT_ENDS, Account
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.shard import STATE_VERSION, OtherState, Shard
from tests.support import NO_CANDIDATES, at, heartbeat, post, read_into, resumed

UNREADABLE = b"ccurrent.channel\nChannel\n."
"""A pickled class of a module that no longer exists, as a channel's state of an older version may hold."""


def shard_of(rules: Rules) -> Shard:
    """A new shard."""
    return Shard(rules, load_encoding(rules.encoding))


def snapshot_of(rules: Rules) -> dict[str, Any]:
    """The snapshot of a shard that has read a message."""
    shard = shard_of(rules)
    read_into(shard, [post("ana", minute=0).line])
    return shard.__getstate__()


def test_a_snapshot_of_the_last_version_is_refused():
    """Before anything of it is unpickled; the message names both versions and says what to do."""
    last = snapshot_of(NO_CANDIDATES) | {"version": STATE_VERSION - 1, "channels": {"C1": UNREADABLE}}
    shard = shard_of(NO_CANDIDATES)

    with pytest.raises(
        OtherState, match=rf"state version {STATE_VERSION - 1}, .* is state version {STATE_VERSION}, .* run again from the start"
    ):
        shard.resume(last)
    assert shard.followed == {}


def test_a_snapshot_of_other_rules_is_refused():
    """The message names both specs."""
    other = Rules(window=3)

    with pytest.raises(OtherState, match=f"spec {NO_CANDIDATES.spec}; .* spec {other.spec}. Use the settings it was written with"):
        shard_of(other).resume(snapshot_of(NO_CANDIDATES))


def test_a_heartbeat_holds_for_channels_that_are_first_seen_after_a_resume():
    """Of its own partition, and of no other: who was not late before a kill is not late after it, and the other way round."""
    first = shard_of(NO_CANDIDATES)
    read_into(first, [heartbeat(minute=5).line], partition="0")
    second = resumed(first.__getstate__(), NO_CANDIDATES)
    read_into(second, [post("ana", minute=1, channel="C1").line], partition="0")
    read_into(second, [post("ana", minute=1, channel="C2").line], partition="1")

    assert (second.account["read"], second.account["late"]) == (2, 1)
    assert second.newest() == {"0": at(5), "1": at(1)}


def test_the_rows_of_the_account_are_these():
    """Their names are a public contract: reports, dashboards and the glossary have them."""
    assert POINT_ENDS == ("answered", "silent", "superseded", "elsewhere", "censored", "moved", "withheld", "empty", "merged")
    assert list(Account().as_json()["events"]) == ["read", "applied", "duplicate", "ignored", "rejected", "late", "held"]
