"""Kinds of records that other tools stumble over, and that have always been right here: they stay so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson

from beepgpt.connectors.slack.export import open_export, read_days
from beepgpt.conversations.export import records_of
from beepgpt.conversations.shard import RunOutput
from tests.support import ours, run_of
from tests.support.exports import zipped
from tests.support.histories import START, Record, callback, delete, edit, heartbeat, lines_of, post, record_of, tombstone
from tests.support.oracle_records import DAY, MINUTE, SECOND, Rules, stamp


def run(*records: Record) -> RunOutput:
    made = run_of(lines_of(records), ours(Rules()))
    assert made.account.as_json()["adds_up"]
    return made


def answers(made: RunOutput) -> list[list[str]]:
    return [json.loads(line)["answer"] for line in made.examples]


ASKED, ANSWERED = post("C1", START, "ana", "Ready?"), post("C1", START + 30 * SECOND, "bo", "Yes", START)


def test_pass_changed():
    """Unfurls, language metadata and `message_replied` make no point; the tombstone deletes the root and retracts its example."""
    same = edit("C1", START + SECOND, START, "Ready?", previous="Ready?")
    replied = {"type": "message", "subtype": "message_replied", "channel": "C1", "ts": stamp(START + 31 * SECOND), "message": {"text": "x"}}
    gone, again = tombstone("C1", START + 40 * SECOND, START), delete("C1", START + 50 * SECOND, START)
    made = run(ASKED, same, record_of(replied, "C1", None), ANSWERED, gone, again, heartbeat(START + 3 * DAY))

    assert answers(made) == [["bo"], []]  # the second: nobody answers Bo
    assert made.account.by_reason("ignored") == {"subtype:message_replied": 1, "unchanged": 1}
    assert [json.loads(line)["retracted_ts"] for line in made.retractions] == [stamp(START + 40 * SECOND)]


def test_pass_duplicates():
    """Copies by the event's id, by that of another team, and hours later: one example, and each copy is counted."""
    asked, answer = callback(ASKED, "Ev1"), callback(post("C1", START + 30 * SECOND, "bo", "Yes"), "Ev2")
    copies = [asked, callback(ASKED, "Ev9", team_id="T2"), asked]
    later = callback(post("C1", START + 60 * MINUTE, "eve", "late"), "Ev3")
    made = run(asked, *copies, answer, asked, later, asked, heartbeat(START + DAY))

    assert (answers(made)[0], made.account["duplicate"], made.account["late"]) == (["bo"], 3, 2)
    assert sum(answer == ["bo"] for answer in answers(made)) == 1


def test_pass_root_repeated(tmp_path: Path):
    """A root that stands again in a later day file is a duplicate; no time, a number and NaN are dead letters, and nothing stops."""

    def said(user: str, ts: Any, **more: Any) -> dict[str, Any]:
        return {"type": "message", "user": user, "text": "Q", **({} if ts is None else {"ts": ts}), **more}

    root = said("U0ANA", "1716200000.000100", thread_ts="1716200000.000100", reply_count=1)
    reply = said("U0BO", "1716210000.000100", thread_ts="1716200000.000100", language={"locale": "en"})
    broken = [said("U0BO", ts) for ts in (None, 1716373000.5, "NaN")]
    days = (("general/2024-05-20.json", [root]), ("general/2024-05-21.json", [root, reply, *broken]))
    export = open_export(zipped(tmp_path, ("channels.json", [{"id": "C1", "name": "general"}]), *days))
    made = run_of(map(bytes, records_of("C1", read_days(export, export.channels[0]))), ours(Rules()))

    assert answers(made) == [["U0BO"]]
    assert (made.account["duplicate"] + made.account["late"], made.account.by_reason("rejected")) == (1, {"bad_ts": 2, "no_ts": 1})
    assert orjson.loads(made.examples[0])["conversation"] == "C1:1716200000.000100:thread"
