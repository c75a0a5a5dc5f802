"""Of what a Python program calls, and what it shares with the commands."""

from tests.mutations.mutation import mutation

AUDITING_PY = "beepgpt/library/auditing.py"
EXAMPLES_PY = "beepgpt/library/examples.py"
PREPARE_PY = "beepgpt/training/prepare.py"
SOURCES_PY = "beepgpt/library/sources.py"
EVENTFUL = "tests/library/test_eventful.py"
LIBRARY = "tests/library/test_library.py"
SETS = "tests/training/test_prepare.py"

ROWS = (
    mutation(
        "a point at the first moment that is read lets its candidates go",
        "law 5",
        "beepgpt/conversations/points.py",
        "tests/library/test_eventful.py::test_a_follower_begins_with_the_example_of_its_first_moment",
        ("            if point.t < self.examples_since:\n", "            if point.t <= self.examples_since:\n"),
    ),
    mutation(
        "a Follower's clock stands still",
        "law 6",
        "beepgpt/library/follower.py",
        "tests/library/test_eventful.py::test_a_follower_that_runs_for_days_takes_what_is_said_then",
        (
            "following = replace(self._following, now=now_us() if now is None else now)",
            "following = self._following if now is None else replace(self._following, now=now)",
        ),
    ),
    mutation(
        "read_events gives out what is forgotten",
        "law 9",
        SOURCES_PY,
        f"{EVENTFUL}::test_events_are_read_without_what_is_forgotten",
        ("kept = value if forgotten is None else without_forgotten_in(value, forgotten)", "kept = value"),
    ),
    mutation(
        "a Follower knows no list of the forgotten",
        "law 9",
        "beepgpt/library/follower.py",
        f"{EVENTFUL}::test_a_follower_knows_nobody_who_is_forgotten",
        ("forgotten=forgotten_of(settings),", "forgotten=None,"),
    ),
    mutation(
        "a Follower's account is not checked",
        "law 6",
        "beepgpt/library/follower.py",
        f"{EVENTFUL}::test_an_end_that_does_not_add_up_is_an_error",
        ("if wrong := self._account().check():", "if wrong := []:"),
    ),
    mutation(
        "the library's split learns what was retracted",
        "training sets",
        "beepgpt/library/training_sets.py",
        f"{EVENTFUL}::test_a_training_set_has_no_retracted_example",
        (
            "retracted = [bytes.fromhex(each.id) for each in examples.retractions] if isinstance(examples, Examples) else []",
            "retracted = []",
        ),
    ),
    mutation(
        "the library's audit forgets retractions",
        "law 4",
        AUDITING_PY,
        f"{EVENTFUL}::test_an_audit_knows_what_was_retracted",
        ("retracted = [retraction_bytes(each.id, each.retracted_ts) for each in examples.retractions]", "retracted = None"),
    ),
    mutation(
        "the library's audit forgets the end that the examples were made with",
        "law 3",
        AUDITING_PY,
        f"{EVENTFUL}::test_an_audit_goes_by_what_the_examples_were_made_with",
        ("given = {**examples.given, **", 'given = {**examples.given, "until": None, **'),
    ),
    mutation(
        "the library reads a topic from its beginning, whatever its address says",
        "law 3",
        EXAMPLES_PY,
        f"{EVENTFUL}::test_examples_begin_and_end_where_the_topic_s_address_says",
        ("since = 0 if self._origin is None else self._origin.since or 0", "since = 0"),
    ),
    mutation(
        "the library's settings are not checked against the source",
        "law 3",
        EXAMPLES_PY,
        f"{EVENTFUL}::test_examples_begin_and_end_where_the_topic_s_address_says",
        ("    check_source(origin, found, until=stop_at)\n", ""),
    ),
    mutation(
        "every point gets the first one's prediction",
        "models",
        "beepgpt/library/models.py",
        f"{LIBRARY}::test_a_model_predicts_what_the_command_line_does",
        ("predicted.of(number)", "predicted.of(0)"),
    ),
    mutation(
        "all events that are fed have one place",
        "law 6",
        "beepgpt/library/chat_events.py",
        f"{EVENTFUL}::test_each_record_that_is_left_out_has_a_place",
        ("return (HAND_MADE, number, self.chunk[2]) if self.chunk[:2] == (HAND_MADE, 0) else self.chunk", "return self.chunk"),
    ),
    mutation(
        "a second run deletes what the first is writing",
        "training sets",
        PREPARE_PY,
        f"{SETS}::TestFiles::test_one_run_at_a_time_makes_a_set",
        ("        os.close(lock(left, in_use))\n", ""),
    ),
    mutation(
        "a training set is made of what it replaces",
        "training sets",
        PREPARE_PY,
        f"{SETS}::TestFiles::test_a_set_is_not_made_of_what_it_would_replace",
        ("if source.name in OUTPUTS and", "if not OUTPUTS and"),
    ),
    mutation(
        "a weak answer has a label that no row has",
        "training sets",
        "beepgpt/audit/own_sets.py",
        "tests/audit/test_own_sets.py::test_a_weak_answer_is_that_of_its_people_where_no_label_is_of_weak_signals",
        ('if self.weak and entry.get("signal") == "weak":', 'if entry.get("signal") == "weak":'),
    ),
    mutation(
        "in a flow of one's own, a deletion takes no example back",
        "law 9",
        "dataflows/operators.py",
        "tests/dataflows/test_operators.py::test_each_stream_has_what_a_follower_emits",
        ('_of_kind("take_retractions", followed, "retractions")', '_of_kind("take_retractions", followed, "no kind")'),
    ),
    mutation(
        "a flow of one's own begins anew after a kill",
        "law 4",
        "dataflows/operators.py",
        "tests/dataflows/test_operators.py::test_a_killed_flow_goes_on_from_its_recovery_store",
        ("        recoverable=True,\n", "        recoverable=False,\n"),
    ),
    mutation(
        "what was measured to choose by stands in the table as judged",
        "law 8",
        "beepgpt/training/metrics_table.py",
        "tests/commands/test_metrics_table.py::test_validate_s_table_has_the_report_s_numbers",
        ('*_of_part(report["choose"], "choose", model)', '*_of_part(report["choose"], "judge", model)'),
    ),
    mutation(
        "a table of metrics is written over what is read",
        "commands",
        "beepgpt/commands/outcomes.py",
        "tests/commands/test_metrics_table.py::test_a_table_that_can_t_be_written_is_refused_first",
        ("*([] if metrics is None else [metrics])])", "*[]])"),
    ),
    mutation(
        "what came after judging began is among what chooses",
        "law 8",
        "beepgpt/library/training_sets.py",
        "tests/library/test_library.py::test_a_model_predicts_what_the_command_line_does",
        (
            'pc.and_(pc.less(table["prompt_ts"], judge_from), pc.less(table["settled_ts"], judge_from))',
            'pc.less(table["prompt_ts"], judge_from)',
        ),
    ),
    mutation(
        "tables of Python are in the order of reading",
        "tables",
        EXAMPLES_PY,
        "tests/library/test_models.py::test_kept_examples_are_in_the_order_of_time",
        (
            'return sorted([line for line in lines if id_of(line) not in retracted], key=by_time("settled_ts"))',
            "return [line for line in lines if id_of(line) not in retracted]",
        ),
    ),
    mutation(
        "a table has one candidate's number for all of its columns",
        "tables",
        "connectors/files/arrow_rows.py",
        "tests/connectors/test_parquet.py::test_a_table_has_the_values_of_the_lines",
        ("doubles.take(first + place * step)", "doubles.take(first)"),
    ),
    mutation(
        "in a notebook, a spinner is drawn",
        "notebooks",
        "beepgpt/runtime/console.py",
        "tests/runtime/test_console.py",
        ("force_interactive=False if NOTEBOOK in os.environ else None", "force_interactive=None"),
    ),
)
