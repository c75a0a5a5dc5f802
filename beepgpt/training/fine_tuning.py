"""`beepgpt train --model openai:NAME`: a fine-tuning job, from files to a model's folder, however often it is interrupted.

The model's folder remembers each step as soon as it is known: which files were sent, which job was started, which events were told. What a
kill keeps from being written down is looked up at the provider's: files by their name, which is their hash, and jobs by a hash of all
that they are made of. So there is never a second job for the same bytes.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import orjson

from beepgpt.commands.models import check_may_leave, client_of, may_leave_by
from beepgpt.config.sections import ProviderSettings
from beepgpt.config.settings import Settings
from beepgpt.connectors.openai.client import Client
from beepgpt.connectors.openai.jobs import Checkpoint, JobEvent, JobRequest, TuningJob
from beepgpt.errors import BadCommand, Interrupted, ProviderFailed, RequestRefused, RunStopped, TooBusy, TrainingNotAvailable
from beepgpt.locks import lock
from beepgpt.runtime.console import console
from beepgpt.runtime.workers import interruptible

NOTE, EVENTS, LOCK = "job.json", "events.jsonl", "job.lock"
WITH = {"train": "train on", "valid": "validate with"}
FEWEST = 10
"""Rows that a job wants."""
LARGEST = 512 * 1_000_000
"""Bytes of a file."""
PATIENCE = 3600.0
"""Seconds that the provider may be out of reach while a job is followed; the job goes on meanwhile."""
CLOSED = (
    "OpenAI has closed self-serve fine-tuning to new customers, and takes the last new jobs on 2027-01-06; Azure takes its customers' for"
    " longer (provider.base_url)."
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobOptions:
    """What a user may say about a job."""

    model: str
    epochs: int | None
    suffix: str | None
    seed: int


@dataclass(frozen=True)
class Upload:
    """A file as it is sent: what must not leave is taken out of it."""

    side: str
    data: bytes = field(repr=False)
    rows: int
    left_out: int
    """Rows of channels and people that nothing is sent of."""
    redacted: Mapping[str, int]

    @property
    def digest(self) -> str:
        """Of all of it."""
        return sha256(self.data).hexdigest()

    @property
    def name(self) -> str:
        """By which it is found again."""
        return f"beepgpt-{self.digest[:32]}-{self.side}.jsonl"


def fine_tuned(
    folder: Path, into: Path, wanted: JobOptions, settings: Settings, *, every: float, again: bool = False
) -> tuple[dict[str, Any], bool]:
    """Runs the job, or goes on with it. Gives the model's card, and whether it was there already."""
    from beepgpt.training.models import CARD, hash_of, read_card

    check_may_leave(settings.provider, f"--model openai:{wanted.model} sends {folder}, which holds what people wrote")
    manifest = (folder / "manifest.json").read_bytes()
    told = orjson.loads(manifest)
    check_encoding(folder, told, wanted.model)
    into.mkdir(parents=True, exist_ok=True)
    with locked(into), interruptible():
        try:
            uploads = [upload_of(folder, told, side, settings.provider) for side in ("train", "valid")]
            check_uploads(folder, uploads)
            key = key_of(wanted, uploads)
            if (into / CARD).exists():
                card = read_card(into)
                if card.get("remote", {}).get("key") == key and card["manifest"] == hash_of(manifest):
                    return card, True
                raise BadCommand(f"{into}: holds another model: name another folder (--to), or remove it")
            note = Note.of(into, key, wanted, settings.provider)
            tell_what_goes(told, uploads, wanted)
            with client_of(settings) as client:
                job = at_work(client, note, uploads, wanted, every=every, again=again)
                points = checkpoints_of(client, job.id)
        except Interrupted:
            raise Interrupted(
                "interrupted. What was sent and started is remembered, and a job goes on at the provider's: the same command goes on with"
                " it; with --cancel it is stopped"
            ) from None
        except TrainingNotAvailable as error:
            raise RunStopped(f"{error}. {CLOSED}") from error
        except ProviderFailed as error:
            raise RunStopped(f"{error}; what was done is remembered in {into}, and the same command goes on from there") from error
        return written(folder, into, manifest, wanted, key, job, points, uploads), False


def cancelled(into: Path, settings: Settings) -> str:
    """Stops the job that a folder remembers; gives its status."""
    if not (into / NOTE).exists():
        raise BadCommand(f"{into}: remembers no job that could be cancelled")
    with locked(into):
        note = Note.read(into)
        if note is None or note.told["job"] is None:
            raise BadCommand(
                f"{into}: remembers no job that could be cancelled; if one was started just before a kill, the same command without"
                " --cancel finds it"
            )
        try:
            with client_of(settings) as client:
                job = client.job(note.told["job"])
                return (job if job.is_over else client.cancel_job(job.id)).status
        except ProviderFailed as error:
            raise RunStopped(str(error)) from error


# What is sent


def check_encoding(folder: Path, manifest: Mapping[str, Any], model: str) -> None:
    """Labels are single tokens of the model that is trained, and rows have one. Raises BadCommand."""
    from beepgpt.training.checks import CannotPrepare, model_of

    prepared = manifest["settings"]["model"]
    try:
        encoding = model_of(model).encoding
    except CannotPrepare:
        if prepared != model:
            raise BadCommand(
                f"the model {model} is not known, so neither is its encoding: prepare the training set for it (beepgpt prepare"
                f" --model {model} --encoding …)"
            ) from None
        encoding = manifest["encoding"]
    if encoding != manifest["encoding"]:
        raise BadCommand(
            f"{folder} was prepared for {prepared}, whose labels are tokens of {manifest['encoding']}, and {model} has {encoding}:"
            f" beepgpt prepare --model {model}"
        )
    if manifest["settings"]["answers"] == "all":
        raise BadCommand(f"{folder} was prepared with --answers all, and a model is asked for one token: prepare it with each, or one")


def chats_in(folder: Path, manifest: Mapping[str, Any], side: str) -> Path:
    """The chats of one side, as they were prepared. Raises BadCommand."""
    path = folder / f"chat_{side}.jsonl"
    told = manifest["files"].get(path.name)
    if told is None or not path.exists():
        raise BadCommand(f"{path} is missing: make it with beepgpt prepare SOURCE --to {folder} --format chat --format candidates")
    with path.open("rb") as file:
        if file_digest(file, "sha256").hexdigest() != told["sha256"]:
            raise BadCommand(f"{path} is not the file that was prepared: prepare the training set again")
    return path


def upload_of(folder: Path, manifest: Mapping[str, Any], side: str, settings: ProviderSettings) -> Upload:
    """One side's chats, without what must not leave: the same bytes every time."""
    from beepgpt.labeling.redaction import redact

    kept_back = prompts_kept_back(folder, side, settings)
    rows, left_out, redacted = list[bytes](), 0, Counter[str]()
    with chats_in(folder, manifest, side).open("rb") as file:
        for line in file:
            row = orjson.loads(line)
            asked = row["messages"][-2]
            if asked["content"] in kept_back:
                left_out += 1
                continue
            clean = redact(asked["content"])
            redacted.update(clean.counts)
            asked["content"] = clean.text
            rows.append(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    return Upload(side, b"".join(rows), len(rows), left_out, dict(redacted))


def prompts_kept_back(folder: Path, side: str, settings: ProviderSettings) -> Collection[str]:
    """Prompts that show what may not be sent; who wrote them stands in the table of candidates."""
    if not settings.exclude_channels and not settings.exclude_people:
        return ()
    from beepgpt.training.points import read_examples

    path = folder / f"candidates_{side}.parquet"
    if not path.exists():
        raise BadCommand(
            f"provider.exclude_channels and exclude_people keep rows back, and who wrote them stands in {path}, which is missing: prepare"
            " the training set with --format chat --format candidates"
        )
    may_leave, points = may_leave_by(settings), read_examples(path).points
    told = zip(points.prompt, points.channel, points.window_user, strict=True)
    return {prompt for prompt, channel, people in told if not may_leave(channel, set(people))}


def check_uploads(folder: Path, uploads: list[Upload]) -> None:
    """Whether a job can be made of them. Raises BadCommand."""
    train = uploads[0]
    if train.rows < FEWEST:
        raise BadCommand(f"{folder}: has {train.rows} rows to train on, and a job wants {FEWEST}: prepare more examples")
    for each in uploads:
        if len(each.data) > LARGEST:
            raise BadCommand(
                f"{folder}: its {each.side} side has {len(each.data) / 1e6:,.0f} MB, and a file may have {LARGEST / 1e6:,.0f}: prepare"
                " fewer examples (--cap, --balance)"
            )


def key_of(wanted: JobOptions, uploads: list[Upload]) -> str:
    """A hash of all that makes a job what it is."""
    told = {**asdict(wanted), "files": [each.digest for each in uploads if each.rows]}
    return sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()


def tell_what_goes(manifest: Mapping[str, Any], uploads: list[Upload], wanted: JobOptions) -> None:
    """How much is sent, and what it may cost."""
    train, valid = uploads
    redacted = sum((Counter(each.redacted) for each in uploads), Counter())
    taken = ", ".join(f"{count:,} {kind}" for kind, count in sorted(redacted.items()))
    kept = train.left_out + valid.left_out
    console.print(
        f"{train.rows:,} rows to train on and {valid.rows:,} to validate with"
        f"{f'; {kept:,} are kept back' if kept else ''}{f'; taken out: {taken}' if taken else ''}."
    )
    epochs = f"{wanted.epochs} epochs" if wanted.epochs else "as many epochs as the provider chooses"
    price = manifest.get("cost_per_epoch")
    cost = (
        f"{price:,.2f} USD an epoch, by the price that prepare was told" if price is not None else "what they cost is told by the provider"
    )
    console.print(f"{manifest['tokens']['train']:,} tokens an epoch, {epochs}: {cost}.")


# What the folder remembers


@dataclass
class Note:
    """`job.json`: what was sent and started so far."""

    path: Path
    told: dict[str, Any]

    @classmethod
    def read(cls, into: Path) -> Note | None:
        """What is remembered; None: nothing."""
        path = into / NOTE
        try:
            return cls(path, orjson.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except orjson.JSONDecodeError as error:
            raise BadCommand(f"{path} can't be read: look at the provider's which job it was, and remove it") from error

    @classmethod
    def of(cls, into: Path, key: str, wanted: JobOptions, settings: ProviderSettings) -> Note:
        """What is remembered of this very job. Raises BadCommand if it was another one."""
        note = cls.read(into)
        if note is None:
            told: dict[str, Any] = {
                "key": key,
                "wanted": asdict(wanted),
                "base_url": settings.base_url,
                "files": {},
                "job": None,
                "failed": [],
            }
            note = cls(into / NOTE, told)
            note.save()
        if note.told["key"] != key:
            changed = [name for name, value in asdict(wanted).items() if note.told["wanted"][name] != value]
            why = f"--{changed[0]} was {note.told['wanted'][changed[0]]}" if changed else "the training set was another one"
            raise BadCommand(f"{into}: remembers a job of its own ({why}): name another folder (--to)")
        if note.told["base_url"] != settings.base_url:
            raise BadCommand(
                f"{into}: its job is at {note.told['base_url']}, and provider.base_url is {settings.base_url}: set it back, or"
                " name another folder (--to)"
            )
        return note

    def save(self, **told: Any) -> None:
        """Writes it down, whole or not at all."""
        self.told |= told
        part = self.path.with_suffix(".part")
        with part.open("wb") as file:
            file.write(orjson.dumps(self.told, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            file.flush()
            os.fsync(file.fileno())
        part.rename(self.path)


@contextmanager
def locked(into: Path) -> Iterator[None]:
    """One process at a time: a second one would start the same job. A kill releases it."""
    in_use = BadCommand(f"{into}: another beepgpt train is at work on it: wait for it, or end it")
    descriptor = lock(into / LOCK, in_use)
    try:
        yield
    finally:
        os.close(descriptor)


class JobEventLog:
    """`events.jsonl`: what the job has told, each once; a person sees it as it comes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.last: str | None = None
        whole = path.read_bytes() if path.exists() else b""
        kept = whole[: whole.rfind(b"\n") + 1]  # a kill leaves half a line
        if kept != whole:
            path.write_bytes(kept)
        for line in kept.splitlines():
            self.last = orjson.loads(line)["id"]

    def add(self, event: JobEvent) -> None:
        """One more."""
        with self._path.open("ab") as file:
            file.write(orjson.dumps(event._asdict(), option=orjson.OPT_APPEND_NEWLINE))
        self.last = event.id
        when = datetime.fromtimestamp(event.at, UTC).strftime("%H:%M:%S")
        console.print(f"{when} {'' if event.level == 'info' else event.level.upper() + ': '}{event.message}")


# At the provider's


def at_work(client: Client, note: Note, uploads: list[Upload], wanted: JobOptions, *, every: float, again: bool) -> TuningJob:
    """The job, once it has succeeded."""
    job_id: str | None = note.told["job"]
    if job_id is not None and again and client.job(job_id).has_failed:
        note.save(job=None, failed=[*note.told["failed"], job_id])
        (note.path.parent / EVENTS).unlink(missing_ok=True)
        job_id = None
    if job_id is None:
        job_id = started(client, note, uploads, wanted, every=every, again=again)
    job = followed(client, job_id, JobEventLog(note.path.parent / EVENTS), every=every)
    if job.has_failed:
        raise RunStopped(told_failure(job, note.path.parent))
    if not job.model:
        raise RunStopped(f"job {job.id} has succeeded, and tells no model: look at it at the provider's")
    return job


def started(client: Client, note: Note, uploads: list[Upload], wanted: JobOptions, *, every: float, again: bool) -> str:
    """Sends the files and starts the job, unless the provider has them already."""
    ids = {each.side: sent(client, note, each) for each in uploads if each.rows}
    for each in uploads:
        if each.rows:
            processed(client, note, each, ids[each.side], every=every)
    wish = JobRequest(note.told["key"], wanted.model, ids["train"], ids.get("valid"), wanted.epochs, wanted.suffix, wanted.seed)
    try:
        job = client.start_job(wish, again=again)
    except TrainingNotAvailable:
        for file_id in ids.values():  # nothing will come of them, and they hold what people wrote
            client.delete_file(file_id)
        note.save(files={})
        console.print("The files that were sent are deleted again.")
        raise
    note.save(job=job.id)
    console.print(f"Job {job.id}: {job.status}")
    return job.id


def sent(client: Client, note: Note, upload: Upload) -> str:
    """The id of a file at the provider's."""
    known: str | None = note.told["files"].get(upload.side)
    if known is not None:
        return known
    with console.status(f"sending {len(upload.data) / 1e6:,.1f} MB to {WITH[upload.side]}"):
        file = client.send_file(upload.name, upload.data)
    note.save(files={**note.told["files"], upload.side: file.id})
    console.print(f"File {file.id}: {upload.rows:,} rows to {WITH[upload.side]}, {len(upload.data) / 1e6:,.1f} MB")
    return file.id


def processed(client: Client, note: Note, upload: Upload, file_id: str, *, every: float) -> None:
    """Returns once the provider has read a file and found it good."""
    with console.status(f"{file_id} is read by the provider") as status:
        seen = time.monotonic()
        while True:
            try:
                file = client.file(file_id)
            except TooBusy as error:
                _wait_for(error, seen)
            except RequestRefused as error:
                forget(note, upload)
                raise RunStopped(f"file {file_id} is gone from the provider's ({error}): the same command sends it anew") from error
            else:
                seen = time.monotonic()
                status.update(f"{file_id}: {file.status}")
                if file.is_ready:
                    return
                if file.is_bad:
                    forget(note, upload)
                    raise RunStopped(
                        f"file {file_id} ({upload.rows:,} rows to {WITH[upload.side]}) was read by the provider and turned down"
                        f" ({file.status}): look at it there. The same command sends it anew; --model export is for training elsewhere"
                    )
            time.sleep(every)


def forget(note: Note, upload: Upload) -> None:
    """A file that can't be used."""
    note.save(files={side: each for side, each in note.told["files"].items() if side != upload.side})


def followed(client: Client, job_id: str, told: JobEventLog, *, every: float) -> TuningJob:
    """Returns when the job is over; tells what it tells meanwhile."""
    seen = time.monotonic()
    with console.status(f"job {job_id}") as status:
        while True:
            try:
                job = client.job(job_id)  # before its events: when it is over, they are all there
                for event in client.job_events(job_id, told.last):
                    told.add(event)
                    status.update(told_step(job, event))
            except TooBusy as error:
                _wait_for(error, seen)
            else:
                seen = time.monotonic()
                if job.is_over:
                    return job
            time.sleep(every)


def _wait_for(error: TooBusy, seen: float) -> None:
    if time.monotonic() - seen > PATIENCE:
        raise error
    log.warning("the provider can't be reached, and is waited for: %s", error)


def told_step(job: TuningJob, event: JobEvent) -> str:
    """Where it stands, in a line."""
    step, steps = event.data.get("step"), event.data.get("total_steps")
    return f"job {job.id}: {job.status}" + (f", step {step} of {steps}" if steps else f", step {step}" if step else "")


def told_failure(job: TuningJob, into: Path) -> str:
    """Why there is no model, and what to do instead."""
    if job.status == "failed":
        return (
            f"job {job.id} has failed ({job.error or 'no reason given'}); what it told stands in {into / EVENTS}. Mend what it names and"
            " prepare the training set again, or try the same once more: --again. --model local needs no provider; --model export is for"
            " training elsewhere"
        )
    return f"job {job.id} was cancelled: to have it anyhow, start it once more with --again; --model local needs no provider"


def checkpoints_of(client: Client, job_id: str) -> list[Checkpoint]:
    """The models on the way; a server may not know any."""
    try:
        return client.checkpoints(job_id)
    except RequestRefused:
        return []


# The model's folder


def written(
    folder: Path,
    into: Path,
    manifest: bytes,
    wanted: JobOptions,
    key: str,
    job: TuningJob,
    points: list[Checkpoint],
    uploads: list[Upload],
) -> dict[str, Any]:
    """The card, which says how the model is asked; written at last."""
    from beepgpt.training.models import save_remote

    told = orjson.loads(manifest)
    remote = {
        "model": job.model,
        "way": "chat",
        "system": told["settings"]["system"],
        "key": key,
        "job": job.id,
        "base": job.base,
        "wanted": asdict(wanted),
        "settings": job.settings,
        "trained_tokens": job.tokens,
        "checkpoints": [each._asdict() for each in points],
        "files": {each.side: {"sha256": each.digest, "rows": each.rows, "left_out": each.left_out} for each in uploads},
    }
    return save_remote(into, (folder / "labels.json").read_bytes(), told_of(told) | {"remote": remote}, manifest)


def told_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a card tells of its training set."""
    train = manifest["account"]["train"]
    return {
        "spec": manifest["examples"]["spec"],
        "trained_on": {"examples": train["examples"], "answered": train["answered"], "settled_until": manifest["cut"]},
    }
