"""What commands have in common: settings as flags, times, and how a wrong command says so."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from beepgpt.config.sections import microseconds
from beepgpt.config.settings import DEFAULTS, FLAGGED, Settings, read_settings
from beepgpt.connectors.slack import export as slack_export
from beepgpt.conversations.events import micros
from beepgpt.errors import BadCommand
from beepgpt.runtime import logs


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command a flag for every setting that has one, and pass it the resulting settings. Configures logging."""
    sections = {name: Settings.model_fields[name].annotation for name in FLAGGED}
    flags = {name: section for section, model in sections.items() for name in model.model_fields}  # type: ignore[union-attr]

    @wraps(command)
    def wrapped(**given: Any) -> None:
        overrides: dict[str, dict[str, object]] = {section: {} for section in sections}
        for name, section in flags.items():
            overrides[section][name] = given.pop(name)
        path = given.pop("config")
        settings = read_settings(path, overrides)
        is_worker = given.get("worker") is not None  # whose standard error is read by the process that started it
        logs.configure(settings.run.log_level, settings.run.log_format, whole=not is_worker)
        command(settings=settings, **given)

    own = [each for each in inspect.signature(command, eval_str=True).parameters.values() if each.name != "settings"]
    from_settings: list[inspect.Parameter] = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_flag(name, sections[section]))
        for name, section in flags.items()
    ]
    file = Annotated[Path | None, typer.Option(help="A TOML file of settings.", rich_help_panel="Settings")]
    from_settings.append(inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=file))
    wrapped.__signature__ = inspect.Signature([*own, *from_settings])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {each.name: each.annotation for each in (*own, *from_settings)}
    return wrapped


def _flag(name: str, section: Any) -> Any:
    kind = bool if section.model_fields[name].annotation is bool else str
    comment = re.search(rf"^{name} = .*?# (.*)$", DEFAULTS.read_text("utf-8"), re.MULTILINE)
    return Annotated[kind | None, typer.Option(help=comment[1] if comment else None, rich_help_panel="Settings", show_default=False)]


def time_of(name: str, text: str | None) -> int | None:
    """A time on the command line in microseconds since 1970: Slack's seconds, or ISO 8601 (UTC if it names no zone). Raises BadCommand."""
    if text is None:
        return None
    with suppress(ValueError):
        return micros(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadCommand(f"{name} {text}: a time like 2024-01-31T12:00:00Z or 1706702400.000000 is expected") from None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


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
    typer.Option(
        help="Kinds of channels of an export or live Slack, joined by commas: channels (public), groups (private), dms,"
        " mpims (group direct messages); unlisted: folders that no listing shows to be public. Files and topics of events are read whole."
    ),
]
"""--include, wherever an export is opened."""


def kinds_of(include: str) -> tuple[slack_export.ChannelKind, ...]:
    """The kinds of channels in `--include`, in their order. Raises BadCommand."""
    chosen = {kind.strip() for kind in include.split(",")}
    if unknown := chosen - set(slack_export.KINDS):
        raise BadCommand(f"--include {', '.join(sorted(unknown))}: must be of {', '.join(slack_export.KINDS)}")
    return tuple(kind for kind in slack_export.KINDS if kind in chosen)
