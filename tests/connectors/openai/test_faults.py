"""What a provider can do wrong becomes one of a few errors or another try; limits and deadlines hold; nothing is paid twice."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from typing import Any

import httpx2
import openai
import pytest

from beepgpt.connectors.openai import caller
from beepgpt.connectors.openai.answers import FOREIGN, translated
from beepgpt.connectors.openai.client import Client
from beepgpt.connectors.openai.values import AskedModel, Provider, QuestionApi
from beepgpt.errors import BadAnswer, NoMoney, NotAllowed, ProviderFailed, RequestRefused, TooBusy, TrainingNotAvailable
from tests.support.openai_client import DECIDING, SECRET, asking, failing, question
from tests.support.openai_model import by_hash
from tests.support.openai_script import Script, digest
from tests.support.openai_server import KEY, Server, serving

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


def test_tokens_of_an_answer_without_words_are_paid_for_and_counted(server: Server, monkeypatch: pytest.MonkeyPatch):
    """It is asked again, and has cost as much as the good one."""
    monkeypatch.setattr(caller, "FIRST_WAIT", 0.05)
    failing(server, "wordless", "wordless")
    with asking(server) as client:
        answer = client.ask(question())

    assert answer.usage is not None
    assert client.account.usage.input == 3 * answer.usage.input and client.account.usage.output == 3 * answer.usage.output


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

    assert done and done <= set(others)  # on a busy machine the third may be answered, too, before anybody looks


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
