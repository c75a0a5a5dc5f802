"""`beepgpt forget` on files: what is found, what is done, and what a kill, a wrong command or a store in use leaves."""

import json
import os
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from beepgpt.alerts.forgetting import OF_CONVERSATIONS, forget_in_store
from beepgpt.alerts.store import AlertStore
from beepgpt.config.settings import read_settings
from beepgpt.connectors.slack.export import ChannelKind, open_export
from beepgpt.conversations.account import Account
from beepgpt.conversations.events import micros
from beepgpt.conversations.forgetting import Forgotten, without_forgotten
from beepgpt.errors import BadCommand
from beepgpt.folders import UNFINISHED
from beepgpt.forgetting.records import Cleaning, clean_lines, remembered
from beepgpt.forgetting.run import ForgetJob, run_forget
from beepgpt.forgetting.stores import StoreInUse, clean_recovery
from beepgpt.ingest.feeds import ExportFeed
from beepgpt.runtime.forgotten import BadForgottenList, ListWatch, read_forgotten, write_forgotten
from beepgpt.runtime.recovery import LOCK, open_recovery
from tests.support.cli import program, quiet
from tests.support.forgetting import CANARIES, PERSON, beepgpt, canaries_in, write_workspace

NOBODY = Forgotten(b"a salt")
U9 = NOBODY.with_names(["U9"])
AT = "1690360253.041239"


def job(folder: Path, *places: Path, **more: object) -> ForgetJob:
    """A job with a list in the folder."""
    settings = read_settings(environ={"BEEPGPT_RUN__FORGOTTEN": str(folder / "forgotten.json")})
    return ForgetJob([str(each) for each in places], settings, **more)  # type: ignore[arg-type]


def test_events_lose_what_is_forgotten_and_what_was_made_of_them_goes_whole():
    """A late record does by what it holds, also as bytes that are no text."""
    event = b'{"type":"message","channel":"C1","user":"U2","text":"so <@U9>","ts":"1.1"}'
    example = b'{"id":"a","channel":"C1","window":[{"ts":"1690360253.041239","user":"U2"}],"candidates":{"user":["U2","U9"]}}'
    theirs = b'{"user":"U9","text":"mine'
    late = json.dumps({"reason": "late", "place": "p:1", "record": event.decode()}).encode()

    assert remembered(event, U9) == event.replace(b"<@U9>", b"<@>")
    assert remembered(example, U9) is None and remembered(theirs, U9) is None
    assert json.loads(remembered(late, U9) or b"")["record"] == event.replace(b"<@U9>", b"<@>").decode()
    assert remembered(json.dumps({"reason": "not_json", "record_base64": "eyJ1c2VyIjoiVTki/w=="}).encode(), U9) is None
    assert remembered(example, U9.with_names()) is None and remembered(example, NOBODY) is example


def test_half_a_character_changes_nothing_in_what_is_forgotten():
    """What readers leave out of a record is what `forget` leaves of it: somebody else's message stays, without the name."""
    said = b'{"type":"message","channel":"C1","user":"U2","text":"so %s \\ud83d","ts":"1.1"}'

    for record in (said % b"<@U9>", said % b"U9", said % b"nothing"):
        assert remembered(record, U9) == without_forgotten(record, U9) is not None
    letter = json.dumps({"reason": "late", "place": "p:1", "record": (said % b"<@U9>").decode()}).encode()
    assert b"so <@> " in (remembered(letter, U9) or b"")


@pytest.mark.parametrize("message", [{"ts": AT}, {"prompt_ts": AT}, {"answer_ts": AT}, {"message_ts": AT}, {"window": [{"ts": AT}]}])
def test_whatever_was_made_of_a_message_goes_with_it(message: dict[str, object]):
    """By the channel and the time that it names, and in no other channel."""
    forgotten = NOBODY.with_names(messages=[("C1", AT)])
    line = json.dumps({"channel": "C1"} | message).encode()

    assert remembered(line, forgotten) is None
    assert remembered(line.replace(b"C1", b"C2"), forgotten) is not None


def test_a_file_keeps_its_other_lines_byte_for_byte_and_its_mode(tmp_path: Path):
    """Blank ones and endings, too."""
    path = tmp_path / "events.jsonl"
    lines = [b'{"type": "message", "user": "U2"}\r\n', b"\n", b'{"type": "message", "user": "U9"}\n', b'{"type" : "heartbeat"}']
    path.write_bytes(b"".join(lines))
    path.chmod(0o640)

    assert clean_lines(path, Cleaning(U9, apply=False)).found == 1 and path.read_bytes() == b"".join(lines)
    clean_lines(path, Cleaning(U9, apply=True))

    assert path.read_bytes() == b"".join([lines[0], lines[1], lines[3]]) and path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in tmp_path.iterdir()] == ["events.jsonl"]


def test_a_message_and_a_channel_go_from_an_export(tmp_path: Path):
    """A channel with its folder, its listing and its name; a message with its reactions, and the day file stays a list.

    Of a folder, a zip, and a zip of a folder.
    """
    channel = write_workspace(tmp_path / "export.zip")
    with zipfile.ZipFile(tmp_path / "export.zip") as archive:
        archive.extractall(tmp_path / "export")
        with zipfile.ZipFile(tmp_path / "nested.zip", "w") as nested:
            for each in archive.namelist():
                nested.writestr(f"acme export/{each}", archive.read(each))
    name = next(each["name"] for each in json.loads((tmp_path / "export" / "channels.json").read_text()) if each["id"] == channel)
    other, *_ = [each for each in (tmp_path / "export").iterdir() if each.is_dir() and each.name != name]
    ids = {each["name"]: each["id"] for each in json.loads((tmp_path / "export" / "channels.json").read_text())}
    day = sorted(other.iterdir())[0]
    first = json.loads(day.read_text())[0]
    message = (ids[other.name], first["ts"])

    for place in ("export", "export.zip", "nested.zip"):
        run_forget(job(tmp_path, tmp_path / place, channels=[channel], messages=[message], apply=True))

    assert not (tmp_path / "export" / name).exists() and first["ts"] not in {each["ts"] for each in json.loads(day.read_text())}
    for place, root in (("export.zip", ""), ("nested.zip", "acme export/")):
        with zipfile.ZipFile(tmp_path / place) as archive:
            assert not [each for each in archive.namelist() if each.startswith(f"{root}{name}/")] and archive.testzip() is None
            assert first["ts"] not in {each["ts"] for each in json.loads(archive.read(f"{root}{other.name}/{day.name}"))}
            assert channel not in archive.read(f"{root}channels.json").decode()


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(("kind", "listed"), [("groups", {"name": "hush"}), ("mpims", {"name": "mpdm-a--b-1"}), ("dms", {})])
def test_a_message_and_a_channel_go_of_every_kind_also_of_those_that_are_never_read(
    tmp_path: Path, kind: str, listed: dict[str, str], whole: bool
):
    """A stored message does not say its channel: whose folder it lies in does."""
    folder = listed.get("name", "D1")
    stored = [{"type": "message", "user": "U2", "ts": ts, "text": text} for ts, text in ((AT, "a secret"), ("1690360254.000100", "else"))]
    (tmp_path / "export" / folder).mkdir(parents=True)
    (tmp_path / "export" / folder / "2023-07-26.json").write_text(json.dumps(stored))
    (tmp_path / "export" / "channels.json").write_text("[]")
    (tmp_path / "export" / f"{kind}.json").write_text(json.dumps([{"id": "D1", "members": ["U1", "U2"], **listed}]))
    chosen: dict[str, Any] = {"channels": ["D1"]} if whole else {"messages": [("D1", AT)]}

    run_forget(job(tmp_path, tmp_path / "export", apply=True, **chosen))

    left = [path.read_text() for path in (tmp_path / "export").rglob("*.json")]
    assert not any("a secret" in text for text in left) and any("else" in text for text in left) == (not whole)


def test_an_export_brings_no_edit_and_no_reaction_to_what_somebody_forgotten_wrote(tmp_path: Path):
    """One that turns up again, whose messages are on no list: a stored edit has the text, and names nobody but by its message."""
    stored = [
        {"type": "message", "user": user, "ts": ts, "text": text, "edited": {"user": user, "ts": "1690360300.000000"},
         "reactions": [{"name": "eyes", "users": ["U3"], "count": 1}]}
        for user, ts, text in (("U9", AT, "mine"), ("U2", "1690360254.000100", "yours"))
    ]  # fmt: skip
    (tmp_path / "general").mkdir()
    (tmp_path / "general" / "2023-07-26.json").write_text(json.dumps(stored))
    (tmp_path / "channels.json").write_text(json.dumps([{"id": "C1", "name": "general", "members": []}]))

    kinds: tuple[ChannelKind, ...] = ("channels",)

    def written(forgotten: Forgotten | None) -> tuple[list[bytes], Account]:
        account = Account()
        feed = ExportFeed(open_export(tmp_path, kinds), "known", kinds, forgotten)
        return [item.record for item in feed.items(account)], account

    everything, _ = written(None)
    records, account = written(U9)
    assert (len(everything), len(records), account["read"], account["forgotten"]) == (6, 3, 6, 3)
    assert not [each for each in records if b"mine" in each or b"U9" in each or AT.encode() in each]


def test_who_is_forgotten_is_on_the_list_before_anything_is_taken_out(tmp_path: Path):
    """So that nothing comes in behind it, and a kill in between leaves nobody half forgotten who is on no list."""
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_bytes(b'{"type":"message","channel":"C1","user":"U9","text":"mine","ts":"%s"}\n' % AT.encode())

    class Killed(Exception):
        pass

    def kill_behind_the_first(place: str) -> None:
        if place.endswith("b.jsonl") and not (tmp_path / "a.jsonl").read_bytes():
            raise Killed

    places = [tmp_path / name for name in ("a.jsonl", "b.jsonl")]
    with pytest.raises(Killed):
        run_forget(job(tmp_path, *places, people=["U9"], apply=True), kill_behind_the_first)
    listed = read_forgotten(tmp_path / "forgotten.json")
    assert listed is not None and listed.has_person("U9") and listed.has_message("C1", AT)
    assert run_forget(job(tmp_path, *places, apply=True))["found"] == 1
    assert [path.read_bytes() for path in places] == [b"", b""]


@pytest.mark.slow
def test_killed_at_any_moment_each_file_is_the_old_one_or_the_new_one(tmp_path: Path):
    """And the same command does the rest: what it leaves is what a command that nobody killed leaves."""
    old = tmp_path / "old"
    old.mkdir()
    write_workspace(old / "export.zip", messages=1500, days=40)
    with zipfile.ZipFile(old / "export.zip") as archive:
        archive.extractall(old / "export")
    beepgpt(tmp_path, "examples", "old/export.zip", "--to", "old/examples.jsonl", "--recovery", "old/recovery")
    new, killed = tmp_path / "new", tmp_path / "killed"
    shutil.copytree(old, new)
    beepgpt(tmp_path, "forget", "--user", PERSON, "--from", "new", "--yes")
    shutil.rmtree(killed, ignore_errors=True)
    shutil.copytree(old, killed)
    settings = quiet() | {"BEEPGPT_RUN__FORGOTTEN": "list/forgotten.json"}
    command = program("forget", "--user", PERSON, "--from", "killed", "--yes")
    moments: list[Callable[[], bool]] = [
        lambda: changed(old, killed) > 0,
        lambda: changed(old, killed) > 10,
        lambda: not (killed / "recovery" / "worker-0").exists(),
    ]
    seen = set()
    for is_time in moments:
        with subprocess.Popen(command, cwd=tmp_path, env=settings, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and not is_time():
                pass
            process.send_signal(signal.SIGKILL)
        for path in killed.rglob("*"):
            if path.is_file() and "recovery" not in path.parts and not path.name.endswith(UNFINISHED):
                name = path.relative_to(killed)
                assert path.read_bytes() in ((old / name).read_bytes(), (new / name).read_bytes()), name
                seen.add(path.read_bytes() == (old / name).read_bytes())
    beepgpt(tmp_path, *command[3:])

    assert seen == {True, False}
    assert contents(killed) == contents(new)
    assert canaries_in(killed) == {} != canaries_in(old)


def changed(old: Path, now: Path) -> int:
    """How many day files are no longer the old ones."""
    return sum(path.stat().st_size != (old / path.relative_to(now)).stat().st_size for path in now.rglob("20*.json"))


def contents(folder: Path) -> dict[str, bytes]:
    """All files, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_recovery_store_is_deleted_unless_it_was_written_with_this_list(tmp_path: Path):
    """And not while a run has it; what is deleted leaves nothing of its files."""
    folder = open_recovery(tmp_path / "rec", {"source": "x", "forgotten": None}, {}, {"flow": "f", "steps": []})
    (tmp_path / "rec" / "worker-0").mkdir()
    (tmp_path / "rec" / "worker-0" / "part-0.sqlite3").write_text("quokkasaid")
    with pytest.raises(StoreInUse, match="a run is using this recovery folder"):
        clean_recovery(tmp_path / "rec", Cleaning(U9, apply=True))
    assert folder.lock is not None
    os.close(folder.lock)

    assert clean_recovery(tmp_path / "rec", Cleaning(U9, apply=True)).found == 1
    assert list((tmp_path / "rec").iterdir()) == []
    again = open_recovery(tmp_path / "rec", {"source": "x", "forgotten": U9.digest}, {}, {"flow": "f", "steps": []})
    assert again.lock is not None
    os.close(again.lock)
    assert clean_recovery(tmp_path / "rec", Cleaning(U9, apply=True)).found == 0 and (tmp_path / "rec" / LOCK).exists()


def test_the_recovery_store_of_a_cluster_is_deleted(tmp_path: Path):
    """It has no note of a list, so it is deleted each time; what else is in the folder is looked at by itself."""
    for name in ("part-0.sqlite3", "part-0.sqlite3-wal"):
        (tmp_path / name).write_text("quokkasaid")
    (tmp_path / "events.jsonl").write_text("{}\n")
    found = run_forget(job(tmp_path.parent, tmp_path, people=["U9"], apply=True))

    assert [(each["kind"], each["done"]) for each in found["places"]] == [("recovery store of a cluster", "deleted"), ("records", "")]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["events.jsonl"]


def test_a_run_does_not_go_on_from_a_store_that_knew_what_is_forgotten_now(tmp_path: Path):
    """It says so; after `forget` the same command starts again, and its account has what was left out."""
    write_workspace(tmp_path / "export.zip")
    command = ["examples", "export.zip", "--to", "made.jsonl", "--recovery", "rec", "--report", "report.json"]
    beepgpt(tmp_path, *command)
    shutil.copy(tmp_path / "export.zip", tmp_path / "copy.zip")
    beepgpt(tmp_path, "forget", "--user", PERSON, "--from", "copy.zip", "--yes")  # so the list has the messages that quotes only link to
    settings = quiet() | {"BEEPGPT_RUN__FORGOTTEN": "list/forgotten.json"}
    refused = subprocess.run(program(*command), cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1 and "is the recovery folder of another run (forgotten was not given" in refused.stderr

    beepgpt(tmp_path, "forget", "--from", "rec", "--yes")
    beepgpt(tmp_path, *command)

    assert json.loads((tmp_path / "report.json").read_text())["account"]["events"]["ignored"]["forgotten"] > 50
    assert not any(word.encode() in (tmp_path / "made.jsonl").read_bytes() for word in CANARIES)


def alert(identity: str, user: str, channel: str, ts: int) -> dict[str, object]:
    """An alert to `user` about a message."""
    named = {"kind": "member", "way": "direct", "reason": "", "prediction": f"p{identity}", "model": "m", "p": 0.5, "why": "", "made_at": 5}
    return named | {
        "id": identity, "user": user, "channel": channel, "ts": ts, "prompt_ts": ts, "conversation": f"{channel}:1.0:thread",
        "excerpt": f"quokkasaid {identity}",
    }  # fmt: skip


def test_an_alert_store_keeps_no_excerpt_of_a_forgotten_message_and_no_row_of_a_forgotten_person(tmp_path: Path):
    """In rows, free pages and the log; other people's preferences and alerts stay; DMs about it are to be deleted."""
    path, at = tmp_path / "alerts.sqlite", 1_690_360_253_041_239
    store = AlertStore(path)
    store.set_preferences("U9", opted_in=True)
    store.set_preferences("U2", opted_in=True)
    store.set_topic("U9", "quokkatopic")
    for each in (alert("a", "U9", "C1", at), alert("b", "U2", "C1", at), alert("c", "U2", "C2", at), alert("d", "U2", "C3", at)):
        store.add_alert(each, [f"{each['channel']}:1.0:thread"], [(at, "U3")])
        store.clear(str(each["id"]), "", dm=True, now=6)
    store.record_participants([("C2:1.0:thread", "U9"), ("C2:1.0:thread", "U2")], {}, 5)
    forgotten = NOBODY.with_names(["U9"], ["C3"], [("C1", "1690360253.041239")])

    counted = forget_in_store(path, forgotten, 7, apply=False)
    assert store.preferences("U9").opted_in and counted.found > 0 == counted.unknown
    store.close()
    assert forget_in_store(path, forgotten, 7, apply=True) == counted

    content = b"".join(each.read_bytes() for each in tmp_path.glob("alerts.sqlite*"))
    assert [word for word in (b"quokkatopic", b"quokkasaid a", b"quokkasaid b", b"quokkasaid d", b"U9") if word in content] == []
    store = AlertStore(path)
    rows = {row["id"]: (row["state"], row["excerpt"]) for row in store._rows("SELECT * FROM alert")}
    assert rows == {"b": ("withdrawn", ""), "c": ("cleared", "quokkasaid c"), "d": ("withdrawn", "")}
    where = {row["id"]: (row["channel"], row["ts"], row["conversation"]) for row in store._rows("SELECT * FROM alert")}
    assert where == {"b": ("", 0, ""), "c": ("C2", at, "C2:1.0:thread"), "d": ("", 0, "")}
    assert {row["id"]: row["chore"] for row in store._rows("SELECT id, chore FROM letter")} == {"b": "delete", "c": None, "d": "delete"}
    assert store.preferences("U2").opted_in and store.preferences("U9").opted_in is None
    store.close()
    assert forget_in_store(path, forgotten, 8, apply=True) == (0, 0)


def test_the_hour_of_somebody_forgotten_is_empty_and_that_of_everybody_else_goes_on(tmp_path: Path):
    """Also where what they were alerted to is forgotten: they had the message, and get no more of them in the hour than before."""
    path = tmp_path / "alerts.sqlite"
    with closing(AlertStore(path)) as store:
        for name, user, author in (("a", "U9", "U3"), ("b", "U2", "U9"), ("c", "U2", "U3"), ("d", "U3", "U9")):
            store.add_alert(alert(name, user, "C1", micros(AT) + ord(name)), [f"C1:{name}"], [(micros(AT) + ord(name), author)])
            store.clear(name, "", dm=True, now=6)
            store.mark_sent(name, f"5.{ord(name)}")
        before = {user: [store.direct_alerts(user, since) for since in (4, 5)] for user in ("U9", "U2", "U3")}
    forget_in_store(path, NOBODY.with_names(["U9"]), 7, apply=True)
    with closing(AlertStore(path)) as store:
        after = {user: [store.direct_alerts(user, since) for since in (4, 5)] for user in ("U9", "U2", "U3")}

    assert before == {"U9": [1, 0], "U2": [2, 0], "U3": [1, 0]} and after == before | {"U9": [0, 0]}


def test_an_alert_store_alone_knows_whose_excerpts_are_whose(tmp_path: Path):
    """Looking changes not a byte of it; excerpts of a release that kept no authors stay, and are counted."""
    path, at = tmp_path / "alerts.sqlite", 1_690_360_253_041_239
    store = AlertStore(path)
    for name, author in (("a", "U9"), ("b", "U3"), ("c", None)):
        store.add_alert(alert(name, "U2", "C1", at + ord(name)), [f"C1:{at + ord(name)}"], [(at + ord(name), author or "")])
    store._db.execute("UPDATE alert_message SET author = NULL WHERE alert = 'c'")
    store.close()
    before = path.read_bytes()
    U9.found = set()
    assert forget_in_store(path, U9, 7, apply=False) == (1, 1) and path.read_bytes() == before
    assert U9.found == {("C1", f"1690360253.{41_239 + ord('a'):06d}")}

    assert forget_in_store(path, NOBODY.with_names(["U9"], messages=list(U9.found)), 7, apply=True) == (2, 1)
    U9.found = None
    store = AlertStore(path)
    assert {row["id"]: row["excerpt"] for row in store._rows("SELECT * FROM alert")} == {
        "a": "", "b": "quokkasaid b", "c": "quokkasaid c"
    }  # fmt: skip
    assert sorted(row["key"] for row in store._rows("SELECT key FROM told")) == [f"C1:{at + ord(name)}" for name in "bc"]


def test_conversations_that_a_forgotten_message_began_leave_the_alert_store(tmp_path: Path):
    """Who was alerted to them, who wrote there, and which session holds their thread; those of others stay. Whose they are is known."""
    path, other = tmp_path / "alerts.sqlite", "1690360254.000000"
    store = AlertStore(path)
    for at, author in ((AT, "U9"), (other, "U3")):
        thread, session = f"C1:{at}:thread", f"C1:{at}:session"
        store.record_post("C1", micros(at), None, author)
        store.add_alert(alert(at, "U2", "C1", micros(at)), [f"C1:{micros(at)}", thread, session], [])
        store.record_participants(
            [(thread, "U2"), (session, "U2")], {thread: session, f"C1:1690360255.00000{author[1]}:thread": session}, 5
        )
    store.close()

    found: set[tuple[str, str]] = set()
    (person := NOBODY.with_names(["U9"])).found = found
    forget_in_store(path, person, 7, apply=False)
    assert found == {("C1", AT)}
    forget_in_store(path, NOBODY.with_names(messages=found), 7, apply=True)
    store = AlertStore(path)
    named = [row["name"] for table, column in OF_CONVERSATIONS for row in store._rows(f"SELECT {column} AS name FROM {table}")]
    assert [each for each in named if AT in each or str(micros(AT)) in each] == []
    assert len([each for each in named if other in each or str(micros(other)) in each]) == 9
    store.close()


def test_links_to_a_person_and_their_bare_id_name_nobody():
    """In what others wrote, and in what an app copied."""
    ours = NOBODY.with_names(["U024BE7LH"])
    link = "https://x.slack.com/team/U024BE7LH"
    for said, kept in (
        (f"see <{link}|Ana>, <{link}> and {link}!", "see <@>, <@> and <@>"),
        ("ana (U024BE7LH): hi", "ana (<@>): hi"),
        ("https://app.slack.com/client/T1/C1/user_profile/U024BE7LH", "<@>"),
        ("https://x.slack.com/team/U024BE7LJ and U024BE7LHX", "https://x.slack.com/team/U024BE7LJ and U024BE7LHX"),
    ):
        assert ours.without({"text": said}) == {"text": kept}
    assert ours.in_bytes(f'{{"text": "<{link}|An'.encode())


def test_the_list_is_for_its_owner_alone_and_a_broken_one_stops_every_reader(tmp_path: Path):
    """Without it, what it holds back would come back."""
    path = tmp_path / "deep" / "forgotten.json"
    assert read_forgotten(path) is None
    watch = ListWatch(path)
    assert watch.now() is None
    write_forgotten(path, U9)
    assert path.stat().st_mode & 0o777 == 0o600 and "U9" not in path.read_text()
    found, seen = read_forgotten(path), watch.now()
    assert found is not None and found.digest == U9.digest and found.has_person("U9")
    assert seen is not None and seen.digest == U9.digest

    path.write_text("{")
    with pytest.raises(BadForgottenList, match="is no list of the forgotten"):
        read_forgotten(path)
    path.write_text('{"version": 2}')
    with pytest.raises(BadForgottenList, match="another version of beepgpt"):
        watch.now()


def test_wrong_commands_say_what_is_missing(tmp_path: Path):
    """And write nothing."""
    with pytest.raises(BadCommand, match="nobody is forgotten: give --user, --channel or --message"):
        run_forget(job(tmp_path, tmp_path, apply=True))
    with pytest.raises(BadCommand, match="there is no such file or folder"):
        run_forget(job(tmp_path, tmp_path / "gone", people=["U9"], apply=True))
    refused = subprocess.run(
        program("forget", "--message", "C1", "--from", tmp_path), env=quiet(), capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode == 2 and "--message C1: CHANNEL:TS is expected" in refused.stderr
    assert not (tmp_path / "forgotten.json").exists()
