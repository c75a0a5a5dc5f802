"""`beepgpt ingest`: an export, a file of events, another topic, or Slack itself (ingest_slack.py), put on a topic as events."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Protocol, get_args

import orjson
import typer
from rich.table import Table

from beepgpt.commands.flags import kinds_of, with_settings
from beepgpt.config.settings import Settings
from beepgpt.connectors import kafka
from beepgpt.connectors.files import jsonl
from beepgpt.connectors.kafka import WrongTopic, check_keeps, chunks_of, tails
from beepgpt.connectors.slack import export as slack_export
from beepgpt.connectors.sqlite.sorting import Sorter
from beepgpt.conversations.account import Account
from beepgpt.conversations.events import Parsed, Reject, parse
from beepgpt.conversations.export import ExportedDay, records_of
from beepgpt.conversations.ingestion import (
    Found,
    Item,
    Span,
    TopicMessage,
    WritePlan,
    accounted,
    as_json,
    check,
    found_in,
    in_order,
    item_of,
    next_beat,
    row_of,
    run_of,
    span_of,
    without_copies,
)
from beepgpt.errors import BadCommand
from beepgpt.ingest.slack import run as ingest_slack
from beepgpt.runtime.clock import now_us
from beepgpt.runtime.connections import connection_of, is_kafka
from beepgpt.runtime.console import Watched, console
from beepgpt.runtime.pacing import BEAT_EVERY, TICK, pace_of, step_of, told_of_pace
from beepgpt.runtime.places import check_apart, not_read, origin_of, topic_of
from beepgpt.runtime.workers import Stop, peak_memory_mb

BATCH = 1_000
BATCH_BYTES = 4 * 2**20
LOOK_BACK = 20
"""Offsets at the end of each partition that tell how far an ingest came."""
LOOK_FAR_BACK = 10_000
"""The same where others have written since."""
SETTLED = 0.5
"""Seconds in which nothing of this run may come to the topic: what a killed process sent last may still be on its way."""
TRIES = 10
ENDS = 64 * 2**10
"""Bytes at the beginning and the end of a file by which it is known again."""

MOST_TOLD = 10
"""Day files that can't be read, and are named; all of them are counted."""

With = Literal["dead-letters", "late"]


@with_settings
def ingest(
    source: Annotated[
        str, typer.Argument(help="A Slack export (zip or folder), a .jsonl of events, kafka://host:port/topic, or slack: live.")
    ],
    to: Annotated[str, typer.Option(help="The topic that takes the events: kafka://host:port/topic, empty or begun by the same command.")],
    settings: Settings,
    pace: Annotated[
        str | None,
        typer.Option(
            help="Let event time pass so much faster than real time (60x), and add a heartbeat for each second of it: every minute of"
            " event time at 60x. Without it: all at once, and none are added."
        ),
    ] = None,
    with_: Annotated[
        str | None, typer.Option("--with", help="Of a topic: put what came beside it in its place: dead-letters,late.")
    ] = None,
    include: Annotated[
        str, typer.Option(help="Kinds of channels of an export, or live, joined by commas: channels, groups, dms, mpims.")
    ] = "channels",
    scratch: Annotated[Path | None, typer.Option(help="A folder with space for all events of a topic, to sort them in.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the closing account here, as JSON.")] = None,
    http: Annotated[
        int | None, typer.Option(help="Of slack: let Slack post its events to this port, in place of Socket Mode.", min=0, max=65_535)
    ] = None,
    http_host: Annotated[str, typer.Option(help="On which address that is.")] = "127.0.0.1",
) -> None:
    """Put events on a topic: an export, a file, another topic in order, or live from Slack. Stopped or killed, the same command goes on."""
    if report is not None:
        jsonl.check_writable(report)
        check_apart(source, [report])
    if source == ingest_slack.NAME:
        if (pace, with_, scratch) != (None, None, None):
            raise BadCommand("slack is live: --pace, --with and --scratch don't go with it")
        if not is_kafka(to):
            raise BadCommand(f"--to {to}: a topic is expected: kafka://host:port/topic")
        live = ingest_slack.SlackIngestJob(to, topic_of(to, "--to"), settings, kinds_of(include), http, http_host)
        closing, status = ingest_slack.run_slack(live)
        ingest_slack.print_report(closing)
        if report is not None:
            jsonl.write_file(report, orjson.dumps(closing, option=orjson.OPT_INDENT_2) + b"\n")
        raise typer.Exit(1 if closing["does_not_add_up"] else status)
    if http is not None:
        raise BadCommand("--http goes with slack as SOURCE")
    closing, status = run_ingest(IngestJob(source, to, settings, pace_of(pace), beside_of(with_), kinds_of(include), scratch))
    print_ingest(closing)
    if report is not None:
        jsonl.write_file(report, orjson.dumps(closing, option=orjson.OPT_INDENT_2) + b"\n")
    if status == 130:
        console.print("Interrupted; what was written is kept: run the same command again to go on.")
    raise typer.Exit(1 if closing["does_not_add_up"] else status)


@dataclass(frozen=True)
class IngestJob:
    """An `ingest` command, as it was given."""

    source: str
    to: str
    settings: Settings
    pace: float | None = None
    beside: tuple[With, ...] = ()
    include: tuple[slack_export.ChannelKind, ...] = ("channels",)
    scratch: Path | None = None


def beside_of(text: str | None) -> tuple[With, ...]:
    """What came beside a topic and is to be put in its place."""
    chosen = set() if text is None else {each.strip() for each in text.split(",")}
    if unknown := chosen - set(get_args(With)):
        raise BadCommand(f"--with {', '.join(sorted(unknown))}: must be of {', '.join(get_args(With))}")
    return tuple(each for each in get_args(With) if each in chosen)


# The whole of it


def run_ingest(job: IngestJob) -> tuple[dict[str, Any], int]:
    """All that is left to write, written. Returns the report and the exit status."""
    began = time.monotonic()
    account, stop = Account(), Stop()
    if not is_kafka(job.to):
        raise BadCommand(f"--to {job.to}: a topic is expected: kafka://host:port/topic")
    address = topic_of(job.to, "--to")
    check_command(job, address)
    connection = connection_of(job.settings, address.bootstrap)
    topic = kafka.describe_topic(connection, address.topic)
    with stop.listening(), ExitStack() as stack:
        watched = stack.enter_context(Watched("ingest", shown=job.settings.run.progress))
        feed = feed_of(job, stop, stack)
        run = run_of(feed.identity, topic.partitions)
        fill(job, connection, topic, run, feed, account, stop, lambda: watched.update(0, 1, account["read"], feed.share))
    if stop():
        account.count("waiting", account["read"] - accounted(account))
    for line in feed.told:
        console.print(line)
    seconds = time.monotonic() - began
    closing = {
        "command": "ingest",
        "source": job.source,
        "to": job.to,
        "run": run,
        "partitions": topic.partitions,
        "pace": job.pace,
        "ended": not stop(),
        "seconds": round(seconds, 3),
        "records_per_second": round(account["read"] / seconds, 1),
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "account": as_json(account),
        "does_not_add_up": check(account),
    }
    return closing, 130 if stop() else 0


def check_command(job: IngestJob, to: kafka.KafkaAddress) -> None:
    """What can't be, before anybody is asked."""
    if not is_kafka(job.source):
        if job.beside:
            raise BadCommand("--with goes with a topic as SOURCE: what was late or unusable in a file stands in that file")
        return
    address = kafka.parse_address(job.source)
    if (address.since, address.until, address.follow) != (None, None, False):
        raise BadCommand(f"SOURCE {job.source}: all of a topic is put in order: leave out from, to and follow")
    if to.bootstrap == address.bootstrap and to.topic in topics_read(job):
        raise BadCommand(f"--to {job.to}: is read from: name another topic, which is empty")


def fill(
    job: IngestJob,
    connection: kafka.Connection,
    topic: kafka.Topic,
    run: str,
    feed: Feed,
    account: Account,
    stop: Stop,
    told: Callable[[], None],
) -> None:
    """Looks at what is there, and writes what is missing, unless somebody asks to stop."""
    if not check_keeps(connection, topic.name):
        console.print(f"{topic.name}: whether it keeps old records could not be asked.")
    found = look(connection, topic.name, run)
    plan = WritePlan(run, topic.partitions, kafka.partition_of, now_us(), found.there, found.beats)
    feed.prepare(account, told)
    span = Span()
    if (job.pace is not None or found.others) and not stop():
        span = span_of(until_stopped(feed.items(Account()), stop), plan, job.settings.rules.lateness)
    if stop():  # what is prepared by half has another order
        return
    if found.others and span.items:
        raise closed_by_others(topic.name, found, span.items)
    ends_before = all_ends(connection, topic.name)
    with kafka.Writer(connection, topic.name, patience=job.settings.kafka.patience / 1e6) as writer:
        pace = None if job.pace is None else Pace(job.pace, span, writer, plan, account)
        if pace is not None and span.items:
            console.print(pace.told())
        expected = write(feed.items(account), plan, writer, account, pace, stop, told)
    if not stop():
        check_all_there(connection, topic.name, expected)
        if not found.is_begun:
            written = sum(expected.values()) + account["heartbeats_added"] * topic.partitions
            check_nothing_else(connection, topic.name, ends_before + written)


def until_stopped(items: Iterator[Item], stop: Stop) -> Iterator[Item]:
    """The items, fewer if somebody asks to stop."""
    for item in items:
        if stop():
            return
        yield item


def write(
    items: Iterator[Item],
    plan: WritePlan,
    writer: kafka.Writer,
    account: Account,
    pace: Pace | None,
    stop: Stop,
    told: Callable[[], None],
) -> dict[int, int]:
    """Writes what is missing; returns how many records of the source each partition has then, at least."""
    batch: list[TopicMessage] = []
    size = 0
    counts = dict.fromkeys(range(plan.partitions), 0)

    def send() -> None:
        nonlocal size
        writer.send(kafka.OutgoingRecord(*message) for message in batch)
        batch.clear()
        size = 0
        told()

    for seq, item in enumerate(items):
        missing = plan.missing(item, seq)
        if pace is not None and not pace.come_to(item, seq, bool(missing), send, stop):
            break
        if missing and len(item.record) + len((item.channel or "").encode()) > writer.most:
            send()
            writer.flush()
            raise too_large(item, writer.most)
        account.count("written" if missing else "there")
        for partition in plan.where(item):
            counts[partition] += 1
        batch += plan.messages(item, seq, missing)
        size += len(item.record) * len(missing)
        if len(batch) >= BATCH or size >= BATCH_BYTES:
            send()
        elif seq % BATCH == 0:
            told()
        if stop():
            break
    send()
    return counts


def too_large(item: Item, most: int) -> kafka.NotDelivered:
    """The error for a record that the topic doesn't take, with the place where it stands."""
    return kafka.NotDelivered(
        f"{item.place}: a record of {len(item.record):,} bytes is larger than the {most:,} that the topic takes. Raise the topic's"
        " max.message.bytes (for events 2 MiB are enough), and the same command goes on: what came before it is written. Or take the"
        " record out of the source, and name an empty topic"
    )


# What is there already


def look(connection: kafka.Connection, topic: str, run: str) -> Found:
    """How far an earlier start came, as the topic tells. Raises WrongTopic if others' records stand there and none of this run."""

    def ends(back: int) -> Found:
        return found_in(tails(connection, topic, back), run)

    found = ends(LOOK_BACK)
    if found.others or found.unclear:
        found = ends(LOOK_FAR_BACK)
    if found.others and not found.is_begun:
        raise WrongTopic(
            f"{topic}: it holds records already, and none of this ingest (another source, other settings, a source that has changed"
            " since, or another number of partitions): older events behind newer ones would be late. Name an empty topic"
        )
    if found.unclear:
        raise WrongTopic(
            f"{topic}, partition {found.unclear[0]}: of its last {LOOK_FAR_BACK:,} records none is of this ingest, so that nobody knows"
            " what of it stands before them: name an empty topic"
        )
    for _ in range(TRIES):
        time.sleep(SETTLED + (BEAT_EVERY if found.beats else 0))
        before, found = found, ends(LOOK_FAR_BACK if found.others else LOOK_BACK)
        if (found.there, found.beats) == (before.there, before.beats):
            return found
    raise WrongTopic(f"{topic}: the same ingest is writing to it now: stop that first, or wait for its end")


def closed_by_others(topic: str, found: Found, missing: int) -> WrongTopic:
    """The error for a topic that was begun by this run, and then written to by others."""
    return WrongTopic(
        f"{topic}, partition {found.others[0]}: others' records came after those of this ingest, of which {missing:,} are missing, and"
        " would be late now: name an empty topic"
    )


def check_all_there(connection: kafka.Connection, topic: str, expected: dict[int, int]) -> None:
    """Raises WrongTopic if a partition has fewer records than were written to it."""
    for number, (begin, end) in kafka.begin_and_end_offsets(connection, topic).items():
        if (missing := expected.get(number, 0) - (end - begin)) > 0:
            raise WrongTopic(
                f"{topic}, partition {number}: {missing:,} records of this ingest were removed from it: make the topic anew, without an"
                " end to what it keeps (`beepgpt topics`), and ingest again"
            )


def check_nothing_else(connection: kafka.Connection, topic: str, expected: int) -> None:
    """Raises WrongTopic if the partitions' ends together are beyond what is expected."""
    if (more := all_ends(connection, topic) - expected) > 0:
        raise WrongTopic(
            f"{topic}: {more:,} records came from somebody else while this ingest wrote its own: the order of time is lost"
            f" there. Let nobody else write, and ingest again to an empty topic; or put it in order:"
            f" `beepgpt ingest kafka://{connection.bootstrap}/{topic} --to` another one"
        )


def all_ends(connection: kafka.Connection, topic: str) -> int:
    """The sum of the partitions' ends: it grows by one with each record."""
    return sum(end for _, end in kafka.begin_and_end_offsets(connection, topic).values())


# At a pace


class Pace:
    """Lets event time pass at a multiple of real time, and tells every partition at fixed event times how far it is.

    Which heartbeats there are, and between which records, depends on the events and the pace alone. None is missing in any
    partition before a record that stands behind it in another: they are confirmed before more is sent.
    """

    def __init__(self, multiple: float, span: Span, writer: kafka.Writer, plan: WritePlan, account: Account) -> None:
        self._multiple = multiple
        self._span = span
        self._writer = writer
        self._plan = plan
        self._account = account
        self._step = step_of(multiple)
        self._told = {each: max(span.first, plan.beats.get(each, 0)) for each in range(plan.partitions)}
        """Up to which event time each partition has its heartbeats."""
        self._beat = next_beat(min(self._told.values()), self._step)
        self._origin = max(self._told.values())
        """The event time at which this start begins."""
        self._due = 0
        """The latest event time so far."""
        self._began: float | None = None

    def told(self) -> str:
        """How long it will take."""
        return told_of_pace(self._span, self._origin, self._multiple)

    def come_to(self, item: Item, seq: int, is_missing: bool, send: Callable[[], None], stop: Stop) -> bool:
        """Writes the heartbeats before the item, each when it is due, and sleeps until the item is; False if asked to stop before."""
        self._due = max(self._due, self._plan.due(item) or 0)
        is_told = False
        while self._span.in_order and self._beat <= self._due:
            if missing := [each for each, told in self._told.items() if told < self._beat]:
                if not self._wait_until(self._beat, send, stop):
                    return False
                send()
                self._writer.send(kafka.OutgoingRecord(*message) for message in self._plan.heartbeats(self._beat, seq - 1, missing))
                self._account.count("heartbeats_added")
                is_told = True
            self._beat += self._step
        if is_told:
            self._writer.flush()
        return not is_missing or self._wait_until(self._due, send, stop)

    def _wait_until(self, t: int, send: Callable[[], None], stop: Stop) -> bool:
        """Sends what was collected and sleeps; False if somebody asks to stop."""
        if self._began is None:  # what was there already took some time, too
            self._began = time.monotonic()
        while (ahead := (t - self._origin) / 1e6 / self._multiple - (time.monotonic() - self._began)) > 0 and not stop():
            send()
            time.sleep(min(ahead, TICK))
        return not stop()


# What is read


class Feed(Protocol):
    """A source that can be gone through again, always in the same order."""

    identity: dict[str, Any]
    """What tells it from others, and from itself when it has changed."""
    told: list[str]
    """What is to be told of it at the end."""

    @property
    def share(self) -> float:
        """How much of it is done."""
        ...

    def prepare(self, account: Account, told: Callable[[], None]) -> None:
        """What has to be done once, before the first item."""

    def items(self, account: Account) -> Iterator[Item]:
        """All of it, counted to the account."""
        ...


def feed_of(job: IngestJob, stop: Stop, stack: ExitStack) -> Feed:
    """SOURCE; what it opens is closed by the stack."""
    if is_kafka(job.source):
        ours = job.settings
        connection, patience = connection_of(ours, kafka.parse_address(job.source).bootstrap), ours.kafka.patience / 1e6
        readings = [
            Reading(kind, kafka.KafkaSource(connection, name, stopping=stop, patience=patience)) for name, kind in topics_read(job).items()
        ]
        return TopicFeed(readings, ours.rules.lateness, stack.enter_context(Sorter(job.scratch)))
    origin = origin_of(job.source, job.include)
    if origin.export is not None:
        for line in not_read(origin.export)[1]:
            console.print(line)
        return ExportFeed(origin.export, job.settings.rules.edits, job.include)
    assert origin.file is not None
    if not origin.file.is_file():
        raise BadCommand(f"SOURCE {origin.file}: a file is expected, which can be read again if this is interrupted")
    return FileFeed(origin.file, stop)


class ExportFeed:
    """An export's channels in one order of time."""

    def __init__(
        self, export: slack_export.Export, edits: Literal["known", "final"], include: tuple[slack_export.ChannelKind, ...]
    ) -> None:
        self._export = export
        self._edits = edits
        self._days = 0
        self._all_days = sum(len(channel.days) for channel in export.channels)
        self.told: list[str] = []
        listed = [(channel.id, [(day.place, [copy.stored for copy in day.copies]) for day in channel.days]) for channel in export.channels]
        self.identity: dict[str, Any] = {
            "kind": "export",
            "include": list(include),
            "edits": edits,
            "files": sha256(orjson.dumps(listed)).hexdigest(),
        }

    @property
    def share(self) -> float:
        return self._days / max(self._all_days, 1)

    def prepare(self, account: Account, told: Callable[[], None]) -> None:
        """Nothing: it is read as it is written."""

    def items(self, account: Account) -> Iterator[Item]:
        self._days = 0
        self.told.clear()
        return in_order([self._of(channel, account) for channel in self._export.channels])

    def _of(self, channel: slack_export.ExportChannel, account: Account) -> Iterator[Item]:
        records = records_of(channel.id, self._days_of(channel, account), edits=self._edits)
        for number, record in enumerate(records, 1):
            account.count("read")
            yield item_of(record, f"{self._export.path}, record {number:,} of channel {channel.id}")

    def _days_of(self, channel: slack_export.ExportChannel, account: Account) -> Iterator[ExportedDay]:
        for day in slack_export.read_days(self._export, channel):
            self._days += 1
            for reject in day.rejects:  # a file, and no record
                account.count("read")
                account.count(f"unusable:{reject.reason}")
                if len(self.told) < MOST_TOLD:
                    self.told.append(f"{reject.place}: not written, as it can't be read ({reject.reason}: {reject.detail})")
            yield day


class FileFeed:
    """A file of events, in its own order."""

    def __init__(self, path: Path, stop: Stop) -> None:
        self._path = path
        self._stop = stop
        self.share = 0.0
        self.told: list[str] = []
        with path.open("rb") as file:
            head = file.read(ENDS)
            size = path.stat().st_size
            file.seek(max(0, size - ENDS))
            self.identity: dict[str, Any] = {"kind": "file", "size": size, "ends": sha256(head + file.read(ENDS)).hexdigest()}

    def prepare(self, account: Account, told: Callable[[], None]) -> None:
        """Nothing: it is read as it is written."""

    def items(self, account: Account) -> Iterator[Item]:
        source = jsonl.JsonlSource(self._path, stopping=self._stop, progress=self._progress)
        part = source.build_part("read_records", jsonl.PARTITION, None)
        try:
            while True:
                for name, first, lines in part.next_batch():
                    for number, line in enumerate(lines, first):
                        account.count("read")
                        yield item_of(line, f"{name}, line {number:,}")
        except StopIteration:
            return
        finally:
            part.close()

    def _progress(self, _count: int, share: float) -> None:
        self.share = share


Why = Literal["source", "dead-letters", "late"]


class Reading(NamedTuple):
    """A topic that is read, and why: as the source itself, or for what came beside it."""

    why: Why
    source: kafka.KafkaSource


def topics_read(job: IngestJob) -> dict[str, Why]:
    """The topics that are put in order: SOURCE, and what came beside it."""
    ours = job.settings.kafka
    named: dict[str, Why] = {kafka.parse_address(job.source).topic: "source"}
    for each, name in (("dead-letters", ours.dead_letter_topic), ("late", ours.late_topic)):
        if each in job.beside:
            named.setdefault(name, "late" if each == "late" else "dead-letters")
    return named


class TopicFeed:
    """A topic and what came beside it, in one order of time and without copies."""

    def __init__(self, readings: list[Reading], lateness: int, sorter: Sorter) -> None:
        self._readings = readings
        self._name = readings[0].source.name
        self._id = readings[0].source.topic.id.encode()
        self._bounds = readings[0].source.bounds
        self._lateness = lateness
        self._sorter = sorter
        self._known = sum((end or 0) - start for each in readings for start, end in each.source.bounds.values())
        self._read = 0
        self._passed = 0
        self.told: list[str] = []
        self.identity: dict[str, Any] = {
            "kind": "topics",
            "lateness": lateness,
            "topics": [[each.why, each.source.topic.id, sorted(each.source.bounds.items())] for each in readings],
        }

    @property
    def share(self) -> float:
        """Reading is one half of it, writing the other."""
        return 0.5 * self._read / max(self._known, 1) + 0.5 * self._passed / max(len(self._sorter), 1)

    def prepare(self, account: Account, told: Callable[[], None]) -> None:
        """Reads all of it to the sorter."""
        for reading in self._readings:
            for partition, _, records in chunks_of(reading.source):
                self._read += len(records)
                self._sorter.add(
                    row_of(record.value or b"", f"{partition}:{record.offset}", parsed, record.timestamp)
                    for record in records
                    if (parsed := self._judged(record, reading, account)) is not None and not isinstance(parsed, Reject)
                )
                told()
        if unusable := sum(account.by_reason("unusable").values()):
            self.told.append(f"{unusable:,} records can't be used, and were left where they are.")

    def items(self, account: Account) -> Iterator[Item]:
        self._passed = 0

        def rows() -> Iterator[tuple[int, bytes, bytes, bytes]]:
            for row in self._sorter.rows():
                self._passed += 1
                yield row

        return without_copies(rows(), self._lateness, account)

    def _judged(self, record: kafka.Record, reading: Reading, account: Account) -> Parsed | None:
        """What a record is, as of when it was written; None if it is nothing of this topic."""
        account.count("read")
        headers = dict(record.headers) if reading.why != "source" else {}
        came_from, _, place = headers.get("source", b"").decode(errors="replace").rpartition("/")
        # A topic that was deleted and made again has another id, and the letters of the old one are still there.
        if came_from not in ("", self._name) or headers.get("source_topic_id", self._id) != self._id:
            account.count("elsewhere")
            return None
        parsed: Parsed
        if record.value is None:
            parsed = Reject("no_value", b"")
        elif headers.get("reason") == b"future":
            parsed = Reject("future", record.value)  # it would be none any more by the time at which it became a dead letter
        else:
            parsed = parse(record.value, record.timestamp if record.timestamp > 0 else now_us(), bots="context")
        if isinstance(parsed, Reject):
            is_counted = came_from == self._name and self._has_read(place)
            account.count("letters_of_unusable" if is_counted else f"unusable:{parsed.reason}")
        return parsed

    def _has_read(self, place: str) -> bool:
        """Whether a `partition:offset` of SOURCE still stands there, and was read."""
        match = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,19})", place)
        begin, end = self._bounds.get(int(match[1]), (0, 0)) if match else (0, 0)
        return match is not None and begin <= int(match[2]) < (end or 0)


# What is told


MEANING = {
    "written": "to the topic now",
    "there": "there already, written by an earlier start",
    "copies": "of events that are written",
    "letters_of_unusable": "dead letters whose records stand in SOURCE, and are counted below",
    "elsewhere": "dead letters and late events of other topics, or of an earlier one of this name",
    "waiting": "not written yet",
    "heartbeats_added": "each in every partition; without --pace none are added",
}


def print_ingest(report: dict[str, Any]) -> None:
    """The closing account, as a table."""
    account = report["account"]
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row("records read", f"{account['read']:,}", "")
    for name, told in MEANING.items():
        if account[name]:
            table.add_row(f"  {name.replace('_', ' ')}", f"{account[name]:,}", told)
    if account["unusable"]:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in account["unusable"].items())
        table.add_row("  unusable", f"{sum(account['unusable'].values()):,}", reasons)
    console.print(table)
    if report["ended"] and account["there"] and not account["written"] and not account["heartbeats_added"]:
        console.print(f"All of it is in {report['to']} already: nothing was written.")
    adds_up = "the account adds up" if account["adds_up"] else "THE ACCOUNT DOES NOT ADD UP"
    console.print(
        f"{adds_up}; {report['partitions']:,} partitions, {report['seconds']:,.1f} s, {report['records_per_second']:,.0f} records/s,"
        f" {report['peak_memory_mb']:,.0f} MB at most"
    )
