"""Slack's Web API for live ingest."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any, NamedTuple

from slack_sdk.errors import SlackApiError, SlackClientError

from beepgpt.connectors.http import Outbound
from beepgpt.connectors.slack.client import SlackClient, slack_outbound
from beepgpt.connectors.slack.scopes import manifest_of
from beepgpt.errors import AddressRefused, SlackFailed, SlackRefused
from beepgpt.lenient_json import writable

log = logging.getLogger(__name__)
BACKOFF = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before each next try to connect or to call; the last one repeats."""
PAGE = 999
"""Items that Slack is asked for at once: the most that it gives."""
OPEN = "apps.connections.open"
"""The method that opens a connection of Socket Mode, by the app's own token."""
RATE_LIMITED = "rate limited"
NO_CONNECTION = "no connection"
"""How the words begin that `try_once` returns where Slack can't be reached."""
TOO_OLD_TO_ASK = 30.0
"""Seconds for one response of the Web API."""
DEAD = {
    "invalid_auth": "Slack does not know it: copy it again from the app's pages (api.slack.com/apps)",
    "not_authed": "Slack got none: copy it from the app's pages (api.slack.com/apps), and set it",
    "account_inactive": "the app was uninstalled, or its workspace is gone: install it again, and set the new token",
    "token_revoked": "it was revoked: install the app again, and set the new token",
    "token_expired": "it has expired: token rotation is not supported here; turn it off in the app's settings, and install the app again",
    "not_allowed_token_type": "it is of another kind: slack.app_token begins with xapp-, slack.bot_token with xoxb-",
    "org_login_required": "the workspace is being moved to an organization: try again when that is done",
    "team_access_not_granted": "the app has no access to the workspace: have an administrator of the organization grant it",
    "ekm_access_denied": "an administrator of the organization has suspended access to messages",
    "access_denied": "access is denied: ask an administrator of the workspace",
}
"""Slack's error codes for a useless token, and what to do."""


def why_unreachable(error: Exception) -> str:
    """Why a call got no response, in words.

    >>> from urllib.error import URLError
    >>> why_unreachable(URLError(ConnectionRefusedError(111, "Connection refused")))
    'no connection: connection refused'
    """
    reason = getattr(error, "reason", error)
    said = getattr(reason, "strerror", None) or str(reason)
    return f"{NO_CONNECTION}: {said[:1].lower()}{said[1:]}" if isinstance(error, OSError) and said else f"{type(error).__name__}: {error}"


class CallStopped(Exception):
    """Raised in a waiting call when the run is asked to stop."""


@dataclass
class Web:
    """Calls the Web API, from any thread, within Slack's rate limits."""

    token: str = field(repr=False)
    base_url: str
    stopping: threading.Event
    per_minute: int = 50
    """Calls of one method: Slack permits about fifty."""
    called: str = "slack.bot_token"
    """The setting that holds the token, for messages."""
    outbound: Outbound = field(default_factory=slack_outbound)
    limited: int = 0
    """How many calls Slack has rate limited."""

    def __post_init__(self) -> None:
        how: dict[str, Any] = {"timeout": int(TOO_OLD_TO_ASK), "retry_handlers": [], "logger": silent("slack_sdk")}
        self._client = SlackClient(self.token, self.outbound, base_url=self.base_url, **how)
        self._lock = threading.Lock()
        self._asked: dict[str, deque[float]] = {}
        self._not_before: dict[str, float] = {}
        self.calls: Counter[tuple[str, str]] = Counter()
        """Calls by method and result: `ok`, `rate_limited`, `refused` or `unclear`."""
        self.ahead = 0.0
        """Seconds by which this machine's clock is ahead of Slack's, if more than 1; else 0."""

    def ask(self, method: str, *, can_wait: bool = False, **params: Any) -> dict[str, Any]:
        """Call a method, and retry until there is a response. Raises SlackFailed, SlackRefused or CallStopped.

        `can_wait`: it is called at half the rate at most, so that calls are left for what is urgent.
        """
        return self._ask(method, params, self._most(can_wait))[0]

    def _most(self, can_wait: bool) -> int:
        return max(self.per_minute // 2, 1) if can_wait else self.per_minute

    def seconds_for(self, method: str, calls: int, *, can_wait: bool = False) -> float:
        """In how many seconds so many more calls of a method will have been permitted."""
        most, now = self._most(can_wait), time.monotonic()
        with self._lock:
            times = list(self._asked.get(method, ()))
            begin = max(now, self._not_before.get(method, 0.0))
        for _ in range(calls):
            times.append(max(begin, times[-most] + 60 if len(times) >= most else begin))
        return max(times[-1] - now, 0.0) if calls else 0.0

    def _ask(self, method: str, params: Mapping[str, Any], most: int) -> tuple[dict[str, Any], Mapping[str, str]]:
        given = {name: value for name, value in params.items() if value is not None}
        tries = 0
        while True:
            self._wait_for_turn(method, most)
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
            except AddressRefused as error:
                raise SlackFailed(str(error)) from None
            except (SlackClientError, HTTPException, OSError, ValueError) as error:
                why = why_unreachable(error)
            else:
                headers = {name.lower(): value for name, value in response.headers.items()}
                self._compare_clocks(headers.get("date"), began, time.time())
                self._note(method, "ok")
                return dict(writable(response.data)) if isinstance(response.data, dict) else {}, headers
            self._note(method, "unclear")
            log.warning("Slack could not be asked, and is asked again", extra={"method": method, "why": why})
            self.pause(BACKOFF[min(tries, len(BACKOFF) - 1)])
            tries += 1

    def try_once(self, method: str, **params: Any) -> str:
        """Call a method once; returns what went wrong, or nothing. Raises SlackFailed."""
        try:
            response = self._client.api_call(method, data=params)
        except SlackApiError as error:
            status, code, _, data = _error_of(error)
            if status == 429 or code == "ratelimited":
                self.limited += 1
                self._note(method, "rate_limited")
                return RATE_LIMITED
            self._note(method, "refused" if status < 500 else "unclear")
            if code in DEAD or code == "missing_scope":
                raise self._refusal(method, code, data) from None
            return code or f"status {status}"
        except AddressRefused as error:
            raise SlackFailed(str(error)) from None
        except (SlackClientError, HTTPException, OSError, ValueError) as error:
            self._note(method, "unclear")
            return why_unreachable(error)
        self._note(method, "ok")
        now = time.time()
        self._compare_clocks({name.lower(): value for name, value in response.headers.items()}.get("date"), now, now)
        return ""

    def scopes(self) -> tuple[dict[str, Any], set[str]]:
        """The response of `auth.test`, and the token's scopes."""
        data, headers = self._ask("auth.test", {}, self.per_minute)
        return data, {each.strip() for each in str(headers.get("x-oauth-scopes", "")).split(",") if each.strip()}

    def pages(self, method: str, items: str, *, can_wait: bool = False, **params: Any) -> Iterator[dict[str, Any]]:
        """All items of a paged response."""
        cursor: str | None = None
        while True:
            answer = self.ask(method, can_wait=can_wait, **params, cursor=cursor, limit=PAGE)
            yield from answer.get(items) or []
            cursor = (answer.get("response_metadata") or {}).get("next_cursor") or None
            if cursor is None:
                return

    def _refusal(self, method: str, code: str, data: Mapping[str, Any]) -> Exception:
        if code in DEAD:
            return SlackFailed(f"{self.called} is refused ({method}: {code}): {DEAD[code]}")
        if code == "missing_scope" and method != "conversations.info":  # one channel's description may need more than those of others
            if method == OPEN:
                return SlackFailed(
                    f"{self.called} lacks the scope connections:write: generate another with it (the app's Basic Information)"
                )
            needed = str(data.get("needed", ""))
            manifest = manifest_of(is_private="groups:history" in needed)
            return SlackFailed(
                f"{self.called} lacks the scope {needed}, which {method} needs: update the app from {manifest}, and install it again"
            )
        return SlackRefused(method, code)

    def _wait_for_turn(self, method: str, most: int) -> None:
        while True:
            with self._lock:
                now = time.monotonic()
                asked = self._asked.setdefault(method, deque())
                while asked and asked[0] <= now - 60:
                    asked.popleft()
                wait = max(self._not_before.get(method, 0.0) - now, asked[-most] + 60 - now if len(asked) >= most else 0.0)
                if wait <= 0:
                    asked.append(now)
                    return
            self.pause(wait)

    def calls_here(self) -> Counter[tuple[str, str]]:
        """A copy of `calls`, for another thread."""
        with self._lock:
            return Counter(self.calls)

    def _note(self, method: str, result: str) -> None:
        with self._lock:
            self.calls[method, result] += 1

    def _hold(self, method: str, seconds: float) -> None:
        log.info("Slack asks to wait", extra={"method": method, "seconds": seconds})
        with self._lock:
            self._not_before[method] = time.monotonic() + seconds

    def pause(self, seconds: float) -> None:
        """Wait, unless the run is asked to stop. Raises CallStopped."""
        if self.stopping.wait(seconds):
            raise CallStopped

    def _compare_clocks(self, date: str | None, began: float, ended: float) -> None:
        """Update `ahead` by a response's date, which has whole seconds; slow responses are not used."""
        if ended - began > 2:
            return
        with suppress(ValueError, TypeError):
            ahead = (began + ended) / 2 - (parsedate_to_datetime(date or "").timestamp() + 0.5)
            self.ahead = ahead if ahead > 1.0 else 0.0


def _error_of(error: SlackApiError) -> tuple[int, str, Mapping[str, str], Mapping[str, Any]]:
    """Status, error code, headers and body of an error response, as far as it has them."""
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


def silent(library: str) -> logging.Logger:
    """A logger for a library, which would warn of calls that are retried, and log at lower levels what it sends and reads."""
    logger = logging.getLogger(f"{library}.silent")
    logger.setLevel(logging.CRITICAL + 1)
    return logger


class History(NamedTuple):
    """What was read of a channel."""

    messages: list[dict[str, Any]]
    threads: set[str]
    """`ts` of the roots of those threads of which all replies since `replies_since` are among them."""


def history(
    web: Web,
    channel: str,
    *,
    since: str,
    roots_since: str,
    replies_since: str,
    threads: Collection[str] = (),
    is_whole: Callable[[str, int, str], bool] = lambda root, replies, latest: False,
) -> History:
    """Read a channel's roots from `roots_since` on, and replies from `replies_since` on in threads that may have new ones.

    Those are threads of these roots with a reply since `since`, unless `is_whole` says of a thread (its root, how many replies it has
    and the last one) that all of it is known; and `threads`: Slack has no list of recent replies to older roots, so they have to be
    named. Times are Slack's `ts`.
    """
    found: dict[str, dict[str, Any]] = {}
    replied = set(threads)
    for message in web.pages("conversations.history", "messages", channel=channel, oldest=roots_since, inclusive=True):
        ts = str(message.get("ts", ""))
        found[ts] = message
        root, latest, count = message.get("thread_ts"), str(message.get("latest_reply", since)), message.get("reply_count")
        if root == ts:
            if latest >= since and not (isinstance(count, int) and is_whole(ts, count, latest)):
                replied.add(ts)
        elif root is not None and ts >= since:
            replied.add(str(root))
    for root in sorted(replied):
        for message in thread(web, channel, root, since=replies_since):
            found.setdefault(str(message.get("ts", "")), message)
    return History(list(found.values()), replied)


def thread(web: Web, channel: str, root: str, *, since: str, can_wait: bool = False) -> list[dict[str, Any]]:
    """Read the replies of a thread from `since` on; none, if it is there no longer."""
    try:
        found = list(
            web.pages("conversations.replies", "messages", can_wait=can_wait, channel=channel, ts=root, oldest=since, inclusive=True)
        )
    except SlackRefused as refused:
        if refused.code not in ("thread_not_found", "message_not_found"):
            raise
        return []
    return [each for each in found if each.get("ts") != root]  # the root comes with every page
