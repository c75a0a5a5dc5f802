"""Kills once the whole input is read: while the lines are put in order, and before the run is noted as ended."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from beepgpt.simulation.workspace import Plan, live_records
from tests.support import beep, quiet

PLAN = Plan(
    seed=3, messages=600, days=8, channels=12, people=40, edits=0.1, deletions=0.05, duplicates=0.05, too_late=0.02, broken=0.02
)  # fmt: skip

KILLED = """
import json, os, signal, sys
from pathlib import Path
seen = Path(sys.argv.pop(1))

def look(event, args):
    if event not in ("os.rename", "os.remove") or not str(args[0]).endswith((".jsonl", ".replacing", "run.json.new")):
        return
    noted = [*json.loads(Path(args[0]).read_bytes())] if str(args[0]).endswith("run.json.new") else ""
    moment = f"{event} {args[0]} {noted}\\n"
    before = seen.read_text()
    if moment not in before:
        seen.write_text(before + moment)
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(look)
from beepgpt.__main__ import main
main()
"""
"""Runs the program, and kills it before it gives or takes a name for the first time: the next start comes one step further."""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_every_step_after_the_end_of_the_input(workers: int, tmp_path: Path):
    """Each start is killed one step further than the one before; the last one leaves the files and the account of an undisturbed run."""
    (tmp_path / "events.jsonl").write_bytes(b"".join(line + b"\n" for line in live_records(PLAN)))
    whole, killed, seen = tmp_path / "whole", tmp_path / "killed", tmp_path / "seen"
    for folder in (whole, killed):
        folder.mkdir()
    seen.touch()

    def arguments(folder: Path) -> list[str]:
        places = ("--to", folder / "made.jsonl", "--report", folder / "report.json", "--recovery", folder / "memory")
        return [str(each) for each in ("examples", tmp_path / "events.jsonl", *places, "--workers", workers)]

    beep(*arguments(whole))
    command = [sys.executable, "-c", KILLED, str(seen), *arguments(killed)]
    while (ran := subprocess.run(command, capture_output=True, text=True, env=quiet(), check=False)).returncode == -signal.SIGKILL:
        assert not (killed / "report.json").exists()

    assert ran.returncode == 0, ran.stderr
    steps = seen.read_text()
    assert "'ended'" in steps and steps.count("os.rename") >= 7 and (workers == 1 or steps.count("-1.jsonl") == 4)
    lines = [path.name for path in whole.glob("*.jsonl")]
    assert len(lines) == 4
    assert {name: (killed / name).read_bytes() for name in lines} == {name: (whole / name).read_bytes() for name in lines}
    assert {path.name for path in killed.iterdir()} == {path.name for path in whole.iterdir()}
    accounts = [json.loads((folder / "report.json").read_bytes())["account"] for folder in (whole, killed)]
    assert accounts[0] == accounts[1]
    again = beep(*arguments(killed))
    assert "This run has ended already" in again.stderr
    assert {name: (killed / name).read_bytes() for name in lines} == {name: (whole / name).read_bytes() for name in lines}
