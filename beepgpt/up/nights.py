"""When the next night begins."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo


def next_night(now: datetime, at: time, zone: str) -> datetime:
    """The next time that it is `at` o'clock where most people are, also where the clocks change that night.

    >>> from datetime import UTC
    >>> next_night(datetime(2026, 3, 28, 12, tzinfo=UTC), time(3), "Europe/Berlin").astimezone(UTC).isoformat()
    '2026-03-29T01:00:00+00:00'
    >>> next_night(datetime(2026, 3, 29, 12, tzinfo=UTC), time(3), "Europe/Berlin").astimezone(UTC).isoformat()
    '2026-03-30T01:00:00+00:00'
    >>> next_night(datetime(2026, 3, 28, 1, 59, tzinfo=UTC), time(3), "Europe/Berlin").astimezone(UTC).isoformat()
    '2026-03-28T02:00:00+00:00'
    """
    here = now.astimezone(ZoneInfo(zone))
    tonight = datetime.combine(here.date(), at, here.tzinfo)
    return tonight if tonight.timestamp() > now.timestamp() else datetime.combine(here.date() + timedelta(days=1), at, here.tzinfo)
