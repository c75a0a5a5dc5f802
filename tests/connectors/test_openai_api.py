"""What a provider can do wrong becomes one of a few errors or another try; limits and deadlines hold; nothing is paid twice."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import httpx2
import openai
import pytest

from beepgpt.config.prices import BadPrices, read_prices
from beepgpt.connectors.openai import caller, jobs
from beepgpt.connectors.openai import client as client_module
from beepgpt.connectors.openai.answers import FOREIGN, read_answer, read_choice, translated
from beepgpt.connectors.openai.client import Client, batch_parts
from beepgpt.connectors.openai.values import AskedModel, Provider, ProviderAnswer, QuestionApi, Request, TextRequest, Usage, body_of
from beepgpt.errors import BadAnswer, NoMoney, NotAllowed, ProviderFailed, RequestRefused, TooBusy, TrainingNotAvailable
from tests.support.openai_server import KEY, Script, Server, by_hash, digest, serving

ROOT = Path(__file__).resolve().parents[2]
LUNA = AskedModel("gpt-6-luna", effort="none", marks_prefix=True)
DECIDING = AskedModel("gpt-6-luna", way="decisions")
SECRET = "the launch is called off"
"""What somebody wrote, and nobody else may read."""


@pytest.fixture
def server() -> Iterator[Server]:
    """Without faults, until a test sets a script."""
    with serving() as server:
        yield server


def question(text: str = SECRET, model: AskedModel = LUNA, tokens: int = 0) -> Request:
    shots = (("hello", "no"), ("How do I reset my key?", "yes"))
    return Request(model, "Does this conversation teach who answers what? " * 100, shots, text, tokens)


def asking(server: Server, **more: object) -> Client:
    return Client(replace(Provider(server.url, server.key), **more))  # type: ignore[arg-type]


def failing(server: Server, *faults: str | None, text: str = SECRET) -> None:
    """The first tries of a message meet these faults."""
    server.script = Script(of={digest(text): list(faults)})


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


# Faults


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("quota", NoMoney),
        ("401", NotAllowed),
        ("403", NotAllowed),
        ("training_not_available", TrainingNotAvailable),
        ("400", RequestRefused),
        ("404", RequestRefused),
        ("422", RequestRefused),
        ("413", RequestRefused),
        ("503:never", TooBusy),
        ("schema", BadAnswer),
        ("maybe", BadAnswer),
        ("chatty", BadAnswer),
        ("refusal", BadAnswer),
        ("length", BadAnswer),
    ],
)
def test_what_can_not_get_better_is_not_tried_again(server: Server, fault: str, error: type[ProviderFailed]):
    """One try, one error of the right kind, counted under its reason."""
    server.script.always = fault
    with asking(server) as client:
        with pytest.raises(error) as raised:
            client.ask(question())
        account = client.account

    assert type(raised.value) is error
    assert len(server.record.asked) == account.tries == 1
    assert account.failed == {error.reason: 1}


@pytest.mark.parametrize("fault", ["maybe", "refusal"])
def test_decisions_are_declined_and_bad_as_well(server: Server, fault: str):
    """A refusal is no answer, and neither is a choice that wasn't offered."""
    server.script.always = fault
    with asking(server) as client, pytest.raises(BadAnswer):
        client.ask(question(model=DECIDING))

    assert len(server.record.asked) == 1


CAN_PASS = ["429", "500", "502", "503", "408", "409", "reset", "drop", "cut", "html", "empty", "stall", "slow:4"]


@pytest.mark.parametrize(
    ("way", "fault"), [*(("chat", each) for each in CAN_PASS), ("decisions", "429"), ("decisions", "cut"), ("decisions", "empty")]
)
def test_what_can_pass_is_tried_again(server: Server, monkeypatch: pytest.MonkeyPatch, fault: str, way: QuestionApi):
    """Two tries that fail, one that is answered; what never arrived is counted by its reason."""
    monkeypatch.setattr(caller, "FIRST_WAIT", 0.05)
    failing(server, fault, fault)
    patience = {"stall": {"stall": 0.4}, "slow:4": {"timeout": 0.6}}.get(fault, {})
    with asking(server, **patience) as client:
        answer = client.ask(question(model=AskedModel("gpt-6-luna", way)))
        account = client.account

    assert answer.probability == pytest.approx(by_hash(SECRET), abs=1e-5)
    assert len(server.record.asked) == account.tries == 3
    assert sum(account.retries.values()) == 2
    assert (account.answered, account.failed) == (1, {})


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("429", TooBusy),
        ("500", TooBusy),
        ("reset", TooBusy),
        ("stall", TooBusy),
        ("cut", BadAnswer),
        ("html", BadAnswer),
        ("empty", BadAnswer),
    ],
)
def test_tries_come_to_an_end(server: Server, monkeypatch: pytest.MonkeyPatch, fault: str, error: type[ProviderFailed]):
    """What never gets better is given up after as many tries as are set."""
    monkeypatch.setattr(caller, "FIRST_WAIT", 0.05)
    server.script.always = fault
    with asking(server, tries=3, stall=0.2) as client, pytest.raises(error) as raised:
        client.ask(question())

    assert type(raised.value) is error
    assert len(server.record.asked) == 3


def test_a_server_that_is_not_there_is_tried_for_a_while(monkeypatch: pytest.MonkeyPatch):
    """Nobody listens: the error names the place and says what to check."""
    monkeypatch.setattr(caller, "FIRST_WAIT", 0.05)
    with serving() as gone:
        provider = Provider(gone.url, KEY, tries=3)
    with Client(provider) as client, pytest.raises(TooBusy, match=rf"check provider.base_url - {provider.place}; 3 tries"):
        client.ask(question())


# Time


@pytest.mark.parametrize(
    ("fault", "least", "most"), [("429:1", 1, 2.2), ("503:0.5", 0.5, 1.7), ("429:ms300", 0.3, 1.5), ("429:date2", 1, 3.3)]
)
def test_the_server_says_how_long_to_wait(server: Server, fault: str, least: float, most: float):
    """Retry-After is honored in each of its forms: never earlier, and not much later."""
    failing(server, fault)
    with asking(server) as client:
        client.ask(question())

    first, second = (each.at for each in server.record.asked)
    assert least <= second - first <= most


@pytest.mark.parametrize("name", ["429:60", "503:60"])
def test_who_is_to_wait_longer_than_there_is_time_gives_up_at_once(server: Server, name: str):
    """A try before that would be in vain, and so would the wait; the error says how long the server asks for."""
    server.script.always = name
    started = time.monotonic()
    with asking(server, deadline=5) as client, pytest.raises(TooBusy, match="asks for 60 seconds; 1 try in"):
        client.ask(question())

    assert time.monotonic() - started < 2


@pytest.mark.parametrize("fault", ["500", "stall", "slow:30"])
def test_the_deadline_holds(server: Server, fault: str):
    """However it fails, a request and all its tries end by then."""
    server.script.always = fault
    started = time.monotonic()
    with asking(server, deadline=1.2, tries=1000) as client, pytest.raises(TooBusy):
        client.ask(question())

    assert 0.2 < time.monotonic() - started < 2.2


def test_slow_bytes_are_waited_for_and_not_for_ever(server: Server):
    """An answer that trickles never stalls, so that only the time of the whole try can end it."""
    failing(server, "slow:1")
    with asking(server, stall=0.5) as client:
        client.ask(question())
        assert client.account.tries == 1
    failing(server, None, "slow:20")
    started = time.monotonic()
    with asking(server, stall=0.5, timeout=0.8, tries=1) as client, pytest.raises(TooBusy):
        client.ask(question())

    assert time.monotonic() - started < 2


def test_the_limits_per_minute_hold_for_all_threads(server: Server):
    """16 threads ask as fast as they can: at no time has the server seen more than a burst and what has dripped in since."""
    per_minute = 1200
    burst = per_minute * 3 / 63
    per_second = (per_minute - burst) / 60
    with asking(server, requests_per_minute=per_minute) as client, ThreadPoolExecutor(16) as pool:
        started = time.monotonic()
        list(pool.map(lambda number: client.ask(question(str(number))), range(96)))
        account = client.account

    times = [each.at - started for each in server.record.asked]
    assert all(at >= (number - burst) / per_second - 0.01 for number, at in enumerate(times, 1))
    assert times[-1] < 2 * (96 - burst) / per_second
    assert account.limited > 1


def test_the_allowance_of_tokens_holds_for_requests_larger_than_a_burst(server: Server, monkeypatch: pytest.MonkeyPatch):
    """Each takes as many tokens as it says, even if they have to drip in for it alone."""
    monkeypatch.setattr(caller, "BURST", 0.3)
    per_minute, tokens, requests = 60_300, 1_000, 3  # a burst of 300, and 1,000 a second
    with asking(server, tokens_per_minute=per_minute) as client:
        started = time.monotonic()
        wait_for([client.submit(question(str(number), tokens=tokens)) for number in range(requests)])

    assert len(server.record.answered) == requests
    assert 2.6 <= time.monotonic() - started < 4


def test_as_many_requests_as_are_set_run_at_the_same_time(server: Server):
    """No more, and no fewer: 64 requests of 0.2 s each, 16 at a time, take not much over 0.8 s."""
    server.latency = 0.2
    with asking(server, concurrency=16) as client:
        client.ask(question("warm"))
        started = time.monotonic()
        done, _ = wait_for([client.submit(question(str(number))) for number in range(64)])

    assert server.record.most == 16
    assert len(done) == 64
    assert time.monotonic() - started < 3


def test_who_waits_for_a_further_try_keeps_nobody_waiting(server: Server):
    """One at a time: while the first waits for a second, as the server asked, the others are answered."""
    failing(server, "429:1", text="first")
    with asking(server, concurrency=1) as client:
        first, *others = [client.submit(question(text)) for text in ("first", "second", "third")]
        done, _ = wait_for([first, *others], return_when="FIRST_COMPLETED")

    assert done == {others[0]}


def test_closing_gives_up_what_is_under_way(server: Server):
    """Neither a stalled answer nor a long wait keeps a program from ending."""
    failing(server, "stall", text="stalled")
    server.script.of[digest("waiting")] = ["429:30"]
    client = asking(server)
    futures = [client.submit(question("stalled")), client.submit(question("waiting"))]
    while len(server.record.asked) < 2:
        time.sleep(0.01)
    started = time.monotonic()
    client.close()

    assert time.monotonic() - started < 1
    for future in futures:
        with pytest.raises(CancelledError):
            future.result()
    with pytest.raises(RuntimeError, match="closed"):
        client.ask(question())


# The account


def test_the_account_adds_up(monkeypatch: pytest.MonkeyPatch):
    """Under faults of all kinds each request is answered or has failed, none is paid twice, and the tokens are the server's."""
    monkeypatch.setattr(caller, "FIRST_WAIT", 0.05)
    kinds = ["429", "500", "reset", "drop", "cut", "html", "empty", "refusal", "schema", "400", "slow:0.1", "stall"]
    with serving(script=Script(share=dict.fromkeys(kinds, 0.02))) as server, asking(server, stall=1.0) as client:
        futures = [client.submit(question(str(number))) for number in range(300)]
        wait_for(futures)
        account = client.account

    failed = [error for future in futures if (error := future.exception())]
    faults = server.record.summary()["faults"]
    assert set(faults) == set(kinds)
    assert len(failed) == sum(faults[each] for each in ("refusal", "schema", "400"))
    assert (account.asked, account.answered) == (300, 300 - len(failed))
    assert sum(account.failed.values()) == len(failed)
    assert account.tries == len(server.record.asked) == 300 + sum(account.retries.values())
    assert server.record.paid_twice == 0
    paid = sum(server.record.answered.values())
    assert paid == account.answered + sum(faults[each] for each in ("refusal", "schema"))
    assert account.usage.output == 5 * paid
    assert account.usage.input > account.usage.cached > 0.8 * account.usage.input


def test_an_answer_without_a_word_on_tokens_is_counted():
    """So that nobody takes the sum for all that was spent."""
    answer = read_answer("chat", json.dumps({"choices": [{"message": {"content": "no"}}], "usage": None}).encode())

    assert answer == ProviderAnswer("no", None, "", None)


# Batches


def run_batch(client: Client, *texts: str) -> dict[str, ProviderAnswer | ProviderFailed]:
    """All of it, in one go."""
    (part,) = batch_parts(question(text) for text in texts)
    batch = client.wait_for_batch(client.start_batch(part).id, every=0.05)
    return dict(client.batch_results(batch.id))


def test_a_batch_answers_each_request(server: Server):
    """The same answers as at once, under the requests' ids, and their tokens apart from the others."""
    texts = [str(number) for number in range(50)]
    failing(server, "refusal", text="7")
    server.script.of[digest("8")] = ["500"]
    server.script.of[digest("9")] = ["400"]
    with asking(server) as client:
        results = run_batch(client, *texts)
        account = client.account

    assert set(results) == {question(text).id for text in texts}
    kinds = {text: type(results[question(text).id]) for text in texts}
    assert {text: kind for text, kind in kinds.items() if kind is not ProviderAnswer} == {"7": BadAnswer, "8": TooBusy, "9": RequestRefused}
    answer = results[question("3").id]
    assert isinstance(answer, ProviderAnswer)
    assert answer.probability == pytest.approx(by_hash("3"), abs=1e-5)
    assert (account.asked, account.answered, account.failed) == (50, 47, {"bad_answer": 1, "too_busy": 1, "refused": 1})
    assert account.usage == Usage()
    assert account.batch_usage.output == 48 * 5


def test_a_batch_is_cut_by_requests_and_by_bytes():
    """As many batches as it takes, each request once and in order, however often it is asked."""
    requests = [question(str(number)) for number in range(10)]
    size = len(next(batch_parts(requests[:1])).data)

    assert [each.requests for each in batch_parts(requests + requests, most=4)] == [4, 4, 2]
    assert [each.requests for each in batch_parts(requests, most_bytes=3 * size + 10)] == [3, 3, 3, 1]
    ids = [json.loads(line)["custom_id"] for part in batch_parts(requests, most=4) for line in part.data.splitlines()]
    assert ids == [each.id for each in requests]


def test_there_are_no_batches_of_decisions():
    """The error says what to do instead."""
    with pytest.raises(RequestRefused, match="without --batch"):
        list(batch_parts([question(model=DECIDING)]))


def test_a_batch_that_expires_gives_what_was_done(server: Server):
    """The rest was not paid for, and can be asked again."""
    server.script.batch = "expired"
    with asking(server) as client:
        results = run_batch(client, "a", "b", "c", "d")

    assert sorted(type(each).__name__ for each in results.values()) == ["ProviderAnswer", "ProviderAnswer", "TooBusy", "TooBusy"]


@pytest.mark.parametrize(
    ("code", "error"), [("token_limit_exceeded", TooBusy), ("insufficient_quota", NoMoney), ("invalid_json_line", RequestRefused)]
)
def test_a_batch_that_is_turned_down_says_why(server: Server, code: str, error: type[ProviderFailed]):
    """Too much at once may work later; what is wrong will not."""
    server.script.batch = f"failed:{code}"
    with asking(server) as client, pytest.raises(error) as raised:
        run_batch(client, "a")

    assert type(raised.value) is error
    assert "what somebody wrote" not in str(raised.value)


def test_a_batch_outlives_who_asked(tmp_path: Path):
    """Killed once it is started, the next process takes it up by its id, or by its requests, and nothing is paid twice."""
    script = tmp_path / "starts.py"
    script.write_text(
        "import sys, time\n"
        "from beepgpt.connectors.openai.client import batch_parts\n"
        "from beepgpt.connectors.openai.client import Client\n"
        "from beepgpt.connectors.openai.values import Provider\n"
        "from tests.connectors.test_openai_api import question\n"
        "with Client(Provider(*sys.argv[1:])) as client:\n"
        "    part, = batch_parts(question(str(number)) for number in range(20))\n"
        "    print(client.start_batch(part).id, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with serving(batch_seconds=0.5) as server:
        with subprocess.Popen(
            [sys.executable, str(script), server.url, server.key],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},
        ) as asking_process:
            assert asking_process.stdout
            batch_id = asking_process.stdout.readline().strip()
            asking_process.send_signal(signal.SIGKILL)
        with asking(server) as client:
            (part,) = batch_parts(question(str(number)) for number in range(20))
            again = client.start_batch(part)
            seen: list[str] = []
            batch = client.wait_for_batch(batch_id, every=0.1, progress=lambda each: seen.append(each.status))
            results = dict(client.batch_results(batch_id))

    assert again.id == batch_id == batch.id
    assert seen[-1] == "completed"
    assert all(isinstance(each, ProviderAnswer) for each in results.values())
    assert (len(results), len(server.batches), server.record.uploads, server.record.paid_twice) == (20, 1, 1, 0)


def test_an_answer_that_gets_lost_starts_no_second_batch(server: Server, monkeypatch: pytest.MonkeyPatch):
    """The server has started it, and the connection ends before the response: the next try finds it."""
    monkeypatch.setattr(caller, "FIRST_WAIT", 0.05)
    server.script.other = {"POST batches": ["lost"]}
    with asking(server) as client:
        results = run_batch(client, "a", "b")

    assert (len(results), len(server.batches), server.record.paid_twice) == (2, 1, 0)


@pytest.mark.parametrize("fault", ["500", "429:0", "reset", "drop", "cut", "html", "empty"])
def test_files_and_batches_are_asked_for_again(server: Server, monkeypatch: pytest.MonkeyPatch, fault: str):
    """Each step meets a fault first; in the end all of it is there, once."""
    monkeypatch.setattr(caller, "FIRST_WAIT", 0.05)
    server.script.other = {"POST files": [fault], "POST batches": [fault], "GET batches": [None, None, None, fault], "GET files": [fault]}
    with asking(server) as client:
        results = run_batch(client, "a", "b")

    assert [type(each) for each in results.values()] == [ProviderAnswer, ProviderAnswer]
    assert (len(server.batches), server.record.paid_twice) == (1, 0)
    assert not any(server.script.other.values())


def test_looking_for_a_started_batch_meets_faults_too(server: Server, monkeypatch: pytest.MonkeyPatch):
    """A list that can't be read is no list without the batch."""
    monkeypatch.setattr(caller, "FIRST_WAIT", 0.05)
    (part,) = batch_parts([question("a")])
    with asking(server) as client:
        first = client.start_batch(part)
        server.script.other = {"GET batches": ["500", "html", "empty", "cut"]}
        again = client.start_batch(part)

    assert again.id == first.id
    assert len(server.batches) == 1


def test_a_started_batch_is_found_behind_many_others(server: Server, monkeypatch: pytest.MonkeyPatch):
    """The account's batches are looked through page by page."""
    monkeypatch.setattr(client_module, "PAGE", 2)
    monkeypatch.setattr(jobs, "PAGE", 2)
    parts = list(batch_parts((question(str(number)) for number in range(6)), most=1))
    with asking(server) as client:
        ids = [client.start_batch(part).id for part in parts]
        again = [client.start_batch(part).id for part in parts]

    assert ids == again
    assert len(server.batches) == 6


def test_a_batch_of_other_requests_is_another_one(server: Server):
    """Only the very same requests are taken up."""
    with asking(server) as client:
        first, second = (client.start_batch(next(batch_parts([question(text)]))).id for text in ("a", "b"))

    assert first != second


# Errors


def test_no_error_of_the_sdk_is_left_unmapped():
    """Each that it exports is caught, and becomes one of ours."""
    exported: list[Any] = [getattr(openai, name) for name in openai.__all__]
    theirs = {each for each in exported if isinstance(each, type) and issubclass(each, Exception)}

    assert {openai.APITimeoutError, openai.RateLimitError, openai.LengthFinishReasonError} <= theirs
    for each in theirs:
        assert issubclass(each, FOREIGN), each
        error: Any = each.__new__(each)  # some want arguments of their own
        error.status_code, error.body, error.response = 429, None, httpx2.Response(429)
        assert isinstance(translated(error, "gpt-6-luna"), ProviderFailed), each


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


# The server, and what things cost


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
