"""A run goes on with the files that it knows: one that was changed or cut meanwhile is refused, however little."""

from pathlib import Path

import pytest

from beepgpt.connectors.files.jsonl import PARTITION, JsonlSink, JsonlSource
from beepgpt.errors import CannotRead, CannotWrite


def test_an_output_of_which_one_byte_was_changed_is_not_gone_on_with(tmp_path: Path):
    """It has the right length, and is left as it is."""
    path = tmp_path / "out.jsonl"
    part = JsonlSink(path).build_part("write", PARTITION, None)
    part.write_batch([b'{"a":1}\n', b'{"a":2}\n'])
    state = part.snapshot()
    part.close()
    path.write_bytes(changed := path.read_bytes().replace(b"1", b"3"))

    with pytest.raises(CannotWrite, match="was changed since this run was stopped"):
        JsonlSink(path).build_part("write", PARTITION, state)
    assert path.read_bytes() == changed


def test_an_input_that_is_one_byte_shorter_is_not_taken_for_one_at_its_end(tmp_path: Path):
    """What was read is not all there any more."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"a":1}\n{"a":2}\n')
    part = JsonlSource(path).build_part("read", PARTITION, None)
    part.next_batch()
    state = part.snapshot()
    part.close()
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(CannotRead, match="shorter than the 16 bytes"):
        JsonlSource(path).build_part("read", PARTITION, state)
