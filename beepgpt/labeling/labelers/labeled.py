"""Labeled examples that a labeler learns from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from beepgpt.conversations.signals import Signal
from beepgpt.errors import BeepGPTError
from beepgpt.labeling.few_shots import FILES, FewShot


class CannotLearn(BeepGPTError):
    """Too few labeled examples, or one that can't be read; the message says what to do."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class Labeled:
    """A prompt with its signal, as a person or a model labeled it."""

    prompt: str
    signal: Signal
    shares: tuple[str, ...] = ()
    """Ids of its conversation and messages: examples that share one are too alike to judge a model that learned from the other."""


def labeled_few_shots(folder: Path) -> list[Labeled]:
    """The few-shots of a folder, to learn from. Raises CannotLearn if there are none, or one can't be read."""
    found = [labeled for signal, name in FILES.items() for labeled in _few_shots_in(folder / name, signal)]
    if not found:
        raise CannotLearn(f"{folder}: there are no few-shots: choose some with `beepgpt review SOURCE --few-shots {folder}`")
    return found


def labeled_of(few_shot: FewShot) -> Labeled:
    """A few-shot as an example to learn from, or to be judged by."""
    return Labeled(few_shot.question.prompt, few_shot.signal, tuple(_shared(orjson.loads(few_shot.line))))


def _few_shots_in(path: Path, signal: Signal) -> Iterator[Labeled]:
    if not path.exists():
        return
    try:
        with path.open("rb") as lines:
            for number, labeled in _labeled_in(lines, path, signal):
                if labeled is None or labeled.signal != signal:
                    raise CannotLearn(
                        f'{path}, line {number}: its "signal" is not "{signal}", as all are in this file: fix it, or take it out'
                    )
                yield labeled
    except OSError as error:
        raise CannotLearn(f"{path}: can't be read ({error.strerror}): check its permissions") from error


def read_labeled(lines: Iterable[bytes], place: object) -> Iterator[Labeled]:
    """The labeled examples among the lines of `place`, a name for messages. Examples without a label are skipped. Raises CannotLearn."""
    return (labeled for _, labeled in _labeled_in(lines, place) if labeled is not None)


def _labeled_in(lines: Iterable[bytes], place: object, default: Signal | None = None) -> Iterator[tuple[int, Labeled | None]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, _labeled(line, f"{place}, line {number}", default)


def _labeled(line: bytes, place: str, default: Signal | None) -> Labeled | None:
    try:
        body: Any = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise CannotLearn(f"{place}: is no JSON: fix it, or take it out") from None
    if not isinstance(body, dict) or not isinstance(prompt := body.get("prompt"), str):
        raise CannotLearn(f"{place}: is no example: `beepgpt examples` makes them, and they have a prompt")
    if (signal := body.get("signal", default)) is None:
        return None
    if not isinstance(signal, str) or signal not in FILES:
        raise CannotLearn(f'{place}: its "signal" is neither "strong" nor "weak": fix it, or take it out')
    return Labeled(prompt, signal, tuple(_shared(body)))


def _shared(body: dict[str, Any]) -> Iterator[str]:
    if isinstance(conversation := body.get("conversation"), str):
        yield conversation
    window = body.get("window")
    for message in window if isinstance(window, list) else []:
        if isinstance(message, dict):
            yield f"{body.get('channel')}:{message.get('ts')}"
