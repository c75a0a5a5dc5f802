"""What alerts need of clients, as Protocols: who may see which channel, and Slack. They raise `SlackError`s of `beepgpt.errors`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

POST = "chat.postMessage"
"""The method behind `Messenger.send`. Its rate limit is each conversation's own (about one message a second) and the app's."""


class Person(Protocol):
    """A person, as a source of members knows them."""

    @property
    def zone(self) -> str | None:
        """Their time zone, if it is known."""


class Members(Protocol):
    """Who may see a channel, and where people are."""

    def person(self, user: str) -> Person:
        """Look a person up."""

    def may_see(self, user: str, channel: str, person: Any) -> bool:
        """Whether a person, as `person` returned them, may see a channel."""


class Messenger(Protocol):
    """Slack's Web API, as far as alerts call it. Texts of `ts` are Slack's."""

    def open_dm(self, user: str) -> str:
        """Open the app's DM conversation with a person, and return its id."""

    def permalink(self, channel: str, ts: str) -> str:
        """The address of a message."""

    def send(self, dm: str, identity: str, text: str, blocks: Sequence[Mapping[str, Any]]) -> str:
        """Post a message that can be found again by `identity`, and return its `ts`."""

    def find(self, dm: str, identity: str, since: str, until: str | None = None) -> str | None:
        """The `ts` of a message posted with `identity`, if it is in the conversation."""

    def update(self, dm: str, ts: str, identity: str, text: str, blocks: Sequence[Mapping[str, Any]]) -> None:
        """Replace a message's content."""

    def delete(self, dm: str, ts: str) -> None:
        """Delete a message; one that is gone already is no error."""

    def publish_home(self, user: str, view: Mapping[str, Any]) -> None:
        """Publish a person's App Home."""

    def pause_of(self, method: str, channel: str = "") -> float:
        """Seconds for which a method must not be called: at all, or for a conversation."""
