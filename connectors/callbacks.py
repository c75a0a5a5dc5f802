"""Defaults for the callbacks of sources and sinks."""


def never() -> bool:
    """A `stopping` that never asks to stop."""
    return False


def nothing(*_: object) -> None:
    """A callback that does nothing."""
