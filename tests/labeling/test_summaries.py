"""Long few-shots get summaries over real HTTP, and what a model writes stands for a prompt only if it can."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beepgpt.connectors.openai.client import Client
from beepgpt.connectors.openai.values import AskedModel, Provider, TextRequest
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.tokens import SUFFIX
from beepgpt.errors import BadAnswer, NoMoney, RequestRefused
from beepgpt.labeling.few_shots import few_shot_line
from beepgpt.labeling.redaction import redact
from beepgpt.labeling.summaries import (
    AskText,
    BadFewShot,
    NoSummary,
    Summarized,
    problem_with,
    summarized,
    summary_instructions,
    tidied,
    with_summary,
)
from tests.support.openai_script import Script, digest
from tests.support.openai_server import Server

LIMIT = 30
LONG = "the importer drops the last column of every sheet, and the log says nothing\n\n" * 4 + "who knows why?" + SUFFIX
SHORT = "who knows why the importer drops columns?" + SUFFIX
SUMMARY = "the importer drops the last column\n\nwho knows why?"


def tokens_of(text: str) -> int:
    return len(load_encoding("o200k_base").encode_ordinary(text))


def few_shot(prompt: str, **more: str) -> bytes:
    return few_shot_line(json.dumps({"id": "6f1c", "prompt": prompt, **more}, separators=(",", ":")).encode(), "strong")


@pytest.fixture
def client(openai_server: Server) -> Iterator[Client]:
    openai_server.writer = lambda _: SUMMARY
    with Client(Provider(openai_server.url, openai_server.key, tries=2)) as client:
        yield client


def asking(client: Client) -> AskText:
    """As a command wires it: what must not leave is taken out, and what concerns one text alone is told apart."""

    def ask(prompt: str) -> Future[str]:
        written: Future[str] = Future()
        request = TextRequest(AskedModel("gpt-6-luna", max_tokens=500), summary_instructions(LIMIT), redact(prompt).text)
        client.ask_text(request).add_done_callback(lambda theirs: tell(theirs, written))
        return written

    def tell(theirs: Future[str], written: Future[str]) -> None:
        try:
            written.set_result(theirs.result())
        except (BadAnswer, RequestRefused) as error:
            written.set_exception(NoSummary(str(error)))
        except Exception as error:
            written.set_exception(error)

    return ask


def told(lines: list[bytes], client: Client) -> list[Summarized]:
    return list(summarized(lines, asking(client), tokens_of, LIMIT))


def test_long_few_shots_get_a_summary_and_short_ones_stay(client: Client, openai_server: Server):
    """In order, the line as it was with the summary behind; only the long one is asked for, once."""
    short, long = few_shot(SHORT), few_shot(LONG)
    first, blank, second = short, b"\n", long + b"\n"

    assert told([first, blank, second], client) == [
        Summarized(short),
        Summarized(long[:-1] + b',"summary":' + json.dumps(SUMMARY + SUFFIX).encode() + b"}"),
    ]
    assert [each.digest for each in openai_server.record.asked] == [digest(LONG)]
    assert "20 words" in openai_server.record.asked[0].body["messages"][0]["content"]


def test_what_has_a_summary_that_fits_is_not_asked_for_again(client: Client, openai_server: Server):
    """And one whose summary is too long is."""
    done, too_long = few_shot(LONG, summary=SUMMARY + SUFFIX), with_summary(few_shot(LONG), LONG)
    (first,), (second,) = told([done], client), told([too_long], client)

    assert first == Summarized(done)
    assert json.loads(second.line)["summary"] == SUMMARY + SUFFIX
    assert second.line.count(b'"summary"') == 1
    assert len(openai_server.record.asked) == 1


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("###", "wrote nothing"),
        ("...", "wrote nothing"),
        (LONG, "tokens, and 30 are allowed"),
        ("ask @ana about the importer", "mentions somebody"),
        ("ask <@U05JH8BCZST> about the importer", "mentions somebody"),
        ("the importer, see https://example.org/importer", "has an address"),
        ("the importer, see www.example.org", "has an address"),
        ("the importer: ana@example.org knows", "has an address"),
    ],
)
def test_what_can_not_stand_for_a_prompt_is_no_summary(client: Client, openai_server: Server, written: str, problem: str):
    """The line stays as it was, and why is told without a word of what was written."""
    openai_server.writer = lambda _: written
    (made,) = told([few_shot(LONG)], client)

    assert made.line == few_shot(LONG)
    assert problem in made.problem
    assert "importer" not in made.problem


def test_what_the_prompt_has_may_be_in_its_summary():
    """A mention and an address that were there are no inventions."""
    prompt = "Ask @Ana, it is at https://example.org/a and so on" + SUFFIX

    assert problem_with("ask @ana: https://example.org/a." + SUFFIX, prompt, tokens_of, LIMIT) == ""
    assert problem_with(prompt, prompt, tokens_of, LIMIT) == "the summary is not shorter than the prompt"


def test_a_text_that_fails_does_not_hold_up_the_others(client: Client, openai_server: Server):
    """A refusal concerns one text: that one has no summary."""
    other = LONG.replace("column", "row")
    openai_server.script = Script(of={digest(LONG): ["refusal"]})
    first, second = told([few_shot(LONG), few_shot(other)], client)

    assert "declines" in first.problem
    assert json.loads(second.line)["summary"] == SUMMARY + SUFFIX


def test_what_concerns_all_ends_the_work(client: Client, openai_server: Server):
    """Without money nothing can be written: that is no problem of one text."""
    openai_server.script = Script(always="quota")

    with pytest.raises(NoMoney):
        told([few_shot(LONG)], client)


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"prompt": 1}'])
def test_a_line_that_is_no_few_shot_is_named(client: Client, line: bytes):
    """By its number, before anything is asked."""
    with pytest.raises(BadFewShot, match="few-shot 2 is no"):
        told([few_shot(SHORT), line], client)


TEXTS = st.one_of(st.text(), st.lists(st.sampled_from(["###", "\n", "\n\n", " ", "a", "b c", "\t", "\r\n"])).map("".join))


@given(TEXTS)
def test_what_is_tidied_has_a_prompts_form(text: str):
    """It ends as prompts do, which stands nowhere else in it; and tidying it again changes nothing."""
    tidy = tidied(text)

    if tidy:
        messages = tidy.removesuffix(SUFFIX).split("\n\n")
        assert tidy.endswith(SUFFIX)
        assert all(each == " ".join(each.split()) and each not in ("", "###") for each in messages)
        assert tidied(tidy.removesuffix(SUFFIX)) == tidy
    else:
        assert not text.replace("###", "").strip()


def dumped(body: object) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


DUMPS: list[Callable[[object], bytes]] = [dumped, lambda body: json.dumps(body).encode()]


@given(st.sampled_from(DUMPS), st.text(), st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")), st.booleans())
def test_a_line_with_a_summary_is_the_line_and_its_summary(
    dump: Callable[[object], bytes], prompt: str, summary: str, older: str, has_one: bool
):
    """Whatever stands in it, and wherever an older one stood."""
    body = {"id": "6f1c", **({"summary": older} if has_one else {}), "prompt": prompt, "signal": "strong"}
    line = dump(body)
    once = with_summary(line, summary)

    assert json.loads(once) == {**json.loads(line), "summary": summary}
    assert with_summary(with_summary(line, older), summary) == once
    if not has_one:
        assert once.startswith(line[:-1])
