"""A topic of examples on the review page."""

from pathlib import Path

import orjson
import pytest

from beepgpt.connectors import kafka
from beepgpt.connectors.log import OutgoingRecord
from tests.support.broker import Broker, GivenBroker
from tests.support.kafka import new_topics
from tests.support.review import asked, cookie_of, example, refused, reviewing


@pytest.mark.slow
def test_a_topic_of_examples_is_reviewed_to_its_end(tmp_path: Path, broker: Broker | GivenBroker):
    """The last record of an id counts: a label that came later, or a tombstone."""
    connection = kafka.Connection(broker.bootstrap)
    topics = new_topics(connection)
    with kafka.Writer(connection, topics.examples, patience=60) as writer:
        lines = [example(1, p=0.1), example(2), example(3), example(1, p=0.9)]
        writer.send(OutgoingRecord(orjson.loads(line)["id"].encode(), line, []) for line in lines)
        writer.send([OutgoingRecord(b"%032x" % 2, None, [])])

    with reviewing(tmp_path, topics.to) as review:
        page = asked(review, "GET", "/?view=newest", Cookie=cookie_of(review)).text
        assert "question 3" in page
        assert "4 answered examples, 2 different ones at hand" in review.end()
    with reviewing(tmp_path, topics.to) as review:
        posted = f"example={3:032x}&decision=skipped"
        cookie = cookie_of(review)
        assert asked(review, "POST", "/decide", posted, Cookie=cookie, Origin=review.url).status == 303
        page = asked(review, "GET", "/?view=newest", Cookie=cookie).text
        assert "question 1" in page
        assert "strong (90 % strong)" in page
    assert "leave out from, to and follow" in refused(f"{topics.to}?follow=true", "--few-shots", tmp_path / "few-shots")
