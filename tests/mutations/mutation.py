"""One planted leak or loss."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """One leak or loss: text that is replaced in a file, and the tests that are there to catch it."""

    name: str
    breaks: str
    """What of the README's laws, or of the docs, it breaks."""
    files: tuple[str, ...]
    """Where it is planted; what is replaced stands once in all of them together."""
    edits: tuple[tuple[str, str], ...]
    caught_by: tuple[str, ...]
    """Test files, or tests in one, of which one must fail."""


def mutation(name: str, breaks: str, files: str | tuple[str, ...], caught_by: str | tuple[str, ...], *edits: tuple[str, str]) -> Mutation:
    """A row: what is planted, the law that it breaks, where, who catches it, and (what stands there, what replaces it)."""
    return Mutation(name, breaks, _each(files), edits, _each(caught_by))


def _each(one: str | tuple[str, ...]) -> tuple[str, ...]:
    return (one,) if isinstance(one, str) else one
