"""A monitor is told the truth over HTTP, by Prometheus' conventions; a probe learns whether the flow goes on."""

import logging
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from threading import Event, Thread
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.account import POINT_ENDS, Account, sum_of
from beepgpt.conversations.events import parse
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.shard import Shard, run_through
from beepgpt.errors import CannotServe
from beepgpt.runtime.metrics import ENDS, MAX_REASONS, Figures, Pulse, Server, serve
from beepgpt.simulation.workspace import Plan, live_records

RULES = Rules(candidates=False)
FAR = 2**62
OURS = "beepgpt_"


def get(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    """A page's status and text."""
    request = Request(f"http://127.0.0.1:{server.port}{path}", method=method, headers=headers)
    try:
        with urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def scraped(server: Server) -> list[Metric]:
    """What Prometheus would make of the page, as its own parser reads it."""
    status, text = get(server, "/metrics")
    assert status == 200, text
    return list(parse_text(text))


Values = dict[str, float]


def values(metrics: list[Metric]) -> Values:
    """Our samples, each under its name and labels as PromQL writes them; zeros are left out."""
    return {
        sample.name + "".join(f"{{{name}={value}}}" for name, value in sorted(sample.labels.items())): sample.value
        for metric in metrics
        for sample in metric.samples
        if sample.name.startswith(OURS) and sample.value
    }


@pytest.fixture
def pulse() -> Pulse:
    return Pulse()


def served(figures: Figures, pulse: Pulse | None = None) -> Server:
    return serve(0, "127.0.0.1", figures, pulse or Pulse())


BUSY = Figures(
    counts=lambda: (
        {"read": 9, "applied": 4, "ignored:bot": 2, "ignored:subtype:channel_join": 1, "rejected:not_json": 1, "late": 1}
        | {"points": 5, "answered": 3, "silent": 1, "examples": 4, "retractions": 1, "heartbeats": 7}
    ),
    lags=lambda: {0: 12, 11: 0},
    state=lambda: {"channels": 3, "conversations": 40, "held": 2},
    newest=lambda: {"slack.events/0": 1_700_000_000_500_000, "slack.events/11": 0},
    topic="slack.events",
    build={"version": "0.1.0", "spec": "b81e"},
    clock=lambda: 1_700_000_060.0,
)


# Figures


def test_figures_have_the_names_that_dashboards_know():
    """Each figure under its name and labels, a partition under its number; one of which nothing was read has no event time to be behind."""
    with served(BUSY) as server:
        assert values(scraped(server)) == {
            "beepgpt_build_info{spec=b81e}{version=0.1.0}": 1,
            "beepgpt_events_read_total": 9,
            "beepgpt_events_applied_total": 4,
            "beepgpt_events_ignored_total{reason=bot}": 2,
            "beepgpt_events_ignored_total{reason=subtype:channel_join}": 1,
            "beepgpt_events_rejected_total{reason=not_json}": 1,
            "beepgpt_events_late_total": 1,
            "beepgpt_points_made_total": 5,
            "beepgpt_points_total{end=answered}": 3,
            "beepgpt_points_total{end=silent}": 1,
            "beepgpt_examples_total": 4,
            "beepgpt_retractions_total": 1,
            "beepgpt_heartbeats_total": 7,
            "beepgpt_consumer_lag_records{partition=0}{topic=slack.events}": 12,
            "beepgpt_channels": 3,
            "beepgpt_windows": 40,
            "beepgpt_held_events": 2,
            "beepgpt_seconds_behind_event_time{partition=0}{topic=slack.events}": 59.5,
        }


def test_names_keep_the_conventions():
    """Snake case, counters end in `_total` and nothing else does, everything is explained, units are base units."""
    with served(BUSY) as server:
        metrics = [metric for metric in scraped(server) if metric.name.startswith(OURS)]

    assert len(metrics) > 15
    for metric in metrics:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", metric.name)
        assert metric.documentation.endswith((".", "is being read."))
        assert not re.search(r"_(ms|millis|milliseconds|minutes|hours|kb|mb|percent|count|counter|gauge)(_|$)", metric.name)
        assert metric.type in ("counter", "gauge")
        for sample in metric.samples:
            assert sample.name.endswith("_total") == (metric.type == "counter")
            assert all(re.fullmatch(r"[a-z]+", label) for label in sample.labels)


def test_every_series_is_there_once():
    """No name and labels occur twice, which Prometheus would refuse."""
    with served(BUSY) as server:
        lines = [line.rsplit(" ", 1)[0] for line in get(server, "/metrics")[1].splitlines() if not line.startswith("#")]

    assert [line for line, times in Counter(lines).items() if times > 1] == []


def test_the_newer_format_is_spoken_too():
    """Prometheus asks for OpenMetrics first; its strict parser reads the same."""
    with served(BUSY) as server:
        _, text = get(server, "/metrics", Accept="application/openmetrics-text; version=1.0.0")

        assert values(list(parse_openmetrics(text))) == values(scraped(server))


def test_counters_are_there_before_anything_is_counted():
    """A rate over a counter that first appears with its first event would miss that event."""
    with served(Figures()) as server:
        there = {sample.name: sample.value for metric in scraped(server) for sample in metric.samples if sample.name.startswith(OURS)}

    assert {"beepgpt_events_read_total", "beepgpt_events_late_total", "beepgpt_points_total", "beepgpt_examples_total"} <= set(there)
    assert set(there.values()) == {0, 1}, "only build_info is 1"


def test_figures_are_asked_for_when_they_are_scraped_only():
    """Nothing is computed between two scrapes, and each has the newest."""
    asked: list[int] = []

    def counts() -> dict[str, int]:
        asked.append(1)
        return {"read": 100 * len(asked)}

    with served(Figures(counts=counts)) as server:
        assert asked == []
        assert [values(scraped(server))["beepgpt_events_read_total"] for _ in range(2)] == [100, 200]


def test_a_real_account_is_told_in_full():
    """All that a run over a stream with every kind of trouble counts has a name, and the sums of law 6 hold in the monitor, too."""
    account = run_through(live_records(Plan(messages=4_000, seed=3)), RULES, load_encoding("o200k_base")).account

    with served(Figures(counts=lambda: account.counts, build={"version": "0"})) as server:
        told = values(scraped(server))

    def total(name: str) -> float:
        return sum(value for series, value in told.items() if series.partition("{")[0] == name)

    gone = sum(total(f"beepgpt_events_{what}_total") for what in ("applied", "duplicate", "ignored", "rejected", "late"))
    assert total("beepgpt_events_read_total") == gone == account["read"] > 4_000
    assert total("beepgpt_points_made_total") == total("beepgpt_points_total") == account["points"] > 1_000
    assert total("beepgpt_examples_total") == account["examples"] > 100
    left = {series for series in told if series.startswith("beepgpt_other")}
    assert left <= {f"beepgpt_other_counts_total{{what={what}}}" for what in ("channels", "held", "open")}, "sizes, not counts"


def test_ends_of_points_are_those_of_the_account():
    """A new way for a point to end has to be named here, too."""
    assert ENDS == POINT_ENDS


def test_a_count_without_a_name_is_told_all_the_same():
    """What the account counts one day and this knows nothing of is not lost in silence."""
    with served(Figures(counts=lambda: {"mended": 3, "mended:late": 1, "told": 2})) as server:
        told = values(scraped(server))

    assert told["beepgpt_other_counts_total{what=mended}"] == 3
    assert told["beepgpt_other_counts_total{what=mended:late}"] == 1
    assert told["beepgpt_other_counts_total{what=emitted}"] == 2


def test_what_people_wrote_is_no_label():
    """A reason comes from a record's subtype: one that is no plain name is counted as `other`."""
    counts = {"ignored:bot": 1, "ignored:subtype:please call Ana": 2, 'ignored:subtype:"}\n': 3, "ignored:": 4, "ignored:" + "x" * 65: 5}
    with served(Figures(counts=lambda: counts)) as server:
        _, text = get(server, "/metrics")
        told = {series: value for series, value in values(scraped(server)).items() if "ignored" in series}

    assert "Ana" not in text
    assert told == {"beepgpt_events_ignored_total{reason=bot}": 1, "beepgpt_events_ignored_total{reason=other}": 14}


def test_reasons_are_bounded_and_never_fall():
    """A producer that makes up subtypes makes no time series for each; one that was told keeps its name, so no counter falls."""
    counts = {f"ignored:subtype:made_up_{number}": 1 for number in range(MAX_REASONS)}
    with served(Figures(counts=lambda: counts)) as server:
        before = values(scraped(server))
        counts = {f"ignored:subtype:another_{number}": 1 for number in range(1000)} | dict.fromkeys(counts, 2)
        after = values(scraped(server))

    assert len(before) == MAX_REASONS + 1 and set(after) - set(before) == {"beepgpt_events_ignored_total{reason=other}"}
    assert after["beepgpt_events_ignored_total{reason=other}"] == 1000
    assert all(after[series] >= value for series, value in before.items())


def test_names_with_quotes_and_other_scripts_survive():
    """Labels are escaped: a topic's and a build's values come back as they were."""
    odd = Figures(lags=lambda: {0: 1}, topic='to"pic\\日本', build={"version": "0\n1"})
    with served(odd) as server:
        assert 'beepgpt_consumer_lag_records{partition=0}{topic=to"pic\\日本}' in values(scraped(server))


def test_the_process_itself_is_told_of():
    """Memory and open files of the process stand beside our own figures."""
    with served(Figures()) as server:
        names = {sample.name for metric in scraped(server) for sample in metric.samples}

    assert {"process_resident_memory_bytes", "process_open_fds", "python_info"} <= names


@pytest.fixture
def busy_shard() -> Iterator[Shard]:
    """A shard that another thread feeds for as long as the test looks at it."""
    shard, stop = Shard(RULES, load_encoding("o200k_base"), recoverable=False), Event()

    def feed() -> None:
        for number in range(1_000_000):
            for record in live_records(Plan(messages=2_000, seed=number)):
                if stop.is_set():
                    return
                shard.read(parse(record, FAR), "0")  # the second history comes late, and counts all the same

    thread = Thread(target=feed)
    thread.start()
    yield shard
    stop.set()
    thread.join()


def test_a_flow_at_work_can_be_scraped(busy_shard: Shard):
    """The server's thread reads what the flow's thread changes: no scrape fails, and no counter falls."""
    figures = Figures(
        counts=lambda: sum_of([Account(dict(busy_shard.account.counts))]).counts, state=busy_shard.size, newest=busy_shard.newest
    )
    with served(figures) as server:
        read = [values(scraped(server)).get("beepgpt_events_read_total", 0.0) for _ in range(40)]

    assert read == sorted(read) and read[-1] > read[0]


# Health


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_starting_flow_is_alive_and_not_ready(clock: Clock):
    """Rebuilding state may take minutes: no probe kills it then, and nothing is sent its way."""
    with served(Figures(), Pulse(clock=clock)) as server:
        clock.now += 3600

        assert get(server, "/healthz") == (200, "alive\n")
        assert get(server, "/readyz") == (503, "nothing was read yet: the flow is starting\n")


def test_a_flow_that_reads_is_alive_and_ready(clock: Clock):
    """As long as it looks for records, whether there are any or not."""
    pulse = Pulse(clock=clock)
    with served(Figures(), pulse) as server:
        for _ in range(5):
            clock.now += 59
            pulse.beat()

            assert get(server, "/healthz") == (200, "alive\n")
            assert get(server, "/readyz") == (200, "ready\n")


def test_a_flow_that_hangs_is_neither(clock: Clock):
    """The probe is told why in a line, and a flow that goes on is alive again."""
    pulse = Pulse(asked_within=60, clock=clock)
    pulse.beat()
    clock.now += 75
    why = "the source was not asked for 75 seconds, and 60 are allowed: the flow hangs\n"
    with served(Figures(), pulse) as server:
        assert get(server, "/healthz") == get(server, "/readyz") == (503, why)

        pulse.beat()

        assert get(server, "/healthz") == (200, "alive\n")


def test_brokers_that_stay_away_too_long_are_told_of(clock: Clock):
    """A run gives up by itself after its patience; one that does not is not alive. A run over files never hears from brokers."""
    pulse = Pulse(heard_within=150, clock=clock)
    pulse.heard()
    for _ in range(16):
        clock.now += 10
        pulse.beat()
    with served(Figures(), pulse) as server:
        assert get(server, "/healthz") == (503, "the brokers did not answer for 160 seconds, and 150 are allowed\n")

        pulse.heard()

        assert get(server, "/healthz") == (200, "alive\n")


def test_a_process_that_has_read_all_is_alive_and_ready(clock: Clock):
    """It may wait long for the others of its run; one that has no partition to read is ready from the start."""
    read_all, has_none = Pulse(clock=clock), Pulse(clock=clock)
    read_all.beat()
    read_all.heard()
    for pulse in (read_all, has_none):
        pulse.end()
        clock.now += 3600

        assert (pulse.why_dead(), pulse.why_not_ready()) == ("", "")


def test_a_beat_is_cheap():
    """It is told at every look for records: far under what a look costs."""
    pulse = Pulse()
    start = time.perf_counter()
    for _ in range(100_000):
        pulse.beat()

    assert (time.perf_counter() - start) / 100_000 < 20e-6, "about 0.1 µs on an idle machine"


# HTTP


def test_other_pages_and_methods_are_refused(pulse: Pulse):
    """A wrong path is told the right ones; nothing can be sent here; HEAD has no body."""
    with served(Figures(), pulse) as server:
        assert get(server, "/") == (404, "there are /metrics, /healthz and /readyz\n")
        assert get(server, "/metrics/x")[0] == 404
        assert get(server, "/healthz", "POST") == (405, "GET it\n")
        assert get(server, "/metrics", "POST")[0] == 405
        assert get(server, "/healthz", "HEAD") == (200, "")
        assert get(server, "/healthz?verbose=1") == (200, "alive\n")


def test_a_taken_port_is_one_clear_error():
    """It names the port, and says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(CannotServe) as caught:
            serve(port, "127.0.0.1", Figures(), Pulse())

    assert str(caught.value) == (
        f"metrics can't be served on 127.0.0.1:{port}: the port is taken: stop what has it, or choose another (--metrics-port)"
    )


@pytest.mark.parametrize(
    ("port", "host", "told"),
    [
        (0, "no such host", "'no such host' is no address of this machine: check --metrics-host"),
        (0, "192.0.2.1", "'192.0.2.1' is no address of this machine: check --metrics-host"),
        (0, "a" * 64 + ".example", "is no address of this machine: check --metrics-host"),
        (70_000, "127.0.0.1", "check --metrics-host and --metrics-port"),
    ],
)
def test_a_host_or_port_that_can_not_be_is_one_clear_error(port: int, host: str, told: str):
    """Whatever the system says of it, it is ours that is raised."""
    with pytest.raises(CannotServe, match=re.escape(told)):
        serve(port, host, Figures(), Pulse())


def test_every_address_can_be_served():
    """As a container needs it."""
    with serve(0, "0.0.0.0", Figures(), Pulse()) as server:
        assert get(server, "/healthz") == (200, "alive\n")


def test_the_newer_kind_of_address_can_be_served():
    """IPv6, where the machine has it."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with serve(0, "::1", Figures(), Pulse()) as server, urlopen(f"http://[::1]:{server.port}/healthz", timeout=10) as answer:
        assert answer.status == 200


def test_a_closed_server_gives_its_port_back():
    """A run that is started again at once can have it; closing twice does nothing."""
    first = served(BUSY)
    get(first, "/metrics")
    first.close()
    first.close()

    with serve(first.port, "127.0.0.1", BUSY, Pulse()) as again:
        assert again.port == first.port
        assert get(again, "/healthz")[0] == 200


def test_a_client_that_says_nothing_keeps_nobody_waiting():
    """Each request has a thread of its own, and a server can be closed while one is unfinished."""
    with served(Figures()) as server, closing(HTTPConnection("127.0.0.1", server.port)) as silent:
        silent.connect()
        begun = time.monotonic()

        assert get(server, "/healthz") == (200, "alive\n")
        assert time.monotonic() - begun < 5


def test_figures_that_fail_are_an_error_of_their_page_alone(caplog: pytest.LogCaptureFixture):
    """The scrape fails and the log says why, without a word that an error may carry to the page; probes and the next scrape go on."""
    broken = True

    def counts() -> dict[str, int]:
        if broken:
            raise KeyError("a text")
        return {"read": 1}

    with served(Figures(counts=counts)) as server, caplog.at_level(logging.ERROR):
        assert get(server, "/metrics") == (500, "KeyError: see the log\n")
        assert get(server, "/healthz") == (200, "alive\n")
        assert [record.message for record in caplog.records] == ["a page could not be served"]

        broken = False

        assert values(scraped(server))["beepgpt_events_read_total"] == 1


def test_nothing_is_written_for_a_request(capfd: pytest.CaptureFixture[str]):
    """Neither a probe, nor a client that hangs up in the middle, is worth a line on standard error."""
    with served(Figures()) as server:
        get(server, "/healthz")
        get(server, "/nothing")
        for said in (b"", b"GET /metrics HTTP/1.1\r\n", b"\xff\xfe\r\n\r\n", b"GET /metrics HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(said)
                # Closed with a reset, so that the answer finds nobody.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        get(server, "/healthz")

    assert capfd.readouterr() == ("", "")
