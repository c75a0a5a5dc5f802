"""All that is known of one channel: its conversations, its open points, its people.

`Channel.apply` takes events in the order of docs/semantics.md and tells what they settle. It knows no clock but the events' own times.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable
from itertools import takewhile
from typing import Any

from mypy_extensions import mypyc_attr

from beepgpt.conversations.account import Account
from beepgpt.conversations.events import DELETE, EDIT, POST, Event, ts_text
from beepgpt.conversations.examples import Message, Point, example_bytes, example_id, is_empty, is_withheld, mark_of, retraction_bytes
from beepgpt.conversations.features import MessageCues, People
from beepgpt.conversations.points import MessageDeleted, PointEmitted, PointLog, PointSettled, point_bytes, point_id
from beepgpt.conversations.rules import DAY, Rules
from beepgpt.conversations.tokens import Encoding

SWEEP_EVERY = 512
SWEEP_AFTER = DAY
"""Applied events, or time, between two looks for what can be forgotten: it decides how soon memory is free, not what is forgotten."""

WHOLE = -1
"""Key of the one conversation of `scope = "channel"`. A session's key is twice its first root's ts, a thread's that plus one."""

FOREVER = 1 << 62


def session_key(ts: int) -> int:
    """The key of the session that begins with the root `ts`."""
    return ts << 1


def thread_key(ts: int) -> int:
    """The key of the thread of the root `ts`."""
    return ts << 1 | 1


def conversation_id(channel: str, key: int) -> str:
    """A conversation's name in examples.

    >>> conversation_id("C1", thread_key(1690360240229079))
    'C1:1690360240.229079:thread'
    """
    if key == WHOLE:
        return f"{channel}:channel"
    return f"{channel}:{ts_text(key >> 1)}:{'thread' if key & 1 else 'session'}"


class Output:
    """What a run of events made, until somebody takes it away."""

    __slots__ = ("account", "examples", "late", "retractions", "since", "telling")

    def __init__(self, account: Account, since: int = 0, telling: PointLog | None = None) -> None:
        self.account = account
        self.since = since
        """Examples whose `prompt_ts` is before this time are not written: microseconds."""
        self.examples: list[bytes] = []
        self.retractions: list[bytes] = []
        self.late: list[bytes] = []
        self.telling = telling
        """Points as they are made, and what became of them: only where somebody asks, since it takes its time."""


@mypyc_attr(serializable=True)
class Conversation:
    """A thread, a session, or a whole channel."""

    __slots__ = (
        "acts", "changed", "held", "key", "last_act", "last_post", "newest_root",
        "open", "replied", "root_missing", "spoken", "untimed", "window",
    )  # fmt: skip

    def __init__(self, key: int, t: int, newest_root: int, *, root_missing: bool = False) -> None:
        self.key = key
        self.window: list[Kept] = []
        self.spoken: list[str] | dict[str, None] = []
        """Who has posted so far (no bots), in the order in which they began: a list while it is short, for most threads are."""
        self.changed = t
        """When its window last changed."""
        self.newest_root = newest_root
        self.root_missing = root_missing
        self.replied = root_missing
        self.open: Open | None = None
        self.held = 0
        """Open points for which it must not be forgotten."""
        self.last_post = t
        self.acts: deque[tuple[int, str]] | None = None
        """Posts and reactions (time, person) since the oldest open point; only for interacting_users."""
        self.last_act: dict[str, int] | None = None
        """The same by person, the most recent last."""
        self.untimed: list[tuple[int, str]] | None = None
        """Reactions whose time nobody knows: (their message's ts, person)."""

    def __getstate__(self) -> tuple[Any, ...]:
        """A tuple, here and below: dictionaries by name would take a snapshot half as long again."""
        return (
            self.acts, self.changed, self.held, self.key, self.last_act, self.last_post, self.newest_root, self.open, self.replied,
            self.root_missing, self.spoken, self.untimed, self.window,
        )  # fmt: skip

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        (
            self.acts, self.changed, self.held, self.key, self.last_act, self.last_post, self.newest_root, self.open, self.replied,
            self.root_missing, self.spoken, self.untimed, self.window,
        ) = state  # fmt: skip

    def speak(self, user: str) -> None:
        """`user` has spoken here."""
        if user in self.spoken:
            return
        if isinstance(self.spoken, dict):
            self.spoken[user] = None
        elif len(self.spoken) < 8:
            self.spoken.append(user)
        else:
            self.spoken = dict.fromkeys([*self.spoken, user])

    def act(self, t: int, user: str) -> None:
        """`user` took part at `t`."""
        if not self.held:
            return
        if self.acts is None or self.last_act is None:
            self.acts, self.last_act = deque(), {}
        self.acts.append((t, user))
        self.last_act.pop(user, None)
        self.last_act[user] = t


@mypyc_attr(serializable=True)
class Kept:
    """A message that can still be edited, deleted or reacted to: it stands in a window, or an open point has it as its newest."""

    __slots__ = ("message", "open", "places", "references")

    def __init__(self, message: Message, places: tuple[int, ...]) -> None:
        self.message = message
        self.places = places
        """Keys of the conversations it was posted in."""
        self.references = 0
        self.open: Open | None = None
        """For the set targets: its own point."""

    def __getstate__(self) -> tuple[Any, ...]:
        return self.message, self.open, self.places, self.references

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.message, self.open, self.places, self.references = state


@mypyc_attr(serializable=True)
class Open:
    """A point that waits for its answer in one conversation."""

    __slots__ = (
        "acts",
        "answered_in_thread",
        "conversation",
        "holds",
        "is_open",
        "newest",
        "point",
        "retracted_ts",
        "root_missing",
        "speakers",
        "t",
    )

    def __init__(self, point: Point, conversation: Conversation, holds: tuple[Conversation, ...]) -> None:
        self.t = point.t
        self.point: Point | None = point
        self.conversation = conversation
        self.holds = holds
        self.newest = point.window[-1].ts
        self.speakers = len(conversation.spoken)
        self.root_missing = conversation.root_missing
        self.is_open = True
        self.answered_in_thread = False
        """A session's point: somebody else replied in the thread of its newest message."""
        self.acts: dict[str, int | None] | None = None
        """reactors: who, and when first; None if nobody knows when."""
        self.retracted_ts: int | None = None

    def __getstate__(self) -> tuple[Any, ...]:
        return (
            self.acts, self.answered_in_thread, self.conversation, self.holds, self.is_open, self.newest, self.point, self.retracted_ts,
            self.root_missing, self.speakers, self.t,
        )  # fmt: skip

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        (
            self.acts, self.answered_in_thread, self.conversation, self.holds, self.is_open, self.newest, self.point, self.retracted_ts,
            self.root_missing, self.speakers, self.t,
        ) = state  # fmt: skip


@mypyc_attr(serializable=True)
class Remembered:
    """An example that was written not long ago, in case a message of its window is deleted."""

    __slots__ = ("identity", "is_retracted", "settled_ts", "window")

    def __init__(self, settled_ts: int, identity: str, window: tuple[int, ...], is_retracted: bool) -> None:
        self.settled_ts = settled_ts
        self.identity = identity
        self.window = window
        self.is_retracted = is_retracted

    def __getstate__(self) -> tuple[Any, ...]:
        return self.identity, self.is_retracted, self.settled_ts, self.window

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.identity, self.is_retracted, self.settled_ts, self.window = state


@mypyc_attr(serializable=True)
class Channel:
    """One channel: events in, examples out."""

    __slots__ = (
        "_last_sweep",
        "_since_sweep",
        "conversations",
        "encoding",
        "id",
        "kept",
        "last_root",
        "opens",
        "people",
        "remembered",
        "roots",
        "rules",
        "session",
    )

    def __init__(self, channel: str, rules: Rules, encoding: Encoding) -> None:
        self.id = channel
        self.rules = rules
        self.encoding = encoding
        self.conversations: dict[int, Conversation] = {}
        self.kept: dict[int, Kept] = {}
        self.people = People(rules.kept_people)
        self.session = -2
        """Key of the current session; before the first, one that no session has."""
        self.last_root = -FOREVER
        self.roots: array[int] = array("q")
        """The newest `kept_roots` roots: a number each and no object, since a quiet channel has all of them for years."""
        self.opens: deque[Open] = deque()
        """Points in the order of their time, so of their horizons' ends too. Those that are over leave with their turn, or a sweep."""
        self.remembered: deque[Remembered] = deque()
        self._since_sweep = 0
        self._last_sweep = 0

    def __getstate__(self) -> tuple[Any, ...]:
        """Everything but the rules and the encoding, which belong to the run."""
        return (
            self._last_sweep, self._since_sweep, self.conversations, self.id, self.kept, self.last_root,
            self.opens, self.people, self.remembered, self.roots, self.session,
        )  # fmt: skip

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        (
            self._last_sweep, self._since_sweep, self.conversations, self.id, self.kept, self.last_root,
            self.opens, self.people, self.remembered, self.roots, self.session,
        ) = state  # fmt: skip

    # Time

    def apply(self, event: Event, made: Output) -> None:
        """One event takes effect. Events come in order, and each once."""
        t = event.t
        self.close(t, made)
        self.people.move_on(t)
        self._since_sweep += 1
        if self._since_sweep >= SWEEP_EVERY or t - self._last_sweep >= SWEEP_AFTER:
            self._sweep(t)
        while self.remembered and t - self.remembered[0].settled_ts > self.rules.remember:
            self.remembered.popleft()
        if event.kind == POST:
            self._post(event, made)
        elif event.kind == EDIT:
            self._edit(event, made)
        elif event.kind == DELETE:
            self._delete(event, made)
        else:
            self._react(event, made)

    def next_end(self) -> int:
        """When the first open horizon ends."""
        horizon = self.rules.horizon
        while self.opens and not self.opens[0].is_open:
            self.opens.popleft()
        return self.opens[0].t + horizon if self.opens and horizon is not None else FOREVER

    def close(self, before: int, made: Output) -> None:
        """Closes the points whose horizon ends before `before`, in the order of their ends."""
        horizon = self.rules.horizon
        if horizon is None:
            return
        opens = self.opens
        while opens and opens[0].t + horizon < before:
            waiting = opens.popleft()
            if waiting.is_open:
                self._settle(waiting, waiting.t + horizon, made)

    def end(self, clock: int, made: Output) -> None:
        """The input ends at `clock`: what is still open is censored, or settled where the horizon is unlimited."""
        self.close(clock + 1, made)
        while self.opens:
            waiting = self.opens.popleft()
            if not waiting.is_open:
                continue
            if self.rules.horizon is None:
                self._settle(waiting, clock, made)
            else:
                self._ends(waiting, "censored", clock, made)
                self._release(waiting)

    # Events

    def _post(self, event: Event, made: Output) -> None:
        made.account.count("applied")
        t, user, rules = event.t, event.user, self.rules
        message = Message(event.ts, user, event.bot, event.text, with_words=rules.candidates)
        joined = self._join(event)
        first = joined[0]
        if rules.target == "next_user":
            for conversation in joined:
                if conversation.open is not None:
                    self._answer(conversation.open, t, user, event.bot, made)
            if event.thread_ts is not None and not event.bot:
                self._note_answer_in_thread(event.thread_ts, user)
        elif not event.bot:
            first.act(t, user)
        if not event.bot:
            before = first.window[-1].message if first.window else None
            answers = before.user if before is not None and before.user != user else None
            if rules.candidates:
                asked = before.words if before is not None and answers is not None else ()
                self.people.posted(user, t, message.words, answers, len(first.spoken) == 1, asked)
            for conversation in joined:
                conversation.speak(user)
        elif rules.candidates:
            self.people.bot_posted(user)
        kept = self.kept[event.ts] = Kept(message, tuple(conversation.key for conversation in joined))
        for conversation in joined:
            conversation.window.append(kept)
            kept.references += 1
            if len(conversation.window) > rules.window:
                self._unreference(conversation.window.pop(0))
            conversation.changed = conversation.last_post = t
        self._make_points(t, joined if rules.target == "next_user" else [first], made)

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

    def _edit(self, event: Event, made: Output) -> None:
        kept = self._find(event.ts, event.t)
        if kept is None:
            made.account.count("ignored:unknown_message")
            return
        made.account.count("applied")
        old = kept.message
        if old.mark == mark_of(event.text):
            return
        kept.message = Message(old.ts, old.user, old.bot, event.text, with_words=self.rules.candidates)
        self._changed([conversation for conversation in self._places(kept) if kept in conversation.window], event.t, made)

    def _delete(self, event: Event, made: Output) -> None:
        t, ts = event.t, event.ts
        if made.telling is not None:
            made.telling.told.append(MessageDeleted(self.id, ts, t))
        kept = self._find(ts, t)
        # Nothing that settled, or was known, before the message was posted can hold it.
        lately = takewhile(lambda example: example.settled_ts > ts, reversed(self.remembered))
        written = [example for example in lately if ts in example.window][::-1]
        since = takewhile(lambda each: each.t >= ts, reversed(self.opens))
        waiting = [each for each in since if each.point is not None and any(message.ts == ts for message in each.point.window)]
        if kept is None and not written and not waiting:
            made.account.count("ignored:unknown_message")
            return
        made.account.count("applied")
        for example in written:
            if not example.is_retracted:
                self._retract(example.identity, t, made)
                example.is_retracted = True
        if self.rules.target != "next_user":
            for each in waiting:
                each.retracted_ts = t if each.retracted_ts is None else each.retracted_ts
        if kept is not None:
            del self.kept[ts]
            changed = [conversation for conversation in self._places(kept) if kept in conversation.window]
            for conversation in changed:
                conversation.window.remove(kept)
            self._changed(changed, t, made)

    def _changed(self, conversations: list[Conversation], t: int, made: Output) -> None:
        """Windows changed by an edit or a deletion: new points for next_user, and none for the set targets."""
        for conversation in conversations:
            conversation.changed = t
            if conversation.open is not None:
                self._ends(conversation.open, "superseded", t, made)
                self._release(conversation.open)
        if self.rules.target == "next_user":
            self._make_points(t, [conversation for conversation in conversations if conversation.window], made)

    def _react(self, event: Event, made: Output) -> None:
        kept = self._find(event.ts, event.t)
        if kept is None:
            made.account.count("ignored:unknown_message")
            return
        made.account.count("applied")
        if event.removed:
            return
        if self.rules.target == "reactors":
            is_later = kept.open is not None and (event.untimed or event.t > kept.open.t)
            if kept.open is not None and is_later and event.user != kept.message.user:
                if kept.open.acts is None:
                    kept.open.acts = {}
                when = kept.open.acts.get(event.user)
                kept.open.acts[event.user] = when if when is not None or event.untimed else event.t
        elif self.rules.target == "interacting_users":
            for conversation in self._places(kept):
                if not event.untimed:
                    conversation.act(event.t, event.user)
                elif conversation.held:
                    if conversation.untimed is None:
                        conversation.untimed = []
                    conversation.untimed.append((event.ts, event.user))

    # Points

    def _make_points(self, t: int, conversations: list[Conversation], made: Output) -> None:
        """Each window that changed is a point; two equal ones are one, which stands in both conversations."""
        point: Point | None = None
        opened: list[Open] = []
        for conversation in conversations:
            made.account.count("points")
            window = tuple([kept.message for kept in conversation.window])
            if is_withheld(window):
                made.account.count("withheld")
            elif is_empty(window):
                made.account.count("empty")
            else:
                if point is None or point.window != window or not self._has_speakers_of(opened[-1].conversation, conversation):
                    point = Point(t, window, self._candidates(t, window, conversation))
                opened.append(self._open(point, conversation))
        if made.telling is not None and opened:
            self._tell(opened, made.telling, made.account)

    def _has_speakers_of(self, other: Conversation, conversation: Conversation) -> bool:
        """Whether facts about people can be the same in two conversations: they tell who spoke there, and in which order."""
        return not self.rules.candidates or [*other.spoken] == [*conversation.spoken]

    def _candidates(self, t: int, window: tuple[Message, ...], conversation: Conversation) -> dict[str, list[object]] | None:
        if not self.rules.candidates:
            return None
        said = [MessageCues(message.user, message.bot, message.words, message.mentions) for message in window]
        spoken = () if conversation.key == WHOLE else conversation.spoken
        return self.people.candidates(t, said, self.rules.max_candidates, spoken)

    def _tell(self, opened: list[Open], telling: PointLog, account: Account) -> None:
        """Tells points as they are made. What examples of two conversations would say in the same words is told once."""
        if opened[0].t < telling.since:
            account.count("before_start", len(opened))
            return
        told: dict[tuple[object, ...], list[Open]] = {}
        for each in opened:
            told.setdefault((each.point, each.speakers, each.root_missing), []).append(each)
        for first, *others in told.values():
            point, rules = first.point, self.rules
            assert point is not None
            conversations = tuple(conversation_id(self.id, each.conversation.key) for each in (first, *others))
            identity = point_id(rules, conversations[0], point.t)
            asked = point.prompt_of(self.encoding, rules.max_prompt_tokens)
            line = point_bytes(
                identity, rules, self.id, conversations, point, asked, speakers=first.speakers, root_missing=first.root_missing
            )
            telling.told.append(PointEmitted(self.id, conversations, point.t, identity, line))
            account.count("told")
            account.count("together", len(others))

    def _open(self, point: Point, conversation: Conversation) -> Open:
        newest = conversation.window[-1]
        holds: tuple[Conversation, ...] = (conversation,)
        if not conversation.key & 1:
            thread = self._at(thread_key(newest.message.ts), point.t)
            if thread is not None:
                holds = (conversation, thread)
        waiting = Open(point, conversation, holds)
        for held in holds:
            held.held += 1
        newest.references += 1
        if self.rules.target == "next_user":
            conversation.open = waiting
        else:
            newest.open = waiting
        self.opens.append(waiting)
        return waiting

    def _note_answer_in_thread(self, root: int, user: str) -> None:
        """The session's point whose newest message is this root has been answered, though elsewhere."""
        kept = self.kept.get(root)
        session = self.conversations.get(kept.places[0]) if kept is not None else None
        if session is not None and session.open is not None and session.open.newest == root and session.open.point is not None:
            session.open.answered_in_thread |= session.open.point.author != user

    def _answer(self, waiting: Open, t: int, user: str, bot: bool, made: Output) -> None:
        """The conversation's next post: somebody else's answers the open point, the last author's own replaces it."""
        if waiting.point is not None and not bot and user != waiting.point.author:
            self._ends(waiting, "answered", t, made, t, (user,))
            self._write(waiting, settled_ts=t, answer_ts=t, answer=[user], made=made)
        else:
            self._ends(waiting, "superseded", t, made)
        self._release(waiting)

    def _settle(self, waiting: Open, settled_ts: int, made: Output) -> None:
        """The horizon has passed."""
        conversation = waiting.conversation
        if self.rules.target != "next_user":
            answer, answer_ts = self._answers_in(waiting)
            if answer:
                answer_ts = settled_ts if answer_ts is None else answer_ts
                self._ends(waiting, "answered", settled_ts, made, answer_ts, tuple(answer))
                self._write(waiting, settled_ts, answer_ts, answer, made)
            elif conversation.last_post > waiting.t:
                self._ends(waiting, "superseded", settled_ts, made)
            else:
                self._ends(waiting, "silent", settled_ts, made)
                self._write(waiting, settled_ts, None, [], made)
        elif waiting.answered_in_thread:
            self._ends(waiting, "elsewhere", settled_ts, made)
        elif conversation.key & 1 and not conversation.replied and conversation.key != WHOLE:
            self._ends(waiting, "merged", settled_ts, made)
        else:
            self._ends(waiting, "silent", settled_ts, made)
            self._write(waiting, settled_ts, None, [], made)
        self._release(waiting)

    def _ends(self, waiting: Open, how: str, t: int, made: Output, answer_ts: int | None = None, answer: tuple[str, ...] = ()) -> None:
        """A point is over, one way or the other: it is counted, and told to whoever was told of the point."""
        made.account.count(how)
        telling = made.telling
        if telling is not None and waiting.t >= telling.since:
            conversation = conversation_id(self.id, waiting.conversation.key)
            telling.told.append(PointSettled(self.id, conversation, waiting.t, how, t, answer_ts, answer))

    def _answers_in(self, waiting: Open) -> tuple[list[str], int | None]:
        """Who took part or reacted after a point, and when the first of them did; None if nobody knows when."""
        if self.rules.target == "reactors":
            acts = waiting.acts or {}
            return sorted(acts), min((when for when in acts.values() if when is not None), default=None)
        author = waiting.point.author if waiting.point is not None else ""
        people: set[str] = set()
        first: int | None = None
        for conversation in waiting.holds:
            for user, when in reversed((conversation.last_act or {}).items()):
                if when <= waiting.t:
                    break
                people.add(user)
            acts_since = conversation.acts or deque()
            while acts_since and acts_since[0][0] <= waiting.t:
                acts_since.popleft()
            when_first = next((when for when, user in acts_since if user != author), None)
            if when_first is not None and (first is None or when_first < first):
                first = when_first
            people.update(user for ts, user in conversation.untimed or () if ts >= waiting.t)
        return sorted(people - {author}), first

    def _write(self, waiting: Open, settled_ts: int, answer_ts: int | None, answer: list[str], made: Output) -> None:
        point = waiting.point
        if point is None:
            return
        if point.t < made.since:
            made.account.count("before_from")
            return
        rules = self.rules
        conversation = conversation_id(self.id, waiting.conversation.key)
        identity = example_id(rules, conversation, point.t, answer_ts)
        prompt = point.prompt_of(self.encoding, rules.max_prompt_tokens)
        made.examples.append(
            example_bytes(
                identity,
                rules,
                self.id,
                conversation,
                point,
                prompt,
                speakers=waiting.speakers,
                root_missing=waiting.root_missing,
                settled_ts=settled_ts,
                answer_ts=answer_ts,
                answer=answer,
            )
        )
        made.account.count("examples")
        if waiting.retracted_ts is not None:
            self._retract(identity, waiting.retracted_ts, made)
        window = tuple(message.ts for message in point.window)
        self.remembered.append(Remembered(settled_ts, identity, window, waiting.retracted_ts is not None))

    def _retract(self, identity: str, t: int, made: Output) -> None:
        made.retractions.append(retraction_bytes(identity, t))
        made.account.count("retractions")

    def _release(self, waiting: Open) -> None:
        """A point is over: what was kept for it alone can go."""
        waiting.is_open = False
        waiting.point = None
        waiting.acts = None
        for held in waiting.holds:
            held.held -= 1
            if held.held == 0:
                held.acts = held.last_act = held.untimed = None
        waiting.holds = ()
        if waiting.conversation.open is waiting:
            waiting.conversation.open = None
        newest = self.kept.get(waiting.newest)
        if newest is not None:
            newest.open = None if newest.open is waiting else newest.open
            self._unreference(newest)

    # Keeping and forgetting

    def _opened(self, key: int, t: int, newest_root: int, *, root_missing: bool = False) -> Conversation:
        conversation = self.conversations[key] = Conversation(key, t, newest_root, root_missing=root_missing)
        return conversation

    def _at(self, key: int, t: int) -> Conversation | None:
        """The conversation of that key, unless it is, judged at `t`, to be forgotten."""
        conversation = self.conversations.get(key)
        if conversation is not None and self._is_too_old(conversation, t):
            self._forget(conversation)
            return None
        return conversation

    def _find(self, ts: int, t: int) -> Kept | None:
        """The message of that name, if it is kept at `t`."""
        kept = self.kept.get(ts)
        if kept is not None:
            self._places_at(kept, t)
        return self.kept.get(ts)

    def _places(self, kept: Kept) -> list[Conversation]:
        """The conversations a message was posted in, as far as they are kept."""
        return [self.conversations[key] for key in kept.places if key in self.conversations]

    def _places_at(self, kept: Kept, t: int) -> Iterable[Conversation]:
        return [conversation for key in kept.places if (conversation := self._at(key, t)) is not None]

    def _is_too_old(self, conversation: Conversation, t: int) -> bool:
        if conversation.key == WHOLE:
            return False
        if self.rules.horizon is not None and t - conversation.changed > self.rules.thread_ttl:
            return True
        if conversation.held or conversation.key == self.session:
            return False
        return len(self.roots) >= self.rules.kept_roots and self.roots[0] > conversation.newest_root

    def _sweep(self, t: int) -> None:
        self._since_sweep, self._last_sweep = 0, t
        # One point that nobody answers would hold all that are over behind it for a whole horizon.
        self.opens = deque([waiting for waiting in self.opens if waiting.is_open])
        oldest = t - self.rules.thread_ttl
        oldest_root = self.roots[0] if len(self.roots) >= self.rules.kept_roots else -1
        suspected = [each for each in self.conversations.values() if each.changed < oldest or each.newest_root < oldest_root]
        for conversation in suspected:
            if self._is_too_old(conversation, t):
                self._forget(conversation)

    def _forget(self, conversation: Conversation) -> None:
        del self.conversations[conversation.key]
        for kept in conversation.window:
            self._unreference(kept)

    def _unreference(self, kept: Kept) -> None:
        kept.references -= 1
        if kept.references == 0 and self.kept.get(kept.message.ts) is kept:
            del self.kept[kept.message.ts]
