"""The page that an export's verdict stands on: a sentence, three figures, a picture and some alerts as Slack would show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from beepgpt.figures import FEW, in_days, percent, share, spaced
from beepgpt.web.naming import PageNames
from beepgpt.web.pages import bands, rendered
from beepgpt.web.words import words_of

RULES = {
    "channel's most frequent, as many": "who answers most in the channel",
    "latest other author, as many": "who wrote last in the channel",
}
"""The simple rules that a model is held against, in words: each alerts at most as often as the model."""
SHOWN = 5
CAVEAT = (
    "Nobody got a message: these people joined unaided. Somebody who is really alerted may join more often, or less; only a trial can tell."
)
"""What a look at the past can't know."""


def verdict_of(values: Mapping[str, Any], people: int | None) -> dict[str, Any]:
    """What a rehearsal says an export is worth: a sentence with its figures, and what the better of the simple rules would have given.

    `values`: of a rehearsal's page; `people`: how many people posted or were named in the workspace, if that is known.
    """
    figures, rules = values["figures"], [row for row in values["rules"] if row["name"] in RULES]
    ours = figures["intervals"]["joined"]
    better = max(rules, key=lambda row: (row["joined"] is not None, row["joined"] or 0.0))
    of = "" if people is None else f" of {people:,}"
    days = in_days(values["days"])
    if not figures["alerts"]:
        sentence = f"In {days} it would have alerted nobody: nobody was predicted with {percent(values['threshold'])} or more."
    else:
        messages = (
            f"{counted(figures['alerts'], 'message')} to {figures['people']:,}{of} {'person' if figures['people'] == 1 else 'people'}"
        )
        sentence = f"In {days} it would have sent {messages}; {joined(ours)}. {beside(better)}"
    return {
        "sentence": sentence,
        "caveat": CAVEAT,
        "notes": notes_of(figures, rules),
        "chosen": how_chosen(values),
        "days": values["days"],
        "alerts": figures["alerts"],
        "people": figures["people"],
        "of_people": people,
        "joined": ours,
        "better_rule": {"name": RULES[better["name"]], **better["intervals"]["joined"]},
    }


def notes_of(figures: Mapping[str, Any], rules: Sequence[Mapping[str, Any]]) -> list[str]:
    """What must be known of the figures of a sentence: whom they leave out, what may be chance, and that few got many."""
    ours = figures["intervals"]["joined"]
    found = []
    if recent := figures["alerts"] - ours["count"]:
        are, them = ("is", "it") if recent == 1 else ("are", "them")
        of = counted(figures["alerts"], "message")
        found.append(f"{recent:,} of the {of} {are} of the last day: who joins within a day isn't known yet, so no share counts {them}.")
    theirs = [row["intervals"]["joined"] for row in rules if None not in (row["intervals"]["joined"]["low"], ours["low"])]
    close = [each for each in theirs if each["high"] > ours["low"] and each["low"] < ours["high"]]
    if close:
        which = "one of the two simple rules" if len(close) == 1 else "both simple rules"
        found.append(f"What sets it apart from {which} may be chance.")
    return found


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


def joined(figure: Mapping[str, Any]) -> str:
    """How many joined, as the end of a sentence.

    >>> joined({"value": 0.5, "low": 0.4, "high": 0.6, "count": 20}), joined({"value": 0.5, "low": None, "high": None, "count": 4})
    ('50 % joined the conversation within a day (40–60)', '2 of 4 joined the conversation within a day, too few to tell')
    """
    if figure["value"] is None:
        return "whether somebody joined the conversation isn't known yet"
    number, _, interval = share(figure).partition(" (")
    return f"{number} joined the conversation within a day{f' ({interval}' if interval else f', {FEW}'}"


def beside(better: Mapping[str, Any]) -> str:
    """What the better of the simple rules would have given, as a sentence."""
    figure = better["intervals"]["joined"]
    if not figure["count"]:
        return "Two simple rules would have alerted nobody."
    number = share(figure).partition(" (")[0]
    return f"The better of two simple rules: {number}{f', {FEW}' if figure['low'] is None else ''}."


def most_of(people: Sequence[Mapping[str, Any]], alerts: int) -> dict[str, int] | None:
    """How many of the messages the two got who got most; None where no more than two got any."""
    return {"people": 2, "messages": sum(row["alerts"] for row in people[:2]), "of": alerts} if len(people) > 2 else None


def index_page(found: Mapping[str, Any], people: Iterable[str] = ()) -> str:
    """The page. `found`: the verdict, the rehearsal, the model's card, and where the other pages are.

    `people`: names of those in the workspace, where names are shown.
    """
    rehearsal = found["rehearsal"]
    ours = [("the model", row) for row in rehearsal["rules"] if row["ours"]]
    others = [(RULES[row["name"]], row) for row in rehearsal["rules"] if row["name"] in RULES]
    ranges = bands([(f"{name}, {counted(row['alerts'], 'message')}", row["intervals"]["joined"]) for name, row in [*ours, *others]])
    words = words_of("alert", "coverage", "interval", "joined", "parts of time", "probability", "threshold", "too few to tell")
    shown = {"shown": rehearsal["shown"][:SHOWN], "people": PageNames(people), "words": words}
    return rendered("index.html", found=found, ranges=ranges, most=most_of(rehearsal["people"], rehearsal["figures"]["alerts"]), **shown)
