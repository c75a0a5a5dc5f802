"""`beepgpt review`: a web page on this machine, to choose few-shot examples by hand."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from beepgpt.commands.flags import with_settings
from beepgpt.commands.label_source import input_of, retractions_of
from beepgpt.config.settings import Settings, with_flags
from beepgpt.connectors import kafka
from beepgpt.connectors.files import jsonl
from beepgpt.conversations.signals import Signal, SignalVerdict
from beepgpt.errors import BadCommand, CannotRead
from beepgpt.labeling.few_shots import FewShots
from beepgpt.runtime.connections import connection_of
from beepgpt.runtime.console import Watched, console
from beepgpt.runtime.places import records_in

SAMPLE = 5_000
NEWEST = 500
"""Examples that are at hand in any case, for who wants the newest first."""
FOLDS = 5
"""Few-shots are judged by what was learned from the other four fifths of them."""
INSTALL = "pip install 'beepgpt[labeling]'"


@with_settings
def review(
    source: Annotated[str, typer.Argument(help="Examples, labeled or not: a .jsonl path, or kafka://host:port/topic.")],
    settings: Settings,
    few_shots: Annotated[Path | None, typer.Option(help="The folder of the few-shots; what stands there is gone on with.")] = None,
    labeler: Annotated[str | None, typer.Option(help="Whose opinion is shown beside yours: local, rules or none.")] = None,
    learn_from: Annotated[Path | None, typer.Option(help="Labeled examples that the local labeler learns from, too.")] = None,
    names: Annotated[
        list[Path] | None, typer.Option(help="An export's users.json, channels.json and the like: shows names in the place of ids.")
    ] = None,
    sample: Annotated[int, typer.Option(help="So many examples, chosen by chance, are at hand; beside them the newest.", min=1)] = SAMPLE,
    port: Annotated[int, typer.Option(help="Where the page is; 0: on any port that is free.", min=0, max=65_535)] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Choose few-shot examples by hand, on a web page on this machine."""
    try:
        from beepgpt.labeling.review import ReviewQueue
        from beepgpt.web import review_page
    except ModuleNotFoundError as error:
        raise BadCommand(f"beepgpt review needs {error.name}, which is not installed: {INSTALL}") from error
    given = {"few_shots": few_shots, "labeler": None if labeler == "none" else labeler, "learn_from": learn_from}
    ours = with_flags(settings, "labeling", given).labeling
    known = names_in(names or [])
    with closing(FewShots(ours.few_shots)) as kept:
        examples = examples_in(source, settings, kept, sample)
        for each in kept.mended:
            console.print(each)
        desk = ReviewQueue(
            examples, kept, thinker_of("none" if labeler == "none" else ours.labeler, ours.learn_from), people=known, channels=known
        )
        with closing(review_page.listen(port)) as listener:
            keys = review_page.Keys(listener.getsockname()[1])
            console.print(f"Review at {keys.address()}")
            console.print(f"Choices go to {ours.few_shots} as you make them; Ctrl-C ends the review.")
            if browser and can_show_pages():
                threading.Thread(target=webbrowser.open, args=(keys.address(once=True),), daemon=True).start()
            review_page.serve(review_page.Page(desk, source).app(keys), listener)
        strong, weak = kept.counts.values()
        console.print(f"{ours.few_shots}: {strong} strong and {weak} weak few-shots, {kept.skipped} examples skipped.")


# SOURCE


def examples_in(source: str, settings: Settings, kept: FewShots, most: int) -> list[Any]:
    """The examples that are at hand; few-shots of which a message was deleted since are taken out."""
    from beepgpt.labeling.review import Sample

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
    """All examples of SOURCE, then its retractions."""
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

        yield from (("", line) for line in _lines_in(origin.file, progress=progress))
    beside = retractions_of(origin.file)
    if beside.exists():
        for number, line in enumerate(_lines_in(beside), 1):
            try:
                yield str(orjson.loads(line)["id"]), None
            except (ValueError, TypeError, KeyError):
                raise CannotRead(f"{beside}: retraction {number} is none: mend it, since its example would be shown") from None


def _lines_in(path: Path, **how: Any) -> Iterator[bytes]:
    records = records_in(jsonl.JsonlSource(path, max_line=1 << 30, **how))  # an example may be longer than an event
    return (each for each in records if isinstance(each, bytes))


def _in_topic(source: str, address: kafka.KafkaAddress, settings: Settings) -> Iterator[ReviewedKey]:
    """A topic's examples and tombstones, to its end as it is now."""
    if (address.since, address.until, address.follow) != (None, None, False):
        raise BadCommand(f"SOURCE {source}: a review goes through the whole topic, to its end: leave out from, to and follow")
    retracted = {}
    for _, record in kafka.records_of(connection_of(settings, address.bootstrap), address.topic):
        key = (record.key or b"").decode("utf-8", "replace")
        retracted[key] = record.value is None
        if record.value is not None:
            yield key, record.value
    yield from ((key, None) for key, is_gone in retracted.items() if is_gone)


# What is known beside it


def names_in(paths: Iterable[Path]) -> dict[str, str]:
    """Names by id, of people and channels, as an export lists them."""
    names: dict[str, str] = {}
    for path in paths:
        jsonl.check_readable(path)
        try:
            for each in orjson.loads(path.read_bytes()):
                profile = each.get("profile") or {}
                name = profile.get("display_name") or profile.get("real_name") or each.get("real_name") or each.get("name")
                if name:
                    names[each["id"]] = str(name)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadCommand(f"--names {path}: a list of people or channels is expected, as users.json of an export is") from error
    return names


def thinker_of(labeler: str, learn_from: Path | None) -> Any:
    """How a labeler is asked what it thinks; None: it isn't. A provider never is, since that costs: its labels may stand in SOURCE."""
    if labeler not in ("local", "rules"):
        return None
    try:
        from beepgpt.labeling import labelers
    except ModuleNotFoundError as error:
        raise BadCommand(f"--labeler {labeler} needs {error.name}, which is not installed: {INSTALL}, or take --labeler none") from error
    if labeler == "rules":
        return lambda prompts, _: [labelers.RulesLabeler().label(prompt).result() for prompt in prompts]
    others = [] if learn_from is None else list(labelers.read_labeled(_lines_in(learn_from), learn_from))
    return lambda prompts, chosen: local_thoughts(prompts, chosen, others)


def local_thoughts(prompts: Sequence[str], chosen: Mapping[Signal, Sequence[str]], others: Sequence[Any]) -> list[SignalVerdict | None]:
    """What the local labeler has learned from the few-shots so far; of a few-shot itself, what it says when it hasn't seen that one."""
    from beepgpt.labeling.labelers import LEAST, CannotLearn, Labeled, LocalLabeler
    from beepgpt.labeling.review import NoOpinion

    few_shots = [Labeled(prompt, signal) for signal, those in chosen.items() for prompt in those]

    def learned_from(some: Sequence[Any], of: Sequence[str]) -> dict[str, float]:
        return dict(zip(of, LocalLabeler(some, others).chances(of), strict=True))

    try:
        p: dict[str, float] = learned_from(few_shots, prompts)
    except CannotLearn:
        raise NoOpinion(f"has no opinion yet: it learns from {LEAST} strong and {LEAST} weak ones") from None
    for fold in range(FOLDS):
        unseen = [each.prompt for each in few_shots[fold::FOLDS]]
        for each in unseen:
            p.pop(each, None)
        with suppress(CannotLearn):  # too few are left
            p |= learned_from([each for place, each in enumerate(few_shots) if place % FOLDS != fold], unseen)
    return [SignalVerdict("strong" if p[each] >= 0.5 else "weak", p[each], "local") if each in p else None for each in prompts]


def can_show_pages() -> bool:
    """Whether there is a browser with windows; one for terminals would take ours."""
    has_windows = sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return has_windows or "BROWSER" in os.environ
