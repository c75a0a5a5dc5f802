"""Fine-tuning jobs and their files."""

from __future__ import annotations

from typing import Any

from openai import omit
from openai.types import FileObject
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

from beepgpt.connectors.openai.answers import EMPTY, code_of
from beepgpt.connectors.openai.caller import PAGE, Caller, all_pages_of, log
from beepgpt.connectors.openai.values import BAD_FILES, FAILED_JOBS, Checkpoint, File, JobEvent, JobRequest, TuningJob
from beepgpt.errors import BadAnswer, RequestRefused

JOBS_TO_SEARCH = 20 * PAGE
"""How many of the newest fine-tuning jobs and files are searched for those that were made before."""


class JobCalls(Caller):
    """The client's calls for fine-tuning."""

    def send_file(self, name: str, data: bytes) -> File:
        """Send a training file, or find one of that name and size that the account has and that can be used."""
        return self._result(self._begin(self._send_file(name, data)))

    def file(self, file_id: str) -> File:
        """Look up a file."""
        return self._result(self._begin(self._retried(lambda: self._api.files.retrieve(file_id), read=_file)))

    def delete_file(self, file_id: str) -> None:
        """Delete a file at the provider; it is no error if there is none."""
        try:
            self._result(self._begin(self._retried(lambda: self._api.files.delete(file_id), read=lambda _: None)))
        except RequestRefused:
            log.info("there is no such file any more", extra={"file": file_id})

    def start_job(self, wish: JobRequest, *, again: bool = False) -> TuningJob:
        """Start a job, or find the account's job of the same key, even a failed one, unless it is to be tried `again`."""
        return self._result(self._begin(self._start_job(wish, again=again)))

    def job(self, job_id: str) -> TuningJob:
        """Look up a job."""
        return self._result(self._begin(self._retried(lambda: self._api.fine_tuning.jobs.retrieve(job_id), read=_job)))

    def cancel_job(self, job_id: str) -> TuningJob:
        """Cancel a job; steps that are done by then are paid for."""
        return self._result(self._begin(self._retried(lambda: self._api.fine_tuning.jobs.cancel(job_id), read=_job)))

    def job_events(self, job_id: str, after: str | None = None) -> list[JobEvent]:
        """A job's events since the one with the id `after`, oldest first."""

        async def look() -> list[JobEvent]:
            found: list[JobEvent] = []
            async for each in all_pages_of(await self._api.fine_tuning.jobs.list_events(job_id, limit=PAGE)):
                if each.id == after:
                    break
                found.append(_event(each))
            return found[::-1]

        return self._result(self._begin(self._retried(look, read=lambda found: found)))

    def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """A job's checkpoints, by step."""

        async def look() -> list[Checkpoint]:
            page = await self._api.fine_tuning.jobs.checkpoints.list(job_id, limit=PAGE)
            return sorted([_checkpoint(each) async for each in all_pages_of(page)], key=lambda each: each.step)

        return self._result(self._begin(self._retried(look, read=lambda found: found)))

    async def _send_file(self, name: str, data: bytes) -> File:
        async def send() -> Any:
            seen = 0
            async for each in all_pages_of(await self._api.files.list(purpose="fine-tune", limit=PAGE)):
                if each.filename == name and each.bytes == len(data) and each.status not in BAD_FILES:
                    return each
                seen += 1
                if seen >= JOBS_TO_SEARCH:
                    break
            return await self._api.files.create(file=(name, data), purpose="fine-tune", timeout=self._transfer)

        return await self._retried(send, read=_file, seconds=self.provider.transfer)

    async def _start_job(self, wish: JobRequest, *, again: bool) -> TuningJob:
        async def send() -> Any:
            found = await self._find_job(wish)
            if found is not None and not (again and found.status in FAILED_JOBS):
                return found
            method: Any = {"type": "supervised"}
            if wish.epochs is not None:
                method["supervised"] = {"hyperparameters": {"n_epochs": wish.epochs}}
            return await self._api.fine_tuning.jobs.create(
                model=wish.model,
                training_file=wish.training_file,
                validation_file=wish.validation_file if wish.validation_file is not None else omit,
                method=method,
                suffix=wish.suffix if wish.suffix is not None else omit,
                seed=wish.seed if wish.seed is not None else omit,
                metadata={"beepgpt_job": wish.key},
            )

        return await self._retried(send, read=_job, model=wish.model)

    async def _find_job(self, wish: JobRequest) -> FineTuningJob | None:
        """The account's job with this key: one that has not failed, else the newest that has.

        On a server that keeps no metadata, a job of the same training file and base model counts.
        """
        failed: FineTuningJob | None = None
        seen = 0
        async for each in all_pages_of(await self._api.fine_tuning.jobs.list(limit=PAGE)):
            key = (each.metadata or {}).get("beepgpt_job")
            is_same_base = each.model == wish.model or each.model.startswith(f"{wish.model}-")
            if key == wish.key or (key is None and each.training_file == wish.training_file and is_same_base):
                if each.status not in FAILED_JOBS:
                    found: FineTuningJob = each
                    return found
                failed = failed or each
            seen += 1
            if seen >= JOBS_TO_SEARCH:
                break
        return failed


def _file(found: object) -> File:
    if not isinstance(found, FileObject) or not found.id:
        raise BadAnswer(EMPTY, passes=True)
    return File(found.id, found.status or "uploaded")


def _job(found: object) -> TuningJob:
    if not isinstance(found, FineTuningJob) or not found.id or not found.status:
        raise BadAnswer(EMPTY, passes=True)
    error = found.error
    codes = [each for each in (code_of(error.code), code_of(error.param)) if each] if error else []
    hyper = found.method.supervised.hyperparameters if found.method and found.method.supervised else None
    given: Any = hyper or found.hyperparameters
    names = ("n_epochs", "batch_size", "learning_rate_multiplier")
    settings = {name: value for name in names if isinstance(value := getattr(given, name, None), int | float | str)}
    return TuningJob(
        found.id,
        found.status,
        found.model or "",
        found.fine_tuned_model,
        ", ".join(codes),
        found.trained_tokens,
        settings | ({"seed": found.seed} if isinstance(found.seed, int) else {}),
    )


def _event(found: object) -> JobEvent:
    if not isinstance(found, FineTuningJobEvent) or not found.id:
        raise BadAnswer(EMPTY, passes=True)
    message = " ".join("".join(each if each.isprintable() else " " for each in str(found.message)).split())
    return JobEvent(
        found.id, found.created_at or 0, found.level or "info", message[:500], found.data if isinstance(found.data, dict) else {}
    )


def _checkpoint(found: object) -> Checkpoint:
    if not isinstance(found, FineTuningJobCheckpoint) or not found.fine_tuned_model_checkpoint:
        raise BadAnswer(EMPTY, passes=True)
    values = found.metrics.model_dump() if found.metrics else {}
    metrics = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
    return Checkpoint(found.fine_tuned_model_checkpoint, found.step_number or 0, metrics)
