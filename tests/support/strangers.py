"""Servers that nothing may reach unasked: a proxy that forwards, a server that redirects, and one that keeps what it gets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


class Stranger(ThreadingHTTPServer):
    """A server that notes each connection and each request: `METHOD target`, headers and body."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.connections = 0
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.redirect: tuple[int, str] | None = None
        """The status and address of its answer."""
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def get_request(self) -> Any:
        self.connections += 1
        return super().get_request()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asks may go away at any time."""


class _Handler(BaseHTTPRequestHandler):
    server: Stranger
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.got.append((f"{self.command} {self.path}", {name.lower(): each for name, each in self.headers.items()}, body))
        if self.server.redirect is not None:
            status, location = self.server.redirect
            self.send_response(status)
            self.send_header("Location", location)
        else:
            self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()

    do_GET = do_POST

    def do_CONNECT(self) -> None:
        self.server.got.append((f"CONNECT {self.path}", dict(self.headers.items()), b""))
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port)), 5) as other:
            self.send_response(200)
            self.end_headers()
            ends = (self.connection, other)
            threads = [threading.Thread(target=_carry, args=each, daemon=True) for each in (ends, ends[::-1])]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def _carry(source: socket.socket, to: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            to.sendall(data)
    with suppress(OSError):
        to.shutdown(socket.SHUT_WR)


@contextmanager
def stranger() -> Iterator[Stranger]:
    """A server that answers 200 with nothing, until a test says otherwise."""
    with Stranger() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def proxied(monkeypatch: pytest.MonkeyPatch, proxy: Stranger, names: Sequence[str] = PROXY_VARIABLES) -> None:
    """The environment of a company's machine: all that leaves goes through the proxy."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in names:
        monkeypatch.setenv(name, proxy.url)
