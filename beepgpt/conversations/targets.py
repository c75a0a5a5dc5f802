"""The three targets: which windows are points, what counts as an answer, and how a point ends (docs/semantics.md, "Points")."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from beepgpt.conversations.account import ANSWERED, CENSORED, ELSEWHERE, MERGED, SILENT, SUPERSEDED
from beepgpt.conversations.events import Event
from beepgpt.conversations.rules import Target
from beepgpt.conversations.state import WHOLE, Conversation, KeptMessage, OpenPoint


class Settlement(NamedTuple):
    """How a point ended, and its answer."""

    how: str
    """The account's row."""
    answer: tuple[str, ...] = ()
    """Who answered, sorted."""
    answer_ts: int | None = None
    """When the first of them did, microseconds; None: there is no answer, or nobody knows when."""


class TargetRules(ABC):
    """Stateless hooks by which a target defines its points and answers. `Channel` calls them."""

    def posted(self, event: Event, joined: list[Conversation], root: KeptMessage | None) -> None:  # noqa: B027 - some targets need none
        """Called when a person posted in the conversations `joined`, whose windows don't hold the post yet.

        `root` is the root of the thread it replies to, if that message is kept.
        """

    def points_of_post(self, joined: list[Conversation]) -> list[Conversation]:
        """The conversations in which a post is a point, out of those it joined."""
        return joined[:1]

    def points_of_change(self, changed: list[Conversation]) -> list[Conversation]:
        """The conversations in which an edit or a deletion is a point, out of those whose windows it changed."""
        return []

    def opened(self, point: OpenPoint, newest: KeptMessage) -> None:
        """Called when a point was opened; `newest` is its window's newest message."""
        newest.open_point = point

    def deleted(self, point: OpenPoint, t: int) -> None:
        """Called when a message of an open point's window was deleted: its example will be retracted as soon as it is written."""
        if point.retracted_ts is None:
            point.retracted_ts = t

    def reacted(  # noqa: B027 - some targets need none
        self, event: Event, message: KeptMessage, conversations: list[Conversation]
    ) -> None:
        """Called when somebody reacted to a message of these conversations."""

    @abstractmethod
    def settle(self, point: OpenPoint) -> Settlement:
        """How an open point ends at the end of its horizon."""


def settled_by(point: OpenPoint, people: set[str], first: int | None) -> Settlement:
    """How a point ends that all these people answered; `first`: when the first of them did, None if nobody knows."""
    if people:
        return Settlement(ANSWERED, tuple(sorted(people)), first)
    return Settlement(SUPERSEDED if point.conversation.last_post > point.t else SILENT)


class NextUser(TargetRules):
    """Who posts next in the conversation, other than the last author. A conversation has one open point, which its next post ends."""

    def posted(self, event: Event, joined: list[Conversation], root: KeptMessage | None) -> None:
        """Count a reply as an answer, given elsewhere, to the session's point whose newest message is the root."""
        waiting = root.open_point if root is not None else None
        if waiting is not None and waiting.point is not None:
            waiting.answered_in_thread |= waiting.point.author != event.user

    def points_of_post(self, joined: list[Conversation]) -> list[Conversation]:
        return joined

    def points_of_change(self, changed: list[Conversation]) -> list[Conversation]:
        return [conversation for conversation in changed if conversation.window]

    def opened(self, point: OpenPoint, newest: KeptMessage) -> None:
        point.conversation.open_point = point
        if not point.conversation.key & 1:  # the same message's point in its thread is ended by the reply itself
            newest.open_point = point

    def deleted(self, point: OpenPoint, t: int) -> None:
        """Do nothing: the deletion supersedes the point, so there will be no example."""

    def settle(self, point: OpenPoint) -> Settlement:
        conversation = point.conversation
        if point.answered_in_thread:
            return Settlement(ELSEWHERE)
        if conversation.key & 1 and not conversation.replied and conversation.key != WHOLE:
            return Settlement(MERGED)  # a thread without a reply: its silence is its session's
        return Settlement(SILENT)


class InteractingUsers(TargetRules):
    """Everybody who posts in the conversation, or reacts to its messages, within the horizon."""

    def posted(self, event: Event, joined: list[Conversation], root: KeptMessage | None) -> None:
        joined[0].add_act(event.t, event.user)

    def reacted(self, event: Event, message: KeptMessage, conversations: list[Conversation]) -> None:
        for conversation in conversations if event.user else ():
            if event.untimed:
                conversation.add_untimed_act(event.ts, event.user)
            else:
                conversation.add_act(event.t, event.user)

    def settle(self, point: OpenPoint) -> Settlement:
        author = point.point.author if point.point is not None else ""
        people: set[str] = set()
        first: int | None = None
        for conversation in point.needs:
            if conversation.last_act is not None:
                for user, t in reversed(conversation.last_act.items()):
                    if t <= point.t:
                        break
                    people.add(user)
            if (acts := conversation.acts) is not None:
                while acts and acts[0][0] <= point.t:
                    acts.popleft()
                t_first = next((t for t, user in acts if user != author), None)
                if t_first is not None and (first is None or t_first < first):
                    first = t_first
            people.update(user for ts, user in conversation.untimed or () if ts >= point.t)
        people.discard(author)
        return settled_by(point, people, first)


class Reactors(TargetRules):
    """Everybody who reacts to the posted message within the horizon."""

    def reacted(self, event: Event, message: KeptMessage, conversations: list[Conversation]) -> None:
        point = message.open_point
        if point is None or event.user == message.message.user or not (event.untimed or event.t > point.t):
            return
        if point.reactors is None:
            point.reactors = {}
        first = point.reactors.get(event.user)
        point.reactors[event.user] = first if first is not None or event.untimed else event.t

    def settle(self, point: OpenPoint) -> Settlement:
        """Leave out a point some of whose reactors have no name: its answer isn't known."""
        reactors = point.reactors or {}
        if "" in reactors:
            return Settlement(CENSORED)
        return settled_by(point, set(reactors), min((t for t in reactors.values() if t is not None), default=None))


TARGETS: dict[Target, TargetRules] = {
    "next_user": NextUser(),
    "interacting_users": InteractingUsers(),
    "reactors": Reactors(),
}
