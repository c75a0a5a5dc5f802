"""Slack exports, a zip or a folder: read day file by day file, a channel at a time, without the secrets in them."""

from beepgpt.connectors.slack.export.contents import open_export, read_listings, read_users
from beepgpt.connectors.slack.export.days import decode_day, read_days, strip_secrets
from beepgpt.connectors.slack.export.source import ExportChunk, ExportSource
from beepgpt.connectors.slack.export.values import (
    KINDS,
    PARTITION,
    PUBLIC,
    BadExport,
    ChannelKind,
    DayElements,
    DayFile,
    Export,
    ExportChannel,
    UnreadableDay,
)

__all__ = [
    "KINDS",
    "PARTITION",
    "PUBLIC",
    "BadExport",
    "ChannelKind",
    "DayElements",
    "DayFile",
    "Export",
    "ExportChannel",
    "ExportChunk",
    "ExportSource",
    "UnreadableDay",
    "decode_day",
    "open_export",
    "read_days",
    "read_listings",
    "read_users",
    "strip_secrets",
]
