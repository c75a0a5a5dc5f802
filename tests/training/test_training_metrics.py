"""What predictions are worth, by hand on a few points, and as laws on many."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beepgpt.training.intervals import Bootstrap
from beepgpt.training.metrics import FEW, Outcomes, alerts_at, calibration, hits, losses, outcomes_of, rank_of, silences, threshold_for
from beepgpt.training.points import Examples, Predictions, points_of

NOWHERE: dict[str, object] = {"conversation": "C1:1.0:thread", "channel": "C1", "speakers": 1, "prompt": "red?\n\n###\n\n"}


def examples_with(*answers: list[str], speakers: list[int] | None = None, conversations: list[str] | None = None) -> Examples:
    """Points a day apart, of which only what became of them matters."""
    told = [
        {
            **NOWHERE,
            "prompt_ts": f"{1_700_000_000 + 86_400 * place}.000000",
            "window": [{"ts": "1700000000.000000", "user": "ana"}],
            "candidates": {"user": []},
            "speakers": (speakers or [1] * len(answers))[place],
            "conversation": (conversations or [f"C1:{number}" for number in range(len(answers))])[place],
        }
        for place in range(len(answers))
    ]
    return Examples(points_of(told), [f"{place:032x}" for place in range(len(answers))], list(answers), np.zeros(len(answers), np.int64))


def said(*points: tuple[dict[str, float], float]) -> Predictions:
    """Chances of people and of nobody; the rest is somebody else's."""
    chances = [p for people, _ in points for p in people.values()]
    nobody = np.array([nobody for _, nobody in points])
    rest = np.array([1 - nobody - sum(people.values()) for people, nobody in points])
    starts = np.cumsum([0] + [len(people) for people, _ in points])
    return Predictions(starts, [person for people, _ in points for person in people], np.array(chances), nobody, rest)


def judged(*each: tuple[dict[str, float], float, list[str]], speakers: list[int] | None = None) -> Outcomes:
    """Predictions, and what happened, point by point."""
    predictions = said(*((people, nobody) for people, nobody, _ in each))
    return outcomes_of(predictions, examples_with(*(answer for *_, answer in each), speakers=speakers))


def boot(outcomes: Outcomes) -> Bootstrap:
    return Bootstrap(outcomes.conversation, draws=200)


def test_silences_are_held_against_what_was_expected():
    """Of first messages alone, and of all: 0.6 was expected on average of those two, and one of them was answered."""
    points = [({"ana": 0.2}, 0.8, []), ({"ana": 0.6}, 0.4, ["ana"]), ({"ana": 0.9}, 0.1, ["bo"])]
    outcomes = judged(*points, speakers=[1, 1, 2])
    nobody = np.array([nobody for _, nobody, _ in points])

    found = {kind: silences(nobody, outcomes, kind, boot(outcomes)) for kind in ("first_messages", "all")}

    assert {kind: (round(row["said"], 9), row["came"].value, row["came"].count) for kind, row in found.items()} == {
        "first_messages": (0.6, 0.5, 2),
        "all": (pytest.approx(1.3 / 3), pytest.approx(1 / 3), 3),
    }


def test_the_likeliest_right_one_has_the_place():
    """Bo is second; of two who answered, the likelier counts; a stranger has no place."""
    outcomes = judged(
        ({"ana": 0.5, "bo": 0.3}, 0.1, ["bo"]),
        ({"ana": 0.5, "bo": 0.3}, 0.1, ["bo", "ana"]),
        ({"ana": 0.5, "bo": 0.3}, 0.1, ["zoe"]),
    )

    assert outcomes.rank.tolist() == [2, 1, 0]


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5]), st.booleans()), max_size=12))
def test_a_place_is_that_of_the_list_in_order(rows: list[tuple[float, bool]]):
    """Sorted by chance, equals as they stand: the first right one's place in it."""
    in_order = sorted(rows, key=lambda row: -row[0])
    expected = next((place for place, (_, right) in enumerate(in_order, start=1) if right), 0)

    assert rank_of(np.array([p for p, _ in rows]), np.array([right for _, right in rows], np.bool_)) == expected


def test_nobody_is_ranked_among_all_points_only():
    """A silence that was thought likeliest is a hit among all points, and no first reply."""
    outcomes = judged(({"ana": 0.2}, 0.7, []), ({"ana": 0.2}, 0.7, ["ana"]))

    assert outcomes.rank_with_nobody.tolist() == [1, 2]
    assert hits(outcomes, "all", boot(outcomes))["hit@1"].value == 0.5
    assert hits(outcomes, "answered", boot(outcomes))["hit@1"].value == 1.0
    assert hits(outcomes, "answered", boot(outcomes))["hit@1"].count == 1


def test_a_first_reply_is_an_answer_to_one_person():
    """Where two have spoken, an answer is no first reply; and a silence is none."""
    outcomes = judged(({"bo": 0.9}, 0.1, ["bo"]), ({"bo": 0.9}, 0.1, []), ({"bo": 0.9}, 0.1, ["ana"]), speakers=[2, 1, 1])

    assert hits(outcomes, "first_replies", boot(outcomes))["hit@1"].value == 0.0
    assert hits(outcomes, "first_replies", boot(outcomes))["hit@1"].count == 1


def test_log_loss_is_the_surprise_at_what_happened():
    """A person, nobody, and somebody who was no candidate, each by the chance it was given."""
    outcomes = judged(({"bo": 0.5}, 0.25, ["bo"]), ({"bo": 0.5}, 0.25, []), ({"bo": 0.5}, 0.25, ["zoe"]))

    assert outcomes.scores.p_true.tolist() == [0.5, 0.25, 0.25]
    assert losses(outcomes, "all", boot(outcomes))["log_loss"].value == pytest.approx(-np.log([0.5, 0.25, 0.25]).mean())


def test_of_answered_points_chances_are_given_that_somebody_answers():
    """Half to Bo and half to nobody is all to Bo, once it is known that somebody answered."""
    outcomes = judged(({"bo": 0.5}, 0.5, ["bo"]), ({"bo": 0.5}, 0.5, []))

    assert losses(outcomes, "answered", boot(outcomes))["log_loss"].value == pytest.approx(0.0)
    assert losses(outcomes, "answered", boot(outcomes))["calibration_error"].value == pytest.approx(0.0)
    assert losses(outcomes, "all", boot(outcomes))["log_loss"].value == pytest.approx(np.log(2))


def test_chances_that_say_what_they_mean_have_no_calibration_error():
    """Seven of ten at 0.7 are right; ten of ten would be 0.3 off."""
    honest = judged(*[({"bo": 0.7}, 0.2, ["bo"] if number < 7 else []) for number in range(10)])
    modest = judged(*[({"bo": 0.7}, 0.2, ["bo"]) for _ in range(10)])

    assert losses(honest, "all", boot(honest))["calibration_error"].value == pytest.approx(0.0)
    assert losses(modest, "all", boot(modest))["calibration_error"].value == pytest.approx(0.3)
    assert next(row["came"].value for row in calibration(honest, boot(honest)) if row["from"] == 0.7) == pytest.approx(0.7)


def test_alerts_count_silences_too():
    """Of three alerts one was right; of two answers one was covered; over two days, two people were alerted."""
    outcomes = judged(({"ana": 0.5, "bo": 0.5}, 0.0, ["bo"]), ({"bo": 0.6}, 0.4, []), ({"bo": 0.1}, 0.2, ["cy"]))
    told = alerts_at(outcomes, 0.5, "all", boot(outcomes))

    assert (told["alerts"], told["precision"].value, told["recall"].value) == (3, pytest.approx(1 / 3), 0.5)
    assert (told["people"], told["per_person_per_day"], told["most_for_one_per_day"]) == (2, 0.75, 1.0)


@given(st.lists(st.tuples(st.integers(1, 20), st.booleans()), min_size=FEW, max_size=80), st.sampled_from([0.3, 0.5, 0.8]))
@example([(6, True)] * 30 + [(6, False)] * 10, 0.8)  # of equals all are alerted
def test_a_chosen_threshold_keeps_its_promise(rows: list[tuple[int, bool]], precision: float):
    """At it, as many alerts are right as was asked; at any lower one that somebody has, or with few alerts, not."""
    outcomes = judged(*[({"bo": tenths / 20}, 0.0, ["bo"] if right else ["zoe"]) for tenths, right in rows])

    def worth(threshold: float) -> tuple[int, float]:
        given_ = [right for tenths, right in rows if tenths / 20 >= threshold]
        return len(given_), sum(given_) / len(given_)

    chosen = threshold_for(outcomes, precision)
    good = [tenths / 20 for tenths, _ in rows if worth(tenths / 20)[0] >= FEW and worth(tenths / 20)[1] >= precision]

    assert chosen == (min(good) if good else None)


def test_points_of_one_conversation_share_their_fate():
    """A hundred points of two conversations are worth two: the interval is as wide as for one point each."""
    few = Bootstrap([str(number) for number in range(10)])
    many = Bootstrap([str(number) for number in range(10) for _ in range(50)])
    right = np.array([1.0, 0.0] * 5)
    alone, together = few.share(right, np.ones(10)), many.share(np.repeat(right, 50), np.ones(500))

    assert (alone.value, alone.low, alone.high) == pytest.approx((together.value, together.low, together.high))


def test_nothing_to_divide_by_is_no_figure():
    """Without first replies there is no share of hits, and no error."""
    outcomes = judged(({"bo": 0.5}, 0.5, []))
    told = hits(outcomes, "first_replies", boot(outcomes))["hit@1"]

    assert told.as_json() == {"value": None, "low": None, "high": None, "count": 0, "conversations": 0}


def test_an_order_has_places_and_no_chances():
    """A baseline that only orders people is judged by its places."""
    order = Predictions(np.array([0, 2]), ["ana", "bo"], np.array([-0.0, -1.0]), None, None)
    outcomes = outcomes_of(order, examples_with(["bo"]))

    assert outcomes.rank.tolist() == [2]
    assert np.isnan(outcomes.scores.p_true).all()
