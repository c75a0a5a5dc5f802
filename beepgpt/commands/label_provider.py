"""A run of `beepgpt label` whose labeler is an LLM: allowed, estimated and agreed to before it asks, and never paid for twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from beepgpt.commands.example_source import look_at
from beepgpt.commands.label_agreement import check_accuracy
from beepgpt.commands.label_budget import agreed, check_summaries, estimate_of, provider_account
from beepgpt.commands.labeling import LabelJob, closed, remembering, report_of, run_labeling
from beepgpt.commands.provider import check_may_leave, client_of, may_leave_by, model_of
from beepgpt.config.prices import read_prices
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.connectors.openai.client import batch_parts
from beepgpt.connectors.openai.responses import Responses, Spent, spent_of
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.tokens import Encoding
from beepgpt.errors import BadCommand, ProviderFailed, RunStopped
from beepgpt.labeling.asking import ENCODING, INSTRUCTIONS, Asking, Budget, asking_of
from beepgpt.labeling.batches import Batches, BatchReporter
from beepgpt.labeling.few_shots import FewShot, FewShots, balanced, by_hand, read_few_shots
from beepgpt.labeling.labelers.provider import AHEAD, ProviderLabeler
from beepgpt.labeling.questions import LabelQuestion
from beepgpt.labeling.summaries import long_few_shots, summarise
from beepgpt.labeling.trial import LabelTrial
from beepgpt.runtime.console import console
from beepgpt.runtime.running import ended_before
from beepgpt.runtime.workers import interruptible

INTERRUPTED = "interrupted before the first label; what was answered is kept, and batches go on: the same command goes on with them"


def run_provider(job: LabelJob, few_shots: list[FewShot], *, yes: bool, force: bool) -> tuple[dict[str, Any], int]:
    """Run it; returns the report and exit status. Raises NoBetterThanChance, unless `force`."""
    settings = job.settings
    what = "--labeler provider sends what people wrote"
    check_may_leave(settings.provider, what, "--labeler local and --labeler rules send nothing")
    may_leave = may_leave_by(settings.provider)
    encoding = load_encoding(ENCODING)
    prices = read_prices(settings.labeling.prices)
    price = prices.of(settings.provider.model, settings.provider.way)
    limit = settings.labeling.max_cost if price is not None else None

    def is_excluded(question: LabelQuestion) -> bool:
        return not may_leave(question.channel, question.people)

    def chosen(those: Sequence[FewShot]) -> list[FewShot]:
        return balanced([each for each in those if not is_excluded(each.question)], settings.labeling.max_few_shots)

    before = Spent()
    long = long_few_shots(chosen(few_shots), encoding, settings.labeling.summarise)
    if long and not resumes(job):
        check_summaries(long, encoding, prices.of(settings.provider.model), limit, settings.labeling.summarise)
        before = write_summaries(long, settings, encoding)
        few_shots = read_few_shots(settings.labeling.few_shots)
    shots = chosen(few_shots)
    instructions = instructions_of(settings.labeling.instructions)

    def asking_with(shown: Sequence[FewShot]) -> Asking:
        return asking_of(model_of(settings.provider), instructions, [(each.text, each.signal) for each in shown], encoding)

    asking = asking_with(shots)
    trial = LabelTrial(
        [] if force else [each for each in few_shots if not is_excluded(each.question)], lambda rest: asking_with(chosen(rest))
    )
    known = by_hand(few_shots)
    run = f"{job.to.identity} {asking.fingerprint}"
    store = store_of(job)
    with ExitStack() as stack:
        recovery = stack.enter_context(remembering(job, "provider", asking.fingerprint))
        if (ended := ended_before(recovery)) is not None:
            return ended, 0
        print_shots(settings, few_shots, shots)
        answers = stack.enter_context(Responses(store))
        if before.asked:
            answers.begin(run)
            answers.note(before)
        budget = Budget(price, prices.batch, limit, answers.spent(run))
        estimate, retracted = None, frozenset[str]()

        def wanted() -> Iterator[str]:
            """The prompts that have to be asked about."""
            for question in contents.questions():
                if not (question.is_silent or question.id in known or question.id in retracted or is_excluded(question)):
                    yield question.prompt

        def is_known(request_id: str) -> bool:
            return answers.get(request_id) is not None

        with interruptible(INTERRUPTED):
            if not job.origin.is_followed:
                contents = look_at(job.origin, job.settings)
                retracted = contents.retracted
                estimate = estimate_of(wanted(), asking, is_known, budget, settings)
                estimate = estimate.plus(trial.estimate(budget, is_known, settings.provider.concurrency))
            budget = agreed(budget, estimate, settings, yes=yes)
        client = stack.enter_context(client_of(settings))
        answers.begin(run)
        redacted: Counter[str] = Counter()

        def spent() -> Spent:
            return spent_of(client.account, redacted)

        if not force:
            with interruptible(INTERRUPTED):
                accuracy = trial.accuracy(lambda part: ProviderLabeler(client, part, answers, budget, redacted, spent))
            answers.note(spent())
            check_accuracy("provider", accuracy, force=force)
        if settings.labeling.batch:
            complete(Batches(client, asking, answers, run, wanted, batch_parts, BatchReporter(console.print), redacted, spent))
        labeler = ProviderLabeler(client, asking, answers, budget, redacted, spent)
        ahead = AHEAD * settings.provider.concurrency
        result = run_labeling(job, recovery, labeler, known=known, retracted=retracted, is_excluded=is_excluded, ahead=ahead)
        answers.note(spent())
        report = report_of(job, "provider", asking.fingerprint, result) | {
            "provider": provider_account(settings, budget, answers.spent(run), labeler, spent().asked, result.seconds),
            "estimate": None if estimate is None else asdict(estimate),
        }
        return closed(job, report, result, recovery)


def resumes(job: LabelJob) -> bool:
    """Whether this run was begun before, with the few-shots as they were: with others it would be another run."""
    return job.recovery is not None and job.recovery.is_dir() and any(job.recovery.iterdir())


def write_summaries(long: Sequence[FewShot], settings: Settings, encoding: Encoding) -> Spent:
    """Have long few-shots summarized; returns the spending on that."""
    redacted: Counter[str] = Counter()
    with client_of(settings) as client, interruptible(INTERRUPTED), closing(FewShots(settings.labeling.few_shots)) as store:
        summarise(long, store, model_of(settings.provider), client.ask_text, encoding, settings.labeling.summarise, redacted, console.print)
        return spent_of(client.account, redacted)


def instructions_of(path: Path | None) -> str:
    """The model's instructions: ours, or those of a file. Raises BadCommand."""
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
    """The file of answers: as the settings say, else beside the labels. Raises BadCommand."""
    if job.settings.labeling.store is not None:
        return job.settings.labeling.store
    if (path := job.to.given().get("examples")) is None:
        raise BadCommand("--labeler provider keeps what was answered, so that nothing is paid for twice: name a file for it, --store FILE")
    return path.with_name(f"{path.name.removesuffix('.jsonl')}.responses.sqlite")


def print_shots(settings: Settings, few_shots: Sequence[FewShot], shots: Sequence[FewShot]) -> None:
    """Print how many few-shots go into each request."""
    folder = settings.labeling.few_shots
    if shots:
        console.print(f"{len(shots)} few-shots of {folder}, half of them strong; {len(few_shots):,} examples there are labeled by hand.")
    elif settings.labeling.max_few_shots:
        found = f"only {few_shots[0].signal} ones can be used" if few_shots else "there are none"
        console.print(f"Without few-shots ({found} in {folder}): the model gets the instructions alone. Choose some with beepgpt review.")


def complete(batches: Batches) -> None:
    """Wait for all batches."""
    with interruptible(INTERRUPTED):
        try:
            batches.complete()
        except ProviderFailed as error:
            raise RunStopped(f"{error}; what was answered is kept, and the same command goes on from here") from error
