"""Files that are put in place whole: their content is on the disk before they have their name, and their name when the call returns."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from beepgpt.connectors.files.parquet import TableFile
from beepgpt.connectors.log import TopicSpec, folder_place
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.folders import replacing
from beepgpt.forgetting.records import write_whole
from beepgpt.labeling.few_shots import AppendOnlyLines
from beepgpt.runtime.forgotten import write_forgotten
from beepgpt.runtime.recovery import open_recovery


def written(call: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what a call writes to the disk, and of what it gives a name."""
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        done.append(f"on the disk: {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def named(new: Path, path: Path) -> Path:
        done.append(f"named: {path.name}")
        return replace(new, path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", synced)
        patched.setattr(Path, "replace", named)
        call()
    return done


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("rows.parquet", lambda folder: TableFile(folder / "rows.parquet", "retraction").close()),
        ("list.json", lambda folder: write_forgotten(folder / "list.json", Forgotten(b"salt"))),
        ("run.json", lambda folder: open_recovery(folder, {}, {}, {})),
        ("shots.jsonl", lambda folder: AppendOnlyLines(folder / "shots.jsonl", []).replace([])),
        ("events.jsonl", lambda folder: write_whole(folder / "events.jsonl", b"")),
    ],
)
def test_content_then_name_then_folder(tmp_path: Path, name: str, write: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch):
    if name == "events.jsonl":
        (tmp_path / name).touch()
    done = written(lambda: write(tmp_path), monkeypatch)

    content, named, folder = done[-3:]
    assert named == f"named: {name}" and folder == f"on the disk: {tmp_path.name}"
    assert content.startswith("on the disk: ") and name.partition(".")[0] in content


def test_a_topic_s_name_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """So that it is there after a power cut when its maker was told that it is made; and gone when it was deleted."""
    log = SqliteLog(folder_place(str(tmp_path / "log")))

    made = written(lambda: log.create([TopicSpec("t", 1)]), monkeypatch)
    deleted = written(lambda: log.delete("t"), monkeypatch)

    assert made[:1] == [f"on the disk: {tmp_path.name}"] and made[-2:] == ["named: t.topic", "on the disk: log"]
    assert deleted[-1] == "on the disk: log"


def test_a_file_that_is_replaced_is_private_meanwhile(tmp_path: Path):
    """Whoever may read the old one can't read the new one before it is whole; then it has the old one's permissions."""
    path = tmp_path / "examples.jsonl"
    path.touch(mode=0o644)
    before = os.umask(0)
    try:
        with replacing(path) as file:
            meanwhile = os.fstat(file.fileno()).st_mode & 0o777
    finally:
        os.umask(before)

    assert (meanwhile, path.stat().st_mode & 0o777) == (0o600, 0o644)
