"""The channels that the app is in, and which of them are for the topic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from beepgpt.errors import SlackFailed

KINDS = {"channels": "public_channel", "groups": "private_channel", "dms": "im", "mpims": "mpim"}
"""What Slack calls the kinds of channels that an export has."""


def channel_of(event: Mapping[str, Any]) -> str | None:
    """The channel that an inner event is about.

    >>> channel_of({"type": "reaction_added", "item": {"type": "message", "channel": "C1", "ts": "1690360253.041239"}})
    'C1'
    """
    item = event.get("item")
    for channel in (event.get("channel"), event.get("channel_id"), item.get("channel") if isinstance(item, dict) else None):
        named = channel.get("id") if isinstance(channel, dict) else channel
        if isinstance(named, str) and named:
            return named
    return None


def check_not_gone(kind: str, event: Mapping[str, Any]) -> None:
    """Raises SlackFailed where an event says that the app was removed."""
    if kind != "app_uninstalled" and not (kind == "tokens_revoked" and (event.get("tokens") or {}).get("bot")):
        return
    raise SlackFailed(
        f"Slack says {kind}: the app was removed from the workspace. Its policy wants the workspace's data deleted within 14"
        " business days (docs/slack.md); to go on, install the app again and set the new token"
    )


def kind_of(info: Mapping[str, Any]) -> str:
    """Of a channel as the Web API tells it, in the words of an export."""
    if info.get("is_im"):
        return "dms"
    if info.get("is_mpim"):
        return "mpims"
    return "groups" if info.get("is_private") or info.get("is_group") else "channels"


class Channels:
    """What is known of each channel.

    >>> channels = Channels(include=("channels",), shared=False)
    >>> channels.add([{"id": "C1"}, {"id": "C2", "is_private": True}])
    >>> channels.wanted(), channels.why_left_out("C2")
    (['C1'], 'groups')
    """

    def __init__(self, include: Iterable[str], shared: bool) -> None:
        self._include = tuple(include)
        self._shared = shared
        self._infos: dict[str, Mapping[str, Any]] = {}

    def __contains__(self, channel: str) -> bool:
        return channel in self._infos

    def __len__(self) -> int:
        return len(self._infos)

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    @property
    def types(self) -> str:
        """Those that are to be listed, as the Web API wants it."""
        return ",".join(KINDS[kind] for kind in self._include)

    def add(self, infos: Iterable[Mapping[str, Any]]) -> None:
        """As the Web API tells them."""
        self._infos |= {str(info["id"]): info for info in infos}

    def wanted(self) -> list[str]:
        """Those that are for the topic."""
        return [channel for channel in self._infos if self.why_left_out(channel) is None]

    def why_left_out(self, channel: str, payload: Mapping[str, Any] | None = None) -> str | None:
        """Why its events, or this one, are not for the topic; None if they are, or if it is not known yet what it is."""
        info = self._infos.get(channel)
        kind = "dms" if channel.startswith("D") else None if info is None else kind_of(info)
        if kind is not None and kind not in self._include:
            return kind
        told = (payload or {}).get("is_ext_shared_channel")
        known = info or {}
        is_shared = told if isinstance(told, bool) else known.get("is_ext_shared") or known.get("is_pending_ext_shared")
        return "shared" if is_shared and not self._shared else None
