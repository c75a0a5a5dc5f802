"""The machine's clock. Nothing that makes examples reads it."""

from datetime import UTC, datetime, timedelta


def now_us() -> int:
    """The machine's time, microseconds."""
    return (datetime.now(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
