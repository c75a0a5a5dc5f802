"""Of the audit: what it must not overlook."""

from tests.mutations.mutation import mutation

LAWS_PY = "beepgpt/audit/laws.py"
RECOMPUTING_PY = "beepgpt/audit/recomputing.py"
ROWS_PY = "beepgpt/audit/example_rows.py"
DIFFERENCES_PY = "beepgpt/audit/differences.py"
OWN_SETS_PY = "beepgpt/audit/own_sets.py"
FOREIGN_PY = "beepgpt/audit/foreign.py"
PLACING_PY = "beepgpt/audit/placing.py"
AUDIT = "tests/audit"

ROWS = (
    mutation(
        "the audit of a stopped run misses no retraction",
        "law 4",
        "beepgpt/audit/laws.py",
        "tests/audit/test_stopped_runs.py::test_a_stopped_run_has_told_of_each_deletion_that_was_due",
        (
            "if row.identity not in retracted and not (recompute.was_stopped and row.identity in recompute.retracted_at_end):",
            "if row.identity not in retracted and not recompute.was_stopped:",
        ),
    ),
    mutation(
        "messages on both sides are looked for by their newest alone",
        "law 7",
        LAWS_PY,
        "tests/audit/test_exact_counts.py",
        (
            'for each in body["window"] if (body["channel"], each["ts"]) in messages)',
            'for each in body["window"][-1:] if (body["channel"], each["ts"]) in messages)',
        ),
    ),
    mutation(
        "a training example may settle at the cut itself",
        "law 7",
        LAWS_PY,
        "tests/audit/test_exact_counts.py",
        ("        if row.settled_ts >= cut:\n", "        if row.settled_ts > cut:\n"),
    ),
    mutation(
        "a validation prompt at the cut itself is an early one",
        "law 7",
        LAWS_PY,
        "tests/audit/test_exact_counts.py",
        ("        if row.prompt_ts < cut:\n", "        if row.prompt_ts <= cut:\n"),
    ),
    mutation(
        "conversations on both sides pass",
        "law 7",
        LAWS_PY,
        "tests/audit/test_exact_counts.py",
        (
            'if rules.scope == "conversation" and row.conversation in conversations:',
            'if rules.scope == "channel" and row.conversation in conversations:',
        ),
    ),
    mutation(
        "a point is compared when its answer has been applied",
        "law 1",
        RECOMPUTING_PY,
        (
            "tests/audit/test_audit.py::test_what_the_rules_give_keeps_the_laws",
            "tests/audit/test_audit.py::test_any_history_gives_a_clean_file",
            "tests/audit/test_audit.py::test_each_planted_fault_is_named_under_its_law",
        ),
        ("while due and due[0][0] < event.t + (event.kind == MOVE):", "while due and due[0][0] < event.t - 1_000_000:"),
    ),
    mutation(
        "answers are not compared",
        "law 3",
        RECOMPUTING_PY,
        "tests/audit/test_audit.py::test_each_planted_fault_is_named_under_its_law",
        (
            "            if row.digest not in exact and row.where not in self.without_point:\n",
            "            if row.digest not in exact and row.where in self.without_point:\n",
        ),
    ),
    mutation(
        "examples that the file lacks are not missed",
        "law 4",
        RECOMPUTING_PY,
        "tests/audit/test_audit.py::test_what_the_file_lacks_is_missing_unless_it_was_chosen",
        ("            self.lacking += [lacking_of(line) for key, line in others.items() if key not in given]\n", ""),
    ),
    mutation(
        "retractions that nobody gave are not missed",
        "law 4",
        LAWS_PY,
        "tests/audit/test_exact_counts.py",
        (
            "if row.identity not in retracted and not (recompute.was_stopped and",
            "if row.identity in retracted and not (recompute.was_stopped and",
        ),
    ),
    mutation(
        "retractions of what was not deleted pass",
        "law 4",
        LAWS_PY,
        "tests/audit/test_exact_counts.py",
        (
            "if row.identity in retracted and row.identity not in recompute.retracted:",
            "if row.identity in retracted and not recompute.retracted:",
        ),
    ),
    mutation(
        "ids are taken on trust",
        "law 4",
        ROWS_PY,
        (
            "tests/audit/test_audit.py::test_each_planted_fault_is_named_under_its_law",
            "tests/audit/test_audit.py::test_ids_stand_once_for_one_thing",
        ),
        ("        if identity != expected:\n", "        if len(identity) != len(expected):\n"),
    ),
    mutation(
        "an id that stands for two examples is a duplicate",
        "law 4",
        ROWS_PY,
        "tests/audit/test_audit.py::test_ids_stand_once_for_one_thing",
        (
            "        if other is row:\n            continue\n",
            "        if other is row or other.prompt_ts == row.prompt_ts:\n            continue\n",
        ),
    ),
    mutation(
        "a lateness of years lets a late event into every prompt",
        "law 1",
        LAWS_PY,
        "tests/audit/test_audit.py::test_a_late_event_is_in_no_prompt",
        (
            "    history = read_histories(records, rules, now=now, until=until)\n",
            "    history = read_histories(records, dataclasses.replace(rules, lateness=FOREVER), now=now, until=until)\n",
        ),
        ("from bisect import bisect_left\n", "import dataclasses\nfrom bisect import bisect_left\n"),
    ),
    mutation(
        "the features in a training set's table are not looked at",
        "law 1",
        DIFFERENCES_PY,
        "tests/audit/test_own_sets.py::test_a_feature_that_knows_the_answer_is_named",
        ('        if self._precision == "single":\n', '        if self._precision == "looked at":\n'),
    ),
    mutation(
        "the answers in a training set's table are not looked at",
        "law 3",
        OWN_SETS_PY,
        "tests/audit/test_own_sets.py::test_each_column_of_a_table_is_compared",
        ('("conversation", "channel", "speakers", "answer", "prompt_tokens")', '("conversation", "channel", "speakers", "prompt_tokens")'),
    ),
    mutation(
        "a foreign prompt with one sentence of later is not named",
        "law 1",
        FOREIGN_PY,
        "tests/audit/test_foreign_places.py",
        (
            "if without and all(earliest > place.answer for place in without):",
            "if without and all(earliest > place.answer and each for place in without):",
        ),
    ),
    mutation(
        "the leak test counts rows, and not messages at their place",
        "law 2",
        PLACING_PY,
        "tests/audit/test_foreign_places.py",
        ("cell = cells[back, len(place.window)]", "cell = cells[0, 0]"),
    ),
    mutation(
        "the audit takes for known what was late by a heartbeat",
        "law 4",
        "beepgpt/audit/history.py",
        "tests/audit/test_audit.py::test_a_late_event_is_in_no_prompt",
        ("if max(channel.clock, beat) - parsed.t > rules.lateness:", "if channel.clock - parsed.t > rules.lateness:"),
    ),
    mutation(
        "rows of a table that no entry names are not looked for",
        "law 7",
        "beepgpt/audit/own_sets.py",
        "tests/audit/test_own_sets.py::test_rows_too_many_or_in_another_order_are_named",
        ("more = {**texts, **({self.table.name: table} if self.table else {}), ", "more = {**texts, "),
    ),
    mutation(
        "prompts on both sides pass the audit",
        "law 7",
        "beepgpt/audit/laws.py",
        "tests/audit/test_exact_counts.py::test_a_random_split_has_as_many_leaks_as_there_are",
        (
            'if (twin := prompts.get(digest_of(body["prompt"].encode()))) is not None:',
            'if (twin := prompts.get(digest_of(body["prompt"].encode()))) is not None and row.conversation in conversations:',
        ),
    ),
    mutation(
        "what is surely broken is only suspected, for a guess beside it",
        "an audit names what is broken",
        "beepgpt/audit/findings.py",
        "tests/audit/test_foreign_pairs.py::test_what_is_sure_is_not_only_suspected_for_what_is_guessed_beside_it",
        ('"suspected" if all(finding.is_guess', '"suspected" if any(finding.is_guess'),
    ),
    mutation(
        "the longest prompts prove no leak, whatever they leave out",
        "law 2",
        "beepgpt/audit/placing.py",
        "tests/audit/test_foreign_pairs.py::test_a_long_instruction_before_each_prompt_hides_no_leak",
        ("> 0.9 * longest and oldest_are_left_out:", "> 0.9 * longest:"),
    ),
)
