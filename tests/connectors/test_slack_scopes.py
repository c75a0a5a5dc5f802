"""The docs name the scopes that are checked at start; the manifests are held against them in tests/deploy/test_files.py."""

from __future__ import annotations

import re
from pathlib import Path

from beepgpt.connectors.slack.scopes import ALERTS, CHANNELS

ROOT = Path(__file__).parents[2]


def test_the_docs_name_the_scopes_of_alerts_and_of_direct_messages() -> None:
    alerts, live = ((ROOT / "docs" / name).read_text("utf-8") for name in ("alerts.md", "slack.md"))
    (named,) = re.findall(r"The app needs the scopes (.*?);", alerts, re.DOTALL)
    (direct,) = re.findall(r"direct messages scopes that neither has: (.*?)\)", live)

    assert set(re.findall(r"`(.*?)`", named)) == ALERTS
    assert set(re.findall(r"`(.*?)`", direct)) == CHANNELS["dms"] | CHANNELS["mpims"]
