"""Scoring in real time on a real broker, or a folder of topics, on the same machine: how late predictions are, and whether memory grows.

| part | what it measures |
|---|---|
| `local` | 500 points a second, 40 candidates each, by the local model in the flow's process |
| `folder` | 50 points a second by the local model, from a topic in a folder to another there |
| `served` | 200 points a second by a model server that takes 300 ms for an answer |

40 channels talk in threads: each reply is a point, and answers the one before it. A prediction's time goes from the release of its point
(the header `released_at`) to its arrival here, a consumer of its own. Talk begins before what counts, and goes on for some seconds after
it. Linux only: memory is read from /proc. `KAFKA_BOOTSTRAP_SERVERS` names a broker to use; without it one is started.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Run as a script, it finds ours beside it, installed or not; and not the benchmarks that are called like our packages.
sys.path[:] = [str(ROOT), *(each for each in sys.path if each not in (str(ROOT), str(Path(__file__).parent)))]

import orjson  # noqa: E402

from beepgpt.commands.topics import A_QUARTER, FOR_EVER  # noqa: E402
from beepgpt.connectors.kafka import KafkaLog  # noqa: E402
from beepgpt.connectors.log import Log, OutgoingRecord, TopicSpec, folder_place  # noqa: E402
from beepgpt.connectors.sqlite.log import SqliteLog  # noqa: E402
from beepgpt.conversations.events import micros, ts_text  # noqa: E402
from benchmarks import common, training  # noqa: E402
from benchmarks.kafka_speed import Bench, percentile, say  # noqa: E402
from tests.support.openai_server import serving  # noqa: E402
from tests.support.scoring import save_served  # noqa: E402
from tests.support.training import variables  # noqa: E402

RESULTS = common.RESULTS / "scoring.json"
CHANNELS = 40
PEOPLE = 60
"""In each channel: more than the 40 candidates of a point."""
THREADS = 25
"""In which each channel talks: so many points are open at a time."""
TICK = 0.02
"""Seconds between two writes."""
LEAD_SECONDS = 120
"""Of talk before it counts."""
TAIL_SECONDS = 8
"""Of talk after it, so that the last points are released as they would be, one after the other."""
SETTLE = 15.0
"""Seconds after that within which the last prediction has to come."""
TARGETS = {"local": (500, 0.250), "folder": (50, 0.100), "served": (200, 1.0)}
"""Points a second, and seconds for 99 of 100 predictions."""
LOCAL_PORT, SERVED_PORT, FOLDER_PORT = 19464, 19465, 19466
FLAT = 1.1
"""Memory at the end, against that of the second fifth of the time: duplicates are remembered for ten minutes, so it grows until then."""


# The talk


@dataclass
class Talk:
    """Channels that talk in threads, at a pace."""

    roots: dict[str, list[int]] = field(default_factory=dict)
    said: list[int] = field(default_factory=list)
    """When, microseconds."""

    def begin(self) -> list[OutgoingRecord]:
        """The threads and everybody's first word, as of an hour ago."""
        messages = []
        for channel in (f"C{number:03d}" for number in range(CHANNELS)):
            began = now_us() - 3_600_000_000
            roots = [began + place * 1_000_000 for place in range(THREADS)]
            self.roots[channel] = roots
            messages += [post(channel, ts, f"U{place % PEOPLE:03d}", "Who knows why the build is red?") for place, ts in enumerate(roots)]
            for place in range(PEOPLE):
                ts = began + (THREADS + place) * 1_000_000
                messages.append(post(channel, ts, f"U{place:03d}", "Let me look at the log of the gateway.", roots[place % THREADS]))
        return messages

    def reply(self) -> OutgoingRecord:
        """The next word: a point."""
        number, now = len(self.said), now_us()
        self.said.append(now)
        channel = f"C{number % CHANNELS:03d}"
        turn = number // CHANNELS
        thread = self.roots[channel][turn % THREADS]
        return post(channel, now, f"U{(turn * 7) % PEOPLE:03d}", f"The gateway was slow again, try {turn} once more.", thread)


def post(channel: str, ts: int, user: str, text: str, thread: int | None = None) -> OutgoingRecord:
    """A message, as Slack tells it."""
    event = {"type": "message", "channel": channel, "user": user, "text": text, "ts": ts_text(ts)}
    if thread is not None:
        event["thread_ts"] = ts_text(thread)
    return OutgoingRecord(channel.encode(), json.dumps(event).encode())


def now_us() -> int:
    """The machine's time, microseconds."""
    return time.time_ns() // 1000


# What came


class Arrivals:
    """Predictions as they arrive, and how late each was."""

    def __init__(self, log: Log, topic: str) -> None:
        self.times: list[tuple[int, float]] = []
        """`prompt_ts`, microseconds, and how many seconds after its release."""
        self._over = threading.Event()
        self._source = log.source(topic, follow=True, stopping=self._over.is_set)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        parts = [self._source.build_part("read", name, None) for name in self._source.list_parts()]
        while not self._over.is_set():
            came = 0
            for part in parts:
                for _, _, records in part.next_batch():
                    now = time.time()
                    for record in records:
                        headers = dict(record.headers)
                        if headers["kind"] == b"prediction":
                            late = now - micros(headers["released_at"].decode()) / 1e6
                            self.times.append((micros(orjson.loads(record.value or b"")["prompt_ts"]), late))
                            came += 1
            if not came:
                time.sleep(0.002)

    def waits(self, first: int, last: int) -> list[float]:
        """Milliseconds, of the points from one time to another: microseconds."""
        return [1000 * late for at, late in list(self.times) if first <= at < last]

    def close(self) -> None:
        """Stops looking."""
        self._over.set()
        self._thread.join(5)


def measure(
    bench: Bench,
    log: Log,
    name: str,
    command: Sequence[object],
    port: int,
    topics: tuple[str, str, str],
    seconds: int,
    more: Mapping[str, str] | None = None,
    *,
    quick: bool,
) -> dict[str, Any]:
    """A flow that follows, while the channels talk."""
    events, predictions, _ = topics
    rate, target = TARGETS[name]
    lead = 5 if quick else LEAD_SECONDS
    talk = Talk()
    with log.writer(events) as writer:
        writer.send(talk.begin())
    process = subprocess.Popen(
        [str(each) for each in command], env={**bench.env, **(more or {})}, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    arrivals = Arrivals(log, predictions)
    memory: list[float] = []
    try:
        wait_ready(process, port)
        began = time.time()
        due = 0.0
        with log.writer(events) as writer:
            while (now := time.time() - began) < lead + seconds + TAIL_SECONDS:
                count = int((now - due) * rate)
                if count:
                    writer.send(talk.reply() for _ in range(count))
                    writer.flush()
                    due += count / rate
                if len(memory) < now - lead < seconds:
                    memory.append(resident_mb(process.pid))
                time.sleep(TICK)
        first, last = (round((began + lead + each) * 1e6) for each in (0, seconds))
        said = sum(first <= at < last for at in talk.said)
        until = time.time() + SETTLE
        while len(waits := arrivals.waits(first, last)) < said and time.time() < until:
            time.sleep(0.1)
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=60)
        arrivals.close()
    if process.returncode:
        raise common.Failed(errors[-2000:].decode(errors="replace"))
    fifth = max(len(memory) // 5, 1)
    early, late = median(memory[fifth : 2 * fifth] or memory), median(memory[-fifth:])
    figures = {f"p{share}": round(percentile(waits, share), 1) for share in (50, 90, 99)} if waits else {}
    return {
        "points_per_second": rate,
        "seconds": seconds,
        "said": said,
        "predicted": len(waits),
        "milliseconds": figures,
        "target_ms": round(target * 1000),
        "reached": bool(waits) and figures["p99"] <= target * 1000 and len(waits) == said,
        "memory_mb": {"early": round(early, 1), "late": round(late, 1)},
        "is_flat": late <= FLAT * early,
    }


def resident_mb(pid: int) -> float:
    """Of one process."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def wait_ready(process: subprocess.Popen[bytes], port: int) -> None:
    """Until it reads; a minute and a half at most."""
    until = time.monotonic() + 90
    while time.monotonic() < until:
        if process.poll() is not None:
            raise common.Failed((process.stderr.read() if process.stderr else b"")[-2000:].decode(errors="replace"))
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise common.Failed("the flow did not get ready")


# The parts


def topics_of(bench: Bench, name: str) -> tuple[str, str, str]:
    """New ones."""
    _ = bench.connection  # starts the broker
    return (
        bench.new_topic(f"{name}-events", 12, FOR_EVER),
        bench.new_topic(f"{name}-predictions", 12, A_QUARTER),
        bench.new_topic(f"{name}-outcomes", 12, A_QUARTER),
    )


def flags_of(bench: Bench, topics: tuple[str, str, str], folder: Path, port: int) -> list[object]:
    """Flags of both parts."""
    events, predictions, outcomes = topics
    return [
        f"{bench.address(events)}?follow=true", "--to", bench.address(predictions), "--outcomes", bench.address(outcomes),
        "--metrics-port", port, "--recovery", folder / f"memory-{events}",
    ]  # fmt: skip


def local(bench: Bench, folder: Path, seconds: int, *, quick: bool) -> dict[str, Any]:
    """The local model, in the flow's process."""
    say("  training a model")
    trained_on, _ = training.training_set(folder, quick=quick)
    training.beepgpt("train", trained_on)
    topics = topics_of(bench, "local")
    flags = flags_of(bench, topics, folder, LOCAL_PORT)
    command = [sys.executable, "-m", "beepgpt", "score", *flags, "--model", trained_on / "models" / "local"]
    return measure(bench, KafkaLog(bench.connection), "local", command, LOCAL_PORT, topics, seconds, quick=quick)


def in_folder(bench: Bench, folder: Path, seconds: int, *, quick: bool) -> dict[str, Any]:
    """The local model, and no broker."""
    say("  training a model")
    trained_on, _ = training.training_set(folder, quick=quick)
    training.beepgpt("train", trained_on)
    log = SqliteLog(folder_place(str(folder / "log")))
    topics = ("slack.events", "slack.predictions", "slack.outcomes")
    log.create([TopicSpec(name, 12, FOR_EVER if name == "slack.events" else A_QUARTER) for name in topics])
    to = ["--to", f"{log.place}/slack.predictions", "--outcomes", f"{log.place}/slack.outcomes", "--recovery", folder / "memory-folder"]
    command = [sys.executable, "-m", "beepgpt", "score", f"{log.place}/slack.events?follow=true", *to]
    command += ["--metrics-port", FOLDER_PORT, "--model", trained_on / "models" / "local"]
    return measure(bench, log, "folder", command, FOLDER_PORT, topics, seconds, quick=quick)


def served(bench: Bench, folder: Path, seconds: int, *, quick: bool) -> dict[str, Any]:
    """A server of the tests, over real HTTP, which takes 300 ms for an answer."""
    people = {str(place): f"U{place:03d}" for place in range(PEOPLE)}
    model = save_served(folder / "served", people)
    topics = topics_of(bench, "served")
    with serving(latency=0.3, keeps_bodies=False) as server:
        server.models["mine"] = lambda prompt: {label: 0.5 ** (place + 1) for place, label in enumerate(list(people)[:20])}
        flags = flags_of(bench, topics, folder, SERVED_PORT)
        command = [sys.executable, "-m", "beepgpt", "score", *flags, "--model", model]
        return measure(bench, KafkaLog(bench.connection), "served", command, SERVED_PORT, topics, seconds, variables(server), quick=quick)


PARTS = {"local": local, "folder": in_folder, "served": served}


def summary(name: str, result: Mapping[str, Any]) -> str:
    """A line or two for whoever waits."""
    times = ", ".join(f"{what} {value:,.0f} ms" for what, value in result["milliseconds"].items())
    memory = result["memory_mb"]
    return (
        f"{name}: {result['points_per_second']} points/s for {result['seconds']} s: {times} (wanted: p99 {result['target_ms']:,} ms);"
        f" {result['predicted']:,} of {result['said']:,} predicted; {memory['early']:,.0f} MB, then {memory['late']:,.0f} MB"
    )


def main() -> None:
    """Measures, prints, and writes benchmarks/results/scoring.json."""
    parser = argparse.ArgumentParser(description="Scoring in real time: how late, and whether memory grows.")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, with commas between: {', '.join(PARTS)}")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--quick", action="store_true", help="20 seconds of each, to see that it works; nothing is written")
    given = parser.parse_args()
    if sys.platform != "linux":
        parser.exit(message="benchmarks/scoring.py needs Linux: it reads memory from /proc\n")
    if unknown := set(given.only.split(",")) - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    seconds = min(given.seconds, 20) if given.quick else given.seconds
    found: dict[str, Any] = json.loads(RESULTS.read_bytes())["parts"] if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory(prefix="scoring-") as folder, Bench(Path(folder), 1, 1, seconds) as bench:
        for name in given.only.split(","):
            say(f"== {name}")
            found[name] = PARTS[name](bench, Path(folder), seconds, quick=given.quick)
            print(summary(name, found[name]), flush=True)
    if not given.quick:
        common.write_results("scoring", 1, {"parts": found})


if __name__ == "__main__":
    main()
