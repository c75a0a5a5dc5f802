"""`beepgpt demo`: all of it, on a simulated workspace."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from beepgpt.commands.examples import ExamplesJob, run_examples
from beepgpt.commands.flags import with_settings
from beepgpt.commands.output import example_panel, print_report
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.conversations.events import micros
from beepgpt.runtime.console import console
from beepgpt.runtime.destinations import files_of
from beepgpt.simulation.workspace import Plan, names, write_export


@with_settings
def demo(
    settings: Settings,
    to: Annotated[Path, typer.Option(help="A folder for the files that it writes.")] = Path("beepgpt-demo"),
) -> None:
    """All of it, on a simulated workspace: no key, no broker, a minute."""
    to.mkdir(parents=True, exist_ok=True)
    plan = Plan(seed=7, messages=4_000, channels=8, people=40, days=60)
    export = to / "workspace.zip"
    write_export(plan, export)
    console.print(f"1. A simulated workspace of {plan.people} people and {plan.messages:,} messages, as Slack would export it: {export}")

    alone = settings.model_copy(update={"run": settings.run.model_copy(update={"workers": 1})})
    job = ExamplesJob(str(export), files_of(str(to / "examples.jsonl")), alone, ("channels", "groups"))
    closing, _ = run_examples(job)
    made = (to / "examples.jsonl").read_bytes().splitlines()
    console.print(f"2. Its examples, {len(made):,} of them: {to / 'examples.jsonl'}")
    print_report(closing)

    console.print("3. One of them: a prompt, what was known when it was made, and who answered later.")
    console.print(example_panel(most_talkative(made), names(plan)))

    if settings.rules.horizon is None:
        console.print(
            "4. With an unlimited horizon everything settles at the end, so no beginning of it can be compared (law 3 does not apply)."
        )
        return
    middle = plan.start_us + (plan.end_us - plan.start_us) // 2
    half = replace(job, to=files_of(str(to / "examples-until-the-middle.jsonl")), until=middle)
    run_examples(half)
    early = sorted((to / "examples-until-the-middle.jsonl").read_bytes().splitlines())
    settled = sorted(line for line in made if micros(orjson.loads(line)["settled_ts"]) <= middle)
    same = "the same, byte for byte" if early == settled else "NOT THE SAME: please report this"
    console.print(
        f"4. Nothing from the future: made again from the first half alone, the {len(early):,} examples settled by then are {same}.",
        highlight=False,
    )
    if early != settled:
        raise typer.Exit(1)
    lacking = [name for name in NEEDED if find_spec(name) is None]
    if lacking or not settings.rules.candidates:
        why = (
            f"needs {', '.join(lacking)}: pip install 'beepgpt[slack,training]'" if lacking else "needs candidates, which were switched off"
        )
        console.print(f"The rest of it, a model and whom it would have alerted, {why}.")
        return
    learn_and_rehearse(export, to, alone, names(plan))


NEEDED = ("jinja2", "lightgbm", "numpy", "pyarrow", "scipy", "skops", "sklearn", "slack_sdk")
"""Modules that a model and a rehearsal need, and examples do not."""
PRECISION = 0.3
"""The share of alerts that should be right. It is low, since people of a simulated workspace draw lots for who answers."""


def learn_and_rehearse(export: Path, to: Path, settings: Settings, names: dict[str, str]) -> None:
    """Train a model on the earlier part of the examples, validate it on the later part, and replay that part with alerts."""
    from beepgpt.commands.output import moment
    from beepgpt.commands.prepare import prepared
    from beepgpt.commands.rehearse import print_figures, rehearsal_of
    from beepgpt.commands.score_run import run_score
    from beepgpt.commands.scoring import ScoreJob
    from beepgpt.commands.validate import figures_table, validated, write_run
    from beepgpt.runtime.destinations import score_outputs_of
    from beepgpt.training.folder import MODELS
    from beepgpt.training.models import train_here
    from beepgpt.web.pages import rehearsal_page

    folder, model = to / "set", to / "set" / MODELS / "local"
    wanted = settings.model_copy(update={"training": settings.training.model_copy(update={"format": ("candidates",)})})
    made = prepared(str(to / "examples.jsonl"), folder, wanted, None, None)
    with console.status("reading") as status:
        card = train_here(folder, "local", model, seed=1, threads=0, status=status.update)
    closing, files = validated(folder, model, None, PRECISION, settings)
    write_run(model, files)
    console.print(
        f"5. A model of the {card['trained_on']['examples']:,} examples settled before {moment(made['cut'])[:10]},"
        f" asked who answers {made['account']['valid']['examples']:,} later ones:"
    )
    console.print(figures_table(closing["rows"]["answered"], "All that was answered"))

    predictions, outcomes = to / "predictions.jsonl", to / "predictions.outcomes.jsonl"
    job = ScoreJob(
        str(export),
        score_outputs_of(str(predictions), None, settings),
        model,
        settings,
        ("channels", "groups"),
        micros(made["cut"]),
    )
    scored, _ = run_score(job)
    page = to / "rehearsal.html"
    chosen = closing["threshold"]
    rehearsed = rehearsal_of(str(predictions), str(outcomes), settings, chosen["threshold"] if chosen else PRECISION, None, export, names)
    jsonl.write_file(page, rehearsal_page(rehearsed).encode())
    console.print(
        f"6. Whom it would have alerted, had {scored['account']['points']['scored']:,} points from then on been scored as they were made,"
        f" and which of them joined within a day. Nobody is alerted to what they take part in already. For reading: {page}"
    )
    print_figures({"rules": [row for row in rehearsed["rules"] if not row["name"].endswith("as many")], "thresholds": []})


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
