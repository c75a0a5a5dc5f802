"""What `beepgpt alert` is wired from: Slack, topics by embeddings, `--to`, and its sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import typer

from beepgpt.alerts.deciding import AlertDecider
from beepgpt.alerts.interests import PATIENCE, EmbeddingMatcher
from beepgpt.alerts.reading import AlertRecord, AlertSource, Apply, released_at
from beepgpt.config.settings import Settings, revealed
from beepgpt.connectors.files import jsonl
from beepgpt.connectors.log import EITHER, LogState, OutgoingRecord, RecordChunk, parse_address
from beepgpt.connectors.slack.alerts import SlackMessenger
from beepgpt.connectors.slack.client import slack_outbound
from beepgpt.errors import BadCommand, ProviderFailed, cannot_write
from beepgpt.runtime.clock import now_us
from beepgpt.runtime.console import console
from beepgpt.runtime.destinations import check_lines
from beepgpt.runtime.places import is_topic, log_of, patience_of, print_proxy, topic_of

PROBE = "Is it there?"
"""Embedded once at the start; nobody wrote it."""

Prepare = Callable[[Sequence[bytes], int], None]
"""Called with a chunk of predictions and the time, before the store's transaction begins."""
Forward = Callable[[Sequence[Mapping[str, Any]]], None]
READ_AGAIN = (
    "{}: is not what was read before, as after beepgpt forget: it is read again from its beginning, and counted again;"
    " nobody is alerted twice"
)
FIRST = ("interactions", "deletions")
"""Sources that are read to where they ended at the start before a prediction is: nobody is passed over whose opting in is not read yet."""


def slack_of(settings: Settings) -> SlackMessenger | None:
    """Slack's client, if there is a token."""
    if not (token := revealed(settings.slack.bot_token)):
        return None
    outbound = slack_outbound(revealed(settings.slack.proxy))
    print_proxy(outbound, settings.slack.base_url)
    return SlackMessenger(token, settings.slack.base_url, outbound=outbound)


def matcher_of(settings: Settings, stack: ExitStack) -> EmbeddingMatcher | None:
    """The matcher of topics by embeddings, if the settings ask for it; the provider is probed first. Raises BadCommand."""
    if settings.alerts.topics == "words":
        return None
    from beepgpt.commands.provider import check_may_leave, client_of, may_leave_by
    from beepgpt.labeling.redaction import redact

    check_may_leave(settings.provider, 'alerts.topics = "embeddings" asks about what people wrote')
    client, model = stack.enter_context(client_of(settings)), settings.alerts.embedding_model
    try:
        client.embed(model, [PROBE], PATIENCE).result()
    except ProviderFailed as error:
        raise BadCommand(f"alerts.embedding_model {model} at {client.provider.place}: {error}") from error
    return EmbeddingMatcher(
        lambda texts, seconds: client.embed(model, texts, seconds), may_leave_by(settings.provider), lambda text: redact(text).text
    )


def prepare_with(matcher: EmbeddingMatcher, decider: AlertDecider) -> Prepare:
    """Ask for the vectors that a chunk of predictions needs, while the store is not locked."""

    def prepare(records: Sequence[bytes], now: int) -> None:
        topics = sorted({words for _, words in decider.store.topics()})
        if topics:
            for what, count in matcher.prepare(topics, decider.texts_to_match(records, now)).items():
                if count:
                    decider.store.count(f"topics:{what}", count)

    return prepare


# --to


def destination_kind(to: str | None) -> str:
    """The name under which alerts forwarded to a destination are counted; empty without one."""
    return "" if to is None else "topic" if is_topic(to) else "console" if to == "-" else "file"


def forward_to(to: str | None, settings: Settings, stack: ExitStack, stopping: Callable[[], bool]) -> Forward:
    """A function that writes alerts to `--to`. After a kill it may write some again, with the same ids and bytes."""
    if to is None:
        return lambda alerts: None
    if is_topic(to):
        address = topic_of(to, "--to")
        log = log_of(settings, address)
        patience = patience_of(settings, follows=True)
        writer = stack.enter_context(log.writer(address.topic, patience=patience, stopping=stopping))

        def to_topic(alerts: Sequence[Mapping[str, Any]]) -> None:
            writer.send(OutgoingRecord(each["user"].encode(), orjson.dumps(each)) for each in alerts)
            writer.flush()

        return to_topic
    if "://" in to:
        raise BadCommand(f"--to {to}: a .jsonl path, -, {EITHER} is expected")
    path = None if to == "-" else Path(to)
    if path is not None:
        check_lines(path, "--to")
        jsonl.check_writable(path)

    def to_lines(alerts: Sequence[Mapping[str, Any]]) -> None:
        lines = b"".join(orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in alerts)
        if path is None:
            typer.echo(lines, nl=False)
            return
        try:
            with path.open("ab") as file:
                file.write(lines)
        except OSError as error:
            raise cannot_write(path, error) from error

    return to_lines


# Sources


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
    partitions = {}
    for each in source.list_parts():
        before = decider.store.position(identity, each)
        state = None if before is None else LogState(*before)._replace(end=source.bounds[int(each)][1])
        if state is not None and state.topic_id != source.topic.id:
            console.print(READ_AGAIN.format(address.topic))
            state = None
        partitions[each] = source.build_part("read", each, state)
    ends = {str(number): end for number, end in source.ends.items()}
    how: dict[str, Any] = {"follows": address.follow, "prepare": prepare, "ends": ends, "lags": lags, "comes_first": name in FIRST}
    if name == "predictions":
        how["apply_tombstone"] = decider.apply_tombstone
    return AlertSource(identity, partitions, _topic_records, decider.store, apply, clock=now_us, **how)


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
        console.print(READ_AGAIN.format(path))
        part = source.build_part("read", jsonl.PARTITION, None)
    how: dict[str, Any] = {"prepare": prepare, "comes_first": name in FIRST}
    return AlertSource(identity, {jsonl.PARTITION: part}, _file_records, decider.store, apply, clock=now_us, **how)


def _file_records(chunk: jsonl.LineChunk) -> Iterable[AlertRecord]:
    name, first, values = chunk
    return (AlertRecord(f"{name}:{first + number}", each) for number, each in enumerate(values))
