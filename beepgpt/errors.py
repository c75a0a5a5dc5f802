"""Errors with a message for the user. All others are faults of the program.

What several rooms raise or catch stands here; others derive from `BeepGPTError` in the rooms that raise them.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import ClassVar

CONTROLS = dict.fromkeys([*(code for code in range(32) if code not in (9, 10)), *range(127, 160)], "\N{REPLACEMENT CHARACTER}")
"""For `str.translate`, before a terminal gets it: names in an export could otherwise set colours and titles, and move the cursor."""


class BeepGPTError(Exception):
    """Something that the user can fix: the message says what happened, where, and what to do.

    >>> import beepgpt
    >>> try:
    ...     beepgpt.rules(horizon="soon")
    ... except beepgpt.BeepGPTError as error:
    ...     print(error)
    horizon= is 'soon': must be a duration like 500ms, 10m, 1h 30m or 30 days, or unlimited
    """

    exit_status: ClassVar[int] = 1
    """What the command line ends with: 1 if the work failed, 2 if the command, its settings or its input were wrong, 3 if there is too
    little to learn from yet."""


class BadCommand(BeepGPTError):
    """The command was wrong; the message says what is allowed."""

    exit_status = 2


class Interrupted(BeepGPTError):
    """The user asked to stop; the message says what is kept, and how to resume."""

    exit_status = 130


class TooLittle(BeepGPTError):
    """Too little to learn from yet; the message says what is missing. Nothing is wrong: with more of it, the same works."""

    exit_status = 3


class RunStopped(BeepGPTError):
    """A run could not continue, and its work so far is kept; the message says why, and how to resume it."""


class DoesNotAddUp(BeepGPTError):
    """A record or a point is in no row of the account, or in two: a fault of the program, and its output is not to be used."""


# Files and ports of this machine


class CannotRead(BeepGPTError):
    """A file can't be read; the message names it and says what to do."""


class NoSuchInput(CannotRead):
    """What the command names isn't there, or is of another kind: the command was wrong."""

    exit_status = 2


def cut_short(path: str | Path, number: int) -> CannotRead:
    """The error for a file whose last line, of this number, only begins."""
    return CannotRead(
        f"{path}: line {number:,}, its last, was cut short: it has no end, and what is there is no JSON. The file was not written or not"
        " copied to its end: let the command that writes it go on (the same command again), or copy it once more; to go on without the"
        " rest, take that line out"
    )


class CannotWrite(BeepGPTError):
    """A file can't be written; the message names it and says what to do."""


class NoSuchPlace(CannotWrite):
    """Where the command would write there is no folder, or something of another kind: the command was wrong."""

    exit_status = 2


def cannot_write(where: Path | str, error: OSError) -> CannotWrite:
    """The system's error as one of ours, with what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CannotWrite(f"{where}: the disk is full: free some space and run it again; what was written is kept")
    return CannotWrite(f"{where}: can't be written ({error.strerror}): check the folder and its permissions, or name another")


class CannotServe(BeepGPTError):
    """A port can't be listened on; the message names it and says what to do."""


class AddressRefused(BeepGPTError):
    """An address may not be called, or redirects; the message names the setting and says what to do."""

    exit_status = 2


# A provider that speaks OpenAI's protocol


class ProviderFailed(BeepGPTError):
    """A request to the provider failed; the message says what to do, and holds no text of a message."""

    reason: ClassVar[str] = "provider"
    """For counts and dead letters."""

    def __init__(self, message: str, *, passes: bool = False, after: float | None = None) -> None:
        """`passes`: another try may help; `after`: seconds that the server asks us to wait first."""
        super().__init__(message)
        self.passes = passes
        self.after = after


class NotAllowed(ProviderFailed):
    """The key is not accepted, or not for this: no request will work."""

    reason = "not_allowed"


class TrainingNotAvailable(NotAllowed):
    """This account can't start fine-tuning jobs."""

    reason = "training_not_available"


class NoMoney(ProviderFailed):
    """The account's money or quota is used up: no request will work, and trying again can't help."""

    reason = "no_money"


class RequestRefused(ProviderFailed):
    """The server refuses this request, and would at any time."""

    reason = "refused"


class TooBusy(ProviderFailed):
    """No answer after all tries: the server is busy, broken or out of reach. The same request may work later."""

    reason = "too_busy"


class BadAnswer(ProviderFailed):
    """The response does not answer the question."""

    reason = "bad_answer"


# Slack's Web API. None of these messages holds what people wrote.


class SlackError(BeepGPTError):
    """A request to Slack failed."""


class SlackFailed(SlackError):
    """Slack refuses everything until somebody mends the app or its token; the message says what."""


class SlackRefused(SlackError):
    """Slack refuses this request: it was certainly not done."""

    def __init__(self, method: str, code: str) -> None:
        """`code`: Slack's own, `channel_not_found` say."""
        super().__init__(f"{method}: {code}")
        self.code = code


class SlackBusy(SlackError):
    """Rate limited: the request was certainly not done, and the method must rest for `after` seconds."""

    def __init__(self, method: str, after: float, *, was_asked: bool = True) -> None:
        """`was_asked`: Slack said so now; otherwise the client remembered an earlier limit, and sent nothing."""
        super().__init__(f"{method}: wait {after:.0f} s")
        self.method = method
        self.after = after
        self.was_asked = was_asked


class SlackUnclear(SlackError):
    """No usable response: the request may have been done or not."""
