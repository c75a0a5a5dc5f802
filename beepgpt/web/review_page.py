"""A web page for one person on this machine: examples to judge, one after the other.

What people wrote is always text: templates escape it, and the browser runs nothing but the page's own script.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import parse_qsl, quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from beepgpt.errors import CannotWrite
from beepgpt.labeling.cards import Card, Choice, Goal, View
from beepgpt.web import pages
from beepgpt.web.local_server import Guard, Keys
from beepgpt.web.pages import STATIC

log = logging.getLogger(__name__)

TYPES = {"style.css": "text/css", "review.js": "text/javascript", "icon.svg": "image/svg+xml"}
MAX_FORM = 10_000
"""Bytes that a form may have."""


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
