"""`beepgpt settings`: every setting of a command, or of all: its value, where that comes from, its default, and what it is for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from beepgpt.commands.app import COMMANDS, MODULES
from beepgpt.commands.closing import show_summary
from beepgpt.commands.flags import Json, shown
from beepgpt.commands.reads import READS, flags_of, read_by
from beepgpt.config.settings import NAMES, PREFIX, SECRET, Name, SettingOrigin, defaults, explained, file_of, kind_of, origins_of
from beepgpt.errors import BadCommand
from beepgpt.runtime.console import console, results


def settings(
    command: Annotated[str | None, typer.Argument(help="A command: only what it reads; without it, all.", show_default=False)] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file of settings.", show_default=False)] = None,
    json: Json = False,
) -> None:
    """List the settings of a command, or all: values, defaults, and where each comes from (flag, variable, file or default)."""
    function = MODULES.get(command, command.replace("-", "_")) if command else ""
    if command and (command not in {name for group in COMMANDS.values() for name in group} or function not in READS):
        raise BadCommand(f"COMMAND {command}: there is none of that name: beepgpt --help lists all")
    flags = set(flags_of(function)) if command else {name for each in READS for name in flags_of(each)}
    given = origins_of(config)
    rows = [row_of(name, given[name], flags) for name in (read_by(function) if command else NAMES)]
    show_summary(rows, json, print_settings)
    file = file_of(config)
    which = "none is given: --config FILE, or BEEPGPT_CONFIG; `beepgpt init` writes one" if file is None else file
    console.print(f"A flag wins over a variable, a variable over the file ({which}), and that over the default.")


def row_of(name: Name, origin: SettingOrigin, flags: set[Name]) -> dict[str, Any]:
    """A setting as `--json` prints it; a secret's value is never shown."""
    value, default = ("(set)" if name in SECRET and each != "" else shown(each) for each in (origin.value, defaults()[name].value))
    return {
        "setting": ".".join(name),
        "value": value,
        "from": "default" if origin.shown == defaults()[name].shown else origin.shown,
        "default": default,
        "type": "secret" if name in SECRET else kind_of(name),
        "flag": f"--{name[1].replace('_', '-')}" if name in flags else "",
        "variable": f"{PREFIX}{'__'.join(name).upper()}",
        "help": explained()[name],
    }


LEAST_TABLE = 120
"""Columns of a terminal in which a table of settings can be read; in narrower ones each has its lines."""


def print_settings(rows: list[dict[str, Any]]) -> None:
    """Print a line for each setting; on a narrow terminal, a line and what it is for below."""
    if results.is_terminal and results.width < LEAST_TABLE:
        for row in rows:
            flag = f", or {row['flag']}" if row["flag"] else ""
            was = f"; default: {row['default'] or 'none'}" if row["value"] != row["default"] else ""
            results.print(Text.assemble((row["setting"], "bold"), " = ", row["value"] or '""'))
            about = f"{row['help'][:1].upper()}{row['help'][1:]}. {row['type'].replace('|', ' | ')}, from {row['from']}{flag}{was}"
            results.print(Padding(Text(about, style="dim"), (0, 0, 0, 4)), soft_wrap=False)
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for head, width in (("setting", None), ("value", 14), ("type", 14), ("from", 14), ("what it is", None)):
        table.add_column(head, overflow="fold", max_width=width)
    for row in rows:
        origin = f"default, or {row['flag']}" if row["from"] == "default" and row["flag"] else row["from"]
        was = "" if row["from"] == "default" or row["value"] == row["default"] else f" (default: {row['default'] or 'none'})"
        table.add_row(row["setting"], (row["value"] or '""') + was, row["type"].replace("|", " | "), origin, row["help"])
    results.print(table)
