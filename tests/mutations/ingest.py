"""Of ingest: what comes to the topic, once, in order."""

from tests.mutations.mutation import mutation

KNOWN_PY = "beepgpt/ingest/slack/known_records.py"
BACKFILL_PY = "beepgpt/ingest/slack/backfill.py"
WRITER_PY = "beepgpt/ingest/slack/event_writer.py"
FEEDS_PY = "beepgpt/ingest/feeds.py"
RUN_PY = "beepgpt/ingest/run.py"
QUERIES_PY = "beepgpt/ingest/slack/web_queries.py"
CHECKS_PY = "beepgpt/ingest/slack/thread_checks.py"
UNKNOWN = "tests/ingest/test_unknown_channels.py"
CHECKS = "tests/ingest/test_thread_checks.py"
TWO_OUTAGES = "test_what_went_in_an_outage_is_found_though_another_begins_before_its_thread_is_read"
AGREEMENT = "tests/ingest/test_agreement.py"
PARTS = "tests/ingest/test_ingest_slack_parts.py"
FAULTS = "tests/ingest/test_ingest_slack_faults.py"
LIVE = "tests/ingest/test_ingest_slack.py"
CATCHING_UP = "tests/ingest/test_catching_up.py"
LOOP_PY = "beepgpt/ingest/slack/loop.py"
INGEST = "tests/ingest/test_ingest.py"
HISTORIES_PY, HISTORIES = "beepgpt/ingest/slack/histories.py", "tests/ingest/test_histories.py"

ROWS = (
    mutation(
        "a file is the same source under another list of the forgotten",
        "laws 4 and 6",
        "beepgpt/ingest/feeds.py",
        "tests/forgetting/test_forget_places.py::test_a_file_is_another_source_once_more_is_forgotten",
        (
            'self.identity: dict[str, Any] = {"kind": "file", "size": size, "ends": ends, **_list_of(forgotten)}',
            'self.identity: dict[str, Any] = {"kind": "file", "size": size, "ends": ends}',
        ),
    ),
    mutation(
        "a heartbeat that reached one partition before a kill comes to no other",
        "law 4",
        "beepgpt/ingest/write_plan.py",
        "tests/ingest/test_ingest.py::test_a_heartbeat_that_reached_one_partition_before_a_kill_comes_to_all",
        (
            "self._beat = next_heartbeat(min(self._covered.values()), self._step)",
            "self._beat = next_heartbeat(max(self._covered.values()), self._step)",
        ),
    ),
    mutation(
        "a history keeps a channel that has become private while it was read",
        "law 9",
        HISTORIES_PY,
        HISTORIES,
        ("        self._folder.keep_only(listed)\n", "        self._folder.keep_only([*listed, *self._folder.read])\n"),
    ),
    mutation(
        "a history says what an edit made of a message after the time that it is of",
        "law 1",
        HISTORIES_PY,
        HISTORIES,
        ("if edited_at is None or edited_at <= until:", "if edited_at is None or until:"),
    ),
    mutation(
        "a history that is not whole is read as an export",
        "law 6",
        "beepgpt/runtime/places.py",
        HISTORIES,
        ("        if not export.is_whole:\n", "        if not export.is_whole and not export.channels:\n"),
    ),
    mutation(
        "the verification token is written to the topic",
        "law 9",
        KNOWN_PY,
        LIVE,
        ('return {name: value for name, value in payload.items() if name != "token"}', "return dict(payload)"),
    ),
    mutation(
        "a backfilled edit comes twice, live and from the history",
        "law 6",
        KNOWN_PY,
        PARTS,
        ("return identity.key in self._keys or (*identity.key[:3], end_of_second) in self._keys", "return identity.key in self._keys"),
    ),
    mutation(
        "an edit in the gap is taken for known, as its message was edited before",
        "law 6",
        KNOWN_PY,
        PARTS,
        (
            '.get((channel, micros(event["message"]["ts"])), 0) < t // SECOND * SECOND:',
            '.get((channel, micros(event["message"]["ts"])), 0) == 0:',
        ),
    ),
    mutation(
        "what was deleted in a gap is not found",
        "law 9",
        KNOWN_PY,
        PARTS,
        (
            "        gone = sorted(ts for ts, root in posts if ts >= earliest and ts not in there and ts not in waiting and has_all(root))\n",
            "        gone: list[int] = []\n",
        ),
    ),
    mutation(
        "replies of threads that were not read are taken for deleted",
        "law 6",
        KNOWN_PY,
        CATCHING_UP,
        (" and ts not in waiting and has_all(root))", " and ts not in waiting)"),
    ),
    mutation(
        "a thread whose last reply is known is taken for known",
        "law 6",
        KNOWN_PY,
        CATCHING_UP,
        (
            "return is_begun and (channel, POST, latest) in self._keys and len(self._replies.get((channel, root), ())) == count",
            "return is_begun and (channel, POST, latest) in self._keys",
        ),
    ),
    mutation(
        "an edit that was found later is written with the time at which it was made",
        "law 6",
        KNOWN_PY,
        CATCHING_UP,
        ('    if t < not_before and event.get("subtype") == "message_changed":\n', "    if t < 0:\n"),
    ),
    mutation(
        "a kill loses what was still to be looked for",
        "law 6",
        LOOP_PY,
        CATCHING_UP,
        ("self.coverage.unchecked_since = self.backfill.checks.all_begun()", "self.coverage.unchecked_since = None"),
    ),
    mutation(
        "what is said in a channel that Slack does not describe is written",
        "law 9",
        QUERIES_PY,
        UNKNOWN,
        ("return self.why_left_out(channel) or (None if channel in self._infos else UNKNOWN)", "return self.why_left_out(channel)"),
    ),
    mutation(
        "the history of a channel that became private is read",
        "law 9",
        QUERIES_PY,
        UNKNOWN,
        ("window = window if is_ours(described) else None", "is_ours(described)"),
    ),
    mutation(
        "a second event of a channel that Slack does not describe holds the heartbeats of all",
        "law 6",
        BACKFILL_PY,
        UNKNOWN,
        ("        self._asked.discard((answer.channel, answer.generation))\n", ""),
    ),
    mutation(
        "what is held for a channel that the listing leaves out holds the heartbeats of all",
        "law 6",
        BACKFILL_PY,
        UNKNOWN,
        ("                self._leave_out(channel, why)\n            elif", "                pass\n            elif"),
    ),
    mutation(
        "a reply that was not asked for is taken for deleted",
        "law 6",
        CHECKS_PY,
        (CHECKS, AGREEMENT),
        (
            "            check.replies_since,\n            answer.forgotten,",
            "            self._coverage.whole_since(check.channel, check.since) - 7_200_000_000,\n            answer.forgotten,",
        ),
    ),
    mutation(
        "a reply that came after its thread was read is taken for deleted",
        "law 6",
        CHECKS_PY,
        (CHECKS, AGREEMENT),
        ("gone = [ts for ts in found.gone if ts <= check.until]", "gone = found.gone"),
    ),
    mutation(
        "what threads are held against is forgotten after an hour",
        "law 6",
        LOOP_PY,
        (CHECKS, AGREEMENT),
        ("self._known.forget_before(self.coverage.remembered_since)", "self._known.forget_before(at - 3_600_000_000)"),
    ),
    mutation(
        "a restart does not read what threads are held against",
        "law 6",
        KNOWN_PY,
        CHECKS,
        ("remembered_since(covered, since))", "remembered_since(covered, None))"),
    ),
    mutation(
        "a restart looks through the threads of the last hour alone",
        "law 6",
        CHECKS_PY,
        CHECKS,
        ("if self._left_over is not None and self._left_over < since:", "if False:"),
    ),
    mutation(
        "what was read of a thread amid an outage counts for that outage",
        "law 6",
        CHECKS_PY,
        CHECKS,
        ("if waiting is not None and not waiting.is_asked:", "if waiting is not None:"),
    ),
    mutation(
        "a thread that Slack refuses is not counted",
        "law 6",
        CHECKS_PY,
        CHECKS,
        ('            self._writer.account["checks_refused"] += 1\n', ""),
    ),
    mutation(
        "forgotten replies come back when their thread is read again",
        "law 9",
        LOOP_PY,
        CHECKS,
        (
            "kept, forgotten = self._remembered(arrived.check.channel, arrived.messages)",
            "kept, forgotten = arrived.messages, frozenset[int]()",
        ),
    ),
    mutation(
        "the deletion of a forgotten message is written, which names it",
        "law 9",
        LOOP_PY,
        CHECKS,
        ("                hidden |= {t for t, kind, _ in events_of(channel, message) if kind == POST}\n", "                pass\n"),
    ),
    mutation(
        "an event is acknowledged before the log has it",
        "law 6",
        WRITER_PY,
        f"{FAULTS}::test_what_is_acknowledged_stands_on_its_topic",
        (
            "        if self._pending:\n            self._events.send(self._pending)\n            self._pending = []\n            self._events.flush()\n",
            "        if self._pending:\n            self._events.send(self._pending)\n            self._pending = []\n",
        ),
    ),
    mutation(
        "what was held is written behind what was backfilled, whatever its time",
        "law 4",
        WRITER_PY,
        (FAULTS, LIVE),
        ("        ready.sort(key=lambda each: each[0])\n", ""),
    ),
    mutation(
        "a channel that is not public is on the topic until its history was read",
        "law 9",
        BACKFILL_PY,
        LIVE,
        (
            "        for each in others:\n            self._writer.leave_out(each.arrival, why)\n        self._writer.write_backfill([], moves)\n",
            "        self._writer.write_backfill([], gap.held)\n",
        ),
    ),
    mutation(
        "an answer from before an outage closes the gap",
        "law 6",
        BACKFILL_PY,
        FAULTS,
        ("if gap is None or answer.generation != self._generation or self.is_starting:", "if gap is None:"),
    ),
    mutation(
        "a record that is too large for the topic is dropped",
        "law 6",
        RUN_PY,
        f"{INGEST}::test_a_record_that_is_too_large_is_named",
        (
            "            send()\n            writer.flush()\n            raise NotDelivered(\n",
            "            continue\n            raise NotDelivered(\n",
        ),
    ),
    mutation(
        "dead letters of another topic are merged, too",
        "law 6",
        FEEDS_PY,
        f"{INGEST}::test_letters_are_told_from_what_they_were_made_of",
        ('if came_from not in ("", self._name) or headers', 'if came_from not in ("", came_from) or headers'),
    ),
    mutation(
        "duplicates are recognized for ever",
        "law 4",
        FEEDS_PY,
        INGEST,
        ("        while kept and kept[0][0] < t - lateness - DUPLICATES_KEPT:\n", "        while kept and kept[0][0] < 0:\n"),
    ),
    mutation(
        "a record without a value is not counted where a log is put in order",
        "law 6",
        FEEDS_PY,
        f"{INGEST}::test_letters_are_told_from_what_they_were_made_of",
        ("for record in records)\n", "for record in records if record.value is not None)\n"),
    ),
    mutation(
        "a heartbeat that only some partitions have covers all",
        "law 6",
        KNOWN_PY,
        f"{FAULTS}::test_a_heartbeat_counts_where_every_partition_has_it",
        ("covered = min(beats.values())", "covered = max(beats.values())"),
    ),
    mutation(
        "what somebody did in the app is acknowledged before it is on the topic",
        "law 6",
        WRITER_PY,
        f"{FAULTS}::test_what_is_acknowledged_stands_on_its_topic",
        ("        self._interactions.flush()\n", ""),
    ),
    mutation(
        "an event that is too large is acknowledged before its dead letter is on the topic",
        "law 6",
        WRITER_PY,
        f"{FAULTS}::test_what_is_acknowledged_stands_on_its_topic",
        ("            self._dead_letters.flush()\n", "            pass\n"),
    ),
    mutation(
        "an export's edits and reactions don't say whose message they are about where somebody is forgotten",
        "law 9",
        FEEDS_PY,
        "tests/forgetting/test_forget_files.py::test_an_export_brings_no_edit_and_no_reaction_to_what_somebody_forgotten_wrote",
        (", with_authors=with_authors", ""),
    ),
    mutation(
        "retention deletes at the last heartbeat's time, however far its channel is ahead",
        "law 9",
        "beepgpt/ingest/slack/retention.py",
        "tests/ingest/test_unsent_deletions.py::test_a_deletion_by_retention_is_not_late_when_heartbeats_have_waited",
        ("times = {channel: writer.free_time(channel, newest(channel))", "times = {channel: writer.free_time(channel, 0)"),
    ),
    mutation(
        "retention deletes behind posts that are still held",
        "law 6",
        "beepgpt/ingest/slack/backfill.py",
        "tests/ingest/test_unsent_deletions.py::test_a_deletion_by_retention_is_not_late_when_heartbeats_have_waited",
        (
            "return self._known.newest(channel) or 0 if gap is None else gap.newest",
            "return self._known.newest(channel) or 0 if gap is None or gap else 0",
        ),
    ),
    mutation(
        "retention's deletions overtake the posts of the same turn",
        "law 6",
        WRITER_PY,
        "tests/ingest/test_unsent_deletions.py::test_a_deletion_by_retention_is_not_late_when_heartbeats_have_waited",
        (
            "        self._pending += records\n        self.flush()\n        self.account",
            "        self._events.send(records)\n        self.flush()\n        self.account",
        ),
    ),
    mutation(
        "of two copies of a post by an app, ingest keeps the one that names no person",
        "law 4",
        FEEDS_PY,
        INGEST,
        ("parsed.removed, parsed.bot),", "parsed.removed, not parsed.bot),"),
    ),
    mutation(
        "a dead letter from the future is written once its time has come",
        "law 4",
        "beepgpt/ingest/feeds.py",
        "tests/ingest/test_ingest.py::test_letters_are_told_from_what_they_were_made_of",
        ('elif headers.get("reason") == b"future":', 'elif headers.get("reason") == b"never":'),
    ),
    mutation(
        "a heartbeat covers what came while the log was confirming",
        "law 6",
        "beepgpt/ingest/slack/loop.py",
        "tests/ingest/test_ingest_slack_faults.py::test_a_heartbeat_promises_nothing_that_came_while_it_was_flushed",
        ("            self._write_heartbeat(good)\n", "            self._write_heartbeat(self._connections.good_until())\n"),
    ),
    mutation(
        "bots' messages never expire",
        "law 9",
        "beepgpt/ingest/slack/retention.py",
        "tests/ingest/test_unsent_deletions.py::test_what_is_older_than_the_retention_is_deleted_once_and_replays_delete_it_too",
        ('log_time(record.timestamp, now_us()), bots="context")', "log_time(record.timestamp, now_us()))"),
    ),
    mutation(
        "a history that is put before a topic leaves out what was before an event that came there late",
        "law 6",
        FEEDS_PY,
        "tests/up/test_generations.py::test_a_history_is_put_before_what_the_topic_has_itself",
        ('max(self._begins, self._since.get(item.channel or "", FOREVER))', 'self._since.get(item.channel or "", FOREVER)'),
    ),
    mutation(
        "a history is put beside what the topic has itself",
        "law 6",
        FEEDS_PY,
        "tests/up/test_generations.py::test_a_channel_that_was_joined_later_gets_what_was_before",
        ('self._since.get(item.channel or "", FOREVER)):', "FOREVER):"),
    ),
    mutation(
        "a thread that waits when another outage begins is compared with that one alone",
        "law 6",
        CHECKS_PY,
        f"{CHECKS}::{TWO_OUTAGES}",
        ("earliest = since if waiting is None else min(since, waiting.since)", "earliest = since"),
    ),
    mutation(
        "threads that wait when another outage begins are not read any more",
        "law 6",
        BACKFILL_PY,
        f"{CHECKS}::{TWO_OUTAGES}",
        (
            "        self._asked = set()\n        self._is_listed = False\n",
            "        self._asked = set()\n        self.checks._waiting.clear()\n        self._is_listed = False\n",
        ),
    ),
    mutation(
        "what is read of a thread amid another outage is thrown away",
        "law 6",
        CHECKS_PY,
        f"{CHECKS}::{TWO_OUTAGES}",
        (
            "        del self._waiting[check.channel, check.root]\n        if answer.why_not:\n",
            "        del self._waiting[check.channel, check.root]\n        if is_open:\n            return\n        if answer.why_not:\n",
        ),
    ),
    mutation(
        "edits that are found in a thread amid another outage are thrown away",
        "law 6",
        CHECKS_PY,
        f"{CHECKS}::{TWO_OUTAGES}",
        ("if not is_open or _edits_one_of(posts, event)]", "if not is_open]"),
    ),
    mutation(
        "a thread that waits for its channel when another outage begins is thrown away",
        "law 6",
        BACKFILL_PY,
        f"{CHECKS}::test_a_thread_that_waits_for_its_channel_when_another_outage_begins_is_written",
        (
            "        self._asked = set()\n        self._is_listed = False\n",
            "        self._asked = set()\n        self._postponed = {}\n        self._is_listed = False\n",
        ),
    ),
    mutation(
        "a gap that is open when another outage begins begins with that one",
        "law 6",
        BACKFILL_PY,
        f"{CHECKS}::test_a_gap_that_is_open_when_another_outage_begins_still_begins_where_it_did",
        ("            since = min(since, gap.since)\n", "            pass\n"),
    ),
)
