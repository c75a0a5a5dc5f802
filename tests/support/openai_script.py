"""Which request of the tests' OpenAI server meets which fault, and the record of what was asked and answered."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

Fault = str
"""A name, and for some an argument after a colon: see `FAULTS`."""

FAULTS = {
    "429": "too many requests; `429:2`: Retry-After 2 seconds; `429:date2`: until a date; `429:ms200`: in milliseconds",
    "quota": "429 insufficient_quota",
    "400": "the request is wrong, and the server quotes it",
    "401": "the key is wrong, and the server quotes it",
    "403": "not allowed",
    "training_not_available": "403 training_not_available",
    "404": "no such model",
    "500": "a server's error; also `502`, `503`, `503:1` with Retry-After, and `503:never`, which says not to try again",
    "stall": "takes the request and never answers",
    "reset": "the connection is reset before an answer",
    "drop": "the connection ends in the middle of the body",
    "cut": "a body that is whole by its length, and whose JSON isn't",
    "html": "200, and a web page",
    "empty": "200, and {}",
    "wordless": "200, the tokens that it used, and no words",
    "schema": "JSON of another form than agreed",
    "maybe": "the agreed form, and neither yes nor no",
    "bare": "`Yes.` or `No.` instead of JSON",
    "chatty": "a sentence instead of JSON",
    "refusal": "the model declines",
    "length": "the model did not come to an end",
    "lost": "for files, batches and jobs: it is done, and the connection is reset before the response",
    "held": "for the same: it is done, and no response comes as long as the client waits",
    "slow": "the right answer, its headers and body byte by byte over 1 second; `slow:5`: over 5",
}
PAID = {None, "schema", "maybe", "bare", "chatty", "refusal", "length", "slow"}
"""Faults of the model, not of the server: such an answer costs money, as a good one does."""


def digest(text: str) -> str:
    """What a request is called in the record: a hash of its last message."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass
class Script:
    """Which request meets which fault; the first of these that says something counts."""

    at: dict[int, Fault] = field(default_factory=dict)
    """By a request's number among all that were asked, from 0."""
    of: dict[str, list[Fault | None]] = field(default_factory=dict)
    """By the digest of its last message: for its first try, its second, and so on; then none."""
    share: dict[Fault, float] = field(default_factory=dict)
    """Each fault for this share of all messages, chosen by their hash, at the first try of a message."""
    always: Fault | None = None
    other: dict[str, list[Fault | None]] = field(default_factory=dict)
    """For files, batches and jobs, by method and first or last part of the path, as in `POST batches`: for the first such one, and on."""
    batch: str = "completed"
    """How batches end: also `failed:CODE`, and `expired` with half of their requests done."""
    file: str = "processed"
    """What becomes of files that are to be trained on: also `error`."""
    job: str = "succeeded"
    """How fine-tuning jobs end: also `failed:CODE` and `cancelled`."""

    def fault(self, number: int, name: str, tries: int) -> Fault | None:
        """For the request of that number, whose last message was asked `tries` times before."""
        if number in self.at:
            return self.at[number]
        if name in self.of:
            faults = self.of[name]
            return faults[tries] if tries < len(faults) else None
        place = int(name, 16) / 16 ** len(name)
        for fault, share in self.share.items():
            if place < share:
                return None if tries else fault
            place -= share
        return self.always


@dataclass
class Asked:
    """One request for an answer, as the server saw it."""

    number: int
    path: str
    digest: str
    fault: Fault | None
    at: float
    """Seconds, of `time.monotonic`."""
    headers: dict[str, str] = field(repr=False)
    body: dict[str, Any] = field(repr=False)


@dataclass
class Record:
    """What was asked, and what was answered."""

    asked: list[Asked] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    """By digest: answers that the model gave, and that have to be paid for, whether or not they arrive."""
    now: int = 0
    most: int = 0
    """At the same time."""
    uploads: int = 0

    @property
    def paid_twice(self) -> int:
        """Answers that were paid for, and had been before."""
        return sum(count - 1 for count in self.answered.values())

    def summary(self) -> dict[str, Any]:
        """As `GET /record` returns it."""
        return {
            "asked": len(self.asked),
            "answered": dict(self.answered),
            "paid_twice": self.paid_twice,
            "most": self.most,
            "faults": dict(Counter(each.fault for each in self.asked if each.fault)),
            "uploads": self.uploads,
        }


def refusal_of(fault: Fault, text: str, key: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and headers; the messages quote what they can, as real ones do."""
    kind, _, argument = fault.partition(":")
    headers: dict[str, str] = {}
    if argument.startswith("ms"):
        headers["retry-after-ms"] = argument[2:]
    elif argument.startswith("date"):
        headers["Retry-After"] = formatdate(time.time() + float(argument[4:]), usegmt=True)
    elif argument == "never":
        headers["x-should-retry"] = "false"
    elif argument:
        headers["Retry-After"] = argument
    status, code, name, message = {
        "429": (429, "rate_limit_exceeded", "requests", "Rate limit reached"),
        "quota": (429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota"),
        "400": (400, None, "invalid_request_error", f"Invalid content: {text}"),
        "401": (401, "invalid_api_key", "invalid_request_error", f"Incorrect API key provided: {key}."),
        "403": (403, None, "invalid_request_error", "You are not allowed to sample from this model"),
        "training_not_available": (403, "training_not_available", "invalid_request_error", "Fine-tuning is closed to new customers"),
        "404": (404, "model_not_found", "invalid_request_error", "The model does not exist"),
    }.get(kind, (int(kind) if kind.isdigit() else 500, None, "server_error", f"The server had an error with: {text}"))
    param = "messages[0].content" if kind == "400" else None
    return status, {"error": {"message": message, "type": name, "code": code, "param": param}}, headers
