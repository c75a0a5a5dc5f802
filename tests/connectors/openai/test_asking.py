"""What is asked and what comes back by OpenAI's protocol; nothing secret is shown, and what it costs is known."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from concurrent.futures import wait as wait_for
from dataclasses import replace
from pathlib import Path
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import pytest

from beepgpt.config.prices import BadPrices, read_prices
from beepgpt.connectors.openai import caller
from beepgpt.connectors.openai.answers import read_answer, read_choice
from beepgpt.connectors.openai.client import Client, batch_parts
from beepgpt.connectors.openai.values import AskedModel, Provider, ProviderAnswer, Request, TextRequest, body_of
from beepgpt.errors import BadAnswer, NoMoney, NotAllowed, ProviderFailed, RequestRefused
from tests.support.openai_client import DECIDING, LUNA, SECRET, asking, failing, question
from tests.support.openai_model import by_hash
from tests.support.openai_server import KEY, Server

ROOT = Path(__file__).resolve().parents[3]


# Asking


def test_a_chat_answers_yes_or_no_with_a_probability(server: Server):
    """The answer is the rule's, its probability is read from the likelihoods of the token where yes and no part."""
    with asking(server) as client:
        answers = {text: client.ask(question(text)) for text in ("a", "b", "c", "d")}

    for text, answer in answers.items():
        assert answer.choice == ("yes" if by_hash(text) >= 0.5 else "no")
        assert answer.probability == pytest.approx(by_hash(text), abs=1e-5)
        assert answer.model == "gpt-6-luna"


def test_decisions_give_the_same_answers_with_their_own_probability(server: Server):
    """The other way to ask, of the same rule."""
    with asking(server) as client:
        answer = client.ask(question("a", DECIDING))

    assert answer.probability == pytest.approx(by_hash("a"), abs=1e-6)
    assert [each.path for each in server.record.asked] == ["/decisions"]


@pytest.mark.parametrize("text", ["a", "b", "c", "d"])
def test_a_server_without_schemas_and_likelihoods_answers_too(server: Server, text: str):
    """A bare word is an answer; where no likelihoods are returned, there is no probability."""
    server.logprobs = False
    failing(server, "bare", text=text)
    with asking(server) as client:
        answer = client.ask(question(text))

    assert (answer.choice, answer.probability) == ("yes" if by_hash(text) >= 0.5 else "no", None)


@pytest.mark.parametrize(
    "content", ["", "yes and no", "maybe", '{"answer": "yes", "but": 1}', '["yes", "no"]', "null", "3", '{"answer": 1}']
)
def test_what_is_neither_yes_nor_no_is_no_answer(content: str):
    """Nothing is guessed."""
    assert read_choice(content) is None


def test_what_requests_share_comes_first(server: Server):
    """Instructions, shots and then the text, so that all but the text is paid once at full price; the mark stands where the text begins."""
    with asking(server) as client:
        first, second = client.ask(question("a")), client.ask(question("b"))

    one, other = (each.body["messages"] for each in server.record.asked)
    assert one[:-1] == other[:-1]
    assert [one[-1]["content"], other[-1]["content"]] == ["a", "b"]
    assert first.usage and second.usage
    assert first.usage.written == second.usage.cached > 1024
    assert first.usage.cached == second.usage.written == 0


def test_older_models_and_other_servers_see_no_mark():
    """They would refuse what they don't know."""
    body = body_of(question(model=AskedModel("llama", logprobs=False)))

    assert set(body) == {"model", "messages", "response_format", "max_completion_tokens"}
    assert all(isinstance(each["content"], str) for each in body["messages"])


def test_a_request_is_known_by_all_that_shapes_its_answer():
    """Another text, shot, model or way is another request; how many tokens it has is not."""
    variants = [question(), question("other"), question(model=DECIDING), question(model=replace(LUNA, name="gpt-6-sol"))]
    variants.append(replace(question(), shots=()))

    assert len({each.id for each in variants}) == len(variants)
    assert question(tokens=5).id == question().id


@pytest.mark.parametrize("text", ["", "a\ud800b", "\x00", "日本語 🎉", "a" * 1_000_000])
def test_any_text_can_be_asked(server: Server, text: str):
    """What is no character becomes a question mark; all else arrives as it is."""
    with asking(server) as client:
        client.ask(question(text))

    assert server.record.asked[0].body["messages"][-1]["content"] == text.replace("\ud800", "?")


# Texts


def wish(text: str = SECRET, model: AskedModel = LUNA) -> TextRequest:
    return TextRequest(model, "Say it in short.", text)


def test_a_text_is_asked_for_as_it_is(server: Server):
    """Instructions and text go, and nothing of yes and no; what is written comes back without the space around it, and is paid for."""
    server.writer = lambda text: f"\n {text.upper()}\n\nand more "
    with asking(server) as client:
        written = client.ask_text(wish()).result()
        account = client.account

    assert written == f"{SECRET.upper()}\n\nand more"
    assert [each.path for each in server.record.asked] == ["/chat/completions"]
    assert set(server.record.asked[0].body) == {"model", "messages", "max_completion_tokens", "reasoning_effort"}
    assert [each["content"] for each in server.record.asked[0].body["messages"]] == ["Say it in short.", SECRET]
    assert (account.asked, account.answered, account.untold) == (1, 1, 0)
    assert account.usage.input > 0


@pytest.mark.parametrize("fault", ["429", "500", "reset", "cut", "html", "empty"])
def test_a_text_is_asked_for_again(server: Server, monkeypatch: pytest.MonkeyPatch, fault: str):
    """As a question is: what can pass is tried again."""
    monkeypatch.setattr(caller, "FIRST_WAIT", 0.05)
    failing(server, fault)
    with asking(server) as client:
        assert client.ask_text(wish()).result() == SECRET
        assert client.account.tries == 2


@pytest.mark.parametrize(("fault", "error"), [("refusal", BadAnswer), ("length", BadAnswer), ("quota", NoMoney), ("404", RequestRefused)])
def test_a_text_that_can_not_be_had_is_an_error(server: Server, fault: str, error: type[ProviderFailed]):
    """One try, an error of ours, nothing of the text in it."""
    server.script.always = fault
    with asking(server) as client, pytest.raises(error) as raised:
        client.ask_text(wish()).result()

    assert len(server.record.asked) == 1
    assert SECRET not in str(raised.value)


def test_an_empty_text_is_none(server: Server):
    """It is asked for again, as often as is set."""
    server.writer = lambda _: " \n"
    with asking(server, tries=2) as client, pytest.raises(BadAnswer):
        client.ask_text(wish()).result()

    assert len(server.record.asked) == 2


def test_a_wish_is_known_by_all_that_shapes_it():
    """And it is never taken for a question."""
    variants = [wish(), wish("other"), wish(model=replace(LUNA, name="gpt-6-sol")), replace(wish(), instructions="Say it at length.")]
    question_of_it = Request(LUNA, "Say it in short.", (), SECRET)

    assert len({each.id for each in variants} | {question_of_it.id}) == len(variants) + 1


def test_an_answer_without_a_word_on_tokens_is_counted():
    """So that nobody takes the sum for all that was spent."""
    answer = read_answer("chat", json.dumps({"choices": [{"message": {"content": "no"}}], "usage": None}).encode())

    assert answer == ProviderAnswer("no", None, "", None)


# Secrets


def everything_shown(error: BaseException) -> str:
    """An error with all that it drags along."""
    shown = []
    each: BaseException | None = error
    while each is not None:
        shown.append(f"{each!r} {each} {each.args} {vars(each)}")
        each = each.__cause__ or each.__context__
    return " ".join(shown)


@pytest.mark.parametrize(
    "fault",
    ["quota", "400", "401", "403", "404", "429", "500", "stall", "reset", "drop", "cut", "html", "schema", "chatty", "refusal", "length"],
)
def test_neither_keys_nor_texts_are_shown(server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str):
    """The server quotes both, and the SDK repeats it; our errors and all that is logged at any level do not."""
    monkeypatch.setattr(caller, "FIRST_WAIT", 0.02)
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    server.script.always = fault
    with asking(server, tries=2, stall=0.2) as client, pytest.raises(ProviderFailed) as raised:
        client.ask(question())

    shown = everything_shown(raised.value) + caplog.text + " ".join(str(vars(each)) for each in caplog.records)
    for secret in (KEY, SECRET, "reset my key"):
        assert secret not in shown
        assert secret not in repr((client.provider, client.account))


def test_nothing_of_the_environment_is_sent(server: Server, monkeypatch: pytest.MonkeyPatch):
    """The SDK reads variables by itself; only what it was given counts."""
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID", "WEBHOOK_SECRET"):
        monkeypatch.setenv(f"OPENAI_{name}", "from-the-environment")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://from-the-environment.invalid")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer from-the-environment\nX-Other: from-the-environment")
    with asking(server) as client:
        client.ask(question())
        client.start_batch(next(batch_parts([question("other")])))

    assert "from-the-environment" not in str(server.record.asked[0].headers)
    assert server.record.asked[0].headers["authorization"] == f"Bearer {KEY}"


def test_organisation_and_project_are_sent_if_they_are_given(server: Server):
    """As headers, as the protocol has them."""
    with asking(server, organisation="org-1", project="proj-1") as client:
        client.ask(question())

    headers = server.record.asked[0].headers
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-1", "proj-1")


@pytest.mark.parametrize(
    ("provider", "error"),
    [
        (Provider("api.example.com/v1", "sk-x"), ProviderFailed),
        (Provider("ftp://example.com", "sk-x"), ProviderFailed),
        (Provider(key=""), NotAllowed),
        (Provider(key="sk-with-a-line-end\n"), NotAllowed),
        (Provider(key="sk-smart\u201dquote"), NotAllowed),
    ],
)
def test_wrong_values_are_reported_before_anything_is_sent(provider: Provider, error: type[ProviderFailed]):
    """No request is made, and no key is repeated."""
    with pytest.raises(error) as raised:
        Client(provider)

    assert "sk-" not in everything_shown(raised.value)


# The server as a process, and what things cost


def test_the_server_runs_as_a_process_of_its_own():
    """So that who asks can be killed, and what was asked is still known."""
    command = [sys.executable, "-m", "tests.support.openai_server", "--share", "429:0=0.5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            with Client(Provider(url, KEY)) as client:
                wait_for([client.submit(question(str(number))) for number in range(20)])
            with urlopen(url.removesuffix("/v1") + "/record") as response:
                record = json.load(response)
            changed = HttpRequest(url.removesuffix("/v1") + "/script", json.dumps({"always": "quota"}).encode())
            with urlopen(changed):
                pass
            with Client(Provider(url, KEY)) as client, pytest.raises(NoMoney):
                client.ask(question("another"))
        finally:
            process.kill()

    assert record["asked"] == 20 + record["faults"]["429:0"]
    assert (len(record["answered"]), record["paid_twice"]) == (20, 0)


def test_a_file_of_the_user_adds_prices(tmp_path: Path):
    """Its models are known beside ours; what is wrong in it is named."""
    mine = tmp_path / "prices.toml"
    mine.write_text("[chat.llama]\nas_of = 2026-01-01\ninput = 1\ncached_input = 1\ncache_write = 1\noutput = 2\n")
    prices = read_prices(mine)
    llama, luna = prices.of("llama"), prices.of("gpt-6-luna")
    mine.write_text("[chat.llama]\ninput = -1\n")

    assert llama and luna
    assert llama.cost(input=1_000_000, output=500_000) == 2.0
    assert prices.of("llama", "decisions") is None
    with pytest.raises(BadPrices, match=r"chat\.llama\.input: .*greater than"):
        read_prices(mine)
