"""`beepgpt outcomes`: figures by model of what became of predictions, and a page that needs nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from beepgpt.commands.outcomes import outcomes_in, outcomes_of, print_models, print_outcomes
from beepgpt.config.settings import read_settings
from beepgpt.conversations.events import ts_text
from beepgpt.conversations.outcomes import RIGHT
from beepgpt.conversations.rules import DAY
from beepgpt.errors import BadCommand
from beepgpt.training.folder import METRICS
from beepgpt.training.live import hits_in, put_live
from beepgpt.training.outcomes import figures_by_model
from beepgpt.web.report import outcomes_page
from tests.support import at, run_program
from tests.support.scoring import save
from tests.training.test_live import pair

SETTINGS = read_settings(environ={})


def half(model: str) -> float:
    """The threshold of all models."""
    return 0.5


def outcome(number: int, *, rank: int | None = 1, how: str = "answered", model: str = "a1", **more: Any) -> dict[str, Any]:
    """Ana is likely and bo is not; who is named at `rank` answered."""
    people = [{"user": "ana", "p": 0.75}, {"user": "bo", "p": 0.125}]
    answer = [] if how != "answered" else [people[rank - 1]["user"] if rank else "eve"]
    return {
        "id": f"{number:032x}", "conversation": f"C1:{ts_text(at(number))}:thread", "prompt_ts": ts_text(at(number)), "how": how,
        "speakers": 1 + number % 2, "answer": answer, "rank": rank if how == "answered" else None, "model": model, "people": people,
        "part": "judge",
    } | more  # fmt: skip


def test_figures_are_by_model():
    """Of 4 answered ones ana gave two, bo one, and somebody else one; what has no answer counts nowhere but among the outcomes."""
    outcomes = [outcome(0), outcome(1), outcome(2, rank=2), outcome(3, rank=None), outcome(4, how="silent"), outcome(5, how="superseded")]
    (figures, other) = figures_by_model([*outcomes, outcomes[0], outcome(9, model="b2")], half)

    assert (figures["model"], other["model"]) == ("a1", "b2")
    assert figures["outcomes"] == {"answered": 4, "silent": 1, "superseded": 1}
    assert {name: (each["value"], each["count"]) for name, each in figures["answered"].items()} == {"hit@1": (0.5, 4), "hit@5": (0.75, 4)}
    assert figures["first_replies"]["hit@1"]["count"] == 2
    assert (figures["alerts"]["given"], figures["alerts"]["right"], figures["alerts"]["promised"]) == (5, 2, 0.75)
    few = {"low": None, "high": None, "count": 5, "conversations": 5}
    assert figures["calibration"] == [
        {"from": 0.1, "count": 5, "said": 0.125, "came": {"value": 0.2, **few}},
        {"from": 0.7, "count": 5, "said": 0.75, "came": {"value": 0.4, **few}},
    ]
    assert [week["answered"] for week in figures["weeks"]] == [4]


def test_a_point_of_two_conversations_has_two_outcomes():
    """A root's session and thread: one id, and each ends in its own way; what comes twice is the same outcome of the same conversation."""
    thread = outcome(0)
    session = outcome(0, how="elsewhere", conversation=thread["conversation"].replace("thread", "session"))
    for outcomes in ([thread, session], [session, thread], [thread, session, thread, session]):
        (figures,) = figures_by_model(outcomes, half)

        assert figures["outcomes"] == {"answered": 1, "elsewhere": 1}
        assert figures["answered"]["hit@1"]["count"] == 1


def validated_pair(live: Path, seed: int, threshold: float, hit: float, **more: Any) -> Path:
    """A live pair whose validation found so many hits."""
    version = pair(live, seed, threshold)
    figures = json.loads((version / METRICS).read_bytes())
    row = {"figures": {"hit@1": {"value": hit, "low": hit - 0.1, "high": hit + 0.1, "count": 99}, "hit@5": {"low": None}}}
    (version / METRICS).write_text(json.dumps({**figures, "rows": {"answered": [row]}, **more}))
    return version


def test_each_model_has_its_own_threshold_and_its_own_validation(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A model was retrained: outcomes of both are on the topic. The new one's figures of validation are its candidate's, as is said."""
    live = tmp_path / "live"
    first = validated_pair(live, 1, 0.6, 0.5)
    of = {"model": "cafe00000000", "fitted_until": "1700000000.000000"}
    gain = {"value": 0.0123}
    compared = {"against": first.name, "points": 1234, "log_loss_gain": gain}
    second = validated_pair(live, 2, 0.1, 0.7, figures_of={**of, "compared": compared})
    source = tmp_path / "outcomes.jsonl"
    names = {first.name: 0, second.name: 100, "beef00000000": 200}
    lines = [outcome(number + begin, model=name) for name, begin in names.items() for number in range(12)]
    source.write_text("".join(json.dumps(each) + "\n" for each in lines))

    found = outcomes_of(str(source), live, SETTINGS)
    by_model = {each["model"]: each for each in found["models"]}
    alerts = {name: (each["alerts"]["threshold"], each["alerts"]["given"]) for name, each in by_model.items()}
    assert alerts == {first.name: (0.6, 12), second.name: (0.1, 24), "beef00000000": (0.1, 24)}
    hits = {name: each["validation"].get("hits", {}).get("hit@1", {}).get("value") for name, each in by_model.items()}
    assert hits == {first.name: 0.5, second.name: 0.7, "beef00000000": None}
    candidate = "its candidate cafe00000000, fitted until 2023-11-14 22:13 UTC, whose log loss was 0.0123 lower than that of"
    assert [by_model[each.name]["validation"]["of"] for each in (first, second)] == ["", f"{candidate} {first.name} on 1,234 points"]
    assert f"{live} holds no model beef00000000" in " ".join(capsys.readouterr().err.split())

    print_models(found["models"])
    said, page = " ".join(capsys.readouterr().out.split()), " ".join(outcomes_page(found).split())
    assert said.count(f"validation: of {candidate}") == page.count(f"that of {candidate}") == 1
    assert (page.count("its validation, answered"), page.count("its candidate&#39;s validation, answered")) == (1, 1)
    assert (said.count("validation: 50.0 % (40.0–60.0)"), said.count("validation: 70.0 % (60.0–80.0)")) == (1, 1)
    given = read_settings(overrides={"scoring": {"threshold": 0.3}}, environ={})
    assert {each["alerts"]["threshold"] for each in outcomes_of(str(source), live, given)["models"]} == {0.3}


def version_judged_from(judge_from: int, live: Path) -> str:
    """The name of a live version that was fitted on, and chosen by, what came before a time."""
    parts = {"choose_from": ts_text(judge_from - 1), "judge_from": ts_text(judge_from)}

    def write(folder: Path) -> None:
        save(folder, parts=parts)

    return put_live(live, write).name


def test_outcomes_that_name_no_part_are_divided_by_their_own_model_s_times(tmp_path: Path):
    """One of them was fitted on what the other is judged by."""
    live, source = tmp_path / "live", tmp_path / "outcomes.jsonl"
    versions = [version_judged_from(judge_from, live) for judge_from in (at(0), at(60))]
    lines = [outcome(number, model=name, part=None) for name in versions for number in range(30)]
    source.write_text("".join(json.dumps(each) + "\n" for each in lines))

    judged = {each["model"]: each["judged"] for each in outcomes_of(str(source), live, SETTINGS)["models"]}
    assert judged == dict(zip(versions, (30, 0), strict=True))


def test_reacting_is_named_and_has_no_figure_where_no_reaction_has_its_time(capsys: pytest.CaptureFixture[str]):
    """In an export none has: that all named people were wrong would be no finding. Planted: one reaction, and there are figures."""
    silent = [outcome(number, how="silent", target="reactors") for number in range(12)]
    (nothing,) = figures_by_model(silent, half)
    (found,) = figures_by_model([*silent, outcome(20, target="reactors")], half)
    assert (nothing["judged"], nothing["alerts"]["given"], nothing["calibration"]) == (0, 0, [])
    assert (found["judged"], found["alerts"]["given"], found["alerts"]["right"]) == (13, 13, 1)

    print_outcomes(nothing)
    assert "nobody knows who reacted" in " ".join(capsys.readouterr().out.split())
    print_outcomes(found)
    said = " ".join(capsys.readouterr().out.split())
    assert "nobody knows who reacted" not in said and "answered next" not in said and "of 13 named from 0.500 on" in said
    pages = [outcomes_page({"source": "x", "right": RIGHT, "models": [each]}) for each in (nothing, found)]
    assert ["nobody knows who reacted" in page for page in pages] == [True, False] and "reacted:" in pages[1]


def test_every_share_of_the_table_has_its_interval(capsys: pytest.CaptureFixture[str]):
    """What came true of what was predicted, too; and of how many outcomes all of it is."""
    ended = [outcome(number, rank=1 + number % 2) for number in range(20)] + [outcome(30, how="superseded")]
    print_outcomes(figures_by_model(ended, half)[0])
    said = " ".join(capsys.readouterr().out.split())

    assert "judge 21 all figures are of these: of the 20 whose answer is known" in said
    assert "predicted 75 % 50.0 50.0 % (28.4–71.6) came true, of 20" in said


def test_the_page_needs_nothing_else_and_escapes_all():
    """No address, no script; what a source or a model is called can't break it."""
    found = figures_by_model([outcome(number, model="<script>alert(1)</script>") for number in range(5)], half)
    hits = {"hit@1": {"value": 0.5, "low": 0.4, "high": 0.6, "count": 9}}
    validated = [each | {"validation": {"hits": hits, "of": "<i>its candidate</i>"}} for each in found]
    page = outcomes_page({"source": "<b>x</b>", "right": RIGHT, "models": validated})

    assert "<script" not in page and "<b>" not in page and "<i>" not in page
    assert 'src="' not in page and "@import" not in page and "url(http" not in page
    assert page.count("<svg") == 1  # of a few minutes, no week is drawn


@pytest.mark.parametrize(("days", "is_drawn"), [(13, False), (15, True)])
def test_weeks_are_drawn_of_two_whole_ones(days: int, is_drawn: bool):
    """One week and a piece of the next would look like a rise or a fall."""
    outcomes = [outcome(number, prompt_ts=ts_text(at(0) + number * DAY // 4)) for number in range(4 * days)]
    page = outcomes_page({"source": "x", "right": RIGHT, "models": figures_by_model(outcomes, half)})

    assert ("<strong>Hits by week.</strong>" in page, page.count("<svg")) == (is_drawn, 2 if is_drawn else 1)


def test_a_validation_beside_no_figures_found_nothing_the_same():
    """Where nothing judges the model yet, there is nothing to compare."""
    (figures,) = figures_by_model([outcome(0, part="choose")], half)
    hits = {"hit@1": {"value": 0.5, "low": 0.4, "high": 0.6, "count": 9}}
    page = outcomes_page({"source": "x", "right": RIGHT, "models": [figures | {"validation": {"hits": hits, "of": ""}}]})

    assert "There are no figures" in page and "found the same" not in page


def test_the_page_says_what_became_of_those_that_judge():
    """Whose sum is that of the outcomes that judge, and of how many of these all figures are."""
    ended = [outcome(0), outcome(1, how="silent"), outcome(2, how="superseded"), outcome(3, part="choose"), outcome(4, part="choose")]
    (figures,) = figures_by_model(ended, half)
    page = " ".join(outcomes_page({"source": "x", "right": RIGHT, "models": [figures]}).split())

    assert figures["judged_outcomes"] == {"answered": 1, "silent": 1, "superseded": 1}
    assert "than predictions: 5. 2 of them are from the days by which thresholds and models are chosen. 3 are" in page
    assert "All figures are of the 2 of these" in page and "What became of the 3 that judge: somebody else answered 1;" in page


def test_what_is_no_outcome_is_named_with_its_place(tmp_path: Path):
    """A line of predictions among them, or no JSON."""
    path = tmp_path / "outcomes.jsonl"
    path.write_text(json.dumps(outcome(0)) + "\n\n" + json.dumps({"id": "1"}) + "\n", "utf-8")
    with pytest.raises(BadCommand, match=r"outcomes\.jsonl:3: is no outcome \(conversation is missing\)"):
        list(outcomes_in(str(path), SETTINGS))
    for line, said in (
        ("7", "it is no object"),
        (json.dumps(outcome(0, people=["ana"])), "people is wrong"),
        (json.dumps(outcome(0, prompt_ts="noon")), "prompt_ts is wrong"),
        (json.dumps(outcome(0, speakers="2")), "speakers is wrong"),
    ):
        path.write_text(line + "\n", "utf-8")
        with pytest.raises(BadCommand, match=rf"outcomes\.jsonl:1: is no outcome \({said}\): name what"):
            list(outcomes_in(str(path), SETTINGS))
    path.write_text("oops\n", "utf-8")
    with pytest.raises(BadCommand, match=r"outcomes\.jsonl:1: is no JSON"):
        list(outcomes_in(str(path), SETTINGS))


def test_what_validation_promised_is_read_where_it_is():
    """Of the model itself, which stands first; nothing where there are no figures."""
    row = {"name": "local", "figures": {"hit@1": {"value": 0.7, "low": 0.6, "high": 0.8, "count": 9}, "hit@5": {"low": None}}}

    assert hits_in({"rows": {"answered": [row]}}) == {"hit@1": row["figures"]["hit@1"]}  # type: ignore[index]
    assert hits_in({}) == hits_in({"rows": {}}) == {}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--to", "outcomes.jsonl"), "outcomes.jsonl: would be written over SOURCE"),
        (("--report", "outcomes.jsonl"), "outcomes.jsonl: would be written over SOURCE"),
        (("--model", "nowhere"), "--model nowhere: is no trained model (model.json is missing)"),
    ],
)
def test_a_wrong_command_changes_nothing(more: tuple[str, ...], said: str, tmp_path: Path):
    """What is read is not written over, and a model that isn't there is not passed over."""
    path = tmp_path / "outcomes.jsonl"
    path.write_text(json.dumps(outcome(0)) + "\n", "utf-8")
    before = path.read_bytes()
    done = run_program("outcomes", "outcomes.jsonl", *more, cwd=tmp_path)

    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith(f"beepgpt: {said}"), done.stderr
    assert path.read_bytes() == before
