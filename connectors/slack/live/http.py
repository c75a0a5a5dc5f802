"""Slack's Events API: a web server for the events that Slack posts. Anybody may reach it, so that it trusts a request as far as it must."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

from beepgpt.connectors.slack.live.bodies import Body, BodyBudget
from beepgpt.connectors.slack.live.sockets import Arrival, Down, Failed, Oversized, Put, Up, decoded
from beepgpt.errors import SlackFailed

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

log = logging.getLogger(__name__)

ANSWER_WITHIN = 2.5
"""Seconds until Slack gets its response; it waits for three."""
MOST_BODY = 2 * 2**20
"""Bytes of a body that is used; Slack's own are of some kilobytes."""
HEAD = 64 * 2**10
"""Bytes that are kept of a larger one."""
MOST_READ = 16 * 2**20
"""Bytes after which nobody reads on to see whether Slack signed them."""
MOST_HELD = 32 * 2**20
"""Bytes of bodies that are not checked yet, over all connections."""
TOO_OLD = 300
"""Seconds for which a signature holds, as Slack advises."""

NOT_SLACKS = "the signature is not Slack's, or older than five minutes"
REFUSALS = {
    "signature": (401, NOT_SLACKS),
    "time": (401, NOT_SLACKS),
    "retry": (400, "X-Slack-Retry-Num is no number"),
    "json": (400, "a JSON object is expected, with at most 250 levels"),
    "too_large": (413, "the body is larger than anything that Slack sends"),
    "no_room": (503, "too many large requests"),
}
"""Status and words by reason; `guard` adds `slow`, `crowded` and `malformed`, which end connections."""


class _Refused(Exception):
    """A request that is not answered; the reason."""


class _Signed(NamedTuple):
    """A request that Slack signed."""

    body: bytes
    """Its beginning, if it is oversized."""
    size: int
    retry: int

    @property
    def is_oversized(self) -> bool:
        return self.size > MOST_BODY


class HttpLine:
    """A web server for Slack's events: a line that is up as long as it runs."""

    name = "http"

    def __init__(self, port: int, host: str, secret: str, put: Put) -> None:
        """Open the port. `secret`: the app's signing secret. Raises SlackFailed."""
        self._secret = secret.encode()
        self._put = put
        self._up = threading.Event()
        self._began = time.time()
        self._listener = _listening(host, port)
        self._budget = BodyBudget(MOST_HELD)
        self.port = self._listener.getsockname()[1]
        self.refused: Counter[str] = Counter()
        """Refused requests, by reason."""

    def start(self) -> None:
        """Start the server, in a thread."""
        import uvicorn

        from beepgpt.connectors.slack.live.guard import guarded, most_connections

        most = most_connections()
        config = uvicorn.Config(
            self._app(),
            http=guarded(self._count, most),
            log_level="critical",
            access_log=False,
            lifespan="off",
            ws="none",
            headers=[("Connection", "close")],  # one request a connection: nobody keeps a place by sending more
            backlog=most // 2,  # so many are accepted in one turn of the loop: a newcomer is read before it is the oldest
            timeout_graceful_shutdown=3,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="slack-http", daemon=True)
        self._thread.start()
        self._up.set()
        self._put(Up(self.name, self._began, 1))

    def close(self) -> None:
        """Stop the server."""
        self._up.clear()
        self._server.should_exit = True
        self._thread.join(5)
        self._listener.close()

    def drop(self) -> None:
        """Report an outage: Slack does not send, or not to this address."""
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
        from starlette.requests import ClientDisconnect
        from starlette.responses import JSONResponse, PlainTextResponse, Response
        from starlette.routing import Route

        async def answer(request: Request, kind: str) -> Response:
            try:
                signed = await self._signed(request)
                if signed.is_oversized:
                    return PlainTextResponse(*await self._hand_over(signed, "", None))
                payload = decoded(signed.body if kind == "events_api" else _form(signed.body))
                if not payload:
                    raise _Refused("json")
            except _Refused as refused:
                reason = str(refused)
                self._count(reason)
                status, words = REFUSALS[reason]
                return PlainTextResponse(words, status)
            except ClientDisconnect:
                return Response(status_code=400)  # for nobody
            if payload.get("type") == "url_verification":
                return JSONResponse({"challenge": payload.get("challenge")})
            return PlainTextResponse(*await self._hand_over(signed, kind, payload))

        async def events(request: Request) -> Response:
            return await answer(request, "events_api")

        async def interactions(request: Request) -> Response:
            return await answer(request, "interactive")

        return Starlette(
            routes=[Route("/slack/events", events, methods=["POST"]), Route("/slack/interactions", interactions, methods=["POST"])]
        )

    def _count(self, reason: str) -> None:
        self.refused[reason] += 1

    async def _signed(self, request: Request) -> _Signed:
        """Read a request, as long as it may be Slack's. Raises _Refused."""
        at, signature, retry = _checked(request.headers)
        if int(request.headers.get("content-length", 0)) > MOST_READ:  # a number: h11 saw to it
            raise _Refused("too_large")
        digest = hmac.new(self._secret, f"v0:{at}:".encode(), sha256)
        body = Body(self._budget)
        try:
            async for chunk in request.stream():
                digest.update(chunk)
                if body.size + len(chunk) > MOST_READ:
                    raise _Refused("too_large")
                if not body.add(chunk, MOST_BODY, HEAD):
                    raise _Refused("no_room")
            if not hmac.compare_digest(f"v0={digest.hexdigest()}", signature):
                raise _Refused("signature")
            return _Signed(body.content(), body.size, retry)
        finally:
            body.drop()

    async def _hand_over(self, signed: _Signed, kind: str, payload: dict[str, Any] | None) -> tuple[str, int]:
        """Put an event and wait for its acknowledgement: status 200, or 503 after a timeout, so that Slack sends it again."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def acknowledge() -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(done.set)

        if payload is None:
            self._put(Oversized(self.name, signed.body, signed.size, signed.retry, time.time(), acknowledge))
        else:
            name = str(payload.get("event_id") or payload.get("trigger_id") or "")
            self._put(Arrival(self.name, kind, payload, name, signed.retry, time.time(), acknowledge))
        try:
            await asyncio.wait_for(done.wait(), ANSWER_WITHIN)
        except TimeoutError:
            return "not confirmed yet", 503
        return "", 200


def _checked(headers: Mapping[str, str]) -> tuple[str, str, int]:
    """Time, signature and number of the retry, of headers that may be Slack's. Raises _Refused."""
    at, signature = headers.get("x-slack-request-timestamp", ""), headers.get("x-slack-signature", "")
    if not re.fullmatch(r"[0-9]{1,12}", at) or abs(time.time() - int(at)) > TOO_OLD:
        raise _Refused("time")
    if not re.fullmatch(r"v0=[0-9a-f]{64}", signature):
        raise _Refused("signature")
    retry = headers.get("x-slack-retry-num", "0")
    if not re.fullmatch(r"[0-9]{1,4}", retry):
        raise _Refused("retry")
    return at, signature, int(retry)


def _form(body: bytes) -> str:
    """The payload of an interaction, which comes as a form."""
    return (parse_qs(body.decode("utf-8", "replace")).get("payload") or [""])[0]


def _listening(host: str, port: int) -> socket.socket:
    """Open a listening socket. Raises SlackFailed."""
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        raise SlackFailed(f"--http {port}: the port can't be served on {host}: {error}") from error
