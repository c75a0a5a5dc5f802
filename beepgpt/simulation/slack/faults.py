"""What goes wrong on the way from a simulated Slack, and at its Web API."""

from dataclasses import dataclass, field


@dataclass
class Faults:
    """What goes wrong, each by its share of chances; all by the dice of one seed."""

    seed: int = 0
    twice: float = 0.0
    """An event is sent twice, in two envelopes."""
    swapped: float = 0.0
    """An event is sent a little later, so that the next one overtakes it."""
    unheard: float = 0.0
    """An acknowledgement is lost on its way, so that the envelope comes again."""
    limited: float = 0.0
    """A call of the Web API is answered with 429."""
    retry_after: int = 1
    broken: float = 0.0
    """A call of the Web API is answered with 500."""
    deaf: int = 0
    """So many of the next connections say hello, answer pings, and get no event: those that were meant for them are lost."""
    refuse: dict[str, str] = field(default_factory=dict)
    """Methods that are refused, with which code."""
