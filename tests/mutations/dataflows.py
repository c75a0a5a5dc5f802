"""Of flows: scoring, outcomes, stopping and going on."""

from tests.mutations.mutation import mutation

CHANNEL_PY = "beepgpt/conversations/channel.py"
SCORING_PY = "dataflows/score_points.py"
OUTCOMES_PY = "beepgpt/conversations/outcomes.py"
SCORING = "tests/dataflows/test_scoring.py"
IN_TIME = "tests/dataflows/test_scoring_in_time.py"
SNAPSHOT = "tests/dataflows/test_deleted_predictions.py::test_a_snapshot_has_all_that_changed_since_the_one_before"
ASKED_ELSEWHERE = "tests/alerts/test_who_is_alerted.py::test_workers_that_decide_know_what_people_asked_another_process_for"

ROWS = (
    mutation(
        "what holds a message is found as if windows had five messages",
        "law 9",
        SCORING_PY,
        "tests/dataflows/test_deleted_predictions.py::test_a_deletion_is_followed_by_a_tombstone_of_each_prediction_that_held_the_message",
        ("MessageIndex(self._scoring.rules.window)", "MessageIndex(5)"),
    ),
    mutation(
        "a model that stays too low is told of again and again",
        "scoring: what is expected of a model",
        SCORING_PY,
        "tests/dataflows/test_scoring.py::test_a_drop_below_the_validated_interval_is_told_once",
        (
            "            self._below[model, name] = answered\n            if before is None or answered - before > lately.KEPT:  # it goes up and down around the least: that is one drop\n",
            "            if before is None or answered - before > lately.KEPT:  # it goes up and down around the least: that is one drop\n                self._below[model, name] = answered\n",
        ),
    ),
    mutation(
        "a run that goes on counts anew how many workers help",
        "law 4",
        "beepgpt/runtime/shares.py",
        "tests/conversations/test_shares.py::test_a_run_that_goes_on_has_as_many_workers_as_before",
        ('noted_in(recovery, "workers") if recovery is not None else None', "None"),
    ),
    mutation(
        "a killed run reads on after its lines were put in order",
        "law 4",
        "beepgpt/runtime/running.py",
        "tests/dataflows/test_kills_at_the_end.py",
        (
            "    if ended and recovery is not None:\n        recovery.note_reports(reports)",
            "    if False:\n        recovery.note_reports(reports)",
        ),
    ),
    mutation(
        "a flow of somebody's own doesn't consult the list of the forgotten",
        "law 9",
        "dataflows/operators.py",
        "tests/dataflows/test_operators.py",
        ("        forgotten=forgotten_of(settings),\n", ""),
    ),
    mutation(
        "what a point that waits shows is not in the next snapshot",
        "law 9",
        SCORING_PY,
        "tests/dataflows/test_deleted_predictions.py::test_what_was_predicted_behind_a_snapshot_gets_its_tombstone_though_it_is_missed_after_a_kill",
        (
            "emitted.identity, emitted.window)\n        self._dirty[emitted.channel] = None\n",
            "emitted.identity, emitted.window)\n",
        ),
    ),
    mutation(
        "a stop is taken for the end of the input",
        "order",
        "dataflows/following.py",
        "tests/dataflows/test_kills.py",
        ("        if not (self._is_stopped or self._is_stopping()):\n            self._shard.end()", "        self._shard.end()"),
    ),
    mutation(
        "a deletion leaves its predictions on their topic",
        "law 9",
        SCORING_PY,
        "tests/dataflows/test_deleted_predictions.py::test_a_deletion_is_followed_by_a_tombstone_of_each_prediction_that_held_the_message",
        ('                self._scored.append(Scored("tombstone", identity, None, deleted.channel))\n', ""),
    ),
    mutation(
        "a thread's point is scored with its session's speakers",
        "law 5",
        CHANNEL_PY,
        "tests/dataflows/test_scoring.py",
        (
            "            alike.setdefault((each.point, each.speakers, each.root_missing), [])",
            "            alike.setdefault((each.point,), [])",
        ),
    ),
    mutation(
        "a prediction that waits when the flow is killed is forgotten",
        "law 6",
        SCORING_PY,
        "tests/dataflows/test_scoring.py",
        ('            "lanes": lanes,', '            "lanes": [],'),
    ),
    mutation(
        "predictions are joined to the outcomes of other points",
        "outcomes",
        SCORING_PY,
        "tests/dataflows/test_scoring.py",
        ("kept.pop((item.conversation, item.prompt_ts), None)", 'kept.pop(next(iter(kept), ("", 0)), None)'),
    ),
    mutation(
        "an outcome is written twice",
        "outcomes",
        SCORING_PY,
        (
            "tests/dataflows/test_scoring.py::test_memory_is_given_back",
            "tests/dataflows/test_scoring.py::test_a_root_is_scored_once_and_told_what_became_of_it_in_both_places",
        ),
        ("predicted = kept.pop((item.conversation, item.prompt_ts), None)", "predicted = kept.get((item.conversation, item.prompt_ts))"),
    ),
    mutation(
        "a root's outcome is written for one of its conversations",
        "outcomes",
        SCORING_PY,
        "tests/dataflows/test_scoring.py::test_a_root_is_scored_once_and_told_what_became_of_it_in_both_places",
        (
            "        for conversation in emitted.conversations:\n            kept[",
            "        for conversation in emitted.conversations[:1]:\n            kept[",
        ),
    ),
    mutation(
        "predictions that wait for their outcome are not in the snapshot",
        "law 6",
        SCORING_PY,
        f"{SCORING}::test_what_waits_is_in_the_snapshot_and_asked_again",
        (
            "                self._encoded[channel] = pickle.dumps((predicted, holding), protocol=5)\n",
            "                self._encoded[channel] = pickle.dumps((predicted if channel in self._encoded else None, holding), protocol=5)\n",
        ),
    ),
    mutation(
        "a deletion overtakes the prediction that it is about",
        "law 9",
        SCORING_PY,
        "tests/dataflows/test_scoring_in_time.py",
        (
            "        if lane := self._lanes.get(item.channel):\n            lane.append(item)\n",
            "        if isinstance(item, PointSettled) and (lane := self._lanes.get(item.channel)):\n            lane.append(item)\n",
        ),
    ),
    mutation(
        "a deletion is not passed on to the readers of predictions",
        "law 9",
        SCORING_PY,
        f"{SCORING}::test_who_tells_people_gets_everything_in_order",
        (
            '        self._scored.append(Scored("deletion", f"{deleted.channel}',
            '        self._scored and self._scored.append(Scored("deletion", f"{deleted.channel}',
        ),
    ),
    mutation(
        "a prediction that comes too late is given all the same",
        "law 6",
        SCORING_PY,
        "tests/dataflows/test_scoring_in_time.py",
        (
            '        if point.due is not None and point.due < clock.now():\n            self._finish(point, None, "missed")\n            return\n',
            "",
        ),
    ),
    mutation(
        "outcomes whose answer nobody knows are counted as silence",
        "law 8",
        OUTCOMES_PY,
        "tests/dataflows/test_scoring_in_time.py",
        ('if outcome["how"] not in KNOWN or outcome.get("part")', 'if outcome.get("part")'),
    ),
    mutation(
        "an outcome that comes twice counts twice",
        "law 8",
        "beepgpt/training/outcomes.py",
        "tests/commands/test_outcomes.py::test_figures_are_by_model",
        (
            'by_model[each["model"]][each["id"], each["conversation"]] = each',
            'by_model[each["model"]][each["id"], str(len(by_model[each["model"]]))] = each',
        ),
    ),
    mutation(
        "weeks of outcomes are counted by settling, and not by the point",
        "outcomes",
        "beepgpt/training/outcomes.py",
        "tests/commands/test_outcomes.py::test_figures_are_by_model",
        ('by_week[(micros(each["prompt_ts"]) - begin)', 'by_week[(micros(each["settled_ts"]) - begin)'),
    ),
    mutation(
        "a point that is lost behind one that waits is counted before it is passed, and again after a resume",
        "law 6",
        SCORING_PY,
        IN_TIME,
        (
            "        point.is_over, point.answer, point.lost = True, answer, lost\n",
            "        point.is_over, point.answer, point.lost = True, answer, lost\n        if lost:\n            self._account.count(lost)\n",
        ),
        ("                else:\n                    self._account.count(item.lost)\n", ""),
    ),
    mutation(
        "a point that is answered behind one that waits is in no row where a run is stopped",
        "law 6",
        SCORING_PY,
        IN_TIME,
        (
            "sum(isinstance(item, _Point) for lane in",
            "sum(isinstance(item, _Point) and not item.is_over for lane in",
        ),
    ),
    mutation(
        "who was not predicted is a hit among five",
        "law 8",
        OUTCOMES_PY,
        IN_TIME,
        ('            self.counts["hit@5"] += 0 < rank <= 5\n', '            self.counts["hit@5"] += rank <= 5\n'),
    ),
    mutation(
        "of a point of two conversations, one outcome is lost",
        "law 6",
        "beepgpt/training/outcomes.py",
        "tests/commands/test_outcomes.py::test_a_point_of_two_conversations_has_two_outcomes",
        ('[each["id"], each["conversation"]] = each', '[each["id"], ""] = each'),
    ),
    mutation(
        "a topic's record is from the future of the reader's clock",
        "law 4",
        "beepgpt/conversations/chunks.py",
        "tests/dataflows/test_flow_state.py::test_a_record_is_from_the_future_of_the_time_it_was_written",
        ("        written = log_time(value.timestamp, now)\n", "        written = now\n"),
    ),
    mutation(
        "a stop of another process of a cluster ends the shards here",
        "law 4",
        "dataflows/following.py",
        "tests/dataflows/test_flow_state.py::test_an_input_that_was_stopped_elsewhere_has_not_ended",
        ("if not (self._is_stopped or self._is_stopping()):", "if not self._is_stopping():"),
    ),
    mutation(
        "what is predicted after a snapshot is not in the next one",
        "law 6",
        "dataflows/score_points.py",
        "tests/dataflows/test_scoring.py::test_what_is_predicted_after_a_snapshot_is_in_the_next_one",
        (
            "            kept[conversation, emitted.t] = predicted\n        self._dirty[emitted.channel] = None\n",
            "            kept[conversation, emitted.t] = predicted\n",
        ),
    ),
    mutation(
        "a clock that goes back makes predictions forgotten early",
        "law 9",
        SCORING_PY,
        "tests/dataflows/test_deleted_predictions.py::test_a_clock_that_goes_back_makes_no_prediction_forgotten_early",
        ("emitted.t + 1, index.newest),", "emitted.t + 1),"),
    ),
    mutation(
        "a worker that ends at once does not tell which channels it has",
        "law 4",
        "beepgpt/runtime/running.py",
        "tests/dataflows/test_sqlite_flow.py::test_a_channel_in_partitions_of_two_workers_stops_a_run_that_ends_at_once",
        ('report(result | ({} if run.origin.address is None else {"channels": new_channels()}))', "report(result)"),
        ("REPORT_EVERY = 0.2\n", "REPORT_EVERY = 20.0\n"),
    ),
    mutation(
        "a flow that decides itself never learns what people ask another process for",
        "alerts: who is alerted",
        "dataflows/alerts.py",
        ASKED_ELSEWHERE,
        ("        self._decider.store.drop_cache()\n", ""),
    ),
    mutation(
        "of what people ask another process for, a flow learns what they mute alone",
        "alerts: who is alerted",
        "beepgpt/alerts/store.py",
        ASKED_ELSEWHERE,
        (
            "        self._rows_by_user, self._muted = {}, {}\n\n    def preference_row",
            "        self._muted = {}\n\n    def preference_row",
        ),
    ),
    mutation(
        "what is settled after a snapshot is still open in the next one",
        "law 6",
        SCORING_PY,
        SNAPSHOT,
        ("        self._dirty[item.channel] = None\n        if not kept:\n", "        if not kept:\n"),
    ),
    mutation(
        "a prediction's tombstone is written again after the next snapshot",
        "law 4",
        SCORING_PY,
        SNAPSHOT,
        (
            "identity, None, deleted.channel))\n                self._dirty[deleted.channel] = None\n",
            "identity, None, deleted.channel))\n",
        ),
    ),
    mutation(
        "what is too old after a snapshot is still in the next one",
        "law 9",
        SCORING_PY,
        SNAPSHOT,
        ("index.forget_before(before)\n                self._dirty[channel] = None\n", "index.forget_before(before)\n"),
    ),
    mutation(
        "a channel with nothing left to keep stays in snapshots as it was",
        "law 9",
        SCORING_PY,
        SNAPSHOT,
        ("            else:\n                self._encoded.pop(channel, None)\n", ""),
    ),
)
