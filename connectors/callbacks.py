"""Defaults for the callbacks of sources and sinks."""


def never() -> bool:
    """For `stopping`: nobody asks to stop."""
    return False


def nothing(*_: object) -> None:
    """For callbacks that nobody needs."""
