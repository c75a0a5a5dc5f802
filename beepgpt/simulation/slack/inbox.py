"""The direct messages about conversations that a simulated Slack got, as values for a page."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from beepgpt.simulation.slack.alerts_api import AlertedWorkspace

HEAD = re.compile(r"in <#(\w+)>\n> (.*)", re.DOTALL)
"""Of an alert: its channel, and what it quotes."""
NAME = re.compile(r"<@(U\w+)>|\b(U[0-9A-V]{10})\b")


class SimulatedMessage(NamedTuple):
    """A direct message with an alert, as it stands."""

    at: float
    """Seconds since 1970."""
    to: str
    """A person's name."""
    channel: str
    """A channel's name."""
    excerpt: str
    why: str
    alert: str
    """The alert's id."""


def inbox(alerted: AlertedWorkspace, channels: Mapping[str, Mapping[str, Any]]) -> list[SimulatedMessage]:
    """All of them, the newest first. `channels`: their descriptions, by id."""
    with alerted.lock:
        names = {user: str(each.get("real_name", user)) for user, each in alerted.users.items()}
        found = [each for dm, messages in alerted.dms.items() for each in _messages(dm, messages, names, channels)]
    return sorted(found, reverse=True)


def _messages(
    dm: str, messages: list[dict[str, Any]], names: Mapping[str, str], channels: Mapping[str, Mapping[str, Any]]
) -> Iterator[SimulatedMessage]:
    for message in messages:
        section, why, *rest = message["blocks"]
        if rest and (head := HEAD.search(section["text"]["text"])) is not None:  # a digest has no buttons
            excerpt = NAME.sub(lambda name: names.get(name[1] or name[2], name[0]), html.unescape(head[2]))
            alert = rest[-1]["elements"][0]["positive_button"]["value"].partition(":")[2]
            words = html.unescape(why["elements"][0]["text"])
            yield SimulatedMessage(float(message["ts"]), names[dm.removeprefix("D")], str(channels[head[1]]["name"]), excerpt, words, alert)
