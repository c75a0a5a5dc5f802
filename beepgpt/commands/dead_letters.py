"""`beepgpt dead-letters`: records that could not be used, by reason, with their places."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.table import Table
from rich.text import Text

from beepgpt.commands.closing import show_summary
from beepgpt.commands.flags import Json, with_settings
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.dataflows.records import DeadLetter
from beepgpt.errors import BadCommand
from beepgpt.runtime.console import console, results
from beepgpt.runtime.places import is_topic, log_of, topic_of

SHOWN = 160
"""Characters of a record that are shown."""
FIRST = 100
"""The first records of a topic, of which at least one must be a dead letter: others may stand among them by mistake."""


@with_settings
def dead_letters(
    source: Annotated[
        str,
        typer.Argument(
            help="The topic slack.dead-letters or slack.late (kafka://host:port/… or sqlite:///folder/…), or a ….dead-letters.jsonl."
        ),
    ],
    settings: Settings,
    reason: Annotated[str | None, typer.Option(help="Those with this reason only.")] = None,
    show: Annotated[int, typer.Option(min=0, help="Records to show of each reason, as they came.")] = 1,
    json: Json = False,
) -> None:
    """What could not be used: how many records for which reason, where, and some of them."""
    counts: dict[str, int] = {}
    last: dict[str, str] = {}
    samples: dict[str, list[DeadLetter]] = {}
    for letter in letters_in(source, settings):
        if reason is not None and letter.reason != reason:
            continue
        counts[letter.reason] = counts.get(letter.reason, 0) + 1
        last[letter.reason] = letter.place
        shown = samples.setdefault(letter.reason, [])
        if len(shown) < show:
            shown.append(letter)
    found = [
        {"reason": each, "count": count, "last": last[each], "records": [[each.place, readable(each.record)] for each in samples[each]]}
        for each, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]
    show_summary(found, json, print_letters)
    chosen = f" for the reason {reason}" if reason else ""
    what = "late records" if is_late(source, settings) else "dead letters"
    console.print(f"{sum(counts.values()):,} {what}{chosen} in {source}")
    if any(counts) and is_topic(source):
        log = source.partition("://")[0]
        console.print(
            f"What could be mended since comes back by `beepgpt ingest {log}://…/slack.events --with dead-letters,late --to {log}://…`."
        )


def is_late(source: str, settings: Settings) -> bool:
    """Whether it is where late records are: they could be used, and came too late."""
    if is_topic(source):
        return topic_of(source, "SOURCE").topic == settings.kafka.late_topic
    return source.endswith(".late.jsonl")


def print_letters(found: list[dict[str, Any]]) -> None:
    """Print a row for each reason, and the records that are shown of it."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for row in found:
        table.add_row(Text(row["reason"], style="bold"), f"{row['count']:,}", Text(f"the last one at {row['last']}", style="dim"))
        for place, record in row["records"]:
            table.add_row("", "", Text(f"{place}: {record}"))
    results.print(table)


def letters_in(source: str, settings: Settings) -> Iterator[DeadLetter]:
    """The dead letters of a topic or a file. Raises BadCommand if it holds something else."""
    if is_topic(source):
        address = topic_of(source, "SOURCE")
        records = log_of(settings, address).records(address.topic)
        first = list(islice(records, FIRST))
        if first and not any(name == "reason" for _, each in first for name, _ in each.headers):
            raise BadCommand(
                f"SOURCE {source}: is no topic of dead letters: none of its first {len(first):,} records has a header `reason`. Name"
                f" {settings.kafka.dead_letter_topic} or {settings.kafka.late_topic}, or what a flow's settings call these"
            )
        for partition, each in chain(first, records):
            headers = dict(each.headers)
            place = headers.get("source", f"{address.topic}/{partition}:{each.offset}".encode()).decode(errors="replace")
            yield DeadLetter(headers.get("reason", b"unknown").decode(errors="replace"), place, each.value or b"", each.key)
        return
    path = Path(source)
    jsonl.check_readable(path)
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                body = orjson.loads(line)
                record = body["record"].encode() if "record" in body else base64.b64decode(body["record_base64"])
                yield DeadLetter(body["reason"], body["place"], record, None)
            except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError):
                raise BadCommand(f"SOURCE {path}, line {number}: is no dead letter: name a ….dead-letters.jsonl or ….late.jsonl") from None


def readable(record: bytes) -> str:
    """The beginning of a record on one line, without control characters."""
    text = record[: 4 * SHOWN].decode(errors="backslashreplace")
    plain = "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
    return plain if len(plain) <= SHOWN else f"{plain[:SHOWN]}… ({len(record):,} bytes)"
