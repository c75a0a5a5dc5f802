"""Records as lines of JSON to Arrow's columns and back, with the same values: needs pyarrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from beepgpt.conversations.events import micros, ts_text
from beepgpt.conversations.record_fields import CANDIDATES, RECORDS, WINDOW, RecordField

TIME = pa.timestamp("us", tz="UTC")
PLAIN = {"text": pa.string(), "time": TIME, "integer": pa.int64(), "number": pa.float64(), "yes_no": pa.bool_()}
LISTS = {"texts": pa.list_(pa.string()), "integers": pa.list_(pa.int64()), "numbers": pa.list_(pa.float64())}
TYPES = {**PLAIN, **LISTS}


@cache
def schema_of(record: str) -> pa.Schema:
    """The columns of a kind of record, with their meanings as metadata.

    A time is a timestamp; the window is two columns of lists (`window_ts`, `window_user`), and each column of the candidates one
    (`candidates_user`, `candidates_closeness`): null where the settings leave candidates out.

    >>> str(schema_of("retraction").field("retracted_ts").type), schema_of("example").field("candidates_user").metadata
    ('timestamp[us, tz=UTC]', {b'description': b'Who might answer.'})
    """
    fields = []
    for each in RECORDS[record]:
        if each.kind == "candidates":
            fields += [_column(f"{each.name}_{own.name}", TYPES[own.kind], own.about, True) for own in CANDIDATES]
        elif each.kind == "window":
            fields += [_column(f"{each.name}_{own.name}", pa.list_(TYPES[own.kind]), f"{each.about} {own.about}", False) for own in WINDOW]
        else:
            fields.append(_column(each.name, TYPES[each.kind], each.about, each.may_be_null))
    return pa.schema(fields, metadata={"description": f"Records of beepgpt, each a row: {record}", "beepgpt.record": record})


def _column(name: str, kind: pa.DataType, about: str, may_be_null: bool) -> pa.Field:
    return pa.field(name, kind, nullable=may_be_null, metadata={"description": about})


def batch_of(record: str, lines: Sequence[bytes]) -> pa.RecordBatch:
    """Lines of one kind of record as columns, a row each."""
    bodies = [orjson.loads(line) for line in lines]
    return pa.record_batch(list(_arrays(RECORDS[record], bodies)), schema=schema_of(record))


def _arrays(fields: Iterable[RecordField], bodies: Sequence[dict[str, Any]]) -> Iterator[pa.Array]:
    for each in fields:
        if each.kind == "candidates":
            found = [body.get(each.name) for body in bodies]
            yield from (_list_of(own.kind, [None if one is None else one[own.name] for one in found]) for own in CANDIDATES)
        elif each.kind == "window":
            for own in WINDOW:
                yield _list_of(f"{own.kind}s", [[message[own.name] for message in body[each.name]] for body in bodies])
        elif each.kind == "time":
            times = [body[each.name] for body in bodies]
            yield pa.array([None if time is None else micros(time) for time in times], pa.int64()).cast(TIME)
        elif each.kind in LISTS:
            yield _list_of(each.kind, [body[each.name] for body in bodies])
        else:
            yield pa.array([body[each.name] for body in bodies], PLAIN[each.kind])


def _list_of(kind: str, rows: Sequence[Sequence[Any] | None]) -> pa.Array:
    """A column of lists from its rows: all values at once take a third of the time of one list after the other."""
    values = list(chain.from_iterable([row for row in rows if row is not None]))
    starts = np.zeros(len(rows) + 1, np.int32)
    np.cumsum([0 if row is None else len(row) for row in rows], out=starts[1:])
    mask = pa.array([row is None for row in rows]) if None in rows else None
    if kind == "times":
        flat = pa.array(list(map(micros, values)), pa.int64()).cast(TIME)
    elif kind == "texts":
        flat = pa.array(values, pa.string())
    else:
        flat = pa.array(np.array(values, np.int64 if kind == "integers" else np.float64))
    return pa.ListArray.from_arrays(pa.array(starts), flat, mask=mask)


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
            elif each.kind == "window":
                rows = zip(*(columns[f"{each.name}_{own.name}"][row] for own in WINDOW), strict=True)
                body[each.name] = [dict(zip((own.name for own in WINDOW), values, strict=True)) for values in rows]
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
