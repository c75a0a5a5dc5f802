"""`beepgpt retrain`: the live model trained anew, if that makes it no worse."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from beepgpt.commands.closing import say_next, show_summary
from beepgpt.commands.example_source import check_examples
from beepgpt.commands.flags import Json, Report, duration_of, with_settings
from beepgpt.commands.output import write_report
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.conversations.rules import DAY, in_words
from beepgpt.errors import BadCommand
from beepgpt.figures import in_days
from beepgpt.folders import make_folder
from beepgpt.locks import lock
from beepgpt.packages import needing
from beepgpt.runtime.console import console, results

LOCK = "retrain.lock"


@with_settings
def retrain(
    source: Annotated[str, typer.Argument(help="All examples so far: a .jsonl, a .parquet, or a topic.")],
    settings: Settings,
    model: Annotated[Path, typer.Option(help="The folder that beepgpt score and beepgpt alert follow; a new one gets its first model.")],
    since: Annotated[str, typer.Option(help="How long before the last prompt the candidate ends, and they are compared.")] = "14d",
    precision: Annotated[
        float | None,
        typer.Option(
            help="How many of the alerts should be right; the live model's, if not given.",
            min=0,
            max=1,
            show_default=False,
        ),
    ] = None,
    retractions: Annotated[Path | None, typer.Option(help="Examples to forget; found by themselves beside SOURCE.")] = None,
    threads: Annotated[int, typer.Option(help="0: as many as are idle; the model is the same.", min=0)] = 0,
    force: Annotated[bool, typer.Option("--force", help="Take it though few points compare them, unless it is worse.")] = False,
    report: Report = None,
    json: Json = False,
) -> None:
    """Train the live model anew, if that makes it no worse: a candidate is compared with it, then fitted up to today."""
    if report is not None:
        jsonl.check_writable(report)
    with needing("beepgpt retrain", "train"):
        import beepgpt.training.models  # noqa: F401
    back = duration_of("--since", since) or 0
    found = retrained(source, model, settings, back=back, precision=precision, retractions=retractions, threads=threads, force=force)
    more = found.pop("more", {})
    show_summary(found, json, lambda found: results.print(found["says"]))
    write_report(report, found)
    for why, flags in more.items():
        say_next("retrain", source, "--model", model, *flags, why=why)
    if not more:
        say_next("check", "--model", model)


def retrained(
    source: str,
    live: Path,
    settings: Settings,
    *,
    back: int,
    precision: float | None = None,
    retractions: Path | None = None,
    threads: int = 0,
    force: bool = False,
) -> dict[str, Any]:
    """Train the live model of a folder anew; returns what became of it: `taken`, `says` in words, `model`, `compared`; and by which flags
    a candidate of which few points tell may be taken (`more`).

    `back`: microseconds before the last prompt at which the candidate's time ends. The folder's pair of model and threshold is swapped by
    one rename, or stays as it was. `force`: few points are enough to compare them. Raises BadCommand.
    """
    from beepgpt.training.live import card_in, live_in, name_of
    from beepgpt.training.models import load_model, train_here
    from beepgpt.training.prepare import folder_in
    from beepgpt.training.reloading import check_made_by
    from beepgpt.training.retraining import compare_with_live, live_kind, put_retrained

    check_examples(source, live)
    make_folder(live)
    kind, seed = live_kind(live)
    with locked(live), folder_in(live, ".retrain-") as folder, console.status("preparing") as status:
        made = prepare_set(source, folder / "set", settings, back, retractions)
        if before := card_in(live_in(live)):
            check_made_by(live_in(live), before, made["examples"]["spec"], made["examples"].get("settings"))
        status.update("fitting the candidate")
        card = train_here(folder / "set", kind, folder / "candidate", seed=seed, threads=threads, status=status.update)
        status.update("comparing")
        compared = compare_with_live(live, load_model(folder / "candidate"), folder / "set")
        ours = {"command": "retrain", "candidate": name_of(folder / "candidate"), "trained_on": card["trained_on"]}
        ours |= {"compared": None if compared is None else compared.as_json()}
        if compared is not None and (why := compared.why_not(force=force)):
            stays = name_of(live_in(live))
            more = {"Compares on more": ("--since", in_words("horizon", 2 * back).replace(",", ""))} if compared.can_reach_back else {}
            ours |= {} if compared.is_worse else {"more": more | {"Takes it all the same": ("--force",)}}
            return ours | {"taken": False, "model": stays, "says": f"The candidate is not taken: {why}. {stays} stays live."}
        validate_candidate(folder, live, precision, settings)
        status.update("fitting on everything")
        version = put_retrained(live, folder / "set", folder / "candidate", compared, threads=threads, status=status.update)
    compares = "it is the first one there" if compared is None else f"compared with the model before, {compared.words}"
    says = (
        f"{version.name} is live now, with its threshold: {compares}. It is fitted on everything; the figures in {version} are those of a"
        f" candidate fitted until {in_days(back / DAY)} before the end, and its own come with its outcomes."
    )
    return ours | {"taken": True, "model": version.name, "says": says}


@contextmanager
def locked(live: Path) -> Iterator[None]:
    """Keep others from retraining the same folder. Raises BadCommand."""
    held = lock(live / LOCK, BadCommand(f"{live}: is being retrained now: wait until that is over"))
    try:
        yield
    finally:
        os.close(held)


def prepare_set(source: str, to: Path, settings: Settings, back: int, retractions: Path | None) -> dict[str, Any]:
    """A training set whose cut is so long before the last prompt; half of what is after it chooses the threshold, half judges."""
    from beepgpt.commands.prepare import prepared

    wanted = {"format": ("candidates",), "cut": -back, "judge_share": 0.5}
    training = settings.training.model_copy(update=wanted)
    return prepared(source, to, settings.model_copy(update={"training": training}), retractions, None)


def validate_candidate(folder: Path, live: Path, precision: float | None, settings: Settings) -> None:
    """Write the candidate's figures beside it, with the threshold for the precision that the live model was validated for; of a first one,
    for the greatest of `PRECISIONS` that some threshold reaches.
    """
    from beepgpt.commands.rehearse_run import PRECISIONS
    from beepgpt.commands.validate import validated, write_run
    from beepgpt.training.live import figures_in, live_in

    before = (figures_in(live_in(live)).get("threshold") or {}).get("wanted")
    asked = before if precision is None else precision
    _, files = validated(folder / "set", folder / "candidate", [], PRECISIONS if asked is None else [asked], settings)
    write_run(folder / "candidate", files)
