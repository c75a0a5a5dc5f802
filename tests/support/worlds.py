"""What the properties of the laws share: random worlds, their ends, and what was known at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from beepgpt.conversations.events import Event, parse
from beepgpt.conversations.rules import Rules
from tests.support import NOW, Place, features_of, ours, run_of
from tests.support.histories import START, Record, cases, latest_of, messages_of, post, react, thread_of
from tests.support.oracle_records import DAY, SECOND

History = list[Record]

patient = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much])


@st.composite
def worlds(draw: st.DrawFn, /, **options: Any) -> tuple[Rules, History]:
    """Settings with small limits, and a history that reaches them."""
    rules, history = draw(cases(**options))
    return ours(rules), history


NAMED_AND_A_BOT = (
    Rules(bots="context", max_candidates=5, kept_people=5),
    [
        post("C1", START, "ana", "<@UBOT>, is it red?"),
        post("C1", START + SECOND, "UBOT", "it is", START, bot_id="B1"),
        post("C1", START + 2 * SECOND, "cy", "not here"),
        post("C1", START + 3 * SECOND, "ana", "<@UBOT>, thank you"),
        post("C1", START + 4 * SECOND, "di", "what for?"),
    ],
)
"""Somebody is named, and a candidate of an open point, who then turns out to be a bot."""


def end_of(history: Iterable[Record], rules: Rules) -> int:
    """A time at which everything has settled."""
    return latest_of(history) + (rules.horizon or 0) + DAY


def up_to(history: Iterable[Record], t: int) -> History:
    """What had happened by `t`; what can't be read happened at no time."""
    return [record for record in history if record.t is None or record.t <= t]


def event_of(record: Record) -> Event | None:
    """The event that a record is, if it is one."""
    parsed = parse(record.line, NOW, bots="context")
    return parsed if isinstance(parsed, Event) else None


def is_heartbeat(record: Record) -> bool:
    """Whether a record speaks of time alone."""
    return (record.data or {}).get("type") == "heartbeat"


# What was known at a time, seen without what came later: history is cut there, and a stranger answers whatever is open.


def points_known_at(t: int, history: Iterable[Record], rules: Rules) -> dict[Place, dict[str, Any]]:
    """All that was known at the points that were open at `t`, from nothing but what had happened by then."""
    past = up_to(history, t)
    end = t + SECOND + 10 * (rules.horizon or 0)
    answered = features_of(run_of([*past, *answers_by_a_stranger(past, t)], rules, until=end))
    silent = features_of(run_of(past, rules, until=end))  # an old session can't be answered any more: a root would start another
    return silent | answered


def answers_by_a_stranger(past: History, t: int) -> Iterator[Record]:
    """Right after `t`, somebody who never spoke before reacts to everything, and posts in every thread and session."""
    for channel in dict.fromkeys(message.channel for message in messages_of(past)):
        if channel is None:
            continue
        said = messages_of(past, channel)
        number = 1
        for message in said:
            yield react(channel, t + number, message.t or 0, "stranger")
        for thread in dict.fromkeys(map(thread_of, said)):
            yield post(channel, t + number, "stranger", "may I?", thread)
            number += 1
        yield post(channel, t + number, "stranger", "hello all")


def times_in(history: History, rules: Rules) -> st.SearchStrategy[int]:
    """Moments at which something happens or ends, and a microsecond before and after them."""
    events = [record.t for record in history if record.t is not None] or [NOW]
    ends = [t + (rules.horizon or 0) for t in events]
    return st.builds(lambda t, beside: t + beside, st.sampled_from(sorted({*events, *ends})), st.sampled_from([0, 0, -1, 1]))


def time_of(record: Record) -> int:
    """When a record happened; what can't be read, before all else."""
    return START if record.t is None else record.t
