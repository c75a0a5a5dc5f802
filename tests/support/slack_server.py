"""The Slack of the package's `simulation`, for a test; and how it posts its events over HTTP."""

import hmac
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from hashlib import sha256
from urllib.parse import urlencode

import pytest

from beepgpt.simulation.slack.server import SIGNING_SECRET, Envelope, SlackServer, serving


def posting_to(place: str) -> Callable[[Envelope], bool]:
    """For `SlackServer.over_http`: events are posted there."""

    def post(envelope: Envelope) -> bool:
        body, kind, path = json.dumps(envelope.payload).encode(), "application/json", "events"
        if envelope.kind == "interactive":
            body = urlencode({"payload": json.dumps(envelope.payload)}).encode()
            kind, path = "application/x-www-form-urlencoded", "interactions"
        headers = signed(body) | {"Content-Type": kind}
        if envelope.tries:
            headers |= {"X-Slack-Retry-Num": str(envelope.tries), "X-Slack-Retry-Reason": "http_timeout"}
        return posted(f"{place}/slack/{path}", body, headers) == 200

    return post


def signed(body: bytes, *, at: float | None = None, secret: str = SIGNING_SECRET) -> dict[str, str]:
    """The headers by which Slack's requests are known."""
    stamp = str(int(time.time() if at is None else at))
    digest = hmac.new(secret.encode(), f"v0:{stamp}:".encode() + body, sha256).hexdigest()
    return {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={digest}"}


def posted(url: str, body: bytes, headers: dict[str, str]) -> int:
    """The status of a POST; 0 where nobody answers."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return int(refused.code)
    except OSError:
        return 0


@pytest.fixture
def slack_server() -> Iterator[SlackServer]:
    """One without faults that waits a second for acknowledgements."""
    with serving(ack_within=1.0, retries=(0.2, 1.0, 3.0)) as server:
        yield server
