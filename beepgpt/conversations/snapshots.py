"""How the objects of a snapshot are pickled: as tuples of their fields, since by name they would take half as long again."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cache
from operator import attrgetter
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
def _values_of(kind: Hashable) -> attrgetter[tuple[Any, ...]]:
    return attrgetter(*fields_of(kind))


@cache
def _setter_of(kind: Hashable) -> Callable[[Any, tuple[Any, ...]], None]:
    """A function that sets all fields of an object: made from text, as by `namedtuple`, since setattr in a loop takes twice the time."""
    made: dict[str, Any] = {}
    exec(f"def set_fields(it, values): {', '.join(f'it.{name}' for name in fields_of(kind))} = values", made)
    setter: Callable[[Any, tuple[Any, ...]], None] = made["set_fields"]
    return setter


@mypyc_attr(serializable=True)
class State:
    """Base of the classes that stand in snapshots. A field is named in `__slots__` and nowhere else.

    In the compiled build such objects can be made by compiled code only: from elsewhere, `__init__` is not called.
    """

    __slots__ = ()

    def __getstate__(self) -> tuple[Any, ...]:
        values: tuple[Any, ...] = _values_of(type(self))(self)  # type: ignore[arg-type] # mypy takes the class for unhashable
        return values

    def __setstate__(self, values: tuple[Any, ...]) -> None:
        _setter_of(type(self))(self, values)  # type: ignore[arg-type]
