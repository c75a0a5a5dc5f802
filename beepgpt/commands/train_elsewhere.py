"""Models that are not trained here: a provider's fine-tuning job, a server's own model, an export of chats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from beepgpt.commands.provider import check_may_leave, client_of, may_leave_by, open_model
from beepgpt.config.sections import ProviderSettings
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.connectors.openai.values import JobRequest
from beepgpt.errors import BadCommand
from beepgpt.folders import make_folder
from beepgpt.labeling.redaction import redact
from beepgpt.runtime.console import console
from beepgpt.runtime.workers import interruptible
from beepgpt.training.fine_tuning import NOTE, JobOptions, JobProvider, cancel_job_in, fine_tune, finished_card, locked, trained_on
from beepgpt.training.folder import CARD, LABELS, MANIFEST, TRAIN, checked
from beepgpt.training.models import save_remote
from beepgpt.training.people import people_in
from beepgpt.training.remote import REMOTE_ENDPOINTS
from beepgpt.training.uploads import MayLeave, check_encoding, exported, uploads_of

INTERRUPTED = (
    "interrupted. What was sent and started is remembered, and a job goes on at the provider's: the same command goes on with it; with"
    " --cancel it is stopped"
)


def run_job(folder: Path, into: Path, options: JobOptions, settings: Settings, *, every: float, again: bool = False) -> dict[str, Any]:
    """Run a fine-tuning job, or resume it, or find it done; returns the model's card."""
    check_may_leave(settings.provider, f"--model openai:{options.model} sends {folder}, which holds what people wrote")
    manifest = orjson.loads((folder / MANIFEST).read_bytes())
    check_encoding(folder, manifest, options.model)
    make_folder(into)
    with locked(into), interruptible(INTERRUPTED):
        uploads = uploads_of(folder, manifest, redact, exclusions(settings.provider))
        if (card := finished_card(folder, into, options, uploads)) is not None:
            before = "It is trained already: "
        else:
            before = ""
            with client_of(settings) as client, console.status("asking the provider") as status:
                provider = JobProvider(client, settings.provider.base_url, JobRequest, console.print, status.update, every)
                card = fine_tune(folder, into, options, uploads, provider, again=again)
    remote = card["remote"]
    tokens = f", trained on {remote['trained_tokens']:,} tokens" if remote["trained_tokens"] else ""
    console.print(f"{before}{remote['model']}{tokens}: {into}")
    return card


def cancel_job(into: Path, settings: Settings) -> str:
    """Cancel the job recorded in a folder; returns its status."""
    if not (into / NOTE).exists():
        raise BadCommand(f"{into}: remembers no job that could be cancelled")
    with locked(into), client_of(settings) as client:
        return cancel_job_in(into, client)


def adopt_served(folder: Path, into: Path, settings: Settings, name: str, way: str) -> None:
    """Write a folder for a model that a server has, once it has answered as predictions need it: nothing is trained."""
    if way not in REMOTE_ENDPOINTS:
        raise BadCommand(f"--way {way}: {', '.join(REMOTE_ENDPOINTS)} is expected")
    check_may_leave(settings.provider, f"--model served:{name} is asked what people wrote")
    manifest = (folder / MANIFEST).read_bytes()
    parsed = orjson.loads(manifest)
    remote = {"model": name, "way": way, "system": parsed["settings"]["system"]}
    save_remote(into, checked(folder / LABELS).read_bytes(), trained_on(parsed) | {"remote": remote}, manifest, people_in(folder / TRAIN))
    try:
        with open_model(into, settings):
            console.print(f"{name} at {settings.provider.base_url} gives what a prediction needs: {into}")
    except BaseException:
        (into / CARD).unlink(missing_ok=True)
        raise


def export_chats(folder: Path, into: Path, settings: Settings) -> dict[str, Any]:
    """Write chats and a guide for training on another machine; returns counts of rows. Nothing leaves this machine."""
    counts, files = exported(folder, redact, exclusions(settings.provider))
    make_folder(into)
    for name, content in files.items():
        jsonl.write_file(into / name, content)
    kept = f"; {counts['left_out']:,} are kept back" if counts["left_out"] else ""
    console.print(f"{counts['train']:,} chats to train on and {counts['valid']:,} to validate with{kept}: {into}")
    console.print(f"What to do with them: {into / 'README.md'}")
    return counts


def exclusions(settings: ProviderSettings) -> MayLeave | None:
    """What may leave; None if the settings exclude nothing."""
    return may_leave_by(settings) if settings.exclude_channels or settings.exclude_people else None
