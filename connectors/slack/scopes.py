"""The scopes that the Slack app needs: one list, which the manifests, the checks at start and the docs are held against."""

from __future__ import annotations

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
