"""What live ingest says of a topic that an export was put on: the channels of both should be the same, and so should --include."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

BEFORE = (
    "What was said before comes in with `beepgpt up --rebuild --history 180d`; by hand, with `beepgpt ingest TOPIC --with EXPORT`, which"
    " writes both to a new topic, in order."
)
"""What is said of a channel that has no history on the topic."""
NAMED = 5
"""So many channels are named in a sentence."""


def notes_on_history(followed: Mapping[str, str], listed: Mapping[str, str], there: Collection[str], since: int) -> list[str]:
    """Sentences about channels that have no history on the topic, and about those on it that are not followed.

    `followed`: channels that are written, with their kinds. `listed`: all that the app is in, with their names. `there`: channels with
    events on the topic. `since`: from when on events are written, in microseconds.
    """
    notes = []
    if new := [channel for channel in followed if channel not in there]:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(Counter(followed[channel] for channel in new).items()))
        notes.append(f"Without history on the topic: {kinds} ({_some(new, listed)}). Theirs begins at {time_text(since)}. {BEFORE}")
    if left := sorted(set(there) - set(followed)):
        them, end = ("it", "its history ends") if len(left) == 1 else ("them", "their histories end")
        why = "this --include leaves" if set(left) <= set(listed) else f"the app is not in {them}, or this --include leaves"
        notes.append(f"On the topic and not followed: {_some(left, listed)}: {why} {them} out, and {end} with the export.")
    return notes


def note_on_no_channel(others: int) -> str:
    """A sentence for an app that is in no channel that is to be read. `others`: how many it is in that are left out.

    >>> note_on_no_channel(0)
    'the app is in no channel: /invite @BeepGPT in those to be read'
    >>> note_on_no_channel(2).partition(":")[0]
    'the app is in no channel but 2 that are left out'
    """
    but = f" but {others:,} that {'is' if others == 1 else 'are'} left out" if others else ""
    return f"the app is in no channel{but}: /invite @BeepGPT in those to be read"


def note_on_joined(channels: Sequence[str], names: Mapping[str, str]) -> str:
    """A sentence about channels that the app was added to while it runs.

    >>> note_on_joined(["C1"], {"C1": "general"}).partition(". ")[0]
    'Joined: #general: events are written from now on'
    """
    return f"Joined: {_some(channels, names)}: events are written from now on. {BEFORE}"


def time_text(at: int) -> str:
    """A time in microseconds, for people.

    >>> time_text(1_690_360_253_000_000)
    '2023-07-26 08:30:53 UTC'
    """
    return f"{datetime.fromtimestamp(at // 1_000_000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _some(channels: Sequence[str], names: Mapping[str, str]) -> str:
    shown = [f"#{names[each]}" if names.get(each) else each for each in channels[:NAMED]]
    return ", ".join(shown) + (f" and {len(channels) - NAMED:,} more" if len(channels) > NAMED else "")
