"""`beepgpt forget` on places that are named twice, are links, can't be read, or are somebody else's."""

import json
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from beepgpt.alerts.predictions import newest_text
from beepgpt.alerts.store import AlertStore
from beepgpt.config.settings import read_settings
from beepgpt.connectors.log import TopicSpec, WrongTopic, folder_place
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.account import Account
from beepgpt.conversations.events import Ignored, parse, ts_text
from beepgpt.conversations.export import events_of
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.shard import run_through
from beepgpt.errors import BadCommand
from beepgpt.forgetting.run import ForgetJob, run_forget
from beepgpt.ingest.feeds import FileFeed
from beepgpt.ingest.run import IngestJob, run_ingest
from beepgpt.runtime.forgotten import _once, read_forgotten
from beepgpt.training.prepare import MADE_BY
from beepgpt.training.uploads import README
from beepgpt.web.pages import rendered
from tests.support.forgetting import canaries_in

THEIRS = b'{"type":"message","channel":"C1","user":"U9","text":"hi","ts":"1690360253.041239"}\n'
OTHERS = b'{"type":"message","channel":"C1","user":"U2","text":"ho","ts":"1690360254.041239"}\n'


def forget(tmp_path: Path, *places: Path | str, people: tuple[str, ...] = ("U9",), apply: bool = True, **more: Any) -> dict[str, Any]:
    """By place: what is reported of it."""
    settings = read_settings(environ={"BEEPGPT_RUN__FORGOTTEN": str(tmp_path / "list" / "forgotten.json")})
    found = run_forget(ForgetJob([str(each) for each in places], settings, people=people, apply=apply, **more))
    named = [Path(each["place"]).name for each in found["places"]]
    assert len(named) == len(set(named))
    return dict(zip(named, found["places"], strict=True))


def training_set(folder: Path, user: str) -> None:
    """A training set of chats alone, with what its rows were made of."""
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"made_by": MADE_BY}))
    (folder / "chat_train.jsonl").write_text('{"messages":[{"role":"user","content":"hi"}]}\n')
    (folder / "rows_train.jsonl").write_text(json.dumps({"id": "a", "channel": "C1", "window": [{"ts": "1.1", "user": user}]}) + "\n")


def test_what_several_places_hold_is_counted_and_done_once(tmp_path: Path):
    """Also where an earlier place deletes the later one."""
    training_set(tmp_path / "set", "U9")
    (tmp_path / "events.jsonl").write_bytes(THEIRS + OTHERS)
    places = (tmp_path, tmp_path / "set", tmp_path / "set" / "chat_train.jsonl", tmp_path / "events.jsonl")
    dry = forget(tmp_path, *places, apply=False)
    done = forget(tmp_path, *places)

    assert dry == done and {name: each["found"] for name, each in done.items() if each["found"]} == {"set": 1, "events.jsonl": 1}
    assert list((tmp_path / "set").iterdir()) == [] and (tmp_path / "events.jsonl").read_bytes() == OTHERS


def test_a_training_set_goes_by_what_its_rows_were_made_of(tmp_path: Path):
    """A set of chats without the person stays; one with them goes, even if one of its files alone is named."""
    training_set(tmp_path / "ours", "U2")
    training_set(tmp_path / "theirs", "U9")
    forget(tmp_path, tmp_path / "ours" / "chat_train.jsonl", tmp_path / "theirs" / "chat_train.jsonl")

    assert (tmp_path / "ours" / "chat_train.jsonl").exists() and list((tmp_path / "theirs").iterdir()) == []


AT, FORWARDED_AT = "1690360253.041239", 1_690_360_254_041_239
EVENTS = (
    {"type": "message", "channel": "C2", "user": "U9", "text": "a private plan", "ts": AT},
    {"type": "message", "channel": "C1", "user": "U2", "text": "look", "ts": ts_text(FORWARDED_AT),
     "attachments": [{"from_url": f"https://x.slack.com/archives/C2/p{AT.replace('.', '')}", "is_share": True, "text": "a private plan"}]},
    {"type": "message", "channel": "C1", "user": "U3", "text": "well", "ts": "1690360255.041239"},
)  # fmt: skip
"""Somebody's words, forwarded by somebody else; the forward says by its link alone where they come from."""


def make_all(folder: Path, form: str, forgotten: Forgotten | None = None) -> None:
    """Examples, a training set of rows of text alone and an alert store, made of these events; the second example's window is the
    forward."""
    rules = Rules(horizon=None)
    lines = [json.dumps(each).encode() for each in EVENTS]
    made = run_through(lines, rules, load_encoding(rules.encoding), forgotten=forgotten).examples
    bodies = [json.loads(line) for line in made]
    (folder / "examples.jsonl").write_bytes(b"".join(line + b"\n" for line in made))
    (folder / "set").mkdir(exist_ok=True)
    (folder / "set" / "manifest.json").write_text(json.dumps({"made_by": MADE_BY}))
    chats = [{"messages": [{"role": "user", "content": each["prompt"]}, {"role": "assistant", "content": "0"}]} for each in bodies]
    rows = chats if form == "chat" else [{"prompt": each["prompt"], "completion": " 0"} for each in bodies]
    entries = [{name: each[name] for name in ("id", "channel", "window")} | {"rows": 1} for each in bodies if each["channel"] == "C1"]
    (folder / "set" / f"{form}_train.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    (folder / "set" / "rows_train.jsonl").write_text("".join(json.dumps(each) + "\n" for each in entries))
    store = AlertStore(folder / "alerts.sqlite")
    ours = next(each for each in bodies if each["window"][-1]["ts"] == ts_text(FORWARDED_AT))
    alert = {"id": "a", "user": "U3", "kind": "member", "way": "list", "reason": "", "prediction": "p", "model": "m", "p": 0.5, "why": ""}
    about = {"channel": "C1", "ts": FORWARDED_AT, "prompt_ts": FORWARDED_AT, "conversation": ours["conversation"], "made_at": 5}
    store.add_alert(alert | about | {"excerpt": newest_text(ours["prompt"])}, [], [(FORWARDED_AT, "U2")])
    store.close()


@pytest.mark.parametrize("form", ["chat", "completion"])
def test_what_shows_a_forward_of_it_goes_from_all_that_was_made(tmp_path: Path, form: str):
    """Once the log has said whose words they are; what is made again with the list has nothing of them, and stays."""
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(each) + "\n" for each in EVENTS))
    make_all(tmp_path, form)
    places = [tmp_path / name for name in ("alerts.sqlite", "examples.jsonl", "set", "events.jsonl")]
    before = canaries_in(tmp_path, ("a private plan",))
    found = forget(tmp_path, *places)

    assert set(before) == {"alerts.sqlite", "events.jsonl", "examples.jsonl", f"set/{form}_train.jsonl"}
    assert canaries_in(tmp_path, ("a private plan",)) == {} and not (tmp_path / "set" / f"{form}_train.jsonl").exists()
    assert {name: each["found"] for name, each in found.items()} == {"alerts.sqlite": 1, "examples.jsonl": 3, "set": 1, "events.jsonl": 2}
    with closing(AlertStore(tmp_path / "alerts.sqlite")) as store:
        assert [(row["channel"], row["ts"], row["excerpt"]) for row in store._rows("SELECT * FROM alert")] == [("C1", FORWARDED_AT, "")]

    (tmp_path / "alerts.sqlite").unlink()
    make_all(tmp_path, form, read_forgotten(tmp_path / "list" / "forgotten.json"))
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")}
    assert {name: each["found"] for name, each in forget(tmp_path, *places).items() if each["found"]} == {}
    assert len(kept) == 4 and {path: path.read_bytes() for path in kept} == kept
    with closing(AlertStore(tmp_path / "alerts.sqlite")) as store:
        assert [row["excerpt"] for row in store._rows("SELECT * FROM alert")] == ["look"]


def test_a_file_of_events_is_ingested_without_the_forward(tmp_path: Path):
    """Its author's own words are written; the account has what was left out."""
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(each) + "\n" for each in EVENTS))
    account = Account()
    feed = FileFeed(tmp_path / "events.jsonl", lambda: False, Forgotten(b"salt").with_names(["U9"], messages=[("C2", AT)]))
    written = [json.loads(each.record) for each in feed.items(account)]

    assert (account["read"], account["forgotten"]) == (3, 1)
    assert written == [EVENTS[1] | {"attachments": []}, EVENTS[2]]


def test_a_file_is_another_source_once_more_is_forgotten(tmp_path: Path):
    """Its records have other numbers: what the topic has of it is no place to go on from."""
    (tmp_path / "events.jsonl").write_bytes(THEIRS + OTHERS)
    topic, listed = f"sqlite://{tmp_path}/slack.events", {"BEEPGPT_RUN__FORGOTTEN": str(tmp_path / "list" / "forgotten.json")}
    SqliteLog(folder_place(str(tmp_path))).create([TopicSpec("slack.events", 1)])
    job = IngestJob(str(tmp_path / "events.jsonl"), topic, read_settings(environ=listed))
    assert run_ingest(job)[0]["account"]["written"] == 2
    (tmp_path / "another.jsonl").write_bytes(THEIRS)
    forget(tmp_path, tmp_path / "another.jsonl")
    _once.cache_clear()  # as in a process of its own
    with pytest.raises(WrongTopic, match="none of this ingest"):
        run_ingest(job)


def test_rows_of_text_alone_are_named(tmp_path: Path):
    """They don't say whose words they are."""
    (tmp_path / "copied.jsonl").write_text('{"prompt":"hi","completion":" 3"}\n')

    assert forget(tmp_path, tmp_path / "copied.jsonl")["copied.jsonl"]["done"].startswith("stays")


def test_what_a_named_link_leads_to_is_cleaned_and_a_link_in_a_folder_is_named(tmp_path: Path):
    """The link stays one."""
    (tmp_path / "real.jsonl").write_bytes(THEIRS + OTHERS)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link.jsonl").symlink_to(tmp_path / "real.jsonl")

    assert forget(tmp_path, tmp_path / "folder")["link.jsonl"]["kind"] == "link"
    assert (tmp_path / "real.jsonl").read_bytes() == THEIRS + OTHERS
    assert forget(tmp_path, tmp_path / "folder" / "link.jsonl")["real.jsonl"]["found"] == 1
    assert (tmp_path / "folder" / "link.jsonl").is_symlink() and (tmp_path / "real.jsonl").read_bytes() == OTHERS


def test_what_is_somebody_s_own_stays_as_it_is(tmp_path: Path):
    """Names and words like ours, a pipe, and what can't be read are named, and never deleted."""
    folder = tmp_path / "theirs"
    (folder / ".prepare-dinner").mkdir(parents=True)
    (folder / ".prepare-dinner" / "soup.md").write_text("leeks")
    files = {
        "notes.new": b"x",
        "film.part": b"x",
        "diary.html": b"<html>I like BeepGPT",
        "chat_train.jsonl": b'{"chats": 1}\n',
        "README.md": b"mine",
        "cut.parquet": b"PAR1cut",
        "cut.zip": b"PK\x03\x04cut",
        "cut.sqlite": b"SQLite format 3\0cut",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    os.mkfifo(folder / "pipe")
    found = forget(tmp_path, folder)

    assert {name: (folder / name).read_bytes() for name in files} == files and (folder / ".prepare-dinner" / "soup.md").exists()
    unknown = {"notes.new", "film.part", "diary.html", "cut.parquet", "cut.zip", "cut.sqlite", "pipe"}
    assert {name for name, each in found.items() if each["kind"] == "unknown"} == unknown


def test_ours_are_recognized(tmp_path: Path):
    """A page by what is in each of them; exported chats by their guide, which goes last; an audit's report, which quotes prompts."""
    chats = tmp_path / "chats"
    chats.mkdir()
    (chats / "README.md").write_text(README)
    (chats / "chat_train.jsonl").write_text("{}\n")
    (tmp_path / "page.html").write_text(rendered("base.html"))
    (tmp_path / "model.part").write_text("{}")
    (tmp_path / "audit.json").write_text('{"command": "audit", "findings": ["\\u201chi\\u201d was said by nobody"]}')
    forget(tmp_path, chats, tmp_path / "page.html", tmp_path / "model.part", tmp_path / "audit.json")

    assert list(chats.iterdir()) == []
    assert not [name for name in ("page.html", "model.part", "audit.json") if (tmp_path / name).exists()]


@pytest.mark.parametrize("name", ["", " ", "@ana", "<@U9>", "U9 "])
def test_what_is_no_id_is_refused(tmp_path: Path, name: str):
    """An empty one, of a variable that isn't set, say, would forget all who have no name; and an empty place is not this folder."""
    with pytest.raises(BadCommand, match="is no id"):
        forget(tmp_path, tmp_path, people=(name,))
    with pytest.raises(BadCommand, match="is no id"):
        forget(tmp_path, tmp_path, people=(), channels=(name,))
    with pytest.raises(BadCommand, match="no such file"):
        forget(tmp_path, "")
    assert not (tmp_path / "list").exists()


def test_what_keeps_old_content_elsewhere_is_said(tmp_path: Path):
    """Another name of a rewritten file, and files in an export's folders that are no JSON."""
    (tmp_path / "events.jsonl").write_bytes(THEIRS + OTHERS)
    os.link(tmp_path / "events.jsonl", tmp_path / "other-name.jsonl")
    day = tmp_path / "export" / "general" / "2024-01-01.json"
    day.parent.mkdir(parents=True)
    (tmp_path / "export" / "channels.json").write_text('[{"id":"C1","name":"general"}]')
    day.write_text('[{"type":"message","user":"U2","text":"ho","ts":"1690360254.041239"}]')
    day.with_name("photo.png").write_bytes(b"x")
    found = forget(tmp_path, tmp_path / "events.jsonl", tmp_path / "export")

    assert "1 files have other names (hard links)" in found["events.jsonl"]["rebuild"]
    assert (found["export"]["found"], found["export"]["rebuild"]) == (0, "1 files in it are no JSON, and were not looked into")
    assert (tmp_path / "other-name.jsonl").read_bytes() == THEIRS + OTHERS


def test_an_old_comment_on_a_file_counts_as_forgotten():
    """It names its author within the comment alone."""
    stored = {"type": "message", "subtype": "file_comment", "comment": {"user": "U9", "comment": "hi"}, "ts": "1434772752.000007"}
    ours = Forgotten(b"salt").with_names(["U9"])
    (_, _, event), *_ = events_of("C1", stored, with_authors=True)
    kept = parse(json.dumps(event).encode(), 1434772752 * 10**6, forgotten=ours)

    assert isinstance(kept, Ignored) and kept.reason == "forgotten"
