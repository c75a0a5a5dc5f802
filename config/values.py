"""Parses values of settings: durations, moments, times of day, lists."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import BeforeValidator

from beepgpt.conversations.rules import DAY, HOUR, MINUTE, SECOND

UNITS = {"us": 1, "ms": 1000, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
WORDS = {"second": "s", "sec": "s", "minute": "m", "min": "m", "hour": "h", "day": "d", "week": "w"}
A_DURATION = "must be a duration like 500ms, 10m, 1h 30m or 30 days"
FORMATS = ("chat", "completion", "candidates", "examples")


def microseconds(text: object) -> int:
    """Parses a duration. Raises ValueError.

    >>> microseconds("10m"), microseconds("1h 30m"), microseconds("30 days")
    (600000000, 5400000000, 2592000000000)
    """
    if not isinstance(text, str) or not re.fullmatch(r"(\s*[0-9]+\s*[a-z]+)+\s*", text):
        raise ValueError(A_DURATION)
    total = 0
    for count, unit in re.findall(r"([0-9]+)\s*([a-z]+)", text):
        short = unit if unit in UNITS else WORDS.get(unit.removesuffix("s"))
        if short is None:
            raise ValueError(A_DURATION)
        total += int(count) * UNITS[short]
    return total


def microseconds_or_unlimited(text: object) -> int | None:
    """Parses a duration; None for `unlimited`. Raises ValueError."""
    if text == "unlimited":
        return None
    try:
        return microseconds(text)
    except ValueError as error:
        raise ValueError(f"{error}, or unlimited") from error


def whole(value: object) -> object:
    """Rejects `true` and 5.0, which Python takes for whole numbers. Raises ValueError."""
    if isinstance(value, bool | float):
        raise ValueError("must be a valid integer")
    return value


def or_none(value: object) -> object:
    """None for an empty text, since TOML has no null."""
    return None if value == "" else value


def microseconds_of_moment(text: object) -> int | None:
    """Parses a moment: Slack's seconds or ISO 8601 (UTC if it has no zone); None if empty. Raises ValueError.

    >>> microseconds_of_moment("2022-12-07T22:58:13Z")
    1670453893000000
    """
    if text == "":
        return None
    if isinstance(text, str) and (found := re.fullmatch(r"([0-9]{9,10})(?:\.([0-9]{1,6}))?", text)):
        return int(found[1]) * SECOND + int((found[2] or "").ljust(6, "0"))
    try:
        moment = datetime.fromisoformat(text if isinstance(text, str) else "")
    except ValueError:
        raise ValueError("must be a time like 2024-01-31T12:00:00Z or 1706702400.000000") from None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def none_for_zero(value: object) -> object:
    """None for 0, which stands for no limit or not known."""
    return None if value in (0, "0") else value


def formats_of(text: object) -> tuple[str, ...] | None:
    """Parses formats joined by commas; None if empty. Raises ValueError."""
    named = tuple(dict.fromkeys(each.strip() for each in text.split(",") if each.strip())) if isinstance(text, str) else ()
    if set(named) - set(FORMATS) or (not named and text != ""):
        raise ValueError(f"must be of {', '.join(FORMATS)}, joined by commas")
    return named or None


def minutes_of_day(text: object) -> tuple[int, int]:
    """Parses hours from and to, as minutes of the day; both 0 if empty. Raises ValueError.

    >>> minutes_of_day("22:00-07:30"), minutes_of_day("")
    ((1320, 450), (0, 0))
    """
    if text == "":
        return (0, 0)
    time = r"([01][0-9]|2[0-3]):([0-5][0-9])"
    found = re.fullmatch(rf"{time}\s*-\s*{time}", text) if isinstance(text, str) else None
    if found is None:
        raise ValueError("must be two times like 22:00-07:00")
    return int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])


def minute_of_day(text: object) -> int | None:
    """Parses a time, as a minute of the day; None if empty. Raises ValueError."""
    return None if text == "" else minutes_of_day(f"{text}-00:00")[0] if isinstance(text, str) else minutes_of_day(text)[0]


Duration = Annotated[int, BeforeValidator(microseconds)]
"""Microseconds; written as `10m`."""
WholeNumber = Annotated[int, BeforeValidator(whole)]
Optional = BeforeValidator(or_none)
"""For settings where an empty text stands for none."""
