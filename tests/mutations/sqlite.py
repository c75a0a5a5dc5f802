"""Of topics in a folder: what is written, kept, read and removed."""

from tests.mutations.mutation import mutation

FILES_PY = "connectors/sqlite/topic_files.py"
WRITER_PY = "connectors/sqlite/writer.py"
SOURCE_PY = "connectors/sqlite/source.py"
LOG_PY = "connectors/sqlite/log.py"
TESTS = "tests/connectors/log/test_sqlite.py"

ROWS = (
    mutation(
        "an offset is given again once the last records of a topic are removed",
        "law 6",
        WRITER_PY,
        f"{TESTS}::test_an_offset_is_never_given_twice",
        (
            "after = {number: bound[1] for number, bound in files.bounds_in(base).items()}",
            "after = {n: len(files.records_from(base, n, 0, bound[1], 1 << 30)) for n, bound in files.bounds_in(base).items()}",
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
            '            base.execute("BEGIN IMMEDIATE")\n            after = {number: bound[1] for number, bound in files.bounds_in(base).items()}\n',
            '            after = {number: bound[1] for number, bound in files.bounds_in(base).items()}\n            base.execute("BEGIN IMMEDIATE")\n',
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
        ("            if at < first:\n", "            if at < 0:\n"),
    ),
    mutation(
        "compaction keeps the first value of a key",
        "law 6",
        FILES_PY,
        f"{TESTS}::test_compaction_keeps_the_last_of_each_key",
        ("NOT IN (SELECT max(place)", "NOT IN (SELECT min(place)"),
    ),
    mutation(
        "what is removed stays in the free pages of a topic's file",
        "law 9",
        FILES_PY,
        f"{TESTS}::test_what_is_removed_is_gone_from_the_files",
        ("PRAGMA secure_delete = ON", "PRAGMA secure_delete = OFF"),
    ),
    mutation(
        "what is removed stays in the write-ahead log",
        "law 9",
        LOG_PY,
        f"{TESTS}::test_what_is_removed_is_gone_from_the_files",
        (
            "at = found[-1].offset + 1 if len(found) == CHUNK else end\n            self._empty_wal(base, path)\n",
            "at = found[-1].offset + 1 if len(found) == CHUNK else end\n",
        ),
    ),
    mutation(
        "a reader that is far behind keeps a transaction open",
        "law 6",
        SOURCE_PY,
        f"{TESTS}::test_a_reader_far_behind_reads_on_while_much_is_written",
        ('                base.execute("COMMIT")\n', "                is_all = bool(base.in_transaction)\n"),
    ),
)
