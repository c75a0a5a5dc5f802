"""SOURCE and DEST: what stands behind a name on the command line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import orjson
from bytewax.inputs import Source
from bytewax.outputs import Sink

from beepgpt.audit.history import AuditedRecord
from beepgpt.config.settings import Settings
from beepgpt.connectors import kafka
from beepgpt.connectors.files import jsonl
from beepgpt.connectors.slack import export as slack_export
from beepgpt.conversations.export import records_of
from beepgpt.conversations.shard import OtherState, shard_of
from beepgpt.dataflows.examples import Chunk, Following
from beepgpt.errors import BadCommand
from beepgpt.runtime.clock import now_us
from beepgpt.runtime.connections import connection_of, is_kafka

WAIT = 0.002
"""Seconds between two looks for a broker's records."""

# DEST


@dataclass(frozen=True)
class Files:
    """Where a run's lines go: the examples, and beside them what else came."""

    examples: Path | None
    """None: standard output."""
    retractions: Path | None
    late: Path | None
    dead_letters: Path | None

    def __str__(self) -> str:
        return str(self.examples or "standard output")

    @property
    def is_seekable(self) -> bool:
        """Whether what was written can be cut back to a snapshot."""
        return self.examples is not None and (self.examples.is_file() or not self.examples.exists())

    @property
    def identity(self) -> str:
        """The same for the same place."""
        return str(self.examples.resolve()) if self.examples is not None else "-"

    def of_part(self, part: int, parts: int) -> Files:
        """Where one process of several writes its share."""
        if parts == 1:
            return self
        folder = self.shares()
        folder.mkdir(parents=True, exist_ok=True)
        named = {
            each.name: folder / f"{each.name}-{part}.jsonl" for each in fields(self) if each.name == "examples" or getattr(self, each.name)
        }
        return replace(self, **named)

    def shares(self) -> Path:
        """The folder of what each process of several writes: beside a file, else here."""
        return Path("beepgpt-examples.parts" if self.examples is None or self.late is None else f"{self.examples}.parts")

    def given(self) -> dict[str, Path]:
        """Those that there are, by name."""
        return {each.name: path for each in fields(self) if (path := getattr(self, each.name)) is not None}

    def written(self) -> dict[str, str]:
        """What came beside the examples, and where it is."""
        return {name: str(path) for name, path in self.given().items() if name != "examples" and path.exists()}

    def sinks(
        self, *, fresh: bool, on_closed: Callable[[], None], on_error: Callable[[Exception], None] = lambda error: None
    ) -> dict[str, Sink[Any]]:
        """By what goes there; `on_closed` is called when nobody reads standard output any more."""
        sinks: dict[str, Sink[Any]] = {name: jsonl.JsonlSink(path, name, fresh=fresh) for name, path in self.given().items()}
        if self.examples is None:
            sinks["examples"] = jsonl.StdoutSink(on_closed=on_closed)
        return sinks

    def join(self, parts: int) -> None:
        """The processes' shares, one after the other, as one file; the shares go."""
        share = self.shares()
        for each in fields(self):
            path: Path | None = getattr(self, each.name)
            if path is not None or each.name == "examples":
                jsonl.join([share / f"{each.name}-{part}.jsonl" for part in range(parts)], path)
        with suppress(OSError):
            share.rmdir()

    def tidy(self) -> None:
        """Files in which nothing came go; that of the examples stays."""
        for name, path in self.given().items():
            with suppress(OSError):
                if name != "examples" and path.stat().st_size == 0:
                    path.unlink()


@dataclass(frozen=True)
class Topics:
    """Where a run's messages go: examples and tombstones to one topic, what could not be used to others."""

    connection: kafka.Connection
    examples: str
    late: str
    dead_letters: str
    patience: float
    """Seconds for which the brokers may be away."""

    is_seekable = True
    """A topic needs no cutting back: what is sent again is the same, under the same ids."""

    def __str__(self) -> str:
        return f"kafka://{self.connection.bootstrap}/{self.examples}"

    @property
    def identity(self) -> str:
        """The same for the same place, by whatever name its brokers go: which topic it is, its id tells."""
        return f"kafka:{self.examples}"

    def as_they_are(self) -> dict[str, kafka.Topic]:
        """The topics with their ids and partitions. Raises NoTopic."""
        return kafka.check_topics(self.connection, [self.examples, self.late, self.dead_letters])

    def of_part(self, part: int, parts: int) -> Topics:
        """All processes write to the same topics."""
        return self

    def given(self) -> dict[str, Path]:
        """No files."""
        return {}

    def written(self) -> dict[str, str]:
        """What came beside the examples, and where it is."""
        return {"retractions": f"{self.examples}, as tombstones", "late": self.late, "dead_letters": self.dead_letters}

    def sinks(
        self, *, fresh: bool, on_closed: Callable[[], None], on_error: Callable[[Exception], None] = lambda error: None
    ) -> dict[str, Sink[Any]]:
        """By what goes there."""
        named = {"messages": self.examples, "late": self.late, "dead_letters": self.dead_letters}
        # A letter may be larger than its topic takes, since it names reason and source: all of the record still stands at its source.
        return {
            name: kafka.KafkaSink(self.connection, topic, on_error=on_error, patience=self.patience, cuts=name != "messages")
            for name, topic in named.items()
        }

    def join(self, parts: int) -> None:
        """All is in one place already."""

    def tidy(self) -> None:
        """Nothing is left over."""

    def check(self, spec: str) -> None:
        """The topics are there, and hold nothing that was made by other rules. Raises NoTopic, or OtherState."""
        kafka.check_topics(self.connection, [self.examples, self.late, self.dead_letters])
        for _, record in kafka.records_of(self.connection, self.examples, back=kafka.LOOK_BACK):  # the very last may be tombstones
            with suppress(ValueError, TypeError, KeyError):
                if record.value is not None and (other := orjson.loads(record.value)["spec"]) != spec:
                    raise OtherState(
                        f"{self}: the topic holds examples of spec {other}, and this run makes spec {spec}: name another topic, or give the"
                        " settings that its examples were made with"
                    )


Destination = Files | Topics


def destination_of(to: str, settings: Settings) -> Destination:
    """DEST: a topic; or a file, and the files beside it; what goes to standard output has none."""
    if is_kafka(to):
        address = topic_of(to, "--to")
        ours = settings.kafka
        connection = connection_of(settings, address.bootstrap)
        return Topics(connection, address.topic, ours.late_topic, ours.dead_letter_topic, ours.patience / 1e6)
    return files_of(to)


def topic_of(place: str, name: str) -> kafka.KafkaAddress:
    """A topic to write to, or to look at: without from, to and follow."""
    try:
        address = kafka.parse_address(place)
    except kafka.BadAddress as error:
        raise BadCommand(f"{name} {str(error).removesuffix(kafka.HOW)}kafka://host:port/topic") from None
    if (address.since, address.until, address.follow) != (None, None, False):
        raise BadCommand(f"{name} {place}: from, to and follow are for a SOURCE: leave them out")
    return address


def files_of(to: str) -> Files:
    """A file, and the files beside it; what goes to standard output has none."""
    if to == "-":
        return Files(None, None, None, None)
    if "://" in to:
        raise BadCommand(f"--to {to}: a .jsonl path, - or kafka://host:port/topic is expected")
    path = Path(to)
    if path.exists() and not (path.is_file() or path.is_dir()):
        jsonl.check_writable(path)
        return Files(path, None, None, None)  # beside a device or a pipe is no place for files
    beside = path.with_suffix("") if path.suffix == ".jsonl" else path
    files = Files(path, *(beside.with_name(f"{beside.name}.{what}.jsonl") for what in ("retractions", "late", "dead-letters")))
    for each in files.given().values():
        jsonl.check_writable(each)
    return files


def check_apart(source: str, outputs: Iterable[Path], **others: str | Path | None) -> None:
    """Nothing is written over what is read (SOURCE, and `others` by the names of their flags), or twice to one file."""
    read = {"SOURCE": source} | {f"--{name}": str(place) for name, place in others.items() if place is not None}
    taken = {name: Path(place) for name, place in read.items() if not is_kafka(place)}
    for path in outputs:
        for name, other in taken.items():
            same = path.is_file() and other.is_file() and path.samefile(other)
            if same or (path.resolve() == other.resolve() and (path.is_file() or not path.exists())):
                raise BadCommand(f"{path}: would be written over {name}: name another file")
        taken[f"another output, {path}"] = path


# SOURCE


@dataclass(frozen=True)
class Origin:
    """A SOURCE, looked at: one of the three is there."""

    text: str
    export: slack_export.Export | None = None
    file: Path | None = None
    address: kafka.KafkaAddress | None = None

    @property
    def is_followed(self) -> bool:
        """Whether it has no end."""
        return self.address is not None and self.address.follow

    @property
    def identity(self) -> str:
        """The same for the same source; of a topic, by whatever name its brokers go."""
        if self.address is not None:
            return f"kafka:{self.address.topic}?from={self.address.since}&to={self.address.until}&follow={self.address.follow}"
        return str(Path(self.text).resolve())


def origin_of(source: str, include: tuple[slack_export.ChannelKind, ...]) -> Origin:
    """What SOURCE is: an export (zip or folder), a file of events, or a topic."""
    if is_kafka(source):
        return Origin(source, address=kafka.parse_address(source))
    if "://" in source or source.startswith("kafka:"):
        raise BadCommand(f"SOURCE {source}: a Slack export (zip or folder), a .jsonl of events, or kafka://host:port/topic is expected")
    path = Path(source)
    if path.is_dir() or path.suffix.lower() == ".zip" or _begins_as_zip(path):
        return Origin(source, export=slack_export.open_export(path, include))
    jsonl.check_readable(path)
    return Origin(source, file=path)


def source_of(
    origin: Origin,
    following: Following,
    settings: Settings,
    *,
    ended: Callable[[], None] = lambda: None,
    progress: Callable[[int, float], None] = lambda count, done: None,
    partitions: Callable[[int], bool] = lambda partition: True,
    warmup: int | None = None,
    on_lag: Callable[[Any], None] = lambda lag: None,
    on_error: Callable[[Exception], None] = lambda error: None,
    on_start: Callable[[], None] = lambda: None,
    group: str | None = None,
) -> Source[Chunk]:
    """The records of SOURCE. Of a topic, those in `partitions`, from the beginning or from `warmup` microseconds before its `from`."""
    common: dict[str, Any] = {"stopping": following.is_stopping, "on_end": ended, "progress": progress}
    if origin.address is not None:
        since = origin.address.since
        return kafka.KafkaSource(
            connection_of(settings, origin.address.bootstrap),
            origin.address.topic,
            since=None if since is None or warmup is None else max(since - warmup, 0),
            follow=origin.address.follow,
            group=group,
            wanted=partitions,
            on_lag=on_lag,
            on_error=on_error,
            on_start=on_start,
            idle_clock=settings.run.idle_clock == "wall",
            patience=settings.kafka.patience / 1e6,
            **common,
        )
    if origin.export is not None:
        mine = set(following.shards)
        return slack_export.ExportSource(
            origin.export,
            lambda channel, days: records_of(channel, days, edits=following.rules.edits),
            wanted=lambda channel: shard_of(channel) in mine,
            **common,
        )
    assert origin.file is not None
    return jsonl.JsonlSource(origin.file, **common)


def not_read(export: slack_export.Export) -> tuple[dict[str, int], list[str]]:
    """How many channels of each kind are left out; and what to tell about that, and about files that are not read."""
    left_out: dict[str, int] = {kind: count for kind in slack_export.KINDS if (count := sum(each.kind == kind for each in export.left_out))}
    told = []
    if left_out:
        kinds = {each.kind for each in export.channels} | {"channels"} | set(left_out)
        counts = ", ".join(f"{count:,} {kind}" for kind, count in left_out.items())
        every = ",".join(kind for kind in slack_export.KINDS if kind in kinds)
        told.append(f"Left out, as they are not public: {counts}. To read them, too: --include {every}")
    if export.unread:
        some = ", ".join(export.unread[:3]) + (", …" if len(export.unread) > 3 else "")
        told.append(f"Not read, as they are no day files of a channel: {len(export.unread):,} files ({some})")
    return left_out, told


def records_in(source: Source[Chunk]) -> Iterator[AuditedRecord]:
    """All records of a bounded source, in order, in a plain loop."""
    for partition, _, value in values_in(source):
        if isinstance(value, bytes):
            yield value
        elif hasattr(value, "offset"):
            yield partition, value.timestamp if value.timestamp > 0 else now_us(), value.value or b""
        else:
            yield value.record


def values_in(source: Source[Chunk]) -> Iterator[tuple[str, int, Any]]:
    """All that is in the chunks of a bounded source: partition, number in it, value."""
    for name in source.list_parts():  # type: ignore[attr-defined]
        part = source.build_part("read_records", name, None)  # type: ignore[attr-defined]
        while True:
            try:
                chunks = part.next_batch()
            except StopIteration:
                break
            if not chunks:
                time.sleep(WAIT)
            for partition, first, values in chunks:
                for number, value in enumerate(values, first):
                    yield partition, number, value
        part.close()


def lines_with_places(name: str, place: str, settings: Settings) -> Iterator[tuple[str, bytes]]:
    """The lines of a file, or the values on a topic to its end as it is now, each with its place; `name`: what the command calls it."""
    if is_kafka(place):
        address = topic_of(place, name)
        for partition, record in kafka.records_of(connection_of(settings, address.bootstrap), address.topic):
            if record.value is not None:
                yield f"{address.topic}/{partition}:{record.offset}", record.value
        return
    path = Path(place)
    jsonl.check_readable(path)
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield f"{path}:{number}", line


def _begins_as_zip(path: Path) -> bool:
    if not path.is_file():
        return False  # what is read from a pipe is gone from it
    with suppress(OSError), path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    return False
