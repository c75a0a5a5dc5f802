"""Steps of a folder: what is up to date is not done again, and what changed is, with all that is made from it."""

from pathlib import Path

from beepgpt.runtime.steps import STEPS, Steps, contents_of


def run(folder: Path, source: str = "a", options: int = 1, stop_after: int = 3) -> list[str]:
    """Three steps of which each writes what it was made from; returns the names of those that were done."""
    done = []
    steps = Steps(folder, 3)
    for number, (name, made_from) in enumerate((("one", source), ("two", options), ("three", None))):
        if number == stop_after:
            break
        file = folder / f"{name}.txt"

        def work(name: str = name, file: Path = file) -> dict[str, int]:
            done.append(name)
            file.write_text(f"{source} {options}")
            return {"length": len(name)}

        assert steps.run(name, made_from, [file], work, lambda value: f"{value['length']} letters") == {"length": len(name)}
    return done


def test_what_is_up_to_date_is_not_done_again(tmp_path: Path):
    """And its values are those of the last time."""
    assert run(tmp_path) == ["one", "two", "three"]
    assert run(tmp_path) == []


def test_what_changed_makes_all_after_it_anew(tmp_path: Path):
    """The source makes all of it; an option of the second step makes the second and the third."""
    run(tmp_path)

    assert run(tmp_path, options=2) == ["two", "three"]
    assert run(tmp_path, source="b", options=2) == ["one", "two", "three"]
    assert run(tmp_path, source="b", options=2) == []


def test_a_file_that_is_missing_or_was_changed_is_made_again(tmp_path: Path):
    """By whatever."""
    run(tmp_path)
    (tmp_path / "two.txt").write_text("something else")

    assert run(tmp_path) == ["two"]
    (tmp_path / "three.txt").unlink()
    assert run(tmp_path) == ["three"]


def test_what_was_stopped_goes_on(tmp_path: Path):
    """With the first step that was not done."""
    assert run(tmp_path, stop_after=2) == ["one", "two"]
    assert run(tmp_path) == ["three"]


def test_notes_that_cannot_be_read_count_as_none(tmp_path: Path):
    """Cut short by a kill, as somebody else's program might."""
    run(tmp_path)
    (tmp_path / STEPS).write_text('{"one": ')

    assert run(tmp_path) == ["one", "two", "three"]


def test_a_source_is_known_by_its_contents(tmp_path: Path):
    """A zip that is written again with the same bytes is the same; of a folder, every file counts."""
    (tmp_path / "folder").mkdir()
    file = tmp_path / "folder" / "a"
    file.write_text("1")
    before, whole = contents_of(file), contents_of(tmp_path / "folder")
    file.unlink()
    file.write_text("1")

    assert contents_of(file) == before
    (tmp_path / "folder" / "b").write_text("")
    assert contents_of(tmp_path / "folder") != whole
