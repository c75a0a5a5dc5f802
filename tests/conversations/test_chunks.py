"""A value of a chunk is read by the same rules, from wherever it comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from beepgpt.connectors.log import Record
from beepgpt.connectors.slack.export.archive import UnreadableDay
from beepgpt.conversations.chunks import parsed_value
from beepgpt.conversations.events import Event, Ignored, Reject
from beepgpt.conversations.forgetting import Forgotten
from tests.support import NOW, ours, post
from tests.support.oracle_records import Rules

RULES = ours(Rules())
FORMS: dict[str, Callable[[bytes], object]] = {
    "a line": lambda line: line,
    "a record of a topic": lambda line: Record(line, 7, NOW, b"C1", []),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_each_form_is_read_by_the_rules_and_without_what_is_forgotten(form: Callable[[bytes], object]):
    """Bots too, and channels that nobody wants."""
    said, by_a_bot = (form(each.line) for each in (post("ana", minute=0), post("UBOT", minute=1, bot_id="B1")))
    gone = Forgotten(b"salt").with_names(people=["ana"])

    assert isinstance(parsed_value(said, NOW, RULES), Event)
    assert isinstance(parsed_value(by_a_bot, NOW, replace(RULES, bots="context")), Event)
    found = [parsed_value(said, NOW, RULES, gone), parsed_value(by_a_bot, NOW, RULES)]
    assert [each.reason for each in found if isinstance(each, Ignored)] == ["forgotten", "bot"]
    assert parsed_value(said, NOW, RULES, None, lambda channel: channel != b"C1") is None


def test_a_record_of_a_topic_that_has_no_value_is_rejected():
    """It holds nothing to be read."""
    assert parsed_value(Record(None, 7, NOW, b"C1", []), NOW, RULES) == Reject("no_value", b"")


def test_a_part_that_a_source_could_not_read_is_rejected_unless_it_names_somebody_forgotten():
    """What goes to the dead letters is kept for a month."""
    day = UnreadableDay("not_json", "C1", "export.zip:general/2024-01-31.json", b'[{"user": "U024BE7LH", "text": "hel')
    gone = Forgotten(b"salt").with_names(people=["U024BE7LH"])

    assert parsed_value(day, NOW, RULES) == Reject("not_json", day.record, "C1")
    assert parsed_value(day, NOW, RULES, gone) == Ignored("forgotten", day.record, "C1", None)
