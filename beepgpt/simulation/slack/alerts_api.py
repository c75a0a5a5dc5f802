"""The part of Slack's Web API that alerts use: who is there and where, and the direct messages that they got. It checks blocks."""

from __future__ import annotations

import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

TEAM = "T1"
SCOPES = "channels:read,chat:write,groups:read,im:history,im:write,users:read,views:write"

Fault = str


@dataclass
class Called:
    """One request, as the server saw it."""

    method: str
    args: dict[str, Any]
    at: float
    fault: Fault | None


@dataclass
class AlertedWorkspace:
    """Who is there, and where."""

    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    channels: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By id: `private`, `members`, `archived`, a flag that Slack `hides`, and how it `answers`: `gone`, or as if for an`other` channel."""
    missing: set[tuple[str, str]] = field(default_factory=set)
    """Messages that no longer are."""
    dms: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    homes: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: dict[str, list[Fault | None]] = field(default_factory=dict)
    """By method, or `method:channel`: for its first request, the second, and so on; then none."""
    scopes: str = SCOPES
    called: list[Called] = field(default_factory=list)
    too_fast: int = 0
    """Messages to one conversation within a second of the last."""
    bad_blocks: list[str] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    arrived: threading.Event = field(default_factory=threading.Event)
    """A chat.postMessage has come."""
    last: dict[str, float] = field(default_factory=dict)
    posts: int = 0
    clock: Callable[[], float] = time.time
    """Seconds since 1970: what is posted is stamped with it."""
    url: str = ""

    def user(self, name: str, **more: Any) -> str:
        """A full member, unless it is said otherwise."""
        self.users[name] = {"id": name, "team_id": TEAM, "tz": "Etc/UTC", "deleted": False, "is_bot": False, **more}
        return name

    def channel(self, name: str, *members: str, private: bool = False) -> str:
        """A channel."""
        self.channels[name] = {"private": private, "members": list(members)}
        return name

    def sent_to(self, user: str) -> list[dict[str, Any]]:
        """The messages in our conversation with somebody, as they stand."""
        return self.dms[f"D{user}"]

    def calls(self, method: str) -> list[Called]:
        """Of one method."""
        return [each for each in self.called if each.method == method]


class Refused(Exception):
    """`ok: false`."""


def answer(space: AlertedWorkspace, method: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """What Slack says. Raises Refused."""
    if method == "auth.test":
        return {"team": "Acme", "team_id": TEAM, "user_id": "UBOT", "bot_id": "B1"}
    if method == "users.info":
        if args["user"] not in space.users:
            raise Refused("user_not_found")
        return {"user": space.users[args["user"]]}
    if method in ("conversations.info", "conversations.members"):
        channel = space.channels.get(args["channel"])
        if channel is None or channel.get("answers") == "gone":
            raise Refused("channel_not_found")
        if method == "conversations.info":
            identity = "COTHER" if channel.get("answers") == "other" else args["channel"]
            flags = {"is_channel": True, "is_private": channel["private"], "is_archived": channel.get("archived", False)}
            flags.pop(channel.get("hides", ""), None)
            return {"channel": {"id": identity, **flags}}
        begin = int(args.get("cursor") or 0)
        page = channel["members"][begin : begin + 2]  # small pages, so that there are several
        more = str(begin + 2) if begin + 2 < len(channel["members"]) else ""
        return {"members": page, "response_metadata": {"next_cursor": more}}
    if method == "conversations.open":
        if args["users"] not in space.users:
            raise Refused("user_not_found")
        return {"channel": {"id": f"D{args['users']}"}}
    if method == "chat.getPermalink":
        if (args["channel"], args["message_ts"]) in space.missing:
            raise Refused("message_not_found")
        return {"permalink": f"https://acme.slack.com/archives/{args['channel']}/p{args['message_ts'].replace('.', '')}"}
    if method == "chat.postMessage":
        return post(space, args)
    if method in ("chat.update", "chat.delete"):
        found = next((each for each in space.dms[args["channel"]] if each["ts"] == args["ts"]), None)
        if found is None:
            raise Refused("message_not_found")
        if method == "chat.delete":
            space.dms[args["channel"]].remove(found)
        else:
            check(space, args["blocks"], 50)
            found.update({name: args[name] for name in ("text", "blocks", "metadata") if name in args})
        return {"ts": args["ts"]}
    if method == "conversations.history":
        oldest, latest = args.get("oldest", "0"), args.get("latest", "9")
        messages = [each for each in reversed(space.dms[args["channel"]]) if oldest < each["ts"] < latest]
        if args.get("include_all_metadata") not in ("1", True):
            messages = [{name: value for name, value in each.items() if name != "metadata"} for each in messages]
        return {"messages": messages, "has_more": False}
    if method == "views.publish":
        check(space, args["view"]["blocks"], 100)
        space.homes[args["user_id"]] = args["view"]
        return {}
    raise Refused("unknown_method")


def post(space: AlertedWorkspace, args: Mapping[str, Any]) -> dict[str, Any]:
    """A message, at most one a second in a conversation."""
    channel = args["channel"]
    if not re.fullmatch(r"[CD]\w+", channel):
        raise Refused("channel_not_found")
    check(space, args["blocks"], 50)
    if len(args["text"]) > 40_000:
        raise Refused("msg_too_long")
    if args.get("unfurl_links") is not False or args.get("unfurl_media") is not False:
        raise Refused("test_it_would_be_unfurled")
    metadata = args["metadata"]
    if not isinstance(metadata["event_type"], str) or not isinstance(metadata["event_payload"], dict):
        raise Refused("invalid_metadata_format")
    space.posts += 1
    ts = f"{int(space.clock())}.{space.posts:06d}"
    space.dms[channel].append({"ts": ts, "user": "UBOT", "text": args["text"], "blocks": args["blocks"], "metadata": metadata})
    return {"ts": ts, "channel": channel}


# Block Kit, as far as its limits and required fields go

TEXT_LIMITS = {"section": 3000, "header": 150, "context": 3000}


def check(space: AlertedWorkspace, blocks: Any, most: int) -> None:
    """Raises Refused for what Slack would not take."""
    problems = list(problems_of(blocks, most))
    if problems:
        space.bad_blocks += problems
        raise Refused("invalid_blocks")


def problems_of(blocks: Any, most: int) -> Iterator[str]:
    """All that is wrong."""
    if not isinstance(blocks, list) or not blocks or len(blocks) > most:
        yield f"{len(blocks) if isinstance(blocks, list) else blocks!r} blocks"
        return
    ids = [each["block_id"] for each in blocks if "block_id" in each]
    if len(ids) != len(set(ids)):
        yield "a block_id twice"
    for each in blocks:
        kind = each["type"]
        if kind in ("section", "header"):
            yield from text_problems(each["text"], TEXT_LIMITS[kind], marks=kind == "section")
            if "accessory" in each:
                yield from element_problems(each["accessory"])
        elif kind == "context":
            for element in each["elements"]:
                yield from text_problems(element, 3000, marks=True)
        elif kind == "actions":
            for element in each["elements"]:
                yield from element_problems(element)
        elif kind == "input":
            yield from text_problems(each["label"], 2000, marks=False)
            yield from element_problems(each["element"])
        elif kind == "context_actions":
            for element in each["elements"]:
                if element["type"] != "feedback_buttons":
                    yield f"{element['type']} in context_actions"
                for button in ("positive_button", "negative_button"):
                    yield from text_problems(element[button]["text"], 75, marks=False)
                    if not 0 < len(element[button]["value"]) <= 2000:
                        yield "a value's length"
        elif kind != "divider":
            yield f"a block {kind}"


def text_problems(text: Any, limit: int, *, marks: bool) -> Iterator[str]:
    """A text object."""
    if text["type"] not in (("mrkdwn", "plain_text") if marks else ("plain_text",)):
        yield f"a text {text['type']}"
    if not 0 < len(text["text"]) <= limit:
        yield f"a text of {len(text['text'])} characters"
    if text["type"] == "mrkdwn" and "emoji" in text:
        yield "emoji in mrkdwn"
    if text["type"] == "plain_text" and "verbatim" in text:
        yield "verbatim in plain_text"
    if re.search(r"<!|<@", text["text"]):
        yield "somebody is called"


def element_problems(element: Mapping[str, Any]) -> Iterator[str]:
    """Something that can be used."""
    kind = element["type"]
    if not 0 < len(element["action_id"]) <= 255:
        yield "an action_id's length"
    if kind == "button":
        yield from text_problems(element["text"], 75, marks=False)
        if len(element["value"]) > 2000:
            yield "a button's value"
    elif kind == "static_select":
        if not 0 < len(element["options"]) <= 100 or element["initial_option"] not in element["options"]:
            yield "a select's options"
        for each in element["options"]:
            yield from text_problems(each["text"], 75, marks=False)
            if not 0 < len(each["value"]) <= 150:
                yield "an option's value"
    elif kind == "timepicker":
        if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", element["initial_time"]):
            yield "a time"
    elif kind == "multi_conversations_select":
        if element.get("initial_conversations") == []:
            yield "no initial conversations"
    elif kind == "plain_text_input":
        if not 0 < element["max_length"] <= 3000:
            yield "a max_length"
    else:
        yield f"an element {kind}"
