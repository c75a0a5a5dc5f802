"""A run of `beepgpt label`: the labeling flow with a labeler, from SOURCE to DEST."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

from beepgpt import __version__
from beepgpt.commands.example_source import pass_on_retractions, retractions_of, source_at, spec_in
from beepgpt.config.settings import Settings
from beepgpt.conversations.account import Account
from beepgpt.conversations.rules import differing
from beepgpt.conversations.shard import OtherState
from beepgpt.conversations.signals import SignalVerdict
from beepgpt.dataflows import labeling
from beepgpt.dataflows.label_examples import LABELED_LINES, LabelingResult, LabelingRun, check_labels, labeled_topics, labels_as_json
from beepgpt.errors import BadCommand
from beepgpt.labeling.questions import Labeler, LabelQuestion
from beepgpt.runtime.destinations import Destination, Files, Topics
from beepgpt.runtime.flow_metrics import LabelFigures
from beepgpt.runtime.places import Origin, source_of, topic_id_of
from beepgpt.runtime.recovery import RecoveryFolder
from beepgpt.runtime.running import FlowRun, recovery_of, run_flow, status_of
from beepgpt.runtime.specs import specs_on
from beepgpt.runtime.workers import PreparedFlow, Stop, Worker


@dataclass(frozen=True)
class LabelJob:
    """The arguments of a `label` command."""

    origin: Origin
    to: Destination
    settings: Settings
    recovery: Path | None = None

    @property
    def outputs(self) -> Destination:
        """Where the run writes: labels have no late records, and the settings of SOURCE's examples."""
        if not isinstance(self.to, Topics):
            return self.to
        found = spec_in(self.origin, self.settings)
        return replace(self.to.without_late(), settings=None if found is None else found.recorded)


def check_places(job: LabelJob) -> None:
    """Check SOURCE and DEST before anything is begun. Raises BadCommand, NoTopic or OtherState."""
    to, address = job.to, job.origin.address
    if isinstance(to, Files):
        if job.recovery is not None and not to.is_seekable:
            raise BadCommand("--recovery needs a file or a topic as --to: what was printed can't be cut back to a snapshot")
        beside = None if job.origin.file is None else retractions_of(job.origin.file)
        if beside is not None and to.retractions is not None and to.retractions.resolve() == beside.resolve():
            raise BadCommand(f"--to {to}: what is beside it is beside SOURCE already: name another file")
        return
    if address is not None and (address.place, address.topic) == (to.log.place, to.examples):
        raise BadCommand(f"--to {to}: is SOURCE: name another topic")
    to.log.check_topics([to.examples, to.dead_letters])
    mine = spec_in(job.origin, job.settings)
    for spec, recorded in specs_on(to.log, to.examples):
        if mine is not None and spec != mine.spec:
            raise OtherState(
                f"{to}: the topic holds examples that were made with other settings than those of SOURCE:"
                f" {differing(spec, mine.spec, recorded, mine.recorded)}: name another topic"
            )


def flow_run(job: LabelJob, labeler: str, fingerprint: str, stop: Stop) -> FlowRun:
    """The run: the same labels in every start, from the same source."""
    return FlowRun(
        "label",
        job.origin,
        job.outputs,
        job.settings,
        labeling.NAME,
        labeling.STATEFUL,
        {"command": "label", "to": job.to.identity, "labeler": labeler, "told": fingerprint},
        job.recovery,
        stop=stop,
    )


@contextmanager
def remembering(job: LabelJob, labeler: str, fingerprint: str) -> Iterator[RecoveryFolder | None]:
    """The recovery folder of this run, locked while in here; None if it has none. `fingerprint`: the labeler's."""
    with recovery_of(flow_run(job, labeler, fingerprint, Stop())) as recovery:
        yield recovery


def run_labeling(
    job: LabelJob,
    recovery: RecoveryFolder | None,
    labeler: Labeler,
    *,
    known: Mapping[str, SignalVerdict],
    retracted: frozenset[str],
    is_excluded: Callable[[LabelQuestion], bool] = lambda question: False,
    ahead: int,
) -> LabelingResult:
    """Run the flow to the end of its input, or until it is stopped."""
    began = monotonic()
    stop = Stop()

    def build(worker: Worker) -> PreparedFlow:
        run = LabelingRun(
            labeler, known, retracted, is_excluded, ahead=ahead, is_stopping=worker.is_stopping, stop=stop.because, on_error=worker.fail
        )
        origin, settings = job.origin, job.settings
        if origin.file is None:
            group = settings.kafka.group if recovery is not None else None
            source = source_of(origin, settings, worker, since=origin.since, until=origin.until, group=group)
        else:
            source = source_at(origin.file, stopping=worker.is_stopping, on_end=worker.end, progress=worker.read)
            if worker.is_fresh:
                pass_on_retractions(origin.file, job.to)
        sinks = _sinks(job, worker)
        formats = labeled_topics(topic_id_of(source)) if isinstance(job.to, Topics) else LABELED_LINES
        flow = labeling.labeling_flow(source, run, sinks, worker.accounts.append, formats)
        names = {"version": __version__, "labeler": settings.labeling.labeler, "told": labeler.fingerprint}
        return PreparedFlow(flow, LabelFigures(**run.figures(), lags=lambda: dict(worker.lags), topic=origin.topic, build=names))

    (report,), ended = run_flow(flow_run(job, job.settings.labeling.labeler, labeler.fingerprint, stop), build, recovery)
    status = status_of([report], job.origin)
    return LabelingResult(Account(report["counts"]), ended, report["records"], monotonic() - began, status, stop.why)


def _sinks(job: LabelJob, worker: Worker) -> dict[str, Any]:
    """Of a file of examples, the retractions are written already; of a topic, they come as tombstones among the examples."""
    sinks = job.outputs.sinks(fresh=worker.is_fresh, on_closed=worker.lose_reader, listener=worker)
    return {
        name: sinks[name] for name in ("examples", "dead_letters", *(["retractions"] if job.origin.file is None else [])) if name in sinks
    }


def report_of(job: LabelJob, labeler: str, fingerprint: str, result: LabelingResult) -> dict[str, Any]:
    """The closing report, as `--report` writes it; time and speed are of this start, the account is of the whole run."""
    return {
        "command": "label",
        "source": job.origin.text,
        "to": str(job.to),
        "labeler": labeler,
        "told": fingerprint,
        "seconds": round(result.seconds, 3),
        "records_per_second": round(result.records / result.seconds, 1) if result.seconds else 0.0,
        "account": labels_as_json(result.account),
        "does_not_add_up": check_labels(result.account),
        "ended": result.ended,
    }


def closed(job: LabelJob, report: dict[str, Any], result: LabelingResult, recovery: RecoveryFolder | None) -> tuple[dict[str, Any], int]:
    """The finished report and the exit status; what has ended is noted in the recovery folder."""
    report["beside"] = {name: path for name, path in job.to.written().items() if name != "late"}
    if result.why is not None:
        report["stopped_because"] = str(result.why)
    if result.ended and recovery is not None:
        recovery.end(report)
    return report, result.status
