"""`beepgpt review`: a web page on this machine, to choose few-shot examples by hand."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from beepgpt.commands.closing import say_next
from beepgpt.commands.example_source import input_of, lines_of, retracted_in, retractions_of
from beepgpt.commands.flags import Names, NoNames, with_settings
from beepgpt.config.settings import Settings
from beepgpt.connectors.log import TopicAddress
from beepgpt.conversations.signals import Signal, SignalVerdict
from beepgpt.errors import BadCommand
from beepgpt.labeling.few_shots import FewShots
from beepgpt.labeling.review_queue import ReviewedExample, Sample
from beepgpt.packages import needing
from beepgpt.runtime.console import Watched, console
from beepgpt.runtime.names import known_names
from beepgpt.runtime.places import log_of

if TYPE_CHECKING:
    from beepgpt.labeling.review_queue import OpinionSource

OPINIONS = ("local", "rules", "none")
SAMPLE = 5_000
NEWEST = 500
"""Newest examples that can be reviewed beside the random sample."""


@with_settings
def review(
    source: Annotated[str, typer.Argument(help="Examples, labeled or not: a .jsonl, a .parquet, or a topic.")],
    settings: Settings,
    labeler: Annotated[
        str | None, typer.Option(help="Whose opinion is shown beside yours: local, rules or none.", show_default=False)
    ] = None,
    names: Names = None,
    no_names: NoNames = False,
    sample: Annotated[int, typer.Option(help="Examples in the random sample; the newest are there beside it.", min=1)] = SAMPLE,
    port: Annotated[int, typer.Option(help="Where the page is; 0: on any port that is free.", min=0, max=65_535)] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Choose few-shot examples by hand, on a web page on this machine."""
    with needing("beepgpt review", "label"):
        from beepgpt.labeling.review_queue import ReviewQueue
        from beepgpt.web import local_server, review_page
    if labeler not in (None, *OPINIONS):
        raise BadCommand(f"--labeler {labeler}: {', '.join(OPINIONS)} is expected")
    ours, known = settings.labeling, known_names(names, [source], no_names=no_names)
    with closing(FewShots(ours.few_shots)) as kept:
        examples = examples_in(source, settings, kept, sample)
        for each in kept.mended:
            console.print(each)
        opinions = opinions_of(labeler or ours.labeler, ours.learn_from)
        queue = ReviewQueue(examples, kept, opinions, people=known, channels=known)
        with closing(local_server.listen(port)) as listener:
            keys = local_server.Keys(listener.getsockname()[1], "review")
            console.print(f"Review at {keys.address()}")
            console.print(f"Choices go to {ours.few_shots} as you make them; Ctrl-C ends the review.")
            if browser and can_show_pages():
                threading.Thread(target=webbrowser.open, args=(keys.address(once=True),), daemon=True).start()
            local_server.serve(review_page.Page(queue, source).app(keys), listener)
        strong, weak = kept.counts.values()
        console.print(f"{ours.few_shots}: {strong} strong and {weak} weak few-shots, {kept.skipped} examples skipped.")
        say_next("label", source, "--few-shots", ours.few_shots, "--to", "labeled.jsonl")


# SOURCE


def examples_in(source: str, settings: Settings, kept: FewShots, most: int) -> list[ReviewedExample]:
    """The examples that can be reviewed; few-shots of which a message was deleted are removed."""
    sample = Sample(most, NEWEST, kept.decided)
    retracted = set()
    for identity, line in records_of(source, settings):
        if line is None:
            sample.retract(identity)
            retracted.add(identity)
        else:
            sample.add(line)
    for identity in sorted(each for each in retracted if kept.decided.get(each) in ("strong", "weak")):
        kept.remove(identity)
        console.print(f"{kept.folder}: few-shot {identity} is taken out: a message of it was deleted.")
    examples = sample.examples()
    if not examples:
        what = f"{sample.read['silent']:,} silences" if sample.read["silent"] else f"{sample.read['unreadable']:,} lines of something else"
        raise BadCommand(f"SOURCE {source}: holds no example that somebody answered ({what}): give what `beepgpt examples` wrote")
    if wrong := sample.read["unreadable"]:
        console.print(f"{source}: {wrong:,} lines are no examples, and are left out (the first: {sample.first_unreadable}).")
    console.print(f"{source}: {sample.read['examples']:,} answered examples, {len(examples):,} different ones at hand.")
    return examples


ReviewedKey = tuple[str, bytes | None]
"""An example's line; or the id of one that was retracted, and None."""


def records_of(source: str, settings: Settings) -> Iterator[ReviewedKey]:
    """All examples of SOURCE, then its retractions. Raises BadCommand, CannotRead."""
    origin = input_of(source)
    if origin.address is not None:
        yield from _in_topic(source, origin.address, settings)
        return
    assert origin.file is not None
    with Watched("reading examples", shown=settings.run.progress) as watched:
        read = 0

        def progress(count: int, done: float) -> None:
            nonlocal read
            read += count
            watched.update(0, 1, read, done)

        yield from (("", line) for line in lines_of(origin.file, progress=progress))
    yield from ((each, None) for each in retracted_in(retractions_of(origin.file)))


def _in_topic(source: str, address: TopicAddress, settings: Settings) -> Iterator[ReviewedKey]:
    """A topic's examples, then its tombstones, to its present end."""
    if not address.is_whole:
        raise BadCommand(f"SOURCE {source}: a review goes through the whole topic, to its end: leave out from, to and follow")
    retracted = {}
    for _, record in log_of(settings, address).records(address.topic):
        key = (record.key or b"").decode("utf-8", "replace")
        retracted[key] = record.value is None
        if record.value is not None:
            yield key, record.value
    yield from ((key, None) for key, is_gone in retracted.items() if is_gone)


# What is known beside it


def opinions_of(labeler: str, learn_from: Path | None) -> OpinionSource | None:
    """The opinions of a labeler of this machine; None for all others. A provider would cost: its labels may stand in SOURCE."""
    if labeler not in ("local", "rules"):
        return None
    from beepgpt.labeling.labelers.rules import RulesLabeler

    if labeler == "rules":
        rules = RulesLabeler()
        return lambda prompts, _: [rules.label(prompt).result() for prompt in prompts]
    with needing(f"--labeler {labeler} (--labeler none does without)", "label"):
        from beepgpt.labeling.agreement import LEAST
        from beepgpt.labeling.labelers.labeled import CannotLearn, Labeled, read_labeled
        from beepgpt.labeling.labelers.local import unseen_verdicts
    from beepgpt.labeling.review_queue import NoOpinion

    others = [] if learn_from is None else list(read_labeled(lines_of(learn_from), learn_from))

    def learned(prompts: Sequence[str], chosen: Mapping[Signal, Sequence[str]]) -> list[SignalVerdict | None]:
        few_shots = [Labeled(prompt, signal) for signal, those in chosen.items() for prompt in those]
        try:
            return unseen_verdicts(prompts, few_shots, others)
        except CannotLearn:
            raise NoOpinion(f"has no opinion yet: it learns from {LEAST} strong and {LEAST} weak ones") from None

    return learned


def can_show_pages() -> bool:
    """Whether there is a browser with windows: one for terminals would take over this terminal."""
    has_windows = sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return has_windows or "BROWSER" in os.environ
