"""A provider as the settings describe it: its client, what may be sent to it, and models that it serves."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from beepgpt.config.sections import ProviderSettings
from beepgpt.config.settings import Settings, revealed
from beepgpt.connectors.http import is_this_machine
from beepgpt.errors import BadCommand, ProviderFailed, RunStopped
from beepgpt.runtime.console import console

if TYPE_CHECKING:
    from beepgpt.connectors.openai.client import Client
    from beepgpt.connectors.openai.values import AskedModel
    from beepgpt.training.models import Trained
    from beepgpt.training.uploads import MayLeave

PROBE = "Does it answer with a label?\n\n###\n\n"
"""Asked once before anything else; nobody wrote it."""
_KNOWN = re.compile(r"gpt-(?:5\.[6-9]|[6-9]|\d\d)")
"""Models that take a mark where the shared part ends, and that reason unless it is switched off."""

Progress = Callable[[int, int], None]
"""Called with the points that are done, and all points."""


# The client


def client_of(settings: Settings) -> Client:
    """A client of the settings' provider. Raises BadCommand if they can't be right, AddressRefused if nothing may be sent there."""
    from beepgpt.connectors.openai.client import Client
    from beepgpt.connectors.openai.values import Provider

    ours = settings.provider
    try:
        return Client(
            Provider(
                base_url=ours.base_url,
                key=revealed(ours.key),
                organisation=ours.organisation,
                project=ours.project,
                concurrency=ours.concurrency,
                requests_per_minute=ours.requests_per_minute or None,
                tokens_per_minute=ours.tokens_per_minute or None,
                tries=ours.tries,
                deadline=ours.deadline / 1e6,
                timeout=ours.timeout / 1e6,
                stall=min(ours.timeout / 1e6, Provider.stall),
                allow_external=ours.allow_external,
                proxy=revealed(ours.proxy),
                api_version=ours.api_version,
            )
        )
    except ProviderFailed as error:
        raise BadCommand(str(error)) from error


def model_of(settings: ProviderSettings) -> AskedModel:
    """The settings' model and its options; nothing is assumed of a model that isn't known."""
    from beepgpt.connectors.openai.values import AskedModel

    is_known = _KNOWN.match(settings.model) is not None
    effort = ("none" if is_known else "") if settings.effort == "auto" else settings.effort
    return AskedModel(
        settings.model,
        settings.way,
        logprobs=settings.logprobs,
        effort=effort or None,
        marks_prefix=is_known and settings.way == "chat",
        max_tokens=settings.max_tokens,
    )


# What may leave


def check_may_leave(settings: ProviderSettings, what: str, instead: str = "--model local and --model text send nothing") -> None:
    """Raise BadCommand, with what there is to weigh, unless text may be sent to this provider. `what` would send it."""
    if settings.allow_external or is_this_machine(settings.base_url):
        return
    raise BadCommand(
        f"{what}, and sending that to {urlsplit(settings.base_url).hostname} is switched off.\n"
        'Slack\'s App Developer Policy prohibits "Using Data to train an LLM under any circumstances", and your company may have rules of'
        " its own: whether its messages may go there is yours to weigh.\n"
        "To switch it on: allow_external = true under [provider] of your settings, or BEEPGPT_PROVIDER__ALLOW_EXTERNAL=true. Without it:"
        f" {instead}, and neither does a server on this machine (provider.base_url)."
    )


def may_leave_by(settings: ProviderSettings) -> MayLeave:
    """What `exclude_channels` and `exclude_people` (ids, joined by commas) leave to be sent.

    >>> may_leave = may_leave_by(ProviderSettings.model_construct(exclude_channels="C1, C2", exclude_people="U7"))
    >>> may_leave("C1", {"U1"}), may_leave("C3", {"U1", "U7"}), may_leave("C3", {"U1"})
    (False, False, True)
    """
    excluded = (settings.exclude_channels, settings.exclude_people)
    channels, people = (frozenset(each.strip() for each in ids.split(",")) - {""} for ids in excluded)
    return lambda channel, authors: channel not in channels and people.isdisjoint(authors)


# Models


@contextmanager
def open_model(folder: Path, settings: Settings, progress: Progress = lambda done, of: None) -> Iterator[Trained]:
    """A trained model: read from its folder, or asked at its server for as long as it is open.

    Raises BadModel if the folder holds none; BadCommand if nothing may be sent; LabelsMissing if the server doesn't give what a prediction
    needs; RunStopped if it can't be asked, now or later.
    """
    from beepgpt.training.models import REMOTE, Trained, load_model, read_card

    card = read_card(folder)
    if card["kind"] != REMOTE:
        yield load_model(folder)
        return
    try:
        with _served_model(folder, card, settings, progress) as model:
            yield Trained(model, card, folder)
    except ProviderFailed as error:
        raise RunStopped(f"{folder}: {error}") from error


@contextmanager
def _served_model(folder: Path, card: dict[str, Any], settings: Settings, progress: Progress) -> Iterator[Any]:
    """A server's model, once it has answered a probe as predictions need it."""
    from beepgpt.connectors.openai.labels import Scorer, ask, checked
    from beepgpt.labeling.redaction import redact
    from beepgpt.training.folder import LABELS
    from beepgpt.training.remote import DECIDING, RemoteModel, labels_in, options_in

    remote = card["remote"]
    check_may_leave(settings.provider, f"the model in {folder} is asked what people wrote")
    decides = remote["way"] == "decisions"
    labels = orjson.loads((folder / LABELS).read_bytes()) if not decides else {"people": []}
    people = labels_in(labels)
    with client_of(settings) as client:
        system = DECIDING if decides else remote["system"]
        scorer = checked(client, Scorer(remote["model"], remote["way"], (*people, *options_in(labels)), system), PROBE)
        yield RemoteModel(
            remote["way"],
            people,
            # redacted, as the prompts were when it was trained
            lambda question, seconds: ask(client, scorer, redact(question.text).text, question.options, deadline=seconds),
            settings.provider.concurrency,
            may_leave_by(settings.provider),
            progress,
        )


@contextmanager
def open_models(folders: Sequence[Path], settings: Settings, progress: Progress) -> Iterator[list[Trained]]:
    """Several models, as `open_model` opens one."""
    with ExitStack() as stack:
        yield [stack.enter_context(open_model(each, settings, progress)) for each in folders]


def say_strangers(models: Sequence[Trained], folder: Path) -> None:
    """Say if the people of a training set are strangers to a model that was trained on another one."""
    from beepgpt.training.folder import MANIFEST, VALID
    from beepgpt.training.models import hash_of
    from beepgpt.training.people import StrangersCheck, people_in

    others = [each for each in models if each.card["manifest"] != hash_of((folder / MANIFEST).read_bytes())]
    people = people_in(folder / VALID) if others else set()
    for each in others:
        check = StrangersCheck(each.folder, each.card["manifest"], console.print)
        check.add(people)
        check.end()


def print_unanswered(models: Sequence[Trained]) -> None:
    """How many points a server's model gave no answer for, and why: they count as somebody else."""
    for each in models:
        for reason, count in getattr(each.model, "counts", {}).items():
            console.print(f"{each.folder}: {count:,} points count as somebody else: {reason}")
