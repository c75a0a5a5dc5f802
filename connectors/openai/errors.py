"""The one place where errors of the SDK, and statuses of a server, become ours."""

from __future__ import annotations

import math
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime

from aiohttp import ClientConnectionError
from openai import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    OpenAIError,
)

from beepgpt.connectors.http import redirected
from beepgpt.errors import AddressRefused, BadAnswer, NoMoney, NotAllowed, ProviderFailed, RequestRefused, TooBusy, TrainingNotAvailable

SETTING = "provider.base_url"
NO_MONEY = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
NO_TRAINING = "training_not_available"
LATER = {408, 409, 425, 429}
"""Statuses that may pass, as those from 500 on do."""
FOREIGN = (OpenAIError, AddressRefused, TimeoutError, ValueError, TypeError, AttributeError)
"""What the SDK raises, or lets through; the last three when it stumbles over a response of an unexpected form."""


def failure_of(status: int, error: object, headers: Mapping[str, str], model: str = "") -> ProviderFailed:
    """The error for an HTTP status. Of the server's message it has the codes only: the rest may quote text or keys.

    >>> failure_of(429, {"code": "insufficient_quota"}, {})
    NoMoney('the account has no money or quota left: add credit... (HTTP 429, insufficient_quota)')
    """
    details = error if isinstance(error, dict) else {}
    codes = [each for name in ("code", "type") if (each := code_of(details.get(name)))]
    where = f", {parameter}" if (parameter := code_of(details.get("param"))) else ""
    how = f" (HTTP {status}{''.join(f', {each}' for each in codes[:1])}{where})"
    if 300 <= status < 400:
        return NotAllowed(redirected(SETTING, status, headers.get("location", "")))
    if status == 402 or NO_MONEY & set(codes):
        return NoMoney(f"the account has no money or quota left: add credit, or raise its limit, and start again{how}")
    if status == 401:
        return NotAllowed(f"the key is not accepted: check provider.key and provider.base_url{how}")
    if status == 403 and NO_TRAINING in codes:
        return TrainingNotAvailable(
            f"this account can't start fine-tuning jobs any more: train the local model (--model local), or export the training set"
            f" (--model export){how}"
        )
    if status == 403:
        return NotAllowed(f"the key may not do this: check its rights, the organisation and the project, or ask for access{how}")
    if status in LATER or status >= 500:
        passes = headers.get("x-should-retry", "").lower() != "false"
        return TooBusy(f"the server is busy or broken: try again later{how}", passes=passes, after=retry_after(headers))
    if status == 404:
        return RequestRefused(f"there is no such model{f' as {model}' if model else ''}, file, job, batch or address: check them{how}")
    if parameter and parameter.split("[")[0].split(".")[0] not in ("messages", "input", "questions"):
        return RequestRefused(f"the model doesn't take this request: check {parameter} and the model's settings{how}")
    return RequestRefused(f"the server refuses this request, as it would again: look at what is asked{how}")


def code_of(value: object) -> str:
    """An identifier, or nothing: free text may quote what people wrote."""
    return value if isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_.\[\]]{1,63}", value) else ""


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that the server asks to wait, by its headers: in milliseconds, in seconds, or as a date.

    >>> retry_after({"retry-after": "2.5"}), retry_after({"retry-after-ms": "40", "retry-after": "1"}), retry_after({})
    (2.5, 0.04, None)
    >>> retry_after({"retry-after": "Thu, 01 Jan 1970 00:01:30 GMT", "date": "Thu, 01 Jan 1970 00:01:00 GMT"})
    30.0
    """
    if (seconds := _seconds(headers.get("retry-after-ms"))) is not None:
        return seconds / 1000
    wait = headers.get("retry-after")
    if (seconds := _seconds(wait)) is not None:
        return seconds
    until = _date(wait)
    if until is None:
        return None
    begun = _date(headers.get("date"))  # the server's own clock, if it tells it: ours may be off
    return max(until - (begun if begun is not None else now if now is not None else time.time()), 0.0)


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _date(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text or "").timestamp()
    except (ValueError, OverflowError):
        return None


def translated(error: Exception, model: str) -> ProviderFailed:
    """The SDK's exception as one of our errors."""
    if isinstance(error, APIStatusError):
        return failure_of(error.status_code, error.body, error.response.headers, model)
    causes = list(_causes(error))
    if refused := [each for each in causes if isinstance(each, AddressRefused)]:
        return NotAllowed(str(refused[0]))
    # The SDK's transport over aiohttp takes every broken connection for a time-out; aiohttp itself knows better.
    is_broken = any(isinstance(each, ClientConnectionError) and not isinstance(each, TimeoutError) for each in causes)
    if isinstance(error, APITimeoutError | TimeoutError) and not is_broken:
        return TooBusy("no answer came in time", passes=True)
    if isinstance(error, APIConnectionError):
        if any(isinstance(each, ssl.SSLCertVerificationError) for each in causes):
            return TooBusy("the server's certificate is not trusted: check provider.base_url, and which certificates this machine trusts")
        return TooBusy(f"the connection failed ({type(causes[-1]).__name__}): check provider.base_url", passes=True)
    return BadAnswer(f"the answer can't be read ({type(error).__name__}): ask again", passes=True)


def _causes(error: BaseException) -> Iterator[BaseException]:
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__ or each.__context__
