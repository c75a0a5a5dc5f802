"""The page of what runs: it shows values, updates itself, and holds nothing that anybody wrote; pages that do are linked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from beepgpt.figures import counted
from beepgpt.web import pages
from beepgpt.web.local_server import Guard, Keys
from beepgpt.web.pages import STATIC

TYPES = {"style.css": "text/css", "status.js": "text/javascript", "icon.svg": "image/svg+xml"}
OF_A_REPORT = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"}
"""A page that was written as a file has its stylesheet in it, and no script."""
DOING = {"figures": "the live figures", "topics": "removing what topics keep no longer", "training": "a newer model"}
"""Jobs whose names say too little."""
DOES = {
    "ingest": "writes what happens in Slack to the log",
    "examples": "makes training examples of it",
    "score": "predicts who will answer",
    "alert": "alerts who opted in",
}


class StatusPage:
    """The routes of the page, and of pages that stand as files."""

    def __init__(self, look: Callable[[], Mapping[str, Any]], linked: Callable[[], Mapping[str, tuple[str, Path]]]) -> None:
        """`look`: all that is shown. `linked`: pages by their addresses: what each is called (empty where others lead to it), its file."""
        self._look, self._linked = look, linked
        self._static = {name: (STATIC / name).read_bytes() for name in TYPES}

    def app(self, keys: Keys) -> ASGIApp:
        """The ASGI application, behind its guard."""
        routes = [
            Route("/", self.show),
            Route("/static/{name}", self.show_static),
            Route("/pages/{name:path}", self.show_linked),
        ]
        return Guard(Starlette(routes=routes), keys)

    def show(self, _: Request) -> Response:
        """Show what runs. Not async: it reads files, and so is run in a thread."""
        found = self._look()
        linked = {address: title for address, (title, _) in self._linked().items() if title}
        words = {"does": DOES, "doing": DOING, "reasons": pages.REASONS}
        return HTMLResponse(pages.rendered("status.html", found=found, verdict=verdict_of(found), linked=linked, **words))

    async def show_static(self, request: Request) -> Response:
        """Serve one of the page's own files."""
        name = request.path_params["name"]
        if name not in TYPES:
            raise HTTPException(404)
        return Response(self._static[name], media_type=TYPES[name])

    def show_linked(self, request: Request) -> Response:
        """Serve a page that stands as a file."""
        found = self._linked().get(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        return HTMLResponse(found[1].read_bytes(), headers=OF_A_REPORT)


def verdict_of(found: Mapping[str, Any]) -> str:
    """The sentence that the page opens with.

    >>> ingest = {"name": "ingest", "state": "running", "why": "", "last_minute": 1, "makes": "event", "lag": None}
    >>> well = {"services": [ingest], "channels": 3, "no_model": "", "job": "", "jobs": []}
    >>> verdict_of(well)
    'All is well: 1 event in the last minute.'
    >>> verdict_of(well | {"services": [ingest | {"state": "down", "why": "ended with status 1"}]})
    'ingest: ended with status 1.'
    >>> verdict_of(well | {"jobs": [{"name": "training", "fault": "beepgpt retrain was killed (SIGKILL)"}]})
    'training: beepgpt retrain was killed (SIGKILL).'
    >>> verdict_of(well | {"channels": 0})
    'The app is in no channel: /invite @BeepGPT in those that it is to follow.'
    """
    services = found["services"]
    faults = [f"{each['name']}: {each['fault']}" for each in found["jobs"] if each["fault"]]
    down, begin = ([f"{each['name']}: {each['why']}" for each in services if each["state"] == state] for state in ("down", "starting"))
    if wrong := [*down, *faults]:
        return f"{'; '.join(wrong)}."
    if found["channels"] == 0:
        return "The app is in no channel: /invite @BeepGPT in those that it is to follow."
    if begin:
        return f"{'; '.join(begin)}."
    if not services:
        return f"It begins: {found['job'] or 'nothing runs yet'}."
    if found["no_model"]:
        return str(found["no_model"])
    made = services[0]["last_minute"]
    return "All is well." if made is None else f"All is well: {counted(made, services[0]['makes'])} in the last minute."
