"""What can go wrong with Slack: what was certainly not done, and what is in doubt, told apart. None of it holds what people wrote."""

from __future__ import annotations

from beepgpt.errors import BeepGPTError


class SlackError(Exception):
    """Slack could not do it."""


class SlackFailed(SlackError, BeepGPTError):
    """It won't do anything before somebody mends the app or its token; the message says what."""


class SlackRefused(SlackError):
    """It certainly wasn't done, and won't be: `reason` is Slack's own word for why."""

    def __init__(self, method: str, reason: str) -> None:
        super().__init__(f"{method}: {reason}")
        self.reason = reason


class SlackBusy(SlackError):
    """It certainly wasn't done: this method is not to be called for so many seconds."""

    def __init__(self, method: str, after: float, *, was_asked: bool = True) -> None:
        """`was_asked`: it is Slack who says so now, and not we who remember it."""
        super().__init__(f"{method}: wait {after:.0f} s")
        self.method = method
        self.after = after
        self.was_asked = was_asked


class SlackUnclear(SlackError):
    """Nobody knows whether it was done."""
