"""A run of the scoring flow: its model, what it reads and writes, and what it closes with."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import bytewax.operators as op
import orjson
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from beepgpt.config.settings import Settings
from beepgpt.connectors import kafka
from beepgpt.connectors.files import jsonl
from beepgpt.connectors.slack import export as slack_export
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.account import Account, sum_of
from beepgpt.conversations.channel import FOREVER
from beepgpt.conversations.outcomes import Probabilities
from beepgpt.conversations.shard import SHARDS, OtherState, Shard
from beepgpt.dataflows.examples import Chunk, Following
from beepgpt.dataflows.labeling import Gated
from beepgpt.dataflows.scoring import (
    BUCKETS,
    CannotScore,
    LocalModel,
    ModelAnswer,
    ModelCaller,
    RemoteCaller,
    ScorePoints,
    ScoringRun,
    account_as_json,
    check,
    close_scores,
    hand_over,
    score_points,
    send_outcomes,
    send_predictions,
    write_deletions,
    write_outcomes,
    write_predictions,
)
from beepgpt.errors import BadCommand
from beepgpt.runtime import metrics
from beepgpt.runtime.clock import now_us
from beepgpt.runtime.connections import connection_of, is_kafka
from beepgpt.runtime.console import console
from beepgpt.runtime.pacing import PacedSource
from beepgpt.runtime.places import Origin, check_apart, not_read, origin_of, source_of, topic_of
from beepgpt.runtime.recovery import RecoveryFolder
from beepgpt.runtime.workers import (
    ProgressCallback,
    Worker,
    begin_part,
    check_source,
    finished,
    open_memory,
    run_processes,
    shard_figures,
    status_of,
    tell_of_part,
)

if TYPE_CHECKING:
    from beepgpt.training.models import Trained
    from beepgpt.training.predictions import Prediction

CARD, METRICS = "model.json", "metrics.json"
HERE = ("local", "text")
"""Kinds of models that work in this process; all others are asked elsewhere, by many calls at a time."""
THRESHOLD = 0.5
"""Where a model's validation found none."""
LOOK_BACK = 1_000
"""Records of a topic, its last ones, among which one with a spec is looked for."""

log = logging.getLogger("beepgpt")


# The model


class RunsModel(Protocol):
    """What a run needs of a model, wherever it is."""

    @property
    def name(self) -> str:
        """By which predictions say whose they are."""

    @property
    def works_here(self) -> bool:
        """Whether it is asked in this process."""

    def predict(self, points: Sequence[Mapping[str, Any]]) -> tuple[str, list[Probabilities]]:
        """As dataflows/scoring.py has it; of one that works here."""

    def submit(self, point: Mapping[str, Any], seconds: float | None) -> Future[ModelAnswer]:
        """What it says of a point, within so many seconds; of one that works elsewhere."""

    def validated(self, model: str) -> Mapping[str, float]:
        """As dataflows/scoring.py has it."""

    def watched(self, every: float) -> AbstractContextManager[None]:
        """While in there, a newer one is taken up; afterwards it can't be asked any more."""

    def close(self) -> None:
        """It isn't asked any more."""


class WatchedModel:
    """The model in a folder, and the next one, once it is there: whoever trains puts it in place, and nothing is restarted."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        """Raises BadCommand if there is none, if it was trained on other examples than this run makes, or if its server can't be asked."""
        from beepgpt.training.models import BadModel

        self.folder = folder
        self._spec = settings.rules.spec
        at_once = {"concurrency": settings.scoring.concurrency}
        self._settings = settings.model_copy(update={"provider": settings.provider.model_copy(update=at_once)})
        self._open = ExitStack()
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._validated: dict[str, dict[str, float]] = {}
        try:
            self._trained, self._name = self._load()
        except BadModel as error:
            raise BadCommand(f"--model {error}") from error

    @property
    def name(self) -> str:
        """A hash of the model's card, by which predictions say whose they are."""
        return self._name

    @property
    def works_here(self) -> bool:
        """Whether it is asked in this process."""
        return self._trained.card["kind"] in HERE

    def predict(self, points: Sequence[Mapping[str, Any]]) -> tuple[str, list[Probabilities]]:
        """What the folder's model says of points, by that model's name."""
        from beepgpt.training.points import points_of
        from beepgpt.training.predictions import OtherFeatures

        with self._lock:
            trained, name = self._trained, self._name
        try:
            predictions = trained.model.predict(points_of([as_example(point) for point in points]))
        except OtherFeatures as error:
            raise BadCommand(f"{self.folder}: {error}") from error
        said = [predictions.of(place) for place in range(len(points))]
        return name, [Probabilities(each.people, each.nobody, each.other) for each in said]

    def submit(self, point: Mapping[str, Any], seconds: float | None) -> Future[ModelAnswer]:
        """What the folder's model says of a point, by that model's name; what its server does wrong is a CannotScore."""
        from beepgpt.training.points import points_of
        from beepgpt.training.remote import RemoteModel

        with self._lock:
            trained, name = self._trained, self._name
        assert isinstance(trained.model, RemoteModel)
        answer: Future[ModelAnswer] = Future()

        def hand_on(asked: Future[Prediction]) -> None:
            error = asked.exception()
            if error is None:
                said = asked.result()
                answer.set_result((name, Probabilities(said.people, said.nobody, said.other)))
            else:
                kind = type(error.__cause__ or error).__name__  # and not its words, which may quote what people wrote
                answer.set_exception(CannotScore(kind, f"the model's server did not answer about a point: {kind}"))

        trained.model.submit(points_of([as_example(point)]), deadline=seconds).add_done_callback(hand_on)
        return answer

    def validated(self, model: str) -> Mapping[str, float]:
        """The lower ends of the intervals that `beepgpt validate` found, as far as it was run."""
        with self._lock:
            card, name = self._trained.card, self._name
        if not self._validated.get(model) and model == name:  # it may be validated later than it was taken up
            figures = figures_in(self.folder)
            if is_told_of(figures, card):  # the folder may have those of the model before, or of the next one already
                self._validated[model] = {what: each["low"] for what, each in hits_in(figures).items()}
        return self._validated.get(model, {})

    def look(self) -> bool:
        """Takes up another model if the folder has one by now; one that can't be used is told of, and the old one goes on."""
        stamp = self._stamp()
        if stamp is None or stamp == self._seen:
            return False
        self._seen = stamp
        try:
            trained, name = self._load()
        except Exception as error:
            log.warning("the new model is not taken up: %s", error, extra={"model": self._name})
            return False
        if name == self._name:
            return False
        if (trained.card["kind"] in HERE) != self.works_here:
            log.warning("%s: the new model is of another kind: start again with it", self.folder, extra={"model": self._name})
            return False
        before = self._name
        with self._lock:
            self._trained, self._name = trained, name
        log.info("another model", extra={"model": name, "before": before})
        return True

    @contextmanager
    def watched(self, every: float) -> Iterator[None]:
        """While in here, the folder is looked at; a server's model can't be asked any more afterwards."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(every):
                self.look()

        thread = threading.Thread(target=watch, name="model", daemon=True)
        thread.start()
        with self._open:
            try:
                yield
            finally:
                over.set()
                thread.join(5)

    def close(self) -> None:
        """A server's model can't be asked any more."""
        self._open.close()

    def _stamp(self) -> tuple[int, int, int] | None:
        with suppress(OSError):
            status = (self.folder / CARD).stat()
            return status.st_ino, status.st_mtime_ns, status.st_size
        return None

    def _load(self) -> tuple[Trained, str]:
        from beepgpt.commands.provider import open_model

        trained = self._open.enter_context(open_model(self.folder, self._settings))
        if trained.card.get("spec") != self._spec:
            raise BadCommand(
                f"--model {self.folder}: was trained on examples of spec {trained.card.get('spec')}, and this run makes spec {self._spec}:"
                " give the settings that its examples were made with, or train it anew"
            )
        return trained, sha256((self.folder / CARD).read_bytes()).hexdigest()[:12]


def as_example(point: Mapping[str, Any]) -> dict[str, Any]:
    """A point in an example's words: it has one conversation."""
    return {**point, "conversation": point["conversations"][0]}


def figures_in(folder: Path) -> dict[str, Any]:
    """What `beepgpt validate` wrote of a model; nothing if it did not."""
    with suppress(OSError, ValueError):
        found = orjson.loads((folder / METRICS).read_bytes())
        if isinstance(found, dict):
            return found
    return {}


def is_told_of(figures: Mapping[str, Any], card: Mapping[str, Any]) -> bool:
    """Whether `beepgpt validate` wrote these of the model with that card."""
    return figures.get("model") == {name: value for name, value in card.items() if name not in ("files", "labels")}


def hits_in(figures: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The hits among the answered points, with their intervals."""
    with suppress(KeyError, IndexError, TypeError):
        row = figures["rows"]["answered"][0]["figures"]
        return {name: row[name] for name in ("hit@1", "hit@5") if row[name]["low"] is not None}
    return {}


def threshold_of(settings: Settings, folder: Path | None) -> float:
    """From which chance on a person would be told: as the settings say, or as the model's validation found."""
    if settings.scoring.threshold is not None:
        return settings.scoring.threshold
    with suppress(KeyError, TypeError):
        return float(figures_in(folder)["threshold"]["threshold"]) if folder is not None else THRESHOLD
    return THRESHOLD


# Where it goes


@dataclass(frozen=True)
class Outputs:
    """Where a run's lines go: files (`-`: standard output), or topics."""

    predictions: Path | kafka.KafkaAddress | None
    """None: standard output."""
    outcomes: Path | kafka.KafkaAddress | None
    """None: nowhere."""

    def __str__(self) -> str:
        return "standard output" if self.predictions is None else told_of(self.predictions)

    def files(self) -> dict[str, Path]:
        """Those that are files, by what stands in them."""
        found = {name: place for name in ("predictions", "outcomes") if isinstance(place := getattr(self, name), Path)}
        if (path := found.get("predictions")) is not None and (path.is_file() or not path.exists()):
            found["deletions"] = path.with_name(f"{path.name.removesuffix('.jsonl')}.deletions.jsonl")
        return found

    def topics(self) -> dict[str, kafka.KafkaAddress]:
        """Those that are topics."""
        return {name: place for name in ("predictions", "outcomes") if isinstance(place := getattr(self, name), kafka.KafkaAddress)}

    def of_part(self, part: int, parts: int) -> dict[str, Path]:
        """The files of one process of several."""
        files = self.files()
        if parts == 1:
            return files
        for path in files.values():
            shares_of(path).mkdir(parents=True, exist_ok=True)
        return {name: shares_of(path) / f"{name}-{part}.jsonl" for name, path in files.items()}

    def join(self, parts: int) -> None:
        """The processes' shares, one after the other, as one file; the shares go."""
        for name, path in self.files().items():
            jsonl.join([shares_of(path) / f"{name}-{part}.jsonl" for part in range(parts)], path)
            with suppress(OSError):
                shares_of(path).rmdir()

    def tidy(self) -> None:
        """A file of deletions in which nothing came goes."""
        with suppress(OSError, KeyError):
            if (path := self.files()["deletions"]).stat().st_size == 0:
                path.unlink()


def shares_of(path: Path) -> Path:
    """The folder of what each process of several writes."""
    return Path(f"{path}.parts")


def told_of(place: Path | kafka.KafkaAddress) -> str:
    """A place in words."""
    return str(place) if isinstance(place, Path) else f"kafka://{place.bootstrap}/{place.topic}"


def outputs_of(to: str, outcomes: str | None) -> Outputs:
    """DEST and `--outcomes`."""
    return Outputs(_place_of(to, "--to"), None if outcomes is None else _place_of(outcomes, "--outcomes"))


def _place_of(place: str, name: str) -> Path | kafka.KafkaAddress | None:
    if is_kafka(place):
        return topic_of(place, name)
    if place == "-" and name == "--to":
        return None
    if "://" in place or place == "-":
        raise BadCommand(f"{name} {place}: a .jsonl path{', -' if name == '--to' else ''} or kafka://host:port/topic is expected")
    jsonl.check_writable(Path(place))
    return Path(place)


# The run


@dataclass(frozen=True)
class ScoreJob:
    """A `score` command, as it was given."""

    source: str
    to: Outputs
    model: Path
    settings: Settings
    include: tuple[slack_export.ChannelKind, ...] = ("channels",)
    since: int | None = None
    until: int | None = None
    deadline: int | None = None
    """Microseconds, where the command names it: then it holds for history, too."""
    recovery: Path | None = None
    pace: float | None = None
    """How much faster than real time event time passes; None: as fast as it goes."""


def flow_of(
    source: Source[Chunk],
    following: Following,
    scoring: ScoringRun,
    sinks: Mapping[str, Sink[Any]],
    taken: Callable[[Account], None],
    alerts: Sink[Any] | None = None,
) -> Dataflow:
    """Slack events to predictions, outcomes, and whoever tells people about them."""
    flow = Dataflow("scoring")
    chunks = op.input("read_records", flow, Gated(source, scoring.gate, scoring.is_stopping))  # type: ignore[arg-type]
    made = score_points("score_points", chunks, following, scoring)
    if isinstance(sinks["predictions"], kafka.KafkaSink):
        send_predictions("send_predictions", made.scored, sinks["predictions"])
    else:
        write_predictions("write_predictions", made.scored, sinks["predictions"])
    if "deletions" in sinks:
        write_deletions("write_deletions", made.scored, sinks["deletions"])
    if isinstance(sinks.get("outcomes"), kafka.KafkaSink):
        send_outcomes("send_outcomes", made.scored, sinks["outcomes"])
    elif "outcomes" in sinks:
        write_outcomes("write_outcomes", made.scored, sinks["outcomes"])
    if alerts is not None:
        hand_over("hand_over", made.scored, alerts)
    close_scores("close_scores", made.accounts, taken)
    return flow


def sinks_of(job: ScoreJob, part: int, parts: int, *, fresh: bool, on_closed: Callable[[], None]) -> dict[str, Sink[Any]]:
    """By what goes there."""
    sinks: dict[str, Sink[Any]] = {name: jsonl.JsonlSink(path, name, fresh=fresh) for name, path in job.to.of_part(part, parts).items()}
    for name, address in job.to.topics().items():
        connection = connection_of(job.settings, address.bootstrap)
        sinks[name] = kafka.KafkaSink(connection, address.topic, patience=job.settings.kafka.patience / 1e6)
    if job.to.predictions is None:
        sinks["predictions"] = jsonl.StdoutSink(on_closed=on_closed)
    return sinks


def scoring_of(job: ScoreJob, origin: Origin, model: RunsModel, **more: Any) -> ScoringRun:
    """How the job scores."""
    ours = job.settings.scoring
    asker: ModelCaller = LocalModel(model, ours.batch) if model.works_here else RemoteCaller(model.submit, ours.concurrency)
    return ScoringRun(
        model,
        asker,
        job.settings.rules.spec,
        live_since=now_us() if origin.is_followed and ours.clock == "wall" else None,
        deadline=(ours.deadline if job.deadline is None else job.deadline) / 1e6,
        bounded_deadline=job.deadline is not None or origin.is_followed or job.pace is not None,
        max_alert_age=job.settings.alerts.max_alert_age,
        most=ours.people,
        threshold=threshold_of(job.settings, job.model),
        with_candidates=ours.candidates,
        on_drop=tell_drop,
        on_failure=tell_failure,
        **more,
    )


def tell_drop(model: str, name: str, now: float, least: float) -> None:
    """A model is no longer what it was when it was validated."""
    log.warning(
        "%s of model %s fell to %.3f, and its validation lets one expect %.3f: train it anew, or look what changed",
        name, model, now, least, extra={"model": model, "figure": name, "lately": round(now, 4), "validated_low": round(least, 4)},
    )  # fmt: skip


def tell_failure(error: CannotScore) -> None:
    """A model could not be asked."""
    log.warning("%s", error, extra={"reason": error.reason})


def starts_at(job: ScoreJob, origin: Origin, started_at: int) -> int:
    """From which time on points are scored: as the command says, or what is newer than the first start; history wholly."""
    given = job.since if origin.address is None or origin.address.since is None else origin.address.since
    if given is not None:
        return given
    return started_at if origin.is_followed and job.settings.scoring.clock == "wall" else 0


def check_job(job: ScoreJob, origin: Origin) -> None:
    """What can't be, before anything is begun."""
    rules, address = job.settings.rules, origin.address
    files = job.to.files()
    check_source(job.source, origin, job.settings, until=job.until, since=job.since, recovery=job.recovery, writes_files=bool(files))
    if not rules.candidates:
        raise BadCommand("--no-candidates: a model is asked about candidates: leave it out")
    if job.pace is not None:
        check_pace(job, origin)
    if job.recovery is not None and (job.to.predictions is None or any(path.exists() and not path.is_file() for path in files.values())):
        raise BadCommand("--recovery needs a file or a topic as --to: what was printed can't be cut back to a snapshot")
    check_apart(job.source, files.values())
    taken: dict[tuple[str, str], str] = {} if address is None else {(address.bootstrap, address.topic): "SOURCE"}
    for name, each in job.to.topics().items():
        if other := taken.get((each.bootstrap, each.topic)):
            raise BadCommand(f"{told_of(each)}: is {other} already: name another topic")
        taken[each.bootstrap, each.topic] = name
        check_topic(connection_of(job.settings, each.bootstrap), each, rules.spec)


def check_pace(job: ScoreJob, origin: Origin) -> None:
    """What doesn't go at a pace."""
    if origin.address is not None:
        raise BadCommand(
            f"--pace is for a file or an export, and {job.source} is a topic: put its records on another one with `beepgpt ingest --pace`,"
            ' and follow that with scoring.clock = "log"'
        )
    if origin.file is not None and not origin.file.is_file():
        raise BadCommand(f"SOURCE {origin.file}: with --pace a file is expected, which is read twice")
    if job.settings.run.workers > 1 or job.recovery is not None:
        raise BadCommand("--pace goes with one worker and without --recovery: `beepgpt ingest --pace` puts on a topic what can be resumed")


def check_topic(connection: kafka.Connection, address: kafka.KafkaAddress, spec: str) -> None:
    """A topic is there, and holds nothing that was made by other rules. Raises NoTopic, or OtherState."""
    kafka.check_topics(connection, [address.topic])
    for _, record in kafka.records_of(connection, address.topic, back=LOOK_BACK):
        with suppress(ValueError, TypeError, KeyError):
            if record.value is not None and (other := orjson.loads(record.value)["spec"]) != spec:
                raise OtherState(
                    f"{told_of(address)}: the topic holds what was made by spec {other}, and this run makes spec {spec}: name another,"
                    " or give the settings that it was made with"
                )


def run_score(
    job: ScoreJob, command: list[str], alerts: Callable[[ScoringRun], Sink[Any]] | None = None, model: RunsModel | None = None
) -> tuple[dict[str, Any], int]:
    """A whole run, in one process or several. Returns its report and exit status.

    `alerts`: who tells people, if anybody does; `model`: in the place of the one in the job's folder.
    """
    began = time.monotonic()
    origin = origin_of(job.source, job.include)
    check_job(job, origin)
    used = model or WatchedModel(job.model, job.settings)
    left_out, told = not_read(origin.export) if origin.export is not None else ({}, [])
    for each in told:
        console.print(each)
    memory = remember(job, origin) if job.recovery is not None else None
    if (before := finished(memory)) is not None:
        return before, 0
    if job.settings.run.workers > 1:
        used.close()  # each process opens its own
    done, ended = run_processes(
        "score", job, origin, memory, lambda told: run_part(job, origin, used, 0, 1, memory, told, [], alerts), command
    )
    report = report_of(job, used.name, done, time.monotonic() - began) | {"left_out": left_out, "ended": ended}
    if ended and memory is not None:
        memory.end(report)
    return report, status_of(done, origin)


def run_part(
    job: ScoreJob,
    origin: Origin,
    model: RunsModel,
    number: int,
    parts: int,
    memory: RecoveryFolder | None,
    told: ProgressCallback,
    shards: list[Shard],
    alerts: Callable[[ScoringRun], Sink[Any]] | None = None,
    share: Sequence[str] = SHARDS,
) -> dict[str, Any]:
    """One process's `share` of a run, to its end or until it is stopped."""
    settings, rules = job.settings, job.settings.rules
    part = Worker(settings, number, parts, memory, told, shards)
    until = job.until if origin.address is None or origin.address.until is None else origin.address.until
    following = Following(
        rules,
        load_encoding(rules.encoding),
        part.started_at,
        since=FOREVER,  # examples are another flow's to write
        until=until,
        shards=share,
        recoverable=memory is not None,
        points_since=starts_at(job, origin, part.started_at),
        is_stopping=part.is_stopping,
        shards_here=shards,
    )
    scoring = scoring_of(job, origin, model, is_stopping=part.is_stopping, with_alerts=alerts is not None)
    source = (
        paced(job, origin, part, until)
        if job.pace is not None
        else source_of(
            origin,
            following,
            settings,
            ended=part.end,
            progress=part.read,
            partitions=part.owns,
            on_lag=part.heard,
            group=settings.kafka.group and f"{settings.kafka.group}-score" if memory is not None else None,
        )
    )
    sinks = sinks_of(job, number, parts, fresh=part.is_fresh, on_closed=part.lose_reader)
    flow = flow_of(source, following, scoring, sinks, part.accounts.append, alerts(scoring) if alerts is not None else None)
    figures = metrics.ScoreFigures(
        **shard_figures(shards, part.lags, origin, rules.spec), scores=lambda: scores_of(scoring.steps_here[:1], model)
    )
    part.run(flow, job, figures, model.watched(settings.scoring.watch / 1e6), model=model.name)
    lately = {name: {**each.counts, **each.figures()} for step in scoring.steps_here for name, each in step.lately.items()}
    return part.report() | {"figures": lately}


def paced(job: ScoreJob, origin: Origin, part: Worker, until: int | None) -> PacedSource:
    """History as if it came live."""
    assert job.pace is not None
    source = PacedSource(
        origin, job.settings.rules, job.pace, since=job.since or 0, until=until,
        stopping=part.is_stopping, on_end=part.end, progress=part.read,
    )  # fmt: skip
    console.print(source.summary())
    return source


def scores_of(steps: Sequence[ScorePoints], model: RunsModel) -> metrics.Scores:
    """What a monitor is told of the scoring step, once it is there."""
    if not steps:
        return metrics.Scores()
    step = steps[0]
    return metrics.Scores(
        counts=step.counts_here(),
        predicted=dict(step.predicted_by),
        outcomes=dict(step.outcomes_by),
        waiting=step.waiting_here(),
        buckets=BUCKETS,
        waits=list(step.waits),
        waited=step.waited,
        totals={name: dict(each.counts) for name, each in list(step.lately.items())},
        lately={name: each.figures() for name, each in list(step.lately.items())},
        answered_lately={name: each.answered for name, each in list(step.lately.items())},
        validated={name: dict(model.validated(name)) for name in {model.name, *step.lately}},
    )


def work_on_part(job: ScoreJob, part: int, share: Sequence[str], alerts: Callable[[ScoringRun], Sink[Any]] | None = None) -> None:
    """A process that another one started: it tells how far it is, and at the end its account."""
    begin_part(job.settings)
    origin = origin_of(job.source, job.include)
    memory = remember(job, origin, shared=True) if job.recovery is not None else None
    model = WatchedModel(job.model, job.settings)
    tell_of_part(
        origin,
        lambda told, shards: run_part(job, origin, model, part, job.settings.run.workers, memory, told, shards, alerts, share),
    )


def remember(job: ScoreJob, origin: Origin, *, shared: bool = False) -> RecoveryFolder:
    """The recovery folder of this run; `shared` by the process that started this one."""
    assert job.recovery is not None
    run = {
        "command": "score",
        "to": str(job.to),
        "outcomes": None if job.to.outcomes is None else told_of(job.to.outcomes),
        "include": list(job.include),
        "since": job.since,
        "until": job.until,
    }

    def to_topics() -> dict[str, kafka.Topic]:
        topics = job.to.topics()
        return {name: kafka.describe_topic(connection_of(job.settings, each.bootstrap), each.topic) for name, each in topics.items()}

    return open_memory(job.recovery, job.settings, origin, run, to_topics, shared=shared)


def report_of(job: ScoreJob, model: str, done: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """The closing report, as `--report` writes it; time and speed are this start's, the account is the whole run's."""
    account = sum_of(Account(each["counts"]) for each in done)
    events = account.as_json()
    return {
        "command": "score",
        "source": job.source,
        "to": str(job.to),
        "outcomes_to": None if job.to.outcomes is None else told_of(job.to.outcomes),
        "spec": job.settings.rules.spec,
        "model": model,
        "threshold": threshold_of(job.settings, job.model),
        "workers": job.settings.run.workers,
        "seconds": round(seconds, 3),
        "events_per_second": round(sum(each["records"] for each in done) / seconds, 1),
        "points_per_second": round(account["scored"] / seconds, 1),
        "peak_memory_mb": round(sum(each["peak_memory_mb"] for each in done), 1),
        "account": {
            "events": events["events"],
            "heartbeats": events["heartbeats"],
            "channels": events["channels"],
            **account_as_json(account),
        },
        "lately": [each["figures"] for each in done],
        "does_not_add_up": [*account.check(), *check(account)],
    }
