"""Records as lines of JSON to Arrow's columns and back, with the same values: needs pyarrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.json import ParseOptions, ReadOptions, read_json

from beepgpt.conversations.events import ts_text
from beepgpt.conversations.record_fields import CANDIDATES, RECORDS, ROWS, RecordField
from beepgpt.errors import CannotRead

TIME = pa.timestamp("us", tz="UTC")
PLAIN = {"text": pa.string(), "time": TIME, "integer": pa.int64(), "number": pa.float64(), "yes_no": pa.bool_()}
LISTS = {"texts": pa.list_(pa.string()), "integers": pa.list_(pa.int64()), "numbers": pa.list_(pa.float64())}
TYPES = {**PLAIN, **LISTS}


@cache
def schema_of(record: str) -> pa.Schema:
    """The columns of a kind of record, with their meanings as metadata.

    A time is a timestamp; a list of rows is a column of lists for each of their fields (`window_ts`, `window_user`), and each column of the
    candidates one (`candidates_user`, `candidates_closeness`): null where the settings leave candidates out.

    >>> str(schema_of("retraction").field("retracted_ts").type), schema_of("example").field("candidates_user").metadata
    ('timestamp[us, tz=UTC]', {b'description': b'Who might answer.'})
    """
    fields = []
    for each in RECORDS[record]:
        if each.kind == "candidates":
            fields += [_column(f"{each.name}_{own.name}", TYPES[own.kind], own.about, True) for own in CANDIDATES]
        elif each.kind in ROWS:
            lists = [(own, pa.list_(TYPES[own.kind])) for own in ROWS[each.kind]]
            fields += [_column(f"{each.name}_{own.name}", kind, f"{each.about} {own.about}", False) for own, kind in lists]
        else:
            fields.append(_column(each.name, TYPES[each.kind], each.about, each.may_be_null))
    return pa.schema(fields, metadata={"description": f"Records of beepgpt, each a row: {record}", "beepgpt.record": record})


def _column(name: str, kind: pa.DataType, about: str, may_be_null: bool) -> pa.Field:
    return pa.field(name, kind, nullable=may_be_null, metadata={"description": about})


@cache
def _parsed_schema(record: str) -> pa.Schema:
    """The types by which Arrow parses the JSON of a kind of record: times are text, lists of rows are structs."""
    kinds = {**TYPES, "time": pa.string()}
    fields = []
    for each in RECORDS[record]:
        if each.kind == "candidates":
            kind = pa.struct([(own.name, kinds[own.kind]) for own in CANDIDATES])
        elif each.kind in ROWS:
            kind = pa.list_(pa.struct([(own.name, kinds[own.kind]) for own in ROWS[each.kind]]))
        else:
            kind = kinds[each.kind]
        fields.append(pa.field(each.name, kind))
    return pa.schema(fields)


def is_packed(line: bytes) -> bool:
    """Whether the numbers of a line's candidates are packed: they follow a line's end, as doubles, one column after the other."""
    return b"\n" in line


def batch_of(record: str, lines: Sequence[bytes]) -> pa.RecordBatch:
    """Lines of one kind of record as columns, a row each; parsed by Arrow, in a fraction of the time that Python's lists of them take.

    The numbers of all lines are packed, or those of none: they need no parsing, which takes most of the time.
    """
    heads, numbers = zip(*[line.partition(b"\n")[::2] for line in lines], strict=True)
    blob = b"\n".join(heads) + b"\n"
    parsed = read_json(
        pa.BufferReader(blob),
        ReadOptions(use_threads=False, block_size=len(blob) + 1),
        ParseOptions(explicit_schema=_parsed_schema(record), unexpected_field_behavior="ignore"),
    ).combine_chunks()
    columns = {name: _array(parsed[name]) for name in parsed.column_names}
    schema = schema_of(record)
    arrays = dict(zip(schema.names, _arrays(RECORDS[record], columns), strict=True))
    if is_packed(lines[0]):
        arrays |= _unpacked(arrays["candidates_user"], b"".join(numbers))
    return pa.record_batch(list(arrays.values()), schema=schema)


def _unpacked(users: pa.ListArray, numbers: bytes) -> dict[str, pa.Array]:
    """The columns of candidates' numbers."""
    doubles, columns = np.frombuffer(numbers, "<f8"), CANDIDATES[1:]
    starts = np.asarray(users.offsets)
    sizes = np.diff(starts)
    first = np.arange(starts[-1]) + np.repeat(starts[:-1] * (len(columns) - 1), sizes)
    step = np.repeat(sizes, sizes)
    found = {}
    for place, each in enumerate(columns):
        values = pa.array(doubles.take(first + place * step)).cast(TYPES[each.kind].value_type)
        found[f"candidates_{each.name}"] = pa.ListArray.from_arrays(users.offsets, values)
    return found


def _array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _arrays(fields: Iterable[RecordField], columns: Mapping[str, pa.Array]) -> Iterator[pa.Array]:
    for each in fields:
        column = columns[each.name]
        if each.kind == "candidates":
            yield from column.flatten()
        elif each.kind in ROWS:
            for own, values in zip(ROWS[each.kind], column.flatten().flatten(), strict=True):
                yield pa.ListArray.from_arrays(column.offsets, _times(values) if own.kind == "time" else values)
        else:
            yield _times(column) if each.kind == "time" else column


def _times(texts: pa.Array) -> pa.Array:
    """Slack's times, which have six decimals: without the point they are microseconds."""
    return pc.replace_substring(texts, ".", "").cast(pa.int64()).cast(TIME)


def fault_in(record: str, batch: pa.RecordBatch) -> tuple[str, int, str] | None:
    """A value that no record has, as another tool may write it: its column, its row in the batch, and what is wrong."""
    for each in RECORDS[record]:
        if inner := CANDIDATES if each.kind == "candidates" else ROWS.get(each.kind):
            names = [f"{each.name}_{own.name}" for own in inner]
            lengths = [pc.fill_null(pc.list_value_length(batch[name]), -1) for name in names]
            for name, length in zip(names, lengths, strict=True):
                if not length.equals(lengths[0]):
                    return name, pc.index(pc.not_equal(length, lengths[0]), True).as_py(), f"does not have a value for each of {names[0]}"
    for field in schema_of(record):
        column = batch[field.name]
        if column.null_count and not field.nullable:
            return field.name, pc.index(pc.is_null(column), True).as_py(), "is null"
        if pa.types.is_list(field.type) and (values := column.flatten()).null_count:
            return field.name, pc.list_parent_indices(column)[pc.index(pc.is_null(values), True).as_py()].as_py(), "holds a null"
    return None


def checked_lines(record: str, batches: Iterable[pa.RecordBatch], called: str) -> Iterator[bytes]:
    """The rows of batches as lines of JSON, where somebody else may have changed them. `called`: in messages. Raises CannotRead."""
    schema, before = schema_of(record), 0
    for batch in batches:
        if missing := [name for name in schema.names if name not in batch.schema.names]:
            raise CannotRead(f"{called}: is no table of {record}s of beepgpt: the column {missing[0]} is missing")
        found = pa.record_batch([batch.column(field.name).cast(field.type) for field in schema], schema=schema)
        if fault := fault_in(record, found):
            raise CannotRead(f"{called}: column {fault[0]} of row {before + fault[1] + 1:,} {fault[2]}: make the table again")
        yield from lines_in(record, found)
        before += batch.num_rows


def lines_in(record: str, batch: pa.RecordBatch) -> Iterator[bytes]:
    """The rows of a batch as lines of JSON again, byte for byte as they were written."""
    fields = RECORDS[record]
    columns = {name: _values(batch.column(name)) for name in schema_of(record).names}
    for row in range(batch.num_rows):
        body: dict[str, Any] = {}
        for each in fields:
            if each.kind == "candidates":
                if columns[f"{each.name}_user"][row] is not None:
                    body[each.name] = {own.name: columns[f"{each.name}_{own.name}"][row] for own in CANDIDATES}
            elif each.kind in ROWS:
                names = [own.name for own in ROWS[each.kind]]
                rows = zip(*(columns[f"{each.name}_{name}"][row] for name in names), strict=True)
                body[each.name] = [dict(zip(names, values, strict=True)) for values in rows]
            else:
                body[each.name] = columns[each.name][row]
        yield orjson.dumps(body)


def _values(column: pa.Array) -> list[Any]:
    """A column's values as JSON has them: times as Slack writes them."""
    if column.type == TIME:
        return [None if value is None else ts_text(value) for value in column.cast(pa.int64()).to_pylist()]
    if column.type == pa.list_(TIME):
        return [list(map(ts_text, times)) for times in column.cast(pa.list_(pa.int64())).to_pylist()]
    found: list[Any] = column.to_pylist()
    return found
