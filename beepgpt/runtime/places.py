"""SOURCE on the command line: an export, a file or a topic, and how it is read."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from bytewax.inputs import Source
from pydantic import SecretStr

from beepgpt.config.settings import Settings
from beepgpt.connectors import kafka
from beepgpt.connectors.files import jsonl, parquet
from beepgpt.connectors.http import ENVIRONMENT, Outbound, place_of
from beepgpt.connectors.log import EITHER, KAFKA, PATIENCE, SCHEMES, SQLITE, BadAddress, Log, LogSource, TopicAddress, parse_address
from beepgpt.connectors.slack import export as slack_export
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.conversations.chunks import Chunk
from beepgpt.conversations.export import records_of
from beepgpt.conversations.shard import SHARDS, shard_of
from beepgpt.errors import BadCommand, cut_short
from beepgpt.lenient_json import is_cut_short
from beepgpt.runtime.console import console
from beepgpt.runtime.forgotten import forgotten_of


def is_topic(place: str) -> bool:
    """Whether a SOURCE or DEST is a topic, of Kafka or in a folder."""
    return place.startswith(SCHEMES)


def print_proxy(outbound: Outbound, url: str) -> None:
    """Say at the start that an address is called through a proxy, and who named it. Raises AddressRefused."""
    if proxy := outbound.proxy_to(url):
        named = "HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names" if outbound.proxy == ENVIRONMENT else "the settings name"
        console.print(f"{outbound.setting} is called through the proxy {place_of(proxy)}, which {named}.")


def log_of(settings: Settings, at: TopicAddress | str) -> Log:
    """The log of an address, or at a place (`kafka://host:port`, `sqlite:///folder`), as the settings say how to reach it."""
    place = at if isinstance(at, str) else at.place
    if place.startswith(SQLITE):
        return SqliteLog(place)
    ours = settings.kafka
    connection = kafka.Connection(
        place.removeprefix(KAFKA),
        protocol=ours.protocol,
        mechanism=ours.mechanism,
        user=ours.user,
        password=_revealed(ours.password),
        ca_file=_path(ours.ca_file),
        cert_file=_path(ours.cert_file),
        key_file=_path(ours.key_file),
        key_password=_revealed(ours.key_password),
    )
    return kafka.KafkaLog(connection)


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)


WAIT = 0.002
"""Seconds between two looks for a log's records."""


@dataclass(frozen=True)
class Origin:
    """An inspected SOURCE: an export, a file or a topic."""

    text: str
    export: slack_export.Export | None = None
    file: Path | None = None
    address: TopicAddress | None = None

    @property
    def is_followed(self) -> bool:
        """Whether the source is followed, so that it has no end."""
        return self.address is not None and self.address.follow

    @property
    def topic(self) -> str:
        """The topic's name; empty if it is none."""
        return "" if self.address is None else self.address.topic

    @property
    def since(self) -> int | None:
        """A topic's `from`, microseconds."""
        return None if self.address is None else self.address.since

    @property
    def until(self) -> int | None:
        """A topic's `to`, microseconds."""
        return None if self.address is None else self.address.until

    @property
    def identity(self) -> str:
        """Canonical name, to tell whether two runs read the same source; for a topic, the same for each of its brokers."""
        if self.address is not None:
            return f"{self.address.identity}?from={self.address.since}&to={self.address.until}&follow={self.address.follow}"
        return str(Path(self.text).resolve())


def origin_of(source: str, include: tuple[slack_export.ChannelKind, ...]) -> Origin:
    """Inspect SOURCE: an export (zip or folder), a file of events, or a topic. Raises BadCommand, BadExport or CannotRead."""
    if is_topic(source):
        return Origin(source, address=parse_address(source))
    if "://" in source or source.startswith(("kafka:", "sqlite:")):
        raise BadCommand(f"SOURCE {source}: a Slack export (zip or folder), a .jsonl of events, {EITHER} is expected")
    path = Path(source)
    if path.is_dir() or path.suffix.lower() == ".zip" or _begins_as_zip(path):
        export = slack_export.open_export(path, include)
        if not export.is_whole:
            raise slack_export.BadExport(
                f"{path}: `beepgpt history` has still to read some of its channels: give that command again, with --to {path}"
            )
        return Origin(source, export=export)
    jsonl.check_readable(path)
    slack_export.check_no_slackdump_file(path)
    return Origin(source, file=path)


def patience_of(settings: Settings, *, follows: bool) -> float:
    """Seconds for which brokers may be away: as set; else for ever where a topic is followed, and two minutes where input has an end."""
    if settings.kafka.patience is not None:
        return settings.kafka.patience / 1e6
    return inf if follows else PATIENCE


class SourceListener:
    """What a source reports while it is read, and whether it is to stop; this one ignores it, and never stops it."""

    patience: float = PATIENCE
    """Seconds for which sinks wait for brokers that are away."""

    def is_stopping(self) -> bool:
        """Whether the source is to stop before its end. It asks whenever it is asked for records."""
        return False

    def begin(self) -> None:
        """Called when the flow is built."""

    def read(self, count: int, done: float) -> None:
        """Called with the number of records that were read since the last time, and the share of the whole input that is read."""

    def heard(self, ahead: Mapping[int, int]) -> None:
        """Called when the log answered, with the number of records that each partition has ahead."""

    def fail(self, error: Exception) -> None:
        """Called with what goes wrong, before it is raised."""

    def end(self) -> None:
        """Called at the end of the input."""

    def owns(self, partition: int) -> bool:
        """Whether a topic's partition is to be read here."""
        return True


NOBODY = SourceListener()


def source_of(
    origin: Origin,
    settings: Settings,
    listener: SourceListener,
    *,
    shards: Sequence[str] = SHARDS,
    since: int | None = None,
    until: int | None = None,
    group: str | None = None,
    idle_clock: bool = False,
) -> Source[Chunk]:
    """The records of SOURCE.

    Of an export, those of channels in `shards`, made by the settings' rules. Of a topic, the partitions that the listener owns, of records
    that were written from `since` to `until` (microseconds); its offsets are committed to `group`, and with `idle_clock` the machine's
    clock moves quiet partitions on.
    """
    common: dict[str, Any] = {"stopping": listener.is_stopping, "on_end": listener.end, "progress": listener.read}
    if origin.address is not None:
        return log_of(settings, origin.address).source(
            origin.address.topic,
            since=since,
            until=until,
            follow=origin.address.follow,
            group=group,
            wanted=listener.owns,
            on_lag=listener.heard,
            on_error=listener.fail,
            on_start=listener.begin,
            idle_clock=idle_clock,
            patience=patience_of(settings, follows=origin.is_followed),
            **common,
        )
    if origin.export is not None:
        mine, people, with_authors = frozenset(shards), origin.export.people, forgotten_of(settings) is not None
        return slack_export.ExportSource(
            origin.export,
            lambda channel, days: records_of(channel, days, edits=settings.rules.edits, with_authors=with_authors, people=people),
            wanted=lambda channel: shard_of(channel) in mine,
            **common,
        )
    assert origin.file is not None
    return jsonl.JsonlSource(origin.file, **common)


def topic_id_of(source: Source[Any]) -> str | None:
    """The id of the topic that is read; None if the source is no topic."""
    return source.topic.id if isinstance(source, LogSource) else None


def records_in(source: Source[Chunk]) -> Iterator[bytes | tuple[str, int, bytes]]:
    """All records of a bounded source, in order, without an engine; one of a topic with its partition and the time it was written."""
    for partition, _, value in values_in(source):
        if isinstance(value, bytes):
            yield value
        elif hasattr(value, "offset"):
            yield partition, value.timestamp, value.value or b""
        else:
            yield value.record


class FileLines:
    """The lines of a file, read from it each time: for files that are too large for the memory. Raises CannotRead."""

    def __init__(self, path: Path) -> None:
        jsonl.check_readable(path)
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        source = jsonl.JsonlSource(self._path, max_line=1 << 30)  # an example may be longer than an event
        return (each for each in records_in(source) if isinstance(each, bytes))


def values_in(source: Source[Chunk]) -> Iterator[tuple[str, int, Any]]:
    """All values in the chunks of a bounded source: partition, number in it, value."""
    for name in source.list_parts():  # type: ignore[attr-defined]
        with closing(source.build_part("read_records", name, None)) as partition:  # type: ignore[attr-defined]
            while True:
                try:
                    chunks = partition.next_batch()
                except StopIteration:
                    break
                if not chunks:
                    time.sleep(WAIT)
                for of, first, values in chunks:
                    for number, value in enumerate(values, first):
                        yield of, number, value


def lines_with_places(
    name: str, place: str, settings: Settings, kind: str, tombstones: set[bytes] | None = None
) -> Iterator[tuple[str, bytes]]:
    """The lines of a file, the rows of a table, or the values on a topic to its end as it is now, each with its place.

    `name`: what the command calls it. `kind`: of which records a table is expected to be. `tombstones` takes the keys whose values
    are gone. Raises CannotRead if a file's last line was cut short, or a table can't be read.
    """
    if is_topic(place):
        address = topic_of(place, name)
        for partition, record in log_of(settings, address).records(address.topic):
            if record.value is not None:
                yield f"{address.topic}/{partition}:{record.offset}", record.value
            elif tombstones is not None and record.key is not None:
                tombstones.add(record.key)
        return
    path = Path(place)
    if parquet.is_table(path):
        yield from ((f"{path}:{number}", line) for number, line in enumerate(parquet.lines_of(path, kind), start=1))
        return
    jsonl.check_readable(path)
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if is_cut_short(line):
                raise cut_short(path, number)
            if line.strip():
                yield f"{path}:{number}", line


def _begins_as_zip(path: Path) -> bool:
    if not path.is_file():
        return False  # what is read from a pipe is gone from it
    with suppress(OSError), path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    return False


def topic_of(place: str, name: str) -> TopicAddress:
    """The address of a topic to write to or to look at: without from, to and follow. Raises BadCommand."""
    try:
        address = parse_address(place)
    except BadAddress as error:
        raise BadCommand(f"{name} {error.what}: write {EITHER}") from None
    if not address.is_whole:
        raise BadCommand(f"{name} {place}: from, to and follow are for a SOURCE: leave them out")
    return address


NO_FOLDERS = {".csv", ".html", ".json", ".jsonl", ".ndjson", ".parquet", ".tsv", ".txt", ".xlsx", ".zip"}
"""Endings of the names of files."""


def check_names_folder(flag: str, path: Path) -> None:
    """Raise BadCommand if `path`, where a folder is to be, is a file or is called as one."""
    if not path.is_dir() and (path.exists() or path.suffix.lower() in NO_FOLDERS):
        what = "is a file" if path.exists() else f"is called as a {path.suffix} file is"
        raise BadCommand(f"{flag} {path}: {what}, and a folder is made there: name a folder")


def check_apart(source: str, outputs: Iterable[Path], **others: str | Path | None) -> None:
    """Check that nothing is written over what is read (SOURCE, and `others` by the names of their flags), or twice to one file."""
    read = {"SOURCE": source} | {f"--{name}": str(place) for name, place in others.items() if place is not None}
    taken = {name: Path(place) for name, place in read.items() if not is_topic(place)}
    for path in outputs:
        for name, other in taken.items():
            same = path.is_file() and other.is_file() and path.samefile(other)
            if same or (path.resolve() == other.resolve() and (path.is_file() or not path.exists())):
                raise BadCommand(f"{path}: would be written over {name}: name another file")
        taken[f"another output, {path}"] = path
