"""The page that an export's verdict stands on: a sentence, three figures, a picture and some alerts as Slack would show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from beepgpt.figures import FEW, percent, share
from beepgpt.web.pages import bands, rendered

SIMPLEST = "channel's most frequent, as many"
"""The rule that a model is held against: the person who answers most in the channel, alerted as often."""
RULES = {
    SIMPLEST: "who answers most in the channel",
    "latest other author, as many": "who wrote last in the channel",
}
"""The rules of the picture, in words."""
SHOWN = 5


def verdict_of(values: Mapping[str, Any], people: int | None) -> dict[str, Any]:
    """What a rehearsal says an export is worth: a sentence with its figures, and what the simplest rule would have given.

    `values`: of a rehearsal's page; `people`: how many the workspace has, if that is known.
    """
    figures, simplest = values["figures"], next(row for row in values["rules"] if row["name"] == SIMPLEST)
    ours, theirs = figures["intervals"]["joined"], simplest["intervals"]["joined"]
    of = "" if people is None else f" of {people:,}"
    days = counted(days_of(values), "day")
    if not figures["alerts"]:
        sentence = f"In {days} it would have alerted nobody: nobody was predicted with {percent(values['threshold'])} or more."
    else:
        messages = (
            f"{counted(figures['alerts'], 'message')} to {figures['people']:,}{of} {'person' if figures['people'] == 1 else 'people'}"
        )
        sentence = f"In {days} it would have sent {messages}; {joined(ours, figures['alerts'])}. {beside(simplest, ours)}"
    return {
        "sentence": sentence,
        "days": days_of(values),
        "alerts": figures["alerts"],
        "people": figures["people"],
        "of_people": people,
        "joined": ours,
        "simplest": theirs,
    }


def days_of(values: Mapping[str, Any]) -> int:
    """Days of the part that judges, the first and the last among them."""
    if values["begin"] is None:
        return 0
    return (date.fromisoformat(values["end"]) - date.fromisoformat(values["begin"])).days + 1


def counted(count: int, what: str) -> str:
    """A count with its noun.

    >>> counted(1, "day"), counted(1200, "message")
    ('1 day', '1,200 messages')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def joined(figure: Mapping[str, Any], alerts: int) -> str:
    """How many joined, as the end of a sentence; of how many, where the day of some is not over.

    >>> joined({"value": 0.5, "low": 0.4, "high": 0.6, "count": 20}, 20), joined({"value": 0.5, "low": 0.4, "high": 0.6, "count": 20}, 26)
    ('50 % (40–60) joined the conversation within a day', 'of the 20 whose day is over, 50 % (40–60) joined the conversation within a day')
    """
    if figure["value"] is None:
        return "whether somebody joined the conversation isn't known yet"
    of = "" if figure["count"] == alerts or figure["low"] is None else f"of the {figure['count']:,} whose day is over, "
    few = f", which is {FEW} how many would" if figure["low"] is None else ""
    return f"{of}{share(figure)} joined the conversation within a day{few}"


def beside(simplest: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """What the simplest rule would have given beside ours, as a sentence."""
    figure = simplest["intervals"]["joined"]
    if not figure["count"]:
        return "The simplest rule would have alerted nobody."
    rule = f"The simplest rule, with {counted(simplest['alerts'], 'message')}"
    if figure["low"] is None or ours["low"] is None:
        return f"{rule}: {share(figure)}, {FEW}."
    chance = ", and the difference may be chance" if figure["high"] > ours["low"] and figure["low"] < ours["high"] else ""
    return f"{rule}: {share(figure)} of {figure['count']:,}{chance}."


def index_page(found: Mapping[str, Any]) -> str:
    """The page. `found`: the verdict, the rehearsal, the model's card, and where the other pages are."""
    rules = found["rehearsal"]["rules"]
    ours = [("the model", row["intervals"]["joined"]) for row in rules if row["ours"]]
    others = [(RULES[row["name"]], row["intervals"]["joined"]) for row in rules if row["name"] in RULES]
    return rendered("index.html", found=found, ranges=bands([*ours, *others]), shown=_without_names(found["rehearsal"]["shown"][:SHOWN]))


def _without_names(alerts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Alerts with what stands for each reader where names are hidden."""
    people = list(dict.fromkeys(each["who"] for each in alerts))
    return [{**each, "hidden": f"Person {people.index(each['who']) + 1}"} for each in alerts]
