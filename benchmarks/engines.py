"""The product and its peers on the same messages: small jobs that others do well, our whole job, and our core under other engines.

*The window job* is `peers.py`'s: each message with the last five texts before it. *All of it* is what `beepgpt examples` makes of the same
messages as Slack's records: deduplication, edits, horizons, silences, tokens, and (unless left out) features of candidates. Other engines
drive our own core, plain and compiled, keyed by channel, with its state in the process; their lines must be the product's. All take turns,
held to one core (and to two, where it says so); a broker that one of them needs has the machine's other core. Start-up is a run with one
message. Their environments are made as in `peers.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import orjson  # noqa: E402

from beepgpt.simulation.workspace import live_records, undisturbed  # noqa: E402
from benchmarks import common, parts, peers  # noqa: E402
from tests.mutations.running import planted  # noqa: E402
from tests.support.broker import Broker  # noqa: E402

EVENTS = 200_000
LIMITS = peers.Limits(seconds=1_800, bytes=16 << 30)
CORE = peers.PEERS / "core"
CORE_NEEDS = CORE / "requirements.txt"
WINDOWS = ("loop", "pandas", "kaskada", "pathway", "pyflink", "quix")
ENGINES = ("loop", "pathway", "pyflink", "quix")
PRODUCT = "beepgpt examples"
MODES = {"without": "all of it, without candidates", "with": "all of it"}


@dataclass(frozen=True)
class Contestant:
    """Who does which job how."""

    who: str
    job: str
    mode: str
    """`windows`, or whether the examples are made `with` or `without` candidates."""
    cores: int
    command: tuple[str, ...]
    """Before the input and the output."""
    after: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()


def records_of(events: int) -> Path:
    """The messages of `peers.messages_of` as Slack's records: made once, and again when the simulator or peers.py changes."""
    path = peers.messages_of(events).with_name("records.jsonl")
    if not path.exists():
        common.write_once(path, (record.replace(b"\n", b" ") + b"\n" for record in live_records(undisturbed(peers.plan_of(events)))))
    return path


def contestants(tree: Path | None) -> list[Contestant]:
    """All of them; `tree` has the compiled build, if there is a compiler."""
    found = [
        Contestant(who, "the window job", "windows", cores, (str(peers.python_of(who)), str(peers.PEERS / who / "run.py")))
        for cores, names in ((1, WINDOWS), (2, ("pandas", "kaskada")))
        for who in names
    ]
    product = (sys.executable, "-m", "beepgpt", "examples")
    for mode, job in MODES.items():
        flags = ("--no-candidates",) if mode == "without" else ()
        for build, path in {"plain": [], **({} if tree is None else {"compiled": [str(tree)]})}.items():
            for cores in (1, 2):
                after = ("--no-progress", "--workers", str(cores), *flags)
                env = (("PYTHONPATH", os.pathsep.join(path)),) if path else ()
                found.append(Contestant(f"{PRODUCT}, {build}", job, mode, cores, product, after, env))
            env = (("PYTHONPATH", os.pathsep.join([*path, str(CORE)])),)
            for who in ENGINES:
                command = (str(peers.python_of(who)), str(peers.PEERS / who / "core.py"))
                found.append(Contestant(f"our core in {who}, {build}", job, mode, 1, command, (mode,), env))
    return found


def install_core(peer: str) -> None:
    """What the core needs, in a peer's environment. Raises peers.DidNotInstall."""
    peers.install(peer)
    note = peers.python_of(peer).parents[1] / "core.txt"
    wanted = hashlib.sha256(CORE_NEEDS.read_bytes()).hexdigest()
    if peer in peers.AT_HOME or (note.exists() and note.read_text() == wanted):
        return
    command = [str(peers.python_of(peer)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(CORE_NEEDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise peers.DidNotInstall(f"did not install: {common.last_words(done.stderr)}")
    note.write_text(wanted)


class Round:
    """Runs of contestants, each in a folder of its own, with what their output must be."""

    def __init__(self, folder: Path, bootstrap: str | None) -> None:
        self._folder = folder
        self._bootstrap = bootstrap
        self._expected: dict[str, str] = {}
        """By mode: a digest of the first contestant's lines: the loop's, or the product's."""

    def run(self, who: Contestant, events: int) -> peers.Run:
        """One run over so many messages, on its cores; it failed, too, if its lines are not those of the others in its job."""
        source = peers.messages_of(events) if who.mode == "windows" else records_of(events)
        folder = self._folder / "run"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        to = folder / "made.jsonl"
        env = {**common.environment(), "TMPDIR": str(folder), **dict(who.env)}
        env["PATH"] = f"{Path(who.command[0]).parent}{os.pathsep}{env['PATH']}"  # Flink starts `python` by its name
        if "quix" in who.who and self._bootstrap:
            env |= peers.topic_of(source, self._bootstrap)
        between = ("--to",) if "beepgpt" in who.command else ()
        command = [*who.command, str(source), *between, str(to), *who.after]
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[-who.cores :])
        run = peers.measured(command, env, folder, LIMITS)
        os.sched_setaffinity(0, cores)
        if run.failed or events == 1:  # of one message not all make a file
            return run
        made = digest(peers.canonical_lines(to) if who.mode == "windows" else example_lines(to))
        if made != self._expected.setdefault(who.mode, made):
            return replace(run, failed="its lines are not the others'")
        return run


def digest(lines: Sequence[bytes]) -> str:
    """Of sorted lines."""
    return hashlib.sha256(b"\n".join(sorted(lines))).hexdigest()


def example_lines(output: Path) -> list[bytes]:
    """The examples in a file, in a folder of part files, or as the one column of Pathway's lines."""
    files = (
        [output] if output.is_file() else [path for path in output.rglob("*") if path.is_file() and not path.name.startswith((".", "_"))]
    )
    lines = [line for file in files for line in file.read_bytes().splitlines()]
    return [orjson.loads(line)["example"].encode() if line.startswith(b'{"example":') else line for line in lines]


def measure(given: argparse.Namespace, folder: Path, broker: Broker | None, tree: Path | None) -> list[dict[str, Any]]:
    """Rounds of all contestants in turn, each round in another order; in the first, each also with one message."""
    rounds = Round(folder, None if broker is None else broker.bootstrap)
    chosen = [each for each in contestants(tree) if any(name in each.who for name in given.only.split(","))]
    start_ups: dict[Contestant, peers.Run] = {}
    runs: dict[Contestant, list[peers.Run]] = {each: [] for each in chosen}
    for number in range(given.runs):
        for each in chosen if number % 2 == 0 else reversed(chosen):
            if any(run.failed for run in runs[each]):
                continue
            if each not in start_ups:
                start_ups[each] = rounds.run(each, 1)
            run = rounds.run(each, given.events)
            runs[each].append(run)
            print(f"{number + 1} {each.who:<34}{each.job:<32}{each.cores} {run.seconds:>8.1f} s  {run.failed or ''}", flush=True)
    return [row_of(each, start_ups[each], made, given.events) for each, made in runs.items()]


def row_of(who: Contestant, start_up: peers.Run, runs: list[peers.Run], events: int) -> dict[str, Any]:
    """What is kept of a contestant's runs."""
    row: dict[str, Any] = {"who": who.who, "job": who.job, "mode": who.mode, "cores": who.cores}
    if failed := next((run.failed for run in (start_up, *runs) if run.failed), None):
        return {**row, "failed": failed}
    middle = median(run.seconds for run in runs)
    return {
        **row,
        "seconds": common.spread([run.seconds for run in runs]),
        "start_up_seconds": start_up.seconds,
        "per_second": round(events / middle),
        "per_second_after_start_up": round(events / (middle - start_up.seconds)),
        "peak_mb": max(run.peak_mb for run in runs),
    }


def main() -> None:
    """Measures, prints, and writes benchmarks/results/engines.json."""
    parser = argparse.ArgumentParser(description=(main.__doc__ or "") + " Linux only.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--only", default="", help="parts of contestants' names, with commas between")
    parser.add_argument("--quick", action="store_true", help="2,000 messages once, to see that it works; nothing is written")
    given = parser.parse_args()
    if given.quick:
        given.events, given.runs = 2_000, 1
    for peer in WINDOWS if not given.only else ():
        (install_core if peer in ENGINES else peers.install)(peer)
    peers.adopt_orphans()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="engines-")))
        asked = not given.only or "compiled" in given.only
        tree = parts.build_in(stack.enter_context(planted(None))) if asked and parts.has_compiler() else None
        broker = None
        if not given.only or "quix" in given.only:
            (folder / "broker").mkdir()
            broker = Broker(folder / "broker", java=common.JAVA)
            broker.start()
            stack.callback(broker.kill)
        rows = measure(given, folder, broker, tree)
    if not given.quick:
        versions = {peer: peers.version_of(peer) for peer in WINDOWS}
        common.write_results("engines", given.runs, {"events": given.events, "peers": versions, "rows": rows})


if __name__ == "__main__":
    main()
