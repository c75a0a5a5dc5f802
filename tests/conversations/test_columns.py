"""NumPy is held to what is exact on every machine, and a batch's bytes are those of its points alone (test_features.py has random ones)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations import columns, features
from beepgpt.conversations.columns import FEW, _batched, columns_of_all
from beepgpt.conversations.features import Lineup
from beepgpt.conversations.output import DRAFTS
from beepgpt.conversations.plain_columns import columns_json, columns_packed
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.shard import run_through
from beepgpt.simulation.workspace import Plan, live_records

EXACT = {"arange", "array", "floor", "frombuffer", "int64", "ndarray", "ones", "repeat", "sqrt", "uint8", "where", "zeros"}
METHODS = {"astype", "nonzero", "reshape", "sum", "take", "tobytes"}
"""Of arrays; `sum` of integers alone."""
OF_OTHERS = {"append", "dumps", "from_iterable", "fromkeys", "get", "join", "ljust", "people", "values"}
"""Of lists, dicts, lineups and orjson."""
OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.BitAnd, ast.USub)


def strangers_in(code: str) -> Iterator[str]:
    """What a module does that isn't exact for certain."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "np":
            if node.attr not in EXACT:
                yield f"np.{node.attr}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr not in METHODS | OF_OTHERS and ast.unparse(node.func.value) != "np":
                yield node.func.attr
            if node.func.attr == "sum" and "np.int64" not in [ast.unparse(each.value) for each in node.keywords if each.arg == "dtype"]:
                yield "sum"
        elif isinstance(node, ast.BinOp | ast.UnaryOp) and not isinstance(node.op, OPERATORS):
            yield type(node.op).__name__
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "numpy":
            yield "from numpy import"


def test_numpy_does_only_what_is_exact():
    """Single operations, element by element, and sums of integers."""
    assert list(strangers_in(Path(columns.__file__).with_suffix(".py").read_text())) == []


@pytest.mark.parametrize(
    ("code", "stranger"),
    [
        ("np.exp(x)", "np.exp"), ("x.sum(axis=0)", "sum"), ("x.sum(dtype=np.float64)", "np.float64"), ("x.mean()", "mean"),
        ("x ** 2", "Pow"), ("x @ y", "MatMult"), ("np.add.reduce(x)", "np.add"), ("from numpy import log", "from numpy import"),
    ],
)  # fmt: skip
def test_the_check_would_notice(code: str, stranger: str):
    """Each of these may give other bits on another processor."""
    assert stranger in set(strangers_in(code))


def lineups_of(monkeypatch: pytest.MonkeyPatch, rules: Rules, messages: int) -> tuple[list[Lineup], list[bytes]]:
    """All points of a simulated channel, and the examples' lines of the usual run."""
    made: list[Lineup] = []
    remember = features.People.candidates

    def candidates(*arguments: object) -> Lineup:
        made.append(remember(*arguments))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(features.People, "candidates", candidates)
    plan = Plan(seed=4, messages=messages, channels=2, people=70, days=200)
    return made, run_through(live_records(plan), rules, load_encoding(rules.encoding)).examples


@pytest.mark.skipif(not columns.__file__.endswith(".py"), reason="compiled classes can't be watched")
def test_any_batch_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch):
    """None, few and many candidates, in batches of any size."""
    lineups, _ = lineups_of(monkeypatch, Rules(), 900)
    alone = [columns_json(lineup) for lineup in lineups]
    sizes = [len(lineup.people()) for lineup in lineups]

    assert (min(sizes), max(sizes)) == (0, 27)
    assert _batched(lineups, [lineup.people() for lineup in lineups]) == alone
    cuts = sorted({0, 1, 2, 3, 5, 8, *range(9, len(lineups), 31), len(lineups)})
    assert [facts for start, end in pairwise(cuts) for facts in columns_of_all(lineups[start:end])] == alone
    packed = [columns_packed(lineup) for lineup in lineups]
    assert [facts for start, end in pairwise(cuts) for facts in columns_of_all(lineups[start:end], are_packed=True)] == packed


@pytest.mark.parametrize(("few", "drafts"), [(0, 1), (0, 7), (1 << 30, DRAFTS)])
def test_examples_do_not_hang_on_the_way_or_the_batch(monkeypatch: pytest.MonkeyPatch, few: int, drafts: int):
    """By columns alone, a point at a time or seven; and without any."""
    from beepgpt.conversations import channel

    if not columns.__file__.endswith(".py"):
        pytest.skip("constants are compiled in")
    records, rules = list(live_records(Plan(seed=6, messages=500, channels=3, people=40, days=90))), Rules()
    usual = run_through(records, rules, load_encoding(rules.encoding)).examples
    monkeypatch.setattr(columns, "FEW", few)
    monkeypatch.setattr(channel, "DRAFTS", drafts)

    assert run_through(records, rules, load_encoding(rules.encoding)).examples == usual
    assert len(usual) > 300 and 0 < FEW < 40
