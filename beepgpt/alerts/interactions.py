"""What people do in Slack, parsed from its payloads: opening App Home, setting preferences, rating alerts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from beepgpt.errors import BeepGPTError

TOPICS = 10
"""Topics that one person may have."""
TOPIC_LENGTH = 150
"""Characters of a topic."""

PreferenceChange = tuple[str, str, Any]
"""User, name and value; names: `home`, `opted_in`, `threshold`, `per_hour`, `quiet_from`, `quiet_to`, `low`, `muted`, `topic_add`,
`topic_remove`, `feedback`."""


class BadInteraction(BeepGPTError):
    """A payload is malformed, or no interaction of this app; the message holds nothing that anybody wrote."""


def preference_changes(payload: Mapping[str, Any]) -> list[PreferenceChange]:
    """The changes that an interaction or an `app_home_opened` event asks for. Raises BadInteraction."""
    try:
        kind = payload.get("type")
        if kind == "event_callback" or kind == "app_home_opened":
            event = payload["event"] if kind == "event_callback" else payload
            if event["type"] != "app_home_opened":
                raise BadInteraction("an event that is not of App Home")
            return [(str(event["user"]), "home", None)] if event.get("tab", "home") == "home" else []
        user = str(payload["user"]["id"])
        if kind == "block_actions":
            return [change for action in payload["actions"] for change in _changes(user, action)]
        if kind == "view_submission":
            values = payload["view"]["state"]["values"]
            return [
                change
                for block in values.values()
                for name, action in block.items()
                for change in _changes(user, {"action_id": name, **action})
            ]
    except BadInteraction:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInteraction(f"its form is unknown ({type(error).__name__})") from None
    raise BadInteraction("its type is unknown")


def _changes(user: str, action: Mapping[str, Any]) -> list[PreferenceChange]:
    name = action["action_id"]
    if name in ("opt_in", "opt_out"):
        return [(user, "opted_in", name == "opt_in")]
    if name == "alert_feedback":
        value, _, identity = str(action["value"]).partition(":")
        if value not in ("good", "bad"):
            raise BadInteraction("a rating that is neither good nor bad")
        return [(user, "feedback", (identity, value))]
    if name == "muted":
        return [(user, "muted", [str(each) for each in action["selected_conversations"]])]
    if name == "threshold":
        if _chosen(action) == "default":
            return [(user, "threshold", None)]
        threshold = float(_chosen(action))
        if not 0 < threshold <= 1:
            raise BadInteraction("a threshold out of range")
        return [(user, "threshold", threshold)]
    if name == "per_hour":
        per_hour = int(_chosen(action))
        if not 0 <= per_hour <= 1000:
            raise BadInteraction("an hourly limit out of range")
        return [(user, "per_hour", per_hour)]
    if name == "low":
        if (low := _chosen(action)) not in ("list", "digest"):
            raise BadInteraction("neither list nor digest")
        return [(user, "low", low)]
    if name in ("quiet_from", "quiet_to"):
        hours, _, minutes = str(action["selected_time"]).partition(":")
        minute = int(hours) * 60 + int(minutes)
        if not 0 <= minute < 24 * 60:
            raise BadInteraction("a time out of range")
        return [(user, name, minute)]
    if name == "topic_add":
        words = " ".join(str(action.get("value") or "").split())[:TOPIC_LENGTH]
        return [(user, "topic_add", words)] if words else []
    if name == "topic_remove":
        return [(user, "topic_remove", str(action["value"]))]
    raise BadInteraction("an unknown action")


def _chosen(action: Mapping[str, Any]) -> str:
    return str(action["selected_option"]["value"])
