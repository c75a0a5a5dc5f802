"""Ports for the programs that tests start."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path

PORTS = range(15_000, 32_000)
"""Below those that systems give to whoever connects: a free port among these is still free when a program comes to it seconds later."""
LAST = Path(tempfile.gettempdir()) / f"beepgpt-test-ports-{os.getuid()}"
"""The last port that any test of this machine was given, so that tests that run side by side are not given the same one."""


def free_ports(count: int = 1) -> int:
    """The first of so many neighboring ports that nobody uses, and that no other test is given soon."""
    with LAST.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        port = int(file.read() or PORTS.start)
        for _ in PORTS:
            first, port = port, port + count
            if port > PORTS.stop:
                first, port = PORTS.start, PORTS.start + count
            if _are_free(range(first, port)):
                file.truncate(0)
                file.write(b"%d" % port)
                return first
    raise AssertionError(f"no {count} free ports side by side")


def _are_free(ports: range) -> bool:
    try:
        with ExitStack() as stack:
            for port in ports:
                stack.enter_context(socket.create_server(("", port)))
    except OSError:
        return False
    return True
