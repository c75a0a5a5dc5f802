"""An export's messages as the events that Slack sent at the time, as far as it keeps them (docs/semantics.md, "What an export loses").

An export is a picture taken at the end. What nobody knew at the time is left out: thread fields of roots, reply counts, the last text
of a message that was edited later. `conversations.history` and `.replies` of Slack's Web API return messages of the same form.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from heapq import heappop, heappush
from typing import Any, Literal, Protocol

from beepgpt.conversations.events import BY_PERSON, EDIT, POST, REACT, asked_about, kept_json, micros, names_another_user, ts_text
from beepgpt.conversations.speech import FILE_COMMENT, author_of, elsewhere_in

NEVER = -1
"""The time of a message whose own time can't be read."""

WEST = timedelta(hours=14)
"""Day files are cut by local time, at most so far from UTC: a day file and all later ones hold nothing from before its start less this."""

AS_KNOWN = ("type", "subtype", "user", "bot_id", "text", "ts")
"""What a stored message and its first event have in common. All else is left out: much of it is from the future, none of it needed."""


class ExportedDay(Protocol):
    """A day file of one channel."""

    @property
    def date(self) -> date: ...

    @property
    def place(self) -> str: ...

    @property
    def messages(self) -> Sequence[Any]: ...


def records_of(
    channel: str,
    days: Iterable[ExportedDay],
    *,
    edits: Literal["known", "final"] = "known",
    with_authors: bool = False,
    people: Container[str] = (),
) -> Iterator[bytes]:
    """A channel's days, given in order of their dates, as records in order of their times; the rest: as for `events_of`.

    A message whose time can't be read comes at once, with the name of its file: the parser will reject it with a reason.
    """
    waiting: list[tuple[int, int, int, bytes]] = []
    count = 0
    for day in days:
        begins = _micros(datetime(day.date.year, day.date.month, day.date.day, tzinfo=UTC) - WEST)
        while waiting and waiting[0][0] < begins:
            yield heappop(waiting)[3]
        for message in day.messages:
            for t, kind, event in events_of(channel, message, edits=edits, with_authors=with_authors, people=people):
                if t == NEVER:
                    yield kept_json(event | {"export_file": day.place})
                    continue
                count += 1
                heappush(waiting, (t, kind, count, kept_json(event)))
    while waiting:
        yield heappop(waiting)[3]


def events_of(
    channel: str,
    stored: Any,
    *,
    edits: Literal["known", "final"] = "known",
    with_authors: bool = False,
    people: Container[str] = (),
) -> Iterator[tuple[int, int, Any]]:
    """The events of a stored message, as (time, kind, inner event): its post, its last edit, its reactions (untimed).

    `people`: who is known to be no bot; what they post through an app is marked as theirs.
    `with_authors`: edits and reactions say whose message they are about, as Slack's own do; a reader that leaves people out needs it.

    >>> stored = {"type": "message", "user": "U1", "ts": "1690360240.229079", "text": "now", "edited": {"ts": "1690360300.000000"}}
    >>> [(ts_text(t), event.get("text"), event.get("message")) for t, _, event in events_of("C1", stored)]
    [('1690360240.229079', None, None), ('1690360300.999999', None, {'ts': '1690360240.229079', 'text': 'now'})]
    """
    if not isinstance(stored, dict):
        yield NEVER, POST, {"type": "message", "channel": channel, "element": stored}
        return
    event: dict[str, Any] = {name: stored[name] for name in AS_KNOWN if name in stored} | {"channel": channel}
    event.setdefault("type", "message")
    try:
        t = micros(stored["ts"])
    except (KeyError, TypeError, ValueError):
        yield NEVER, POST, event
        return
    thread_ts = stored.get("thread_ts")
    if thread_ts is not None and thread_ts != stored["ts"]:
        event["thread_ts"] = thread_ts
    if stored.get("bot_id") and (names_another_user(stored) or asked_about(stored) in people):
        event[BY_PERSON] = True
    edited, elsewhere, author = stored.get("edited"), elsewhere_in(stored), author_of(stored)
    is_comment = stored.get("subtype") == FILE_COMMENT
    if not edited or edits == "final":
        yield t, POST, event | elsewhere
    else:
        yield t, POST, event | ({"comment": {"user": author}} if is_comment and author else {}) | {"text": None}
        edited_at = _end_of_second(edited)
        if edited_at is not None:
            kind = {"subtype": stored["subtype"]} if is_comment or "file" in elsewhere else {}
            changed = kind | {"ts": stored["ts"], "text": stored.get("text", "")} | elsewhere | ({"user": author} if with_authors else {})
            outer = {"type": "message", "subtype": "message_changed", "channel": channel, "message": changed}
            edited_at = max(edited_at, t)
            yield edited_at, EDIT, outer | {"event_ts": ts_text(edited_at)}
    item = {"type": "message", "channel": channel, "ts": stored["ts"]}
    of = {"item_user": author} if with_authors else {}
    for name, user in _reactions(stored.get("reactions")):
        yield t, REACT, {"type": "reaction_added", "user": user, "reaction": name, "item": item} | of
    for name, unnamed in _unnamed(stored.get("reactions")):
        yield t, REACT, {"type": "reaction_added", "reaction": name, "item": item, "unnamed": unnamed}


def _end_of_second(edited: Any) -> int | None:
    """The end of the second of an edit, when its text was surely known (`edited.ts` has whole seconds); None if it can't be read."""
    try:
        return micros(edited["ts"]) // 1_000_000 * 1_000_000 + 999_999
    except (KeyError, TypeError, ValueError):
        return None


def _reactions(reactions: Any) -> Iterator[tuple[Any, Any]]:
    """(name, person) for each reaction that names its people."""
    for reaction in reactions if isinstance(reactions, list) else ():
        if isinstance(reaction, dict) and isinstance(reaction.get("users"), list):
            for user in reaction["users"]:
                yield reaction.get("name"), user


def _unnamed(reactions: Any) -> Iterator[tuple[Any, int]]:
    """(name, how many) for each reaction of which Slack named only some people: `users` is cut short, `count` is not."""
    for reaction in reactions if isinstance(reactions, list) else ():
        users = reaction.get("users", []) if isinstance(reaction, dict) else None
        if isinstance(users, list) and type(count := reaction.get("count")) is int and count > len(users):
            yield reaction.get("name"), count - len(users)


def _micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
