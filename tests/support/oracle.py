"""The second reading of docs/semantics.md: slow, plain, and with no code in common with `conversations/`.

Everything is recomputed from the log of what was applied: windows, texts, what is kept, what is open. Only two things are steps:
which event comes next, and which marks (`Forgot`) it leaves in the log before it takes effect. What a record says is in
oracle_records.py, prompts are in oracle_prompts.py.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.support.oracle_features import Cues, Look, Post, mentions_of, words_of
from tests.support.oracle_prompts import clean, count_tokens, make_prompt
from tests.support.oracle_records import (
    FAR_FUTURE,
    MINUTE,
    NEVER,
    Event,
    Heartbeat,
    Ignored,
    Kind,
    Rejected,
    Rules,
    micros,
    parse,
    stamp,
)

DUPLICATES_BEYOND_LATENESS = 10 * MINUTE


@dataclass(frozen=True)
class Seen:
    """All that candidates and their features depend on at a point."""

    look: Look
    posts: Sequence[Post]
    """By people, in this channel so far."""
    bots: frozenset[str]


@dataclass
class OracleRun:
    """What a run must give; channels in the order they were first seen, examples in the order they settled."""

    examples: list[dict[str, Any]] = field(default_factory=list)
    retractions: list[dict[str, str]] = field(default_factory=list)
    account: dict[str, Any] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)
    """What candidates could be chosen from, by example."""
    deletions: list[tuple[str, int, int]] = field(default_factory=list)
    """Every deletion but duplicates: channel, the message's ts, when it was deleted."""


# Order


@dataclass
class Read:
    """A channel's events that were not late, and its clock when the input ended."""

    events: list[Event] = field(default_factory=list)
    clock: int = -1


def read(records: Sequence[bytes], rules: Rules, until: int | None, now: int, outcomes: Counter[str]) -> dict[str, Read]:
    """Each channel's events in the order they apply; `outcomes` counts the rest."""
    channels: dict[str, Read] = {}
    beat = -1
    for line in records:
        try:
            found = parse(line, rules, now)
        except Rejected as rejected:
            outcomes[f"rejected {rejected}"] += 1
            continue
        if isinstance(found, Heartbeat):
            outcomes["heartbeat"] += 1
            beat = max(beat, found.at)
            continue
        if isinstance(found, Ignored):
            outcomes[f"ignored {found.reason}"] += 1
            if found.channel and found.t is not None:
                channel = channels.setdefault(found.channel, Read())
                channel.clock = max(channel.clock, found.t)
            continue
        channel = channels.setdefault(found.channel, Read())
        if max(channel.clock, beat) - found.t > rules.lateness:
            outcomes["late"] += 1
        elif until is not None and found.t > until:
            outcomes["ignored after_until"] += 1
        else:
            channel.events.append(found)
        channel.clock = max(channel.clock, found.t)
    for channel in channels.values():
        # What is not late is never before what was applied, so the order of application is the sorted order.
        channel.events.sort(key=lambda e: (e.t, e.kind, e.ts, e.user, e.reaction, e.removed, e.bot, e.line))
        channel.clock = max(channel.clock, beat) if until is None else until
    return channels


def is_duplicate(event: Event, earlier: Sequence[Event], rules: Rules) -> bool:
    """Whether one of the `earlier` events that were no duplicates themselves says the same, and not too long ago."""

    def content(one: Event) -> tuple[object, ...]:
        who = (one.user, one.reaction, one.removed) if one.kind is Kind.REACT else ()
        return (one.kind, one.ts, one.t, *who)

    return any(
        event.t - one.t <= rules.lateness + DUPLICATES_BEYOND_LATENESS
        and (content(one) == content(event) or (event.event_id is not None and one.event_id == event.event_id))
        for one in earlier
    )


# The log of a channel, and what can be read from it


@dataclass(frozen=True)
class Forgot:
    """From here on nothing is known of a conversation."""

    conversation: str


@dataclass(frozen=True)
class Applied:
    """An event that took effect."""

    event: Event
    joins: tuple[str, ...] = ()
    """Where a post stands, its own conversation first: a root's session, then its thread."""
    changed: tuple[str, ...] = ()
    """Conversations whose window it changed."""


Log = list[Applied | Forgot]


def applied(log: Log) -> list[Applied]:
    """What took effect, in order."""
    return [entry for entry in log if isinstance(entry, Applied)]


def posts(log: Log) -> list[Applied]:
    """The posts, in order, also those that were deleted later."""
    return [entry for entry in applied(log) if entry.event.kind is Kind.POST]


def roots(log: Log) -> list[Event]:
    """The posts that are no replies, in order."""
    return [entry.event for entry in posts(log) if entry.event.thread_ts is None]


def thread_id(channel: str, ts: int) -> str:
    """The id of the thread under the root `ts`."""
    return f"{channel}:{stamp(ts)}:thread"


def current_session(channel_roots: Sequence[Event], rules: Rules) -> str | None:
    """The session of the last root: it began with the latest root that came after a long silence."""
    starts = [root for number, root in enumerate(channel_roots) if number == 0 or root.t - channel_roots[number - 1].t > rules.session_gap]
    return f"{starts[-1].channel}:{stamp(starts[-1].ts)}:session" if starts else None


def is_over(conversation: str, log: Log, t: int, rules: Rules) -> bool:
    """Whether no root at `t` could join the conversation, which is a session: the gap since its last root has passed."""
    last = [entry.event.t for entry in posts(log) if conversation in entry.joins and entry.event.t <= t][-1]
    return conversation.endswith(":session") and t - last > rules.session_gap


def conversations_of(post: Event, log: Log, rules: Rules) -> tuple[str, ...]:
    """Where a post stands, its own conversation first."""
    if rules.scope == "channel":
        return (f"{post.channel}:channel",)
    if post.thread_ts is not None:
        return (thread_id(post.channel, post.thread_ts),)
    session = current_session([*roots(log), post], rules)
    assert session is not None
    return (session, thread_id(post.channel, post.ts))


def life(log: Log, conversation: str) -> Log:
    """The log since the conversation was last forgotten."""
    marks = [number for number, entry in enumerate(log) if entry == Forgot(conversation)]
    return log[marks[-1] + 1 :] if marks else log


def kept_conversations(log: Log) -> list[str]:
    """Conversations somebody posted in since they were last forgotten, oldest first."""
    named = dict.fromkeys(name for entry in posts(log) for name in entry.joins)
    return [name for name in named if any(name in entry.joins for entry in posts(life(log, name)))]


def window_of(log: Log, conversation: str, rules: Rules) -> tuple[Event, ...]:
    """The last messages of a conversation; a deletion leaves a gap that only new posts fill."""
    window: list[Event] = []
    for entry in applied(life(log, conversation)):
        if entry.event.kind is Kind.POST and conversation in entry.joins:
            window = [*window, entry.event][-rules.window :]
        if entry.event.kind is Kind.DELETE:
            window = [message for message in window if message.ts != entry.event.ts]
    return tuple(window)


def text_of(log: Log, ts: int) -> str | None:
    """A message's text as last known."""
    known = [entry.event for entry in applied(log) if entry.event.ts == ts and entry.event.kind in (Kind.POST, Kind.EDIT)]
    return known[-1].text


def views(log: Log, rules: Rules) -> dict[str, tuple[tuple[int, str | None], ...]]:
    """What can be seen of each kept conversation: its window's messages and their texts."""
    return {
        name: tuple((message.ts, text_of(log, message.ts)) for message in window_of(log, name, rules)) for name in kept_conversations(log)
    }


def last_change(log: Log, conversation: str) -> int:
    """When a conversation's window last changed."""
    return max(entry.event.t for entry in applied(log) if conversation in entry.changed)


# Points


@dataclass(frozen=True)
class Point:
    """A window as it stood at `prompt_ts`."""

    number: int
    """Length of the log when it was made, so the log from here on is what came after it."""
    conversation: str
    collects: tuple[str, ...]
    """Conversations whose acts answer it, for the set targets."""
    prompt_ts: int
    window: tuple[Event, ...]
    speakers: int
    root_missing: bool
    state: Literal["open", "withheld", "empty"]
    prompt: str

    @property
    def newest(self) -> Event:
        """The newest message of the window."""
        return self.window[-1]

    def end(self, rules: Rules, last: int) -> int:
        """When its horizon ends; an unlimited one ends with the input."""
        return last if rules.horizon is None else self.prompt_ts + rules.horizon


def make_point(log: Log, conversation: str, collects: tuple[str, ...], rules: Rules) -> Point:
    """The point that the log's last entry made in a conversation."""
    window = window_of(log, conversation, rules)
    texts = [text_of(log, message.ts) for message in window]
    own_posts = [entry.event for entry in posts(life(log, conversation)) if conversation in entry.joins]
    prompt = make_prompt([text or "" for text in texts], rules)
    return Point(
        number=len(log),
        conversation=conversation,
        collects=collects,
        prompt_ts=applied(log)[-1].event.t,
        window=window,
        speakers=len({post.user for post in own_posts if not post.bot}),
        root_missing=conversation.endswith(":thread") and own_posts[0].thread_ts is not None,
        state="withheld" if None in texts else "open" if prompt else "empty",
        prompt=prompt,
    )


def points_made(log: Log, rules: Rules) -> list[Point]:
    """The points that the log's last entry made: one for each changed window, or for a set target one for each post."""
    entry = applied(log)[-1]
    if rules.target == "next_user":
        going_on = [name for name in entry.changed if not is_over(name, log, entry.event.t, rules)]
        return [make_point(log, name, (name,), rules) for name in going_on if window_of(log, name, rules)]
    if entry.event.kind is Kind.POST:
        return [make_point(log, entry.joins[0], entry.joins, rules)]
    return []


@dataclass(frozen=True)
class Fate:
    """What became of a point."""

    name: Literal["answered", "silent", "superseded", "elsewhere", "censored", "moved", "withheld", "empty", "merged"]
    settled_ts: int = NEVER
    answer_ts: int | None = None
    answer: tuple[str, ...] = ()


def fate_of(point: Point, log: Log, clock: int, rules: Rules, last: int = NEVER) -> Fate:
    """What became of a point by the time `clock`; one that is still open is *censored*."""
    if point.state != "open":
        return Fate(point.state)
    if rules.target == "next_user":
        return next_user(point, log, clock, rules, last)
    return set_of_users(point, log, clock, rules, last)


def next_user(point: Point, log: Log, clock: int, rules: Rules, last: int) -> Fate:
    """The next change of the window ends a point, or its horizon does."""
    end, is_moved = until_moved(point, log, rules, last)
    changes = [
        entry.event
        for entry in applied(log[point.number :])
        if point.conversation in entry.changed
        and not (entry.event.kind is Kind.EDIT and is_over(point.conversation, log, entry.event.t, rules))
    ]
    if changes and changes[0].t <= end:
        by = changes[0]
        if by.kind is Kind.POST and by.user != point.newest.user and not by.bot:
            return Fate("answered", by.t, by.t, (by.user,))
        return Fate("superseded")
    if end > clock:
        return Fate("censored")
    if is_moved:
        return Fate("moved")
    replies = [entry.event for entry in posts(log) if entry.event.thread_ts is not None and entry.event.t <= end]
    if point.conversation.endswith(":session") and any(
        reply.thread_ts == point.newest.ts and reply.t > point.prompt_ts and reply.user != point.newest.user and not reply.bot
        for reply in replies
    ):
        return Fate("elsewhere")
    if point.conversation.endswith(":thread") and not any(
        thread_id(reply.channel, reply.thread_ts or 0) == point.conversation for reply in replies
    ):
        return Fate("merged")
    return Fate("silent", end)


def until_moved(point: Point, log: Log, rules: Rules, last: int) -> tuple[int, bool]:
    """When a point ends, and whether that is because its channel got another id before its horizon had passed."""
    end = point.end(rules, last)
    moves = [entry.event.t for entry in applied(log[point.number :]) if entry.event.kind is Kind.MOVE]
    if not moves or moves[0] >= end:
        return end, False
    return moves[0], rules.horizon is not None


def set_of_users(point: Point, log: Log, clock: int, rules: Rules, last: int) -> Fate:
    """All acts of others up to the horizon's end."""
    end, is_moved = until_moved(point, log, rules, last)
    if end > clock:
        return Fate("censored")
    if is_moved:
        return Fate("moved")
    others = [act for act in acts(point, log, rules, end) if act.user != point.newest.user and not act.bot]
    if rules.target == "reactors" and any(not act.user for act in others):
        return Fate("censored")
    others = [act for act in others if act.user]
    if others:
        timed = [act.t for act in others if act.timed]
        return Fate("answered", end, min(timed, default=end), tuple(sorted({act.user for act in others})))
    later = [entry for entry in posts(log[point.number :]) if point.conversation in entry.joins and entry.event.t <= end]
    return Fate("superseded") if later else Fate("silent", end)


def acts(point: Point, log: Log, rules: Rules, end: int) -> list[Event]:
    """Posts and reactions that could answer a point, by whomever."""
    homes = {entry.event.ts: entry.joins for entry in posts(log)}
    found = []
    for event in (entry.event for entry in applied(log)):
        inside = point.prompt_ts < event.t <= end if event.timed else point.prompt_ts <= event.ts
        here = bool(set(homes.get(event.ts, ())) & set(point.collects))
        added = event.kind is Kind.REACT and not event.removed
        on_newest = added and event.ts == point.newest.ts
        in_conversation = here and (added or event.kind is Kind.POST)
        if inside and (on_newest if rules.target == "reactors" else in_conversation):
            found.append(event)
    return found


# What is kept, known and forgotten as an event at `t` comes: horizons that end before `t` have closed


def is_open(point: Point, log: Log, t: int, rules: Rules) -> bool:
    """Whether a point waits for its answer."""
    return fate_of(point, log, t - 1, rules).name == "censored"


def is_kept(ts: int, log: Log, points: Sequence[Point], t: int, rules: Rules) -> bool:
    """A message is kept while a kept conversation's window or an open point's end has it, and it was not deleted."""
    if any(entry.event.kind is Kind.DELETE and entry.event.ts == ts for entry in applied(log)):
        return False
    in_window = any(message.ts == ts for name in kept_conversations(log) for message in window_of(log, name, rules))
    return in_window or any(point.newest.ts == ts and is_open(point, log, t, rules) for point in points)


def is_held_by_examples(ts: int, log: Log, points: Sequence[Point], t: int, rules: Rules) -> bool:
    """Whether a message stands in the window of an example that is remembered, or that may still be made."""
    for point in points:
        fate = fate_of(point, log, t - 1, rules)
        remembered = fate.name in ("answered", "silent") and t - fate.settled_ts <= rules.remember
        if (remembered or fate.name == "censored") and any(message.ts == ts for message in point.window):
            return True
    return False


def is_known(event: Event, log: Log, points: Sequence[Point], rules: Rules) -> bool:
    """Whether an event can take effect: it is a post, or its message is known."""
    if event.kind in (Kind.POST, Kind.MOVE) or is_kept(event.ts, log, points, event.t, rules):
        return True
    return event.kind is Kind.DELETE and is_held_by_examples(event.ts, log, points, event.t, rules)


def is_too_old(conversation: str, log: Log, points: Sequence[Point], t: int, rules: Rules) -> bool:
    """Whether a conversation is idle for too long, or has too many newer roots and nothing open."""
    if conversation.endswith(":channel"):
        return False
    if rules.horizon is not None and t - last_change(log, conversation) > rules.thread_ttl:
        return True
    if conversation.endswith(":session"):
        newest = max(entry.event.ts for entry in posts(log) if conversation in entry.joins)
    else:
        newest = micros(conversation.split(":")[-2])
    newer = [root for root in roots(log) if root.ts > newest]
    if len(newer) < rules.kept_roots or conversation == current_session(roots(log), rules):
        return False
    return not any(
        point.conversation == conversation or (point.conversation.endswith(":session") and point.newest.ts == newest)
        for point in points
        if is_open(point, log, t, rules)
    )


# The run


def run(records: Sequence[bytes], rules: Rules, *, until: int | None = None, now: int = FAR_FUTURE) -> OracleRun:
    """All examples and retractions of a bounded input, and where every record and point went."""
    outcomes: Counter[str] = Counter()
    fates: Counter[str] = Counter()
    result = OracleRun()
    for channel in read(records, rules, until, now, outcomes).values():
        log, points, deletions = replay(channel.events, rules, outcomes)
        said = people_posts(log, rules)
        result.deletions += [(event.channel, event.ts, event.t) for event in deletions]
        settled = [(point, fate_of(point, log, channel.clock, rules, last=channel.clock)) for point in points]
        fates.update(fate.name for _, fate in settled)
        for point, fate in sorted(settled, key=lambda one: one[1].settled_ts):
            if fate.name in ("answered", "silent"):
                example = example_of(point, fate, rules)
                result.examples.append(example)
                result.seen[example["id"]] = seen_at(point, log[: point.number], said, rules)
                result.retractions += retractions_of(example, point, fate, log, rules)
    result.account = account_of(outcomes, fates, len(records))
    return result


def replay(events: Sequence[Event], rules: Rules, outcomes: Counter[str]) -> tuple[Log, list[Point], list[Event]]:
    """The log of a channel, all points that were made, and the deletions, from its events in order."""
    log: Log = []
    points: list[Point] = []
    earlier: list[Event] = []
    for event in events:
        if is_duplicate(event, earlier, rules):
            outcomes["duplicate"] += 1
            continue
        earlier.append(event)
        log = [*log, *(Forgot(name) for name in kept_conversations(log) if is_too_old(name, log, points, event.t, rules))]
        if not is_known(event, log, points, rules):
            outcomes["ignored unknown_message"] += 1
            continue
        outcomes["applied"] += 1
        joins = conversations_of(event, log, rules) if event.kind is Kind.POST else ()
        before, after = views(log, rules), views([*log, Applied(event, joins)], rules)
        changed = tuple(name for name in (*joins, *after) if before.get(name) != after[name])
        log = [*log, Applied(event, joins, tuple(dict.fromkeys(changed)))]
        points += points_made(log, rules)
    return log, points, [event for event in earlier if event.kind is Kind.DELETE]


def example_of(point: Point, fate: Fate, rules: Rules) -> dict[str, Any]:
    """The JSON object of an example, its keys in order, without candidates."""
    prompt_ts, answer_ts = stamp(point.prompt_ts), None if fate.answer_ts is None else stamp(fate.answer_ts)
    named = (rules.workspace, rules.spec, rules.target, rules.scope, point.conversation, prompt_ts, answer_ts or "")
    return {
        "id": hashlib.sha256("\n".join(named).encode()).hexdigest()[:32],
        "spec": rules.spec,
        "target": rules.target,
        "scope": rules.scope,
        "channel": point.newest.channel,
        "conversation": point.conversation,
        "speakers": point.speakers,
        "root_missing": point.root_missing,
        "prompt_ts": prompt_ts,
        "settled_ts": stamp(fate.settled_ts),
        "answer_ts": answer_ts,
        "answer": list(fate.answer),
        "window": [{"ts": stamp(message.ts), "user": message.user} for message in point.window],
        "prompt": point.prompt,
        "prompt_tokens": count_tokens(point.prompt, rules.encoding),
    }


def seen_at(point: Point, log: Log, said: Sequence[tuple[int, Post]], rules: Rules) -> Seen:
    """What candidates are chosen from at a point. `log`: what had been applied by then; `said`: people's posts, also later ones."""
    texts = {message.ts: text_of(log, message.ts) or "" for message in point.window}
    window = [
        Cues(message.user, message.bot, words_of(clean(texts[message.ts])), mentions_of(texts[message.ts])) for message in point.window
    ]
    spoken = () if rules.scope == "channel" else tuple(speakers_of(log, point.conversation))
    bots = frozenset(entry.event.user for entry in posts(log) if entry.event.bot)
    return Seen(Look(point.prompt_ts, window, rules.max_candidates, spoken), [each for number, each in said if number < point.number], bots)


def speakers_of(log: Log, conversation: str) -> list[str]:
    """Who posted in a conversation since it was last forgotten, bots apart, in the order of their first posts."""
    own = [entry.event for entry in posts(life(log, conversation)) if conversation in entry.joins]
    return list(dict.fromkeys(event.user for event in own if not event.bot))


def people_posts(log: Log, rules: Rules) -> list[tuple[int, Post]]:
    """The posts of a channel's people, each with its place in the log.

    What it answers is the message before it in its conversation, if that is by somebody else.
    """
    found = []
    for number, entry in enumerate(log):
        if not isinstance(entry, Applied) or entry.event.kind is not Kind.POST or entry.event.bot:
            continue
        post, past, home = entry.event, log[:number], entry.joins[0]
        words = words_of(clean(post.text or ""))
        before = next(reversed(window_of(past, home, rules)), None)
        if before is None or before.user == post.user:
            found.append((number, Post(post.user, post.t, words)))
        else:
            asked = words_of(clean(text_of(past, before.ts) or ""))
            found.append((number, Post(post.user, post.t, words, before.user, len(speakers_of(past, home)) == 1, asked)))
    return found


def retractions_of(example: dict[str, Any], point: Point, fate: Fate, log: Log, rules: Rules) -> Iterator[dict[str, str]]:
    """The first deletion of a message in the window, if the example was still remembered."""
    held = {message.ts for message in point.window}
    for event in (entry.event for entry in applied(log[point.number :])):
        if event.kind is Kind.DELETE and event.ts in held and event.t - fate.settled_ts <= rules.remember:
            yield {"id": example["id"], "retracted_ts": stamp(event.t)}
            return


def account_of(outcomes: Counter[str], fates: Counter[str], records: int) -> dict[str, Any]:
    """Where every record and every point went."""

    def by_reason(kind: str) -> dict[str, int]:
        return {name.split(" ", 1)[1]: count for name, count in sorted(outcomes.items()) if name.startswith(f"{kind} ")}

    names = ("answered", "silent", "superseded", "elsewhere", "censored", "moved", "withheld", "empty", "merged")
    return {
        "events": {
            "read": records - outcomes["heartbeat"],
            "applied": outcomes["applied"],
            "duplicate": outcomes["duplicate"],
            "ignored": by_reason("ignored"),
            "rejected": by_reason("rejected"),
            "late": outcomes["late"],
        },
        "heartbeats": outcomes["heartbeat"],
        "points": {"made": fates.total(), **{name: fates[name] for name in names}},
    }
