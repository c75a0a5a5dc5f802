"""The cost of `beepgpt label --labeler provider`: agreed to before anything is sent, and what it was in the end."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from typing import Any

import typer

from beepgpt.config.settings import Settings
from beepgpt.connectors.openai.responses import Spent
from beepgpt.conversations.tokens import Encoding
from beepgpt.errors import BadCommand
from beepgpt.labeling.asking import Asking, Budget, Estimate, TokenPrice, counted, dollars, estimated
from beepgpt.labeling.few_shots import FewShot
from beepgpt.labeling.labelers.provider import ProviderLabeler
from beepgpt.labeling.summaries import summary_instructions
from beepgpt.runtime.console import Watched, console

MARGIN = 1.2
"""A limit agreed to at the prompt exceeds the estimate by a fifth: for retries, and for estimates of tokens."""


def estimate_of(prompts: Iterable[str], asking: Asking, is_known: Callable[[str], bool], budget: Budget, settings: Settings) -> Estimate:
    """Estimate the requests and the cost of a run."""
    with Watched("count", shown=settings.run.progress) as watched:
        counts = counted(prompts, asking, is_known, lambda examples: watched.update(0, 1, examples, 0.0))
    return estimated(asking, budget, *counts, at_once=settings.provider.concurrency, batch=settings.labeling.batch)


def agreed(budget: Budget, estimate: Estimate | None, settings: Settings, *, yes: bool) -> Budget:
    """Show what the run will cost, and ask if that is more than allowed; returns the budget that it begins with.

    `estimate`: None for a followed input. Raises BadCommand if nobody can be asked, typer.Exit if the answer is no.
    """
    limit, model = settings.labeling.max_cost, settings.provider.model
    if budget.price is None:
        many = "" if estimate is None else f" for {estimate.requests:,} requests of about {estimate.tokens:,} tokens"
        if estimate is None or estimate.requests:
            what = f"What {model} takes{many} is not known, so that no limit can be held."
            how = "add its price to a file of yours (--prices FILE), or begin without a limit: --yes"
            ask(what, "Begin all the same?", how, yes=yes)
        return budget
    spent = budget.cost(budget.before) or 0.0
    if estimate is None or estimate.cost is None:
        console.print(f"What is followed can't be counted beforehand: the run stops when it has cost {dollars(limit)} (--max-cost).")
        return budget
    what = estimate_sentence(estimate, budget.price, model, spent)
    total = spent + estimate.cost
    if total <= limit or not estimate.requests:
        console.print(what)
        return budget
    new_limit = math.ceil(100 * MARGIN * total) / 100
    what = f"{what} That is more than --max-cost {dollars(limit)}."
    how = f"allow more (--max-cost {new_limit:.2f})"
    if settings.labeling.batch:  # a batch's cost is known only when it is over
        if yes:
            raise BadCommand(f"{what} A batch can't be stopped when it has cost so much: {how}")
    else:
        how += f", or begin and stop at {dollars(limit)}: --yes"
    return replace(budget, limit=new_limit) if ask(what, f"Spend up to {dollars(new_limit)}?", how, yes=yes) else budget


def ask(what: str, question: str, how: str, *, yes: bool) -> bool:
    """Show the cost and ask for confirmation; returns whether they agreed (False with `--yes`). Raises BadCommand if nobody is there."""
    if yes:
        console.print(what)
        return False
    if not (sys.stdin is not None and sys.stdin.isatty()):
        raise BadCommand(f"{what} Nobody is there to be asked: {how}")
    console.print(what)
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)
    return True


def estimate_sentence(estimate: Estimate, price: TokenPrice, model: str, spent: float) -> str:
    """An estimate, and what was spent before, for people."""
    assert estimate.cost is not None and estimate.most is not None
    before = f" {dollars(spent)} were spent before." if spent else ""
    if not estimate.requests:
        return f"All {estimate.examples:,} examples are answered for already: nothing will be asked.{before}"
    most = f", {dollars(estimate.most)} if the provider caches nothing" if estimate.most > estimate.cost else ""
    return (
        f"{estimate.examples:,} examples need {estimate.requests:,} requests to {model} of about {estimate.tokens:,} tokens,"
        f" {estimate.shared_tokens:,} of each shared by all: about {dollars(estimate.cost)}{most}, by prices of {price.as_of}.{before}"
    )


def check_summaries(long: list[FewShot], encoding: Encoding, price: TokenPrice | None, allowed: float | None, limit: int) -> None:
    """Show what summaries of at most `limit` tokens will cost. Raises BadCommand if that is more than `allowed`."""
    what = f"{len(long)} strong few-shots have more than {limit:,} tokens, and get a summary first (--summarise)"
    if price is None:
        console.print(f"{what}.")
        return
    tokens = sum(len(encoding.encode_ordinary(summary_instructions(limit) + each.question.prompt)) for each in long)
    cost = price.cost(input=tokens, output=limit * len(long))
    if allowed is not None and cost > allowed:
        raise BadCommand(f"{what}: about {dollars(cost)}, and --max-cost is {dollars(allowed)}: raise it, or choose shorter ones")
    console.print(f"{what}: about {dollars(cost)}.")


def provider_account(
    settings: Settings, budget: Budget, spent: Spent, labeler: ProviderLabeler, asked: int, seconds: float
) -> dict[str, Any]:
    """What all starts of the run asked and paid for; `known`, `together` and the rate are of this start, which sent `asked` requests."""
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
        "requests_per_second": round(asked / seconds, 1) if seconds else 0.0,
        "tokens": asdict(spent.usage + spent.batch_usage),
        "untold": spent.untold,
        "redacted": dict(spent.redacted),
        "cost": budget.cost(spent),
        "cost_told": f"by prices of {budget.price.as_of}{share}" if budget.price else "the model's price is not known",
        "limit": budget.limit,
    }
