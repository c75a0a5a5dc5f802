"""`beepgpt topics`: creates the topics of the flows, with the settings that they need."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer
from rich.table import Table

from beepgpt.commands.closing import say_next, show_summary
from beepgpt.commands.flags import Json, with_settings
from beepgpt.config.settings import Settings, defaults
from beepgpt.connectors.log import KAFKA, SQLITE, BadAddress, Log, TopicInUse, TopicSpec, folder_of, folder_place, parse_address
from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.connectors.sqlite.topic_files import SUFFIX
from beepgpt.conversations.rules import DAY
from beepgpt.errors import BadCommand
from beepgpt.figures import counted
from beepgpt.forgetting.topics import copies_left, copies_of
from beepgpt.runtime.console import console, results
from beepgpt.runtime.places import is_topic, log_of
from beepgpt.up.generations import MADE_ANEW, suffix_of

FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", "max.message.bytes": str(2 * 2**20)}
"""State is built from a topic's beginning, an ingested history is older than any retention, and an event may have a megabyte."""
COMPACTED = {"cleanup.policy": "compact", "max.compaction.lag.ms": str(DAY // 1000), "segment.ms": str(DAY // 1000)}
"""The last value of each id stays, and a tombstone takes it away: from the disk, too, about two days later. By Kafka's defaults it might
stay there for ever, since what is written is compacted only once there is about as much again."""
COMPACTED_AND_FINITE = COMPACTED | {"cleanup.policy": "compact,delete"}
FINITE = {"cleanup.policy": "delete"}
DEAD_LETTERS = FINITE | {"max.message.bytes": str(8 << 20)}
"""A dead letter is larger than its record, which may have come compressed."""
A_QUARTER = {"retention.ms": str(90 * DAY // 1000)}
A_WEEK = {"retention.ms": str(7 * DAY // 1000), "max.message.bytes": str(2 * 2**20)}
"""Interactions with the app name people, and are used within minutes."""

KINDS = {
    "events": FOR_EVER,
    "examples": COMPACTED,
    "labeled": COMPACTED,
    "predictions": COMPACTED_AND_FINITE,
    "alerts": FINITE | A_QUARTER,
    "outcomes": FINITE | A_QUARTER,
    "interactions": FINITE | A_WEEK,
}
"""Topics by the last part of their names, with their settings; late records and dead letters apart."""
BESIDE = {"late": "late_topic", "dead-letters": "dead_letter_topic"}
"""Topics that a flow finds by its settings of `[kafka]`, since DEST does not name them."""

PREFIX = "slack"


@with_settings
def topics(
    at: Annotated[
        str, typer.Argument(metavar="PLACE", help="kafka://host:port or sqlite:///folder; with /topic behind it, to make just that one.")
    ],
    settings: Settings,
    partitions: Annotated[int, typer.Option(min=1, help="Of slack.events and what is made of it; they can't be changed later.")] = 12,
    replicas: Annotated[int, typer.Option(min=-1, help="Copies of each; -1: as many as the brokers make by themselves.")] = -1,
    prefix: Annotated[str, typer.Option(help="What the topics' names begin with.")] = PREFIX,
    generation: Annotated[int, typer.Option(min=0, help="Of events and what is made of them: 2 for slack.events.2, …")] = 1,
    json: Json = False,
) -> None:
    """Make the topics that are missing, or the one that is named, and show how those that are there differ from what they should be."""
    place, name = place_and_topic(at)
    if name is not None and prefix != PREFIX:
        raise BadCommand(f"--prefix {prefix}: PLACE names a topic, {name}: leave one of them out")
    log = log_of(settings, place)
    beside = names_beside(prefix, settings)
    names = flow_topics(prefix, generation, beside) if name is None else [name]
    specs = [spec_of(each, partitions, replicas, beside, settings) for each in names]
    check_no_copies([spec.name for spec in specs], log)
    made, differences = log.create(specs)
    if isinstance(log, SqliteLog):
        clean_unused(log, [spec.name for spec in specs if spec.name not in made])
    there = log.check_topics([spec.name for spec in specs])
    rows = []
    for spec in specs:
        is_made = spec.name in made
        has = dict(spec.settings) if is_made else log.settings_of(spec.name, spec.settings)
        rows.append({"topic": spec.name, "is_made": is_made, "partitions": there[spec.name].partitions, "settings": has})
    show_summary({"topics": rows, "differences": list(differences)}, json, print_topics)
    if name is None and (needed := needed_settings(beside, settings)):
        console.print(f"A flow that is to use these needs: {' '.join(needed)}", soft_wrap=True)
    if name is None:
        say_next("ingest", "EXPORT.zip", "--to", f"{place}/{names[0]}", why="The history, before anything live")


def check_no_copies(names: Sequence[str], log: Log) -> None:
    """Raise BadCommand for a topic that is gone while `beepgpt forget` still has it in a copy: an empty one would hide that."""
    there = log.topics()
    if gone := {name: found for name in names if name not in there and (found := copies_of(name, there))}:
        raise BadCommand(f"{', '.join(gone)}: {copies_left(gone, log.place)}")


def clean_unused(log: SqliteLog, names: Sequence[str]) -> None:
    """Clean topics that nobody has open: what keeps one open cleans it."""
    for name in names:
        with suppress(TopicInUse), log.held([name]):
            if log.forgets(name):
                log.clean(name)


def print_topics(found: dict[str, Any]) -> None:
    """Print a row for each topic, and what differs from what it should be."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for each in found["topics"]:
        settings = (f"{setting}={value}" for setting, value in each["settings"].items())
        described = ", ".join([counted(each["partitions"], "partition"), *settings])
        table.add_row(each["topic"], "made" if each["is_made"] else "is there", described)
    results.print(table)
    for line in found["differences"]:
        results.print(f"differs, and is left as it is: {line}")


def flow_topics(prefix: str, generation: int, beside: dict[str, str]) -> list[str]:
    """The names of the topics that the flows read and write."""
    ours = (f"{prefix}.{kind}{suffix_of(generation) if kind in MADE_ANEW else ''}" for kind in KINDS)
    return list(dict.fromkeys([*ours, *beside.values()]))


def spec_of(name: str, partitions: int, replicas: int, beside: dict[str, str], settings: Settings) -> TopicSpec:
    """A topic with the settings of its kind, which its name says; of an unknown kind, with those of events.

    >>> from beepgpt.config.settings import read_settings
    >>> ours = read_settings(environ={})
    >>> spec_of("slack.predictions.2", 12, -1, {}, ours).settings["retention.ms"], spec_of("acme.late", 12, -1, {}, ours).partitions
    ('7776000000', 1)
    >>> spec_of("chat", 12, -1, {}, ours).settings == spec_of("slack.events.2", 12, -1, {}, ours).settings == FOR_EVER
    True
    """
    kind = kind_of(name)
    if name in beside.values() or kind in BESIDE:
        return TopicSpec(name, 1, DEAD_LETTERS | {"retention.ms": str(settings.run.rejects_kept // 1000)}, replicas)
    kept = {"retention.ms": str(settings.scoring.kept // 1000)} if kind == "predictions" else {}
    return TopicSpec(name, partitions, KINDS[kind] | kept, replicas)


def kind_of(name: str) -> str:
    """A topic's kind, which its name says; of others, events."""
    return next((each for each in reversed(name.split(".")) if each in KINDS or each in BESIDE), "events")


def names_beside(prefix: str, settings: Settings) -> dict[str, str]:
    """Names of the topics of late records and dead letters: from the settings, or with the prefix where these have their defaults."""
    given, default = beside_in(settings), {each: defaults()["kafka", field].value for each, field in BESIDE.items()}
    return {each: f"{prefix}.{each}" if given[each] == default[each] and prefix != PREFIX else given[each] for each in BESIDE}


def needed_settings(beside: dict[str, str], settings: Settings) -> list[str]:
    """Environment variables without which a flow would look for late records and dead letters elsewhere."""
    variables = {"late": "BEEPGPT_KAFKA__LATE_TOPIC", "dead-letters": "BEEPGPT_KAFKA__DEAD_LETTER_TOPIC"}
    given = beside_in(settings)
    return [f"{variables[each]}={name}" for each, name in beside.items() if name != given[each]]


def beside_in(settings: Settings) -> dict[str, str]:
    return {each: getattr(settings.kafka, field) for each, field in BESIDE.items()}


PLACES = "kafka://host:port or kafka://host:port/topic, or sqlite:///folder or sqlite:///folder/topic"


def place_and_topic(at: str) -> tuple[str, str | None]:
    """The log's place (`kafka://host:port`), and the topic if one is named. Raises BadCommand.

    The last name in a path is a topic's if there is a known kind behind a dot in it and no such folder (`sqlite:///srv/log/slack.events`),
    or if it is that of a topic's file (`sqlite:///srv/log/chat.topic`).

    >>> place_and_topic("kafka://localhost:9092"), place_and_topic("kafka://localhost:9092/slack.events.2")
    (('kafka://localhost:9092', None), ('kafka://localhost:9092', 'slack.events.2'))
    >>> place_and_topic("sqlite:///srv/log"), place_and_topic("sqlite:///srv/log/slack.events")
    (('sqlite:///srv/log', None), ('sqlite:///srv/log', 'slack.events'))
    >>> place_and_topic("sqlite:///srv/log/chat.topic"), place_and_topic("sqlite:///srv/.beepgpt")
    (('sqlite:///srv/log', 'chat'), ('sqlite:///srv/.beepgpt', None))
    """
    if not is_topic(at) or "?" in at or "#" in at:
        raise BadCommand(f"PLACE {at}: {PLACES} is expected")
    if at.startswith(SQLITE):
        folder = folder_of(at)
        is_file = folder.name.endswith(SUFFIX)
        has_kind = any(each in KINDS or each in BESIDE for each in folder.name.split(".")[1:])
        names_topic = (is_file or has_kind) and not at.endswith("/") and not folder.is_dir()
        if not names_topic:
            return folder_place(str(folder)), None
        at = at.removesuffix(SUFFIX)
    else:
        names_topic = "/" in at.removeprefix(KAFKA).rstrip("/")
    try:
        address = parse_address(at if names_topic else f"{at.rstrip('/')}/any")
    except BadAddress as error:
        why = error.what if names_topic else error.what.replace("/any: ", ": ", 1)
        raise BadCommand(f"PLACE {why}: write {PLACES}") from None
    return address.place, address.topic if names_topic else None
