"""The sections of the settings, one frozen value each. Defaults and explanations are in default.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from beepgpt.config.values import (
    Duration,
    Optional,
    WholeNumber,
    formats_of,
    microseconds_of_moment,
    microseconds_or_unlimited,
    minute_of_day,
    minutes_of_day,
    none_for_zero,
    whole,
)
from beepgpt.conversations.rules import DAY, SECOND, Bots, Edits, EncodingName, Scope, Target


class ConversationSettings(BaseModel):
    """What shapes examples: the fields of `Rules`."""

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
    """How a command runs: workers, snapshots, logs, metrics."""

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


class KafkaSettings(BaseModel):
    """How to reach the brokers, and the names of topics beside SOURCE and DEST."""

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
    """What a flow reads and writes when Bytewax's own runner runs it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    to: str
    outcomes: str
    """Of scoring; empty: they are not written."""
    model: Annotated[Path | None, Optional]
    """Of scoring."""


class LabelingSettings(BaseModel):
    """How examples are labeled, and what it may cost."""

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
    """The server of models, and the limits of its use."""

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
    proxy: Annotated[SecretStr | None, Optional]
    """An address, which may hold a password, or `environment`."""
    exclude_channels: str
    exclude_people: str


class SlackSettings(BaseModel):
    """The Slack app, and how gaps in live events are found and filled."""

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
    proxy: Annotated[SecretStr | None, Optional]
    """An address, which may hold a password, or `environment`."""
    shared: bool
    interactions_topic: Annotated[str, Field(min_length=1)]


class TrainingSettings(BaseModel):
    """How a training set is made of examples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[str, Field(min_length=1)]
    encoding: Annotated[EncodingName | None, Optional]
    """The tokenizer of a model that isn't known."""
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
    """How points are scored live: time limits, batches, and the threshold of an alert."""

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


class AlertSettings(BaseModel):
    """Who is alerted to which conversation, unless the person chose otherwise."""

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
    webhook_secret: Annotated[SecretStr | None, Optional]
    webhook_proxy: Annotated[SecretStr | None, Optional]
    """An address, which may hold a password, or `environment`."""
