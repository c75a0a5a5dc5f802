"""`make proof`: everything long, part by part, and a table of it in docs/proof.md.

A part that passed is not run again until something changes that it reads of the product and the tests. `make proof ARGS="law-1 kills"` runs
the parts whose name begins so, `ARGS=--list` shows all with what is known of them, `ARGS=--again` runs also those that passed. What became
of each is kept in docs/proof.json, which is in the repository: another checkout of the same code goes on from there.
"""

from __future__ import annotations

import argparse
import ast
import base64
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
TABLE = ROOT / "docs" / "proof.md"
KEPT = ROOT / ".proof"
"""What was measured of branches; it is not in the repository."""
RESULTS = ROOT / "docs" / "proof.json"
PRODUCT = ("beepgpt", "config", "connectors", "dataflows")
HASHED = (*PRODUCT, "tests", "pyproject.toml", "setup.py", "requirements-dev.lock")
"""What a part's result holds for, unless it read less: when any of it changes, the part is stale."""
ALWAYS = ("pyproject.toml", "requirements-dev.lock")
"""What every part hangs on: the settings of its tools, and the packages."""
WATCHES = "tests.support.files_read"
"""The plugin that notes what a part reads; it shows nothing itself."""

Kind = Literal["property", "proof", "coverage"]


@dataclass(frozen=True)
class ProofPart:
    """One piece of `make proof`."""

    name: str
    shows: str
    selection: tuple[str, ...]
    """Arguments of pytest."""
    kind: Kind = "proof"
    """`property`: one process, as many at a time as there are cores, 1,000 random histories each; `coverage`: measured, not judged."""
    profile: str = "proof"
    """Hypothesis's profile."""

    @property
    def group(self) -> str:
        """What its name begins with."""
        return self.name.partition(": ")[0]


PROOFS = (
    ProofPart(
        "real data", "the second reading agrees on the real sets", ("tests/laws/test_agreement.py", "-m", "proof and not hypothesis")
    ),
    ProofPart("kills", "a flow of files is killed at random", ("tests/dataflows/test_kills.py", "-m", "proof")),
    ProofPart("kafka kills", "flows and brokers are killed, paused and filled up", ("tests/dataflows", "-k", "kafka", "-m", "proof")),
    ProofPart("label kills", "labeling is killed at random", ("tests/dataflows", "-k", "label", "-m", "proof")),
    ProofPart("alert kills", "`alert` is killed at random", ("tests/commands", "-k", "alert", "-m", "proof")),
    ProofPart("up kills", "the commands of `up` are killed at random", ("tests/up", "-m", "proof")),
    ProofPart("slack ordeal", "live Slack with faults of every kind", ("tests/ingest", "-m", "proof")),
    ProofPart("labelers", "the classifier on real examples", ("tests/labeling", "-m", "proof and not hypothesis")),
    ProofPart(
        "compiled",
        "the compiled build passes the laws, the second reading and the kills",
        ("tests/laws/test_compiled.py", "-m", "proof"),
        profile="default",
    ),
)


@cache
def parts() -> tuple[ProofPart, ...]:
    """All parts: a property of the laws each, the other properties by file, what is marked `proof`, the mutations by room, coverage."""
    from tests.mutations import ROOMS

    mutations = (
        ProofPart(
            f"mutations: {room}",
            f"each of {len(rows)} planted leaks and losses is caught by the tests that are named for it",
            ("tests/laws/test_mutations.py", "-k", f"planted_in_{room.replace(' ', '_')}_"),
        )
        for room, rows in ROOMS.items()
    )
    return (*_properties(), *PROOFS, *mutations, *_coverage())


def _properties() -> Iterator[ProofPart]:
    """A part for each property of the laws, whose name has the law's number if its class has, and for each other file with properties."""
    for path in sorted(TESTS.rglob("test_*.py")):
        file = str(path.relative_to(ROOT))
        found = list(properties_in(path))
        if path.parent.name == "laws":
            for group, name, shows in found:
                law = re.match(r"TestLaw([0-9]+)", group)
                test = "::".join(filter(None, (file, group, name)))
                title = f"{f'law-{law[1]}' if law else 'second reading' if 'oracle' in file or 'agree' in file else 'laws'}: {_words(name)}"
                yield ProofPart(title, shows, (test,), "property")
        elif found:
            count = f"{len(found)} properties" if len(found) > 1 else found[0][2]
            yield ProofPart(f"{path.parent.name}: {_words(path.stem)}", count, (file, "-m", "hypothesis"), "property")


def properties_in(path: Path) -> Iterator[tuple[str, str, str]]:
    """(class, name, first line of the docstring) of each test in a file that Hypothesis gives values."""
    tree = ast.parse(path.read_text("utf-8"))
    classes: list[tuple[str, ast.Module | ast.ClassDef]] = [
        ("", tree),
        *((each.name, each) for each in tree.body if isinstance(each, ast.ClassDef)),
    ]
    for group, holder in classes:
        for each in holder.body:
            if isinstance(each, ast.FunctionDef) and any(_name_of(decorator) == "given" for decorator in each.decorator_list):
                yield group, each.name, (ast.get_docstring(each) or _words(each.name)).partition("\n")[0].rstrip(".")


def _name_of(decorator: ast.expr) -> str:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


def _words(name: str) -> str:
    return name.removeprefix("test_").replace("_", " ")


def _coverage() -> Iterator[ProofPart]:
    """A part for each folder of tests: which branches they run, with few histories."""
    folders = sorted({TESTS / path.relative_to(TESTS).parts[0] for path in TESTS.rglob("test_*.py") if path.parent != TESTS})
    skipped = ("--ignore=tests/laws/test_mutations.py", "--ignore=tests/laws/test_compiled.py")
    for folder in folders:
        yield ProofPart(
            f"coverage: {folder.name}", "branches that its tests run", (str(folder.relative_to(ROOT)), *skipped), "coverage", "quick"
        )
    whole = tuple(str(path.relative_to(ROOT)) for path in sorted(TESTS.glob("test_*.py")))
    yield ProofPart(
        "coverage: whole", "branches that the tests of all rooms together, and doctests, run", (*whole, "beepgpt"), "coverage", "quick"
    )


def contents() -> dict[str, str]:
    """By path below the root: a hash of each file of the product and the tests as it stands in the working tree."""
    paths = (path for name in HASHED for path in ([ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*")))
    kept = sorted(path for path in paths if path.is_file() and path.suffix not in (".pyc", ".so") and "__pycache__" not in path.parts)
    found = {str(path.relative_to(ROOT)): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}
    return {name: digest for name, digest in found.items() if name != f"{WATCHES.replace('.', '/')}.py"}


def content_hash(content: Mapping[str, str], files: Collection[str] | None) -> str:
    """Of what stands in these files and in those that every part hangs on; None: of all."""
    kept = (f"{name}\0{digest}\n" for name, digest in content.items() if files is None or name in files or name in ALWAYS)
    return hashlib.sha256("".join(kept).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class PartResult:
    """What became of a part."""

    of: str
    """Hash of the product and the tests, or of `files`."""
    passed: int
    failed: int
    skipped: int
    cases: int
    """Random histories; of tests without any, tests."""
    seconds: float
    at: str
    machine: str
    """Where it ran: what is kept may come from several."""
    failures: tuple[str, ...] = ()
    measures: bool = False
    files: tuple[str, ...] | None = None
    """What it read of the product and the tests, below the root; None: it may have read all of it, in processes of its own."""

    def is_stale(self, content: Mapping[str, str]) -> bool:
        """Whether something that it read is not as it was."""
        return self.of != content_hash(content, self.files)

    @property
    def verdict(self) -> str:
        """One word of it: a part that ran nothing did not pass. Under measurement some tests of speed fail: other parts judge tests."""
        if not self.passed:
            return "failed" if self.failed else "nothing ran"
        return "measured" if self.measures else "failed" if self.failed else "passed"


def run(part: ProofPart, content: Mapping[str, str]) -> PartResult:
    """Runs a part of this product and these tests to its end."""
    began = time.monotonic()
    environment = {**os.environ, "HYPOTHESIS_PROFILE": part.profile}
    files = None
    measured = KEPT / "coverage" / re.sub(r"\W", "_", part.name)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        spread = ("-p", "no:xdist") if part.kind == "property" else ("-n", str(os.cpu_count()), "--dist", "loadgroup")
        command = [sys.executable, "-m", "pytest", "-q", *spread, "-o", "timeout=7200", f"--junitxml={report}", *part.selection]
        if part.kind == "coverage":
            measured.mkdir(parents=True, exist_ok=True)
            for old in measured.glob(".coverage*"):
                old.unlink()
            environment["COVERAGE_FILE"] = str(measured / ".coverage")
            command[1:1] = ["-m", "coverage", "run", f"--rcfile={ROOT / 'pyproject.toml'}"]
        noted = Path(folder) / "files.json"
        if part.kind == "property":
            command += ["-p", WATCHES]
            environment["FILES_READ"] = str(noted)
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        junit = ElementTree.parse(report) if report.exists() else None
        if noted.exists():
            files = json.loads(noted.read_bytes())
    tests = [] if junit is None else list(junit.iter("testcase"))
    failed = [f"{each.get('classname')}::{each.get('name')}" for each in tests if {"failure", "error"} & {child.tag for child in each}]
    skipped = sum(each.find("skipped") is not None for each in tests)
    is_broken = done.returncode not in (0, 1, 5)
    if failed or is_broken:
        print(done.stdout[-4000:] + done.stderr[-2000:], flush=True)
    passed = len(tests) - len(failed) - skipped
    histories = 0 if junit is None else sum(map(histories_in, junit.iter("property")))
    return PartResult(
        content_hash(content, files),
        passed,
        len(failed) + is_broken,
        skipped,
        histories or passed + len(failed),
        round(time.monotonic() - began, 1),
        time.strftime("%Y-%m-%d %H:%M"),
        machine(),
        tuple(failed),
        part.kind == "coverage",
        None if files is None else tuple(each for each in files if each in content),
    )


def histories_in(noted: ElementTree.Element) -> int:
    """The examples that a property was tried with, by what Hypothesis notes in pytest's report."""
    if not noted.get("name", "").startswith("hypothesis-statistics-"):
        return 0
    text = base64.b64decode(noted.get("value", "")).decode()
    found = re.findall(r"([0-9,]+) passing, ([0-9,]+) failing", text)
    return sum(int(count.replace(",", "")) for counts in found for count in counts)


def read_results() -> dict[str, PartResult]:
    """By part: what became of it last."""
    if not RESULTS.exists():
        return {}
    kept = json.loads(RESULTS.read_text("utf-8"))
    names: list[str] = kept["files"]

    def result(failures: list[str], files: list[int] | None, **each: Any) -> PartResult:
        return PartResult(**each, failures=tuple(failures), files=None if files is None else tuple(names[number] for number in files))

    return {name: result(**each) for name, each in kept["parts"].items()}


def stale_parts() -> list[str]:
    """The parts that have not passed on this product and these tests, and those that were not measured in this checkout."""
    results, content = read_results(), contents()
    return [part.name for part in parts() if not is_done(part, results.get(part.name), content)]


def is_done(part: ProofPart, result: PartResult | None, content: Mapping[str, str]) -> bool:
    """Whether a part needs no other run."""
    if result is None or result.is_stale(content) or result.verdict not in ("passed", "measured"):
        return False
    return not result.measures or any(measures_of(part.name))


def measures_of(name: str) -> list[Path]:
    """The files of branches that a coverage part has left here."""
    return sorted((KEPT / "coverage" / re.sub(r"\W", "_", name)).glob(".coverage*"))


def write_results(results: dict[str, PartResult]) -> None:
    """Keeps what became of the parts, a line each, and writes the table."""
    names = sorted({file for each in results.values() for file in each.files or ()})
    numbers = {name: number for number, name in enumerate(names)}
    kept = {
        name: asdict(each) | {"files": None if each.files is None else [numbers[file] for file in each.files]}
        for name, each in sorted(results.items())
    }
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(each, separators=(',', ':'))}" for name, each in kept.items())
    RESULTS.write_text(f'{{"files": {json.dumps(names)},\n "parts": {{\n{lines}\n}}}}\n', "utf-8")
    TABLE.write_text(table(results), "utf-8")


# The table


def table(results: dict[str, PartResult]) -> str:
    """docs/proof.md."""
    rows = [row(part, results.get(part.name)) for part in parts()]
    failures = [f"- {name}: `{test}`" for name, each in results.items() if not each.measures for test in each.failures]
    slower = [f"- {name}: `{test}`" for name, each in results.items() if each.measures for test in each.failures]
    return "\n".join(
        [
            "# Proof",
            "",
            "What is too long for every day. `make proof` runs it part by part, goes on where it stopped, and writes this table.",
            "A property draws 1,000 random histories here (cases), and 100 in `make test-all`; where one takes long it draws fewer. A",
            "part holds for the product and the tests whose hash stands in its row: for the files that it reads, or for all if it",
            "starts programs.",
            "",
            f"Run on: {'; '.join(sorted({each.machine for each in results.values()}))}.",
            "",
            "| part | what it shows | cases | seconds | | of | at |",
            "|---|---|--:|--:|---|---|---|",
            *rows,
            *(["", "Failed:", "", *failures] if failures else []),
            *coverage_table(),
            *(
                ["", "Failed under measurement, which makes Python slower; whether they pass is shown above:", "", *slower]
                if slower
                else []
            ),
            "",
        ]
    )


def row(part: ProofPart, result: PartResult | None) -> str:
    """A part's line of the table."""
    if result is None:
        return f"| {part.name} | {part.shows} | – | – | not run | – | – |"
    verdict = result.verdict + (f", {result.skipped} skipped" if result.skipped else "")
    return f"| {part.name} | {part.shows} | {result.cases:,} | {result.seconds:,.0f} | {verdict} | `{result.of}` | {result.at} |"


def machine() -> str:
    """This one: its processor, its cores, and Python."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.processor() or 'unknown')}, {os.cpu_count()} cores, Python {platform.python_version()}"


# Coverage

LEAST_COVERED = 15
"""Files that are named."""


def coverage_table() -> list[str]:
    """The branches that tests run, by room, and the files with the most that none runs; nothing if nothing was measured."""
    files = measured_files()
    if not files:
        return []
    rooms: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for name, summary in files.items():
        counts = ("covered_lines", "num_statements", "covered_branches", "num_branches")
        rooms[room_of(name)] = [before + summary[each] for before, each in zip(rooms[room_of(name)], counts, strict=True)]
    rows = [
        f"| {room} | {all_lines:,} | {share(lines, all_lines)} | {all_branches:,} | {share(branches, all_branches)} |"
        for room, (lines, all_lines, branches, all_branches) in sorted(rooms.items())
    ]
    least = sorted(files.items(), key=lambda each: each[1]["covered_branches"] - each[1]["num_branches"])[:LEAST_COVERED]
    return [
        "",
        "## Coverage",
        "",
        "Which statements and branches of the product the tests run, by room: read it for what no test ever runs. What is done by",
        "processes that are killed, or in threads of the engine (workers beyond the first), is not seen.",
        "",
        "| room | statements | run | branches | run |",
        "|---|--:|--:|--:|--:|",
        *rows,
        "",
        "Most branches that no test runs: "
        + ", ".join(f"`{name}` ({each['num_branches'] - each['covered_branches']})" for name, each in least if each["missing_branches"])
        + ".",
    ]


def share(part: int, whole: int) -> str:
    """A share in per cent."""
    return f"{part / whole:.0%}" if whole else "–"


def room_of(file: str) -> str:
    """The folder that a file of the product stands in."""
    first, _, rest = file.partition("/")
    return rest.partition("/")[0] if first == "beepgpt" and "/" in rest else first


def measured_files() -> dict[str, Any]:
    """By file: coverage's summary over all coverage parts that hold for this product and these tests."""
    results, content = read_results(), contents()
    measured_now = {name for name, each in results.items() if each.measures and not each.is_stale(content)}
    wanted = [part for part in parts() if part.name in measured_now]
    data = [path for part in wanted for path in measures_of(part.name)]
    if not data:
        return {}
    from coverage import Coverage

    with tempfile.TemporaryDirectory() as folder:
        measured = Coverage(data_file=f"{folder}/.coverage", config_file=str(ROOT / "pyproject.toml"))
        measured.combine([str(path) for path in data], keep=True)
        measured.json_report(outfile=f"{folder}/report.json")
        report = json.loads(Path(folder, "report.json").read_text("utf-8"))
    return {str(Path(name)): each["summary"] for name, each in report["files"].items()}


def main() -> int:
    """Runs what has not passed, and says at the end what did."""
    parser = argparse.ArgumentParser(description="Runs the parts of the proof that have not passed on this product and these tests.")
    parser.add_argument("parts", nargs="*", metavar="PART", help="only these: a name, or what it begins with before the colon")
    parser.add_argument("--again", action="store_true", help="also those that passed")
    parser.add_argument("--list", action="store_true", help="shows the parts, and runs nothing")
    options = parser.parse_args()
    known = {name for part in parts() for name in (part.name, part.group)}
    if unknown := set(options.parts) - known:
        parser.error(f"no part {', '.join(sorted(unknown))}: one of {', '.join(sorted({part.group for part in parts()}))}")
    results, content, stale = read_results(), contents(), set(stale_parts())
    if options.list:
        for part in parts():
            each = results.get(part.name)
            state = "not run" if each is None else each.verdict + (", stale" if each.is_stale(content) else "")
            print(f"{part.name:60} {state:18} {part.shows}")
        return 0
    chosen = [
        part
        for part in parts()
        if (not options.parts or {part.name, part.group} & set(options.parts)) and (part.name in stale or options.again)
    ]

    def keep(part: ProofPart, result: PartResult) -> None:
        results[part.name] = result
        write_results(results)
        print(f"{result.verdict:9} {part.name}: {result.cases:,} cases in {result.seconds:,.0f} s", flush=True)

    together = [part for part in chosen if part.kind == "property"]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for part, result in zip(together, pool.map(lambda each: run(each, content), together), strict=True):
            keep(part, result)
    for part in chosen:
        if part.kind != "property":
            keep(part, run(part, content))
    print(table(results))
    return 1 if stale_parts() else 0


if __name__ == "__main__":
    sys.exit(main())
