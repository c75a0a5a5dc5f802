"""Times and kinds of channels, as flags and keywords give them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from operator import index

from beepgpt.config.sections import microseconds_of_moment
from beepgpt.connectors.slack.export import KINDS, ChannelKind
from beepgpt.errors import BadCommand


def kinds_in(name: str, include: str | Sequence[str]) -> tuple[ChannelKind, ...]:
    """Kinds of channels, in their order. `name`: of the flag or keyword, for messages. Raises BadCommand.

    >>> kinds_in("include=", "groups, channels"), kinds_in("include=", ["dms"])
    (('channels', 'groups'), ('dms',))
    """
    chosen = {each.strip() for each in (include.split(",") if isinstance(include, str) else include)}
    if unknown := chosen - set(KINDS):
        raise BadCommand(f"{name} {', '.join(sorted(unknown))}: must be of {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind in chosen)


def moment_of(name: str, value: str | int | datetime | None) -> int | None:
    """A time in microseconds since 1970: Slack's seconds or ISO 8601 as text (UTC if it names no zone), a `datetime`, or microseconds.

    `name`: of the flag or keyword, for messages. Raises BadCommand.
    """
    if value is None or not isinstance(value, str):
        return None if value is None else time_of(value)
    try:
        return microseconds_of_moment(value or None)  # an empty text is none here, and no time
    except ValueError as error:
        raise BadCommand(f"{name} {value}: {error}") from None


def time_of(at: int | datetime) -> int:
    """A time in microseconds since 1970. Raises BadCommand for a `datetime` without a time zone, and for a number that isn't whole.

    >>> time_of(datetime(2024, 1, 1, 10, tzinfo=UTC))
    1704103200000000
    """
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise BadCommand(f"{at!r} has no time zone: give it one, as in datetime(2024, 1, 31, tzinfo=UTC)")
        return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    try:
        return index(at)
    except TypeError:
        raise BadCommand(f"{at!r} is no time: give whole microseconds since 1970, or a datetime with a time zone") from None
