"""What the labeling tests share: examples of a simulated workspace, few-shots among them, and runs that label them."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from beepgpt.commands.example_source import input_of
from beepgpt.commands.label import run_label
from beepgpt.commands.labeling import LabelJob
from beepgpt.config.settings import read_settings
from beepgpt.conversations.rules import Rules
from beepgpt.labeling.redaction import redact
from beepgpt.runtime.destinations import destination_of
from beepgpt.simulation.workspace import Plan, live_records
from tests.support import run_of
from tests.support.openai_model import by_hash
from tests.support.openai_server import Server
from tests.support.schemas import check

LIMIT = 10**9
"""More than any number of examples here."""


@cache
def made_examples(messages: int = 700, seed: int = 5) -> tuple[bytes, ...]:
    """Lines of examples; some are silences, and some prompts occur more than once."""
    plan = Plan(seed=seed, messages=messages, days=messages / 75, channels=8, people=30, heartbeat_every=3_600)
    return tuple(run_of(live_records(plan), Rules(candidates=False)).examples)


def asked_about(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """Those that are no silences, decoded."""
    return [each for each in map(json.loads, lines) if each["answer"]]


def prompts_of(lines: Iterable[bytes]) -> set[str]:
    """What has to be asked, each once."""
    return {each["prompt"] for each in asked_about(lines)}


def write(path: Path, lines: Iterable[bytes]) -> Path:
    """A file of lines."""
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """A file's lines, decoded; none if it isn't there."""
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def few_shots_in(folder: Path, lines: Sequence[bytes], count: int = 4) -> list[str]:
    """The first examples of a workspace with different prompts as few-shots, half of them strong; their ids."""
    different = {json.loads(line)["prompt"]: line for line in reversed(lines) if json.loads(line)["answer"]}
    chosen = list(reversed(different.values()))[:count]
    folder.mkdir(exist_ok=True)
    for name, signal_, part in (("pos", "strong", chosen[::2]), ("neg", "weak", chosen[1::2])):
        write(folder / f"examples_{name}.jsonl", (line[:-1] + b',"signal":"%s"}' % signal_.encode() for line in part))
    return [json.loads(line)["id"] for line in chosen]


@dataclass
class Labels:
    """A folder with examples, and runs that label them."""

    folder: Path
    lines: Sequence[bytes]

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.source = write(self.folder / "examples.jsonl", self.lines)
        self.to = self.folder / "labeled.jsonl"

    def variables(self, server: Server | None, **more: object) -> dict[str, str]:
        """Settings, as an environment: `max_cost=1` is of labeling, `provider__way="decisions"` of another section."""
        told: dict[str, object] = {"labeling__few_shots": self.folder / "few-shots", "run__progress": False}
        if server is not None:
            told |= {"labeling__labeler": "provider", "provider__base_url": server.url, "provider__key": server.key}
        told |= {name if "__" in name else f"labeling__{name}": value for name, value in more.items()}
        return {f"BEEPGPT_{name.upper()}": str(value) for name, value in told.items()}

    def run(
        self, server: Server | None = None, *, recovery: bool = False, yes: bool = False, force: bool = True, **more: object
    ) -> dict[str, Any]:
        """Labels them in this process; the report, with the exit status. `force`: few-shots here are labeled by chance."""
        settings = read_settings(environ=self.variables(server, **more))
        memory = self.folder / "memory" if recovery else None
        job = LabelJob(input_of(str(self.source)), destination_of(str(self.to), settings), settings, memory)
        report, status = run_label(job, yes=yes, force=force)
        return report | {"status": status}

    @property
    def labeled(self) -> list[dict[str, Any]]:
        """What was written."""
        return read(self.to)

    @property
    def letters(self) -> list[dict[str, Any]]:
        """The dead letters."""
        return read(self.folder / "labeled.dead-letters.jsonl")

    def check(self, *, rule: Any = by_hash, without: Iterable[str] = ()) -> None:
        """Every example is there once: labeled as the rule says, silent as it came, or among the dead letters."""
        left = set(without)
        ids = [each["id"] for each in self.labeled] + [json.loads(each["record"])["id"] for each in self.letters]
        assert sorted(ids) == sorted(json.loads(line)["id"] for line in self.lines if json.loads(line)["id"] not in left)
        came = {json.loads(line)["id"]: line for line in self.lines}
        for letter in self.letters:
            check("dead_letter", letter)
        for line in self.to.read_bytes().splitlines():
            check("labeled", line)
            example = json.loads(line)
            if not example["answer"]:
                assert line == came[example["id"]]
            elif example["signal_model"] != "person":
                assert line.startswith(came[example["id"]][:-1] + b',"signal":')
                shown = redact(example["prompt"]).text  # what the server was shown, and so what its rule judged
                assert example["signal"] == ("strong" if rule(shown) >= 0.5 else "weak")


@contextmanager
def default_signals():
    """Whatever a test does with them, afterwards they are as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def account(report: dict[str, Any]) -> dict[str, Any]:
    assert report["does_not_add_up"] == []
    found: dict[str, Any] = report["account"]
    return found
