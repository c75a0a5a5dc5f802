"""What `beepgpt alert` is wired from: Slack, topics by embeddings, `--to`, and its sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import typer

from beepgpt.alerts.deciding import AlertDecider
from beepgpt.alerts.interests import PATIENCE, EmbeddingMatcher
from beepgpt.config.settings import Settings, revealed
from beepgpt.connectors.files import jsonl
from beepgpt.connectors.log import (
    EITHER,
    OutgoingRecord,
)
from beepgpt.connectors.slack.alerts import SlackMessenger
from beepgpt.connectors.slack.client import slack_outbound
from beepgpt.errors import BadCommand, ProviderFailed, cannot_write
from beepgpt.runtime.destinations import check_lines
from beepgpt.runtime.places import is_topic, log_of, patience_of, print_proxy, topic_of

PROBE = "Is it there?"
"""Embedded once at the start; nobody wrote it."""

Prepare = Callable[[Sequence[bytes], int], None]
"""Called with a chunk of predictions and the time, before the store's transaction begins."""
Forward = Callable[[Sequence[Mapping[str, Any]]], None]


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


def is_unused(to: str | None, settings: Settings) -> bool:
    """Whether `--to` is a topic to which no alert was ever written; of other destinations nobody knows."""
    if to is None or not is_topic(to):
        return False
    address = topic_of(to, "--to")
    return not any(end for _, end in log_of(settings, address).bounds(address.topic).values())


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
