"""Predictions as alerts need them: read from the scoring flow's JSON, their messages' texts, and the keys under which they count once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from beepgpt.conversations.events import micros, ts_text
from beepgpt.conversations.rules import HOUR
from beepgpt.errors import BeepGPTError

SUFFIX = "\n\n###\n\n"
SEPARATOR = "\n\n"
EXCERPT = 300
"""Characters of a message that an alert shows, at most."""


class NoPrediction(BeepGPTError):
    """A value is no prediction; the message names the field, and nothing that anybody wrote."""


class PredictedConversation(NamedTuple):
    """A prediction, as far as alerts need it. Times are microseconds since 1970."""

    id: str
    channel: str
    conversations: tuple[str, ...]
    prompt_ts: int
    window: tuple[tuple[int, str], ...]
    """Time and author of each message, oldest first."""
    prompt: str
    fresh: bool
    model: str
    people: tuple[tuple[str, float], ...]
    """Users and their probabilities of answering, likeliest first."""
    features: Mapping[str, Sequence[Any]]
    """The candidates' features by column, where the prediction has them."""
    target: str = "next_user"
    part: str | None = None
    """The part of its model's time: `fit`, `choose` or `judge`; None: it names none."""

    @property
    def author(self) -> str:
        """The author of the newest message."""
        return self.window[-1][1]

    @property
    def message(self) -> int:
        """The newest message's time, which identifies it in its channel."""
        return self.window[-1][0]

    @property
    def newest_at(self) -> int:
        """When the newest message was posted, for an edit's point too: an edit is as old as its message."""
        return min(self.prompt_ts, self.message)


def read_prediction(value: Mapping[str, Any]) -> PredictedConversation:
    """Read a prediction as the scoring flow writes it. Raises NoPrediction."""
    try:
        window = tuple((micros(each["ts"]), str(each["user"])) for each in value["window"])
        if not window:
            raise NoPrediction("the window is empty")
        return PredictedConversation(
            id=str(value["id"]),
            channel=str(value["channel"]),
            conversations=tuple(map(str, value["conversations"])),
            prompt_ts=micros(value["prompt_ts"]),
            window=window,
            prompt=str(value["prompt"]),
            fresh=value.get("fresh", True) is True,
            model=str(value.get("model", "")),
            people=tuple((str(each["user"]), float(each["p"])) for each in value["people"]),
            features=value.get("candidates") or {},
            target=str(value.get("target", "next_user")),
            part=value.get("part"),
        )
    except NoPrediction:
        raise
    except KeyError as error:
        raise NoPrediction(f"it has no {error.args[0]}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise NoPrediction(f"a field of it is of another kind ({type(error).__name__})") from error


def record_kind(value: Any) -> str:
    """Classify a record by its form: `prediction`, `outcome`, `deletion`, `event` (of Slack), `no_object` or `other`.

    >>> record_kind({"channel": "C1", "ts": "1.0", "deleted_ts": "1.0"}), record_kind({"type": "heartbeat"})
    ('deletion', 'event')
    """
    if not isinstance(value, dict):
        return "no_object"
    if "type" in value:
        return "event"
    if "people" in value and "window" in value:
        return "prediction"
    if "answer" in value and "id" in value:
        return "outcome"
    if "deleted_ts" in value:
        return "deletion"
    return "other"


# Keys: what counts as one conversation


def keys_of(point: PredictedConversation, session_of: Callable[[str], str | None]) -> tuple[str, ...]:
    """The keys under which a person is alerted once: message, conversations, their session, and the threads of the messages shown.

    Where a whole channel is one conversation, each hour of it counts as another. `session_of` returns the session of a thread's root.
    """
    keys = {f"{point.channel}:{point.message}": None}
    for each in point.conversations:
        if each.endswith(":channel"):
            keys[f"{each}:{point.message // HOUR}"] = None
            continue
        keys[each] = None
        if each.endswith(":thread") and (session := session_of(each)) is not None:
            keys[session] = None
    keys.update(dict.fromkeys(links_of(point)))
    return tuple(keys)


def participation(point: PredictedConversation) -> dict[tuple[str, str], None]:
    """(Key of a conversation, user) for everybody who wrote in the window: as `keys_of`, by the hour where a whole channel is one."""
    return dict.fromkeys(
        (f"{each}:{ts // HOUR}" if each.endswith(":channel") else each, user) for each in point.conversations for ts, user in point.window
    )


def links_of(point: PredictedConversation) -> dict[str, str]:
    """Map the threads whose roots stand in a session's window to that session."""
    return {
        f"{point.channel}:{ts_text(ts)}:thread": session
        for session in point.conversations
        if session.endswith(":session")
        for ts, _ in point.window
    }


def is_root_alone(point: PredictedConversation) -> bool:
    """Whether this is the thread of a root that nobody replied to, in a session begun before.

    The session has a point of its own for the same message. Models learn who replies first in a thread from threads that have a reply
    (those without count as their session's silence, *merged*), so probabilities are far too high here.
    """
    own = f"{point.channel}:{ts_text(point.message)}:thread"
    return point.conversations == (own,) and len(point.window) == 1


# Texts


def newest_text(prompt: str) -> str:
    """The last message of a prompt.

    >>> newest_text("Is it red?\\n\\nNot any more\\n\\n###\\n\\n")
    'Not any more'
    """
    return prompt.removesuffix(SUFFIX).rpartition(SEPARATOR)[2]


def texts_of(point: PredictedConversation) -> dict[int, str]:
    """The text of each message of the window by its time; empty if the prompt left messages out, since it doesn't say which."""
    texts = point.prompt.removesuffix(SUFFIX).split(SEPARATOR)
    return dict(zip((ts for ts, _ in point.window), texts, strict=True)) if len(texts) == len(point.window) else {}


def shortened(text: str, most: int = EXCERPT) -> str:
    """Cut a text to at most `most` characters, at a word where that keeps more than half.

    >>> shortened("one two three", 9)
    'one two …'
    """
    if len(text) <= most:
        return text
    cut = text[: most - 1]
    words = cut.rpartition(" ")[0]
    return (words if len(words) > most // 2 else cut).rstrip() + (" …" if len(words) > most // 2 else "…")
