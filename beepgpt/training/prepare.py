"""A training set of labeled examples, made in two passes over their file, with one line of it in memory at a time.

The first pass checks every line and keeps a few numbers of it, from which the split is decided. The second reads the lines of each side
again, in the order of their time, and writes them. The same examples give the same bytes, in whatever order their lines stand.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import file_digest, sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson

from beepgpt.conversations.events import ts_text
from beepgpt.conversations.record_fields import EXAMPLE
from beepgpt.conversations.rules import differing, settings_behind
from beepgpt.conversations.tokens import Encoding
from beepgpt.errors import cut_short
from beepgpt.folders import make_folder
from beepgpt.lenient_json import is_cut_short
from beepgpt.locks import lock
from beepgpt.training.checks import NIL, WEAK, Broken, CannotPrepare, ExampleLine, check_single_tokens, read_line
from beepgpt.training.folder import LABELS, MANIFEST, ROWS
from beepgpt.training.formats import (
    FORMATS,
    SIDES,
    Answers,
    CandidateTable,
    Chats,
    Completions,
    Format,
    Labels,
    Side,
    TextRows,
    TextRowsFile,
)
from beepgpt.training.parts import Parts
from beepgpt.training.splits import ExampleColumns, ExampleNotes, Hashes, Integers, Mask, Sides, SplitOptions, split

VERSION = 3
"""Raised when the same examples would give other files, or files of another form."""
MADE_BY = "beepgpt prepare"
SUFFIXES: dict[Format, str] = {"chat": "jsonl", "completion": "jsonl", "candidates": "parquet", "examples": "jsonl"}
OUTPUTS = frozenset(
    {
        MANIFEST,
        LABELS,
        *(f"{ROWS}_{side}.jsonl" for side in SIDES),
        *(f"{name}_{side}.{SUFFIXES[name]}" for name in FORMATS for side in SIDES),
    }
)
OF_ENTRIES = {each.name for each in EXAMPLE} - {"prompt", "candidates"} | {"signal", "signal_p"}
"""Keys of an example that are written beside the rows, so that an audit guesses nothing: the prompt stands in the rows."""
MILLION = 1_000_000
UNFINISHED = ".prepare-"
"""How the folder in which a set is made begins; it stands in the set's own."""
PROGRESS_EVERY = 1_000
"""Lines between two calls of the progress callback."""

PrepareProgress = Callable[[int, float], None]
"""Called with the lines read so far (those read twice count twice), and the share of the work that is done."""
MadeWith = Callable[[str], Mapping[str, Any] | None]
"""Returns the settings behind a spec; None: they are not known."""


@dataclass(frozen=True)
class PrepareOptions:
    """Options of a training set."""

    model: str
    max_tokens: int | None
    """Tokens of a row; None: no limit is known."""
    formats: tuple[Format, ...] | None = None
    """None: chats, and the table of candidates where the examples have them."""
    answers: Answers = "each"
    min_answers: int = 5
    """Training answers that a person needs to have a label; others are `other`."""
    max_characters: int | None = 10_000
    """Characters of a training row, prompt and completion together."""
    system: str = ""
    """The system message of chats."""
    price: float | None = None
    """USD for a million trained tokens."""
    sides: SplitOptions = field(default_factory=SplitOptions)


def prepare(
    source: Path,
    to: Path,
    wanted: PrepareOptions,
    encoding: Encoding,
    *,
    retracted: Iterable[bytes] = (),
    few_shots: Iterable[ExampleLine] = (),
    progress: PrepareProgress = lambda lines, share: None,
    called: str | None = None,
    made_with: MadeWith = settings_behind,
    workspace: str | None = None,
) -> dict[str, Any]:
    """Make the training set `to`, a folder, of the examples in the file `source`; returns its manifest. Raises CannotPrepare, CannotRead.

    `retracted`: ids of examples; `called`: the source's name in messages; `made_with`: the settings behind a spec, and `workspace`: the
    workspace's name in the examples' ids, if they are known.
    """
    check_folder(to)
    called = called or str(source)
    if source.name in OUTPUTS and source.parent.resolve() == to.resolve():
        raise CannotPrepare(f"{called}: is of the training set in {to}, which would be replaced: name another folder")
    few_shots, retracted = list(few_shots), frozenset(retracted)
    read = _read(source, called, wanted, encoding, progress, made_with)
    columns = read.notes.columns()
    sides = split(columns, wanted.sides, by_conversation=read.scope == "conversation", retracted=retracted, few_shots=few_shots)
    has_weak = bool((columns.is_weak & (sides.train | sides.valid)).any())
    weak = None if not has_weak else NIL if wanted.sides.weak == "nil" else WEAK
    labels = Labels(answers_of(columns, sides.train, wanted.answers), wanted.min_answers, weak)
    texts = _texts(read, labels, wanted, encoding)
    make_folder(to)
    done, both = 0, sides.train.sum() + sides.valid.sum()

    def wrote(count: int) -> None:
        nonlocal done
        done += count
        progress(read.lines + done, 0.5 + done / both / 2)

    with folder_in(to, UNFINISHED) as folder:
        writing = _Writing(source, called, folder, read, columns, texts, wanted, wrote)
        writing.write("train", sides.train)
        writing.write("valid", sides.valid)
        content = {"model": wanted.model, "encoding": encoding.name, "space": texts.space if texts else "", **labels.as_json()}
        _write_json(folder / LABELS, content)
        manifest = {
            "made_by": MADE_BY,
            "version": VERSION,
            "examples": read.as_json() | ({} if workspace is None else {"workspace": workspace}),
            "retractions": {"count": len(retracted), "sha256": _hash_of(retracted)},
            "few_shots": {"count": len(few_shots), "sha256": _hash_of(each.id for each in few_shots)},
            "settings": asdict(wanted),
            "encoding": encoding.name,
            "cut": ts_text(sides.cut),
            "parts": _parts(columns, sides),
            "account": account_of(read.lines, read.faults, columns, sides),
            "rules": {name: asdict(rule) for name, rule in _rules(read, columns, texts, wanted).items()},
            "labels": {"people": len(labels.people), "others": labels.others, "too_many": labels.too_many},
            **_sums(texts, wanted),
            "files": {path.name: _file_entry(path) for path in sorted(folder.iterdir())},
            "versions": {name: version(name) for name in ("numpy", "orjson", "pyarrow", "tiktoken")},
        }
        _write_json(folder / MANIFEST, manifest)
        _move_in(folder, to)
    return manifest


def check_folder(to: Path) -> None:
    """Raise CannotPrepare if a training set in this folder would overwrite a file that is not ours."""
    if to.exists() and not to.is_dir():
        raise CannotPrepare(f"{to}: is no folder: name another")
    try:
        theirs = (to / MANIFEST).exists() and orjson.loads((to / MANIFEST).read_bytes()).get("made_by") != MADE_BY
    except (orjson.JSONDecodeError, AttributeError):
        theirs = True
    if theirs:
        raise CannotPrepare(f"{to}: has a {MANIFEST} that is no training set's: name another folder")
    is_begun = (to / MANIFEST).exists() or any(to.glob(f"{UNFINISHED}*"))  # a killed run leaves its folder
    if not is_begun and (found := sorted(name for name in OUTPUTS if (to / name).exists())):
        raise CannotPrepare(f"{to}: has {', '.join(found)} that no training set there brought, and that would be lost: name another folder")


@contextmanager
def folder_in(to: Path, prefix: str) -> Iterator[Path]:
    """A temporary folder inside `to`; those that killed runs have left are deleted, too. Raises CannotPrepare if a run still uses one."""
    in_use = CannotPrepare(f"{to}: another run is making a training set there: wait for it, or name another folder")
    for left in to.glob(f"{prefix}*"):
        os.close(lock(left, in_use))
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=to) as made:
        held = lock(Path(made), in_use)
        try:
            yield Path(made)
        finally:
            os.close(held)


def _move_in(made: Path, to: Path) -> None:
    """Replace the old files by the new ones. The manifest goes first and comes last: without it a folder is no training set."""
    for name in (MANIFEST, *sorted(OUTPUTS)):
        (to / name).unlink(missing_ok=True)
    for path in sorted(made.iterdir(), key=lambda path: (path.name == MANIFEST, path.name)):
        path.chmod(0o600)
        path.rename(to / path.name)


def _write_json(path: Path, body: object) -> None:
    path.write_bytes(orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


# The first pass


@dataclass
class _Read:
    """The result of the first pass."""

    made_with: MadeWith
    notes: ExampleNotes = field(default_factory=ExampleNotes)
    formats: tuple[Format, ...] = ()
    candidate_features: list[str] = field(default_factory=list)
    spec: str = ""
    target: str = ""
    scope: str = ""
    lines: int = 0
    hash: int = 0
    """The sum of the lines' sha256: the same for the same lines in any order."""
    faults: dict[str, Broken] = field(default_factory=dict)

    @property
    def has_texts(self) -> bool:
        """Whether chats or completions are written."""
        return bool({"chat", "completion"} & set(self.formats))

    def as_json(self) -> dict[str, Any]:
        """The manifest's description of SOURCE."""
        found = {"lines": self.lines, "sha256_sum": f"{self.hash:064x}", "spec": self.spec, "target": self.target, "scope": self.scope}
        return found if (settings := self.made_with(self.spec)) is None else {**found, "settings": dict(settings)}


def _read(source: Path, called: str, wanted: PrepareOptions, encoding: Encoding, progress: PrepareProgress, made_with: MadeWith) -> _Read:
    read, place = _Read(made_with), 0
    size = max(source.stat().st_size, 1)
    with source.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if is_cut_short(line):
                raise cut_short(called, number)
            if line.strip():
                _note(read, line, number, place, wanted, encoding)
            place += len(line)
            if not number % PROGRESS_EVERY:
                progress(number, place / size / 2)
    if not len(read.notes):
        why = ", ".join(f"{name} {fault.count:,}" for name, fault in read.faults.items()) or "it is empty"
        raise CannotPrepare(f"{called}: has no examples ({why}): make some with `beepgpt examples`, and have them labeled")
    return read


def _note(read: _Read, line: bytes, number: int, place: int, wanted: PrepareOptions, encoding: Encoding) -> None:
    read.lines += 1
    read.hash = (read.hash + int.from_bytes(sha256(line.strip()).digest(), "big")) % 2**256
    found = read_line(line)
    if isinstance(found, str):
        read.faults.setdefault(found, Broken()).add(f"line {number:,}")
        return
    if not len(read.notes):
        _begin(read, found, line, wanted)
    if found.spec != read.spec:
        raise CannotPrepare(
            f"line {number:,} was made with other settings than those before it:"
            f" {differing(found.spec, read.spec, read.made_with(found.spec), read.made_with(read.spec))}."
            " A training set holds examples of the same settings: make all of them anew"
        )
    if "candidates" in read.formats and not found.has_candidates:
        raise CannotPrepare(
            f"line {number:,} has no candidates: make the examples without --no-candidates, or ask for another format (--format chat)"
        )
    read.notes.add(found, place, len(line), len(encoding.encode_ordinary(found.prompt)) if read.has_texts else 0)


def _begin(read: _Read, first: ExampleLine, line: bytes, wanted: PrepareOptions) -> None:
    """Note the fields of the first example that all must share."""
    read.spec, read.target, read.scope = first.spec, first.target, first.scope
    read.formats = wanted.formats if wanted.formats is not None else (("chat", "candidates") if first.has_candidates else ("chat",))
    if first.has_candidates:
        read.candidate_features = [name for name in orjson.loads(line)["candidates"] if name != "user"]


def answers_of(columns: ExampleColumns, train: Mask, answers: Answers) -> dict[str, int]:
    """How many training examples have each person's label as a completion."""
    values, rows = columns.answers
    teach = (train & ~columns.is_weak)[rows]
    if answers == "one":
        counts = np.bincount(rows, minlength=len(columns))
        place = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
        drawn = columns.ids[:, 0] % np.maximum(counts, 1).astype(np.uint64)
        teach &= place == drawn.astype(np.int64)[rows]
    found = np.bincount(values[teach], minlength=len(columns.people))
    return {user: int(count) for user, count in zip(columns.people, found, strict=True) if count}


# The second pass


def _texts(read: _Read, labels: Labels, wanted: PrepareOptions, encoding: Encoding) -> TextRows | None:
    """A writer of rows of text; None if neither chats nor completions are written."""
    if not read.has_texts:
        return None
    check_single_tokens(labels.written(), encoding)
    return TextRows(
        labels=labels, encoding=encoding, answers=wanted.answers, is_chat="chat" in read.formats,
        max_tokens=wanted.max_tokens, max_characters=wanted.max_characters, system=wanted.system,
    )  # fmt: skip


@dataclass(frozen=True)
class _Writing:
    """The second pass, a side at a time."""

    source: Path
    called: str
    folder: Path
    read: _Read
    columns: ExampleColumns
    texts: TextRows | None
    wanted: PrepareOptions
    wrote: Callable[[int], None]
    """Called with the number of examples written since the last call."""

    def write(self, side: Side, mask: Mask) -> None:
        """Write the files of one side, in the order of time."""
        rows = self.columns.in_time[mask[self.columns.in_time]]
        repeated = _repeated(self.columns.prompts, rows)
        with ExitStack() as stack:
            table, texts, lines = self._open(stack, side)
            entries = stack.enter_context((self.folder / f"{ROWS}_{side}.jsonl").open("wb"))
            for number, (row, line) in enumerate(_lines_at(self.source, self.columns, rows), start=1):
                body = self._example(row, line)
                if table is not None:
                    table.write(body)
                if lines is not None:
                    lines.write(line.strip() + b"\n")
                count = 0
                if self.texts is not None:
                    count = self.texts.write(side, texts, body, int(self.columns.tokens[row]), is_repeated=bool(repeated[row]))
                entry = {name: value for name, value in body.items() if name in OF_ENTRIES}
                entries.write(orjson.dumps({**entry, "rows": count}, option=orjson.OPT_APPEND_NEWLINE))
                if not number % PROGRESS_EVERY:
                    self.wrote(PROGRESS_EVERY)
        if self.texts is not None:
            self.texts.end_side()

    def _example(self, row: int, line: bytes) -> dict[str, Any]:
        """A parsed line, if it is what it was in the first pass. Raises CannotPrepare."""
        try:
            body: dict[str, Any] = orjson.loads(line)
            if bytes.fromhex(body["id"]) == self.columns.ids[row].astype(">u8").tobytes():
                return body
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            pass
        raise CannotPrepare(f"{self.called}: was changed while it was read: prepare it again when it is at rest")

    def _open(self, stack: ExitStack, side: Side) -> tuple[CandidateTable | None, list[TextRowsFile], BinaryIO | None]:
        """Open the files of a side: the table, the files of rows, and the examples' own lines, with which an audit checks the split."""
        table, texts, lines = None, list[TextRowsFile](), None
        for name in self.read.formats:
            path = self.folder / f"{name}_{side}.{SUFFIXES[name]}"
            if name == "candidates":
                table = stack.enter_context(CandidateTable(path, self.read.candidate_features))
            elif name == "examples":
                lines = stack.enter_context(path.open("wb"))
            elif name == "chat":
                texts.append(stack.enter_context(Chats(path, self.wanted.system)))
            else:
                texts.append(stack.enter_context(Completions(path, self.texts.space if self.texts else "")))
        return table, texts, lines


def _lines_at(source: Path, columns: ExampleColumns, rows: Integers) -> Iterator[tuple[int, bytes]]:
    """These rows' lines, each with its row."""
    with source.open("rb") as file:
        for row in rows:
            yield row, os.pread(file.fileno(), int(columns.sizes[row]), int(columns.places[row]))


def _repeated(prompts: Hashes, rows: Integers) -> Mask:
    """Rows whose prompt occurs more than once in `rows`: only they can give duplicates, so only they are remembered."""
    found, counts = np.unique(prompts[rows], return_counts=True)
    return np.isin(prompts, found[counts > 1])


# The manifest


def account_of(lines: int, faults: dict[str, Broken], columns: ExampleColumns, sides: Sides) -> dict[str, Any]:
    """The account: every line on a side, or left out for one reason."""
    left_out = {**{name: fault.count for name, fault in sorted(faults.items())}, **sides.left_out()}
    on = {
        side: {
            "examples": int(mask.sum()),
            "answered": int((mask & ~columns.is_silence & ~columns.is_weak).sum()),
            "weak": int((mask & columns.is_weak).sum()),
            "silences": int((mask & columns.is_silence).sum()),
            "unlabeled": int((mask & ~columns.is_labeled & ~columns.is_silence).sum()),
        }
        for side, mask in (("train", sides.train), ("valid", sides.valid))
    }
    total = sum(left_out.values()) + on["train"]["examples"] + on["valid"]["examples"]
    return {"read": lines, "left_out": left_out, **on, "adds_up": total == lines}


def _parts(columns: ExampleColumns, sides: Sides) -> dict[str, Any]:
    """The three parts of time, and how many examples each has."""
    judge = sides.valid & (columns.prompt_ts >= sides.judge_from)
    counts = {"fit": sides.train, "choose": sides.valid & ~judge, "judge": judge}
    times = Parts(sides.cut, sides.judge_from).as_json()
    return {**times, "examples": {part: int(mask.sum()) for part, mask in counts.items()}}


def _rules(read: _Read, columns: ExampleColumns, texts: TextRows | None, wanted: PrepareOptions) -> dict[str, Broken]:
    """Every rule with its count, in the order of `prepare_data`."""
    silences = "left out" if wanted.sides.silences == "drop" else f'written as "{NIL}"'
    weak = "left out" if wanted.sides.weak == "drop" else f'written as "{wanted.sides.weak}"'
    done = {
        "not_json": "lines that are no JSON: left out",
        "not_an_example": "lines that are JSON, but no examples of ours: left out",
        "no_prompt": "no prompt, or one without words: left out",
        "no_answer": "no answer, not even an empty one: left out",
        "no_suffix": "prompts without the suffix that all others end with: left out",
        "suffix_inside": "prompts with the suffix before their end: left out",
    }
    found = {name: Broken(done=what) for name, what in done.items()}
    for name, fault in read.faults.items():
        found[name].count, found[name].ids = fault.count, fault.ids
    found["empty_completion"] = Broken(int(columns.is_silence.sum()), f"nobody answered: {silences}")
    found["weak_signal"] = Broken(int(columns.is_weak.sum()), f"answered, but not worth learning: {weak}")
    return found | (texts.rules() if texts is not None else {})


def _sums(texts: TextRows | None, wanted: PrepareOptions) -> dict[str, Any]:
    """Rows and tokens of the files of text, and the cost of an epoch."""
    if texts is None:
        return {}
    return {
        "rows": {side: dict(sorted(texts.counts[side].items())) for side in SIDES},
        "tokens": dict(texts.tokens),
        "cost_per_epoch": None if wanted.price is None else round(texts.tokens["train"] * wanted.price / MILLION, 4),
    }


def _hash_of(ids: Iterable[bytes]) -> str:
    return sha256(b"".join(sorted(ids))).hexdigest()


def _file_entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": file_digest(file, "sha256").hexdigest()}


# What comes beside the examples


def retracted_in(path: Path) -> Iterator[bytes]:
    """The ids in a file of retractions. Raises CannotPrepare: an unreadable line may stand for a deleted message."""
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if line.strip():
            try:
                yield bytes.fromhex(orjson.loads(line)["id"])
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
                raise CannotPrepare(f"{path}: line {number:,} is not a retraction: fix it, or what was deleted will be learned") from error


def few_shots_in(folder: Path) -> Iterator[ExampleLine]:
    """The few-shots of a folder. Raises CannotPrepare."""
    for path in (folder / "examples_pos.jsonl", folder / "examples_neg.jsonl"):
        if not path.exists():
            continue
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            if line.strip():
                found = read_line(line)
                if isinstance(found, str):
                    raise CannotPrepare(f"{path}: line {number:,} is not a few-shot ({found}): fix it, or it might be validated with")
                yield found
