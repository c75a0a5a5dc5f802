"""The server of the Web API that alerts use, over real HTTP: it keeps rates, and fails by a script.

In a test: `with serving(AlertedWorkspace(…)) as slack:` and `SlackDesk(TOKEN, slack.url)`, or BEEPGPT_SLACK__BASE_URL for the program.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from beepgpt.simulation.slack.alerts_api import AlertedWorkspace, Called, Fault, Refused, answer
from tests.support.speed import wait_until

TOKEN = "xoxb-test-0123456789"
FAULTS = {
    "429": "too many requests; `429:2`: Retry-After 2 seconds",
    "500": "a server's error, nothing done; also 502, 503",
    "error": "`error:channel_not_found`: 200 and ok false",
    "done": "done, and then the connection ends without an answer",
    "done500": "done, and then a server's error",
    "drop": "the connection ends without an answer, nothing done",
    "html": "200, and a web page",
    "hold": "taken, and nothing is done for as long as somebody waits",
    "wait": "`wait:3`: done, and the answer comes after 3 seconds",
}


def app_of(space: AlertedWorkspace) -> Starlette:
    """The server."""

    async def call(request: Request) -> Response:
        method = request.path_params["method"]
        body = await request.body()
        if "json" in request.headers.get("content-type", ""):
            args = json.loads(body)
        else:
            args = dict(parse_qsl(body.decode()), **dict(request.query_params))
        fault = None
        with space.lock:
            of_one = f"{method}:{args.get('channel')}"
            name = of_one if space.faults.get(of_one) else method
            if method != "auth.test" and space.faults.get(name):
                fault = space.faults[name].pop(0)
            space.called.append(Called(method, args, time.monotonic(), fault))
            if method == "chat.postMessage":
                space.arrived.set()
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse({"ok": False, "error": "invalid_auth"})
        return await answered(space, method, args, fault, request)

    return Starlette(routes=[Route("/api/{method:str}", call, methods=["GET", "POST"])])


async def answered(space: AlertedWorkspace, method: str, args: dict[str, Any], fault: Fault | None, request: Request) -> Response:
    """The answer, or what happens instead of it."""
    name, _, more = (fault or "").partition(":")
    if name == "429":
        return JSONResponse({"ok": False, "error": "ratelimited"}, 429, {"Retry-After": more or "1"})
    if name in ("500", "502", "503"):
        return Response("upstream error", int(name))
    if name == "html":
        return Response("<html>down for maintenance</html>", 200, media_type="text/html")
    if name == "drop":
        return broken()
    if name == "hold":
        while not await request.is_disconnected():
            await asyncio.sleep(0.05)
        return broken()
    if name == "error":
        return JSONResponse({"ok": False, "error": more, "needed": "im:history"})
    with space.lock:
        if method == "chat.postMessage":
            now = time.monotonic()
            if now - space.last.get(args["channel"], -9.0) < 1.0:
                space.too_fast += 1
                return JSONResponse({"ok": False, "error": "ratelimited"}, 429, {"Retry-After": "1"})
            space.last[args["channel"]] = now
        try:
            said = answer(space, method, args)
        except Refused as error:
            return JSONResponse({"ok": False, "error": str(error)})
    if name == "done":
        return broken()
    if name == "done500":
        return Response("upstream error", 500)
    if name == "wait":
        await asyncio.sleep(float(more))
    return JSONResponse({"ok": True, **said}, headers={"x-oauth-scopes": space.scopes})


def broken() -> Response:
    """A body that is shorter than it says: the connection ends in the middle of it."""
    return Response(b'{"ok": tr', headers={"content-length": "9000"}, media_type="application/json")


class _Server(uvicorn.Server):
    def install_signal_handlers(self) -> None:
        """None: it runs in a thread."""


@contextmanager
def serving(space: AlertedWorkspace | None = None) -> Iterator[AlertedWorkspace]:
    """While in here, `url` answers."""
    space = space or AlertedWorkspace()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app_of(space), log_level="critical", lifespan="off", ws="none", timeout_graceful_shutdown=1)
        server = _Server(config)
        space.url = f"http://127.0.0.1:{listener.getsockname()[1]}/api/"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        wait_until(lambda: server.started, "the server has started", 20)
        try:
            yield space
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.fixture
def slack() -> Iterator[AlertedWorkspace]:
    """Four people; `ana`, `bo` and `cy` are in C1, `ana` and `cy` in the private C2."""
    space = AlertedWorkspace()
    for name in ("ana", "bo", "cy", "di"):
        space.user(name)
    space.channel("C1", "ana", "bo", "cy")
    space.channel("C2", "ana", "cy", private=True)
    with serving(space):
        yield space
