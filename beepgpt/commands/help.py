"""`beepgpt help`: the help of a command, or of all."""

from __future__ import annotations

from typing import Annotated

import typer


def help(
    command: Annotated[str | None, typer.Argument(help="The command; without, all are listed.", show_default=False)] = None,
) -> None:
    """Show the help of a command."""
    from beepgpt.commands.app import app

    app(args=[*([] if command is None else [command]), "--help"], prog_name="beepgpt")
