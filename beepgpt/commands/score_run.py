"""A run of `beepgpt score` from its checks to its report."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from beepgpt.commands.output import moment
from beepgpt.commands.scoring import ScoreJob, build, starts_at
from beepgpt.connectors.log import Log, TopicAddress
from beepgpt.conversations.account import Account, sum_of
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import DAY
from beepgpt.dataflows.scored_records import check_scores, scores_as_json
from beepgpt.errors import BadCommand
from beepgpt.runtime.console import console
from beepgpt.runtime.destinations import check_score_topic
from beepgpt.runtime.left_out import left_out_of, say_left_out
from beepgpt.runtime.places import Origin, check_apart, log_of, origin_of
from beepgpt.runtime.running import check_source, ended_before, recovery_of, run_child, run_flow, status_of
from beepgpt.training.live import LiveThresholds


def check_job(job: ScoreJob, origin: Origin) -> None:
    """Check the command before anything is begun. Raises BadCommand, NoTopic or OtherState."""
    rules, address = job.settings.rules, origin.address
    files = job.to.files()
    check_source(origin, job.settings, until=job.until, since=job.since, recovery=job.recovery, writes_files=bool(files))
    if not rules.candidates:
        raise BadCommand("--no-candidates: a model is asked about candidates: leave it out")
    if job.pace is not None:
        check_pace(job, origin)
    if job.recovery is not None and not job.to.is_seekable:
        raise BadCommand("--recovery needs a file or a topic as --to: what was printed can't be cut back to a snapshot")
    check_apart(job.source, files.values())
    taken: dict[tuple[str, str], str] = {} if address is None else {(address.place, address.topic): "SOURCE"}
    for name, each in job.to.topics().items():
        if other := taken.get((each.place, each.topic)):
            raise BadCommand(f"{each}: is {other} already: name another topic")
        taken[each.place, each.topic] = name
        check_score_topic(log_of(job.settings, each), each, rules)
        if name == "predictions":
            for line in lasting(log_of(job.settings, each), each, job.settings.scoring.kept):
                console.print(line)


def check_pace(job: ScoreJob, origin: Origin) -> None:
    """Check what goes with `--pace`. Raises BadCommand."""
    if origin.address is not None:
        raise BadCommand(
            f"--pace is for a file or an export, and {job.source} is a topic: put its records on another one with `beepgpt ingest --pace`,"
            ' and follow that with scoring.clock = "log"'
        )
    if origin.file is not None and not origin.file.is_file():
        raise BadCommand(f"SOURCE {origin.file}: with --pace a file is expected, which is read twice")
    if (job.settings.run.workers or 1) > 1 or job.recovery is not None:
        raise BadCommand("--pace goes with one worker and without --recovery: `beepgpt ingest --pace` puts on a topic what can be resumed")


def lasting(log: Log, address: TopicAddress, kept: int) -> Iterator[str]:
    """Yield a sentence for each setting of a topic of predictions by which text may stay there after its message was deleted."""
    has = log.settings_of(address.topic, ["cleanup.policy", "retention.ms"])
    if "compact" not in has.get("cleanup.policy", "compact"):
        yield f"{address}: is not compacted: what a deleted message said stays in it for its retention. `beepgpt topics` makes one that is."
    if not 0 <= int(has.get("retention.ms", 0)) * 1000 <= kept:
        yield f"{address}: keeps predictions longer than scoring.kept ({kept // DAY} days): a deletion finds none that are older."


def run_score(job: ScoreJob) -> tuple[dict[str, Any], int]:
    """Run it; returns the report and exit status."""
    began = time.monotonic()
    origin = origin_of(job.source, job.include)
    check_job(job, origin)
    model = job.opened()
    say_left_out(origin.export)
    if (first := starts_at(job, origin, 0, model.fitted_until)) and first == model.fitted_until and job.since is None:
        console.print(
            f"Points before {moment(ts_text(first))[:19]}Z are what the model was fitted on, and are not scored: --since"
            " 1970-01-01T00:00:00Z scores them, too.",
            highlight=False,
        )
    run = job.run_of(origin)
    with recovery_of(run) as folder:
        if (before := ended_before(folder)) is not None:
            return before, 0
        if run.workers > 1:
            model.close()  # each worker opens its own
        workers, ended = run_flow(run, lambda worker: build(job, origin, model, worker), folder, partial(run_score_worker, job))
        report = report_of(job, model.name, workers, time.monotonic() - began) | {**left_out_of(origin.export), "ended": ended}
        if ended and folder is not None:
            folder.end(report)
    return report, status_of(workers, origin)


def run_score_worker(job: ScoreJob, number: int, shards: Sequence[str]) -> None:
    """One worker of several, in a process that `run_score` started."""
    origin, model = origin_of(job.source, job.include), job.opened()
    run_child(job.run_of(origin), lambda worker: build(job, origin, model, worker), number, shards)


def report_of(job: ScoreJob, model: str, workers: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """The closing report, as `--report` writes it; time and speed are of this start, the account is of the whole run."""
    account = sum_of(Account(each["counts"]) for each in workers)
    events = account.as_json()
    return {
        "command": "score",
        "source": job.source,
        "to": str(job.to),
        "outcomes_to": None if job.to.outcomes is None else str(job.to.outcomes),
        "spec": job.settings.rules.spec,
        "model": model,
        "threshold": LiveThresholds(job.model, job.settings.scoring.threshold).current,
        "workers": job.settings.run.workers or 1,
        "seconds": round(seconds, 3),
        "events_per_second": round(sum(each["records"] for each in workers) / seconds, 1),
        "points_per_second": round(account["scored"] / seconds, 1),
        "peak_memory_mb": round(sum(each["peak_memory_mb"] for each in workers), 1),
        "account": {
            "events": events["events"],
            "heartbeats": events["heartbeats"],
            "channels": events["channels"],
            **scores_as_json(account),
        },
        "lately": [each["figures"] for each in workers],
        "does_not_add_up": [*account.check(), *check_scores(account)],
    }
