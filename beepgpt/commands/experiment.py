"""`beepgpt experiment`: several framings of the same history, each from examples to figures, in one table.

Framings of one question (target and scope) are chosen among on the part of time to choose by; what judges is shown of the chosen one.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from beepgpt.commands.closing import check_whole, say_next, show_summary
from beepgpt.commands.examples import ExamplesJob, run_examples
from beepgpt.commands.flags import Json
from beepgpt.commands.output import write_report
from beepgpt.commands.prepare import prepared
from beepgpt.commands.train import HERE
from beepgpt.commands.validate import validated, write_run
from beepgpt.config.experiment import Experiment, read_experiment
from beepgpt.config.settings import Settings
from beepgpt.errors import BadCommand, TooLittle
from beepgpt.figures import number, short
from beepgpt.folders import make_folder
from beepgpt.library.arguments import kinds_in
from beepgpt.runtime.console import console, results
from beepgpt.runtime.destinations import files_of
from beepgpt.runtime.places import check_names_folder

RESULT = "experiment.json"
SIMPLE = "who wrote last in the conversation"
"""The baseline that every framing's model is shown beside."""


def experiment(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="The framings; config/framings.toml has the original's five.")],
    to: Annotated[Path, typer.Option(help="A folder: each framing's examples, training set, model and figures go into one of their own.")],
    source: Annotated[
        str | None, typer.Option(help="An export or a .jsonl of events, if not the one that FILE names.", show_default=False)
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file of settings, which FILE's win over.")] = None,
    threads: Annotated[int, typer.Option(help="0: as many as processors are idle. The models are the same.", min=0)] = 0,
    json: Json = False,
) -> None:
    """Try several framings of one history: for each, examples, training set, model and figures; then one table."""
    check_names_folder("--to", to)
    wanted = read_experiment(file)
    given = source or wanted.source
    if not given:
        raise BadCommand(f"{file} names no source, and there is no --source: one of them is needed")
    if wanted.model not in HERE:
        raise BadCommand(f"{file}: model is {wanted.model}: {' or '.join(HERE)} is expected")
    of_framings = {name: wanted.settings_of(name, config) for name in wanted.framings}
    kinds = kinds_in("--include", wanted.include)
    make_folder(to)
    rows = []
    for count, (name, ours) in enumerate(of_framings.items(), start=1):
        console.print(f"{count} of {len(of_framings)}: {name}")
        if (to / name).exists():
            shutil.rmtree(to / name)
        make_folder(to / name)
        job = ExamplesJob(given, files_of(str(to / name / "examples.jsonl")), ours, kinds)
        rows.append(framing_row(name, ours, to / name, job, wanted, threads))
        if why := rows[-1].get("why"):
            console.print(f"  {why}")
    choose_framings(rows)
    show_summary(rows, json, print_framings)
    write_report(to / RESULT, rows)
    console.print(f"All of it: {to / RESULT}; a report for each: {to / '…' / 'model' / 'report.html'}")
    if all("why" in row for row in rows):
        raise typer.Exit(1)
    best = min((row for row in rows if "judged" in row), key=lambda row: float(row["figures"]["log_loss"]["value"]), default=None)
    if best is not None:
        say_next("predict", "--model", to / best["framing"] / "model", "--set", to / best["framing"] / "set", "--row", 1)


def framing_row(name: str, settings: Settings, folder: Path, job: ExamplesJob, wanted: Experiment, threads: int) -> dict[str, Any]:
    """Take a framing from examples to figures; returns a row of experiment.json, with the reason (`why`) if it can't be learned."""
    from beepgpt.training.checks import CannotPrepare
    from beepgpt.training.models import train_here
    from beepgpt.training.points import BadTable, OtherFeatures

    ours = settings.conversations
    row: dict[str, Any] = {"framing": name, "scope": ours.scope, "target": ours.target, "spec": settings.rules.spec}
    check_whole(run_examples(job)[1], f"{job.source}: the examples are not whole: beepgpt examples {job.source} --to {job.to} says why")
    try:
        manifest = prepared(str(folder / "examples.jsonl"), folder / "set", settings, None, None)
        row["examples"] = {side: manifest["account"][side]["examples"] for side in ("train", "valid")}
        with console.status("reading") as status:
            train_here(folder / "set", wanted.model, folder / "model", seed=1, threads=threads, status=status.update)
        closing, files = validated(folder / "set", folder / "model", [], [wanted.precision], settings)
    except (BadCommand, CannotPrepare, BadTable, OtherFeatures, TooLittle) as error:
        return {**row, "why": str(error)}
    write_run(folder / "model", files)
    return {**row, "figures": figures_of(closing["choose"]), "judged": figures_of(closing)}


def choose_framings(rows: list[dict[str, Any]]) -> None:
    """Of the framings that ask one question, only the best in the part to choose by keeps its figures in the part that judges."""
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        if "figures" in row and row["figures"]["log_loss"]["value"] is not None:
            question = row["target"], row["scope"]
            best[question] = min(best.get(question, row), row, key=lambda each: each["figures"]["log_loss"]["value"])
    for row in rows:
        if not any(row is each for each in best.values()):
            row.pop("judged", None)


def figures_of(closing: dict[str, Any]) -> dict[str, Any]:
    """The figures of a framing in one part of time that the table shows."""
    figures: dict[str, Any] = {"points": closing["points"], "answered_points": closing["answered"]}
    figures["log_loss"] = closing["rows"]["all"][0]["figures"]["log_loss"]
    for kind in ("answered", "first_replies"):
        rows = {row["name"]: row["figures"] for row in closing["rows"][kind]}
        figures[kind] = {"model": next(iter(rows.values())), "simple": rows[SIMPLE]}
    half = next(row for row in closing["alerts"]["all"] if row["threshold"] == 0.5)
    return {**figures, "alerts_at_half": half}


def print_framings(rows: list[dict[str, Any]]) -> None:
    """Print a line for each framing, of the points to choose by; and one for each that is chosen, of the points that judge."""
    results.print(framings_table(rows, "figures", "To choose by"))
    results.print(framings_table([row for row in rows if "judged" in row], "judged", "What the best of each target and scope is worth"))
    results.print(
        f"Hits are of answered points; simple: {SIMPLE}; alerts: all probabilities of 0.5 or more, and how many % of them were right."
        " The best has the least log loss of all points to choose by; neither by that nor by the hits can other targets or scopes be"
        " compared."
    )


def framings_table(rows: list[dict[str, Any]], part: str, title: str) -> Table:
    """A line for each framing: its points, and the hits of its model and of a simple rule."""
    table = Table(box=None, padding=(0, 1, 0, 0), title=title, title_justify="left", title_style="bold")
    table.add_column("framing", overflow="fold")
    for head in ("answered", "loss", "hit@1", "hit@5", "simple@1", "simple@5", "alerts", "right"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        if part not in row:
            table.add_row(row["framing"], "–")
            continue
        of, half = row[part]["answered"], row[part]["alerts_at_half"]
        hits = [short(of[who][hit], hit) for who in ("model", "simple") for hit in ("hit@1", "hit@5")]
        right = short(half["precision"], "precision")
        counts, loss = f"{row[part]['answered_points']:,}", number(row[part]["log_loss"], "log_loss")
        table.add_row(row["framing"], counts, loss, *hits, f"{half['alerts']:,}", right)
    return table
