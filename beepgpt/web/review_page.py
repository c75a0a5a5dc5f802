"""A web page for one person on this machine: examples to judge, one after the other.

The page loads nothing from elsewhere and sends nothing there: it has its own files, a token for who may see it, and no other origin.
What people wrote is always text: templates escape it, and the browser runs nothing but the page's own script.
"""

from __future__ import annotations

import errno
import logging
import secrets
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol
from urllib.parse import parse_qs, parse_qsl, quote

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from beepgpt.errors import CannotServe, CannotWrite
from beepgpt.labeling.cards import Card, Choice, Goal, View
from beepgpt.web import pages
from beepgpt.web.pages import STATIC

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
TYPES = {"style.css": "text/css", "review.js": "text/javascript", "icon.svg": "image/svg+xml"}
MAX_FORM = 10_000
"""Bytes that a form may have."""
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
NO_KEY = "This page is for the person who started it: open the address that `beepgpt review` printed. It changes with every start.\n"


class ReviewSession(Protocol):
    """The examples under review. What changes them returns a sentence about it, and raises CannotWrite if it could not be kept."""

    @property
    def goals(self) -> Sequence[Goal]: ...
    @property
    def views(self) -> Sequence[View]: ...
    @property
    def last(self) -> str:
        """The id of the example that was judged last; empty if none was."""

    def card(self, view: str) -> Card | None: ...
    def chosen(self) -> Sequence[Choice]: ...
    def decide(self, identity: str, decision: str) -> str: ...
    def undo(self, identity: str) -> str: ...
    def change(self, identity: str, to: str) -> str: ...


# Access


class Keys:
    """The tokens that open the page: the printed one always, the browser's own once, since other users see it among the processes."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookie = f"beepgpt-review-{port}"  # a browser sends cookies to every port of a host
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
            return self.welcome() if self.keys.admits(token[0]) else PlainTextResponse(NO_KEY, 403)
        return None if self.keys.knows(Request(scope).cookies) else PlainTextResponse(NO_KEY, 403)

    def welcome(self) -> Response:
        """Set the cookie, and remove the token from the address. A redirect that began on another site would lack the strict cookie."""
        page = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/"><title>Review</title>'
            '<link rel="icon" href="/static/icon.svg"><p><a href="/">To the page</a></p>'
        )
        headers = {"Set-Cookie": self.keys.set_cookie(), "Referrer-Policy": "no-referrer"}
        return HTMLResponse(page, headers=headers)


# The page


class Page:
    """The routes of a review."""

    def __init__(self, session: ReviewSession, source: str) -> None:
        self.session = session
        self.source = source
        self._notice = ""
        self._failed = False
        self._static = {name: (STATIC / name).read_bytes() for name in TYPES}

    def app(self, keys: Keys) -> ASGIApp:
        """The ASGI application, behind its guard."""
        routes = [
            Route("/", self.show_card),
            Route("/chosen", self.show_chosen),
            Route("/static/{name}", self.show_static),
            Route("/decide", self.decide, methods=["POST"]),
            Route("/undo", self.undo, methods=["POST"]),
            Route("/change", self.change, methods=["POST"]),
        ]
        return Guard(Starlette(routes=routes), keys)

    async def show_card(self, request: Request) -> Response:
        """Show the next example to judge."""
        view = self.view_of(request.query_params.get("view", ""))
        return self.rendered("card.html", view=view, card=self.session.card(view.name), last=self.session.last)

    async def show_chosen(self, _: Request) -> Response:
        """Show the examples that were judged."""
        return self.rendered("chosen.html", view=None, choices=self.session.chosen())

    async def show_static(self, request: Request) -> Response:
        """Serve one of the page's own files."""
        name = request.path_params["name"]
        if name not in TYPES:
            raise HTTPException(404)
        return Response(self._static[name], media_type=TYPES[name])

    async def decide(self, request: Request) -> Response:
        """Judge an example: strong, weak, or skipped."""
        form = await form_of(request)
        self.do(lambda: self.session.decide(form.get("example", ""), form.get("decision", "")))
        return self.back_to_card(form)

    async def undo(self, request: Request) -> Response:
        """Take back the last decision."""
        form = await form_of(request)
        self.do(lambda: self.session.undo(form.get("last", "")))
        return self.back_to_card(form)

    async def change(self, request: Request) -> Response:
        """Change the signal of a chosen example, or remove it."""
        form = await form_of(request)
        self.do(lambda: self.session.change(form.get("example", ""), form.get("to", "")))
        return RedirectResponse("/chosen", 303)

    def do(self, act: Callable[[], str]) -> None:
        """Run `act`; its sentence, or the write error, is the next page's notice."""
        try:
            self._notice, self._failed = act(), False
        except CannotWrite as error:
            self._notice, self._failed = str(error), True
            log.error("a decision could not be kept", extra={"reason": str(error)})

    def back_to_card(self, form: dict[str, str]) -> Response:
        """Redirect to the next example in the same order."""
        return RedirectResponse(f"/?view={quote(self.view_of(form.get('view', '')).name)}", 303)

    def view_of(self, name: str) -> View:
        """The view of that name; the first one if there is none."""
        views = self.session.views
        return next((view for view in views if view.name == name), views[0])

    def rendered(self, template: str, **shown: object) -> Response:
        """A page as a response, with the notice of what was done before, once."""
        notice, self._notice = self._notice, ""
        common = {"source": self.source, "goals": self.session.goals, "views": self.session.views, "notice": notice, "failed": self._failed}
        return HTMLResponse(pages.rendered(f"review/{template}", **common, **shown))


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form. Raises a 413 for more than MAX_FORM bytes; a browser sends far less."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM:
            raise HTTPException(413)
    return dict(parse_qsl(body.decode("utf-8", "replace")))


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
    config = uvicorn.Config(
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
    server = uvicorn.Server(config)

    def end(_number: int, _frame: object) -> None:
        """Stop. Called again when the server has stopped by itself: uvicorn raises the signal for the handlers that stood before it."""
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
