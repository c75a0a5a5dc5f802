"""A real Apache Kafka for the tests: fetched once as Maven artifacts, started when the first test asks, stopped with the last.

`KAFKA_BOOTSTRAP_SERVERS` names another one to use. In a run of pytest-xdist, `--dist loadgroup` keeps all tests with
a broker in one worker, so that there is one broker, and a test may kill it without disturbing another.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import gc
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.ports import free_ports
from tests.support.speed import slowness

HERE = Path(__file__).with_name("broker_files")
HELP = (
    "the Kafka tests need Java 17 and Maven (on Debian and Ubuntu: apt install openjdk-17-jre-headless maven),"
    " or KAFKA_BOOTSTRAP_SERVERS=host:port of an Apache Kafka 4 that may be written to"
)
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
STARTED = "Kafka Server started"
START_SECONDS = 180
QUICK_START = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Half the time to start; a benchmark leaves the last one out."""
STARTER = ThreadPoolExecutor(1)
"""Starts the broker: what should die with its parent dies with the thread that started it, and this one lives as long as the tests."""


class NoBroker(Exception):
    """There is no broker to test with; the message says what is missing."""


def libraries() -> Path:
    """The folder of Kafka's jars, fetched if this is the first time; several processes may ask at once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "beepgpt"
    cache.mkdir(parents=True, exist_ok=True)
    pom = HERE / "pom.xml"
    folder = cache / f"kafka-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"
    with (cache / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=cache) as made:
                copied = Path(made) / "libs"
                maven = ["mvn", "--batch-mode", "--quiet", "--file", str(pom), COPY, "-DincludeScope=runtime"]
                _run([*maven, f"-DoutputDirectory={copied}"])
                copied.rename(folder)
    return folder


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise NoBroker(f"{command[0]} failed: {(done.stdout + done.stderr).strip()[-2000:]}")


class Broker:
    """One Kafka node with its own ports and data, which stay the same when it is started again."""

    def __init__(self, folder: Path, *, java: Sequence[str] = QUICK_START, joins: Broker | None = None) -> None:
        """`folder` takes its data, settings and log. One that `joins` another has that one as its controller, and has to run with it."""
        for tool in ("java", "mvn"):
            if shutil.which(tool) is None:
                raise NoBroker(f"there is no {tool}")
        self.folder = folder
        self.log = folder / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None
        port = free_ports(3)
        self.bootstrap = f"127.0.0.1:{port}"
        self.with_password = f"127.0.0.1:{port + 1}"
        """Where it wants to know who asks: SASL_PLAINTEXT, PLAIN, user ana, password right."""
        self.controller: str = joins.controller if joins else f"127.0.0.1:{port + 2}"
        listeners = f"PLAINTEXT://{self.bootstrap},PASSWORD://{self.with_password}"
        if joins is None:
            listeners += f",CONTROLLER://{self.controller}"
        settings = folder / "server.properties"
        settings.write_text(
            (HERE / "server.properties").read_text("utf-8")
            + f"listeners={listeners}\nadvertised.listeners={listeners}\n"
            # Sooner than the default's 9 s, so that a killed broker is missed soon; not so soon that one is that a busy machine holds up.
            + f"broker.session.timeout.ms={int(3000 * slowness())}\n"
            + f"controller.quorum.bootstrap.servers={self.controller}\nlog.dirs={folder / 'data'}\n"
            + ("process.roles=broker\nnode.id=2\n" if joins else "")
        )
        self._java = [
            *("java", *java, f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}"),
            *("-cp", f"{libraries()}/*"),
        ]
        self._command = [*self._java, "kafka.Kafka", str(settings)]
        alone = [] if joins else ["--standalone"]
        _run([*self._java, "kafka.tools.StorageTool", "format", *alone, "-t", "beepgptbeepgptbeepgptA", "-c", str(settings)])

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Starts it, for the first time or again, and waits until it serves."""
        before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = STARTER.submit(
                subprocess.Popen,
                self._command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # one call into libc, which takes no lock
            ).result()
        atexit.register(self.kill)
        deadline = time.monotonic() + START_SECONDS * slowness()
        while STARTED not in (said := self.log.read_text("utf-8", "replace")[before:]):
            if not self.runs or time.monotonic() > deadline:
                self.kill()
                raise NoBroker(f"Kafka did not start: {said[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Lets it close its files; one that takes too long is killed."""
        self._end(signal.SIGTERM, 30)

    def kill(self) -> None:
        """`kill -9`: nothing is closed."""
        self._end(signal.SIGKILL, 30)

    def pause(self) -> None:
        """It hangs: connections stay open and nothing answers, until `resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, by: int, seconds: float) -> None:
        atexit.unregister(self.kill)
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(by)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def _die_with_parent() -> None:
    """Where the system can (Linux), the broker doesn't outlive a test run that is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1: PR_SET_PDEATHSIG


class GivenBroker:
    """A broker that somebody else runs: it can be used, and not be stopped."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker | GivenBroker]:
    """A broker for all tests: each makes topics of its own."""
    if given := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield GivenBroker(given)
        return
    folder = tmp_path_factory.mktemp("broker")
    try:
        ours = Broker(folder)
    except NoBroker as missing:
        _without(missing)
    try:
        ours.start()  # one that is there and doesn't start is no reason to skip
        yield ours
    finally:
        ours.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def two_brokers(broker: Broker | GivenBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Broker, Broker]]:
    """A cluster of its own, of two: the first one is the controller, so the second one is to be killed."""
    if isinstance(broker, GivenBroker):
        pytest.skip("KAFKA_BOOTSTRAP_SERVERS names a broker that the tests can't kill")
    folders = [tmp_path_factory.mktemp(f"broker-{number}-of-2-") for number in (1, 2)]
    first = Broker(folders[0])
    second = Broker(folders[1], joins=first)
    try:
        first.start()
        second.start()
        yield first, second
    finally:
        second.kill()
        first.kill()
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        _collect_sockets()


@pytest.fixture
def mortal_broker(broker: Broker | GivenBroker) -> Iterator[Broker]:
    """The same broker, for tests that kill it; afterwards it runs again."""
    if isinstance(broker, GivenBroker):
        pytest.skip("KAFKA_BOOTSTRAP_SERVERS names a broker that the tests can't kill")
    yield broker
    if not broker.runs:
        broker.start()
    _collect_sockets()


def _collect_sockets() -> None:
    """kafka-python leaves sockets that could not connect to the garbage collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def _without(missing: NoBroker) -> NoReturn:
    message = f"{missing}: {HELP}"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """All tests with a broker run in one worker of pytest-xdist (`--dist loadgroup`), if it is there: the mark is its own."""
    for item in items:
        if config.pluginmanager.hasplugin("xdist") and "broker" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("kafka"))
