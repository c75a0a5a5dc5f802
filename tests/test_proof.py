"""`make proof` misses no property, counts what it ran, and measures branches."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests import proof
from tests.proof import ROOT, TESTS, PartResult, ProofPart, content_hash, contents, parts, properties_in, run

DURATIONS = "tests/config/test_settings.py::test_durations_are_exact"


def test_every_property_is_in_a_part():
    """A property of the laws in one of its own, any other in its file's; and no two parts have one name."""
    chosen = {argument for part in parts() if part.kind == "property" for argument in part.selection}
    missing = [
        (str(path), name)
        for path in TESTS.rglob("test_*.py")
        for group, name, _ in properties_in(path)
        if not {(file := str(path.relative_to(ROOT))), "::".join(filter(None, (file, group, name)))} & chosen
    ]

    assert missing == []
    assert len({part.name for part in parts()}) == len(parts())


def test_a_part_counts_its_histories():
    """As many as its profile draws."""
    result = run(ProofPart("one", "", (DURATIONS,), "property", "quick"), contents())

    assert (result.verdict, result.passed, result.failed, result.cases) == ("passed", 1, 0, 15)


def test_what_became_of_a_part_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whole: another checkout of the same code reads it, and runs nothing again but what has to be measured in its own."""
    monkeypatch.setattr(proof, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(proof, "RESULTS", tmp_path / "proof.json")
    monkeypatch.setattr(proof, "TABLE", tmp_path / "proof.md")
    whole, failing, measured = parts()[0], parts()[1], parts()[-1]
    content = contents()
    result = PartResult(content_hash(content, None), 2, 0, 1, 15, 1.5, "2026-01-01 10:00", "a machine, 2 cores")
    few = ("tests/conftest.py", "beepgpt/clock.py")
    results = {
        whole.name: result,
        measured.name: replace(result, measures=True),
        failing.name: replace(result, of=content_hash(content, few), files=few, failed=1, failures=("tests.a::b",)),
    }

    proof.write_results(results)

    assert proof.read_results() == results
    assert "Run on: a machine, 2 cores." in (tmp_path / "proof.md").read_text()
    stale = set(proof.stale_parts())
    assert whole.name not in stale and {measured.name, failing.name} <= stale


def test_a_part_is_stale_when_a_file_changes_that_it_read():
    """And by no other; a part that starts programs, by any."""
    content = contents()
    result = run(ProofPart("one", "", (DURATIONS,), "property", "quick"), content)
    read, not_read = "config/settings.py", "beepgpt/training/prepare.py"

    assert not result.is_stale(content)
    assert result.is_stale(content | {read: "changed"}) and result.is_stale(content | {"pyproject.toml": "changed"})
    assert not result.is_stale(content | {not_read: "changed"})
    assert replace(result, of=content_hash(content, None), files=None).is_stale(content | {not_read: "changed"})


def test_a_part_that_runs_nothing_has_not_passed():
    """A name that is wrong, say."""
    assert run(ProofPart("none", "", (f"{DURATIONS}_not",), "property", "quick"), contents()).verdict in ("failed", "nothing ran")


@pytest.mark.slow
def test_branches_are_told_by_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of what ran under measurement on this code."""
    monkeypatch.setattr(proof, "KEPT", tmp_path)
    monkeypatch.setattr(proof, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(proof, "TABLE", tmp_path / "proof.md")
    part = ProofPart("coverage: config", "", (DURATIONS,), "coverage", "quick")
    result = run(part, contents())
    proof.write_results({part.name: result})
    rows = [line for line in (tmp_path / "proof.md").read_text().splitlines() if line.startswith("| config |")]

    assert result.verdict == "measured"
    assert len(rows) == 1 and rows[0].split("|")[5].strip() not in ("0%", "–")
