"""Sends requests within limits of rate, concurrency and time, and retries them. The one module that imports backoff."""

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
from openai import AsyncOpenAI, RequestOptions, Timeout

from beepgpt.connectors.openai.answers import EMPTY, FOREIGN, translated, usage_in
from beepgpt.connectors.openai.transport import http_client_of
from beepgpt.connectors.openai.values import OPENAI, ClientUsage, Provider, Usage, encode
from beepgpt.errors import BadAnswer, NotAllowed, ProviderFailed, TooBusy

FIRST_WAIT = 0.5
"""The longest wait in seconds before the second try; it doubles with each try, and the wait is a random part of it."""
LONGEST_WAIT = 30.0
BURST = 3.0
"""How many seconds' worth of a limit per minute may be used at once."""
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
        """Send nothing. Raises ProviderFailed if the address or the key has the wrong form, AddressRefused if it may not be called."""
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
        """Cancel pending requests and end the thread."""
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
        """Counts so far, as a value that does not change."""
        return self._account

    def post(
        self,
        path: str,
        body: Mapping[str, Any],
        read: Callable[[bytes], T],
        *,
        tokens: int = 0,
        model: str = "",
        deadline: float | None = None,
    ) -> Future[T]:
        """Send a JSON body, and decode the response with `read`. The future raises ProviderFailed.

        `path` may be a whole address, for a server's endpoints outside the protocol. `tokens`: for the limit per minute; 0: estimated.
        `deadline`: seconds from now for all tries, including the wait for a slot.
        """
        if not tokens and self._tokens:
            tokens = guessed_tokens(encode(body).decode())
        return self._begin(self._asked(path, body, read, tokens, model, deadline))

    async def _asked(
        self, path: str, body: Mapping[str, Any], decode: Callable[[bytes], T], tokens: int, model: str, deadline: float | None = None
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
                return decode(content), usage
            except BadAnswer as error:  # no good, and paid for if it says so
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
        """Call `send` and `read`, and retry as long as it may help and there is time."""
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
            """Wait for backoff: receives an error, yields seconds, and ends when no time is left."""
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
        """Make one try. The SDK's error is translated and raised without its cause, whose message may quote text or keys."""
        try:
            async with asyncio.timeout(seconds):
                sent = await send()
        except FOREIGN as error:
            failure = translated(error, model)
        else:
            return read(sent)
        raise failure

    async def _admit(self, tokens: int) -> None:
        """Wait until the limits per minute allow a try."""
        started = time.monotonic()
        if self._requests:
            await self._requests.acquire()
        if self._tokens:
            left = float(tokens)
            while left > 0:  # a request may need more tokens than the limiter holds at once
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
    """The SDK's client. It takes nothing from the environment but certificates, and never retries. Raises AddressRefused, too."""
    address = urlsplit(provider.base_url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ProviderFailed(f"provider.base_url is no address like {OPENAI}")
    if not provider.key and address.hostname == urlsplit(OPENAI).hostname:
        raise NotAllowed("there is no key: set provider.key, or provider.base_url to a server that wants none")
    if not all("!" <= each <= "~" for each in provider.key):
        raise NotAllowed("the key holds what no key holds, such as a space or a line's end: check provider.key")
    for name in ("openai", "httpx2", "aiohttp"):
        logging.getLogger(name).setLevel(logging.WARNING)  # at lower levels they log what is sent
    api = AsyncOpenAI(
        base_url=provider.base_url,
        api_key=provider.key or "none",
        admin_api_key="",
        webhook_secret="",
        organization=provider.organisation,
        project=provider.project,
        timeout=Timeout(provider.stall, connect=provider.connect, pool=provider.timeout),
        max_retries=0,
        http_client=http_client_of(provider),
    )
    api.organization, api.project = provider.organisation, provider.project  # it has put variables where there was nothing
    api._custom_headers = {}  # those of OPENAI_CUSTOM_HEADERS, which may hold another key
    if provider.api_version:
        api._custom_headers = {"api-key": provider.key}
        api._custom_query = {"api-version": provider.api_version}
    return api


async def all_pages_of(page: Any) -> AsyncIterator[Any]:
    """All items of a paged list. Raises BadAnswer."""
    while True:
        if not isinstance(page.model_dump().get("data"), list):  # `{}` is no list, and not an empty one
            raise BadAnswer(EMPTY, passes=True)
        for each in page.data:
            yield each
        if not page.has_next_page():
            return
        page = await page.get_next_page()


def limiter_of(per_minute: int | None) -> AsyncLimiter | None:
    """A limiter that allows that many in any minute: BURST seconds' worth at once, the rest at a steady rate. None: no limit."""
    if not per_minute:
        return None
    burst = max(per_minute * BURST / (MINUTE + BURST), 1.0)
    per_second = max(per_minute - burst, per_minute / 2) / MINUTE
    return AsyncLimiter(burst, burst / per_second)


def guessed_tokens(*texts: str) -> int:
    """An estimate of the tokens of texts, rather too high: three bytes a token."""
    return sum(len(each.encode("utf-8", "surrogatepass")) for each in texts) // 3 + 8 * len(texts)


def _more(counts: Mapping[str, int], reason: str) -> dict[str, int]:
    return {**counts, reason: counts.get(reason, 0) + 1}
