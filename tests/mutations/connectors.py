"""Of what connectors read and write."""

from tests.mutations.mutation import mutation

EXPORTS = "tests/connectors/test_slack_export.py"
DAMAGE = "tests/connectors/test_slack_export_damage.py"
PRIVATE = "tests/connectors/test_private_channels.py"
NOTHING_LEAVES = "tests/commands/test_nothing_leaves.py"
ORDERING = "tests/connectors/test_ordering.py"
ORDERING_PY = "connectors/files/ordering.py"
KINDS_PY = "connectors/slack/channel_kinds.py"

ROWS = (
    mutation(
        "secrets stay in an export",
        "records",
        "connectors/slack/export/days.py",
        DAMAGE,
        ('    raw = strip_secrets(raw.removeprefix(b"\\xef\\xbb\\xbf"))', '    raw = raw.removeprefix(b"\\xef\\xbb\\xbf")'),
    ),
    mutation(
        "after a kill, the file is not cut back",
        "law 4",
        "connectors/files/jsonl.py",
        "tests/connectors/test_jsonl.py",
        (
            "        os.ftruncate(self._file, self._offset)\n        os.lseek(self._file, self._offset, os.SEEK_SET)",
            "        os.lseek(self._file, 0, os.SEEK_END)",
        ),
    ),
    mutation(
        "lines of one time stand as they came",
        "law 4",
        ORDERING_PY,
        ORDERING,
        ('int(b"".join(found.groups())), line[:HEAD]', 'int(b"".join(found.groups())), b""'),
    ),
    mutation(
        "lines are put in order in the file itself",
        "law 6",
        ORDERING_PY,
        f"{ORDERING}::test_killed_anywhere_the_same_call_does_the_rest",
        ("if path.exists() and not path.is_file() else replacing(path.resolve())", "if path.exists() else replacing(path.resolve())"),
    ),
    mutation(
        "the files of workers are removed before the whole is in its place",
        "law 6",
        ORDERING_PY,
        f"{ORDERING}::test_killed_anywhere_the_same_call_does_the_rest",
        (
            "    with Sorter(folder) as sorter, _destination(path) as out:\n        sorter.add(rows())\n",
            "    with Sorter(folder) as sorter, _destination(path) as out:\n        sorter.add(rows())\n"
            "        for file in files:\n            os.unlink(file.name)\n",
        ),
    ),
    mutation(
        "a worker without lines leaves no file, as if its lines were in their place",
        "law 6",
        "connectors/files/jsonl.py",
        "tests/connectors/test_jsonl.py::test_a_run_that_goes_on_makes_a_file_that_was_not_made",
        ("        if self.fresh or not self.path.exists():", "        if self.fresh:"),
    ),
    mutation(
        "the place of an export's record hangs on who reads it",
        "law 4",
        "connectors/slack/export/days.py",
        "tests/connectors/test_slack_export_source.py::test_the_source_reads_channel_after_channel",
        ("            if not chunks or channel != self._channel:\n", "            if not chunks:\n"),
    ),
    mutation(
        "several workers count no day file that can't be read",
        "law 6",
        "beepgpt/conversations/chunks.py",
        "tests/conversations/test_chunks.py",
        ("return Reject(value.reason, value.record, value.channel)", "return Reject(value.reason, value.record)"),
    ),
    mutation(
        "a day file that can't be read is left out uncounted",
        "law 6",
        "connectors/slack/export/days.py",
        DAMAGE,
        (
            "            yield DayElements(day.date, day.place, [], rejects)\n",
            "            yield DayElements(day.date, day.place, [], rejects[:-1])\n",
        ),
    ),
    mutation(
        "a private channel in channels.json is public",
        "law 9",
        KINDS_PY,
        PRIVATE,
        (
            'return "groups" if listing == "groups" or is_private or about.get("isgroup") or is_other else "channels"',
            'return "groups" if listing == "groups" or about.get("isgroup") or is_other else "channels"',
        ),
    ),
    mutation(
        "a folder named like a private one is only not listed",
        "law 9",
        KINDS_PY,
        PRIVATE,
        ('return "groups" if PRIVATE.fullmatch(folder) else None', 'return "groups" if PRIVATE.fullmatch(folder.lower()) else None'),
    ),
    mutation(
        "a resumed export begins its channel again",
        "law 4",
        "connectors/slack/export/days.py",
        "tests/connectors/test_slack_export_source.py",
        ("        return self._channel, self._done\n", "        return self._channel, 0\n"),
    ),
    mutation(
        "a file that was changed since is gone on with",
        "law 6",
        "connectors/files/jsonl.py",
        "tests/connectors/test_jsonl_changed.py",
        ("            if found != checksum and not (", "            if found != checksum and end < 0 and not ("),
    ),
    mutation(
        "a source that was shortened is taken for one at its end",
        "law 6",
        "connectors/files/jsonl.py",
        "tests/connectors/test_jsonl_changed.py",
        ("    if size < offset:\n        return", "    if size < offset // 2:\n        return"),
    ),
    mutation(
        "a name with one loopback address is this machine",
        "law 9",
        "connectors/http.py",
        NOTHING_LEAVES,
        (
            "return bool(addresses) and all(_plain(each).is_loopback for each in addresses)",
            "return any(_plain(each).is_loopback for each in addresses)",
        ),
    ),
    mutation(
        "addresses are checked, and then looked up again",
        "law 9",
        "connectors/http.py",
        NOTHING_LEAVES + "::test_a_name_is_looked_up_once",
        ("socket.create_connection((each, port), timeout)", "socket.create_connection((host, port), timeout)"),
    ),
    mutation(
        "a redirect is followed",
        "law 9",
        "connectors/http.py",
        ("tests/connectors/test_http.py", NOTHING_LEAVES),
        (
            "    http_error_300 = http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302\n",
            "    http_error_300 = http_error_301 = http_error_303 = http_error_302\n\n    def http_error_307(self, request: Request, answer: Any, code: int, message: str, headers: Message) -> Any:\n        again = Request(headers.get('location', ''), request.data, dict(request.header_items()), method='POST')\n        return self.parent.open(again)\n\n    http_error_308 = http_error_307\n",
        ),
    ),
    mutation(
        "who left the workspace is alerted by an old list",
        "law 9",
        "connectors/slack/members.py",
        "tests/alerts/test_old_lists.py",
        ('who.get("tz"), not who.get("deleted"))', 'who.get("tz"))'),
    ),
    mutation(
        "of a channel that is listed twice, the members of either may see it",
        "law 9",
        "connectors/slack/members.py",
        PRIVATE,
        ("self._members.get(each.id, each.members) & each.members", "self._members.get(each.id, each.members) | each.members"),
    ),
    mutation(
        "another program's files in a folder of parts are taken for parts",
        "what is somebody's own stays",
        "connectors/files/parquet.py",
        "tests/connectors/test_parquet_kills.py::test_what_another_program_wrote_is_left_alone",
        (
            "    if found is None:\n",
            "    if found is None and path.name.startswith('part-'):\n        return TablePart(0, 0, False, path)\n    if found is None:\n",
        ),
    ),
    mutation(
        "lines that the thread could not write are missing in a table",
        "law 6",
        "connectors/files/parquet.py",
        "tests/connectors/test_parquet.py::test_lines_that_are_no_records_are_not_left_out",
        ("        self._wait_for(0)\n", ""),
    ),
    mutation(
        "a run that goes on in a table reads its rows again",
        "law 6",
        "connectors/files/parquet.py",
        "tests/commands/test_tables_read.py::test_a_table_is_read_in_chunks_and_gone_on_with",
        ("        next(islice(self._lines, row, row), None)\n", ""),
    ),
    mutation(
        "a table is rewritten while a run writes it",
        "what is somebody's own stays",
        "beepgpt/forgetting/stores.py",
        "tests/forgetting/test_forget_tables.py::test_a_table_that_is_being_written_is_refused",
        ("            take(file, in_use)\n", "            pass\n"),
    ),
    mutation(
        "who is forgotten stays in columns that somebody added to a table",
        "law 9",
        "beepgpt/forgetting/stores.py",
        "tests/forgetting/test_forget_tables.py::test_a_table_keeps_the_columns_that_somebody_added",
        ("    for row in batch.to_pylist():\n", "    for row in batch.select(batch.schema.names[:33]).to_pylist():\n"),
    ),
    mutation(
        "what is put in place has no name after a cut of power",
        "law 6",
        "beepgpt/folders.py",
        "tests/runtime/test_folders.py",
        ("    new.replace(path)\n    sync_folder(path.parent)\n", "    new.replace(path)\n"),
    ),
    mutation(
        "a conversation of two private kinds is read if one of them is asked for",
        "law 9",
        "connectors/slack/export/contents.py",
        "tests/connectors/test_private_channels.py::test_what_is_listed_as_two_private_kinds_needs_both",
        ("kind = next((kind for kind in private if kind not in include),", "kind = next((kind for kind in private if kind in include),"),
    ),
    mutation(
        "lines that have expired stay as long as nothing more is written",
        "law 9",
        "connectors/files/jsonl.py",
        "tests/connectors/test_jsonl.py::test_old_lines_are_overwritten_where_they_stand",
        (
            "        try:\n            self._begin_day()\n            if self._unsynced and self._is_regular:\n",
            "        try:\n            if self._unsynced and self._is_regular:\n",
        ),
    ),
    mutation(
        "tokens of an answer that is asked for again are not counted",
        "costs are what was paid",
        "connectors/openai/caller.py",
        "tests/connectors/openai/test_faults.py::test_tokens_of_an_answer_without_words_are_paid_for_and_counted",
        (
            "                if error.passes:\n                    self._spend(usage)\n                    raise",
            "                if error.passes:\n                    raise",
        ),
    ),
    mutation(
        "a set of completions alone stays with a text that may not be shown any more",
        "law 9",
        "beepgpt/forgetting/stores.py",
        "tests/forgetting/test_forget_places.py::test_what_shows_a_forward_of_it_goes_from_all_that_was_made",
        ('name.startswith(("chat_", "completion_"))]', 'name.startswith("chat_")]'),
    ),
)
