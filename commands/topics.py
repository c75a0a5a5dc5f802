"""`beepgpt topics`: the topics that the flows need, made with the settings that they need."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from commands.common import BadCommand, connection_of, is_kafka, with_settings
from config.settings import Settings
from connectors import kafka
from connectors.console import console

FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", "max.message.bytes": str(2 * 2**20)}
"""State is built from a topic's beginning, an ingested history is older than any retention, and an event may have a megabyte."""
LETTERS = FOR_EVER | {"max.message.bytes": str(8 << 20)}
"""A letter is larger than its record, and one that came compressed may be much larger."""
COMPACTED = {"cleanup.policy": "compact"}
"""The last value of each id stays; a tombstone takes it away."""
A_QUARTER = {"cleanup.policy": "delete", "retention.ms": str(90 * 24 * 3600 * 1000)}


@with_settings
def topics(
    at: Annotated[str, typer.Argument(metavar="BROKER", help="kafka://host:port")],
    settings: Settings,
    partitions: Annotated[int, typer.Option(min=1, help="Of slack.events and what is made of it; they can't be changed later.")] = 12,
    replicas: Annotated[int, typer.Option(min=-1, help="Copies of each; -1: as many as the brokers make by themselves.")] = -1,
    prefix: Annotated[str, typer.Option(help="What the topics' names begin with.")] = "slack",
) -> None:
    """Make the topics that are missing, and tell how those that are there differ from what they should be."""
    connection = connection_of(settings, broker_of(at))
    specs = [*flow_topics(prefix, partitions, replicas)]
    specs += [kafka.TopicSpec(name, 1, LETTERS, replicas) for name in (settings.kafka.late_topic, settings.kafka.dead_letter_topic)]
    made, differences = kafka.create_topics(connection, specs)
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for spec in specs:
        wanted = ", ".join(f"{name}={value}" for name, value in spec.settings.items())
        table.add_row(spec.name, "made" if spec.name in made else "is there", f"{spec.partitions} partitions, {wanted}")
    console.print(table)
    for line in differences:
        console.print(f"differs, and is left as it is: {line}")


def flow_topics(prefix: str, partitions: int, replicas: int) -> list[kafka.TopicSpec]:
    """The topics of DESIGN.md, "Kafka topics and delivery", but for those of what could not be used."""
    kinds = {
        "events": FOR_EVER,
        "examples": COMPACTED,
        "labeled": COMPACTED,
        "predictions": A_QUARTER,
        "alerts": A_QUARTER,
        "outcomes": A_QUARTER,
    }
    return [kafka.TopicSpec(f"{prefix}.{kind}", partitions, wanted, replicas) for kind, wanted in kinds.items()]


def broker_of(at: str) -> str:
    """`host:port` of `kafka://host:port`."""
    if not is_kafka(at) or "/" in at.removeprefix("kafka://").rstrip("/"):
        raise BadCommand(f"BROKER {at}: kafka://host:port is expected, without a topic")
    return kafka.parse_address(f"{at.rstrip('/')}/any").bootstrap
