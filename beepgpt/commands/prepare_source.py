"""SOURCE of `beepgpt prepare`: a file of examples that is read twice, or a topic that is copied to one first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from beepgpt.config.settings import Settings
from beepgpt.connectors import kafka
from beepgpt.connectors.files import jsonl
from beepgpt.errors import BadCommand
from beepgpt.runtime.places import connection_of, is_kafka


@contextmanager
def examples_of(source: str, to: Path, settings: Settings) -> Iterator[tuple[Path, frozenset[bytes]]]:
    """SOURCE as a file that can be read twice, and the ids its tombstones retract; a topic is copied into `to` first. Raises BadCommand."""
    from beepgpt.training.prepare import folder_in

    if not is_kafka(source):
        yield file_of(source, to), frozenset()
        return
    address = kafka.parse_address(source)
    if (address.since, address.until, address.follow) != (None, None, False):
        raise BadCommand(f"SOURCE {source}: a training set is made of all that the topic holds: leave out from, to and follow")
    to.mkdir(parents=True, exist_ok=True)
    with folder_in(to, ".spool-") as folder:
        path = folder / "examples.jsonl"
        with path.open("wb") as file:
            gone = spool(kafka.records_of(connection_of(settings, address.bootstrap), address.topic), file)
        yield path, gone


def file_of(source: str, to: Path) -> Path:
    """SOURCE as a path. Raises BadCommand if it can't be read twice, or would be overwritten."""
    from beepgpt.training.prepare import OUTPUTS

    path = Path(source)
    jsonl.check_readable(path)
    if not path.is_file():
        raise BadCommand(f"SOURCE {source}: is read twice, so it must be a file")
    if path.name in OUTPUTS and path.resolve().parent == to.resolve():
        raise BadCommand(f"--to {to}: SOURCE {source} would be written over: name another folder")
    return path


def spool(records: Iterable[tuple[int, kafka.Record]], file: BinaryIO) -> frozenset[bytes]:
    """Write a topic's examples as lines; the ids whose last record in a partition is a tombstone. Raises BadCommand."""
    gone: dict[tuple[int, bytes], bytes] = {}
    for partition, record in records:
        place = partition, record.key or b""
        if record.value is not None:
            gone.pop(place, None)
            file.write(record.value.replace(b"\n", b" ") + b"\n")
            continue
        try:
            gone[place] = bytes.fromhex(place[1].decode())
        except ValueError:
            raise BadCommand(
                f"SOURCE: the key of the tombstone at {partition}:{record.offset} is no example's id: a topic of examples is expected"
            ) from None
    return frozenset(gone.values())
