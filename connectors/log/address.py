"""Addresses of topics: where the log is, the topic's name, and the part of it to read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from beepgpt.connectors.log.errors import BadAddress

PARTS = "?from=2024-01-01T00:00:00Z&to=2024-02-01T00:00:00Z"
KAFKA, SQLITE = SCHEMES = ("kafka://", "sqlite://")
ON_BROKERS, IN_A_FOLDER = f"{KAFKA}host:port/topic", f"{SQLITE}/folder/topic"
EITHER = f"{ON_BROKERS} or {IN_A_FOLDER}"
_TOPIC = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


@dataclass(frozen=True)
class TopicAddress:
    """A topic, and the part of it to read."""

    place: str
    """Of the log: `kafka://host:port`, or `sqlite://` and the absolute path of a folder."""
    topic: str
    since: int | None = None
    """`from`, microseconds."""
    until: int | None = None
    """`to`, microseconds."""
    follow: bool = False

    def __str__(self) -> str:
        return f"{self.place}/{self.topic}"

    @property
    def identity(self) -> str:
        """What the topic is called where a run notes what it reads; the same for each broker of a cluster."""
        return str(self) if self.place.startswith(SQLITE) else f"kafka:{self.topic}"

    @property
    def is_whole(self) -> bool:
        """Whether it says neither from, nor to, nor follow."""
        return (self.since, self.until, self.follow) == (None, None, False)


def parse_address(text: str) -> TopicAddress:
    """Parse `kafka://…` or `sqlite://…`. Raises BadAddress with what is wrong and an example.

    >>> parse_address("kafka://a:9092,b:9092/slack.events?from=1970-01-02&follow=true")
    TopicAddress(place='kafka://a:9092,b:9092', topic='slack.events', since=86400000000, until=None, follow=True)
    >>> str(parse_address("sqlite:///srv/beepgpt/slack.events"))
    'sqlite:///srv/beepgpt/slack.events'
    >>> parse_address("kafka://a:9092/")
    Traceback (most recent call last):
    beepgpt.connectors.log.errors.BadAddress: kafka://a:9092/: it names no topic: write kafka://host:port/topic?from=2024-01-01T00:00:00Z&...
    """
    is_file = text.startswith("sqlite:")

    def bad(what: str) -> BadAddress:
        shown = "kafka://…" if "@" in text and not is_file else text.partition("?")[0]  # it may hold a secret
        topic = IN_A_FOLDER if is_file else ON_BROKERS
        return BadAddress(f"{shown}: {what}", f"{topic}{PARTS}, or {topic}?follow=true")

    if odd := next((each for each in "#\t\r\n" if each in text), None):
        raise bad(f"{odd!r} can't stand in an address (as {quote(odd)} it can)")
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise bad(str(error)) from None
    if is_file:
        place, topic = _folder_and_topic(parts.netloc + parts.path, bad)
    else:
        place, topic = _brokers_and_topic(parts, bad)
    if not topic:
        raise bad("it names no topic")
    if not set(topic) <= _TOPIC or len(topic) > 249 or topic in (".", ".."):
        raise bad(f"{topic!r} can't be a topic's name (letters, digits, dots, underscores and hyphens)")
    given: dict[str, str] = {}
    for name, value in parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True):  # a plus is part of a time's offset
        if name not in ("from", "to", "follow"):
            raise bad(f"{name!r} is unknown (from, to and follow are known)")
        if name in given:
            raise bad(f"{name} is given twice")
        given[name] = value
    if given.get("follow", "true") not in ("true", "false"):
        raise bad(f"follow is {given['follow']!r}, and must be true or false")
    follow = given.get("follow") == "true"
    times = {name: _micros(given[name]) for name in ("from", "to") if name in given}
    for name, at in times.items():
        if at is None:
            raise bad(f"{name} is {given[name]!r}, and no time")
    since, until = times.get("from"), times.get("to")
    if follow and until is not None:
        raise bad("what is followed has no end: to and follow=true exclude each other")
    if since is not None and until is not None and since > until:
        raise bad("from is after to")
    return TopicAddress(place, topic, since, until, follow)


def _brokers_and_topic(parts: SplitResult, bad: Callable[[str], BadAddress]) -> tuple[str, str]:
    if parts.scheme != "kafka":
        raise bad(f"it does not begin with {KAFKA}")
    if "@" in parts.netloc:
        raise bad("a user and a password stand in the settings, not in an address")
    for server in parts.netloc.split(","):
        host, _, port = server.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise bad(f"{server!r} is no host:port" if server else "it names no host:port")
    return f"{KAFKA}{parts.netloc}", unquote(parts.path.strip("/"))


def _folder_and_topic(path: str, bad: Callable[[str], BadAddress]) -> tuple[str, str]:
    folder, has_folder, topic = path.rpartition("/")
    if not has_folder:
        raise bad("it names no folder")
    return folder_place(unquote(folder) or "/"), unquote(topic)


def folder_place(folder: str) -> str:
    """A folder as the beginning of an address; a relative one is one of the working directory.

    >>> folder_place("/srv/what is said")
    'sqlite:///srv/what%20is%20said'
    """
    return f"{SQLITE}{quote(str(Path(folder).resolve()))}"


def folder_of(place: str) -> Path:
    """The folder at a place.

    >>> folder_of("sqlite:///srv/what%20is%20said")
    PosixPath('/srv/what is said')
    """
    return Path(unquote(place.removeprefix(SQLITE)))


def _micros(text: str) -> int | None:
    """ISO 8601 to microseconds, in UTC if it has no zone; None if it is no time since 1970."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    at = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return at if at >= 0 else None
