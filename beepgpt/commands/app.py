"""The command line: wiring and nothing else."""

from __future__ import annotations

import signal
import sys

import typer
from bytewax.errors import BytewaxRuntimeError

from beepgpt.commands import (
    alert,
    audit,
    compare,
    dead_letters,
    demo,
    examples,
    experiment,
    ingest,
    label,
    outcomes,
    predict,
    prepare,
    rehearse,
    review,
    score,
    topics,
    train,
    validate,
)
from beepgpt.errors import BeepGPTError

EXTRAS = {
    *("aiolimiter", "backoff", "detect_secrets", "httpx2", "jinja2", "lightgbm", "matplotlib", "numpy", "openai", "phonenumbers"),
    *("pyarrow", "scipy", "skops", "sklearn", "starlette", "stdnum", "uvicorn"),
}
"""What only labeling and training need."""

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def beepgpt() -> None:
    """Live chat to training examples and predictions that can be trusted."""


COMMANDS = (
    *(examples.examples, label.label, review.review),
    *(prepare.prepare, train.train, validate.validate, predict.predict, compare.compare, experiment.experiment),
    *(alert.alert, rehearse.rehearse),
    *(topics.topics, ingest.ingest, dead_letters.dead_letters),
    *(score.score, outcomes.outcomes),
    *(audit.audit, demo.demo),
)

for command in COMMANDS:
    app.command()(command)


def main() -> None:
    """Runs a command; every error of ours is one clear message."""
    signal.signal(signal.SIGINT, lambda _number, _frame: fail("interrupted", 130))
    try:
        app()
    except BeepGPTError as error:
        fail(str(error), error.exit_status)
    except BytewaxRuntimeError as error:
        if (ours := cause_of(error)) is None:
            raise
        fail(str(ours), ours.exit_status)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRAS:
            raise
        fail(f"this needs {error.name}, which is not installed: pip install 'beepgpt[labeling,training]'", 1)
    except OSError as error:
        fail(f"{error.filename or 'the system'}: {error.strerror or error}", 1)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def cause_of(error: BaseException) -> BeepGPTError | None:
    """The error of ours that the engine wrapped, if there is one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, BeepGPTError):
        cause = cause.__cause__ or cause.__context__
    return cause


def fail(message: str, status: int) -> None:
    """The end of a command that went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends already, and with this status
    print(f"beepgpt: {message}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
