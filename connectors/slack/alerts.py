"""Slack's Web API as alerts need it: whom a channel has, direct messages that can be found again, App Home.

The one module that calls slack_sdk to send. What can't be done comes as one of four errors, which tell apart what was certainly not
done from what is in doubt; none of them, and no log, holds what people wrote.
"""

from __future__ import annotations

import http.client
import logging
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError

from beepgpt.connectors.slack.members import SlackPerson
from beepgpt.errors import SlackBusy, SlackError, SlackFailed, SlackRefused, SlackUnclear

SLACK = "https://slack.com/api/"
TIMEOUT = 15
"""Seconds for one request."""
LONGEST_PAUSE = 3600.0
POST = "chat.postMessage"
"""The one method here whose limit is each conversation's own: about a message a second; and the app's, some hundred a minute."""
METADATA = "beepgpt_alert"
"""The event type in a letter's metadata, by which it is found again."""
PAGES = 20
"""Of a conversation's history that are looked through for a letter: it was sent lately, or it isn't there."""
MEMBERS_A_PAGE = 1000

SCOPES = ("channels:read", "chat:write", "groups:read", "im:history", "im:write", "users:read")
"""What the app has to be allowed."""
HOPELESS = {
    "account_inactive", "invalid_auth", "missing_scope", "no_permission", "not_allowed_token_type", "not_authed", "team_access_not_granted",
    "token_expired", "token_revoked", "two_factor_setup_required", "ekm_access_denied",
}  # fmt: skip
"""No alert will get through before somebody mends it."""
RESULTS: dict[type[SlackError], str] = {
    SlackBusy: "rate_limited",
    SlackRefused: "refused",
    SlackUnclear: "unclear",
    SlackFailed: "failed",
}
LATER = {"fatal_error", "internal_error", "request_timeout", "service_unavailable", "team_added_to_org"}
"""Slack does not know either whether it was done."""
_ERROR = re.compile(r"[a-z0-9_]{1,80}")

_silent = logging.getLogger("beepgpt.connectors.slack.alerts.sdk")  # slack_sdk would log what it sent, and what came back
_silent.propagate = False
_silent.addHandler(logging.NullHandler())
_silent.setLevel(logging.CRITICAL)


class SlackMessenger:
    """The few calls, as functions of plain values."""

    def __init__(self, token: str, base_url: str = SLACK, *, timeout: int = TIMEOUT) -> None:
        # No retries by slack_sdk: a message that was sent and not confirmed would be sent twice.
        self._client = WebClient(
            token, base_url=base_url.rstrip("/") + "/", timeout=timeout, retry_handlers=[], logger=_silent, user_agent_prefix="beepgpt"
        )
        self._dms: dict[str, str] = {}
        self.calls: Counter[tuple[str, str]] = Counter()
        """How often each method was called, and what came of it: `ok`, `rate_limited`, `refused`, `unclear` or `failed`."""
        self._not_before: dict[tuple[str, str], float] = {}
        self.place = base_url
        self.team = ""

    def _call(self, method: str, *, json: Mapping[str, Any] | None = None, **params: Any) -> dict[str, Any]:
        return self._answer(method, json, params)[0]

    def _answer(self, method: str, json: Mapping[str, Any] | None, params: Mapping[str, Any]) -> tuple[dict[str, Any], Mapping[str, Any]]:
        channel = str(json["channel"]) if json is not None and method == POST else ""
        if (left := self.pause_of(method, channel)) > 0:
            raise SlackBusy(method, left, was_asked=False)
        try:
            answer = self._asked(method, json, params)
        except SlackError as error:
            self.calls[method, RESULTS[type(error)]] += 1
            if isinstance(error, SlackBusy):
                self._hold(method, channel, error.after)
            raise
        self.calls[method, "ok"] += 1
        return answer

    def pause_of(self, method: str, channel: str = "") -> float:
        """For how many seconds a method is not to be called: at all, or for a conversation."""
        until = max(self._not_before.get((method, each), 0.0) for each in ("", channel))
        return max(until - time.monotonic(), 0.0)

    def _hold(self, method: str, channel: str, seconds: float) -> None:
        """Slack doesn't say whose limit it was: taken for the conversation's at first, and for everybody's when a second one is refused."""
        now = time.monotonic()
        self._not_before = {place: until for place, until in self._not_before.items() if until > now}
        is_everybodys = any(each == method and other != channel for each, other in self._not_before)
        self._not_before[method, "" if is_everybodys else channel] = now + seconds

    def _asked(self, method: str, json: Mapping[str, Any] | None, params: Mapping[str, Any]) -> tuple[dict[str, Any], Mapping[str, Any]]:
        try:
            response = (
                self._client.api_call(method, json=dict(json)) if json is not None else self._client.api_call(method, params=dict(params))
            )
        except SlackApiError as error:
            raise _told(method, error.response) from None
        except (SlackClientError, OSError, http.client.HTTPException, ValueError) as error:
            raise SlackUnclear(f"{method}: {type(error).__name__}") from None
        data = response.data
        if not isinstance(data, dict) or data.get("ok") is not True:
            raise SlackUnclear(f"{method}: no answer that says whether it was done")
        return data, {str(name).lower(): value for name, value in (response.headers or {}).items()}

    def check(self) -> str:
        """Who we are to Slack: the workspace's name. Raises SlackFailed where the token won't do, or lacks a scope."""
        answer, headers = self._answer("auth.test", None, {})
        granted = headers.get("x-oauth-scopes")
        granted = granted[0] if isinstance(granted, list) else granted
        if isinstance(granted, str) and (missing := sorted(set(SCOPES) - {each.strip() for each in granted.split(",")})):
            raise SlackFailed(
                f"the app lacks the scopes {', '.join(missing)}: add them (config/slack-app.yaml has all), and install it anew"
            )
        self.team = str(answer.get("team_id", ""))
        return str(answer.get("team", ""))

    # Who may see what

    def person(self, user: str) -> SlackPerson:
        """Somebody, as Slack knows them now."""
        if not self.team:
            self.check()  # or nobody could be told from a stranger
        who = self._call("users.info", user=user)["user"]
        outside = who.get("is_stranger") or who.get("team_id") != self.team
        limited = who.get("deleted") or who.get("is_bot") or who.get("is_restricted") or who.get("is_ultra_restricted")
        return SlackPerson(not (outside or limited), who.get("tz") or None)

    def may_see(self, user: str, channel: str, person: SlackPerson) -> bool:
        """Whether they are a member of the channel, or a full member where it is public. Raises SlackError when nobody can say."""
        about = self._call("conversations.info", channel=channel)["channel"]
        if about.get("id") not in (None, channel):
            raise SlackRefused("conversations.info", "another_channel")
        is_public = about.get("is_channel") is True and about.get("is_private") is False
        if is_public and person.is_full_member:
            return True
        cursor = ""
        while True:
            answer = self._call("conversations.members", channel=channel, limit=MEMBERS_A_PAGE, cursor=cursor)
            if user in answer["members"]:
                return True
            cursor = (answer.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                return False

    # Letters

    def open_dm(self, user: str) -> str:
        """Our direct messages with somebody."""
        if user not in self._dms:
            self._dms[user] = str(self._call("conversations.open", users=user)["channel"]["id"])
        return self._dms[user]

    def permalink(self, channel: str, ts: str) -> str:
        """Where a message stands."""
        return str(self._call("chat.getPermalink", channel=channel, message_ts=ts)["permalink"])

    def send(self, dm: str, identity: str, text: str, blocks: Sequence[Mapping[str, Any]]) -> str:
        """A letter with its id in its metadata, and nothing of it unfurled. Returns its ts."""
        metadata = {"event_type": METADATA, "event_payload": {"id": identity}}
        how = {"unfurl_links": False, "unfurl_media": False, "link_names": False, "parse": "none"}
        answer = self._call(POST, json={"channel": dm, "text": text, "blocks": list(blocks), "metadata": metadata, **how})
        return str(answer["ts"])

    def find(self, dm: str, identity: str, since: str, until: str | None = None) -> str | None:
        """The ts of a letter that was sent after `since` (and before `until`), if it is there. Raises SlackError when nobody can say."""
        cursor = ""
        span: dict[str, Any] = {"oldest": since} | ({} if until is None else {"latest": until})
        for _ in range(PAGES):
            answer = self._call("conversations.history", channel=dm, **span, include_all_metadata=True, limit=100, cursor=cursor)
            for message in answer["messages"]:
                metadata = message.get("metadata") or {}
                if metadata.get("event_type") == METADATA and (metadata.get("event_payload") or {}).get("id") == identity:
                    return str(message["ts"])
            cursor = (answer.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                return None
        raise SlackUnclear("conversations.history: too much was said since")

    def update(self, dm: str, ts: str, identity: str, text: str, blocks: Sequence[Mapping[str, Any]]) -> None:
        """A letter says something else from now on."""
        metadata = {"event_type": METADATA, "event_payload": {"id": identity}}
        changed = {"channel": dm, "ts": ts, "text": text, "blocks": list(blocks), "metadata": metadata, "parse": "none"}
        self._call("chat.update", json=changed)

    def delete(self, dm: str, ts: str) -> None:
        """A letter is taken back; one that is gone already is as good."""
        try:
            self._call("chat.delete", json={"channel": dm, "ts": ts})
        except SlackRefused as error:
            if error.code != "message_not_found":
                raise

    def publish_home(self, user: str, view: Mapping[str, Any]) -> None:
        """What somebody's App Home shows from now on."""
        self._call("views.publish", json={"user_id": user, "view": dict(view)})


def _told(method: str, response: Any) -> SlackError:
    """Slack's refusal as one of ours."""
    headers = {str(name).lower(): value for name, value in (response.headers or {}).items()}
    data = response.data if isinstance(response.data, dict) else {}
    reason = data.get("error")
    if response.status_code == 429 or reason in ("ratelimited", "rate_limited"):
        return SlackBusy(method, _seconds(headers.get("retry-after")))
    if response.status_code >= 500 or reason in LATER or not isinstance(reason, str) or not _ERROR.fullmatch(reason):
        return SlackUnclear(f"{method}: HTTP {response.status_code}")
    if reason in HOPELESS:
        needs = data.get("needed")
        scope = f" (it needs the scope {needs})" if isinstance(needs, str) and re.fullmatch(r"[a-z:,._ ]{1,200}", needs) else ""
        return SlackFailed(
            f"Slack refuses {method}: {reason}{scope}: check slack.bot_token (BEEPGPT_SLACK__BOT_TOKEN) and the app's scopes, and install"
            " the app anew after changing them"
        )
    return SlackRefused(method, reason)


def _seconds(retry_after: Any) -> float:
    value = retry_after[0] if isinstance(retry_after, list) and retry_after else retry_after
    try:
        return min(max(float(value), 1.0), LONGEST_PAUSE)
    except (TypeError, ValueError):
        return 30.0
