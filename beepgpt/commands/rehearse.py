"""`beepgpt rehearse`: what people would have been told, and how often rightly, on a page."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.table import Table

from beepgpt.alerts.decisions import NEVER, NoPrediction, PredictedConversation, Wishes, newest_text, read_point, shortened
from beepgpt.alerts.rehearsal import (
    MAY_SEE,
    PastOutcome,
    RehearsalHistory,
    Rehearsed,
    RehearsedAlert,
    latest_other_author,
    matched,
    most_frequent,
    read_outcome,
    share,
)
from beepgpt.alerts.rehearsal import (
    rehearse as rehearsed,
)
from beepgpt.commands.alert import INSTALL, threshold_of
from beepgpt.commands.flags import with_settings
from beepgpt.commands.review import names_in
from beepgpt.config.settings import Settings, with_flags
from beepgpt.connectors.files import jsonl
from beepgpt.errors import BadCommand
from beepgpt.runtime.console import console
from beepgpt.runtime.places import check_apart, lines_with_places

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MOST_BARS = 90
PEOPLE = 20
SHOWN = 8
PANEL = "Alerts"


@with_settings
def rehearse(
    source: Annotated[str, typer.Argument(metavar="PREDICTIONS", help="What was predicted: a .jsonl path, or kafka://host:port/topic.")],
    settings: Settings,
    to: Annotated[Path, typer.Option(help="The page: an .html path.")],
    outcomes: Annotated[str | None, typer.Option(help="What happened, if it isn't in PREDICTIONS, too.", show_default=False)] = None,
    model: Annotated[Path | None, typer.Option(help="The model's folder: its validated threshold is taken.", rich_help_panel=PANEL)] = None,
    threshold: Annotated[float | None, typer.Option(help="How likely an answer has to be.", rich_help_panel=PANEL)] = None,
    list_from: Annotated[float | None, typer.Option(help="From here on it is listed in silence.", rich_help_panel=PANEL)] = None,
    per_hour: Annotated[int | None, typer.Option(help="Messages to one person an hour, at most.", rich_help_panel=PANEL)] = None,
    store: Annotated[
        Path | None, typer.Option(help="As people asked in this file of `beepgpt alert`, not as if all had opted in.", show_default=False)
    ] = None,
    members: Annotated[
        Path | None, typer.Option(help="An export that says who may see which channel, and where people are.", show_default=False)
    ] = None,
    names: Annotated[list[Path] | None, typer.Option(help="An export's users.json, channels.json: names for ids.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the figures here, as JSON.")] = None,
) -> None:
    """Say what people would have been told by predictions of the past, and how often rightly: figures, and a page."""
    for name in ("jinja2", "slack_sdk"):
        if find_spec(name) is None:
            raise BadCommand(f"beepgpt rehearse needs {name}, which is not installed: {INSTALL}")
    settings = with_flags(settings, "alerts", {"threshold": threshold, "list_from": list_from, "per_hour": per_hour})
    jsonl.check_writable(to)
    given_names = {f"names {each}": each for each in names or []}
    check_apart(source, [to, *([report] if report is not None else [])], outcomes=outcomes, store=store, members=members, **given_names)
    told = rehearsal_of(source, outcomes, settings, threshold_of(settings, model), store, members, names_in(names or []))
    from beepgpt.web.rehearsal_page import rehearsal_page

    jsonl.write_file(to, rehearsal_page(told).encode())
    if report is not None:
        figures = {name: told[name] for name in ("points", "begin", "end", "threshold", "figures", "rules", "thresholds", "passed")}
        jsonl.write_file(report, orjson.dumps(figures, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    print_figures(told)
    console.print(f"For reading: {to}")


def rehearsal_of(
    source: str,
    outcomes: str | None,
    settings: Settings,
    threshold: float,
    store: Path | None,
    members: Path | None,
    names: Mapping[str, str],
) -> dict[str, Any]:
    """All that the page tells."""
    from beepgpt.alerts.handling import policy_of

    history = history_of(source, outcomes, settings)
    asked, may_see = asked_in(store, members, history.points)
    policy = policy_of(settings, threshold) if store is not None else replace(policy_of(settings, threshold), opted_in=True)
    how: dict[str, Any] = {"asked": asked, "may_see": may_see}
    with console.status("going through the past"):
        ours = rehearsed(history, policy, **how)
        wanted = len(ours.direct)
        rules = [ours]
        baselines: dict[str, Callable[[], Any]] = {
            "latest other author": latest_other_author,
            "channel's most frequent": lambda: most_frequent(history),
        }
        plain = replace(policy, threshold=1e-9, list_from=None)
        for name, rule in baselines.items():
            rules += [rehearsed(history, plain, name=name, people=rule(), **how)]
            rules += [matched(history, policy, wanted, f"{name}, as many", rule, **how)]
        others = [rehearsed(history, replace(policy, threshold=each), name=f"{each:.0%}", **how) for each in THRESHOLDS]
    return {
        "points": len(history.points),
        "begin": day_of(history.points[0].prompt_ts),
        "end": day_of(history.points[-1].prompt_ts),
        "everybody": store is None,
        "threshold": threshold,
        "per_hour": policy.per_hour,
        "quiet": "" if policy.quiet == NEVER else " to ".join(f"{each // 60:02d}:{each % 60:02d}" for each in policy.quiet),
        "figures": ours.figures,
        "rules": [row_of(each, ours=each is ours) for each in rules],
        "thresholds": [row_of(each) for each in others],
        "people": people_of(ours, names),
        "passed": [(reason.replace("_", " "), count) for reason, count in ours.passed.most_common()],
        "shown": shown_of(ours, names),
        **bars_of(ours),
    }


# What is read


def history_of(source: str, outcomes: str | None, settings: Settings) -> RehearsalHistory:
    """Predictions and outcomes, told apart by their form."""
    from beepgpt.alerts.handling import kind_of

    points: dict[str, PredictedConversation] = {}
    happened: list[PastOutcome] = []
    unreadable: list[str] = []
    for name, source_of in (("PREDICTIONS", source), ("--outcomes", outcomes)):
        for place, line in () if source_of is None else lines_with_places(name, source_of, settings):
            try:
                value = orjson.loads(line)
                kind = kind_of(value)
                if kind == "prediction":
                    point = read_point(value)
                    points[point.id] = point
                elif kind == "outcome":
                    happened.append(read_outcome(value))
                elif kind in ("no_object", "other"):
                    unreadable.append(place)
            except (NoPrediction, ValueError, KeyError, TypeError):
                unreadable.append(place)
    if unreadable:
        console.print(
            f"{len(unreadable):,} lines are neither predictions nor outcomes, and are left out, the first of them {unreadable[0]}."
        )
    if not points:
        raise BadCommand(f"PREDICTIONS {source}: holds no prediction: give what `beepgpt score` wrote")
    if not happened:
        raise BadCommand("there is no outcome: give what `beepgpt score` wrote of what happened, with --outcomes")
    return RehearsalHistory(list(points.values()), happened)


def asked_in(store: Path | None, members: Path | None, points: list[PredictedConversation]) -> tuple[dict[str, Wishes], MAY_SEE]:
    """What people asked for, and who may see what, as far as files tell it."""
    from beepgpt.alerts.handling import StoredHistory
    from beepgpt.alerts.store import AlertStore
    from beepgpt.connectors.slack.members import Everybody, ListedMembers

    users = {user for point in points for user, _ in point.people}
    asked: dict[str, Wishes] = {}
    if store is not None:
        jsonl.check_readable(store)
        with closing(AlertStore(store)) as opened:
            asked = {user: StoredHistory(opened).wishes(user) for user in users}
    listed = Everybody() if members is None else ListedMembers(members)
    for user in users:
        wishes = asked.get(user, Wishes())
        if wishes.zone is None and (zone := listed.person(user).zone) is not None:
            asked[user] = replace(wishes, zone=zone)
    return asked, lambda user, channel: listed.may_see(user, channel, listed.person(user))


# What is told


def row_of(told: Rehearsed, *, ours: bool = False) -> dict[str, Any]:
    """A row of a table."""
    name = f"the model, from {told.threshold:.1%}" if ours and told.threshold is not None else told.name
    return {"name": name, "ours": ours, **told.figures}


def people_of(told: Rehearsed, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Who would have been told most."""
    by_user: dict[str, list[RehearsedAlert]] = defaultdict(list)
    for each in told.direct:
        by_user[each.alert.user].append(each)
    most = sorted(by_user.items(), key=lambda item: (-len(item[1]), item[0]))[:PEOPLE]
    return [
        {
            "name": names.get(user, user),
            "alerts": len(given),
            "joined": share(sum(each.joined for each in given), len(given)),
            "a_day": share(len(given), told.days),
        }
        for user, given in most
    ]


def bars_of(told: Rehearsed) -> dict[str, Any]:
    """Alerts by day, or by week or month where there would be too many bars."""
    counted = {what: counted_by(length, told) for what, length in (("day", "%Y-%m-%d"), ("week", "%G-W%V"), ("month", "%Y-%m"))}
    bars_are = next((what for what, (total, _) in counted.items() if len(total) <= MOST_BARS), "month")
    total, joined = counted[bars_are]
    highest = max(total.values(), default=1)
    bars = [
        {
            "name": name,
            "alerts": total[name],
            "joined": joined[name],
            "all": round(95 * total[name] / highest, 2),
            "right": round(95 * joined[name] / highest, 2),
        }
        for name in sorted(total)
    ]
    return {"bars": bars, "bars_are": bars_are, "highest": highest}


def counted_by(length: str, told: Rehearsed) -> tuple[Counter[str], Counter[str]]:
    """Alerts, and those who joined, by a part of the calendar."""
    total: Counter[str] = Counter()
    joined: Counter[str] = Counter()
    for each in told.direct:
        name = f"{moment_of(each.alert.point.prompt_ts):{length}}"
        total[name] += 1
        joined[name] += each.joined
    return total, joined


def shown_of(told: Rehearsed, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Some alerts, by their ids: as many who joined as who did not."""
    in_order = sorted(told.direct, key=lambda each: each.alert.id)
    chosen = [each for joined in (True, False) for each in [one for one in in_order if one.joined is joined][: SHOWN // 2]]
    return [
        {
            "joined": each.joined,
            "who": names.get(each.alert.user, each.alert.user),
            "when": f"{moment_of(each.alert.point.prompt_ts):%Y-%m-%d %H:%M} UTC",
            "channel": names.get(each.alert.point.channel, each.alert.point.channel),
            "excerpt": shortened(newest_text(each.alert.point.prompt)),
            "why": each.alert.why,
        }
        for each in sorted(chosen, key=lambda each: each.alert.id)
    ]


def moment_of(t: int) -> datetime:
    """Microseconds as a time in UTC."""
    return datetime.fromtimestamp(t // 1_000_000, UTC)


def day_of(t: int) -> str:
    """The day, in UTC."""
    return f"{moment_of(t):%Y-%m-%d}"


def print_figures(told: Mapping[str, Any]) -> None:
    """The rules beside each other."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("", overflow="fold")
    for name in ("alerts", "people", "joined", "next", "announced", "a day each"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in (*told["rules"], *told["thresholds"]):
        shares = ["–" if row[name] is None else f"{row[name]:.1%}" for name in ("joined", "next", "announced")]
        a_day = row["per_person_per_day"]
        table.add_row(row["name"], f"{row['alerts']:,}", f"{row['people']:,}", *shares, "–" if a_day is None else f"{a_day:.2f}")
    console.print(table)
