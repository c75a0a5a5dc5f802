"""Of what connectors read and write."""

from tests.mutations.mutation import mutation

ROWS = (
    mutation(
        "secrets stay in an export",
        "records",
        "connectors/slack/export/days.py",
        "tests/connectors/test_slack_export.py",
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
)
