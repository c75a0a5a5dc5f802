"""What an export knows too late comes at its time, or not at all."""

from dataclasses import dataclass, field
from datetime import date
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beepgpt.conversations.events import EDIT, POST, REACT, Event, Reject, micros, parse
from beepgpt.conversations.export import records_of
from beepgpt.conversations.rules import Rules
from tests.support import run_of


@dataclass
class Day:
    """A day file, as the connector gives it."""

    date: date = date(2023, 7, 26)
    messages: list[Any] = field(default_factory=list)
    place: str = "general/2023-07-26.json"


def stored(ts: object = "1690360240.229079", **more: object) -> dict[str, object]:
    return {"type": "message", "user": "U1", "text": "hello", "ts": ts, **more}


def events_in(*messages: object, edits: str = "known") -> list[Event]:
    """The events of one day file."""
    records = records_of("C1", [Day(messages=list(messages))], edits=edits)  # type: ignore[arg-type]
    events = [parse(record, now=1_800_000_000_000_000) for record in records]
    assert all(isinstance(event, Event) for event in events)
    return [event for event in events if isinstance(event, Event)]


def test_an_edited_text_is_known_at_the_end_of_the_second_of_its_edit():
    """`edited.ts` has whole seconds; until then the text is unknown."""
    post, edit = events_in(stored(edited={"user": "U1", "ts": "1690360300.000000"}))

    assert (post.kind, post.text, post.t) == (POST, None, micros("1690360240.229079"))
    assert (edit.kind, edit.text, edit.t) == (EDIT, "hello", micros("1690360300.999999"))


def test_an_edit_is_never_before_its_post():
    """A clock that was a little off."""
    post, edit = events_in(stored(edited={"ts": "1690360200.000000"}))

    assert post.t == edit.t == micros("1690360240.229079")


def test_an_edit_of_unknown_time_is_never_known():
    """The text stays unknown for ever."""
    for edited in ({"user": "U1"}, {"ts": 1690360300}, {"ts": "soon"}, "yes"):
        assert [(event.kind, event.text) for event in events_in(stored(edited=edited))] == [(POST, None)]


def test_the_last_version_can_be_trusted():
    """As the original did, with `edits = "final"`."""
    assert [(event.kind, event.text) for event in events_in(stored(edited={"ts": "1690360300.000000"}), edits="final")] == [(POST, "hello")]


def test_a_root_tells_nothing_of_its_replies():
    """The event of a root that will have replies is that of one that won't."""
    popular = stored(thread_ts="1690360240.229079", reply_count=7, reply_users=["U2"], latest_reply="1690360999.000000", subscribed=True)

    assert events_in(popular) == events_in(stored())


def test_a_reply_keeps_its_root():
    """And a broadcast leaves the copy of its root behind."""
    reply = stored("1690360300.000000", thread_ts="1690360240.229079", subtype="thread_broadcast", root={"text": "hello", "reply_count": 1})

    assert [(event.thread_ts, event.text) for event in events_in(reply)] == [(micros("1690360240.229079"), "hello")]
    assert b"reply_count" not in next(iter(records_of("C1", [Day(messages=[reply])])))


def test_reactions_have_no_time():
    """They follow their message, each person's by itself."""
    events = events_in(stored(reactions=[{"name": "+1", "users": ["U2", "U3"], "count": 2}]))

    assert [(event.kind, event.user, event.untimed) for event in events[1:]] == [(REACT, "U2", True), (REACT, "U3", True)]


def test_what_has_no_time_is_passed_on_with_its_file():
    """The parser rejects it; whoever reads the dead letters knows where it stood."""
    records = list(records_of("C1", [Day(messages=[7, None, stored(ts=1690360240), {"type": "message"}, stored()])]))

    broken = [record for record in records if isinstance(parse(record, now=1_800_000_000_000_000), Reject)]
    assert len(broken) == 4
    assert all(orjson.loads(record)["export_file"] == "general/2023-07-26.json" for record in broken)


ZONES = st.sampled_from([14, 14, 13, -12, 0]) | st.integers(-12, 14)
"""Hours: day files are cut by local midnight, at most 14 hours before that of UTC, and the eastmost zones are where it shows."""
MOMENTS = st.tuples(st.integers(1, 4), st.sampled_from([0, 0, 1, -1, 60, 3_600, 2 * 3_600 - 1, -3_600]) | st.integers(0, 86_400))
"""A day, and seconds after its local midnight: most things happen around it, where a message is in one file and its edit in the next."""


@given(st.lists(st.tuples(MOMENTS, st.none() | MOMENTS), max_size=30), ZONES)
@example([((1, 0), (2, 1)), ((2, 0), None)], 14)
@example([((1, 0), (2, 7_199)), ((2, 0), None)], 14)
def test_events_come_in_the_order_of_their_time(said: list[tuple[tuple[int, int], tuple[int, int] | None]], zone: int):
    """Whatever the time zone by which the days were cut, and however late the edits."""
    files = day_files(said, zone)

    times = [event.t for record in records_of("C1", files) if isinstance(event := parse(record, now=1_800_000_000_000_000), Event)]

    assert times == sorted(times)
    assert len(times) == len(said) + sum(edited is not None for _, edited in said)


def day_files(said: list[tuple[tuple[int, int], tuple[int, int] | None]], zone: int) -> list[Day]:
    """Messages, and their edits, which are never before them, in files that are cut by the days of a zone."""
    midnight = 1_690_329_600 - zone * 3_600
    days: dict[int, list[dict[str, object]]] = {}
    for number, ((day, second), edit) in enumerate(said):
        posted = midnight + day * 86_400 + second
        edited = {} if edit is None else {"edited": {"ts": f"{max(posted, midnight + edit[0] * 86_400 + edit[1])}.000000"}}
        days.setdefault((posted + zone * 3_600) // 86_400, []).append(stored(f"{posted}.{number:06d}", **edited))
    return [Day(date.fromordinal(719_163 + day), messages) for day, messages in sorted(days.items())]


def reacted(message: dict[str, object]) -> list[bytes]:
    """The records of one message."""
    return list(records_of("C1", [Day(messages=[message])]))


def test_reactors_whom_slack_left_out_are_counted():
    """`users` is cut short and `count` is not: one more record says how many are unnamed, and a limited horizon counts it."""
    cut = stored(reactions=[{"name": "+1", "users": ["U2"], "count": 3}, {"name": "eyes", "users": ["U3"], "count": 1}])
    records = reacted(cut)

    assert orjson.loads(records[-1])["unnamed"] == 2
    assert run_of(records, Rules(candidates=False)).account.by_reason("ignored") == {"untimed": 2, "unnamed_reactors": 1}


@pytest.mark.parametrize(("count", "examples", "censored"), [(1, 1, 0), (3, 0, 1)])
def test_reactors_that_are_not_all_known_make_no_example(count: int, examples: int, censored: int):
    """With an unlimited horizon untimed reactions are the answer: who is in it must be known."""
    cut = stored(reactions=[{"name": "+1", "users": ["U2"], "count": count}])
    run = run_of(reacted(cut), Rules(candidates=False, target="reactors", horizon=None))

    assert (len(run.examples), run.account["censored"]) == (examples, censored)


def test_unnamed_people_take_part_in_nothing():
    """Only people with a name are in the answer of interacting users."""
    cut = stored(reactions=[{"name": "+1", "users": ["U2"], "count": 3}])
    run = run_of(reacted(cut), Rules(candidates=False, target="interacting_users", horizon=None))

    assert [orjson.loads(line)["answer"] for line in run.examples] == [["U2"]]
