"""`beepgpt up` beside a local Slack: from nothing to the first right alert, and its memory at full speed and at one event a second.

| part | what it measures |
|---|---|
| bootstrap | seconds from the command to each step: a history of `--messages` is read, a model learns from it, somebody alerted joins |
| slow | an event a second for `--seconds`: the memory of each process |
| fast | `--events` as fast as all commands work them off: the same |

All settings are the defaults but for alerts (from 1 % on, to everybody, at any hour, 60 an hour) and the Web API's rate, which is not held
back. Until the first right alert, which the other parts do not wait for, 5 things happen a second in 20 channels.

What waits for its horizon, a day, is kept. So that days pass while events come at full speed, `fast` has a clock that runs `--rate` times
faster than the machine's, with the settings that `beepgpt up --simulate` has for it, but for its snapshots; nights come and train, too.
Something new happens there while no command has more than `BACKLOG` records left to read: what waited on the disk would show no memory.
Linux only: memory is read from /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Run as a script, it finds ours beside it, installed or not; and not the benchmarks that are called like our packages.
sys.path[:] = [str(ROOT), *(each for each in sys.path if each not in (str(ROOT), str(Path(__file__).parent)))]

from beepgpt import clock  # noqa: E402
from beepgpt.alerts.by_day import have_joined  # noqa: E402
from beepgpt.commands.up_simulated import settings_for  # noqa: E402
from beepgpt.connectors.log import folder_place  # noqa: E402
from beepgpt.connectors.sqlite.log import SqliteLog  # noqa: E402
from beepgpt.conversations.rules import DAY  # noqa: E402
from beepgpt.simulation.life import LivingWorkspace  # noqa: E402
from beepgpt.simulation.plan import Plan  # noqa: E402
from beepgpt.simulation.slack.server import SlackServer  # noqa: E402
from beepgpt.simulation.slack.whole import one_slack  # noqa: E402
from beepgpt.up.plan import ORDER  # noqa: E402
from beepgpt.up.served import LAG, NO_ANSWER, sums_at  # noqa: E402
from benchmarks import common, peers  # noqa: E402
from tests.support import program  # noqa: E402
from tests.support.kafka import Running, started  # noqa: E402
from tests.support.up import children_of  # noqa: E402

RESULTS = common.RESULTS / "up.json"
HISTORY_DAYS = 180
UNHURRIED = 5.0
"""Things a second until somebody joins."""
AHEAD = 500
"""Events that may wait to be acknowledged."""
LOOKS = 10
"""At memory, in each part."""
PATIENCE = 3_600.0
QUIET_SECONDS = 15.0
"""Without a new example or prediction: then all that was said is worked off."""
BACKLOG = 10_000
"""Records that a command may have left to read."""
LAG_EVERY = 0.5
"""Seconds between two looks at that."""
PARTS = ("bootstrap", "slow", "fast")
SETTINGS = {
    "BEEPGPT_CONVERSATIONS__WORKSPACE": "acme",
    "BEEPGPT_SLACK__CALLS_PER_MINUTE": "1000000",
    "BEEPGPT_ALERTS__QUIET": "",
    "BEEPGPT_ALERTS__OPTED_IN": "true",
    "BEEPGPT_ALERTS__THRESHOLD": "0.01",
    "BEEPGPT_ALERTS__PER_HOUR": "60",
}


def plan_of(messages: int, events: int) -> Plan:
    """A history up to now, and enough to go on with."""
    share = (messages + events) / messages
    start = clock.now_us() - HISTORY_DAYS * DAY
    return Plan(seed=11, messages=messages + events, days=HISTORY_DAYS * share, start=start, channels=20, people=200, private=0.0)


class Measured:
    """A run of `up`, and the Slack that it lives beside."""

    def __init__(self, run: Running, server: SlackServer, life: LivingWorkspace, data: Path) -> None:
        self.began = time.monotonic()
        self.run, self.server, self.life, self.data = run, server, life, data
        self.happened = 0
        self.examples_of_history = 0

    def wait(self, what: str, is_so: Callable[[], object], *, a_second: float = 0.0) -> float:
        """Let so much happen until it is so; returns the seconds since the command was given. Raises common.Failed."""
        until, began, before = time.monotonic() + PATIENCE, time.monotonic(), self.happened
        while not is_so():
            if time.monotonic() > until or self.run.process.poll() is not None:
                raise common.Failed(f"{what} did not come: {self.run.said[-2_000:]}")
            self.happen(int((time.monotonic() - began) * a_second) - (self.happened - before))
            time.sleep(0.05)
        seconds = round(time.monotonic() - self.began, 1)
        print(f"{seconds:>8.1f} s  {what}", flush=True)
        return seconds

    def happen(self, count: int) -> None:
        """So much more."""
        for _ in range(count):
            self.life.happen()
            self.happened += 1

    def said(self, words: str) -> Callable[[], bool]:
        """Whether it has said so."""
        return lambda: words in self.run.said

    def start(self, a_second: float = 1.0) -> dict[str, float]:
        """Seconds to each step until all commands run, while so much happens."""
        steps = {
            "events are collected": self.wait("events are collected", lambda: "ingest" in children_of(self.run)),
            "the history is on the log": self.wait(
                "the history is on the log", lambda: "examples" in children_of(self.run), a_second=a_second
            ),
            "a model is live": self.wait("a model is live", lambda: set(ORDER) <= set(children_of(self.run)), a_second=a_second),
        }
        self.examples_of_history = self.made("examples")
        return steps

    def first_right_alert(self) -> dict[str, float]:
        """Seconds to an alert, and to one whose reader joined."""
        store = self.data / "alerts.sqlite"
        return {
            "somebody is alerted": self.wait("somebody is alerted", lambda: self.server.asked["chat.postMessage"], a_second=UNHURRIED),
            "somebody who was alerted joined": self.wait(
                "somebody who was alerted joined", lambda: any(have_joined(store).values()), a_second=UNHURRIED
            ),
        }

    def memory(self) -> dict[str, float]:
        """Resident MB by command."""
        return {name: round(peers._memory({pid})[0] / peers.MB, 1) for name, pid in children_of(self.run).items() if name in ORDER}

    def lag(self) -> float:
        """Records that the command which is most behind has left to read; as many as may be where one does not answer, as it starts."""
        try:
            return max(sums_at(port)[LAG] for port in map(metrics_port_of, children_of(self.run).values()) if port)
        except NO_ANSWER:
            return BACKLOG

    def fast(self, events: int) -> list[dict[str, Any]]:
        """As fast as they are worked off."""
        rows, began, before, happened = [], time.monotonic(), len(self.server.acknowledged), self.happened
        looked, lag = began, 0.0
        for look in range(1, LOOKS + 1):
            while (done := len(self.server.acknowledged) - before) < events * look // LOOKS:
                if time.monotonic() > looked + LAG_EVERY:
                    looked, lag = time.monotonic(), self.lag()
                if lag < BACKLOG and done + AHEAD > self.happened - happened:
                    self.happen(10)
                time.sleep(0.001)  # the server is a thread of this process
                if self.run.process.poll() is not None:
                    raise common.Failed(self.run.said[-2_000:])
            rows.append({"events": done, "seconds": round(time.monotonic() - began, 1), "mb": self.memory()})
            print(rows[-1], flush=True)
        return rows

    def catch_up(self) -> float:
        """Wait until no more examples and predictions come; returns the seconds that it took."""
        began = last = time.monotonic()
        before = 0
        while time.monotonic() - last < QUIET_SECONDS and time.monotonic() - began < PATIENCE:
            time.sleep(0.2)
            if (made := self.made("examples") + self.made("predictions")) != before:
                before, last = made, time.monotonic()
        return round(last - began, 1)

    def made(self, what: str) -> int:
        """How many of them, so far."""
        return sum(self.log.source(f"slack.{what}").ends.values())

    @property
    def log(self) -> SqliteLog:
        """The topics, once they are made."""
        return SqliteLog(folder_place(str(self.data / "log")))

    def check(self) -> None:
        """Raise common.Failed if what happened was not used: then nothing was measured."""
        made = {name: self.made(name) for name in ("examples", "predictions", "dead-letters", "late")}
        print(made, flush=True)
        used = max(made["predictions"], made["examples"] - self.examples_of_history)
        if made["dead-letters"] + made["late"] > self.happened / 100 or used < self.happened / 10:
            raise common.Failed(f"of {self.happened:,} events, too few were used: {made}")

    def slow(self, seconds: int) -> list[dict[str, Any]]:
        """One a second."""
        rows, began = [], time.monotonic()
        for second in range(1, seconds + 1):
            self.happen(1)
            time.sleep(max(0.0, began + second - time.monotonic()))
            if second % max(seconds // LOOKS, 1) == 0:
                rows.append({"events": second, "seconds": round(time.monotonic() - began, 1), "mb": self.memory()})
                print(rows[-1], flush=True)
        return rows


def metrics_port_of(pid: int) -> int:
    """Where a command serves its metrics; 0: nowhere."""
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return int(words[words.index("--metrics-port") + 1]) if "--metrics-port" in words else 0


@contextmanager
def simulated_clock(rate: float) -> Iterator[Callable[[], None]]:
    """Of this process and those that it starts, inside the `with` block: it begins now, and stands until what is yielded is called."""
    with tempfile.TemporaryDirectory(prefix="clock-") as folder:
        file, standing = Path(folder) / "clock.json", clock.SimulatedClock(clock.now(), rate, None)
        standing.write(file)
        os.environ[clock.VARIABLE] = str(file)
        try:
            yield lambda: standing.started().write(file)
        finally:
            del os.environ[clock.VARIABLE]


@contextmanager
def living(messages: int, events: int, settings: Mapping[str, str]) -> Iterator[Measured]:
    """A run of `up` beside a Slack with so many messages of history, and so many events to come.

    Raises common.Failed at the end if they were not used, or if the run did not end as it should.
    """
    with tempfile.TemporaryDirectory(prefix="up-") as folder, one_slack() as slack:
        data = Path(folder) / "live"
        life = LivingWorkspace(plan_of(messages, events), clock.now_us(), slack, clock.now_us)
        command = program("up", "--data", data, "--history", "400d")
        simulated = {name: value for name, value in os.environ.items() if name == clock.VARIABLE}
        with started(command, Path(folder) / "run", {**slack[0].settings, **settings, **SETTINGS, **simulated}) as run:
            measured = Measured(run, slack[0], life, data)
            yield measured
            measured.check()
            status = run.stop()
    if status:
        raise common.Failed(f"up ended with status {status}: {run.said[-2_000:]}")


def main() -> None:
    """Measures, prints, and writes benchmarks/results/up.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=100_000, help="of history")
    parser.add_argument("--events", type=int, default=500_000, help="at full speed")
    parser.add_argument("--seconds", type=int, default=3_600, help="at one event a second")
    parser.add_argument("--rate", type=float, default=600.0, help="of the clock at full speed")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, with commas between: {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="a fiftieth of it, to see that it works; nothing is written")
    given = parser.parse_args()
    if given.quick:
        given.messages, given.events, given.seconds = (each // 50 for each in (given.messages, given.events, given.seconds))
    asked = given.only.split(",")
    if unknown := set(asked) - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    found: dict[str, Any] = json.loads(RESULTS.read_bytes())["parts"] if RESULTS.exists() else {}
    if {"bootstrap", "slow"} & set(asked):
        with living(given.messages, given.seconds + 20_000, {}) as measured:
            steps = measured.start()
            if "bootstrap" in asked:
                found["bootstrap"] = {"messages": given.messages, "load": os.getloadavg()[2], "steps": steps | measured.first_right_alert()}
            if "slow" in asked:
                measured.catch_up()
                found["slow"] = {"messages": given.messages, "load": os.getloadavg()[2], "rows": measured.slow(given.seconds)}
    if "fast" in asked:
        simulated = {name: value for name, value in settings_for(given.rate).items() if not name.endswith("SNAPSHOT_EVERY")}
        with simulated_clock(given.rate) as started_now, living(given.messages, given.events + 20_000, simulated) as measured:
            measured.start(a_second=0.0)  # the clock stands
            started_now()
            rows = measured.fast(given.events)
            later = measured.catch_up()
            print(later, "s later", flush=True)
            seconds = round(rows[-1]["seconds"] + later, 1)
            found["fast"] = {
                "messages": given.messages,
                "rate": given.rate,
                "load": os.getloadavg()[2],
                "rows": [*rows, {"events": rows[-1]["events"], "seconds": seconds, "mb": measured.memory()}],
                "later": later,
                "examples": measured.made("examples"),
                "predictions": measured.made("predictions"),
            }
    if not given.quick:
        common.write_results("up", 1, {"parts": found})


if __name__ == "__main__":
    main()
