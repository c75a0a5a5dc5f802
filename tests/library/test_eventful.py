"""What was deleted, late, rejected or forgotten is so for every part of the library."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest

import beepgpt
from beepgpt.connectors.log import Log, OutgoingRecord
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.conversations.rules import DAY
from beepgpt.errors import BadCommand, DoesNotAddUp
from beepgpt.runtime.forgotten import write_forgotten
from tests.library.conftest import HOUR, MINUTE, START
from tests.support.logs import topic_on, write_to

Events = list[beepgpt.ChatEvent]


@pytest.fixture
def without_bo(tmp_path: Path) -> Path:
    """A list of the forgotten with one person on it."""
    path = tmp_path / "forgotten.json"
    write_forgotten(path, Forgotten(b"salt").with_names(people=["bo"]))
    return path


def written_to(folder: Path, records: list[bytes]) -> str:
    """A topic of one partition that holds these."""
    log: Log = SqliteLog(f"sqlite://{folder}")
    topic = topic_on(log, 1)
    write_to(log, topic, *[OutgoingRecord(None, each) for each in records])
    return f"sqlite://{folder}/{topic}"


def lines_of(examples: Iterable[beepgpt.Example]) -> list[bytes]:
    """Their lines in an order of their own: channels' examples come together, or one by one."""
    return sorted(each.line for each in examples)


# Places


def test_each_record_that_is_left_out_has_a_place(eventful: Events, eventful_file: Path):
    """Of a list and of what is fed, the event's number; of a file its line."""
    made, of_file, follower = beepgpt.examples(eventful), beepgpt.examples(eventful_file), beepgpt.Follower()
    assert lines_of(made) == lines_of(of_file)
    steps = [*map(follower.feed, eventful), follower.end()]

    for late, rejected, name in (
        (made.late, made.rejected, "events"),
        ([each for step in steps for each in step.late], [each for step in steps for each in step.rejected], "events"),
        (of_file.late, of_file.rejected, "eventful.jsonl"),
    ):
        assert [(each.reason, each.place) for each in late] == [("late", f"{name}:42")]
        assert [(each.reason, each.place, each.record) for each in rejected] == [("not_json", f"{name}:43", b"not JSON")]


def test_what_is_read_keeps_its_place_where_it_is_fed(eventful_file: Path):
    """Its line in the file, wherever it stands in a list."""
    made = beepgpt.examples(each for each in beepgpt.read_events(eventful_file) if each.kind == "rejected")

    assert list(made) == [] and [each.place for each in made.rejected] == ["eventful.jsonl:43"]


def test_what_is_no_event_is_named_with_its_number(eventful: Events):
    """In a list, and where it is fed; a text that is none, too."""
    with pytest.raises(BadCommand, match=r"^event 3: 7 is no event: give ChatEvents"):
        list(beepgpt.examples([*eventful[:2], 7]))  # type: ignore[list-item]
    with pytest.raises(BadCommand, match=r"^event 1: None is no event"):
        beepgpt.Follower().feed(None)  # type: ignore[arg-type]
    for make in (lambda: beepgpt.ChatEvent.edit("general", START, START + 1, None), lambda: beepgpt.ChatEvent.post("general", "ana", 1, 7)):  # type: ignore[arg-type]
        with pytest.raises(BadCommand, match="is no text: give what the message says"):
            make()


# Forgotten


def test_events_are_read_without_what_is_forgotten(eventful: Events, eventful_file: Path, without_bo: Path, tmp_path: Path):
    """As all other readers read them: what is left makes the same examples, of a file and of a topic."""
    named = beepgpt.ChatEvent.post("general", "cy", START + 60 * HOUR, "Ask her!", mentions=["bo"])
    records = [*(each.record for each in eventful), named.record, b'{"user":"bo"']
    topic, path = written_to(tmp_path / "log", records), tmp_path / "events.jsonl"
    path.write_bytes(b"".join(each + b"\n" for each in records))
    whole = lines_of(beepgpt.examples(path, forgotten=without_bo))

    for source in (topic, path):
        events = list(beepgpt.read_events(source, forgotten=without_bo))
        assert not any(b"bo" in each.record or each.user == "bo" for each in events)
        assert sum(each.kind == "post" for each in events) == sum(each.kind == "post" and each.user != "bo" for each in eventful) + 1
        assert events[-1].text == "<@> Ask her!" and lines_of(beepgpt.examples(events)) == whole
    assert len(list(beepgpt.read_events(path))) == len(records)


def test_a_follower_knows_nobody_who_is_forgotten(eventful: Events, without_bo: Path):
    """Neither as an answer nor in a prompt or a window."""
    made = list(beepgpt.examples(eventful, forgotten=without_bo))

    assert any("cy" in each.answer for each in made) and not any(b'"bo"' in each.line for each in made)


def test_events_are_read_by_the_rules(tmp_path: Path):
    """A bot's posts are ignored, or are context; an edited text is unknown, or its last version is trusted."""
    bot = beepgpt.ChatEvent.post("general", "robot", START, "I am one.", bot=True)
    edited = orjson.dumps(
        {**orjson.loads(beepgpt.ChatEvent.post("general", "ana", START + 1, "Later.").record), "edited": {"ts": "1704103300.0"}}
    )
    (tmp_path / "events.jsonl").write_bytes(bot.record + b"\n" + edited + b"\n")

    def read(**settings: Any) -> list[tuple[Any, ...]]:
        return [(each.kind, each.reason, each.text) for each in beepgpt.read_events(tmp_path / "events.jsonl", **settings)]

    assert read() == [("ignored", "bot", None), ("post", None, None)]
    assert read(bots="context", edits="final") == [("post", None, "I am one."), ("post", None, "Later.")]


# Deleted


def test_a_training_set_has_no_retracted_example(eventful: Events, eventful_file: Path, tmp_path: Path):
    """Of examples, and of a file beside which the retractions stand."""
    made = beepgpt.examples(eventful)
    ours = beepgpt.split(made, tmp_path / "ours", min_answers=1)
    retracted = {each.id for each in made.retractions}

    assert len(retracted) == 1 and ours.manifest["account"]["left_out"]["retracted"] == 1 and ours.manifest["retractions"]["count"] == 1
    assert not retracted & set(ours.to_arrow("train")["id"].to_pylist())


def test_an_audit_knows_what_was_retracted(eventful: Events, eventful_file: Path):
    """By the retractions of what was made; of examples alone, they are missed."""
    made = beepgpt.examples(eventful_file)

    found, alone = beepgpt.audit_examples(eventful_file, made), beepgpt.audit_examples(eventful_file, list(made))
    assert not found.is_broken and found.notes == ()
    assert ["their readers need the retractions, which were not given" in note for note in alone.notes] == [True]


# Settings


def test_an_audit_goes_by_what_the_examples_were_made_with(eventful: Events, eventful_file: Path, tmp_path: Path):
    """Settings, the end and the kinds of channels; events may be a list, as they may be for examples."""
    middle = START + 30 * HOUR
    made = beepgpt.examples(eventful_file, horizon="4h", until=middle)
    for source in (eventful_file, eventful, beepgpt.read_events(eventful_file)):
        found = beepgpt.audit_examples(source, made)
        assert [each.verdict for each in found.laws if each.name in ("past only", "prefix", "one result")] == ["kept"] * 3
    assert beepgpt.audit_examples(eventful_file, made, until=START + 50 * HOUR).is_broken
    with pytest.raises(BadCommand, match="made with other settings"):
        beepgpt.audit_examples(eventful_file, made, horizon="8h")


def test_examples_begin_and_end_where_the_topic_s_address_says(eventful: Events, tmp_path: Path):
    """As on the command line; what says the same thing differently is refused."""
    topic = written_to(tmp_path / "log", [each.record for each in eventful])
    whole = list(beepgpt.examples(topic))
    since, until = START + 10 * HOUR, START + 30 * HOUR
    made = list(beepgpt.examples(f"{topic}?from=2024-01-01T20:00:00Z&to=2024-01-02T16:00:00Z"))

    assert made == [each for each in whole if each.prompt_ts >= since and each.settled_ts <= until] and made
    with pytest.raises(BadCommand, match="say the same thing differently"):
        beepgpt.examples(f"{topic}?to=2024-01-02T16:00:00Z", until=until + MINUTE)


@pytest.mark.parametrize("points", [False, True])
def test_a_follower_begins_with_the_example_of_its_first_moment(eventful: Events, points: bool):
    """Whether points are read besides or not: of each example's time on, it gives that one and all later ones, with their candidates."""
    whole = list(beepgpt.examples(eventful))
    for since in sorted({each.prompt_ts for each in whole}):
        follower = beepgpt.Follower(points=points, since=since)
        steps = [*map(follower.feed, eventful), follower.end()]
        made = lines_of(each for step in steps for each in step.examples)
        assert made == lines_of(each for each in whole if each.prompt_ts >= since), since
    assert any(each.candidates for each in whole)


def test_an_end_that_does_not_add_up_is_an_error(eventful: Events):
    """A fault of the program is told, whatever was given already."""
    follower = beepgpt.Follower()
    follower.feed(eventful[0])
    follower._following.shards_here[0].account.count("examples")

    with pytest.raises(DoesNotAddUp):
        follower.end()


def test_a_follower_that_runs_for_days_takes_what_is_said_then(monkeypatch: pytest.MonkeyPatch):
    """Events are from the future or not by when they are fed, and not by when the Follower was made."""
    clock = [START]
    monkeypatch.setattr("beepgpt.library.follower.now_us", lambda: clock[0])
    follower = beepgpt.Follower(beepgpt.rules(candidates=False))
    clock[0] = START + 3 * DAY

    assert follower.feed(beepgpt.ChatEvent.post("general", "ana", START + 3 * DAY, "Is it red?")).rejected == []
    ahead = follower.feed(beepgpt.ChatEvent.post("general", "bo", START + 5 * DAY, "Not yet.")).rejected
    assert [each.reason for each in ahead] == ["future"]
