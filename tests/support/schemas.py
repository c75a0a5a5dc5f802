"""The JSON Schemas of records, held against what tests make the program write."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import orjson
from jsonschema import Draft202012Validator

from docs.make_schemas import schema_of


@cache
def validator(record: str) -> Draft202012Validator:
    """Of a kind of record."""
    return Draft202012Validator(schema_of(record))


def check(record: str, written: bytes | Mapping[str, Any]) -> None:
    """A line, or its value, is of its schema, which names all of its keys in their order."""
    body = orjson.loads(written) if isinstance(written, bytes) else written
    validator(record).validate(body)
    assert list(body) == [name for name in schema_of(record)["properties"] if name in body]
