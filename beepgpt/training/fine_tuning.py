"""A provider's fine-tuning job, from a training set to a model's folder, however often it is interrupted.

The model's folder records each step as soon as it is known: files that were sent, the job that was started, events that were shown. Steps
that a kill kept from being recorded are looked up at the provider: files by their name, which contains their hash, and jobs by a hash of
all their inputs. So there is never a second job for the same bytes.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import orjson

from beepgpt.errors import BadCommand, ProviderFailed, RequestRefused, RunStopped, TooBusy, TrainingNotAvailable
from beepgpt.locks import lock
from beepgpt.training.folder import CARD, LABELS, MANIFEST, TRAIN, checked
from beepgpt.training.models import hash_of, read_card, save_remote, spec_of_set
from beepgpt.training.people import people_in
from beepgpt.training.uploads import Upload, check_uploads, describe_uploads

NOTE, EVENTS, LOCK = "job.json", "events.jsonl", "job.lock"
PURPOSES = {"train": "train on", "valid": "validate with"}
PATIENCE = 3600.0
"""Seconds that the provider may be out of reach while a job is followed; the job goes on meanwhile."""
CLOSED = (
    "OpenAI has closed self-serve fine-tuning to new customers, and takes the last new jobs on 2027-01-06; Azure takes its customers' for"
    " longer (provider.base_url)."
)

log = logging.getLogger(__name__)


# What is needed of a provider's client


class ProviderFile(Protocol):
    """A file at the provider."""

    @property
    def id(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def is_ready(self) -> bool: ...
    @property
    def is_bad(self) -> bool: ...


class ProviderJob(Protocol):
    """The state of a fine-tuning job."""

    @property
    def id(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def base(self) -> str: ...
    @property
    def model(self) -> str | None:
        """The fine-tuned model."""

    @property
    def error(self) -> str: ...
    @property
    def tokens(self) -> int | None: ...
    @property
    def settings(self) -> dict[str, Any]: ...
    @property
    def is_over(self) -> bool: ...
    @property
    def has_failed(self) -> bool: ...


class ProviderEvent(Protocol):
    """A line of a job's log."""

    @property
    def id(self) -> str: ...
    @property
    def at(self) -> int: ...
    @property
    def level(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def data(self) -> dict[str, Any]: ...
    def _asdict(self) -> dict[str, Any]: ...


class TuningClient(Protocol):
    """The calls of a provider's client that a job makes. Each raises ProviderFailed."""

    def send_file(self, name: str, data: bytes) -> ProviderFile: ...
    def file(self, file_id: str) -> ProviderFile: ...
    def delete_file(self, file_id: str) -> None: ...
    def start_job(self, wish: Any, *, again: bool = False) -> ProviderJob: ...
    def job(self, job_id: str) -> ProviderJob: ...
    def cancel_job(self, job_id: str) -> ProviderJob: ...
    def job_events(self, job_id: str, after: str | None = None) -> Sequence[ProviderEvent]: ...
    def checkpoints(self, job_id: str) -> Sequence[Any]: ...


@dataclass(frozen=True)
class JobOptions:
    """Options of a fine-tuning job."""

    model: str
    epochs: int | None
    suffix: str | None
    seed: int


@dataclass(frozen=True)
class JobProvider:
    """How a job reaches its provider, and how it reports to the user."""

    client: TuningClient
    base_url: str
    request: Callable[..., Any]
    """Makes the client's job request: key, model, training file, validation file, epochs, suffix, seed."""
    report: Callable[[str], None]
    """Shows a line to the user."""
    status: Callable[[str], None]
    """Shows the current step, in place of the last one."""
    every: float
    """Seconds between two looks at a file or a job."""


# One job, from its files to its card


def finished_card(folder: Path, into: Path, options: JobOptions, uploads: Sequence[Upload]) -> dict[str, Any] | None:
    """The card of a model that this very job has made already; None: there is none yet. Raises BadCommand if the job can't be made."""
    check_uploads(folder, uploads)
    if not (into / CARD).exists():
        return None
    card = read_card(into)
    if card.get("remote", {}).get("key") == job_key(options, uploads) and card["manifest"] == hash_of((folder / MANIFEST).read_bytes()):
        return card
    raise BadCommand(f"{into}: holds another model: name another folder (--to), or remove it")


def fine_tune(
    folder: Path, into: Path, options: JobOptions, uploads: Sequence[Upload], provider: JobProvider, *, again: bool = False
) -> dict[str, Any]:
    """Run the job, or resume it, and write the model's folder `into`; returns its card. The caller holds `locked(into)`.

    `again`: start a new job if the last one failed. Raises BadCommand, and RunStopped if there is no model yet.
    """
    manifest = (folder / MANIFEST).read_bytes()
    parsed = orjson.loads(manifest)
    try:
        note = JobNote.of(into, job_key(options, uploads), options, provider.base_url)
        for sentence in describe_uploads(uploads, parsed, options.epochs):
            provider.report(sentence)
        job = _finish_job(note, uploads, options, provider, again=again)
        checkpoints = _checkpoints_of(provider.client, job.id)
    except TrainingNotAvailable as error:
        raise RunStopped(f"{error}. {CLOSED}") from error
    except ProviderFailed as error:
        raise RunStopped(f"{error}; what was done is remembered in {into}, and the same command goes on from there") from error
    remote = {
        "model": job.model,
        "way": "chat",
        "system": parsed["settings"]["system"],
        "key": note.content["key"],
        "job": job.id,
        "base": job.base,
        "wanted": asdict(options),
        "settings": job.settings,
        "trained_tokens": job.tokens,
        "checkpoints": [each._asdict() for each in checkpoints],
        "files": {each.side: {"sha256": each.digest, "rows": each.rows, "left_out": each.left_out} for each in uploads},
    }
    return save_remote(
        into, checked(folder / LABELS).read_bytes(), trained_on(parsed) | {"remote": remote}, manifest, people_in(folder / TRAIN)
    )


def cancel_job_in(into: Path, client: TuningClient) -> str:
    """Cancel the job recorded in a folder; returns its status. The caller holds `locked(into)`. Raises BadCommand, RunStopped."""
    note = JobNote.read(into)
    if note is None or note.content["job"] is None:
        raise BadCommand(
            f"{into}: remembers no job that could be cancelled; if one was started just before a kill, the same command without"
            " --cancel finds it"
        )
    try:
        job = client.job(note.content["job"])
        return (job if job.is_over else client.cancel_job(job.id)).status
    except ProviderFailed as error:
        raise RunStopped(str(error)) from error


def trained_on(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A card's description of its training set."""
    train = manifest["account"]["train"]
    return {
        **spec_of_set(manifest),
        "trained_on": {"examples": train["examples"], "answered": train["answered"], "settled_until": manifest["cut"]},
    }


def job_key(options: JobOptions, uploads: Sequence[Upload]) -> str:
    """A hash of a job's inputs: its options and files."""
    inputs = {**asdict(options), "files": [each.digest for each in uploads if each.rows]}
    return sha256(orjson.dumps(inputs, option=orjson.OPT_SORT_KEYS)).hexdigest()


# What the folder records


@dataclass
class JobNote:
    """`job.json`: the files and the job that were sent and started so far."""

    path: Path
    content: dict[str, Any]

    @classmethod
    def read(cls, into: Path) -> JobNote | None:
        """The note in a folder; None: there is none. Raises BadCommand if it can't be read."""
        path = into / NOTE
        try:
            return cls(path, orjson.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except orjson.JSONDecodeError as error:
            raise BadCommand(f"{path} can't be read: look at the provider's which job it was, and remove it") from error

    @classmethod
    def of(cls, into: Path, key: str, options: JobOptions, base_url: str) -> JobNote:
        """The note of this very job, new or continued. Raises BadCommand if the folder's is of another job."""
        note = cls.read(into)
        if note is None:
            content: dict[str, Any] = {"key": key, "wanted": asdict(options), "base_url": base_url, "files": {}, "job": None, "failed": []}
            note = cls(into / NOTE, content)
            note.save()
        if note.content["key"] != key:
            before = note.content["wanted"]
            changed = [name for name, value in asdict(options).items() if before[name] != value]
            why = f"--{changed[0]} was {before[changed[0]]}" if changed else "the training set was another one"
            raise BadCommand(f"{into}: remembers a job of its own ({why}): name another folder (--to)")
        if note.content["base_url"] != base_url:
            raise BadCommand(
                f"{into}: its job is at {note.content['base_url']}, and provider.base_url is {base_url}: set it back, or"
                " name another folder (--to)"
            )
        return note

    def save(self, **changes: Any) -> None:
        """Update the file, whole or not at all."""
        self.content |= changes
        part = self.path.with_suffix(".part")
        with part.open("wb") as file:
            file.write(orjson.dumps(self.content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            file.flush()
            os.fsync(file.fileno())
        part.rename(self.path)

    def forget_file(self, side: str) -> None:
        """Drop a file that can't be used, so that it is sent again."""
        self.save(files={each: file_id for each, file_id in self.content["files"].items() if each != side})


@contextmanager
def locked(into: Path) -> Iterator[None]:
    """Hold a folder for one process: a second one would start the same job. A kill releases it. Raises BadCommand."""
    in_use = BadCommand(f"{into}: another beepgpt train is at work on it: wait for it, or end it")
    descriptor = lock(into / LOCK, in_use)
    try:
        yield
    finally:
        os.close(descriptor)


class JobEventLog:
    """`events.jsonl`: each of a job's events once; the user sees them as they come."""

    def __init__(self, path: Path, report: Callable[[str], None]) -> None:
        self._path = path
        self._report = report
        self.last: str | None = None
        """The id of the newest event."""
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]  # a kill leaves half a line
        if whole != content:
            path.write_bytes(whole)
        for line in whole.splitlines():
            self.last = orjson.loads(line)["id"]

    def add(self, event: ProviderEvent) -> None:
        """Append an event and show it."""
        with self._path.open("ab") as file:
            file.write(orjson.dumps(event._asdict(), option=orjson.OPT_APPEND_NEWLINE))
        self.last = event.id
        when = datetime.fromtimestamp(event.at, UTC).strftime("%H:%M:%S")
        self._report(f"{when} {'' if event.level == 'info' else event.level.upper() + ': '}{event.message}")


# Steps at the provider


def _finish_job(note: JobNote, uploads: Sequence[Upload], options: JobOptions, provider: JobProvider, *, again: bool) -> ProviderJob:
    """The job, once it has succeeded."""
    folder = note.path.parent
    job_id: str | None = note.content["job"]
    if job_id is not None and again and provider.client.job(job_id).has_failed:
        note.save(job=None, failed=[*note.content["failed"], job_id])
        (folder / EVENTS).unlink(missing_ok=True)
        job_id = None
    if job_id is None:
        job_id = _start_job(note, uploads, options, provider, again=again)
    job = _follow_job(job_id, JobEventLog(folder / EVENTS, provider.report), provider)
    if job.has_failed:
        raise RunStopped(_failure(job, folder))
    if not job.model:
        raise RunStopped(f"job {job.id} has succeeded, and names no model: look at it at the provider's")
    return job


def _start_job(note: JobNote, uploads: Sequence[Upload], options: JobOptions, provider: JobProvider, *, again: bool) -> str:
    """Send the files and start the job, unless the provider has them already; returns the job's id."""
    ids = {each.side: _send(note, each, provider) for each in uploads if each.rows}
    for each in uploads:
        if each.rows:
            _wait_until_processed(note, each, ids[each.side], provider)
    wanted = provider.request(
        note.content["key"], options.model, ids["train"], ids.get("valid"), options.epochs, options.suffix, options.seed
    )
    try:
        job = provider.client.start_job(wanted, again=again)
    except TrainingNotAvailable:
        for file_id in ids.values():  # no job will use them, and they hold what people wrote
            provider.client.delete_file(file_id)
        note.save(files={})
        provider.report("The files that were sent are deleted again.")
        raise
    note.save(job=job.id)
    provider.report(f"Job {job.id}: {job.status}")
    return job.id


def _send(note: JobNote, upload: Upload, provider: JobProvider) -> str:
    """Send an upload unless the provider has it; returns its id there."""
    known: str | None = note.content["files"].get(upload.side)
    if known is not None:
        return known
    size = f"{len(upload.data) / 1e6:,.1f} MB"
    provider.status(f"sending {size} to {PURPOSES[upload.side]}")
    file = provider.client.send_file(upload.name, upload.data)
    note.save(files={**note.content["files"], upload.side: file.id})
    provider.report(f"File {file.id}: {upload.rows:,} rows to {PURPOSES[upload.side]}, {size}")
    return file.id


def _wait_until_processed(note: JobNote, upload: Upload, file_id: str, provider: JobProvider) -> None:
    """Return once the provider has accepted a file. Raises RunStopped if it has refused it, or lost it."""
    provider.status(f"the provider reads {file_id}")
    reached = time.monotonic()
    while True:
        try:
            file = provider.client.file(file_id)
        except TooBusy as error:
            _check_patience(error, reached)
        except RequestRefused as error:
            note.forget_file(upload.side)
            raise RunStopped(f"file {file_id} is gone from the provider's ({error}): the same command sends it again") from error
        else:
            reached = time.monotonic()
            provider.status(f"{file_id}: {file.status}")
            if file.is_ready:
                return
            if file.is_bad:
                note.forget_file(upload.side)
                raise RunStopped(
                    f"file {file_id} ({upload.rows:,} rows to {PURPOSES[upload.side]}) was read by the provider and turned down"
                    f" ({file.status}): look at it there. The same command sends it again; --model export is for training elsewhere"
                )
        time.sleep(provider.every)


def _follow_job(job_id: str, events: JobEventLog, provider: JobProvider) -> ProviderJob:
    """Show a job's events until it is over; returns its last state."""
    provider.status(f"job {job_id}")
    reached = time.monotonic()
    while True:
        try:
            job = provider.client.job(job_id)  # before its events: when it is over, they are all there
            for event in provider.client.job_events(job_id, events.last):
                events.add(event)
                provider.status(_step(job, event))
        except TooBusy as error:
            _check_patience(error, reached)
        else:
            reached = time.monotonic()
            if job.is_over:
                return job
        time.sleep(provider.every)


def _check_patience(error: TooBusy, reached: float) -> None:
    """Raise the error if the provider was last reached too long ago."""
    if time.monotonic() - reached > PATIENCE:
        raise error
    log.warning("the provider can't be reached, and is waited for: %s", error)


def _step(job: ProviderJob, event: ProviderEvent) -> str:
    """A job's status and training step, in a line."""
    step, steps = event.data.get("step"), event.data.get("total_steps")
    return f"job {job.id}: {job.status}" + (f", step {step} of {steps}" if steps else f", step {step}" if step else "")


def _failure(job: ProviderJob, into: Path) -> str:
    """Why there is no model, and what to do."""
    if job.status == "failed":
        return (
            f"job {job.id} has failed ({job.error or 'no reason given'}); its events stand in {into / EVENTS}. Mend what it names and"
            " prepare the training set again, or try the same once more: --again. --model local needs no provider; --model export is for"
            " training elsewhere"
        )
    return f"job {job.id} was cancelled: to have it anyhow, start it once more with --again; --model local needs no provider"


def _checkpoints_of(client: TuningClient, job_id: str) -> Sequence[Any]:
    """The models on the way; empty where a server has none."""
    try:
        return client.checkpoints(job_id)
    except RequestRefused:
        return []
