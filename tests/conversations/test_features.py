"""Features of candidates agree with their second reading, tests/support/oracle_features.py."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from random import Random
from typing import NamedTuple

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beepgpt.conversations import features as kept_facts
from beepgpt.conversations.columns import _batched, columns_of_all
from beepgpt.conversations.features import Lineup, People
from beepgpt.conversations.plain_columns import Columns, columns_json
from tests.support.oracle_features import (
    ANSWERS,
    AUTHORS_KEPT,
    QUERY_WORDS,
    TINY,
    Cues,
    Look,
    Post,
    decayed,
    facts,
    insist_on_distance,
    since_known,
)

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
YEAR_2016 = 1_460_246_400 * SECOND


def who(log: Sequence[Post], look: Look, kept: int) -> list[str]:
    last = look.window[-1].author
    spoke = [said.author for said in reversed(look.window) if not said.bot]
    named = [person for said in reversed(look.window) for person in said.mentions if person != BOT]
    known = {user: [post.t for post in since_known(log, user, kept)] for user in {post.user for post in log}}
    known = {user: times for user, times in known.items() if times}
    insist_on_distance(known.values(), look.t, 30)
    active = sorted(known, key=lambda user: (-decayed(known[user], look.t, 30), -known[user][-1], user))
    return list(dict.fromkeys(user for user in [*spoke, *named, *look.spoken[:8], *active] if user != last))[: look.most]


def assert_same(columns: Columns, log: Sequence[Post], look: Look, kept: int, authors_kept: int, query_words: int) -> None:
    assert columns["user"] == who(log, look, kept)
    all_answers = [post.t for post in log if post.answers is not None]
    for row, user in enumerate(columns["user"]):
        expected = facts(log, look, user, kept, authors_kept, query_words)
        assert {"user", *expected} == set(columns)
        for name, value in expected.items():
            given = columns[name][row]
            left = name.startswith("share_") and decayed(all_answers, look.t, ANSWERS[name.removeprefix("share_")])
            if left is not False and left < TINY and given == 0:
                continue
            assert given == round(given, 4)
            assert abs(given - value) <= 0.500001e-4 + 1e-9 * abs(value), (name, user, given, value)


class Said(NamedTuple):
    """A message of a window."""

    user: str
    bot: bool
    words: tuple[int, ...]
    mentions: tuple[str, ...]


def lineup_of(people: People, look: Look) -> Lineup:
    """As a channel asks for it."""
    return people.candidates(look.t, [Said(*said) for said in look.window], look.most, look.spoken)


def candidates(people: People, look: Look) -> Columns:
    """Their columns, by both ways."""
    lineup = lineup_of(people, look)
    facts = columns_json(lineup)
    assert _batched([lineup], [lineup.people()]) == [facts] == columns_of_all([lineup])
    columns: Columns = orjson.loads(facts)
    return columns


def follow(steps: Iterable[Post | Look], kept: int, authors_kept: int = AUTHORS_KEPT, query_words: int = QUERY_WORDS) -> None:
    """Both computations side by side, as a channel would call the one.

    What a look kept gives the same bytes when everything is over, of all looks at once, and after it was pickled.
    """
    people, log = People(kept), list[Post]()
    seen: list[tuple[Lineup, bytes]] = []
    for step in steps:
        people.advance(step.t)
        if isinstance(step, Post):
            people.posted(*step)
            log.append(step)
        else:
            if any(said.bot for said in step.window):
                people.bot_posted(BOT)
            assert_same(candidates(people, step), log, step, kept, authors_kept, query_words)
            seen.append((lineup := lineup_of(people, step), columns_json(lineup)))
    lineups, facts = [lineup for lineup, _ in seen], [each for _, each in seen]
    assert _batched(lineups, [lineup.people() for lineup in lineups]) == facts
    assert [columns_json(lineup) for lineup in pickle.loads(pickle.dumps((lineups, people)))[0]] == facts


thorough = settings(max_examples=5 * settings().max_examples // 2)
USERS = ["U1", "U2", "U3", "U4", "U5", "U6"]
BOT = "B"
STRANGER = "S"
WORDS = st.lists(st.integers(0, 5), max_size=4, unique=True).map(tuple)
# No sum of a few of these is a half-life, see insist_on_distance.
GAPS = st.sampled_from([0, 1, 61, 47 * 60, 5 * 3600, 2 * 86_400 + 1003, 11 * 86_400 + 7919]).map(lambda seconds: seconds * SECOND)
SPANS = st.builds(lambda spans, days: (spans * 512 * 3 + days) * DAY, st.integers(1, 5), st.sampled_from([0, 2]))
STARTS = st.sampled_from([YEAR_2016, (12 * 512 * 3 - 1) * DAY, (512 * 180 - 1) * DAY])
"""Two of them a day before landmarks move: the shortest, and nearly all."""
TIES = st.sampled_from([0, 0, 30 * DAY, 180 * DAY])
MENTIONS = st.just(()) | st.lists(st.sampled_from([*USERS, STRANGER]), max_size=3, unique=True).map(tuple)
WINDOWS = st.lists(
    st.tuples(st.sampled_from([*USERS, BOT]), WORDS, MENTIONS).map(lambda said: Cues(said[0], said[0] == BOT, *said[1:])),
    min_size=1,
    max_size=5,
)
SPOKEN = st.lists(st.sampled_from([*USERS, STRANGER]), unique=True, max_size=7).map(tuple)


@st.composite
def histories(draw: st.DrawFn, gaps: st.SearchStrategy[int], starts: st.SearchStrategy[int]) -> list[Post | Look]:
    """Posts and looks of a few people; some posts are said hundreds of times, so that counters halve."""
    steps: list[Post | Look] = []
    t = draw(starts)
    for kind in draw(st.lists(st.sampled_from(["post"] * 5 + ["posts"] + ["look"] * 2), min_size=3, max_size=25)):
        t += draw(gaps)
        if kind == "look":
            steps.append(Look(t, draw(WINDOWS), draw(st.integers(1, 7)), draw(SPOKEN)))
            continue
        answers = draw(st.none() | st.sampled_from(USERS))
        post = Post(draw(st.sampled_from(USERS)), t, draw(WORDS), answers, draw(st.booleans()), draw(WORDS))
        steps += [post] * (draw(st.integers(100, 400)) if kind == "posts" else 1)
    return [*steps, Look(t, draw(WINDOWS), 7, draw(SPOKEN)), Look(t + draw(gaps), draw(WINDOWS), 7)]


@thorough
@given(histories(GAPS, st.just(YEAR_2016)), st.integers(2, 5))
def test_facts_are_what_the_log_says(steps: list[Post | Look], kept: int):
    """Whatever is posted, the kept counts are those of the whole log; people who were forgotten have no features."""
    follow(steps, kept)


@thorough
@given(histories(GAPS | GAPS | GAPS | SPANS, STARTS), st.integers(2, 5))
def test_facts_outlive_long_silence(steps: list[Post | Look], kept: int):
    """Between two events may lie seconds or twenty years, over which landmarks move."""
    follow(steps, kept)


@thorough
@given(histories(GAPS, st.just(YEAR_2016)), st.integers(2, 5), st.integers(1, 3), st.integers(1, 4))
def test_few_authors_and_few_words(steps: list[Post | Look], kept: int, authors_kept: int, query_words: int):
    """Only so many authors are counted one by one, the least answered goes; only so many words are asked for, the newest first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_facts, "AUTHORS_KEPT", authors_kept)
        patch.setattr(kept_facts, "QUERY_WORDS", query_words)
        follow(steps, kept, authors_kept, query_words)


@thorough
@given(histories(TIES, st.just(0)), st.integers(2, 5), st.integers(1, 3))
def test_ties_are_broken_by_the_last_post_and_by_name(steps: list[Post | Look], kept: int, authors_kept: int):
    """Equally active after whole half-lives: who posted last comes first, then the smaller id; of authors the smaller name goes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_facts, "AUTHORS_KEPT", authors_kept)
        follow(steps, kept, authors_kept)


def test_two_posts_a_half_life_ago_are_one_today():
    """Equally active are U1, U2 and U3; the later ones come first, of those the smaller id."""
    people = People(10)
    for user, t in (("U1", 0), ("U1", 0), ("U3", 30 * DAY), ("U2", 30 * DAY), ("U4", 30 * DAY), ("U4", 30 * DAY)):
        people.posted(user, t, (), None, False, ())
    assert candidates(people, Look(30 * DAY, [Cues("U9")], 10))["user"] == ["U4", "U2", "U3", "U1"]


def test_of_authors_answered_as_often_the_smaller_name_goes():
    """A and B were answered once each at the same time; when C comes, B stays."""
    for authors in ("ABC", "BAC"):
        posts = [Post("U1", YEAR_2016, (), author) for author in authors]
        looks = [Look(YEAR_2016, [Cues(author)], 5) for author in "ABC"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kept_facts, "AUTHORS_KEPT", 2)
            people = People(5)
            people.advance(YEAR_2016)
            for post in posts:
                people.posted(*post)
            assert [candidates(people, look)["to_author"] for look in looks] == [[0.0], [1.0], [1.0]]
            follow([*posts, *looks], 5, 2)


@pytest.mark.parametrize("seed", range(4))
def test_facts_with_many_authors_and_many_words(seed: int):
    """The same with the numbers that are in use: 32 authors, 24 words."""
    random = Random(seed)
    authors = [f"A{number:02}" for number in range(40)]
    words = [tuple(random.sample(range(1024), 20)) for _ in range(8)]
    steps: list[Post | Look] = []
    t = YEAR_2016
    for _ in range(300):
        t += random.randrange(1, 5 * 86_400) * SECOND
        steps.append(
            Post(random.choice(USERS[:3]), t, random.choice(words), random.choice(authors), random.random() < 0.5, random.choice(words))
        )
    for author in authors:
        window = [Cues(random.choice(authors), False, random.choice(words)) for _ in range(3)]
        steps.append(Look(t + 7, [*window, Cues(author, False, random.choice(words))], 5))
    follow(steps, 500)


@pytest.mark.parametrize("kept", [2, 500])
@pytest.mark.parametrize("glances", [0, 1])
def test_a_channel_wakes_up_after_eight_years(kept: int, glances: int):
    """What was counted in 2016 still has finite shares in 2024, and new answers count as ever."""
    before, asked, after = (seconds * SECOND for seconds in (1_460_246_400, 1_460_246_460, 1_725_321_600))
    # With a look in between, landmarks move twice by one span each: what is left has no inverse in a double.
    glance = Look(before + 5 * 365 * DAY, [Cues("U1", False, (1,))], 5)
    look = Look(after, [Cues("U1", False, (1, 2)), Cues("U2", False, (2, 3)), Cues("U3")], 5)
    steps: list[Post | Look] = [Post("U1", before, (1, 2)), Post("U2", asked, (2, 3), "U1", True, (1, 2)), *[glance] * glances, look]
    steps += [Post("U3", after, (1,), "U2", False, (2, 3)), look._replace(t=after + HOUR)]
    follow(steps, kept)
    people = People(kept)
    for step in steps:
        people.advance(step.t)
        if isinstance(step, Post):
            people.posted(*step)
            continue
        columns = candidates(people, step)
        assert all(0 <= share <= 1 for name in ("share_3d", "share_30d", "share_180d") for share in columns[name])


def test_who_is_named_is_a_candidate_even_a_stranger_and_no_bot_is():
    """After the window's authors come those it names, the newest first; then those who spoke before; then the most active."""
    people = People(10)
    people.advance(YEAR_2016)
    for user in ("U1", "U2", "U3"):
        people.posted(user, YEAR_2016, (), None, False, ())
    people.bot_posted(BOT)
    window = [Cues("U2", mentions=("U5",)), Cues("U9", mentions=("U9", STRANGER, BOT))]
    columns = candidates(people, Look(YEAR_2016, window, 10, ("U9", "U3", "U2")))

    assert columns["user"] == ["U2", STRANGER, "U5", "U3", "U1"]
    assert columns["mentioned"] == [0, 1, 2, 0, 0]
    assert columns["spoke"] == [3, 0, 0, 2, 0]
    assert columns["seen_hours"] == [0, -1, -1, 0, 0]


def test_who_is_named_is_a_candidate_though_a_bot_has_used_their_name_if_they_have_posted_themselves():
    """They come as who is named, and are known to be named."""
    people = People(10)
    people.advance(YEAR_2016)
    for user in ("U1", "U2", "U3"):
        people.posted(user, YEAR_2016, (), None, False, ())
        people.bot_posted(user)
    columns = candidates(people, Look(YEAR_2016, [Cues("U2", mentions=("U3",)), Cues("U9")], 10, ()))

    assert columns["user"] == ["U2", "U3", "U1"]
    assert columns["mentioned"] == [0, 2, 0]
