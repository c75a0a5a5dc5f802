"""Settings: one frozen value, read once, from files, the environment and flags."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from conversations.rules import DAY, HOUR, MINUTE, SECOND, BadRules, Bots, Edits, Encoding, Rules, Scope, Target

DEFAULTS = Path(__file__).with_name("default.toml")
PREFIX = "BEEPGPT_"
CONFIG = PREFIX + "CONFIG"

UNITS = {"us": 1, "ms": 1000, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
WORDS = {"second": "s", "sec": "s", "minute": "m", "min": "m", "hour": "h", "day": "d", "week": "w"}


class BadSettings(ValueError):
    """Everything that is wrong with the settings, a line each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def microseconds(text: object) -> int:
    """A duration, exactly.

    >>> microseconds("10m"), microseconds("1h 30m"), microseconds("30 days")
    (600000000, 5400000000, 2592000000000)
    """
    if not isinstance(text, str) or not re.fullmatch(r"(\s*[0-9]+\s*[a-z]+)+\s*", text):
        raise ValueError(_A_DURATION)
    total = 0
    for count, unit in re.findall(r"([0-9]+)\s*([a-z]+)", text):
        short = unit if unit in UNITS else WORDS.get(unit.removesuffix("s"))
        if short is None:
            raise ValueError(_A_DURATION)
        total += int(count) * UNITS[short]
    return total


def microseconds_or_unlimited(text: object) -> int | None:
    """A duration, or `None` for a horizon without an end."""
    if text == "unlimited":
        return None
    try:
        return microseconds(text)
    except ValueError as error:
        raise ValueError(f"{error}, or unlimited") from error


_A_DURATION = "must be a duration like 500ms, 10m, 1h 30m or 30 days"

Duration = Annotated[int, BeforeValidator(microseconds)]


class Conversations(BaseModel):
    """The `Rules`, as they are written in settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workspace: str
    target: Target
    scope: Scope
    horizon: Annotated[int | None, BeforeValidator(microseconds_or_unlimited)]
    lateness: Duration
    session_gap: Duration
    window: int
    thread_ttl: Duration
    kept_roots: int
    kept_people: int
    max_prompt_tokens: int
    encoding: Encoding
    edits: Edits
    bots: Bots
    candidates: bool
    max_candidates: int
    remember: Duration


class Run(BaseModel):
    """How a command runs, whatever it makes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: Annotated[int, Field(ge=1)]
    snapshot_every: Annotated[Duration, Field(gt=0)]
    """Microseconds."""
    progress: bool
    log_level: Literal["debug", "info", "warning", "error"]


class Settings(BaseModel):
    """All that can be set, a section a field; every default stands in `default.toml`, and secrets are `SecretStr`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    conversations: Conversations
    run: Run

    @property
    def rules(self) -> Rules:
        """What shapes an example."""
        return Rules(**self.conversations.model_dump())


Name = tuple[str, ...]
"""A setting's section and name; a misspelt one may have more parts, or fewer."""


@dataclass(frozen=True, slots=True)
class Given:
    """A setting's value, and where it comes from in the words of whoever gave it."""

    value: object
    told: str


def read_settings(
    path: Path | None = None,
    overrides: Mapping[str, Mapping[str, object]] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """`default.toml`, then the user's file, then `BEEPGPT_…` variables, then flags (`None`: not given); the later one wins.

    >>> settings = read_settings(overrides={"conversations": {"horizon": "unlimited"}}, environ={"BEEPGPT_RUN__WORKERS": "2"})
    >>> settings.rules.horizon, settings.run.workers
    (None, 2)
    >>> read_settings(overrides={"run": {"workers": 0}}, environ={"BEEPGPT_RUN__WORKER": "2"})
    Traceback (most recent call last):
    config.settings.BadSettings: BEEPGPT_RUN__WORKER is unknown; did you mean BEEPGPT_RUN__WORKERS?
    --workers is 0: must be greater than or equal to 1
    """
    if path is None and environ.get(CONFIG):
        path = Path(environ[CONFIG])
    defaults = _from_toml(DEFAULTS)
    told = [_from_toml(path) if path else {}, _from_environment(environ), _from_flags(overrides or {})]
    problems = [_unknown(name, each.told, defaults) for layer in told for name, each in layer.items() if name not in defaults]
    given = defaults | told[0] | told[1] | told[2]
    known = {name: given[name] for name in defaults}
    problems += [f"{known[name].told} is {known[name].value!r}: {allowed}" for name, allowed in _violations(known, defaults)]
    if problems:
        raise BadSettings(problems)
    return Settings.model_validate(_nested(known))


def _from_toml(path: Path) -> dict[Name, Given]:
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadSettings([f"the configuration file {path} can't be read: {reason}"]) from error
    file = path.name if path == DEFAULTS else path
    return {name: Given(value, f"{'.'.join(name)} in {file}") for name, value in _leaves(table)}


def _from_environment(environ: Mapping[str, str]) -> dict[Name, Given]:
    ours = {name: value for name, value in environ.items() if name.startswith(PREFIX) and name != CONFIG}
    return {tuple(name.removeprefix(PREFIX).lower().split("__")): Given(value, name) for name, value in sorted(ours.items())}


def _from_flags(overrides: Mapping[str, Mapping[str, object]]) -> dict[Name, Given]:
    return {name: Given(value, _flag(name, value)) for name, value in _leaves(overrides) if value is not None}


def _flag(name: Name, value: object = None) -> str:
    return ("--no-" if value is False else "--") + name[-1].replace("_", "-")


def _leaves(table: Mapping[str, Any]) -> Iterator[tuple[Name, Any]]:
    """Every value with its section and name; what stands outside a section has a name of one part."""
    for section, values in table.items():
        if isinstance(values, Mapping):
            yield from (((section, name), value) for name, value in values.items())
        else:
            yield (section,), values


def _nested(given: Mapping[Name, Given]) -> dict[str, dict[str, object]]:
    table: dict[str, dict[str, object]] = {}
    for (section, name), each in given.items():
        table.setdefault(section, {})[name] = each.value
    return table


def _unknown(name: Name, told: str, known: Mapping[Name, Given]) -> str:
    """Names what is unknown and what was perhaps meant, both in the form that was used."""
    if told.startswith(PREFIX):
        names = ["CONFIG"] + ["__".join(each).upper() for each in known]
        near = [PREFIX + each for each in get_close_matches(told.removeprefix(PREFIX), names, n=1)]
    elif told.startswith("--"):
        near = get_close_matches(told, [_flag(each, value) for each in known for value in (True, False)], n=1)
    else:
        near = get_close_matches(".".join(name), [".".join(each) for each in known], n=1)
    return f"{told} is unknown" + (f"; did you mean {near[0]}?" if near else "")


def _violations(known: Mapping[Name, Given], defaults: Mapping[Name, Given]) -> Iterator[tuple[Name, str]]:
    """Everything that can't be, and what is allowed: first each value alone, then the rules as a whole."""
    bad: dict[Name, str] = {}
    try:
        Settings.model_validate(_nested(known))
    except ValidationError as error:
        bad = {tuple(map(str, each["loc"][:2])): _allowed(each["msg"]) for each in error.errors()}
    yield from bad.items()
    try:  # with defaults for what can't be read, so that the other violations are named in the same breath
        _ = Settings.model_validate(_nested({**known, **{name: defaults[name] for name in bad}})).rules
    except BadRules as error:
        named = [(("conversations", name), f"must be {allowed}") for name, allowed in error.wrong]
        yield from ((name, allowed) for name, allowed in named if name not in bad)


def _allowed(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should be", "must be").partition(", unable")[0]
