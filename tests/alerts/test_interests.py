"""Topics that people ask for in words, measured on a workspace that knows what its messages are about."""

import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from beepgpt.alerts.interests import ALL, closeness_of, topic_buckets, word_buckets
from beepgpt.simulation import words as workspace_words
from beepgpt.simulation.workspace import Plan, live_records, truth, undisturbed
from tests.support.alerts import NOON, Office, prediction

PLAN = undisturbed(
    Plan(seed=5, messages=1500, channels=12, people=40, edits=0, deletions=0, reactions=0, unfurls=0, bots=0, no_author=0, joins=0)
)


def measured(ask: str, least: float) -> tuple[float, float]:
    """Precision and recall of requests for every topic, each message compared with what was seen before it."""
    draws = Random(1)
    asked = [(topic, topic_buckets(request(ask, words, draws))) for topic, words in workspace_words.TOPICS.items() for _ in range(4)]
    about = {(each.channel, each.ts): each.topic for each in truth(PLAN)}
    seen: Counter[int] = Counter()
    right = wrong = whole = 0
    for event in (json.loads(record)["event"] for record in live_records(PLAN)):
        topic = about.get((event.get("channel"), event.get("ts")))
        if topic is None:
            continue
        said = word_buckets(event["text"])
        for wanted_topic, wanted in asked:
            found = closeness_of(wanted, said, seen) >= least
            whole += wanted_topic == topic
            right += found and wanted_topic == topic
            wrong += found and wanted_topic != topic
        seen.update((ALL, *said))
    return right / max(right + wrong, 1), right / whole


def request(ask: str, words: dict[str, tuple[str, ...]], draws: Random) -> str:
    """In the words of a topic."""
    if ask == "things":
        return ", ".join(draws.sample(words["thing"], 3))
    return f"Tell me about the {draws.choice(words['thing'])} and how to {draws.choice(words['task'])}"


@pytest.mark.parametrize(("ask", "precision", "recall"), [("things", 0.75, 0.06), ("sentence", 0.6, 0.05)])
def test_most_of_what_is_found_is_about_the_topic(ask: str, precision: float, recall: float):
    """At the default closeness; most of what is about it in other words isn't found. docs/alerts.md has the figures."""
    found = measured(ask, 0.5)
    assert found[0] >= precision and found[1] >= recall, found


def test_a_topic_is_found_by_its_words_and_by_no_others(tmp_path: Path):
    """Plurals and forms are the same word; words that everybody uses tell nothing."""
    office = Office(tmp_path)
    office.opt_in("di")
    office.store.set_topic("di", "Tell me about Kafka upgrades")
    texts = [
        "we should do lunch",
        "the broker runs KAFKA 4, upgraded today",
        "tell me about lunch",
        *["tell me about the weather"] * 30,
        "about me",
    ]
    for number, text in enumerate(texts):
        at = NOON + number * 1000
        office.apply("prediction", prediction(at, people={}, texts=[text], conversations=[f"C1:{number}:session"]))
    assert [row["excerpt"] for row in office.store.alerts_to_check()] == [texts[1]] and office.store.alerts_to_check()[0]["kind"] == "topic"
