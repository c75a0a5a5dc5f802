"""How a command closes: its report, what it did not use, how to go on, and its exit status."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from shlex import join
from typing import Any

import orjson
import typer

from beepgpt import clock
from beepgpt.commands.output import by_reason, write_report
from beepgpt.errors import RunStopped
from beepgpt.runtime.console import console, printed, results, says_events

MOST_NAMED = 20
PROBABLY = {
    "future": "their times are after this machine's clock, which says {now}: set the clock, or fix the times",
    "bad_record_time": "the log's own timestamps are no milliseconds (seconds, probably): fix them where the records are produced",
    "bad_ts": 'a time is expected as Slack writes it, a string of seconds: "ts": "1690360253.041239"',
    "no_ts": 'each event needs a time as Slack writes it, a string of seconds: "ts": "1690360253.041239"',
    "not_json": "SOURCE is probably no file of events, which has one JSON object a line",
    "no_channel": 'each event needs its channel: "channel": "C0123456789"',
    "day_file_unreadable": "the day files are encrypted, or may not be read: unpack the zip with its password, or fix the permissions,"
    " and give the folder",
    "day_file_not_json": "the day files are damaged or encrypted: download the export again, or unpack it with the tool that made it",
    "day_file_damaged": "the zip is damaged: download the export again",
}
"""What is probably wrong, by the most frequent reason for which records were rejected."""


def say_next(*words: object, why: str = "") -> None:
    """Print the exact command to run next, on standard error, to be copied into a shell; `why`: what it does, as a comment."""
    console.print(f"next: {join(map(str, ('beepgpt', *words)))}{f'  # {why}' if why else ''}", highlight=False)


def show_summary(body: Any, as_json: bool, show: Callable[[Any], None]) -> None:
    """Print a command's summary: as JSON on standard output, or for people; where the log is JSON, whole as one event."""
    if as_json:
        results.print(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode())
    elif says_events():
        printed.info("closing account", extra={"closing": body})
    else:
        show(body)


def check_whole(status: int, why: str) -> None:
    """Raise KeyboardInterrupt for a run that was stopped, and RunStopped for one that failed: what needs all of it can't go on."""
    if status == 130:
        raise KeyboardInterrupt
    if status:
        raise RunStopped(why)


def close_command(
    closing: Mapping[str, Any],
    status: int,
    report: Path | None,
    recovery: Path | None,
    show: Callable[[Mapping[str, Any]], None],
    *,
    as_json: bool = False,
    next_command: Sequence[object] = (),
) -> None:
    """Show and write the closing report, and say how to go on. Raises typer.Exit."""
    show_summary(closing, as_json, show)
    print_unlisted(closing)
    events = closing["account"]["events"]
    if closing["ended"] and (rejected := say_rejected(events["read"], events["rejected"])):
        status = status or rejected
    write_report(report, closing)
    status = 1 if closing["does_not_add_up"] else status
    if status == 130:
        rest = "run the same command again to go on" if recovery else "give --recovery DIR to go on where a run stopped"
        console.print(f"Interrupted; what was done is kept ({rest}).")
    elif not closing["ended"] and recovery is None:
        console.print("Stopped without --recovery DIR: the same command begins again.")
    elif not status and next_command:
        say_next(*next_command)
    raise typer.Exit(status)


def print_unlisted(closing: Mapping[str, Any]) -> None:
    """Names the folders of an export that no listing names and that were not read, with their sizes."""
    folders = closing.get("unlisted", [])
    for each in folders[:MOST_NAMED]:
        files = "1 day file" if each["day_files"] == 1 else f"{each['day_files']:,} day files"
        console.print(f"Not read, as listed nowhere: {each['folder']} ({each['kind']}), {each['messages']:,} messages in {files}")
    if more := folders[MOST_NAMED:]:
        console.print(f"… and {len(more):,} more folders, {sum(each['messages'] for each in more):,} messages: --report names all")


def say_rejected(read: int, rejected: Mapping[str, int]) -> int:
    """Says what is probably wrong if half of all records or more were rejected. Returns the exit status: 1 if all were."""
    count = sum(rejected.values())
    if not count or 2 * count < read:
        return 0
    reason = max(rejected, key=rejected.__getitem__)
    why = PROBABLY.get(reason, "the dead letters have each with its reason").format(now=clock.now_utc().strftime("%Y-%m-%d %H:%M UTC"))
    share = "Every record" if count == read else f"{count:,} of {read:,} records"
    console.print(f"{share} could not be used ({by_reason(rejected)}): {why}.")
    return 1 if count == read else 0
