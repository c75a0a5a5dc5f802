"""A run that goes on from a recovery folder: what it keeps of its first start."""

import os
from pathlib import Path

from beepgpt.config.settings import read_settings
from beepgpt.runtime.recovery import open_recovery
from beepgpt.runtime.workers import Worker


def test_a_record_is_of_the_future_by_the_run_s_first_start(tmp_path: Path):
    """However many days later it goes on: a killed run and an unbroken one reject the same records."""
    began = []
    for now in (1_000, 2_000):
        folder = open_recovery(tmp_path / "memory", {"source": "events.jsonl"}, {"started_at": now}, {"flow": 1})
        began.append(Worker(read_settings(environ={}), recovery=folder).started_at)
        assert folder.lock is not None
        os.close(folder.lock)

    assert began == [1_000, 1_000]
