"""Runs the notebooks, so that what stands in them is what the program gives: `make notebooks`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

HERE = Path(__file__).resolve().parent
NOTEBOOKS = sorted(HERE.glob("*.ipynb"))


def ran(notebook: Path, folder: Path) -> Any:
    """A notebook with new outputs, run in `folder`. Raises CellExecutionError."""
    book = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    given = {name: value for name, value in os.environ.items() if not name.startswith("BEEPGPT_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # to find `beepgpt`
    by_file = Config(KernelManager={"transport": "ipc", "ip": f"{folder}/kernel"})
    client = NotebookClient(book, config=by_file, timeout=600, record_timing=False, resources={"metadata": {"path": str(folder)}})
    client.execute(env={**given, "PATH": path, "PYTHONPATH": str(HERE.parent)})
    book.metadata["language_info"] = {"name": "python"}
    return book


if __name__ == "__main__":
    for each in NOTEBOOKS:
        print(each.name)
        with tempfile.TemporaryDirectory() as scratch:
            nbformat.write(ran(each, Path(scratch)), each)  # type: ignore[no-untyped-call]
