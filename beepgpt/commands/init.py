"""`beepgpt init`: a commented settings file, from three answers."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer

from beepgpt.commands.closing import say_next
from beepgpt.config.settings import DEFAULTS, BadSettings, Name, read_settings
from beepgpt.connectors.files import jsonl
from beepgpt.errors import BadCommand
from beepgpt.runtime.console import console
from beepgpt.runtime.places import is_topic

BROKER = "kafka://localhost:9092"
FLAGS = {"conversations.workspace": "--workspace", "alerts.zone": "--zone", "cluster.source": "--broker"}
"""The flag by which each setting is given that this command writes."""


def init(
    workspace: Annotated[str | None, typer.Option(help="The workspace's name, as in acme.slack.com.", show_default=False)] = None,
    zone: Annotated[str | None, typer.Option(help="Where most people are, as Europe/Berlin: for quiet hours.", show_default=False)] = None,
    broker: Annotated[
        str | None, typer.Option(help=f"The log, as {BROKER} or sqlite:///srv/log; beepgpt up has its own.", show_default=False)
    ] = None,
    to: Annotated[Path, typer.Option(help="The file.")] = Path("beepgpt.toml"),
) -> None:
    """Write a settings file, beepgpt.toml, from three answers: they are asked for, if they aren't given. All other settings stand in it as
    comments, with their defaults. Tokens don't belong in it: they are variables."""
    if to.exists():
        raise BadCommand(f"--to {to}: is there already: change it by hand, or name another file")
    jsonl.check_writable(to)
    workspace = workspace or asked("What is the workspace called (acme, of acme.slack.com)?", "--workspace", "workspace")
    zone = zone or asked("In which time zone are most people (Europe/Berlin)?", "--zone", "UTC")
    if broker is None and is_somebody_there():
        broker = asked(f"Where is the log ({BROKER})? It may be left empty: beepgpt up has its own.", "--broker", "")
    if broker and not is_topic(broker):
        raise BadCommand(f"--broker {broker}: {BROKER} or sqlite:///srv/log is expected")
    answers: dict[Name, str] = {("conversations", "workspace"): workspace, ("alerts", "zone"): zone}
    if broker:
        answers["cluster", "source"] = f"{broker.rstrip('/')}/slack.events?follow=true"
    jsonl.write_file(to, file_with(answers).encode())
    try:
        read_settings(to)
    except BadSettings as error:  # the file goes again: what is wrong is what was given
        to.unlink()
        problems = str(error)
        for setting, flag in FLAGS.items():
            problems = problems.replace(f"{setting} in {to}", flag)
        raise BadCommand(problems) from error
    except BaseException:
        to.unlink()
        raise
    console.print(
        f"{to}: {len(answers)} settings, and all others as comments. `export BEEPGPT_CONFIG={to.resolve()}` makes every command read it."
    )
    if broker:
        say_next("check", "--config", to)
    else:
        say_next("up", "--data", "live", "--export", "EXPORT.zip", "--config", to, why="Live on this machine, once its tokens are set")


def is_somebody_there() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin is not None and sys.stdin.isatty()


def asked(question: str, flag: str, default: str) -> str:
    """The answer of whoever runs the command. Raises BadCommand if nobody can be asked."""
    if not is_somebody_there():
        raise BadCommand(f"nobody is there to be asked: give {flag}, as {flag} {default}")
    return str(typer.prompt(question, default=default, err=True)).strip()


def file_with(answers: dict[Name, str]) -> str:
    """`default.toml` with all settings commented out but those that were answered."""
    section, lines = "", ["# Settings of beepgpt, written by `beepgpt init`. A line without its first # is set.", ""]
    for line in DEFAULTS.read_text("utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif found := re.match(r"(\w+) = (.*?)( *)# ", line):
            answer = answers.get((section, found[1]))
            lines.append(f"# {line}" if answer is None else f"{found[1]} = {orjson.dumps(answer).decode()} # {line[found.end() :]}")
            continue
        lines.append(line)
    return "\n".join(lines) + "\n"
