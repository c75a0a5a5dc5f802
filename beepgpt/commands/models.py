"""A trained model, opened from its folder: one of this machine is read, one of a server is checked and asked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from beepgpt.config.sections import ProviderSettings
from beepgpt.config.settings import Settings
from beepgpt.errors import BadCommand, RunStopped
from beepgpt.runtime.console import console

if TYPE_CHECKING:
    from beepgpt.connectors.openai.client import Client
    from beepgpt.training.models import Trained
    from beepgpt.training.remote import PointQuestion

PROBE = "Does it answer with a label?\n\n###\n\n"
"""Asked once before anything else; nobody wrote it."""

log = logging.getLogger(__name__)


@contextmanager
def open_model(folder: Path, settings: Settings, told: Callable[[int, int], None] = lambda done, of: None) -> Iterator[Trained]:
    """A model of any kind, for as long as it is needed. `told` hears how far a server's model is with its predictions.

    Raises BadModel if the folder holds none; BadCommand if nothing may be sent, or the server doesn't give what a prediction needs;
    RunStopped if it can't be asked, now or later.
    """
    from beepgpt.training.models import REMOTE, Trained, load_model, read_card

    card = read_card(folder)
    if card["kind"] != REMOTE:
        yield load_model(folder)
        return
    from beepgpt.errors import ProviderFailed

    try:
        with _asked(folder, card, settings, told) as model:
            yield Trained(model, card, folder)
    except ProviderFailed as error:
        raise RunStopped(f"{folder}: {error}") from error


@contextmanager
def _asked(folder: Path, card: dict[str, Any], settings: Settings, told: Callable[[int, int], None]) -> Iterator[Any]:
    """A server's model, once it has shown that it gives what is needed."""
    import orjson

    from beepgpt.connectors.openai.labels import Scorer, ask, checked
    from beepgpt.errors import BadAnswer, RequestRefused
    from beepgpt.labeling.redaction import redact
    from beepgpt.training.checks import NIL, OTHER
    from beepgpt.training.models import LABELS
    from beepgpt.training.remote import DECIDING, RemoteModel, Unanswered, labels_in

    how = card["remote"]
    check_may_leave(settings.provider, f"the model in {folder} is asked what people wrote")
    people = {} if how["way"] == "decisions" else labels_in(orjson.loads((folder / LABELS).read_bytes()))
    system = DECIDING if how["way"] == "decisions" else how["system"]
    with client_of(settings) as client:
        scorer = checked(client, Scorer(how["model"], how["way"], (*people, NIL, OTHER), system), PROBE)

        def asked_of(question: PointQuestion, deadline: float | None) -> Future[dict[str, float]]:
            """With what must not leave taken out, as it was when the model was trained."""
            ended: Future[dict[str, float]] = Future()

            def hand_on(theirs: Future[dict[str, float]]) -> None:
                try:
                    ended.set_result(theirs.result())
                except (BadAnswer, RequestRefused) as error:
                    unanswered = Unanswered(str(error))
                    unanswered.__cause__ = error
                    ended.set_exception(unanswered)
                except BaseException as error:
                    ended.set_exception(error)

            ask(client, scorer, redact(question.text).text, question.options, deadline=deadline).add_done_callback(hand_on)
            return ended

        yield RemoteModel(how["way"], people, asked_of, settings.provider.concurrency, may_leave_by(settings.provider), told)


@contextmanager
def opened(
    folders: Sequence[Path], settings: Settings, told: Callable[[int, int], None] = lambda done, of: None
) -> Iterator[list[Trained]]:
    """Several of them."""
    with ExitStack() as stack:
        yield [stack.enter_context(open_model(each, settings, told)) for each in folders]


def how_far(done: int, of: int) -> str:
    """How far it is, in a line."""
    return f"asked about {done:,} of {of:,} points"


def tell_unanswered(models: Sequence[Trained]) -> None:
    """What servers' models didn't say, and why: it counts as somebody else."""
    for each in models:
        for what, count in getattr(each.model, "counts", {}).items():
            console.print(f"{each.folder}: {count:,} points count as somebody else: {what}")


def client_of(settings: Settings) -> Client:
    """Who asks. Raises BadCommand if the settings can't be right."""
    from beepgpt.connectors.openai.client import Client
    from beepgpt.errors import ProviderFailed
    from beepgpt.labeling.requests import provider_of

    try:
        return Client(provider_of(settings.provider))
    except ProviderFailed as error:
        raise BadCommand(str(error)) from error


def check_may_leave(settings: ProviderSettings, what: str) -> None:
    """Text may leave for this provider. Raises BadCommand with what there is to weigh."""
    from beepgpt.labeling.requests import is_this_machine

    if settings.allow_external or is_this_machine(settings.base_url):
        return
    raise BadCommand(
        f"{what}, and sending that to {urlsplit(settings.base_url).hostname} is switched off.\n"
        'Slack\'s App Developer Policy prohibits "Using Data to train an LLM under any circumstances", and your company may have rules of'
        " its own: whether its messages may go there is yours to weigh.\n"
        "To switch it on: allow_external = true under [provider] of your settings, or BEEPGPT_PROVIDER__ALLOW_EXTERNAL=true. Without it:"
        " --model local and --model text send nothing, and neither does a server on this machine (provider.base_url)."
    )


def may_leave_by(settings: ProviderSettings) -> Callable[[str, Collection[str]], bool]:
    """Whether what was said in a channel, by these people, may be sent: by `exclude_channels` and `exclude_people`."""
    channels, people = (
        frozenset(each.strip() for each in ids.split(",")) - {""} for ids in (settings.exclude_channels, settings.exclude_people)
    )
    return lambda channel, those: channel not in channels and people.isdisjoint(those)
