"""The source of a Slack export in flows that run, are stopped, killed and resumed; and real exports, read whole."""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import bytewax.operators as op
import orjson
import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import AbortExecution
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, run_main

from beepgpt.connectors.slack.export import KINDS, DayElements, Export, ExportSource, UnreadableDay, open_export, read_days
from beepgpt.connectors.slack.export.days import CHUNK, ExportChunk
from tests.support.exports import HELLO, unpacked, zipped

DATA = Path(__file__).parents[3] / "shared" / "data"
MESSAGES = {"dd2030": 10_223, "houstondatavis-scrubbed": 1_382, "hubspot-dev-2016-2023": 177_171, "ubuntu-irc-train-dev": 227_223}


# The source, in flows that run.


def records_of(channel: str, days: Iterator[DayElements]) -> Iterator[bytes]:
    """Stands in for the function that makes events of days."""
    for day in days:
        for number, message in enumerate(day.messages):
            yield orjson.dumps([channel, str(day.date), number, message])


def busy(tmp_path: Path) -> Export:
    """Three channels of 900 messages each, and a day that can't be read."""
    days = [(f"{name}/2022-01-0{day}.json", list(range(300))) for name in "abc" for day in (1, 2, 4)]
    return open_export(zipped(tmp_path, ("b/2022-01-03.json", b"oh no"), *days), KINDS)


def flow_of(source: ExportSource, out: list[ExportChunk]) -> Dataflow:
    flow = Dataflow("export")
    op.output("write", op.input("read", flow, source), TestingSink(out))
    return flow


def values_of(chunks: list[ExportChunk]) -> list[bytes | UnreadableDay]:
    return [value for _, _, values in chunks for value in values]


def test_the_source_reads_channel_after_channel(tmp_path):
    """In chunks of one channel each, numbered in it, with a day's reject between the days around it; then the end is reported."""
    export = busy(tmp_path)
    out: list[ExportChunk] = []
    calls: list[Any] = []

    source = ExportSource(export, records_of, on_end=lambda: calls.append("end"), progress=lambda *seen: calls.append(seen))
    run_main(flow_of(source, out))

    expected = [record for channel in export.channels for record in records_of(channel.id, read_days(export, channel))]
    assert [value for value in values_of(out) if isinstance(value, bytes)] == expected
    assert [(partition, first, len(values)) for partition, first, values in out] == [
        ("export/a", 1, 900), ("export/b", 1, 100), ("export/b", 101, 801), ("export/c", 1, 199), ("export/c", 200, 701),
    ]  # fmt: skip
    at, reject = next((at, value) for at, value in enumerate(values_of(out)) if isinstance(value, UnreadableDay))
    assert (at, reject.reason, reject.place, reject.record) == (1_500, "day_file_not_json", "b/2022-01-03.json", b"oh no")
    assert [seen[0] for seen in calls[:-1]] == [1_000, 1_000, 701]
    shares = [seen[1] for seen in calls[:-1]]
    assert shares == sorted(shares) and shares[-1] == 1
    assert calls[-1] == "end"


def test_the_source_reads_only_what_is_wanted(tmp_path):
    """The other channels are some other process's."""
    out: list[ExportChunk] = []
    run_main(flow_of(ExportSource(busy(tmp_path), records_of, wanted=lambda channel: channel != "b"), out))

    assert {orjson.loads(value)[0] for value in values_of(out) if isinstance(value, bytes)} == {"a", "c"}


def test_a_stop_is_no_end(tmp_path):
    """`on_end` is not called when `stopping` says so."""
    out: list[ExportChunk] = []
    ends: list[str] = []
    run_main(
        flow_of(
            ExportSource(busy(tmp_path), records_of, stopping=lambda: len(values_of(out)) == 2_000, on_end=lambda: ends.append("end")), out
        )
    )

    assert (len(values_of(out)), ends) == (2_000, [])


def resumed(tmp_path: Path, source: ExportSource, out: list[ExportChunk]) -> None:
    """A run with a recovery store and a snapshot after every chunk."""
    store = tmp_path / "recovery"
    if not store.exists():
        store.mkdir()
        init_db_dir(store, 1)
    run_main(flow_of(source, out), epoch_interval=timedelta(0), recovery_config=RecoveryConfig(str(store)))


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    """Each record and reject comes once, in order, also when it was stopped after every chunk."""
    export = busy(tmp_path)
    out: list[ExportChunk] = []
    ends: list[str] = []
    for count in (1_000, 2_000, 2_701, 0):
        is_enough = partial(lambda count: len(values_of(out)) == count, count)
        resumed(tmp_path, ExportSource(export, records_of, stopping=is_enough, on_end=lambda: ends.append("end")), out)

    once: list[ExportChunk] = []
    run_main(flow_of(ExportSource(export, records_of), once))
    assert (out, ends) == (once, ["end"])


def test_a_killed_run_goes_on_from_its_last_snapshot(tmp_path):
    """Nothing is missing; what came after the snapshot comes again with the same numbers."""
    export = busy(tmp_path)
    out: list[ExportChunk] = []

    def die(_count: int, _share: float) -> None:
        if out:
            raise AbortExecution

    resumed(tmp_path, ExportSource(export, records_of, progress=die), out)
    assert len(values_of(out)) == CHUNK
    resumed(tmp_path, ExportSource(export, records_of), out)

    by_number = {(partition, first): values for partition, first, values in out}
    once: list[ExportChunk] = []
    run_main(flow_of(ExportSource(export, records_of), once))
    assert by_number == {(partition, first): values for partition, first, values in once}


def test_another_export_is_not_resumed(tmp_path):
    """A channel with fewer records than were done is not the one that was read."""
    out: list[ExportChunk] = []
    resumed(tmp_path, ExportSource(busy(tmp_path), records_of, stopping=lambda: len(values_of(out)) == 1_000), out)
    other = open_export(zipped(tmp_path, ("b/2022-01-01.json", HELLO), name="other.zip"), KINDS)

    with pytest.raises(BaseException) as raised:
        resumed(tmp_path, ExportSource(other, records_of), out)

    assert "give the same export as before" in "".join(map(str, causes(raised.value)))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def test_large_records_make_small_chunks(tmp_path):
    """A thousand messages of a megabyte would be a gigabyte at once."""
    export = open_export(unpacked(tmp_path, ("a/2022-01-01.json", ["x" * 1_000_000 for _ in range(20)])), KINDS)
    out: list[ExportChunk] = []
    run_main(flow_of(ExportSource(export, records_of), out))

    assert [len(values) for _, _, values in out] == [9, 9, 2]


@pytest.mark.realdata
@pytest.mark.parametrize("name", MESSAGES)
def test_real_exports_are_read_whole(name):
    """Every message of the real exports, and no reject."""
    if not (path := DATA / f"{name}.zip").exists():
        pytest.skip(f"the real data is not here: {path.name} is missing from ../shared/data")
    export = open_export(path)

    seen = rejected = 0
    for channel in export.channels:
        for day in read_days(export, channel):
            seen += len(day.messages)
            rejected += len(day.rejects)

    assert (seen, rejected, export.unread) == (MESSAGES[name], 0, ())


@pytest.mark.realdata
def test_an_export_is_not_loaded_whole():
    """65 MB of messages are read in far less memory than that."""
    if not (path := DATA / "hubspot-dev-2016-2023.zip").exists():
        pytest.skip("the real data is not here: ../shared/data is missing")
    import tracemalloc

    export = open_export(path)
    tracemalloc.start()
    try:
        for channel in export.channels[:12]:
            for _ in read_days(export, channel):
                pass
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
