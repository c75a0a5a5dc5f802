"""What is not read is said before a run and named after it; a run that could use nothing fails, and says what is probably wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import GENERAL, export, lines_of, post, report_in, run, stored

UNLISTED = "Not read: 1 folder (b'board-only'; 1 day file), as no listing names it: nothing shows that it is public."


def misnamed(tmp_path: Path) -> Path:
    """An export whose private channel has a folder of another name."""
    days = {f"{folder}/2023-11-14.json": [stored(n) for n in range(3)] for folder in ("general", "b'board-only'")}
    return export(tmp_path / "e.zip", days, channels=GENERAL, groups=[{"id": "G1", "name": "board-only"}])


def test_folders_that_nothing_shows_to_be_public_are_said_and_named(tmp_path: Path):
    """How many and how to read them, before the run; after it, each with its size. The audit goes by the same rule."""
    source = misnamed(tmp_path)

    ran = run(tmp_path, "examples", source.name, "--to", "o.jsonl", "--report", "report.json")

    assert ran.status == 0
    before, _, after = ran.err.partition("events read")
    assert f"{UNLISTED} To read it, too: --include channels,unlisted\n" in before
    assert "Not read, as listed nowhere: b'board-only' (unlisted), 3 messages in 1 day file\n" in after
    assert {each["channel"] for each in lines_of(tmp_path / "o.jsonl")} == {"C1"}
    assert report_in(tmp_path)["unlisted"] == [{"folder": "b'board-only'", "kind": "unlisted", "day_files": 1, "messages": 3}]

    audited = run(tmp_path, "audit", source.name, "o.jsonl")
    assert audited.status == 0 and UNLISTED in audited.err

    asked = run(tmp_path, "examples", source.name, "--to", "o.jsonl", "--include", "channels,unlisted")
    assert asked.status == 0 and "Read, though no listing shows that they are public: 1 folder (b'board-only')" in asked.err
    assert {each["channel"] for each in lines_of(tmp_path / "o.jsonl")} == {"C1", "b'board-only'"}


def test_an_export_of_which_nothing_may_be_read_fails_before_it_begins(tmp_path: Path):
    """And the examples of an earlier run stay."""
    source = export(tmp_path / "e.zip", {"general/2023-11-14.json": [stored(0), stored(1)]})
    (tmp_path / "o.jsonl").write_text("{}\n")

    ran = run(tmp_path, "examples", source.name, "--to", "o.jsonl")

    assert ran.status == 1 and "nothing is left to read: 1 folder of messages" in ran.err
    assert "as there is no channels.json" in ran.err and "--include channels,unlisted" in ran.err
    assert (tmp_path / "o.jsonl").read_text() == "{}\n"


def test_live_there_is_nothing_unlisted(tmp_path: Path):
    """Slack says of each channel what it is."""
    ran = run(tmp_path, "ingest", "slack", "--to", "kafka://127.0.0.1:9/t", "--include", "channels,unlisted")

    assert ran.status == 2 and "--include unlisted: is for folders of an export" in ran.line


def encrypted(tmp_path: Path) -> Path:
    """An export whose only day file is encrypted, by its flags."""
    path = export(tmp_path / "e.zip", {"general/2023-11-14.json": [stored(0), stored(1)]}, channels=GENERAL)
    raw = bytearray(path.read_bytes())
    raw[raw.rfind(b"PK\x01\x02") + 8] |= 1
    raw[raw.rfind(b"PK\x03\x04") + 6] |= 1
    path.write_bytes(raw)
    return path


def lines(tmp_path: Path, *records: Any) -> Path:
    """A file of events."""
    path = tmp_path / "events.jsonl"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in records))
    return path


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (encrypted, r"Every record could not be used \(day_file_unreadable 1\): the day files are encrypted, or may not be read"),
        (
            lambda at: lines(at, *(post(n, ts=f"41000000{n:02}.000100") for n in range(3))),
            r"\(future 3\): .* this machine's clock, which says 20",
        ),
        (lambda at: lines(at, *(post(n, ts=1_700_000_000 + n) for n in range(3))), r"\(bad_ts 3\): a time is expected as Slack writes it"),
    ],
)
def test_a_run_that_could_use_nothing_fails(tmp_path: Path, made: Any, said: str):
    """An encrypted day file, a clock that is wrong, times that are numbers: exit status 1, and what is probably wrong."""
    source = made(tmp_path)
    ran = run(tmp_path, "examples", source.name, "--to", "o.jsonl")

    assert ran.status == 1
    assert re.search(said, ran.err), ran.err


@pytest.mark.slow
def test_a_run_that_could_use_less_than_half_says_so(tmp_path: Path):
    """It is done, and what is probably wrong is said; an ended run says the same when it is started again."""
    source = lines(tmp_path, *(post(n, ts=f"41000000{n:02}.000100") for n in range(3)), post(0), post(1))
    ran = run(tmp_path, "examples", source.name, "--to", "o.jsonl")

    assert ran.status == 0 and "3 of 5 records could not be used (future 3): their times are after this machine's clock" in ran.err
    empty = run(tmp_path, "examples", lines(tmp_path).name, "--to", "o.jsonl")
    assert empty.status == 0 and "could not be used" not in empty.err
