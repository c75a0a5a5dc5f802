"""Errors with a message for the user. All others are faults of the program."""


class BeepGPTError(Exception):
    """Something that the user can mend: the message says what happened, where, and what to do."""

    exit_status = 1
    """What the command line ends with."""


class BadCommand(BeepGPTError):
    """The command was wrong; the message says what is allowed."""

    exit_status = 2


class RunStopped(BeepGPTError):
    """A run could not go on, and what it did is kept; the message says why, and how it goes on."""


class Interrupted(Exception):
    """The user asked to stop (SIGINT or SIGTERM) before the work began."""
