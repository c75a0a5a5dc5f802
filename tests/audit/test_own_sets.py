"""The audit of our own training sets, of every format: what each row was made of stands beside it, and nothing is guessed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beepgpt.audit.findings import Audit
from beepgpt.audit.laws import audit_examples
from beepgpt.audit.own_sets import AnswerLabels, Named, SetSide, TextRow
from beepgpt.commands.audit import SUSPECTED
from beepgpt.errors import CannotRead
from beepgpt.library.audited_files import set_in
from beepgpt.training.splits import SplitOptions
from tests.support import program, quiet
from tests.support.audits import ENCODING, RULES, broken, made_up
from tests.support.prepare import Set, made


def set_of(folder: Path, *formats: str) -> Set:
    """The training set of the simulated workspace's examples."""
    folder.mkdir(parents=True, exist_ok=True)
    return made(folder, made_up()[1].examples, sides=SplitOptions(valid_share=0.3), formats=formats)


def audit_of(folder: Path) -> Audit:
    """An audit of a training set."""
    given = set_in(folder)
    return audit_examples(made_up()[0], given.lines, RULES, ENCODING, valid=given.valid)


def found_in(folder: Path) -> dict[int, str]:
    """What an audit of a training set finds broken, or suspects."""
    audit = audit_of(folder)
    assert not audit.is_suspected
    return broken(audit)


FORMATS = [
    ("chat",),
    ("completion",),
    ("candidates",),
    ("examples",),
    ("chat", "candidates"),
    ("chat", "completion", "candidates", "examples"),
]


@pytest.mark.parametrize("formats", FORMATS)
def test_a_set_of_ours_keeps_the_laws_in_every_format(tmp_path: Path, formats: tuple[str, ...]):
    """All of its examples are made again, from a folder as prepare wrote it."""
    ours = set_of(tmp_path, *formats)
    audit = audit_of(ours.folder)

    assert broken(audit) == {} and not audit.is_suspected
    assert {judged.law for judged in audit.laws if judged.verdict == "kept"} == {1, 2, 3, 4, 6, 7}
    assert audit.checked["recomputed"] == audit.checked["examples"] > 100


def changed(path: Path, change: Callable[[dict[str, Any]], None], row: int = 3) -> None:
    """A file of which one row was changed afterwards."""
    lines = path.read_bytes().splitlines()
    body = orjson.loads(lines[row])
    change(body)
    path.write_bytes(b"".join(line + b"\n" for line in [*lines[:row], orjson.dumps(body), *lines[row + 1 :]]))


def a_later_word(body: dict[str, object]) -> None:
    messages = body["messages"]
    assert isinstance(messages, list)
    messages[-2]["content"] = "what was said later\n\n" + messages[-2]["content"]


def test_a_prompt_that_was_changed_is_named(tmp_path: Path):
    """In the rows alone, as another tool might; and in one of two files, which then disagree."""
    ours = set_of(tmp_path / "a", "chat")
    changed(ours.folder / "chat_train.jsonl", a_later_word)
    assert set(found_in(ours.folder)) == {1}

    both = set_of(tmp_path / "b", "chat", "candidates")
    changed(both.folder / "chat_train.jsonl", a_later_word)
    assert "rows that are not what the entries beside them say" in found_in(both.folder)[4]


def test_a_row_that_was_moved_over_the_cut_is_named(tmp_path: Path):
    """A validation example among those to learn from."""
    ours = set_of(tmp_path, "completion")
    for name in ("rows", "completion"):
        train, valid = (ours.folder / f"{name}_{side}.jsonl" for side in ("train", "valid"))
        train.write_bytes(train.read_bytes() + valid.read_bytes().splitlines(keepends=True)[-1])

    assert 7 in found_in(ours.folder)


def test_rows_too_many_or_in_another_order_are_named(tmp_path: Path):
    """Of a file of text, and of a table."""
    ours = set_of(tmp_path / "a", "completion")
    path = ours.folder / "completion_valid.jsonl"
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[0])
    assert "1 rows more than the entries beside it name" in found_in(ours.folder)[4]

    table = set_of(tmp_path / "b", "candidates").folder / "candidates_train.parquet"
    rows = pq.read_table(table)
    pq.write_table(rows.take(pa.array([1, 0, *range(2, len(rows))])), table)
    assert "its prompt is not that of" in found_in(table.parent)[4]

    pq.write_table(pa.concat_tables([rows, rows.slice(0, 1)]), table)
    assert "1 rows more than the entries beside it name" in found_in(table.parent)[4]


def test_the_command_tells_kept_broken_and_suspected_apart(tmp_path: Path):
    """README's two lines exit with 0; a changed row with 1; without what stands beside the rows, all is a guess: 3, and never 1."""
    events = tmp_path / "events.jsonl"
    events.write_bytes(b"".join(record.replace(b"\n", b" ") + b"\n" for record in made_up()[0]))
    folder = set_of(tmp_path, "chat", "candidates").folder

    def audited() -> tuple[int, str]:
        done = subprocess.run(program("audit", events, folder), capture_output=True, text=True, env=quiet(), timeout=300, check=False)
        return done.returncode, done.stderr

    assert audited()[0] == 0
    for each in folder.glob("rows_*.jsonl"):
        each.unlink()
    status, said = audited()
    assert status in (0, SUSPECTED)
    assert ("suspected" in said) == (status == SUSPECTED)


# What a model is trained on


def with_column(table: Path, name: str, change: Callable[[list[object]], list[object]]) -> None:
    """A table of candidates of which one column was changed afterwards."""
    rows = pq.read_table(table)
    place = rows.schema.get_field_index(name)
    kind = rows.schema.field(name).type
    pq.write_table(rows.set_column(place, rows.schema.field(name), pa.array(change(rows[name].to_pylist()), kind)), table)


def planted(place: int, value: object) -> Callable[[list[object]], list[object]]:
    """One value of a column in the place of another."""
    return lambda values: [*values[:place], value, *values[place + 1 :]]


def features_of(table: Path, row: int) -> tuple[str, list[str], list[str]]:
    """The id, the candidates and the answer of a row."""
    found = pq.read_table(table).slice(row, 1).to_pylist()[0]
    return found["id"], found["candidates_user"], found["answer"]


@pytest.mark.parametrize("formats", [("candidates",), ("chat", "candidates"), ("candidates", "examples")])
def test_a_feature_that_knows_the_answer_is_named(tmp_path: Path, formats: tuple[str, ...]):
    """Whoever answers is suddenly close to the author, in the table alone: the finding names table, example, column and person."""
    table = set_of(tmp_path, *formats).folder / "candidates_train.parquet"
    row = next(row for row in range(20, 60) if set(features_of(table, row)[1]) & set(features_of(table, row)[2]))
    identity, people, answer = features_of(table, row)
    who = next(user for user in people if user in answer)

    def to_the_answerer(values: list[object]) -> list[object]:
        of_row = values[row]
        assert isinstance(of_row, list)
        return planted(row, [0.9 if user == who else value for user, value in zip(people, of_row, strict=True)])(values)

    with_column(table, "candidates_closeness", to_the_answerer)
    audit = audit_of(table.parent)

    assert set(broken(audit)) == {1}
    [finding] = audit.findings
    assert finding.count == 1
    [instance] = finding.examples
    assert instance.where == f"candidates_train.parquet, row {row + 1:,} ({identity})"
    assert instance.why.startswith(f"its column candidates_closeness of {who} is 0.9, where ")


AT_ONCE = datetime(1970, 1, 1, tzinfo=UTC)
COLUMNS_CHANGED: dict[str, tuple[object, int]] = {
    "answer": (["UNOBODY"], 3),
    "settled_ts": (AT_ONCE, 3),
    "prompt_ts": (AT_ONCE, 1),
    "speakers": (77, 1),
    "author": ("UNOBODY", 1),
    "window_user": (["UNOBODY"], 1),
    "window_ts": ([AT_ONCE], 1),
    "conversation": ("C0:1.000000:thread", 1),
    "channel": ("C0", 1),
    "prompt_tokens": (77, 1),
    "candidates_user": (["UNOBODY"], 1),
}


@pytest.mark.parametrize("column", COLUMNS_CHANGED)
def test_each_column_of_a_table_is_compared(whole_set: Path, tmp_path: Path, column: str):
    """Of the side that validates, too; answers and their times are of law 3."""
    value, law = COLUMNS_CHANGED[column]
    shutil.copytree(whole_set, tmp_path / "set")
    table = tmp_path / "set" / "candidates_valid.parquet"
    identity = features_of(table, 5)[0]
    with_column(table, column, planted(5, value))

    audit = audit_of(table.parent)
    assert set(broken(audit)) == {law}
    assert [(each.where, f"its column {column} " in each.why) for finding in audit.findings for each in finding.examples] == [
        (f"candidates_valid.parquet, row 6 ({identity})", True)
    ]


@pytest.fixture(scope="module")
def whole_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set with a table of candidates and nothing else."""
    return set_of(tmp_path_factory.mktemp("whole"), "candidates").folder


def test_a_label_of_somebody_else_is_named(tmp_path: Path):
    """In rows of text, whose completions are what is learned."""
    ours = set_of(tmp_path, "chat")

    def somebody_else(body: dict[str, object]) -> None:
        messages = body["messages"]
        assert isinstance(messages, list)
        messages[-1]["content"] = "77"

    changed(ours.folder / "chat_train.jsonl", somebody_else)
    found = found_in(ours.folder)
    assert set(found) == {3} and "its completion is '77', where the answer gives " in found[3]


@pytest.mark.parametrize(
    ("formats", "said"),
    [
        (("chat",), "features stand in no file of this set: not looked at"),
        (("candidates",), "features in the table's single precision"),
        (("examples",), "each prompt, window and feature is what the events up to its prompt_ts give, byte for byte"),
    ],
)
def test_the_sentence_says_whether_features_were_looked_at(tmp_path: Path, formats: tuple[str, ...], said: str):
    audit = audit_of(set_of(tmp_path, *formats).folder)
    assert said in next(judged.told for judged in audit.laws if judged.law == 1)


# All that a row says


def all_rows(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """A file of which every row was changed afterwards."""
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    for row in rows:
        change(row)
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def said(row: dict[str, Any]) -> str:
    """A message that names the answer."""
    return f"The answer is {row['messages'][-1]['content']}"


LEAKS: dict[str, tuple[str, Callable[[dict[str, Any]], None]]] = {
    "in the system message": ("chat", lambda row: row["messages"][0].update(content=said(row))),
    "in one more system message": ("chat", lambda row: row["messages"].insert(0, {"role": "system", "content": said(row)})),
    "in a message between": ("chat", lambda row: row["messages"].insert(1, {"role": "user", "content": said(row)})),
    "in a key of a message": ("chat", lambda row: row["messages"][1].update(name=said(row))),
    "in a key of the row": ("chat", lambda row: row.update(hint=said(row))),
    "by other roles": ("chat", lambda row: row["messages"][1].update(role="assistant")),
    "by another weight": ("chat", lambda row: row["messages"][-1].update(weight=0)),
    "beside a completion": ("completion", lambda row: row.update(hint=row["completion"])),
    "in a completion's form": ("completion", lambda row: row.update(completion=" " + row["completion"])),
}


@pytest.fixture(scope="module")
def texts_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of chats with a system message, and of completions."""
    folder = tmp_path_factory.mktemp("texts")
    sides = SplitOptions(valid_share=0.3)
    return made(folder, made_up()[1].examples, sides=sides, formats=("chat", "completion"), system="Say who answers.").folder


@pytest.mark.parametrize("leak", LEAKS)
def test_an_answer_beside_the_prompt_is_named(texts_set: Path, tmp_path: Path, leak: str):
    """Whatever stands in a row more than prompt, answer and the manifest's system message is learned from, too."""
    shutil.copytree(texts_set, tmp_path / "set")
    assert found_in(tmp_path / "set") == {}
    kind, change = LEAKS[leak]
    all_rows(tmp_path / "set" / f"{kind}_train.jsonl", change)

    assert set(found_in(tmp_path / "set")) <= {3, 4} and found_in(tmp_path / "set")


def relabeled(folder: Path, label: str) -> None:
    """Everybody has one label, in the map and in all rows."""
    path = folder / "labels.json"
    body = orjson.loads(path.read_bytes())
    before = {each["label"] for each in body["people"]}
    for each in body["people"]:
        each["label"] = label
    path.write_bytes(orjson.dumps(body))

    def same(row: dict[str, Any]) -> None:
        if row["messages"][-1]["content"] in before:
            row["messages"][-1]["content"] = label

    for side in ("train", "valid"):
        all_rows(folder / f"chat_{side}.jsonl", same)


@pytest.mark.parametrize("label", ["0", "nil", "other"])
def test_labels_that_mix_people_up_are_named(tmp_path: Path, label: str):
    """Rows and map agree, and nobody can be told apart."""
    ours = set_of(tmp_path, "chat")
    relabeled(ours.folder, label)

    audit = audit_of(ours.folder)
    assert set(broken(audit)) == {3}
    assert any(each.where == "labels of rows_train.jsonl" for finding in audit.findings for each in finding.examples)


def labeled_set(folder: Path, **how: Any) -> Path:
    """A set of labeled examples: every third has a weak signal."""
    folder.mkdir(parents=True, exist_ok=True)
    signals = [{"signal": "strong" if number % 3 else "weak", "signal_p": 0.75 if number % 3 else 0.25} for number in range(1_000)]
    examples = [orjson.loads(line) | more for line, more in zip(made_up()[1].examples, signals, strict=False)]
    return made(folder, examples, sides=SplitOptions(valid_share=0.3), **how).folder


@pytest.mark.parametrize("answers", ["one", "each", "all"])
def test_a_completion_is_that_of_its_entry(tmp_path: Path, answers: str):
    """However several people who answered are written: one more weak signal, or somebody twice, is found."""
    folder = labeled_set(tmp_path, formats=("chat",), answers=answers)
    assert found_in(folder) == {}
    entries = [orjson.loads(line) for line in (folder / "rows_train.jsonl").read_bytes().splitlines()]
    first = [sum(each["rows"] for each in entries[:number]) for number in range(len(entries))]

    def with_completion(number: int, row: int, text: str) -> dict[int, str]:
        copy = tmp_path / f"{number}-{row}"
        shutil.copytree(folder, copy)
        changed(copy / "chat_train.jsonl", lambda body: body["messages"][-1].update(content=text), first[number] + row)
        return found_in(copy)

    strong = next(number for number, each in enumerate(entries) if each["rows"] == 1 and each["answer"] and each["signal"] == "strong")
    assert "its completion is 'weak'" in with_completion(strong, 0, "weak")[3]
    weak = next(number for number, each in enumerate(entries) if each["rows"] == 1 and each["answer"] and each["signal"] == "weak")
    assert "where the answer gives weak" in with_completion(weak, 0, "0")[3]


def test_each_person_who_answered_has_one_row():
    """Somebody twice, in the place of somebody else, is found; the rows of both are not."""
    entry = orjson.dumps({"id": "00" * 16, "answer": ["ana", "bo"], "rows": 2})
    labels = AnswerLabels({"ana": "0", "bo": "1"}, "nil", "other", None, "each")

    def whys(*completions: str) -> list[str]:
        rows = Named("chat_train.jsonl", [TextRow("p", each) for each in completions])
        side = SetSide(Named("rows_train.jsonl", [entry]), (rows,), labels=labels)
        assert len(list(side)) == 1
        return [why for _, _, why in side.faults.values()]

    assert whys("0", "1") == whys("1", "0") == []
    assert whys("0", "0") == ["its completion is '0', where the answer gives 0 or 1, each once"]


def test_labels_of_weak_signals_are_told_apart():
    """From those of nobody, of people without a label and of people; but where weak answers are nobody's, they share its label."""

    def why(weak: str | None, nobody: str = "nil", **people: str) -> list[str]:
        return [reason for _, reason in AnswerLabels(people, nobody, "other", weak, "each").mixed_up()]

    assert why("weak", ana="0") == why("nil", ana="0") == why(None, ana="0") == []
    assert why("other") == ["label 'other' is that of weak signals and of people without a label"]
    assert why("weak", ana="weak") == ["label 'weak' is that of ana and of weak signals"]
    assert why("nil", ana="nil") == ["label 'nil' is that of ana and of nobody"]


def test_a_weak_answer_is_that_of_its_people_where_no_label_is_of_weak_signals():
    """As in a set that has no example with a weak signal."""
    entry = {"id": "00" * 16, "answer": ["ana"], "signal": "weak"}

    for weak, expected in (("weak", "weak"), ("nil", "nil"), (None, "0")):
        assert AnswerLabels({"ana": "0"}, "nil", "other", weak, "each").of(entry) == [expected]


def test_signals_of_a_table_are_compared(tmp_path: Path):
    """They decide what is learned; a column that is missing is no column of nulls."""
    folder = labeled_set(tmp_path, formats=("candidates",))
    table = folder / "candidates_train.parquet"
    assert found_in(folder) == {}
    before = table.read_bytes()

    with_column(table, "signal", lambda values: ["strong"] * len(values))
    assert "its column signal is 'strong', where the example has 'weak'" in found_in(folder)[3]
    table.write_bytes(before)
    with_column(table, "signal_p", planted(4, 0.9))
    assert "its column signal_p is 0.9, where the example has 0.75" in found_in(folder)[3]
    table.write_bytes(before)
    pq.write_table(pq.read_table(table).drop_columns(["signal"]), table)
    assert "its column signal is missing" in found_in(folder)[3]


def test_a_column_that_is_no_feature_is_named(tmp_path: Path):
    """Lists of text, beside the features."""
    table = set_of(tmp_path, "candidates").folder / "candidates_train.parquet"
    rows = pq.read_table(table)
    pq.write_table(rows.append_column("leak", rows["answer"]), table)

    with pytest.raises(CannotRead, match=r"candidates_train.parquet: its column leak is no feature of candidates \(it holds list<"):
        audit_of(table.parent)
