"""The alert store as a file: versions are migrated in place, foreign files stay untouched, and one process sends from it."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from beepgpt.alerts.database import SCHEMA, VERSION, BadAlertStore
from beepgpt.alerts.decisions import Preferences
from beepgpt.alerts.store import AlertStore
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import DAY, HOUR, MINUTE, SECOND
from beepgpt.errors import SlackFailed
from beepgpt.simulation.slack.alerts_api import AlertedWorkspace
from tests.support.alerts import NOON, Office, deletion, prediction

DATA = Path(__file__).parent / "data"


def restored(dump: str, path: Path) -> Path:
    """The store that a dump describes, as a file."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript((DATA / dump).read_text())
    return path


@pytest.mark.parametrize("dump", sorted(each.name for each in DATA.glob("store_v*.sql")))
def test_a_store_of_a_release_before_keeps_everything_that_people_asked_for(tmp_path: Path, dump: str):
    """Opting in and out, threshold, limit, quiet hours, zone, digest, mutes and topics; and where reading stopped."""
    store = AlertStore(restored(dump, tmp_path / "alerts.sqlite"))

    assert store.preferences("bo") == Preferences(
        opted_in=True, threshold=0.7, per_hour=5, quiet=(23 * 60, 6 * 60 + 30), zone="Europe/Berlin", muted=frozenset({"C2", "C3"})
    )
    assert store.preference_row("bo")["low"] == "digest" and store.stale_homes() == ["bo"]
    assert store.topics() == [("bo", "Kafka upgrades"), ("bo", "lunch")]
    assert store.preferences("cy") == Preferences(opted_in=False) and store.preferences("di") == Preferences(opted_in=True)
    assert store.position("predictions:kafka:slack.predictions", "0") == [7, 7, None]
    assert store.counts()["feedback:good"] == 1 and store.alert_states() == {"cleared": 2}
    store.close()


def test_a_store_of_a_release_before_alerts_nobody_twice(tmp_path: Path, slack: AlertedWorkspace):
    """A direct message that was sent is not sent again; one that was in flight is looked up before it is."""
    restored("store_v3.sql", tmp_path / "alerts.sqlite")
    office = Office(tmp_path, slack)
    office.apply("prediction", prediction(NOON, people={"bo": 0.9}))
    office.clock.set(office.clock() + 60_000_000)
    office.work()

    assert slack.sent_to("bo") == [] and office.counts["looked_up:due"] == 1
    (message,) = slack.sent_to("di")
    assert message["metadata"]["event_payload"]["id"] == "30618075970351e0c836f7045fdc2d84"


@pytest.mark.parametrize("version", range(1, VERSION))
def test_a_store_of_any_version_before_is_migrated(tmp_path: Path, version: int):
    """Step by step; what people asked for stays, and the store is as a new one."""
    path = tmp_path / "alerts.sqlite"
    with closing(sqlite3.connect(path)) as before:
        before.executescript(";".join(SCHEMA[:version]))
        before.execute("INSERT INTO person (user, opted_in) VALUES ('bo', 1)")
        before.execute(f"PRAGMA user_version = {version}")
        before.commit()
    office = Office(tmp_path)
    office.apply("prediction", prediction())
    assert [row["user"] for row in office.store.alerts_to_check()] == ["bo"]
    assert columns_of(path) == columns_of(new_store(tmp_path / "new.sqlite"))


def test_a_migration_that_fails_changes_nothing(tmp_path: Path):
    """All steps and the new version are one transaction."""
    path = tmp_path / "alerts.sqlite"
    with closing(sqlite3.connect(path)) as before:
        before.executescript(";".join(SCHEMA[:1]) + "; ALTER TABLE alert ADD COLUMN edited_at INTEGER; PRAGMA user_version = 1")
    found = columns_of(path)
    with pytest.raises(BadAlertStore, match="duplicate column"):
        AlertStore(path)
    assert columns_of(path) == found


def test_what_is_no_store_of_ours_or_a_newer_one_is_refused_and_left_untouched(tmp_path: Path):
    """With what to do; not a byte of the file changes, and none appears beside it."""
    newer = new_store(tmp_path / "newer.sqlite", "PRAGMA user_version = 99")
    foreign, text = tmp_path / "foreign.sqlite", tmp_path / "text"
    with closing(sqlite3.connect(foreign)) as db:
        db.execute("CREATE TABLE other (x)")
    text.write_text("no database, but long enough to be taken for one " * 30)
    files = {each: each.read_bytes() for each in tmp_path.iterdir()}
    for path, reason in ((newer, "newer beepgpt"), (foreign, "another program's"), (text, "no store of alerts")):
        with pytest.raises(BadAlertStore, match=reason):
            AlertStore(path)

    assert {each: each.read_bytes() for each in tmp_path.iterdir()} == files


def test_one_process_sends_from_a_store(tmp_path: Path):
    """A second one would send each DM again; when the first is gone, it may."""
    first = AlertStore(tmp_path / "ours.sqlite", alone=True)
    with pytest.raises(BadAlertStore, match="another beepgpt alert"):
        AlertStore(tmp_path / "ours.sqlite", alone=True)
    AlertStore(tmp_path / "ours.sqlite").close()
    first.close()
    AlertStore(tmp_path / "ours.sqlite", alone=True).close()


def new_store(path: Path, *statements: str) -> Path:
    """A new store's file, after some statements."""
    AlertStore(path).close()
    with closing(sqlite3.connect(path)) as db:
        for each in statements:
            db.execute(each)
    return path


def columns_of(path: Path) -> dict[str, list[str]]:
    """The columns of each table."""
    with closing(sqlite3.connect(path)) as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {table: sorted(row[1] for row in db.execute(f"PRAGMA table_info({table})")) for table in tables}


@pytest.mark.parametrize(("end", "at", "quiet"), [("quiet_from", 21, (21, 7)), ("quiet_to", 9, (22, 9))])
def test_one_end_of_quiet_hours_leaves_the_other_as_it_was(tmp_path: Path, end: str, at: int, quiet: tuple[int, int]):
    """As App Home shows it: the policy's, from ten to seven here."""
    office = Office(tmp_path, policy={"quiet": (22 * 60, 7 * 60)})
    action = {"action_id": end, "selected_time": f"{at:02}:00"}
    office.decider.apply_interaction(json.dumps({"type": "block_actions", "user": {"id": "bo"}, "actions": [action]}).encode())

    assert office.store.preferences("bo").quiet == (quiet[0] * 60, quiet[1] * 60)


def test_what_people_asked_for_follows_a_channel_to_its_new_id(tmp_path: Path):
    """Who muted it is not alerted there, who was alerted to a thread or writes in it isn't again, and a deletion finds what is shown."""
    office = Office(tmp_path)
    office.opt_in("bo", "cy", "flo")
    office.store.set_muted("cy", ["G1", "C2"])
    people = {"bo": 0.9, "cy": 0.9}

    def said(after: int, channel: str, author: str, likely: dict[str, float]) -> None:
        window = [(NOON, "ana"), (NOON + after, author)]
        thread = f"{channel}:{ts_text(NOON)}:thread"
        point = prediction(NOON + after, channel=channel, window=window, conversations=[thread], texts=["well", "a secret"], people=likely)
        office.apply("prediction", point)

    said(SECOND, "G1", "flo", people)
    move = {"type": "channel_id_changed", "old_channel_id": "G1", "new_channel_id": "C1", "event_ts": ts_text(NOON + 2 * SECOND)}
    for _ in range(2):  # Slack may send it again
        with office.store.transaction():
            office.decider.apply_record(json.dumps(move).encode(), office.clock())

    assert office.store.muted("cy") == {"C1", "C2"} and office.counts["channels_moved"] == 2
    said(3 * SECOND, "C1", "di", people | {"flo": 0.9})
    (alert,) = office.store.alerts_to_check()
    found = (alert["user"], alert["channel"], alert["conversation"], alert["excerpt"])
    assert found == ("bo", "C1", f"C1:{ts_text(NOON)}:thread", "a secret")
    passed = {name.partition(":")[2]: count for name, count in office.counts.items() if name.startswith("passed")}
    assert passed == {"muted": 2, "told_before": 1, "participant": 1}

    office.apply("deletion", deletion(NOON + SECOND, "C1"))
    assert office.store.alert_states() == {"withdrawn": 1}


def test_a_thread_leads_to_its_session_under_the_channel_s_new_id(tmp_path: Path):
    """Bo was alerted to the session before; a reply to a later message of it is no other conversation."""
    office = Office(tmp_path)
    office.opt_in("bo")
    session, window = f"G1:{ts_text(NOON)}:session", [(NOON, "ana"), (NOON + SECOND, "flo")]
    office.apply("prediction", prediction(NOON, channel="G1", people={"bo": 0.9}))
    office.apply("prediction", prediction(NOON + SECOND, channel="G1", window=window, conversations=[session], people={"bo": 0.0}))
    move = {"type": "channel_id_changed", "old_channel_id": "G1", "new_channel_id": "C1", "event_ts": ts_text(NOON + 2 * SECOND)}
    with office.store.transaction():
        office.decider.apply_record(json.dumps(move).encode(), office.clock())

    reply, thread = [(NOON + SECOND, "flo"), (NOON + 3 * SECOND, "di")], f"C1:{ts_text(NOON + SECOND)}:thread"
    office.apply("prediction", prediction(NOON + 3 * SECOND, window=reply, conversations=[thread], people={"bo": 0.9}))

    assert office.counts["passed:told_before"] == 1 and len(office.store.alerts_to_check()) == 1


def test_who_wrote_in_a_session_is_known_under_the_channel_s_new_id(tmp_path: Path):
    """By Slack's events alone: no point shows yet what Bo wrote."""
    office = Office(tmp_path)
    office.opt_in("bo", "cy")
    events = [
        {"type": "message", "channel": "G1", "user": "ana", "ts": ts_text(NOON), "text": "Is it red?"},
        {"type": "message", "channel": "G1", "user": "bo", "ts": ts_text(NOON + SECOND), "text": "It is."},
        {"type": "channel_id_changed", "old_channel_id": "G1", "new_channel_id": "C1", "event_ts": ts_text(NOON + 2 * SECOND)},
    ]
    for event in events:
        with office.store.transaction():
            office.decider.apply_record(json.dumps(event).encode(), office.clock())
    office.apply("prediction", prediction(NOON, channel="C1", people={"bo": 0.9, "cy": 0.9}))

    assert [alert["user"] for alert in office.store.alerts_to_check()] == ["cy"]


def test_who_writes_on_takes_part_as_long_as_alerts_are_kept(tmp_path: Path):
    """In a thread of weeks: what was written first is forgotten, and the last of it counts."""
    office = Office(tmp_path)
    thread = f"C1:{ts_text(NOON)}:thread"
    for day in (0, 28):
        office.store.record_participants([(thread, "bo")], {thread: f"C1:{ts_text(NOON)}:session"}, NOON + day * DAY)
    for day, takes_part in ((1, True), (28, True), (29, False)):
        office.store.forget_before(NOON + day * DAY)
        assert office.store.took_part("bo", [thread], HOUR) == takes_part == (office.store.session_of(thread) is not None), day


# What was deleted

CANARY = "a-canary-in-the-mine"


def edited(ts: int, text: str) -> bytes:
    """An edit, as Slack sends it."""
    event = {"type": "message", "subtype": "message_changed", "channel": "C1", "event_ts": ts_text(ts + SECOND)}
    return json.dumps({**event, "message": {"ts": ts_text(ts), "text": text}}).encode()


def texts_in(folder: Path) -> str:
    """All that the files of a store hold."""
    return "".join(each.read_bytes().decode("latin-1") for each in sorted(folder.iterdir()))


@pytest.mark.parametrize("how", ["deleted", "edited", "gone", "refused", "revoked", "old"])
def test_a_text_that_may_not_be_shown_any_more_is_in_no_file(tmp_path: Path, how: str):
    """Neither in the store nor in its write-ahead log, as soon as that is known, while the process runs."""
    office = Office(tmp_path)
    office.opt_in("bo")
    point = prediction(texts=[CANARY])
    office.apply("prediction", point)
    store, (alert,) = office.store, office.store.alerts_to_check()
    if how == "revoked":
        store.clear(alert["id"], "", dm=False, now=NOON)
    assert CANARY in texts_in(tmp_path)

    with store.transaction():
        match how:
            case "deleted":
                office.decider.apply("deletion", deletion(), NOON)
            case "edited":
                office.decider.apply_record(edited(NOON, "well"), NOON + SECOND)
            case "gone":
                office.decider.apply_tombstone(point["id"].encode(), NOON)
            case "refused":
                store.refuse(alert["id"], "muted")
            case "revoked":
                store.revoke(alert["id"], "muted")
            case "old":
                store.forget_before(NOON + DAY)
    assert CANARY not in texts_in(tmp_path)


@pytest.mark.parametrize("how", ["edited", "edited in a prediction", "gone", "deleted"])
def test_a_text_that_may_not_be_shown_any_more_leaves_a_dm_that_was_in_flight_then(tmp_path: Path, slack: AlertedWorkspace, how: str):
    """It was sent with that text, and nobody knew yet that it had arrived: it is changed, or deleted, as soon as it is found."""
    office = Office(tmp_path, slack)
    slack.clock = lambda: office.clock() / SECOND
    office.opt_in("bo")
    slack.faults["chat.postMessage"] = ["done"]
    point = prediction(texts=[CANARY])
    office.apply("prediction", point)
    office.work(lambda: office.store.dms("sending"))
    with office.store.transaction():
        match how:
            case "edited":
                office.decider.apply_record(edited(NOON, "well"), NOON + SECOND)
            case "edited in a prediction":
                again = prediction(NOON + SECOND, window=[(NOON, "ana")], texts=["well"], people={})
                office.decider.apply("prediction", again, NOON + SECOND)
            case "gone":
                office.decider.apply_tombstone(point["id"].encode(), NOON)
            case "deleted":
                office.decider.apply("deletion", deletion(), NOON)
    office.clock.set(office.clock() + MINUTE)
    office.work()

    assert len(slack.sent_to("bo")) == (how != "deleted") and CANARY not in json.dumps(slack.sent_to("bo"))
    changed = "letters_deleted" if how == "deleted" else "letters_updated"
    assert (office.counts["looked_up:sent"], office.counts[changed]) == (1, 1)


def test_a_reader_of_the_store_keeps_a_deleted_text_no_longer_than_it_reads(tmp_path: Path):
    """As somebody with a shell of SQLite. If the process is killed meanwhile, the next one empties the log."""
    folder, killed = tmp_path / "store", tmp_path / "killed"
    folder.mkdir()
    office = Office(folder)
    office.delivery.work()
    office.opt_in("bo")
    office.apply("prediction", prediction(texts=[CANARY]))
    with closing(sqlite3.connect(folder / "alerts.sqlite", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM alert").fetchone()
        office.apply("deletion", deletion())
        shutil.copytree(folder, killed)
    assert CANARY in texts_in(folder) and CANARY in texts_in(killed)
    office.delivery.work()
    with closing(AlertStore(killed / "alerts.sqlite")):
        assert CANARY not in texts_in(folder) + texts_in(killed)


# A store that is lost


def asked(office: Office, number: int, *, window: int = 1, people: tuple[str, ...] = ("bo", "cy"), p: float = 0.9) -> None:
    """A prediction of a session of its own; a longer window has newer messages, by `ana`."""
    first = NOON - number * 1_000_000
    messages = [(first + place * 500_000, "ana") for place in range(window)]
    office.apply("prediction", prediction(messages[-1][0], window=messages, people=dict.fromkeys(people, p)))


@pytest.mark.slow
def test_a_lost_store_alerts_nobody_twice_and_hourly_limits_go_on(tmp_path: Path, slack: AlertedWorkspace):
    """Slack has the DMs: each person's are asked for once, before the first alert. Whoever opts in again gets none of them again."""
    office = Office(tmp_path, slack)
    slack.clock = lambda: office.clock() / SECOND
    office.opt_in("bo", "cy")
    for number in range(3):
        asked(office, number, people=("bo", "cy") if number else ("bo",))
    office.work()
    sent = {user: [each["metadata"]["event_payload"]["id"] for each in slack.sent_to(user)] for user in ("bo", "cy")}
    assert {user: len(ids) for user, ids in sent.items()} == {"bo": 3, "cy": 2}
    office.store.close()
    (tmp_path / "alerts.sqlite").rename(tmp_path / "lost.sqlite")

    again = Office(tmp_path, slack, clock=office.clock, born=office.clock())
    again.opt_in("bo", "cy")
    for number in range(3):
        if number != 1:
            asked(again, number)  # the same points; the first is new to cy
        asked(again, number, window=2)  # and newer ones of the same sessions
    again.work()
    asked(again, 9)
    again.work()

    assert [each["metadata"]["event_payload"]["id"] for each in slack.sent_to("bo")] == sent["bo"]
    assert len(slack.sent_to("cy")) == 3, "of the hourly limit of three, one was left"
    assert again.counts["refused:told_before"] == 5
    assert again.counts["direct_messages_restored"] == 5
    assert {row["reason"] for row in again.store.listed("bo", 0, 10)} == {"hourly_limit"}
    assert len(slack.calls("conversations.history")) == 2


def test_a_digest_that_was_sent_before_shows_nothing_again_and_does_not_count_for_the_hour(tmp_path: Path, slack: AlertedWorkspace):
    """Its metadata names the conversations that it shows."""
    office = Office(tmp_path, slack, digest_at=0)
    slack.clock = lambda: office.clock() / SECOND
    office.opt_in("bo", low="digest")
    office.apply("prediction", prediction(people={"bo": 0.3}))
    office.work(lambda: slack.sent_to("bo"))
    (digest,) = slack.sent_to("bo")
    assert digest["metadata"]["event_payload"]["kind"] == "digest"
    office.store.close()
    (tmp_path / "alerts.sqlite").unlink()

    again = Office(tmp_path, slack, clock=office.clock, born=office.clock())
    again.opt_in("bo", per_hour=1)
    again.apply("prediction", prediction(people={"bo": 0.9}))
    again.work()
    again.apply("prediction", prediction(NOON + 1_000_000, people={"bo": 0.9}))
    again.work()

    assert len(slack.sent_to("bo")) == 2 and again.counts["refused:told_before"] == 1


def test_a_digest_comes_once_on_a_day_of_its_reader(tmp_path: Path, slack: AlertedWorkspace):
    """At eight in the morning in Tokyo, where an hour later another day begins for those who go by UTC."""
    office = Office(tmp_path, slack, digest_at=8 * 60)
    slack.clock = lambda: office.clock() / SECOND
    slack.user("bo", tz="Asia/Tokyo")
    office.opt_in("bo", low="digest")
    eight = NOON + 11 * HOUR
    for minutes, digests in ((-10, 0), (1, 1), (30, 1), (70, 1), (24 * 60 + 1, 2)):
        at = eight + minutes * MINUTE
        office.clock.set(at + SECOND)
        office.apply("prediction", prediction(at, people={"bo": 0.3}))
        office.work()
        assert len(slack.sent_to("bo")) == digests, minutes


def test_a_long_digest_names_each_of_its_conversations(tmp_path: Path, slack: AlertedWorkspace):
    """Twenty alerts have more keys than a message's metadata takes: newer points of each of their sessions alert nobody again."""
    office = Office(tmp_path, slack, digest_at=12 * 60 + 1)
    slack.clock = lambda: office.clock() / SECOND
    office.opt_in("bo", low="digest")
    for number in range(20):
        asked(office, 10 * number, window=4, people=("bo",), p=0.3)
    office.work()
    office.clock.set(NOON + 60 * SECOND)
    office.work(lambda: slack.sent_to("bo"))
    (digest,) = slack.sent_to("bo")
    assert len(digest["metadata"]["event_payload"]["keys"].split()) == 50
    office.store.close()
    (tmp_path / "alerts.sqlite").unlink()

    again = Office(tmp_path, slack, clock=office.clock, born=office.clock())
    again.opt_in("bo")
    for number in range(20):
        asked(again, 10 * number, window=5, people=("bo",))
    again.work()

    assert again.counts["refused:told_before"] == 20 and slack.sent_to("bo") == [digest]


@pytest.mark.parametrize("method", ["conversations.open", "conversations.history"])
def test_while_slack_does_not_show_what_was_sent_before_it_is_asked_again(tmp_path: Path, slack: AlertedWorkspace, method: str):
    """Once a minute, for that person alone: an app that somebody mends meanwhile sends nothing twice."""
    office = Office(tmp_path, slack)
    slack.clock = lambda: office.clock() / SECOND
    office.opt_in("bo")
    asked(office, 0, people=("bo",))
    office.work()
    (sent,) = slack.sent_to("bo")
    office.store.close()
    (tmp_path / "alerts.sqlite").unlink()

    seconds = [0.0]
    again = Office(tmp_path, slack, clock=office.clock, born=office.clock(), monotonic=lambda: seconds[0])
    again.opt_in("bo", "cy")
    asked(again, 20, people=("cy",))
    seconds[0] = 2.0
    again.work()
    slack.faults[method] = ["error:access_denied", "error:org_login_required"]
    for number in range(12):  # more than are checked in one go
        asked(again, number, window=2, people=("bo",))
    asked(again, 0, people=("cy",))
    refused = []
    for at in (10.0, 69.0, 70.0):
        seconds[0] = at
        while again.delivery.work():
            pass
        refused.append(again.counts.get("restores_refused", 0))
    assert refused == [1, 1, 2]
    assert {row["user"] for row in again.store.alerts_to_check()} == {"bo"}, "nobody else waits for it"
    seconds[0] = 130.0
    while again.delivery.work():
        pass

    assert again.counts["direct_messages_restored"] == 1 and again.counts["refused:told_before"] == 1
    assert slack.sent_to("bo")[0] == sent and again.counts["restores_refused"] == 2


def test_who_is_gone_is_not_asked_about_again(tmp_path: Path, slack: AlertedWorkspace):
    """No message of ours can be there."""
    office = Office(tmp_path, slack, born=NOON)
    office.opt_in("bo")
    slack.faults["conversations.open"] = ["error:user_disabled"]
    asked(office, 0, people=("bo",))
    office.work()

    assert "restores_refused" not in office.counts and not office.store.lacks_history("bo", office.clock(), DAY)
    assert slack.calls("conversations.history") == []


def test_a_missing_scope_ends_the_run_and_restores_nobody(tmp_path: Path, slack: AlertedWorkspace):
    """The next run asks again."""
    office = Office(tmp_path, slack, born=NOON)
    office.opt_in("bo")
    slack.faults["conversations.history"] = ["error:missing_scope"]
    asked(office, 0, people=("bo",))
    with pytest.raises(SlackFailed, match="im:history"):
        office.work()

    assert office.store.lacks_history("bo", office.clock(), DAY) and slack.sent_to("bo") == []


def test_a_store_knows_when_it_was_made(tmp_path: Path):
    """One of a release before doesn't, and asks nobody for what it knows itself."""
    new = AlertStore(tmp_path / "new.sqlite", now=NOON)
    assert (new.born, new.lacks_history("bo", NOON + 1, 10), new.lacks_history("bo", NOON + 10, 10)) == (NOON, True, False)
    new.close()
    again = AlertStore(tmp_path / "new.sqlite", now=NOON + 99)
    assert again.born == NOON
    again.close()
    old = AlertStore(restored("store_v3.sql", tmp_path / "old.sqlite"), now=NOON)
    assert (old.born, old.lacks_history("bo", NOON, 10)) == (0, False)
    old.close()
