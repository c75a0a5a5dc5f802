"""`beepgpt history`, beside the tests' Slack: it reads what an export of the same workspace has, and nothing that it may not read."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from beepgpt.config.settings import read_settings
from beepgpt.conversations.events import micros
from beepgpt.conversations.rules import SECOND
from beepgpt.ingest.slack import histories
from beepgpt.ingest.slack.histories import TRIES
from beepgpt.simulation.slack.faults import Faults
from beepgpt.simulation.slack.server import BOT_TOKEN, ApiError, SlackServer, serving
from beepgpt.simulation.workspace import Plan, write_export
from tests.support import MONDAY_AT_TEN, beep, files_in, program, run_program
from tests.support.kafka import started
from tests.support.speed import wait_until

PLAN = Plan(seed=11, messages=700, channels=6, people=14, days=25, edits=0.1, broadcasts=0.1, elsewhere=0.1, bots=0.1, private=0.3)
QUICK = {"BEEPGPT_SLACK__CALLS_PER_MINUTE": "100000"}
SINCE = ("--since", "2023-01-01")
ALL = ("--include", "channels,groups")


@contextmanager
def acme(folder: Path, plan: Plan = PLAN, **options: Any) -> Iterator[tuple[SlackServer, Path]]:
    """A Slack in which all that was said stands in an export, and the export."""
    write_export(plan, export := folder / "acme.zip")
    with serving(**options) as server:
        server.workspace.load_export(export)
        yield server, export


def history(server: SlackServer, to: Path, *more: object, **env: str) -> subprocess.CompletedProcess[str]:
    return run_program("history", "--to", to, *more, env=os.environ | server.settings | QUICK | env)


def private_in(server: SlackServer) -> set[str]:
    return {channel for channel, about in server.workspace.channels.items() if about["is_private"]}


def bytes_in(folder: Path) -> dict[str, bytes]:
    """All files of a folder, but for the note of what was asked when."""
    found = (each for each in folder.rglob("*") if each.is_file() and each.name != "history.json")
    return {str(each.relative_to(folder)): each.read_bytes() for each in found}


@pytest.mark.parametrize("include", [(), ALL], ids=["public", "private, too"])
def test_examples_of_a_history_are_those_of_the_export(tmp_path: Path, include: tuple[str, ...]):
    """Byte for byte, with the retractions and names; in small pages, with refusals for the rate. A private channel isn't read unasked."""
    read, faults = tmp_path / "read", Faults(seed=5, limited=0.2, retry_after=0)
    with acme(tmp_path, faults=faults, page=50) as (server, export):
        done = history(server, read, *SINCE, *include)
        asked = {given["channel"] for _, given in server.record if "channel" in given}
        private = private_in(server)
    assert done.returncode == 0, done.stderr
    assert 0 < len(private) < PLAN.channels
    assert asked & private == (private if include else set())
    if not include:
        assert not any(each in content.decode() for each in private for content in bytes_in(read).values())
    made = {}
    for name, source in (("export", export), ("history", read)):
        (folder := tmp_path / name).mkdir()
        beep("examples", source, "--to", folder / "made.jsonl", *include)
        made[name] = files_in(folder), (folder / "made.names.json").read_bytes()
    assert made["history"] == made["export"] and len(made["export"][0]["made.jsonl"]) > 100
    assert "next: beepgpt try" in done.stderr and "messages of" in done.stdout
    assert read.stat().st_mode & 0o777 == 0o700
    assert {each.stat().st_mode & 0o077 for each in read.rglob("*")} == {0}


def is_asked_for(server: SlackServer, channel: str) -> bool:
    """Whether somebody asks for a channel's history, and not for its last message alone."""
    given = ("conversations.history", channel)
    return any((method, of.get("channel")) == given and of["limit"] != "1" for method, of in list(server.record))


def stuck(server: SlackServer, channel: str) -> None:
    """From now on this channel's history is refused for the rate, but for its last message."""
    answer = server.methods["conversations.history"]

    def call(given: dict[str, str]) -> dict[str, Any]:
        if given["channel"] == channel and given["limit"] != "1":
            raise ApiError("ratelimited")
        return answer(given)

    server.methods["conversations.history"] = call


def test_a_killed_history_goes_on_and_is_of_one_time(tmp_path: Path):
    """Killed in its midst, it is no export yet. The same command reads what is missing, and nothing that was said or edited meanwhile.

    A channel that is private by now is left out, although it was read already.
    """
    plan = Plan(seed=12, messages=400, channels=5, people=10, days=20, private=0)
    with acme(tmp_path, plan) as (server, _):
        slack, answer = server.workspace, server.methods["conversations.history"]
        assert history(server, tmp_path / "whole", *SINCE).returncode == 0
        newest = {channel: max(messages) for channel, messages in slack.messages.items()}
        *before, last = sorted(newest, key=newest.__getitem__, reverse=True)
        stuck(server, last)
        command, note = program("history", "--to", read := tmp_path / "read", *SINCE), read / "history.json"
        for end, status in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
            server.record.clear()
            with started(command, tmp_path / "run", server.settings | QUICK) as run:
                wait_until(lambda: is_asked_for(server, last), "all others are read", said=lambda: run.said)
                assert run.stop(end) == status, run.said
        assert len(json.loads(note.read_text())["read"]) == 4
        refused = run_program("examples", read, "--to", tmp_path / "made.jsonl")
        assert refused.returncode == 1 and f"give that command again, with --to {read}" in refused.stderr
        (read / ".making").mkdir()
        (read / ".making" / "2024-01-01.json").write_text("[]")

        wait_until(lambda: micros(slack.now()) > json.loads(note.read_text())["until"] + SECOND, "the second is over")
        edited = max(ts for ts, each in slack.messages[last].items() if each.get("subtype") is None)
        root = next(ts for ts, each in slack.messages[last].items() if each.get("reply_count"))
        slack.edit(last, edited, "said later")
        slack.post(last, "U1", "a later reply", thread_ts=root)
        slack.post(last, "U1", "a later post")
        slack.channels[before[1]]["is_private"] = True
        server.methods["conversations.history"] = answer
        server.record.clear()
        other = history(server, read, "--since", "2023-01-02")
        assert other.returncode == 2 and "--since was 2023-01-01 and is 2023-01-02" in other.stderr
        assert history(server, read, *SINCE).returncode == 0
        asked = {given["channel"] for method, given in server.record if method in ("conversations.history", "conversations.replies")}
        server.record.clear()
        assert history(server, read, *SINCE).returncode == 0
        assert {method for method, _ in server.record} == {"auth.test"}

    assert asked == {last}
    assert "later" not in "".join(each.decode() for each in bytes_in(read).values())
    assert not (read / ".making").exists() and not (read / before[1]).exists() and before[1] not in (read / "channels.json").read_text()
    messages = {name: json.loads(content) for name, content in bytes_in(read / last).items()}
    found = [each for day in messages.values() for each in day]
    assert [each.get("text") for each in found if each["ts"] == edited] == [None]
    whole, now = bytes_in(tmp_path / "whole"), bytes_in(read)
    assert {name for name in whole if before[1] not in name} == set(now)
    assert {name for name in now if now[name] != whole[name] and last not in name} == {"channels.json"}
    assert len(found) == sum(len(json.loads(each)) for each in bytes_in(tmp_path / "whole" / last).values())


def test_what_is_left_counts_threads_and_the_channels_still_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """Before anything is read nobody knows how many threads there are: they are named, since most of the time is theirs."""
    monkeypatch.setattr(histories, "SAY_EVERY", 0.0)
    plan = Plan(seed=15, messages=200, channels=3, people=6, days=10, private=0)
    with acme(tmp_path, plan) as (server, _):
        settings = read_settings(environ=server.settings | QUICK)
        histories.read_histories(histories.HistoryJob(tmp_path / "read", "2023-01-01", ("channels",), settings))
    said = capfd.readouterr().err
    assert "the histories of 3 channels are to be read, less than a minute, and a minute more for every 100,000 threads." in said
    assert re.findall(r"\d threads? still to be read, less than a minute; then (\d) more channels?\n", said)[0] == "2"


def test_what_is_forgotten_is_not_written_and_goes_from_a_folder_half_filled(tmp_path: Path):
    """Neither messages nor names of who is on the list; and `forget` takes them out of a folder that is not whole yet."""
    plan = Plan(seed=13, messages=200, channels=2, people=6, days=10, private=0)
    env = {"BEEPGPT_RUN__FORGOTTEN": str(tmp_path / "forgotten.json")}
    with acme(tmp_path, plan) as (server, _):
        read, again = tmp_path / "read", tmp_path / "again"
        assert history(server, read, *SINCE, **env).returncode == 0
        person = server.workspace.users[0]["id"]
        assert person in str(bytes_in(read))
        channel = next(iter(server.workspace.channels))
        (read / ".making").mkdir()
        (read / ".making" / "2024-01-01.json").write_text(json.dumps([{"user": person, "text": "half"}]))
        note = json.loads((read / "history.json").read_text())
        (read / "history.json").write_text(json.dumps(note | {"is_whole": False}))
        names = ("--user", person, "--channel", channel)
        assert run_program("forget", *names, "--from", read, "--yes", env=os.environ | env).returncode == 0
        assert history(server, again, *SINCE, **env).returncode == 0
    for folder in (read, again):
        everything = str(bytes_in(folder)) + (folder / "history.json").read_text()
        assert person not in everything and channel not in everything
        assert len(bytes_in(folder)) > 5


def test_what_slack_refuses_is_said(tmp_path: Path):
    """One channel of two: the other is read. None: the command fails, and what isn't read can be read later. An expired cursor: anew."""
    plan = Plan(seed=14, messages=200, channels=2, people=6, days=10, private=0)
    with acme(tmp_path, plan) as (server, _):
        answer, (first, second) = server.methods["conversations.history"], server.workspace.channels
        codes = {first: ["not_in_channel"] * 9, second: ["", *["invalid_cursor"] * (TRIES - 1)]}

        def call(given: dict[str, str]) -> dict[str, Any]:
            if codes[given["channel"]] and (code := codes[given["channel"]].pop(0)):
                raise ApiError(code)
            return answer(given)

        def name(channel: str) -> str:
            return str(server.workspace.channels[channel]["name"])

        server.methods["conversations.history"] = call
        done = history(server, tmp_path / "one", *SINCE)
        assert done.returncode == 0 and f"not read: #{name(first)} (not_in_channel)" in done.stdout
        assert (tmp_path / "one" / second).is_dir() and not (tmp_path / "one" / first).exists()

        codes[first], codes[second] = ["channel_not_found"], ["channel_not_found"]
        none = history(server, tmp_path / "none", *SINCE)
        assert none.returncode == 1 and f"#{name(second)} could not be read: channel_not_found" in none.stderr
        codes[second] = []
        assert history(server, tmp_path / "none", *SINCE).returncode == 0

        server.scopes = "channels:read,users:read"
        assert "lacks channels:history" in history(server, tmp_path / "scopeless").stderr
        for each in server.workspace.channels.values():
            each["is_member"] = False
        server.scopes += ",channels:history"
        nowhere = history(server, tmp_path / "nowhere")
        assert nowhere.returncode == 1 and "in no channel: /invite @BeepGPT in those" in nowhere.stderr
        tokenless = history(server, tmp_path / "tokenless", BEEPGPT_SLACK__BOT_TOKEN="")
        assert tokenless.returncode == 2 and "slack.bot_token is missing" in tokenless.stderr
        foreign = history(server, tmp_path)
        assert foreign.returncode == 2 and "holds files that are not of `beepgpt history`" in foreign.stderr


def test_no_secret_and_no_address_is_written(tmp_path: Path):
    """Tokens that somebody posted, or that stand in links of files; what Slack tells of people beside their names."""
    with serving() as server:
        slack = server.workspace
        slack.clock = lambda: MONDAY_AT_TEN
        slack.add_channel("C1", "general")
        slack.users = [{"id": "U1", "name": "ana", "is_bot": False, "profile": {"display_name": "Ana", "email": "ana@acme.example"}}]
        slack.post("C1", "U1", f"the token is {BOT_TOKEN}", files=[{"url_private": "https://files.slack.com/a?t=xoxe-1-abc&x=1"}])
        assert history(server, tmp_path / "read", *SINCE).returncode == 0
    written = {name: content.decode() for name, content in bytes_in(tmp_path / "read").items()}
    assert "the token is " in written["C1/2024-01-01.json"] and "Ana" in written["users.json"]
    assert [name for name, content in written.items() if "xox" in content or "ana@" in content] == []
