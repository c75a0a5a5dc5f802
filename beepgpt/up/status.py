"""What runs and how far it is, as values: looked at every few seconds, for a page."""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from beepgpt import clock
from beepgpt.alerts.by_day import NoAlerts, alerts_by_day, no_alerts
from beepgpt.conversations.rules import DAY, SECOND
from beepgpt.training.live import LiveThresholds, live_in, threshold_in
from beepgpt.up.children import Service
from beepgpt.up.jobs import TRAINING, EndedJob
from beepgpt.up.plan import ORDER
from beepgpt.up.run import FIRST_MODEL, LiveRun
from beepgpt.up.served import LAG, NO_ANSWER, answer_at, sums_at

LOOK_EVERY = 5.0
"""Seconds between two looks at what the commands serve."""
MINUTE_OF_LOOKS = 13
"""Looks that a minute begins and ends with."""
DAYS = 7
"""Of alerts, that are shown."""
COUNTED = {
    "ingest": ("event", ("beepgpt_slack_written_total", "beepgpt_slack_filled_total")),
    "examples": ("example", ("beepgpt_examples_total",)),
    "score": ("prediction", ("beepgpt_predictions_total",)),
    "alert": ("alert", ("beepgpt_alerts_decided_total",)),
}
"""What each command makes, and which of its metrics count that."""
IN_UTC = re.compile(r"\b(\d{4}-(?:0[1-9]|1[0-2])-[0-3]\d[ T](?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d+)?)?)(?: UTC|Z)\b")
"""A time of UTC that says so."""
CHANNELS = "beepgpt_slack_channels"
STEP = re.compile(r"(\d)/(\d) ")
"""How the line begins with which `beepgpt try` ends a step."""


@dataclass
class Seen:
    """What a command said of itself at the last look."""

    why_not_ready: str = "it begins"
    """Empty: it is ready."""
    lag: int | None = None
    """Records on its topics that it has not read."""
    channels: int | None = None
    """Of Slack's that it follows; None: it follows none, or has not listed them yet."""
    port: int = 0
    """By which a process is known: each has another one."""
    counts: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=MINUTE_OF_LOOKS))
    """When each look was, and how much the process had made by then: nothing before its first one."""

    def begin(self, port: int, at: float) -> None:
        """A process has begun since `at`."""
        self.port = port
        self.counts.clear()
        self.counts.append((at, 0.0))

    @property
    def last_minute(self) -> float | None:
        """How much it made in the last minute; None: it isn't known yet."""
        if len(self.counts) < 2:
            return None
        (since, before), (now, count) = self.counts[0], self.counts[-1]
        return (count - before) * min(1.0, 60 / (now - since))


class StatusWatch:
    """Looks at what runs."""

    def __init__(self, run: LiveRun) -> None:
        self._run = run
        self._began = clock.now()
        self._looked = time.monotonic()
        self._seen: dict[str, Seen] = {}
        self._thresholds: dict[Path, LiveThresholds] = {}
        """By the folder of a generation's model."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look every few seconds inside the `with` block, in a thread."""
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(LOOK_EVERY):
                self.look()

        threading.Thread(target=watch, name="status", daemon=True).start()
        try:
            yield
        finally:
            is_over.set()

    def look(self) -> None:
        """Ask each command how it is."""
        before, self._looked = self._looked, time.monotonic()
        for name, service in list(self._run.services.items()):
            seen, port = self._seen.setdefault(name, Seen()), service.port
            if port != seen.port:
                seen.begin(port, before)
            try:
                status, why = answer_at(port, "/readyz")
                sums = sums_at(port)
            except NO_ANSWER:
                seen.why_not_ready, seen.lag, seen.channels = "it begins", None, None
                continue
            seen.counts.append((time.monotonic(), sum(sums[each] for each in COUNTED[name][1])))
            seen.why_not_ready = "" if status == 200 else why.strip()
            seen.lag, seen.channels = (int(sums[each]) if each in sums else None for each in (LAG, CHANNELS))

    def values(self) -> dict[str, Any]:
        """All that the page shows; times are those of `alerts.zone`."""
        return dict(in_zone(self._values(), self._run.plan.settings.alerts.zone))

    def _values(self) -> dict[str, Any]:
        run, settings = self._run, self._run.plan.settings
        zone = settings.alerts.zone
        return {
            "workspace": settings.conversations.workspace,
            "folder": str(run.plan.data.path),
            "forgotten": str(settings.run.forgotten.expanduser()),
            "zone": zone,
            "now": shown_time(clock.now(), zone),
            "since": shown_time(self._began, zone),
            "services": self.services(),
            "job": run.jobs.now,
            "jobs": [
                {"name": name, "at": shown_time(job.at, zone), "fault": self._fault(name, job), "words": job.words}
                for name, job in sorted(dict(run.jobs.ended).items(), key=lambda item: -item[1].at)
            ],
            "channels": self._seen.get("ingest", Seen()).channels,
            "no_model": "" if run.plan.data.has_model else self._no_model(),
            "model": self._model(),
            "figures": self._figures(),
            "trained": self._trained(),
            **self._alerts(),
            "night": self._night(),
        }

    def services(self) -> list[dict[str, Any]]:
        """How each command is that runs for ever, by the last look."""
        running = dict(self._run.services)
        return [self._service(name, running[name]) for name in ORDER if name in running]

    def _fault(self, name: str, job: EndedJob) -> str:
        """What is wrong with a job, unless that is over: a first model may be made by another one."""
        return "" if name == FIRST_MODEL and self._run.plan.data.has_model else job.fault

    def _service(self, name: str, service: Service) -> dict[str, Any]:
        seen, fault = self._seen.get(name, Seen()), service.fault
        is_down = bool(fault) and (service.child.pid is None or service.ends > 1)
        last_minute = None if service.child.pid is None else seen.last_minute
        return {
            "name": name,
            "state": "down" if is_down else "starting" if seen.why_not_ready else "running",
            "why": fault if is_down else "; ".join(filter(None, (seen.why_not_ready, fault))),
            "since": shown_briefly(service.since, self._run.plan.settings.alerts.zone),
            "restarts": service.starts - 1,
            "makes": COUNTED[name][0],
            "last_minute": None if last_minute is None else round(last_minute),
            "lag": seen.lag,
            "words": list(service.child.words),
        }

    def _no_model(self) -> str:
        """What is done for a first model, as a sentence."""
        if self._run.jobs.name not in (FIRST_MODEL, TRAINING):
            return f"It collects: {self._run.collected}."
        step = STEP.match(self._run.jobs.says) if self._run.jobs.name == FIRST_MODEL else None
        return (
            f"It learns its first model: step {min(int(step[1]) + 1, int(step[2]))} of {step[2]}." if step else "It learns its first model."
        )

    def _night(self) -> str:
        """When the next training is, or since when it goes on."""
        night = self._run.night.astimezone(ZoneInfo(self._run.plan.settings.alerts.zone))
        return f"now, since {night:%H:%M}" if self._run.jobs.name == TRAINING and clock.now_utc() >= night else f"{night:%a %H:%M}"

    def _model(self) -> dict[str, Any] | None:
        data = self._run.plan.data
        if not data.has_model:
            return None
        found = threshold_in(live_in(data.model))
        given = self._run.plan.settings.alerts.threshold
        if data.model not in self._thresholds:
            self._thresholds[data.model] = LiveThresholds(data.model, given)
        thresholds = self._thresholds[data.model]
        why = "as it was set" if given is not None else "" if found is None else found.why
        return {"name": thresholds.model or live_in(data.model).name, "threshold": thresholds.current, "why": why}

    def _trained(self) -> dict[str, str] | None:
        """When a training ended last, since this one began, and what it said."""
        job = self._run.jobs.ended.get(TRAINING)
        if job is None or not job.words:
            return None
        return {"at": shown_time(job.at, self._run.plan.settings.alerts.zone), "says": job.words[-1]}

    def _figures(self) -> Mapping[str, Any] | None:
        """The live figures of the newest model that has some, as `beepgpt outcomes` reported them last; None: there are none yet."""
        with suppress(OSError, ValueError, KeyError, IndexError):
            found = orjson.loads(self._run.plan.data.outcomes_report.read_bytes())["models"]
            newest = max((each for each in found if each["judged"]), key=lambda each: str(each["until"]))
            return {**newest, **{end: f"{newest[end]} UTC" for end in ("from", "until")}}
        return None

    def _alerts(self) -> dict[str, Any]:
        """The last days' alerts, and why people got none; `is_for_all`: whether that is so without their turning them on."""
        store, ours = self._run.plan.data.alerts, self._run.plan.settings.alerts
        since = int(clock.now() * SECOND) - DAYS * DAY
        days, none = [], NoAlerts()
        with suppress(sqlite3.Error, OSError):
            days = [{"day": str(day), **counts} for day, counts in alerts_by_day(store, since, ours.zone).items()]
            none = no_alerts(store, since)
        counted_since = shown_time(none.born / SECOND, ours.zone) if none.born else ""
        return {"alerts": days, "no_alerts": {**asdict(none), "since": counted_since, "is_for_all": ours.opted_in}}


def in_zone(value: Any, zone: str) -> Any:
    """The same value, in whose texts times of UTC, as commands say them, are those of a zone.

    >>> in_zone({"words": ["It ends at 2026-11-29 23:19:43 UTC.", "2026-07-01T12:00:00.123Z WARNING"]}, "Europe/Berlin")
    {'words': ['It ends at 2026-11-30 00:19:43 Europe/Berlin.', '2026-07-01 14:00:00 Europe/Berlin WARNING']}
    """
    if isinstance(value, str):
        return IN_UTC.sub(
            lambda found: f"{datetime.fromisoformat(found[1] + 'Z').astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S} {zone}", value
        )
    if isinstance(value, dict):
        return {name: in_zone(each, zone) for name, each in value.items()}
    return [in_zone(each, zone) for each in value] if isinstance(value, list) else value


def shown_time(at: float, zone: str) -> str:
    """A moment as the page shows it.

    >>> shown_time(0, "Europe/Berlin")
    '1970-01-01 01:00'
    """
    return f"{datetime.fromtimestamp(at, UTC).astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M}"


def shown_briefly(at: float, zone: str) -> str:
    """A moment of today as its time, of another day as its day."""
    now, then = shown_time(clock.now(), zone).split(), shown_time(at, zone).split()
    return then[1] if now[0] == then[0] else then[0]
