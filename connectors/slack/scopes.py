"""The scopes that the Slack app needs: one list, which the manifests, the checks at start and the docs are held against."""

from __future__ import annotations

from pathlib import Path

CHANNELS = {
    "channels": frozenset({"channels:history", "channels:read"}),
    "groups": frozenset({"groups:history", "groups:read"}),
    "dms": frozenset({"im:history", "im:read"}),
    "mpims": frozenset({"mpim:history", "mpim:read"}),
}
"""To follow each kind of channel (`--include`)."""
PEOPLE = "users:read"
"""To know who posts through an app: a person or a bot."""
REACTIONS = "reactions:read"
"""Without it there are just no reactions."""
ALERTS = frozenset({"channels:read", "chat:write", "groups:read", "im:history", "im:write", "users:read"})
"""To alert people."""


def manifest_of(*, is_private: bool = False) -> Path:
    """The manifest that an app with these scopes is made from, which is installed with the package; `is_private`: private channels, too."""
    return Path(__file__).resolve().parents[2] / "config" / f"slack-app{'-private' if is_private else ''}.yaml"
