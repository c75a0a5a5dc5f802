"""Slack's events over HTTP: what Slack signed is taken, whoever else holds the port; what it did not sign is refused, and costs little."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from slack_sdk.signature import SignatureVerifier

SECRET = "a-secret"
SERVER = f"""
import json, resource, sys
from beepgpt.connectors.slack.live import Arrival, HttpLine, Oversized

resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
seen = []

def put(what):
    if isinstance(what, Arrival):
        seen.append(["event", what.payload, what.retry])
    elif isinstance(what, Oversized):
        seen.append(["oversized", len(what.head), what.size])
    else:
        return
    what.acknowledge()

line = HttpLine(0, "127.0.0.1", "{SECRET}", put)
line.start()
print(line.port, flush=True)
for _ in sys.stdin:
    print(json.dumps([line.refused, seen]), flush=True)
line.close()
"""
MB = 2**20


class Line:
    """The server, in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.port = int(self._read())

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def state(self) -> tuple[Counter[str], list[list[object]]]:
        """Refusals by reason, and what was taken."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        refused, seen = json.loads(self._read())
        return Counter(refused), seen

    def peak_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024

    def post(self, body: bytes, headers: dict[str, str], path: str = "/slack/events") -> int:
        """The status of the response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("POST", path, body, {name: value.encode("latin-1") for name, value in headers.items()})
            return connection.getresponse().status
        finally:
            connection.close()


@contextmanager
def serving() -> Iterator[Line]:
    with subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Line(process)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    with serving() as found:
        yield found


def signed(body: bytes, **more: str) -> dict[str, str]:
    """Headers as Slack sends them; `more` replaces some of them, written with `_`."""
    at = str(int(time.time()))
    signature = SignatureVerifier(SECRET).generate_signature(timestamp=at, body=body)
    headers = {"x-slack-request-timestamp": at, "x-slack-signature": signature or ""}
    return headers | {name.replace("_", "-"): value for name, value in more.items()}


def event(number: int, size: int = 0) -> bytes:
    return json.dumps({"type": "event_callback", "event_id": f"Ev{number}", "event": {"text": "x" * size}}).encode()


NESTED = b'{"event": ' + b"[" * 300 + b"]" * 300 + b"}"
DEEPLY_NESTED = b"[" * 200_000


@pytest.mark.parametrize(
    ("status", "reason", "body", "more"),
    [
        (401, "signature", event(0), {"x_slack_signature": "v0=" + "0" * 64}),
        (401, "signature", event(0), {"x_slack_signature": "v0=" + "é" * 64}),
        (401, "signature", event(0), {"x_slack_signature": ""}),
        (401, "time", event(0), {"x_slack_request_timestamp": str(int(time.time()) - 400)}),
        (401, "time", event(0), {"x_slack_request_timestamp": "²"}),
        (401, "time", event(0), {"x_slack_request_timestamp": "9" * 5000}),
        (400, "retry", event(0), {"x_slack_retry_num": "²"}),
        (400, "json", NESTED, {}),
        (400, "json", DEEPLY_NESTED, {}),
        (400, "json", b'{"event": "\\ud800', {}),
        (400, "json", b"\xff", {}),
        (400, "json", b"[]", {}),
    ],
)
def test_what_is_wrong_is_refused_and_counted(line: Line, status: int, reason: str, body: bytes, more: dict[str, str]):
    """Never a 500, and nothing of it is handed on."""
    refused, seen = line.state()
    headers = signed(body) if body != b"\xff" else signed(b"") | {"x-slack-signature": signature_of(body)}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    assert line.post(body, headers) == status
    assert line.state() == (refused + Counter({reason: 1}), seen)


def signature_of(body: bytes) -> str:
    """Of bytes that are no text, which slack_sdk does not sign."""
    import hmac

    at = str(int(time.time()))
    return "v0=" + hmac.new(SECRET.encode(), f"v0:{at}:".encode() + body, "sha256").hexdigest()


def test_what_slack_signed_is_taken_and_of_what_is_too_large_the_head(line: Line):
    """Up to 2 MB whole; above, the first 64 KB go to the dead letters, with 200; beyond 16 MB nobody looks."""
    _, before = line.state()
    small, large, oversized = event(1), event(2, 2 * MB - 100), event(3, 3 * MB)
    assert [line.post(each, signed(each, x_slack_retry_num="2")) for each in (small, large, oversized)] == [200, 200, 200]
    _, seen = line.state()
    assert seen[len(before) :] == [
        ["event", json.loads(small), 2],
        ["event", json.loads(large), 2],
        ["oversized", 64 * 1024, len(oversized)],
    ]
    assert line.post(oversized, signed(b"")) == 401
    refused, _ = line.state()
    with socket.create_connection(("127.0.0.1", line.port), 10) as client:
        client.sendall(head_of(400 * MB, signed(b"")))
        assert b"413" in client.recv(100)
    assert line.state()[0] == refused + Counter(too_large=1)


def test_a_huge_body_without_a_signature_is_not_read(line: Line):
    """Refused by its headers, though its 400 MB never come; memory stays where it was."""
    before = line.peak_mb()
    with socket.create_connection(("127.0.0.1", line.port), 10) as client:
        client.sendall(head_of(400 * MB, {}))
        assert b"401" in client.recv(100)
        with suppress(OSError):
            for _ in range(400):
                client.sendall(b"x" * MB)
            pytest.fail("it reads all of it")
    assert line.peak_mb() < before + 20


def head_of(size: int, headers: dict[str, str]) -> bytes:
    """The headers of a request."""
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    return f"POST /slack/events HTTP/1.1\r\nHost: slack\r\nContent-Length: {size}\r\n{''.join(lines)}\r\n".encode()


# Under attack


class Attack:
    """500 connections that are opened again whenever the server ends one: half-sent headers and bodies, slow ones, huge ones."""

    KINDS = ("headers", "body", "slow", "huge", "forged")

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._sockets: list[socket.socket | None] = [None] * 500
        self.opened = 0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Attack:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for each in self._sockets:
            if each is not None:
                each.close()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            for place, each in enumerate(self._sockets):
                kind = self.KINDS[place % len(self.KINDS)]
                try:
                    self._go_on(kind, each)
                except OSError:
                    if each is not None:
                        each.close()
                    self._sockets[place] = self._open(kind)

    def _open(self, kind: str) -> socket.socket | None:
        with suppress(OSError):
            client = socket.create_connection(("127.0.0.1", self._port), 2)
            self.opened += 1
            forged = signed(b"")
            first = {
                "headers": b"POST /slack/events HTTP/1.1\r\nHost: slack\r\nX-",
                "body": head_of(1000, forged) + b"half",
                "slow": head_of(100_000, forged),
                "huge": head_of(400 * MB, {}),
                "forged": head_of(2 * MB, forged),
            }
            client.settimeout(0)
            client.send(first[kind])
            return client
        return None

    def _go_on(self, kind: str, client: socket.socket | None) -> None:
        """Sends a bit more. Raises OSError if the connection has ended."""
        if client is None:
            raise ConnectionResetError
        with suppress(BlockingIOError):
            if kind == "slow":
                client.send(b"x")
            elif kind in ("huge", "forged"):
                client.send(b"x" * 200_000)
            if client.recv(1000) == b"":
                raise ConnectionResetError


@pytest.mark.slow
def test_signed_events_are_taken_while_500_connections_attack():
    """Each within a few seconds; memory stays bounded; the port is free again afterwards. The server may open 256 files."""
    with serving() as line:
        assert line.post(event(0), signed(event(0))) == 200
        before, took = line.peak_mb(), []
        with Attack(line.port) as attack:
            while attack.opened < 500:
                time.sleep(0.1)
            end = time.monotonic() + 4
            for number in range(1, 21):
                began = time.monotonic()
                assert line.post(event(number), signed(event(number))) == 200
                took.append(time.monotonic() - began)
                time.sleep(max(0, end - time.monotonic()) / 20)
            grown = line.peak_mb() - before
        refused, seen = line.state()
        print(f"took at most {max(took):.2f} s, grew by {grown:.0f} MB, {attack.opened} connections, {dict(refused)}")
        assert len(seen) == 21
        assert max(took) < 5
        assert grown < 100
        assert refused["crowded"] and refused["time"]


@pytest.mark.slow
def test_a_connection_gives_one_request(line: Line):
    """Who sends many at once, and reads or not, keeps no place: the connection ends with the first response."""
    with socket.create_connection(("127.0.0.1", line.port), timeout=20) as connection:
        connection.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        answered = b""
        with suppress(ConnectionResetError):
            while more := connection.recv(65_536):
                answered += more

    assert answered.count(b"HTTP/1.1 404") == 1


@pytest.mark.slow
def test_a_request_that_does_not_come_is_ended():
    """Half-sent headers, or nothing at all, hold a connection for five seconds."""
    with (
        serving() as line,
        socket.create_connection(("127.0.0.1", line.port), 20) as half,
        socket.create_connection(("127.0.0.1", line.port), 20) as silent,
    ):
        half.sendall(b"POST /slack/events HTTP/1.1\r\n")
        began = time.monotonic()
        for each in (half, silent):
            with suppress(ConnectionResetError):
                assert each.recv(10) == b""
        assert 3 < time.monotonic() - began < 15
        assert line.state()[0] == Counter(slow=2)
