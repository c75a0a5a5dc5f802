"""Of splits, training sets and models."""

from tests.mutations.mutation import mutation

LIVE_PY = "beepgpt/training/live.py"
SPLITS_PY = "beepgpt/training/splits.py"
PREPARE_PY = "beepgpt/training/prepare.py"
RANKING_PY = "beepgpt/training/ranking.py"
METRICS_PY = "beepgpt/training/metrics.py"
LIVE = "tests/training/test_live.py"
RETRAINED = "tests/training/test_retraining.py"
RANKING = "tests/training/test_ranking.py"
METRICS = "tests/training/test_training_metrics.py"
VALIDATED = "tests/commands/test_train_and_validate.py"
SPLITS = "tests/training/test_splits.py"
FIGURES = "tests/laws/test_figures.py"

ROWS = (
    mutation(
        "a topic's tombstones count in place of the given retractions",
        "law 9",
        "beepgpt/commands/prepare.py",
        "tests/commands/test_prepare_command.py::test_a_topic_s_tombstones_and_given_retractions_take_back_together",
        (
            "retracted = {*gone, *(retracted_in(taken_back) if taken_back.exists() else ())}",
            "retracted = gone or set(retracted_in(taken_back) if taken_back.exists() else ())",
        ),
    ),
    mutation(
        "a training set's manifest is moved in before its files",
        "training: files",
        "beepgpt/training/prepare.py",
        "tests/training/test_prepare.py::TestFiles::test_a_kill_while_files_are_moved_in_leaves_no_set",
        ("for path in sorted(made.iterdir(), key=lambda path: (path.name == MANIFEST, path.name)):", "for path in sorted(made.iterdir()):"),
    ),
    mutation(
        "outcomes of an older version are divided by the live one's times",
        "law 8",
        "beepgpt/commands/outcomes.py",
        "tests/commands/test_outcomes.py::test_outcomes_that_name_no_part_are_divided_by_their_own_model_s_times",
        ("parts[name] = parts_of(read_card(at[0]))", "parts[name] = parts_of(read_card(live_in(model)))"),
    ),
    mutation(
        "a rehearsal forgets the threshold that a retrained model keeps",
        "scoring: thresholds",
        "beepgpt/commands/rehearse_run.py",
        "tests/commands/test_score_files.py::test_a_rehearsal_that_can_recommend_no_threshold_keeps_that_of_a_retrained_model",
        ('if before is not None and before.found == "validated":', 'if before is not None and before.found != "rehearsed":'),
    ),
    mutation(
        "a new version is held to the validation of the one before",
        "scoring: what is expected of a model",
        "beepgpt/training/reloading.py",
        "tests/dataflows/test_scoring_models.py::test_a_new_version_is_held_to_its_own_validation",
        (
            "        self._at, self._has_threshold = at, threshold_in(at) is not None\n        return True",
            "        self._has_threshold = threshold_in(at) is not None\n        return True",
        ),
    ),
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
        ("metrics.threshold_for(known, each)", "metrics.threshold_for(outcomes, each)"),
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
        "silence after others have spoken is calibrated as that of first messages",
        "law 8",
        RANKING_PY,
        f"{RANKING}::test_silence_is_calibrated_apart_for_first_messages_and_for_others",
        ("silence[1].calibrated(before))", "silence[0].calibrated(before))"),
    ),
    mutation(
        "people keep their probabilities when silence is calibrated",
        "law 8",
        RANKING_PY,
        RANKING,
        ("    found = p * np.repeat((1 - nobody) / np.maximum(1 - before, 1e-12), sizes)\n", "    found = p.copy()\n"),
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
    mutation(
        "what a live.json that names no version means is guessed",
        "a model and its threshold are one thing",
        LIVE_PY,
        f"{LIVE}::test_a_live_json_that_names_no_version_is_refused_at_the_start_and_warned_of_later",
        (
            "            if folder not in _followed:\n                raise\n",
            "            if folder not in _followed:\n                return folder\n",
        ),
    ),
    mutation(
        "a live.json that is broken while somebody follows it changes the model",
        "a model and its threshold are one thing",
        LIVE_PY,
        f"{LIVE}::test_a_live_json_that_names_no_version_is_refused_at_the_start_and_warned_of_later",
        (
            '                log.warning("%s: going on with %s", error, _followed[folder])\n',
            '                log.warning("%s: going on with %s", error, _followed[folder])\n            return folder\n',
        ),
    ),
    mutation(
        "the model that stood in the folder is lost with the first retrained one",
        "a model and its threshold are one thing",
        LIVE_PY,
        f"{LIVE}::test_the_model_that_stood_in_the_folder_is_a_version_to_go_back_to",
        (
            "before = _keep_own(folder) if live_in(folder) == folder else live_in(folder)",
            "before = None if live_in(folder) == folder else live_in(folder)",
        ),
    ),
    mutation(
        "the model that was live before is dropped with the oldest",
        "a model and its threshold are one thing",
        LIVE_PY,
        f"{LIVE}::test_the_model_that_stood_in_the_folder_is_a_version_to_go_back_to",
        ("stay = {version, before} - {None}", "stay = {version}"),
    ),
    mutation(
        "live.json is written in place",
        "a model and its threshold are one thing",
        LIVE_PY,
        f"{LIVE}::test_a_kill_before_either_rename_leaves_a_whole_pair",
        ('new = folder / f"{LIVE}.new"', "new = folder / LIVE"),
    ),
    mutation(
        "the newest version is live, whatever live.json names",
        "a model and its threshold are one thing",
        LIVE_PY,
        f"{LIVE}::test_a_kill_before_either_rename_leaves_a_whole_pair",
        (
            '        name = orjson.loads(content)["version"]\n        if name in there:\n            return versions / str(name)\n',
            "        return max(versions.iterdir(), key=lambda each: each.stat().st_mtime_ns)\n",
        ),
    ),
    mutation(
        "of several thresholds of a model the first counts",
        "a model and its threshold are one thing",
        LIVE_PY,
        f"{LIVE}::test_the_same_model_with_another_threshold_is_another_pair",
        ("for number, each in found if number.isdecimal()], reverse=True)", "for number, each in found if number.isdecimal()])"),
    ),
    mutation(
        "predictions of the model before count from the new one's threshold on",
        "a model and its threshold are one thing",
        LIVE_PY,
        f"{LIVE}::test_what_is_scored_follows_the_pair_and_its_threshold",
        ("return self.current if known is None else known", "return self.current"),
    ),
    mutation(
        "a threshold that a rehearsal writes is not followed",
        "a model and its threshold are one thing",
        LIVE_PY,
        f"{LIVE}::test_the_threshold_in_use_is_that_of_the_live_pair_and_follows_what_a_rehearsal_writes",
        (
            "        if found is not None and self._known.get(model) != found.value:",
            "        if found is not None and model not in self._known:",
        ),
    ),
    mutation(
        "a rehearsal of another model gives the threshold",
        "a model and its threshold are one thing",
        LIVE_PY,
        f"{LIVE}::test_figures_of_another_model_are_no_threshold",
        (' and found.get("model") == name_of(folder):', ":"),
    ),
    mutation(
        "figures of a folder's older model take the live one's place",
        "a model and its threshold are one thing",
        LIVE_PY,
        f"{LIVE}::test_figures_of_a_folder_s_older_model_change_nothing",
        (
            "        if card.stat().st_mtime_ns > live.stat().st_mtime_ns and threshold_in(folder) is not None:",
            "        if card.exists() and live.exists() and threshold_in(folder) is not None:",
        ),
    ),
    mutation(
        "a model that nobody has validated takes a validated one's place",
        "a model and its threshold are one thing",
        "beepgpt/training/reloading.py",
        f"{LIVE}::test_a_model_that_was_copied_over_a_validated_one_is_not_taken_up_before_it_is_validated",
        (
            "            if self._has_threshold and threshold_in(at) is None:",
            "            if threshold_in(at) is None and not at.exists():",
        ),
    ),
    mutation(
        "another threshold of the same model is taken up without a word",
        "a model and its threshold are one thing",
        LIVE_PY,
        f"{LIVE}::test_what_is_taken_up_is_said_once",
        ("        if (model, threshold) != before:", "        if model != before[0]:"),
    ),
    mutation(
        "a candidate that only may be worse is not taken",
        "retraining",
        "beepgpt/training/retraining.py",
        f"{LIVE}::test_a_candidate_is_taken_if_it_is_not_worse",
        ("return bool(self.gain.high < 0)", "return bool(self.gain.low < 0)"),
    ),
    mutation(
        "a candidate is taken though few points compare it",
        "retraining",
        "beepgpt/training/retraining.py",
        f"{LIVE}::test_a_candidate_is_taken_if_it_is_not_worse",
        ("self.points >= ENOUGH_POINTS and ", ""),
    ),
    mutation(
        "--force takes a candidate that is worse",
        "retraining",
        "beepgpt/training/retraining.py",
        f"{RETRAINED}::test_a_worse_candidate_is_not_taken_and_a_better_one_is",
        ("        if self.is_worse:\n", "        if self.is_worse and not force:\n"),
    ),
    mutation(
        "a candidate is compared on points from which the live model has learned",
        "law 8",
        "beepgpt/training/retraining.py",
        f"{RETRAINED}::test_only_points_compare_from_which_neither_has_learned",
        ("since = max(mine.choose_from, theirs.choose_from)", "since = mine.choose_from"),
    ),
    mutation(
        "a retrained model is compared itself, and not by its candidate of that time",
        "law 8",
        "beepgpt/training/retraining.py",
        f"{RETRAINED}::test_only_points_compare_from_which_neither_has_learned",
        ("other = load_model(at / COMPARED if (at / COMPARED / CARD).exists() else at)", "other = load_model(at)"),
    ),
    mutation(
        "what judges a candidate compares it, too",
        "law 8",
        "beepgpt/training/retraining.py",
        f"{RETRAINED}::test_a_worse_candidate_is_not_taken_and_a_better_one_is",
        ("np.flatnonzero((valid.points.prompt_ts >= since) & chooses)", "np.flatnonzero(valid.points.prompt_ts >= since)"),
    ),
    mutation(
        "a rehearsed threshold is kept as a number, whatever it means to another model",
        "retraining",
        "beepgpt/training/retraining.py",
        f"{RETRAINED}::test_a_rehearsed_threshold_is_carried_over_by_volume",
        ("threshold = before if not 0 < count <= len(p) else float(p[count - 1])", "threshold = before"),
    ),
    mutation(
        "shares that are all or nothing have the interval of as many independent draws",
        "law 8",
        "beepgpt/training/intervals.py",
        "tests/training/test_intervals.py::test_alerts_that_all_came_true_say_as_much_as_the_conversations_that_they_are_of",
        ("effective = min(whole, clusters if variance <= 0", "effective = min(whole, whole if variance <= 0"),
    ),
    mutation(
        "a simple rule does not know what was answered in the part to choose by",
        "law 8",
        "beepgpt/training/validation.py",
        "tests/laws/test_figures.py::test_validation_judges_by_nothing_but_what_judges",
        ("judge({**predictions, **baselines((train, choose), valid)}", "judge({**predictions, **baselines((train,), valid)}"),
    ),
    mutation(
        "of equal probabilities some are alerted where a threshold is chosen",
        "law 8",
        "beepgpt/training/metrics.py",
        "tests/training/test_training_metrics.py::test_a_chosen_threshold_keeps_its_promise",
        (
            "last_of_equals = np.append(p[1:] < p[:-1], True) if len(p) else np.zeros(0, np.bool_)",
            "last_of_equals = np.ones(len(p), np.bool_)",
        ),
    ),
    mutation(
        "a point's rows hang on how many candidates others have",
        "law 5",
        "beepgpt/training/ranking_features.py",
        "tests/training/test_ranking.py::test_a_point_is_predicted_the_same_alone_and_among_others",
        ("seen[~inside | (seen < 0)] = NEVER", "seen[seen < 0] = NEVER"),
    ),
    mutation(
        "a model that was validated while it ran gives way to one that is not",
        "a model and its threshold are one thing",
        "beepgpt/training/reloading.py",
        "tests/training/test_live.py::test_a_model_that_was_copied_over_a_validated_one_is_not_taken_up_before_it_is_validated",
        (
            "                self._at, self._has_threshold = at, threshold_in(at) is not None\n                return False",
            "                self._at = at\n                return False",
        ),
    ),
)
