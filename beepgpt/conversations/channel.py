"""One channel: its conversations, its open points, its people.

`Channel.apply` takes events in the order of docs/semantics.md and returns nothing: what they settle goes to an `Output`. It knows no
clock but the events' own times. What the three targets do differently is in targets.py.
"""

from __future__ import annotations

from array import array
from collections import deque
from itertools import takewhile
from operator import attrgetter
from typing import Any

from beepgpt.conversations.account import (
    ANSWERED,
    APPLIED,
    BEFORE_FROM,
    BEFORE_START,
    CENSORED,
    EMITTED,
    EMPTY,
    EXAMPLE_ENDS,
    EXAMPLES,
    MOVED,
    POINTS,
    RETRACTIONS,
    SUPERSEDED,
    TOGETHER,
    UNKNOWN_MESSAGE,
    WITHHELD,
    Account,
)
from beepgpt.conversations.events import DELETE, EDIT, MOVE, POST, Event
from beepgpt.conversations.examples import (
    ExampleDraft,
    Message,
    Point,
    example_id,
    is_empty,
    is_withheld,
    retraction_bytes,
)
from beepgpt.conversations.features import Lineup, People
from beepgpt.conversations.output import DRAFTS, Output
from beepgpt.conversations.points import MessageDeleted, PointDraft, PointEmitted, PointLog, PointSettled, point_id
from beepgpt.conversations.rules import DAY, Rules
from beepgpt.conversations.state import (
    WHOLE,
    Conversation,
    KeptMessage,
    MessageIndex,
    OpenPoint,
    conversation_id,
    session_key,
    thread_key,
)
from beepgpt.conversations.targets import TARGETS, Settlement
from beepgpt.conversations.tokens import Encoding

SWEEP_EVERY = 512
SWEEP_AFTER = DAY
"""Applied events, or time, between two looks for what can be forgotten: they decide how soon memory is free, not what is forgotten."""

FOREVER = 1 << 62


_STATE = (
    "_last_sweep", "_since_sweep", "conversations", "id", "kept", "last_root",
    "open_points", "people", "roots", "session", "written",
)  # fmt: skip
"""The fields of a channel that a snapshot keeps: all but its rules and encoding, which belong to the run."""


class Channel:
    """One channel: events in, examples out."""

    __slots__ = (*_STATE, "encoding", "rules", "target")

    def __init__(self, channel: str, rules: Rules, encoding: Encoding) -> None:
        self.id = channel
        self.rules = rules
        self.encoding = encoding
        self.target = TARGETS[rules.target]
        self.conversations: dict[int, Conversation] = {}
        self.kept: dict[int, KeptMessage] = {}
        """Messages by ts."""
        self.people = People(rules.kept_people)
        self.session = -2
        """Key of the current session; before the first, one that no session has."""
        self.last_root = -FOREVER
        self.roots: array[int] = array("q")
        """The newest `kept_roots` roots: a number each and no object, since a quiet channel has all of them for years."""
        self.open_points: deque[OpenPoint] = deque()
        """In the order of their times, and so of their horizons' ends. A settled one stays until it comes to the front, or a sweep."""
        self.written = MessageIndex(rules.window)
        """Examples that can still be retracted, by when they settled."""
        self._since_sweep = 0
        self._last_sweep = 0

    def state(self) -> tuple[Any, ...]:
        """The fields that a snapshot keeps, in the order of `_STATE`."""
        values: tuple[Any, ...] = attrgetter(*_STATE)(self)
        return values

    def restore(self, state: tuple[Any, ...]) -> None:
        """Take over another channel's `state()`."""
        for name, value in zip(_STATE, state, strict=True):
            setattr(self, name, value)

    # Time

    def apply(self, event: Event, output: Output) -> None:
        """Let one event take effect. Events come in order, each once."""
        t = event.t
        self.close(t, output)
        self.people.advance(t)
        self._since_sweep += 1
        if self._since_sweep >= SWEEP_EVERY or t - self._last_sweep >= SWEEP_AFTER:
            self._sweep(t)
        self.written.forget_before(t - self.rules.remember)
        if event.kind == POST:
            self._post(event, output)
        elif event.kind == EDIT:
            self._edit(event, output)
        elif event.kind == DELETE:
            self._delete(event, output)
        elif event.kind == MOVE:
            output.account.count(APPLIED)
            self.end(t, output, MOVED)
        else:
            self._react(event, output)

    def next_end(self) -> int:
        """When the first open horizon ends; FOREVER if none does."""
        horizon = self.rules.horizon
        while self.open_points and not self.open_points[0].is_open:
            self.open_points.popleft()
        return self.open_points[0].t + horizon if self.open_points and horizon is not None else FOREVER

    def close(self, before: int, output: Output) -> None:
        """Settle the points whose horizon ends before `before`, in the order of their ends."""
        horizon = self.rules.horizon
        open_points = self.open_points
        while open_points:
            waiting = open_points[0]
            if not waiting.is_open:
                open_points.popleft()
            elif horizon is None or waiting.t + horizon >= before:
                return
            else:
                open_points.popleft()
                self._settle(waiting, waiting.t + horizon, output)

    def end(self, clock: int, output: Output, how: str = CENSORED) -> None:
        """End the input at `clock`, or what is known under this id: censor what is open, or settle it where the horizon is unlimited.

        `how`: the account's row of what is censored.
        """
        self.close(clock + 1, output)
        while self.open_points:
            waiting = self.open_points.popleft()
            if not waiting.is_open:
                continue
            if self.rules.horizon is None:
                self._settle(waiting, clock, output)
            else:
                self._end_point(waiting, Settlement(how), clock, output)

    # Events

    def _post(self, event: Event, output: Output) -> None:
        output.account.count(APPLIED)
        t, user, rules = event.t, event.user, self.rules
        message = Message(event.ts, user, event.bot, event.text, with_words=rules.candidates)
        joined = self._join(event)
        first = joined[0]
        for conversation in joined:
            if conversation.open_point is not None:
                self._answer(conversation.open_point, t, user, event.bot, output)
        if not event.bot:
            self.target.posted(event, joined, None if event.thread_ts is None else self.kept.get(event.thread_ts))
            before = first.window[-1].message if first.window else None
            answered = before.user if before is not None and before.user != user else None
            if rules.candidates:
                answered_words = before.words if before is not None and answered is not None else ()
                self.people.posted(user, t, message.words, answered, len(first.spoken) == 1, answered_words)
            for conversation in joined:
                conversation.add_speaker(user)
        elif rules.candidates:
            self.people.bot_posted(user)
        kept = self.kept[event.ts] = KeptMessage(message, tuple(conversation.key for conversation in joined))
        for conversation in joined:
            conversation.window.append(kept)
            kept.references += 1
            if len(conversation.window) > rules.window:
                self._unreference(conversation.window.pop(0))
            conversation.changed = conversation.last_post = t
        self._make_points(t, self.target.points_of_post(joined), output)

    def _join(self, event: Event) -> list[Conversation]:
        """The conversations a post belongs to, opened where needed: for a root its session and its own thread."""
        t = event.t
        if self.rules.scope == "channel":
            return [self._at(WHOLE, t) or self._opened(WHOLE, t, 0)]
        if event.thread_ts is not None:
            thread = self._at(thread_key(event.thread_ts), t)
            if thread is None:
                thread = self._opened(thread_key(event.thread_ts), t, event.thread_ts, root_missing=True)
            thread.replied = True
            return [thread]
        session = self._at(self.session, t) if t - self.last_root <= self.rules.session_gap else None
        if session is None:
            self.session = session_key(event.ts)
            session = self._opened(self.session, t, event.ts)
        session.newest_root = event.ts
        self.last_root = t
        self.roots.append(event.ts)
        if len(self.roots) > self.rules.kept_roots:
            del self.roots[0]
        return [session, self._opened(thread_key(event.ts), t, event.ts)]

    def _edit(self, event: Event, output: Output) -> None:
        kept = self._find(event.ts, event.t)
        if kept is None:
            output.account.count(UNKNOWN_MESSAGE)
            return
        output.account.count(APPLIED)
        old = kept.message
        new = Message(old.ts, old.user, old.bot, event.text, with_words=self.rules.candidates)
        if new.mark == old.mark:
            return
        kept.message = new
        self._windows_changed(self._showing(kept), event.t, output)

    def _delete(self, event: Event, output: Output) -> None:
        t, ts = event.t, event.ts
        if output.points is not None:
            output.points.entries.append(MessageDeleted(self.id, ts, t))
        kept = self._find(ts, t)
        written = self.written.holding(ts)
        # No point from before the message was posted can hold it.
        since = takewhile(lambda each: each.t >= ts, reversed(self.open_points))
        waiting = [each for each in since if each.point is not None and any(message.ts == ts for message in each.point.window)]
        if kept is None and not written and not waiting:
            output.account.count(UNKNOWN_MESSAGE)
            return
        output.account.count(APPLIED)
        for number in written:
            if (identity := self.written.take(number)) is not None:
                self._retract(identity, t, output)
        for each in waiting:
            self.target.deleted(each, t)
        if kept is not None:
            del self.kept[ts]
            changed = self._showing(kept)
            for conversation in changed:
                conversation.window.remove(kept)
            self._windows_changed(changed, t, output, is_deleted=True)

    def _windows_changed(self, conversations: list[Conversation], t: int, output: Output, *, is_deleted: bool = False) -> None:
        """Supersede the open points of conversations whose windows an edit or a deletion changed, and make new ones.

        A session that is over gets none: no post could answer it. Its open point stays after an edit, and not after a deletion, since
        what is deleted is never written.
        """
        going_on = [conversation for conversation in conversations if not self._is_over(conversation, t)]
        for conversation in conversations:
            conversation.changed = t
            if conversation.open_point is not None and (is_deleted or conversation in going_on):
                self._end_point(conversation.open_point, Settlement(SUPERSEDED), t, output)
        self._make_points(t, self.target.points_of_change(going_on), output)

    def _is_over(self, conversation: Conversation, t: int) -> bool:
        """Whether it is a session that no post can join any more."""
        if conversation.key & 1:  # a thread, or the whole channel
            return False
        return conversation.key != self.session or t - self.last_root > self.rules.session_gap

    def _react(self, event: Event, output: Output) -> None:
        kept = self._find(event.ts, event.t)
        if kept is None:
            output.account.count(UNKNOWN_MESSAGE)
            return
        output.account.count(APPLIED)
        if not event.removed:
            self.target.reacted(event, kept, self._conversations_of(kept))

    # Points

    def _make_points(self, t: int, conversations: list[Conversation], output: Output) -> None:
        """Make a point of each window that changed; two equal windows share one, which stands in both conversations."""
        point: Point | None = None
        opened: list[OpenPoint] = []
        is_read = t >= output.since or (output.points is not None and t >= output.points.since)
        for conversation in conversations:
            output.account.count(POINTS)
            window = tuple([kept.message for kept in conversation.window])
            if is_withheld(window):
                output.account.count(WITHHELD)
            elif is_empty(window):
                output.account.count(EMPTY)
            else:
                if point is None or point.window != window or not self._have_same_speakers(opened[-1].conversation, conversation):
                    point = Point(t, window, self._candidates(t, window, conversation) if is_read else None)
                opened.append(self._open(point, conversation))
        if output.points is not None and opened:
            self._emit(opened, output.points, output.account)
            if len(output.points.drafts) >= DRAFTS:
                output.points.finish()

    def _have_same_speakers(self, one: Conversation, other: Conversation) -> bool:
        """Whether candidates can be the same in two conversations: their features depend on who spoke there, and in which order."""
        return not self.rules.candidates or [*one.spoken] == [*other.spoken]

    def _candidates(self, t: int, window: tuple[Message, ...], conversation: Conversation) -> Lineup | None:
        if not self.rules.candidates:
            return None
        spoken = () if conversation.key == WHOLE else conversation.spoken
        return self.people.candidates(t, window, self.rules.max_candidates, spoken)

    def _emit(self, opened: list[OpenPoint], points: PointLog, account: Account) -> None:
        """Log points as they are made. Those that would be the same line in two conversations are one entry."""
        if opened[0].t < points.since:
            account.count(BEFORE_START, len(opened))
            return
        alike: dict[tuple[object, ...], list[OpenPoint]] = {}
        for each in opened:
            alike.setdefault((each.point, each.speakers, each.root_missing), []).append(each)
        for first, *others in alike.values():
            point, rules = first.point, self.rules
            assert point is not None
            conversations = tuple(conversation_id(self.id, each.conversation.key) for each in (first, *others))
            identity = point_id(rules, conversations[0], point.t)
            window = tuple([message.ts for message in point.window])
            points.drafts.append(PointDraft(len(points.entries), rules, self.encoding, point, first.speakers, first.root_missing))
            points.entries.append(PointEmitted(self.id, conversations, point.t, identity, b"", window))
            account.count(EMITTED)
            account.count(TOGETHER, len(others))

    def _open(self, point: Point, conversation: Conversation) -> OpenPoint:
        newest = conversation.window[-1]
        needs: tuple[Conversation, ...] = (conversation,)
        if not conversation.key & 1:
            thread = self._at(thread_key(newest.message.ts), point.t)
            if thread is not None:
                needs = (conversation, thread)
        waiting = OpenPoint(point, conversation, needs)
        for needed in needs:
            needed.needed_by += 1
        newest.references += 1
        self.target.opened(waiting, newest)
        self.open_points.append(waiting)
        return waiting

    def _answer(self, waiting: OpenPoint, t: int, user: str, bot: bool, output: Output) -> None:
        """End the open point by the conversation's next post: as answered by somebody else, else (the last author, a bot) as superseded."""
        if waiting.point is not None and not bot and user != waiting.point.author:
            self._end_point(waiting, Settlement(ANSWERED, (user,), t), t, output)
        else:
            self._end_point(waiting, Settlement(SUPERSEDED), t, output)

    def _settle(self, waiting: OpenPoint, settled_ts: int, output: Output) -> None:
        """End a point whose horizon has passed."""
        settlement = self.target.settle(waiting)
        if settlement.answer and settlement.answer_ts is None:
            settlement = settlement._replace(answer_ts=settled_ts)
        self._end_point(waiting, settlement, settled_ts, output)

    def _end_point(self, waiting: OpenPoint, settlement: Settlement, t: int, output: Output) -> None:
        """Count how a point ended at `t`, log it, write its example if it has one, and let go of what was kept for it."""
        output.account.count(settlement.how)
        points = output.points
        if points is not None and waiting.t >= points.since:
            conversation = conversation_id(self.id, waiting.conversation.key)
            points.entries.append(
                PointSettled(self.id, conversation, waiting.t, settlement.how, t, settlement.answer_ts, settlement.answer)
            )
        if settlement.how in EXAMPLE_ENDS:
            self._write(waiting, settlement, t, output)
        self._release(waiting)

    def _write(self, waiting: OpenPoint, settlement: Settlement, settled_ts: int, output: Output) -> None:
        point, answer_ts = waiting.point, settlement.answer_ts
        if point is None:
            return
        rules = self.rules
        if point.t < output.since or (rules.candidates and point.lineup is None):  # the run before, which began later, needed none
            output.account.count(BEFORE_FROM)
            return
        conversation = conversation_id(self.id, waiting.conversation.key)
        identity = example_id(rules, conversation, point.t, answer_ts)
        output.drafts.append(
            ExampleDraft(
                identity, rules, self.encoding, self.id, conversation, point, waiting.speakers, waiting.root_missing,
                settled_ts, answer_ts, settlement.answer,
            )
        )  # fmt: skip
        if len(output.drafts) >= DRAFTS:
            output.finish()
        output.account.count(EXAMPLES)
        if waiting.retracted_ts is not None:
            self._retract(identity, waiting.retracted_ts, output)
        window = tuple([message.ts for message in point.window])
        self.written.add(settled_ts, identity, window, waiting.retracted_ts is not None)

    def _retract(self, identity: str, t: int, output: Output) -> None:
        output.retractions.append(retraction_bytes(identity, t))
        output.account.count(RETRACTIONS)

    def _release(self, waiting: OpenPoint) -> None:
        """Let go of what was kept for a point that has ended."""
        waiting.is_open = False
        waiting.point = None
        waiting.reactors = None
        for needed in waiting.needs:
            needed.needed_by -= 1
            if needed.needed_by == 0:
                needed.acts = needed.last_act = needed.untimed = None
        waiting.needs = ()
        if waiting.conversation.open_point is waiting:
            waiting.conversation.open_point = None
        newest = self.kept.get(waiting.newest)
        if newest is not None:
            newest.open_point = None if newest.open_point is waiting else newest.open_point
            self._unreference(newest)

    # Keeping and forgetting

    def _opened(self, key: int, t: int, newest_root: int, *, root_missing: bool = False) -> Conversation:
        conversation = self.conversations[key] = Conversation(key, t, newest_root, root_missing=root_missing)
        return conversation

    def _at(self, key: int, t: int) -> Conversation | None:
        """The conversation of that key, or None if it isn't kept at `t`."""
        conversation = self.conversations.get(key)
        if conversation is not None and self._is_too_old(conversation, t):
            self._forget(conversation)
            return None
        return conversation

    def _find(self, ts: int, t: int) -> KeptMessage | None:
        """The message of that ts, if it is kept at `t`."""
        kept = self.kept.get(ts)
        if kept is not None:
            for key in kept.conversations:
                self._at(key, t)  # which may forget the message with its last conversation
        return self.kept.get(ts)

    def _conversations_of(self, kept: KeptMessage) -> list[Conversation]:
        """The conversations a message was posted in, as far as they are kept."""
        return [self.conversations[key] for key in kept.conversations if key in self.conversations]

    def _showing(self, kept: KeptMessage) -> list[Conversation]:
        """The conversations whose windows hold a message."""
        return [conversation for conversation in self._conversations_of(kept) if kept in conversation.window]

    def _is_too_old(self, conversation: Conversation, t: int) -> bool:
        if conversation.key == WHOLE:
            return False
        if self.rules.horizon is not None and t - conversation.changed > self.rules.thread_ttl:
            return True
        if conversation.needed_by or conversation.key == self.session:
            return False
        return len(self.roots) >= self.rules.kept_roots and self.roots[0] > conversation.newest_root

    def _sweep(self, t: int) -> None:
        self._since_sweep, self._last_sweep = 0, t
        # One unanswered point would keep all settled ones behind it for a whole horizon.
        self.open_points = deque([waiting for waiting in self.open_points if waiting.is_open])
        oldest = t - self.rules.thread_ttl
        oldest_root = self.roots[0] if len(self.roots) >= self.rules.kept_roots else -1
        idle_or_old = [each for each in self.conversations.values() if each.changed < oldest or each.newest_root < oldest_root]
        for conversation in idle_or_old:
            if self._is_too_old(conversation, t):
                self._forget(conversation)

    def _forget(self, conversation: Conversation) -> None:
        del self.conversations[conversation.key]
        for kept in conversation.window:
            self._unreference(kept)

    def _unreference(self, kept: KeptMessage) -> None:
        kept.references -= 1
        if kept.references == 0 and self.kept.get(kept.message.ts) is kept:
            del self.kept[kept.message.ts]
