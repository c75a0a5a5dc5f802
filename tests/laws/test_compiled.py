"""The compiled build (setup.py) is the same program: the same bytes, the same laws, and it goes on after a kill."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.shard import OtherState, Shard
from beepgpt.simulation.workspace import Plan, write_export
from tests.mutations.running import ROOT, planted

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("compiled")]
needs_a_compiler = pytest.mark.skipif(shutil.which(os.environ.get("CC", "cc")) is None, reason="there is no C compiler here")
LAWS = ("past_only", "blind_to_the_answer", "prefix", "one_result", "live_and_export", "train_as_you_serve", "nothing_is_lost")
FRAMINGS = (
    (),
    ("--scope", "channel"),
    ("--target", "interacting_users"),
    ("--target", "interacting_users", "--scope", "channel"),
    ("--target", "reactors", "--scope", "channel"),
)


@pytest.fixture(scope="session")
def tree() -> Iterator[Path]:
    """A copy of the code, compiled in place."""
    with planted(None) as copy:
        build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
        done = subprocess.run(build, cwd=copy, env={**os.environ, "BEEPGPT_COMPILE": "1"}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        yield copy


def python(tree: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs it in a tree, whose modules come first."""
    env = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_PROFILE": "planted"}
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=tree, env=env, capture_output=True, text=True, check=False)


@needs_a_compiler
@pytest.mark.timeout(300)
def test_it_is_compiled(tree: Path):
    """What is run for every message is C there, and plain here."""
    printed = python(tree, "-c", "from beepgpt.conversations import channel, shard; print(channel.__file__, shard.BUILD)").stdout.split()

    assert (printed[0].endswith((".so", ".pyd")), Path(printed[0]).parents[2], printed[1]) == (True, tree.resolve(), "compiled")


@needs_a_compiler
@pytest.mark.timeout(300)
@pytest.mark.parametrize("framing", FRAMINGS, ids=" ".join)
def test_it_makes_the_same_bytes(tree: Path, tmp_path: Path, framing: tuple[str, ...]):
    """All framings of a simulated workspace with everything that Slack does to messages."""
    write_export(Plan(seed=3, messages=2_500, channels=5, people=30, days=40), tmp_path / "export.zip")
    made: list[bytes] = []
    for place in (ROOT, tree):
        done = python(place, "-m", "beepgpt", "examples", tmp_path / "export.zip", "--to", tmp_path / f"{len(made)}.jsonl", *framing)
        assert done.returncode == 0, done.stderr
        made.append((tmp_path / f"{len(made)}.jsonl").read_bytes())

    assert made[0] == made[1] != b""


@needs_a_compiler
@pytest.mark.timeout(300)
def test_its_examples_can_be_audited(tree: Path, tmp_path: Path):
    """Plain code makes channels, shards and buffers of the compiled classes."""
    write_export(Plan(seed=3, messages=300, channels=2, people=9, days=9), tmp_path / "export.zip")
    for command in (("examples", tmp_path / "export.zip", "--to"), ("audit", tmp_path / "export.zip")):
        done = python(tree, "-m", "beepgpt", *command, tmp_path / "made.jsonl")
        assert done.returncode == 0, done.stderr


@needs_a_compiler
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "tests",
    [
        "tests/conversations/test_channel.py",
        "tests/conversations/test_candidates.py",
        pytest.param("tests/laws/test_agreement.py", marks=pytest.mark.proof),
        *(pytest.param(f"tests/laws/test_{law}.py", marks=pytest.mark.proof) for law in LAWS),
        pytest.param("tests/dataflows/test_kills.py", marks=pytest.mark.proof),
    ],
)
def test_the_same_tests_pass(tree: Path, tests: str):
    """A channel's own tests; the second reading of the rules, the laws and the kills, where time is no matter."""
    done = python(tree, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", tests)

    assert done.returncode == 0, done.stdout[-3000:]


def test_a_store_of_the_other_build_is_refused():
    """Pickled objects of one can't be read by the other: said at once, with what to do."""
    shard = Shard(Rules(), load_encoding(Rules().encoding))
    state = shard.__getstate__() | {"build": "compiled"}

    with pytest.raises(OtherState, match="written by the compiled build, and this is the plain one"):
        shard.resume(state)
