"""The simulated workspace: whole, repeatable, and true to what it says of itself."""

import json
import tracemalloc
import zipfile
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

from beepgpt.conversations.rules import SECOND
from beepgpt.simulation import words as workspace_words
from beepgpt.simulation.bursts import ELSEWHERE_FORMS
from beepgpt.simulation.slack_json import POSTED
from beepgpt.simulation.workspace import (
    BROKEN_KINDS,
    Plan,
    broken_record,
    expected_topic_people,
    keyed_records,
    live_records,
    truth,
    unchanged,
    undisturbed,
    write_export,
)

SMALL = Plan(seed=7, messages=3000, days=14, channels=9, people=40)
KINDS = ("post", "edit", "delete", "react", "unfurl", "bot", "no_author", "join", "topic", "duplicate", "broken", "heartbeat")


def micros(ts: str) -> int:
    """A `ts` in microseconds."""
    seconds, decimals = ts.split(".")
    return int(seconds) * SECOND + int(decimals)


def events(plan: Plan) -> list[dict[str, Any]]:
    """The inner events of an undisturbed plan."""
    return [json.loads(value)["event"] for value in live_records(undisturbed(plan))]


def is_post_by_person(event: dict[str, Any]) -> bool:
    """Whether the event (or a message of an export) is what somebody said."""
    return (
        event["type"] == "message"
        and event.get("subtype", "") in POSTED
        and bool(event.get("user"))
        and "bot_id" not in event
        and event["user"] != "USLACKBOT"
    )


def time_of(event: dict[str, Any]) -> int:
    """When the event happened."""
    return micros(event.get("event_ts") or event["ts"])


def exported(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The messages of an export by channel id, and the lists at its top under their file names."""
    with zipfile.ZipFile(path) as archive:
        files = {name: json.loads(archive.read(name)) for name in archive.namelist()}
    ids = {channel["name"]: channel["id"] for name in ("channels.json", "groups.json") for channel in files[name]}
    found: dict[str, list[dict[str, Any]]] = {}
    for name, content in files.items():
        folder, _, _ = name.rpartition("/")
        found.setdefault(ids[folder] if folder else name, []).extend(content)
    return found


def test_a_plan_makes_the_same_bytes_on_every_machine():
    """A change of this number means that all workspaces change."""
    digest = sha256()
    for value in live_records(replace(SMALL, messages=500, heartbeat_every=3600)):
        digest.update(value + b"\n")

    assert digest.hexdigest()[:16] == "00a23a5539fff914"


def test_another_seed_makes_another_workspace():
    """Nothing but the settings is shared."""
    ones, others = ({event["channel"] for event in events(replace(SMALL, seed=seed, reactions=0))} for seed in (1, 2))

    assert not ones & others


def test_everything_planted_adds_up():
    """Every record has one kind, and posts by people are exactly as many as planned."""
    planted: Counter[str] = Counter()
    records = list(live_records(replace(SMALL, broken=0.05, too_late=0.01, heartbeat_every=600), planted))

    assert len(records) == planted["records"] == sum(planted[kind] for kind in KINDS)
    assert planted["post"] == SMALL.messages == planted["root"] + planted["reply"]
    assert all(planted[kind] for kind in (*KINDS, "late", "tombstone", "unreact", "broadcast", "file", "private"))


def test_what_real_workspaces_send_can_be_planted(tmp_path: Path):
    """Words and authors elsewhere than usual, new ids of channels, reactors without names: all of them, in the stream and in the export."""
    plan = replace(SMALL, elsewhere=0.2, moves=0.5, named_reactors=1)
    planted: Counter[str] = Counter()
    bodies = [json.loads(line) for line in live_records(undisturbed(plan), planted)]
    inner = [body["event"] for body in bodies]
    moved = [event for event in inner if event["type"] == "channel_id_changed"]
    write_export(plan, tmp_path / "export.zip")
    found = exported(tmp_path / "export.zip")
    stored = [message for name, messages in found.items() if not name.endswith(".json") for message in messages]

    assert planted["records"] == sum(planted[kind] for kind in (*KINDS, "move"))
    assert planted["post"] == SMALL.messages and planted["move"] == len(moved) > 0
    assert all(planted[form] > 20 for form in ELSEWHERE_FORMS)
    assert sum(body.get("by_person", False) for body in bodies) == planted["by_app"]
    for event in moved:
        old, new = event["old_channel_id"], event["new_channel_id"]
        before, after = ([time_of(each) for each in inner if each.get("channel") == name] for name in (old, new))
        assert max(before, default=0) < time_of(event) < min(after, default=1 << 62)
        assert new in found and old not in found
    shares = [message for message in stored if message.get("attachments", [{}])[0].get("is_share")]
    assert shares and all(message["text"] == "" for message in shares)
    cut = [reaction for message in stored for reaction in message.get("reactions", []) if reaction["count"] > len(reaction["users"])]
    assert cut and {len(reaction["users"]) for reaction in cut} == {1}


@pytest.mark.parametrize(
    "setting",
    [
        "edits",
        "deletions",
        "reactions",
        "bots",
        "no_author",
        "joins",
        "broadcasts",
        "files",
        "duplicates",
        "too_late",
        "broken",
        "unfurls",
        "private",
    ],
)
def test_every_trouble_can_be_left_out(setting):
    """A share of 0 is none at all."""
    planted: Counter[str] = Counter()
    left_out: dict[str, Any] = {setting: 0.0}
    for _ in live_records(replace(SMALL, **left_out), planted):
        pass
    traits = {
        "edits": "edit",
        "deletions": "delete",
        "reactions": "react",
        "bots": "bot",
        "joins": "join",
        "broadcasts": "broadcast",
        "files": "file",
        "duplicates": "duplicate",
        "too_late": "late",
        "unfurls": "unfurl",
    }

    assert planted[traits.get(setting, setting)] == 0
    assert planted["post"] == SMALL.messages


def test_what_is_not_broken_is_json():
    """Every record but the broken ones is an object that names its channel, or a heartbeat."""
    plan = replace(SMALL, broken=0, heartbeat_every=3600)

    for key, value in keyed_records(plan):
        record = json.loads(value)
        if record["type"] == "heartbeat":
            assert key is None
            continue
        event = record.get("event", record)
        assert key == (event.get("channel") or event["item"]["channel"])


@pytest.mark.parametrize("kind", BROKEN_KINDS)
def test_a_broken_record_is_broken(kind):
    """No kind could be taken for a message with a channel, a time, a user and a text."""
    record = broken_record(kind)
    try:
        event = json.loads(record)
    except (ValueError, RecursionError):
        return
    sound = (
        isinstance(event, dict)
        and isinstance(event.get("channel"), str)
        and isinstance(event.get("user"), str)
        and isinstance(event.get("text"), str)
        and isinstance(event.get("ts"), str)
        and event["ts"].isascii()
        and event["ts"].startswith("1690360240.")
        and len(event["ts"]) == 17
        and event.get("thread_ts", "1").isdigit()
        and len(record) <= 1 << 20
    )

    assert not sound


def test_disorder_within_the_lateness_makes_nothing_late():
    """Records are out of order by up to five seconds, and none is late by its channel's clock."""
    planted: Counter[str] = Counter()
    plan = replace(SMALL, messages=20_000, days=2, disorder=5.0, too_late=0, heartbeat_every=10)
    times = [
        (key, time_of(record.get("event", record)))
        for key, value in keyed_records(replace(plan, broken=0), planted)
        if (record := json.loads(value)) and key
    ]

    assert any(later < earlier for (_, earlier), (_, later) in pairwise(times))
    assert planted["late"] == 0
    clocks: dict[str, int] = {}
    for key, t in times:
        clocks[key] = max(t, clocks.get(key, t))
        assert clocks[key] - t <= 5 * SECOND


def test_a_heartbeat_keeps_its_word():
    """Nothing that happened before a heartbeat's time comes after it."""
    beat = 0
    for _, value in keyed_records(replace(SMALL, broken=0, too_late=0, disorder=3.0, heartbeat_every=60)):
        record = json.loads(value)
        if record["type"] == "heartbeat":
            beat = micros(record["at"])
        else:
            assert time_of(record.get("event", record)) >= beat


def test_late_records_are_counted_by_the_rule():
    """`late` is how often a channel's clock was more than five seconds past a record."""
    planted: Counter[str] = Counter()
    late, clocks = 0, Counter[str | None]()
    for key, value in keyed_records(replace(SMALL, broken=0, too_late=0.05), planted):
        record = json.loads(value)
        t = time_of(record.get("event", record))
        late += clocks[key] - t > 5 * SECOND
        clocks[key] = max(clocks[key], t)

    assert 0 < late == planted["late"] <= planted["delayed"]


def test_no_two_events_of_a_channel_share_a_time():
    """`(channel, ts)` names a message, even where thousands stand in a minute."""
    crowded = replace(SMALL, messages=5000, days=0.001, channels=1)
    times = [(key, time_of(json.loads(value)["event"])) for key, value in keyed_records(undisturbed(crowded))]

    assert len(times) == len(set(times)) >= 5000


def test_nothing_happens_outside_of_the_plan():
    """From the start up to the end, in both forms of the start."""
    by_datetime = replace(SMALL, start=datetime(2020, 2, 29, 12, tzinfo=UTC))
    by_micros = replace(SMALL, start=by_datetime.start_us)
    times = [time_of(event) for event in events(by_datetime)]

    assert by_datetime.start_us <= min(times) < max(times) < by_datetime.end_us + 1000
    assert list(live_records(by_datetime)) == list(live_records(by_micros))


def test_conversations_are_the_same_without_trouble():
    """Leaving out edits, deletions, reactions and bots moves no message and changes no word."""
    quiet = replace(unchanged(SMALL), bots=0, no_author=0, joins=0)

    def said(plan: Plan) -> list[tuple[str, str]]:
        return [(event["user"], event["text"]) for event in events(plan) if is_post_by_person(event)]

    assert said(SMALL) == said(quiet)


def test_export_and_live_agree_where_nothing_changed(tmp_path):
    """Without edits, deletions and reactions, both forms hold the same messages."""
    plan = unchanged(SMALL)
    write_export(plan, tmp_path / "export.zip")
    found = exported(tmp_path / "export.zip")

    def named(channel: str, message: dict[str, Any]) -> tuple[Any, ...]:
        thread = message.get("thread_ts")
        return channel, message["ts"], message.get("user"), message["text"], None if thread == message["ts"] else thread

    live = [named(event["channel"], event) for event in events(plan)]
    export = [named(channel, message) for channel, messages in found.items() if channel[0] == "C" for message in messages]

    assert len(live) > SMALL.messages
    assert sorted(live, key=str) == sorted(export, key=str)


def test_the_export_is_what_the_live_events_lead_to(tmp_path):
    """Texts are the last ones, deleted messages are gone, and reactions are those that were left."""
    write_export(SMALL, tmp_path / "export.zip")
    found = exported(tmp_path / "export.zip")
    texts: dict[tuple[str, str], str] = {}
    edited: dict[tuple[str, str], str] = {}
    reactions: Counter[tuple[str, str, str]] = Counter()
    for event in events(SMALL):
        if event["type"] != "message":
            key = (event["item"]["channel"], event["item"]["ts"], event["reaction"])
            assert key[:2] in texts
            reactions[key] += 1 if event["type"] == "reaction_added" else -1
        elif event.get("subtype") == "message_deleted":
            del texts[event["channel"], event["deleted_ts"]]
        elif event.get("subtype") == "message_changed":
            key2 = (event["channel"], event["message"]["ts"])
            assert texts[key2] == event["previous_message"]["text"]
            texts[key2] = event["message"]["text"]
            if "edited" in event["message"]:
                edited[key2] = event["message"]["edited"]["ts"]
        else:
            texts[event["channel"], event["ts"]] = event["text"]
    messages = {(channel, message["ts"]): message for channel, each in found.items() if channel[0] == "C" for message in each}

    assert {key: message["text"] for key, message in messages.items()} == texts
    assert {key: m["edited"]["ts"] for key, m in messages.items() if "edited" in m} == {
        key: ts for key, ts in edited.items() if "edited" in messages.get(key, ())
    }
    assert "This message was deleted." in texts.values()
    left = Counter({(*key, r["name"]): r["count"] for key, m in messages.items() for r in m.get("reactions", ())})
    assert left == Counter(
        {
            key: count
            for key, count in reactions.items()
            if count and key[:2] in messages and messages[key[:2]].get("subtype") != "tombstone"
        }
    )


def test_the_export_has_threads_as_slack_tells_them(tmp_path):
    """Roots know their replies, day files go by local midnight, and private channels are apart."""
    write_export(SMALL, tmp_path / "export.zip", folder_deep=True)
    with zipfile.ZipFile(tmp_path / "export.zip") as archive:
        names = archive.namelist()
        day = json.loads(archive.read(next(name for name in names if name.endswith("general/2024-01-03.json"))))
        private = json.loads(archive.read("Made-up Workspace Slack export/groups.json"))
    roots = [message for message in day if message.get("thread_ts") == message["ts"]]

    assert all(name.startswith("Made-up Workspace Slack export/") for name in names)
    assert private and roots
    assert all(root["reply_count"] == len(root["replies"]) and root["latest_reply"] == root["replies"][-1]["ts"] for root in roots)
    midnight = datetime(2024, 1, 3, 5, tzinfo=UTC).timestamp()
    assert all(midnight <= float(message["ts"]) < midnight + 86400 for message in day)
    assert not any("client_msg_id" not in message for message in day if is_post_by_person(message))


@pytest.mark.parametrize("messages", [0, 1, 2, 10])
@pytest.mark.parametrize("people", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiny_plans_work(tmp_path, messages, people, channels):
    """One person alone talks to nobody, and that is no failure."""
    plan = Plan(messages=messages, people=people, channels=channels, days=0.01)
    planted: Counter[str] = Counter()
    for _ in live_records(plan, planted):
        pass
    write_export(plan, tmp_path / "export.zip")

    assert planted["post"] == messages
    assert len(list(truth(plan))) == (messages if people > 1 else 0)


def test_a_plan_that_cannot_be_made_is_refused():
    """The error names the setting."""
    with pytest.raises(ValueError, match="edits"):
        Plan(edits=-1)
    with pytest.raises(ValueError, match="disorder"):
        Plan(disorder=6.0)


@pytest.mark.slow
def test_the_stream_is_never_held_as_a_whole():
    """50,000 messages pass through a few megabytes."""
    plan = Plan(messages=50_000, days=100, channels=50, people=200)
    tracemalloc.start()
    records = sum(1 for _ in live_records(plan))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert records > 50_000
    assert peak < 12_000_000


def test_a_hundred_thousand_channels_start_at_once():
    """The first records of a wide workspace don't wait for the last channel's history."""
    wide = Plan(messages=30_000, channels=30_000, people=1000)

    assert len(list(islice(live_records(wide), 100))) == 100


def test_people_sleep_and_have_weekends():
    """New York's afternoon has far more messages than its night, and Wednesday than Sunday."""
    hours: Counter[int] = Counter()
    days: Counter[int] = Counter()
    for event in events(replace(SMALL, days=28)):
        if is_post_by_person(event):
            when = datetime.fromtimestamp(float(event["ts"]), UTC)
            hours[when.hour] += 1
            days[when.weekday()] += 1

    assert hours[15] > 4 * hours[4]
    assert days[2] > 4 * days[6]


def test_sessions_are_bursts():
    """Half of a channel's root messages follow another within ten minutes, though they are an hour apart on average."""
    by_channel: dict[str, list[int]] = {}
    for event in events(SMALL):
        if is_post_by_person(event) and "thread_ts" not in event:
            by_channel.setdefault(event["channel"], []).append(micros(event["ts"]))
    gaps = [later - earlier for times in by_channel.values() for earlier, later in pairwise(times)]

    assert sum(gap < 600 * SECOND for gap in gaps) > 0.4 * len(gaps)
    assert sum(gaps) / len(gaps) > 3600 * SECOND


def test_people_who_know_a_topic_answer_more():
    """Of the first answers to questions, most come from people who know the topic, though they are few."""
    plan = replace(SMALL, messages=8000)
    knowing = {topic: set(people) for topic, people in expected_topic_people(plan).items()}
    topics = {(each.channel, each.ts): each.topic for each in truth(plan)}
    answered = known = 0
    seen: set[str] = set()
    for event in events(plan):
        if is_post_by_person(event) and "thread_ts" in event and event["thread_ts"] not in seen:
            seen.add(event["thread_ts"])
            answered += 1
            known += event["user"] in knowing[topics[event["channel"], event["ts"]]]
    share_knowing = sum(map(len, knowing.values())) / len(knowing) / plan.people

    assert known / answered > 2.5 * share_knowing
    assert known / answered > 0.5


def test_answers_are_drawn_from_the_truth():
    """Among replies by somebody else, those with a truth of p come true in a share p of cases."""
    plan = replace(unchanged(SMALL), messages=20_000, days=60)
    expected = {(each.channel, each.ts): dict(each.responders) for each in truth(plan)}
    last: dict[tuple[str, str], dict[str, Any]] = {}
    sums, hits, counts = Counter[int](), Counter[int](), Counter[int]()
    for event in events(plan):
        if not is_post_by_person(event):
            continue
        before = last.get((event["channel"], event.get("thread_ts", "")))
        if before and before["user"] != event["user"]:
            for user, p in expected[before["channel"], before["ts"]].items():
                bucket = int(p * 5)
                sums[bucket] += p  # type: ignore[assignment]
                hits[bucket] += user == event["user"]
                counts[bucket] += 1
        last[event["channel"], event.get("thread_ts", event["ts"])] = event

    assert sum(counts.values()) > 10_000
    for bucket, count in counts.items():
        if count > 300:
            assert hits[bucket] / count == pytest.approx(sums[bucket] / count, abs=0.03)


def test_truth_is_a_distribution_over_others():
    """Likeliest first, never the author, at most ten, and no more than 1 in total."""
    users = {(event["channel"], event["ts"]): event["user"] for event in events(SMALL) if is_post_by_person(event)}
    found = list(truth(SMALL))

    assert len(found) == SMALL.messages
    for each in found:
        chances = [p for _, p in each.responders]
        assert chances == sorted(chances, reverse=True) and len(chances) <= 10
        assert 0 < sum(chances) < 1 + 1e-9
        assert users[each.channel, each.ts] not in dict(each.responders)


def test_text_tells_the_topic():
    """Counting a topic's words guesses it far better than chance, and not always."""
    plan = unchanged(SMALL)
    topics = {(each.channel, each.ts): each.topic for each in truth(plan)}
    phrases = {topic: [p for kind in parts.values() for p in kind] for topic, parts in workspace_words.TOPICS.items()}
    right = said = 0
    for event in events(plan):
        if is_post_by_person(event):
            guess = max(phrases, key=lambda topic: sum(phrase in event["text"] for phrase in phrases[topic]))
            right += guess == topics[event["channel"], event["ts"]]
            said += 1

    assert 0.5 < right / said < 0.97


def test_rich_text_is_optional():
    """With `blocks`, every post carries its text again."""
    rich = [event for event in events(replace(SMALL, messages=50, blocks=True)) if is_post_by_person(event)]

    assert rich
    assert all(event["blocks"][0]["elements"][0]["elements"][0]["text"] == event["text"] for event in rich)
