"""The page that an export's verdict stands on: a sentence, three figures, a picture and some alerts as Slack would show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from beepgpt.figures import counted, right_of
from beepgpt.web.naming import PageNames
from beepgpt.web.pages import bands, rendered
from beepgpt.web.verdict import alerted_from, caveat_of, counts_of, gains_of, most_of, rules_of, trial_of
from beepgpt.web.words import words_of

SHOWN = 5


def index_page(found: Mapping[str, Any], people: Iterable[str] = ()) -> str:
    """The page. `found`: the verdict, the rehearsal, the model's card, and where the other pages are.

    `people`: names of those in the workspace, where names are shown.
    """
    rehearsal = found["rehearsal"]
    shown = rehearsal["shown"][:SHOWN]
    ours = next(row for row in rehearsal["rules"] if row["ours"])
    rows = [("the model", ours), *((row["rule"], row) for row in rules_of(rehearsal))]
    ranges = bands([(f"{name}: {judged_of(row)}", row["intervals"]["joined"]) for name, row in rows], of=False)
    words = words_of(
        *("alert", "coverage", "example", "interval", "joined", "local model", "parts of time", "point", "probability", "threshold"),
        "too few to tell",
    )
    more: dict[str, Any] = {"trial": trial_of(rehearsal), "counts": counts_of(rehearsal, found["examples"]), "gains": gains_of(rehearsal)}
    more |= {"right": right_of(ours["intervals"]["joined"]), "judged": ours["intervals"]["joined"]["count"]}
    more |= {"most": most_of(rehearsal["people"], rehearsal["figures"]["alerts"]), "shown": shown, "words": words}
    more |= {"alerted_from": alerted_from(rehearsal), "caveat": caveat_of(rehearsal)}
    return rendered("index.html", found=found, ranges=ranges, people=PageNames(people), **more)


def judged_of(row: Mapping[str, Any]) -> str:
    """How many messages a rule would have sent, and how many of them can be judged.

    >>> judged_of({"alerts": 26, "intervals": {"joined": {"count": 22}}}), judged_of({"alerts": 1, "intervals": {"joined": {"count": 1}}})
    ('22 of 26 messages judged', '1 of 1 message judged')
    """
    return f"{row['intervals']['joined']['count']:,} of {counted(row['alerts'], 'message')} judged"
