"""`beepgpt predict`: one row of a validation file, or a text: the prompt, what was expected, and what a model says."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from beepgpt.commands.models import open_model
from beepgpt.commands.train import MANIFEST, VALID, in_our_words
from beepgpt.config.settings import Settings, read_settings
from beepgpt.errors import BadCommand
from beepgpt.runtime.console import console

if TYPE_CHECKING:
    from beepgpt.training.points import Examples, Points
    from beepgpt.training.predictions import Prediction

CARD = "model.json"
CHATS = "chat_valid.jsonl"
LIKELIEST = 5
NOBODY, SOMEBODY_ELSE = "nobody", "somebody else"
MAX_TOKENS = 2_000
"""Of a prompt that is made of a text, where the training set's own limit isn't known."""


EPOCH = "100000000.000000"
"""Some moment: a text was said at none."""


def predict(
    model: Annotated[Path, typer.Option(help="The model's folder.")],
    row: Annotated[int | None, typer.Option(help="A row of the validation file, the first is 1.", min=1, show_default=False)] = None,
    text: Annotated[
        str | None, typer.Option(help="A conversation, an empty line between its messages; - reads standard input.", show_default=False)
    ] = None,
    set: Annotated[
        Path | None, typer.Option(help="The training set; the one that the model's folder lies in, if not given.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    config: Annotated[Path | None, typer.Option(help="A TOML file of settings.")] = None,
) -> None:
    """Ask a model about one row of a validation file, or a text: what was expected, its answer, and the 5 likeliest."""
    if row is None and text is None:
        raise BadCommand("--row N or --text TEXT is expected: a row of the validation file, or a conversation of your own")
    if not (model / CARD).is_file():
        raise BadCommand(f"--model {model}: is no trained model ({CARD} is missing): name the folder that `beepgpt train` made")
    folder = set if set is not None else model.resolve().parent.parent
    with in_our_words(folder):
        told = predicted(folder, model, row, text, read_settings(config))
    if json:
        typer.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
    else:
        show(told)


def predicted(folder: Path, path: Path, row: int | None, text: str | None, settings: Settings) -> dict[str, Any]:
    """What is to be told of one point."""
    from beepgpt.training.models import hash_of

    with open_model(path, settings) as trained:
        if trained.card["manifest"] != hash_of((folder / MANIFEST).read_bytes()):
            raise BadCommand(f"{path}: was trained on another training set than {folder}: name its own with --set")
        labels = labels_of(folder)
        needs_facts = trained.card["kind"] == "local" or trained.card.get("remote", {}).get("way") == "decisions"
        expected: str | None = None
        lent: str | None = None
        if row is not None:
            points, expected = row_of(folder, row, labels, needs_facts=needs_facts)
            if text is not None:
                points, expected = with_prompt(points, prompt_of(text, folder)), None
                lent = facts_lent(row, points) if needs_facts else None
        elif needs_facts:
            valid = table_of(folder)
            points = with_prompt(valid.points.at(_places(len(valid) - 1)), prompt_of(text or "", folder))
            lent = facts_lent(len(valid), points)
        else:
            points = point_of(prompt_of(text or "", folder))
        said = trained.model.predict(points).of(0)
    likeliest = likeliest_of(said, labels)
    return {
        "model": str(path),
        "kind": trained.card["kind"],
        "prompt": points.prompt[0],
        **({} if lent is None else {"facts": lent}),
        "expected": expected,
        "answer": likeliest[0]["label"],
        "likeliest": likeliest[:LIKELIEST],
    }


# What is asked about


def row_of(folder: Path, row: int, labels: dict[str, str], *, needs_facts: bool) -> tuple[Points, str]:
    """A row of the validation file as a point, and the label that was expected."""
    from beepgpt.training.checks import NIL, OTHER

    if needs_facts or (folder / VALID).exists():
        valid = table_of(folder)
        if row > len(valid):
            raise BadCommand(f"--row {row}: {folder / VALID} has {len(valid):,} rows")
        expected = sorted({labels.get(user, OTHER) for user in valid.answers[row - 1]}) or [NIL]
        return valid.points.at(_places(row - 1)), " or ".join(expected)
    try:
        with (folder / CHATS).open("rb") as file:
            for number, line in enumerate(file, start=1):
                if number == row:
                    messages = orjson.loads(line)["messages"]
                    return point_of(messages[-2]["content"]), messages[-1]["content"]
    except FileNotFoundError as error:
        raise BadCommand(f"{folder}: has no validation rows ({VALID}, {CHATS}): beepgpt prepare SOURCE --to {folder}") from error
    raise BadCommand(f"--row {row}: {folder / CHATS} has fewer rows")


def table_of(folder: Path) -> Examples:
    """The validation part, with candidates."""
    from beepgpt.training.points import read_examples

    valid = read_examples(folder / VALID)
    if not len(valid):
        raise BadCommand(f"{folder}: its validation part is empty: prepare it again with an earlier cut")
    return valid


def _places(row: int) -> Any:
    import numpy as np

    return np.array([row])


def prompt_of(text: str, folder: Path) -> str:
    """A conversation as prompts show it: cleaned, and the oldest messages left out where it is too long."""
    from beepgpt.connectors.tokenizer import load_encoding
    from beepgpt.conversations.cleaning import clean
    from beepgpt.conversations.tokens import build_prompt, unit_tokens

    if text == "-":
        text = sys.stdin.read()
    encoding = load_encoding(orjson.loads((folder / MANIFEST).read_bytes())["encoding"])
    messages = [cleaned for each in re.split(r"\n[^\S\n]*\n", text.strip()) if (cleaned := clean(each))]
    prompt = build_prompt([(each, unit_tokens(each, encoding)) for each in messages], encoding, MAX_TOKENS).text
    if not prompt:
        raise BadCommand("--text: has no words that a prompt would show")
    return prompt


def point_of(prompt: str) -> Points:
    """A point of which nothing is known but what was said."""
    from beepgpt.training.points import points_of

    told = {"conversation": "", "channel": "", "speakers": 1, "prompt_ts": EPOCH, "prompt": prompt}
    return points_of([{**told, "window": [{"ts": EPOCH, "user": ""}], "candidates": {"user": []}}])


def with_prompt(points: Points, prompt: str) -> Points:
    """The same moment, and other words."""
    return replace(points, prompt=[prompt])


def facts_lent(row: int, points: Points) -> str:
    """A text has no people: whose facts were taken."""
    return (
        f"of row {row:,} (channel {points.channel[0]}): a text alone tells nobody who might answer, so the people and what is known of"
        " them are those of that moment"
    )


# What is told


def labels_of(folder: Path) -> dict[str, str]:
    """Each person's label; none where there are no rows of text."""
    path = folder / "labels.json"
    told = orjson.loads(path.read_bytes()) if path.exists() else {"people": []}
    return {each["user"]: each["label"] for each in told["people"]}


def likeliest_of(said: Prediction, labels: dict[str, str]) -> list[dict[str, Any]]:
    """Labels by their chances; what has the same comes in the order in which it is told."""
    from beepgpt.training.checks import NIL, OTHER

    told = [{"label": labels.get(user, OTHER), "who": user, "p": round(p, 6)} for user, p in said.people]
    told += [{"label": NIL, "who": NOBODY, "p": round(said.nobody, 6)}, {"label": OTHER, "who": SOMEBODY_ELSE, "p": round(said.other, 6)}]
    return sorted(told, key=lambda each: -each["p"])


def show(told: dict[str, Any]) -> None:
    """For reading, on standard output."""
    out = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    out.print(told["prompt"].rstrip("\n"))
    out.print()
    if "facts" in told:
        console.print(f"Candidates and facts: {told['facts']}.")
    if told["expected"] is not None:
        out.print(f"expected  {told['expected']}")
    first = told["likeliest"][0]
    out.print(f"answer    {first['label']}  ({first['who']}, {first['p']:.1%})")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("label", "who", "p"):
        table.add_column(name, justify="right" if name == "p" else "left")
    for each in told["likeliest"]:
        table.add_row(each["label"], each["who"], f"{each['p']:.4f}")
    out.print(table)
