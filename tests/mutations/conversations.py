"""Of conversations: laws 1 to 6, and the rules of docs/semantics.md."""

from tests.mutations.mutation import mutation

AGREES = "tests/laws/test_agreement.py::test_the_two_readings_agree"
CHANNEL = "tests/conversations/test_channel.py"
EVENTS = "tests/conversations/test_events.py"
MOVED = "tests/conversations/test_moved_channels.py"
CHANNEL_PY = "beepgpt/conversations/channel.py"
EVENTS_PY = "beepgpt/conversations/events.py"
EXPORT_PY = "beepgpt/conversations/export.py"
FEATURES_PY = "beepgpt/conversations/features.py"
SHARD_PY = "beepgpt/conversations/shard.py"
SPEECH_PY = "beepgpt/conversations/speech.py"
REORDER_PY = "beepgpt/conversations/reorder.py"
STATE_PY = "beepgpt/conversations/state.py"
TARGETS_PY = "beepgpt/conversations/targets.py"
TOKENS_PY = "beepgpt/conversations/tokens.py"

ROWS = (
    mutation(
        "an example of a time from which the run before made no candidates is written without them",
        "law 5",
        CHANNEL_PY,
        "tests/conversations/test_snapshots.py::test_no_example_is_written_without_its_candidates",
        ("if point.t < output.since or (rules.candidates and point.lineup is None):", "if point.t < output.since:"),
    ),
    mutation(
        "an edit of nothing but whom a text names is no change",
        "law 1",
        "beepgpt/conversations/channel.py",
        "tests/conversations/test_candidates.py::TestCandidates::test_an_edit_of_nothing_but_whom_it_names_is_a_new_point",
        ("if new.mark == old.mark:", "if new.text == old.text:"),
    ),
    mutation(
        "a day file that can't be read goes to the dead letters with who is forgotten",
        "law 9",
        "beepgpt/conversations/chunks.py",
        "tests/conversations/test_chunks.py",
        ("    if forgotten is not None and forgotten.in_bytes(value.record):\n", "    if False:\n"),
    ),
    mutation(
        "a topic's records are read with what is forgotten",
        "law 9",
        "beepgpt/conversations/chunks.py",
        "tests/conversations/test_chunks.py::test_each_form_is_read_by_the_rules_and_without_what_is_forgotten",
        (
            "return parse(value.value, written, bots=rules.bots, edits=rules.edits, wanted=wanted, forgotten=forgotten)",
            "return parse(value.value, written, bots=rules.bots, edits=rules.edits, wanted=wanted)",
        ),
    ),
    mutation(
        "the answerer's messages are left out of the prompt (the original's leak)",
        "law 2",
        CHANNEL_PY,
        "tests/laws/test_blind_to_the_answer.py::TestLaw2BlindToTheAnswer",
        (
            "        output.drafts.append(\n",
            "        window = tuple(message for message in point.window if message.user not in settlement.answer)\n"
            "        point = Point(point.t, window or point.window)\n"
            "        output.drafts.append(\n",
        ),
    ),
    mutation(
        "a point that was told has no candidates left for its example",
        "law 5",
        "beepgpt/conversations/points.py",
        "tests/laws/test_train_as_you_serve.py::TestLaw5TrainAsYouServe::test_every_example_is_a_point_that_was_scored",
        ("            if point.t < self.examples_since:\n", "            if point.t >= self.examples_since:\n"),
    ),
    mutation(
        "an edit is applied at its post's time",
        "law 1",
        EXPORT_PY,
        "tests/conversations/test_export.py",
        ("            edited_at = max(edited_at, t)\n", "            edited_at = t\n"),
    ),
    mutation(
        "an export's last text stands in its post",
        "law 1",
        EXPORT_PY,
        "tests/laws/test_live_and_export.py::TestLaw4LiveAndExport",
        (' and author else {}) | {"text": None}', " and author else {})"),
    ),
    mutation(
        "reply_count is read",
        "records: known too late",
        EXPORT_PY,
        "tests/laws/test_live_and_export.py::TestLaw4LiveAndExport",
        (
            "    edited, elsewhere, author =",
            '    if stored.get("reply_count"):\n        event["text"] = f"{event.get(\'text\')} (discussed)"\n    edited, elsewhere, author =',
        ),
    ),
    mutation(
        "a thread's root is recognized by thread_ts",
        "records: known too late",
        (EVENTS_PY, EXPORT_PY),
        "tests/laws/test_live_and_export.py::TestLaw4LiveAndExport",
        ("        root = None  # Slack", "        pass  # Slack"),
        ("    if thread_ts is not None and thread_ts != stored", "    if thread_ts is not None and stored"),
    ),
    mutation(
        "a reaction after the horizon counts",
        "points and examples",
        CHANNEL_PY,
        AGREES,
        (
            "        self.close(t, output)\n        self.people.advance",
            "        if event.kind < 3:\n            self.close(t, output)\n        self.people.advance",
        ),
    ),
    mutation(
        "a deletion is applied as soon as it is read",
        "laws 1 and 4",
        SHARD_PY,
        "tests/laws/test_one_result.py::TestLaw4OneResult::test_any_order_of_arrival_within_lateness",
        (
            "                followed.buffer.add(parsed)",
            "                self._apply(followed, parsed) if parsed.kind == 2 else followed.buffer.add(parsed)",
        ),
    ),
    mutation(
        "features are those of the answer's time",
        "law 1",
        CHANNEL_PY,
        "tests/laws/test_past_only.py::TestLaw1PastOnly",
        (
            "        output.drafts.append(\n",
            "        point = Point(point.t, point.window, self._candidates(point.t, point.window, waiting.conversation))\n        output.drafts.append(\n",
        ),
    ),
    mutation(
        "the answer is counted in the features of its own point",
        "law 2",
        CHANNEL_PY,
        "tests/laws/test_blind_to_the_answer.py::TestLaw2BlindToTheAnswer",
        (
            "        first = joined[0]\n",
            "        first = joined[0]\n"
            "        waiting = first.open_point\n"
            "        if rules.candidates and waiting is not None and waiting.point is not None:\n"
            "            self.people.posted(user, t, message.words, None, False, ())\n"
            "            waiting.point = Point(waiting.t, waiting.point.window, self._candidates(t, waiting.point.window, first))\n",
        ),
    ),
    mutation(
        "words are weighted by a vocabulary that is fitted on all that was read",
        "laws 1 and 4",
        FEATURES_PY,
        "tests/laws/test_one_result.py::TestLaw4OneResult::test_any_order_of_arrival_within_lateness",
        ("self.channel_words: bytearray | None = None", "self.channel_words: bytearray | None = _FITTED"),
        ("_NUMBERS = ", "_FITTED = bytearray(BUCKETS)\n_NUMBERS = "),
    ),
    mutation(
        "a point's people are those of when its example is written",
        "law 1",
        FEATURES_PY,
        "tests/conversations/test_features.py::test_facts_are_what_the_log_says",
        (
            "        person = self.people[user] = Person(user, row, answers, authors)\n",
            "        person = self.people[user] = before\n        person.row, person.words, person.authors = row, answers, authors\n",
        ),
    ),
    mutation(
        "features change when they are read",
        "law 4",
        FEATURES_PY,
        "tests/conversations/test_candidates.py::TestCandidates",
        (
            "        buckets = buckets[:QUERY_WORDS]\n",
            "        buckets = buckets[:QUERY_WORDS]\n        for bucket in buckets:\n            common[bucket] = min(255, common[bucket] + 1)\n",
        ),
    ),
    mutation(
        "a reaction at its post's own time counts as an answer to it",
        "points and examples",
        TARGETS_PY,
        f"{CHANNEL}::TestSets",
        ("not (event.untimed or event.t > point.t)", "False"),
    ),
    mutation(
        "silence is called at half the horizon",
        "points and examples",
        CHANNEL_PY,
        AGREES,
        ("elif horizon is None or waiting.t + horizon >= before:", "elif horizon is None or waiting.t + horizon // 2 >= before:"),
    ),
    mutation(
        "what is censored is called silence",
        "law 3",
        CHANNEL_PY,
        "tests/laws/test_prefix.py::TestLaw3Prefix",
        ("            if self.rules.horizon is None:\n                self._settle", "            if True:\n                self._settle"),
    ),
    mutation(
        "lateness is ignored: events are applied as they are read",
        "law 4",
        SHARD_PY,
        "tests/laws/test_one_result.py::TestLaw4OneResult::test_any_order_of_arrival_within_lateness",
        ("        watermark = buffer.clock - buffer.lateness\n", "        watermark = clock + 1\n"),
    ),
    mutation(
        "timestamps are floats",
        "words",
        EVENTS_PY,
        EVENTS,
        ('int(seconds) * 1_000_000 + (int(fraction.ljust(6, "0")) if fraction else 0)', "int(float(ts) * 1_000_000)"),
    ),
    mutation(
        "a late event is dropped uncounted",
        "law 6",
        SHARD_PY,
        "tests/laws/test_nothing_is_lost.py::TestLaw6NothingIsLostInSilence",
        ("                account.count(LATE)\n", ""),
    ),
    mutation(
        "a late event is counted, and lost",
        "law 6",
        SHARD_PY,
        "tests/laws/test_nothing_is_lost.py::TestLaw6NothingIsLostInSilence",
        ("                self.output.late.append(parsed.record)\n", ""),
    ),
    mutation(
        "a silence of exactly the session gap ends a session",
        "conversations",
        CHANNEL_PY,
        f"{CHANNEL}::TestSessions",
        ("t - self.last_root <= self.rules.session_gap", "t - self.last_root < self.rules.session_gap"),
    ),
    mutation(
        "windows hold one message more",
        "words",
        CHANNEL_PY,
        AGREES,
        ("if len(conversation.window) > rules.window:", "if len(conversation.window) > rules.window + 1:"),
    ),
    mutation(
        "ties are broken by the order of arrival",
        "law 4",
        REORDER_PY,
        "tests/laws/test_one_result.py::TestLaw4OneResult::test_any_order_of_arrival_within_lateness",
        (
            "        heappush(self.buffered, event)\n",
            "        self.buffered.append(event)\n        self.buffered.sort(key=lambda each: each.t)\n",
        ),
        ("            yield heappop(buffered)", "            yield buffered.pop(0)"),
    ),
    mutation(
        "duplicates are judged as they arrive",
        "law 4",
        SHARD_PY,
        "tests/laws/test_one_result.py::TestLaw4OneResult",
        (
            "                followed.buffer.add(parsed)",
            "                account.count(DUPLICATE) if followed.buffer.is_duplicate(parsed) else followed.buffer.add(parsed)",
        ),
        ("        if followed.buffer.is_duplicate(event):", "        if False:"),
    ),
    mutation(
        "duplicates are not noticed",
        "law 4",
        SHARD_PY,
        "tests/laws/test_one_result.py::TestLaw4OneResult::test_duplicates_change_nothing_but_their_count",
        ("        if followed.buffer.is_duplicate(event):", "        if False:"),
    ),
    mutation(
        "one channel's events move another's clock",
        "law 4",
        SHARD_PY,
        AGREES,
        (
            "                followed.buffer.add(parsed)\n            self._advance(followed, parsed.t)\n",
            "                followed.buffer.add(parsed)\n            self._advance(followed, parsed.t)\n"
            "            self.heartbeats[partition] = max(self.heartbeats.get(partition, 0), parsed.t)\n",
        ),
    ),
    mutation(
        "a heartbeat speaks for all partitions",
        "law 4",
        SHARD_PY,
        "tests/laws/test_one_result.py::TestLaw4OneResult::test_a_partition_is_not_moved_by_anothers_heartbeats",
        (
            "            self._heartbeat(parsed.at, partition)",
            "            for each in {partition, *(f.partition for f in self.followed.values())}:\n                self._heartbeat(parsed.at, each)",
        ),
    ),
    mutation(
        "heartbeats don't reach the channels' clocks",
        "order",
        SHARD_PY,
        AGREES,
        ("        self.heartbeats[partition] = at\n", "        return\n"),
    ),
    mutation(
        "the horizon runs from the newest message, not from the point",
        "points and examples",
        STATE_PY,
        AGREES,
        ("        self.t = point.t\n        self.point", "        self.t = point.window[-1].ts\n        self.point"),
    ),
    mutation(
        "text that nobody knew yet is taken as empty",
        "law 1",
        "beepgpt/conversations/examples.py",
        AGREES,
        ("    return None in [message.text for message in window]", "    return False"),
    ),
    mutation(
        "a deletion retracts nothing",
        "points and examples",
        CHANNEL_PY,
        f"{CHANNEL}::TestEditsAndDeletions",
        ("                self._retract(identity, t, output)\n", "                pass\n"),
    ),
    mutation(
        "what a message said before is kept",
        "law 9",
        EVENTS_PY,
        EVENTS,
        ('    event["previous_message"] = kept\n', ""),
    ),
    mutation(
        "a thread without a reply has a silence of its own",
        "points and examples",
        TARGETS_PY,
        AGREES,
        ("if conversation.key & 1 and not conversation.replied and conversation.key != WHOLE:", "if False:"),
    ),
    mutation(
        "an answer in the thread leaves the session's silence standing",
        "points and examples",
        TARGETS_PY,
        f"{CHANNEL}::TestThreads",
        ("            waiting.answered_in_thread |= waiting.point.author != event.user", "            pass"),
    ),
    mutation(
        "the last author's own next message counts as the answer",
        "points and examples",
        CHANNEL_PY,
        f"{CHANNEL}::TestSessions",
        ("not bot and user != waiting.point.author", "not bot"),
    ),
    mutation(
        "a bot's post counts as an answer",
        "records",
        CHANNEL_PY,
        f"{CHANNEL}::TestBots",
        ("not bot and user != waiting.point.author", "user != waiting.point.author"),
    ),
    mutation(
        "a run until T closes horizons that end after T",
        "law 3",
        SHARD_PY,
        "tests/laws/test_prefix.py::TestLaw3Prefix",
        ("watermark if self.until is None else min(watermark, self.until + 1)", "watermark"),
    ),
    mutation(
        "a conversation with an open point is forgotten",
        "conversations",
        CHANNEL_PY,
        f"{CHANNEL}::TestForgetting",
        ("        if conversation.needed_by or conversation.key == self.session:", "        if conversation.key == self.session:"),
    ),
    mutation(
        "what is forgotten depends on when memory is swept",
        "law 4",
        CHANNEL_PY,
        "tests/laws/test_one_result.py::TestLaw4OneResult::test_when_memory_is_swept_changes_nothing",
        ("        if conversation is not None and self._is_too_old(conversation, t):", "        if False and conversation is not None:"),
    ),
    mutation(
        "a snapshot misses what a heartbeat did",
        "law 4",
        SHARD_PY,
        "tests/laws/test_one_result.py::TestLaw4OneResult",
        ("                followed.due = FOREVER\n                self._dirty[name] = None\n", "                followed.due = FOREVER\n"),
    ),
    mutation(
        "the account is no part of the snapshot",
        "law 6",
        SHARD_PY,
        "tests/laws/test_one_result.py::TestLaw4OneResult",
        ('        self.account.counts.update(state["counts"])\n', ""),
    ),
    mutation(
        "prompts have the newest message first",
        "prompts",
        TOKENS_PY,
        CHANNEL,
        ("SEPARATOR.join([text for text, _ in shown])", "SEPARATOR.join([text for text, _ in reversed(shown)])"),
    ),
    mutation(
        "token counts are added up where they don't add up",
        "prompts",
        TOKENS_PY,
        "tests/conversations/test_tokens.py",
        ('    return after.startswith("/") and not one[-1].isalnum()', "    return False"),
    ),
    mutation(
        "a point is emitted when its answer has come",
        "law 5",
        CHANNEL_PY,
        "tests/laws/test_train_as_you_serve.py::TestLaw5TrainAsYouServe",
        ("        if output.points is not None and opened:\n", "        if output.points is not None and not self.id:\n"),
        (
            "        points = output.points\n        if points is not None and waiting.t",
            "        points = output.points\n        if points is not None and waiting.point is not None:\n"
            "            self._emit([waiting], points, output.account)\n        if points is not None and waiting.t",
        ),
    ),
    mutation(
        "a scored point has the features of a day later",
        "law 5",
        CHANNEL_PY,
        "tests/laws/test_train_as_you_serve.py::TestLaw5TrainAsYouServe",
        (
            "            assert point is not None\n            conversations = tuple",
            "            assert point is not None\n            point = Point(point.t, point.window, self._candidates(point.t + DAY, point.window, first.conversation))\n"
            "            conversations = tuple",
        ),
    ),
    mutation(
        "an event's id is forgotten after ten minutes, whatever the allowed lateness",
        "order",
        REORDER_PY,
        f"{CHANNEL}::TestTime::test_a_copy_by_its_event_id_is_found_within_ten_minutes_and_the_lateness",
        ("in applied.items() if t >= oldest}", "in applied.items() if t >= event.t - DUPLICATES_KEPT}"),
    ),
    mutation(
        "a partition's heartbeat is not in what is resumed",
        "law 4",
        SHARD_PY,
        "tests/conversations/test_snapshots.py::test_a_heartbeat_holds_for_channels_that_are_first_seen_after_a_resume",
        ('        self.heartbeats.update(state["heartbeats"])\n', ""),
    ),
    mutation(
        "an edit changes the message in the windows of open points, too",
        "law 1",
        CHANNEL_PY,
        AGREES,
        (
            "        kept.message = new\n",
            "        old.text, old.mark, old.tokens, old.words, old.mentions = new.text, new.mark, -1, new.words, new.mentions\n",
        ),
    ),
    mutation(
        "a preview of a link is taken as speech",
        "records",
        SPEECH_PY,
        "tests/conversations/test_speech.py",
        (' and each.get("is_share") is True]', "]"),
    ),
    mutation(
        "words in blocks are not read",
        "records",
        SPEECH_PY,
        AGREES,
        ('_block_texts(message.get("blocks"))) if', "[]) if"),
    ),
    mutation(
        "a comment on a file is its owner's",
        "records",
        SPEECH_PY,
        "tests/conversations/test_speech.py",
        ('        return comment["user"]\n', '        return message["file"].get("user")\n'),
    ),
    mutation(
        "an emoji's name may stand inside of a word",
        "prompts",
        "beepgpt/conversations/cleaning.py",
        "tests/conversations/test_cleaning.py",
        ("_NAMES}(?![A-Za-z0-9_:])", "_NAMES}(?![0-9:])"),
    ),
    mutation(
        "an edit in a session that is over makes a point",
        "points and examples",
        CHANNEL_PY,
        "tests/laws/test_late_changes.py",
        ("        return conversation.key != self.session or t - self.last_root > self.rules.session_gap", "        return False"),
    ),
    mutation(
        "a late deletion leaves the open point as it is",
        "law 9",
        CHANNEL_PY,
        "tests/laws/test_late_changes.py",
        ("(is_deleted or conversation in going_on)", "conversation in going_on"),
    ),
    mutation(
        "reactors whom Slack cut off are taken as none",
        "points and examples",
        TARGETS_PY,
        "tests/conversations/test_export.py",
        ('        if "" in reactors:\n', "        if point is None:\n"),
    ),
    mutation(
        "a person's post through an app is a bot's",
        "records",
        EVENTS_PY,
        "tests/conversations/test_person_by_app.py",
        ("not ((by_person and user) or names_another_user(body))", "not names_another_user(body)"),
    ),
    mutation(
        "an unmarked copy is applied before a marked one",
        "law 4",
        EVENTS_PY,
        "tests/conversations/test_person_by_app.py::test_marked_and_unmarked_copies_in_any_order_give_one_result",
        ("False, bot, record, channel, text, root", "False, not bot, record, channel, text, root"),
    ),
    mutation(
        "a channel's move leaves its points open: the talk that went on elsewhere is called silence",
        "law 3",
        CHANNEL_PY,
        (MOVED, AGREES),
        ("            self.end(t, output, MOVED)\n", ""),
    ),
    mutation(
        "points that a move ends are counted as censored by the input's end",
        "law 6",
        CHANNEL_PY,
        MOVED,
        ("            self.end(t, output, MOVED)\n", "            self.end(t, output)\n"),
    ),
    mutation(
        "a move stands under the new id, whose points it ends",
        "law 3",
        EVENTS_PY,
        MOVED,
        ("False, False, record, channel, new, None, event_id, False)", "False, False, record, new, new, None, event_id, False)"),
    ),
    mutation(
        "a message that is retracted as it is written is retracted once more when another of its window is deleted",
        "law 6",
        "beepgpt/conversations/channel.py",
        "tests/conversations/test_channel.py::TestSets::test_what_is_retracted_when_it_is_written_is_not_retracted_again",
        (
            "self.written.add(settled_ts, identity, window, waiting.retracted_ts is not None)",
            "self.written.add(settled_ts, identity, window, False)",
        ),
    ),
    mutation(
        "a snapshot after the end has a quiet channel as it was before",
        "law 6",
        "beepgpt/conversations/shard.py",
        "tests/laws/test_one_result.py::TestLaw4OneResult::test_snapshot_and_resume_anywhere",
        (
            "        for name, followed in self.followed.items():\n            self._dirty[name] = None\n            for event in",
            "        for followed in self.followed.values():\n            for event in",
        ),
    ),
    mutation(
        "a message that ends in no ASCII and one that begins with a slash are counted apart",
        "prompts fit",
        "beepgpt/conversations/tokens.py",
        "tests/conversations/test_tokens.py::test_a_prompts_count_is_that_of_the_whole_prompt",
        (
            'return after.startswith("/") and not one[-1].isalnum()',
            'return after.startswith("/") and one[-1].isascii() and not one[-1].isalnum()',
        ),
    ),
    mutation(
        "a text that was shortened to all that is known of it is shown on",
        "law 9",
        "beepgpt/conversations/forgetting.py",
        "tests/conversations/test_forgetting.py::test_a_text_is_known_when_it_is_shortened",
        ("range(_STEP, len(cut) + 1, _STEP)", "range(_STEP, len(cut), _STEP)"),
    ),
    mutation(
        "who asked and thanks in the thread was met with silence",
        "points and examples",
        TARGETS_PY,
        f"{CHANNEL}::TestThreads",
        ("answered_in_thread |= waiting", "answered_in_thread = waiting"),
    ),
    mutation(
        "a snapshot misses what a record that is no event did",
        "law 4",
        SHARD_PY,
        "tests/conversations/test_snapshots.py::test_what_a_record_that_is_no_event_settles_is_in_the_next_snapshot",
        (
            "                followed = self._follow(parsed.channel, None, partition)\n",
            "                was = parsed.channel in self._dirty\n                followed = self._follow(parsed.channel, None, partition)\n                if not was:\n                    del self._dirty[parsed.channel]\n",
        ),
    ),
)
