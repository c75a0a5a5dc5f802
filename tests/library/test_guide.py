"""The guide to Python says what works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import beepgpt

ROOT = Path(__file__).resolve().parents[2]
GUIDE, DEFAULTS = ROOT / "docs" / "guides" / "python.md", ROOT / "config" / "default.toml"


@pytest.mark.slow
def test_the_guide_runs_from_its_beginning_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its blocks, one after the other, on a simulated export; what is printed is there."""
    monkeypatch.chdir(tmp_path)
    beepgpt.simulate("your-export.zip", messages=300)
    events = list(beepgpt.read_events("your-export.zip"))
    printed: list[Any] = []
    names: dict[str, Any] = {"my_stream": lambda: events, "print": lambda *values: printed.append(values)}
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    for block in blocks:
        if "to_pandas" in block:
            pytest.importorskip("pandas")
        exec(block, names)
        if "model.predict(made" in block:
            assert len(printed[-1][0]) == 3 and 0 <= printed[-1][1] <= 1
        if "to_pandas" in block:
            names["frame"] = None
            made_of_export = len(printed)

    assert len(blocks) == 7 and made_of_export > 100 and len(names["lines"]) > 100
    assert names["follower"].account["adds_up"] and names["asked"].text == "Is it red?"
    assert [example.channel for example in names["answered"] if example.answer] == ["general"]
    assert not names["found"].is_broken and not names["found"].is_suspected


@pytest.mark.parametrize("section", ["conversations", "training"])
def test_the_guide_lists_the_settings(section: str):
    """Keywords, defaults and meanings are those of the file of settings."""
    text = DEFAULTS.read_text("utf-8").split(f"\n[{section}]\n")[1].split("\n[")[0]
    rows = [
        f"| `{name}` | `{default}` | {about} |" for name, default, about in re.findall(r'^(\w+) = (".*?"|\S+) +# (.*)$', text, re.MULTILINE)
    ]

    assert len(rows) > 15 and "\n".join(rows) in GUIDE.read_text("utf-8")
