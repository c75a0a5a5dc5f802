"""What pages have in common: names that can be hidden, words that are explained, weeks in their places."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from statistics import correlation
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from beepgpt.web.naming import PageNames
from beepgpt.web.pages import environment
from beepgpt.web.report import places_of, ranged_line
from beepgpt.web.verdict import (
    ALERTED,
    ALONE,
    BETTER,
    NOBODY,
    ONLY_A_TRIAL,
    SAME,
    UNAIDED,
    UNSURE,
    WORSE,
    alerted_from,
    counts_of,
    how_chosen,
    notes_of,
    trial_of,
    verdict_of,
)
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


def test_the_number_of_a_person_does_not_tell_where_a_name_stands_in_the_alphabet():
    """Nor in a list: who has the numbers next to one's own would be known by these."""
    names = [f"{letter}na" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    people = PageNames(reversed(names))
    numbers = [int(plain(people.person(name)).removeprefix("Person ")) for name in names]

    assert sorted(numbers) == list(range(1, 27))
    assert abs(correlation(range(26), numbers)) < 0.4
    assert sum(abs(one - other) == 1 for one, other in pairwise(numbers)) < 6, "neighbors by chance alone"


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
    none = {"threshold": None, "why": "too few to tell: 2 % of them"}

    assert how_chosen(chosen()) == ""
    said = how_chosen(chosen(recommended=chosen()["recommended"] | less))
    assert (
        said.startswith("At no threshold 50 % of those alerted joined")
        and "So 40 % were asked for: from 20 % on, 45 % (30–60) did." in said
    )
    assert how_chosen(chosen(threshold=0.3, recommended=chosen()["recommended"] | none)) == (
        "No threshold could be chosen: too few to tell: 2 % of them. Alerted from 30 % on, a guess."
    )
    assert how_chosen(chosen(threshold=0.3, guessed="as was set", recommended=chosen()["recommended"] | none)) == (
        "No threshold could be chosen: too few to tell: 2 % of them. Alerted from 30 % on, as was set."
    )
    assert [
        alerted_from(chosen(threshold=at, guessed="as was set", recommended=each))
        for at, each in (
            (0.2, chosen()["recommended"]),
            (0.3, chosen()["recommended"]),
            (0.3, chosen()["recommended"] | none),
        )
    ] == [
        "20 %, it is so.",
        "20 %, it is so. Here they were alerted from 30 % on, as was set.",
        "none could be (too few to tell: 2 % of them). Here they were alerted from 30 % on, as was set.",
    ]
    assert how_chosen(chosen(threshold=0.3)) == "Alerted from 30 % on, as was set; the recommended threshold is 20 %."


def figure(right: int, of: int, low: float | None, high: float | None) -> dict[str, Any]:
    return {"value": right / of if of else None, "low": low, "high": high, "count": of}


def rule(name: str, alerts: int, joined: dict[str, Any], low: float | None = None, high: float | None = None) -> dict[str, Any]:
    """`low` and `high`: the ends of the interval of how many more join by the model."""
    gain = {"value": 0.3, "low": low, "high": high}
    return {
        "name": f"{name}, as many",
        "rule": name,
        "as_many": True,
        "alerts": alerts,
        "people": 16,
        "joined": joined["value"],
        "intervals": {"joined": joined},
        "gain": gain,
    }


LATEST, MOST = "who wrote last in the channel", "who answers most in the channel"
OURS = rule("the model", 26, figure(13, 22, 0.38, 0.78))


def rehearsed(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What a rehearsal of 7.7 days found, as a page has it."""
    before = {"alerts": 14, "intervals": {"joined": figure(7, 14, 0.25, 0.75)}}
    found = {
        "figures": OURS,
        "rules": [OURS | {"as_many": False}, *rules],
        "days": 7.7,
        "quiet": "22:00 to 07:00",
        "zone": "UTC",
        "own_zones": 16,
        "unzoned": 0,
        "kept_back": [],
        "live": False,
    }
    found |= {"in_quiet_hours": 9, "most_joined": 4, "apart": {"choose": before}, "parts": {"choose": 882, "judge": 900}}
    found["trial"] = [{"more": 0.1, "alerts": 722, "weeks": 31}, {"more": 0.2, "alerts": 176, "weeks": 8}]
    return chosen(**(found | more))


def test_a_verdict_names_the_better_rule_and_what_its_shares_leave_out():
    """In one sentence, with the ranges of both; the messages that are too recent to judge are counted beside it."""
    worse, better = rule(LATEST, 26, figure(3, 19, 0.04, 0.44)), rule(MOST, 18, figure(4, 13, 0.11, 0.61))
    found = verdict_of(rehearsed(worse, better), 221)

    assert found["sentence"] == (
        "In 7.7 days it would have sent 26 messages to 16 of 221 people; of the 22 that can be judged, 59 % joined the conversation within"
        " a day (38–78). The better of two simple rules: 31 % (11–61)."
    )
    assert found["notes"] == ["4 of the 26 messages are of the last day: who joins within a day isn't known yet, so no share counts them."]
    assert found["better_rule"]["name"] == "who answers most in the channel"


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ((0.05, 0.6), (0.01, 0.5), BETTER),
        ((0.05, 0.6), (-0.05, 0.6), UNSURE),
        ((0.05, 0.6), (None, None), ALONE),
        ((None, None), (None, None), ALONE),
        ((-0.3, 0.2), (None, None), UNSURE),
        ((0.05, 0.6), (-0.02, 0.03), SAME),
        ((0.05, 0.6), (-0.06, 0.07), SAME),
        ((-0.02, 0.03), (-0.07, 0.08), UNSURE),
        ((-0.02, 0.03), (-0.5, -0.01), WORSE),
        ((0.05, 0.6), (0.0, 0.6), UNSURE),
        ((0.05, 0.6), (-0.5, -0.01), WORSE),
        ((-0.5, 0.0), (-0.5, 0.5), UNSURE),
    ],
)
def test_plain_words_say_whether_it_is_better_than_simple_rules(first: Any, second: Any, says: str):
    """Than both of them, by the intervals of what it gains: above zero, below, or neither; and then what keeps it from being told."""
    rules = (rule(LATEST, 26, figure(3, 19, 0.04, 0.44), *first), rule(MOST, 18, figure(4, 13, 0.11, 0.61), *second))
    nobody = rule("the model", 0, figure(0, 0, None, None))

    assert verdict_of(rehearsed(*rules), 221)["says"] == says
    assert verdict_of(rehearsed(*rules, figures=nobody, most_joined=0), 221)["says"] == NOBODY


def test_few_messages_and_no_clear_difference_are_not_the_same():
    """What is said of three messages is not said of five thousand, nor where only the rules' are few."""
    few, nobody = figure(2, 3, None, None), figure(0, 0, None, None)
    ours = rule("the model", 3, few)
    many = rule("the model", 5000, figure(2450, 4900, 0.49, 0.51))
    close = rule(LATEST, 5000, figure(2400, 4900, 0.48, 0.5), -0.01, 0.03)

    found = [
        verdict_of(rehearsed(*rules, figures=each), 40)["says"]
        for each, rules in (
            (ours, (rule(LATEST, 3, few), rule(MOST, 3, few))),
            (many, (close, rule(MOST, 5000, figure(980, 4900, 0.19, 0.21), 0.28, 0.32))),
            (many, (rule(LATEST, 0, nobody), rule(MOST, 0, nobody))),
        )
    ]
    assert found == [
        "Whether that is better than a simple rule can't be told from so few messages: a trial with volunteers would tell.",
        "No clear difference from a simple rule, and with so many messages one of 10 points would most likely have shown.",
        "A simple rule sent no messages, or too few that can be judged, to compare with: a trial with volunteers would tell.",
    ]


def test_why_nobody_would_have_been_alerted_is_said():
    """That nobody was likely enough only where that is so; else what kept most of them from a message."""
    rules = (rule(LATEST, 0, figure(0, 0, None, None)), rule(MOST, 0, figure(0, 0, None, None)))
    nobody = rule("the model", 0, figure(0, 0, None, None))

    def said(*kept_back: tuple[str, int]) -> str:
        sentence: str = verdict_of(rehearsed(*rules, figures=nobody, most_joined=0, kept_back=list(kept_back)), 221)["sentence"]
        return sentence.removeprefix("In 7.7 days it would have alerted nobody: ")

    assert said() == "nobody was predicted with 20 % or more."
    assert said(("quiet hours", 6)) == (
        "everybody predicted with 20 % or more was passed over or only listed; the commonest reason: had quiet hours, by their own clock"
        " (6 of 6 times)."
    )
    assert said(("participant", 1200), ("author", 300)).endswith("the commonest reason: took part already (1,200 of 1,500 times).")


def test_simple_rules_that_alerted_are_not_said_to_have_alerted_nobody():
    """Of the last day alone, nothing is known of either; the count of people decides on their noun."""
    none = figure(0, 0, None, None)

    def said(latest: int, most: int, people: int | None = 40) -> str:
        ours = {**rule("the model", 1, figure(1, 1, None, None)), "people": 1}
        sentence: str = verdict_of(rehearsed(rule(LATEST, latest, none), rule(MOST, most, none), figures=ours), people)["sentence"]
        return sentence

    begin = "In 7.7 days it would have sent 1 message to 1 of 40 people; 1 of 1 joined the conversation within a day, too few to tell. "
    unknown = "Whether those alerted by two simple rules joined isn't known yet."
    assert (said(5, 4), said(0, 4)) == (begin + unknown, begin + unknown)
    assert said(0, 0) == begin + "Two simple rules would have alerted nobody."
    assert "sent 1 message to 1 of 1 person; " in said(0, 0, 1) and "sent 1 message to 1 person; " in said(0, 0, None)


def test_what_was_predicted_live_is_not_said_to_have_reached_nobody():
    """Some of them may have got a message, and have joined because of it."""
    rules = (rule(LATEST, 1, figure(0, 1, None, None)), rule(MOST, 1, figure(0, 1, None, None)))

    assert verdict_of(rehearsed(*rules), 40)["caveat"] == f"{UNAIDED} {ONLY_A_TRIAL}"
    assert verdict_of(rehearsed(*rules, live=True, days=0.006), 40)["caveat"] == f"{ALERTED} {ONLY_A_TRIAL}"
    assert verdict_of(rehearsed(*rules, days=0.006), 40)["sentence"].startswith("In 9 minutes it would have sent")


def test_notes_say_whose_nights_are_reckoned_with_and_who_joined_most():
    """Where it changes figures: quiet hours in UTC for people whose zone nobody named; a third of those who joined, and more."""

    def notes(**more: Any) -> list[str]:
        return notes_of(rehearsed(figures=rule("the model", 22, figure(13, 22, 0.38, 0.78)), **more))

    assert notes() == []
    assert notes(most_joined=5) == ["One person makes 5 of the 13 who joined."]
    assert notes(unzoned=16, own_zones=0) == [
        "Quiet hours (22:00 to 07:00) are in UTC, as the export names nobody's time zone, and kept back 9 more messages: elsewhere these"
        " figures differ, and --zone sets yours."
    ]
    assert "names some people's time zone, and kept back 1 more message:" in notes(unzoned=3, in_quiet_hours=1)[0]
    assert notes(unzoned=16, own_zones=0, zone="Asia/Tokyo") == notes(unzoned=16, own_zones=0, quiet="") == []


def test_times_are_said_to_be_of_those_whose_zones_are_counted():
    """Of all who get something, listed or sent: never of fewer people than have a zone."""

    def times(**more: Any) -> str:
        macro: Any = environment().get_template("parts.html").module
        return str(macro.times(rehearsed(**more))).partition(" else ")[0]

    assert times(own_zones=17, unzoned=3).endswith("names a time zone (17 of the 20 people with an alert or an entry in the list),")
    assert "--zone" in str(environment().get_template("parts.html").module.times(rehearsed(unzoned=1)))  # type: ignore[attr-defined]
    assert "--zone" not in str(environment().get_template("parts.html").module.times(rehearsed()))  # type: ignore[attr-defined]


def test_a_trial_says_what_it_must_show_and_how_long_it_takes():
    """By this page's rate; where too few are judged, nothing can be said."""
    said = trial_of(rehearsed())

    assert "more people join than the 59 % who did unaided" in said
    assert (
        "To see 10 points more, about 720 alerts are needed: 31 weeks at this page's rate, if everybody turned alerts on; for 20 points"
        " more, about 180 alerts are needed: 8 weeks at this page's rate." in said
    )
    few = trial_of(rehearsed(trial=[], figures=rule("the model", 4, figure(2, 4, None, None))))
    assert (
        few == "How long a trial must be can't be said: of the messages here, 2 of 4 joined the conversation within a day, too few to tell."
    )


def test_all_counts_go_together_in_one_table():
    """What was known when the threshold was chosen, where the page is of that threshold; else all that is known now."""
    known = {"alerts": 12, "intervals": {"joined": figure(6, 12, 0.22, 0.78)}}
    values = rehearsed(recommended=chosen()["recommended"] | {"chosen": known})

    assert counts_of(values, {"fit": 4823, "choose": 584, "judge": 610}) == [
        ("examples", 4823, 584, 610),
        ("moments at which somebody could be alerted", None, 882, 900),
        ("messages that would have been sent", None, 14, 26),
        ("of these, known whether the person joined", None, 12, 22),
        ("of these, joined", None, 6, 13),
    ]
    assert counts_of({**values, "threshold": 0.3})[2:] == [
        ("of these, known whether the person joined", None, 14, 22),
        ("of these, joined", None, 7, 13),
    ]
    assert counts_of({**values, "apart": {}, "parts": {"judge": 900}})[1:] == [
        ("messages that would have been sent", None, None, 26),
        ("of these, known whether the person joined", None, None, 22),
        ("of these, joined", None, None, 13),
    ]


def test_dots_of_too_few_are_hollow_and_no_line_leads_to_them():
    """Three of three would else be the most striking dot of all."""
    axes = Figure().add_subplot()
    ranged_line(
        axes,
        [1, 2, 3, 4],
        [figure(5, 10, 0.3, 0.7), figure(3, 3, None, None), figure(8, 10, 0.5, 0.9), figure(0, 0, None, None)],
        color="red",
    )

    line, *_ = axes.containers[0].lines  # type: ignore[attr-defined]
    assert list(line.get_xdata()) == [1, 3]
    (few,) = [each for each in axes.lines if each.get_markerfacecolor() == "none"]
    assert (np.asarray(few.get_xydata()).tolist(), few.get_linestyle()) == ([[2.0, 100.0]], "None")
