"""What people see in Slack, as Block Kit (an alert, a digest, App Home), and what they do there, parsed from Slack's payloads.

Text that people wrote is escaped, cut short, and marked `verbatim`, so that Slack turns no names or addresses in it into links.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from beepgpt.errors import BeepGPTError
from beepgpt.figures import percent

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


MOST_BLOCKS = 100
"""In a view, at most; a message may have 50."""
MOST_TEXT = 3000
"""Characters of one text object, at most."""
LISTED = 20
"""Alerts in App Home and in a digest, at most."""

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
PER_HOUR = (1, 2, 3, 5, 10, 20)

Block = dict[str, Any]


def escaped(text: str) -> str:
    """Escape a text, so that Slack finds no tags in it and notifies nobody.

    >>> escaped("<!channel> & <@U1> @here")
    '&lt;!channel&gt; &amp; &lt;@U1&gt; @\\u200bhere'
    """
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for name in ("channel", "everyone", "group", "here"):
        plain = plain.replace(f"@{name}", f"@\u200b{name}")
    return plain


def mrkdwn(text: str) -> Block:
    """A text in Slack's markup; only links and names that are written out as such become ones."""
    return {"type": "mrkdwn", "text": text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…", "verbatim": True}


def plain(text: str) -> Block:
    """A plain text object."""
    return {"type": "plain_text", "text": text, "emoji": False}


def section(text: str, accessory: Block | None = None) -> Block:
    """A section block."""
    return {"type": "section", "text": mrkdwn(text)} | ({} if accessory is None else {"accessory": accessory})


def context(text: str) -> Block:
    """A context block: a small gray line."""
    return {"type": "context", "elements": [mrkdwn(text)]}


def feedback(identity: str) -> Block:
    """Two buttons below an alert, to rate it."""
    return {
        "type": "context_actions",
        "elements": [
            {
                "type": "feedback_buttons",
                "action_id": "alert_feedback",
                "positive_button": {"text": plain("Good to know"), "value": f"good:{identity}"},
                "negative_button": {"text": plain("Not for me"), "value": f"bad:{identity}"},
            }
        ],
    }


AlertFields = Mapping[str, Any]
"""A row of the alert store: `id`, `channel`, `permalink`, `excerpt` (empty: it may not be shown any more), `why`."""


def _linked_excerpt(alert: AlertFields) -> str:
    link = alert["permalink"] or ""
    where = f"<#{alert['channel']}>"
    linked = f"<{link}|A conversation>" if link.startswith(("https://", "http://")) else "A conversation"
    head = f"{linked} in {where}"
    quoted = f"\n> {escaped(alert['excerpt'])}" if alert["excerpt"] else "\n> _Its text is no longer shown here._"
    return head + quoted


def alert_text(alert: AlertFields) -> str:
    """The notification of an alert."""
    return f"You may want to see this: {escaped(alert['excerpt'])}" if alert["excerpt"] else "You may want to see a conversation."


def alert_blocks(alert: AlertFields) -> list[Block]:
    """The blocks of a DM about one conversation."""
    return [section(_linked_excerpt(alert)), context(escaped(alert["why"])), feedback(alert["id"])]


def digest_text(alerts: Sequence[AlertFields]) -> str:
    """The notification of a digest: nothing that anybody wrote."""
    return f"{len(alerts)} conversation{'' if len(alerts) == 1 else 's'} you may want to see"


def digest_blocks(alerts: Sequence[AlertFields]) -> list[Block]:
    """The blocks of the daily DM about less likely conversations."""
    blocks = [section(f"*{digest_text(alerts)}*")]
    for alert in alerts[:LISTED]:
        blocks += [section(_linked_excerpt(alert)), context(escaped(alert["why"]))]
    return blocks


# App Home

Home = Mapping[str, Any]
"""What an App Home shows, preferences filled up with the policy's: `opted_in`, `threshold` (None: the default), `default_threshold`,
`per_hour`, `quiet` (minutes: from, to), `zone`, `low`, `muted`, `topics`, `alerts`."""


def home_view(home: Home, times: Mapping[str, datetime]) -> Block:
    """The view of a person's App Home; `times`: when each of its alerts was made, in local time, by id."""
    blocks: list[Block] = [{"type": "header", "text": plain("Conversations you may want to see")}]
    button = {
        "type": "button",
        "action_id": "opt_out" if home["opted_in"] else "opt_in",
        "text": plain("Turn off" if home["opted_in"] else "Turn on"),
        "value": "off" if home["opted_in"] else "on",
    }
    if home["opted_in"]:
        text = "You get an alert when a conversation begins that you would probably take part in. Nobody else sees your alerts."
    else:
        text = "This is off. Turn it on to get an alert when a conversation begins that you would probably take part in."
    blocks.append(section(text, button))
    if home["opted_in"]:
        blocks += [{"type": "divider"}, *_settings(home), {"type": "divider"}, *_topics(home)]
    blocks += [{"type": "divider"}, *_listed(home["alerts"], times)]
    return {"type": "home", "blocks": blocks[:MOST_BLOCKS]}


def _settings(home: Home) -> list[Block]:
    likely = [
        ("default", f"{percent(home['default_threshold'])}, as the model was validated"),
        *((f"{each}", percent(each)) for each in THRESHOLDS),
    ]
    threshold = "default" if home["threshold"] is None else f"{home['threshold']:g}"
    limits = [(f"{each}", f"{each}") for each in PER_HOUR]
    begin, end = home["quiet"]
    listed = option("list", "show them here, in silence")
    digest = option("digest", "send one message a day")
    muted = {"type": "multi_conversations_select", "action_id": "muted", "placeholder": plain("No channel")}
    if home["muted"]:
        muted["initial_conversations"] = sorted(home["muted"])
    muted["filter"] = {"include": ["public", "private"], "exclude_bot_users": True}
    return [
        section("*How likely* it has to be that you answer", select("threshold", likely, threshold)),
        section("*At most* so many messages an hour", select("per_hour", limits, f"{home['per_hour']}")),
        section("*What is less likely*", _select("low", [listed, digest], digest if home["low"] == "digest" else listed)),
        section("*Never* about these channels", muted),
        section(f"*Quiet hours* ({escaped(home['zone'])}); the same time twice for none"),
        {"type": "actions", "elements": [timepicker("quiet_from", begin), timepicker("quiet_to", end)]},
    ]


def _topics(home: Home) -> list[Block]:
    remove = plain("Remove")
    wanted = [
        section(escaped(words), {"type": "button", "action_id": "topic_remove", "text": remove, "value": words})
        for words in home["topics"][:TOPICS]
    ]
    ask = {
        "type": "input",
        "block_id": f"topics_{len(home['topics'])}",  # a new block, so that the field is empty again
        "dispatch_action": True,
        "optional": True,
        "label": plain("Tell me about"),
        "element": {
            "type": "plain_text_input",
            "action_id": "topic_add",
            "max_length": TOPIC_LENGTH,
            "placeholder": plain("Kafka upgrades"),
            "dispatch_action_config": {"trigger_actions_on": ["on_enter_pressed"]},
        },
    }
    return [section("*Topics* you get alerts about, even if you are unlikely to answer"), *wanted, ask]


def _listed(alerts: Sequence[AlertFields], times: Mapping[str, datetime]) -> list[Block]:
    if not alerts:
        return [context("Nothing yet: your alerts will be listed here, too.")]
    blocks = [section("*Your alerts, and what was less likely*")]
    for alert in alerts[:LISTED]:
        how = "by message" if alert["way"] == "direct" else "here only"
        blocks += [section(_linked_excerpt(alert)), context(f"{times[alert['id']]:%d %b, %H:%M}, {how}. {escaped(alert['why'])}")]
    return blocks


def option(value: str, text: str) -> Block:
    """An option of a menu."""
    return {"text": plain(text), "value": value}


def select(action: str, options: Sequence[tuple[str, str]], chosen: str) -> Block:
    """A menu of values with their texts; a chosen value that isn't among them is added."""
    known = list(options) if chosen in dict(options) else [(chosen, chosen), *options]
    choices = [option(value, text) for value, text in known]
    return _select(action, choices, next(each for each in choices if each["value"] == chosen))


def _select(action: str, options: Sequence[Block], chosen: Block) -> Block:
    return {"type": "static_select", "action_id": action, "options": list(options), "initial_option": chosen}


def timepicker(action: str, minute: int) -> Block:
    """A time picker; `minute`: minutes since midnight."""
    return {"type": "timepicker", "action_id": action, "initial_time": f"{minute // 60:02d}:{minute % 60:02d}"}
