"""A run of `beepgpt forget`: look for everything, put it on the list, then remove it place by place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from beepgpt.config.settings import Settings
from beepgpt.connectors.log import KAFKA, SQLITE, Log, folder_of
from beepgpt.conversations.forgetting import Forgotten
from beepgpt.errors import BadCommand
from beepgpt.forgetting.kinds import found_in, place_of
from beepgpt.forgetting.records import Cleaning, Removal
from beepgpt.forgetting.stores import check_stopped, made_by_up
from beepgpt.forgetting.topics import clean_topic, topics_to_clean
from beepgpt.runtime.forgotten import locked_list, new_list, read_forgotten, write_forgotten
from beepgpt.runtime.places import is_topic, log_of, topic_of

MessageName = tuple[str, str]
"""A channel's id, and a message's time as Slack writes it."""


@dataclass(frozen=True)
class ForgetJob:
    """The arguments of `beepgpt forget`."""

    places: Sequence[str]
    settings: Settings
    people: Sequence[str] = ()
    channels: Sequence[str] = ()
    messages: Sequence[MessageName] = ()
    apply: bool = False
    """Whether it is done, or only looked for."""
    drop: bool = False
    """Whether a topic that is rewritten beside itself is put in its own place."""
    is_ours: Callable[[str], bool] = lambda name: True
    """Whether a topic of brokers that are named as a whole is one of this program's."""


def run_forget(job: ForgetJob, progress: Callable[[str], None] = lambda place: None) -> dict[str, Any]:
    """Find, and with `apply` remove; returns the report. It may be killed at any moment: each file is then the old one or the new one, and
    the same command does the rest. Where something is in use, nothing is changed, the list included.

    What a forgotten person wrote is put on the list message by message, too: an edit or a reaction may not say whose message it is about.
    So is how a message of somebody else was shown that quoted what is forgotten: an example doesn't say whom its prompt quotes.
    Raises BadCommand, BadForgottenList, CannotWrite, and what a place raises that is in use.
    """
    path = job.settings.run.forgotten
    for place in job.places:
        if not is_topic(place) and not (place and Path(place).exists()):
            raise BadCommand(f"--from {place}: there is no such file or folder")
    for name in (*job.people, *job.channels, *(channel for channel, _ in job.messages)):
        if not name.strip() or name != name.strip() or name[0] in "@#<":
            raise BadCommand(f"{name!r} is no id: an id is expected, as U024BE7LH of a person or C024BE91L of a channel")
    with locked_list(path):
        before = read_forgotten(path)
        forgotten = (before or new_list()).with_names(job.people, job.channels, job.messages)
        if not forgotten.hashes:
            raise BadCommand("nobody is forgotten: give --user, --channel or --message; --from alone is for what is on the list already")
        forgotten, findings = _found(job, forgotten, progress)
        if job.apply:
            if before is None or before.hashes != forgotten.hashes:
                write_forgotten(path, forgotten)  # first: what comes in from now on is left out
            findings = list(_all(job, Cleaning(forgotten, apply=True), progress))
    return {
        "command": "forget",
        "from": list(job.places),
        "list": str(path.expanduser()),
        "on_the_list": len(forgotten.hashes),
        "done": job.apply,
        "found": sum(each.found for each in findings),
        "places": [
            {"place": each.place, "kind": each.kind, "found": each.found, "done": each.done, "rebuild": each.rebuild} for each in findings
        ],
    }


def _found(job: ForgetJob, forgotten: Forgotten, progress: Callable[[str], None]) -> tuple[Forgotten, list[Removal]]:
    """The list with all that the places say about it, and what is found by it in each place.

    A person's messages identify their edits, reactions and alerts, and quotes that name nobody; these identify what shows them.
    """
    while True:
        forgotten.found = set()
        findings = list(_all(job, Cleaning(forgotten, apply=False, refuses=job.apply), progress))
        more = forgotten.with_names(messages=sorted(forgotten.found))
        if more.hashes == forgotten.hashes:
            more = forgotten.with_names(shown=sorted(forgotten.shown))
        if more.hashes == forgotten.hashes:
            return forgotten, findings
        forgotten = more


def _all(job: ForgetJob, cleaning: Cleaning, progress: Callable[[str], None]) -> Iterator[Removal]:
    """What is found in each place, or done there; what several places hold is looked at once."""
    seen = {job.settings.run.forgotten.expanduser().resolve()}
    topics: set[str] = set()
    for place in job.places:
        if cleaning.locks and not place.startswith(KAFKA):
            check_stopped((folder_of(place) if place.startswith(SQLITE) else Path(place)).resolve())
        if is_topic(place):
            log, names = _topics_of(place, job, cleaning)
            for topic, at in ((each, f"{log.place}/{each}") for each in names):
                if at not in topics:
                    topics.add(at)
                    progress(at)
                    found = clean_topic(log, topic, cleaning, drop=job.drop).of(at, "topic")
                    yield made_by_up(found, folder_of(place)) if place.startswith(SQLITE) else found
            continue
        if not (path := place_of(Path(place))).exists():
            continue  # it was deleted with a place before it
        for each, kind in list(found_in(path)):
            name = each.absolute() if each.is_symlink() else each.resolve()
            if name in seen:
                continue
            seen.add(name)
            progress(str(each))
            if kind is not None:
                linked = _hard_links(each)
                found = made_by_up(kind.clean(each, cleaning).of(str(each), kind.name), each)
                if found.found and linked:
                    hint = f"{linked:,} files have other names (hard links), which keep the old content: name these, too"
                    found = replace(found, rebuild=f"{found.rebuild}; {hint}" if found.rebuild else hint)
                yield found
            else:
                yield Removal().of(str(each), "link" if each.is_symlink() else "unknown")


def _topics_of(place: str, job: ForgetJob, cleaning: Cleaning) -> tuple[Log, list[str]]:
    """The log of a place, and the topics there that it names: one, or all that are ours. Raises BadCommand."""
    is_folder = place.startswith(SQLITE) and folder_of(place).is_dir()
    is_whole = is_folder or (place.startswith(KAFKA) and "/" not in place.removeprefix(KAFKA).rstrip("/") and "?" not in place)
    if not is_whole:
        address = topic_of(place, "--from")
        return log_of(job.settings, address), [address.topic]
    log = log_of(job.settings, topic_of(f"{place.rstrip('/')}/any", "--from"))
    names = sorted(log.topics()) if is_folder else topics_to_clean(log, job.is_ours, cleaning.forgotten.digest)
    if not names:
        raise BadCommand(f"--from {place}: none of the topics there is ours, by its name: name each, as {place.rstrip('/')}/slack.events")
    return log, names


def _hard_links(path: Path) -> int:
    """How many files of a place have another name somewhere."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(each.stat().st_nlink > 1 for each in files if each.is_file() and not each.is_symlink())
