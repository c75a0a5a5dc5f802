"""A web page for one person on this machine: examples to judge, one after the other. It is told what to show, and tells what was decided.

Nothing of the page comes from elsewhere, and nothing of it goes there: its own two files, a token for who may see it, and no other
origin. What people wrote is always text: templates escape it, and the browser is told to run nothing but the page's own script.
"""

from __future__ import annotations

import errno
import logging
import secrets
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs, parse_qsl, quote

import uvicorn
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from beepgpt.errors import CannotServe, CannotWrite

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
FILES = Path(__file__).with_suffix("")
STATIC = {"review.css": "text/css", "review.js": "text/javascript", "icon.svg": "image/svg+xml"}
MAX_FORM = 10_000
"""Bytes that a decision may take."""
GRACE = 1
"""Seconds that an answer under way has when the page is closed."""

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


# What is shown


@dataclass(frozen=True, slots=True)
class ShownMessage:
    """A message of a conversation."""

    author: str
    mark: str
    """A letter that stands for the author."""
    seat: int
    """Which of the conversation's people that is, from 1; 0: not known for sure."""
    when: str
    text: str


@dataclass(frozen=True, slots=True)
class Opinion:
    """What somebody else says of the example."""

    who: str
    says: str
    p: float | None
    """Of `strong`."""


@dataclass(frozen=True, slots=True)
class Card:
    """An example to judge."""

    id: str
    place: str
    kind: str
    when: str
    messages: Sequence[ShownMessage]
    left_out: str
    """What the prompt doesn't show of the conversation, in words; may be empty."""
    answer: str
    opinions: Sequence[Opinion]


@dataclass(frozen=True, slots=True)
class Choice:
    """An example that was judged."""

    card: Card
    signal: str
    differs: bool
    """Whether somebody else says otherwise."""


@dataclass(frozen=True, slots=True)
class View:
    """An order in which the examples may come."""

    name: str
    title: str
    told: str
    """What it means, in a sentence."""
    left: int


@dataclass(frozen=True, slots=True)
class Goal:
    """How many there are of a kind, and how many are wanted."""

    name: str
    count: int
    least: int
    most: int


class ReviewDesk(Protocol):
    """Where the examples lie. What is done there is told in a sentence; CannotWrite if it could not be done."""

    @property
    def goals(self) -> Sequence[Goal]: ...
    @property
    def views(self) -> Sequence[View]: ...
    @property
    def last(self) -> str:
        """The id of what was decided last; empty: nothing was."""

    def card(self, view: str) -> Card | None: ...
    def chosen(self) -> Sequence[Choice]: ...
    def decide(self, identity: str, decision: str) -> str: ...
    def undo(self, identity: str) -> str: ...
    def change(self, identity: str, to: str) -> str: ...


# Who may come in


class Keys:
    """What opens the page: the printed token always, the browser's own once, since other users can see it among the processes."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookie = f"beepgpt-review-{port}"  # a browser sends cookies to every port of a host
        self._secret, self._printed, self._once = (secrets.token_urlsafe(32) for _ in range(3))

    def address(self, *, once: bool = False) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.port}/?token={self._once if once else self._printed}"

    def admits(self, token: str) -> bool:
        """Whether a token is right."""
        if same(token, self._once):
            self._once = secrets.token_urlsafe(32)
            return True
        return same(token, self._printed)

    def set_cookie(self) -> str:
        """A header that lets its browser in from now on."""
        return f"{self.cookie}={self._secret}; HttpOnly; SameSite=Strict; Path=/"

    def knows(self, cookies: Mapping[str, str]) -> bool:
        """Whether a browser was let in before."""
        return same(cookies.get(self.cookie, ""), self._secret)


def same(one: str, other: str) -> bool:
    """Compared in a time that doesn't tell how much of it was right."""
    return secrets.compare_digest(one.encode(), other.encode())


class Guard:
    """Stands before every request: for this machine's address, from its own pages, by who has the token."""

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
        """What to say instead; None: come in."""
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
        """Takes the token out of the address. Not by a redirect: one that began on another site would come without the strict cookie."""
        page = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/"><title>Review</title>'
            '<link rel="icon" href="/static/icon.svg"><p><a href="/">To the page</a></p>'
        )
        headers = {"Set-Cookie": self.keys.set_cookie(), "Referrer-Policy": "no-referrer"}
        return HTMLResponse(page, headers=headers)


# The page


class Page:
    """The routes, over a desk."""

    def __init__(self, desk: ReviewDesk, source: str) -> None:
        self.desk = desk
        self.source = source
        self._told = ""
        self._failed = False
        self._static = {name: (FILES / name).read_bytes() for name in STATIC}
        self._templates = Environment(
            loader=FileSystemLoader(FILES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )

    def app(self, keys: Keys) -> ASGIApp:
        """All of it, guarded."""
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
        """The next example to judge."""
        view = self.view_of(request.query_params.get("view", ""))
        return self.rendered("card.html", view=view, card=self.desk.card(view.name), last=self.desk.last)

    async def show_chosen(self, _: Request) -> Response:
        """Those that were judged."""
        return self.rendered("chosen.html", view=None, choices=self.desk.chosen())

    async def show_static(self, request: Request) -> Response:
        """The page's own files."""
        name = request.path_params["name"]
        if name not in STATIC:
            raise HTTPException(404)
        return Response(self._static[name], media_type=STATIC[name])

    async def decide(self, request: Request) -> Response:
        """Strong, weak, or skipped."""
        form = await form_of(request)
        self.do(lambda: self.desk.decide(form.get("example", ""), form.get("decision", "")))
        return self.back_to_card(form)

    async def undo(self, request: Request) -> Response:
        """As if the last one had not been judged."""
        form = await form_of(request)
        self.do(lambda: self.desk.undo(form.get("last", "")))
        return self.back_to_card(form)

    async def change(self, request: Request) -> Response:
        """To the other side, or out."""
        form = await form_of(request)
        self.do(lambda: self.desk.change(form.get("example", ""), form.get("to", "")))
        return RedirectResponse("/chosen", 303)

    def do(self, act: Callable[[], str]) -> None:
        """What was done, or why it could not be, is told by the page that comes next."""
        try:
            self._told, self._failed = act(), False
        except CannotWrite as error:
            self._told, self._failed = str(error), True
            log.error("a decision could not be kept", extra={"reason": str(error)})

    def back_to_card(self, form: dict[str, str]) -> Response:
        """The next one, in the same order."""
        return RedirectResponse(f"/?view={quote(self.view_of(form.get('view', '')).name)}", 303)

    def view_of(self, name: str) -> View:
        """By its name; the first one, if there is none of that name."""
        views = self.desk.views
        return next((view for view in views if view.name == name), views[0])

    def rendered(self, template: str, **shown: object) -> Response:
        """A whole page. What is told is told once."""
        told, self._told = self._told, ""
        common = {"source": self.source, "goals": self.desk.goals, "views": self.desk.views, "told": told, "failed": self._failed}
        return HTMLResponse(self._templates.get_template(template).render(**common, **shown))


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form; a browser sends far less than is taken here."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM:
            raise HTTPException(413)
    return dict(parse_qsl(body.decode("utf-8", "replace")))


# The server


def listen(port: int) -> socket.socket:
    """A place on this machine that browsers can reach, and nobody from outside; 0: any that is free."""
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
    """Until SIGINT or SIGTERM, which is how a review ends."""
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
        """Also called when the server has stopped by itself: it raises the signal again, for whoever was there before it."""
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
