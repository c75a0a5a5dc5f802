"""The original's rule, restated, and every difference between its examples and ours put down to a named rule."""

import doctest
import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beepgpt.connectors.slack.export import open_export, read_days
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.cleaning import clean
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import MINUTE, SECOND
from beepgpt.conversations.shard import run_through
from benchmarks import compare_with_original, original
from benchmarks.compare_with_original import DOC, NAMES, RULES, Comparison, clean_by, compare, compare_golden, tables_of, with_tables
from benchmarks.original import GOLDEN_SHA256, SUFFIX, examples_of, leak_of, read_messages, rows_of

ENCODING = load_encoding(RULES.encoding)

TEXTS = (
    "hello",
    "good question",
    "first\nand second line",
    "```x = 1```",
    "see ```x = 1``` for why",
    "<@U1>",
    "<https://example.org/a|the guide> and <#C2|random> and <https://example.org|example.org>",
    "https://example.org",
    "try https://example.org/b first",
    ":tada:",
    "at 10:30:45, note: it works :tada:",
    "1 &lt; 2 &amp;amp; 3",
    "###",
    "xoxb-12-abc",
    "",
    "word " * 2_100,
)


def said(user: str, text: str = "hello", *, minute: float, thread: float | None = None, channel: str = "C1") -> dict[str, Any]:
    """A stored message; `thread` is the minute of its thread's root, its own for a root that somebody replied to."""
    more = {} if thread is None else {"thread_ts": ts_text(at(thread))}
    return {"type": "message", "channel": channel, "user": user, "text": text, "ts": ts_text(at(minute))} | more


def at(minute: float) -> int:
    """A minute of an invented Monday, in microseconds since 1970."""
    return 1_704_103_200 * SECOND + round(minute * MINUTE)


def ours(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Our examples for these messages."""
    run = run_through([json.dumps(event).encode() for event in events], RULES, ENCODING)
    assert run.account.check() == []
    return [json.loads(line) for line in run.examples]


def theirs(*events: dict[str, Any]) -> list[tuple[str, str]]:
    """The original's lines for these messages: prompts without their ends, and completions."""
    lines = [json.loads(line) for line in examples_of(read_messages(events)).splitlines()]
    return [(line["prompt"].removesuffix(SUFFIX), line["completion"]) for line in lines]


def compared(*events: dict[str, Any]) -> Comparison:
    """Our examples and the original's for the same messages; nothing may be left unexplained."""
    messages = read_messages(events)
    result = compare(messages, ours(events), examples_of(messages), ENCODING)
    assert result.unexplained == []
    return result


# The rule


@pytest.mark.realdata
def test_the_restated_rule_gives_the_originals_bytes(shared: Path):
    """All 1,466 lines agree."""
    restated = examples_of(original.golden_messages())

    assert sha256(restated).hexdigest() == GOLDEN_SHA256
    assert restated == (shared / "golden" / "examples.jsonl").read_bytes()


def test_the_original_leaves_out_what_the_answerer_said():
    """Bo's own message is missing before Bo's answer, and newest stands first."""
    events = [said("cy", minute=0), said("ana", "why?", minute=1), said("bo", "because", minute=2), said("ana", "oh", minute=3)]

    assert theirs(*events, said("bo", "yes", minute=4)) == [("why?", " 1 end"), ("because", " 0 end"), ("oh\n\nwhy?", " 1 end")]
    assert theirs(*events, said("cy", "yes", minute=4))[-1] == ("oh\n\nbecause\n\nwhy?", " 2 end")


def test_the_original_loses_a_channels_first_message():
    """What follows it has nothing before it."""
    assert theirs(said("ana", minute=0), said("bo", minute=1)) == []


def test_the_original_puts_a_root_into_its_thread_if_somebody_will_reply():
    """The same root answers the session without a reply, and nobody with one."""
    before = [said("cy", minute=0), said("ana", "why?", minute=1)]

    assert theirs(*before, said("bo", minute=2)) == [("why?", " 0 end")]
    assert theirs(*before, said("bo", minute=2, thread=2), said("cy", minute=3, thread=2)) == [("hello", " 0 end")]


def test_the_original_writes_no_prompt_twice_in_a_row():
    """Two of Bo's messages after Ana's: the second has the same prompt, as Bo's are left out."""
    events = [said("ana", "why?", minute=0, thread=0), said("bo", minute=1, thread=0), said("bo", minute=2, thread=0)]

    assert theirs(*events) == [("why?", " 0 end")]


def test_the_original_starts_a_group_after_more_than_ten_minutes():
    """Ten minutes to the second still belong together."""
    assert len(theirs(said("cy", minute=0), said("ana", minute=1), said("bo", minute=11))) == 1
    assert len(theirs(said("cy", minute=0), said("ana", minute=1), said("bo", minute=11.01))) == 0


def test_stored_messages_of_any_export_can_be_read():
    """Joins are left out, and a missing author or text is empty."""
    join = said("bo", minute=1) | {"subtype": "channel_join"}
    bare = {"channel": "C1", "ts": "1700000000"}

    (message,) = read_messages([bare, join])

    assert (message.ts, message.user, message.text, message.thread_ts) == (1_700_000_000_000_000, "", "", None)


def test_absence_tells_the_answer():
    """Two people alone in a thread: whoever isn't shown answers, and the rows of a live system don't tell that."""
    events = [said(user, user, minute=minute, thread=0) for minute, user in enumerate(["ana", "bo", "ana", "bo"])]

    leak = leak_of(list(rows_of(read_messages(events))))

    assert (leak.rows, leak.changed, leak.emptied) == (3, 2, 0)
    assert (leak.hits_with, leak.hits_without, leak.hits_by_chance) == (1.0, 1 / 3, 0.5)


# The comparison


@pytest.mark.realdata
@pytest.mark.slow
def test_every_difference_on_the_golden_events_has_a_name():
    """Both sides add up with nothing unexplained, and the page shows just these counts."""
    result, leak = compare_golden()
    page = DOC.read_text("utf-8")

    assert result.unexplained == []
    assert (result.lines, leak.rows, leak.changed) == (1_466, 1_489, 480)
    assert with_tables(page, tables_of(result, leak)) == page


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["houstondatavis-scrubbed", pytest.param("dd2030", marks=pytest.mark.slow)])
def test_nothing_is_left_unexplained_on_real_exports(shared: Path, name: str):
    """People's messages as they read in the end, since the original knows no other text."""
    compared(*sorted(stored_in(shared / "data" / f"{name}.zip"), key=lambda event: str(event["ts"])))


def stored_in(path: Path) -> Iterator[dict[str, Any]]:
    """An export's messages by people, with nothing but what both sides read."""
    export = open_export(path)
    for channel in export.channels:
        for message in (message for day in read_days(export, channel) for message in day.messages):
            if message.get("user", "USLACKBOT") != "USLACKBOT" and not message.get("subtype") and not message.get("bot_id"):
                read = {key: message[key] for key in ("type", "user", "text", "ts", "thread_ts") if key in message}
                yield read | {"channel": channel.id}


def test_each_kind_of_row_is_named():
    """A lost first message, an author who goes on, a prompt that repeats, a silence."""
    result = compared(
        said("ana", "why?", minute=0),
        said("bo", "because", minute=1),
        said("bo", "of that", minute=2),
        said("ana", "oh", minute=3, channel="C2"),
        said("ana", "I see", minute=2 * 24 * 60),
    )

    assert result.only_ours == {"first_message_of_channel_lost": 1}
    assert result.only_theirs == {}
    assert result.neither == {"": 3, "answerer_left_out_of_prompt": 1}
    assert result.silences == 1


def test_an_author_who_goes_on_is_an_answer_only_there():
    """Cy asked, Bo answered and goes on: the original has Bo answer Cy once more, as Bo's own message is left out."""
    thread = [said("cy", "why?", minute=0, thread=0), said("di", "no idea", minute=1, thread=0)]
    result = compared(*thread, said("bo", "because", minute=2, thread=0), said("bo", "of that", minute=3, thread=0))

    assert result.pairs == {(): 1, ("newest_first",): 1}
    assert result.neither == {"": 1, "repeated_prompt_dropped": 1}


def test_a_late_answer_in_a_thread_is_only_theirs():
    """We stop waiting after a day."""
    result = compared(said("ana", minute=0, thread=0), said("bo", minute=24 * 60 + 1, thread=0))

    assert result.only_theirs == {"no_horizon": 1}


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Posts and replies of a few people in two channels; roots carry what an export knows in the end."""
    gaps = st.sampled_from((0.5, 0.5, 2, 9, 10, 11, 90, 24 * 60, 26 * 60))
    events: list[dict[str, Any]] = []
    minute = 0.0
    for _ in range(draw(st.integers(2, 25))):
        minute += draw(gaps)
        event = said(
            draw(st.sampled_from("abc")), draw(st.sampled_from(TEXTS)), minute=minute, channel=draw(st.sampled_from(("C1", "C1", "C2")))
        )
        roots = [each for each in events if each["channel"] == event["channel"] and each.get("thread_ts") in (None, each["ts"])]
        if draw(st.booleans()) and roots:
            root = draw(st.sampled_from(roots[-3:]))
            root["thread_ts"] = event["thread_ts"] = root["ts"]
        events.append(event)
    return events


@given(histories())
def test_nothing_is_left_unexplained(events: list[dict[str, Any]]):
    """Whatever people say, and wherever: both sides' rows are put down to rules that hold."""
    result = compared(*events)

    assert result.examples == result.silences + result.pairs.total() + result.only_ours.total()


@given(st.lists(st.sampled_from((*TEXTS, "<", ">", "|", ":", " ", "```", "<!here|here>", "<mailto:a@b.org|a@b.org>"))).map("".join))
def test_cleaning_is_restated_from_end_to_end(text: str):
    """Without the original's parts it is ours, with all of them the original's."""
    shown = original.clean(text)

    assert clean_by(text, frozenset()) == clean(text)
    assert clean_by(text, frozenset(NAMES)) == ("" if "```" in shown else shown)


@pytest.mark.parametrize(
    ("rule", "text", "ours", "originals"),
    [
        ("code_drops_the_message", "see ```x``` here", "see here", ""),
        ("markup_lost_whole", "see <https://example.org|the guide>", "see the guide", "see"),
        ("secrets_kept", "it is xoxb-12-abc", "it is", "it is xoxb-12-abc"),
        ("addresses_kept", "see https://example.org", "see", "see https://example.org"),
        ("lost_between_colons", "at 10:30:45", "at 10:30:45", "at 1045"),
        ("escapes_kept", "1 &lt; 2", "1 < 2", "1 &lt; 2"),
        ("white_space_kept", "one\ntwo", "one two", "one\ntwo"),
    ],
)
def test_each_part_of_the_cleaning_does_what_it_is_named_for(rule: str, text: str, ours: str, originals: str):
    """One rule alone makes the difference."""
    assert (clean_by(text, frozenset()), clean_by(text, frozenset([rule]))) == (ours, originals)


def test_what_is_not_explained_is_told():
    """A line that the original wouldn't have written, and an example that we wouldn't."""
    events = [said("ana", "why?", minute=0, thread=0), said("bo", minute=1, thread=0)]
    messages = read_messages(events)
    examples = ours(events)
    lines = examples_of(messages)

    assert compare(messages, examples, lines, ENCODING).unexplained == []
    assert compare(messages, examples, lines.replace(b"why", b"how"), ENCODING).unexplained == ["line 1 isn't the original's"]
    assert compare(messages, examples, b"", ENCODING).unexplained
    assert compare(messages, [{**examples[0], "prompt": "how?"}], lines, ENCODING).unexplained
    assert compare(messages, [], lines, ENCODING).unexplained


# The page


def test_the_pages_example_is_computed():
    """Its three prompts, two of the original and one of ours, are made of the messages that it shows."""
    thread = [("ana", "The build is red again, does anybody know why?"), ("bo", "The cache is full."), ("ana", "Who can empty it?")]
    events = [said(user, text, minute=minute, thread=0) for minute, (user, text) in enumerate(thread)]
    page = DOC.read_text("utf-8")

    for answerer in ("bo", "cy"):
        answered = [*events, said(answerer, minute=3, thread=0)]
        assert f"```\n{theirs(*answered)[-1][0] + SUFFIX.rstrip()}\n```" in page
        assert f"```\n{ours(answered)[-1]['prompt'].rstrip()}\n```" in page


def test_the_page_explains_every_rule():
    """Each rung's name stands in the text, apart from the tables."""
    page = DOC.read_text("utf-8")
    for name in ("rows", "ladder", "pairs", "leak"):
        page = page.partition(f"<!-- {name} -->")[0] + page.partition(f"<!-- /{name} -->")[2]

    assert [name for name in (*NAMES, "silence") if f"`{name}`" not in page] == []


@pytest.mark.parametrize("module", [original, compare_with_original])
def test_the_docstrings_examples_run(module: Any):
    """pytest doesn't collect them under benchmarks/."""
    assert doctest.testmod(module).failed == 0
