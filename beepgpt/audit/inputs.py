"""What is audited: examples or pairs, their retractions and their validation side, from a file, a training set's folder or a topic."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import orjson

from beepgpt.errors import BadCommand


class AuditedTopicRecord(Protocol):
    """A record of a topic of examples."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None:
        """An example; None: a tombstone."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class AuditedFiles(NamedTuple):
    """What EXAMPLES holds, as lines."""

    lines: list[bytes]
    """Examples or pairs."""
    retractions: list[bytes] | None = None
    valid: list[bytes] | None = None
    """The validation side, if `lines` is the training side of a split."""
    apart: Mapping[str, str] = {}
    """Of a topic: by id, why a tombstone can't take back its example."""


def examples_in(records: Iterable[tuple[int, AuditedTopicRecord]]) -> AuditedFiles:
    """The examples of a topic, each once, and its tombstones as retractions. `records`: with their partitions."""
    lines: dict[bytes, bytes] = {}
    retractions: dict[bytes, bytes] = {}
    places: defaultdict[bytes, set[int]] = defaultdict(set)
    tombstones: defaultdict[bytes, set[int]] = defaultdict(set)
    for partition, record in records:
        key = record.key or b""
        if record.value is not None:
            lines[key] = record.value
            places[key].add(partition)
        else:
            retracted = dict(record.headers).get("retracted_ts", b"").decode()
            retractions[key] = orjson.dumps({"id": key.decode(), "retracted_ts": retracted})
            tombstones[key].add(partition)
    apart = {
        key.decode(): f"its tombstone stands in partition {min(stones)}, an example in partition {min(places[key] - stones)}"
        for key, stones in tombstones.items()
        if places[key] - stones
    }
    return AuditedFiles(list(lines.values()), list(retractions.values()), apart=apart)


def sides_of(path: Path) -> tuple[Path, Path | None]:
    """The training side and the validation side of a training set's folder; a file alone has one side. Raises BadCommand."""
    if not path.is_dir():
        return path, None
    sides = [
        # What a chat or a completion was made of says itself when it was known; the others can only be guessed from their texts.
        [whole] if (whole := path / f"examples_{side}.jsonl").exists() else sorted(path.glob(f"*_{side}.jsonl"))
        for side in ("train", "valid")
    ]
    if any(len(found) != 1 for found in sides):
        raise BadCommand(f"EXAMPLES {path}: a folder with one ..._train.jsonl and one ..._valid.jsonl is expected")
    return sides[0][0], sides[1][0]
