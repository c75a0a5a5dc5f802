"""Batches: each request is answered, whoever asked is killed, whatever gets lost; nothing is paid twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from beepgpt.connectors.openai import caller, jobs
from beepgpt.connectors.openai import client as client_module
from beepgpt.connectors.openai.client import Client, batch_parts
from beepgpt.connectors.openai.values import ProviderAnswer, Usage
from beepgpt.errors import BadAnswer, NoMoney, ProviderFailed, RequestRefused, TooBusy
from tests.support.openai_client import DECIDING, asking, failing, question
from tests.support.openai_model import by_hash
from tests.support.openai_script import digest
from tests.support.openai_server import Server, serving

ROOT = Path(__file__).resolve().parents[3]


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
        "from tests.support.openai_client import question\n"
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
