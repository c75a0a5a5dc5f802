"""Fills blocks of the README and of a guide with what the program prints and draws, so that they tell the truth. Run by `make readme`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bytewax.outputs import Sink

HERE = Path(__file__).resolve().parents[1]
README = HERE / "README.md"
PAGES = {"demo": README, "picture": README, "example": HERE / "docs" / "guides" / "export.md"}
"""Where each block stands."""


def blocks() -> dict[str, tuple[str, str]]:
    """Each block's name, with the language of its fence and its text."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "COLUMNS": "110", "NO_COLOR": "1", "TERM": "dumb"}
        command = [sys.executable, "-m", "beepgpt", "demo"]
        both: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        said = subprocess.run(command, cwd=folder, env=environment, text=True, check=True, **both).stdout
        lines = (Path(folder) / "beepgpt-demo" / "examples.jsonl").read_text("utf-8").splitlines()
        shown = re.search(r"(C\w+:[\d.]+:\w+) ─.*known at ([-\d]+ [:\d]+ UTC)", said, re.DOTALL)
    assert shown is not None, said
    from beepgpt.commands.output import when

    example = next(each for each in map(json.loads, lines) if (each["conversation"], when(each["prompt_ts"])) == shown.groups())
    example["candidates"] = {name: values[:2] for name, values in example["candidates"].items()}
    sys.path.insert(0, str(HERE))

    return {
        "demo": ("text", "\n".join(line.rstrip() for line in said.strip().splitlines())),
        "picture": ("mermaid", picture().strip()),
        "example": ("json", wrapped(json.dumps(example, ensure_ascii=False))),
    }


def picture() -> str:
    """The examples flow as a Mermaid diagram, drawn from the flow itself."""
    from bytewax.testing import TestingSink, TestingSource
    from bytewax.visualize import to_mermaid

    from beepgpt.connectors.tokenizer import load_encoding
    from beepgpt.conversations.rules import Rules
    from beepgpt.dataflows.examples import examples_flow
    from beepgpt.dataflows.following import Following

    following = Following(Rules(), load_encoding("o200k_base"), now=0)
    sinks: dict[str, Sink[Any]] = {name: TestingSink([]) for name in ("examples", "retractions", "late", "dead_letters")}
    return str(to_mermaid(examples_flow(TestingSource([]), following, sinks, lambda account: None)))


def wrapped(line: str, width: int = 150) -> str:
    """One long line of JSON as several that are still the same JSON: broken after commas."""
    out, at = [], 0
    while len(line) - at > width:
        cut = line.rfind(", ", at, at + width)
        if cut <= at:
            break
        out.append(line[at : cut + 1])
        at = cut + 2
    return "\n ".join([*out, line[at:]])


def fenced(name: str) -> str:
    """What stands in the block of that name."""
    match = re.search(rf"<!-- {name} -->\n```\w+\n(.*?)\n```", PAGES[name].read_text("utf-8"), re.DOTALL)
    assert match is not None, f"{PAGES[name].name} has no block {name}"
    return match[1]


def main() -> None:
    """Write the blocks."""
    for name, (language, content) in blocks().items():
        text = PAGES[name].read_text("utf-8")
        block = f"<!-- {name} -->\n```{language}\n{content}\n```"
        at = text.index(f"<!-- {name} -->\n")
        end = text.index("\n```", text.index("\n```", at) + 1) + len("\n```")
        PAGES[name].write_text(text[:at] + block + text[end:], "utf-8")


if __name__ == "__main__":
    main()
