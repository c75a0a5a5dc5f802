"""A server on this machine for one person: where it listens, and who is admitted.

A page loads nothing from elsewhere and sends nothing there: it has its own files, a token for who may see it, and no other origin.
"""

from __future__ import annotations

import errno
import secrets
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import parse_qs

import uvicorn
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from beepgpt.errors import CannotServe

HOST = "127.0.0.1"
GRACE = 1
"""Seconds that a request in progress has when the server stops."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",  # with no-referrer, a browser's own forms would come from the origin "null"
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

# Access


class Keys:
    """The tokens that open the page: the printed one always, the browser's own once, since other users see it among the processes."""

    def __init__(self, port: int, command: str) -> None:
        """`command`: the one that serves the page."""
        self.port = port
        self.cookie = f"beepgpt-{command}-{port}"  # a browser sends cookies to every port of a host
        self.refusal = (
            f"This page is for the person who started it: open the address that `beepgpt {command}` printed. It changes with every start.\n"
        )
        self._secret, self._printed, self._once = (secrets.token_urlsafe(32) for _ in range(3))

    def address(self, *, once: bool = False) -> str:
        """The page's URL with a token; `once`: with the one that works once."""
        return f"http://{HOST}:{self.port}/?token={self._once if once else self._printed}"

    def admits(self, token: str) -> bool:
        """Whether a token opens the page; the one that works once is used up."""
        if same(token, self._once):
            self._once = secrets.token_urlsafe(32)
            return True
        return same(token, self._printed)

    def set_cookie(self) -> str:
        """The value of a `Set-Cookie` header that admits a browser from now on."""
        return f"{self.cookie}={self._secret}; HttpOnly; SameSite=Strict; Path=/"

    def knows(self, cookies: Mapping[str, str]) -> bool:
        """Whether a browser's cookies are those of one that was admitted."""
        return same(cookies.get(self.cookie, ""), self._secret)


def same(one: str, other: str) -> bool:
    """Compare secrets in constant time."""
    return secrets.compare_digest(one.encode(), other.encode())


class Guard:
    """ASGI middleware that admits requests for this machine's address, from the page itself, with a token or its cookie."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self.app = app
        self.keys = keys
        self.hosts = {f"{name}:{keys.port}" for name in (HOST, "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope["type"] == "http":
            refusal = self.refusal(scope)
            await (self.app if refusal is None else refusal)(scope, receive, send_guarded)

    def refusal(self, scope: Scope) -> Response | None:
        """The response to a request that is not admitted; None if it is."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if host not in self.hosts:  # a name of somebody else's that leads here: DNS rebinding
            return PlainTextResponse(f"This page is at http://{HOST}:{self.keys.port} only.\n", 421)
        if scope["method"] not in ("GET", "HEAD") and headers.get("origin") != f"http://{host}":
            return PlainTextResponse("Decisions are taken from this page only.\n", 403)
        token = parse_qs(scope["query_string"].decode("latin-1")).get("token")
        if token and scope["path"] == "/" and scope["method"] == "GET":
            return self.welcome() if self.keys.admits(token[0]) else PlainTextResponse(self.keys.refusal, 403)
        return None if self.keys.knows(Request(scope).cookies) else PlainTextResponse(self.keys.refusal, 403)

    def welcome(self) -> Response:
        """Set the cookie, and remove the token from the address. A redirect that began on another site would lack the strict cookie."""
        page = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/"><title>BeepGPT</title>'
            '<link rel="icon" href="/static/icon.svg"><p><a href="/">To the page</a></p>'
        )
        headers = {"Set-Cookie": self.keys.set_cookie(), "Referrer-Policy": "no-referrer"}
        return HTMLResponse(page, headers=headers)


# The server


def listen(port: int) -> socket.socket:
    """A socket that listens on this machine's own address; port 0: any free one. Raises CannotServe."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        reason = "the port is taken" if error.errno == errno.EADDRINUSE else error.strerror
        raise CannotServe(f"the page can't be served on {HOST}:{port}: {reason}: choose another port, or leave out --port") from error
    listener.listen()
    return listener


def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM."""
    server = _server_of(app)

    def end(_number: int, _frame: object) -> None:
        """Stop. Called again when the server has stopped by itself: uvicorn raises the signal for the handlers that stood before it."""
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def serving(app: ASGIApp, listener: socket.socket) -> Iterator[None]:
    """Serve inside the `with` block, in a thread of its own; signals are for others."""
    server = _server_of(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="page", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def _server_of(app: ASGIApp) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE,
        )
    )
