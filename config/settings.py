"""Settings: one frozen value, read once, from files, the environment and flags."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from beepgpt.conversations.rules import DAY, HOUR, MINUTE, SECOND, BadRules, Bots, Edits, EncodingName, Rules, Scope, Target
from beepgpt.errors import BeepGPTError

DEFAULTS = Path(__file__).with_name("default.toml")
PREFIX = "BEEPGPT_"
CONFIG = PREFIX + "CONFIG"

UNITS = {"us": 1, "ms": 1000, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
WORDS = {"second": "s", "sec": "s", "minute": "m", "min": "m", "hour": "h", "day": "d", "week": "w"}


class BadSettings(BeepGPTError):
    """Everything that is wrong with the settings, a line each."""

    exit_status = 2

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


def whole(value: object) -> object:
    """What may be a whole number: `true` is none, and neither is 5.0, whatever Python says."""
    if isinstance(value, bool | float):
        raise ValueError("must be a valid integer")
    return value


WholeNumber = Annotated[int, BeforeValidator(whole)]


class ConversationSettings(BaseModel):
    """The `Rules`, as they are written in settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workspace: str
    target: Target
    scope: Scope
    horizon: Annotated[int | None, BeforeValidator(microseconds_or_unlimited)]
    lateness: Duration
    session_gap: Duration
    window: WholeNumber
    thread_ttl: Duration
    kept_roots: WholeNumber
    kept_people: WholeNumber
    max_prompt_tokens: WholeNumber
    encoding: EncodingName
    edits: Edits
    bots: Bots
    candidates: bool
    max_candidates: WholeNumber
    remember: Duration


class RunSettings(BaseModel):
    """How a command runs, whatever it makes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: Annotated[WholeNumber, Field(ge=1)]
    snapshot_every: Annotated[Duration, Field(gt=0)]
    """Microseconds."""
    progress: bool
    log_level: Literal["debug", "info", "warning", "error"]
    log_format: Literal["text", "json"]
    metrics_port: Annotated[WholeNumber, Field(ge=0, le=65_535)]
    metrics_host: str
    idle_clock: Literal["log", "wall"]


def or_none(value: object) -> object:
    """TOML has no null: an empty text stands for what isn't given."""
    return None if value == "" else value


Optional = BeforeValidator(or_none)


class KafkaSettings(BaseModel):
    """How the brokers are reached, and what the topics beside SOURCE and DEST are called."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
    mechanism: Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None, Optional]
    user: Annotated[str | None, Optional]
    password: Annotated[SecretStr | None, Optional]
    ca_file: Annotated[Path | None, Optional]
    cert_file: Annotated[Path | None, Optional]
    key_file: Annotated[Path | None, Optional]
    key_password: Annotated[SecretStr | None, Optional]
    patience: Annotated[Duration, Field(ge=SECOND)]
    """Microseconds."""
    group: Annotated[str | None, Optional]
    late_topic: Annotated[str, Field(min_length=1)]
    dead_letter_topic: Annotated[str, Field(min_length=1)]


class ClusterSettings(BaseModel):
    """What a flow reads and writes in Bytewax's own runner, which has no command line of ours."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    to: str
    outcomes: str
    model: Annotated[Path | None, Optional]


class LabelingSettings(BaseModel):
    """Which examples teach something: who says so, and what that may cost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labeler: Literal["local", "rules", "provider"]
    few_shots: Path
    instructions: Annotated[Path | None, Optional]
    learn_from: Annotated[Path | None, Optional]
    max_few_shots: Annotated[WholeNumber, Field(ge=0)]
    summarise: Annotated[WholeNumber, Field(ge=0)]
    """Tokens; 0: never."""
    max_cost: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """USD."""
    batch: bool
    store: Annotated[Path | None, Optional]
    prices: Annotated[Path | None, Optional]


class ProviderSettings(BaseModel):
    """Whose model is asked, and how much it may be asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allow_external: bool
    base_url: Annotated[str, Field(pattern="^https?://")]
    key: Annotated[SecretStr | None, Optional]
    organisation: Annotated[str | None, Optional]
    project: Annotated[str | None, Optional]
    model: Annotated[str, Field(min_length=1)]
    way: Literal["chat", "decisions"]
    effort: str
    logprobs: bool
    max_tokens: Annotated[WholeNumber, Field(ge=1)]
    concurrency: Annotated[WholeNumber, Field(ge=1, le=1000)]
    requests_per_minute: Annotated[WholeNumber, Field(ge=0)]
    tokens_per_minute: Annotated[WholeNumber, Field(ge=0)]
    tries: Annotated[WholeNumber, Field(ge=1)]
    deadline: Annotated[Duration, Field(ge=SECOND)]
    """Microseconds."""
    timeout: Annotated[Duration, Field(ge=SECOND)]
    api_version: Annotated[str | None, Optional]
    exclude_channels: str
    exclude_people: str


class SlackSettings(BaseModel):
    """The app by which events come live, and how far they are trusted to be all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    app_token: Annotated[SecretStr | None, Optional]
    bot_token: Annotated[SecretStr | None, Optional]
    signing_secret: Annotated[SecretStr | None, Optional]
    base_url: Annotated[str, Field(pattern="^https?://")]
    connections: Annotated[WholeNumber, Field(ge=1, le=10)]
    delay: Annotated[Duration, Field(gt=0)]
    """Microseconds."""
    check: Annotated[Duration, Field(gt=0)]
    """Microseconds."""
    look_back: Duration
    """Microseconds."""
    calls_per_minute: Annotated[WholeNumber, Field(ge=1)]
    shared: bool
    interactions_topic: Annotated[str, Field(min_length=1)]


def microseconds_of_moment(text: object) -> int | None:
    """A moment as Slack's seconds or in ISO 8601 (UTC if it names no zone), exactly; empty for none.

    >>> microseconds_of_moment("2022-12-07T22:58:13Z")
    1670453893000000
    """
    if text == "":
        return None
    if isinstance(text, str) and (found := re.fullmatch(r"([0-9]{9,10})(?:\.([0-9]{1,6}))?", text)):
        return int(found[1]) * SECOND + int((found[2] or "").ljust(6, "0"))
    try:
        moment = datetime.fromisoformat(text if isinstance(text, str) else "")
    except ValueError:
        raise ValueError("must be a time like 2024-01-31T12:00:00Z or 1706702400.000000") from None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def none_for_zero(value: object) -> object:
    """Where 0 means that there is no limit, or that something is not known."""
    return None if value in (0, "0") else value


def formats_of(text: object) -> tuple[str, ...] | None:
    """Names joined by commas, each once; none for what the examples have."""
    named = tuple(dict.fromkeys(each.strip() for each in text.split(",") if each.strip())) if isinstance(text, str) else ()
    if set(named) - set(FORMATS) or (not named and text != ""):
        raise ValueError(f"must be of {', '.join(FORMATS)}, joined by commas")
    return named or None


FORMATS = ("chat", "completion", "candidates", "examples")


class TrainingSettings(BaseModel):
    """How a training set is made of examples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[str, Field(min_length=1)]
    encoding: Annotated[EncodingName | None, Optional]
    """Of a model that isn't known."""
    format: Annotated[tuple[Literal["chat", "completion", "candidates", "examples"], ...] | None, BeforeValidator(formats_of)]
    valid_share: Annotated[float, Field(gt=0, lt=1)]
    cut: Annotated[int | None, BeforeValidator(microseconds_of_moment)]
    """Microseconds."""
    answers: Literal["one", "each", "all"]
    min_answers: Annotated[WholeNumber, Field(ge=1)]
    silences: Literal["nil", "drop"]
    weak: Literal["nil", "drop"]
    cap: Annotated[int | None, Field(ge=1), BeforeValidator(none_for_zero), BeforeValidator(whole)]
    balance: Annotated[float | None, Field(gt=0, allow_inf_nan=False), BeforeValidator(none_for_zero)]
    max_characters: Annotated[int | None, Field(ge=1), BeforeValidator(none_for_zero), BeforeValidator(whole)]
    max_tokens: Annotated[int | None, Field(ge=1), BeforeValidator(none_for_zero), BeforeValidator(whole)]
    system: str
    price: Annotated[float | None, Field(gt=0, allow_inf_nan=False), BeforeValidator(none_for_zero)]
    """USD for a million trained tokens."""


class ScoringSettings(BaseModel):
    """How points are scored as they come: whose turn it is, how long that may take, and who is told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    deadline: Annotated[Duration, Field(gt=0)]
    """Microseconds, as all durations."""
    concurrency: Annotated[WholeNumber, Field(ge=1, le=1000)]
    batch: Annotated[WholeNumber, Field(ge=1)]
    people: Annotated[WholeNumber, Field(ge=1)]
    candidates: bool
    threshold: Annotated[float | None, Field(gt=0, lt=1), BeforeValidator(none_for_zero)]
    clock: Literal["wall", "log"]
    watch: Annotated[Duration, Field(gt=0)]


def minutes_of_day(text: object) -> tuple[int, int]:
    """Quiet hours: from and to, in minutes; twice the same where no hour is.

    >>> minutes_of_day("22:00-07:30"), minutes_of_day("")
    ((1320, 450), (0, 0))
    """
    if text == "":
        return (0, 0)
    time = r"([01][0-9]|2[0-3]):([0-5][0-9])"
    found = re.fullmatch(rf"{time}\s*-\s*{time}", text) if isinstance(text, str) else None
    if found is None:
        raise ValueError("must be two times like 22:00-07:00")
    return int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])


def minute_of_day(text: object) -> int | None:
    """A time of the day, in minutes; empty for none."""
    return None if text == "" else minutes_of_day(f"{text}-00:00")[0] if isinstance(text, str) else minutes_of_day(text)[0]


class AlertSettings(BaseModel):
    """Who is told of which conversation, where nobody asked for something else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: Annotated[float | None, Field(gt=0, le=1), Optional]
    list_from: Annotated[float | None, Field(gt=0, le=1), Optional]
    per_hour: Annotated[WholeNumber, Field(ge=0)]
    quiet: Annotated[tuple[int, int], BeforeValidator(minutes_of_day)]
    """Minutes of the day."""
    zone: Annotated[str, Field(min_length=1)]
    max_alert_age: Annotated[Duration, Field(ge=SECOND)]
    """Microseconds."""
    digest_at: Annotated[int | None, BeforeValidator(minute_of_day)]
    """A minute of the day."""
    opted_in: bool
    topics: Literal["words", "embeddings"]
    embedding_model: Annotated[str, Field(min_length=1)]
    topic_from: Annotated[float, Field(gt=0, le=1)]
    store: Path
    kept: Annotated[Duration, Field(ge=DAY)]
    webhook: Annotated[SecretStr | None, Optional]


_SOURCES: ContextVar[tuple[PydanticBaseSettingsSource, ...]] = ContextVar("_SOURCES", default=())
"""What `read_settings` reads; the hook below is a class method, and can't be handed anything."""


class Settings(BaseSettings):
    """All that can be set, a section a field; every default stands in `default.toml`, and secrets are `SecretStr`."""

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
        """Flags, then what `read_settings` reads: variables, the user's file, `default.toml`. The first with a value wins."""
        return init_settings, *_SOURCES.get()

    @property
    def rules(self) -> Rules:
        """What shapes an example."""
        return Rules(**self.conversations.model_dump())


Name = tuple[str, ...]
"""A setting's section and name; a misspelt one may have more parts, or fewer."""

NAMES: list[Name] = [
    (section, name) for section, field in Settings.model_fields.items() for name in getattr(field.annotation, "model_fields", ())
]


FLAGGED = ("conversations", "run")
"""The sections whose settings are flags, too: how brokers are reached has no place in a list of processes."""
SECRET = [("kafka", "password"), ("kafka", "key_password"), ("provider", "key")]
SECRET += [("slack", "app_token"), ("slack", "bot_token"), ("slack", "signing_secret")]
SECRET += [("alerts", "webhook")]


@dataclass(frozen=True, slots=True)
class SettingOrigin:
    """A setting's value, and where it comes from in the words of whoever gave it."""

    value: object
    told: str


class Variables(EnvSettingsSource):
    """The known `BEEPGPT_…` variables of a mapping that is passed in, and not of the process."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.given = _from_environment(environ)
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str]:
        return {(PREFIX + "__".join(name)).lower(): str(self.given[name].value) for name in NAMES if name in self.given}


class TomlFile(TomlConfigSettingsSource):
    """What is known of a TOML file that has to be there; `given` is all of it."""

    def __init__(self, path: Path) -> None:
        super().__init__(Settings, path)
        file = path.name if path == DEFAULTS else path
        self.given = {name: SettingOrigin(value, f"{'.'.join(name)} in {file}") for name, value in _leaves(self.toml_data)}

    def _read_files(self, files: Any, deep_merge: bool = False) -> dict[str, Any]:
        try:
            return self._read_file(files)  # the original passes over a file that is missing
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise BadSettings([f"the configuration file {files} can't be read: {reason}"]) from error

    def __call__(self) -> dict[str, Any]:
        return _nested(self.given)


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
    beepgpt.config.settings.BadSettings: BEEPGPT_RUN__WORKER is unknown; did you mean BEEPGPT_RUN__WORKERS?
    --workers is 0: must be greater than or equal to 1
    """
    if path is None and environ.get(CONFIG):
        path = Path(environ[CONFIG])
    files = [TomlFile(each) for each in (path, DEFAULTS) if each]
    variables, flags = Variables(environ), _from_flags(overrides or {})
    layers = [*(each.given for each in reversed(files)), variables.given, flags]
    problems = [_unknown(name, each.told) for layer in layers for name, each in layer.items() if name not in NAMES]
    given = {name: each for layer in layers for name, each in layer.items()}
    token = _SOURCES.set((variables, *files))
    try:
        wrong = list(_violations(flags, layers[0]))
        problems += [
            f"{given[name].told} is {'a secret' if name in SECRET else repr(given[name].value)}: {allowed}" for name, allowed in wrong
        ]
        if problems:
            raise BadSettings(problems)
        return Settings(**_nested(flags))
    finally:
        _SOURCES.reset(token)


def with_flags(settings: Settings, section: str, given: Mapping[str, object]) -> Settings:
    """The settings with the flags that one command has for a section (`None`: not given).

    >>> with_flags(read_settings(environ={}), "labeling", {"max_cost": 2.5, "labeler": None}).labeling.max_cost
    2.5
    >>> with_flags(read_settings(environ={}), "labeling", {"max_cost": -1.0})
    Traceback (most recent call last):
    beepgpt.config.settings.BadSettings: --max-cost is -1.0: must be greater than or equal to 0
    """
    before = getattr(settings, section)
    values: dict[str, object] = {}
    wrong: list[str] = []
    for name, value in given.items():
        if value is None:
            continue
        field = type(before).model_fields[name]
        try:  # each alone: a section's other values are no longer as they were written
            kind: Any = Annotated[field.annotation, field]
            values[name] = TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            wrong.append(f"{_flag((section, name), value)} is {value!r}: {_allowed(error.errors()[0]['msg'])}")
    if wrong:
        raise BadSettings(wrong)
    return settings.model_copy(update={section: before.model_copy(update=values)})


def _from_environment(environ: Mapping[str, str]) -> dict[Name, SettingOrigin]:
    ours = {name: value for name, value in environ.items() if name.startswith(PREFIX) and name != CONFIG}
    return {tuple(name.removeprefix(PREFIX).lower().split("__")): SettingOrigin(value, name) for name, value in sorted(ours.items())}


def _from_flags(overrides: Mapping[str, Mapping[str, object]]) -> dict[Name, SettingOrigin]:
    return {name: SettingOrigin(value, _flag(name, value)) for name, value in _leaves(overrides) if value is not None}


def _flag(name: Name, value: object = None) -> str:
    return ("--no-" if value is False else "--") + name[-1].replace("_", "-")


def _leaves(table: Mapping[str, Any]) -> Iterator[tuple[Name, Any]]:
    """Every value with its section and name; what stands outside a section has a name of one part."""
    for section, values in table.items():
        if isinstance(values, Mapping):
            yield from (((section, name), value) for name, value in values.items())
        else:
            yield (section,), values


def _nested(given: Mapping[Name, SettingOrigin]) -> dict[str, Any]:
    """What is known of it, a section a table."""
    table: dict[str, Any] = {}
    for section, name in NAMES:
        if (section, name) in given:
            table.setdefault(section, {})[name] = given[section, name].value
    return table


def _unknown(name: Name, told: str) -> str:
    """Names what is unknown and what was perhaps meant, both in the form that was used."""
    if told.startswith(PREFIX):
        names = ["CONFIG"] + ["__".join(each).upper() for each in NAMES]
        near = [PREFIX + each for each in get_close_matches(told.removeprefix(PREFIX), names, n=1)]
    elif told.startswith("--"):
        near = get_close_matches(told, [_flag(each, value) for each in NAMES if each[0] in FLAGGED for value in (True, False)], n=1)
    else:
        near = get_close_matches(".".join(name), [".".join(each) for each in NAMES], n=1)
    return f"{told} is unknown" + (f"; did you mean {near[0]}?" if near else "")


def _violations(flags: Mapping[Name, SettingOrigin], defaults: Mapping[Name, SettingOrigin]) -> Iterator[tuple[Name, str]]:
    """Everything that can't be, and what is allowed: first each value alone, then the rules as a whole."""
    bad: dict[Name, str] = {}
    try:
        Settings(**_nested(flags))
    except ValidationError as error:
        bad = {tuple(map(str, each["loc"][:2])): _allowed(each["msg"]) for each in error.errors()}
    yield from bad.items()
    try:  # with defaults for what can't be read, so that the other violations are named in the same breath
        _ = Settings(**_nested({**flags, **{name: defaults[name] for name in bad}})).rules
    except BadRules as error:
        named = [(("conversations", name), f"must be {allowed}") for name, allowed in error.wrong]
        yield from ((name, allowed) for name, allowed in named if name not in bad)


def _allowed(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should be", "must be").partition(", unable")[0]
