"""`make proof`: everything long, part by part, and a table of it in docs/proof.md.

A part that passed is not run again until the product or the tests change. `make proof ARGS="law-1 kills"` runs the named parts,
`ARGS=--list` shows all with what is known of them, `ARGS=--again` runs also those that passed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "proof.md"
KEPT = ROOT / ".proof" / "results.json"
HASHED = ("beepgpt", "config", "connectors", "dataflows", "tests", "pyproject.toml", "setup.py", "requirements-dev.lock")
"""What a part's result holds for: when any of it changes, the part is stale."""


@dataclass(frozen=True)
class ProofPart:
    """One piece of `make proof`."""

    name: str
    shows: str
    selection: tuple[str, ...]
    """Arguments of pytest."""
    profile: str = "proof"
    """Hypothesis's profile: `proof` draws 3,000 histories a property."""


def _properties(name: str, shows: str, *paths: str) -> ProofPart:
    return ProofPart(name, shows, (*paths, "-m", "hypothesis"))


LAWS = "tests/laws"
PARTS = (
    *(
        _properties(f"law-{number}", shows, f"{LAWS}/{file}")
        for number, (file, shows) in enumerate(
            (
                ("test_past_only.py", "past only, over 3,000 random histories a property"),
                ("test_blind_to_the_answer.py", "blind to the answer, likewise"),
                ("test_prefix.py", "prefix, likewise"),
                ("test_one_result.py", "one result, likewise"),
                ("test_train_as_you_serve.py", "train as you serve, likewise"),
                ("test_nothing_is_lost.py", "the account adds up, likewise"),
            ),
            start=1,
        )
    ),
    _properties("law-7", "splits don't leak, likewise", "tests/training"),
    _properties("oracle", "the second reading of the rules agrees, likewise", "tests/laws/test_agreement.py", "tests/laws/test_oracle.py"),
    _properties("conversations", "all other properties of conversations, likewise", "tests/conversations"),
    _properties("audit", "the audit finds what is planted, likewise", "tests/audit"),
    _properties("alerts", "who is alerted, over random worlds", "tests/alerts"),
    _properties(
        "other properties",
        "of every other room",
        "tests",
        *(f"--ignore=tests/{each}" for each in ("laws", "training", "conversations", "audit", "alerts")),
    ),
    ProofPart(
        "real data",
        "the second reading agrees on the real sets",
        ("tests/laws/test_agreement.py", "-m", "proof and not hypothesis"),
    ),
    ProofPart("kills", "a flow of files is killed at random", ("tests/dataflows/test_kills.py", "-m", "proof")),
    ProofPart(
        "kafka kills",
        "flows and brokers are killed, paused and filled up",
        ("tests/dataflows/test_kafka_kills.py", "tests/dataflows/test_kafka_flow.py", "-m", "proof"),
    ),
    ProofPart("label kills", "labeling is killed at random", ("tests/dataflows/test_label_kills.py", "-m", "proof")),
    ProofPart("alert kills", "`alert` is killed at random", ("tests/commands/test_alert_command.py", "-m", "proof")),
    ProofPart("slack ordeal", "live Slack with faults of every kind", ("tests/ingest", "-m", "proof")),
    ProofPart("labelers", "the classifier on real examples", ("tests/labeling", "-m", "proof and not hypothesis")),
    ProofPart(
        "compiled",
        "the compiled build passes the laws, the second reading and the kills",
        ("tests/laws/test_compiled.py", "-m", "proof"),
        "default",
    ),
    ProofPart(
        "mutations",
        "every planted leak or loss is caught by the tests that are named for it",
        ("tests/laws/test_mutations.py", "-m", "proof"),
        "proof",
    ),
)


def content_hash() -> str:
    """Of the product and the tests as they stand in the working tree."""
    total = hashlib.sha256()
    paths = (path for name in HASHED for path in ([ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*")))
    for path in sorted(path for path in paths if path.is_file() and path.suffix not in (".pyc", ".so") and "__pycache__" not in path.parts):
        total.update(f"{path.relative_to(ROOT)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()[:12]


@dataclass(frozen=True)
class PartResult:
    """What became of a part."""

    of: str
    """Hash of the product and the tests."""
    passed: int
    failed: int
    skipped: int
    seconds: float
    at: str
    failures: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """One word of it: a part that ran nothing did not pass."""
        return "failed" if self.failed else "passed" if self.passed else "nothing ran"


def run(part: ProofPart, of: str) -> PartResult:
    """Runs a part to its end."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        command = [
            *(sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadgroup", "-o", "timeout=7200", f"--junitxml={report}"),
            *part.selection,
        ]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "HYPOTHESIS_PROFILE": part.profile}, check=False)
        cases = [] if not report.exists() else list(ElementTree.parse(report).iter("testcase"))
    failed = [
        f"{case.get('classname')}::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    skipped = sum(case.find("skipped") is not None for case in cases)
    broken = done.returncode not in (0, 1, 5)
    return PartResult(
        of,
        len(cases) - len(failed) - skipped,
        len(failed) + broken,
        skipped,
        round(time.monotonic() - began, 1),
        time.strftime("%Y-%m-%d %H:%M"),
        tuple(failed),
    )


def read_results() -> dict[str, PartResult]:
    """By part: what became of it last."""
    if not KEPT.exists():
        return {}
    return {name: PartResult(**{**kept, "failures": tuple(kept["failures"])}) for name, kept in json.loads(KEPT.read_text("utf-8")).items()}


def stale_parts() -> list[str]:
    """The parts that have not passed on this product and these tests."""
    results, of = read_results(), content_hash()
    return [part.name for part in PARTS if (each := results.get(part.name)) is None or each.of != of or each.verdict != "passed"]


def write_results(results: dict[str, PartResult]) -> None:
    """Keeps what became of the parts, and writes the table."""
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_text(json.dumps({name: asdict(each) for name, each in results.items()}, indent=1), "utf-8")
    TABLE.write_text(table(results), "utf-8")


def table(results: dict[str, PartResult]) -> str:
    """docs/proof.md."""
    processor = next(
        (line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor() or "unknown"
    )
    rows = [row(part, results.get(part.name)) for part in PARTS]
    failures = [f"- {name}: `{test}`" for name, each in results.items() for test in each.failures]
    return "\n".join(
        [
            "# Proof",
            "",
            "What is too long for every day. `make proof` runs it part by part, goes on where it stopped, and writes this table.",
            "A property draws 3,000 random histories here, and 100 in `make test-all`. A part holds for the product and the tests",
            "whose hash stands in its row.",
            "",
            f"Machine: {processor}, {os.cpu_count()} cores, Python {platform.python_version()}.",
            "",
            "| part | what it shows | tests | seconds | | of | at |",
            "|---|---|--:|--:|---|---|---|",
            *rows,
            *(["", "Failed:", "", *failures] if failures else []),
            "",
        ]
    )


def row(part: ProofPart, result: PartResult | None) -> str:
    """A part's line of the table."""
    if result is None:
        return f"| {part.name} | {part.shows} | – | – | not run | – | – |"
    verdict = result.verdict + (f", {result.skipped} skipped" if result.skipped else "")
    count = result.passed + result.failed
    return f"| {part.name} | {part.shows} | {count:,} | {result.seconds:,.0f} | {verdict} | `{result.of}` | {result.at} |"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text("utf-8").splitlines() if path.exists() else []


def main() -> int:
    """Runs what has not passed, and says at the end what did."""
    parser = argparse.ArgumentParser(description="Runs the parts of the proof that have not passed on this product and these tests.")
    parser.add_argument("parts", nargs="*", metavar="PART", help="only these")
    parser.add_argument("--again", action="store_true", help="also those that passed")
    parser.add_argument("--list", action="store_true", help="shows the parts, and runs nothing")
    options = parser.parse_args()
    known = {part.name for part in PARTS}
    if unknown := set(options.parts) - known:
        parser.error(f"no part {', '.join(sorted(unknown))}: one of {', '.join(sorted(known))}")
    results, of, stale = read_results(), content_hash(), stale_parts()
    if options.list:
        for part in PARTS:
            each = results.get(part.name)
            state = "not run" if each is None else each.verdict + ("" if each.of == of else ", stale")
            print(f"{part.name:20} {state:18} {part.shows}")
        return 0
    for part in PARTS:
        if options.parts and part.name not in options.parts:
            continue
        if part.name not in stale and not options.again:
            continue
        print(f"== {part.name}: {part.shows}", flush=True)
        results[part.name] = run(part, of)
        write_results(results)
    print(table(results))
    return 1 if stale_parts() else 0


if __name__ == "__main__":
    sys.exit(main())
