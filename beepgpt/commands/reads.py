"""Which settings each command reads: its flags, its row in `beepgpt settings`, and a test that watches it run are made of this table."""

from __future__ import annotations

from collections.abc import Iterator

from beepgpt.config.settings import NAMES, SECRET, Name

LOGS = "run.log_level run.log_format"
METRICS = "run.metrics_port run.metrics_host"
FLOW = f"run.progress run.snapshot_every {LOGS} {METRICS}"
FOLLOWED = f"conversations run.workers run.idle_clock run.forgotten {FLOW}"
"""Of a flow that follows conversations."""
TRIED = "kafka labeling provider scoring slack alerts training run"
"""What the steps of `try` read beside its flags."""
MODEL = "provider run.log_level run.log_format"
"""Of a command that may ask a model at its server."""

READS: dict[str, tuple[str, str]] = {
    "try_export": (f"conversations alerts.zone run.progress run.forgotten {LOGS}", TRIED),
    "demo": (f"conversations run.progress {LOGS}", TRIED),
    "examples": (f"{FOLLOWED} run.rejects_kept", "kafka"),
    "label": (f"labeling run.rejects_kept {FLOW}", "kafka provider run.forgotten"),
    "review": ("labeling.few_shots labeling.learn_from run.progress", "kafka labeling.labeler run.log_level run.log_format"),
    "prepare": ("training run.progress", "conversations kafka labeling.few_shots run.log_level run.log_format"),
    "audit": ("conversations run.forgotten", "kafka run.log_level run.log_format"),
    "train": ("", MODEL),
    "retrain": ("run.progress", f"conversations training kafka labeling.few_shots {MODEL}"),
    "validate": ("", MODEL),
    "predict": ("", MODEL),
    "compare": ("", ""),
    "experiment": ("", "conversations training kafka labeling.few_shots provider run"),
    "init": ("", ""),
    "check": ("", "conversations run kafka cluster provider slack scoring alerts"),
    "history": (f"run.forgotten {LOGS}", "slack"),
    "up": ("", "conversations run kafka labeling provider training scoring alerts slack"),
    "backup": ("", ""),
    "topics": ("run.rejects_kept", "kafka scoring.kept run.log_level run.log_format"),
    "ingest": (
        f"conversations.edits conversations.lateness conversations.remember run.forgotten run.progress {LOGS} {METRICS}",
        "conversations kafka slack",
    ),
    "score": (f"{FOLLOWED} scoring.threshold", "kafka scoring provider alerts.max_alert_age"),
    "alert": (
        f"alerts.threshold alerts.list_from alerts.per_hour alerts.opted_in alerts.store run.forgotten {LOGS} {METRICS}",
        "conversations alerts kafka slack provider",
    ),
    "dead_letters": ("", "kafka run.log_level run.log_format"),
    "forget": ("run.forgotten", "kafka run.log_level run.log_format"),
    "outcomes": ("scoring.threshold", "kafka run.log_level run.log_format"),
    "rehearse": ("alerts.threshold alerts.list_from alerts.per_hour alerts.zone", "alerts kafka run.log_level run.log_format"),
    "settings": ("", ""),
    "help": ("", ""),
}
"""By the function of each command: its flags; and what else it reads, from files and variables alone. A section stands for all in it."""

SHOWN = {
    "examples try_export demo": "conversations.target conversations.scope conversations.horizon",
    "audit": "conversations.horizon",
    "examples score": "run.workers",
    "label": "labeling.labeler labeling.few_shots labeling.instructions labeling.learn_from labeling.max_cost labeling.batch",
    "review": "labeling.few_shots labeling.learn_from",
    "prepare": "training.model training.format training.valid_share training.cut training.answers training.silences training.weak",
    "alert": "alerts.threshold alerts.list_from alerts.per_hour alerts.opted_in alerts.store",
    "rehearse": "alerts.threshold alerts.list_from alerts.per_hour alerts.zone",
    "try_export": "alerts.zone",
    "score outcomes": "scoring.threshold",
    "forget": "run.forgotten",
}
"""Flags that stand in the help of these commands; `beepgpt settings COMMAND` lists all."""


def named(words: str) -> Iterator[Name]:
    """Settings by the words of the table, in the order of `default.toml`."""
    wanted = set(words.split())
    return (name for name in NAMES if name[0] in wanted or ".".join(name) in wanted)


def flags_of(command: str) -> list[Name]:
    """The settings that are flags of a command. Secrets are none: they must not show in a list of processes."""
    return [name for name in named(READS[command][0]) if name not in SECRET]


def read_by(command: str) -> list[Name]:
    """All settings that a command reads."""
    return list(named(" ".join(READS[command])))


def is_shown(name: Name, command: str) -> bool:
    """Whether a flag stands in a command's help."""
    return any(command in commands.split() and ".".join(name) in names.split() for commands, names in SHOWN.items())
