"""What runs and how far it is, as values: looked at every few seconds, for a page."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from beepgpt import clock
from beepgpt.alerts.by_day import alerts_by_day
from beepgpt.alerts.database import BadAlertStore
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


@dataclass
class Seen:
    """What a command said of itself at the last look."""

    why_not_ready: str = "it begins"
    """Empty: it is ready."""
    lag: int | None = None
    """Records on its topics that it has not read."""
    counts: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=MINUTE_OF_LOOKS))
    """How much it had made at each look, since it started; and when that was."""

    @property
    def a_minute(self) -> float | None:
        """How much it makes in a minute, by the last one; None: it isn't known yet."""
        if len(self.counts) < 2:
            return None
        (since, before), (now, count) = self.counts[0], self.counts[-1]
        return 60 * (count - before) / (now - since)


class StatusWatch:
    """Looks at what runs."""

    def __init__(self, run: LiveRun) -> None:
        self._run = run
        self._began = clock.now()
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
        for name, service in list(self._run.services.items()):
            seen = self._seen.setdefault(name, Seen())
            try:
                status, why = answer_at(service.port, "/readyz")
                sums = sums_at(service.port)
            except NO_ANSWER:
                seen.counts.clear()
                seen.why_not_ready, seen.lag = "it begins", None
                continue
            count = sum(sums[each] for each in COUNTED[name][1])
            if seen.counts and count < seen.counts[-1][1]:  # it was started anew
                seen.counts.clear()
            seen.counts.append((time.monotonic(), count))
            seen.why_not_ready = "" if status == 200 else why.strip()
            seen.lag = int(sums[LAG]) if LAG in sums else None

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
            "collected": None if run.plan.data.has_model else run.collected,
            "model": self._model(),
            "figures": self._figures(),
            "trained": self._trained(),
            "alerts": self._alerts(),
            "night": run.night.astimezone(ZoneInfo(zone)).strftime("%a %H:%M"),
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
        a_minute = seen.a_minute
        return {
            "name": name,
            "state": "down" if is_down else "starting" if seen.why_not_ready else "running",
            "why": fault if is_down else "; ".join(filter(None, (seen.why_not_ready, fault))),
            "since": shown_briefly(service.since, self._run.plan.settings.alerts.zone),
            "restarts": service.starts - 1,
            "makes": COUNTED[name][0],
            "a_minute": None if a_minute is None else round(a_minute),
            "lag": seen.lag,
            "words": list(service.child.words),
        }

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

    def _alerts(self) -> list[dict[str, Any]]:
        plan = self._run.plan
        since = int(clock.now() * SECOND) - DAYS * DAY
        with suppress(BadAlertStore, OSError):
            return [
                {"day": str(day), **counts} for day, counts in alerts_by_day(plan.data.alerts, since, plan.settings.alerts.zone).items()
            ]
        return []


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
