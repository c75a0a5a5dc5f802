"""What `beepgpt up` finds in its folder, and whether it can go on with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beepgpt.commands.topics import place_and_topic
from beepgpt.config.settings import Settings
from beepgpt.connectors.log import KAFKA
from beepgpt.errors import BadCommand
from beepgpt.figures import about
from beepgpt.runtime.forgotten import forgotten_of
from beepgpt.runtime.places import log_of
from beepgpt.up.generations import rebuild_seconds
from beepgpt.up.plan import variables_of

if TYPE_CHECKING:
    from beepgpt.up.folder import DataFolder


def check_begun(data: DataFolder, settings: Settings, log: str | None, *, rebuilds: bool) -> None:
    """Raise BadCommand where what is there can't be gone on with; other settings need `rebuilds`."""
    if log is not None:
        place, topic = place_and_topic(log)
        if topic is not None or not place.startswith(KAFKA):
            raise BadCommand(f"--log {log}: kafka://host:port is expected; without it, the log is in the folder of --data")
    data.choose_log(log)
    changed = data.difference(settings.rules)
    if changed and not rebuilds:
        raise BadCommand(f"--data {data.path}: {changed}: give what was given first, or add --rebuild, {what_it_takes(data, settings)}")
    data.check_list(forgotten_of(settings))


def what_it_takes(data: DataFolder, settings: Settings) -> str:
    """What --rebuild does, about how long, and what becomes of alerts meanwhile."""
    log, events = log_of(settings, data.log), data.topic_name("events")
    records = sum(end - begin for topic in log.topics([events]) for begin, end in log.bounds(topic).values())
    meanwhile = "in which nobody is alerted" if variables_of(data.rules or {}) is None else "while alerts go on as before"
    return f"which makes all of it anew with these settings, from its log: {about(rebuild_seconds(records))}, {meanwhile}"
