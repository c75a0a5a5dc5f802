"""A shard's snapshot: refused where it can't be read, and whole where it can."""

from __future__ import annotations

from typing import Any

import pytest

from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.account import POINT_ENDS, Account
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.shard import STATE_VERSION, OtherState, Shard
from tests.support import NO_CANDIDATES, post, read_into

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


def test_the_rows_of_the_account_are_these():
    """Their names are a public contract: reports, dashboards and the glossary have them."""
    assert POINT_ENDS == ("answered", "silent", "superseded", "elsewhere", "censored", "withheld", "empty", "merged")
    assert list(Account().as_json()["events"]) == ["read", "applied", "duplicate", "ignored", "rejected", "late", "held"]
