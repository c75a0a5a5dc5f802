"""The log: one line for each event, on standard error, as text or JSON.

Lines hold counts, places and reasons, and never what people wrote.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
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

from beepgpt.runtime.console import EventStream, printed
from beepgpt.runtime.console import console as standard_error

OURS = ("beepgpt",)
"""Loggers with the level of the settings. Libraries log from warnings on: at lower levels some log what they send."""
SILENCED = ("kafka",)
"""Its warnings are about tries that are repeated; we log what goes wrong in the end."""
MAX_CAUSES = 5

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def write_line(line: str, to: Console = standard_error) -> None:
    """Write a line to a console, above its progress bar if it shows one."""
    if to.is_terminal:
        to.print(Text(line), soft_wrap=True)
        return
    file = getattr(to.file, "beneath", to.file)  # not through the console, which ends the program when nobody reads any more
    encoding = getattr(file, "encoding", None) or "utf-8"
    file.write(f"{line}\n".encode(encoding, "backslashreplace").decode(encoding))
    file.flush()


def configure(
    level: Literal["debug", "info", "warning", "error"],
    form: Literal["text", "json"],
    write: Callable[[str], None] = write_line,
    *,
    whole: bool = False,
) -> None:
    """Set up all logging of the process; the last call counts. `write` takes each line, without its end.

    `whole`: where the log is JSON, all that the process writes to standard error is part of it.
    """
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
    if whole:
        printed_as_events(wanted=form == "json")


def printed_as_events(*, wanted: bool) -> None:
    """From now on, what is printed to standard error is an event of the log, and so is an error that nobody caught; or not any more."""
    now: Any = sys.stderr
    if isinstance(now, EventStream) == wanted:
        return
    sys.stderr = EventStream(now) if wanted else now.beneath
    printed.setLevel(logging.INFO if wanted else logging.NOTSET)
    sys.excepthook = _log_uncaught if wanted else sys.__excepthook__
    threading.excepthook = _log_uncaught_here if wanted else threading.__excepthook__
    sys.unraisablehook = _log_uncaught_here if wanted else sys.__unraisablehook__


def _log_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    printed.critical("a fault of the program", exc_info=(kind, error or kind(), trace))


def _log_uncaught_here(args: threading.ExceptHookArgs | sys.UnraisableHookArgs) -> None:
    """In a thread, or where nothing can be raised."""
    _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


class LineHandler(logging.Handler):
    """Passes each event to a function, as one line."""

    def __init__(self, write: Callable[[str], None], formatter: logging.Formatter) -> None:
        super().__init__()
        self._write = write
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the event. A log that can't be written stops no run."""
        try:
            self._write(self.format(record))
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Write that a line is missing, without its content."""
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
        shown = "".join(f" {name}={_shown(value)}" for name, value in fields.items())
        return on_one_line(f"{time_of(record)} {record.levelname} {record.name}: {record.getMessage()}{shown}")


def own_fields(record: logging.LogRecord) -> dict[str, Any]:
    """The fields given as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in RESERVED_ATTRS and not name.startswith("_")}


def time_of(record: logging.LogRecord) -> str:
    """The time of an event in UTC, with milliseconds."""
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain(value: object) -> str:
    """A value that JSON does not know, as text; of bytes, which may be a message, only their number.

    >>> plain(b"hello"), plain(Path("a/b"))
    ('<5 bytes>', 'a/b')
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    return str(value)


def on_one_line(text: str) -> str:
    r"""A text with its line ends and other control characters escaped as in Python.

    >>> print(on_one_line("a\nb\x1b[1m"))
    a\nb\x1b[1m
    """
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _shown(value: object) -> str:
    """A value as it is if it has no white space, else as JSON."""
    if isinstance(value, str) and value and not any(each.isspace() or each in '"=' for each in value):
        return value
    return json.dumps(value, default=plain, ensure_ascii=False)


def exception_line(error: BaseException | None) -> str:
    """An error with its causes, and the calls that led to it, the innermost last, without values.

    >>> try:
    ...     int("x")
    ... except ValueError as error:
    ...     print(exception_line(error))
    ValueError: invalid literal for int() with base 10: 'x' (at ...)
    """
    causes: list[str] = []
    each = error
    while each is not None and len(causes) < MAX_CAUSES:
        causes.append(f"{type(each).__name__}: {each}" if str(each) else type(each).__name__)
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    calls = traceback.extract_tb(error.__traceback__) if error else []
    way = " > ".join(f"{'/'.join(Path(call.filename).parts[-2:])}:{call.lineno} {call.name}" for call in calls)
    return " from ".join(causes) + (f" (at {way})" if way else "")
