"""A channel's state between events, kept in snapshots: conversations, messages, open points, written examples."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque

from beepgpt.conversations.events import ts_text
from beepgpt.conversations.examples import Message, Point
from beepgpt.conversations.snapshots import State

NEVER = 1 << 62
"""Later than all times."""
WHOLE = -1
"""Key of the one conversation of `scope = "channel"`. A session's key is twice its first root's ts, a thread's that plus one."""


def session_key(ts: int) -> int:
    """Key of the session that begins with the root `ts`."""
    return ts << 1


def thread_key(ts: int) -> int:
    """Key of the thread of the root `ts`."""
    return ts << 1 | 1


def conversation_id(channel: str, key: int) -> str:
    """A conversation's name in examples.

    >>> conversation_id("C1", thread_key(1690360240229079))
    'C1:1690360240.229079:thread'
    """
    if key == WHOLE:
        return f"{channel}:channel"
    return f"{channel}:{ts_text(key >> 1)}:{'thread' if key & 1 else 'session'}"


class Conversation(State):
    """A thread, a session, or a whole channel."""

    __slots__ = (
        "acts", "changed", "key", "last_act", "last_post", "needed_by", "newest_root",
        "open_point", "replied", "root_missing", "spoken", "untimed", "window",
    )  # fmt: skip

    def __init__(self, key: int, t: int, newest_root: int, *, root_missing: bool = False) -> None:
        self.key = key
        self.window: list[KeptMessage] = []
        self.spoken: list[str] | dict[str, None] = []
        """Who has posted so far (no bots), in the order of their first posts: a list while it is short, as most threads are."""
        self.changed = t
        """When its window last changed."""
        self.newest_root = newest_root
        self.root_missing = root_missing
        self.replied = root_missing
        """Whether the thread ever had a reply."""
        self.open_point: OpenPoint | None = None
        """The point that the next post ends; only for next_user."""
        self.needed_by = 0
        """How many open points need this conversation: while there are any, it is not forgotten behind newer roots."""
        self.last_post = t
        self.acts: deque[tuple[int, str]] | None = None
        """Posts and reactions (time, person) since the oldest open point; only for interacting_users."""
        self.last_act: dict[str, int] | None = None
        """The same by person, the most recent last."""
        self.untimed: list[tuple[int, str]] | None = None
        """Reactions whose time is unknown: (their message's ts, person)."""

    def add_speaker(self, user: str) -> None:
        """Note that `user` posted here."""
        if user in self.spoken:
            return
        if isinstance(self.spoken, dict):
            self.spoken[user] = None
        elif len(self.spoken) < 8:
            self.spoken.append(user)
        else:
            self.spoken = dict.fromkeys([*self.spoken, user])

    def add_act(self, t: int, user: str) -> None:
        """Note that `user` posted or reacted at `t`, if an open point may need it."""
        if not self.needed_by:
            return
        if self.acts is None or self.last_act is None:
            self.acts, self.last_act = deque(), {}
        self.acts.append((t, user))
        self.last_act.pop(user, None)
        self.last_act[user] = t

    def add_untimed_act(self, ts: int, user: str) -> None:
        """Note that `user` reacted to the message `ts` at an unknown time, if an open point may need it."""
        if not self.needed_by:
            return
        if self.untimed is None:
            self.untimed = []
        self.untimed.append((ts, user))


class KeptMessage(State):
    """A message that can still be edited, deleted or reacted to: it stands in a window, or is the newest message of an open point."""

    __slots__ = ("conversations", "message", "open_point", "references")

    def __init__(self, message: Message, conversations: tuple[int, ...]) -> None:
        self.message = message
        self.conversations = conversations
        """Keys of the conversations it was posted in."""
        self.references = 0
        """Windows and open points that hold it."""
        self.open_point: OpenPoint | None = None
        """An open point whose newest message it is: its own for the set targets, its session's for next_user."""


class OpenPoint(State):
    """A point that waits for its answer in one conversation."""

    __slots__ = (
        "answered_in_thread", "conversation", "is_open", "needs", "newest", "point",
        "reactors", "retracted_ts", "root_missing", "speakers", "t",
    )  # fmt: skip

    def __init__(self, point: Point, conversation: Conversation, needs: tuple[Conversation, ...]) -> None:
        self.t = point.t
        self.point: Point | None = point
        """None once it has settled."""
        self.conversation = conversation
        self.needs = needs
        """Conversations kept while it is open: its conversation, and for a session's point the thread of its newest message."""
        self.newest = point.window[-1].ts
        self.speakers = len(conversation.spoken)
        self.root_missing = conversation.root_missing
        self.is_open = True
        self.answered_in_thread = False
        """For a session's point: whether somebody else replied in the thread of its newest message."""
        self.reactors: dict[str, int | None] | None = None
        """For the target reactors: who reacted, and when first; None where the time is unknown."""
        self.retracted_ts: int | None = None
        """When a message of its window was deleted, for the targets whose points stay open then."""


class MessageIndex(State):
    """Ids of what holds which messages (examples, predictions), so that a deletion finds them: oldest first, in few bytes.

    A row has a time, whether its id was taken, the id, and the `ts` of the messages: 64 bytes for 5 messages.

    >>> index = MessageIndex(window=2)
    >>> index.add(1700000000000000, "00112233445566778899aabbccddeeff", (1600000000000000,))
    >>> index.holding(1600000000000000), index.holding(1500000000000000)
    ([0], [])
    >>> index.take(0), index.take(0)
    ('00112233445566778899aabbccddeeff', None)
    """

    __slots__ = ("oldest", "rows", "width")

    def __init__(self, window: int) -> None:
        """`window`: messages of a row, at most."""
        self.width = 24 + 8 * window
        self.rows = bytearray()
        self.oldest = NEVER
        """Time of the first row."""

    def __len__(self) -> int:
        return len(self.rows) // self.width

    @property
    def newest(self) -> int:
        """Time of the last row; 0: there is none."""
        return self._time(len(self) - 1) if self.rows else 0

    def add(self, t: int, identity: str, window: tuple[int, ...], is_taken: bool = False) -> None:
        """Add an id of 32 hex digits, no earlier than those before and later than its messages. Times in microseconds."""
        if not self.rows:
            self.oldest = t
        self.rows += (t << 1 | is_taken).to_bytes(8, "big") + bytes.fromhex(identity)
        self.rows += b"".join([ts.to_bytes(8, "big") for ts in window]).ljust(self.width - 24, b"\0")

    def forget_before(self, t: int) -> None:
        """Forget rows from before `t`."""
        if self.oldest >= t:
            return
        first = bisect_left(range(len(self)), t, key=self._time)
        del self.rows[: first * self.width]
        self.oldest = self._time(0) if self.rows else NEVER

    def holding(self, ts: int) -> list[int]:
        """Numbers of the rows that hold a message, oldest first."""
        first = bisect_right(range(len(self)), ts, key=self._time)  # what is older than the message can't hold it
        name, found = ts.to_bytes(8, "big"), []
        at = self.rows.find(name, first * self.width)
        while at >= 0:
            number, place = divmod(at, self.width)
            if place >= 24 and place % 8 == 0:
                found.append(number)
            at = self.rows.find(name, at + 1)
        return found

    def take(self, number: int) -> str | None:
        """The id in a row, once; None if it was taken before."""
        at = number * self.width
        last = at + 7
        if self.rows[last] & 1:
            return None
        self.rows[last] |= 1
        return self.rows[at + 8 : at + 24].hex()

    def _time(self, number: int) -> int:
        at = number * self.width
        return int.from_bytes(self.rows[at : at + 8], "big") >> 1
