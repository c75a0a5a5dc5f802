"""What people see in Slack, as Block Kit: an alert, a digest, App Home. Functions from plain values to dicts.

Text of messages is escaped, stands in blocks that Slack is told not to look for names and links in, and is cut short.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from beepgpt.errors import BeepGPTError

MOST_BLOCKS = 100
"""Of a view; a message has 50."""
MOST_TEXT = 3000
LISTED = 20
"""Alerts that App Home and a digest show."""
TOPICS = 10
"""That one person may ask for."""
TOPIC_LENGTH = 150

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
PER_HOUR = (1, 2, 3, 5, 10, 20)

Block = dict[str, Any]


def escaped(text: str) -> str:
    """Text that means nothing to Slack: no tags, and nobody called by it.

    >>> escaped("<!channel> & <@U1> @here")
    '&lt;!channel&gt; &amp; &lt;@U1&gt; @\\u200bhere'
    """
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for name in ("channel", "everyone", "group", "here"):
        plain = plain.replace(f"@{name}", f"@\u200b{name}")
    return plain


def mrkdwn(text: str) -> Block:
    """Slack's own marks, and names and links only where they are written out."""
    return {"type": "mrkdwn", "text": text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…", "verbatim": True}


def plain(text: str) -> Block:
    """Just text."""
    return {"type": "plain_text", "text": text, "emoji": False}


def section(text: str, accessory: Block | None = None) -> Block:
    """A paragraph."""
    return {"type": "section", "text": mrkdwn(text)} | ({} if accessory is None else {"accessory": accessory})


def context(text: str) -> Block:
    """A small grey line."""
    return {"type": "context", "elements": [mrkdwn(text)]}


def feedback(identity: str) -> Block:
    """Whether it was a good idea to tell somebody."""
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
"""`id`, `channel`, `permalink`, `excerpt` (empty: it is gone), `why`."""


def _told(alert: AlertFields) -> str:
    link = alert["permalink"] or ""
    where = f"<#{alert['channel']}>"
    linked = f"<{link}|A conversation>" if link.startswith(("https://", "http://")) else "A conversation"
    head = f"{linked} in {where}"
    quoted = f"\n> {escaped(alert['excerpt'])}" if alert["excerpt"] else "\n> _The message can't be shown any more._"
    return head + quoted


def alert_text(alert: AlertFields) -> str:
    """What a notification shows."""
    return f"You may want to see this: {escaped(alert['excerpt'])}" if alert["excerpt"] else "You may want to see a conversation."


def alert_blocks(alert: AlertFields) -> list[Block]:
    """A direct message about one conversation."""
    return [section(_told(alert)), context(escaped(alert["why"])), feedback(alert["id"])]


def digest_text(alerts: Sequence[AlertFields]) -> str:
    """What a notification shows of a digest: nothing that anybody wrote."""
    return f"{len(alerts)} conversation{'' if len(alerts) == 1 else 's'} you may want to see"


def digest_blocks(alerts: Sequence[AlertFields]) -> list[Block]:
    """A direct message about what was less likely, once a day."""
    blocks = [section(f"*{digest_text(alerts)}*")]
    for alert in alerts[:LISTED]:
        blocks += [section(_told(alert)), context(escaped(alert["why"]))]
    return blocks


# App Home

Home = Mapping[str, Any]
"""`opted_in`, `threshold` (None: the default), `default_threshold`, `per_hour`, `quiet` (minutes: from, to), `zone`, `low`, `muted`,
`topics`, `alerts`; all as they hold."""


def home_view(home: Home, now: Mapping[str, datetime]) -> Block:
    """A person's App Home; `now` has the local time at which each of its alerts was made, by id."""
    blocks: list[Block] = [{"type": "header", "text": plain("Conversations you may want to see")}]
    button = {
        "type": "button",
        "action_id": "opt_out" if home["opted_in"] else "opt_in",
        "text": plain("Turn off" if home["opted_in"] else "Turn on"),
        "value": "off" if home["opted_in"] else "on",
    }
    if home["opted_in"]:
        told = "You are told when a conversation begins that you would probably take part in. Nobody else sees what you are told."
    else:
        told = "This is off. Turn it on to be told when a conversation begins that you would probably take part in."
    blocks.append(section(told, button))
    if home["opted_in"]:
        blocks += [{"type": "divider"}, *_settings(home), {"type": "divider"}, *_topics(home)]
    blocks += [{"type": "divider"}, *_listed(home["alerts"], now)]
    return {"type": "home", "blocks": blocks[:MOST_BLOCKS]}


def _settings(home: Home) -> list[Block]:
    likely = [
        ("default", f"{home['default_threshold']:.0%}, as the model was validated"),
        *((f"{each}", f"{each:.0%}") for each in THRESHOLDS),
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
    return [section("*Topics* you are told of, whoever is likely to answer"), *wanted, ask]


def _listed(alerts: Sequence[AlertFields], now: Mapping[str, datetime]) -> list[Block]:
    if not alerts:
        return [context("Nothing yet: what you are told will stand here, too.")]
    blocks = [section("*What you were told, and what was less likely*")]
    for alert in alerts[:LISTED]:
        how = "by message" if alert["way"] == "direct" else "here only"
        blocks += [section(_told(alert)), context(f"{now[alert['id']]:%d %b, %H:%M}, {how}. {escaped(alert['why'])}")]
    return blocks


def option(value: str, text: str) -> Block:
    """One of several."""
    return {"text": plain(text), "value": value}


def select(action: str, options: Sequence[tuple[str, str]], chosen: str) -> Block:
    """One of several values, each with its text; a chosen one that isn't among them is added."""
    known = list(options) if chosen in dict(options) else [(chosen, chosen), *options]
    given = [option(value, text) for value, text in known]
    return _select(action, given, next(each for each in given if each["value"] == chosen))


def _select(action: str, options: Sequence[Block], chosen: Block) -> Block:
    return {"type": "static_select", "action_id": action, "options": list(options), "initial_option": chosen}


def timepicker(action: str, minute: int) -> Block:
    """A time of the day."""
    return {"type": "timepicker", "action_id": action, "initial_time": f"{minute // 60:02d}:{minute % 60:02d}"}


# What comes back

PreferenceChange = tuple[str, str, Any]
"""Who, what, and the value: `home`, `opted_in`, `threshold`, `per_hour`, `quiet_from`, `quiet_to`, `low`, `muted`, `topic_add`,
`topic_remove`, `feedback`."""


class BadInteraction(BeepGPTError):
    """What came is nothing that Slack sends, or not of ours; the message holds nothing that anybody wrote."""


def wishes_in(payload: Mapping[str, Any]) -> list[PreferenceChange]:
    """What an interaction or an `app_home_opened` event asks for. Raises BadInteraction."""
    try:
        kind = payload.get("type")
        if kind == "event_callback" or kind == "app_home_opened":
            event = payload["event"] if kind == "event_callback" else payload
            if event["type"] != "app_home_opened":
                raise BadInteraction("an event that is none of ours")
            return [(str(event["user"]), "home", None)] if event.get("tab", "home") == "home" else []
        user = str(payload["user"]["id"])
        if kind == "block_actions":
            return [wish for action in payload["actions"] for wish in _wishes(user, action)]
        if kind == "view_submission":
            values = payload["view"]["state"]["values"]
            return [
                wish for block in values.values() for name, action in block.items() for wish in _wishes(user, {"action_id": name, **action})
            ]
    except BadInteraction:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInteraction(f"its form is unknown ({type(error).__name__})") from None
    raise BadInteraction("its type is unknown")


def _wishes(user: str, action: Mapping[str, Any]) -> list[PreferenceChange]:
    name = action["action_id"]
    if name in ("opt_in", "opt_out"):
        return [(user, "opted_in", name == "opt_in")]
    if name == "alert_feedback":
        value, _, identity = str(action["value"]).partition(":")
        if value not in ("good", "bad"):
            raise BadInteraction("a feedback that is neither good nor bad")
        return [(user, "feedback", (identity, value))]
    if name == "muted":
        return [(user, "muted", [str(each) for each in action["selected_conversations"]])]
    if name == "threshold":
        if _chosen(action) == "default":
            return [(user, "threshold", None)]
        threshold = float(_chosen(action))
        if not 0 < threshold <= 1:
            raise BadInteraction("a threshold that is none")
        return [(user, "threshold", threshold)]
    if name == "per_hour":
        per_hour = int(_chosen(action))
        if not 0 <= per_hour <= 1000:
            raise BadInteraction("an hourly limit that is none")
        return [(user, "per_hour", per_hour)]
    if name == "low":
        if (low := _chosen(action)) not in ("list", "digest"):
            raise BadInteraction("a way that is none")
        return [(user, "low", low)]
    if name in ("quiet_from", "quiet_to"):
        hours, _, minutes = str(action["selected_time"]).partition(":")
        minute = int(hours) * 60 + int(minutes)
        if not 0 <= minute < 24 * 60:
            raise BadInteraction("a time that is none")
        return [(user, name, minute)]
    if name == "topic_add":
        words = " ".join(str(action.get("value") or "").split())[:TOPIC_LENGTH]
        return [(user, "topic_add", words)] if words else []
    if name == "topic_remove":
        return [(user, "topic_remove", str(action["value"]))]
    raise BadInteraction("an action that is none of ours")


def _chosen(action: Mapping[str, Any]) -> str:
    return str(action["selected_option"]["value"])
