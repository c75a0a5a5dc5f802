"""Slack, live: connections by Socket Mode, the Events API over HTTP, and what the Web API is asked. Values in, values out.

slack_sdk asks the Web API and checks signatures. The sockets themselves are of the `websockets` library: slack_sdk's own client
hands envelopes to ten threads, so that they overtake each other; it closes a connection before its successor has said hello, with
what was not read of it; and one that ends without a goodbye was noticed after 26 seconds, of which it spun for most.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.signature import SignatureVerifier
from slack_sdk.web import WebClient
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect

from beepgpt.errors import SlackFailed, SlackRefused

log = logging.getLogger(__name__)

PING_EVERY = 5.0
"""Seconds between two pings; up to the last one that was answered, all is here that was sent."""
PING_PATIENCE = 20.0
"""Seconds in which a ping has to be answered."""
HELLO_PATIENCE = 10.0
"""Seconds in which a new connection has to say hello."""
DRAIN = 60.0
"""Seconds for which a connection is still read that has a successor."""
TICK = 0.1
QUEUED = 64
"""Messages after an answered ping by which all that came before it has surely been read: more than the library holds back."""
BACKOFF = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before the next try to connect, or to ask; the last one for all that follow."""
PAGE = 500
ANSWER_WITHIN = 2.5
"""Seconds in which Slack is answered over HTTP; it waits for three."""
TOO_OLD_TO_ASK = 30.0
"""Seconds for one answer of the Web API."""

INSTALL = "set up the app as docs/slack.md says"
DEAD = {
    "invalid_auth": "Slack does not know it: copy it anew from the app's pages (docs/slack.md)",
    "not_authed": "Slack got none: set it as docs/slack.md says",
    "account_inactive": "the app was uninstalled, or its workspace is gone: install it again, and set the new token",
    "token_revoked": "it was revoked: install the app again, and set the new token",
    "token_expired": "it has expired: token rotation is not supported here; turn it off in the app's settings, and install the app again",
    "not_allowed_token_type": "it is of another kind: slack.app_token begins with xapp-, slack.bot_token with xoxb-",
    "org_login_required": "the workspace is being moved to an organisation: try again when that is done",
    "team_access_not_granted": "the app has no access to the workspace: have an administrator of the organisation grant it",
    "ekm_access_denied": "an administrator of the organisation has suspended access to messages",
    "access_denied": "access is denied: ask an administrator of the workspace",
}
"""What makes a token useless, and what to do."""


class CallStopped(Exception):
    """Somebody asked to stop while a question waited."""


# What comes


class Arrival(NamedTuple):
    """Something that Slack sent, and wants to have acknowledged."""

    line: str
    kind: str
    """`events_api`, `interactive`, `slash_commands`."""
    payload: dict[str, Any]
    name: str
    """Of its envelope."""
    retry: int
    """How often Slack has tried before; 0 at the first time."""
    at: float
    """When our side first saw it, seconds since 1970."""
    acknowledge: Callable[[], None]


class Up(NamedTuple):
    """A line is connected, after it was not."""

    line: str
    at: float
    """When it was asked for, seconds: what Slack sent before went elsewhere."""
    connections: int
    """How many the app has now, by Slack's count."""


class Changed(NamedTuple):
    """A line has a new connection, which said hello before the old one ended: nothing went between them."""

    line: str
    at: float


class Down(NamedTuple):
    """A line's connection ended before it had a successor: what Slack sent since may not have come."""

    line: str
    why: str


class Failed(NamedTuple):
    """It can't go on."""

    error: Exception


Put = Callable[[Any], None]

# The Web API


@dataclass
class Web:
    """The Web API, asked by any thread, and not more often than Slack permits."""

    token: str = field(repr=False)
    base_url: str
    stopping: threading.Event
    per_minute: int = 50
    """Calls of one method: Slack permits about fifty of those that are needed here."""
    called: str = "slack.bot_token"
    """The setting that the token comes from."""
    limited: int = 0
    """How often Slack said that it was too much."""

    def __post_init__(self) -> None:
        self._client = WebClient(self.token, base_url=self.base_url, timeout=int(TOO_OLD_TO_ASK), retry_handlers=[], logger=_silent())
        self._lock = threading.Lock()
        self._asked: dict[str, deque[float]] = {}
        self._not_before: dict[str, float] = {}
        self.calls: Counter[tuple[str, str]] = Counter()
        """How often each method was called, and what came of it: `ok`, `rate_limited`, `refused` or `unclear`."""
        self.ahead = 0.0
        """Seconds that this machine's clock is ahead of Slack's; 0 if it is not, by more than a second."""

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """An answer, waited for as long as it takes. Raises SlackFailed, Refused or Stopped."""
        return self._ask(method, params)[0]

    def _ask(self, method: str, params: Mapping[str, Any]) -> tuple[dict[str, Any], Mapping[str, str]]:
        given = {name: value for name, value in params.items() if value is not None}
        tries = 0
        while True:
            self._wait_for_turn(method)
            began = time.time()
            try:
                response = self._client.api_call(method, data=given)
            except SlackApiError as error:
                status, code, headers, data = _error_of(error)
                if status == 429 or code in ("ratelimited", "rate_limited"):
                    self.limited += 1
                    self._note(method, "rate_limited")
                    self._hold(method, _seconds(headers.get("retry-after"), 30.0))
                    continue
                if status < 500 and code not in ("internal_error", "fatal_error", "service_unavailable", "request_timeout", ""):
                    self._note(method, "refused")
                    raise self._refusal(method, code, data) from None
                why = code or f"status {status}"
            except (SlackClientError, HTTPException, OSError, ValueError) as error:
                why = f"{type(error).__name__}: {error}"
            else:
                headers = {name.lower(): value for name, value in response.headers.items()}
                self._compare_clocks(headers.get("date"), began, time.time())
                self._note(method, "ok")
                return dict(response.data) if isinstance(response.data, dict) else {}, headers
            self._note(method, "unclear")
            log.warning("Slack could not be asked, and is asked again", extra={"method": method, "why": why})
            self._pause(BACKOFF[min(tries, len(BACKOFF) - 1)])
            tries += 1

    def try_once(self, method: str, **params: Any) -> str:
        """Asks without waiting for better times; what went wrong, or nothing. Raises SlackFailed."""
        try:
            response = self._client.api_call(method, data=params)
        except SlackApiError as error:
            status, code, _, data = _error_of(error)
            if status == 429 or code == "ratelimited":
                self.limited += 1
                self._note(method, "rate_limited")
                return "rate limited"
            self._note(method, "refused" if status < 500 else "unclear")
            if code in DEAD or code == "missing_scope":
                raise self._refusal(method, code, data) from None
            return code or f"status {status}"
        except (SlackClientError, HTTPException, OSError, ValueError) as error:
            self._note(method, "unclear")
            return f"{type(error).__name__}: {error}"
        self._note(method, "ok")
        now = time.time()
        self._compare_clocks({name.lower(): value for name, value in response.headers.items()}.get("date"), now, now)
        return ""

    def scopes(self) -> tuple[dict[str, Any], set[str]]:
        """Who we are, and what we may do."""
        data, headers = self._ask("auth.test", {})
        return data, {each.strip() for each in str(headers.get("x-oauth-scopes", "")).split(",") if each.strip()}

    def pages(self, method: str, items: str, **params: Any) -> Iterator[dict[str, Any]]:
        """All items of an answer that comes in pages."""
        cursor: str | None = None
        while True:
            answer = self.ask(method, **params, cursor=cursor, limit=PAGE)
            yield from answer.get(items) or []
            cursor = (answer.get("response_metadata") or {}).get("next_cursor") or None
            if cursor is None:
                return

    def _refusal(self, method: str, code: str, data: Mapping[str, Any]) -> Exception:
        if code in DEAD:
            return SlackFailed(f"{self.called} is refused ({method}: {code}): {DEAD[code]}")
        if code == "missing_scope":
            return SlackFailed(
                f"{self.called} lacks the scope {data.get('needed', '')}, which {method} needs: update the app from config/slack-app.yaml,"
                " and install it again"
            )
        return SlackRefused(method, code)

    def _wait_for_turn(self, method: str) -> None:
        while True:
            with self._lock:
                now = time.monotonic()
                asked = self._asked.setdefault(method, deque())
                while asked and asked[0] <= now - 60:
                    asked.popleft()
                wait = max(self._not_before.get(method, 0.0) - now, asked[0] + 60 - now if len(asked) >= self.per_minute else 0.0)
                if wait <= 0:
                    asked.append(now)
                    return
            self._pause(wait)

    def calls_here(self) -> Counter[tuple[str, str]]:
        """The same, for another thread."""
        with self._lock:
            return Counter(self.calls)

    def _note(self, method: str, result: str) -> None:
        with self._lock:
            self.calls[method, result] += 1

    def _hold(self, method: str, seconds: float) -> None:
        log.info("Slack asks to wait", extra={"method": method, "seconds": seconds})
        with self._lock:
            self._not_before[method] = time.monotonic() + seconds

    def _pause(self, seconds: float) -> None:
        if self.stopping.wait(seconds):
            raise CallStopped

    def _compare_clocks(self, date: str | None, began: float, ended: float) -> None:
        """By the answer's date, which has whole seconds; an answer that took long tells nothing."""
        if ended - began > 2:
            return
        with suppress(ValueError, TypeError):
            ahead = (began + ended) / 2 - (parsedate_to_datetime(date or "").timestamp() + 0.5)
            self.ahead = ahead if ahead > 1.0 else 0.0


def _error_of(error: SlackApiError) -> tuple[int, str, Mapping[str, str], Mapping[str, Any]]:
    """Status, code, headers and body, whichever of them there are."""
    response = error.response
    status = getattr(response, "status_code", None) or (response.get("status") if isinstance(response, dict) else None) or 500
    headers = getattr(response, "headers", None) or (response.get("headers") if isinstance(response, dict) else None) or {}
    body = getattr(response, "data", response)
    data = body if isinstance(body, dict) else {}
    return int(status), str(data.get("error") or ""), {str(name).lower(): str(value) for name, value in headers.items()}, data


def _seconds(text: str | None, otherwise: float) -> float:
    try:
        return max(float(text or ""), 0.0)
    except ValueError:
        return otherwise


def _silent() -> logging.Logger:
    """For slack_sdk, whose warnings are tries that will be repeated, and which tells at lower levels what it sends."""
    logger = logging.getLogger("slack_sdk.silent")
    logger.setLevel(logging.CRITICAL + 1)
    return logger


def history(
    web: Web, channel: str, *, since: str, roots_since: str, replies_since: str, threads: Collection[str] = ()
) -> list[dict[str, Any]]:
    """A channel's root messages from `roots_since` on, and the replies from `replies_since` on to those that were replied to since, and
    to the given roots.

    Times are Slack's, with six decimals. Replies to older roots can't be found but by name: no list of them exists at Slack.
    """
    found: dict[str, dict[str, Any]] = {}
    replied = set(threads)
    for message in web.pages("conversations.history", "messages", channel=channel, oldest=roots_since, inclusive=True):
        ts = str(message.get("ts", ""))
        found[ts] = message
        root = message.get("thread_ts")
        if root is not None and ((root == ts and str(message.get("latest_reply", since)) >= since) or (root != ts and ts >= since)):
            replied.add(str(root))
    for root in sorted(replied):
        try:
            replies = list(web.pages("conversations.replies", "messages", channel=channel, ts=root, oldest=replies_since, inclusive=True))
        except SlackRefused as refused:
            if refused.code not in ("thread_not_found", "message_not_found"):
                raise
            continue
        for message in replies:
            if message.get("ts") != root:  # which comes with every answer
                found.setdefault(str(message.get("ts", "")), message)
    return list(found.values())


# Socket Mode


class _Connection:
    """One WebSocket, read by a thread of its own, once it is told to, until it ends."""

    def __init__(self, url: str, line: str, put: Put) -> None:
        """Returns when Slack has said hello. Raises OSError, WebSocketException or TimeoutError."""
        self.asked_at = time.time()
        self.goodbye = threading.Event()
        """Slack is going to end it."""
        self.ended = threading.Event()
        self.why = ""
        self.good = self.asked_at
        """Up to when all that Slack sent here was put, seconds."""
        self._line = line
        self._put = put
        opened = connect(url, open_timeout=HELLO_PATIENCE, close_timeout=1, ping_interval=None, max_size=None, logger=_quiet_sockets())
        self._stack = ExitStack()
        self._ws: ClientConnection = self._stack.enter_context(opened)
        try:
            hello = self._hello()
        except BaseException:
            self._stack.close()
            raise
        self.connections = int(hello.get("num_connections") or 1)
        self._thread = threading.Thread(target=self._read, name=f"slack-{line}", daemon=True)

    def read(self) -> None:
        """From now on what comes is put: after what tells that there is another connection, or it would speak for the one before."""
        self._thread.start()

    def close(self) -> None:
        """Ends it; what was not read comes again, since it was not acknowledged."""
        with suppress(Exception):
            self._stack.close()
        if self._thread is not threading.current_thread() and self._thread.ident is not None:
            self._thread.join(3)

    def _hello(self) -> dict[str, Any]:
        deadline = time.monotonic() + HELLO_PATIENCE
        while True:
            message = _decoded(self._ws.recv(timeout=max(deadline - time.monotonic(), 0.01)))
            if message.get("type") == "hello":
                return message
            if message.get("type") == "disconnect":
                raise ConnectionError(f"it was refused: {message.get('reason')}")

    def _read(self) -> None:
        answered: threading.Event | None = None
        pinged, left = 0.0, 0
        try:
            while True:
                now = time.time()
                if answered is None and now - pinged >= PING_EVERY:
                    answered, pinged, left = self._ws.ping(), now, QUEUED
                elif answered is not None and not answered.is_set() and not 0 <= now - pinged <= PING_PATIENCE:
                    raise TimeoutError(f"a ping was not answered within {PING_PATIENCE:.0f} seconds")
                was_answered = answered is not None and answered.is_set()
                try:
                    text = self._ws.recv(timeout=TICK if not was_answered else 0)
                except TimeoutError:
                    left = 0 if was_answered else left  # a silence before the answer says nothing of what came just before it
                else:
                    left -= was_answered
                    self._take(_decoded(text))
                if was_answered and left <= 0:  # all that came before the answer is read
                    self.good, answered = pinged, None
        except ConnectionClosed as closed:
            received = closed.rcvd
            self.why = f"Slack closed it ({received.code})" if received is not None else "it broke"
        except (OSError, WebSocketException) as error:
            self.why = str(error) or type(error).__name__
        except Exception as error:
            self._put(Failed(error))
        finally:
            self.ended.set()
            with suppress(Exception):
                self._ws.close()

    def _take(self, message: dict[str, Any]) -> None:
        kind, name = message.get("type"), message.get("envelope_id")
        if kind == "disconnect":
            if message.get("reason") == "link_disabled":
                self._put(Failed(SlackFailed("Socket Mode was turned off for the app: turn it on in its settings, or use --http")))
            self.goodbye.set()
        elif isinstance(name, str) and isinstance(message.get("payload"), dict):
            retry = message.get("retry_attempt")
            self._put(
                Arrival(
                    self._line,
                    str(kind),
                    message["payload"],
                    name,
                    retry if isinstance(retry, int) else 0,
                    time.time(),
                    lambda: self._acknowledge(name),
                )
            )

    def _acknowledge(self, name: str) -> None:
        """Where the connection has ended meanwhile, Slack sends it again."""
        with suppress(OSError, WebSocketException):
            self._ws.send(json.dumps({"envelope_id": name}))


def _decoded(text: str | bytes) -> dict[str, Any]:
    """A frame's JSON object; anything else is nothing."""
    try:
        message = json.loads(text)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _quiet_sockets() -> logging.Logger:
    """For websockets, which tells at lower levels what it reads."""
    logger = logging.getLogger("websockets.silent")
    logger.setLevel(logging.CRITICAL + 1)
    return logger


class SocketLine:
    """A place for one connection at a time: when Slack announces its end, the next one is opened before it comes."""

    def __init__(self, name: str, web: Web, put: Put) -> None:
        """`web` is asked with the app's token."""
        self.name = name
        self._web = web
        self._put = put
        self._current: _Connection | None = None
        self._draining: list[tuple[_Connection, float]] = []
        self._drop = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"slack-line-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(5)

    def drop(self) -> None:
        """The connection is of no use: take another one."""
        self._drop.set()

    @property
    def good_until(self) -> float | None:
        """Up to when all that Slack sent on this line was put, seconds; None while it is not connected."""
        current, draining = self._current, list(self._draining)
        if current is None or current.ended.is_set():
            return None
        return min([current.good, *(each.good for each, _ in draining if not each.ended.is_set())])

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._turn()
        except CallStopped:
            pass
        except Exception as error:
            self._put(Failed(error))
        finally:
            for each in [self._current, *(old for old, _ in self._draining)]:
                if each is not None:
                    each.close()

    def _turn(self) -> None:
        current = self._current
        if current is None:
            self._drop.clear()
            self._current = current = self._open()
            if current is not None:
                self._put(Up(self.name, current.asked_at, current.connections))
                current.read()
            return
        self._drain()
        if self._drop.is_set():
            self._current = None
            self._put(Down(self.name, "nothing came over it"))
            current.close()
        elif current.ended.is_set():
            self._current = None
            self._put(Down(self.name, current.why))
        elif current.goodbye.is_set():
            successor = self._open()
            if successor is None:
                return
            if current.ended.is_set():
                self._put(Down(self.name, current.why))
                self._current = successor
                self._put(Up(self.name, successor.asked_at, successor.connections))
            else:
                self._draining.append((current, time.monotonic() + DRAIN))
                self._current = successor
                self._put(Changed(self.name, successor.asked_at))
            successor.read()
        else:
            current.ended.wait(TICK)

    def _drain(self) -> None:
        """Old connections are read to their end, which is a good one only if Slack closed them."""
        for old, until in list(self._draining):
            if old.ended.is_set() or time.monotonic() > until:
                broke = not old.why.startswith("Slack closed")  # what was on its way to it comes late, or not at all
                self._draining.remove((old, until))
                old.close()
                if broke:
                    self._put(Down(self.name, f"an old connection: {old.why or 'it was not closed'}"))
                    if self._current is not None:
                        self._put(Up(self.name, self._current.asked_at, self._current.connections))

    def _open(self) -> _Connection | None:
        """Tries until it works; None at the end."""
        tries = 0
        while not self._closing.is_set():
            try:
                return _Connection(str(self._web.ask("apps.connections.open")["url"]), self.name, self._put)
            except (OSError, WebSocketException, SlackRefused, KeyError) as error:
                log.warning(
                    "a connection to Slack could not be opened", extra={"line": self.name, "why": f"{type(error).__name__}: {error}"}
                )
            self._closing.wait(BACKOFF[min(tries, len(BACKOFF) - 1)])
            tries += 1
        return None


# The Events API over HTTP


class HttpLine:
    """Events that Slack posts to this machine: a line that is up as long as the port is served."""

    name = "http"

    def __init__(self, port: int, host: str, secret: str, put: Put) -> None:
        self._verifier = SignatureVerifier(secret)
        self._put = put
        self._up = threading.Event()
        self._began = time.time()
        self._listener = _listening(host, port)
        self.port = self._listener.getsockname()[1]
        self.refused: Counter[str] = Counter()
        """Requests that were not Slack's, by reason."""

    def start(self) -> None:
        import uvicorn

        config = uvicorn.Config(self._app(), log_level="critical", access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=3)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="slack-http", daemon=True)
        self._thread.start()
        self._up.set()
        self._put(Up(self.name, self._began, 1))

    def close(self) -> None:
        self._up.clear()
        self._server.should_exit = True
        self._thread.join(5)
        self._listener.close()

    def drop(self) -> None:
        """Nothing can be dropped here: Slack is not sending, or not to this address."""
        log.error("Slack's events do not come: check the Request URL and the subscriptions in the app's settings, and the way to this port")
        self._put(Down(self.name, "nothing came over it"))
        self._put(Up(self.name, time.time(), 1))

    @property
    def good_until(self) -> float | None:
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
            payload = _decoded(body)
            if payload.get("type") == "url_verification":
                return JSONResponse({"challenge": payload.get("challenge")})
            return PlainTextResponse(*await self._wait(request.headers, "events_api", payload))

        async def interactions(request: Request) -> Response:
            body = await request.body()
            if why := self._why_not(body, request.headers):
                return PlainTextResponse(why, 401)
            form = parse_qs(body.decode("utf-8", "replace"))
            return PlainTextResponse(*await self._wait(request.headers, "interactive", _decoded((form.get("payload") or [""])[0])))

        return Starlette(
            routes=[
                Route("/slack/events", events, methods=["POST"]),
                Route("/slack/interactions", interactions, methods=["POST"]),
            ]
        )

    def _why_not(self, body: bytes, headers: Mapping[str, str]) -> str:
        """What keeps a request from being Slack's; nothing if it is."""
        try:
            good = self._verifier.is_valid_request(body, dict(headers))
        except ValueError:  # a time that is no number
            good = False
        if good:
            return ""
        self.refused["signature"] += 1
        return "the signature is not Slack's, or older than five minutes"

    async def _wait(self, headers: Mapping[str, str], kind: str, payload: dict[str, Any]) -> tuple[str, int]:
        """200 once it is confirmed; 503, and Slack tries again, where that takes too long."""
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
    """A socket on the port. Raises SlackFailed."""
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        raise SlackFailed(f"--http {port}: the port can't be served on {host}: {error}") from error
