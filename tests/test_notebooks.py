"""The notebooks run from their beginning to their end, and show what the program gives today."""

import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import pytest

from notebooks.run import NOTEBOOKS, ran

NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")


def shown(book: Any) -> list[tuple[str, str, list[float]]]:
    """What each cell shows: its kind, its text without numbers, and the numbers; of a picture that it is one."""
    found = []
    for output in (each for cell in book.cells if cell.cell_type == "code" for each in cell.outputs):
        data = output.get("data", {})
        text = "" if "image/png" in data else str(output.get("text", "") or data.get("text/plain", ""))
        numbers = [float(each.replace(",", "")) for each in NUMBER.findall(text)]
        found.append((min(data, default=output.output_type), re.sub(r"\s+", " ", NUMBER.sub("0", text)), numbers))
    return found


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_it_gives(notebook: Path):
    """Words as they stand there; numbers within a tenth, since libraries of other versions may fit a little otherwise."""
    kept = nbformat.read(notebook, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        now = ran(notebook, Path(folder))

    assert [each[:2] for each in shown(now)] == [each[:2] for each in shown(kept)] != []
    for (_, text, numbers), (*_, before) in zip(shown(now), shown(kept), strict=True):
        assert numbers == pytest.approx(before, rel=0.1, abs=0.1) or "p =" in text, text


def test_notebooks_hold_nothing_of_the_machine_that_ran_them():
    """No paths of it, no warnings, no errors; and there are three."""
    assert len(NOTEBOOKS) == 3
    for notebook in NOTEBOOKS:
        text = notebook.read_text("utf-8")
        assert not re.search(r"/(tmp|home|root|work)/|Traceback|Warning|\\u001b", text), notebook.name
        assert "image/png" in text and '"stderr"' not in text
