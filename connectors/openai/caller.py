"""Sends requests, tries again, and holds the limits. The one module that knows backoff."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import backoff
from aiolimiter import AsyncLimiter
from httpx2 import Response
from openai import (
    AsyncOpenAI,
    DefaultAioHttpClient,
    RequestOptions,
    Timeout,
)

from beepgpt.connectors.openai.answers import EMPTY, usage_in
from beepgpt.connectors.openai.errors import FOREIGN, translated
from beepgpt.connectors.openai.values import OPENAI, ClientUsage, Provider, Usage, encode
from beepgpt.errors import BadAnswer, NotAllowed, ProviderFailed, TooBusy

FIRST_WAIT = 0.5
"""Seconds before the second try, at most: the longest wait doubles with each try, and a wait is anything up to that."""
LONGEST_WAIT = 30.0
BURST = 3.0
"""Seconds' worth of an allowance per minute that may be used at once."""
MINUTE = 60.0
PAGE = 100
log = logging.getLogger(__name__)
T = TypeVar("T")
_JSON: RequestOptions = {"headers": {"Content-Type": "application/json"}}


class Caller:
    """Sends requests to one provider, from any thread, within its limits. Use it in a `with`, or close it.

    All requests run in one event loop, in a thread of its own: so a time-out is a time-out, however slowly bytes come, and limits hold for
    all threads together. A request that waits for its response when the caller is closed ends with `CancelledError`.
    """

    def __init__(self, provider: Provider) -> None:
        """Raises ProviderFailed if an address or a key can't be one; nothing is sent."""
        self.provider = provider
        self._api = sdk_of(provider)
        self._transfer = Timeout(provider.transfer, connect=provider.connect)
        self._slots = asyncio.Semaphore(provider.concurrency)
        self._begun = asyncio.Semaphore(2 * provider.concurrency)  # so that a further try waits for few others, however many were submitted
        self._requests = limiter_of(provider.requests_per_minute)
        self._tokens = limiter_of(provider.tokens_per_minute)
        self._account = ClientUsage()
        self._closing = threading.Event()
        self._door = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="provider", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives up what is under way."""
        with self._door:
            if self._closing.is_set():
                return
            self._closing.set()
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def account(self) -> ClientUsage:
        """What was done so far; a value, which doesn't change any more."""
        return self._account

    def post(
        self,
        path: str,
        body: Mapping[str, Any],
        understand: Callable[[bytes], T],
        *,
        tokens: int = 0,
        model: str = "",
        deadline: float | None = None,
    ) -> Future[T]:
        """Sends a body, and understands what comes; `deadline`: seconds from now on, the wait for a turn and all tries included.

        `path` may be a whole address: what a server has beside the protocol stands elsewhere.
        """
        if not tokens and self._tokens:
            tokens = guessed_tokens(encode(body).decode())
        return self._begin(self._asked(path, body, understand, tokens, model, deadline))

    async def _asked(
        self,
        path: str,
        body: Mapping[str, Any],
        understand: Callable[[bytes], T],
        tokens: int,
        model: str,
        deadline: float | None = None,
    ) -> T:
        self._note(asked=1)
        content = encode(body)

        async def send() -> bytes:
            # The SDK's own methods take 10 ms and more to look through the types of 100 messages, and anything for an answer.
            sent = await self._api.post(path, content=content, cast_to=Response, options=_JSON)
            return sent.content

        def read(content: bytes) -> tuple[T | BadAnswer, Usage | None]:
            usage = usage_in(content)
            try:
                return understand(content), usage
            except BadAnswer as error:  # no good, and paid for if it tells so
                if error.passes:
                    self._spend(usage)
                    raise
                return error, usage

        failure: ProviderFailed
        try:
            async with asyncio.timeout(deadline), self._begun:
                answer, usage = await self._retried(send, read=read, tokens=tokens, model=model)
        except TimeoutError:
            failure = TooBusy(f"no answer came within {deadline:g} seconds", passes=True)
        except ProviderFailed as error:
            failure = error
        else:
            self._settle(answer, usage)
            if isinstance(answer, BadAnswer):
                raise answer
            return answer
        self._settle(failure, None)
        raise failure

    async def _retried(
        self,
        send: Callable[[], Awaitable[Any]],
        *,
        read: Callable[[Any], T],
        tokens: int = 0,
        model: str = "",
        seconds: float | None = None,
    ) -> T:
        """Sends, reads, and does so again as long as that may help and there is time."""
        provider = self.provider
        most = seconds or provider.timeout
        deadline, tries = 0.0, 0

        async def attempt() -> T:
            nonlocal deadline, tries
            async with self._slots:
                await self._admit(tokens)
                now = time.monotonic()
                deadline = deadline or now + provider.deadline + (seconds or 0.0)
                tries += 1
                self._note(tries=1)
                return await self._once(send, read, min(most, max(deadline - now, 0.0)), model)

        def waits() -> Generator[float, ProviderFailed, None]:
            """As backoff wants it: told the error, says how long to wait, and ends when no time is left for that."""
            error = yield 0.0
            longest = FIRST_WAIT
            while True:
                wait = max((error.after or 0.0) * random.uniform(1.0, 1.1), random.uniform(0.0, longest))
                if time.monotonic() + wait >= deadline:
                    return
                self._retry(error, wait)
                longest = min(2 * longest, LONGEST_WAIT)
                error = yield wait

        repeated: Callable[[], Coroutine[Any, Any, T]] = backoff.on_exception(
            waits,  # type: ignore[arg-type]
            ProviderFailed,
            max_tries=provider.tries,
            giveup=lambda error: not getattr(error, "passes", False),
            jitter=None,
            logger=None,
        )(attempt)
        started = time.monotonic()
        try:
            return await repeated()
        except TooBusy as error:
            after = f", which asks for {error.after:.0f} seconds" if error.after else ""
            many = "1 try" if tries == 1 else f"{tries} tries"
            message = f"{error} - {provider.place}{after}; {many} in {time.monotonic() - started:.0f} seconds"
            busy = TooBusy(message, passes=error.passes, after=error.after)
        raise busy

    async def _once(self, send: Callable[[], Awaitable[Any]], read: Callable[[Any], T], seconds: float, model: str) -> T:
        """One try. What the SDK raises ends here; it is left without its cause, whose words may quote text or keys."""
        try:
            async with asyncio.timeout(seconds):
                sent = await send()
        except FOREIGN as error:
            failure = translated(error, model)
        else:
            return read(sent)
        raise failure

    async def _admit(self, tokens: int) -> None:
        """Returns when the allowance per minute lets a try begin."""
        started = time.monotonic()
        if self._requests:
            await self._requests.acquire()
        if self._tokens:
            left = float(tokens)
            while left > 0:  # what is more than the bucket holds is taken in turns
                taken = min(left, self._tokens.max_rate)
                await self._tokens.acquire(taken)
                left -= taken
        if (waited := time.monotonic() - started) > 0.001:
            self._note(limited=waited)

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for each in others:
            each.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._api.close()

    def _begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        with self._door:
            if not self._closing.is_set():
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise RuntimeError("the client is closed")

    @staticmethod
    def _result(future: Future[T]) -> T:
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def _settle(self, answer: object, usage: Usage | None, *, is_batch: bool = False) -> None:
        self._spend(usage, is_batch=is_batch)
        if is_batch:
            self._note(asked=1)
        if isinstance(answer, ProviderFailed):
            self._account = replace(self._account, failed=_more(self._account.failed, answer.reason))
        else:
            self._note(answered=1, untold=int(usage is None))

    def _spend(self, usage: Usage | None, *, is_batch: bool = False) -> None:
        if usage and is_batch:
            self._account = replace(self._account, batch_usage=self._account.batch_usage + usage)
        elif usage:
            self._account = replace(self._account, usage=self._account.usage + usage)

    def _retry(self, error: ProviderFailed, wait: float) -> None:
        log.info("another try", extra={"reason": error.reason, "told": str(error), "seconds": round(wait, 3)})
        self._account = replace(self._account, retries=_more(self._account.retries, error.reason), waited=self._account.waited + wait)

    def _note(self, **more: float) -> None:
        self._account = replace(self._account, **{name: getattr(self._account, name) + each for name, each in more.items()})


def sdk_of(provider: Provider) -> AsyncOpenAI:
    """The SDK's client, which takes nothing from the environment but proxies and certificates, and never tries again by itself."""
    address = urlsplit(provider.base_url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ProviderFailed(f"provider.base_url is no address like {OPENAI}")
    if not provider.key and address.hostname == urlsplit(OPENAI).hostname:
        raise NotAllowed("there is no key: set provider.key, or provider.base_url to a server that wants none")
    if not all("!" <= each <= "~" for each in provider.key):
        raise NotAllowed("the key holds what no key holds, such as a space or a line's end: check provider.key")
    for name in ("openai", "httpx2", "aiohttp"):
        logging.getLogger(name).setLevel(logging.WARNING)  # below that they tell what is sent, whoever turned it on
    api = AsyncOpenAI(
        base_url=provider.base_url,
        api_key=provider.key or "none",
        admin_api_key="",
        webhook_secret="",
        organization=provider.organisation,
        project=provider.project,
        timeout=Timeout(provider.stall, connect=provider.connect, pool=provider.timeout),
        max_retries=0,
        http_client=DefaultAioHttpClient(),  # half the processor time of the SDK's own: at 200 requests a second that is what counts
    )
    api.organization, api.project = provider.organisation, provider.project  # it has put variables where there was nothing
    api._custom_headers = {}  # those of OPENAI_CUSTOM_HEADERS, which may hold another key
    if provider.api_version:
        api._custom_headers = {"api-key": provider.key}
        api._custom_query = {"api-version": provider.api_version}
    return api


async def all_pages_of(page: Any) -> AsyncIterator[Any]:
    """All that is listed, page by page."""
    while True:
        if not isinstance(page.model_dump().get("data"), list):  # `{}` is no list, and not an empty one
            raise BadAnswer(EMPTY, passes=True)
        for each in page.data:
            yield each
        if not page.has_next_page():
            return
        page = await page.get_next_page()


def limiter_of(per_minute: int | None) -> AsyncLimiter | None:
    """What lets no more than that through in any minute: a burst, and the rest drop by drop."""
    if not per_minute:
        return None
    burst = max(per_minute * BURST / (MINUTE + BURST), 1.0)
    per_second = max(per_minute - burst, per_minute / 2) / MINUTE
    return AsyncLimiter(burst, burst / per_second)


def guessed_tokens(*texts: str) -> int:
    """Tokens, rather too many than too few: three bytes each."""
    return sum(len(each.encode("utf-8", "surrogatepass")) for each in texts) // 3 + 8 * len(texts)


def _more(counts: Mapping[str, int], reason: str) -> dict[str, int]:
    return {**counts, reason: counts.get(reason, 0) + 1}
