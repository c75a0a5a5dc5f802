"""Fine-tuning jobs over real HTTP: one job for the same bytes, whatever goes wrong and whenever it is killed."""

from __future__ import annotations

import ast
import fcntl
import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from beepgpt.commands.train import train
from beepgpt.commands.train_elsewhere import cancel_job, export_chats
from beepgpt.config.settings import read_settings
from beepgpt.errors import BadCommand, RunStopped
from beepgpt.labeling.redaction import redact
from beepgpt.training.fine_tuning import EVENTS, LOCK
from tests.support import program, quiet
from tests.support.openai_script import Script
from tests.support.openai_server import STEPS, Server, serving
from tests.support.prepare import Set
from tests.support.speed import slowness
from tests.support.training import WANTED, job_of, settings_for, training_set, variables


@pytest.fixture
def prepared(tmp_path: Path) -> Set:
    return training_set(tmp_path)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def sent_files(server: Server) -> list[bytes]:
    return [content for purpose, content in server.files.values() if purpose == "fine-tune"]


def stopped(folder: Path, server: Server, **more: Any) -> str:
    with pytest.raises(RunStopped) as caught:
        job_of(folder, server, **more)
    return str(caught.value)


def refused(folder: Path, server: Server, *given: Any, **more: Any) -> str:
    with pytest.raises(BadCommand) as caught:
        job_of(folder, server, *given, **more)
    return str(caught.value)


# When all goes well


def test_a_job_becomes_a_models_folder(prepared: Set, server: Server):
    """The card tells what it was trained on, by whom and how; the folder has what the job told."""
    card = job_of(prepared.folder, server)
    remote = card["remote"]
    events = (prepared.folder / "models" / "tuned" / EVENTS).read_bytes().splitlines()

    assert card["kind"] == "remote"
    assert card["labels"] == list(prepared.labels)
    assert remote["model"] == "ft:gpt-4.1-mini-2025-04-14:test:acme:0"
    assert (remote["job"], remote["base"], remote["way"]) == ("ftjob-0", "gpt-4.1-mini-2025-04-14", "chat")
    assert remote["settings"] == {"n_epochs": 2, "batch_size": 1, "seed": 7}
    assert [each["step"] for each in remote["checkpoints"]] == [10, 20]
    assert remote["trained_tokens"] > 0
    assert len(events) == STEPS + 2


def test_what_is_sent_is_the_training_set_without_what_must_not_leave(prepared: Set, server: Server):
    """Row by row: the same chats, their prompts redacted."""
    job_of(prepared.folder, server)

    assert len(sent_files(server)) == 2
    for side, content in zip(("train", "valid"), sent_files(server), strict=True):
        rows = [json.loads(line)["messages"] for line in content.splitlines()]
        before = [json.loads(line)["messages"] for line in (prepared.folder / f"chat_{side}.jsonl").read_bytes().splitlines()]
        assert [each[-1] for each in rows] == [each[-1] for each in before]
        assert [each[-2]["content"] for each in rows] == [redact(each[-2]["content"]).text for each in before]
        assert b"@example.org" not in content


def test_the_same_command_again_asks_for_nothing(prepared: Set, server: Server):
    """The folder says that it is done."""
    first = job_of(prepared.folder, server)

    assert job_of(prepared.folder, server) == first
    assert (len(server.jobs), server.record.uploads) == (1, 2)


# When something goes wrong


@pytest.mark.parametrize("fault", ["429:0.01", "503", "reset", "drop", "cut", "html", "empty"])
def test_faults_at_every_step_are_overcome(prepared: Set, server: Server, fault: str):
    """Each kind of request meets it once; there is one job in the end."""
    steps = ("POST files", "GET files", "POST jobs", "GET jobs", "GET ftjob-0", "GET events", "GET checkpoints")
    server.script = Script(other={step: [fault] for step in steps})
    job_of(prepared.folder, server)

    assert not any(server.script.other.values())
    assert (len(server.jobs), server.record.uploads) == (1, 2)


@pytest.mark.parametrize("keeps_metadata", [True, False])
def test_an_answer_that_gets_lost_makes_no_second_job(prepared: Set, server: Server, keeps_metadata: bool):
    """Files are found by their name, the job by its key, or by its file where a server keeps no keys."""
    server.keeps_metadata = keeps_metadata
    server.script = Script(other={"POST files": ["lost", "lost"], "POST jobs": ["lost"]})
    job_of(prepared.folder, server)

    assert (len(server.jobs), server.record.uploads) == (1, 2)


def test_a_job_is_found_behind_many_others(prepared: Set, server: Server, tmp_path: Path):
    """The folder is lost, and others have started 150 jobs since."""
    job_of(prepared.folder, server)
    for number in range(150):
        server.make_job({"model": "gpt-4.1", "training_file": "file-0", "metadata": {"theirs": str(number)}})
    (prepared.folder / "models" / "tuned").rename(tmp_path / "lost")
    card = job_of(prepared.folder, server)

    assert card["remote"]["job"] == "ftjob-0"
    assert (len(server.jobs), server.record.uploads) == (151, 2)


def test_an_account_that_may_not_train_is_told_what_to_do_instead(prepared: Set, server: Server):
    """And what was sent for it is deleted again."""
    server.script = Script(other={"POST jobs": ["training_not_available"]})
    said = stopped(prepared.folder, server)

    assert "this account can't start fine-tuning jobs" in said
    assert "--model local" in said and "--model export" in said and "2027-01-06" in said
    assert sent_files(server) == []
    assert server.jobs == {}


def test_a_file_that_is_turned_down_is_sent_anew_when_it_is_tried_again(prepared: Set, server: Server):
    """No job is made of it."""
    server.script = Script(file="error")
    said = stopped(prepared.folder, server)
    assert "file file-0 (" in said and "turned down (error)" in said
    assert server.jobs == {}
    server.script = Script()
    server.files.pop("file-0")

    assert job_of(prepared.folder, server)["remote"]["job"] == "ftjob-0"
    assert server.record.uploads == 3


def test_a_failed_job_is_explained_and_only_started_anew_when_it_is_wished(prepared: Set, server: Server):
    """By codes of the provider's, not by its words, which may quote."""
    server.script = Script(job="failed:invalid_training_file")
    said = stopped(prepared.folder, server)
    assert "job ftjob-0 has failed (invalid_training_file, training_file)" in said
    assert "--again" in said and "what somebody wrote" not in said
    assert stopped(prepared.folder, server) == said
    assert len(server.jobs) == 1
    server.script = Script()

    assert job_of(prepared.folder, server, again=True)["remote"]["job"] == "ftjob-1"
    assert server.record.uploads == 2


def test_again_takes_a_job_that_lives(prepared: Set, server: Server, tmp_path: Path):
    """It was started by a command whose folder is lost: `--again` makes no third one."""
    server.script = Script(job="failed:server_error")
    stopped(prepared.folder, server)
    server.script = Script()
    job_of(prepared.folder, server, again=True)
    (prepared.folder / "models" / "tuned").rename(tmp_path / "lost")

    assert job_of(prepared.folder, server, again=True)["remote"]["job"] == "ftjob-1"
    assert len(server.jobs) == 2


def test_a_cancelled_job_is_told_to_be_one(prepared: Set, server: Server):
    """Here cancelled at the provider's, in the middle."""
    server.script = Script(job="cancelled")

    assert "job ftjob-0 was cancelled" in stopped(prepared.folder, server)


def test_money_that_is_used_up_ends_it_at_once(prepared: Set, server: Server):
    """With a message that says so, and that nothing is lost."""
    server.script = Script(other={"POST jobs": ["quota"]})
    said = stopped(prepared.folder, server)

    assert "no money or quota left" in said
    assert "the same command goes on from there" in said
    assert job_of(prepared.folder, server)["remote"]["job"] == "ftjob-0"


def test_a_key_that_is_wrong_is_never_told(prepared: Set, server: Server):
    """The server quotes it; we don't."""
    said = stopped(prepared.folder, server, key="sk-wrong-one")

    assert "the key is not accepted" in said
    assert "sk-wrong-one" not in said


# What is refused


def test_nothing_leaves_unless_it_is_switched_on(prepared: Set):
    """The policy is told, with how it is switched on."""
    with serving() as server:
        said = refused(prepared.folder, server, base_url="https://api.example.com/v1")

    assert "sending that to api.example.com is switched off" in said
    assert "prohibits" in said and "allow_external = true" in said


def test_channels_and_people_that_nothing_is_sent_of_stay(prepared: Set, server: Server):
    """Their rows are left out of both files, and counted."""
    card = job_of(prepared.folder, server, exclude_channels="C2")
    files = card["remote"]["files"]

    assert files["train"]["left_out"] > 0
    assert files["valid"]["left_out"] > 0
    assert sum(len(each.splitlines()) for each in sent_files(server)) == files["train"]["rows"] + files["valid"]["rows"]
    assert not any(b"number 4?" in each or b"number 34?" in each for each in sent_files(server))


def test_without_the_table_it_is_not_known_who_wrote_a_row(tmp_path: Path, server: Server):
    """So nothing is sent."""
    prepared = training_set(tmp_path, formats=("chat",))

    assert "candidates_train.parquet, which is missing" in refused(prepared.folder, server, exclude_people="zoe")
    assert server.record.uploads == 0


def test_another_wish_in_the_same_folder_is_refused(prepared: Set, server: Server):
    """A second job of the same training set needs a folder of its own."""
    server.script = Script(job="failed:server_error")
    stopped(prepared.folder, server)

    assert "remembers a job of its own (--epochs was 2)" in refused(prepared.folder, server, replace(WANTED, epochs=3))
    assert len(server.jobs) == 1


def test_a_model_of_other_tokens_is_refused(prepared: Set, server: Server):
    """Its labels might be two of them."""
    assert "has cl100k_base: beepgpt prepare --model gpt-4-turbo" in refused(prepared.folder, server, replace(WANTED, model="gpt-4-turbo"))
    assert "is not known" in refused(prepared.folder, server, replace(WANTED, model="mystery"))


def test_a_changed_file_is_refused(prepared: Set, server: Server):
    """It isn't what the manifest says, and so not what a validation would believe."""
    with (prepared.folder / "chat_train.jsonl").open("ab") as file:
        file.write(b"{}\n")

    assert "is not the file that was prepared" in refused(prepared.folder, server)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": "local", "epochs": 3}, "--epochs is for --model openai:NAME, and this is --model local"),
        ({"model": "text", "cancel": True}, "--cancel is for --model openai:NAME, and this is --model text"),
        ({"model": "openai"}, "--model openai: local, text, openai:NAME"),
        ({"model": "local:big"}, "--model local:big: local, text, openai:NAME"),
        ({"model": "openai:gpt-4.1", "suffix": "x" * 65}, "has 65 characters, and 1 to 64 are allowed"),
        ({"model": "openai:gpt-4.1", "every": "soon"}, "--every soon: must be a duration"),
        ({"model": "served:mine", "way": "telepathy"}, "--way telepathy: chat, completions, decisions"),
    ],
)
def test_what_can_t_be_meant_is_refused(prepared: Set, given: dict[str, Any], said: str):
    """Before anything is sent, and no flag is passed over."""
    with pytest.raises(BadCommand) as caught:
        train(folder=prepared.folder, config=None, **given)

    assert said in str(caught.value)


def test_two_commands_at_once_don_t_make_two_jobs(prepared: Set, server: Server):
    """The second is told that the first is at work."""
    into = prepared.folder / "models" / "tuned"
    into.mkdir(parents=True)
    with (into / LOCK).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        assert "another beepgpt train is at work" in refused(prepared.folder, server)


def test_a_folder_without_a_job_has_none_to_cancel(prepared: Set, server: Server):
    """It says so, whether the folder is there or not."""
    with pytest.raises(BadCommand, match="remembers no job"):
        cancel_job(prepared.folder / "models" / "tuned", settings_for(server))


# Elsewhere


def test_an_export_holds_what_a_job_would_be_sent(prepared: Set, server: Server, tmp_path: Path):
    """The same chats, without a mark that only OpenAI knows; nothing is asked of any server."""
    done = export_chats(prepared.folder, tmp_path / "export", read_settings(environ={}))
    job_of(prepared.folder, server)
    sent = [[json.loads(line)["messages"] for line in content.splitlines()] for content in sent_files(server)]
    written = [
        [json.loads(line)["messages"] for line in (tmp_path / "export" / f"chat_{side}.jsonl").read_bytes().splitlines()]
        for side in ("train", "valid")
    ]
    page = (tmp_path / "export" / "README.md").read_text("utf-8")

    assert [[[(each["role"], each["content"]) for each in chat] for chat in side] for side in written] == [
        [[(each["role"], each["content"]) for each in chat] for chat in side] for side in sent
    ]
    assert b"weight" not in (tmp_path / "export" / "chat_train.jsonl").read_bytes()
    assert f"{done['train']:,} chats to train on" in page
    assert "vllm serve" in page and "{" + "length" not in page


def test_the_guide_s_python_can_be_read(prepared: Set, tmp_path: Path):
    """Each block of it, by Python's own parser."""
    export_chats(prepared.folder, tmp_path, read_settings(environ={}))
    blocks = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text("utf-8"), re.DOTALL)

    assert len(blocks) == 3
    for block in blocks:
        ast.parse(block)


# Kills


def command(prepared: Set, *more: object) -> list[str]:
    given = ("--model", "openai:gpt-4.1-mini", "--epochs", "2", "--suffix", "acme", "--seed", "7", "--every", "50ms")
    return program("train", prepared.folder, *given, "--to", prepared.folder / "models" / "tuned", *more)


def killed_when(prepared: Set, server: Server, is_there: Callable[[], bool], number: int = signal.SIGKILL) -> tuple[int, str]:
    """Starts the command, and kills it when that is so."""
    env = quiet() | variables(server)
    with subprocess.Popen(command(prepared), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env) as process:
        until = time.monotonic() + 600
        while process.poll() is None and not is_there() and time.monotonic() < until:
            time.sleep(0.01)
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert is_there()
        process.send_signal(number)
        _, said = process.communicate(timeout=600 * slowness())
    return process.returncode, said


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_every_step_it_comes_to_one_job(prepared: Set):
    """Between what the provider has done and what we know of it, too: both uploads, processing, the job's start, its events, its end."""
    tuned = prepared.folder / "models" / "tuned"
    with serving(file_seconds=1.0, job_seconds=1e9) as server:
        other = server.script.other
        other["POST files"] = ["held"]
        killed_when(prepared, server, lambda: len(server.files) == 1)
        other["POST files"] = ["held"]
        killed_when(prepared, server, lambda: len(server.files) == 2)
        server.sent = {each: (name, time.monotonic() + 600) for each, (name, _) in server.sent.items()}
        killed_when(prepared, server, lambda: (tuned / "job.json").exists() and len(json_of(tuned)["files"]) == 2)
        server.sent = {each: (name, 0.0) for each, (name, _) in server.sent.items()}
        other["POST jobs"] = ["held"]
        killed_when(prepared, server, lambda: len(server.jobs) == 1)
        assert json_of(tuned)["job"] is None
        server.job_seconds = 1e9  # half of it is over, however slow this machine is
        server.jobs["ftjob-0"]["_begins"] = time.monotonic() - 5e8
        killed_when(prepared, server, lambda: (tuned / EVENTS).exists() and (tuned / EVENTS).read_bytes().count(b"\n") >= 3)
        server.job_seconds = 0.0
        other["GET checkpoints"] = ["held"]
        killed_when(prepared, server, lambda: not other["GET checkpoints"])
        assert not (tuned / "model.json").exists()
        done = subprocess.run(command(prepared), capture_output=True, text=True, env=quiet() | variables(server), check=False, timeout=600)
        assert done.returncode == 0, done.stderr
        told = [json.loads(line)["id"] for line in (tuned / EVENTS).read_bytes().splitlines()]

        assert (len(server.jobs), server.record.uploads) == (1, 2)
        assert told == [each["id"] for each in reversed(server.events("ftjob-0"))]
        assert orjson.loads((tuned / "model.json").read_bytes())["remote"]["job"] == "ftjob-0"


def json_of(tuned: Path) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads((tuned / "job.json").read_bytes())
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_interrupt_leaves_the_job_alone_and_cancel_stops_it(prepared: Set):
    """Status 130; the job goes on at the provider's, until it is cancelled."""
    tuned = prepared.folder / "models" / "tuned"
    with serving(job_seconds=600.0) as server:
        status, said = killed_when(prepared, server, (tuned / EVENTS).exists, signal.SIGINT)
        assert status == 130
        assert "a job goes on at the provider's" in said
        assert server.job("ftjob-0")["status"] == "running"

        assert cancel_job(tuned, settings_for(server)) == "cancelled"
        assert "was cancelled" in stopped(prepared.folder, server)
        assert len(server.jobs) == 1
