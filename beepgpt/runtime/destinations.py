"""DEST on the command line: files or topics, and their sinks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import orjson
from bytewax.outputs import Sink

from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl, parquet
from beepgpt.connectors.files.ordering import LineKey, by_place, by_time, put_in_order
from beepgpt.connectors.log import EITHER, LOOK_BACK, Log, Topic, TopicAddress
from beepgpt.conversations.rules import DAY, Rules, differing, shaping_settings
from beepgpt.conversations.shard import OtherState
from beepgpt.errors import BadCommand
from beepgpt.folders import beside
from beepgpt.runtime.places import NOBODY, SourceListener, is_topic, log_of, topic_of
from beepgpt.runtime.specs import settings_mark, specs_in, specs_on


class FlowOutput(Protocol):
    """Where a run's output goes."""

    def put_in_order(self, workers: int) -> None:
        """Put the lines that one worker or several wrote in one file each, in order. Raises CannotWrite."""

    def tidy(self) -> None:
        """Remove files that were begun and hold nothing."""

    def held(self) -> AbstractContextManager[Sequence[int]]:
        """Inside the `with` block this run's processes alone write there, where the log sees to that; they keep what is given open."""

    def topics_now(self) -> Mapping[str, Topic]:
        """The topics that are written to, with their ids and partitions, by name. Raises NoTopic."""


REJECTS = ("late", "dead_letters")
KINDS = ("examples", "retractions", *REJECTS)
"""What a flow of examples writes."""


@dataclass(frozen=True)
class Files:
    """Files for examples and, beside them, for retractions, late records and dead letters."""

    examples: Path | None
    """None: standard output."""
    retractions: Path | None
    late: Path | None
    dead_letters: Path | None
    worker: int = 0
    workers: int = 1
    in_parts: bool = False
    """Whether a table of examples is a folder of parts, which a run can go on with, and several workers write."""
    rejects_kept: int | None = None
    """Microseconds after which lines of late records and dead letters are overwritten; None: they stay."""

    def __str__(self) -> str:
        return str(self.examples or "standard output")

    @property
    def is_seekable(self) -> bool:
        """Whether the file can be cut back to a snapshot."""
        return self.examples is not None and (self.is_table or self.examples.is_file() or not self.examples.exists())

    @property
    def is_table(self) -> bool:
        """Whether the examples go to a table, and not to lines of JSON."""
        return self.examples is not None and parquet.is_table(self.examples)

    @property
    def takes_several(self) -> bool:
        """Whether several workers may write there unasked: nobody reads along, and it is no table in one file."""
        return self.late is not None and (self.in_parts or not self.is_table)

    @property
    def identity(self) -> str:
        """Canonical name, to tell whether two runs use the same place."""
        return str(self.examples.resolve()) if self.examples is not None else "-"

    def of_worker(self, number: int, workers: int) -> Files:
        """The files of one worker of several."""
        if workers == 1:
            return self
        folder = self._workers_folder()
        folder.mkdir(parents=True, exist_ok=True)
        named: dict[str, Any] = {each: folder / f"{each}-{number}.jsonl" for each in self._joined()}
        return replace(self, **named, worker=number, workers=workers)

    def _workers_folder(self) -> Path:
        """The folder of the workers' files: beside the file, or in the working directory."""
        return Path("beepgpt-examples.parts" if self.examples is None or self.late is None else f"{self.examples}.parts")

    def given(self) -> dict[str, Path]:
        """Output files by kind, without standard output."""
        return {each: path for each in KINDS if (path := getattr(self, each)) is not None}

    def lines(self) -> dict[str, Path]:
        """Files of JSON lines by kind: all but a table."""
        return {name: path for name, path in self.given().items() if name != "examples" or not self.is_table}

    def _joined(self) -> dict[str, Path | None]:
        """What several workers write to files of their own, by kind, with where these are joined (None: standard output)."""
        return {**({"examples": None} if self.examples is None else {}), **self.lines()}

    def written(self) -> dict[str, str]:
        """The files beside the examples that were written, by name."""
        return {name: str(path) for name, path in self.given().items() if name != "examples" and path.exists()}

    def sinks(
        self,
        *,
        fresh: bool = False,
        on_closed: Callable[[], None] = lambda: None,
        listener: SourceListener = NOBODY,
    ) -> dict[str, Sink[Any]]:
        """A sink for each output. `fresh`: files are begun again; `on_closed` is called when nobody reads standard output any more."""
        days = None if self.rejects_kept is None else self.rejects_kept // DAY
        sinks: dict[str, Sink[Any]] = {
            name: jsonl.JsonlSink(path, name, fresh=fresh, kept=days if name in REJECTS else None) for name, path in self.lines().items()
        }
        if self.examples is None:
            sinks["examples"] = jsonl.StdoutSink(on_closed=on_closed)
        elif self.is_table:
            sinks["examples"] = parquet.ParquetSink(
                self.examples, "example", "examples", in_parts=self.in_parts, worker=self.worker, workers=self.workers, fresh=fresh
            )
        return sinks

    def put_in_order(self, workers: int) -> None:
        """Put the workers' lines in one file each, in order, and remove the workers' files."""
        for each, path in self._joined().items():
            _put_in_order(each, path, self._workers_folder(), workers)

    def tidy(self) -> None:
        """Remove empty files, but not that of the examples."""
        for name, path in self.given().items():
            with suppress(OSError):
                if name != "examples" and path.stat().st_size == 0:
                    path.unlink()

    def held(self) -> AbstractContextManager[Sequence[int]]:
        """Do nothing: each worker writes files of its own."""
        return nullcontext(())

    def topics_now(self) -> Mapping[str, Topic]:
        """Nothing: files are no topics."""
        return {}


@dataclass(frozen=True)
class Topics:
    """Topics for examples with their tombstones, for late records and for dead letters."""

    log: Log
    examples: str
    late: str | None
    """None: the flow has no late records."""
    dead_letters: str
    settings: Mapping[str, Any] | None = None
    """That shaped the examples: some records have them in a header; None: they aren't known."""

    is_shared: bool = False
    """Whether several workers write to them."""

    takes_several = False
    """The order of its records would hang on the number of workers."""
    is_seekable = True
    """A topic is not cut back to a snapshot: examples that are sent again have the same bytes and ids."""

    def __str__(self) -> str:
        return f"{self.log.place}/{self.examples}"

    @property
    def identity(self) -> str:
        """Canonical name, the same for each of its brokers; the topic's id is checked apart from it."""
        return TopicAddress(self.log.place, self.examples).identity

    def topics_now(self) -> Mapping[str, Topic]:
        """The topics with their ids and partitions, by name. Raises NoTopic."""
        return self.log.check_topics([*self.named().values()])

    def named(self) -> dict[str, str]:
        """The topics by what goes there."""
        late = {} if self.late is None else {"late": self.late}
        return {"examples": self.examples, **late, "dead_letters": self.dead_letters}

    def without_late(self) -> Topics:
        """The same topics for a flow that has no late records."""
        return replace(self, late=None)

    def of_worker(self, number: int, workers: int) -> Topics:
        """The same topics for all workers."""
        return replace(self, is_shared=workers > 1)

    def held(self) -> AbstractContextManager[Sequence[int]]:
        """Hold the topic of the examples; others may write late records and dead letters, too."""
        return self.log.held([self.examples])

    def given(self) -> dict[str, Path]:
        """An empty dictionary: topics are no files."""
        return {}

    def written(self) -> dict[str, str]:
        """The outputs beside the examples, by name."""
        return {
            "retractions": f"{self.examples}, as tombstones",
            **{name: topic for name, topic in self.named().items() if name != "examples"},
        }

    def sinks(
        self,
        *,
        fresh: bool = False,
        on_closed: Callable[[], None] = lambda: None,
        listener: SourceListener = NOBODY,
    ) -> dict[str, Sink[Any]]:
        """A sink for each output; retractions go to that of the examples."""
        # A dead letter may be larger than its topic takes, since it names reason and source: its record still stands at its source.
        return {
            name: self.log.sink(
                topic,
                on_error=listener.fail,
                patience=listener.patience,
                cuts=name != "examples",
                stopping=listener.is_stopping,
                mark=None if name != "examples" or self.settings is None else settings_mark(self.settings),
                alone=name == "examples" and not self.is_shared,
            )
            for name, topic in self.named().items()
        }

    def put_in_order(self, workers: int) -> None:
        """Do nothing: all workers write to the same topics."""

    def tidy(self) -> None:
        """Do nothing."""

    def check(self, rules: Rules) -> None:
        """Check that the topics are there, and hold no examples that other rules made. Raises NoTopic or OtherState."""
        self.topics_now()
        for spec, recorded in specs_on(self.log, self.examples):
            if spec != rules.spec:
                raise OtherState(
                    f"{self}: the topic holds examples that were made with other settings: {differing(spec, rules.spec, recorded, rules)}:"
                    " name another topic, or give the settings that its examples were made with"
                )


Destination = Files | Topics


def destination_of(to: str, settings: Settings, *, tables: bool = False) -> Destination:
    """Parse DEST of examples: a topic, a file with the files beside it, or standard output. `tables`: the file may be a .parquet."""
    if is_topic(to):
        address = topic_of(to, "--to")
        section = settings.kafka
        log = log_of(settings, address)
        return Topics(log, address.topic, section.late_topic, section.dead_letter_topic, shaping_settings(settings.rules))
    return replace(files_of(to, tables=tables), rejects_kept=settings.run.rejects_kept)


def in_parts(to: Destination, *, goes_on: bool) -> Destination:
    """The destination, a table in parts where a run can go on or has several workers. Raises NoSuchPlace, CannotWrite or NoArrow."""
    if not isinstance(to, Files) or not to.is_table or to.examples is None:
        return to
    parquet.check_table(to.examples, in_parts=goes_on)
    return replace(to, in_parts=goes_on)


def files_of(to: str, *, tables: bool = False) -> Files:
    """A file with the files beside it, or standard output (`-`). `tables`: it may be a .parquet. Raises BadCommand or CannotWrite."""
    if to == "-":
        return Files(None, None, None, None)
    if "://" in to:
        raise BadCommand(f"--to {to}: a .jsonl path, -, {EITHER} is expected")
    path = Path(to)
    is_table = tables and parquet.is_table(path)
    if not is_table:
        check_lines(path, "--to")
    if path.exists() and not (path.is_file() or path.is_dir()):
        jsonl.check_writable(path)
        return Files(path, None, None, None)  # beside a device or a pipe is no place for files
    retractions, late, dead_letters = (beside(path, f"{what}.jsonl") for what in ("retractions", "late", "dead-letters"))
    files = Files(path, retractions, late, dead_letters)
    for each in files.lines().values():  # a table's place is checked once it is known whether it is a file or a folder
        jsonl.check_writable(each)
    return files


@dataclass(frozen=True)
class ScoreOutputs:
    """Where predictions and outcomes go: files (`-`: standard output), or topics."""

    predictions: Path | TopicAddress | None
    """None: standard output."""
    outcomes: Path | TopicAddress | None
    """None: they are not written, as beside standard output or a topic that names none."""
    settings: Settings
    """Of the connection to the topics."""
    in_parts: bool = False
    """Whether tables are folders of parts, which a run can go on with, and several workers write."""

    def __str__(self) -> str:
        return "standard output" if self.predictions is None else str(self.predictions)

    @property
    def is_seekable(self) -> bool:
        """Whether all of it can be cut back to a snapshot."""
        return self.predictions is not None and all(path.is_file() or not path.exists() for path in self.lines().values())

    def files(self) -> dict[str, Path]:
        """The files, by their contents; deletions stand in one beside the predictions."""
        found = {name: place for name in ("predictions", "outcomes") if isinstance(place := getattr(self, name), Path)}
        if (path := found.get("predictions")) is not None and (beside := beside_of(path, "deletions")) is not None:
            found["deletions"] = beside
        return found

    def tables(self) -> dict[str, Path]:
        """Those of the files that are tables."""
        return {name: path for name, path in self.files().items() if parquet.is_table(path)}

    def with_parts(self, *, goes_on: bool) -> ScoreOutputs:
        """The same, with tables in parts where a run can go on or has several workers. Raises NoSuchPlace, CannotWrite or NoArrow."""
        for path in self.tables().values():
            parquet.check_table(path, in_parts=goes_on)
        return replace(self, in_parts=goes_on)

    def topics(self) -> dict[str, TopicAddress]:
        """The topics, by their contents."""
        return {name: place for name in ("predictions", "outcomes") if isinstance(place := getattr(self, name), TopicAddress)}

    def kept(self) -> int | None:
        """Microseconds for which predictions stay on their topic; None: they go to no topic, and nobody removes them."""
        return self.settings.scoring.kept if "predictions" in self.topics() else None

    def sinks(
        self,
        number: int,
        workers: int,
        *,
        fresh: bool,
        on_closed: Callable[[], None],
        listener: SourceListener = NOBODY,
    ) -> dict[str, Sink[Any]]:
        """A sink of worker `number` for each output. `fresh`: files are begun again; `on_closed`: nobody reads standard output any more."""
        sinks: dict[str, Sink[Any]] = {
            name: parquet.ParquetSink(
                path, name.removesuffix("s"), name, in_parts=self.in_parts, worker=number, workers=workers, fresh=fresh
            )
            for name, path in self.tables().items()
        }
        for name, path in self.lines().items():
            if workers > 1:
                _workers_folder(path).mkdir(parents=True, exist_ok=True)
            mine = path if workers == 1 else _workers_folder(path) / f"{name}-{number}.jsonl"
            sinks[name] = jsonl.JsonlSink(mine, name, fresh=fresh)
        for name, address in self.topics().items():
            sinks[name] = log_of(self.settings, address).sink(
                address.topic,
                on_error=listener.fail,
                patience=listener.patience,
                stopping=listener.is_stopping,
                mark=settings_mark(self.settings.rules),
                alone=workers == 1,
            )
        if self.predictions is None:
            sinks["predictions"] = jsonl.StdoutSink(on_closed=on_closed)
        return sinks

    def lines(self) -> dict[str, Path]:
        """Those of the files that hold lines of JSON."""
        tables = self.tables()
        return {name: path for name, path in self.files().items() if name not in tables}

    def put_in_order(self, workers: int) -> None:
        """Put the workers' lines in one file each, in order, and remove the workers' files."""
        for name, path in self.lines().items():
            _put_in_order(name, path, _workers_folder(path), workers)

    def tidy(self) -> None:
        """Remove an empty file of deletions."""
        with suppress(OSError, KeyError):
            if (path := self.files()["deletions"]).stat().st_size == 0:
                path.unlink()

    @contextmanager
    def held(self) -> Iterator[Sequence[int]]:
        """Hold the topics."""
        with ExitStack() as stack:
            yield [one for each in self.topics().values() for one in stack.enter_context(log_of(self.settings, each).held([each.topic]))]

    def topics_now(self) -> Mapping[str, Topic]:
        """The topics with their ids and partitions, by their contents. Raises NoTopic."""
        return {name: log_of(self.settings, each).topic(each.topic) for name, each in self.topics().items()}


def _workers_folder(path: Path) -> Path:
    return Path(f"{path}.parts")


ORDERS: Mapping[str, LineKey] = {
    "examples": by_time("settled_ts"),
    "retractions": by_time("retracted_ts"),
    "late": by_place(),
    "dead_letters": by_place(),
    "predictions": by_time("prompt_ts"),
    "deletions": by_time("deleted_ts"),
    "outcomes": by_time("settled_ts"),
}
"""The order of each kind of lines in a file."""


def _put_in_order(name: str, path: Path | None, folder: Path, workers: int) -> None:
    if workers > 1:
        put_in_order([folder / f"{name}-{number}.jsonl" for number in range(workers)], path, ORDERS[name])
        with suppress(OSError):
            folder.rmdir()
    elif path is not None:
        put_in_order([path], path, ORDERS[name])


def check_score_topic(log: Log, address: TopicAddress, rules: Rules) -> None:
    """Check that a topic is there, and holds nothing that other rules made, nor predictions under other keys.

    Raises NoTopic or OtherState.
    """
    log.check_topics([address.topic])
    last = [record for _, record in log.records(address.topic, back=LOOK_BACK)]
    for spec, recorded in specs_in(last):
        if spec != rules.spec:
            raise OtherState(
                f"{address}: the topic holds what was made with other settings: {differing(spec, rules.spec, recorded, rules)}:"
                " name another, or give the settings that it was made with"
            )
    for record in last:
        with suppress(ValueError, TypeError, KeyError):
            if record.value is None:
                continue
            body = orjson.loads(record.value)
            if "window" in body and record.key != body["id"].encode():
                raise OtherState(
                    f"{address}: the topic holds predictions under their conversations, as 0.1.0 wrote them. Now their ids are"
                    " the keys, so that a deletion removes them: name a new topic that `beepgpt topics` made, and delete this one"
                )


def score_outputs_of(to: str, outcomes: str | None, settings: Settings) -> ScoreOutputs:
    """Parse DEST and `--outcomes`; without it, outcomes stand beside a file or table of predictions, as one too.

    Raises BadCommand, CannotWrite.
    """
    predictions = _place_of(to, "--to")
    if outcomes is not None:
        return ScoreOutputs(predictions, _place_of(outcomes, "--outcomes"), settings)
    beside = beside_of(predictions, "outcomes") if isinstance(predictions, Path) else None
    if beside is not None and not parquet.is_table(beside):
        jsonl.check_writable(beside)
    return ScoreOutputs(predictions, beside, settings)


def beside_of(path: Path, what: str) -> Path | None:
    """The file beside predictions: of their outcomes, or of deletions. None beside a device or a pipe, where is no place for files.

    >>> beside_of(Path("scores/predictions.jsonl"), "outcomes"), beside_of(Path("predictions.parquet"), "outcomes")
    (PosixPath('scores/predictions.outcomes.jsonl'), PosixPath('predictions.outcomes.parquet'))
    """
    is_table = parquet.is_table(path)
    if path.exists() and not path.is_file() and not is_table:
        return None
    return beside(path, f"{what}{path.suffix if is_table and what == 'outcomes' else '.jsonl'}")


def _place_of(place: str, name: str) -> Path | TopicAddress | None:
    if is_topic(place):
        return topic_of(place, name)
    if place == "-" and name == "--to":
        return None
    if "://" in place or place == "-":
        raise BadCommand(f"{name} {place}: a .jsonl or .parquet path{', -' if name == '--to' else ''}, {EITHER} is expected")
    path = Path(place)
    if not parquet.is_table(path):  # a table's place is checked once it is known whether it is a file or a folder
        check_lines(path, name)
        jsonl.check_writable(path)
    return path


OTHER_FORMATS = frozenset({".csv", ".tsv", ".parquet", ".xlsx", ".zip", ".gz", ".html", ".toml", ".sqlite"})


def check_lines(path: Path, name: str) -> None:
    """Raise BadCommand if a file's name says that it holds something else than lines of JSON."""
    if path.suffix.lower() in OTHER_FORMATS:
        raise BadCommand(f"{name} {path}: lines of JSON would be written there, which is no {path.suffix}: name a .jsonl")
