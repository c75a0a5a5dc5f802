"""Of topics in a folder: what is written, kept, read and removed."""

from tests.mutations.mutation import mutation

FILES_PY = "connectors/sqlite/topic_files.py"
WRITER_PY = "connectors/sqlite/writer.py"
SOURCE_PY = "connectors/sqlite/source.py"
LOG_PY = "connectors/sqlite/log.py"
TESTS = "tests/connectors/log/test_sqlite.py"
FILES_TESTS = "tests/connectors/log/test_sqlite_files.py"
REMOVED_TESTS = "tests/connectors/log/test_sqlite_removed.py"

ROWS = (
    mutation(
        "retention takes young records that stand before an old one",
        "law 6",
        FILES_PY,
        "tests/connectors/log/test_sqlite.py::test_retention_stops_at_the_first_record_that_is_young",
        (
            "            kept = offsets_at(base, now_ms - retention, [number])[number]\n",
            "            old = base.execute('SELECT max(place) + 1 FROM records WHERE place >= ? AND place < ? AND time < ?', (low, high, now_ms - retention))\n"
            "            kept = ((old.fetchone()[0] or low) & OFFSET)\n",
        ),
    ),
    mutation(
        "an offset is given again once the last records of a topic are removed",
        "law 6",
        WRITER_PY,
        f"{TESTS}::test_an_offset_is_never_given_twice",
        (
            "after = {number: bound[1] for number, bound in files.bounds_in(base).items()}",
            "after = {n: len(files.records_from(base, n, 0, bound[1])[0]) for n, bound in files.bounds_in(base).items()}",
        ),
    ),
    mutation(
        "a topic in a folder is flushed before it is on the disk",
        "law 6",
        WRITER_PY,
        f"{TESTS}::test_a_full_disk_stops_the_writer",
        ("            while (self._queue or self._is_committing) and self._error is None:\n", "            while False:\n"),
    ),
    mutation(
        "two processes write to one topic in a folder",
        "law 6",
        WRITER_PY,
        f"{TESTS}::test_a_second_writer_is_refused",
        ("            if alone:\n", "            if alone and not path.exists():\n"),
    ),
    mutation(
        "records and counters of a topic in a folder are written apart",
        "law 6",
        WRITER_PY,
        f"{TESTS}::test_writers_at_once_give_no_offset_twice",
        (
            "        with files.transaction(base):\n            after = {number: bound[1] for number, bound in files.bounds_in(base).items()}\n",
            "        after = {number: bound[1] for number, bound in files.bounds_in(base).items()}\n        with files.transaction(base):\n",
        ),
    ),
    mutation(
        "what was confirmed may still be on its way to the disk",
        "law 6",
        FILES_PY,
        f"{TESTS}::test_a_commit_is_on_the_disk_when_it_returns",
        ('"PRAGMA synchronous = FULL"', '"PRAGMA synchronous = NORMAL"'),
    ),
    mutation(
        "what retention removed from a topic in a folder is passed over",
        "law 6",
        SOURCE_PY,
        f"{TESTS}::test_retention_removes_what_is_old",
        ("                if not part.is_fresh:\n", "                if at < 0:\n"),
    ),
    mutation(
        "compaction keeps the first value of a key",
        "law 6",
        FILES_PY,
        f"{TESTS}::test_compaction_keeps_the_last_of_each_key",
        ("NOT IN (SELECT max(place)", "NOT IN (SELECT min(place)"),
    ),
    mutation(
        "what is removed stays in the write-ahead log",
        "law 9",
        LOG_PY,
        f"{TESTS}::test_what_is_removed_is_gone_from_the_files",
        (
            "        if not files.empty_wal(base, files.BUSY):\n",
            "        if False:\n",
        ),
    ),
    mutation(
        "a second forget, which finds nothing, leaves what the first one could not remove from the write-ahead log",
        "law 9",
        LOG_PY,
        f"{REMOVED_TESTS}::test_forgetting_again_does_what_a_reader_hindered[delete]",
        (
            "            self._leave_nothing(base, path)  # though",
            "            if count:\n                self._leave_nothing(base, path)  # though",
        ),
    ),
    mutation(
        "what is removed stays in the gaps of split pages",
        "law 9",
        FILES_PY,
        f"{REMOVED_TESTS}::test_split_pages_keep_no_copies_of_what_is_removed",
        ('    base.execute("VACUUM")\n', '    base.execute("PRAGMA optimize")\n'),
    ),
    mutation(
        "what a topic in a folder loses stays in its pages until they are needed",
        "law 9",
        FILES_PY,
        f"{REMOVED_TESTS}::test_what_a_topic_loses_is_overwritten_at_once",
        ('"PRAGMA secure_delete = ON"', '"PRAGMA secure_delete = OFF"'),
    ),
    mutation(
        "two runs of score write to one topic in a folder",
        "law 6",
        "beepgpt/runtime/destinations.py",
        "tests/dataflows/test_scoring_sqlite.py",
        ("                alone=workers == 1,\n", "                alone=False,\n"),
    ),
    mutation(
        "a run of score with several workers writes to a topic in a folder that another one has",
        "law 6",
        "beepgpt/runtime/destinations.py",
        "tests/dataflows/test_scoring_sqlite.py",
        ("yield [one for each in self.topics().values() for one", "yield [one for each in list(self.topics().values())[:0] for one"),
    ),
    mutation(
        "the workers of a run do not keep its topics in a folder",
        "law 6",
        LOG_PY,
        f"{FILES_TESTS}::test_the_processes_of_a_run_keep_its_topics",
        ("            yield held\n", "            yield []\n"),
    ),
    mutation(
        "a write-ahead log whose topic is gone keeps what was deleted",
        "law 9",
        "beepgpt/forgetting/topics.py",
        "tests/forgetting/test_forget_logs.py::test_a_log_whose_topic_is_gone_goes",
        ("                path.unlink()\n", "                pass\n"),
    ),
    mutation(
        "a new topic takes the write-ahead log of a deleted one for its own",
        "law 9",
        FILES_PY,
        f"{FILES_TESTS}::test_a_new_topic_has_no_records_of_one_of_its_name",
        ("        for each in _beside(path):  # of a file", "        for each in ():  # of a file"),
    ),
    mutation(
        "an error of the commit thread that is not SQLite's leaves flush waiting",
        "law 6",
        WRITER_PY,
        f"{FILES_TESTS}::test_a_record_that_can_not_be_written_hangs_nobody",
        ("            except BaseException as error:  # whatever", "            except OSError as error:  # whatever"),
    ),
    mutation(
        "a reader that is far behind keeps a transaction open",
        "law 6",
        SOURCE_PY,
        f"{TESTS}::test_a_reader_far_behind_reads_on_while_much_is_written",
        ('                base.execute("COMMIT")\n', "                is_all = bool(base.in_transaction)\n"),
    ),
    mutation(
        "cleaning fails in silence where a topic is closed at once",
        "law 6",
        "beepgpt/connectors/sqlite/cleaning.py",
        "tests/connectors/log/test_sqlite.py::test_a_writer_closes_whatever_its_cleaning_was_at",
        (
            "        everything: list[int] = []\n        due: list[int] = []\n",
            "        everything = list(files.bounds_in(self._base))\n        due = everything.copy()\n",
        ),
    ),
    mutation(
        "long records that a topic in a folder loses stay in pages that are free",
        "law 9",
        FILES_PY,
        f"{REMOVED_TESTS}::test_what_a_topic_loses_is_overwritten_at_once",
        ('"PRAGMA secure_delete = ON"', '"PRAGMA secure_delete = FAST"'),
    ),
)
