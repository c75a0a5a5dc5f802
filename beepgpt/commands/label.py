"""`beepgpt label`: which examples teach something, by few-shots, rules or an LLM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from beepgpt.commands.closing import say_next, show_summary
from beepgpt.commands.example_source import input_of, look_at
from beepgpt.commands.flags import Json, Recovery, Report, with_settings
from beepgpt.commands.label_agreement import NOT_NEEDED, check_accuracy
from beepgpt.commands.labeling import LabelJob, check_places, closed, remembering, report_of, run_labeling
from beepgpt.commands.output import account_table, add_counts, by_reason, print_verdict, write_report
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.errors import BadCommand, RunStopped
from beepgpt.figures import percent
from beepgpt.labeling.agreement import Accuracy, accuracy_on
from beepgpt.labeling.few_shots import FewShot, by_hand, read_few_shots
from beepgpt.labeling.questions import Labeler
from beepgpt.packages import need
from beepgpt.runtime.console import console
from beepgpt.runtime.destinations import Files, destination_of
from beepgpt.runtime.made_by import pass_rules_on
from beepgpt.runtime.names import pass_names_on
from beepgpt.runtime.places import check_apart, is_topic
from beepgpt.runtime.running import ended_before

INTERRUPTED = 130
"""The exit status."""
AHEAD = 512
"""Prompts that a labeler of this machine has at a time."""
NEEDED = {"provider": ("openai", "backoff", "aiolimiter", "detect_secrets", "phonenumbers", "stdnum"), "local": ("sklearn",), "rules": ()}
"""Packages of a labeler that are not installed by default."""


@with_settings
def label(
    source: Annotated[str, typer.Argument(help="Examples: a .jsonl, a .parquet, or a topic.")],
    to: Annotated[str, typer.Option(help="A .jsonl, a topic, or -.")],
    settings: Settings,
    yes: Annotated[bool, typer.Option("--yes", help="Begin without asking; --max-cost holds all the same.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Label even if the labeler may be no better than chance.")] = False,
    report: Report = None,
    recovery: Recovery = None,
    json: Json = False,
) -> None:
    """Label examples: which teach something (strong), and which don't (weak). A local model needs no labels."""
    if json and to == "-":
        raise BadCommand("--json: the examples go to standard output already: name a file as --to, or leave it out")
    if report is not None:
        jsonl.check_writable(report)
    job = LabelJob(input_of(source), destination_of(to, settings), settings, recovery)
    check_apart(source, [*job.to.given().values(), *([report] if report is not None else [])])
    closing, status = run_label(job, yes=yes, force=force)
    if isinstance(job.to, Files) and job.to.late is not None and not is_topic(source):
        pass_names_on(Path(source), Path(to))
        pass_rules_on(Path(source), Path(to))
    show_summary(closing, json, print_labels)
    console.print(NOT_NEEDED)
    write_report(report, closing)
    if closing.get("stopped_because"):
        raise RunStopped(closing["stopped_because"])
    if status == INTERRUPTED:
        rest = "run the same command again to go on" if recovery else "give --recovery DIR to go on where a run stopped"
        console.print(f"Interrupted; what was done is kept ({rest}).")
    elif not status and to != "-":
        say_next("prepare", to, "--to", Path(to).with_name("set") if isinstance(job.to, Files) else "set", "--format", "chat")
    raise typer.Exit(1 if closing["does_not_add_up"] else status)


def run_label(job: LabelJob, *, yes: bool, force: bool) -> tuple[dict[str, Any], int]:
    """Run it; returns the report and exit status. Raises NoBetterThanChance, unless `force`."""
    chosen = job.settings.labeling.labeler
    few_shots = read_few_shots(job.settings.labeling.few_shots)
    check_places(job)
    check_labeler(job)
    if chosen == "provider":
        from beepgpt.commands.label_provider import run_provider  # what it needs is not installed by default

        return run_provider(job, few_shots, yes=yes, force=force)
    labeler, accuracies = local_labeler(job.settings, few_shots)
    with remembering(job, chosen, labeler.fingerprint) as recovery:
        if (ended := ended_before(recovery)) is not None:
            return ended, 0
        for accuracy in accuracies[1:]:  # of what was labeled by others
            console.print(f"The {chosen} labeler is {accuracy}.")
        check_accuracy(chosen, accuracies[0], force=force)
        retracted = look_at(job.origin, job.settings).retracted if job.origin.file is not None else frozenset()
        result = run_labeling(job, recovery, labeler, known=by_hand(few_shots), retracted=retracted, ahead=AHEAD)
        return closed(job, report_of(job, chosen, labeler.fingerprint, result), result, recovery)


def check_labeler(job: LabelJob) -> None:
    """Raise BadCommand if the labeler does not fit the job, and MissingPackage if its packages are missing."""
    ours = job.settings.labeling
    if ours.batch and ours.labeler != "provider":
        raise BadCommand(f"--batch is for --labeler provider, and this is --labeler {ours.labeler}")
    if ours.batch and job.origin.is_followed:
        raise BadCommand("--batch is for bounded input: what is followed has no end, and a batch is made of all of it")
    if ours.batch and job.settings.provider.way != "chat":
        raise BadCommand('--batch is for provider.way = "chat": there are no batches of decisions')
    need(f"--labeler {ours.labeler}", NEEDED[ours.labeler], "label")


def local_labeler(settings: Settings, few_shots: Sequence[FewShot]) -> tuple[Labeler, list[Accuracy | None]]:
    """A labeler of this machine, and its accuracy, first on few-shots. Raises CannotLearn if there is too little to learn from."""
    ours = settings.labeling
    if ours.labeler == "rules":
        from beepgpt.labeling.labelers.rules import RulesLabeler

        return RulesLabeler(), [accuracy_on(few_shots, RulesLabeler())]
    from beepgpt.labeling.labelers.labeled import labeled_few_shots, read_labeled
    from beepgpt.labeling.labelers.local import BatchingLabeler, LocalLabeler

    with ExitStack() as stack:
        lines: Iterable[bytes] = ()
        if ours.learn_from is not None:
            jsonl.check_readable(ours.learn_from)
            lines = stack.enter_context(ours.learn_from.open("rb"))
        labeler = LocalLabeler(labeled_few_shots(ours.few_shots), read_labeled(lines, ours.learn_from))
    return BatchingLabeler(labeler), [*labeler.accuracy]


# What a person sees


def print_labels(closing: Mapping[str, Any]) -> None:
    """Print the closing account."""
    account = closing["account"]
    table = account_table()
    labeled = account["labeled"]
    hand = f", {account['by_hand']:,} of them by hand" if account["by_hand"] else ""
    table.add_row("records read", f"{account['read']:,}", "")
    table.add_row("  labeled", f"{sum(labeled.values()):,}", f"strong {labeled['strong']:,}, weak {labeled['weak']:,}{hand}")
    dead = account["dead_letters"]
    if dead:
        table.add_row("  dead letters", f"{sum(dead.values()):,}", f"{by_reason(dead)}; to {closing['beside'].get('dead_letters', '-')}")
    add_counts(table, account, MEANING)
    for row in provider_rows(closing.get("provider")):
        table.add_row(*row)
    console.print(table)
    rest = f"; to {closing['to']}, {closing['seconds']:,.1f} s, {closing['records_per_second']:,.1f} records/s"
    print_verdict(account["adds_up"], rest)


MEANING = {
    "silent": "nobody answered: passed on without a label",
    "retracted": "taken back: neither labeled nor passed on",
    "retractions": "passed on",
    "waiting": "wait until the run goes on",
}


def provider_rows(provider: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    """Rows on what an LLM was asked, and what that cost."""
    if provider is None:
        return []
    rows = [("requests", f"{provider['requests']:,}", f"{provider['model']}; {provider['requests_per_second']:,.1f}/s")]
    if provider["known"]:
        rows.append(("  known already", f"{provider['known']:,}", "not asked again"))
    for name in ("retries", "failed", "redacted"):
        if provider[name]:
            rows.append((f"  {name}", f"{sum(provider[name].values()):,}", by_reason(provider[name])))
    tokens = provider["tokens"]
    share = tokens["cached"] / tokens["input"] if tokens["input"] else 0.0
    rows.append(("  tokens", f"{tokens['input'] + tokens['output']:,}", f"{percent(share)} of the input from the provider's cache"))
    if provider["untold"]:
        rows.append(("  not counted", f"{provider['untold']:,}", "answers without a count of tokens: their cost is not known"))
    cost = "not known" if provider["cost"] is None else f"${provider['cost']:,.4f}"
    rows.append(("  cost", cost, provider["cost_told"]))
    return rows
