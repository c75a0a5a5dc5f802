"""The examples of a source: an iterator of typed records, and tables of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from beepgpt.config.settings import Settings
from beepgpt.connectors.files.ordering import by_time
from beepgpt.conversations.chunks import Chunk
from beepgpt.conversations.rules import Rules
from beepgpt.dataflows.records import DeadLetter, id_of
from beepgpt.errors import BadCommand
from beepgpt.library.arguments import moment_of
from beepgpt.library.chat_events import GivenEvent
from beepgpt.library.follower import Follower
from beepgpt.library.records import Example, RetractedExample
from beepgpt.library.sources import chunks_of, origin_at, settings_of
from beepgpt.library.tables import Tabular, table_of
from beepgpt.runtime.left_out import left_out_of
from beepgpt.runtime.places import Origin
from beepgpt.runtime.running import check_source

if TYPE_CHECKING:
    import pyarrow as pa


class Examples(Tabular, Iterable[Example]):
    """The examples of a source. Each `for` reads the source anew, and holds no more of it than what is open.

    After a `for` that came to its end, `account`, `retractions`, `late` and `rejected` are those of that reading.

    >>> import beepgpt
    >>> asked = beepgpt.ChatEvent.post("general", "ana", 1704103200_000000, "Is it red?")
    >>> reply = beepgpt.ChatEvent.post("general", "bo", 1704103260_000000, "It is.", thread=asked.at)
    >>> made = beepgpt.examples([asked, reply])
    >>> [example.answer for example in made], made.account["points"]["made"], len(made.retractions)
    ([('bo',)], 3, 0)
    """

    def __init__(
        self, origin: Origin | None, events: Iterable[GivenEvent], settings: Settings, until: int | None, given: Mapping[str, object]
    ) -> None:
        """Use `beepgpt.examples`. `events`: what is read where there is no `origin`; `given`: the keywords that it was called with."""
        self._origin, self._events, self._settings, self._until = origin, events, settings, until
        self.given: Final = given
        """The keywords by which these examples are made: an audit goes by the same."""
        self._is_read = False
        self.account: dict[str, Any] = {}
        """Every record and every point in exactly one row (docs/glossary.md)."""
        self.retractions: list[RetractedExample] = []
        """Of examples that no longer hold, as one of their messages was deleted later. Tables lack these."""
        self.late: list[DeadLetter] = []
        self.rejected: list[DeadLetter] = []
        """Records that can't be used, each with its reason."""

    @property
    def rules(self) -> Rules:
        """What shapes the examples."""
        return self._settings.rules

    @property
    def left_out(self) -> dict[str, Any]:
        """What of an export is not read: channels by kind (`include` reads them), files, and folders that no listing names."""
        return left_out_of(None if self._origin is None else self._origin.export)

    def __iter__(self) -> Iterator[Example]:
        return map(Example.from_line, self._lines())

    def _lines(self) -> Iterator[bytes]:
        retractions, late, rejected = list[RetractedExample](), list[DeadLetter](), list[DeadLetter]()
        since = 0 if self._origin is None else self._origin.since or 0
        follower = Follower(since=since, until=self._until, settings=self._settings)
        steps = (follower.apply(chunk) for chunk in self._chunks(follower))
        for kind, items in chain(chain.from_iterable(steps), follower.settle()):
            if kind == "examples":
                yield from items
            elif kind == "retractions":
                retractions += map(RetractedExample.from_line, items)
            elif kind == "late":
                late += items
            elif kind == "rejects":
                rejected += items
        self.retractions, self.late, self.rejected, self.account = retractions, late, rejected, follower.account

    def _chunks(self, follower: Follower) -> Iterable[Chunk]:
        if self._origin is not None:
            return chunks_of(self._origin, self._settings)
        if self._is_read and isinstance(self._events, Iterator):
            raise BadCommand("the events came from an iterator, which can be read once, and was: give a list of them")
        self._is_read = True
        return map(follower.chunk_of, self._events)

    def _kept_lines(self) -> list[bytes]:
        lines = list(self._lines())
        retracted = {each.id.encode() for each in self.retractions}
        return sorted([line for line in lines if id_of(line) not in retracted], key=by_time("settled_ts"))

    def kept(self) -> list[Example]:
        """All examples without those that were retracted, by `settled_ts`, then by id: as `beepgpt examples` puts them in a file."""
        return [Example.from_line(line) for line in self._kept_lines()]

    def to_arrow(self) -> pa.Table:
        """All examples that were not retracted, as a table of pyarrow: a row each, candidates as columns of lists, times in UTC.

        By `settled_ts`, then by id. A split at a row is none in time: a prompt may be older than an answer before it. `beepgpt.split`
        knows what is apart. Raises MissingPackage if pyarrow isn't installed.
        """
        return table_of("example", self._kept_lines())


def examples(
    source: str | Path | Iterable[GivenEvent],
    *,
    include: str | Sequence[str] = "channels",
    until: str | int | datetime | None = None,
    config: str | Path | None = None,
    **settings: object,
) -> Examples:
    """The examples that `beepgpt examples SOURCE` makes, byte for byte: points in time of conversations, and who answered.

    `source`: an export (zip or folder), a `.jsonl` of events, a topic (`kafka://host:port/topic`, `sqlite:///folder/topic`), or ChatEvents
    of any chat, or Slack's records (a list, to be read more than once). `include`: kinds of an export's channels beside the public ones:
    groups, dms, mpims, unlisted. `until`: end as if it had been this time. Settings are those of `rules`, and of the connection to Kafka;
    `config`: a TOML file of them. Raises BadSettings, BadCommand, BadExport or CannotRead.

    >>> from tempfile import mkdtemp
    >>> from beepgpt.library.workspaces import simulate
    >>> made = examples(simulate(f"{mkdtemp()}/workspace.zip", messages=200), horizon="4h")
    >>> answered = [example for example in made if example.answer]
    >>> len(answered), made.account["examples"], made.account["adds_up"]
    (99, 144, True)
    >>> made.to_arrow().select(["channel", "answer", "candidates_closeness"]).num_rows
    144
    """
    found = settings_of(settings, config=config)
    stop_at = moment_of("until=", until)
    given = {"include": include, "until": until, "config": config, **settings}
    if not isinstance(source, str | Path):
        return Examples(None, source, found, stop_at, given)
    origin = origin_at(source, include)
    check_source(origin, found, until=stop_at)
    return Examples(origin, (), found, stop_at if origin.until is None else origin.until, given)
