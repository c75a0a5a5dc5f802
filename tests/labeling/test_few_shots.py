"""Few-shots that a person chose: exact bytes, an order that can be undone, and nothing lost by a crash."""

import shutil
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beepgpt.errors import CannotRead, CannotWrite
from beepgpt.labeling.few_shots import FILES, JOURNAL, Entry, FewShots, few_shot_line

POSITIVE, NEGATIVE = FILES.values()
IDS = ["a", "b", "c", "d"]


def line(identity: str, prompt: str = "hello\n\n###\n\n") -> bytes:
    return orjson.dumps({"id": identity, "prompt": prompt})


def shot(identity: str, signal: str) -> bytes:
    return line(identity)[:-1] + b',"signal":"%s"}\n' % signal.encode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "few-shots"


def opened(folder: Path, act: Callable[[FewShots], object] = lambda few_shots: None) -> FewShots:
    """Opened, used, closed again."""
    few_shots = FewShots(folder)
    try:
        act(few_shots)
    finally:
        few_shots.close()
    return few_shots


def kept(folder: Path) -> dict[str, list[bytes]]:
    """What stands in the files, line by line."""
    return {name: (folder / name).read_bytes().splitlines(keepends=True) if (folder / name).exists() else [] for name in FILES.values()}


def test_a_few_shot_is_its_line_and_a_signal(folder: Path):
    """Byte for byte, with nothing between."""
    opened(folder, lambda few_shots: few_shots.keep("a", line("a"), "strong"))
    opened(folder, lambda few_shots: few_shots.keep("b", line("b"), "weak"))

    assert kept(folder) == {POSITIVE: [shot("a", "strong")], NEGATIVE: [shot("b", "weak")]}


@given(text=st.text(), p=st.none() | st.floats(0, 1), model=st.text(), first=st.sampled_from(["strong", "weak"]))
def test_a_label_that_was_there_is_replaced(text: str, p: float | None, model: str, first: str):
    """Whatever the text and the model's name hold: even what looks like a label."""
    bare = orjson.dumps({"id": "a", "prompt": f'{text},"signal":"weak"}}', "answer": ["U1"]})
    label = orjson.dumps({"signal": first, "signal_p": p, "signal_model": model, "signal_instructions": "0123456789ab"})

    assert few_shot_line(bare[:-1] + b"," + label[1:], "strong") == bare[:-1] + b',"signal":"strong"}'
    assert few_shot_line(orjson.dumps(orjson.loads(label) | orjson.loads(bare)), "strong") == bare[:-1] + b',"signal":"strong"}'


def test_a_summary_stays_with_its_few_shot():
    """A signal that changes takes nothing else along."""
    told = line("a")[:-1] + b',"signal":"strong","summary":"Ana \\"asks\\" for help"}'

    assert few_shot_line(told, "weak") == told.replace(b"strong", b"weak")


def test_undo_goes_back_across_restarts(folder: Path):
    """Decisions are undone in the order in which they were made, whichever file they went to, and by whichever process."""
    opened(folder, lambda few_shots: few_shots.keep("a", line("a"), "weak"))
    opened(folder, lambda few_shots: few_shots.keep("b", line("b"), "strong"))
    opened(folder, lambda few_shots: few_shots.skip("c"))
    opened(folder, lambda few_shots: few_shots.keep("d", line("d"), "strong"))

    undone = []
    for _ in range(5):
        opened(folder, lambda few_shots: undone.append(few_shots.undo()))

    assert undone == [Entry("d", "strong"), Entry("c", "skipped"), Entry("b", "strong"), Entry("a", "weak"), None]
    assert kept(folder) == {POSITIVE: [], NEGATIVE: []}


def test_what_was_there_before_is_gone_on_with(folder: Path):
    """Files without a journal, as somebody else wrote them: the newer file's last line is what is undone first."""
    folder.mkdir()
    (folder / POSITIVE).write_bytes(shot("a", "strong") + line("b"))  # no signal, and no newline at its end
    (folder / NEGATIVE).write_bytes(shot("c", "weak"))

    few_shots = opened(folder, lambda few_shots: few_shots.keep("d", line("d"), "strong"))

    assert few_shots.counts == {"strong": 3, "weak": 1}
    assert kept(folder)[POSITIVE] == [shot("a", "strong"), line("b") + b"\n", shot("d", "strong")]
    assert few_shots.mended == []


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["strong", "weak", "skip", "move", "remove", "undo"]), st.sampled_from(IDS)), min_size=1, max_size=8
)


def act(few_shots: FewShots, what: str, identity: str) -> None:
    """What can be done with this example now; nothing, if that can't."""
    now = few_shots.decided.get(identity)
    if what in ("strong", "weak") and now is None:
        few_shots.keep(identity, line(identity), what)  # type: ignore[arg-type]
    elif what == "skip" and now is None:
        few_shots.skip(identity)
    elif what == "move" and now in FILES:
        few_shots.move(identity)
    elif what == "remove" and now in FILES:
        few_shots.remove(identity)
    elif what == "undo":
        few_shots.undo()


@given(operations=OPERATIONS)
def test_another_process_finds_it_as_it_was_left(tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, str]]):
    """After each thing that is done, a process that opens the folder again knows the same, and can undo the same."""
    folder = tmp_path_factory.mktemp("any") / "few-shots"
    for operation in operations:
        before = opened(folder, lambda few_shots, operation=operation: act(few_shots, *operation))  # type: ignore[misc]
        after = opened(folder)

        assert (after.decided, after.entries, after.mended) == (before.decided, before.entries, [])
        assert {name: [orjson.loads(each)["id"] for each in lines] for name, lines in kept(folder).items()} == {
            name: [each for each, decision, _ in after.chosen() if decision == signal] for signal, name in FILES.items()
        }


@given(operations=OPERATIONS, cut=st.integers(0, 200), order=st.permutations([POSITIVE, NEGATIVE, JOURNAL]), written=st.integers(0, 2))
def test_a_crash_loses_nothing_that_was_not_touched(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, str]], cut: int, order: list[str], written: int
):
    """Some files as after the last operation, some as before, one cut short: it opens, with all that this operation did not touch."""
    folder = tmp_path_factory.mktemp("any") / "few-shots"
    *done, last = operations
    opened(folder)
    for each in done:
        opened(folder, lambda few_shots, each=each: act(few_shots, *each))  # type: ignore[misc]
    old = folder.with_name("old")
    shutil.copytree(folder, old)
    before = dict(opened(folder).decided)
    after = dict(opened(folder, lambda few_shots: act(few_shots, *last)).decided)

    for name in order[written:]:  # not written yet
        (folder / name).unlink(missing_ok=True)
        if (old / name).exists():
            shutil.copy(old / name, folder / name)
    name = order[written]
    grown = (folder / name).read_bytes() if (folder / name).exists() else b""
    (folder / name).write_bytes(grown + shot("z", "strong")[: min(cut, len(shot("z", "strong")) - 2)])
    found = opened(folder)

    untouched = {each: decision for each, decision in before.items() if after.get(each) == decision and decision != "skipped"}
    assert {each: found.decided[each] for each in untouched} == untouched
    assert "z" not in found.decided
    assert len(found.mended) >= (1 if cut else 0)


def test_a_move_that_a_crash_cut_short_is_finished(folder: Path):
    """The line stands in both files: where it was to go is in the journal."""
    opened(folder, lambda few_shots: few_shots.keep("a", line("a"), "strong"))
    before = (folder / POSITIVE).read_bytes()
    opened(folder, lambda few_shots: few_shots.move("a"))
    (folder / POSITIVE).write_bytes(before)

    few_shots = opened(folder)

    assert few_shots.decided == {"a": "weak"}
    assert kept(folder) == {POSITIVE: [], NEGATIVE: [shot("a", "weak")]}
    assert "stood in both files, and stays weak" in few_shots.mended[0]


def test_a_move_is_in_the_journal_before_a_line_is_moved(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Killed when the line stands in both files, and before it is taken out of the first one: the newer decision counts."""
    opened(folder, lambda few_shots: few_shots.keep("a", line("a"), "strong"))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(FewShots, "_take_out", killed)
        with pytest.raises(KeyboardInterrupt):
            opened(folder, lambda few_shots: few_shots.move("a"))

    assert opened(folder).decided == {"a": "weak"}
    assert kept(folder) == {POSITIVE: [], NEGATIVE: [shot("a", "weak")]}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (POSITIVE, b"not json\n", "examples_pos.jsonl: few-shot 1 is no JSON"),
        (POSITIVE, shot("a", "strong") + b'{"prompt":"secret words"}\n', "examples_pos.jsonl: few-shot 2 is no example"),
        (NEGATIVE, shot("a", "strong"), "examples_neg.jsonl: few-shot 1 stands among the weak ones"),
        (NEGATIVE, shot("a", "weak") * 2, "examples_neg.jsonl: few-shot 2 stands there twice"),
    ],
)
def test_what_is_no_few_shot_is_named_and_left_alone(folder: Path, name: str, content: bytes, told: str):
    """With the file and its place, and without its words."""
    folder.mkdir()
    (folder / name).write_bytes(content)

    with pytest.raises(CannotRead) as raised:
        FewShots(folder)

    assert told in str(raised.value)
    assert "secret words" not in str(raised.value)
    assert (folder / name).read_bytes() == content


def test_an_example_on_both_sides_is_somebodys_to_decide(folder: Path):
    """No journal says what was meant."""
    folder.mkdir()
    (folder / POSITIVE).write_bytes(shot("a", "strong"))
    (folder / NEGATIVE).write_bytes(shot("a", "weak"))

    with pytest.raises(CannotRead, match=r"example a stands in examples_pos\.jsonl and in examples_neg\.jsonl"):
        FewShots(folder)


def test_one_review_at_a_time(folder: Path):
    """A second process would undo what the first one did."""
    few_shots = FewShots(folder)

    with pytest.raises(CannotWrite, match="a review is adding to it"):
        FewShots(folder)

    few_shots.close()
    opened(folder)


def test_somebody_elses_changes_are_not_written_over(folder: Path):
    """A file that was edited in the meantime is left as it is, and said so."""
    few_shots = FewShots(folder)
    few_shots.keep("a", line("a"), "strong")
    (folder / POSITIVE).write_bytes(b"")

    for attempt in (lambda: few_shots.keep("b", line("b"), "strong"), few_shots.undo):
        with pytest.raises(CannotWrite, match=r"examples_pos\.jsonl: was changed by somebody else"):
            attempt()

    assert kept(folder) == {POSITIVE: [], NEGATIVE: []}
    few_shots.close()


def test_a_folder_that_cant_be_is_named(tmp_path: Path):
    """A file stands there."""
    (tmp_path / "file").write_text("")

    with pytest.raises(CannotWrite, match="file/few-shots: can't be written"):
        FewShots(tmp_path / "file" / "few-shots")
