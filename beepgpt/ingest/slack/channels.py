"""The channels that the app is in, and which of them are written to the topic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from beepgpt.connectors.slack.channel_kinds import kind_of
from beepgpt.errors import SlackFailed

KINDS = {"channels": "public_channel", "groups": "private_channel", "dms": "im", "mpims": "mpim"}
"""Slack's names for the kinds of channels in exports."""


def channel_of(event: Mapping[str, Any]) -> str | None:
    """The channel of an inner event; None if it concerns none.

    >>> channel_of({"type": "reaction_added", "item": {"type": "message", "channel": "C1", "ts": "1690360253.041239"}})
    'C1'
    """
    item = event.get("item")
    for channel in (event.get("channel"), event.get("channel_id"), item.get("channel") if isinstance(item, dict) else None):
        named = channel.get("id") if isinstance(channel, dict) else channel
        if isinstance(named, str) and named:
            return named
    return None


def check_not_removed(kind: str, event: Mapping[str, Any]) -> None:
    """Raises SlackFailed if an event says that the app was removed."""
    if kind != "app_uninstalled" and not (kind == "tokens_revoked" and (event.get("tokens") or {}).get("bot")):
        return
    raise SlackFailed(
        f"Slack says {kind}: the app was removed from the workspace. Its policy wants the workspace's data deleted within 14"
        " business days (docs/slack.md); to go on, install the app again and set the new token"
    )


class Channels:
    """Descriptions of the channels, and the rules that leave channels out.

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
        """The kinds of channels to list, for `users.conversations`."""
        return ",".join(KINDS[kind] for kind in self._include)

    def add(self, infos: Iterable[Mapping[str, Any]]) -> None:
        """Add channels as the Web API describes them."""
        self._infos |= {str(info["id"]): info for info in infos}

    def wanted(self) -> list[str]:
        """The channels that are written to the topic."""
        return [channel for channel in self._infos if self.why_left_out(channel) is None]

    def why_left_out(self, channel: str, payload: Mapping[str, Any] | None = None) -> str | None:
        """Why a channel's events, or this one, are left out; None if they are written, or if the channel is not known yet."""
        info = self._infos.get(channel)
        kind = "dms" if channel.startswith("D") else None if info is None else kind_of(info)
        if kind is not None and kind not in self._include:
            return kind
        flag = (payload or {}).get("is_ext_shared_channel")
        known = info or {}
        is_shared = flag if isinstance(flag, bool) else known.get("is_ext_shared") or known.get("is_pending_ext_shared")
        return "shared" if is_shared and not self._shared else None
