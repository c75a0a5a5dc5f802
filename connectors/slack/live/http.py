"""Slack's Events API: a web server for the events that Slack posts."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

from slack_sdk.signature import SignatureVerifier

from beepgpt.connectors.slack.live.sockets import Arrival, Down, Failed, Put, Up, decoded
from beepgpt.errors import SlackFailed

log = logging.getLogger(__name__)

ANSWER_WITHIN = 2.5
"""Seconds until Slack gets its response; it waits for three."""


class HttpLine:
    """A web server for Slack's events: a line that is up as long as it runs."""

    name = "http"

    def __init__(self, port: int, host: str, secret: str, put: Put) -> None:
        """Opens the port. `secret`: the app's signing secret. Raises SlackFailed."""
        self._verifier = SignatureVerifier(secret)
        self._put = put
        self._up = threading.Event()
        self._began = time.time()
        self._listener = _listening(host, port)
        self.port = self._listener.getsockname()[1]
        self.refused: Counter[str] = Counter()
        """Refused requests, by reason."""

    def start(self) -> None:
        """Serves, in a thread."""
        import uvicorn

        config = uvicorn.Config(self._app(), log_level="critical", access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=3)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="slack-http", daemon=True)
        self._thread.start()
        self._up.set()
        self._put(Up(self.name, self._began, 1))

    def close(self) -> None:
        """Stops the server."""
        self._up.clear()
        self._server.should_exit = True
        self._thread.join(5)
        self._listener.close()

    def drop(self) -> None:
        """Reports an outage: Slack does not send, or not to this address."""
        log.error("Slack's events do not come: check the Request URL and the subscriptions in the app's settings, and the way to this port")
        self._put(Down(self.name, "nothing came over it"))
        self._put(Up(self.name, time.time(), 1))

    @property
    def good_until(self) -> float | None:
        """Now, while the server runs."""
        return time.time() if self._up.is_set() else None

    def _serve(self) -> None:
        try:
            self._server.run(sockets=[self._listener])
        except Exception as error:
            self._put(Failed(error))

    def _app(self) -> Any:
        from starlette.applications import Starlette
        from starlette.requests import Request
        from starlette.responses import JSONResponse, PlainTextResponse, Response
        from starlette.routing import Route

        async def events(request: Request) -> Response:
            body = await request.body()
            if why := self._why_not(body, request.headers):
                return PlainTextResponse(why, 401)
            payload = decoded(body)
            if payload.get("type") == "url_verification":
                return JSONResponse({"challenge": payload.get("challenge")})
            return PlainTextResponse(*await self._wait(request.headers, "events_api", payload))

        async def interactions(request: Request) -> Response:
            body = await request.body()
            if why := self._why_not(body, request.headers):
                return PlainTextResponse(why, 401)
            form = parse_qs(body.decode("utf-8", "replace"))
            return PlainTextResponse(*await self._wait(request.headers, "interactive", decoded((form.get("payload") or [""])[0])))

        return Starlette(
            routes=[Route("/slack/events", events, methods=["POST"]), Route("/slack/interactions", interactions, methods=["POST"])]
        )

    def _why_not(self, body: bytes, headers: Mapping[str, str]) -> str:
        """Why a request is not Slack's; empty if it is."""
        try:
            good = self._verifier.is_valid_request(body, dict(headers))
        except ValueError:  # a time that is no number
            good = False
        if good:
            return ""
        self.refused["signature"] += 1
        return "the signature is not Slack's, or older than five minutes"

    async def _wait(self, headers: Mapping[str, str], kind: str, payload: dict[str, Any]) -> tuple[str, int]:
        """Puts an event and waits for its acknowledgement: status 200, or 503 after a timeout, so that Slack sends it again."""
        if not payload:
            return "a JSON object is expected", 400
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def acknowledge() -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(done.set)

        retry = headers.get("x-slack-retry-num", "0")
        name = str(payload.get("event_id") or payload.get("trigger_id") or "")
        self._put(Arrival(self.name, kind, payload, name, int(retry) if retry.isdigit() else 0, time.time(), acknowledge))
        try:
            await asyncio.wait_for(done.wait(), ANSWER_WITHIN)
        except TimeoutError:
            return "not confirmed yet", 503
        return "", 200


def _listening(host: str, port: int) -> socket.socket:
    """Opens a listening socket. Raises SlackFailed."""
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        raise SlackFailed(f"--http {port}: the port can't be served on {host}: {error}") from error
