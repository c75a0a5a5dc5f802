"""A history in which everything happens that a reader may forget: a deletion, a late record, and one that can't be used."""

from __future__ import annotations

from pathlib import Path

import pytest

import beepgpt

START = 1_704_103_200_000_000
SECOND, MINUTE, HOUR = 1_000_000, 60_000_000, 3_600_000_000
GONE = START + 19 * HOUR
"""When the message was posted that is deleted after Bo has answered it."""


@pytest.fixture(scope="session")
def eventful() -> list[beepgpt.ChatEvent]:
    """40 questions in two channels, an hour apart, each answered after a minute."""
    event = beepgpt.ChatEvent
    events: list[beepgpt.ChatEvent] = []
    for number in range(40):
        at, channel, answering = START + number * HOUR, ("general", "random")[number % 2], ("bo", "cy", "di")[number % 3]
        events.append(event.post(channel, "ana", at, f"Is it number {number}?"))
        events.append(event.post(channel, answering, at + MINUTE, f"It is {number * number}.", thread=at))
        if at == GONE:
            events.append(event.delete(channel, at, at + 10 * MINUTE))
            events.append(event.post(channel, "ed", at + 5 * MINUTE, "I come late."))
            events.append(event.from_record(b"not JSON"))
    return events


@pytest.fixture(scope="session")
def eventful_file(eventful: list[beepgpt.ChatEvent], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same history as a file of events."""
    path = tmp_path_factory.mktemp("eventful") / "eventful.jsonl"
    path.write_bytes(b"".join(each.record + b"\n" for each in eventful))
    return path
