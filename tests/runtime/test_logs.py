"""One line for each event of note, on standard error: for people or for machines, and never what people wrote."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import IO, Any

import pytest
from rich.console import Console
from rich.progress import Progress

from beepgpt.runtime.console import quiet_engine
from beepgpt.runtime.logs import OURS, SILENCED, LineHandler, configure, write_line

log = logging.getLogger("beepgpt")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Logging is the process's: it is put back for the other tests."""
    names = ["", *OURS, *SILENCED]
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    logging.captureWarnings(False)
    root = logging.getLogger()
    root.handlers = [each for each in root.handlers if not isinstance(each, LineHandler)]
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def file() -> StringIO:
    return StringIO()


Write = Callable[[str], None]


def to(file: IO[str], **more: Any) -> Write:
    """Writes lines through a console to the file."""
    return partial(write_line, to=Console(file=file, width=40, legacy_windows=False, **more))


@pytest.fixture
def to_file(file: StringIO) -> Write:
    return to(file)


def events(file: StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.getvalue().splitlines()]


# JSON


def test_an_event_is_a_line_of_json(file: StringIO, to_file: Write):
    """Time in UTC with milliseconds, level, logger, message, and the event's own fields as they are."""
    configure("info", "json", to_file)

    log.info("stopped after %d epochs", 3, extra={"events": 12, "topic": "slack.events", "partitions": [0, 1]})

    [event] = events(file)
    assert list(event) == ["time", "level", "logger", "message", "events", "topic", "partitions"]
    assert list(event.values())[1:] == ["INFO", "beepgpt", "stopped after 3 epochs", 12, "slack.events", [0, 1]]
    assert len(event["time"]) == len("2026-01-01T00:00:00.000Z") and event["time"].endswith("Z")
    assert abs((datetime.now(UTC) - datetime.fromisoformat(event["time"])).total_seconds()) < 60


def test_an_exception_is_part_of_its_line(file: StringIO, to_file: Write):
    """What was raised, from what, and where; a line however many the error has."""
    configure("info", "json", to_file)
    try:
        try:
            int("x")
        except ValueError as error:
            raise RuntimeError("two\nlines") from error
    except RuntimeError:
        log.exception("failed")

    [event] = events(file)
    assert event["message"] == "failed" and event["level"] == "ERROR"
    assert event["exception"].startswith("RuntimeError: two\nlines from ValueError: invalid literal")
    assert "(at runtime/test_logs.py:" in event["exception"]
    assert len(file.getvalue().splitlines()) == 1


def test_an_events_field_never_replaces_one_of_the_line(file: StringIO, to_file: Write):
    """Both are there: the event's has an underscore behind it."""
    configure("info", "json", to_file)

    log.info("read", extra={"level": 3, "time": "noon", "logger": "x", "exception": "none"})

    [event] = events(file)
    assert (event["level"], event["logger"]) == ("INFO", "beepgpt")
    assert (event["level_"], event["time_"], event["logger_"], event["exception_"]) == (3, "noon", "x", "none")


def test_bytes_are_told_by_their_number(file: StringIO, to_file: Write):
    """A record that slips into a field is not written down; what JSON does not know is told as text."""
    for form in ("json", "text"):
        configure("info", form, to_file)
        log.info("rejected", extra={"record": b'{"text": "secret"}', "path": Path("a/b")})

    told = file.getvalue()
    assert "secret" not in told
    assert told.count("<18 bytes>") == 2 and told.count("a/b") == 2


def test_any_text_survives_a_terminal_that_knows_only_ascii():
    """JSON stays JSON, and text is escaped."""
    raw = BytesIO()
    ascii_only = TextIOWrapper(raw, encoding="ascii")
    for form in ("json", "text"):
        configure("info", form, to(ascii_only))
        log.info("café", extra={"channel": "日本"})

    first, second = raw.getvalue().decode("ascii").splitlines()
    assert (json.loads(first)["message"], json.loads(first)["channel"]) == ("café", "日本")
    assert "caf\\xe9" in second


# Text


def test_an_event_is_a_line_for_people(file: StringIO, to_file: Write):
    """Fields follow the message; nothing is wrapped at the console's width, colored, or taken for markup."""
    configure("info", "text", to_file)

    log.warning("the broker is away [red] :smile:", extra={"seconds": 3, "where": "a b", "none": None})

    assert file.getvalue().partition(" ")[2] == ('WARNING beepgpt: the broker is away [red] :smile: seconds=3 where="a b" none=null\n')


def test_a_line_is_a_line_whatever_stands_in_it(file: StringIO, to_file: Write):
    """A line end or a control character from outside can't look like a line of its own, or play tricks on a terminal."""
    for form in ("json", "text"):
        configure("info", form, to_file)
        log.info("a\nb\u2028c\x1b[2J", extra={"topic": "x\r\ny"})

    assert len(file.getvalue().splitlines()) == 2
    assert "\x1b" not in file.getvalue()


def test_an_exception_stands_at_the_end_of_its_line(file: StringIO, to_file: Write):
    """In text, too."""
    configure("info", "text", to_file)
    try:
        raise OSError("disk\nfull")
    except OSError:
        log.exception("stopped")

    [line] = file.getvalue().splitlines()
    assert "ERROR beepgpt: stopped exception=" in line and "OSError: disk\\nfull (at runtime/test_logs.py:" in line


# Who is heard


def test_only_what_was_asked_for_is_written(file: StringIO, to_file: Write):
    """Ours from the level on."""
    configure("warning", "json", to_file)

    log.info("no")
    log.warning("yes")
    logging.getLogger("beepgpt.connectors.kafka").warning("yes, too")

    assert [event["message"] for event in events(file)] == ["yes", "yes, too"]


def test_libraries_are_not_heard_at_lower_levels(file: StringIO, to_file: Write):
    """At debug some of them write down what they send, which is what people wrote."""
    configure("debug", "json", to_file)

    log.debug("ours")
    logging.getLogger("some_client.http").debug("the request: secret")
    logging.getLogger("some_client.http").info("the answer: secret")
    logging.getLogger("some_client.http").warning("theirs")

    assert [event["message"] for event in events(file)] == ["ours", "theirs"]


def test_the_kafka_library_is_silent(file: StringIO, to_file: Write):
    """It warns of every try; what comes of it is told by us."""
    configure("debug", "json", to_file)

    logging.getLogger("kafka.conn").error("connection refused")
    logging.getLogger("beepgpt.connectors.kafka").error("no answer")

    assert [event["message"] for event in events(file)] == ["no answer"]


def test_warnings_of_python_are_lines_too(file: StringIO, to_file: Write):
    """They have two lines otherwise."""
    configure("info", "json", to_file)

    logging.getLogger("py.warnings").warning("%s", "x.py:1: DeprecationWarning: old\n  import old\n")

    assert len(events(file)) == 1


def test_the_last_word_counts(file: StringIO, to_file: Write):
    """To configure twice does not write twice; others' handlers are left alone."""
    others = list(logging.getLogger().handlers)
    configure("debug", "text", to(StringIO()))
    configure("info", "json", to_file)

    log.debug("no")
    log.info("yes")

    assert [event["message"] for event in events(file)] == ["yes"]
    assert [each for each in logging.getLogger().handlers if not isinstance(each, LineHandler)] == others


# Where it goes


def test_lines_stand_above_a_progress_bar(file: StringIO):
    """On a terminal the bar is taken away for a line, and drawn again below it."""
    terminal = Console(file=file, force_terminal=True, width=60, legacy_windows=False)
    configure("info", "text", partial(write_line, to=terminal))
    with Progress(console=terminal, transient=True) as bar:
        bar.add_task("reading", total=10)
        bar.refresh()
        log.warning("the broker is away, and this line is longer than the terminal is wide", extra={"seconds": 3})

    [line] = [line for line in file.getvalue().split("\n") if "the broker" in line]
    shown = line.rpartition("\x1b[2K")[2]  # the bar's line was erased
    assert shown.endswith("WARNING beepgpt: the broker is away, and this line is longer than the terminal is wide seconds=3")


def test_lines_are_seen_while_the_engine_is_kept_quiet(capfd: pytest.CaptureFixture[str]):
    """What the engine says goes to a file for the time of a run; what we log does not."""
    configure("info", "json")
    with quiet_engine():
        log.info("started")
    log.info("stopped")

    assert [json.loads(line)["message"] for line in capfd.readouterr().err.splitlines()] == ["started", "stopped"]


def test_a_process_can_hand_its_lines_to_another(file: StringIO, to_file: Write):
    """A worker's lines go to the process that started it, which writes them as they are."""
    handed: list[str] = []
    configure("info", "json", handed.append)
    log.info("started", extra={"part": 1})

    for line in handed:
        to_file(line)

    [event] = events(file)
    assert (event["message"], event["part"]) == ("started", 1)


def test_a_log_that_nobody_reads_stops_nothing():
    """Standard error is closed by its reader, or by the process: the run goes on, and ends as it should."""
    code = """
import contextlib, logging, sys
from beepgpt.runtime.logs import configure
configure("info", "json")
log = logging.getLogger("beepgpt")
sys.stdin.readline()
for _ in range(3):
    log.info("nobody reads this")
with contextlib.suppress(BrokenPipeError):  # what stands in its buffer
    sys.stderr.close()
log.info("nor this")
print("done", flush=True)
"""
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stderr.close()
        process.stdin.write("go\n")
        process.stdin.close()

        assert process.stdout.read() == "done\n"

    assert process.returncode == 0


def test_a_line_that_can_not_be_made_does_not_tell_its_values(capsys: pytest.CaptureFixture[str]):
    """A mistake in a log call is told by its place; the logging library would print the arguments."""
    configure("info", "json", to(StringIO()))
    root = logging.getLogger()
    root.handlers = [each for each in root.handlers if isinstance(each, LineHandler)]  # pytest's own would raise

    log.info("%d events", "secret")

    told = capsys.readouterr().err
    assert "secret" not in told
    assert told.startswith("a line of beepgpt at ") and told.endswith("could not be logged: TypeError\n")
