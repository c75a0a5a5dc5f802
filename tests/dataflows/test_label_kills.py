"""Labels through kills and faults: `kill -9` at random moments, and in the end each example is there once and nothing was paid in vain."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from beepgpt.connectors.files.jsonl import JsonlSource
from beepgpt.labeling.redaction import redact
from tests.support import beep, program, quiet
from tests.support.labeling import Labels, made_examples, prompts_of
from tests.support.openai_script import FAULTS, Script, digest
from tests.support.openai_server import Server, serving
from tests.support.speed import slowness

CONCURRENCY = 16
KINDS = [
    "429", "429:0.2", "429:date1", "500", "503:0.2", "stall", "reset", "drop", "cut", "html", "empty", "wordless", "bare", "slow:0.5",
    "400", "404", "schema", "maybe", "chatty", "refusal", "length",
]  # fmt: skip
"""Some of every kind that doesn't end a run."""
FINAL = {"400": "refused", "404": "refused"} | dict.fromkeys(("schema", "maybe", "chatty", "refusal", "length"), "bad_answer")


def test_the_faults_here_are_all_that_the_server_knows():
    """But those that end a run, and those of files and batches."""
    others = {"quota", "401", "403", "training_not_available", "lost", "held"}
    assert {each.partition(":")[0] for each in KINDS} - {"503"} == set(FAULTS) - others


def command(labels: Labels, *more: object) -> list[str]:
    return program(
        "label", labels.source, "--to", labels.to, "--recovery", labels.folder / "memory", "--report", labels.folder / "report.json",
        "--snapshot-every", "50ms", *more,
    )  # fmt: skip


@contextmanager
def started(labels: Labels, server: Server, **more: object) -> Iterator[subprocess.Popen[str]]:
    env = quiet() | labels.variables(server, **more)
    with subprocess.Popen(command(labels), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def run_with_kills(labels: Labels, server: Server, kills: int, seed: int, **more: object) -> int:
    """Kills it whenever the server has seen some more requests, so often at most; returns how often that was."""
    draws = random.Random(seed)
    whole = len(prompts_of(labels.lines))
    for hit in range(kills):
        enough = len(server.record.asked) + draws.randint(1, max(whole // (kills + 1), 2))
        with started(labels, server, **more) as process:
            while process.poll() is None and len(server.record.asked) < enough:
                time.sleep(0.005)
            if process.poll() is not None:
                assert process.returncode == 0, process.stderr.read() if process.stderr else ""
                return hit
            time.sleep(draws.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
    with started(labels, server, **more) as process:
        _, said = process.communicate(timeout=3000 * slowness())
    assert process.returncode == 0, said
    return kills


def report_in(labels: Labels) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((labels.folder / "report.json").read_bytes())
    assert report["account"]["adds_up"]
    return report


def assert_all_there(labels: Labels, server: Server, kills: int):
    """Each example once, each dead letter for a fault that can't be overcome; some were met by requests that a kill ended."""
    labels.check()
    dead = Counter(each["reason"] for each in labels.letters)
    assert report_in(labels)["account"]["dead_letters"] == dict(dead.most_common())
    failed = {each.digest: FINAL[each.fault] for each in server.record.asked if each.fault in FINAL}
    found = {digest(redact(json.loads(each["record"])["prompt"]).text): each["reason"] for each in labels.letters}
    assert found.items() <= failed.items()
    assert len(failed) - kills * CONCURRENCY <= len(found) <= len(failed)
    assert len(found) > 0


@pytest.mark.slow
def test_through_kills_nothing_is_lost_and_only_what_was_in_flight_is_paid_again(tmp_path: Path):
    """Killed twice at work; resumed each time, it comes to the same labels."""
    labels = Labels(tmp_path / "work", made_examples())
    with serving(latency=0.02) as server:
        hits = run_with_kills(labels, server, kills=2, seed=3)

        assert hits == 2
        labels.check()
        report = report_in(labels)
        assert report["account"]["dead_letters"] == {}
        assert server.record.paid_twice <= hits * CONCURRENCY
        assert 0 <= report["provider"]["answered"] - len(prompts_of(labels.lines)) <= server.record.paid_twice


@pytest.mark.slow
def test_through_kills_in_the_midst_of_faults(tmp_path: Path):
    """Two of a hundred requests meet a fault of each kind."""
    labels = Labels(tmp_path / "work", made_examples())
    with serving(latency=0.02, script=Script(share=dict.fromkeys(KINDS, 0.02))) as server:
        hits = run_with_kills(labels, server, kills=3, seed=5, provider__timeout="2s")

        assert hits == 3
        assert_all_there(labels, server, hits)
        assert server.record.paid_twice <= hits * CONCURRENCY


@pytest.mark.slow
def test_a_killed_batch_is_taken_up_by_its_id(tmp_path: Path):
    """While it runs at the provider: nothing is sent again, and its answers are fetched."""
    labels = Labels(tmp_path / "work", made_examples())
    with serving(batch_seconds=3.0) as server:
        with started(labels, server, batch=True) as process:
            while process.poll() is None and not server.batches:
                time.sleep(0.01)
            time.sleep(0.3)
            process.send_signal(signal.SIGKILL)
        assert len(server.batches) == 1
        with started(labels, server, batch=True) as process:
            _, said = process.communicate(timeout=100 * slowness())

        assert process.returncode == 0, said
        assert "batch batch_0: completed" in said
        labels.check()
        assert (len(server.batches), server.record.uploads, server.record.paid_twice) == (1, 1, 0)


@pytest.mark.slow
def test_an_interrupt_while_a_batch_runs_ends_at_once(tmp_path: Path):
    """With the status of an interrupt; the batch goes on at the provider."""
    labels = Labels(tmp_path / "work", made_examples()[:50])
    with serving(batch_seconds=60.0) as server, started(labels, server, batch=True) as process:
        while process.poll() is None and not server.batches:
            time.sleep(0.01)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30 * slowness())

        assert process.returncode == 130, said
        assert "the same command goes on with them" in said


@pytest.mark.slow
def test_the_exit_status_tells_how_it_ended(tmp_path: Path):
    """1: nothing more could be labeled; 2: the command was wrong. Keys and texts are in no message."""
    labels = Labels(tmp_path / "work", made_examples()[:50])
    with serving(script=Script(always="quota")) as server:
        with started(labels, server) as process:
            _, no_money = process.communicate(timeout=60 * slowness())
        assert (process.returncode, server.record.paid_twice) == (1, 0)
        with started(labels, server, provider__way="telepathy") as process:
            _, wrong = process.communicate(timeout=60 * slowness())
        assert process.returncode == 2
        assert "no money or quota left" in no_money
        assert "BEEPGPT_PROVIDER__WAY is 'telepathy': must be 'chat' or 'decisions'" in wrong
        for each in (no_money, wrong):
            assert server.key not in each
            assert not any(part in each for prompt in prompts_of(labels.lines) for part in prompt.split("\n\n") if part.count(" ") > 1)


@pytest.mark.slow
@pytest.mark.parametrize(("said", "status"), [("y", 0), ("n", 1)])
def test_a_person_is_asked_before_much_is_spent(tmp_path: Path, said: str, status: int):
    """What is agreed to is the new limit; without it nothing is sent."""
    labels = Labels(tmp_path / "work", made_examples()[:50])
    ours, theirs = pty.openpty()
    with serving() as server, os.fdopen(ours, "w") as keyboard, os.fdopen(theirs) as terminal:
        env = quiet() | labels.variables(server, max_cost=0.0001)
        keyboard.write(f"{said}\n")
        keyboard.flush()
        done = subprocess.run(command(labels), stdin=terminal, capture_output=True, text=True, env=env, check=False, timeout=100)

        assert done.returncode == status, done.stderr
        assert re.search(r"about \$0\.0\d+, by prices of .* more than --max-cost \$0\.0001\.\nSpend up to \$0\.01\?", done.stderr)
        assert len(server.record.asked) == (len(prompts_of(labels.lines)) if status == 0 else 0)


# The whole: ten thousand examples of the real data


@pytest.fixture(scope="module")
def ten_thousand(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, ...]:
    """Examples of HubSpot's developers, with different prompts and answers, from the middle of the time."""
    folder = tmp_path_factory.mktemp("hubspot")
    beep("examples", shared / "data" / "hubspot-dev-2016-2023.zip", "--to", folder / "examples.jsonl", "--no-candidates", "--no-progress")
    part = JsonlSource(folder / "examples.jsonl").build_part("read", "jsonl", None)
    found: dict[str, bytes] = {}
    while len(found) < 10_000:
        for _, _, lines in part.next_batch():
            found |= {body["prompt"]: line for line in lines if (body := json.loads(line))["answer"]}
    part.close()
    return tuple(list(found.values())[:10_000])


@pytest.mark.proof
@pytest.mark.realdata
@pytest.mark.parametrize("kills", [0, 10])
def test_ten_thousand_examples_with_every_fault(ten_thousand: tuple[bytes, ...], tmp_path: Path, kills: int):
    """At 300 ms a request, one of a hundred meets each fault: all are labeled or dead letters, and only kills make one pay twice."""
    labels = Labels(tmp_path / "work", ten_thousand)
    with serving(latency=0.3, script=Script(share=dict.fromkeys(KINDS, 0.01)), keeps_bodies=False) as server:
        hits = run_with_kills(labels, server, kills=kills, seed=7, provider__timeout="5s")

        assert hits == kills
        assert_all_there(labels, server, hits)
        assert server.record.paid_twice <= hits * CONCURRENCY
