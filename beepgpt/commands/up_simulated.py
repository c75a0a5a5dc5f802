"""`beepgpt up --simulate`: the simulated workspace's history, its Slack, and its clock, in place of your workspace."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from beepgpt import clock
from beepgpt.alerts.by_day import have_joined
from beepgpt.config.settings import PREFIX, Settings, read_settings
from beepgpt.folders import make_folder
from beepgpt.runtime.console import print_event
from beepgpt.simulation.export import write_export
from beepgpt.simulation.life import BORN, LIFE, ZONE, LivingWorkspace
from beepgpt.simulation.slack.inbox import inbox
from beepgpt.simulation.slack.whole import one_slack
from beepgpt.up.plan import ORDER
from beepgpt.up.status import StatusWatch, shown_time

KEPT = f"{PREFIX}RUN__"
"""Settings that a simulation has from outside begin so: how commands run and log."""
SHOWN = 5
"""Direct messages that the page shows."""
JOINED = 3
"""And of those before, the newest whose reader joined."""
LOOK_EVERY = 0.5


@dataclass(frozen=True)
class SimulationJob:
    """A simulation that is prepared."""

    settings: Settings
    export: Path
    rate: float
    clock: Path
    messages: Callable[[], list[Any]]

    @contextmanager
    def beside(self, watch: StatusWatch) -> Iterator[Callable[[], Mapping[str, Any]]]:
        """Start the clock once all commands run. Yields what the page shows: what `watch` does, and the inbox."""
        is_over = Event()

        def start() -> None:
            while not is_over.wait(LOOK_EVERY):
                watch.look()
                if [each["name"] for each in watch.services() if each["state"] == "running"] == list(ORDER):
                    simulated(self.rate).started().write(self.clock)
                    print_event(f"The simulated clock runs: an hour in {3_600 / self.rate:.2g} s, a day in {86_400 / self.rate:.3g} s.")
                    return

        Thread(target=start, name="simulated clock", daemon=True).start()
        try:
            yield lambda: {**watch.values(), "simulated": self.shown()}
        finally:
            is_over.set()

    def shown(self) -> dict[str, Any]:
        """The inbox, and how fast time passes."""
        joined: dict[str, bool] = {}
        with suppress(sqlite3.Error, OSError):
            joined = have_joined(self.settings.alerts.store)
        messages = [{**each._asdict(), "at": shown_time(each.at, ZONE), "joined": joined.get(each.alert)} for each in self.messages()]
        before = [each for each in messages[SHOWN:] if each["joined"]]
        return {"rate": self.rate, "count": len(messages), "inbox": messages[:SHOWN], "joined": before[:JOINED]}


def simulated(rate: float) -> clock.SimulatedClock:
    """The clock of a simulation, which stands."""
    return clock.SimulatedClock(BORN / 1e6, rate, None)


@contextmanager
def simulation(place: Path, store: Path, rate: float) -> Iterator[SimulationJob]:
    """Make the history and its Slack; inside the `with` block, this process and those that it starts have its settings and its clock.

    `place`: its folder; `store`: of the alerts.
    """
    before = dict(os.environ)
    make_folder(place)
    began, file, export = time.monotonic(), place / "clock.json", place / "workspace.zip"
    simulated(rate).write(file)
    write_export(LIFE, export, until=BORN)
    with one_slack() as slack:
        server, alerted = slack
        server.page = 200
        ours = server.settings | settings_for(rate) | {clock.VARIABLE: str(file)}
        ours |= {f"{PREFIX}RUN__FORGOTTEN": str(place / "forgotten.json"), f"{PREFIX}ALERTS__STORE": str(store)}
        for name in before:
            if name.startswith(PREFIX) and not name.startswith(KEPT):
                del os.environ[name]
        os.environ.update(ours)
        try:
            with LivingWorkspace(LIFE, BORN, slack, clock.now_us).living():
                print_event(
                    f"A simulated workspace of {LIFE.people} people, and half a year of its history ({time.monotonic() - began:.0f} s)."
                )
                channels = server.workspace.channels
                yield SimulationJob(read_settings(), export, rate, file, lambda: inbox(alerted, channels))
        finally:
            os.environ.clear()
            os.environ.update(before)


def settings_for(rate: float) -> dict[str, str]:
    """What a simulation sets, as variables: seconds in which machines do something are more of its own."""

    def machine(seconds: float, least: int = 1) -> str:
        return f"{max(round(seconds * rate), least)}s"

    found = {
        "CONVERSATIONS__WORKSPACE": "simulated",
        "SLACK__DELAY": machine(0.5),
        "SLACK__CHECK": "2s",
        "SLACK__CALLS_PER_MINUTE": "100000",
        "SLACK__PROXY": "",
        "SCORING__DEADLINE": machine(10),
        "RUN__SNAPSHOT_EVERY": "2s",
        "ALERTS__ZONE": ZONE,
        "ALERTS__MAX_ALERT_AGE": machine(15, 600),
        "ALERTS__OPTED_IN": "true",
        "ALERTS__THRESHOLD": "0.12",  # a few alerts in a minute, in place of one on a day of two minutes
        "ALERTS__LIST_FROM": "",
    }
    return {f"{PREFIX}{name}": value for name, value in found.items()}
