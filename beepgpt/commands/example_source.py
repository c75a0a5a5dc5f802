"""SOURCE of `beepgpt label`, `review` and `prepare`: examples in a file or a topic, and their retractions."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl, parquet
from beepgpt.connectors.log import EITHER, OutgoingRecord, Record, parse_address
from beepgpt.conversations.rules import settings_behind
from beepgpt.errors import BadCommand, CannotRead
from beepgpt.folders import beside, make_folder
from beepgpt.labeling.questions import CannotLabel, LabelQuestion, SourceContents, question_in
from beepgpt.runtime.destinations import Destination, Topics
from beepgpt.runtime.made_by import recorded_rules
from beepgpt.runtime.places import Origin, is_topic, log_of, records_in
from beepgpt.runtime.specs import SpecFound, specs_on

MAX_LINE = 16 << 20
"""Bytes of a line: an example of many candidates and long messages has a hundredth of that."""


def input_of(source: str) -> Origin:
    """SOURCE as a file or a table of examples, or a topic. Raises BadCommand, CannotRead or NoArrow."""
    if is_topic(source):
        return Origin(source, address=parse_address(source))
    if "://" in source:
        raise BadCommand(f"SOURCE {source}: a .jsonl or a .parquet of examples, {EITHER} is expected")
    path = Path(source)
    if parquet.is_table(path):
        return Origin(source, file=source_at(path).path)
    if path.is_dir() or zipfile.is_zipfile(path):
        raise BadCommand(f"SOURCE {source}: is no file of examples: make one of it first (beepgpt examples {source} --to examples.jsonl)")
    jsonl.check_readable(path)
    return Origin(source, file=path)


def retractions_of(path: Path) -> Path:
    """The file of retractions beside a file of examples."""
    return beside(path, "retractions.jsonl")


def look_at(origin: Origin, settings: Settings) -> SourceContents:
    """Read the retractions in a bounded SOURCE, whose examples must not be sent to anybody."""
    if origin.file is not None:
        file, retractions = origin.file, retractions_of(origin.file)
        return SourceContents(lambda: _questions(lines_of(file)), frozenset(retracted_in(retractions)))
    assert origin.address is not None
    address, log = origin.address, log_of(settings, origin.address)
    is_gone = {record.key: record.value is None for _, record in log.records(address.topic) if record.key is not None}
    since, until = address.since or 0, address.until

    def values() -> Iterator[bytes]:
        for _, record in log.records(address.topic):
            if record.value is not None and record.timestamp >= since and (until is None or record.timestamp <= until):
                yield record.value

    return SourceContents(lambda: _questions(values()), frozenset(key.decode("utf-8", "replace") for key in is_gone if is_gone[key]))


def source_at(path: Path, **how: Any) -> jsonl.JsonlSource | parquet.ParquetSource:
    """A Bytewax source of the lines of a file, or the rows of a table of examples. Raises CannotRead or NoArrow."""
    return parquet.ParquetSource(path, "example", **how) if parquet.is_table(path) else jsonl.JsonlSource(path, max_line=MAX_LINE, **how)


def lines_of(path: Path, **how: Any) -> Iterator[bytes]:
    """The lines of a file or a table; those of more than `MAX_LINE` bytes are skipped."""
    return (each for each in records_in(source_at(path, **how)) if isinstance(each, bytes))


def _questions(lines: Iterator[bytes]) -> Iterator[LabelQuestion]:
    for line in lines:
        with suppress(CannotLabel):
            yield question_in(line)


def retracted_in(path: Path) -> Iterator[str]:
    """The ids in a file of retractions; none if there is no file. Raises CannotRead."""
    for number, line in enumerate(lines_of(path) if path.exists() else (), start=1):
        try:
            yield str(orjson.loads(line)["id"])
        except (ValueError, TypeError, KeyError):
            raise CannotRead(f"{path}:{number}: is not a retraction: fix the line, or the example that it retracts would be used") from None


def pass_on_retractions(source: Path, to: Destination) -> None:
    """Write the retractions beside a file of examples to the output; those of a topic pass through the flow."""
    retractions = retractions_of(source)
    if isinstance(to, Topics):
        with to.log.writer(to.examples) as writer:
            writer.send(_tombstone(orjson.loads(line)) for line in (lines_of(retractions) if retractions.exists() else ()))
    elif to.retractions is not None and retractions.exists():
        jsonl.write_file(to.retractions, retractions.read_bytes())
    elif to.retractions is not None:
        to.retractions.unlink(missing_ok=True)


def _tombstone(retraction: Mapping[str, Any]) -> OutgoingRecord:
    retracted = str(retraction.get("retracted_ts", "")).encode()
    return OutgoingRecord(str(retraction["id"]).encode(), None, [("retracted_ts", retracted)] if retracted else [])


def spec_in(origin: Origin, settings: Settings) -> SpecFound | None:
    """The spec of an example in SOURCE, with the settings behind it if they are known; of a topic, among its last records."""
    if origin.address is not None:
        found = next(iter(specs_on(log_of(settings, origin.address), origin.address.topic)), None)
    else:
        assert origin.file is not None
        found = next((SpecFound(spec, None) for line in lines_of(origin.file) if (spec := _spec_of(line))), None)
    return found and SpecFound(found.spec, settings_behind(found.spec, found.recorded, settings.rules))


def made_with(source: str, settings: Settings) -> Callable[[str], Mapping[str, Any] | None]:
    """A function that finds the settings behind a spec in SOURCE, as far as they are known."""
    recorded: dict[str, dict[str, Any] | None] = {}
    if is_topic(source):
        address = parse_address(source)
        recorded.update(specs_on(log_of(settings, address), address.topic))
    elif (beside := recorded_rules(Path(source))) is not None:
        return lambda spec: settings_behind(spec, beside.settings, settings.rules)
    return lambda spec: settings_behind(spec, recorded.get(spec), settings.rules)


def _spec_of(line: bytes) -> str | None:
    with suppress(ValueError, TypeError, KeyError):
        return str(orjson.loads(line)["spec"])
    return None


@contextmanager
def examples_of(source: str, to: Path, settings: Settings) -> Iterator[tuple[Path, frozenset[bytes]]]:
    """SOURCE as a file that can be read twice, and the ids its tombstones retract; a topic or a table is copied into `to` first.

    Raises BadCommand or CannotRead.
    """
    from beepgpt.training.prepare import folder_in

    if not is_topic(source) and not parquet.is_table(Path(source)):
        yield file_of(source, to), frozenset()
        return
    address = parse_address(source) if is_topic(source) else None
    if address is not None and not address.is_whole:
        raise BadCommand(f"SOURCE {source}: a training set is made of all that the topic holds: leave out from, to and follow")
    make_folder(to)
    with folder_in(to, ".spool-") as folder:
        path = folder / "examples.jsonl"
        with path.open("wb") as file:
            if address is None:
                gone = frozenset[bytes]()
                file.writelines(line + b"\n" for line in parquet.lines_of(Path(source), "example"))
            else:
                gone = spool(log_of(settings, address).records(address.topic), file)
        yield path, gone


def check_examples(source: str, to: Path) -> None:
    """Raise BadCommand or CannotRead if SOURCE can't be read, or would be overwritten: before anything is made."""
    if is_topic(source):
        return
    if parquet.is_table(Path(source)):
        parquet.parts_of(Path(source))
    else:
        file_of(source, to)


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


def spool(records: Iterable[tuple[int, Record]], file: BinaryIO) -> frozenset[bytes]:
    """Write a topic's examples as lines; returns the ids whose last record in a partition is a tombstone. Raises BadCommand."""
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
