"""Of splits, training sets and models."""

from tests.mutations.mutation import mutation

SPLITS_PY = "beepgpt/training/splits.py"
PREPARE_PY = "beepgpt/training/prepare.py"
RANKING_PY = "beepgpt/training/ranking.py"
METRICS_PY = "beepgpt/training/metrics.py"
RANKING = "tests/training/test_ranking.py"
METRICS = "tests/training/test_training_metrics.py"
VALIDATED = "tests/commands/test_train_and_validate.py"
SPLITS = "tests/training/test_splits.py"
FIGURES = "tests/laws/test_figures.py"

ROWS = (
    mutation(
        "a split at random",
        "law 7",
        SPLITS_PY,
        "tests/training/test_splits.py::TestLaw7::test_nothing_leaks",
        (
            "    train, valid = columns.settled_ts < cut, columns.prompt_ts >= cut\n",
            "    valid = columns.ids[:, 0] % np.uint64(5) == 0\n    train = ~valid\n",
        ),
    ),
    mutation(
        "a message stands in windows on both sides",
        "law 7",
        SPLITS_PY,
        SPLITS,
        ("        leave(clashes, reason)\n", '        leave(clashes if reason != "message_on_both_sides" else valid & ~valid, reason)\n'),
    ),
    mutation(
        "labels are fitted on validation, too",
        "training sets",
        PREPARE_PY,
        "tests/training/test_prepare.py::TestLabels",
        ("answers_of(columns, sides.train, wanted.answers)", "answers_of(columns, sides.train | sides.valid, wanted.answers)"),
    ),
    mutation(
        "retractions are not read",
        "training sets",
        PREPARE_PY,
        "tests/training/test_prepare.py",
        ("retracted=retracted, few_shots=few_shots", "few_shots=few_shots"),
    ),
    mutation(
        "a conversation stands on both sides",
        "law 7",
        SPLITS_PY,
        SPLITS,
        ("        of_both = _is_in(columns.conversations, columns.conversations[valid])\n", "        pass\n"),
    ),
    mutation(
        "a prompt stands on both sides, word for word",
        "law 7",
        SPLITS_PY,
        SPLITS,
        ("train & _is_in(columns.prompts, columns.prompts[valid])", "train & valid"),
    ),
    mutation(
        "an example that is settled after the cut trains",
        "law 7",
        SPLITS_PY,
        SPLITS,
        (
            "train, valid = columns.settled_ts < cut, columns.prompt_ts >= cut",
            "train, valid = columns.prompt_ts < cut, columns.prompt_ts >= cut",
        ),
    ),
    mutation(
        "of an id that comes again, the first line counts",
        "training sets",
        SPLITS_PY,
        (SPLITS, "tests/training/test_prepare.py"),
        ("again[by_id[:-1]] = (ids[1:] == ids[:-1])", "again[by_id[1:]] = (ids[1:] == ids[:-1])"),
    ),
    mutation(
        "few-shots validate",
        "law 7",
        SPLITS_PY,
        SPLITS,
        (
            'leave(valid & _like(columns, list(few_shots), by_conversation), "few_shot")',
            'leave(valid & _are_of(columns, [each.id for each in few_shots]), "few_shot")',
        ),
    ),
    mutation(
        "the cap keeps a person's oldest examples",
        "training sets",
        SPLITS_PY,
        SPLITS,
        ("for row in columns.in_time[::-1]:", "for row in columns.in_time:"),
    ),
    mutation(
        "an answer by somebody who is no candidate counts as nobody's",
        "law 8",
        RANKING_PY,
        RANKING,
        ("if len(found) else ends[point] - 1] += 1 / len(answer)", "if len(found) else ends[point] - 2] += 1 / len(answer)"),
    ),
    mutation(
        "a point's features are ranked with those of its neighbors",
        "law 5",
        "beepgpt/training/ranking_features.py",
        RANKING,
        ("values = np.ascontiguousarray(np.where(inside, feature, -np.inf))", "values = np.ascontiguousarray(feature)"),
    ),
    mutation(
        "people who were not predicted are left out of the hits",
        "law 8",
        METRICS_PY,
        METRICS,
        (
            "    among = KINDS[kind](outcomes)\n    rank = outcomes.rank_with_nobody if",
            "    among = KINDS[kind](outcomes) & (outcomes.rank > 0)\n    rank = outcomes.rank_with_nobody if",
        ),
    ),
    mutation(
        "of people with equal probabilities, the right one is first",
        "law 8",
        METRICS_PY,
        METRICS,
        ("int((p > p[best]).sum() + (p[:best] == p[best]).sum()) + 1", "int((p > p[best]).sum()) + 1"),
    ),
    mutation(
        "intervals are drawn by point, and not by conversation",
        "law 8",
        "beepgpt/training/intervals.py",
        "tests/training/test_intervals.py",
        ("place = np.unique(np.asarray(conversation), return_inverse=True)[1]", "place = np.arange(len(conversation))"),
    ),
    mutation(
        "precision leaves out alerts at points that nobody answered",
        "law 8",
        METRICS_PY,
        METRICS,
        (
            "    given = (alerts.p >= threshold) & among[alerts.point]\n",
            "    given = (alerts.p >= threshold) & (among & outcomes.answered)[alerts.point]\n",
        ),
    ),
    mutation(
        "a threshold is chosen on the part that judges it",
        "law 8",
        "beepgpt/training/validation.py",
        ("tests/laws/test_figures.py", VALIDATED),
        ("metrics.threshold_for(known, precision)", "metrics.threshold_for(outcomes, precision)"),
    ),
    mutation(
        "a model is judged by another training set",
        "law 7",
        "beepgpt/training/validation.py",
        VALIDATED,
        ('        if each.card["manifest"] != hash_of(manifest):\n', '        if not each.card["manifest"]:\n'),
    ),
    mutation(
        "what a provider trains on is not redacted",
        "law 9",
        "beepgpt/training/uploads.py",
        "tests/training/test_fine_tuning.py",
        ('            question["content"] = clean.text\n', ""),
    ),
    mutation(
        "a threshold is chosen by answers that were known only when judging had begun",
        "law 8",
        "beepgpt/training/validation.py",
        "tests/laws/test_figures.py::test_an_answer_that_was_known_only_when_judging_began_chooses_nothing",
        (
            "(valid.points.prompt_ts < parts.judge_from) & (valid.settled_ts < parts.judge_from)",
            "valid.points.prompt_ts < parts.judge_from",
        ),
    ),
    mutation(
        "calibration is of trees that were fitted on what calibrates them",
        "law 8",
        "beepgpt/training/ranking.py",
        f"{RANKING}::test_it_is_calibrated_on_scores_of_trees_that_had_not_seen_the_answers",
        (
            "    sharpness, shifts = _calibrated(judge, judged_scores)\n",
            "    judged_scores = np.concatenate([_scores(trees, rows) for late in held_out for rows in late.rows])\n"
            "    sharpness, shifts = _calibrated(judge, judged_scores)\n",
        ),
    ),
    mutation(
        "outcomes of points that a model was fitted or chosen on are in its headline",
        "law 8",
        "beepgpt/training/outcomes.py",
        f"{FIGURES}::test_what_happened_before_a_model_is_judged_changes_no_figure_of_outcomes",
        ('if each["how"] in KNOWN and of == "judge"]', 'if each["how"] in KNOWN]'),
    ),
    mutation(
        "a run's last figures are of what the model was fitted on, too",
        "law 8",
        "beepgpt/conversations/outcomes.py",
        f"{FIGURES}::test_what_a_run_tells_of_the_last_outcomes_is_of_those_that_judge",
        (' or outcome.get("part") in ("fit", "choose"):', ":"),
    ),
    mutation(
        "history is scored from the first point on, which the model was fitted on",
        "law 8",
        "beepgpt/commands/scoring.py",
        "tests/commands/test_score_files.py::test_a_score_over_the_training_period_is_in_no_headline",
        ("    return fitted_until or 0\n", "    return 0\n"),
    ),
    mutation(
        "alerts to points that choose are in a rehearsal's headline",
        "law 8",
        "beepgpt/alerts/rehearsal.py",
        f"{FIGURES}::test_what_happened_before_a_model_is_judged_changes_no_figure_of_a_rehearsal",
        ('if each.alert.way == "direct" and each.part == part]', 'if each.alert.way == "direct"]'),
    ),
    mutation(
        "models are chosen by the points that judge them",
        "law 8",
        "beepgpt/training/validation.py",
        f"{FIGURES}::test_a_model_beside_another_is_judged_and_chosen_by_the_same_parts",
        (
            "figures_to_choose_by({**choosing, **baselines((train,), choose)}, choose)",
            "figures_to_choose_by({**predictions, **baselines((train, choose), valid)}, valid)",
        ),
    ),
    mutation(
        "a model of another workspace scores without a word",
        "law 8",
        "beepgpt/training/reloading.py",
        "tests/training/test_people.py::test_score_says_that_people_are_strangers",
        ("        self._strangers[name].see(points)\n", ""),
    ),
    mutation(
        "a drop that chance explains is warned of",
        "law 8",
        "beepgpt/training/reloading.py",
        "tests/training/test_intervals.py::test_a_model_as_good_as_validated_is_seldom_said_to_be_worse",
        ("SURE * (noise**2 + lately**2) ** 0.5", "TWO_SIDED * noise"),
    ),
)
