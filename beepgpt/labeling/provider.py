"""A run whose labeler is an LLM: allowed, counted and agreed to before it asks, and never paid for twice."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import typer

from beepgpt.commands.labeling import LabelJob, closed, remembering, report_of, run_labeling
from beepgpt.config.prices import Prices, read_prices
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.connectors.openai.batches import Batch
from beepgpt.connectors.openai.client import Client
from beepgpt.connectors.openai.responses import Responses, Spent
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.errors import BadCommand, ProviderFailed, RunStopped
from beepgpt.labeling.questions import LabelQuestion
from beepgpt.labeling.requests import (
    AHEAD,
    ENCODING,
    INSTRUCTIONS,
    Asking,
    Batches,
    Budget,
    Estimate,
    ProviderLabeler,
    asking_of,
    check_allowed,
    dollars,
    estimated,
    provider_of,
)
from beepgpt.labeling.run import FewShot, balanced, by_hand, read_few_shots
from beepgpt.labeling.shortening import long_ones, summarise
from beepgpt.runtime.console import Watched, console
from beepgpt.runtime.running import ended_before
from beepgpt.runtime.workers import interruptible

MARGIN = 1.2
"""What was agreed to may cost so much more than was estimated: retries, and guesses of tokens."""


def run_provider(job: LabelJob, few_shots: list[FewShot], *, yes: bool) -> tuple[dict[str, Any], int]:
    """The whole run. Returns its report and exit status."""
    settings = job.settings
    check_allowed(settings.provider)
    is_excluded = excluded_by(settings.provider.exclude_channels, settings.provider.exclude_people)
    encoding = load_encoding(ENCODING)
    prices = prices_of(settings)
    price = prices.of(settings.provider.model, settings.provider.way)

    def chosen(those: list[FewShot]) -> list[FewShot]:
        return balanced([each for each in those if not is_excluded(each.question)], settings.labeling.max_few_shots)

    first = Spent()
    limit = settings.labeling.max_cost if price is not None else None
    long = long_ones(chosen(few_shots), encoding, settings.labeling.summarise)
    if long and not is_gone_on_with(job):
        with client_of(settings) as client, interruptible():
            first = summarise(long, settings, client, encoding, Budget(prices.of(settings.provider.model), prices.batch, limit))
        few_shots = read_few_shots(settings.labeling.few_shots)
    shots = chosen(few_shots)
    asking = asking_of(settings, instructions_of(settings), [(each.text, each.signal) for each in shots], encoding)
    known = by_hand(few_shots)
    store = store_of(job)
    run = f"{job.to.identity} {asking.told}"
    with ExitStack() as stack:
        memory = stack.enter_context(remembering(job, "provider", asking.told))
        if (ended := ended_before(memory)) is not None:
            return ended, 0
        tell_shots(settings, few_shots, shots)
        answers = stack.enter_context(Responses(store))
        if first.asked:
            answers.begin(run)
            answers.note(first)
        budget = Budget(price, prices.batch, limit, answers.spent(run))
        estimate, retracted = None, frozenset[str]()

        def wanted() -> Iterator[str]:
            """All prompts that have to be asked about."""
            for question in looked.questions():
                if not (question.is_silent or question.id in known or question.id in retracted or is_excluded(question)):
                    yield question.prompt

        with interruptible():
            if not job.origin.is_followed:
                looked = job.contents()
                retracted = looked.retracted
                estimate = counted(wanted(), asking, answers, budget, settings)
            budget = agreed(budget, estimate, settings, yes=yes)
        client = stack.enter_context(client_of(settings))
        answers.begin(run)
        redacted: Counter[str] = Counter()
        if settings.labeling.batch:
            complete(Batches(client, asking, answers, run, wanted, BatchTeller(), redacted))
        labeler = ProviderLabeler(client, asking, answers, budget, redacted)
        done = run_labeling(
            job,
            memory,
            labeler,
            known=known,
            retracted=retracted,
            is_excluded=is_excluded,
            ahead=AHEAD * settings.provider.concurrency,
        )
        answers.note(labeler.spent)
        report = report_of(job, "provider", asking.told, done) | {
            "provider": account_of(settings, budget, answers.spent(run), labeler, done.seconds),
            "estimate": None if estimate is None else asdict(estimate),
        }
        return closed(job, report, done, memory)


def client_of(settings: Settings) -> Client:
    """Who asks. Raises BadCommand if the settings can't be right."""
    try:
        return Client(provider_of(settings.provider))
    except ProviderFailed as error:
        raise BadCommand(str(error)) from error


def is_gone_on_with(job: LabelJob) -> bool:
    """Whether this run was begun before, with the few-shots as they stand: other ones would be another run."""
    return job.recovery is not None and job.recovery.is_dir() and any(job.recovery.iterdir())


# What is given


def excluded_by(channels: str, people: str) -> Callable[[LabelQuestion], bool]:
    """Whether an example is of these channels, or shows what these people wrote: ids, joined by commas.

    >>> is_excluded = excluded_by("C1, C2", "U7")
    >>> example = LabelQuestion("6f1c", "hello", False, "C3", frozenset({"U1", "U7"}))
    >>> is_excluded(example), is_excluded(example._replace(people=frozenset({"U1"})))
    (True, False)
    """
    no_channels, no_people = ({each.strip() for each in ids.split(",")} - {""} for ids in (channels, people))
    return lambda question: question.channel in no_channels or not no_people.isdisjoint(question.people)


def instructions_of(settings: Settings) -> str:
    """What the model is told first."""
    path = settings.labeling.instructions
    if path is None:
        return INSTRUCTIONS
    jsonl.check_readable(path)
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise BadCommand(f"--instructions {path}: is no text in UTF-8") from None
    if not text.strip():
        raise BadCommand(f"--instructions {path}: is empty: say when an example has a strong signal, and that the answer is yes or no")
    return text


def store_of(job: LabelJob) -> Path:
    """Where answers are kept: as the settings say, else beside a file that is written."""
    if job.settings.labeling.store is not None:
        return job.settings.labeling.store
    if (path := job.to.given().get("examples")) is None:
        raise BadCommand("--labeler provider keeps what was answered, so that nothing is paid for twice: name a file for it, --store FILE")
    return path.with_name(f"{path.name.removesuffix('.jsonl')}.responses.sqlite")


def prices_of(settings: Settings) -> Prices:
    """Ours, and over them the user's."""
    return read_prices(settings.labeling.prices)


def tell_shots(settings: Settings, few_shots: Sequence[FewShot], shots: Sequence[FewShot]) -> None:
    """How many few-shots go into each request."""
    folder = settings.labeling.few_shots
    if shots:
        console.print(f"{len(shots)} few-shots of {folder}, half of them strong; {len(few_shots):,} examples there are labeled by hand.")
    elif settings.labeling.max_few_shots:
        found = f"only {few_shots[0].signal} ones can be used" if few_shots else "there are none"
        console.print(
            f"Without few-shots ({found} in {folder}): the model is told the instructions alone. Choose some with beepgpt review."
        )


# Before it spends


def counted(prompts: Iterable[str], asking: Asking, answers: Responses, budget: Budget, settings: Settings) -> Estimate:
    """What will be asked: prompts whose answer isn't known, each once."""
    new: set[bytes] = set()
    examples = text_tokens = 0
    with Watched("count", shown=settings.run.progress) as watched:
        for prompt in prompts:
            examples += 1
            prepared = asking.request(prompt)
            name = bytes.fromhex(prepared.id)
            if name not in new and answers.get(prepared.id) is None:
                new.add(name)
                text_tokens += prepared.request.tokens - asking.shared_tokens
            if examples % 100 == 0:
                watched.update(0, 1, examples, 0.0)
    at_once = settings.provider.concurrency
    return estimated(asking, budget, examples, len(new), text_tokens, at_once=at_once, batch=settings.labeling.batch)


def agreed(budget: Budget, estimate: Estimate | None, settings: Settings, *, yes: bool) -> Budget:
    """The budget that the run begins with, once it is told what the run will cost; asks if that is more than is allowed."""
    limit, model = settings.labeling.max_cost, settings.provider.model
    if budget.price is None:
        told = told_unpriced(estimate, model)
        if estimate is None or estimate.requests:
            ask(told, "Begin all the same?", "add its price to a file of yours (--prices FILE), or begin without a limit: --yes", yes=yes)
        return budget
    spent = budget.cost(budget.before) or 0.0
    if estimate is None or estimate.cost is None:
        console.print(f"What is followed can't be counted beforehand: the run stops when it has cost {dollars(limit)} (--max-cost).")
        return budget
    told = told_estimate(estimate, budget, model, spent)
    total = spent + estimate.cost
    if total <= limit or not estimate.requests:
        console.print(told)
        return budget
    new_limit = math.ceil(100 * MARGIN * total) / 100
    told = f"{told} That is more than --max-cost {dollars(limit)}."
    how = f"allow more (--max-cost {new_limit:.2f})"
    if settings.labeling.batch:  # what a batch costs is known when it is over
        if yes:
            raise BadCommand(f"{told} A batch can't be stopped when it has cost so much: {how}")
    else:
        how += f", or begin and stop at {dollars(limit)}: --yes"
    if ask(told, f"Spend up to {dollars(new_limit)}?", how, yes=yes):
        return replace(budget, limit=new_limit)
    return budget


def ask(told: str, question: str, how: str, *, yes: bool) -> bool:
    """Whether a person said yes just now; what was given with `--yes` needs nobody. Raises BadCommand if nobody is there."""
    if yes:
        console.print(told)
        return False
    if not (sys.stdin is not None and sys.stdin.isatty()):
        raise BadCommand(f"{told} Nobody is there to be asked: {how}")
    console.print(told)
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)
    return True


def told_estimate(estimate: Estimate, budget: Budget, model: str, spent: float) -> str:
    """An estimate in words."""
    assert budget.price is not None and estimate.cost is not None and estimate.most is not None
    before = f" {dollars(spent)} were spent before." if spent else ""
    if not estimate.requests:
        return f"All {estimate.examples:,} examples are answered for already: nothing will be asked.{before}"
    most = f", {dollars(estimate.most)} if the provider caches nothing" if estimate.most > estimate.cost else ""
    return (
        f"{estimate.examples:,} examples need {estimate.requests:,} requests to {model} of about {estimate.tokens:,} tokens,"
        f" {estimate.shared_tokens:,} of each shared by all: about {dollars(estimate.cost)}{most}, by prices of"
        f" {budget.price.as_of}.{before}"
    )


def told_unpriced(estimate: Estimate | None, model: str) -> str:
    """The same of a model whose price isn't known."""
    many = "" if estimate is None else f" for {estimate.requests:,} requests of about {estimate.tokens:,} tokens"
    return f"What {model} takes{many} is not known, so that no limit can be held."


# Batches


def complete(batches: Batches) -> None:
    """Everything in batches, however long that takes."""
    with interruptible():
        try:
            batches.complete()
        except ProviderFailed as error:
            raise RunStopped(f"{error}; what was answered is kept, and the same command goes on from here") from error


class BatchTeller:
    """Tells where batches stand, whenever that has changed by a tenth of a batch, or in name."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[str, int]] = {}

    def __call__(self, batch: Batch) -> None:
        now = batch.status, 10 * batch.done // max(batch.total, 1)
        if self._told.get(batch.id) != now:
            self._told[batch.id] = now
            failed = f", {batch.failed:,} failed" if batch.failed else ""
            console.print(f"batch {batch.id}: {batch.status}, {batch.done:,} of {batch.total:,} done{failed}")


# The account


def account_of(settings: Settings, budget: Budget, spent: Spent, labeler: ProviderLabeler, seconds: float) -> dict[str, Any]:
    """What was asked and paid for: by all starts of the run, but `known`, `together` and the rate, which are this start's."""
    usage = spent.usage + spent.batch_usage
    share = f", of which batches take {budget.batch:g}" if spent.batch_usage.input else ""
    return {
        "model": settings.provider.model,
        "way": settings.provider.way,
        "requests": spent.asked,
        "answered": spent.answered,
        "failed": dict(spent.failed),
        "tries": spent.tries,
        "retries": dict(spent.retries),
        "known": labeler.from_store,
        "together": labeler.together,
        "requests_per_second": round(labeler.spent.asked / seconds, 1) if seconds else 0.0,
        "tokens": asdict(usage),
        "untold": spent.untold,
        "redacted": dict(spent.redacted),
        "cost": budget.cost(spent),
        "cost_told": f"by prices of {budget.price.as_of}{share}" if budget.price else "the model's price is not known",
        "limit": budget.limit,
    }
