"""What was said in a workspace, as Slack's Web API and its Events API tell it."""

from __future__ import annotations

import json
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TEAM = "T0TEST"


@dataclass
class ChatWorkspace:
    """What was said, as `conversations.history` tells it, and every event of it, as the Events API would."""

    tell: Callable[[dict[str, Any]], object] = lambda event: None
    """Is handed each inner event as it happens."""
    clock: Callable[[], int] = lambda: time.time_ns() // 1000
    channels: dict[str, dict[str, Any]] = field(default_factory=dict)
    messages: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    """All inner events, in order of their time."""
    members: dict[str, list[str]] = field(default_factory=dict)
    users: list[dict[str, Any]] = field(default_factory=list)
    """As `users.list` describes them."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    _last: int = 0

    def add_channel(self, channel: str, name: str = "", **more: Any) -> str:
        """A channel that the app is in, unless `is_member=False`."""
        self.channels[channel] = {
            "id": channel,
            "name": name or channel.lower(),
            "is_channel": True,
            "is_member": True,
            "is_archived": False,
            "is_private": False,
            "is_im": False,
            "is_mpim": False,
            "is_ext_shared": False,
            "is_shared": False,
            **more,
        }
        self.messages[channel] = {}
        return channel

    def load_export(self, export: Path) -> None:
        """All that an export (a zip) has was said here, too, and the app is in all of its channels."""
        with zipfile.ZipFile(export) as archive:
            contents = {name: json.loads(archive.read(name)) for name in archive.namelist()}
        self.users = contents["users.json"]
        ids = {}
        for each, is_private in [(each, False) for each in contents["channels.json"]] + [(each, True) for each in contents["groups.json"]]:
            ids[each["name"]] = self.add_channel(each["id"], each["name"], is_private=is_private)
            self.members[each["id"]] = each["members"]
        for name, messages in contents.items():
            if "/" in name:
                self.messages[ids[name.partition("/")[0]]] |= {each["ts"]: each for each in messages}

    def now(self) -> str:
        """A time that nothing else has."""
        with self.lock:
            self._last = max(self._last + 1, self.clock())
            return f"{self._last // 1_000_000}.{self._last % 1_000_000:06d}"

    def post(self, channel: str, user: str, text: str, *, thread_ts: str | None = None, **more: Any) -> str:
        """A message; its `ts`."""
        with self.lock:
            ts = self.now()
            stored = {"type": "message", "user": user, "text": text, "ts": ts, "team": TEAM, **more}
            if thread_ts is not None:
                stored["thread_ts"] = thread_ts
                root = self.messages[channel].get(thread_ts)
                if root is not None:
                    root |= {"thread_ts": thread_ts, "reply_count": root.get("reply_count", 0) + 1, "latest_reply": ts}
            self.messages[channel][ts] = stored
            kind = "group" if self.channels[channel]["is_private"] else "channel"
            self._tell(stored | {"channel": channel, "event_ts": ts, "channel_type": kind})
            return ts

    def edit(self, channel: str, ts: str, text: str) -> None:
        """The message reads otherwise from now on."""
        with self.lock:
            at, stored = self.now(), self.messages[channel][ts]
            before = dict(stored)
            stored |= {"text": text, "edited": {"user": stored["user"], "ts": at.partition(".")[0] + ".000000"}}
            changed = {"message": dict(stored), "previous_message": before, "hidden": True}
            self._tell({"type": "message", "subtype": "message_changed", "channel": channel, "ts": at, "event_ts": at, **changed})

    def delete(self, channel: str, ts: str) -> None:
        with self.lock:
            at, before = self.now(), self.messages[channel].pop(ts)
            told = {"deleted_ts": ts, "previous_message": before, "hidden": True}
            self._tell({"type": "message", "subtype": "message_deleted", "channel": channel, "ts": at, "event_ts": at, **told})

    def react(self, channel: str, ts: str, user: str, name: str = "+1") -> None:
        with self.lock:
            at, stored = self.now(), self.messages[channel][ts]
            stored.setdefault("reactions", []).append({"name": name, "users": [user], "count": 1})
            item = {"type": "message", "channel": channel, "ts": ts}
            self._tell({"type": "reaction_added", "user": user, "reaction": name, "item": item, "event_ts": at})

    def _tell(self, event: dict[str, Any]) -> None:
        event = json.loads(json.dumps(event))
        self.events.append(event)
        self.tell(event)
