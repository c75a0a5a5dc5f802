"""A run of the labeling flow: what it reads and writes, which few-shots it has, and what it closes with."""

from __future__ import annotations

import logging
import os
import signal
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import bytewax.operators as op
import orjson
from bytewax.dataflow import Dataflow
from bytewax.outputs import Sink
from bytewax.testing import run_main

from beepgpt.config.settings import Settings
from beepgpt.connectors import kafka
from beepgpt.connectors.files import jsonl
from beepgpt.conversations.account import Account, sum_of
from beepgpt.conversations.shard import OtherState
from beepgpt.conversations.signals import Signal, SignalVerdict
from beepgpt.dataflows.examples import send_letters, write_letters
from beepgpt.dataflows.labeling import (
    CannotGoOn,
    CannotLabel,
    Gated,
    Labeler,
    LabelingRun,
    LabelQuestion,
    account_as_json,
    check,
    close_labels,
    label_examples,
    question_in,
    send_labeled,
    write_labeled,
    write_retractions,
)
from beepgpt.errors import BadCommand, CannotRead, Interrupted
from beepgpt.runtime import metrics
from beepgpt.runtime.clock import now_us
from beepgpt.runtime.connections import connection_of, is_kafka
from beepgpt.runtime.console import Watched, console, quiet_engine
from beepgpt.runtime.places import Destination, Files, Origin, Topics, records_in
from beepgpt.runtime.recovery import RecoveryFolder, open_recovery
from beepgpt.runtime.workers import Stop, asked_by, program_version, pulse_of

MAX_LINE = 16 << 20
"""Bytes of a line: an example of many candidates and long messages has a hundredth of that."""
POSITIVE, NEGATIVE = "examples_pos.jsonl", "examples_neg.jsonl"
INTERRUPTED = 130
"""An exit status."""
PERSON = "person"
"""Who labeled a few-shot."""

log = logging.getLogger("beepgpt")


@dataclass(frozen=True)
class LabelJob:
    """A `label` command, as it was given."""

    origin: Origin
    to: Destination
    settings: Settings
    recovery: Path | None = None


# SOURCE and DEST


def input_of(source: str) -> Origin:
    """SOURCE: a file of examples, or a topic."""
    if is_kafka(source):
        return Origin(source, address=kafka.parse_address(source))
    if "://" in source:
        raise BadCommand(f"SOURCE {source}: a .jsonl of examples, or kafka://host:port/topic is expected")
    path = Path(source)
    if path.is_dir() or zipfile.is_zipfile(path):
        raise BadCommand(f"SOURCE {source}: is no file of examples: make one of it first (beepgpt examples {source} --to examples.jsonl)")
    jsonl.check_readable(path)
    return Origin(source, file=path)


def retractions_of(path: Path) -> Path:
    """The file of retractions beside a file of examples."""
    return path.with_name(f"{path.name.removesuffix('.jsonl')}.retractions.jsonl")


class SourceContents(NamedTuple):
    """What a bounded SOURCE holds, as far as that has to be known before it is labeled."""

    questions: Callable[[], Iterator[LabelQuestion]]
    """Its examples, whenever it is called; what is none is passed over."""
    retracted: frozenset[str]
    """Ids that are taken back in it."""


def look_at(job: LabelJob) -> SourceContents:
    """Goes through a bounded SOURCE for what is retracted: that is not to be sent to anybody."""
    origin = job.origin
    if origin.file is not None:
        beside = retractions_of(origin.file)
        lines = _lines(beside) if beside.exists() else iter(())
        return SourceContents(lambda: _questions(_lines(origin.file or Path())), frozenset(_ids_in(lines, beside)))
    assert origin.address is not None
    address, connection = origin.address, connection_of(job.settings, origin.address.bootstrap)
    last: dict[bytes, bool] = {}
    for _, record in kafka.records_of(connection, address.topic):
        if record.key is not None:
            last[record.key] = record.value is None
    retracted = frozenset(key.decode("utf-8", "replace") for key, is_gone in last.items() if is_gone)
    since, until = address.since or 0, address.until

    def values() -> Iterator[bytes]:
        for _, record in kafka.records_of(connection, address.topic):
            if record.value is not None and record.timestamp >= since and (until is None or record.timestamp <= until):
                yield record.value

    return SourceContents(lambda: _questions(values()), retracted)


def _lines(path: Path) -> Iterator[bytes]:
    return (each for each in records_in(jsonl.JsonlSource(path, max_line=MAX_LINE)) if isinstance(each, bytes))


def _questions(lines: Iterator[bytes]) -> Iterator[LabelQuestion]:
    for line in lines:
        with suppress(CannotLabel):
            yield question_in(line)


def _ids_in(lines: Iterator[bytes], path: Path) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        try:
            yield str(orjson.loads(line)["id"])
        except (ValueError, TypeError, KeyError):
            raise CannotRead(
                f"{path}:{number}: is no retraction: mend the line, since an example that it takes back would be passed on"
            ) from None


def sinks_of(to: Destination, *, fresh: bool, of_topic: bool) -> dict[str, Sink[Any]]:
    """By what goes there; `of_topic`: retractions come as tombstones, among the examples."""
    if isinstance(to, Topics):
        return {
            "messages": kafka.KafkaSink(to.connection, to.examples, patience=to.patience),
            "dead_letters": kafka.KafkaSink(to.connection, to.dead_letters, patience=to.patience, cuts=True),
        }
    names = ["examples", "dead_letters"] + (["retractions"] if of_topic else [])
    return {name: jsonl.JsonlSink(path, name, fresh=fresh) for name, path in to.given().items() if name in names}


def check_places(job: LabelJob) -> None:
    """What can't be, before anything is begun."""
    to, address = job.to, job.origin.address
    if isinstance(to, Files):
        if to.examples is None or to.dead_letters is None:
            raise BadCommand(
                f"--to {to}: a .jsonl path or kafka://host:port/topic is expected: labels need a place that can be gone on with"
            )
        if (
            job.origin.file is not None
            and to.retractions is not None
            and to.retractions.resolve() == retractions_of(job.origin.file).resolve()
        ):
            raise BadCommand(f"--to {to}: what is beside it is beside SOURCE already: name another file")
        return
    if address is not None and (address.bootstrap, address.topic) == (to.connection.bootstrap, to.examples):
        raise BadCommand(f"--to {to}: is SOURCE: name another topic")
    kafka.check_topics(to.connection, [to.examples, to.dead_letters])
    there = _spec_on(to.connection, to.examples)
    mine = _spec_in(job)
    if there is not None and mine is not None and there != mine:
        raise OtherState(f"{to}: the topic holds examples of spec {there}, and SOURCE has examples of spec {mine}: name another topic")


def _spec_in(job: LabelJob) -> str | None:
    if job.origin.address is not None:
        return _spec_on(connection_of(job.settings, job.origin.address.bootstrap), job.origin.address.topic)
    assert job.origin.file is not None
    with job.origin.file.open("rb") as lines:
        return next((spec for line in lines if (spec := _spec_of(line))), None)


def _spec_on(connection: kafka.Connection, topic: str) -> str | None:
    values = (record.value for _, record in kafka.records_of(connection, topic, back=kafka.LOOK_BACK))
    return next((spec for value in values if value is not None and (spec := _spec_of(value))), None)


def _spec_of(line: bytes) -> str | None:
    with suppress(ValueError, TypeError, KeyError):
        return str(orjson.loads(line)["spec"])
    return None


# Few-shots


@dataclass(frozen=True)
class FewShot:
    """An example that a person has labeled."""

    question: LabelQuestion
    text: str
    """Its summary, or its prompt."""
    signal: Signal
    line: bytes


def read_few_shots(folder: Path) -> list[FewShot]:
    """Those in a folder, strong ones first; none if it isn't there. Raises BadCommand for what is none."""
    found: dict[str, FewShot] = {}
    kinds: tuple[tuple[str, Signal], ...] = ((POSITIVE, "strong"), (NEGATIVE, "weak"))
    for name, signal_ in kinds:
        path = folder / name
        for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else (), start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                question = question_in(line)
            except CannotLabel as error:
                raise BadCommand(f"{where}: is no few-shot ({error}): mend the line or take it out") from None
            body = orjson.loads(line)
            if body.get("signal", signal_) != signal_:
                raise BadCommand(f"{where}: says {body['signal']!r}, and stands among the {signal_} ones: put it where it belongs")
            if question.id in found:
                raise BadCommand(f"{where}: the example {question.id} is a few-shot already: take one of the two out")
            summary = body.get("summary")
            text = summary if isinstance(summary, str) and summary.strip() else question.prompt
            found[question.id] = FewShot(question, text, signal_, line)
    return list(found.values())


def balanced(few_shots: Sequence[FewShot], most: int) -> list[FewShot]:
    """As many strong as weak ones, in turns, `most` at most: the first of each file, so that the same are chosen every time."""
    strong = [each for each in few_shots if each.signal == "strong"]
    weak = [each for each in few_shots if each.signal == "weak"]
    count = min(len(strong), len(weak), most // 2)
    return [each for pair in zip(strong[:count], weak[:count], strict=True) for each in pair]


def by_hand(few_shots: Sequence[FewShot]) -> dict[str, SignalVerdict]:
    """What a person said of examples, by id."""
    return {each.question.id: SignalVerdict(each.signal, None, PERSON) for each in few_shots}


# The flow


def flow_of(source: Any, labeling: LabelingRun, sinks: Mapping[str, Sink[Any]], taken: Callable[[Account], None]) -> Dataflow:
    """Examples to labeled examples: to files, or to topics."""
    flow = Dataflow("labeling")
    chunks = op.input("read_examples", flow, Gated(source, labeling.gate, labeling.is_stopping))
    labeled = label_examples("label_examples", chunks, labeling)
    if "messages" in sinks:
        send_labeled("send_labeled", labeled.made, sinks["messages"])
        topic_id = source.topic.id if isinstance(source, kafka.KafkaSource) else None
        send_letters("send_dead_letters", labeled.letters, sinks["dead_letters"], topic_id)
    else:
        write_labeled("write_labeled", labeled.made, sinks["examples"])
        if "retractions" in sinks:
            write_retractions("write_retractions", labeled.made, sinks["retractions"])
        write_letters("write_dead_letters", labeled.letters, sinks["dead_letters"])
    close_labels("close_labels", labeled.accounts, taken)
    return flow


@dataclass
class Halt(Stop):
    """Whether the run stops: somebody asked for it, or nothing more can be labeled."""

    why: CannotGoOn | None = None

    def __call__(self) -> bool:
        return self.signal != 0 or self.why is not None

    def because(self, error: CannotGoOn) -> None:
        """Stops the run; the first reason counts."""
        self.why = self.why or error


@contextmanager
def interruptible() -> Iterator[None]:
    """While in here, SIGINT and SIGTERM end what is done."""

    def interrupt(number: int, _frame: object) -> None:
        raise Interrupted

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Done:
    """How the flow went."""

    account: Account
    ended: bool
    records: int
    """That this start has read."""
    seconds: float
    signal: int
    why: CannotGoOn | None


def run_flow(
    job: LabelJob,
    memory: RecoveryFolder | None,
    labeler: Labeler,
    *,
    known: Mapping[str, SignalVerdict],
    retracted: frozenset[str],
    is_excluded: Callable[[LabelQuestion], bool] = lambda question: False,
    ahead: int,
) -> Done:
    """The flow, to the end of its input or until it is stopped."""
    began = time.monotonic()
    settings, halt = job.settings, Halt()
    pulse = pulse_of(settings)
    labeling = LabelingRun(labeler, known, retracted, is_excluded, ahead=ahead, is_stopping=asked_by(pulse, halt), stop=halt.because)
    lags: dict[int, int] = {}
    has_ended = False
    records = 0

    def end() -> None:
        nonlocal has_ended
        has_ended = True
        pulse.end()

    def heard(ahead_of: Mapping[int, int]) -> None:
        pulse.heard()
        lags.update(ahead_of)

    fresh = memory is None or not memory.has_store(0)
    accounts: list[Account] = []
    with ExitStack() as stack:
        watched = stack.enter_context(Watched("label", shown=settings.run.progress))

        def read(count: int, done: float) -> None:
            nonlocal records
            records += count
            watched.update(0, 1, records, done)

        source = _source_of(job, labeling.is_stopping, end, read, heard, group=settings.kafka.group if memory is not None else None)
        if fresh:
            pass_on_retractions(job)
        flow = flow_of(source, labeling, sinks_of(job.to, fresh=fresh, of_topic=job.origin.address is not None), accounts.append)
        log.info("started", extra={"source": job.origin.text, "to": str(job.to), "resumed": not fresh})
        stack.enter_context(memory.told() if memory is not None else nullcontext())
        stack.enter_context(halt.listening())
        if settings.run.metrics_port:
            figures = figures_of(job, labeling, lags)
            stack.enter_context(metrics.serve(settings.run.metrics_port, settings.run.metrics_host, figures, pulse))
        stack.enter_context(quiet_engine())
        run_main(  # type: ignore[no-untyped-call]
            flow,
            epoch_interval=timedelta(microseconds=settings.run.snapshot_every),
            recovery_config=memory.store(0) if memory is not None else None,
        )
    ended = has_ended and not halt()
    log.info("ended" if ended else "stopped", extra={"records": records, "signal": halt.signal})
    return Done(sum_of(accounts), ended, records, time.monotonic() - began, halt.signal, halt.why)


def figures_of(job: LabelJob, labeling: LabelingRun, lags: Mapping[int, int]) -> metrics.LabelFigures:
    """What a monitor is told of the run."""
    steps = labeling.steps_here
    return metrics.LabelFigures(
        counts=lambda: sum_of(Account(step.counts_here()) for step in list(steps)).counts,
        waiting=lambda: sum(step.waiting_here() for step in list(steps)),
        lags=lambda: dict(lags),
        topic=job.origin.address.topic if job.origin.address is not None else "",
        build={"version": program_version(), "labeler": job.settings.labeling.labeler, "told": labeling.labeler.told},
    )


def _source_of(
    job: LabelJob,
    is_stopping: Callable[[], bool],
    end: Callable[[], None],
    read: Callable[[int, float], None],
    heard: Callable[[Mapping[int, int]], None],
    group: str | None,
) -> Any:
    origin, settings = job.origin, job.settings
    if origin.address is None:
        assert origin.file is not None
        return jsonl.JsonlSource(origin.file, stopping=is_stopping, on_end=end, progress=read, max_line=MAX_LINE)
    address = origin.address
    return kafka.KafkaSource(
        connection_of(settings, address.bootstrap),
        address.topic,
        since=address.since,
        until=address.until,
        follow=address.follow,
        group=group,
        stopping=is_stopping,
        on_end=end,
        progress=read,
        on_lag=heard,
        patience=settings.kafka.patience / 1e6,
    )


def pass_on_retractions(job: LabelJob) -> None:
    """What stands beside a file that is read; a topic's tombstones are the flow's."""
    if job.origin.file is None:
        return
    beside = retractions_of(job.origin.file)
    if isinstance(job.to, Topics):
        lines = _lines(beside) if beside.exists() else iter(())
        with kafka.Writer(job.to.connection, job.to.examples, patience=job.to.patience) as writer:
            writer.send(_tombstone(orjson.loads(line)) for line in lines)
    elif job.to.retractions is not None and beside.exists():
        jsonl.write_file(job.to.retractions, beside.read_bytes())
    elif job.to.retractions is not None:
        job.to.retractions.unlink(missing_ok=True)


def _tombstone(retraction: Mapping[str, Any]) -> kafka.OutgoingRecord:
    told = str(retraction.get("retracted_ts", "")).encode()
    return kafka.OutgoingRecord(str(retraction["id"]).encode(), None, [("retracted_ts", told)] if told else [])


@contextmanager
def remembering(job: LabelJob, labeler: str, told: str) -> Iterator[RecoveryFolder | None]:
    """The recovery folder of this run, which is nobody else's meanwhile; None: it has none."""
    if job.recovery is None:
        yield None
        return
    memory = _remember(job, job.recovery, labeler, told)
    try:
        yield memory
    finally:
        if memory.lock is not None:
            os.close(memory.lock)


def _remember(job: LabelJob, path: Path, labeler: str, told: str) -> RecoveryFolder:
    """The same labels in every start, from the same source."""
    run: dict[str, Any] = {
        "command": "label",
        "source": job.origin.identity,
        "to": job.to.identity,
        "labeler": labeler,
        "told": told,
    }
    first: dict[str, Any] = {"started_at": now_us()}
    address = job.origin.address
    if address is not None:
        connection = connection_of(job.settings, address.bootstrap)
        first["topic"] = asdict(kafka.describe_topic(connection, address.topic))
    if isinstance(job.to, Topics):
        there = kafka.check_topics(job.to.connection, [job.to.examples, job.to.dead_letters])
        first["to_topics"] = {name: asdict(topic) for name, topic in there.items()}
    memory = open_recovery(path, run, first)
    if address is not None:
        kafka.check_same(kafka.Topic(**memory.note["topic"]), kafka.Topic(**first["topic"]), connection)
    for name, topic in first.get("to_topics", {}).items():
        kafka.check_kept(kafka.Topic(**memory.note["to_topics"][name]), kafka.Topic(**topic))
    return memory


def report_of(job: LabelJob, labeler: str, told: str, done: Done) -> dict[str, Any]:
    """The closing report, as `--report` writes it; time and speed are this start's, the account is the whole run's."""
    return {
        "command": "label",
        "source": job.origin.text,
        "to": str(job.to),
        "labeler": labeler,
        "told": told,
        "seconds": round(done.seconds, 3),
        "records_per_second": round(done.records / done.seconds, 1) if done.seconds else 0.0,
        "account": account_as_json(done.account),
        "does_not_add_up": check(done.account),
        "ended": done.ended,
    }


def ended_already(memory: RecoveryFolder | None) -> dict[str, Any] | None:
    """The report of a run that has ended, so that nothing is done twice."""
    if memory is None or memory.ended is None:
        return None
    console.print(f"This run has ended already, and nothing was done: delete {memory.path} to run it again.")
    return memory.ended


def closed(job: LabelJob, report: dict[str, Any], done: Done, memory: RecoveryFolder | None) -> tuple[dict[str, Any], int]:
    """What a run ends with, and its exit status."""
    if done.ended or memory is None:
        job.to.tidy()
    report["beside"] = {name: path for name, path in job.to.written().items() if name != "late"}
    if done.why is not None:
        report["stopped_because"] = str(done.why)
    if done.ended and memory is not None:
        memory.end(report)
    stopped_early = done.signal != 0 and not job.origin.is_followed  # what is followed ends in no other way
    return report, INTERRUPTED if stopped_early else 0
