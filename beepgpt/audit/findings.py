"""The laws, an audit's findings about them, and the verdicts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

LAWS = {
    1: "past only",
    2: "blind to the answer",
    3: "prefix",
    4: "one result",
    5: "train as you serve",
    6: "nothing is lost in silence",
    7: "splits don't leak",
}

SHOWN = 5
"""Instances that are listed of each finding."""

LawVerdict = Literal["kept", "broken", "suspected", "not checkable"]
"""`suspected`: by evidence that rests on a guess, and none that doesn't."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One example that breaks a law: its id, or its line, and why."""

    where: str
    why: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One way in which examples break a law, how many do, and a few of them."""

    law: int
    what: str
    count: int
    examples: tuple[Instance, ...]
    is_guess: bool = False
    """Whether it rests on a guess, such as where a row without times may stand."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on one law."""

    law: int
    name: str
    verdict: LawVerdict
    told: str  # a key of reports
    """Why, in words."""


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of an audit: a verdict on each law, with the findings."""

    made_by: Literal["beepgpt", "others"]
    checked: Mapping[str, int]
    laws: tuple[Judged, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    measured: Mapping[str, Any] = field(default_factory=dict)
    """Figures of the statistical tests, for a report."""

    @property
    def is_suspected(self) -> bool:
        """Whether any law may be broken, and none surely is."""
        return not self.is_broken and any(judged.verdict == "suspected" for judged in self.laws)

    @property
    def is_broken(self) -> bool:
        """Whether any law is broken."""
        return any(judged.verdict == "broken" for judged in self.laws)

    def as_json(self) -> dict[str, Any]:
        """The audit as a report writes it."""
        body = asdict(self)
        return {"made_by": body.pop("made_by"), "kept": not self.is_broken and not self.is_suspected, **body}


class Findings:
    """Collects breaches of laws: every instance is counted, the first few of each kind are kept."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[int, str]] = Counter()
        self._shown: defaultdict[tuple[int, str], list[Instance]] = defaultdict(list)
        self._guesses: set[tuple[int, str]] = set()

    def add(self, law: int, what: str, where: str, why: str, *, is_guess: bool = False) -> None:
        """Add an example that breaks `law`: what kind of breach, where it is, and why. `is_guess`: as far as one can guess."""
        if is_guess:
            self._guesses.add((law, what))
        self._counts[law, what] += 1
        if len(self._shown[law, what]) < SHOWN:
            self._shown[law, what].append(Instance(where, why))

    def add_all(self, other: Findings) -> None:
        """Add the findings of another collection."""
        self._counts.update(other._counts)
        self._guesses |= other._guesses
        for key, shown in other._shown.items():
            self._shown[key] = [*self._shown[key], *shown][:SHOWN]

    def of(self, law: int) -> int:
        """How many instances break a law."""
        return sum(count for (which, _), count in self._counts.items() if which == law)

    def all(self) -> tuple[Finding, ...]:
        """All findings by law, the most frequent first."""
        ordered = sorted(self._counts, key=lambda key: (key[0], -self._counts[key], key[1]))
        return tuple(Finding(*key, self._counts[key], tuple(self._shown[key]), key in self._guesses) for key in ordered)

    def judged(self, law: int, kept: str, not_checkable: str = "") -> Judged:
        """The verdict on one law: `kept` says what was checked, `not_checkable` why nothing could be."""
        findings = [finding for finding in self.all() if finding.law == law]
        if findings:
            verdict: LawVerdict = "suspected" if all(finding.is_guess for finding in findings) else "broken"
            return Judged(law, LAWS[law], verdict, "; ".join(f"{finding.count:,} x {finding.what}" for finding in findings))
        return Judged(law, LAWS[law], "not checkable" if not_checkable else "kept", not_checkable or kept)


def quoted(text: str) -> str:
    """The beginning of a text, in quotation marks."""
    return f"“{text[:50]}{'…' if len(text) > 50 else ''}”"
