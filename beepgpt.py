"""The command line: wiring and nothing else."""

from __future__ import annotations

import inspect
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import bytewax.operators as op
import orjson
import typer
from bytewax.dataflow import Dataflow
from bytewax.errors import BytewaxRuntimeError
from bytewax.inputs import Source
from bytewax.outputs import Sink
from bytewax.testing import TestingSink, TestingSource, run_main
from bytewax.visualize import to_mermaid

from config.settings import DEFAULTS, BadSettings, Settings, read_settings
from connectors import jsonl, slack_export, workspace_maker
from connectors.console import Watched, console, print_report, quiet_engine
from connectors.processes import PartFailed, PartsInterrupted, run_parts, tell
from connectors.recovery import BadRecovery, RecoveryFolder, open_recovery
from connectors.show import example_panel, print_audit
from connectors.tokenizer import load_encoding
from conversations.account import Account, sum_of
from conversations.audit import OtherSettings, audit_examples, kind_of
from conversations.audit_foreign import audit_pairs
from conversations.events import micros, ts_text
from conversations.export import records_of
from conversations.rules import Rules
from conversations.shard import SHARDS, ChannelMoved, OtherState, shard_of
from dataflows.examples import Chunk, Following, RunHasEnded, close_account, make_examples, write_lines

OURS = (
    BadRecovery,
    BadSettings,
    ChannelMoved,
    OtherState,
    PartFailed,
    RunHasEnded,
    jsonl.CannotRead,
    jsonl.CannotWrite,
    slack_export.BadExport,
)
"""Errors with a message for the user; all others are ours to mend."""

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


class BadCommand(Exception):
    """The command was wrong; the message says what is allowed."""


# Where things are


@dataclass(frozen=True)
class Files:
    """Where a run's lines go: the examples, and beside them what else came."""

    examples: Path | None
    """None: standard output."""
    retractions: Path | None
    late: Path | None
    dead_letters: Path | None

    def of_part(self, part: int, parts: int, folder: Path) -> Files:
        """Where one process of several writes its share."""
        if parts == 1:
            return self
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

    def beside(self) -> list[Path]:
        """All but the examples."""
        return [path for name, path in self.given().items() if name != "examples"]


@dataclass(frozen=True)
class Job:
    """An `examples` command, as it was given."""

    source: str
    files: Files
    settings: Settings
    include: tuple[slack_export.Kind, ...]
    until: int | None
    recovery: Path | None

    @property
    def to(self) -> str:
        return str(self.files.examples or "standard output")


def files_of(to: str) -> Files:
    """DEST, and the files beside it; what goes to standard output has none."""
    if to == "-":
        return Files(None, None, None, None)
    if "://" in to:
        raise BadCommand(f"--to {to}: a .jsonl path or - is expected{_not_yet(to)}")
    path = Path(to)
    if path.exists() and not (path.is_file() or path.is_dir()):
        jsonl.check_writable(path)
        return Files(path, None, None, None)  # beside a device or a pipe is no place for files
    beside = path.with_suffix("") if path.suffix == ".jsonl" else path
    files = Files(path, *(beside.with_name(f"{beside.name}.{what}.jsonl") for what in ("retractions", "late", "dead-letters")))
    for each in (path, *files.beside()):
        jsonl.check_writable(each)
    return files


def check_apart(source: str, outputs: Iterable[Path]) -> None:
    """Nothing is written over what is read, or twice to one file."""
    taken = {"SOURCE": Path(source)}
    for path in outputs:
        for name, other in taken.items():
            same = path.is_file() and other.is_file() and path.samefile(other)
            if same or (path.resolve() == other.resolve() and (path.is_file() or not path.exists())):
                raise BadCommand(f"{path}: would be written over {name}: name another file")
        taken[f"another output, {path}"] = path


def _not_yet(address: str) -> str:
    return ": Kafka is not supported yet" if address.startswith("kafka://") else ""


def export_of(job: Job) -> slack_export.Export | None:
    """SOURCE's table of contents, if it is an export (zip or folder); None: a file of events."""
    if "://" in job.source:
        raise BadCommand(f"SOURCE {job.source}: a Slack export (zip or folder) or a .jsonl of events is expected{_not_yet(job.source)}")
    path = Path(job.source)
    if path.is_dir() or path.suffix.lower() == ".zip" or _begins_as_zip(path):
        return slack_export.open_export(path, job.include)
    jsonl.check_readable(path)
    return None


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


def source_of(job: Job, following: Following, ended: Callable[[], None], progress: Callable[[int, float], None]) -> Source[Chunk]:
    """SOURCE: an export (zip or folder), or a file of events."""
    common: dict[str, Any] = {"stopping": following.is_stopping, "on_end": ended, "progress": progress}
    export = export_of(job)
    if export is not None:
        mine = set(following.shards)
        return slack_export.ExportSource(
            export,
            lambda channel, days: records_of(channel, days, edits=following.rules.edits),
            wanted=lambda channel: shard_of(channel) in mine,
            **common,
        )
    return jsonl.JsonlSource(Path(job.source), **common)


def _begins_as_zip(path: Path) -> bool:
    if not path.is_file():
        return False  # what is read from a pipe is gone from it
    with suppress(OSError), path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    return False


# The flow


def examples_flow(source: Source[Chunk], following: Following, sinks: Mapping[str, Sink[Any]], accounts: list[Account]) -> Dataflow:
    """Slack events to training examples."""
    flow = Dataflow("examples")
    chunks = op.input("read_records", flow, source)
    made = make_examples("make_examples", chunks, following)
    write_lines("write_examples", made.examples, sinks["examples"])
    for name, lines in (("retractions", made.retractions), ("late", made.late), ("dead_letters", made.rejects)):
        if name in sinks:
            write_lines(f"write_{name}", lines, sinks[name])
    close_account("close_account", made.accounts, accounts.append)
    return flow


def picture() -> str:
    """The examples flow as a Mermaid diagram, drawn from the flow itself."""
    sinks: dict[str, Sink[Any]] = {name: TestingSink([]) for name in ("examples", "retractions", "late", "dead_letters")}
    following = Following(Rules(), load_encoding("o200k_base"), now=0)
    return str(to_mermaid(examples_flow(TestingSource([]), following, sinks, [])))


@dataclass
class Stop:
    """Whether somebody asked this process to stop, and by which signal."""

    signal: int = 0

    def __call__(self) -> bool:
        return self.signal != 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While in here, an interrupt lets the engine finish its epoch; a second one does not wait for it."""

        def ask(number: int, _frame: object) -> None:
            if self.signal:
                console.show_cursor()
                os._exit(128 + number)
            self.signal = number

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run_part(
    job: Job, part: int, parts: int, memory: RecoveryFolder | None, files: Files, told: Callable[[int, float], None]
) -> dict[str, Any]:
    """One process's share of a run, to its end or until it is stopped."""
    stop = Stop()
    rules = job.settings.rules
    now = memory.note["started_at"] if memory is not None else _now()
    following = Following(
        rules,
        load_encoding(rules.encoding),
        now,
        until=job.until,
        shards=SHARDS[part::parts],
        recoverable=memory is not None,
        is_stopping=stop,
    )
    records = 0
    ended = False

    def read(count: int, done: float) -> None:
        nonlocal records
        records += count
        told(records, done)

    def end() -> None:
        nonlocal ended
        ended = True

    fresh = memory is None or not memory.has_store(part)
    sinks: dict[str, Sink[Any]] = {name: jsonl.JsonlSink(path, name, fresh=fresh) for name, path in files.given().items()}
    if files.examples is None:
        sinks["examples"] = jsonl.StdoutSink(on_closed=lambda: setattr(stop, "signal", signal.SIGPIPE))
    accounts: list[Account] = []
    flow = examples_flow(source_of(job, following, end, read), following, sinks, accounts)
    with memory.told() if memory is not None else nullcontext(), stop.listening(), quiet_engine():
        run_main(  # type: ignore[no-untyped-call]
            flow,
            epoch_interval=timedelta(microseconds=job.settings.run.snapshot_every),
            recovery_config=memory.store(part) if memory is not None else None,
        )
    return {
        "ended": ended and not stop(),
        "signal": stop.signal,
        "records": records,
        "counts": sum_of(accounts).counts,
        "peak_memory_mb": _peak_memory_mb(),
    }


def run_job(job: Job, command: list[str]) -> tuple[dict[str, Any], int]:
    """A whole run, in one process or several. Returns its report and exit status."""
    began = time.monotonic()
    parts = job.settings.run.workers
    export = export_of(job)
    left_out, told = not_read(export) if export is not None else ({}, [])
    for each in told:
        console.print(each)
    memory = remember(job) if job.recovery is not None else None
    if memory is not None and memory.ended is not None:
        console.print(f"This run has ended already, and nothing was done: delete {memory.path} to run it again.")
        return memory.ended, 0
    with Watched("examples", shown=job.settings.run.progress) as watched:
        if parts == 1:
            done = [run_part(job, 0, 1, memory, job.files, lambda records, share: watched.update(0, 1, records, share))]
        else:
            done = run_in_parts(command, parts, watched, memory)
    ended = all(each["ended"] for each in done)
    if parts > 1 and (ended or memory is None):
        join_parts(job.files, parts)
    if ended or memory is None:
        for path in job.files.beside():
            with suppress(OSError):
                if path.stat().st_size == 0:
                    path.unlink()
    report = report_of(job, done, time.monotonic() - began) | {"left_out": left_out, "unread": len(export.unread) if export else 0}
    if ended and memory is not None:
        memory.end(report)
    interrupted = next((each["signal"] for each in done if each["signal"]), 0)
    return report, 130 if interrupted in (signal.SIGINT, signal.SIGTERM) else 0


def run_in_parts(command: list[str], parts: int, watched: Watched, memory: RecoveryFolder | None) -> list[dict[str, Any]]:
    """The same command once for each process, each with its own part of the channels."""
    reports: list[dict[str, Any]] = [{} for _ in range(parts)]

    def told(part: int, what: dict[str, Any]) -> None:
        if "counts" in what:
            reports[part] = what
        else:
            watched.update(part, parts, what["records"], what["done"])

    keep = [memory.lock] if memory is not None and memory.lock is not None else []
    run_parts([[sys.executable, __file__, *command, f"--part={part}"] for part in range(parts)], told, keep)
    return reports


def join_parts(files: Files, parts: int) -> None:
    """The processes' shares, one after the other, as one file; the shares go."""
    share = files.shares()
    for each in fields(files):
        path: Path | None = getattr(files, each.name)
        if path is None and each.name != "examples":
            continue
        pieces = [share / f"{each.name}-{part}.jsonl" for part in range(parts)]
        jsonl.join(pieces, path)
    with suppress(OSError):
        share.rmdir()


def remember(job: Job, *, shared: bool = False) -> RecoveryFolder:
    """The recovery folder of this run; `shared` by the process that started this one."""
    if job.files.examples is None or (job.files.examples.exists() and not job.files.examples.is_file()):
        raise BadCommand("--recovery needs a file as --to: what was printed can't be cut back to a snapshot")
    assert job.recovery is not None
    run = {
        **asdict(job.settings.rules),
        "spec": job.settings.rules.spec,
        "source": str(Path(job.source).resolve()),
        "to": str(job.files.examples.resolve()),
        "include": list(job.include),
        "until": None if job.until is None else ts_text(job.until),
        "workers": job.settings.run.workers,
    }
    return open_recovery(job.recovery, run, {"started_at": _now()}, shared=shared)


def report_of(job: Job, done: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """The closing report, as `--report` writes it; time and speed are this start's, the account is the whole run's."""
    account = sum_of(Account(each["counts"]) for each in done)
    return {
        "command": "examples",
        "source": job.source,
        "to": job.to,
        "spec": job.settings.rules.spec,
        "rules": {name: value for name, value in asdict(job.settings.rules).items() if name != "spec"},
        "beside": {name: str(path) for name, path in job.files.given().items() if name != "examples" and path.exists()},
        "workers": job.settings.run.workers,
        "seconds": round(seconds, 3),
        "events_per_second": round(sum(each["records"] for each in done) / seconds, 1),
        "peak_memory_mb": round(sum(each["peak_memory_mb"] for each in done), 1),
        "account": account.as_json(),
        "does_not_add_up": account.check(),
    }


def _now() -> int:
    return (datetime.now(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _peak_memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


# The commands


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command a flag for every setting, and hands it the settings that result."""
    sections = {name: field.annotation for name, field in Settings.model_fields.items()}
    flags = {name: section for section, model in sections.items() for name in model.model_fields}  # type: ignore[union-attr]

    @wraps(command)
    def wrapped(**given: Any) -> None:
        overrides: dict[str, dict[str, object]] = {section: {} for section in sections}
        for name, section in flags.items():
            overrides[section][name] = given.pop(name)
        path = given.pop("config")
        command(settings=read_settings(path, overrides), **given)

    own = [each for each in inspect.signature(command, eval_str=True).parameters.values() if each.name != "settings"]
    told: list[inspect.Parameter] = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_flag(name, sections[section]))
        for name, section in flags.items()
    ]
    file = Annotated[Path | None, typer.Option(help="A TOML file of settings.", rich_help_panel="Settings")]
    told.append(inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=file))
    wrapped.__signature__ = inspect.Signature([*own, *told])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {each.name: each.annotation for each in (*own, *told)}
    return wrapped


def _flag(name: str, section: Any) -> Any:
    kind = bool if section.model_fields[name].annotation is bool else str
    told = re.search(rf"^{name} = .*?# (.*)$", DEFAULTS.read_text("utf-8"), re.MULTILINE)
    return Annotated[kind | None, typer.Option(help=told[1] if told else None, rich_help_panel="Settings", show_default=False)]


def time_of(text: str | None) -> int | None:
    """A moment on the command line: Slack's seconds, or ISO 8601 (UTC if it names no zone)."""
    if text is None:
        return None
    with suppress(ValueError):
        return micros(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadCommand(f"--until {text}: a time like 2024-01-31T12:00:00Z or 1706702400.000000 is expected") from None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def kinds_of(include: str) -> tuple[slack_export.Kind, ...]:
    """The kinds of channels that are to be read."""
    chosen = {kind.strip() for kind in include.split(",")}
    if unknown := chosen - set(slack_export.KINDS):
        raise BadCommand(f"--include {', '.join(sorted(unknown))}: must be of {', '.join(slack_export.KINDS)}")
    return tuple(kind for kind in slack_export.KINDS if kind in chosen)


@app.callback()
def beepgpt() -> None:
    """Live chat to training examples and predictions that can be trusted."""


@app.command()
@with_settings
def examples(
    source: Annotated[str, typer.Argument(help="A Slack export (zip or folder), or a .jsonl of events.")],
    to: Annotated[str, typer.Option(help="Where the examples go: a .jsonl path, or - for standard output.")],
    settings: Settings,
    report: Annotated[Path | None, typer.Option(help="Write the closing account here, as JSON.")] = None,
    recovery: Annotated[Path | None, typer.Option(help="A folder that remembers the run, so that it goes on after a kill.")] = None,
    until: Annotated[str | None, typer.Option(help="Every channel's clock is at this time at the end (2024-01-31T12:00:00Z).")] = None,
    include: Annotated[
        str, typer.Option(help="Kinds of channels of an export, joined by commas: channels, groups, dms, mpims.")
    ] = "channels",
    part: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Make examples: points in time of conversations, and who answered."""
    if report is not None:
        jsonl.check_writable(report)
    job = Job(source, files_of(to), settings, kinds_of(include), time_of(until), recovery)
    check_apart(source, [*job.files.given().values(), *([report] if report is not None else [])])
    if part is not None:
        work_on_part(job, part)
        return
    closing, status = run_job(job, sys.argv[1:])
    print_report(closing)
    if report is not None:
        jsonl.write_file(report, orjson.dumps(closing, option=orjson.OPT_INDENT_2) + b"\n")
    if status == 130:
        rest = "run the same command again to go on" if recovery else "give --recovery DIR to go on where a run stopped"
        console.print(f"Interrupted; what was done is kept ({rest}).")
    if closing["does_not_add_up"]:
        raise typer.Exit(1)
    raise typer.Exit(status)


def records_in(source: Source[Chunk]) -> Iterator[bytes]:
    """All records of a source, in order, in a plain loop."""
    for name in source.list_parts():  # type: ignore[attr-defined]
        part = source.build_part("read_records", name, None)  # type: ignore[attr-defined]
        while True:
            try:
                chunks = part.next_batch()
            except StopIteration:
                break
            for _, _, values in chunks:
                yield from (value if isinstance(value, bytes) else value.record for value in values)
        part.close()


def lines_in(path: Path) -> list[bytes]:
    """The lines of a file of examples."""
    return list(records_in(jsonl.JsonlSource(path, max_line=1 << 30)))  # an example may be longer than an event


def sides_of(path: Path) -> tuple[Path, Path | None]:
    """EXAMPLES: a file; or a training set's folder, with its two sides."""
    if not path.is_dir():
        return path, None
    sides = [sorted(path.glob(f"*_{side}.jsonl")) for side in ("train", "valid")]
    if any(len(found) != 1 for found in sides):
        raise BadCommand(f"EXAMPLES {path}: a folder with one ..._train.jsonl and one ..._valid.jsonl is expected")
    return sides[0][0], sides[1][0]


@app.command()
@with_settings
def audit(
    source: Annotated[str, typer.Argument(help="The events: a Slack export (zip or folder), or a .jsonl of events.")],
    examples: Annotated[Path, typer.Argument(help="The examples, ours or others' prompts and completions; or a training set's folder.")],
    settings: Settings,
    valid: Annotated[Path | None, typer.Option(help="The validation side, if EXAMPLES is the training side of a split.")] = None,
    retractions: Annotated[Path | None, typer.Option(help="The retractions; found by themselves beside EXAMPLES.")] = None,
    sample: Annotated[int | None, typer.Option(help="Check so many only, each made again from nothing but its past.", min=1)] = None,
    subset: Annotated[bool, typer.Option("--subset", help="EXAMPLES was chosen from more, so none is missing.")] = False,
    until: Annotated[str | None, typer.Option(help="As it was given to the run that made the examples.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write what was found here, as JSON.")] = None,
    include: Annotated[str, typer.Option(help="Kinds of channels of an export, joined by commas.")] = "channels",
) -> None:
    """Prove or refute the laws on your own data, whoever made the examples."""
    if report is not None:
        jsonl.check_writable(report)
    train, other = sides_of(examples)
    valid = valid or other
    lines, held = lines_in(train), None if valid is None else lines_in(valid)
    job = Job(source, files_of("-"), settings, kinds_of(include), time_of(until), None)
    following = Following(settings.rules, load_encoding(settings.rules.encoding), _now())
    records = records_in(source_of(job, following, lambda: None, lambda count, done: None))
    if kind_of(lines) == "pairs":
        found = audit_pairs(records, lines, settings.rules, valid=held, sample=sample, now=following.now)
    else:
        beside = retractions or train.with_name(f"{train.name.removesuffix('.jsonl')}.retractions.jsonl")
        told = lines_in(beside) if retractions is not None or beside.exists() else None
        try:
            found = audit_examples(
                records, lines, settings.rules, following.encoding,
                valid=held, retractions=told, sample=sample, subset=subset, until=job.until, now=following.now,
            )  # fmt: skip
        except OtherSettings as error:
            raise BadCommand(f"EXAMPLES {train}: {error}") from error
    closing = {"command": "audit", "source": source, "examples": str(examples), **found.as_json()}
    print_audit(closing)
    if report is not None:
        jsonl.write_file(report, orjson.dumps(closing, option=orjson.OPT_INDENT_2) + b"\n")
    raise typer.Exit(1 if found.is_broken else 0)


@app.command()
@with_settings
def demo(
    settings: Settings,
    to: Annotated[Path, typer.Option(help="A folder for what is made.")] = Path("beepgpt-demo"),
) -> None:
    """All of it, on a workspace that it makes up: no key, no broker, a minute."""
    to.mkdir(parents=True, exist_ok=True)
    plan = workspace_maker.Plan(seed=7, messages=4_000, channels=8, people=40, days=60)
    export = to / "workspace.zip"
    workspace_maker.write_export(plan, export)
    console.print(f"1. A made-up workspace of {plan.people} people and {plan.messages:,} messages, as Slack would export it: {export}")

    alone = settings.model_copy(update={"run": settings.run.model_copy(update={"workers": 1})})
    job = Job(str(export), files_of(str(to / "examples.jsonl")), alone, ("channels", "groups"), None, None)
    closing, _ = run_job(job, [])
    made = (to / "examples.jsonl").read_bytes().splitlines()
    console.print(f"2. Its examples, {len(made):,} of them: {to / 'examples.jsonl'}")
    print_report(closing)

    console.print("3. One of them: a prompt, what was known when it was made, and who answered later.")
    console.print(example_panel(most_talkative(made), workspace_maker.names(plan)))

    if settings.rules.horizon is None:
        console.print(
            "4. With an unlimited horizon everything settles at the end, so no beginning of it can be compared (law 3 does not apply)."
        )
        return
    middle = plan.start_us + (plan.end_us - plan.start_us) // 2
    half = replace(job, files=files_of(str(to / "examples-until-the-middle.jsonl")), until=middle)
    run_job(half, [])
    early = sorted((to / "examples-until-the-middle.jsonl").read_bytes().splitlines())
    settled = sorted(line for line in made if micros(orjson.loads(line)["settled_ts"]) <= middle)
    same = "the same, byte for byte" if early == settled else "NOT THE SAME: please report this"
    console.print(
        f"4. Nothing from the future: made again from the first half alone, the {len(early):,} examples settled by then are {same}.",
        highlight=False,
    )
    if early != settled:
        raise typer.Exit(1)


def most_talkative(lines: list[bytes]) -> dict[str, Any]:
    """A window of three people that one of its likeliest candidates answered, as short as there is: what a reader wants to see first."""
    found = [orjson.loads(line) for line in lines]
    good = [
        each
        for each in found
        if len({message["user"] for message in each["window"]}) >= 3
        and set(each["answer"]) & set(each.get("candidates", {}).get("user", [])[:4])
    ]
    return min(good or found, key=lambda each: (len(each["prompt"]), each["id"]))


def work_on_part(job: Job, part: int) -> None:
    """A process that another one started: it tells how far it is, and at the end its account."""
    parts = job.settings.run.workers
    memory = remember(job, shared=True) if job.recovery is not None else None
    files = job.files.of_part(part, parts, job.files.shares())
    last = 0.0

    def told(records: int, done: float) -> None:
        nonlocal last
        if time.monotonic() - last > 0.2:
            last = time.monotonic()
            tell({"records": records, "done": done})

    tell(run_part(job, part, parts, memory, files, told))


def main() -> None:
    """Runs a command; every error of ours is one clear message."""
    signal.signal(signal.SIGINT, lambda _number, _frame: fail("interrupted", 130))
    try:
        app()
    except BadCommand as error:
        fail(str(error), 2)
    except BadSettings as error:
        fail(str(error), 2)
    except PartsInterrupted:
        fail("interrupted at once: with --recovery the same command goes on from the last snapshot; without, it starts anew", 130)
    except BytewaxRuntimeError as error:
        if (ours := cause_of(error)) is None:
            raise
        fail(str(ours), 1)
    except OURS as error:
        fail(str(error), 1)
    except OSError as error:
        fail(f"{error.filename or 'the system'}: {error.strerror or error}", 1)


def cause_of(error: BaseException) -> BaseException | None:
    """The error of ours that the engine wrapped, if there is one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OURS):
        cause = cause.__cause__ or cause.__context__
    return cause


def fail(message: str, status: int) -> None:
    """The end of a command that went wrong."""
    print(f"beepgpt: {message}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
