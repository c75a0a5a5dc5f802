"""A command with its help: flags in groups, an example, and where the rest of its settings is."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer

from beepgpt.commands.flags import HOW, MODEL, WHAT, WHERE
from beepgpt.commands.reads import flags_of, read_by

GROUP_OF = {
    **dict.fromkeys(("to", "from_", "report", "metrics", "recovery", "outcomes", "retractions", "valid", "names", "no_names"), WHERE),
    **dict.fromkeys(("members", "set", "interactions", "deletions", "store", "scratch", "few_shots", "broker", "source"), WHERE),
    **dict.fromkeys(("data", "export", "history"), WHERE),
    **dict.fromkeys(
        ("model", "against", "labeler", "learn_from", "epochs", "suffix", "way", "precision", "per_week", "deadline", "candidates_too"),
        MODEL,
    ),
    **dict.fromkeys(("json", "config", "yes", "force", "browser", "port", "threads", "seed", "pace", "http", "http_host"), HOW),
    **dict.fromkeys(("progress", "every", "again", "cancel", "drop", "help"), HOW),
}
"""The group of each flag by its name; those of settings have theirs, and all others say what is done."""
ORDER = (WHERE, WHAT, MODEL, HOW)
METAVARS = {
    **dict.fromkeys(("to", "from_", "source", "outcomes", "interactions", "deletions"), "<place>"),
    **dict.fromkeys(("since", "history", "warmup", "pace", "every", "deadline"), "<duration>"),
    **dict.fromkeys(("labeler", "prefix", "reason", "shards", "suffix", "way"), "<name>"),
    **dict.fromkeys(("user", "channel", "message"), "<id>"),
    **dict.fromkeys(("broker", "http_host"), "<address>"),
    **dict.fromkeys(("until", "night"), "<time>"),
    "with_": "<names>",
    **dict.fromkeys(("model", "text", "workspace", "zone"), "<text>"),
}
"""What stands beside a flag that takes text, by its name: a place is a file, a topic, or `-`. Arguments have their names, in capitals."""

EXAMPLES = {
    "try": "beepgpt try acme-export.zip --to acme",
    "demo": "beepgpt demo --to beepgpt-demo",
    "examples": "beepgpt examples acme-export.zip --to examples.jsonl",
    "label": "beepgpt label examples.jsonl --to labeled.jsonl",
    "review": "beepgpt review examples.jsonl",
    "prepare": "beepgpt prepare examples.jsonl --to set",
    "audit": "beepgpt audit acme-export.zip examples.jsonl",
    "train": "beepgpt train set",
    "retrain": "beepgpt retrain examples.jsonl --model live",
    "validate": "beepgpt validate set --model set/models/local",
    "predict": "beepgpt predict --model set/models/local --row 7",
    "compare": "beepgpt compare set/models/local set/models/text",
    "experiment": "beepgpt experiment config/framings.toml --source acme-export.zip --to framings",
    "init": "beepgpt init --workspace acme --zone Europe/Berlin --broker kafka://localhost:9092",
    "check": "beepgpt check --config beepgpt.toml",
    "history": "beepgpt history --to acme-history --since 180d",
    "up": "beepgpt up --data acme-live --export acme-export.zip",
    "backup": "beepgpt backup --data acme-live --to backups/monday",
    "topics": "beepgpt topics kafka://localhost:9092",
    "ingest": "beepgpt ingest slack --to kafka://localhost:9092/slack.events",
    "score": "beepgpt score acme-export.zip --model set/models/local --to predictions.jsonl",
    "alert": "beepgpt alert 'kafka://localhost:9092/slack.predictions?follow=true' --model local",
    "dead-letters": "beepgpt dead-letters examples.dead-letters.jsonl",
    "forget": "beepgpt forget --user U024BE7LH --from acme",
    "outcomes": "beepgpt outcomes predictions.outcomes.jsonl --model set/models/local",
    "rehearse": "beepgpt rehearse predictions.jsonl --model set/models/local --to rehearsal.html",
    "settings": "beepgpt settings examples",
    "help": "beepgpt help examples",
}
"""What stands at the foot of each command's help."""


def loaded(name: str, function: str | None = None) -> Any:
    """The command of this name. `function`: that and its module are called so, if not as the command."""
    function = function or name.replace("-", "_")
    alone = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    alone.command(name, epilog=epilog_of(name, function))(getattr(import_module(f"beepgpt.commands.{function}"), function))
    command: Any = typer.main.get_command(alone)
    for each in command.params:
        if each.metavar is None and isinstance(each, typer.core.TyperArgument):
            each.metavar = each.name.upper()
        elif each.metavar is None and each.type_descriptor.annotation in (str, list[str]):
            each.metavar = METAVARS.get(each.name)
    shown_last = command.get_help_option(command.make_context(name, [], resilient_parsing=True))
    for each in (*command.params, shown_last):
        if not isinstance(each, typer.core.TyperArgument) and each.rich_help_panel is None:
            each.rich_help_panel = GROUP_OF.get(each.name, WHAT)
    command.params.sort(key=lambda each: -1 if isinstance(each, typer.core.TyperArgument) else ORDER.index(each.rich_help_panel))
    return command


def epilog_of(name: str, function: str) -> str:
    """The foot of a command's help."""
    read, flags = len(read_by(function)), len(flags_of(function))
    also = f", {flags} of them by flags, too" if flags else ""
    return f"Example: {EXAMPLES[name]}" + (f"\nAll {read} settings that it reads{also}: beepgpt settings {name}" if read else "")
