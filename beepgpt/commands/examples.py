"""`beepgpt examples`: points in time of conversations, and who answered."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from beepgpt.commands.closing import close_command
from beepgpt.commands.flags import Include, Json, Recovery, Report, duration_of, with_settings
from beepgpt.commands.output import print_report
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl, parquet
from beepgpt.connectors.slack import export as slack_export
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.account import Account, sum_of
from beepgpt.conversations.events import ts_text
from beepgpt.dataflows import examples as dataflow
from beepgpt.dataflows.following import Following
from beepgpt.dataflows.records import EXAMPLE_LINES, EXAMPLE_ROWS, example_topics
from beepgpt.errors import BadCommand
from beepgpt.library.arguments import kinds_in, moment_of
from beepgpt.runtime import metrics
from beepgpt.runtime.console import console
from beepgpt.runtime.destinations import Destination, Files, Topics, destination_of, in_parts
from beepgpt.runtime.forgotten import forgotten_of
from beepgpt.runtime.left_out import left_out_of, say_left_out
from beepgpt.runtime.made_by import keep_rules
from beepgpt.runtime.names import keep_names
from beepgpt.runtime.places import Origin, check_apart, origin_of, source_of, topic_id_of
from beepgpt.runtime.running import FlowRun, check_source, ended_before, note_of_rules, recovery_of, run_child, run_flow, status_of
from beepgpt.runtime.shares import with_workers
from beepgpt.runtime.workers import PreparedFlow, Worker


@with_settings
def examples(
    source: Annotated[str, typer.Argument(help="An export, a .jsonl of events, or a topic (kafka://…, sqlite://…).")],
    to: Annotated[str, typer.Option(help="Examples: a .jsonl, a .parquet, a topic, or -.")],
    settings: Settings,
    report: Report = None,
    recovery: Recovery = None,
    no_names: Annotated[bool, typer.Option("--no-names", help="Write no file of names beside the examples of an export.")] = False,
    until: Annotated[str | None, typer.Option(help="End as if it had been this time (2024-01-31).")] = None,
    warmup: Annotated[str | None, typer.Option(help="Of a topic with from=: begin so long before it (90d).")] = None,
    include: Include = "channels",
    json: Json = False,
) -> None:
    """Make examples: points in time of conversations, and who answered."""
    if report is not None:
        jsonl.check_writable(report)
    to_place = in_parts(destination_of(to, settings, tables=True), goes_on=recovery is not None or (settings.run.workers or 1) > 1)
    if json and to == "-":
        raise BadCommand("--json: the examples go to standard output already: name a file as --to, or leave it out")
    kinds, end = kinds_in("--include", include), moment_of("--until", until)
    job = ExamplesJob(source, to_place, settings, kinds, end, duration_of("--warmup", warmup), recovery, not no_names)
    check_apart(source, [*to_place.given().values(), *([report] if report is not None else [])])
    closing, status = run_examples(job)
    next_command = ("prepare", to, "--to", Path(to).with_name("set") if isinstance(to_place, Files) else "set") if to != "-" else ()
    close_command(closing, status, report, recovery, print_report, as_json=json, next_command=next_command)


@dataclass(frozen=True)
class ExamplesJob:
    """The arguments of an `examples` command."""

    source: str
    to: Destination
    settings: Settings
    include: tuple[slack_export.ChannelKind, ...] = ("channels",)
    until: int | None = None
    warmup: int | None = None
    recovery: Path | None = None
    names: bool = False
    """Whether an export's names of people and channels are written beside the examples."""

    def run_of(self, origin: Origin) -> FlowRun:
        """The FlowRun of this command."""
        note = {
            **note_of_rules(self.settings),
            "to": self.to.identity,
            "include": list(self.include),
            "until": None if self.until is None else ts_text(self.until),
            "warmup": self.warmup,
        }
        return FlowRun(
            "examples",
            origin,
            self.to,
            self.settings,
            dataflow.NAME,
            dataflow.STATEFUL,
            note,
            self.recovery,
            self.settings.run.workers or 1,
        )

    def build(self, origin: Origin, worker: Worker) -> PreparedFlow:
        """A worker's flow. A topic's `from` chooses what is written, and its `to` is `--until`."""
        settings, rules, since = self.settings, self.settings.rules, origin.since
        is_table = isinstance(self.to, Files) and self.to.is_table
        following = Following(
            rules,
            load_encoding(rules.encoding),
            worker.started_at,
            since=since or 0,
            until=self.until if origin.until is None else origin.until,
            shards=worker.shard_names,
            recoverable=worker.recovery is not None,
            forgotten=forgotten_of(settings),
            is_stopping=worker.is_stopping,
            shards_here=worker.shards,
            are_packed=is_table,
        )
        source = source_of(
            origin,
            settings,
            worker,
            shards=worker.shard_names,
            since=None if since is None or self.warmup is None else max(since - self.warmup, 0),
            group=settings.kafka.group if worker.recovery is not None else None,
            idle_clock=settings.run.idle_clock == "wall",
        )
        sinks = self.to.of_worker(worker.number, worker.workers).sinks(fresh=worker.is_fresh, on_closed=worker.lose_reader, listener=worker)
        formats = EXAMPLE_ROWS if is_table else EXAMPLE_LINES if isinstance(self.to, Files) else example_topics(topic_id_of(source))
        flow = dataflow.examples_flow(source, following, sinks, worker.accounts.append, formats)
        tables = [each for each in sinks.values() if isinstance(each, parquet.ParquetSink)]
        return PreparedFlow(flow, metrics.Figures(**worker.figures(origin.topic, rules.spec)), tables)


def check_job(job: ExamplesJob, origin: Origin) -> None:
    """Check the command before anything is begun. Raises BadCommand, NoTopic or OtherState."""
    check_source(origin, job.settings, until=job.until, recovery=job.recovery, writes_files=not isinstance(job.to, Topics))
    if job.warmup is not None and origin.since is None:
        raise BadCommand("--warmup goes with a topic's from: kafka://host:port/topic?from=2024-01-01T00:00:00Z")
    if job.recovery is not None and not job.to.is_seekable:
        raise BadCommand("--recovery needs a file or a topic as --to: what was printed can't be cut back to a snapshot")
    if isinstance(job.to, Topics):
        address = origin.address
        if address is not None and (address.place, address.topic) == (job.to.log.place, job.to.examples):
            raise BadCommand(f"--to {job.to}: is SOURCE: name another topic")
        job.to.check(job.settings.rules)


def run_examples(job: ExamplesJob) -> tuple[dict[str, Any], int]:
    """Run it; returns the report and exit status."""
    began = time.monotonic()
    origin = origin_of(job.source, job.include)
    check_job(job, origin)
    say_left_out(origin.export)
    if job.settings.run.idle_clock == "wall":
        console.print("The machine's clock settles quiet channels (--idle-clock wall): this run can't be repeated exactly.")
    if job.warmup is not None:
        console.print(
            "Windows and features begin at the warm-up: earlier ones are not known, and examples may differ from a run over everything."
        )
    job = replace(job, settings=with_workers(job.settings, origin, job.recovery, alone=not job.to.takes_several))
    run = job.run_of(origin)
    with recovery_of(run) as folder:
        if (before := ended_before(folder)) is not None:
            return before, 0
        workers, ended = run_flow(run, lambda worker: job.build(origin, worker), folder, partial(run_examples_worker, job))
        report = report_of(job, workers, time.monotonic() - began) | {**left_out_of(origin.export), "ended": ended}
        if ended and folder is not None:
            folder.end(report)
    if isinstance(job.to, Files) and job.to.late is not None:
        keep_rules(job.settings.rules, job.to.given()["examples"])
        if job.names and origin.export is not None:
            keep_names(Path(job.source), job.to.given()["examples"], forgotten_of(job.settings), job.include)
    return report, status_of(workers, origin)


def run_examples_worker(job: ExamplesJob, number: int, shards: Sequence[str]) -> None:
    """One worker of several, in a process that `run_examples` started."""
    origin = origin_of(job.source, job.include)
    run_child(job.run_of(origin), lambda worker: job.build(origin, worker), number, shards)


def report_of(job: ExamplesJob, workers: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """The closing report, as `--report` writes it; time and speed are of this start, the account is of the whole run."""
    account = sum_of(Account(each["counts"]) for each in workers)
    return {
        "command": "examples",
        "source": job.source,
        "to": str(job.to),
        "spec": job.settings.rules.spec,
        "rules": {name: value for name, value in asdict(job.settings.rules).items() if name != "spec"},
        "beside": job.to.written(),
        "workers": job.settings.run.workers,
        "seconds": round(seconds, 3),
        "events_per_second": round(sum(each["records"] for each in workers) / seconds, 1),
        "peak_memory_mb": round(sum(each["peak_memory_mb"] for each in workers), 1),
        "account": account.as_json(),
        "does_not_add_up": account.check(),
    }
