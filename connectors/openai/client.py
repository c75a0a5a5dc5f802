"""The client: questions, texts and vectors; and batches of requests, for half the price, in up to 24 hours."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from openai.types import Batch as TheirBatch
from openai.types import FileObject

from beepgpt.connectors.openai.answers import (
    EMPTY,
    NO_MONEY,
    code_of,
    failure_of,
    first_of,
    read_answer,
    read_body,
    read_text,
    read_vectors,
    usage_of,
)
from beepgpt.connectors.openai.caller import PAGE, Caller, all_pages_of, guessed_tokens, log
from beepgpt.connectors.openai.jobs import JobCalls
from beepgpt.connectors.openai.values import (
    PATHS,
    Batch,
    BatchPart,
    ProviderAnswer,
    Request,
    TextRequest,
    Usage,
    body_of,
    chat_body,
    encode,
    text_body,
)
from beepgpt.errors import BadAnswer, NoMoney, NotAllowed, ProviderFailed, RequestRefused, TooBusy

BATCH_REQUESTS = 50_000
BATCH_BYTES = 100_000_000
"""The most bytes of a batch's file: half of what OpenAI takes, since all of it is in memory while it is sent."""
BATCHES_TO_SEARCH = 10 * PAGE
"""How many of the account's newest batches are searched for one that was started before."""
BATCH_PATIENCE = 26 * 3600.0
"""Seconds: a batch is done, or has expired, after 24 hours."""
USELESS = {"failed", "expired", "cancelling", "cancelled"}
Result = tuple[str, "ProviderAnswer | ProviderFailed"]
"""A request's id, and its answer or error."""


def batch_parts(requests: Iterable[Request], *, most: int = BATCH_REQUESTS, most_bytes: int = BATCH_BYTES) -> Iterator[BatchPart]:
    """Split requests into files of batches, each request once. Raises RequestRefused for the API `decisions`, which has no batches."""
    seen: set[str] = set()
    lines: list[bytes] = []
    size = 0
    for request in requests:
        if request.model.way != "chat":
            raise RequestRefused("there are no batches of decisions: ask in the way chat, or without --batch")
        if request.id in seen:
            continue
        seen.add(request.id)
        line = encode({"custom_id": request.id, "method": "POST", "url": "/v1/chat/completions", "body": chat_body(request)}) + b"\n"
        if lines and (len(lines) >= most or size + len(line) > most_bytes):
            yield _part(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield _part(lines)


def _part(lines: list[bytes]) -> BatchPart:
    data = b"".join(lines)
    return BatchPart(hashlib.sha256(data).hexdigest(), len(lines), data)


def read_results(content: bytes) -> Iterator[tuple[str, ProviderAnswer | ProviderFailed, Usage | None]]:
    """Read a batch's output file or error file: id, answer or error, and token usage, by line."""
    for line in content.splitlines():
        try:
            result = json.loads(line)
            request_id = result["custom_id"]
        except (ValueError, TypeError, KeyError):
            raise BadAnswer("a batch's file can't be read: fetch it again", passes=True) from None
        response = result.get("response")
        if not isinstance(response, dict):
            yield request_id, TooBusy("the batch ended before this request's turn: ask again"), None
            continue
        status, body = response.get("status_code"), response.get("body")
        if status != 200:
            error = body.get("error") if isinstance(body, dict) else None
            yield request_id, failure_of(status if isinstance(status, int) else 500, error, {}), None
            continue
        try:
            yield request_id, read_body("chat", body), usage_of(body)
        except BadAnswer as error:
            yield request_id, error, usage_of(body)


class BatchCalls(Caller):
    """The client's calls for batches."""

    def start_batch(self, part: BatchPart) -> Batch:
        """Start a batch, or find the one of the same requests that was started before and can still be used."""
        return self._result(self._begin(self._start_batch(part)))

    def batch(self, batch_id: str) -> Batch:
        """Look up a batch."""
        return self._result(self._begin(self._batch(batch_id)))[0]

    def wait_for_batch(self, batch_id: str, *, every: float = 30.0, progress: Callable[[Batch], None] = lambda _: None) -> Batch:
        """Poll a batch until it is over, and pass each state to `progress`. While the provider can't be reached, it waits.

        `every`: seconds between two polls. Raises TooBusy after 26 hours, or when the client is closed.
        """
        deadline = time.monotonic() + BATCH_PATIENCE
        while True:
            try:
                batch = self.batch(batch_id)
            except TooBusy as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("the batch can't be looked at: %s", error, extra={"batch": batch_id})
            else:
                progress(batch)
                if batch.is_over:
                    return batch
                if time.monotonic() > deadline:
                    raise TooBusy(
                        f"batch {batch_id} is {batch.status} after {BATCH_PATIENCE / 3600:.0f} hours: look at it at the provider's"
                    )
            if self._closing.wait(every):
                raise TooBusy("the client was closed while it waited for a batch: wait for it again")

    def batch_results(self, batch_id: str) -> Iterator[Result]:
        """The answer or error of each request; one that is missing was not paid for.

        Raises RequestRefused, NoMoney or TooBusy if the whole batch was refused.
        """
        for request_id, answer, _ in self._result(self._begin(self._results(batch_id))):
            yield request_id, answer

    async def _start_batch(self, part: BatchPart) -> Batch:
        name = f"beepgpt-{part.digest[:12]}.jsonl"

        async def send() -> Any:
            if found := await self._find_batch(part.digest):
                return found
            file = await self._api.files.create(file=(name, part.data), purpose="batch", timeout=self._transfer)
            if not isinstance(file, FileObject) or not file.id:
                raise BadAnswer(EMPTY, passes=True)
            return await self._api.batches.create(
                completion_window="24h", endpoint="/v1/chat/completions", input_file_id=file.id, metadata={"beepgpt_part": part.digest}
            )

        return await self._retried(send, read=_batch, seconds=self.provider.transfer)

    async def _find_batch(self, digest: str) -> Any:
        """The account's batch of these requests, if there is one: after a kill or a lost response it must not be started twice."""
        seen = 0
        async for each in all_pages_of(await self._api.batches.list(limit=PAGE)):
            if (each.metadata or {}).get("beepgpt_part") == digest and each.status not in USELESS:
                return each
            seen += 1
            if seen >= BATCHES_TO_SEARCH:
                break
        return None

    async def _batch(self, batch_id: str) -> tuple[Batch, Any]:
        return await self._retried(lambda: self._api.batches.retrieve(batch_id), read=lambda found: (_batch(found), found))

    async def _results(self, batch_id: str) -> list[tuple[str, ProviderAnswer | ProviderFailed, Usage | None]]:
        batch, found = await self._batch(batch_id)
        if not batch.is_over:
            raise TooBusy(f"batch {batch_id} is {batch.status}: wait until it is over")
        if batch.status == "failed":
            raise _turned_down(batch_id, found)
        results: list[tuple[str, ProviderAnswer | ProviderFailed, Usage | None]] = []
        for file_id in (found.output_file_id, found.error_file_id):
            if file_id:
                results += await self._retried(
                    lambda file_id=file_id: self._api.files.content(file_id, timeout=self._transfer),  # type: ignore[misc]
                    read=lambda file: list(read_results(file.content)),
                    seconds=self.provider.transfer,
                )
        for _, answer, usage in results:
            self._settle(answer, usage, is_batch=True)
        return results


def _batch(found: object) -> Batch:
    if not isinstance(found, TheirBatch) or not found.id or not found.status:
        raise BadAnswer(EMPTY, passes=True)
    counts = found.request_counts
    total, done, failed = (counts.total, counts.completed, counts.failed) if counts else (0, 0, 0)
    return Batch(found.id, found.status, total or 0, done or 0, failed or 0)


def _turned_down(batch_id: str, found: TheirBatch) -> ProviderFailed:
    """The error for a batch that failed as a whole."""
    errors = (found.errors.data if found.errors else None) or []
    codes = sorted({code for each in errors if (code := code_of(each.code))})
    if "token_limit_exceeded" in codes:
        return TooBusy(
            f"batch {batch_id}: too many tokens are queued for this model: wait until other batches are done, then start it again"
        )
    if NO_MONEY & set(codes):
        return NoMoney(f"batch {batch_id}: the account has no money or quota left: add credit, or raise its limit, and start again")
    return RequestRefused(f"batch {batch_id} was turned down ({', '.join(codes) or 'no reason given'}): look at it at the provider's")


EMBEDDINGS = "/embeddings"


class Client(BatchCalls, JobCalls):
    """A client of one provider, for any thread. Use it in a `with`, or close it."""

    def ask(self, request: Request) -> ProviderAnswer:
        """Ask a yes-or-no question; retries as the provider's settings say. Raises ProviderFailed."""
        return self._result(self.submit(request))

    def submit(self, request: Request) -> Future[ProviderAnswer]:
        """Queue a question without waiting; `concurrency` of them run at the same time, in their order."""
        return self._begin(self._ask(request))

    def ask_text(self, request: TextRequest) -> Future[str]:
        """Queue a request for a text."""
        return self._begin(self._ask_text(request))

    def embed(self, model: str, texts: Sequence[str], deadline: float | None = None) -> Future[list[tuple[float, ...]]]:
        """Queue one request for a vector of each text. `deadline`: seconds from now, including the wait for a slot."""
        body = {"model": model, "input": list(texts), "encoding_format": "float"}
        return self._begin(
            self._asked(EMBEDDINGS, body, lambda content: read_vectors(content, len(texts)), guessed_tokens(*texts), model, deadline)
        )

    def owner(self) -> str:
        """The owner of the server's first model (`vllm`, say); empty if the server lists none."""

        async def look() -> str:
            page: Any = await self._api.models.list()
            if isinstance(page, str):  # a web page, where a server has no such list
                return ""
            first = first_of(page.model_dump().get("data"))
            return str(first.get("owned_by") or "") if first else ""

        try:
            return self._result(self._begin(self._retried(look, read=str)))
        except (NotAllowed, NoMoney):
            raise
        except ProviderFailed:
            return ""

    async def _ask(self, request: Request) -> ProviderAnswer:
        way = request.model.way
        tokens = request.tokens or guessed_tokens(request.instructions, request.text, *(text for text, _ in request.shots))
        return await self._asked(PATHS[way], body_of(request), lambda content: read_answer(way, content), tokens, request.model.name)

    async def _ask_text(self, request: TextRequest) -> str:
        tokens = guessed_tokens(request.instructions, request.text) + request.model.max_tokens
        return await self._asked(PATHS["chat"], text_body(request), read_text, tokens, request.model.name)
