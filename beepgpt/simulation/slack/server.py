"""A Slack of one's own: a workspace that people post in, the Web API, Socket Mode over real sockets, and everything that can go wrong.

A test says what happens (`server.workspace.post(...)`), and with `server.faults` what goes wrong on the way. What Slack promises is
kept here too: an envelope that is not acknowledged is sent again, with the same `event_id`, a few times; what was posted stands in
the history. More Web API methods are added to `server.methods`; more ASGI routes are given to `SlackServer(routes=[…])`.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import socket
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from websockets.asyncio.server import Server as SocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from beepgpt.simulation.slack.faults import Faults
from beepgpt.simulation.slack.workspace import TEAM, ChatWorkspace

APP_TOKEN = "xapp-1-A0-test-not-a-secret"
BOT_TOKEN = "xoxb-0-test-not-a-secret"
SIGNING_SECRET = "test-signing-not-a-secret"
BOT_USER = "U0BOT"
SCOPES = "channels:history,channels:read,groups:history,groups:read,reactions:read,users:read,connections:write"
PAGE = 7
"""Items on a page, at most: so small that answers come in several."""

Method = Callable[[dict[str, str]], dict[str, Any]]
"""A Web API method: its arguments to its answer, without `ok`; ApiError for a refusal."""


class ApiError(Exception):
    """`ok: false`, with a code and what else the answer has."""

    def __init__(self, code: str, **more: Any) -> None:
        super().__init__(code)
        self.answer = {"ok": False, "error": code, **more}


@dataclass
class Envelope:
    """Something to be delivered."""

    kind: str
    payload: dict[str, Any]
    tries: int = 0


class Link:
    """One app's WebSocket, on Slack's side."""

    def __init__(self, connection: ServerConnection, deaf: bool) -> None:
        self.connection = connection
        self.deaf = deaf
        self.frozen = False


class SlackServer:
    """The server, in a thread of its own; its methods may be called from any."""

    def __init__(
        self,
        *,
        faults: Faults | None = None,
        routes: Sequence[BaseRoute] = (),
        ack_within: float = 3.0,
        retries: Sequence[float] = (0.0, 60.0, 300.0),
        page: int = PAGE,
        per_minute: int | None = None,
    ) -> None:
        """`ack_within`: seconds until an envelope counts as lost; `retries`: seconds before each further try; then it is given up.

        `page`: items on a page, at most. `per_minute`: calls of a method within any 60 seconds; more are refused, as Slack refuses them.
        """
        self.faults = faults or Faults()
        self.dice = random.Random(self.faults.seed)
        self.page, self.per_minute = page, per_minute
        self._permitted: defaultdict[str, deque[float]] = defaultdict(deque)
        self.refused: Counter[str] = Counter()
        """Calls beyond the limit, by method."""
        self.workspace = ChatWorkspace(self.send_event)
        self.ack_within = ack_within
        self.retries = tuple(retries)
        self.over_http: Callable[[Envelope], bool] | None = None
        """In place of sockets: posts an envelope, and returns whether it was taken."""
        self.app_token, self.bot_token = APP_TOKEN, BOT_TOKEN
        self.scopes = SCOPES
        self.hidden_code = "channel_not_found"
        """How a channel is refused that the scopes don't show."""
        self.date_ahead = 0.0
        self.asked: Counter[str] = Counter()
        self.record: list[tuple[str, dict[str, str]]] = []
        self.acknowledged: list[str] = []
        """Ids of events, in order."""
        self.lost: list[dict[str, Any]] = []
        """Payloads that were given up."""
        self.swallowed: list[dict[str, Any]] = []
        """Those among them that deaf connections got."""
        self.delivered = 0
        self.unknown, self.kept_back = set[str](), set[str]()
        self.links: list[Link] = []
        self.opened = 0
        self.methods: dict[str, Method] = {
            "auth.test": lambda given: {
                "team_id": TEAM,
                "team": "Test",
                "user_id": BOT_USER,
                "bot_id": "B0BOT",
                "url": "https://test.slack.com/",
            },
            "team.info": lambda given: {"team": {"id": TEAM, "name": "Test", "domain": "test"}},
            "apps.connections.open": self._open,
            "conversations.list": lambda given: self._page("channels", self._channels(given, member=False), given),
            "users.conversations": lambda given: self._page("channels", self._channels(given, member=True), given),
            "users.info": self._user,
            "users.list": lambda given: self._page("members", self.workspace.users, given),
            "conversations.members": lambda given: self._page("members", self.workspace.members.get(given["channel"], []), given),
            "conversations.info": self._info,
            "conversations.history": self._history,
            "conversations.replies": self._replies,
        }
        self._waiting: dict[str, tuple[Envelope, Link]] = {}
        self._count = 0
        self._turn = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._app = Starlette(routes=[Route("/api/{method:path}", self._call, methods=["GET", "POST"]), *routes])
        self._thread = threading.Thread(target=self._run, name="slack-server", daemon=True)
        self._thread.start()
        self._ready.wait(10)

    # How it runs

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/api/"

    @property
    def settings(self) -> dict[str, str]:
        """An environment that points the program here."""
        return {
            "BEEPGPT_SLACK__BASE_URL": self.base_url,
            "BEEPGPT_SLACK__APP_TOKEN": APP_TOKEN,
            "BEEPGPT_SLACK__BOT_TOKEN": BOT_TOKEN,
            "BEEPGPT_SLACK__SIGNING_SECRET": SIGNING_SECRET,
        }

    def _user(self, given: dict[str, str]) -> dict[str, Any]:
        """Users whose ids begin with UB are bots; those of `unknown` nobody knows, and those of `kept_back` are refused."""
        if (user := given["user"]) in self.unknown | self.kept_back:
            raise ApiError("user_not_found" if user in self.unknown else "team_access_denied")
        return {"user": {"id": user, "is_bot": user.startswith("UB")}}

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        config = uvicorn.Config(self._app, log_level="critical", lifespan="off", ws="none", access_log=False, date_header=False)
        http = uvicorn.Server(config)
        http.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        listener = socket.create_server(("127.0.0.1", 0))
        self._port = listener.getsockname()[1]
        serving = asyncio.ensure_future(http._serve([listener]))
        async with serve(self._linked, "127.0.0.1", 0, ping_interval=None, close_timeout=1) as sockets:
            self._sockets: SocketServer = sockets
            self._socket_port = next(iter(sockets.sockets)).getsockname()[1]
            self._ready.set()
            await self._stop.wait()
            for link in self.links:
                link.connection.transport.abort()
        http.should_exit = True
        http.force_exit = True
        await serving
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _soon(self, coroutine: Any) -> None:
        def start() -> None:
            task = self._loop.create_task(coroutine)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(start)

    def do(self, coroutine: Any) -> Any:
        """Runs something in the server's loop, and waits for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    # The Web API

    async def _call(self, request: Request) -> Response:
        method = request.path_params["method"]
        body = await request.body()
        given: dict[str, Any] = dict(request.query_params)
        given |= json.loads(body) if "json" in request.headers.get("content-type", "") else dict(parse_qsl(body.decode()))
        self.asked[method] += 1
        self.record.append((method, given))
        headers = {"Date": _http_date(time.time() - self.date_ahead), "X-OAuth-Scopes": self.scopes}
        if (seconds := self._seconds_until_permitted(method)) > 0 or self.dice.random() < self.faults.limited:
            again = math.ceil(seconds) or self.faults.retry_after
            return JSONResponse({"ok": False, "error": "ratelimited"}, 429, headers | {"Retry-After": str(again)})
        if self.dice.random() < self.faults.broken:
            return Response("<html>oops</html>", 500, headers, "text/html")
        try:
            if method in self.faults.refuse:
                raise ApiError(self.faults.refuse[method])
            token = given.pop("token", "") or request.headers.get("authorization", "").removeprefix("Bearer ")
            if token != (self.app_token if method.startswith("apps.") else self.bot_token):
                raise ApiError("invalid_auth")
            if method not in self.methods:
                raise ApiError("unknown_method")
            answer = {"ok": True, **self.methods[method](given)}
        except ApiError as refused:
            answer = refused.answer
        return Response(json.dumps(answer), 200, headers, "application/json")  # half a character is escaped, as Slack does

    def _seconds_until_permitted(self, method: str) -> float:
        """Zero where this call is permitted; then it counts."""
        if self.per_minute is None:
            return 0.0
        now, permitted = time.monotonic(), self._permitted[method]
        while permitted and permitted[0] <= now - 60:
            permitted.popleft()
        if len(permitted) >= self.per_minute:
            self.refused[method] += 1
            return permitted[0] + 60 - now
        permitted.append(now)
        return 0.0

    def _open(self, _given: dict[str, str]) -> dict[str, Any]:
        self._count += 1
        return {"url": f"ws://127.0.0.1:{self._socket_port}/link/?ticket={self._count}&app_id=A0"}

    def _channels(self, given: dict[str, str], *, member: bool) -> list[dict[str, Any]]:
        types = given.get("types", "public_channel").split(",")

        def kind(channel: dict[str, Any]) -> str:
            return (
                "im"
                if channel["is_im"]
                else "mpim"
                if channel["is_mpim"]
                else "private_channel"
                if channel["is_private"]
                else "public_channel"
            )

        found = [each for each in self.workspace.channels.values() if kind(each) in types and (each["is_member"] or not member)]
        return [each for each in found if not (each["is_archived"] and given.get("exclude_archived", "").lower() in ("1", "true"))]

    def _info(self, given: dict[str, str]) -> dict[str, Any]:
        """A private channel is not there for an app without `groups:read`, or it lacks the scope."""
        channel = self._channel(given)
        if channel["is_private"] and "groups:read" not in self.scopes.split(","):
            raise ApiError(self.hidden_code, needed="groups:read")
        return {"channel": channel}

    def _channel(self, given: dict[str, str]) -> dict[str, Any]:
        if given.get("channel") not in self.workspace.channels:
            raise ApiError("channel_not_found")
        return self.workspace.channels[given["channel"]]

    def _history(self, given: dict[str, str]) -> dict[str, Any]:
        with self.workspace.lock:
            self._readable(given)
            found = [each for each in self.workspace.messages[given["channel"]].values() if _is_root(each)]
            within = [each for each in found if given.get("oldest", "0") <= each["ts"] <= given.get("latest", "9")]
            return self._page("messages", sorted(within, key=lambda each: str(each["ts"]), reverse=True), given)

    def _replies(self, given: dict[str, str]) -> dict[str, Any]:
        with self.workspace.lock:
            self._readable(given)
            there, root = self.workspace.messages[given["channel"]], given["ts"]
            if root not in there and not any(each.get("thread_ts") == root for each in there.values()):
                raise ApiError("thread_not_found")
            replies = [each for each in there.values() if each.get("thread_ts") == root and each["ts"] != root]
            within = [each for each in replies if given.get("oldest", "0") <= each["ts"]]
            first = [there[root]] if root in there else []
            return self._page("messages", [*first, *sorted(within, key=lambda each: str(each["ts"]))], given)

    def _readable(self, given: dict[str, str]) -> None:
        if not self._channel(given)["is_member"]:
            raise ApiError("not_in_channel")

    def _page(self, name: str, items: Sequence[Any], given: dict[str, str]) -> dict[str, Any]:
        start = int((given.get("cursor") or "c0")[1:])
        size = min(int(given.get("limit") or 100), self.page)
        more = start + size < len(items)
        page = json.loads(json.dumps(items[start : start + size]))
        return {name: page, "has_more": more, "response_metadata": {"next_cursor": f"c{start + size}" if more else ""}}

    # Events

    def payload_of(self, event: dict[str, Any]) -> dict[str, Any]:
        """The callback that carries an inner event."""
        self._count += 1
        channel = event.get("channel") or event.get("item", {}).get("channel")
        known = self.workspace.channels.get(channel, {}) if isinstance(channel, str) else {}
        return {
            "token": "verification",
            "team_id": TEAM,
            "api_app_id": "A0",
            "event": event,
            "type": "event_callback",
            "event_id": f"Ev{self._count:08d}",
            "event_time": int(time.time()),
            "is_ext_shared_channel": bool(known.get("is_ext_shared")),
        }

    def send_event(self, event: dict[str, Any]) -> str:
        """An inner event, to whom it may concern; its id. What happens where the app is not is not told."""
        channel = event.get("channel") or event.get("item", {}).get("channel")
        if isinstance(channel, str) and not self.workspace.channels.get(channel, {"is_member": True})["is_member"]:
            return ""
        payload = self.payload_of(event)
        self._soon(self._deliver(Envelope("events_api", payload)))
        return str(payload["event_id"])

    def send_interaction(self, payload: dict[str, Any]) -> None:
        """What somebody did with the app."""
        self._soon(self._deliver(Envelope("interactive", payload)))

    async def _deliver(self, envelope: Envelope) -> None:
        if self.dice.random() < self.faults.swapped:
            await asyncio.sleep(0.05)
        if self.dice.random() < self.faults.twice:
            await self._send(Envelope(envelope.kind, envelope.payload, len(self.retries)))
        await self._send(envelope)

    async def _send(self, envelope: Envelope) -> None:
        """To one of the connections; again, where it is not acknowledged."""
        if self.over_http is not None:
            await self._post(envelope)
            return
        link = self._next_link()
        if link is not None:
            self._count += 1
            name = f"envelope-{self._count}"
            self._waiting[name] = (envelope, link)
            message = {"envelope_id": name, "type": envelope.kind, "payload": envelope.payload, "accepts_response_payload": False}
            if envelope.tries:
                message |= {"retry_attempt": envelope.tries, "retry_reason": "timeout"}
            if link.deaf:
                self._waiting.pop(name)
                self.lost.append(envelope.payload)
                self.swallowed.append(envelope.payload)
                return
            with suppress(ConnectionClosed):
                await link.connection.send(json.dumps(message))
                self.delivered += 1
            await asyncio.sleep(self.ack_within)
            if self._waiting.pop(name, None) is None:
                return
        await self._again(envelope)

    async def _again(self, envelope: Envelope) -> None:
        if envelope.kind != "events_api" or envelope.tries >= len(self.retries):
            self.lost.append(envelope.payload)
            return
        await asyncio.sleep(self.retries[envelope.tries])
        await self._send(Envelope(envelope.kind, envelope.payload, envelope.tries + 1))

    def _next_link(self) -> Link | None:
        if not self.links:
            return None
        self._turn += 1
        return self.links[self._turn % len(self.links)]

    async def _post(self, envelope: Envelope) -> None:
        """Over HTTP."""
        assert self.over_http is not None
        is_taken = await asyncio.to_thread(self.over_http, envelope)
        self.delivered += 1
        if is_taken:
            self.acknowledged.append(str(envelope.payload.get("event_id", "")))
        else:
            await self._again(envelope)

    # Sockets

    async def _linked(self, connection: ServerConnection) -> None:
        self.opened += 1
        link = Link(connection, self.faults.deaf > 0)
        self.faults.deaf -= link.deaf
        self.links.append(link)
        hello = {"type": "hello", "num_connections": len(self.links), "connection_info": {"app_id": "A0"}}
        try:
            await connection.send(json.dumps(hello))
            async for text in connection:
                self._acknowledge(json.loads(text)["envelope_id"])
        except ConnectionClosed:
            pass
        finally:
            if link in self.links:
                self.links.remove(link)

    def _acknowledge(self, name: str) -> None:
        if name in self._waiting and self.dice.random() >= self.faults.unheard:
            envelope, _ = self._waiting.pop(name)
            self.acknowledged.append(str(envelope.payload.get("event_id", "")))

    def disconnect(self, reason: str = "refresh_requested", *, closes_after: float = 0.3) -> None:
        """Slack renews its connections: it says so on each, and closes it a little later."""

        async def renew() -> None:
            for link in list(self.links):
                with suppress(ConnectionClosed):
                    await link.connection.send(json.dumps({"type": "disconnect", "reason": reason}))
                self._soon(self._close(link, closes_after))

        self.do(renew())

    async def _close(self, link: Link, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if link in self.links:
            self.links.remove(link)  # from now on events go elsewhere
        await link.connection.close()

    def reset(self) -> None:
        """Every connection breaks, without a word."""

        async def abort() -> None:
            for link in list(self.links):
                self.links.remove(link)
                link.connection.transport.abort()

        self.do(abort())

    def freeze(self) -> None:
        """Every connection stays open, and nothing is read or sent any more, pongs included."""

        async def pause() -> None:
            for link in self.links:
                link.deaf = True
                link.connection.transport.pause_reading()

        self.do(pause())

    @property
    def is_quiet(self) -> bool:
        """Whether nothing waits to be acknowledged."""
        return not self._waiting


def _is_root(message: dict[str, Any]) -> bool:
    return message.get("thread_ts") in (None, message["ts"]) or message.get("subtype") == "thread_broadcast"


def _http_date(at: float) -> str:
    return formatdate(at, usegmt=True)


@contextmanager
def serving(**options: Any) -> Iterator[SlackServer]:
    """A server; `options` are those of `SlackServer`."""
    server = SlackServer(**options)
    try:
        yield server
    finally:
        server.close()
