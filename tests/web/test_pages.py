"""What pages have in common: names that can be hidden, words that are explained, weeks in their places."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from beepgpt.web.index_page import how_chosen, verdict_of
from beepgpt.web.naming import PageNames
from beepgpt.web.report import places_of
from beepgpt.web.words import WORDS, words_of

GLOSSARY = Path(__file__).resolve().parents[2] / "docs" / "glossary.md"


def plain(marked: str) -> str:
    """What is seen once names are hidden."""
    return re.sub(r'<span class="named">.*?</span><span class="unnamed">(.*?)</span>', r"\1", marked)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("ask ana abara, or Bo", "ask Person ANA, or Person BO"),
        ("Ana knows; an ana too", "Person ANA knows; an ana too"),
        ("@bo: <b>look</b>", "@Person BO: &lt;b&gt;look&lt;/b&gt;"),
        ("who will do it? Will!", "who will do it? Person WILL!"),
        ("nobody here", "nobody here"),
    ],
)
def test_names_are_found_in_what_people_wrote(text: str, hidden: str):
    """Whole names however they are written, parts of them with a capital; all else is as it was, and stays text."""
    people = PageNames(["Ana Abara", "bo", "Will Young"])
    numbers = {name.split()[0].upper(): plain(people.person(name)) for name in ("Ana Abara", "bo", "Will Young")}

    assert sorted(numbers.values()) == ["Person 1", "Person 2", "Person 3"]
    assert plain(people.text(text)) == re.sub(r"Person ([A-Z]+)", lambda found: numbers[found[1]], hidden)


def test_a_person_is_the_same_person_on_all_pages():
    """By number, whatever stands first on a page; where ids are shown, nothing is to be hidden."""
    people, others = PageNames(["Ana Abara", "bo"]), PageNames(["bo", "Ana Abara"])
    bo, ana = plain(people.person("bo")), plain(people.person("Ana Abara"))

    assert {bo, ana} == {"Person 1", "Person 2"}
    assert [plain(others.text("Hi Ana")), plain(others.person("Ana Abara")), plain(others.person("bo"))] == [f"Hi {ana}", ana, bo]
    assert (PageNames([]).person("<U1>"), PageNames([]).text("Ana & bo")) == ("&lt;U1&gt;", "Ana &amp; bo")


def test_the_words_of_pages_are_in_the_glossary():
    """Each stands there as a word of its own."""
    rows = [line.split("|")[1].strip().split(",") for line in GLOSSARY.read_text("utf-8").splitlines() if line.startswith("| ")]
    explained = {word.strip().partition(" (")[0] for row in rows for word in row} | {"calibration", "mean reciprocal rank"}

    assert set(WORDS) - explained == set()
    assert list(words_of("threshold", "alert")) == ["alert", "threshold"]


def test_a_week_stands_once_on_the_axis():
    """Of two parts of time it is divided between them; one without points has its place."""
    assert places_of(["2024-02-15", "2024-02-22", "2024-02-22", "2024-03-07"]) == [0.0, 0.75, 1.25, 3.0]


def chosen(**more: Any) -> dict[str, Any]:
    joined = {"value": 0.45, "low": 0.3, "high": 0.6, "count": 40}
    recommended = {"threshold": 0.2, "why": "it is so", "wanted": {"precision": 0.5}, "chosen": {"intervals": {"joined": joined}}}
    return {"threshold": 0.2, "asked": {"precision": 0.5}, "guessed": "a guess", "recommended": recommended} | more


def test_what_must_be_known_of_a_threshold_is_said():
    """Nothing where it gives what was asked for; else less that was asked for, a guess, or one that was set."""
    less = {"wanted": {"precision": 0.4}}
    none = {"threshold": None, "why": "too few to tell: 2% of them"}

    assert how_chosen(chosen()) == ""
    said = how_chosen(chosen(recommended=chosen()["recommended"] | less))
    assert (
        said.startswith("At no threshold 50 % of those alerted joined")
        and "So 40 % were asked for: from 20 % on, 45 % (30–60) did." in said
    )
    assert how_chosen(chosen(threshold=0.3, recommended=chosen()["recommended"] | none)) == (
        "No threshold could be chosen: too few to tell: 2 % of them. So 30 % is a guess."
    )
    assert how_chosen(chosen(threshold=0.3)) == "Alerted from 30 % on, as was set; the recommended threshold is 20 %."


def rule(name: str, alerts: int, right: int, of: int, low: float, high: float) -> dict[str, Any]:
    joined = {"value": right / of, "low": low, "high": high, "count": of}
    return {"name": name, "alerts": alerts, "people": 16, "joined": right / of, "intervals": {"joined": joined}}


def test_a_verdict_names_the_better_rule_and_what_its_shares_leave_out():
    """In one sentence; the messages that are too recent to judge are counted beside it, and so is what may be chance."""
    ours = rule("the model", 26, 13, 22, 0.38, 0.78)
    worse, better = (
        rule("latest other author, as many", 26, 3, 19, 0.04, 0.30),
        rule("channel's most frequent, as many", 18, 4, 13, 0.11, 0.61),
    )
    found = verdict_of(chosen(figures=ours, rules=[ours, worse, better], days=7.7), 221)

    assert found["sentence"] == (
        "In 7.7 days it would have sent 26 messages to 16 of 221 people; 59 % joined the conversation within a day (38–78)."
        " The better of two simple rules: 31 %."
    )
    assert found["notes"] == [
        "4 of the 26 messages are of the last day: who joins within a day isn't known yet, so no share counts them.",
        "What sets it apart from one of the two simple rules may be chance.",
    ]
    assert found["better_rule"]["name"] == "who answers most in the channel"
