"""Slack's Web API for alerts: members of channels, direct messages that can be found again, App Home; and a webhook.

A failure is one of four errors, which separate what was certainly not done from what is unconfirmed; neither they nor the log hold what
people wrote."""

from __future__ import annotations

import http.client
import logging
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from slack_sdk.errors import SlackApiError, SlackClientError

from beepgpt.connectors.http import Outbound
from beepgpt.connectors.slack.client import SlackClient, slack_outbound
from beepgpt.connectors.slack.members import SlackPerson
from beepgpt.connectors.slack.scopes import ALERTS, manifest_of
from beepgpt.errors import AddressRefused, SlackBusy, SlackError, SlackFailed, SlackRefused, SlackUnclear

SLACK = "https://slack.com/api/"
TIMEOUT = 15
"""Seconds for one request."""
LONGEST_PAUSE = 3600.0
POST = "chat.postMessage"
"""The one method here with a limit for each conversation, about a message a second, beside the app's, some hundred a minute."""
METADATA = "beepgpt_alert"
"""The event type in a direct message's metadata, by which it is found again."""
PAGES = 20
"""Pages of a conversation's history that are searched for a direct message."""
MEMBERS_A_PAGE = 1000

HOPELESS = {
    "account_inactive", "invalid_auth", "missing_scope", "no_permission", "not_allowed_token_type", "not_authed", "team_access_not_granted",
    "token_expired", "token_revoked", "two_factor_setup_required", "ekm_access_denied",
}  # fmt: skip
"""Slack's error codes after which nothing works until somebody mends the app or its token."""
RESULTS: dict[type[SlackError], str] = {SlackBusy: "rate_limited", SlackRefused: "refused", SlackUnclear: "unclear", SlackFailed: "failed"}
LATER = {"fatal_error", "internal_error", "request_timeout", "service_unavailable", "team_added_to_org"}
"""Slack's error codes that leave open whether the request was done."""
_ERROR = re.compile(r"[a-z0-9_]{1,80}")

_silent = logging.getLogger("beepgpt.connectors.slack.alerts.sdk")  # slack_sdk would log what it sent, and what came back
_silent.propagate = False
_silent.addHandler(logging.NullHandler())
_silent.setLevel(logging.CRITICAL)


class MessageIdentity(Protocol):
    """By what a direct message is found again; `keys`, without spaces, say what it shows."""

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def keys(self) -> Sequence[str]: ...


class FoundMessage(NamedTuple):
    """A direct message that was found by its metadata."""

    id: str
    kind: str
    keys: Sequence[str]
    ts: str


def metadata_of(identity: MessageIdentity) -> dict[str, Any]:
    """A direct message's metadata."""
    return {"event_type": METADATA, "event_payload": {"id": identity.id, "kind": identity.kind, "keys": " ".join(identity.keys)}}


def payload_of(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `metadata_of` put into a message; empty for other messages."""
    metadata = message.get("metadata") or {}
    return (metadata.get("event_payload") or {}) if metadata.get("event_type") == METADATA else {}


class SlackMessenger:
    """Calls Slack for alerts. All methods raise SlackError."""

    def __init__(self, token: str, base_url: str = SLACK, *, timeout: int = TIMEOUT, outbound: Outbound | None = None) -> None:
        # No retries by slack_sdk: a message that was sent and not confirmed would be sent twice.
        self._client = SlackClient(
            token,
            outbound or slack_outbound(),
            base_url=base_url.rstrip("/") + "/",
            timeout=timeout,
            retry_handlers=[],
            logger=_silent,
            user_agent_prefix="beepgpt",
        )
        self._dms: dict[str, str] = {}
        self.calls: Counter[tuple[str, str]] = Counter()
        """Calls by method and result: `ok`, `rate_limited`, `refused`, `unclear` or `failed`."""
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
        """Seconds until a method may be called again for a conversation."""
        until = max(self._not_before.get((method, each), 0.0) for each in ("", channel))
        return max(until - time.monotonic(), 0.0)

    def _hold(self, method: str, channel: str, seconds: float) -> None:
        """Pause a method after a refusal: the first counts for its conversation, one of another conversation for the whole app."""
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
            raise _error_of(method, error.response) from None
        except AddressRefused as error:
            raise SlackFailed(str(error)) from None
        except (SlackClientError, OSError, http.client.HTTPException, ValueError) as error:
            raise SlackUnclear(f"{method}: {type(error).__name__}") from None
        data = response.data
        if not isinstance(data, dict) or data.get("ok") is not True:
            raise SlackUnclear(f"{method}: no answer that says whether it was done")
        return data, {str(name).lower(): value for name, value in (response.headers or {}).items()}

    def check(self) -> str:
        """Check the token, and return the workspace's name. Raises SlackFailed if the token is refused, or lacks a scope."""
        answer, headers = self._answer("auth.test", None, {})
        granted = headers.get("x-oauth-scopes")
        granted = granted[0] if isinstance(granted, list) else granted
        if isinstance(granted, str) and (missing := sorted(ALERTS - {each.strip() for each in granted.split(",")})):
            raise SlackFailed(f"the app lacks the scopes {', '.join(missing)}: add them ({manifest_of()} has all), and install it again")
        self.team = str(answer.get("team_id", ""))
        return str(answer.get("team", ""))

    # Who may see what

    def person(self, user: str) -> SlackPerson:
        """Look up a person."""
        if not self.team:
            self.check()  # the team is needed to recognize strangers
        who = self._call("users.info", user=user)["user"]
        outside = who.get("is_stranger") or who.get("team_id") != self.team
        limited = who.get("deleted") or who.get("is_bot") or who.get("is_restricted") or who.get("is_ultra_restricted")
        return SlackPerson(not (outside or limited), who.get("tz") or None, not who.get("deleted"))

    def may_see(self, user: str, channel: str, person: SlackPerson) -> bool:
        """Whether a person is a member of the channel, or a full member of the workspace if the channel is public."""
        about = self._call("conversations.info", channel=channel)["channel"]
        if about.get("id") not in (None, channel):
            raise SlackRefused("conversations.info", "another_channel")
        if not person.is_active:
            return False
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

    # Direct messages

    def open_dm(self, user: str) -> str:
        """The id of the app's direct messages with a person."""
        if user not in self._dms:
            self._dms[user] = str(self._call("conversations.open", users=user)["channel"]["id"])
        return self._dms[user]

    def permalink(self, channel: str, ts: str) -> str:
        """The address of a message."""
        return str(self._call("chat.getPermalink", channel=channel, message_ts=ts)["permalink"])

    def send(self, dm: str, identity: MessageIdentity, text: str, blocks: Sequence[Mapping[str, Any]]) -> str:
        """Send a direct message with `identity` in its metadata, without unfurling links. Returns its ts."""
        how = {"unfurl_links": False, "unfurl_media": False, "link_names": False, "parse": "none"}
        answer = self._call(POST, json={"channel": dm, "text": text, "blocks": list(blocks), "metadata": metadata_of(identity), **how})
        return str(answer["ts"])

    def sent(self, dm: str, since: str) -> list[FoundMessage]:
        """The direct messages since `since` that were sent by `send`, newest first; of very many, only the newest."""
        found: list[FoundMessage] = []
        cursor = ""
        for _ in range(PAGES):
            answer = self._call("conversations.history", channel=dm, oldest=since, include_all_metadata=True, limit=100, cursor=cursor)
            for message in answer["messages"]:
                payload = payload_of(message)
                if isinstance(identity := payload.get("id"), str):
                    kind, keys = str(payload.get("kind", "alert")), str(payload.get("keys", "")).split()
                    found.append(FoundMessage(identity, kind, keys, str(message["ts"])))
            cursor = (answer.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                break
        return found

    def find(self, dm: str, identity: str, since: str, until: str | None = None) -> str | None:
        """The ts of the direct message `identity` between `since` and `until`; None if it is not there.

        Raises SlackUnclear if there are too many messages to search.
        """
        cursor = ""
        span: dict[str, Any] = {"oldest": since} | ({} if until is None else {"latest": until})
        for _ in range(PAGES):
            answer = self._call("conversations.history", channel=dm, **span, include_all_metadata=True, limit=100, cursor=cursor)
            for message in answer["messages"]:
                if payload_of(message).get("id") == identity:
                    return str(message["ts"])
            cursor = (answer.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                return None
        raise SlackUnclear("conversations.history: too much was said since")

    def update(self, dm: str, ts: str, identity: MessageIdentity, text: str, blocks: Sequence[Mapping[str, Any]]) -> None:
        """Replace a direct message's text and blocks."""
        changed = {"channel": dm, "ts": ts, "text": text, "blocks": list(blocks), "metadata": metadata_of(identity), "parse": "none"}
        self._call("chat.update", json=changed)

    def delete(self, dm: str, ts: str) -> None:
        """Delete a direct message; it is no error if it is gone."""
        try:
            self._call("chat.delete", json={"channel": dm, "ts": ts})
        except SlackRefused as error:
            if error.code != "message_not_found":
                raise

    def publish_home(self, user: str, view: Mapping[str, Any]) -> None:
        """Replace a person's App Home."""
        self._call("views.publish", json={"user_id": user, "view": dict(view)})


def _error_of(method: str, response: Any) -> SlackError:
    """Slack's error response as one of our errors."""
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
            " the app again after changing them"
        )
    return SlackRefused(method, reason)


def _seconds(retry_after: Any) -> float:
    value = retry_after[0] if isinstance(retry_after, list) and retry_after else retry_after
    try:
        return min(max(float(value), 1.0), LONGEST_PAUSE)
    except (TypeError, ValueError):
        return 30.0
