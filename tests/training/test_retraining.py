"""Retraining: a candidate is compared with the live model, point by point, and takes its place with its threshold if it isn't worse."""

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from beepgpt.commands.retrain import retrained
from beepgpt.config.settings import read_settings
from beepgpt.conversations.events import micros, ts_text
from beepgpt.conversations.rules import DAY
from beepgpt.errors import BadCommand
from beepgpt.training.folder import ALERTS, COMPARED, LIVE, MANIFEST, VALID, VERSIONS
from beepgpt.training.live import card_in, figures_in, live_in, name_of, put_live, threshold_in
from beepgpt.training.models import Trained, load_model, read_card, save_model, train_here
from beepgpt.training.points import examples_of, read_examples
from beepgpt.training.ranking import Ranker, fit_ranker
from beepgpt.training.retraining import compare_with_live, threshold_like
from beepgpt.training.splits import SplitOptions
from beepgpt.training.validation import validate_models
from tests.support.prepare import Set, made
from tests.support.scoring import RULES, SPEC, ranked, save
from tests.support.tables import write_table

SETTINGS = read_settings(environ={})


@cache
def wrong() -> Ranker:
    """A model that learned other people's answers."""
    bodies = [json.loads(line) for line in ranked()[1]]
    answers = [each["answer"] for each in bodies]
    spoiled = [{**each, "answer": answer} for each, answer in zip(bodies, answers[7:] + answers[:7], strict=True)]
    ranker, _ = fit_ranker(examples_of(spoiled), rounds=5, threads=1)
    return ranker


def the_set(folder: Path) -> Set:
    """The training set of the examples; its last part compares."""
    lines = ranked()[1]
    newest = max(json.loads(line)["prompt_ts"] for line in lines)
    cut = round(float(newest) * 1e6) - 6 * DAY
    return made(folder, [json.loads(line) for line in lines], sides=SplitOptions(cut=cut), formats=("candidates",))


def as_candidate(folder: Path, ranker: Ranker, training_set: Set) -> Trained:
    """A model of this training set: its card has the parts of the set's time."""
    save_model(folder, ranker, {"spec": SPEC}, (training_set.folder / MANIFEST).read_bytes())
    return Trained(ranker, read_card(folder), folder)


def chooses(training_set: Set, since: int) -> int:
    """How many points of the set choose, from a time on: made before judging begins, and known by then."""
    table = read_examples(training_set.folder / VALID, as_happened=True)
    until = micros(training_set.manifest["parts"]["judge_from"])
    return int(((table.points.prompt_ts >= since) & (table.points.prompt_ts < until) & (table.settled_ts < until)).sum())


def test_a_worse_candidate_is_not_taken_and_a_better_one_is(tmp_path: Path):
    """The same two models, with their places changed: the difference changes its sign, and is sure both times."""
    training_set = the_set(tmp_path)
    good, bad = (as_candidate(tmp_path / name, ranker, training_set) for name, ranker in (("good", ranked()[0]), ("bad", wrong())))
    live_good, live_bad = tmp_path / "live good", tmp_path / "live bad"
    put_live(live_good, lambda to: as_candidate(to, good.model, training_set) and None)  # type: ignore[arg-type]
    put_live(live_bad, lambda to: as_candidate(to, bad.model, training_set) and None)  # type: ignore[arg-type]

    worse = compare_with_live(live_good, bad, training_set.folder)
    better = compare_with_live(live_bad, good, training_set.folder)

    assert worse is not None and better is not None
    assert re.match(r"it is worse: its log loss is 0\.\d{4} higher \(0\.\d{4} to ", worse.why_not(force=True)) and better.why_not() == ""
    assert worse.gain.high < 0 < better.gain.low and worse.gain.value == -better.gain.value
    assert worse.points == chooses(training_set, 0) < training_set.manifest["account"]["valid"]["examples"]
    assert better.is_enough and better.points == 128
    assert compare_with_live(tmp_path / "nothing", good, training_set.folder) is None


def test_only_points_compare_from_which_neither_has_learned(tmp_path: Path):
    """What came before the live model was fitted says nothing of it, unless its candidate stands by."""
    training_set = the_set(tmp_path)
    newest = max(json.loads(line)["prompt_ts"] for line in ranked()[1])
    until = (round(float(newest) * 1e6) - 5 * DAY) // 1_000_000 * 1_000_000
    parts = {"choose_from": ts_text(until), "judge_from": ts_text(until)}
    candidate = as_candidate(tmp_path / "candidate", ranked()[0], training_set)
    save_model(tmp_path / "live", ranked()[0], {"spec": SPEC, "parts": parts}, b"{}")

    late = compare_with_live(tmp_path / "live", candidate, training_set.folder)
    as_candidate(tmp_path / "live" / COMPARED, ranked()[0], training_set)
    all_that_chooses = compare_with_live(tmp_path / "live", candidate, training_set.folder)

    assert late is not None and all_that_chooses is not None
    assert (late.since, late.points) == (until, chooses(training_set, until)) and 0 < late.points < all_that_chooses.points
    assert all_that_chooses.against == name_of(tmp_path / "live" / COMPARED)

    save_model(tmp_path / "live" / COMPARED, ranked()[0], {"spec": SPEC}, b"{}")
    with pytest.raises(BadCommand, match="doesn't say up to when it learned"):
        compare_with_live(tmp_path / "live", candidate, training_set.folder)


def test_a_model_that_was_fitted_on_what_judges_is_not_judged_by_it(tmp_path: Path):
    """A retrained model has the manifest of its candidate, but learned from all of the set."""
    training_set = the_set(tmp_path)
    candidate = as_candidate(tmp_path / "candidate", ranked()[0], training_set)
    assert validate_models(training_set.folder, [candidate], precisions=[0.2]).figures["points"] > 0

    train_here(training_set.folder, "local", tmp_path / "whole", seed=1, threads=1, status=lambda step: None, whole=True)
    with pytest.raises(BadCommand, match="was fitted on points that would judge it"):
        validate_models(training_set.folder, [load_model(tmp_path / "whole")], precisions=[0.2])


def test_a_rehearsed_threshold_is_carried_over_by_volume(tmp_path: Path):
    """As many alerts on the points compared: another model's probabilities mean something else."""
    training_set = the_set(tmp_path)
    live = as_candidate(tmp_path / "live", ranked()[0], training_set).folder
    (live / ALERTS).write_text(json.dumps({"model": name_of(live), "threshold": 0.3}))
    candidate = as_candidate(tmp_path / "candidate", wrong(), training_set)
    compared = compare_with_live(live, candidate, training_set.folder)

    found = threshold_like(live, compared)

    assert compared is not None and found is not None
    count = (compared.live.alerts.p >= 0.3).sum()
    assert count > 10 and (compared.candidate.alerts.p >= found["threshold"]).sum() == pytest.approx(count, abs=3)
    assert threshold_like(save(tmp_path / "other"), compared) is None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_live_folder_from_its_first_model_to_one_that_is_not_taken(tmp_path: Path):
    """The first is taken, at the precision that a threshold reaches, with its candidate beside it and that one's figures; a candidate that
    learned nonsense changes nothing. A table is read as lines are.
    """
    lines = [json.loads(line) for line in ranked()[1]]
    source, spoiled, live = tmp_path / "examples.parquet", tmp_path / "spoiled.jsonl", tmp_path / "live"
    source.mkdir()
    write_table(source / "part-00-00000.parquet", "example", ranked()[1])
    newest = max(float(each["prompt_ts"]) for each in lines)
    old = [each for each in lines if float(each["settled_ts"]) < newest - 6 * 86_400]
    answers = [each["answer"] for each in old]
    others = {each["id"]: answer for each, answer in zip(old, answers[7:] + answers[:7], strict=True)}
    spoiled.write_text("".join(json.dumps({**each, "answer": others.get(each["id"], each["answer"])}) + "\n" for each in lines))

    def again(path: Path, **more: Any) -> dict[str, Any]:
        return retrained(str(path), live, SETTINGS, back=6 * DAY, threads=1, **more)

    first = again(source)
    version = live_in(live)
    assert first["taken"] and first["model"] == version.name == name_of(version) and first["compared"] is None
    figures, card = figures_in(version), card_in(version)
    assert figures["threshold"]["wanted"] < 0.5
    assert figures["figures_of"]["model"] == name_of(version / COMPARED) == first["candidate"]
    kept = threshold_in(version)
    assert kept is not None and kept.value == figures["threshold"]["threshold"] and kept.found != "rehearsed"
    assert card["trained_on"]["examples"] > card_in(version / COMPARED)["trained_on"]["examples"]
    assert card["parts"]["choose_from"] == card["parts"]["judge_from"] > figures["figures_of"]["fitted_until"]
    assert load_model(version).card["spec"] == SPEC and card["settings"]["horizon"] == RULES.horizon

    before = {each.name: each.read_bytes() for each in version.iterdir() if each.is_file()}
    second = again(spoiled)
    assert not second["taken"] and second["says"].startswith("The candidate is not taken: it is worse: ")
    assert live_in(live) == version and {each.name: each.read_bytes() for each in version.iterdir() if each.is_file()} == before
    assert sorted(each.name for each in live.iterdir()) == [LIVE, "retrain.lock", VERSIONS]

    few = retrained(str(source), live, SETTINGS, back=DAY, threads=1)
    assert not few["taken"] and "too few to tell" in few["says"] and "--" not in few["says"]
    assert few["more"] == {"Compares on more": ("--since", "2 days"), "Takes it all the same": ("--force",)}

    other = tmp_path / "other.jsonl"
    hours = replace(RULES, window=3)
    other.write_text("".join(json.dumps({**each, "spec": hours.spec}) + "\n" for each in lines))
    with pytest.raises(BadCommand, match="was trained on examples that were made with other settings"):
        again(other)
