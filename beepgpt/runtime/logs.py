"""What a run writes down for those who operate it: one line for each event of note, on standard error.

Lines tell of counts, places and reasons, and never what people wrote.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter
from rich.console import Console
from rich.text import Text

from beepgpt.runtime.console import console as standard_error

OURS = ("beepgpt", "commands", "config", "connectors", "conversations", "dataflows", "training")
"""Loggers that follow the level that was asked for. Libraries are heard from warnings on: at lower levels some tell what they send."""
SILENCED = ("kafka",)
"""Its warnings are tries that will be repeated; what goes wrong in the end is told by us."""
MAX_CAUSES = 5

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def write_line(line: str, to: Console = standard_error) -> None:
    """A line to a console: above its progress bar where it shows one, else as it is."""
    if to.is_terminal:
        to.print(Text(line), soft_wrap=True)
        return
    file = to.file  # not through the console, which ends the program when nobody reads any more
    encoding = getattr(file, "encoding", None) or "utf-8"
    file.write(f"{line}\n".encode(encoding, "backslashreplace").decode(encoding))
    file.flush()


def configure(
    level: Literal["debug", "info", "warning", "error"], form: Literal["text", "json"], write: Callable[[str], None] = write_line
) -> None:
    """Sets up all logging of the process; the last call counts. `write` takes each line, without its end."""
    handler = LineHandler(write, JsonLine() if form == "json" else TextLine())
    number = logging.getLevelNamesMapping()[level.upper()]
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, LineHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(number, logging.WARNING))
    for name in OURS:
        logging.getLogger(name).setLevel(number)
    for name in SILENCED:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.captureWarnings(True)


class LineHandler(logging.Handler):
    """Each event to a function, as one line."""

    def __init__(self, write: Callable[[str], None], formatter: logging.Formatter) -> None:
        super().__init__()
        self._write = write
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Writes it. A log that can't be written stops no run."""
        try:
            self._write(self.format(record))
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Says that a line is missing, without what stood in it."""
        kind = type(sys.exception()).__name__
        with suppress(OSError, ValueError):
            sys.stderr.write(f"a line of {record.name} at {record.pathname}:{record.lineno} could not be logged: {kind}\n")


class JsonLine(JsonFormatter):
    """An event as one line of JSON: `time`, `level`, `logger`, `message`, the event's own fields, `exception`."""

    def __init__(self) -> None:
        names = {"asctime": "time", "levelname": "level", "name": "logger", "exc_info": "exception"}
        clashing = {name: f"{name}_" for name in names.values()}  # a field of the event that is called like one of ours
        super().__init__(["asctime", "levelname", "name", "message"], rename_fields=names | clashing, json_default=plain)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return time_of(record)

    def formatException(self, ei: _ExcInfo) -> str:
        return exception_line(ei[1])


class TextLine(logging.Formatter):
    """An event as a line to be read by people.

    >>> record = logging.makeLogRecord({"created": 0, "name": "beepgpt", "levelname": "INFO", "msg": "stopped", "events": 3, "to": "a b"})
    >>> TextLine().format(record)
    '1970-01-01T00:00:00.000Z INFO beepgpt: stopped events=3 to="a b"'
    """

    def format(self, record: logging.LogRecord) -> str:
        fields = own_fields(record)
        if record.exc_info and record.exc_info[1]:
            fields["exception"] = exception_line(record.exc_info[1])
        told = "".join(f" {name}={_shown(value)}" for name, value in fields.items())
        return on_one_line(f"{time_of(record)} {record.levelname} {record.name}: {record.getMessage()}{told}")


def own_fields(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in RESERVED_ATTRS and not name.startswith("_")}


def time_of(record: logging.LogRecord) -> str:
    """UTC, with milliseconds."""
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain(value: object) -> str:
    """What JSON does not know; of bytes, which may be a message, only how many.

    >>> plain(b"hello"), plain(Path("a/b"))
    ('<5 bytes>', 'a/b')
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    return str(value)


def on_one_line(text: str) -> str:
    r"""Line ends and other control characters as they are written in Python.

    >>> print(on_one_line("a\nb\x1b[1m"))
    a\nb\x1b[1m
    """
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _shown(value: object) -> str:
    """A value that has no white space as it is, all else as JSON."""
    if isinstance(value, str) and value and not any(each.isspace() or each in '"=' for each in value):
        return value
    return json.dumps(value, default=plain, ensure_ascii=False)


def exception_line(error: BaseException | None) -> str:
    """What was raised, and from what, and the way to it: the innermost call last, and nobody's values.

    >>> try:
    ...     int("x")
    ... except ValueError as error:
    ...     print(exception_line(error))
    ValueError: invalid literal for int() with base 10: 'x' (at ...)
    """
    told: list[str] = []
    each = error
    while each is not None and len(told) < MAX_CAUSES:
        told.append(f"{type(each).__name__}: {each}" if str(each) else type(each).__name__)
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    calls = traceback.extract_tb(error.__traceback__) if error else []
    way = " > ".join(f"{_short(call.filename)}:{call.lineno} {call.name}" for call in calls)
    return " from ".join(told) + (f" (at {way})" if way else "")


def _short(path: str) -> str:
    """A file and its folder."""
    return "/".join(Path(path).parts[-2:])
