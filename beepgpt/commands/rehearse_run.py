"""What `beepgpt rehearse` reads, and the rehearsal of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.errors import BadCommand
from beepgpt.runtime.console import console, time_left
from beepgpt.runtime.places import is_topic, lines_with_places
from beepgpt.runtime.workers import collect_rarely
from beepgpt.training.folder import CARD

if TYPE_CHECKING:
    from beepgpt.alerts.choosing import WantedAlerts
    from beepgpt.alerts.decisions import Policy, Preferences
    from beepgpt.alerts.rehearsal import RehearsalHistory
    from beepgpt.alerts.replay import MaySee


PRECISIONS = (0.5, 0.4, 0.3, 0.2)
"""The shares of alerts whose readers should join, where nothing else is asked for: the first that some threshold reaches is taken."""
OTHERWISE = 0.3
"""The least probability for an alert where no threshold can be chosen."""


def rehearsal_of(
    source: str,
    outcomes: str | None,
    settings: Settings,
    model: Path | None,
    wishes: Sequence[WantedAlerts],
    store: Path | None,
    members: Path | None,
    names: Mapping[str, str],
) -> dict[str, Any]:
    """Rehearse what stands in files or on topics. Returns the values of the page and the report.

    `wishes`: the first that some threshold meets is taken. If none is, it is the threshold that was recommended for the model before, or
    that a retrained one keeps, or `OTHERWISE`.
    """
    from beepgpt.alerts.rehearsal_report import RUNS, rehearsal_report
    from beepgpt.commands.alert import policy_of
    from beepgpt.training.live import threshold_in

    collect_rarely()
    history = history_in(source, outcomes, settings, model)
    asked, may_see = preferences_in(store, members, {user for point in history.points for user, _ in point.people})

    def policy_at(threshold: float) -> Policy:
        policy = policy_of(settings, threshold)
        return replace(policy, opted_in=True) if store is None else policy

    given = settings.alerts.threshold
    how: dict[str, Any] = {"asked": asked, "may_see": may_see, "names": names, "everybody": store is None, "wishes": wishes}

    before = None if model is None else threshold_in(model)
    if before is not None and before.found == "validated":
        before = None  # by all next answers, and not by alerts

    def instead(why: str) -> float:
        return OTHERWISE if before is None else before.value

    with time_left(f"replaying {len(history.points):,} points", RUNS) as on_run:
        values = rehearsal_report(history, None if given is None else policy_at(given), policy_at, instead, on_run=on_run, **how)
    guessed = "a guess" if before is None else "as was recommended before" if before.found == "rehearsed" else "which the model keeps"
    guessed = guessed if given is None else "as was set"
    return {**values, "live": is_topic(source) or store is not None, "asked": wishes[0]._asdict(), "guessed": guessed}


def wishes_of(precision: float | None = None, per_week: float | None = None) -> list[WantedAlerts]:
    """What alerts should be like, the best first: as asked for, or else the usual, each time with fewer who join."""
    from beepgpt.alerts.choosing import WantedAlerts

    if precision is None and per_week is None:
        return [WantedAlerts(each) for each in PRECISIONS]
    return [WantedAlerts(precision, per_week)]


def history_in(source: str, outcomes: str | None, settings: Settings, model: Path | None) -> RehearsalHistory:
    """Read predictions and outcomes. Raises BadCommand if one of the two is missing altogether, or --model is no model."""
    from beepgpt.alerts.rehearsal import read_history
    from beepgpt.training.live import name_of
    from beepgpt.training.parts import parts_of

    if model is not None and not (model / CARD).is_file():
        raise BadCommand(f"--model {model}: is no trained model: beepgpt train SET --to {model}")
    parts = None if model is None else {name_of(model): parts_of(orjson.loads((model / CARD).read_bytes()))}
    named = [("PREDICTIONS", source, "prediction"), *([] if outcomes is None else [("--outcomes", outcomes, "outcome")])]
    gone: set[bytes] = set()
    read = (each for name, place, record in named for each in lines_with_places(name, place, settings, record, gone))
    history, unreadable = read_history(read, gone, parts)
    if gone:
        console.print(f"{len(gone):,} predictions are gone, since a message that they held was deleted.")
    if unreadable:
        console.print(
            f"{len(unreadable):,} lines are neither predictions nor outcomes, and are left out, the first of them {unreadable[0]}."
        )
    if not history.points:
        raise BadCommand(f"PREDICTIONS {source}: holds no prediction: give what `beepgpt score` wrote")
    if not history.outcomes:
        raise BadCommand("there is no outcome: give what `beepgpt score` wrote of what happened, with --outcomes")
    return history


def preferences_in(store: Path | None, members: Path | None, users: Collection[str]) -> tuple[dict[str, Preferences], MaySee]:
    """People's preferences from the alert store, their time zones from the export, and who may see which channel."""
    from beepgpt.alerts.decisions import Preferences
    from beepgpt.alerts.store import AlertStore
    from beepgpt.connectors.slack.members import Everybody, ListedMembers

    asked: dict[str, Preferences] = {}
    if store is not None:
        jsonl.check_readable(store)
        with closing(AlertStore(store)) as opened:
            asked = {user: opened.preferences(user) for user in users}
    listed = Everybody() if members is None else ListedMembers(members)
    for user in users:
        theirs = asked.get(user, Preferences())
        if theirs.zone is None and (zone := listed.person(user).zone) is not None:
            asked[user] = replace(theirs, zone=zone)
    return asked, lambda user, channel: listed.may_see(user, channel, listed.person(user))
