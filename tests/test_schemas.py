"""The JSON Schemas of records, docs/reference/schemas/: made from the code, and true of what is written."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from jsonschema import Draft202012Validator, ValidationError

import beepgpt
from beepgpt.conversations.points import PointEmitted
from beepgpt.conversations.rules import Rules
from docs.make_schemas import SCHEMAS, files
from tests.support import run_of
from tests.support.schemas import check, validator
from tests.support.worlds import History, patient, worlds


def test_the_files_are_those_of_the_code():
    """`make schemas` writes them."""
    assert {path.name: path.read_text("utf-8") for path in SCHEMAS.iterdir()} == files()
    for schema in files().values():
        Draft202012Validator.check_schema(orjson.loads(schema))


@patient
@given(worlds())
def test_what_is_written_is_of_its_schema(world: tuple[Rules, History]):
    """Whatever the settings and the words."""
    rules, history = world
    run = run_of(history, rules, points_since=0)

    for line in run.examples:
        check("example", line)
    for line in run.retractions:
        check("retraction", line)
    for each in run.points:
        if isinstance(each, PointEmitted):
            check("point", each.line)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"prompt": None}, "None is not of type 'string'"),
        ({"prompt_ts": "1704103200.5"}, "does not match"),
        ({"answer_ts": 1704103200.5}, "is not valid under any of the given schemas"),
        ({"window": [{"ts": "1704103200.000000"}]}, "'user' is a required property"),
        ({"candidates": {"user": ["bo"], "closeness": [0.5]}}, "'in_window' is a required property"),
    ],
)
def test_what_no_example_holds_is_against_the_schema(change: dict[str, Any], why: str):
    """A text that is missing, times of another form, a window and candidates that lack something."""
    events = [beepgpt.ChatEvent.post("general", user, at, "Is it?") for user, at in (("ana", 1704103200_000000), ("bo", 1704103260_000000))]
    body = next(iter(beepgpt.examples(events))).body
    validator("example").validate(body)

    with pytest.raises(ValidationError, match=why):
        validator("example").validate(body | change)
