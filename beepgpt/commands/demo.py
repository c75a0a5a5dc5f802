"""`beepgpt demo`: what `beepgpt try` says of a simulated workspace, one of its examples, and a proof that nothing comes from the future."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from beepgpt.commands.closing import check_whole
from beepgpt.commands.examples import ExamplesJob, run_examples
from beepgpt.commands.flags import Json, with_settings
from beepgpt.commands.output import example_panel
from beepgpt.commands.try_export import check_try, print_verdict, run_try
from beepgpt.commands.try_job import TryJob
from beepgpt.config.settings import Settings
from beepgpt.conversations.events import micros
from beepgpt.folders import make_folder
from beepgpt.runtime.console import console, results
from beepgpt.runtime.destinations import files_of
from beepgpt.simulation.workspace import Plan, names, write_export

PLAN = Plan(seed=7, messages=4_000, channels=8, people=40, days=60)


@with_settings
def demo(
    settings: Settings,
    to: Annotated[Path, typer.Option(help="A folder for the files that it writes.")] = Path("beepgpt-demo"),
    json: Json = False,
) -> None:
    """The same on a simulated workspace: no key, no broker, a minute."""
    job = TryJob(to / "workspace.zip", to, settings, ("channels", "groups"))
    check_try(job)
    make_folder(to)
    write_export(PLAN, job.export)
    console.print(f"A simulated workspace of {PLAN.people} people and {PLAN.messages:,} messages, as Slack would export it: {job.export}")
    print_verdict(run_try(job), to, as_json=json)
    if json:
        return
    made = job.examples.read_bytes().splitlines()
    results.print("One of its examples: a prompt, what was known when it was made, and who answered later.")
    results.print(example_panel(most_talkative(made), names(PLAN)))
    if settings.rules.horizon is None:
        results.print("With an unlimited horizon all settles at the end, so no beginning of it can be compared (law 3 does not apply).")
        return
    show_law_3(job, made)


def show_law_3(job: TryJob, made: list[bytes]) -> None:
    """Make the examples again from the first half of the history, and compare. Ends with status 1 if they aren't the same."""
    middle = PLAN.start_us + (PLAN.end_us - PLAN.start_us) // 2
    half = job.to / "examples-until-the-middle.jsonl"
    earlier = replace(ExamplesJob(str(job.export), files_of(str(half)), job.settings, job.include), until=middle)
    check_whole(run_examples(earlier)[1], f"{job.export}: the examples of the first half are not whole")
    early = sorted(half.read_bytes().splitlines())
    settled = sorted(line for line in made if micros(orjson.loads(line)["settled_ts"]) <= middle)
    same = "the same, byte for byte" if early == settled else "NOT THE SAME: please report this"
    results.print(f"Nothing from the future: made again from the first half alone, the {len(early):,} examples settled by then are {same}.")
    if early != settled:
        raise typer.Exit(1)


def most_talkative(lines: list[bytes]) -> dict[str, Any]:
    """The shortest example with a window of three people that one of its first candidates answered; without one, the shortest."""
    found = [orjson.loads(line) for line in lines]
    good = [
        each
        for each in found
        if len({message["user"] for message in each["window"]}) >= 3
        and set(each["answer"]) & set(each.get("candidates", {}).get("user", [])[:4])
    ]
    return min(good or found, key=lambda each: (len(each["prompt"]), each["id"]))
