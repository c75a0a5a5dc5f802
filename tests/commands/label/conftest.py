"""The server that labels are asked of, and examples to be labeled."""

from pathlib import Path

import pytest

from beepgpt.connectors.openai import caller
from tests.support.labeling import Labels, made_examples
from tests.support.openai_server import Server


@pytest.fixture
def server(openai_server: Server) -> Server:
    """Without faults, until a test sets a script."""
    return openai_server


@pytest.fixture
def labels(tmp_path: Path) -> Labels:
    """A hundred examples, silences among them."""
    return Labels(tmp_path / "work", made_examples()[:100])


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "FIRST_WAIT", 0.02)
