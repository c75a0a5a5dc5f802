"""Runs of the program, as a user's shell starts them.

A start takes a second and a half of imports, and the tests start it a thousand times. So one process imports it all once, and
forks for each run: a process of its own, with arguments, environment, folder and streams of its own. What the start itself shows
is tested with `program`.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from tests.support.speed import slowness

IMPORTED = (
    *(f"commands.{each}" for each in ("examples", "label", "prepare", "audit", "train", "validate", "predict", "compare", "topics")),
    *(f"commands.{each}" for each in ("ingest", "score", "alert", "dead_letters", "outcomes", "rehearse", "forget")),
    *("web.report", "alerts.rehearsal", "training.models", "training.validation", "connectors.openai.client", "labeling.redaction"),
)
"""Modules of the package that are imported before the first run: the commands, and what takes long of what they import when they run."""
MOST = 1 << 20
ROOT = Path(__file__).resolve().parents[2]


def program(*arguments: object) -> list[str]:
    """The command that runs the program with these arguments, from the start."""
    return [sys.executable, "-m", "beepgpt", *map(str, arguments)]


def quiet() -> dict[str, str]:
    """An environment without settings of ours."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("BEEPGPT_")}
    return given | {"OMP_WAIT_POLICY": "PASSIVE"}  # threads that wait busily slow down the tests beside them, and themselves


def beep(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The program, run to its end; it must not fail."""
    done = run_program(*arguments)
    assert done.returncode == 0, done.stderr
    return done


def run_program(
    *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None, stdin: Any = None, seconds: float = 120
) -> subprocess.CompletedProcess[str]:
    """The program, run to its end in a folder, with `quiet()` and `env`: its status, and what it wrote. After `seconds` it is killed."""
    with TemporaryFile() as out, TemporaryFile() as err, open(os.devnull, "rb") as nothing:
        process = Forked(arguments, quiet() | dict(env or {}), cwd, (stdin or nothing, out, err))
        try:
            process.wait(seconds * slowness())
        finally:
            process.kill()
        for each in (out, err):
            each.seek(0)
        return subprocess.CompletedProcess(program(*arguments), process.wait(), out.read().decode(), err.read().decode())


def start(command: Sequence[str], env: Mapping[str, str], streams: Sequence[IO[Any]]) -> Forked | subprocess.Popen[bytes]:
    """A command, begun with standard input, output and error; the program is forked, any other is started."""
    if command[:3] == program():
        return Forked(command[3:], env, None, streams)
    return subprocess.Popen(command, stdin=streams[0], stdout=streams[1], stderr=streams[2], env=env)


class Forked:
    """A run of the program that goes on: the part of `subprocess.Popen` that tests need."""

    def __init__(self, arguments: Sequence[object], env: Mapping[str, str], cwd: Path | None, streams: Sequence[IO[Any]]) -> None:
        """Streams are standard input, output and error."""
        self.args = program(*arguments)
        self.returncode: int | None = None
        request = {"arguments": list(map(str, arguments)), "env": dict(env), "cwd": str(cwd or Path.cwd())}
        self._status, theirs = socket.socketpair()
        with theirs:
            descriptors = [each.fileno() for each in streams] + [theirs.fileno()]
            socket.send_fds(_importer(os.getpid()), [json.dumps(request).encode()], descriptors)
        self.pid = int(self._status.recv(20))

    def poll(self) -> int | None:
        """The exit status, or None as long as it runs; minus the signal's number if a signal ended it."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.returncode = os.waitstatus_to_exitcode(int(self._status.recv(20)))
            self._status.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, when it has ended. Raises subprocess.TimeoutExpired."""
        if self.returncode is None and not select.select([self._status], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        status = self.poll()
        assert status is not None
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@cache
def _importer(_process: int) -> socket.socket:
    """Where runs are asked for: a process of this one (a worker of the tests has one of its own) that has the program imported."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MOST)
    with theirs:
        command = [sys.executable, "-c", "import sys; from tests.support import cli; cli.serve(int(sys.argv[1]))", str(theirs.fileno())]
        process = subprocess.Popen(command, cwd=ROOT, env=quiet(), pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def serve(descriptor: int) -> None:
    """Import the program, and fork it for each request, until nobody can ask any more."""
    requests = socket.socket(fileno=descriptor)
    for each in IMPORTED:
        import_module(f"beepgpt.{each}")
    gc.freeze()
    running: dict[int, tuple[int, socket.socket]] = {}
    waiting = select.poll()
    waiting.register(requests, select.POLLIN)
    while True:
        for ready, _ in waiting.poll():
            if ready in running:
                pid, status = running.pop(ready)
                waiting.unregister(ready)
                os.close(ready)
                with status, suppress(BrokenPipeError):
                    status.sendall(b"%d" % os.waitpid(pid, 0)[1])
                continue
            request, descriptors, _, _ = socket.recv_fds(requests, MOST, 4)
            if not request:
                return
            pid = os.fork()
            if not pid:
                _run(json.loads(request), descriptors)
            status = socket.socket(fileno=descriptors.pop())
            status.sendall(b"%d" % pid)
            for descriptor in descriptors:
                os.close(descriptor)
            ending = os.pidfd_open(pid)
            running[ending] = pid, status
            waiting.register(ending, select.POLLIN)


def _run(request: dict[str, Any], descriptors: Sequence[int]) -> None:
    """Become the program. Never returns."""
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    os.closerange(3, 1 << 16)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    time.tzset()
    sys.argv = [str(ROOT / "beepgpt" / "__main__.py"), *request["arguments"]]
    sys.stdin = os.fdopen(0, encoding="utf-8", errors="surrogateescape", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", buffering=1 if os.isatty(1) else -1, closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    sys.modules["__main__"] = start = import_module("beepgpt.__main__")
    start.main()
    sys.exit()
