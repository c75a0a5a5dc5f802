"""A training set of examples, split by time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl, parquet
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.rules import settings_behind
from beepgpt.errors import BadCommand
from beepgpt.folders import beside, make_folder
from beepgpt.library.examples import Examples
from beepgpt.library.records import Example
from beepgpt.library.sources import settings_of
from beepgpt.library.tables import records_of
from beepgpt.packages import need
from beepgpt.runtime.made_by import recorded_rules
from beepgpt.training.folder import MANIFEST, checked
from beepgpt.training.parts import parts_of

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from beepgpt.training.prepare import PrepareOptions

TRAINING = ("training", "run")


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """A folder with a training side and a validation side, apart in time; `TrainingSet(folder)` opens one that `beepgpt prepare` made.

    >>> import beepgpt, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> export = beepgpt.simulate(f"{folder}/workspace.zip", messages=400)
    >>> made = beepgpt.split(beepgpt.examples(export), f"{folder}/set")
    >>> opened = beepgpt.TrainingSet(f"{folder}/set")
    >>> opened == made, opened.manifest["parts"]["examples"], opened.to_arrow("valid").column_names[:3]
    (True, {'fit': 247, 'choose': 31, 'judge': 31}, ['id', 'conversation', 'channel'])
    """

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))
        if not (self.folder / MANIFEST).is_file():
            raise BadCommand(f"{self.folder}: is no training set ({MANIFEST} is missing): beepgpt.split makes one")

    @property
    def manifest(self) -> dict[str, Any]:
        """What it was made of, and how: examples, cut, account, files (docs/training.md)."""
        found: dict[str, Any] = orjson.loads((self.folder / MANIFEST).read_bytes())
        return found

    def to_arrow(self, side: str) -> pa.Table:
        """Examples as a table of pyarrow with their candidates, in the order of time.

        `side`: `train`, or `valid`; or of that one `choose`, for trying out as often as you like, whose answers were known when judging
        begins, or `judge`, for what you report. Its columns are named as those of `Examples.to_arrow`. Raises BadSet.
        """
        table = self._table("valid" if side in ("choose", "judge") else side).read()
        import pyarrow as pa
        import pyarrow.compute as pc

        if side not in ("choose", "judge"):
            return table
        if (parts := parts_of(self.manifest)) is None or parts.judge_from is None:
            raise BadCommand(f"{self.folder}: was split by an older version, into no parts to choose and to judge by: split it again")
        judge_from = pa.scalar(parts.judge_from, table["prompt_ts"].type)
        if side == "judge":
            return table.filter(pc.greater_equal(table["prompt_ts"], judge_from))
        return table.filter(pc.and_(pc.less(table["prompt_ts"], judge_from), pc.less(table["settled_ts"], judge_from)))

    @property
    def features(self) -> list[str]:
        """The names of what is known about each candidate: columns of `candidates`."""
        from beepgpt.training.formats import CANDIDATES_, COLUMNS

        names = self._table("train").schema_arrow.names
        return [name.removeprefix(CANDIDATES_) for name in names if name.startswith(CANDIDATES_) and name not in COLUMNS]

    def _table(self, side: str) -> pq.ParquetFile:
        need("a table", ["pyarrow"], "train")
        import pyarrow.parquet as pq

        path = self.folder / f"candidates_{side}.parquet"
        if not path.is_file():
            raise BadCommand(f"{path}: is missing: the sides are train, valid, choose and judge, of examples with candidates")
        return pq.ParquetFile(checked(path))

    def candidates(self, side: str) -> pa.Table:
        """A row for each candidate of each example, as a model of your own takes them: `answered` is whether they did.

        `side`: as for `to_arrow`. Beside `user` and the features stand the example's `id`, `conversation`, `channel`, `author`, `prompt_ts`
        and `speakers`. Whoever answered may be none of the candidates, and an example may have none at all: a share of hits is of all the
        examples of `to_arrow` that somebody answered, not of those that have a row here. `Model.validate` counts so.
        """
        from beepgpt.training.points import candidate_rows, examples_in

        examples = examples_in(self.to_arrow(side), as_happened=True)
        return candidate_rows(examples.points, examples)


def options_of(settings: Settings) -> PrepareOptions:
    """The options of a training set, as the settings have them."""
    from beepgpt.training.checks import model_of
    from beepgpt.training.prepare import PrepareOptions
    from beepgpt.training.splits import SplitOptions

    ours = settings.training
    return PrepareOptions(
        model=ours.model,
        max_tokens=ours.max_tokens or model_of(ours.model, ours.encoding).max_tokens,
        formats=ours.format,
        answers=ours.answers,
        min_answers=ours.min_answers,
        max_characters=ours.max_characters,
        system=ours.system,
        price=ours.price,
        sides=SplitOptions(
            valid_share=ours.valid_share,
            judge_share=ours.judge_share,
            cut=ours.cut,
            silences=ours.silences,
            weak=ours.weak,
            cap=ours.cap,
            balance=ours.balance,
        ),
    )


def split(examples: str | Path | Iterable[Example], to: str | Path, *, config: str | Path | None = None, **settings: object) -> TrainingSet:
    """Split examples by time into a training set in the folder `to`, so that nothing of one side is known on the other.

    `examples`: what `beepgpt.examples` returns, a list of them, a table of them (pandas, polars, pyarrow), a `.jsonl` or a `.parquet`;
    retracted ones are left out. Settings are those of `beepgpt settings prepare` (`valid_share=0.3`; docs/guides/python.md lists them).
    Raises CannotPrepare, CannotRead, BadCommand, BadSettings, MissingPackage.

    >>> from tempfile import mkdtemp
    >>> from beepgpt.library.examples import examples
    >>> from beepgpt.library.workspaces import simulate
    >>> folder = mkdtemp()
    >>> made = split(examples(simulate(f"{folder}/workspace.zip", messages=400)), f"{folder}/set")
    >>> made.manifest["account"]["adds_up"], made.to_arrow("train").num_rows > made.to_arrow("valid").num_rows
    (True, True)
    """
    need("a training set", ["pyarrow"], "train")
    from beepgpt.training.checks import model_of
    from beepgpt.training.prepare import check_folder, prepare, retracted_in

    found = settings_of(settings, TRAINING, config)
    encoding = load_encoding(model_of(found.training.model, found.training.encoding).encoding)
    folder = Path(to)
    check_folder(folder)
    options = options_of(found)
    recorded = recorded_rules(Path(examples)) if isinstance(examples, str | Path) else None
    made_with = None if recorded is None else recorded.settings
    rules = examples.rules if isinstance(examples, Examples) else found.rules
    workspace = rules.workspace if isinstance(examples, Examples) else None if recorded is None else recorded.workspace
    with lines_of(examples, folder) as path:
        if isinstance(examples, str | Path):
            taken_back = beside(Path(examples), "retractions.jsonl")
            retracted = list(retracted_in(taken_back)) if taken_back.exists() else []
        else:
            retracted = [bytes.fromhex(each.id) for each in examples.retractions] if isinstance(examples, Examples) else []
        prepare(
            path, folder, options, encoding,
            retracted=retracted,
            called=str(examples) if isinstance(examples, str | Path) else "the examples",
            made_with=lambda spec: settings_behind(spec, made_with, rules),
            workspace=workspace,
        )  # fmt: skip
    return TrainingSet(folder)


@contextmanager
def lines_of(examples: str | Path | Iterable[Example], to: Path) -> Iterator[Path]:
    """Examples as a file that can be read twice; what is none is copied into `to` first. Raises CannotPrepare, CannotRead, NoArrow."""
    from beepgpt.training.prepare import folder_in

    if isinstance(examples, str | Path) and not parquet.is_table(Path(examples)):
        jsonl.check_readable(Path(examples))
        yield Path(examples)
        return
    is_table = isinstance(examples, str | Path)
    lines = parquet.lines_of(Path(examples), "example") if is_table else (each.line for each in records_of(examples))  # type: ignore[arg-type]
    make_folder(to)
    with folder_in(to, ".spool-") as spool:
        path = spool / "examples.jsonl"
        with path.open("wb") as file:
            file.writelines(line + b"\n" for line in lines)
        yield path
