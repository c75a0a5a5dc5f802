"""How the objects of a snapshot are pickled: as tuples of their fields, since by name they would take half as long again."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cache
from typing import Any

from mypy_extensions import mypyc_attr


@cache
def fields_of(kind: Hashable) -> tuple[str, ...]:
    """Names of a class's fields: its slots, or in the compiled build, which drops those, the compiler's list."""
    names: tuple[str, ...] | None = getattr(kind, "__slots__", None)
    if names is None:
        names = tuple(name for name in kind.__mypyc_attrs__ if not name.startswith("__"))  # type: ignore[attr-defined]
    return names


@cache
def _accessors_of(kind: Hashable) -> tuple[Callable[[Any], tuple[Any, ...]], Callable[[Any, tuple[Any, ...]], None]]:
    """A getter and a setter of all fields of an object: made from text, as by `namedtuple`; getattr and setattr would take longer."""
    fields = ", ".join(f"it.{name}" for name in fields_of(kind))
    made: dict[str, Any] = {}
    exec(f"def get(it): return {fields}\ndef set(it, values): {fields} = values", made)
    return made["get"], made["set"]


@mypyc_attr(serializable=True)
class State:
    """Base of the classes that stand in snapshots. A field is named in `__slots__` and nowhere else.

    In the compiled build such objects can be made by compiled code only: from elsewhere, `__init__` is not called.
    """

    __slots__ = ()

    def __getstate__(self) -> tuple[Any, ...]:
        return _accessors_of(type(self))[0](self)  # type: ignore[arg-type] # mypy takes the class for unhashable

    def __setstate__(self, values: tuple[Any, ...]) -> None:
        _accessors_of(type(self))[1](self, values)  # type: ignore[arg-type]
