"""A shard's snapshot: refused where it can't be read, and whole where it can."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.account import POINT_ENDS, Account
from beepgpt.conversations.channel import FOREVER
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
        OtherState, match=rf"state version {STATE_VERSION - 1}, .* is state version {STATE_VERSION}\. .* run again from the start"
    ):
        shard.resume(last)
    assert shard.followed == {}


def test_a_snapshot_of_other_rules_is_refused():
    """The message names the settings that differ, if the snapshot has them."""
    other = Rules(window=3)

    with pytest.raises(OtherState, match=r"window is 5 there, 3 here; candidates is no there, yes here.* Use the settings it was written"):
        shard_of(other).resume(snapshot_of(NO_CANDIDATES))
    before = {name: value for name, value in snapshot_of(NO_CANDIDATES).items() if name != "settings"}
    with pytest.raises(OtherState, match=f"spec {NO_CANDIDATES.spec} there, {other.spec} here; which settings differ is not recorded"):
        shard_of(other).resume(before)


def test_a_heartbeat_holds_for_channels_that_are_first_seen_after_a_resume():
    """Of its own partition, and of no other: who was not late before a kill is not late after it, and the other way round."""
    first = shard_of(NO_CANDIDATES)
    read_into(first, [heartbeat(minute=5).line], partition="0")
    second = resumed(first.__getstate__(), NO_CANDIDATES)
    read_into(second, [post("ana", minute=1, channel="C1").line], partition="0")
    read_into(second, [post("ana", minute=1, channel="C2").line], partition="1")

    assert (second.account["read"], second.account["late"]) == (2, 1)
    assert second.newest() == {"0": at(5), "1": at(1)}


def test_what_a_record_that_is_no_event_settles_is_in_the_next_snapshot():
    """It moves its channel's clock, as that somebody joined does: a run that goes on from there does not settle it again."""
    first = shard_of(NO_CANDIDATES)
    read_into(first, [post("ana", minute=0).line, post("bo", minute=1).line])
    first.__getstate__()
    first.drain()
    joined = orjson.loads(post("cy", minute=600).line) | {"subtype": "channel_join"}
    read_into(first, [orjson.dumps(joined)])
    made = first.drain().examples
    second = resumed(first.__getstate__(), NO_CANDIDATES)

    assert made and second.newest() == {"all": at(600)}
    assert second.account_now().counts == first.account_now().counts


def test_points_that_only_wait_for_their_end_take_little_room():
    """Where no example is made, nobody needs a point's candidates once it was told: a scorer keeps a day's points."""
    rules, people = Rules(), [f"U{number:010}" for number in range(40)]
    said = [post(user, minute=number, channel="C1").line for number, user in enumerate(people)]
    asked = [post(user, minute=60 * (number + 1), channel="C1").line for number, user in enumerate(people)]
    sizes = []
    for since in (0, FOREVER):
        shard = Shard(rules, load_encoding(rules.encoding), since=since, points_since=0)
        for line in said + asked:
            read_into(shard, [line])
            shard.drain()
        sizes.append(len(shard.__getstate__()["channels"]["C1"]))

    assert sizes[1] < sizes[0] / 2


def test_no_example_is_written_without_its_candidates():
    """A run is resumed to write examples from an earlier time on than it began with: of that time it made no candidates."""
    first = Shard(Rules(), load_encoding(Rules().encoding), since=FOREVER)
    read_into(first, [post("ana", minute=0).line, heartbeat(minute=0.5).line])
    second = resumed(first.__getstate__(), Rules())
    read_into(second, [post("bo", minute=1).line, post("cy", minute=2).line, heartbeat(minute=3).line])

    (example,) = second.drain().examples
    assert b'"candidates"' in example and (second.account["answered"], second.account["before_from"]) == (2, 1)


def test_the_rows_of_the_account_are_these():
    """Their names are a public contract: reports, dashboards and the glossary have them."""
    assert POINT_ENDS == ("answered", "silent", "superseded", "elsewhere", "censored", "moved", "withheld", "empty", "merged")
    assert list(Account().as_json()["events"]) == ["read", "applied", "duplicate", "ignored", "rejected", "late", "held"]
