"""Archives of skops with the same bytes for the same model: skops names objects by their place in memory, and files by the clock."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any
from zipfile import ZipFile, ZipInfo

import orjson

SCHEMA = "schema.json"


def repeatable(archive: bytes) -> bytes:
    """An archive that skops reads as it reads this one, whose bytes depend on its objects alone.

    Objects are numbered, and files named, in the order in which the schema has them; the files have no time.
    """
    with ZipFile(BytesIO(archive)) as given:
        schema = orjson.loads(given.read(SCHEMA))
        numbers: dict[int, int] = {}
        names: dict[str, str] = {}
        for node in _nodes(schema):
            if isinstance(node.get("__id__"), int):
                node["__id__"] = numbers.setdefault(node["__id__"], len(numbers))
            if isinstance(name := node.get("file"), str):
                node["file"] = names.setdefault(name, f"{len(names)}.{name.rsplit('.', 1)[-1]}")
        files = {after: given.read(before) for before, after in names.items()}
    written = BytesIO()
    with ZipFile(written, "w") as made:
        for name, content in {SCHEMA: orjson.dumps(schema), **files}.items():
            made.writestr(ZipInfo(name), content)
    return written.getvalue()


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """The objects of a schema, in its order."""
    if isinstance(schema, dict):
        if "__loader__" in schema:
            yield schema
        for value in schema.values():
            yield from _nodes(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _nodes(value)
