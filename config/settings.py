"""Settings: one frozen value, read once, from files, the environment and flags."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BeforeValidator, SecretStr, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from beepgpt import clock
from beepgpt.config.sections import (
    FORMATS,
    AlertSettings,
    ClusterSettings,
    ConversationSettings,
    KafkaSettings,
    LabelingSettings,
    ProviderSettings,
    RunSettings,
    ScoringSettings,
    SlackSettings,
    TrainingSettings,
    formats_of,
    microseconds,
    microseconds_of_moment,
    microseconds_or_none,
    microseconds_or_unlimited,
    minute_of_day,
    minutes_of_day,
    whole_or_auto,
)
from beepgpt.conversations.rules import BadRules, Rules
from beepgpt.errors import BeepGPTError

DEFAULTS = Path(__file__).with_name("default.toml")
PREFIX = "BEEPGPT_"
CONFIG = PREFIX + "CONFIG"
_SOURCES: ContextVar[tuple[PydanticBaseSettingsSource, ...]] = ContextVar("_SOURCES", default=())
"""The sources of `read_settings`: the hook below is a class method, which takes no more arguments."""
Name = tuple[str, ...]
"""A setting's section and name; a misspelt one may have more parts or fewer."""
SECRET = (
    *(("kafka", "password"), ("kafka", "key_password"), ("provider", "key"), ("provider", "proxy")),
    *(("slack", "app_token"), ("slack", "bot_token"), ("slack", "signing_secret"), ("slack", "proxy")),
    *(("alerts", "webhook"), ("alerts", "webhook_secret"), ("alerts", "webhook_proxy")),
)
"""Settings that are never printed."""


class BadSettings(BeepGPTError):
    """The settings are wrong; the message has a line for each problem."""

    exit_status = 2

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class Settings(BaseSettings):
    """All settings, a field for each section. Defaults are in `default.toml`; secrets are `SecretStr`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid")

    conversations: ConversationSettings
    run: RunSettings
    kafka: KafkaSettings
    cluster: ClusterSettings
    labeling: LabelingSettings
    provider: ProviderSettings
    training: TrainingSettings
    slack: SlackSettings
    scoring: ScoringSettings
    alerts: AlertSettings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flag, variables, the user's file, `default.toml`; the first with a value wins."""
        return init_settings, *_SOURCES.get()

    @property
    def rules(self) -> Rules:
        """The rules that shape examples. Raises BadRules."""
        return Rules(**self.conversations.model_dump())


NAMES: list[Name] = [
    (section, name) for section, field in Settings.model_fields.items() for name in getattr(field.annotation, "model_fields", ())
]


@dataclass(frozen=True, slots=True)
class SettingOrigin:
    """A setting's value, and the flag, variable or entry that set it, as a message shows it."""

    value: object
    shown: str


class Variables(EnvSettingsSource):
    """`BEEPGPT_…` variables of a mapping; `given` has the unknown ones, too."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.given = _from_environment(environ)
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str]:
        return {(PREFIX + "__".join(name)).lower(): str(self.given[name].value) for name in NAMES if name in self.given}


class TomlFile(TomlConfigSettingsSource):
    """A TOML file, which must exist; `given` has unknown settings, too. Raises BadSettings."""

    def __init__(self, path: Path) -> None:
        super().__init__(Settings, path)
        file = path.name if path == DEFAULTS else path
        self.given = {name: SettingOrigin(value, f"{'.'.join(name)} in {file}") for name, value in _leaves(self.toml_data)}

    def _read_files(self, files: Any, deep_merge: bool = False) -> dict[str, Any]:
        try:
            return self._read_file(files)  # pydantic's own method ignores a missing file
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            if isinstance(error, tomllib.TOMLDecodeError) and str(error).startswith("Invalid value"):
                reason = f"{error}; text needs quotes"
            raise BadSettings([f"the configuration file {files} can't be read: {reason}"]) from error

    def __call__(self) -> dict[str, Any]:
        return _nested(self.given)


def read_settings(
    path: Path | None = None, overrides: Mapping[str, Mapping[str, object]] | None = None, environ: Mapping[str, str] = os.environ
) -> Settings:
    """Read settings from `default.toml`, the user's file, `BEEPGPT_…` variables and flags (None: not given); the last one wins.

    `path`: the user's file, else the one that BEEPGPT_CONFIG names. Raises BadSettings with all that is wrong.

    >>> settings = read_settings(overrides={"conversations": {"horizon": "unlimited"}}, environ={"BEEPGPT_RUN__WORKERS": "2"})
    >>> settings.rules.horizon, settings.run.workers
    (None, 2)
    >>> read_settings(overrides={"run": {"workers": 0}}, environ={"BEEPGPT_RUN__WORKER": "2"})
    Traceback (most recent call last):
    beepgpt.config.settings.BadSettings: BEEPGPT_RUN__WORKER is unknown; did you mean BEEPGPT_RUN__WORKERS?
    --workers is 0: must be greater than or equal to 1
    """
    files = [TomlFile(each) for each in (file_of(path, environ), DEFAULTS) if each]
    variables, flags = Variables(environ), _from_flags(overrides or {})
    layers = [*(each.given for each in reversed(files)), variables.given, flags]
    problems = [_unknown(name, each.shown) for layer in layers for name, each in layer.items() if name not in NAMES]
    given = {name: each for layer in layers for name, each in layer.items()}
    token = _SOURCES.set((variables, *files))
    try:
        wrong = list(_violations(flags, layers[0]))
        problems += [
            f"{given[name].shown} is {'a secret' if name in SECRET else repr(given[name].value)}: {allowed}" for name, allowed in wrong
        ]
        if problems:
            raise BadSettings(problems)
        return Settings(**_nested(flags))
    finally:
        _SOURCES.reset(token)


def file_of(path: Path | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The user's file of settings: as given, else the one that BEEPGPT_CONFIG names; None if there is none."""
    return path or (Path(environ[CONFIG]) if environ.get(CONFIG) else None)


def origins_of(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> dict[Name, SettingOrigin]:
    """Every setting as it was written, and where: a variable, the user's file, or `default.toml`. Raises BadSettings."""
    read_settings(path, environ=environ)
    layers = [TomlFile(each).given for each in (DEFAULTS, file_of(path, environ)) if each]
    given = {name: each for layer in (*layers, Variables(environ).given) for name, each in layer.items()}
    return {name: given[name] for name in NAMES}


def kind_of(name: Name) -> str:
    """What a setting's value must be: its choices, or the kind of value.

    >>> kind_of(("conversations", "bots")), kind_of(("conversations", "horizon")), kind_of(("run", "workers")), kind_of(("run", "progress"))
    ('ignore|context', 'duration', 'auto or whole number', 'true|false')
    >>> kind_of(("kafka", "password")), kind_of(("training", "cut")), kind_of(("training", "format"))
    ('secret', 'time', 'chat,completion,candidates,examples')
    """
    field = Settings.model_fields[name[0]].annotation.model_fields[name[1]]  # type: ignore[union-attr]
    parsers = {each.func for each in field.metadata if isinstance(each, BeforeValidator)}
    if parsed := [kind for parser, kind in PARSED.items() if parser in parsers]:
        return parsed[0]
    kinds = [each for each in (field.annotation, *get_args(field.annotation)) if each is not type(None)]
    if choices := [each for kind in kinds if get_origin(kind) is Literal for each in get_args(kind)]:
        return "|".join(choices)
    return next((shown for kind, shown in KINDS.items() if kind in kinds), "text")


PARSED: dict[object, str] = {
    microseconds: "duration",
    microseconds_or_unlimited: "duration",
    microseconds_or_none: "duration",
    microseconds_of_moment: "time",
    minutes_of_day: "times like 22:00-07:00",
    minute_of_day: "time like 09:00",
    formats_of: ",".join(FORMATS),
    whole_or_auto: "auto or whole number",
}
KINDS: dict[object, str] = {bool: "true|false", int: "whole number", float: "number", Path: "path", SecretStr: "secret"}


@cache
def defaults() -> dict[Name, SettingOrigin]:
    """Every setting as `default.toml` has it."""
    return TomlFile(DEFAULTS).given


@cache
def explained() -> dict[Name, str]:
    """What each setting is for, by the comments of `default.toml`."""
    found: dict[Name, str] = {}
    section = ""
    for line in DEFAULTS.read_text("utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif match := re.match(r"(\w+) = .*?# (.*)$", line):
            found[section, match[1]] = match[2]
    return found


def revealed(secret: SecretStr | None) -> str:
    """A secret's value; empty if it is not given."""
    return "" if secret is None else secret.get_secret_value()


def _from_environment(environ: Mapping[str, str]) -> dict[Name, SettingOrigin]:
    ours = {name: value for name, value in environ.items() if name.startswith(PREFIX) and name not in (CONFIG, clock.VARIABLE)}
    return {tuple(name.removeprefix(PREFIX).lower().split("__")): SettingOrigin(value, name) for name, value in sorted(ours.items())}


def _from_flags(overrides: Mapping[str, Mapping[str, object]]) -> dict[Name, SettingOrigin]:
    return {name: SettingOrigin(value, _flag(name, value)) for name, value in _leaves(overrides) if value is not None}


def _flag(name: Name, value: object = None) -> str:
    return ("--no-" if value is False else "--") + name[-1].replace("_", "-")


def _leaves(table: Mapping[str, Any]) -> Iterator[tuple[Name, Any]]:
    """All values by section and name; a value outside a section has a name of one part."""
    for section, values in table.items():
        if isinstance(values, Mapping):
            yield from (((section, name), value) for name, value in values.items())
        else:
            yield (section,), values


def _nested(given: Mapping[Name, SettingOrigin]) -> dict[str, Any]:
    """Known settings as a table for each section."""
    table: dict[str, Any] = {}
    for section, name in NAMES:
        if (section, name) in given:
            table.setdefault(section, {})[name] = given[section, name].value
    return table


def _unknown(name: Name, shown: str) -> str:
    """The message for an unknown setting, with a similar name in the same form."""
    near = _near(name)
    if shown.startswith(PREFIX):
        meant = CONFIG if _alike(shown.removeprefix(PREFIX), "CONFIG") >= ALIKE else near and PREFIX + "__".join(near).upper()
    elif shown.startswith("--"):
        meant = near and _flag(near, False if shown.startswith("--no-") else None)
    else:
        meant = near and ".".join(near)
    return f"{shown} is unknown" + (f"; did you mean {meant}?" if meant else "")


ALIKE = 0.65
"""How alike two names are, from 0 to 1, for one to be meant by the other."""


def _alike(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()


def _near(name: Name) -> Name | None:
    """The setting that is meant by a misspelt one: section and name are alike, each for itself, or the name stands in another section.

    >>> _near(("conversations", "horizont")), _near(("conversation", "horizon")), _near(("training", "horizon"))
    (('conversations', 'horizon'), ('conversations', 'horizon'), ('conversations', 'horizon'))
    >>> _near(("conversations", "colour"))
    """
    section, own = name[0] if len(name) > 1 else "", name[-1]
    found = [(_alike(own, each[1]), _alike(section, each[0]) if section else 1.0, each) for each in NAMES]
    good = [each for each in found if each[0] == 1 or min(each[:2]) >= ALIKE]
    return max(good, default=(0.0, 0.0, None), key=lambda each: (each[0] + each[1], each[0]))[2]


def _violations(flags: Mapping[Name, SettingOrigin], defaults: Mapping[Name, SettingOrigin]) -> Iterator[tuple[Name, str]]:
    """All wrong values and what is allowed: first each value alone, then the rules as a whole."""
    bad: dict[Name, str] = {}
    try:
        Settings(**_nested(flags))
    except ValidationError as error:
        bad = {tuple(map(str, each["loc"][:2])): _allowed(each["msg"]) for each in error.errors()}
    yield from bad.items()
    try:  # with defaults for unreadable values, so that all violations are shown together
        _ = Settings(**_nested({**flags, **{name: defaults[name] for name in bad}})).rules
    except BadRules as error:
        named = [(("conversations", name), f"must be {allowed}") for name, allowed in error.wrong]
        yield from ((name, allowed) for name, allowed in named if name not in bad)


def _allowed(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should be", "must be").partition(", unable")[0]
