"""Slack exports, a zip or a folder: read day file by day file, a channel at a time, without the secrets in them."""

from beepgpt.connectors.slack.export.archive import (
    HISTORY_NOTE,
    KINDS,
    PARTITION,
    PUBLIC,
    BadExport,
    ChannelKind,
    DayElements,
    Export,
    ExportChannel,
    UnreadableDay,
)
from beepgpt.connectors.slack.export.contents import check_no_slackdump_file, open_export, read_listings, read_users
from beepgpt.connectors.slack.export.days import ExportChunk, ExportSource, read_days, strip_secrets
