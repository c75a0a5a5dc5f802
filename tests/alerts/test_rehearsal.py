"""A rehearsal replays predictions with alerts, by the live rules, and counts how many were right."""

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from beepgpt.alerts.decisions import Policy, Preferences
from beepgpt.alerts.predictions import read_prediction
from beepgpt.alerts.reading import closing_account
from beepgpt.alerts.rehearsal import RehearsalHistory, read_outcome
from beepgpt.alerts.rehearsal_report import bars_of
from beepgpt.alerts.replay import Replay, latest_other_author, most_frequent
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import DAY, HOUR, MINUTE, SECOND, Rules
from beepgpt.conversations.shard import run_through
from beepgpt.simulation.workspace import Plan, live_records, undisturbed
from tests.support import run_program
from tests.support.alerts import NOON, Clock, Office, outcome, prediction

POLICY = Policy(threshold=0.5, list_from=0.2, per_hour=3, opted_in=True)


def history(points: list[dict[str, Any]], outcomes: list[dict[str, Any]]) -> RehearsalHistory:
    return RehearsalHistory(list(map(read_prediction, points)), map(read_outcome, outcomes))


def test_right_is_who_joined_the_conversation_or_its_threads():
    """Next, or later within a day; not who answered before they were alerted, and nobody is covered after the fact."""
    session = prediction(people={"bo": 0.9, "cy": 0.8, "di": 0.7}, conversations=["C1:s:session", "C1:t:thread"])
    own = f"C1:{ts_text(NOON)}:thread"
    thread = prediction(NOON + MINUTE, window=[(NOON, "ana"), (NOON + MINUTE, "bo")], conversations=[own], people={"ed": 0.9})
    happened = [outcome(session, MINUTE, "bo"), outcome(thread, HOUR, "cy"), outcome(thread, 2 * DAY, conversation="C1:later:session")]
    rehearsed = Replay(history([session, thread], happened)).under(POLICY)

    found = {each.alert.user: (each.next, each.joined) for each in rehearsed.direct()}
    assert found == {"bo": (True, True), "cy": (False, True), "di": (False, False), "ed": (False, False)}
    assert (rehearsed.figures["joined"], rehearsed.figures["announced"], len(rehearsed.history.joins)) == (0.5, 1.0, 2)


def test_whose_day_is_not_over_counts_nowhere():
    """Neither as joined nor as next nor in coverage: who came at once would count without those who may still come."""
    at = {"old": NOON, "late": NOON + 3 * DAY, "later": NOON + 3 * DAY + HOUR}
    points = {name: prediction(t, conversations=[f"C1:{name}:session"], people={"bo": 0.9, "cy": 0.8}) for name, t in at.items()}
    happened = [outcome(points["old"], HOUR, "bo"), outcome(points["late"], HOUR, "bo"), outcome(points["later"], HOUR, "di")]
    rehearsed = Replay(history([*points.values()], happened)).under(POLICY)

    found = sorted((each.alert.user, each.alert.point.prompt_ts, each.next, each.joined) for each in rehearsed.direct())
    open_ones = [("bo", at["late"], None, None), ("bo", at["later"], None, None)]
    open_ones += [("cy", at["late"], None, None), ("cy", at["later"], None, None)]
    assert found == sorted([("bo", NOON, True, True), ("cy", NOON, False, False), *open_ones], key=lambda each: each[:2])
    figures = rehearsed.figures["intervals"]
    assert {name: (figures[name]["value"], figures[name]["count"]) for name in ("joined", "next", "announced")} == {
        "joined": (0.5, 2),
        "next": (0.5, 2),
        "announced": (1.0, 1),  # of bo's joining "old" alone
    }
    assert len(rehearsed.history.joins) == 3
    (bar, *empty, last) = bars_of(rehearsed)["bars"]
    assert (bar["alerts"], bar["joined"], bar["open"], [each["alerts"] for each in empty]) == (2, 1, 0, [0, 0])
    assert (last["alerts"], last["joined"], last["open"]) == (4, 0, 4)


@pytest.mark.parametrize(("after", "is_joined"), [(1, True), (DAY, True), (DAY + 1, False)])
def test_a_day_is_a_day_in_a_rehearsal_as_live(tmp_path: Path, after: int, is_joined: bool):
    """Who posts a microsecond after the prompt has joined, and who posts when the day ends; not who posts a microsecond later."""
    point = prediction(people={"bo": 0.9})
    happened = [outcome(point, after, "bo")] + ([outcome(point, DAY, how="superseded")] if after < DAY else [])
    (rehearsed,) = Replay(history([point], happened)).under(POLICY).direct()
    office = Office(tmp_path, clock=Clock(NOON - SECOND))  # alerted at once
    office.opt_in("bo")
    for kind, value in (("prediction", point), *(("outcome", each) for each in happened)):
        office.apply(kind, value)

    assert rehearsed.joined is is_joined
    assert closing_account(office.store, 0.5)["right"] == float(is_joined)


@pytest.mark.parametrize(("apart", "ways"), [(HOUR - 1, ["direct", "list"]), (HOUR, ["direct", "direct"])])
def test_an_hour_is_an_hour_in_a_rehearsal_as_live(tmp_path: Path, apart: int, ways: list[str]):
    """With one message an hour at most, the next may come when the hour is over, and not a microsecond before."""
    points = [prediction(NOON + after, conversations=[f"C1:{after}:session"], people={"bo": 0.9}) for after in (0, apart)]
    rehearsed = Replay(history(points, [])).under(replace(POLICY, per_hour=1))
    office = Office(tmp_path, policy={"per_hour": 1})
    office.opt_in("bo")
    with office.store.transaction():
        for each in points:
            office.decider.apply("prediction", each, read_prediction(each).prompt_ts + SECOND)

    assert [each.alert.way for each in rehearsed.alerts] == ways
    assert (office.counts["answer:direct"], office.counts.get("answer:list", 0)) == (ways.count("direct"), ways.count("list"))


@pytest.mark.parametrize(("second", "way"), [(-2, "direct"), (-1, "list"), (598, "list"), (599, "direct")])
def test_quiet_hours_are_those_in_which_the_message_would_come(second: int, way: str):
    """A second after its point: the first and the last second of quiet hours from 12:00 to 12:10."""
    point = prediction(NOON + second * SECOND, people={"bo": 0.9})
    rehearsed = Replay(history([point], [])).under(replace(POLICY, quiet=(12 * 60, 12 * 60 + 10)))

    assert [each.alert.way for each in rehearsed.alerts] == [way]


def test_alerts_to_threads_of_one_session_say_as_little_as_one_conversation():
    """Sixty of them, all joined: too few to tell."""
    roots = [NOON + number * SECOND for number in range(60)]
    session = prediction(roots[-1], window=[(at, "ana") for at in roots], conversations=["C1:s:session"], people={"zed": 0.0})
    threads = [
        prediction(
            NOON + (number + 2) * MINUTE,
            window=[(root, "ana"), (NOON + (number + 2) * MINUTE, f"x{number}")],
            conversations=[f"C1:{ts_text(root)}:thread"],
            people={f"u{number}": 0.9},
        )
        for number, root in enumerate(roots)
    ]
    happened = [outcome(each, HOUR, f"u{number}") for number, each in enumerate(threads)]
    happened.append(outcome(prediction(NOON + 3 * DAY, conversations=["C1:later:session"]), HOUR, "di"))
    joined = Replay(history([session, *threads], happened)).under(POLICY).figures["intervals"]["joined"]

    assert (joined["value"], joined["count"], joined["conversations"], joined["low"]) == (1.0, 60, 1, None)


def test_some_minutes_tell_nothing_of_a_day():
    """Two alerts to Bo within eight minutes are two a day, and not hundreds."""
    points = [prediction(NOON + after, conversations=[f"C1:{after}:session"], people={"bo": 0.9}) for after in (0, 8 * MINUTE)]
    rehearsed = Replay(history(points, [])).under(POLICY)

    assert (rehearsed.history.days("judge") * DAY, rehearsed.figures["per_person_per_day"]) == (8 * MINUTE, 2.0)


def test_the_future_changes_no_alert():
    """With or without outcomes, and up to any time, the same people are alerted."""
    points, outcomes = simulated()
    half = sorted(points, key=lambda each: (each["prompt_ts"], each["id"]))[: len(points) // 2]
    everything, without, early = (
        Replay(history(*each)).under(POLICY).alerts for each in ((points, outcomes), (points, []), (half, outcomes))
    )
    all_of_it = [each.alert.id for each in everything]
    assert [each.alert.id for each in without] == all_of_it
    assert [each.alert.id for each in early] == all_of_it[: len(early)]
    assert len(all_of_it) > 50


def test_a_baseline_knows_only_what_was_before():
    """Whoever answered most is counted once the answer was known."""
    first, second = prediction(NOON), prediction(NOON + HOUR, conversations=["C1:other"])
    name = most_frequent(history([first, second], [outcome(first, 2 * HOUR, "cy"), outcome(second, 3 * HOUR, "di")]))
    assert name(read_prediction(first)) == name(read_prediction(second)) == []
    assert name(read_prediction(prediction(NOON + 4 * HOUR)))[0][1] == 0.5

    latest = latest_other_author()
    assert latest(read_prediction(first)) == []
    assert [user for user, _ in latest(read_prediction(prediction(NOON + HOUR, window=[(NOON + HOUR, "bo")])))] == ["ana"]


def test_a_baseline_knows_what_was_settled_by_the_prompt():
    """At its very microsecond; a microsecond later is the future."""
    first = prediction(NOON)
    name = most_frequent(history([first], [outcome(first, HOUR, "cy")]))

    assert name(read_prediction(prediction(NOON + HOUR - 1))) == []
    assert name(read_prediction(prediction(NOON + HOUR))) == [("cy", 1.0)]


def test_a_baseline_knows_all_who_took_part_when_their_horizon_is_over():
    """Cy took part after a minute, and Di later: who they all are is known at the end of the day, and not at the first of them."""
    first = prediction(NOON)
    happened = outcome(first, MINUTE, "cy", "di") | {"target": "interacting_users", "settled_ts": ts_text(NOON + DAY)}
    name = most_frequent(history([first], [happened]))

    assert name(read_prediction(prediction(NOON + HOUR))) == []
    assert name(read_prediction(prediction(NOON + DAY))) == [("cy", 0.5)]


def test_who_answered_most_leads_and_the_others_stay():
    """Cy and Di have answered once each, then Di again."""
    points = [prediction(NOON + each * HOUR) for each in range(3)]
    name = most_frequent(history(points, [outcome(point, 1, user) for point, user in zip(points, ("cy", "di", "di"), strict=True)]))

    assert name(read_prediction(prediction(NOON + 5 * HOUR))) == [("di", 2 / 3)]
    assert name(read_prediction(prediction(NOON + 6 * HOUR, window=[(NOON, "di")]))) == [("cy", 1 / 3)]


def test_an_old_message_shown_again_makes_nobody_the_latest():
    """Bo wrote after Cy; a later point of a thread shows an older message of Bo's."""
    latest = latest_other_author()
    for window in ([(NOON, "bo")], [(NOON + MINUTE, "cy")], [(NOON + 2 * MINUTE, "bo")], [(NOON, "bo"), (NOON + 3 * MINUTE, "ana")]):
        latest(read_prediction(prediction(window[-1][0], window=window)))

    assert [user for user, _ in latest(read_prediction(prediction(NOON + HOUR)))] == ["bo"]


def test_what_people_asked_for_holds_in_a_rehearsal_too():
    """Who is not opted in is not alerted."""
    rehearsed = Replay(history([prediction()], []), asked={"bo": Preferences(opted_in=False)}).under(POLICY)
    assert rehearsed.alerts == []


def simulated() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Predictions of a simulated workspace by a simple model, and what happened."""
    plan = undisturbed(Plan(seed=4, messages=1500, channels=6, people=30, deletions=0))
    run = run_through(list(live_records(plan)), Rules(workspace="acme"), load_encoding("o200k_base"))
    points, outcomes = [], []
    for example in map(json.loads, run.examples):
        features = example["candidates"]
        people = sorted(zip(features["user"], features["share_30d"], strict=True), key=lambda each: -each[1])[:5]
        point = {name: example[name] for name in ("id", "channel", "prompt_ts", "window", "prompt", "candidates")}
        point |= {"conversations": [example["conversation"]], "part": "judge", "people": [{"user": user, "p": 2 * p} for user, p in people]}
        points.append(point)
        happened = {name: example[name] for name in ("id", "channel", "conversation", "prompt_ts", "answer_ts", "answer", "settled_ts")}
        outcomes.append(happened | {"how": "answered" if example["answer"] else "silent"})
    return points, outcomes


def test_the_page_needs_nothing_else_and_runs_nothing(tmp_path: Path):
    """Figures on the console and as JSON, a page without scripts or addresses, and whatever was written is text on it."""
    points, outcomes = simulated()
    for each in points:
        each["prompt"] = "<script>alert(1)</script> <img src=x onerror=alert(1)> " + each["prompt"]
    for name, records in (("predictions", points), ("outcomes", outcomes)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    (tmp_path / "users.json").write_text(json.dumps([{"id": user["user"], "name": "<b>Bo</b>"} for user in points[-1]["people"]]))
    done = run_program(
        *("rehearse", tmp_path / "predictions.jsonl", "--outcomes", tmp_path / "outcomes.jsonl", "--to", tmp_path / "page.html"),
        *("--threshold", 0.3, "--names", tmp_path / "users.json", "--report", tmp_path / "report.json"),
    )
    assert done.returncode == 0, done.stderr
    assert "(they are of: judge). Alerted from 30 % on, as was set." in flat(done.stdout)

    page = (tmp_path / "page.html").read_text()
    report = json.loads((tmp_path / "report.json").read_text())
    plain = re.sub(r"&lt;.*?&gt;|xmlns(:\w+)?=\"[^\"]*\"|(?s:<metadata>.*?</metadata>)", "", page)
    assert not re.search(r"<(script|img|link|iframe)|src=|https?:|<b>", plain)
    assert "&lt;script&gt;" in page and "&lt;b&gt;Bo" in page
    rows = {row["name"]: row for row in report["rules"]}
    alerts = [json.loads(line) for line in (tmp_path / "page.alerts.jsonl").read_text().splitlines()]
    assert {frozenset(each) for each in alerts} == {frozenset(ALERT_KEYS)}
    direct = [each for each in alerts if each["way"] == "direct" and each["part"] == "judge"]
    known = [each["joined"] for each in direct if each["joined"] is not None]
    joined = report["figures"]["intervals"]["joined"]
    assert len(direct) == report["figures"]["alerts"] and "page.alerts.jsonl" in done.stderr
    assert (len(known), round(sum(known) / len(known), 4)) == (joined["count"], round(joined["value"], 4))
    assert ".alerts.jsonl" in page
    assert f"{report['figures']['alerts']:,}" in page and report["figures"]["alerts"] > 20
    assert rows["who answers most in the channel, as many"]["alerts"] <= report["figures"]["alerts"]
    counts = [row["alerts"] for row in report["thresholds"]]
    assert counts == sorted(counts, reverse=True)


ALERT_KEYS = (
    "id", "user", "conversation", "channel", "prompt_ts", "prediction", "p", "way", "part", "joined", "known_ts",
)  # fmt: skip


@pytest.mark.parametrize("what", ["predictions", "outcomes"])
def test_a_rehearsal_without_one_of_the_two_says_so(tmp_path: Path, what: str):
    """And which command makes it."""
    path = tmp_path / "some.jsonl"
    path.write_text(json.dumps(prediction() if what == "outcomes" else {"x": 1}) + "\n")
    done = run_program("rehearse", path, "--to", tmp_path / "page.html", "--threshold", 0.5)
    assert done.returncode == 2 and "beepgpt score" in done.stderr and what.removesuffix("s") in done.stderr


@pytest.mark.slow
def test_a_line_that_is_neither_is_named(tmp_path: Path):
    """The first of them, by its place; the others count."""
    points, outcomes = simulated()
    lines = [json.dumps(each) for each in points]
    lines[2:2] = ["", '{"broken": ']
    lines.append("[]")
    (tmp_path / "predictions.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "outcomes.jsonl").write_text("".join(json.dumps(each) + "\n" for each in outcomes))
    done = rehearsed_in(tmp_path, "--outcomes", "outcomes.jsonl", "--to", "page.html", "--threshold", 0.3)

    assert done.returncode == 0, done.stderr
    assert "2 lines are neither predictions nor outcomes, and are left out, the first of them predictions.jsonl:4." in flat(done.stderr)


@pytest.mark.parametrize("cut", ["predictions", "outcomes"])
def test_predictions_or_outcomes_that_were_cut_short_are_refused(tmp_path: Path, cut: str):
    """A file that was not copied to its end gives no recommendation."""
    for name, records in zip(("predictions", "outcomes"), simulated(), strict=True):
        lines = "".join(json.dumps(each) + "\n" for each in records)
        (tmp_path / f"{name}.jsonl").write_text(lines[:-30] if name == cut else lines)
    done = rehearsed_in(tmp_path, "--outcomes", "outcomes.jsonl", "--to", "page.html", "--threshold", 0.3)

    last = len((tmp_path / f"{cut}.jsonl").read_text().splitlines())
    assert done.returncode == 1
    assert f"beepgpt: {cut}.jsonl: line {last:,}, its last, was cut short: " in flat(done.stderr)
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--outcomes", "o.jsonl", "--to", "o.jsonl"), "--to o.jsonl: a page is written there: name an .html"),
        (("--outcomes", "o.jsonl", "--to", "page.html", "--report", "o.jsonl"), "o.jsonl: would be written over --outcomes"),
        (("--outcomes", "none.jsonl", "--to", "page.html"), "none.jsonl: there is no such file"),
        (("--outcomes", "o.jsonl", "--to", "page.html", "--members", "none.zip"), "none.zip: there is no such file or folder"),
        (("--outcomes", "o.jsonl", "--to", "page.html", "--model", "none"), "--model none: is no trained model: beepgpt train"),
    ],
)
def test_a_wrong_command_says_what_is_wrong(tmp_path: Path, more: tuple[str, ...], said: str):
    """And what was there is as it was."""
    point = prediction()
    happened = {"how": "answered", "prompt_ts": point["prompt_ts"], "answer": ["cy"], "answer_ts": None, "settled_ts": point["prompt_ts"]}
    (tmp_path / "predictions.jsonl").write_text(json.dumps(point) + "\n")
    (tmp_path / "o.jsonl").write_text(json.dumps({"id": point["id"], "conversation": point["conversations"][0], **happened}) + "\n")
    before = (tmp_path / "o.jsonl").read_bytes()
    done = rehearsed_in(tmp_path, *more, *(() if "--model" in more else ("--threshold", 0.5)))

    assert done.returncode in (1, 2) and f"beepgpt: {said}" in flat(done.stderr), done.stderr
    assert (tmp_path / "o.jsonl").read_bytes() == before and not (tmp_path / "page.html").exists()


def rehearsed_in(folder: Path, *more: object) -> "subprocess.CompletedProcess[str]":
    """`beepgpt rehearse predictions.jsonl MORE`, in a folder."""
    return run_program("rehearse", "predictions.jsonl", *more, cwd=folder)


def flat(text: str) -> str:
    """As one line, however wide the console was."""
    return " ".join(text.split())
