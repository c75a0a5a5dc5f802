"""When labeling goes wrong: each example is labeled or a dead letter, and a run that was stopped goes on."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.labeling import Labels, account, asked_about, made_examples, prompts_of
from tests.support.openai_script import Script, digest
from tests.support.openai_server import Server


def test_faults_are_overcome_or_become_dead_letters(server: Server, tmp_path: Path):
    """Some of every kind: each example is labeled or a dead letter with its reason, and nothing was paid for twice."""
    labels = Labels(tmp_path / "work", made_examples())
    kinds = [
        "429",
        "429:0",
        "500",
        "503:0",
        "reset",
        "drop",
        "cut",
        "html",
        "empty",
        "bare",
        "slow:0.3",
        "400",
        "refusal",
        "schema",
        "chatty",
    ]
    server.script = Script(share=dict.fromkeys(kinds, 0.02))
    report = labels.run(server, recovery=True)

    met = {each.fault for each in server.record.asked}
    assert met > set(kinds) - {"slow:0.3"}
    labels.check()
    final = {"400": "refused", "refusal": "bad_answer", "schema": "bad_answer", "chatty": "bad_answer"}
    expected = Counter(final[each.fault] for each in server.record.asked if each.fault in final)
    assert {name: len(prompts) for name, prompts in _prompts_by_reason(labels).items()} == expected
    assert server.record.paid_twice == 0
    assert report["provider"]["retries"].keys() == {"too_busy", "bad_answer"}
    again = len(server.record.asked)
    labels.to.unlink()
    Labels(labels.folder, labels.lines).run(server, recovery=False)
    assert len(server.record.asked) - again == expected["refused"], "what was paid for is not asked again, good or bad"


def _prompts_by_reason(labels: Labels) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for each in labels.letters:
        found.setdefault(each["reason"], set()).add(json.loads(each["record"])["prompt"])
    return found


@pytest.mark.parametrize(("fault", "what"), [("quota", "no money"), ("401", "key is not accepted"), ("403", "may not do this")])
def test_what_stops_all_requests_stops_the_run(server: Server, labels: Labels, fault: str, what: str):
    """No dead letters: what is done is kept, and the same command goes on."""
    server.script = Script(at=dict.fromkeys(range(20, 10_000), fault))
    first = labels.run(server, recovery=True, provider__concurrency=4)
    server.script = Script()
    second = labels.run(server, recovery=True)

    assert what in first["stopped_because"]
    assert "goes on from here" in first["stopped_because"]
    assert 0 < sum(account(first)["labeled"].values()) < len(asked_about(labels.lines))
    assert account(first)["dead_letters"] == account(second)["dead_letters"] == {}
    assert account(second)["waiting"] == 0
    labels.check()
    assert server.record.paid_twice == 0


def test_money_that_ends_behind_the_last_example_stops_the_run(server: Server, tmp_path: Path):
    """All is read and asked, and the answers say that there is no more money: the run has not ended, and goes on."""
    labels = Labels(tmp_path / "work", [line for line in made_examples() if json.loads(line)["answer"]][:6])
    server.latency, server.script = 0.5, Script(at=dict.fromkeys(range(2, 10), "quota"))
    first = labels.run(server, recovery=True, provider__concurrency=8)
    server.script = Script()
    second = labels.run(server, recovery=True)

    assert (first["ended"], second["ended"]) == (False, True) and account(first)["waiting"] > 0
    labels.check()


def test_a_provider_that_is_away_too_long_stops_the_run(server: Server, labels: Labels):
    """An outage makes no dead letters either."""
    server.script = Script(at=dict.fromkeys(range(20, 10_000), "500"))
    first = labels.run(server, recovery=True, provider__tries=3, provider__concurrency=4)
    server.script = Script()
    second = labels.run(server, recovery=True)

    assert "no request is answered any more" in first["stopped_because"]
    assert account(first)["dead_letters"] == account(second)["dead_letters"] == {}
    labels.check()


def test_a_short_outage_is_waited_for(server: Server, labels: Labels):
    """Those that ran out of tries have another chance as soon as one is answered."""
    server.script = Script(at=dict.fromkeys(range(20, 45), "500"))
    report = labels.run(server, provider__tries=3, provider__concurrency=4)

    assert (report["ended"], account(report)["dead_letters"]) == (True, {})
    labels.check()


def test_a_wrong_model_makes_no_dead_letters(server: Server, labels: Labels):
    """Nothing was ever answered, so that it isn't the prompts' fault."""
    server.script.always = "404"
    report = labels.run(server, recovery=True, provider__concurrency=3)

    assert "there is no such model" in report["stopped_because"]
    assert account(report)["dead_letters"] == {}
    assert len(server.record.asked) <= 9


def test_one_prompt_that_never_works_is_a_dead_letter(server: Server, labels: Labels):
    """The others are labeled."""
    poison = asked_about(labels.lines)[10]["prompt"]
    server.script = Script(of={digest(poison): ["500"] * 1000})
    report = labels.run(server, provider__tries=3)

    assert account(report)["dead_letters"].keys() == {"too_busy"}
    assert _prompts_by_reason(labels) == {"too_busy": {poison}}
    labels.check()


def test_a_prompt_that_stops_every_run_is_given_up(server: Server, tmp_path: Path):
    """If it is the only one, nobody can tell it from an outage: after three starts it is a dead letter."""
    line = next(line for line in made_examples() if json.loads(line)["answer"])
    labels = Labels(tmp_path / "work", [line])
    server.script.always = "500"
    reports = [labels.run(server, recovery=True, provider__tries=2) for _ in range(3)]

    assert ["stopped_because" in each for each in reports] == [True, True, False]
    assert account(reports[-1])["dead_letters"] == {"too_busy": 1}


def test_asked_to_stop_it_takes_what_was_asked_and_goes_on_later(server: Server, labels: Labels):
    """SIGTERM: what the server has begun with is waited for and kept; nothing is asked twice."""
    server.latency = 0.1
    threading.Thread(target=_terminate_after, args=(server, 20), daemon=True).start()
    first = labels.run(server, recovery=True, provider__concurrency=4)
    asked, answered = len(server.record.asked), len(server.record.answered)
    second = labels.run(server, recovery=True)

    assert (first["status"], first["ended"], second["status"], second["ended"]) == (130, False, 0, True)
    assert account(first)["waiting"] > 0
    assert asked == answered < len(prompts_of(labels.lines)) == len(server.record.asked)
    assert server.record.paid_twice == 0
    labels.check()


def _terminate_after(server: Server, requests: int) -> None:
    deadline = time.monotonic() + 60
    while len(server.record.asked) < requests and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    "line", [b"oops", b"{}", b"[1]", b'{"id": "6f1c", "prompt": 7, "answer": [], "channel": "C", "window": []}', b"\xff"]
)
def test_what_is_no_example_is_a_dead_letter(labels: Labels, server: Server, line: bytes):
    """As it came, with its reason and its place."""
    labels = Labels(labels.folder, [*labels.lines[:3], line])
    report = labels.run(server)

    (letter,) = labels.letters
    assert account(report)["dead_letters"] == {letter["reason"]: 1}
    assert letter["place"] == "examples.jsonl:4"
