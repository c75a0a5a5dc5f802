"""The sections of the settings, one frozen value each. Defaults and explanations are in default.toml."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_settings import NoDecode

from beepgpt.conversations.rules import DAY, HOUR, MINUTE, SECOND, Bots, Edits, EncodingName, Scope, Target

UNITS = {"us": 1, "ms": 1000, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
WORDS = {"second": "s", "sec": "s", "minute": "m", "min": "m", "hour": "h", "day": "d", "week": "w"}
A_DURATION = "must be a duration like 500ms, 10m, 1h 30m or 30 days"
FORMATS = ("chat", "completion", "candidates", "examples")


def microseconds(text: object) -> int:
    """Parse a duration. Raises ValueError.

    >>> microseconds("10m"), microseconds("1h 30m"), microseconds("30 days")
    (600000000, 5400000000, 2592000000000)
    """
    if not isinstance(text, str) or not re.fullmatch(r"(\s*[0-9]+\s*[a-z]+)+\s*", text):
        raise ValueError(A_DURATION)
    total = 0
    for count, unit in re.findall(r"([0-9]+)\s*([a-z]+)", text):
        short = unit if unit in UNITS else WORDS.get(unit.removesuffix("s"))
        if short is None:
            raise ValueError(A_DURATION)
        total += int(count) * UNITS[short]
    return total


def microseconds_or_unlimited(text: object) -> int | None:
    """Parse a duration; None for `unlimited`. Raises ValueError."""
    if text == "unlimited":
        return None
    try:
        return microseconds(text)
    except ValueError as error:
        raise ValueError(f"{error}, or unlimited") from error


def microseconds_or_none(text: object) -> int | None:
    """Parse a duration; None if empty. Raises ValueError."""
    return None if text == "" else microseconds(text)


def whole(value: object) -> object:
    """Reject `true` and 5.0, which Python takes for whole numbers. Raises ValueError."""
    if isinstance(value, bool | float):
        raise ValueError("must be a valid integer")
    return value


def whole_or_auto(value: object) -> object:
    """None for `auto`. Raises ValueError for what is neither that nor a whole number."""
    if value == "auto":
        return None
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]+", value):
        raise ValueError("must be a valid integer, or auto")
    return whole(value)


def or_none(value: object) -> object:
    """None for an empty text, since TOML has no null."""
    return None if value == "" else value


def microseconds_of_moment(text: object) -> int | None:
    """Parse a moment: Slack's seconds or ISO 8601 (UTC if it has no zone); None if empty. Raises ValueError.

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
    """None for 0, which stands for no limit or not known."""
    return None if value in (0, "0") else value


def formats_of(text: object) -> tuple[str, ...] | None:
    """Parse formats joined by commas; None if empty. Raises ValueError."""
    named = tuple(dict.fromkeys(each.strip() for each in text.split(",") if each.strip())) if isinstance(text, str) else ()
    if set(named) - set(FORMATS) or (not named and text != ""):
        raise ValueError(f"must be of {', '.join(FORMATS)}, joined by commas")
    return named or None


def minutes_of_day(text: object) -> tuple[int, int]:
    """Parse hours from and to, as minutes of the day; both 0 if empty. Raises ValueError.

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
    """Parse a time, as a minute of the day; None if empty. Raises ValueError."""
    return None if text == "" else minutes_of_day(f"{text}-00:00")[0] if isinstance(text, str) else minutes_of_day(text)[0]


def time_zone(value: str) -> str:
    """Check the name of a time zone. Raises ValueError.

    >>> time_zone("Europe/Berlin")
    'Europe/Berlin'
    """
    try:
        ZoneInfo(value)
    except (ValueError, ZoneInfoNotFoundError):
        raise ValueError("no time zone has this name: one like Europe/Berlin is expected") from None
    return value


Duration = Annotated[int, BeforeValidator(microseconds)]
"""Microseconds; written as `10m`."""
WholeNumber = Annotated[int, BeforeValidator(whole)]
Optional = BeforeValidator(or_none)
"""For settings where an empty text stands for none."""


class Section(BaseModel):
    """One section: frozen, and without unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ConversationSettings(Section):
    """What shapes examples: the fields of `Rules`."""

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


class RunSettings(Section):
    """How a command runs: workers, snapshots, logs, metrics."""

    workers: Annotated[int | None, Field(ge=1), BeforeValidator(whole_or_auto)]
    """None: as many as help."""
    snapshot_every: Annotated[Duration, Field(gt=0)]
    """Microseconds."""
    progress: bool
    log_level: Literal["debug", "info", "warning", "error"]
    log_format: Literal["text", "json"]
    metrics_port: Annotated[WholeNumber, Field(ge=0, le=65_535)]
    metrics_host: str
    rejects_kept: Annotated[Duration, Field(ge=DAY)]
    """Microseconds."""
    idle_clock: Literal["log", "wall"]
    forgotten: Path


class KafkaSettings(Section):
    """How to reach the brokers, and the names of topics beside SOURCE and DEST."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
    mechanism: Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None, Optional]
    user: Annotated[str | None, Optional]
    password: Annotated[SecretStr | None, Optional]
    ca_file: Annotated[Path | None, Optional]
    cert_file: Annotated[Path | None, Optional]
    key_file: Annotated[Path | None, Optional]
    key_password: Annotated[SecretStr | None, Optional]
    patience: Annotated[int | None, Field(ge=SECOND), BeforeValidator(microseconds_or_none)]
    """Microseconds; None: for ever where a topic is followed, two minutes elsewhere."""
    group: Annotated[str | None, Optional]
    late_topic: Annotated[str, Field(min_length=1)]
    dead_letter_topic: Annotated[str, Field(min_length=1)]


class ClusterSettings(Section):
    """What a flow reads and writes when Bytewax's own runner runs it."""

    source: str
    to: str
    outcomes: str
    """Of scoring; empty: they are not written."""
    model: Annotated[Path | None, Optional]
    """Of scoring."""


class LabelingSettings(Section):
    """How examples are labeled, and what it may cost."""

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


class ProviderSettings(Section):
    """The server of models, and the limits of its use."""

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
    proxy: Annotated[SecretStr | None, Optional]
    """An address, which may hold a password, or `environment`."""
    exclude_channels: str
    exclude_people: str


class SlackSettings(Section):
    """The Slack app, and how gaps in live events are found and filled."""

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
    retention: Annotated[int | None, Field(ge=DAY), BeforeValidator(microseconds_or_none)]
    """Microseconds; None: messages are not deleted by their age."""
    calls_per_minute: Annotated[WholeNumber, Field(ge=1)]
    proxy: Annotated[SecretStr | None, Optional]
    """An address, which may hold a password, or `environment`."""
    shared: bool
    interactions_topic: Annotated[str, Field(min_length=1)]


class TrainingSettings(Section):
    """How a training set is made of examples."""

    model: Annotated[str, Field(min_length=1)]
    encoding: Annotated[EncodingName | None, Optional]
    """The tokenizer of a model that isn't known."""
    format: Annotated[tuple[Literal["chat", "completion", "candidates", "examples"], ...] | None, BeforeValidator(formats_of)]
    valid_share: Annotated[float, Field(gt=0, lt=1)]
    judge_share: Annotated[float, Field(gt=0, lt=1)]
    cut: Annotated[int | None, BeforeValidator(microseconds_of_moment)]
    """Microseconds."""
    answers: Literal["one", "each", "all"]
    min_answers: Annotated[WholeNumber, Field(ge=1)]
    silences: Literal["nil", "drop"]
    weak: Literal["weak", "nil", "drop"]
    cap: Annotated[int | None, Field(ge=1), BeforeValidator(none_for_zero), BeforeValidator(whole)]
    balance: Annotated[float | None, Field(gt=0, allow_inf_nan=False), BeforeValidator(none_for_zero)]
    max_characters: Annotated[int | None, Field(ge=1), BeforeValidator(none_for_zero), BeforeValidator(whole)]
    max_tokens: Annotated[int | None, Field(ge=1), BeforeValidator(none_for_zero), BeforeValidator(whole)]
    system: str
    price: Annotated[float | None, Field(gt=0, allow_inf_nan=False), BeforeValidator(none_for_zero)]
    """USD for a million trained tokens."""


class ScoringSettings(Section):
    """How points are scored live: time limits, batches, and the threshold of an alert."""

    deadline: Annotated[Duration, Field(gt=0)]
    """Microseconds, as all durations."""
    concurrency: Annotated[WholeNumber, Field(ge=1, le=1000)]
    batch: Annotated[WholeNumber, Field(ge=1)]
    people: Annotated[WholeNumber, Field(ge=1)]
    candidates: bool
    threshold: Annotated[float | None, Field(gt=0, lt=1), BeforeValidator(none_for_zero)]
    clock: Literal["wall", "log"]
    watch: Annotated[Duration, Field(gt=0)]
    kept: Annotated[Duration, Field(ge=DAY)]
    """Microseconds."""


class AlertSettings(Section):
    """Who is alerted to which conversation, unless the person chose otherwise."""

    threshold: Annotated[float | None, Field(gt=0, le=1), Optional]
    list_from: Annotated[float | None, Field(gt=0, le=1), Optional]
    per_hour: Annotated[WholeNumber, Field(ge=0)]
    quiet: Annotated[tuple[int, int], NoDecode, BeforeValidator(minutes_of_day)]
    """Minutes of the day."""
    zone: Annotated[str, AfterValidator(time_zone)]
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
    webhook_secret: Annotated[SecretStr | None, Optional]
    webhook_proxy: Annotated[SecretStr | None, Optional]
    """An address, which may hold a password, or `environment`."""
