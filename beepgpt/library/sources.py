"""Settings from keywords, and events of a source: an export, a file or a topic."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

from beepgpt.config.settings import NAMES, BadSettings, Settings, read_settings
from beepgpt.conversations.chunks import Chunk
from beepgpt.conversations.forgetting import Forgotten, without_forgotten
from beepgpt.conversations.rules import Rules
from beepgpt.library.arguments import kinds_in
from beepgpt.library.chat_events import ChatEvent
from beepgpt.runtime.forgotten import forgotten_of
from beepgpt.runtime.places import NOBODY, WAIT, Origin, origin_of, source_of

READING = ("conversations", "run", "kafka")
"""Sections of the settings that what reads events and makes examples knows."""


def settings_of(given: Mapping[str, object], sections: Sequence[str] = READING, config: str | Path | None = None) -> Settings:
    """The settings: keywords before `BEEPGPT_…` variables, these before the file, these before the defaults, as on the command line.

    Raises BadSettings with all that is wrong.

    >>> settings_of({"horizon": timedelta(hours=4), "window": 8}).rules.horizon
    14400000000
    >>> settings_of({"horizont": "4h"})
    Traceback (most recent call last):
    beepgpt.config.settings.BadSettings: horizont= is unknown; did you mean horizon=?
    """
    overrides: dict[str, dict[str, object]] = {}
    for name, value in given.items():
        section = next((each for each in sections if (each, name) in NAMES), sections[0])
        overrides.setdefault(section, {})[name] = (
            f"{value // timedelta(microseconds=1)}us" if isinstance(value, timedelta) else str(value) if isinstance(value, Path) else value
        )
    overrides.setdefault("run", {}).setdefault("progress", False)
    try:
        return read_settings(None if config is None else Path(config), overrides)
    except BadSettings as error:
        raise BadSettings([_as_keyword(each) for each in error.problems]) from None


def _as_keyword(problem: str) -> str:
    """A problem with a flag, as one with a keyword."""
    return re.sub(r"--(?:no-)?([a-z]+(?:-[a-z]+)*)", lambda flag: f"{flag[1].replace('-', '_')}=", problem)


def rules(*, config: str | Path | None = None, **settings: object) -> Rules:
    """The rules that shape examples: settings by their names, all others as `beepgpt settings examples` lists them. Raises BadSettings.

    Durations are text (`"1h 30m"`) or `timedelta`s. `config`: a TOML file of settings.

    >>> rules(horizon="4h", candidates=False).horizon // 3_600_000_000
    4
    >>> rules(horizon="soon")
    Traceback (most recent call last):
    beepgpt.config.settings.BadSettings: horizon= is 'soon': must be a duration like 500ms, 10m, 1h 30m or 30 days, or unlimited
    """
    return settings_of(settings, ("conversations",), config).rules


def origin_at(source: str | Path, include: str | Sequence[str]) -> Origin:
    """An inspected source. Raises BadCommand, BadExport or CannotRead."""
    return origin_of(str(source), kinds_in("include=", include))


def read_events(
    source: str | Path, *, include: str | Sequence[str] = "channels", config: str | Path | None = None, **settings: object
) -> Iterator[ChatEvent]:
    """Every record of a source, in its order, as a ChatEvent: what can't be used says why, and what is forgotten alone is left out.

    `source`: an export (zip or folder), a `.jsonl` of events, or `kafka://host:port/topic` or `sqlite:///folder/topic`. `include`: kinds
    of an export's channels beside the public ones: groups, dms, mpims, unlisted. Settings (`bots="context"`) are those of `rules`, and of
    the connection to Kafka. Raises BadCommand, BadExport or CannotRead.

    >>> from tempfile import mkdtemp
    >>> from beepgpt.library.workspaces import simulate
    >>> events = list(read_events(simulate(f"{mkdtemp()}/workspace.zip", messages=200)))
    >>> sorted({event.kind for event in events}), next(event.user for event in events if event.kind == "post")
    (['edit', 'ignored', 'post', 'react'], 'U4EKHRNUHMO')
    """
    found = settings_of(settings, config=config)
    return _events_in(chunks_of(origin_at(source, include), found), found.rules, forgotten_of(found))


def _events_in(chunks: Iterable[Chunk], rules: Rules, forgotten: Forgotten | None) -> Iterator[ChatEvent]:
    for partition, first, values in chunks:
        for number, value in enumerate(values, first):
            kept = value if forgotten is None else without_forgotten_in(value, forgotten)
            if kept is not None:
                yield ChatEvent.from_value(partition, number, kept, rules)


def without_forgotten_in(value: Any, forgotten: Forgotten) -> Any:
    """A value of a chunk without what is forgotten; None if nothing is left of it."""
    if isinstance(value, bytes):
        return without_forgotten(value, forgotten)
    if not hasattr(value, "offset"):
        return None if forgotten.in_bytes(value.record) else value
    kept = None if value.value is None else without_forgotten(value.value, forgotten)
    return value if kept is value.value else None if kept is None else value._replace(value=kept)


def chunks_of(origin: Origin, settings: Settings) -> Iterator[Chunk]:
    """The chunks of a source, without an engine; of its partitions in turn, since one that is followed has no end."""
    source: Any = source_of(origin, settings, NOBODY)
    with ExitStack() as stack:
        partitions = [stack.enter_context(closing(source.build_part("read_records", name, None))) for name in source.list_parts()]
        while partitions:
            found = False
            for partition in list(partitions):
                try:
                    chunks = [each for each in partition.next_batch() if each[2]]
                except StopIteration:
                    partitions.remove(partition)
                    continue
                found = found or bool(chunks)
                yield from chunks
            if partitions and not found:
                time.sleep(WAIT)
