"""The scoring flow: points to predictions within a deadline, and what became of them; its parts are real, the model a simple rule."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from bytewax.testing import TestingSink, TestingSource, run_main

from beepgpt.config.settings import read_settings
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.account import Account, sum_of
from beepgpt.conversations.chunks import Chunk
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.outcomes import Probabilities, RollingMetrics
from beepgpt.conversations.points import PointEmitted, PointSettled
from beepgpt.conversations.rules import DAY, HOUR, MINUTE, Rules, Scope, Target
from beepgpt.conversations.shard import OtherState
from beepgpt.dataflows.following import Following
from beepgpt.dataflows.records import TaggedItems
from beepgpt.dataflows.score_points import ScorePoints, ScoringRun
from beepgpt.dataflows.scored_records import check_scores
from beepgpt.dataflows.scoring import scoring_flow
from beepgpt.simulation.workspace import Plan, live_records
from beepgpt.training.intervals import Bootstrap
from beepgpt.training.metrics import hits, outcomes_of
from beepgpt.training.parts import Part, Parts
from beepgpt.training.points import examples_of
from beepgpt.training.reloading import CannotScore, LocalModel, ModelAnswer, ModelCaller, RemoteCaller, ScoringModel
from tests.support import NOW, at, chunks_of, delete, edit, lines_in, post, run_of
from tests.support.alerts import Clock, Office
from tests.support.histories import Record
from tests.support.openai_script import Script
from tests.support.openai_server import serving
from tests.support.schemas import check
from tests.support.scoring import RULES, assert_served_as_trained, ranked, save, save_served, watched_model, workspace
from tests.support.speed import slowness
from tests.support.training import settings_for

SETTINGS = read_settings(environ={})


@dataclass
class ByPlace:
    """A model that believes in the order in which candidates stand; it takes its time where it is told to."""

    name: str = "by-place"
    seconds: float = 0.0
    fails: frozenset[str] = frozenset()
    """Prompts about which it can't be asked."""
    asked: list[int] = field(default_factory=list)
    least: Mapping[str, float] = field(default_factory=dict)
    parts: Parts | None = None

    def predict(self, points: Sequence[Mapping[str, Any]]) -> tuple[str, list[Probabilities]]:
        self.asked.append(len(points))
        time.sleep(self.seconds)
        if any(point["prompt"].partition("\n")[0] in self.fails for point in points):
            raise CannotScore("refused", "the model refused")
        return self.name, [said_of(point["candidates"]["user"]) for point in points]

    def part_of(self, model: str, prompt_ts: int) -> Part | None:
        return None if self.parts is None else self.parts.of(prompt_ts)

    def expected(self, model: str, answered: int, at: int | None = None) -> Mapping[str, float]:
        return self.least


def pooled(model: ByPlace, concurrency: int) -> RemoteCaller:
    """It is elsewhere: each call is a thread's."""
    threads = ThreadPoolExecutor(concurrency)

    def one(point: Mapping[str, Any]) -> ModelAnswer:
        name, said = model.predict([point])
        return name, said[0]

    return RemoteCaller(lambda point, seconds: threads.submit(one, point), concurrency)


def said_of(people: Sequence[str]) -> Probabilities:
    """The first is likeliest, with half of all; each further one has half of what is left."""
    return Probabilities(
        [(user, 0.5 ** (place + 1)) for place, user in enumerate(people)], 0.5 ** (len(people) + 1), 0.5 ** (len(people) + 1)
    )


@dataclass
class Run:
    """What a run of the flow made."""

    predictions: list[dict[str, Any]]
    outcomes: list[dict[str, Any]]
    deletions: list[dict[str, Any]]
    alerts: list[tuple[str, dict[str, Any]]]
    account: Account
    lines: list[bytes]

    def of(self, conversation: str, minute: float) -> dict[str, Any]:
        """The prediction of a conversation at a minute."""
        (found,) = [each for each in self.predictions if conversation in each["conversations"] and place_at(each) == at(minute)]
        return found


def place_at(each: Mapping[str, Any]) -> int:
    seconds, _, rest = each["prompt_ts"].partition(".")
    return int(seconds) * 1_000_000 + int(rest)


def score(
    records: Iterable[Record | bytes],
    model: ScoringModel,
    asker: ModelCaller | None = None,
    *,
    batches: Iterable[int] = (),
    since: int = 0,
    until: int | None = None,
    rules: Rules = RULES,
    **more: Any,
) -> Run:
    """A run of the real dataflow, each batch an epoch."""
    lines = [each if isinstance(each, bytes) else each.line for each in records]
    following = Following(rules, load_encoding(rules.encoding), NOW, until=until, recoverable=True, points_since=since)
    kept: dict[str, list[Any]] = {name: [] for name in ("predictions", "outcomes", "deletions", "alerts")}
    scoring = ScoringRun(model, asker or LocalModel(model), rules, with_alerts=True, **more)
    source: TestingSource[Chunk] = TestingSource(list(chunks_of(lines, batches)))
    sinks = {name: TestingSink(kept[name]) for name in ("predictions", "outcomes", "deletions")}
    accounts: list[Account] = []
    flow = scoring_flow(source, following, scoring, sinks | {"alerts": TestingSink(kept["alerts"])}, accounts.append)
    run_main(flow, epoch_interval=timedelta(0))
    account = sum_of(accounts)
    assert [*account.check(), *check_scores(account)] == []
    made = {name: lines_in(kept[name]) for name in ("predictions", "outcomes", "deletions")}
    decoded = {name: [json.loads(line) for line in of] for name, of in made.items()}
    for name, of in decoded.items():
        for each in of:
            check(name.removesuffix("s"), each)
    return Run(**decoded, alerts=kept["alerts"], account=account, lines=[*made["predictions"], *made["outcomes"]])


# What is predicted, and what becomes of it


def test_a_root_is_scored_once_and_told_what_became_of_it_in_both_places():
    """Ana asks, bo answers in the thread: one prediction; the thread is answered, the session's point is answered elsewhere."""
    run = score([post("bo", minute=-30), post("ana", minute=0), post("bo", minute=1, to=0)], ByPlace(), until=at(60 * 30))
    asked = run.of(f"C1:{run.predictions[1]['prompt_ts']}:session", 0)

    assert [each.rsplit(":", 1)[1] for each in asked["conversations"]] == ["session", "thread"]
    assert asked["people"] == [{"user": "bo", "p": 0.5}]
    assert (asked["model"], asked["nobody"], asked["other"]) == ("by-place", 0.25, 0.25)
    found = {each["conversation"].rsplit(":", 1)[1]: each for each in run.outcomes if each["id"] == asked["id"]}
    assert (found["thread"]["how"], found["thread"]["answer"], found["thread"]["rank"], found["thread"]["p"]) == (
        "answered",
        ["bo"],
        1,
        0.5,
    )
    assert (found["session"]["how"], found["session"]["answer"], found["session"]["rank"]) == ("elsewhere", [], None)
    assert run.account["together"] == 2


@pytest.mark.parametrize("candidates", [True, False])
def test_speakers_of_a_session_and_of_a_thread_are_two_points_where_they_differ(candidates: bool):
    """Bo's message was deleted before ana edits: her session has had two speakers, her thread one, and a model is told so."""
    run = run_of(
        [post("bo", minute=0), post("ana", minute=1), delete(of=0, minute=2), edit("hello you", of=1, minute=3)],
        Rules(candidates=candidates),
        until=at(60),
        points_since=0,
    )
    told = [(len(each.conversations), json.loads(each.line)) for each in run.points if isinstance(each, PointEmitted)]
    assert [(conversations, point["speakers"]) for conversations, point in told] == [(2, 1), (1, 2), (1, 1), (1, 2), (1, 2), (1, 1)]
    if candidates:
        session, thread = (point["candidates"] for _, point in told[-2:])
        assert (session["user"], session["spoke"]) == (["bo"], [1]), "he began it"
        assert (thread["user"], thread["spoke"]) == (["bo"], [0]), "he never spoke there"


@pytest.mark.parametrize("batches", [[3] * 200, []], ids=["3", "all"])
@pytest.mark.parametrize("scope", ["conversation", "channel"])
@pytest.mark.parametrize("target", ["next_user", "interacting_users", "reactors"])
def test_outcomes_are_what_the_examples_say(target: Target, scope: Scope, batches: list[int]):
    """Of every target: each example is of a point that was scored, and its outcome has the whole answer and the best rank in it."""
    rules = Rules(target=target, scope=scope, horizon=6 * HOUR, max_candidates=5, kept_people=7)
    records, until = reacting(), PLAN.end_us + DAY
    examples = run_of(records, rules, until=until).examples
    run = score(records, ByPlace(), batches=batches, rules=rules, until=until, with_candidates=True)

    assert_served_as_trained(examples, run.predictions)
    predicted = {each["id"]: each for each in run.predictions}
    outcomes = {(each["conversation"], each["prompt_ts"]): each for each in run.outcomes}
    assert len(outcomes) == len(run.outcomes) == sum(len(each["conversations"]) for each in run.predictions)
    settled = {place: each for place, each in outcomes.items() if each["how"] in ("answered", "silent")}
    assert len(settled) == len(examples)
    for example in map(json.loads, examples):
        found = settled[example["conversation"], example["prompt_ts"]]
        assert {name: found[name] for name in ("answer", "answer_ts", "settled_ts", "speakers", "channel")} == {
            name: example[name] for name in ("answer", "answer_ts", "settled_ts", "speakers", "channel")
        }
        people = predicted[found["id"]]["people"]
        ranks = [(rank, each["p"]) for rank, each in enumerate(people, 1) if each["user"] in example["answer"]]
        assert (found["rank"], found["p"]) == min(ranks, default=(None, None))
    several = [each for each in settled.values() if len(each["answer"]) > 1]
    assert bool(several) is (target != "next_user")
    assert target == "next_user" or any(each["rank"] and each["people"][each["rank"] - 1]["user"] != each["answer"][0] for each in several)


PLAN = Plan(seed=17, messages=250, channels=3, people=9, days=12, reactions=0.9, deletions=0.05, edits=0.05)


@cache
def reacting() -> tuple[bytes, ...]:
    """A workspace in which people react."""
    return tuple(live_records(PLAN))


@pytest.mark.parametrize("minute", [2, 60, 60 * 24 * 40])
@pytest.mark.parametrize("target", ["next_user", "interacting_users", "reactors"])
def test_readers_of_predictions_learn_of_a_deletion_whenever_it_comes(target: Target, minute: int):
    """While its point is open, once no window holds the message any more, and after its example is forgotten."""
    rules = Rules(target=target, window=1, kept_roots=1)
    said = [post("ana", "secret", minute=0), post("bo", minute=1), post("ana", minute=60 * 24 * 35)]
    records = sorted([*said, delete(of=0, minute=minute)], key=lambda each: each.t or 0)

    run = score(records, ByPlace(), rules=rules, until=at(60 * 24 * 50))

    assert [each["prompt"] for each in run.predictions if "secret" in each["prompt"]] == ["secret\n\n###\n\n"]
    assert run.deletions == [{"channel": "C1", "ts": ts_text(at(0)), "deleted_ts": ts_text(at(minute))}]
    assert [value for kind, value in run.alerts if kind == "deletion"] == run.deletions
    assert run.account["deletions"] == 1


@pytest.mark.parametrize("batches", [[1] * 2_000, [7] * 300, []], ids=["1", "7", "all"])
def test_one_result_in_any_batches(batches: list[int]):
    """The same predictions and outcomes, byte for byte; many points are asked about at once."""
    model = ByPlace()
    run = score(workspace(), model, batches=batches)

    assert sorted(run.lines) == sorted(score(workspace(), ByPlace()).lines)
    assert len({each["id"] for each in run.predictions}) == len(run.predictions) == run.account["scored"]
    assert run.account["missed"] == 0


def test_a_model_elsewhere_is_asked_by_many_calls_at_once():
    """The same lines as by a model here; 0.02 s a call, and a tenth of the time that they take one after the other."""
    model = ByPlace(seconds=0.02)
    began = time.monotonic()
    run = score(workspace(), model, pooled(model, 30))
    seconds = time.monotonic() - began

    assert set(model.asked) == {1}
    assert seconds < 0.02 * len(model.asked) / 2
    assert sorted(run.lines) == sorted(score(workspace(), ByPlace()).lines)
    assert_in_order(run)


def assert_in_order(run: Run) -> None:
    """Of a channel, predictions come in the order of their points."""
    times: dict[str, int] = {}
    for each in run.predictions:
        assert times.get(each["channel"], 0) <= place_at(each)
        times[each["channel"]] = place_at(each)


def test_what_would_come_too_late_is_dropped_and_counted():
    """Calls take 0.2 s, and 0.05 s are allowed: nothing is predicted, everything is counted, and no outcome is told."""
    model = ByPlace(seconds=0.2)
    run = score(workspace()[:60], model, pooled(model, 4), deadline=0.05, bounded_deadline=True)

    assert run.predictions == run.outcomes == []
    assert run.account["missed"] == run.account["told"] > 0
    assert len(model.asked) < run.account["told"], "who is late is not even asked"


def test_live_points_have_a_deadline_and_what_piled_up_before_has_none():
    """A point of now is due within the deadline, and never later than anybody would be told; one from before the start is not."""
    scoring = ScoringRun(ByPlace(), LocalModel(ByPlace()), RULES, live_since=at(0), deadline=2.0, max_alert_age=10 * MINUTE)

    assert scoring.due(at(1), at(1) / 1e6 + 5) == at(1) / 1e6 + 7
    assert scoring.due(at(1), at(20) / 1e6) == at(11) / 1e6
    assert scoring.due(at(-1), at(1) / 1e6) is None
    assert (scoring.is_fresh(at(1), at(10) / 1e6), scoring.is_fresh(at(1), at(12) / 1e6)) == (True, False)
    assert replace(scoring, live_since=None).is_fresh(at(1), at(12) / 1e6)


def test_a_refusal_is_counted_and_the_rest_goes_on():
    """One prompt can't be asked about: it has no prediction, and all others have theirs."""
    model = ByPlace(fails=frozenset({"no"}))
    failures: list[CannotScore] = []
    run = score(
        [post("ana", "yes", minute=0), post("bo", "no", minute=20), post("cy", "yes", minute=40)],
        model, pooled(model, 2), on_failure=failures.append,
    )  # fmt: skip

    assert [each["prompt"].partition("\n")[0] for each in run.predictions] == ["yes", "yes"]
    assert (run.account.by_reason("failed"), len(failures)) == ({"refused": 1}, 1)


def test_a_server_s_model_is_asked_over_http_with_a_deadline_for_each_point(tmp_path: Path):
    """It takes 0.3 s, refuses some, and never answers others: those have no prediction, each is counted, and nobody waits for them."""
    records = [post(user, f"{user} {minute}", minute=minute) for minute in range(0, 1200, 20) for user in ("ana",)]
    with serving(latency=0.3) as server:
        server.models["mine"] = lambda prompt: {"0": 0.5, "1": 0.25, "nil": 0.125}
        model = watched_model(save_served(tmp_path / "model", {"0": "bo", "1": "cy"}), settings_for(server))
        assert not model.is_in_process
        server.script = Script(share={"429:0.01": 0.2, "400": 0.2, "stall": 0.1})
        began = time.monotonic()
        with model.watched(5.0 * slowness()):
            run = score(records, model, RemoteCaller(model.submit, 60), deadline=2.0 * slowness(), bounded_deadline=True)
        seconds = time.monotonic() - began

    assert run.account["scored"] + run.account["missed"] + run.account["failed:Refused"] == run.account["told"] == 60
    assert set(run.account.by_reason("failed")) == {"Refused"}
    assert run.account["missed"] > 0 and run.account["scored"] > 30
    assert {each["model"] for each in run.predictions} == {model.name}
    assert all(each["people"] == [{"user": "bo", "p": 0.5}, {"user": "cy", "p": 0.25}] for each in run.predictions)
    assert seconds < 8 * slowness()


def test_the_past_is_gone_through_without_a_word():
    """What is older than the start is never asked about, and nothing of it is told; what comes after is as in a run over all."""
    records = workspace()
    whole = score(records, ByPlace())
    middle = sorted(map(place_at, whole.predictions))[len(whole.predictions) // 2]
    model = ByPlace()
    run = score(records, model, since=middle)

    assert sorted(run.lines) == sorted(line for line in whole.lines if place_at(json.loads(line)) >= middle)
    assert sum(model.asked) == len(run.predictions)
    assert run.account["before_start"] > 0


def test_who_tells_people_gets_everything_in_order():
    """Predictions with their freshness, outcomes behind them, and deletions."""
    run = score([post("ana", minute=0), post("bo", minute=1, to=0), delete(of=1, minute=2)], ByPlace(), until=at(60))

    assert [kind for kind, _ in run.alerts][:3] == ["prediction", "outcome", "prediction"]
    assert run.alerts[0][1] == {**run.predictions[0], "fresh": True}
    assert [value for kind, value in run.alerts if kind == "outcome"] == run.outcomes
    (gone,) = [value for kind, value in run.alerts if kind == "deletion"]
    assert gone == run.deletions[0]
    assert set(gone) == {"channel", "ts", "deleted_ts"}


def test_what_is_deleted_in_slack_is_withdrawn_by_alerts(tmp_path: Path):
    """The deletion as scoring writes it, on a topic or in a file, is of the message: its alert is withdrawn and its excerpt gone; the
    other message's stays."""
    people = [post("ana", minute=0), post("bo", minute=20), post("cy", minute=40, text="keep this")]
    run = score([*people, delete(of=20, minute=41)], ByPlace(), until=at(90))
    office = Office(tmp_path, clock=Clock(at(41)), policy={"opted_in": True, "max_age": 60 * MINUTE, "threshold": 0.01, "list_from": None})
    with office.store.transaction():
        for line in run.lines:
            if "people" in (body := json.loads(line)) and "answer" not in body:
                office.decider.apply_record(line, at(41))
    alerts = office.store._rows("SELECT ts, state, excerpt FROM alert")
    assert {(row["ts"], row["state"], bool(row["excerpt"])) for row in alerts} == {(at(20), "due", True), (at(40), "due", True)}

    with office.store.transaction():
        for each in run.deletions:
            office.decider.apply_record(json.dumps(each).encode(), at(41))
    found = {(row["ts"], row["state"], bool(row["excerpt"])) for row in office.store._rows("SELECT ts, state, excerpt FROM alert")}
    assert found == {(at(20), "withdrawn", False), (at(40), "due", True)}
    assert office.counts["deletions"] == 1


def test_nobody_is_told_of_what_is_long_over():
    """Followed, points of years ago are not fresh, whatever the clock of the log says."""
    run = score([post("ana", minute=0)], ByPlace(), live_since=at(-60), until=at(60))

    assert run.predictions == []
    assert run.account["missed"] == 1
    backlog = score([post("ana", minute=0)], ByPlace(), live_since=at(60), until=at(60))
    assert [value["fresh"] for kind, value in backlog.alerts if kind == "prediction"] == [False]


# Its state


def step_of(asker: ModelCaller, model: ByPlace, state: object = None, **more: Any) -> ScorePoints:
    return ScorePoints(ScoringRun(model, asker, RULES, **more), None if state is None else pickle.loads(pickle.dumps(state)))


def lines_of(*outputs: Iterable[TaggedItems]) -> list[bytes]:
    """The lines of what a step gave out."""
    return [each.line for tagged in outputs for kind, items in tagged if kind == "scored" for each in items]


def test_what_waits_is_in_the_snapshot_and_asked_again():
    """A step that dies with calls under way: the next one asks again, and its lines are those that never came, each once."""
    told = run_of(workspace(), RULES, points_since=0).points
    whole = step_of(LocalModel(ByPlace()), ByPlace())
    expected = lines_of(whole.on_batch([(0.0, told)])[0], whole.on_eof()[0])

    slow = ByPlace(seconds=30.0)
    pool = pooled(slow, 4)
    first = step_of(LocalModel(ByPlace()), ByPlace())
    half = len(told) // 2
    before = lines_of(first.on_batch([(0.0, told[:half])])[0])
    dies = step_of(pool, slow, first.snapshot())
    before += lines_of(dies.on_batch([(0.0, told[half : half + 40])])[0])
    assert dies.waiting_here()["points"] > 0
    second = step_of(LocalModel(ByPlace()), ByPlace(), dies.snapshot())
    after = lines_of(second.on_notify()[0], second.on_batch([(0.0, told[half + 40 :])])[0], second.on_eof()[0])

    assert sorted([*before, *after]) == sorted(expected)


def test_what_is_predicted_after_a_snapshot_is_in_the_next_one():
    """A point is in the first while its model is asked; its outcome is that of its prediction, also for a step that resumes the second."""
    told = run_of(workspace(), RULES, points_since=0).points
    whole = step_of(LocalModel(ByPlace()), ByPlace())
    expected = lines_of(whole.on_batch([(0.0, told)])[0], whole.on_eof()[0])

    slow = ByPlace(seconds=0.2)
    first = step_of(pooled(slow, 4), slow)
    made = lines_of(first.on_batch([(0.0, told[:1])])[0])
    first.snapshot()
    assert first.waiting_here()["points"] == 1
    while first.waiting_here()["points"]:
        made += lines_of(first.on_notify()[0])
    second = step_of(LocalModel(ByPlace()), ByPlace(), first.snapshot())
    made += lines_of(second.on_batch([(0.0, told[1:])])[0], second.on_eof()[0])

    assert sorted(made) == sorted(expected)


def test_another_state_is_refused():
    """Of other settings: it says which, and what to do."""
    state = step_of(LocalModel(ByPlace()), ByPlace()).snapshot()

    with pytest.raises(OtherState, match=r"other settings: window is 5 there, 8 here\. .*delete it"):
        ScorePoints(ScoringRun(ByPlace(), LocalModel(ByPlace()), replace(RULES, window=8)), state)


def test_memory_is_given_back():
    """When every outcome is known, nothing is kept."""
    step = step_of(LocalModel(ByPlace()), ByPlace())
    rules = RULES
    told = run_of(workspace(), rules, until=at(60 * 24 * 900), points_since=0).points
    step.on_batch([(0.0, told)])

    assert step.waiting_here() == {"points": 0, "predictions": 0}
    assert step.snapshot()["predicted"] == {}


# How well it did


def test_a_drop_below_the_validated_interval_is_told_once():
    """However long it stays so low; that the figure was good enough in between, a few answers long, is no second drop."""
    drops: list[tuple[Any, ...]] = []
    model = ByPlace(least={"hit@1": 0.4, "hit@5": 0.0})
    step = step_of(LocalModel(model), model, on_drop=lambda *told: drops.append(told))
    point = next(each for each in run_of([post("ana", minute=0)], RULES, points_since=0).points if isinstance(each, PointEmitted))
    for number in range(2 * RollingMetrics.KEPT):
        model.least = {"hit@1": 0.0 if 320 <= number < 360 else 0.4, "hit@5": 0.0}
        told = point._replace(t=point.t + number)
        ended = PointSettled("C1", told.conversations[0], told.t, "answered", told.t + 1, told.t + 1, ("eve",))
        step.on_batch([(0.0, [told, ended])])

    assert drops == [("by-place", "hit@1", 0.0, 0.4)]
    assert step.lately["by-place"].counts["answered"] == 2 * RollingMetrics.KEPT


def test_figures_of_alerts():
    """Two of three people who would be told answered, where one and a half were promised."""
    lately = RollingMetrics(threshold=0.5)
    for answer in (["ana"], ["ana"], []):
        people = [{"user": "ana", "p": 0.5}, {"user": "bo", "p": 0.25}]
        how = "answered" if answer else "silent"
        lately.add({"conversation": "C1", "how": how, "rank": 1 if answer else None, "people": people, "answer": answer})
    lately.add({"how": "superseded", "rank": None, "people": [], "answer": []})

    assert lately.figures() == {"hit@1": 1.0, "hit@5": 1.0, "precision": 2 / 3, "drift": pytest.approx(-1 / 6)}


# A real model


def test_live_outcomes_are_the_figures_of_validation(tmp_path: Path):
    """hit@1 and hit@5 of a run over history are what `validate` computes on the same points, exactly."""
    model = watched_model(save(tmp_path / "model"), SETTINGS)
    run = score(workspace(900, 5), model)
    examples = examples_of([json.loads(line) for line in ranked()[1]])
    judged = outcomes_of(ranked()[0].predict(examples.points), examples)
    figures = hits(judged, "answered", Bootstrap(examples.points.conversation))

    known = [each for each in run.outcomes if each["how"] in ("answered", "silent")]
    answered = [each for each in known if each["how"] == "answered"]
    assert len(known) == len(examples)
    for k in (1, 3, 5):
        assert sum(0 < (each["rank"] or 0) <= k for each in answered) / len(answered) == pytest.approx(figures[f"hit@{k}"].value, abs=1e-12)
    ranks = dict(zip(zip(examples.points.conversation, examples.points.prompt_ts.tolist(), strict=True), judged.rank.tolist(), strict=True))
    assert {(each["conversation"], place_at(each)): each["rank"] or 0 for each in answered}.items() <= ranks.items()


def test_batches_don_t_change_a_prediction(tmp_path: Path):
    """The bytes are the same alone and among a hundred, so that a replay overwrites with the same."""
    model = watched_model(save(tmp_path / "model"), SETTINGS)
    one, many = (score(workspace(), model, LocalModel(model, size)) for size in (1, 100))

    assert sorted(one.lines) == sorted(many.lines)


def test_every_example_is_scored_with_its_own_words():
    """Law 5 on a simulated workspace's stream, through the whole flow: all that an example says, its prediction says."""
    run = score(workspace(), ByPlace(), with_candidates=True)
    assert_served_as_trained(run_of(workspace(), RULES).examples, run.predictions)
