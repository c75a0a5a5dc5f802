"""Posts JSON to a webhook: an address of the user's, signed if there is a secret."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request

import orjson

from beepgpt.connectors.http import Outbound
from beepgpt.errors import AddressRefused

TIMEOUT = 10
"""Seconds for one call."""
TIMESTAMP_HEADER, SIGNATURE_HEADER = "X-BeepGPT-Request-Timestamp", "X-BeepGPT-Signature"


def webhook(url: str, secret: str = "", proxy: str = "") -> Callable[[Mapping[str, Any]], str]:
    """A function that posts an object with its `id` as `Idempotency-Key`, once. It returns why the server did not take it, or nothing.

    Raises AddressRefused for an address without TLS that leads to another machine.
    """
    instead = "use an address with https://; http:// is for this machine alone"
    outbound = Outbound("alerts.webhook", urlsplit(url).scheme == "https", proxy, instead)
    opener = outbound.opener(url)

    def post(value: Mapping[str, Any]) -> str:
        body = orjson.dumps(dict(value))
        headers = {"Content-Type": "application/json;charset=utf-8", "Idempotency-Key": str(value["id"])}
        if secret:
            now = str(int(time.time()))
            headers |= {TIMESTAMP_HEADER: now, SIGNATURE_HEADER: signature_of(secret, now, body)}
        try:
            with opener.open(Request(url, body, headers, method="POST"), timeout=TIMEOUT):
                return ""
        except AddressRefused as error:
            return str(error)
        except HTTPError as error:
            error.close()
            return f"HTTP {error.code}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            return type(error).__name__

    return post


def signature_of(secret: str, timestamp: str, body: bytes) -> str:
    """The signature of a request, made as Slack makes its own.

    >>> signature_of("a secret", "1700000000", b"{}")
    'v0=8e3ebc49502907d0293a6bd9c2b6db80d37de8eb1e11ad7ab0989c3d1c5beeda'
    """
    return f"v0={hmac.new(secret.encode(), f'v0:{timestamp}:'.encode() + body, hashlib.sha256).hexdigest()}"
