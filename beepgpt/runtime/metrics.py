"""What a long run serves over HTTP: metrics for Prometheus, whether it is alive, and whether it is ready.

Metrics are read when they are scraped, and cost nothing in between. Counters begin at 0 in every process, as Prometheus
expects: one that went on from a snapshot would fall back a little after a kill, and all of it would be counted again.
"""

from __future__ import annotations

import errno
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from beepgpt.clock import now
from beepgpt.connectors import kafka
from beepgpt.conversations.account import EMITTED
from beepgpt.errors import CannotServe

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

ASKED_WITHIN = 60.0
"""Seconds: a flow that looks for records, or at a sink that it waits for, less often hangs."""
HEARD_WITHIN = 150.0
"""Seconds that the brokers may be silent: longer than the patience after which a run gives up by itself."""
REQUEST_PATIENCE = 10.0
"""Seconds in which a client has to send its request."""
MAX_REASONS = 100
"""Different reasons that have a time series each; some come from what was read, so there could be any number."""

COUNTERS = {
    "read": ("beepgpt_events_read_total", "Events read."),
    "applied": ("beepgpt_events_applied_total", "Events that took effect."),
    "duplicate": ("beepgpt_events_duplicate_total", "Duplicates of events that took effect."),
    "late": ("beepgpt_events_late_total", "Events read when the watermark of their channel was already past them."),
    "heartbeats": ("beepgpt_heartbeats_total", "Heartbeats read."),
    "points": ("beepgpt_points_made_total", "Points: moments at which a conversation's window changed."),
    "examples": ("beepgpt_examples_total", "Examples made."),
    "before_from": ("beepgpt_examples_before_from_total", "Examples that were not written, since they are older than what was asked for."),
    "retractions": ("beepgpt_retractions_total", "Examples taken back, since a message of theirs was deleted."),
}
"""What a count is called there, by its name in the account."""
BY_REASON = {
    "ignored": ("beepgpt_events_ignored_total", "Events that are none of ours, by reason."),
    "rejected": ("beepgpt_events_rejected_total", "Records that could not be used, by reason."),
}
"""The same for counts that the account keeps as `ignored:bot`."""
ENDS = ("answered", "silent", "superseded", "elsewhere", "censored", "moved", "withheld", "empty", "merged")
POINTS = ("beepgpt_points_total", "Points that came to an end, by outcome.")
OTHERS = ("beepgpt_other_counts_total", "Counts of the account that have no name of their own here.")
GAUGES = {
    "channels": ("beepgpt_channels", "Channels of which something is kept."),
    "conversations": ("beepgpt_windows", "Conversations whose windows are kept."),
    "held": ("beepgpt_held_events", "Events that wait until nothing earlier can come."),
}
"""What the sizes of the state are called."""
LAG = ("beepgpt_consumer_lag_records", "Records of the partition that are not read yet.")
BEHIND = (
    "beepgpt_seconds_behind_event_time",
    "Now, minus the time of the partition's newest event or heartbeat; in a replay the age of what is being read.",
)

SILENT = (
    "beepgpt_broker_silent_seconds",
    "Seconds for which a request to the brokers has waited for an answer; 0 below ten.",
)

CALLS = ("beepgpt_slack_calls_total", "Calls of Slack's Web API, by method and by what came of them.")

log = logging.getLogger(__name__)


# Figures


class Reasons:
    """Counts by reason, at most MAX_REASONS of them, and the same ones at each scrape. A reason that is no plain name is `other`.

    >>> Reasons().of("ignored", {"ignored:bot": 1, "ignored:call Ana": 2})
    {'bot': 1, 'other': 2}
    """

    def __init__(self) -> None:
        self._known: dict[str, set[str]] = {}

    def of(self, key: str, counts: Mapping[str, int]) -> dict[str, int]:
        """The counts named `key:reason`, by reason; without a key, the whole name is the reason."""
        known = self._known.setdefault(key, set())
        found: dict[str, int] = {}
        for name, count in counts.items():
            reason = name.partition(":")[2] if key else name
            if reason not in known:
                if len(known) < MAX_REASONS and re.fullmatch(r"[\w:.-]{1,64}", reason, re.ASCII):
                    known.add(reason)
                else:
                    reason = "other"
            found[reason] = found.get(reason, 0) + count
        return found


@dataclass(frozen=True, eq=False)  # a registry keeps collectors as keys
class Figures(Collector):
    """Metrics of a run, read from functions by the thread that is scraped: so each returns plain values of its own.

    >>> figures = Figures(counts=lambda: {"read": 3, "ignored:bot": 1}, state=lambda: {"channels": 2})
    >>> [(sample.name, sample.value) for metric in figures.collect() for sample in metric.samples if sample.value]
    [('beepgpt_build_info', 1), ('beepgpt_events_read_total', 3), ('beepgpt_events_ignored_total', 1), ('beepgpt_channels', 2)]
    """

    counts: Callable[[], Mapping[str, int]] = dict
    """The account's counts since this process started."""
    lags: Callable[[], Mapping[int, int]] = dict
    """By partition: records that are not read yet."""
    state: Callable[[], Mapping[str, int]] = dict
    """How many `channels`, `conversations` and `held` events are kept."""
    newest: Callable[[], Mapping[str, int]] = dict
    """By partition, `3` or `slack.events/3`: the time of the newest event read, microseconds."""
    topic: str = ""
    """The topic that is read."""
    build: Mapping[str, str] = field(default_factory=dict)
    """Labels of `beepgpt_build_info`, such as `{"version": "0.1.0", "spec": "b81e…"}`."""
    in_use: Callable[[], Mapping[str, str]] = dict
    """More of them, which may change while it runs."""
    clock: Callable[[], float] = now
    """Seconds since 1970."""
    _reasons: Reasons = field(default_factory=Reasons, init=False, repr=False)

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        yield InfoMetricFamily(
            "beepgpt_build", "Which program this is, and which examples it makes.", value={**self.build, **self.in_use()}
        )
        yield from self._counted(dict(self.counts()))
        sizes = self.state()
        for key, (name, help_) in GAUGES.items():
            if key in sizes:
                yield GaugeMetricFamily(name, help_, value=sizes[key])
        yield gauged(LAG, ("topic", "partition"), {(self.topic, number): records for number, records in self.lags().items()})
        now, newest = self.clock(), {each.removeprefix(f"{self.topic}/"): micros for each, micros in self.newest().items() if micros}
        behind = {(self.topic, partition): round(now - micros / 1_000_000, 3) for partition, micros in newest.items()}
        yield gauged(BEHIND, ("topic", "partition"), behind)

    def _counted(self, counts: dict[str, int]) -> Iterator[Metric]:
        """Every count once, under its metric's name, or else as one of the others."""
        for key, (name, help_) in COUNTERS.items():
            yield CounterMetricFamily(name, help_, value=counts.pop(key, 0))
        yield by_label(POINTS, "end", {end: counts.pop(end, 0) for end in ENDS})
        for key, of in BY_REASON.items():
            given = {each: counts.pop(each) for each in list(counts) if each.startswith(f"{key}:")}
            yield by_label(of, "reason", self._reasons.of(key, given))
        if counts:
            shown = {"emitted" if key == EMITTED else key: count for key, count in counts.items()}
            yield by_label(OTHERS, "what", self._reasons.of("", shown))


def by_label(of: tuple[str, str], label: str, counts: Mapping[str, int]) -> Metric:
    """A counter with a series for each value of a label."""
    return by_two(of, (label,), {(value,): count for value, count in counts.items()})


def by_two(of: tuple[str, str], labels: tuple[str, ...], counts: Mapping[Any, int]) -> Metric:
    """A counter with a series for each pair of labels."""
    family = CounterMetricFamily(*of, labels=labels)
    for names, count in sorted(counts.items()):
        family.add_metric(names, count)
    return family


def gauged(of: tuple[str, str], labels: tuple[str, ...], values: Mapping[Any, float]) -> Metric:
    """A gauge with a series for each tuple of values of these labels."""
    family = GaugeMetricFamily(*of, labels=labels)
    for names, value in sorted(values.items()):
        family.add_metric(tuple(map(str, names)), value)
    return family


# Health


def outage_now() -> str:
    """Since when this process waits for brokers that don't answer; empty while they do."""
    outage = kafka.OUTAGES.now()
    return "" if outage is None else f"{outage}, since {datetime.fromtimestamp(time.time() - outage.seconds, UTC):%H:%M:%S} UTC"


class BrokerFigures(Collector):
    """How long brokers have not answered this process."""

    def collect(self) -> Iterator[Metric]:
        """The current figure."""
        outage = kafka.OUTAGES.now()
        yield GaugeMetricFamily(*SILENT, value=0 if outage is None else round(outage.seconds, 3))


class Pulse:
    """Whether a flow is alive: the flow calls `beat` when it looks for records, and `heard` when the brokers answered.

    >>> now = 0.0
    >>> pulse = Pulse(asked_within=60, clock=lambda: now)
    >>> pulse.why_not_ready()
    'nothing was read yet: the flow is starting'
    >>> pulse.beat()
    >>> now = 75.0
    >>> pulse.why_dead()
    'the source was not asked for 75 seconds, and 60 are allowed: the flow hangs'
    """

    def __init__(
        self, *, asked_within: float = ASKED_WITHIN, heard_within: float = HEARD_WITHIN, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Both in seconds."""
        self._asked_within = asked_within
        self._heard_within = heard_within
        self._clock = clock
        self._asked: float | None = None
        self._heard: float | None = None
        self._has_begun = False
        self._has_ended = False

    def begin(self) -> None:
        """Called when the flow is built: a process of a cluster may have nothing to read, and is ready all the same."""
        self._has_begun = True

    def beat(self) -> None:
        """Called whenever the source is asked for records."""
        self._asked = self._clock()

    def heard(self) -> None:
        """Called when the brokers answered."""
        self._heard = self._clock()

    def end(self) -> None:
        """Called when all is read: the source is not asked any more."""
        self._has_ended = True

    def why_dead(self) -> str:
        """Why the flow counts as dead; empty if it is alive. A flow that rebuilds its state, and has not read yet, is alive."""
        if self._has_ended or self._asked is None:
            return ""
        now = self._clock()
        if (since := now - self._asked) > self._asked_within:
            return f"the source was not asked for {since:.0f} seconds, and {self._asked_within:.0f} are allowed: the flow hangs"
        if self._heard is not None and (since := now - self._heard) > self._heard_within:
            return f"the brokers did not answer for {since:.0f} seconds, and {self._heard_within:.0f} are allowed"
        return ""

    def why_not_ready(self) -> str:
        """Why the flow is not ready; empty if it reads."""
        if self._asked is None and not (self._has_begun or self._has_ended):
            return "nothing was read yet: the flow is starting"
        return self.why_dead() or outage_now()


# HTTP


class Server:
    """Serves until it is closed, in a thread that does not keep the process alive."""

    def __init__(self, http: WSGIServer) -> None:
        self._http = http
        self.host, self.port = http.server_address[:2]
        """The port that was given by the system where 0 was asked for."""
        self._thread = threading.Thread(target=http.serve_forever, args=(0.1,), name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving, and free the port. A second call does nothing."""
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
            self._http.server_close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(port: int, host: str, figures: Collector, pulse: Pulse) -> Server:
    """`/metrics`, `/healthz` and `/readyz` on a port (0: a free one). Raises CannotServe."""
    registry = CollectorRegistry()
    registry.register(figures)
    registry.register(BrokerFigures())
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        http = _Http(family, str(address[0]), port)
    except (OSError, UnicodeError, OverflowError) as error:  # the last two: a host and a port that can't be
        raise _cannot_serve(error, host, port) from error
    http.set_app(_app(registry, pulse))
    return Server(http)


def _cannot_serve(error: Exception, host: str, port: int) -> CannotServe:
    where = f"{host}:{port}"
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return CannotServe(f"metrics can't be served on {where}: the port is taken: stop what has it, or choose another (--metrics-port)")
    if number == errno.EACCES:
        return CannotServe(f"metrics can't be served on {where}: this user may not have the port: choose one above 1023 (--metrics-port)")
    if number == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror | UnicodeError):
        return CannotServe(f"metrics can't be served on {where}: {host!r} is no address of this machine: check --metrics-host")
    return CannotServe(f"metrics can't be served on {where}: {error}: check --metrics-host and --metrics-port")


def _app(registry: CollectorRegistry, pulse: Pulse) -> WSGIApplication:
    """Three pages; for other paths, a line that names them."""
    metrics = make_wsgi_app(registry)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        try:
            if path == "/metrics":
                return metrics(environ, start_response)  # type: ignore[no-any-return]
            status, line = _probed(environ["REQUEST_METHOD"], path, pulse)
        except Exception as error:
            log.exception("a page could not be served", extra={"path": path})
            status, line = HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: see the log"
        body = f"{line}\n".encode()
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append(("Allow", "GET, HEAD"))
        start_response(f"{status.value} {status.phrase}", headers)
        return [body] if environ["REQUEST_METHOD"] != "HEAD" else []

    return app


def _probed(method: str, path: str, pulse: Pulse) -> tuple[HTTPStatus, str]:
    """The response to a probe: status and a line."""
    if path not in ("/healthz", "/readyz"):
        return HTTPStatus.NOT_FOUND, "there are /metrics, /healthz and /readyz"
    if method not in ("GET", "HEAD"):
        return HTTPStatus.METHOD_NOT_ALLOWED, "GET it"
    wrong = pulse.why_dead() if path == "/healthz" else pulse.why_not_ready()
    return (HTTPStatus.SERVICE_UNAVAILABLE, wrong) if wrong else (HTTPStatus.OK, "alive" if path == "/healthz" else "ready")


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_PATIENCE

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: probes come every few seconds."""


class _Http(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, family: int, host: str, port: int) -> None:
        self.address_family = family
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind as the base class does, but without asking a name server who this machine is, which can take long where there is none."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """Log clients that go away, or never send their request, at debug level alone."""
        log.debug("a request was not finished", exc_info=True)
