"""The program as its user meets it, run for real, with files of messages and exports made for it."""

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import cli
from tests.support.speed import slowness

BEEPGPT = [sys.executable, "-m", "beepgpt"]


@dataclass(frozen=True)
class Ran:
    """A run that is over."""

    status: int
    out: bytes
    err: str

    @property
    def message(self) -> str:
        """What the program says of itself, without its prefix."""
        assert "Traceback" not in self.err and "panicked" not in self.err and "unwrap" not in self.err, self.err
        assert self.err.startswith("beepgpt: "), self.err
        return self.err.removeprefix("beepgpt: ").rstrip("\n")

    @property
    def line(self) -> str:
        """The message, which is one line."""
        assert "\n" not in self.message, self.err
        return self.message


def environment(**more: str) -> dict[str, str]:
    """Ours, without what would change a result."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BEEPGPT_")} | more


def run(folder: Path, *args: str, **how: Any) -> Ran:
    """`beepgpt ARGS`, to its end; from its very start where that one needs something of its own."""
    if how:
        env = environment(**how.pop("env", {}))
        done = subprocess.run([*BEEPGPT, *args], cwd=folder, env=env, timeout=60 * slowness(), capture_output=True, check=False, **how)
        return Ran(done.returncode, done.stdout, done.stderr.decode())
    warm = cli.run_program(*args, cwd=folder)
    return Ran(warm.returncode, warm.stdout.encode(), warm.stderr)


def started(folder: Path, *args: str) -> "subprocess.Popen[bytes]":
    """`beepgpt ARGS`, as it goes."""
    return subprocess.Popen([*BEEPGPT, *args], cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def over(process: "subprocess.Popen[bytes]") -> Ran:
    """The run, when it is over."""
    out, err = process.communicate(timeout=60 * slowness())
    return Ran(process.returncode, out, err.decode())


def size(path: Path) -> int:
    """Bytes of a file; 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def post(number: int, *, channel: str = "C1", **more: object) -> dict[str, object]:
    """A message; two neighbors are half a minute apart, by different people."""
    ts = f"{1_700_000_000 + 30 * number}.000100"
    return {"type": "message", "channel": channel, "user": f"U{number % 3}", "text": f"number {number}?", "ts": ts} | more


def events(path: Path, count: int, *, channels: int = 4) -> Path:
    """A file of messages."""
    lines = (json.dumps(post(number, channel=f"C{number // 3 % channels}")) for number in range(count))
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def stored(number: int, **more: object) -> dict[str, object]:
    """A message as an export keeps it."""
    return {name: value for name, value in (post(number) | more).items() if name != "channel"}


def export(path: Path, files: dict[str, Any], **listings: list[dict[str, str]]) -> Path:
    """A zip of these files and listings: bytes as they are, all else as JSON."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in ({f"{kind}.json": listing for kind, listing in listings.items()} | files).items():
            archive.writestr(name, content if isinstance(content, bytes) else json.dumps(content))
    return path


GENERAL = [{"id": "C1", "name": "general"}]


def lines_of(path: Path) -> list[Any]:
    """Every line of a file, decoded; each ends with a newline."""
    raw = path.read_bytes() if path.exists() else b""
    assert not raw or raw.endswith(b"\n")
    return [json.loads(line) for line in raw.splitlines()]


def report_in(folder: Path) -> Any:
    """The report of `--report report.json`, which adds up."""
    report = json.loads((folder / "report.json").read_bytes())
    assert report["account"]["adds_up"] and report["does_not_add_up"] == []
    return report
