"""A simulated workspace: to try things without anybody's messages."""

from __future__ import annotations

from pathlib import Path

from beepgpt.simulation.workspace import Plan, write_export


def simulate(to: str | Path, *, messages: int = 4_000, people: int = 40, channels: int = 8, days: float = 60, seed: int = 7) -> Path:
    """Write the export of a simulated workspace, as Slack would give it, to a zip; returns its path. The same arguments, the same bytes.

    >>> from tempfile import mkdtemp
    >>> simulate(f"{mkdtemp()}/workspace.zip", messages=50).stat().st_size > 1000
    True
    """
    write_export(Plan(seed=seed, messages=messages, channels=channels, people=people, days=days), to)
    return Path(to)
