"""Of runtime, settings, pages and the little that commands decide."""

from tests.mutations.mutation import mutation

RECOVERY_PY = "beepgpt/runtime/recovery.py"
PACING_PY = "beepgpt/runtime/pacing.py"
QUEUE_PY = "beepgpt/labeling/review_queue.py"
FEW_PY = "beepgpt/labeling/few_shots.py"
PAGE_PY = "beepgpt/web/local_server.py"
SETTINGS_PY = "config/settings.py"
JOBS_PY, REBUILDING_PY = "beepgpt/up/jobs.py", "beepgpt/up/rebuilding.py"
REBUILT, ASKED = "tests/up/test_generations.py::test_what_comes_while_a_generation_is_built_is_in_it", "tests/up/test_rebuild_asked.py"
CHILDREN_PY, FOLDER_PY = "beepgpt/up/children.py", "beepgpt/up/folder.py"
BACKUP_PY, BACKUP = "beepgpt/up/backup.py", "tests/up/test_backup.py"
CLOCK_PY, CLOCK = "beepgpt/clock.py", "tests/test_clock.py"
LIFE_PY, LIFE = "beepgpt/simulation/life.py", "tests/simulation/test_life.py"
UP_PY, SIMULATED = (
    "beepgpt/commands/up.py",
    "tests/up/test_up_simulated.py::test_what_cannot_be_simulated_is_refused_before_anything_is_made",
)
CHILDREN, FOLDER = "tests/up/test_children.py", "tests/up/test_folder.py"
INTERRUPTED = "tests/commands/test_interrupted.py"
PACING = "tests/runtime/test_pacing.py"
REVIEW = "tests/web/test_review.py"
ACCESS = "tests/web/test_review_access.py"
SETTINGS = "tests/config/test_settings.py"
FORGOTTEN_HOUR = "tests/forgetting/test_forget_files.py::test_the_hour_of_somebody_forgotten_is_empty_and_that_of_everybody_else_goes_on"

ROWS = (
    mutation(
        "a resumed run judges what is of the future by when it was resumed",
        "law 4",
        "beepgpt/runtime/workers.py",
        "tests/runtime/test_resuming.py::test_a_record_is_of_the_future_by_the_run_s_first_start",
        (
            'recovery.note["started_at"] if recovery is not None else now_us()',
            'recovery.note["started_at"] if recovery is not None and recovery.is_new else now_us()',
        ),
    ),
    mutation(
        "a simulated clock passes as fast as the machine's",
        "live: --simulate 600x",
        CLOCK_PY,
        CLOCK,
        ("self.begins + self.rate * (monotonic - self.since)", "self.begins + (monotonic - self.since)"),
    ),
    mutation(
        "a process that read a simulated clock before its start never hears of that",
        "live: --simulate 600x",
        CLOCK_PY,
        CLOCK,
        ("        if found.since is not None:\n            _started[place] = found\n", "        _started[place] = found\n"),
    ),
    mutation(
        "the page of a run asks a store of alerts that is being made for its table",
        "live: the page",
        "beepgpt/alerts/by_day.py",
        "tests/alerts/test_by_day.py",
        ("            return []  # it is being made\n", "            pass\n"),
    ),
    mutation(
        "an export as of a time names a reply that comes later",
        "law 1",
        "beepgpt/simulation/export.py",
        LIFE,
        ("                post.root.replies.remove(post)\n", "                pass\n"),
    ),
    mutation(
        "a simulated message has the time that was planned, and not that of its arrival",
        "live: nothing of it is late",
        LIFE_PY,
        LIFE,
        ("            post.t = now\n", "            pass\n"),
    ),
    mutation(
        "a simulated Slack's history shows a message as it was before its change",
        "law 6",
        LIFE_PY,
        LIFE,
        (
            "        apply_act(entry)\n        _, _, channel, _, post, _ = entry\n        self._show(channel, post)\n",
            "        _, _, channel, _, post, _ = entry\n        self._show(channel, post)\n        apply_act(entry)\n",
        ),
    ),
    mutation(
        "a simulation takes the tokens of a real Slack",
        "law 9",
        UP_PY,
        SIMULATED,
        ("    if settings.slack.app_token or settings.slack.bot_token:\n", "    if settings.slack.app_token:\n"),
    ),
    mutation(
        "a real workspace goes live in the folder of a simulated one",
        "live: one folder, one workspace",
        UP_PY,
        SIMULATED,
        ("    if (folder.path / SIMULATED).exists():\n", "    if False:\n"),
    ),
    mutation(
        "a command that ended is not started again",
        "live: what ends is started again",
        CHILDREN_PY,
        CHILDREN,
        ("            self.child.is_stopping.wait(pause)\n", "            self.child.is_stopping.wait()\n"),
    ),
    mutation(
        "a backup copies the log before those who read it",
        "law 6",
        BACKUP_PY,
        BACKUP,
        ("return 0 if inside.parts[0] in readers else 2 if", "return 3 if inside.parts[0] in readers else 2 if"),
    ),
    mutation(
        "a backup copies a database as a file, without what waits beside it",
        "law 6",
        BACKUP_PY,
        BACKUP,
        ("    if not is_database:\n", "    if is_database or not is_database:\n"),
    ),
    mutation(
        "a history joins behind live events",
        "law 6",
        FOLDER_PY,
        FOLDER,
        ('if history is not None and fingerprint not in ("", history):', 'if history and fingerprint not in ("", history):'),
    ),
    mutation(
        "a recovery folder of another run is gone on with",
        "law 4",
        RECOVERY_PY,
        INTERRUPTED,
        (
            "if different := [name for name in run if note.get(name) != run[name]]:",
            'if different := [name for name in run if name == "command" and note.get(name) != run[name]]:',
        ),
    ),
    mutation(
        "a recovery folder that others may write is read",
        "law 9",
        RECOVERY_PY,
        INTERRUPTED,
        (
            "        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):\n",
            "        if status.st_mode & stat.S_IWOTH and status.st_mode & stat.S_ISVTX:\n",
        ),
    ),
    mutation(
        "a paced heartbeat comes after the record that it should precede",
        "law 4",
        PACING_PY,
        PACING,
        ("            while self.span.in_order and beat <= due:\n", "            while self.span.in_order and beat + every <= due:\n"),
    ),
    mutation(
        "heartbeats are added to a file that is in no order of time",
        "law 6",
        PACING_PY,
        PACING,
        ("            while self.span.in_order and beat <= due:\n", "            while beat <= due:\n"),
    ),
    mutation(
        "a secret stands in the message about a wrong setting",
        "law 9",
        SETTINGS_PY,
        SETTINGS,
        ("{'a secret' if name in SECRET else repr(given[name].value)}", "{repr(given[name].value)}"),
    ),
    mutation(
        "a variable of the environment wins over a flag",
        "settings",
        SETTINGS_PY,
        SETTINGS,
        ("return init_settings, *_SOURCES.get()", "return *_SOURCES.get(), init_settings"),
    ),
    mutation(
        "a wrong token opens the review page if its cookie is there at all",
        "law 9",
        PAGE_PY,
        f"{ACCESS}::test_only_who_has_the_token_comes_in",
        ('return same(cookies.get(self.cookie, ""), self._secret)', "return self.cookie in cookies"),
    ),
    mutation(
        "the browser's own token opens the page again",
        "law 9",
        PAGE_PY,
        f"{ACCESS}::test_the_browsers_own_token_opens_once",
        ("            self._once = secrets.token_urlsafe(32)\n            return True\n", "            return True\n"),
    ),
    mutation(
        "a decision counts for the example that the page shows next",
        "labels: whose answer",
        QUEUE_PY,
        REVIEW,
        (
            "        self.few_shots.keep(identity, example.line, decision)  # type",
            "        self.few_shots.keep(identity, next((each.line for each in self.examples if each.id != identity), example.line), decision)  # type",
        ),
    ),
    mutation(
        "what was retracted is shown for review",
        "law 9",
        QUEUE_PY,
        REVIEW,
        ("        self._random.drop(identity)\n        self._newest.drop(identity)\n", "        self._random.drop(identity)\n"),
    ),
    mutation(
        "the same prompt is asked about twice",
        "labels: asked once",
        QUEUE_PY,
        f"{REVIEW}::test_a_prompt_that_was_decided_on_in_another_file_is_not_asked_about_again",
        (
            "return example.id not in self.few_shots.decided and example.prompt not in known",
            "return example.id not in self.few_shots.decided",
        ),
    ),
    mutation(
        "who is forgotten is put on the list after their messages are taken out",
        "law 9",
        "beepgpt/forgetting/run.py",
        "tests/forgetting/test_forget_files.py::test_who_is_forgotten_is_on_the_list_before_anything_is_taken_out",
        (
            "                write_forgotten(path, forgotten)  # first: what comes in from now on is left out\n"
            "            findings = list(_all(job, Cleaning(forgotten, apply=True), progress))\n",
            "                pass\n"
            "            findings = list(_all(job, Cleaning(forgotten, apply=True), progress))\n"
            "            write_forgotten(path, forgotten)\n",
        ),
    ),
    mutation(
        "a forward goes with its author alone, and never by the message that its link names",
        "law 9",
        "beepgpt/conversations/forgetting.py",
        "tests/conversations/test_forgetting.py::test_a_run_with_the_list_is_a_run_over_the_log_without_it",
        ("        if quoted is not None and (", "        if False and quoted is not None and ("),
    ),
    mutation(
        "what shows the words of a forward stays when the forward goes",
        "law 9",
        "beepgpt/conversations/forgetting.py",
        "tests/forgetting/test_forget_places.py::test_what_shows_a_forward_of_it_goes_from_all_that_was_made",
        ("        if self._shows_changed(body, channel):\n            return _GONE\n", ""),
    ),
    mutation(
        "forget looks for what quotes somebody before it knows their messages",
        "law 9",
        "beepgpt/forgetting/run.py",
        "tests/forgetting/test_forget_places.py::test_what_shows_a_forward_of_it_goes_from_all_that_was_made",
        ("        forgotten = more\n", "        return more, findings\n"),
    ),
    mutation(
        "an example that is too large for its topic is cut",
        "law 6",
        "beepgpt/runtime/destinations.py",
        "tests/dataflows/test_kafka_topics.py::test_an_example_is_whole_or_the_run_says_why_it_is_not_written",
        ('cuts=name != "examples"', "cuts=True"),
    ),
    mutation(
        "the copy of a topic leaves out records without a value",
        "law 6",
        "beepgpt/forgetting/topics.py",
        "tests/forgetting/test_forget_topics.py::test_what_is_copied_keeps_its_partition_order_key_headers_and_time",
        ("            if value is not None or record.value is None:\n", "            if value is not None:\n"),
        ("        if record.value is None or value_of(record) is not None:\n", "        if value_of(record) is not None:\n"),
    ),
    mutation(
        "what an outage held up is counted as soon as the brokers answer",
        "outages",
        "beepgpt/runtime/outages.py",
        "tests/runtime/test_outages.py::test_what_an_outage_held_up_is_counted_once_heartbeats_say_that_all_of_it_is_there",
        (
            "        if reached.complete_until < self._over_at * 1_000_000 and not is_still:\n",
            "        if reached.behind and not is_still:\n",
        ),
    ),
    mutation(
        "what an outage held up is counted while some of it is unread",
        "outages",
        "beepgpt/runtime/outages.py",
        "tests/runtime/test_outages.py::test_without_heartbeats_it_is_counted_once_nothing_has_come_for_a_minute",
        ("is_still = reached.behind == 0 and now", "is_still = now"),
    ),
    mutation(
        "a second outage forgets what the first one held up",
        "outages",
        "beepgpt/runtime/outages.py",
        "tests/runtime/test_outages.py::test_a_second_outage_while_records_of_the_first_are_awaited_counts_with_it",
        (
            "if self._reached is not None and self._read_before is None:\n                self",
            "if self._reached is not None:\n                self",
        ),
    ),
    mutation(
        "the end of an outage says what waits then, and not the most that waited",
        "outages",
        "beepgpt/runtime/outages.py",
        "tests/runtime/test_outages.py::test_an_outage_is_logged_when_it_begins_each_minute_and_when_it_is_over",
        ("max(count, self._most.get(name, count))", "count"),
    ),
    mutation(
        "a history of which the ingest was stopped is noted as in",
        "law 6",
        "beepgpt/up/run.py",
        "tests/up/test_folder.py",
        ("data.note(begun=self._fingerprint)", "data.note(begun=self._fingerprint, history=self._fingerprint)"),
    ),
    mutation(
        "a history whose ingest somebody ended is taken for whole",
        "law 6",
        JOBS_PY,
        "tests/up/test_folder.py::test_a_history_that_somebody_else_ended_is_not_in",
        ("if job.status or self._stop():", "if job.fault or self._stop():"),
    ),
    mutation(
        "what was read of another history is taken for the one that is asked for",
        "law 6",
        FOLDER_PY,
        "tests/up/test_generations.py::test_what_was_read_of_a_history_stays_until_its_generation_is_live",
        ("            self.clear_next()\n", ""),
    ),
    mutation(
        "a copy has what is built of a next generation",
        "law 6",
        BACKUP_PY,
        BACKUP,
        (" and not is_of_next(each))", ")"),
    ),
    mutation(
        "conversations that a forgotten message began stay in the alert store",
        "law 9",
        "beepgpt/alerts/forgetting.py",
        "tests/forgetting/test_forget_files.py::test_conversations_that_a_forgotten_message_began_leave_the_alert_store",
        (
            "forgotten.has_message(channel, ts_text(int(at)) if at.isdigit() else at)",
            "(at.isdigit() and forgotten.has_message(channel, ts_text(int(at))))",
        ),
    ),
    mutation(
        "what comes while the next generation is built is in it twice",
        "law 6",
        REBUILDING_PY,
        REBUILT,
        (", starts=self._read_to):", "):"),
    ),
    mutation(
        "what comes while the next generation is built is not in it",
        "law 6",
        "beepgpt/up/run.py",
        REBUILT,
        ("        building.append_rest()\n", ""),
    ),
    mutation(
        "what comes while the next generation is built is appended as it came",
        "law 6",
        REBUILDING_PY,
        REBUILT,
        ("        rest.sort(key=itemgetter(0))\n", ""),
    ),
    mutation(
        "a generation is live before the one before it has scored what is its own to score",
        "law 6",
        REBUILDING_PY,
        ASKED,
        ("(each.t or 0) >= due", "(each.t or 0) >= began"),
    ),
    mutation(
        "a rebuild that fails takes along what runs",
        "law 6",
        "beepgpt/up/run.py",
        ASKED,
        ("            if self.stop() or self.plan.former is None:\n                raise\n", "            raise\n"),
    ),
    mutation(
        "what runs while other settings are built loses its own",
        "law 6",
        "beepgpt/up/plan.py",
        ASKED,
        ("self.former if not self.data.ahead else None", "None"),
    ),
    mutation(
        "a rebuild is done at each start that asks for it",
        "law 6",
        "beepgpt/up/run.py",
        ASKED,
        ("plan.data.history is not None and not is_done", "plan.data.history is not None"),
    ),
    mutation(
        "a rebuild that was done once is never done again",
        "law 6",
        "beepgpt/up/run.py",
        ASKED,
        ("            data.note(rebuilt=None)\n", "            pass\n"),
    ),
    mutation(
        "a generation that was written by half is not removed, and taken for somebody else's",
        "law 6",
        "beepgpt/up/folder.py",
        "tests/up/test_generations.py::test_a_kill_leaves_the_old_generation_or_the_new_one",
        ("        self.note(unused=self.next.generation)\n", ""),
    ),
    mutation(
        "a generation is removed before the next one is noted as live",
        "law 6",
        "beepgpt/up/folder.py",
        "tests/up/test_generations.py::test_a_kill_leaves_the_old_generation_or_the_new_one",
        ("        self.note(generation=self.next.generation, unused=self.generation,", "        self.note(unused=self.generation,"),
    ),
    mutation(
        "how far back a history is read changes when it is half read",
        "law 6",
        "beepgpt/up/folder.py",
        "tests/up/test_generations.py::test_what_was_read_of_a_history_stays_until_its_generation_is_live",
        ("        if self.generation == COLLECTED:\n            return\n", ""),
    ),
    mutation(
        "what was read of a history goes with the generation that was written by half",
        "law 6",
        "beepgpt/up/folder.py",
        "tests/up/test_generations.py::test_what_was_read_of_a_history_stays_until_its_generation_is_live",
        ("        if unused != self.generation + 1:", "        if unused:"),
    ),
    mutation(
        "the history that a first model was made of stays",
        "law 9",
        "beepgpt/up/folder.py",
        "tests/up/test_folder.py::test_what_the_first_model_was_made_of_goes_and_its_pages_stay",
        ("        shutil.rmtree(self.fetched, ignore_errors=True)\n", ""),
    ),
    mutation(
        "examples of which a first model was made stay",
        "law 9",
        "beepgpt/up/folder.py",
        "tests/up/test_folder.py::test_what_the_first_model_was_made_of_goes_and_its_pages_stay",
        ('endswith((".html", ".alerts.jsonl"))', 'endswith((".html", ".jsonl"))'),
    ),
    mutation(
        "a copy has its name before it is whole",
        "law 6",
        "beepgpt/up/backup.py",
        "tests/up/test_backup.py::test_a_copy_that_is_killed_before_it_is_whole_is_none",
        ('making = to.with_name(f"{to.name}.new")', "making = to"),
    ),
    mutation(
        "a paced run takes what is forgotten for a record that can't be read",
        "law 6",
        PACING_PY,
        f"{PACING}::test_what_is_forgotten_takes_no_time_and_is_counted_as_without_a_pace",
        ("forgotten=self._forgotten))._replace(record=record)", "forgotten=self._forgotten))"),
    ),
    mutation(
        "the numbers of people are in the order of their names",
        "law 9",
        "beepgpt/web/naming.py",
        "tests/web/test_pages.py::test_the_number_of_a_person_does_not_tell_where_a_name_stands_in_the_alphabet",
        (
            'in_order = sorted({*names}, key=lambda name: sha256(name.encode("utf-8", "surrogatepass")).digest())',
            'in_order = sorted({*names}, key=lambda name: name.encode("utf-8", "surrogatepass"))',
        ),
    ),
    mutation(
        "half a second of a moment is five microseconds",
        "law 3",
        "config/sections.py",
        "tests/config/test_settings.py::test_moments_are_exact",
        ('int((found[2] or "").ljust(6, "0"))', 'int((found[2] or "").rjust(6, "0"))'),
    ),
    mutation(
        "an end while a library is loaded is a fault",
        "law 6",
        "beepgpt/commands/app.py",
        "tests/commands/test_interrupted.py::test_a_library_that_is_being_loaded_makes_no_fault_of_an_end",
        ("        if isinstance(error.__cause__, SystemExit):", "        if not isinstance(error, Exception):"),
    ),
    mutation(
        "who was alerted to a message that is forgotten now gets more in the hour",
        "alerts: limits",
        "beepgpt/alerts/forgetting.py",
        FORGOTTEN_HOUR,
        ("why = '', permalink = NULL\"\n", "why = '', permalink = NULL, made_at = 0\"\n"),
    ),
    mutation(
        "a message that was sent and is forgotten now counts as listed",
        "alerts: limits",
        "beepgpt/alerts/forgetting.py",
        FORGOTTEN_HOUR,
        ("why = '', permalink = NULL\"\n", "why = '', permalink = NULL, way = 'list'\"\n"),
    ),
)
