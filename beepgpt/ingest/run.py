"""A run of `beepgpt ingest`: open the source, find what is missing on the topic, write it, check that it arrived."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from beepgpt.clock import now_us
from beepgpt.config.settings import Settings
from beepgpt.connectors.log import EITHER, Log, LogWriter, NotDelivered, OutgoingRecord, Topic, TopicAddress, parse_address, partition_of
from beepgpt.connectors.slack import export as slack_export
from beepgpt.connectors.sqlite.sorting import Sorter
from beepgpt.conversations.account import Account
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.conversations.record_order import Span, TimedRecord
from beepgpt.errors import BadCommand
from beepgpt.ingest.feeds import ExportFeed, Feed, FileFeed, TopicFeed, TopicReading, TopicRole
from beepgpt.ingest.write_plan import (
    PacedWriting,
    WritePlan,
    check_all_there,
    check_not_closed,
    check_nothing_else,
    read_progress,
    run_id,
    sum_of_ends,
)
from beepgpt.runtime.console import Watched, console
from beepgpt.runtime.forgotten import forgotten_of
from beepgpt.runtime.left_out import left_out_of, say_left_out
from beepgpt.runtime.places import is_topic, log_of, origin_of, patience_of, topic_of
from beepgpt.runtime.workers import Stop, peak_memory_mb

RECORD_ENDS = ("written", "there", "copies", "letters_of_unusable", "elsewhere", "forgotten", "waiting")
"""What becomes of a usable record. A heartbeat counts once, though every partition gets it; only a stopped run has some `waiting`."""


def accounted_for(account: Account) -> int:
    """How many of the records that were read have an end in the account."""
    return sum(account[each] for each in RECORD_ENDS) + sum(account.by_reason("unusable").values())


def check_ingest(account: Account) -> list[str]:
    """What doesn't add up, as sentences; empty if everything does."""
    found = accounted_for(account)
    return [] if found == account["read"] else [f"{account['read']:,} records read, but {found:,} accounted for"]


def account_as_json(account: Account) -> dict[str, Any]:
    """The account as `--report` writes it."""
    return {
        **{each: account[each] for each in ("read", *RECORD_ENDS)},
        "unusable": account.by_reason("unusable"),
        "heartbeats_added": account["heartbeats_added"],
        "adds_up": not check_ingest(account),
    }


BATCH = 1_000
BATCH_BYTES = 4 * 2**20

SideTopic = Literal["dead-letters", "late"]


@dataclass(frozen=True)
class IngestJob:
    """The arguments of `beepgpt ingest`."""

    source: str
    to: str
    settings: Settings
    pace: float | None = None
    beside: tuple[SideTopic, ...] = ()
    """Of a topic: which of its side topics are merged with it."""
    history: Path | None = None
    """Of a topic: an export of what was said before, which is merged with it."""
    include: tuple[slack_export.ChannelKind, ...] = ("channels",)
    scratch: Path | None = None


def run_ingest(job: IngestJob) -> tuple[dict[str, Any], int]:
    """Write everything that is missing on the topic. Returns the report and the exit status."""
    began = time.monotonic()
    account, stop = Account(), Stop()
    if not is_topic(job.to):
        raise BadCommand(f"--to {job.to}: a topic is expected: {EITHER}")
    address = topic_of(job.to, "--to")
    _check_command(job, address)
    log = log_of(job.settings, address)
    topic = log.topic(address.topic)
    with stop.listening(), ExitStack() as stack:
        watched = stack.enter_context(Watched("ingest", shown=job.settings.run.progress))
        feed = _open_feed(job, stop, stack)
        run = run_id(feed.identity, topic.partitions)
        fill(job, log, topic, run, feed, account, stop, lambda: watched.update(0, 1, account["read"], feed.share))
    if stop():
        account.count("waiting", account["read"] - accounted_for(account))
    for line in feed.notes:
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
        **left_out_of(feed.export if isinstance(feed, ExportFeed) else None),
        **({"read_to": feed.read_to} if isinstance(feed, TopicFeed) else {}),
        "account": account_as_json(account),
        "does_not_add_up": check_ingest(account),
    }
    return closing, 130 if stop() else 0


def _check_command(job: IngestJob, to: TopicAddress) -> None:
    """Raise BadCommand where flags contradict each other, before any log is asked."""
    if not is_topic(job.source):
        if job.beside or job.history is not None:
            raise BadCommand("--with goes with a topic as SOURCE: what was late or unusable in a file stands in that file")
        return
    address = parse_address(job.source)
    if not address.is_whole:
        raise BadCommand(f"SOURCE {job.source}: all of a topic is put in order: leave out from, to and follow")
    if to.place == address.place and to.topic in _topics_read(job):
        raise BadCommand(f"--to {job.to}: is read from: name another topic, which is empty")


def _topics_read(job: IngestJob) -> dict[str, TopicRole]:
    """The topics that are merged: SOURCE and the chosen side topics."""
    ours = job.settings.kafka
    named: dict[str, TopicRole] = {parse_address(job.source).topic: "source"}
    if "dead-letters" in job.beside:
        named.setdefault(ours.dead_letter_topic, "dead-letters")
    if "late" in job.beside:
        named.setdefault(ours.late_topic, "late")
    return named


def _open_feed(job: IngestJob, stop: Stop, stack: ExitStack) -> Feed:
    """Open SOURCE; the stack closes it."""
    forgotten = forgotten_of(job.settings)
    if is_topic(job.source):
        ours = job.settings
        log, patience = log_of(ours, parse_address(job.source)), patience_of(ours, follows=False)
        readings = [TopicReading(role, log.source(name, stopping=stop, patience=patience)) for name, role in _topics_read(job).items()]
        history = None if job.history is None else _history_feed(job.history, job, forgotten)
        return TopicFeed(readings, ours.rules.lateness, stack.enter_context(Sorter(job.scratch)), forgotten, history)
    origin = origin_of(job.source, job.include)
    if origin.export is not None:
        return _history_feed(Path(job.source), job, forgotten)
    assert origin.file is not None
    if not origin.file.is_file():
        raise BadCommand(f"SOURCE {origin.file}: a file is expected, which can be read again if this is interrupted")
    return FileFeed(origin.file, stop, forgotten)


def _history_feed(path: Path, job: IngestJob, forgotten: Forgotten | None) -> ExportFeed:
    origin = origin_of(str(path), job.include)
    if origin.export is None:
        raise BadCommand(f"--with {path}: an export is expected (zip or folder), or a folder of `beepgpt history`")
    say_left_out(origin.export)
    return ExportFeed(origin.export, job.settings.rules.edits, job.include, forgotten)


def fill(
    job: IngestJob,
    log: Log,
    topic: Topic,
    run: str,
    feed: Feed,
    account: Account,
    stop: Stop,
    progress: Callable[[], None],
) -> None:
    """Find out what the topic has of this run, and write the rest, unless asked to stop."""
    if not log.check_keeps(topic.name):
        console.print(f"{topic.name}: whether it keeps old records could not be asked.")
    found = read_progress(log, topic.name, run)
    plan = WritePlan(run, topic.partitions, partition_of, now_us(), found.there, found.beats)
    feed.prepare(account, progress)
    span = Span()
    if (job.pace is not None or found.others) and not stop():
        span = plan.span(_until_stopped(feed.items(Account()), stop), job.settings.rules.lateness)
    if stop():  # what is prepared by half has another order
        return
    check_not_closed(topic.name, found, span.items)
    ends_before = sum_of_ends(log, topic.name)
    with log.writer(topic.name, patience=patience_of(job.settings, follows=False)) as writer:
        pace = None if job.pace is None else PacedWriting(job.pace, span, writer, plan, account)
        if pace is not None and span.items:
            console.print(pace.summary())
        expected = write_missing(feed.items(account), plan, writer, account, pace, stop, progress)
    if not stop():
        check_all_there(log, topic.name, expected)
        if not found.is_begun:
            written = sum(expected.values()) + account["heartbeats_added"] * topic.partitions
            check_nothing_else(log, topic.name, ends_before + written)


def _until_stopped(items: Iterator[TimedRecord], stop: Stop) -> Iterator[TimedRecord]:
    for item in items:
        if stop():
            return
        yield item


def write_missing(
    items: Iterator[TimedRecord],
    plan: WritePlan,
    writer: LogWriter,
    account: Account,
    pace: PacedWriting | None,
    stop: Stop,
    progress: Callable[[], None],
) -> dict[int, int]:
    """Write the records that the topic lacks; returns how many records of the source each partition has then, at least."""
    batch: list[OutgoingRecord] = []
    size = 0
    counts = dict.fromkeys(range(plan.partitions), 0)

    def send() -> None:
        nonlocal size
        writer.send(batch)
        batch.clear()
        size = 0
        progress()

    for seq, item in enumerate(items):
        missing = plan.missing_in(item, seq)
        if pace is not None and not pace.advance_to(item, seq, bool(missing), send, stop):
            break
        if missing and len(item.record) + len((item.channel or "").encode()) > writer.most:
            send()
            writer.flush()
            raise NotDelivered(
                f"{item.place}: a record of {len(item.record):,} bytes is larger than the {writer.most:,} that the topic takes. Raise the"
                " topic's max.message.bytes (for events 2 MiB are enough), and the same command goes on: what came before it is written."
                " Or take the record out of the source, and name an empty topic"
            )
        account.count("written" if missing else "there")
        for partition in plan.partitions_for(item):
            counts[partition] += 1
        batch += plan.outgoing(item, seq, missing)
        size += len(item.record) * len(missing)
        if len(batch) >= BATCH or size >= BATCH_BYTES:
            send()
        elif seq % BATCH == 0:
            progress()
        if stop():
            break
    send()
    return counts
