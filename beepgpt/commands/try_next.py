"""What to do after a `beepgpt try`: the exact commands, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from shlex import join
from typing import Any

from beepgpt.commands.try_job import TryJob

MOST_ASKED = 0.8
"""The share of those alerted who should join, beyond which a next command asks for no more."""


def next_commands(job: TryJob, verdict: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What to do next: a sentence, and the command; nothing, where what the commands read will not stay."""
    if job.pages_only:
        return []
    words, wish, page = ("Try it with fewer alerts to each person", ["--per-week", 1], "rehearsal-1-a-week.html")
    # More can be asked for only where the usual share of those alerted joins, and where it isn't had already.
    more = math.floor(10 * (verdict["joined"]["value"] or 0.0) + 1.5) / 10
    if not verdict["chosen"] and 0.5 < more <= MOST_ASKED:
        words, wish, page = (
            "Try it with fewer alerts, more of them joined",
            ["--precision", more],
            f"rehearsal-{round(100 * more)}.html",
        )
    kinds = [] if job.include == ("channels",) else ["--include", ",".join(job.include)]
    names = [] if job.named else ["--no-names"]
    zone = [] if job.settings.alerts.zone == "UTC" else ["--zone", job.settings.alerts.zone]
    commands: list[tuple[str, list[object]]] = []
    if verdict["quiet_hours_unsure"]:
        here = ["try", job.export, "--to", job.to, *kinds, *names, "--zone", "Europe/Berlin"]
        commands = [("Reckon quiet hours where people are: write their time zone in place of Europe/Berlin", here)]
    commands += [
        (
            words,
            ["rehearse", job.predictions, "--model", job.model, "--members", job.export, *wish, "--to", job.to / page, *zone, *names],
        ),
        ("Judge by hand which answers are worth learning from", ["review", job.examples, *names]),
        ("Check that examples hold nothing of what came later", ["audit", job.export, job.examples, *kinds]),
        ("Go live", ["init"]),
    ]
    return [(words, join(map(str, ("beepgpt", *command)))) for words, command in commands]
