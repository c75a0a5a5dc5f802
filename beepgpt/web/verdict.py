"""What a rehearsal says: its verdict, and the sentences and counts that the pages and the terminal give with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from beepgpt.figures import FEW, counted, in_days, percent, right_of, share, threshold
from beepgpt.training.intervals import widest_to_see
from beepgpt.web.pages import REASONS

UNAIDED = "Nobody got a message: these people joined unaided."
ALERTED = "Where alerts were sent meanwhile, people may have joined because of them."
ONLY_A_TRIAL = "Somebody who is really alerted may join more often, or less; only a trial can tell."
"""What a look at the past can't know."""
BETTER = "Better than simple rules: worth a trial with volunteers."
UNSURE = "Whether that is better than a simple rule can't be told from so few messages: a trial with volunteers would tell."
SAME = "No clear difference from a simple rule, and with so many messages one of 10 points would most likely have shown."
ALONE = "A simple rule sent no messages, or too few that can be judged, to compare with: a trial with volunteers would tell."
WORSE = "A simple rule does better: as it is, this is not worth a trial."
NOBODY = "Nobody would have got a message: there is nothing to hold against a simple rule."
CLEAR = widest_to_see(0.1)
"""The widest interval of a gain that says something where it holds zero: 10 points would have shown in 8 of 10 cases."""


def verdict_of(values: Mapping[str, Any], people: int | None) -> dict[str, Any]:
    """What a rehearsal says an export is worth: a sentence with its figures, what the better of the simple rules would have given, and
    `says`, in plain words whether it is worth a trial.

    `values`: of a rehearsal's page; `people`: how many people posted or were named in the workspace, if that is known.
    """
    figures, rules = values["figures"], rules_of(values)
    ours = figures["intervals"]["joined"]
    better = max(rules, key=lambda row: (row["joined"] is not None, row["joined"] or 0.0))
    of = "" if people is None else f" of {people:,}"
    days = in_days(values["days"])
    if not figures["alerts"]:
        sentence = f"In {days} it would have alerted nobody: {nobody_since(values)}"
    else:
        whom = "person" if (figures["people"] if people is None else people) == 1 else "people"
        messages = f"{counted(figures['alerts'], 'message')} to {figures['people']:,}{of} {whom}"
        sentence = f"In {days} it would have sent {messages}; {joined(ours, figures['alerts'])}. {beside(better, rules)}"
    return {
        "sentence": sentence,
        "says": says_of(values),
        "caveat": " ".join(caveat_of(values)),
        "notes": notes_of(values),
        "chosen": how_chosen(values),
        "days": values["days"],
        "alerts": figures["alerts"],
        "people": figures["people"],
        "of_people": people,
        "joined": ours,
        "better_rule": {"name": better["rule"], **better["intervals"]["joined"]},
        "quiet_hours_unsure": are_quiet_hours_unsure(values),
    }


def caveat_of(values: Mapping[str, Any]) -> tuple[str, str]:
    """What a look at the past can't know, in two sentences: where predictions were made live, people may have been alerted to them."""
    return (ALERTED if values["live"] else UNAIDED), ONLY_A_TRIAL


def rules_of(values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The simple rules, each at the threshold at which it alerts as often as the model."""
    return [row for row in values["rules"] if row["as_many"]]


def nobody_since(values: Mapping[str, Any]) -> str:
    """Why nobody would have been alerted, as the end of a sentence: nobody was likely enough, or why most of those who were got nothing."""
    at, kept_back = threshold(values["threshold"]), values["kept_back"]
    if not kept_back:
        return f"nobody was predicted with {at} or more."
    reason, most = kept_back[0]
    why = f"{REASONS.get(reason, reason)} ({most:,} of {sum(count for _, count in kept_back):,} times)"
    return f"everybody predicted with {at} or more was passed over or only listed; the commonest reason: {why}."


def says_of(values: Mapping[str, Any]) -> str:
    """The verdict: better where the intervals of all gains over simple rules are above zero, worse where one is below. Else what keeps it
    from being told: too few messages, no difference that so many would show, or a simple rule without enough of them.
    """
    figures, gains = values["figures"], [row["gain"] for row in rules_of(values)]
    known = [gain for gain in gains if gain["low"] is not None]
    if not figures["alerts"]:
        return NOBODY
    if any(gain["high"] < 0 for gain in known):
        return WORSE
    if open_gains := [gain for gain in known if gain["low"] <= 0]:
        return SAME if all(gain["high"] - gain["low"] <= CLEAR for gain in open_gains) else UNSURE
    if figures["intervals"]["joined"]["low"] is None:
        return UNSURE
    return BETTER if len(known) == len(gains) else ALONE


def are_quiet_hours_unsure(values: Mapping[str, Any]) -> bool:
    """Whether quiet hours are counted in UTC only because nobody said where people are, so that other messages may be sent live."""
    return bool(values["quiet"] and values["unzoned"] and values["zone"] == "UTC")


def notes_of(values: Mapping[str, Any]) -> list[str]:
    """What must be known of the figures of a sentence: what they leave out, whose nights they reckon with, and that few got many."""
    figures, ours = values["figures"], values["figures"]["intervals"]["joined"]
    found = []
    if recent := figures["alerts"] - ours["count"]:
        are, them = ("is", "it") if recent == 1 else ("are", "them")
        of = counted(figures["alerts"], "message")
        found.append(f"{recent:,} of the {of} {are} of the last day: who joins within a day isn't known yet, so no share counts {them}.")
    right = right_of(ours)
    if ours["low"] is not None and right and 3 * values["most_joined"] >= right:
        found.append(f"One person makes {values['most_joined']:,} of the {right:,} who joined.")
    if are_quiet_hours_unsure(values):
        night, whose = counted(values["in_quiet_hours"], "more message"), "some people's" if values["own_zones"] else "nobody's"
        found.append(
            f"Quiet hours ({values['quiet']}) are in UTC, as the export names {whose} time zone, and kept back {night}: elsewhere these"
            " figures differ, and --zone sets yours."
        )
    return found


def how_chosen(values: Mapping[str, Any]) -> str:
    """What a reader must know of the threshold, as a sentence: it doesn't give what was asked for, or is no chosen one; else empty."""
    found, at, asked = values["recommended"], threshold(values["threshold"]), values["asked"]
    if found["threshold"] is None:
        return f"No threshold could be chosen: {found['why']}. Alerted from {at} on, {values['guessed']}."
    if values["threshold"] != found["threshold"]:
        return f"Alerted from {at} on, as was set; the recommended threshold is {threshold(found['threshold'])}."
    if found["wanted"] != asked:
        joined = found["chosen"]["intervals"]["joined"]
        return (
            f"At no threshold {percent(asked['precision'])} of those alerted joined, in the time by which it is chosen. So"
            f" {percent(found['wanted']['precision'])} were asked for: from {at} on, {share(joined)} did."
        )
    return ""


def alerted_from(values: Mapping[str, Any]) -> str:
    """From which probability on people were alerted, and why from that one, as the end of a sentence about what was chosen."""
    found, here = values["recommended"], f"Here they were alerted from {threshold(values['threshold'])} on"
    if found["threshold"] is None:
        return f"none could be ({found['why']}). {here}, {values['guessed']}."
    chosen = f"{threshold(found['threshold'])}, {found['why']}."
    return chosen if values["threshold"] == found["threshold"] else f"{chosen} {here}, as was set."


def joined(figure: Mapping[str, Any], alerts: int) -> str:
    """How many joined, as the end of a sentence; it says of how many, where not all can be judged.

    >>> joined({"value": 0.5, "low": 0.4, "high": 0.6, "count": 20}, 20), joined({"value": 0.5, "low": None, "high": None, "count": 4}, 4)
    ('50 % joined the conversation within a day (40–60)', '2 of 4 joined the conversation within a day, too few to tell')
    >>> joined({"value": 0.5, "low": 0.4, "high": 0.6, "count": 20}, 24)
    'of the 20 that can be judged, 50 % joined the conversation within a day (40–60)'
    """
    if figure["value"] is None:
        return "whether somebody joined the conversation isn't known yet"
    number, _, interval = share(figure).partition(" (")
    of = f"of the {figure['count']:,} that can be judged, " if interval and figure["count"] != alerts else ""
    return f"{of}{number} joined the conversation within a day{f' ({interval}' if interval else f', {FEW}'}"


def beside(better: Mapping[str, Any], rules: Sequence[Mapping[str, Any]]) -> str:
    """What the better of the simple rules would have given, as a sentence."""
    figure = better["intervals"]["joined"]
    if not any(row["alerts"] for row in rules):
        return "Two simple rules would have alerted nobody."
    if not figure["count"]:
        return "Whether those alerted by two simple rules joined isn't known yet."
    return f"The better of two simple rules: {share(figure)}{f', {FEW}' if figure['low'] is None else ''}."


def trial_of(values: Mapping[str, Any]) -> str:
    """What a trial must show, and how long that takes, in sentences."""
    ours = values["figures"]["intervals"]["joined"]
    if not values["trial"]:
        return f"How long a trial must be can't be said: of the messages here, {joined(ours, ours['count'])}."
    first, *more = (
        f"{percent(each['more']).removesuffix(' %')} points more, about {about(each['alerts'])} alerts are needed:"
        f" {counted(each['weeks'], 'week')} at this page's rate"
        for each in values["trial"]
    )
    rest = "".join(f"; for {each}" for each in more)
    return (
        f"It must show that more people join than the {percent(ours['value'])} who did unaided. To see {first},"
        f" if everybody turned alerts on{rest}. Half of these alerts are only counted and not sent, to compare."
    )


def about(count: int) -> str:
    """A count as people say it, to two digits.

    >>> about(96), about(722), about(1553)
    ('96', '720', '1,600')
    """
    return f"{round(count, 2 - len(str(count))):,}"


def known_at_choosing(values: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The figures of the part by which the threshold was chosen, as they were known when judging began; None if there is none."""
    before, found = values["apart"].get("choose"), values["recommended"]
    is_chosen = before is not None and found["threshold"] == values["threshold"]
    known: Mapping[str, Any] | None = found["chosen"] if is_chosen else before
    return known


Counts = tuple[str, int | None, int | None, int | None]
"""A row of a table of counts: what is counted, and how much of it is of the parts fit, choose and judge."""


def counts_of(values: Mapping[str, Any], examples: Mapping[str, int] | None = None) -> list[Counts]:
    """How all counts go together: a row for each kind of thing, with how many of it are of each part of time.

    `examples`: how many are of each part, where they are known.
    """
    ours, before, known = values["figures"], values["apart"].get("choose"), known_at_choosing(values)
    rows: list[Counts] = []
    if examples is not None:
        rows.append(("examples", examples["fit"], examples["choose"], examples["judge"]))
    rows.append(("moments at which somebody could be alerted", None, values["parts"].get("choose"), values["parts"].get("judge", 0)))
    rows.append(("messages that would have been sent", None, None if before is None else before["alerts"], ours["alerts"]))
    judged, joined_then = (None if each is None else each["intervals"]["joined"] for each in (ours, known))
    assert judged is not None
    rows.append(("of these, known whether the person joined", None, None if joined_then is None else joined_then["count"], judged["count"]))
    rows.append(("of these, joined", None, None if joined_then is None else right_of(joined_then), right_of(judged)))
    return rows


def most_of(people: Sequence[Mapping[str, Any]], alerts: int) -> dict[str, int] | None:
    """How many of the messages the two got who got most; None where no more than two got any."""
    return {"people": 2, "messages": sum(row["alerts"] for row in people[:2]), "of": alerts} if len(people) > 2 else None


def gains_of(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """By how many points more joined than by each simple rule, with the interval; the rule's name first."""
    return [(row["rule"], points(row["gain"])) for row in rules_of(values)]


def points(gain: Mapping[str, Any]) -> str:
    """A difference of two shares, in percentage points, with its interval.

    >>> points({"value": 0.283, "low": -0.07, "high": 0.56}), points({"value": 0.283, "low": None, "high": None})
    ('+28 points (−7 to +56)', 'too few to tell')
    """
    if gain["low"] is None:
        return FEW
    middle, low, high = (f"{100 * gain[name]:+.0f}".replace("-", "−") for name in ("value", "low", "high"))
    return f"{middle} points ({low} to {high})"
