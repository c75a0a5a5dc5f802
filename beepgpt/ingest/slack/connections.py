"""The ways on which events come, and up to when all that Slack sent on them is here."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from beepgpt.connectors.slack import live as slack_live

log = logging.getLogger(__name__)


class LiveConnection(Protocol):
    """A way on which events come."""

    name: str

    @property
    def good_until(self) -> float | None: ...

    def start(self) -> None: ...

    def close(self) -> None: ...

    def drop(self) -> None: ...


class Connections:
    """All of them. They are asked and told by one thread."""

    def __init__(self, lines: Iterable[LiveConnection], delay: float) -> None:
        """`delay`: seconds that an event may take from Slack."""
        self._lines = {line.name: line for line in lines}
        self._delay = delay
        self._up: dict[str, float] = {}
        """Lines that are connected, and since when."""
        self._proven: dict[str, float | None] = {}
        """Of each of these: until when it is known that events come; None: they do, since one came."""
        self._untried: set[str] = set()
        """Lines whose connection has brought nothing yet, while no look at the channels found that nothing was missing, either."""
        self._heard: dict[str, float] = {}
        """When the last one came."""

    def __len__(self) -> int:
        return len(self._lines)

    def start(self) -> None:
        for line in self._lines.values():
            line.start()

    def close(self) -> None:
        for line in self._lines.values():
            line.close()

    @property
    def are_up(self) -> bool:
        """Whether all of them are connected."""
        return len(self._up) == len(self._lines)

    @property
    def up_since(self) -> float:
        """When the last one was connected, seconds."""
        return max(self._up.values())

    def good_until(self) -> float | None:
        """Up to when all that Slack sent has come, by this machine's clock; None while something may be missing."""
        goods: list[float] = []
        for name, line in self._lines.items():
            good = line.good_until
            if good is None or name not in self._up:
                return None
            proven = self._proven.get(name)
            goods.append(good if proven is None else min(good, proven))
        return min([time.time() - self._delay, *goods])

    def is_up(self, up: slack_live.Up) -> None:
        """It is connected, and has to prove itself."""
        log.info("connected to Slack", extra={"line": up.line, "connections": up.connections})
        if up.connections > len(self._lines):
            log.warning(
                "the app has more connections than this command has: Slack gives each of them a share of the events, so that those of"
                " another program are missing here until they are filled in",
                extra={"connections": up.connections, "ours": len(self._lines)},
            )
        self._up[up.line] = self._proven[up.line] = up.at
        self._untried.add(up.line)

    def is_down(self, down: slack_live.Down) -> None:
        log.warning("disconnected from Slack", extra={"line": down.line, "why": down.why})
        self._up.pop(down.line, None)

    def is_renewed(self, changed: slack_live.Changed) -> bool:
        """The new connection has to prove itself, too. False if the old one never did: then what it was to bring may be missing."""
        log.info("a connection was renewed", extra={"line": changed.line})
        self._proven[changed.line] = changed.at
        was_tried = changed.line not in self._untried
        self._untried.add(changed.line)
        return was_tried

    def heard(self, name: str) -> None:
        """An event came over it."""
        self._heard[name] = time.monotonic()
        if name in self._proven:
            self._proven[name] = None
            self._untried.discard(name)

    def suspects(self, quiet: float) -> tuple[str, ...]:
        """Those over which nothing came yet, or not for so many seconds."""
        since = time.monotonic() - quiet
        return tuple(name for name in self._up if self._proven[name] is not None or self._heard[name] < since)

    def prove(self, until: float) -> None:
        """All that was said before that time has come."""
        for name, proven in self._proven.items():
            if proven is not None and until > proven:
                self._proven[name] = until
                self._untried.discard(name)

    def drop(self, names: Iterable[str]) -> None:
        """They are deaf: other connections are taken, and until then none of these is up."""
        for name in names:
            if name in self._up:
                self._lines[name].drop()
                self._up.pop(name)
