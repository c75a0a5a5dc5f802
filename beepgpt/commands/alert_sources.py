"""The sources of `beepgpt alert`: files and topics, each from where the store says that it was read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from beepgpt.alerts.deciding import AlertDecider
from beepgpt.alerts.reading import AlertRecord, AlertSource, Apply, released_at
from beepgpt.alerts.store import AlertStore
from beepgpt.clock import now_us
from beepgpt.commands.alerting import Prepare
from beepgpt.config.settings import Settings
from beepgpt.connectors.files import jsonl
from beepgpt.connectors.log import EITHER, LogPartition, LogSource, LogState, PositionLost, RecordChunk, parse_address
from beepgpt.errors import BadCommand
from beepgpt.runtime.console import console
from beepgpt.runtime.places import is_topic, log_of, patience_of

READ_AGAIN = (
    "is not what was read before, as after beepgpt forget: it is read again from its beginning, and counted again;"
    " nobody is alerted twice, and what people asked for stays"
)
FIRST = ("interactions", "deletions")
"""Sources that are read to where they ended at the start before a prediction is: nobody is passed over whose opting in is not read yet."""


def source_of(
    name: str,
    place: str,
    settings: Settings,
    decider: AlertDecider,
    apply: Apply,
    prepare: Prepare | None,
    stopping: Callable[[], bool],
) -> AlertSource:
    """Open a source at its saved read position. Records of a topic that are older than what the store keeps are skipped."""
    if not is_topic(place):
        return _file_source(name, place, decider, apply, prepare)
    address = parse_address(place)
    since = address.since
    if since is None and name != "interactions":
        since = max(now_us() - settings.alerts.kept, 0)
    lags: dict[tuple[str, int], int] = {}

    def note_lags(ahead: Mapping[int, int]) -> None:
        lags.update({(address.topic, number): records for number, records in ahead.items()})

    source = log_of(settings, address).source(
        address.topic,
        since=since,
        until=address.until,
        follow=address.follow,
        on_lag=note_lags,
        patience=patience_of(settings, follows=address.follow),
        stopping=stopping,
    )
    identity = f"{name}:{address.identity}"
    partitions = _resumed(source, identity, place, decider.store)
    ends = {str(number): end for number, end in source.ends.items()}
    how: dict[str, Any] = {"follows": address.follow, "prepare": prepare, "ends": ends, "lags": lags, "comes_first": name in FIRST}
    if name == "predictions":
        how["apply_tombstone"] = decider.apply_tombstone
    return AlertSource(identity, partitions, _topic_records, decider.store, apply, clock=now_us, **how)


def _resumed(source: LogSource, identity: str, place: str, store: AlertStore) -> dict[str, LogPartition]:
    """The partitions of a topic, each from its saved read position on, as far as that is still there; says where it isn't."""
    partitions, is_anew, gone = {}, False, 0
    for each in source.list_parts():
        start, stop = source.bounds[int(each)]
        before = store.position(identity, each)
        state = None if before is None else LogState(*before)._replace(end=stop)
        if state is not None and state.topic_id == source.topic.id and state.next < start:
            gone += start - state.next
            state = state._replace(next=start)
        try:
            partitions[each] = source.build_part("read", each, state)
        except PositionLost:
            is_anew, partitions[each] = True, source.build_part("read", each, None)
        store.set_position(identity, each, list(partitions[each].snapshot()))
    if is_anew:
        console.print(f"{place}: {READ_AGAIN}")
    if gone:
        console.print(f"{place}: offsets that were not read yet are gone, or older than alerts.kept ({gone:,}): it is read on behind them.")
    return partitions


def _topic_records(chunk: RecordChunk) -> Iterator[AlertRecord]:
    name, _, records = chunk
    for each in records:
        yield AlertRecord(f"{name}:{each.offset}", each.value, released_at(each.headers), each.key or b"")


def _file_source(name: str, place: str, decider: AlertDecider, apply: Apply, prepare: Prepare | None) -> AlertSource:
    if "://" in place:
        raise BadCommand(f"{name} {place}: a .jsonl path, {EITHER} is expected")
    path = Path(place)
    identity = f"{name}:{path.resolve()}"
    before = decider.store.position(identity, jsonl.PARTITION)
    source = jsonl.JsonlSource(path, max_line=1 << 30)
    try:
        part = source.build_part("read", jsonl.PARTITION, None if before is None else (before[0], before[1]))
    except jsonl.FileChanged:
        console.print(f"{path}: {READ_AGAIN}")
        part = source.build_part("read", jsonl.PARTITION, None)
    how: dict[str, Any] = {"prepare": prepare, "comes_first": name in FIRST}
    return AlertSource(identity, {jsonl.PARTITION: part}, _file_records, decider.store, apply, clock=now_us, **how)


def _file_records(chunk: jsonl.LineChunk) -> Iterable[AlertRecord]:
    name, first, values = chunk
    return (AlertRecord(f"{name}:{first + number}", each) for number, each in enumerate(values))
