"""Posts JSON to a webhook: an address of the user's, with the SDK's client."""

from __future__ import annotations

import http.client
import logging
from collections.abc import Callable, Mapping
from typing import Any

from slack_sdk.errors import SlackClientError
from slack_sdk.webhook import WebhookClient

TIMEOUT = 10
"""Seconds for one call."""

_silent = logging.getLogger("beepgpt.connectors.slack.webhook.sdk")  # slack_sdk would log what it sent
_silent.propagate = False


def webhook(url: str) -> Callable[[Mapping[str, Any]], bool]:
    """A function that posts an object with its `id` as `Idempotency-Key`, once, and returns whether the server took it."""
    client = WebhookClient(url, timeout=TIMEOUT, retry_handlers=[], logger=_silent)

    def post(value: Mapping[str, Any]) -> bool:
        try:
            return 200 <= client.send_dict(dict(value), headers={"Idempotency-Key": value["id"]}).status_code < 300
        except (OSError, http.client.HTTPException, ValueError, SlackClientError):
            return False

    return post
