"""What commands have in common: settings as flags, times, and how a wrong command says so."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from beepgpt.commands.reads import flags_of, is_shown
from beepgpt.config.sections import microseconds
from beepgpt.config.settings import Name, defaults, explained, kind_of, read_settings
from beepgpt.errors import BadCommand
from beepgpt.runtime import logs

WHAT, WHERE, MODEL, HOW = "What", "Where", "Model", "How"
"""Groups of flags in a command's help."""
GROUPS = {"conversations": WHAT, "training": WHAT, "labeling": MODEL, "scoring": MODEL, "alerts": MODEL, "run": HOW}
SPELLED = {"opted_in": "--opted-in/--opt-in"}
"""Flags that don't have the form `--name/--no-name`."""
MOST_METAVAR = 12
"""Characters of choices beside a flag; the help of those with more lists them."""

Json = Annotated[bool, typer.Option("--json", help="Print the summary as JSON, on standard output.")]
Names = Annotated[
    list[Path] | None,
    typer.Option(help="Names for ids: an export, a folder or a file."),
]
NoNames = Annotated[bool, typer.Option("--no-names", help="Show ids, in what travels.")]
Report = Annotated[Path | None, typer.Option(help="Write the summary here, as JSON.")]
Recovery = Annotated[Path | None, typer.Option(help="A folder for snapshots: after a kill, the same command goes on.")]
ModelFolder = Annotated[Path, typer.Option(help="The model's folder.")]


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command its flags for settings, by the table in reads.py, and pass it the resulting settings. Configures logging."""
    flags = flags_of(command.__name__)

    @wraps(command)
    def wrapped(**given: Any) -> None:
        overrides: dict[str, dict[str, object]] = {}
        for section, name in flags:
            value = given.pop(name)
            overrides.setdefault(section, {})[name] = ",".join(value) if isinstance(value, list) else value
        settings = read_settings(given.pop("config"), overrides)
        is_worker = given.get("worker") is not None  # whose standard error is read by the process that started it
        logs.configure(settings.run.log_level, settings.run.log_format, whole=not is_worker)
        command(settings=settings, **given)

    own = [each for each in inspect.signature(command, eval_str=True).parameters.values() if each.name != "settings"]
    file = Annotated[Path | None, typer.Option(help="A TOML file of settings.", rich_help_panel=HOW)]
    from_settings = [(name[1], flag_of(name, command.__name__)) for name in flags] + [("config", file)]
    own += [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind) for name, kind in from_settings]
    wrapped.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {each.name: each.annotation for each in own}
    return wrapped


@cache
def flag_of(name: Name, command: str) -> Any:
    """The annotation of a setting's flag: its help, choices and default are those of `default.toml`."""
    kind, default, words = kind_of(name), defaults()[name].value, explained()[name]
    words = escape(words[:1].upper() + words[1:]) + "."
    choices = kind.split("|") if "|" in kind else []
    is_switch, is_list = kind == "true|false", "," in kind
    type_of: Any = bool | None if is_switch else list[str] | None if is_list else str | None
    metavar = kind if choices and len(kind) <= MOST_METAVAR else f"<{'name' if choices or is_list else kind.split()[-1]}>"
    return Annotated[
        type_of,
        typer.Option(
            *([SPELLED[name[1]]] if name[1] in SPELLED else []),
            help=words if default in ("", 0) else rf"{words} \[default: {shown(default)}]",
            metavar=None if is_switch else metavar,
            autocompletion=None if is_switch or not choices else lambda: choices,
            rich_help_panel=GROUPS[name[0]],
            show_default=False,
            hidden=not is_shown(name, command),
        ),
    ]


def shown(value: object) -> str:
    """A value as a settings file has it, without quotes: `true`, `10m`, `0.5`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def duration_of(name: str, text: str | None) -> int | None:
    """A duration on the command line in microseconds. Raises BadCommand."""
    if text is None:
        return None
    try:
        return microseconds(text)
    except ValueError as error:
        raise BadCommand(f"{name} {text}: {error}") from error


Include = Annotated[
    str,
    typer.Option(help="Kinds of channels: channels (public), groups (private), dms, mpims, unlisted.", metavar="<names>"),
]
"""--include, wherever an export is opened."""
