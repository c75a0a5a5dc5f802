"""`beepgpt label`: which examples teach something, as few-shots, rules or an LLM say."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.table import Table
from rich.text import Text

from beepgpt.commands.flags import with_settings
from beepgpt.commands.label_source import input_of
from beepgpt.commands.labeling import LabelJob, check_places, closed, remembering, report_of, run_labeling
from beepgpt.config.settings import Settings, with_flags
from beepgpt.connectors.files import jsonl
from beepgpt.conversations.signals import SignalVerdict
from beepgpt.errors import BadCommand, Interrupted, RunStopped
from beepgpt.labeling.questions import Labeler
from beepgpt.labeling.run import by_hand, read_few_shots
from beepgpt.runtime.console import console
from beepgpt.runtime.destinations import destination_of
from beepgpt.runtime.places import check_apart
from beepgpt.runtime.running import ended_before

if TYPE_CHECKING:
    from beepgpt.labeling.labelers import LocalLabeler

PANEL = "Labeling"
INTERRUPTED = 130
"""The exit status."""
TOGETHER = 512
"""Prompts that a labeler here has at a time."""
NEEDED = {
    "provider": ("openai", "backoff", "aiolimiter", "detect_secrets", "phonenumbers", "stdnum"),
    "local": ("sklearn",),
    "rules": ("sklearn",),
}
"""What isn't installed by default."""


@with_settings
def label(
    source: Annotated[str, typer.Argument(help="Examples: a .jsonl, or kafka://host:port/slack.examples.")],
    to: Annotated[str, typer.Option(help="Where the labeled examples go: a .jsonl path, or kafka://host:port/slack.labeled.")],
    settings: Settings,
    labeler: Annotated[
        str | None, typer.Option(help="Who says what teaches something: local, rules or provider.", rich_help_panel=PANEL)
    ] = None,
    few_shots: Annotated[Path | None, typer.Option(help="The folder that `beepgpt review` wrote.", rich_help_panel=PANEL)] = None,
    instructions: Annotated[Path | None, typer.Option(help="A text file: what the LLM is told.", rich_help_panel=PANEL)] = None,
    learn_from: Annotated[
        Path | None, typer.Option(help="Labeled examples that the local labeler learns from, too.", rich_help_panel=PANEL)
    ] = None,
    max_few_shots: Annotated[int | None, typer.Option(help="Few-shots in a request, at most.", rich_help_panel=PANEL)] = None,
    summarise: Annotated[
        int | None, typer.Option(help="Strong few-shots of more tokens get a summary by the LLM first.", rich_help_panel=PANEL)
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(help="USD: it asks before it begins what costs more, and stops there.", rich_help_panel=PANEL)
    ] = None,
    batch: Annotated[bool | None, typer.Option("--batch/--no-batch", help="Half the price, within a day.", rich_help_panel=PANEL)] = None,
    store: Annotated[Path | None, typer.Option(help="The file of what was answered.", rich_help_panel=PANEL)] = None,
    prices: Annotated[Path | None, typer.Option(help="A TOML file of prices.", rich_help_panel=PANEL)] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Begin without asking; --max-cost holds all the same.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write the closing account here, as JSON.")] = None,
    recovery: Annotated[Path | None, typer.Option(help="A folder that remembers the run, so that it goes on after a kill.")] = None,
) -> None:
    """Label examples: which teach something (strong), and which don't (weak)."""
    flags = {
        "labeler": labeler, "few_shots": few_shots, "instructions": instructions, "learn_from": learn_from, "max_few_shots": max_few_shots,
        "summarise": summarise, "max_cost": max_cost, "batch": batch, "store": store, "prices": prices,
    }  # fmt: skip
    settings = with_flags(settings, "labeling", flags)
    if report is not None:
        jsonl.check_writable(report)
    job = LabelJob(input_of(source), destination_of(to, settings), settings, recovery)
    check_apart(source, [*job.to.given().values(), *([report] if report is not None else [])])
    try:
        closing, status = run_label(job, yes=yes)
    except Interrupted:
        console.print(
            "Interrupted before the first label; what was answered is kept, and batches go on: the same command goes on with them."
        )
        raise typer.Exit(INTERRUPTED) from None
    print_labels(closing)
    if report is not None:
        jsonl.write_file(report, orjson.dumps(closing, option=orjson.OPT_INDENT_2) + b"\n")
    if closing.get("stopped_because"):
        raise RunStopped(closing["stopped_because"])
    if status == INTERRUPTED:
        rest = "run the same command again to go on" if recovery else "give --recovery DIR to go on where a run stopped"
        console.print(f"Interrupted; what was done is kept ({rest}).")
    if closing["does_not_add_up"]:
        raise typer.Exit(1)
    raise typer.Exit(status)


def run_label(job: LabelJob, *, yes: bool) -> tuple[dict[str, Any], int]:
    """A whole run. Returns its report and exit status."""
    chosen = job.settings.labeling.labeler
    few_shots = read_few_shots(job.settings.labeling.few_shots)
    check_places(job)
    check_labeler(job)
    if chosen == "provider":
        from beepgpt.labeling.provider import run_provider  # what it needs is not installed by default

        return run_provider(job, few_shots, yes=yes)
    labeler, told = local_labeler(job.settings)
    with remembering(job, chosen, labeler.told) as memory:
        if (ended := ended_before(memory)) is not None:
            return ended, 0
        for line in told:
            console.print(line)
        retracted = job.contents().retracted if job.origin.file is not None else frozenset()
        done = run_labeling(job, memory, labeler, known=by_hand(few_shots), retracted=retracted, ahead=TOGETHER)
        return closed(job, report_of(job, chosen, labeler.told, done), done, memory)


def check_labeler(job: LabelJob) -> None:
    """What can't be, whichever labeler it is."""
    ours = job.settings.labeling
    if ours.batch and ours.labeler != "provider":
        raise BadCommand(f"--batch is for --labeler provider, and this is --labeler {ours.labeler}")
    if ours.batch and job.origin.is_followed:
        raise BadCommand("--batch is for bounded input: what is followed has no end, and a batch is made of all of it")
    if ours.batch and job.settings.provider.way != "chat":
        raise BadCommand('--batch is for provider.way = "chat": there are no batches of decisions')
    for name in NEEDED[ours.labeler]:
        if find_spec(name) is None:
            raise BadCommand(f"--labeler {ours.labeler} needs {name}: pip install 'beepgpt[labeling]'")


# The labelers that need nobody


def local_labeler(settings: Settings) -> tuple[Labeler, list[str]]:
    """The labeler of the settings, and what to tell of it. Raises CannotLearn if there is too little to learn from."""
    from beepgpt.labeling import labelers  # it takes a second to load

    ours = settings.labeling
    if ours.labeler == "rules":
        return labelers.RulesLabeler(), []
    with ExitStack() as stack:
        lines: Iterable[bytes] = ()
        if ours.learn_from is not None:
            jsonl.check_readable(ours.learn_from)
            lines = stack.enter_context(ours.learn_from.open("rb"))
        labeler = labelers.LocalLabeler(labelers.read_few_shots(ours.few_shots), labelers.read_labeled(lines, ours.learn_from))
    return InBatches(labeler), [f"The local labeler is {accuracy}." for accuracy in labeler.accuracy]


class InBatches:
    """The local labeler, by as many prompts as wait for it: one by one they take ten times as long."""

    def __init__(self, labeler: LocalLabeler) -> None:
        self.told = labeler.told
        self._labeler = labeler
        self._waiting: list[tuple[str, Future[SignalVerdict]]] = []
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="local-labeler")

    def label(self, prompt: str) -> Future[SignalVerdict]:
        """The verdict, soon."""
        future: Future[SignalVerdict] = Future()
        with self._lock:
            self._waiting.append((prompt, future))
            if len(self._waiting) == 1:
                self._pool.submit(self._label_all)
        return future

    def _label_all(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        try:
            chances = self._labeler.chances([prompt for prompt, _ in waiting])
        except Exception as error:
            for _, future in waiting:
                future.set_exception(error)
            return
        for (_, future), p in zip(waiting, chances, strict=True):
            future.set_result(SignalVerdict("strong" if p >= 0.5 else "weak", p, "local"))


# What a person sees


def print_labels(closing: Mapping[str, Any]) -> None:
    """The closing account, as a table."""
    account = closing["account"]
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    labeled = account["labeled"]
    hand = f", {account['by_hand']:,} of them by hand" if account["by_hand"] else ""
    table.add_row("records read", f"{account['read']:,}", "")
    table.add_row("  labeled", f"{sum(labeled.values()):,}", f"strong {labeled['strong']:,}, weak {labeled['weak']:,}{hand}")
    dead = account["dead_letters"]
    if dead:
        reasons = ", ".join(f"{reason} {times:,}" for reason, times in dead.items())
        table.add_row("  dead letters", f"{sum(dead.values()):,}", f"{reasons}; to {closing['beside'].get('dead_letters', '-')}")
    for name, meaning in MEANING.items():
        if account[name]:
            table.add_row(f"  {name}", f"{account[name]:,}", meaning)
    for name, value, told in provider_rows(closing.get("provider")):
        table.add_row(name, value, told)
    console.print(table)
    adds_up = Text("the account adds up") if account["adds_up"] else Text("THE ACCOUNT DOES NOT ADD UP", "bold red")
    told = f"; to {closing['to']}, {closing['seconds']:,.1f} s, {closing['records_per_second']:,.1f} records/s"
    console.print(Text.assemble(adds_up, told))


MEANING = {
    "silent": "nobody answered: passed on without a label",
    "retracted": "taken back: neither labeled nor passed on",
    "retractions": "passed on",
    "waiting": "wait until the run goes on",
}


def provider_rows(provider: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    """What an LLM was asked, and what that cost."""
    if provider is None:
        return []
    rows = [("requests", f"{provider['requests']:,}", f"{provider['model']}; {provider['requests_per_second']:,.1f}/s")]
    if provider["known"]:
        rows.append(("  known already", f"{provider['known']:,}", "not asked again"))
    for name in ("retries", "failed", "redacted"):
        if provider[name]:
            told = ", ".join(f"{reason} {times:,}" for reason, times in provider[name].items())
            rows.append((f"  {name}", f"{sum(provider[name].values()):,}", told))
    tokens = provider["tokens"]
    share = tokens["cached"] / tokens["input"] if tokens["input"] else 0.0
    rows.append(("  tokens", f"{tokens['input'] + tokens['output']:,}", f"{share:.0%} of the input from the provider's cache"))
    if provider["untold"]:
        rows.append(("  untold", f"{provider['untold']:,}", "answers without a word on tokens: their cost is not known"))
    cost = "not known" if provider["cost"] is None else f"${provider['cost']:,.4f}"
    rows.append(("  cost", cost, provider["cost_told"]))
    return rows
