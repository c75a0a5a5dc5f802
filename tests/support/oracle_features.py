"""The second reading's candidates and their features: from the log of all posts, by the definitions, with nothing kept in between.

It shares no code with `conversations/`.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from hypothesis import reject

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR

ANSWERS = {"3d": 3, "30d": 30, "180d": 180}
FIRST = {"7d": 7, "60d": 60}
POSTS = {"30d": 30}
"""Half-lives in days. Written out, as are the numbers below: a wrong constant should show."""
WEIGHT = 1 << 20
AUTHORS_KEPT = 32
QUERY_WORDS = 24
TINY = 1e-150
"""Counts that went through 512 half-lives may be 0 or not; what they are shares of, too."""


class Post(NamedTuple):
    """A person's post in a channel, and whom it answers."""

    user: str
    t: int
    words: tuple[int, ...] = ()
    answers: str | None = None
    first: bool = False
    asked: tuple[int, ...] = ()


class Cues(NamedTuple):
    """A message of a window: its author, its words, whom it names."""

    author: str
    bot: bool = False
    words: tuple[int, ...] = ()
    mentions: tuple[str, ...] = ()


class Look(NamedTuple):
    """A point at which candidates are asked for: at most so many, and who had spoken in its conversation."""

    t: int
    window: list[Cues]
    most: int
    spoken: tuple[str, ...] = ()


def decayed(times: Iterable[int], t: int, days: int) -> float:
    return sum(math.exp2((time - t) / (days * DAY)) for time in times)


def since_known(log: Sequence[Post], user: str, kept: int) -> list[Post]:
    """The person's posts, but for those after which so many others came that they were forgotten."""
    posts: list[Post] = []
    others: set[str] = set()
    for post in log:
        if post.user == user:
            posts.append(post)
            others = set()
        else:
            others.add(post.user)
            if len(others) == kept:
                posts = []
    return posts


def counted(places: Iterable[int]) -> dict[int, int]:
    """How often each was named, all halved when one would pass 255."""
    counts: dict[int, int] = {}
    for place in places:
        if counts.get(place) == 255:
            counts = {other: count // 2 for other, count in counts.items()}
        counts[place] = counts.get(place, 0) + 1
    return counts


def insist_on_distance(times: Iterable[list[int]], t: int, days: int) -> None:
    """Float sums may or may not separate almost equal counts: such a log is left out, unless times are the same or weights powers of 2."""
    different = sorted({tuple(each) for each in times}, key=lambda each: decayed(each, t, days))
    if all(time % (days * DAY) == 0 for each in different for time in each):
        return
    sums = [decayed(each, t, days) for each in different]
    if any(more < TINY or more - less < 1e-12 * more for less, more in pairwise(sums)):
        reject()


def answered(posts: Sequence[Post], authors_kept: int) -> dict[str, list[int]]:
    """When the person answered each author, of those whose answers are still counted."""
    times: dict[str, list[int]] = {}
    for post in posts:
        if post.answers is None:
            continue
        times.setdefault(post.answers, []).append(post.t)
        if len(times) > authors_kept:
            others = {author: when for author, when in times.items() if author != post.answers}
            insist_on_distance(others.values(), post.t, 180)
            del times[min((decayed(when, post.t, 180), author) for author, when in others.items())[1]]
    return times


def closeness(log: Sequence[Post], posts: Sequence[Post], look: Look, query_words: int) -> float:
    query = list(dict.fromkeys(word for said in reversed(look.window) for word in said.words))[:query_words]
    common = counted(word for post in log for word in post.words)
    weights = {word: WEIGHT // (1 + common.get(word, 0)) for word in query}
    counts = counted(word for post in posts if post.answers is not None for word in post.asked)
    lengths = math.hypot(*weights.values()) * math.hypot(*counts.values())
    return sum(weight * counts.get(word, 0) for word, weight in weights.items()) / lengths if lengths else 0.0


def facts(log: Sequence[Post], look: Look, user: str, kept: int, authors_kept: int, query_words: int) -> dict[str, float]:
    """All numbers beside one candidate, unrounded."""
    posts, t, last = since_known(log, user, kept), look.t, look.window[-1].author
    answers = [post.t for post in posts if post.answers is not None]
    first = [post.t for post in posts if post.answers is not None and post.first]
    all_answers = [post.t for post in log if post.answers is not None]
    hours = counted(post.t // HOUR % 24 for post in posts)
    near = {(t // HOUR + step) % 24 for step in (-1, 0, 1)}
    made = {
        "in_window": next((back for back, said in enumerate(reversed(look.window), start=1) if said.author == user and not said.bot), 0),
        "mentioned": next((back for back, said in enumerate(reversed(look.window), start=1) if user in said.mentions), 0),
        "spoke": look.spoken[:8].index(user) + 1 if user in look.spoken[:8] else 0,
        "seen_hours": (t - posts[-1].t) / HOUR if posts else -1.0,
        "to_author": decayed(answered(posts, authors_kept).get(last, []), t, 180),
        "hour_share": sum(hours.get(hour, 0) for hour in near) / sum(hours.values()) if posts else 0.0,
        "closeness": closeness(log, posts, look, query_words),
    }
    for name, days in ANSWERS.items():
        made["answers_" + name] = decayed(answers, t, days)
        # A share doesn't depend on when it is looked at; at the last answer the sums are no tiny numbers yet.
        at = max(all_answers, default=t)
        made["share_" + name] = decayed(answers, at, days) / decayed(all_answers, at, days) if all_answers else 0.0
    made |= {"first_" + name: decayed(first, t, days) for name, days in FIRST.items()}
    made |= {"posts_" + name: decayed((post.t for post in posts), t, days) for name, days in POSTS.items()}
    return made


def nearby(look: Look, bots: Collection[str], known: Collection[str]) -> list[str]:
    """The candidates who come first: the window's authors, whom it names, the first eight who spoke. `known`: who has posted themselves."""
    spoke = [said.author for said in reversed(look.window) if not said.bot]
    named = [person for said in reversed(look.window) for person in said.mentions if person not in bots or person in known]
    return list(dict.fromkeys(user for user in [*spoke, *named, *look.spoken[:8]] if user != look.window[-1].author))


def assert_candidates(columns: Mapping[str, list[Any]], log: Sequence[Post], look: Look, kept: int, bots: Collection[str]) -> None:
    """These are the candidates of a point, and their features.

    Of people who are equally active but for less than a float can hold, either may come first.
    """
    posted = {user: [post.t for post in since_known(log, user, kept)] for user in {post.user for post in log}}
    known = {user: times for user, times in posted.items() if times}
    users, near = columns["user"], nearby(look, bots, known)
    assert users[: len(near)] == near[: look.most]
    active = {user: decayed(times, look.t, 30) for user, times in known.items() if user not in (*near, look.window[-1].author)}
    chosen = users[len(near) :]
    assert len(set(chosen)) == len(chosen) == max(0, min(look.most - len(near), len(active)))
    for user, expected in zip(chosen, sorted(active.values(), reverse=True), strict=False):
        assert abs(active[user] - expected) <= 1e-11 * expected
    for row, user in enumerate(users):
        for name, value in facts(log, look, user, kept, AUTHORS_KEPT, QUERY_WORDS).items():
            assert abs(columns[name][row] - value) <= 0.500001e-4 + 1e-9 * abs(value), (name, user, columns[name][row], value)


def words_of(cleaned: str) -> tuple[int, ...]:
    """A text's words by their buckets, each once."""
    words = re.findall(r"[^\W]{2,}", cleaned.lower()[:4000])
    return tuple(dict.fromkeys(zlib.crc32(word.encode()) % 1024 for word in words))


def mentions_of(text: str) -> tuple[str, ...]:
    """Whom a raw text names: the first eight, not in code, not Slackbot.

    >>> mentions_of("<@U1> ```<@U2>``` <@U3|cy>")
    ('U1', 'U3')
    """
    outside = re.sub(r"```.*?```", " ", text, flags=re.DOTALL)
    named = [found.split("|")[0] for found in re.findall(r"<@([^<>]*)>", outside)]
    return tuple(dict.fromkeys(user for user in named if user and user != "USLACKBOT" and not re.search(r"\s", user)))[:8]
