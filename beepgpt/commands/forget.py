"""`beepgpt forget`: remove a message, a person or a channel from all that is kept, for good."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import typer
from rich.table import Table

from beepgpt.commands.closing import say_next, show_summary
from beepgpt.commands.flags import Json, Report, with_settings
from beepgpt.commands.output import write_report
from beepgpt.commands.topic_names import is_ours
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.conversations.events import micros
from beepgpt.errors import BadCommand
from beepgpt.figures import counted
from beepgpt.forgetting.run import ForgetJob, MessageName, run_forget
from beepgpt.runtime.console import console, results
from beepgpt.runtime.workers import interruptible

NOT_LOOKED_INTO = {"unknown": "not looked into: none of ours, or broken", "link": "not followed: name what it leads to"}
"""What is said of files by their kind that are left as they are."""


@with_settings
def forget(
    from_: Annotated[
        list[str],
        typer.Option(
            "--from",
            help="Where it is looked for, as often as needed: a file or folder that this program reads or wrote, a topic (kafka://…,"
            " sqlite://…), or all of our topics at kafka://host:port or sqlite:///folder.",
        ),
    ],
    settings: Settings,
    user: Annotated[list[str] | None, typer.Option(help="A person's id (U…): all that they wrote and did.")] = None,
    channel: Annotated[list[str] | None, typer.Option(help="A channel's id (C…): all of it.")] = None,
    message: Annotated[list[str] | None, typer.Option(help="A message: CHANNEL:TS, as C024BE91L:1690360253.041239.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without, it is only said what would be done.")] = False,
    drop: Annotated[
        bool, typer.Option("--drop", help="Put a topic that is rewritten beside itself in its own place, and delete the old one.")
    ] = False,
    report: Report = None,
    json: Json = False,
) -> None:
    """Forget a message, a person or a channel: remove it wherever it is kept, and leave it out from then on."""
    if report is not None:
        jsonl.check_writable(report)
    ours = partial(is_ours, settings=settings)
    job = ForgetJob(from_, settings, user or [], channel or [], [message_of(each) for each in message or []], yes, drop, ours)
    stopped = "interrupted: every file is as it was, or done; the same command does the rest"
    with interruptible(stopped), console.status("looking", spinner="dots") as status:
        found = run_forget(job, status.update)
    show_summary(found, json, show)
    write_report(report, found)
    if not found["done"] and found["found"]:
        flags = (("--user", user), ("--channel", channel), ("--message", message), ("--from", from_))
        more = ["--yes"] + ["--drop"] * drop
        say_next("forget", *(word for flag, values in flags for value in values or [] for word in (flag, value)), *more)
    note_no_ids([*(user or []), *(channel or [])])


def note_no_ids(names: Sequence[str]) -> None:
    """Say of a name that doesn't look like an id that nothing is found by it."""
    if odd := [each for each in names if not re.fullmatch("[A-Z][A-Z0-9]{6,}", each)]:
        console.print(
            f"{', '.join(odd)}: doesn't look like an id, and nothing is found by a name: U024BE7LH is one of a person (in Slack: their"
            " profile, Copy member ID), C024BE91L one of a channel (About, at its end)"
        )


def message_of(text: str) -> MessageName:
    """A message's channel and time. Raises BadCommand."""
    channel, _, ts = text.partition(":")
    try:
        micros(ts)
    except ValueError:
        channel = ""
    if not channel:
        raise BadCommand(f"--message {text}: CHANNEL:TS is expected, as C024BE91L:1690360253.041239")
    return channel, ts


def show(found: dict[str, Any]) -> None:
    """Print what was found where, what was done, and what is left to do."""
    table = Table(box=None, pad_edge=False)
    for name in ("place", "what it is", "found", "done" if found["done"] else "to be done", "then"):
        table.add_column(name, justify="right" if name == "found" else "left", overflow="fold")
    for each in found["places"]:
        if each["found"] or each["rebuild"] or each["kind"] in NOT_LOOKED_INTO:
            done = NOT_LOOKED_INTO.get(each["kind"], each["done"])
            table.add_row(each["place"], "" if each["kind"] == "unknown" else each["kind"], f"{each['found']:,}", done, each["rebuild"])
    if table.row_count:
        results.print(table)
    empty = sum(not each["found"] and each["kind"] not in NOT_LOOKED_INTO for each in found["places"])
    some, what = len(found["places"]) - empty, f"found {found['found']:,}" if found["found"] else "nothing was found"
    if not some:
        console.print(f"nothing was found in {counted(empty, 'place')}")
    else:
        console.print(f"{what} in {counted(some, 'place')}" + (f"; nothing in {counted(empty, 'other')}" if empty else ""))
    if looked := [each["place"].rpartition("/")[2] for each in found["places"] if each["kind"] == "topic" and "://" in each["place"]]:
        console.print(f"topics that were looked into: {', '.join(looked)}")
    if found["done"]:
        console.print(
            f"{found['on_the_list']:,} hashes are on the list, {found['list']}: what it names is left out wherever messages are read"
        )
        console.print("Start again what is still running: only `ingest slack` reads the list again by itself, all else at its start.")
    else:
        console.print("nothing was changed: the same command with --yes does it. Stop first what reads and writes there.")
