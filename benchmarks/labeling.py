"""Labels by an LLM that takes 300 ms: against what its concurrency allows, in the midst of faults, and through kills.

The server is the tests' own, in a process of its own. What 16 requests at a time allow is the time that all of them hold a place,
by the script: 300 ms each, a stalled one until it is given up, a slow one as long as it trickles. Waits between tries hold no place.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from beepgpt.config.prices import read_prices  # noqa: E402
from beepgpt.connectors.tokenizer import load_encoding  # noqa: E402
from beepgpt.conversations.rules import Rules  # noqa: E402
from beepgpt.conversations.shard import run_through  # noqa: E402
from beepgpt.simulation.workspace import Plan, live_records  # noqa: E402
from benchmarks import common  # noqa: E402
from tests.support.openai_server import KEY  # noqa: E402

EXAMPLES = 10_000
CONCURRENCY = 16
LATENCY = 0.3
GIVEN_UP = 5
"""Seconds after which a try is given up."""
SLOW = 1.0
TARGET = 1.1
KILLS = 10
PASSING = ["429", "429:1", "500", "503:1", "stall", "reset", "drop", "cut", "html", "empty", f"slow:{SLOW:g}", "bare"]
FAULTS = [*PASSING, "400", "404", "schema", "maybe", "chatty", "refusal", "length"]


def examples(count: int) -> list[bytes]:
    """HubSpot's, with different prompts; simulated ones where it isn't there."""
    source = common.hubspot_file()
    if source is not None:
        made = common.CACHE / f"{source.stem}-examples.jsonl"
        if not made.exists():
            part = made.with_suffix(".part")
            common.run_program(source, part, "--no-candidates")
            part.rename(made)
        with made.open("rb") as lines:
            return different(lines, count)
    plan = Plan(messages=3 * count, days=count / 25, channels=40, people=200)
    return different(run_through(list(live_records(plan)), Rules(candidates=False), load_encoding("o200k_base")).examples, count)


def different(lines: Any, count: int) -> list[bytes]:
    """So many with an answer, and each prompt once."""
    found: dict[str, bytes] = {}
    for line in lines:
        body = json.loads(line)
        if body["answer"]:
            found.setdefault(body["prompt"], line.rstrip(b"\n"))
            if len(found) == count:
                break
    return list(found.values())


def write_few_shots(folder: Path, lines: Sequence[bytes]) -> None:
    """Fifty of them, as a person would have chosen."""
    folder.mkdir(parents=True)
    for name, said, part in (("pos", b"strong", lines[:50:2]), ("neg", b"weak", lines[1:50:2])):
        (folder / f"examples_{name}.jsonl").write_bytes(b"".join(line[:-1] + b',"signal":"' + said + b'"}\n' for line in part))


@contextmanager
def server(shares: Sequence[str]) -> Iterator[str]:
    """Its address."""
    faults = [part for fault in shares for part in ("--share", f"{fault}=0.01")]
    command = [sys.executable, "-m", "tests.support.openai_server", "--latency", str(LATENCY), *faults]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def record_of(url: str) -> dict[str, Any]:
    """What the server saw."""
    with urlopen(url.removesuffix("/v1") + "/record") as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def start(source: Path, to: Path, url: str) -> subprocess.Popen[bytes]:
    """The program, as a user runs it."""
    env = common.environment() | {
        "BEEPGPT_PROVIDER__BASE_URL": url,
        "BEEPGPT_PROVIDER__KEY": KEY,
        "BEEPGPT_PROVIDER__TIMEOUT": f"{GIVEN_UP}s",
        "BEEPGPT_LABELING__FEW_SHOTS": str(source.parent / "few-shots"),
    }
    command = [sys.executable, "-m", "beepgpt", "label", str(source), "--to", str(to), "--labeler", "provider", "--no-progress"]
    flags = ["--report", str(common.report_of(to)), "--recovery", str(to.with_suffix(".memory")), "--yes"]
    with (to.parent / "log.txt").open("wb") as log:
        return subprocess.Popen([*command, *flags], env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=to.parent)


def finish(process: subprocess.Popen[bytes], folder: Path) -> tuple[float, float]:
    """Waits for it; its processor seconds and peak memory."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise common.Failed(f"exit status {process.returncode}: {common.last_words((folder / 'log.txt').read_text('utf-8', 'replace'))}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def kill_at_work(source: Path, to: Path, url: str, kills: int, count: int) -> None:
    """Kills it so often, whenever the server has seen some more."""
    draws = random.Random(7)
    for _ in range(kills):
        enough = record_of(url)["asked"] + draws.randint(1, count // (kills + 1))
        process = start(source, to, url)
        while record_of(url)["asked"] < enough:
            if process.poll() is not None:
                raise common.Failed(f"it ended before it could be killed, with status {process.returncode}")
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()


def slot_seconds(record: dict[str, Any]) -> float:
    """What all that was asked has to take, by the script."""
    faults = record["faults"]
    stalled, slow = faults.get("stall", 0), faults.get(f"slow:{SLOW:g}", 0)
    return float(((record["asked"] - stalled) * LATENCY + stalled * GIVEN_UP + slow * SLOW) / CONCURRENCY)


def measure(name: str, source: Path, folder: Path, shares: Sequence[str], kills: int, count: int) -> dict[str, Any]:
    """One run, or one through kills."""
    to = folder / f"{name.replace(' ', '-')}.jsonl"
    began = time.monotonic()
    with server(shares) as url:
        kill_at_work(source, to, url, kills, count)
        cpu, peak = finish(start(source, to, url), folder)
        wall = time.monotonic() - began
        record = record_of(url)
    report = json.loads(common.report_of(to).read_bytes())
    came = Counter(json.loads(line)["id"] for line in source.read_bytes().splitlines())
    out = Counter(json.loads(line)["id"] for line in to.read_bytes().splitlines())
    letters = to.with_name(f"{to.stem}.dead-letters.jsonl")
    if letters.exists():
        out += Counter(json.loads(json.loads(line)["record"])["id"] for line in letters.read_bytes().splitlines())
    provider, price = report["provider"], read_prices().of(report["provider"]["model"])
    assert price
    ideal = slot_seconds(record)
    return {
        "run": name,
        "examples": count,
        "seconds": report["seconds"] if not kills else None,
        "whole_seconds": round(wall, 1),
        "ideal_seconds": round(ideal, 1),
        "ratio": round(report["seconds"] / ideal, 3) if not kills else None,
        "cpu_seconds": round(cpu, 1),
        "peak_mb": round(peak, 1),
        "missing": sum((came - out).values()),
        "double": sum((out - came).values()),
        "paid_twice": record["paid_twice"],
        "most_at_once": record["most"],
        "dead_letters": report["account"]["dead_letters"],
        "retries": provider["retries"],
        "cached_share": round(provider["tokens"]["cached"] / provider["tokens"]["input"], 3),
        "cost": round(provider["cost"], 4),
        "cost_by_arithmetic": round(price.cost(**provider["tokens"]), 4),
        "estimate": None if kills else round(report["estimate"]["cost"], 4),
    }


def main() -> None:
    """Measures, prints, and writes benchmarks/results/labeling.json."""
    given = common.options(main.__doc__ or "")
    count = EXAMPLES // 20 if given.quick else EXAMPLES
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="labeling-") as name:
        folder = Path(name)
        found = examples(count + 50)
        write_few_shots(folder / "few-shots", found[count:])
        source = folder / "examples.jsonl"
        source.write_bytes(b"".join(line + b"\n" for line in found[:count]))
        runs: list[tuple[str, list[str], int]] = [("without faults", [], 0), ("with faults", FAULTS, 0), ("with kills", FAULTS, KILLS)]
        for run, shares, kills in runs:
            row = measure(run, source, folder, shares, kills, count)
            rows.append(row)
            timing = f"{row['seconds']:.1f} s of {row['ideal_seconds']} s ({row['ratio']:.2f}; wanted: {TARGET})" if not kills else ""
            print(f"{run}: {timing} {json.dumps({key: value for key, value in row.items() if key not in ('run', 'ratio')})}", flush=True)
    if not given.quick:
        common.write_results("labeling", 1, {"target": TARGET, "rows": rows})


if __name__ == "__main__":
    main()
