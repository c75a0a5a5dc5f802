"""The page that an export's verdict stands on: a sentence, three figures, a picture and some alerts as Slack would show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from beepgpt.figures import FEW, in_days, percent, share, spaced
from beepgpt.web.naming import PageNames
from beepgpt.web.pages import bands, rendered
from beepgpt.web.words import words_of

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
    days = in_days(values["days"])
    if not figures["alerts"]:
        sentence = f"In {days} it would have alerted nobody: nobody was predicted with {percent(values['threshold'])} or more."
    else:
        messages = (
            f"{counted(figures['alerts'], 'message')} to {figures['people']:,}{of} {'person' if figures['people'] == 1 else 'people'}"
        )
        sentence = f"In {days} it would have sent {messages}; {joined(ours, figures['alerts'])}. {beside(simplest, ours)}"
    return {
        "sentence": sentence,
        "chosen": how_chosen(values),
        "days": values["days"],
        "alerts": figures["alerts"],
        "people": figures["people"],
        "of_people": people,
        "joined": ours,
        "simplest": theirs,
    }


def how_chosen(values: Mapping[str, Any]) -> str:
    """What a reader must know of the threshold, as a sentence: it doesn't give what was asked for, or is no chosen one; else empty."""
    found, at, asked = values["recommended"], percent(values["threshold"]), values["asked"]
    if found["threshold"] is None:
        return f"No threshold could be chosen: {spaced(found['why'])}. So {at} is {values['guessed']}."
    if values["threshold"] != found["threshold"]:
        return f"Alerted from {at} on, as was set; the recommended threshold is {percent(found['threshold'])}."
    if found["wanted"] != asked:
        joined = found["chosen"]["intervals"]["joined"]
        return (
            f"At no threshold {percent(asked['precision'])} of those alerted joined, in the time by which it is chosen. So"
            f" {percent(found['wanted']['precision'])} were asked for: from {at} on, {share(joined)} did."
        )
    return ""


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


def index_page(found: Mapping[str, Any], people: Iterable[str] = ()) -> str:
    """The page. `found`: the verdict, the rehearsal, the model's card, and where the other pages are.

    `people`: names of those in the workspace, where names are shown.
    """
    rules = found["rehearsal"]["rules"]
    ours = [("the model", row["intervals"]["joined"]) for row in rules if row["ours"]]
    others = [(RULES[row["name"]], row["intervals"]["joined"]) for row in rules if row["name"] in RULES]
    words = words_of("alert", "coverage", "interval", "joined", "parts of time", "probability", "threshold", "too few to tell")
    shown = {"shown": found["rehearsal"]["shown"][:SHOWN], "people": PageNames(people), "words": words}
    return rendered("index.html", found=found, ranges=bands([*ours, *others]), **shown)
