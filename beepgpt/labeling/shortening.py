"""Long few-shots in short, before they go into every request: counted, asked for once, and kept beside the prompt in their file."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace

from beepgpt.config.settings import Settings
from beepgpt.connectors.openai.client import Client
from beepgpt.connectors.openai.responses import Spent, spent_of
from beepgpt.connectors.openai.values import TextRequest
from beepgpt.conversations.tokens import Encoding
from beepgpt.errors import BadAnswer, BadCommand, ProviderFailed, RequestRefused, RunStopped
from beepgpt.labeling.few_shots import FewShots
from beepgpt.labeling.redaction import redact
from beepgpt.labeling.requests import Budget, dollars, model_of
from beepgpt.labeling.run import FewShot
from beepgpt.labeling.summaries import AskText, NoSummary, instructions, summarised
from beepgpt.runtime.console import console

ROOM = 4
"""Tokens that an answer may have for each one that is wished for: what is too long is refused by us, and not cut short by the server."""


def long_ones(shots: Sequence[FewShot], encoding: Encoding, limit: int) -> list[FewShot]:
    """Strong few-shots of which more than `limit` tokens would be shown, if there is a limit: weak ones are short by nature."""
    return [each for each in shots if limit and each.signal == "strong" and len(encoding.encode_ordinary(each.text)) > limit]


def summarise(long: Sequence[FewShot], settings: Settings, client: Client, encoding: Encoding, budget: Budget) -> Spent:
    """Writes a summary of each into its few-shot's file; tells of those that can't be had in short. Returns what that took.

    Raises BadCommand if it costs more than is allowed, RunStopped if the provider fails.
    """
    limit = settings.labeling.summarise
    asked = sum(len(encoding.encode_ordinary(instructions(limit) + each.question.prompt)) for each in long)
    told = f"{len(long)} strong few-shots have more than {limit:,} tokens, and get a summary first (--summarise)"
    if budget.price is None:
        console.print(f"{told}.")
    else:
        cost = budget.price.cost(input=asked, output=limit * len(long))
        if budget.limit is not None and cost > budget.limit:
            raise BadCommand(f"{told}: about {dollars(cost)}, and --max-cost is {dollars(budget.limit)}: raise it, or choose shorter ones")
        console.print(f"{told}: about {dollars(cost)}.")
    tokens: dict[str, int] = {}
    by_id = {each.question.id: each for each in long}

    def tokens_of(text: str) -> int:
        return len(encoding.encode_ordinary(text))

    with closing(FewShots(settings.labeling.few_shots)) as kept:
        chosen = [(identity, line) for identity, signal, line in kept.chosen() if signal == "strong"]
        mine = [line for identity, line in chosen if identity in by_id]
        try:
            done = list(summarised(mine, asking(client, settings, tokens), tokens_of, limit))
        except ProviderFailed as error:
            raise RunStopped(f"{error}; no few-shot has got its summary yet, and the same command begins with them") from error
        told_of = iter(done)
        kept.retell("strong", [next(told_of).line if identity in by_id else line for identity, line in chosen])
    for (identity, _), each in zip([pair for pair in chosen if pair[0] in by_id], done, strict=True):
        if each.problem:
            console.print(f"Few-shot {identity} keeps its prompt: {each.problem}.")
    return spent_of(client.account, tokens)


def asking(client: Client, settings: Settings, redacted: dict[str, int]) -> AskText:
    """Asks for one summary; what must not leave is taken out of the text here, and counted."""
    limit = settings.labeling.summarise
    model = replace(model_of(settings.provider), way="chat", max_tokens=ROOM * limit)

    def ask(prompt: str) -> Future[str]:
        safe = redact(prompt)
        for kind, times in safe.counts.items():
            redacted[kind] = redacted.get(kind, 0) + times
        written: Future[str] = Future()
        client.ask_text(TextRequest(model, instructions(limit), safe.text)).add_done_callback(lambda theirs: tell(theirs, written))
        return written

    def tell(theirs: Future[str], written: Future[str]) -> None:
        try:
            written.set_result(theirs.result())
        except (BadAnswer, RequestRefused) as error:  # that text's fault alone
            written.set_exception(NoSummary(str(error)))
        except BaseException as error:
            written.set_exception(error)

    return ask
