"""What delivery needs of clients, as Protocols: who may see which channel, and Slack. They raise `SlackError`s of `beepgpt.errors`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

POST = "chat.postMessage"
"""The method behind `Messenger.send`. Its rate limit is each conversation's own (about one message a second) and the app's."""


class Recipient(Protocol):
    """A person who may be alerted."""

    @property
    def zone(self) -> str | None: ...


class Members(Protocol):
    """Looks people up, and knows whether a person, as `person` returned them, may see a channel."""

    def person(self, user: str) -> Recipient: ...
    def may_see(self, user: str, channel: str, person: Any) -> bool: ...


class Messenger(Protocol):
    """The calls of Slack's Web API that delivery makes. `send` posts a message under an id, by which `find` returns its `ts`.

    `pause_of` returns the seconds for which a method must not be called: at all, or for a conversation.
    """

    def open_dm(self, user: str) -> str: ...
    def permalink(self, channel: str, ts: str) -> str: ...
    def send(self, dm: str, identity: str, text: str, blocks: Sequence[Mapping[str, Any]]) -> str: ...
    def find(self, dm: str, identity: str, since: str, until: str | None = None) -> str | None: ...
    def update(self, dm: str, ts: str, identity: str, text: str, blocks: Sequence[Mapping[str, Any]]) -> None: ...
    def delete(self, dm: str, ts: str) -> None: ...
    def publish_home(self, user: str, view: Mapping[str, Any]) -> None: ...
    def pause_of(self, method: str, channel: str = "") -> float: ...
