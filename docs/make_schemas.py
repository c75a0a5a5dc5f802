"""Writes the JSON Schemas of records, docs/reference/schemas/, of the lists of their fields in the code. Run by `make schemas`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from beepgpt.conversations.record_fields import CANDIDATES, RECORDS, ROWS, RecordField

SCHEMAS = Path(__file__).resolve().parent / "reference" / "schemas"
TEXT = {"type": "string"}
TIME = {"type": "string", "pattern": r"^[0-9]{9,10}\.[0-9]{6}$"}
PLAIN: dict[str, dict[str, Any]] = {
    "text": TEXT,
    "time": TIME,
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "yes_no": {"type": "boolean"},
    "texts": {"type": "array", "items": TEXT},
    "integers": {"type": "array", "items": {"type": "integer"}},
    "numbers": {"type": "array", "items": {"type": "number"}},
}


def schema_of(record: str) -> dict[str, Any]:
    """The JSON Schema of a kind of record. Further keys are allowed, as labels are; not in lists of rows or among the candidates."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": record,
        "description": "Times are seconds since 1970 with six decimals, as Slack writes them.",
        **_object(RECORDS[record]),
    }


def _object(fields: Iterable[RecordField]) -> dict[str, Any]:
    fields = list(fields)
    required = [each.name for each in fields if not each.may_lack]
    return {"type": "object", "properties": {each.name: _property(each) for each in fields}, "required": required}


def _property(field: RecordField) -> dict[str, Any]:
    if field.kind in ROWS:
        what: dict[str, Any] = {"type": "array", "items": _object(ROWS[field.kind]) | {"additionalProperties": False}}
    elif field.kind == "candidates":
        what = _object(CANDIDATES) | {"additionalProperties": False}
    else:
        what = PLAIN[field.kind]
    return {"description": field.about, **({"anyOf": [what, {"type": "null"}]} if field.may_be_null else what)}


def files() -> dict[str, str]:
    """The content of each schema's file, by its name."""
    return {f"{record}.json": json.dumps(schema_of(record), indent=2, ensure_ascii=False) + "\n" for record in RECORDS}


def main() -> None:
    """Write the files."""
    SCHEMAS.mkdir(exist_ok=True)
    for name, content in files().items():
        (SCHEMAS / name).write_text(content, "utf-8")


if __name__ == "__main__":
    main()
