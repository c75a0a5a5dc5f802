"""Of alerts: who is alerted, and what people may see."""

from tests.mutations.mutation import mutation

DECISIONS_PY = "beepgpt/alerts/decisions.py"
DECIDING_PY = "beepgpt/alerts/deciding.py"
DELIVERY_PY = "beepgpt/alerts/delivery.py"
DMS_PY = "beepgpt/alerts/direct_messages.py"
ELIGIBILITY_PY = "beepgpt/alerts/eligibility.py"
PREDICTIONS_PY = "beepgpt/alerts/predictions.py"
REHEARSAL_PY = "beepgpt/alerts/rehearsal.py"
REPLAY_PY = "beepgpt/alerts/replay.py"
SPREAD_PY = "beepgpt/alerts/spread.py"
STORE_PY = "beepgpt/alerts/store.py"
PARTICIPANTS_PY = "beepgpt/alerts/participants.py"
SLACK_PY = "connectors/slack/alerts.py"
WHO = "tests/alerts/test_who_is_alerted.py"
DELIVERED = "tests/alerts/test_delivery.py"
REHEARSED = "tests/alerts/test_rehearsal.py"
REPLAYED = "tests/alerts/test_replay.py"
REPORTED = "tests/alerts/test_rehearsal_report.py"
SPREAD = "tests/alerts/test_spread.py"

LOST = "tests/alerts/test_store.py::test_a_lost_store_alerts_nobody_twice_and_hourly_limits_go_on"

ROWS = (
    mutation(
        "alerts to threads of one session count as independent",
        "figures: intervals are by conversation",
        REHEARSAL_PY,
        REHEARSED,
        (
            "known = [(self.history.session_name(each.alert.point.conversations[0]), is_so)",
            "known = [(each.alert.point.conversations[0], is_so)",
        ),
    ),
    mutation(
        "a simple rule knows of a set who answered before all have",
        "law 1",
        REPLAY_PY,
        REHEARSED,
        ("if outcome.settled_ts > point.prompt_ts:", "if (outcome.answer_ts or outcome.settled_ts) > point.prompt_ts:"),
    ),
    mutation(
        "a rehearsal's hour is longer than that of live alerts",
        "alerts: a rehearsal decides as live",
        REPLAY_PY,
        REHEARSED,
        ("while times and times[0] <= since", "while times and times[0] < since"),
    ),
    mutation(
        "a rehearsal asks for quiet hours at the point, and not when the message would come",
        "alerts: a rehearsal decides as live",
        REPLAY_PY,
        REHEARSED,
        ("in_quiet_hours(point.prompt_ts + SECOND, known", "in_quiet_hours(point.prompt_ts, known"),
    ),
    mutation(
        "a rehearsal forgets whom an earlier alert reached",
        "alerts: a rehearsal decides as live",
        REPLAY_PY,
        REPLAYED,
        ("                known.alerted[user].update(keys)\n", ""),
    ),
    mutation(
        "who may not see a channel is counted as muted",
        "figures: what kept people from an alert",
        REPLAY_PY,
        REPLAYED,
        ('kept_back["not_a_member"] += likely', 'kept_back["muted"] += likely'),
    ),
    mutation(
        "points that were scored late alert nobody in a rehearsal",
        "alerts: a rehearsal decides as live",
        REHEARSAL_PY,
        REPLAYED,
        ("fresh = (point if point.fresh else point._replace(fresh=True) for point in points)", "fresh = points"),
    ),
    mutation(
        "a simple rule knows an answer a second before it comes",
        "law 1",
        REPLAY_PY,
        REHEARSED,
        ("if outcome.settled_ts > point.prompt_ts:", "if outcome.settled_ts > point.prompt_ts + SECOND:"),
    ),
    mutation(
        "a simple rule loses somebody when another answers more",
        "figures: what a model is held against",
        REPLAY_PY,
        REHEARSED,
        ("bisect_left(self.pairs, (before, user))", 'bisect_left(self.pairs, (before, ""))'),
    ),
    mutation(
        "an oracle alerts everybody whom the model names",
        "figures: what a model is held against",
        REPLAY_PY,
        REPORTED,
        (" if history.joined_at(user, point) is not None]", "]"),
    ),
    mutation(
        "a cap's week is a microsecond too long",
        "figures: what a cap a week costs",
        SPREAD_PY,
        SPREAD,
        ("times[0] <= at - WEEK", "times[0] < at - WEEK"),
    ),
    mutation(
        "a cap counts what was only listed",
        "figures: what a cap a week costs",
        SPREAD_PY,
        SPREAD,
        ('        if each.alert.way == "direct":\n            times.append(at)\n', "        times.append(at)\n"),
    ),
    mutation(
        "what a cap costs is of all parts of time",
        "figures: what a cap a week costs",
        SPREAD_PY,
        SPREAD,
        ('rehearsed.alerts if each.part == "judge"]', "rehearsed.alerts]"),
    ),
    mutation(
        "who joins as the day ends has not joined",
        "figures: joined is within a day",
        REHEARSAL_PY,
        REHEARSED,
        ("ts <= point.prompt_ts + DAY), default", "ts < point.prompt_ts + DAY), default"),
    ),
    mutation(
        "live, who joins as the day ends has not joined",
        "figures: joined is within a day",
        STORE_PY,
        REHEARSED,
        ("user, channel, at, at - DAY)", "user, channel, at, at - DAY + 1)"),
    ),
    mutation(
        "a new store does not ask Slack what a lost one sent",
        "law 6",
        DELIVERY_PY,
        LOST,
        ("        if not self.store.lacks_history(user, now, self._kept):\n", "        if user:\n"),
    ),
    mutation(
        "a direct message does not name its conversations",
        "law 6",
        SLACK_PY,
        LOST,
        ('"keys": " ".join(identity.keys)', '"keys": ""'),
    ),
    mutation(
        "direct messages of a lost store don't count for the hourly limit",
        "law 6",
        STORE_PY,
        LOST,
        ("ON CONFLICT DO UPDATE SET letter = excluded.letter", "ON CONFLICT DO NOTHING"),
    ),
    mutation(
        "points from before a new store are alerted",
        "law 6",
        "beepgpt/commands/alert_run.py",
        "tests/commands/test_alert_command.py::test_from_topic_to_slack_and_to_another_topic",
        ("policy = replace(policy, not_before=store.born)", "policy = replace(policy, not_before=0)"),
    ),
    mutation(
        "what a person may see is remembered without its channel",
        "law 9",
        ELIGIBILITY_PY,
        WHO,
        ("if self._monotonic() < self._checked.get((user, channel), 0.0):", 'if self._monotonic() < self._checked.get((user, ""), 0.0):'),
        ("self._checked[user, channel] = ", 'self._checked[user, ""] = '),
    ),
    mutation(
        "alerts take the time of a deletion for its message",
        "law 9",
        DECIDING_PY,
        "tests/dataflows/test_scoring.py::test_what_is_deleted_in_slack_is_withdrawn_by_alerts",
        ('str(value["channel"]), micros(value["ts"]), now)', 'str(value["channel"]), micros(value["deleted_ts"]), now)'),
    ),
    mutation(
        "a membership in doubt lets an alert through",
        "law 9",
        ELIGIBILITY_PY,
        WHO,
        ('            return "membership_in_doubt"\n', '            return ""\n'),
    ),
    mutation(
        "a doubt about the person counts, one about the channel doesn't",
        "law 9",
        ELIGIBILITY_PY,
        WHO,
        (
            '            return "membership_in_doubt"\n',
            '            return "membership_in_doubt" if error.method == "users.info" else ""\n',
        ),
    ),
    mutation(
        "who may see a channel is asked once for a whole hour",
        "law 9",
        ELIGIBILITY_PY,
        WHO,
        ("CHECKED = 30.0", "CHECKED = 3600.0"),
    ),
    mutation(
        "a no is remembered as a yes",
        "law 9",
        ELIGIBILITY_PY,
        WHO,
        (
            '        if not may_see:\n            return "not_a_member"\n',
            '        self._checked[user, channel] = self._monotonic() + CHECKED\n        if not may_see:\n            return "not_a_member"\n',
        ),
    ),
    mutation(
        "membership is checked at the decision, and not again before sending",
        "law 9",
        DMS_PY,
        WHO,
        (
            'if reason := self._eligibility.refusal(row, now, ages=dm["kind"] == "alert"):',
            'if reason := (dm["kind"] != "alert" and self._eligibility.refusal(row, now, ages=False)):',
        ),
    ),
    mutation(
        "who opted out, muted or answered after the decision is alerted",
        "alerts: who is alerted",
        ELIGIBILITY_PY,
        WHO,
        (
            "        if reason := exclusion_reason(user, _point_of(row), self._store.conversations_of(row), self._store, self.policy):\n            return reason\n",
            "",
        ),
    ),
    mutation(
        "an answer in the root's own thread is overlooked before sending",
        "alerts: who is alerted",
        ELIGIBILITY_PY,
        WHO,
        ("self._store.conversations_of(row)", '(row["conversation"],)'),
    ),
    mutation(
        "a message that waits is sent in quiet hours",
        "alerts: who is alerted",
        DMS_PY,
        WHO,
        (
            'elif (verdict := self._eligibility.route(alerts[0], now)).route != "direct":',
            'elif (verdict := self._eligibility.route(alerts[0], dm["made_at"])).route != "direct":',
        ),
    ),
    mutation(
        "App Home shows what its reader may no longer see",
        "law 9",
        DELIVERY_PY,
        WHO,
        (
            'if reason := self.eligibility.visibility_refusal(user, row["channel"]):',
            'if (reason := self.eligibility.visibility_refusal(user, row["channel"])) and row["letter"] is None:',
        ),
    ),
    mutation(
        "a guest is taken for a full member of the workspace",
        "law 9",
        SLACK_PY,
        WHO,
        ('who.get("deleted") or who.get("is_bot") or who.get("is_restricted") or', 'who.get("deleted") or who.get("is_bot") or'),
    ),
    mutation(
        "a channel that became private is taken for public",
        "law 9",
        SLACK_PY,
        WHO,
        ('about.get("is_channel") is True and about.get("is_private") is False', 'about.get("is_channel") is True'),
    ),
    mutation(
        "only the first page of a channel's members is read",
        "alerts: who is alerted",
        SLACK_PY,
        WHO,
        ("            if not cursor:\n                return False\n", "            return False\n"),
    ),
    mutation(
        "the limit counts a day, and not an hour",
        "alerts: who is alerted",
        DECISIONS_PY,
        WHO,
        ("history.direct_alerts(user, now - HOUR), is_quiet", "history.direct_alerts(user, now - 24 * HOUR), is_quiet"),
    ),
    mutation(
        "the limit forgets messages whose alert left App Home",
        "alerts: who is alerted",
        STORE_PY,
        WHO,
        (" OR letter.state IN ('sending', 'sent', 'unknown', 'deleted'))", ")"),
    ),
    mutation(
        "quiet hours end a minute late",
        "alerts: who is alerted",
        DECISIONS_PY,
        "tests/alerts/test_decisions.py::test_quiet_hours_begin_and_end_on_the_minute",
        ("begin <= minute < end if begin <= end else", "begin <= minute <= end if begin <= end else"),
    ),
    mutation(
        "an edit makes an old message new",
        "alerts: who is alerted",
        PREDICTIONS_PY,
        "tests/alerts/test_decisions.py::test_old_points_and_rebuilds_alert_nobody",
        ("return min(self.prompt_ts, self.message)", "return self.prompt_ts"),
    ),
    mutation(
        "a deleted message of the window is looked for in its newest alone",
        "alerts: who is alerted",
        DECISIONS_PY,
        WHO,
        ("any(history.is_deleted(point.channel, ts) for ts, _ in point.window)", "history.is_deleted(point.channel, point.message)"),
    ),
    mutation(
        "a deletion between decision and sending leaves the excerpt",
        "law 9",
        STORE_PY,
        WHO,
        ('        self._db.execute("UPDATE alert SET excerpt = \'\' WHERE id = ?", (row["id"],))\n        if row', "        if row"),
    ),
    mutation(
        "a deletion changes nothing that was sent",
        "law 9",
        STORE_PY,
        (WHO, DELIVERED),
        ("WHERE id = ? AND state IN ('due', 'sending', 'sent', 'unknown')\n", "WHERE id = ? AND state IN ('due', 'sending')\n"),
    ),
    mutation(
        "a session and the threads of its messages are alerted to one by one",
        "alerts: who is alerted",
        PREDICTIONS_PY,
        WHO,
        ("    keys.update(dict.fromkeys(links_of(point)))\n", ""),
    ),
    mutation(
        "who wrote in the hour before takes part in this one",
        "alerts: who is alerted",
        PREDICTIONS_PY,
        WHO,
        ('(f"{each}:{ts // HOUR}" if', '(f"{each}:{point.message // HOUR}" if'),
    ),
    mutation(
        "a prediction that comes again alerts again",
        "alerts: delivered once",
        STORE_PY,
        WHO,
        ('        self._db.executemany("INSERT OR IGNORE INTO told VALUES (?, ?, ?)", alerted)\n', ""),
    ),
    mutation(
        "a message without an answer is sent again at once",
        "alerts: delivered once",
        DMS_PY,
        DELIVERED,
        (
            'state = "sent" if found is not None else "due" if dm["tries"] < TRIES else "unknown"',
            'state = "due" if dm["tries"] < TRIES else "unknown"',
        ),
    ),
    mutation(
        "a refusal is not counted",
        "law 6",
        STORE_PY,
        WHO,
        (
            '(f"refused:{reason}", identity))\n        self.count(f"refused:{reason}")\n',
            '(f"refused:{reason}", identity))\n',
        ),
    ),
    mutation(
        "the webhook gets an alert before its person does",
        "alerts: delivered once",
        STORE_PY,
        WHO,
        (
            "AND (alert.way = 'list' OR letter.id IS NULL OR letter.state IN ('sent', 'unknown'))\n                 ORDER",
            "AND alert.way IN ('list', 'direct')\n                 ORDER",
        ),
    ),
    mutation(
        "a channel of which Slack doesn't say that it is private counts as public",
        "law 9",
        SLACK_PY,
        f"{DELIVERED}::test_a_channel_that_slack_does_not_call_public_is_its_members_alone",
        ('about.get("is_private") is False', 'not about.get("is_private")'),
    ),
    mutation(
        "an unconfirmed message is looked for only up to this machine's time",
        "law 9",
        DMS_PY,
        f"{DELIVERED}::test_what_was_unknown_is_looked_for_again_when_its_message_is_deleted",
        ('ts_text(dm["tried_at"] + SKEW)', 'ts_text(dm["tried_at"])'),
    ),
    mutation(
        "messages that were deleted or never confirmed don't count for the hour",
        "alerts: who is alerted",
        STORE_PY,
        f"{WHO}::test_a_dm_that_was_deleted_or_never_confirmed_counts_for_the_hour_too",
        ("('sending', 'sent', 'unknown', 'deleted')", "('sending', 'sent')"),
    ),
    mutation(
        "a text is cut before it is redacted",
        "law 9",
        "beepgpt/alerts/interests.py",
        "tests/alerts/test_embeddings.py::test_no_half_of_a_secret_is_sent_where_a_long_text_is_cut",
        ("self._redact(each)[:MOST_CHARACTERS]", "self._redact(each[:MOST_CHARACTERS])"),
    ),
    mutation(
        "a prediction is read before what people asked for",
        "alerts: who is alerted",
        "beepgpt/alerts/reading.py",
        "tests/commands/test_alert_command.py::test_all_that_people_asked_for_is_read_before_the_first_prediction",
        ("        if source.is_awaited:\n            return found\n", ""),
    ),
    mutation(
        "a prediction counts from the live model's threshold on, whoever made it",
        "alerts: who is alerted",
        DECISIONS_PY,
        f"{WHO}::test_a_prediction_counts_from_the_threshold_of_its_own_model_on",
        ("replace(self, threshold=self.thresholds(model))", 'replace(self, threshold=self.thresholds(""))'),
    ),
    mutation(
        "predictions of other settings alert people",
        "alerts: who is alerted",
        "beepgpt/runtime/specs.py",
        "tests/commands/test_alert_command.py::test_predictions_of_other_settings_are_refused",
        ("        if spec != self._expected.spec:\n", "        if not spec:\n"),
    ),
    mutation(
        "a long digest names all keys of its first alerts, and none of its last",
        "law 6",
        DMS_PY,
        "tests/alerts/test_store.py::test_a_long_digest_names_each_of_its_conversations",
        ("key for rank in by_rank for key in rank if key is not None", "key for rank in zip(*by_rank) for key in rank if key is not None"),
    ),
    mutation(
        "while Slack refuses to show what a lost store sent, nothing counts as sent",
        "law 6",
        DELIVERY_PY,
        "tests/alerts/test_store.py::test_while_slack_does_not_show_what_was_sent_before_it_is_asked_again",
        ("            if error.code not in GONE:\n", "            if error.code in GONE:\n"),
    ),
    mutation(
        "a process that follows says of a new store what one over a file says",
        "alerts: who is alerted",
        "beepgpt/commands/alert_run.py",
        "tests/commands/test_alert_command.py::test_from_topic_to_slack_and_to_another_topic",
        ("say_new(store, follows=follows, is_first", "say_new(store, follows=False, is_first"),
    ),
    mutation(
        "a digest in quiet hours counts as a message that waits for Slack",
        "alerts: who is alerted",
        "beepgpt/alerts/database.py",
        "tests/runtime/test_alert_metrics.py::test_a_digest_in_quiet_hours_is_no_message_that_waits",
        ("iif(kind = 'digest' AND is_quiet(", "iif(kind = 'digest' AND NOT is_quiet("),
    ),
    mutation(
        "a digest in quiet hours keeps a run over a file going",
        "alerts: who is alerted",
        DELIVERY_PY,
        "tests/runtime/test_alert_metrics.py::test_a_digest_in_quiet_hours_is_no_message_that_waits",
        ('return dm["kind"] == "digest" and in_quiet_hours', 'return dm["kind"] == "quiet" and in_quiet_hours'),
    ),
    mutation(
        "who has just answered in a session is alerted",
        "alerts: who is alerted",
        PARTICIPANTS_PY,
        f"{WHO}::test_who_has_answered_already_is_not_alerted",
        (
            'or (each.endswith(":session") and self._wrote_root_in(user, each, session_gap))',
            'or (each.endswith(":none") and self._wrote_root_in(user, each, session_gap))',
        ),
    ),
    mutation(
        "a session goes on for as long as somebody writes in the channel",
        "alerts: who is alerted",
        PARTICIPANTS_PY,
        WHO,
        (
            "return bool(self._one(sql, since, channel, since, first)[0] <= gap)",
            "return bool(self._one(sql, since, channel, since, first))",
        ),
    ),
    mutation(
        "who has just answered in a thread, or a whole channel, is alerted",
        "alerts: who is alerted",
        PARTICIPANTS_PY,
        f"{WHO}::test_who_has_answered_already_is_not_alerted",
        ("self.record_participants([(each, user) for each in conversations], {}, ts)", "self.record_participants([], {}, ts)"),
    ),
    mutation(
        "events that come while predictions are read are left for after their alerts",
        "alerts: who is alerted",
        "beepgpt/alerts/reading.py",
        "tests/commands/test_alert_topics.py::test_an_answer_that_comes_while_predictions_are_read_counts",
        ("    for source in sources if found else ():\n", "    for source in ():\n"),
    ),
    mutation(
        "who had posted before the alert came has joined",
        "figures: joined is within a day",
        STORE_PY,
        "tests/alerts/test_live_figures.py::test_who_had_posted_before_the_alert_came_has_not_joined",
        ("(at > alerted_at, row", "(at > 0, row"),
    ),
    mutation(
        "alerts end at a topic that was made again",
        "alerts: delivered once",
        "beepgpt/commands/alert_sources.py",
        "tests/commands/test_alert_topics.py::test_topics_that_were_made_again_are_read_from_their_beginning[sqlite]",
        ("        except PositionLost:\n", "        except ZeroDivisionError:\n"),
    ),
    mutation(
        "a deleted text stands in the alert store's log",
        "what is private: deleted and forgotten",
        STORE_PY,
        "tests/alerts/test_store.py::test_a_text_that_may_not_be_shown_any_more_is_in_no_file",
        (
            "        self._is_wal_due = True\n        self._db.execute(\"UPDATE alert SET excerpt = '' WHERE id = ?\"",
            "        self._db.execute(\"UPDATE alert SET excerpt = '' WHERE id = ?\"",
        ),
    ),
    mutation(
        "a reader's digest goes by the days of another time zone",
        "an alert is told once",
        "beepgpt/alerts/delivery.py",
        "tests/alerts/test_store.py::test_a_digest_comes_once_on_a_day_of_its_reader",
        ('today = f"{local_time(now, zone):%Y-%m-%d}"', 'today = f"{local_time(now, self.policy.zone):%Y-%m-%d}"'),
    ),
    mutation(
        "a root that only Slack's events tell of stays under the channel's old id",
        "whoever takes part is not alerted",
        "beepgpt/alerts/store.py",
        "tests/alerts/test_store.py::test_who_wrote_in_a_session_is_known_under_the_channel_s_new_id",
        ('("deleted", "channel"), ("root", "channel")),', '("deleted", "channel")),'),
    ),
    mutation(
        "who writes on in a thread is forgotten with what they wrote first",
        "whoever takes part is not alerted",
        "beepgpt/alerts/participants.py",
        "tests/alerts/test_store.py::test_who_writes_on_takes_part_as_long_as_alerts_are_kept",
        ('again = "ON CONFLICT DO UPDATE SET at = max(at, excluded.at)"', 'again = "ON CONFLICT DO NOTHING"'),
    ),
    mutation(
        "an edit that comes while a message is in flight is not made in it",
        "law 9",
        "beepgpt/alerts/store.py",
        "tests/alerts/test_store.py::test_a_text_that_may_not_be_shown_any_more_leaves_a_dm_that_was_in_flight_then",
        (
            "\"UPDATE letter SET chore = 'edit' WHERE id = ? AND state IN ('sending', 'sent') AND chore IS NULL\"",
            "\"UPDATE letter SET chore = 'edit' WHERE id = ? AND state = 'sent' AND chore IS NULL\"",
        ),
    ),
    mutation(
        "a message in flight is looked for by this machine's clock alone",
        "alerts: delivered once",
        "beepgpt/alerts/direct_messages.py",
        "tests/alerts/test_delivery.py::test_what_was_sent_without_an_answer_is_found_and_not_sent_again",
        (
            'found = self._slack.find(dm["dm"], dm["id"], ts_text(max(dm["tried_at"] - SKEW, 0)))',
            'found = self._slack.find(dm["dm"], dm["id"], ts_text(dm["tried_at"]))',
        ),
    ),
)
