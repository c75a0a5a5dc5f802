"""The command line: finds a command, runs it, and turns an error of ours into one message.

A command's module is imported when the command runs or its help is asked for, so that `beepgpt --help` is quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from beepgpt import __version__
from beepgpt.commands.starting import begin, end_quietly, fail, flush_output, ignore_signals
from beepgpt.errors import BeepGPTError
from beepgpt.folders import remove_empty
from beepgpt.packages import extras_of

COMMANDS = {
    "Try": {
        "try": "Say whether it would have helped: a model of an export's past, and whom it would have alerted lately",
        "demo": "The same on a simulated workspace",
    },
    "Make": {
        "examples": "Make examples: points in time of conversations, and who answered",
        "label": "Label examples: which teach something (strong), and which don't (weak)",
        "review": "Choose few-shot examples by hand, on a web page on this machine",
        "prepare": "Make a training set of examples",
        "audit": "Prove or refute the laws on your own data, no matter which tool made the examples",
    },
    "Train": {
        "train": "Train a model that predicts who will answer",
        "retrain": "Train the live model anew, if that makes it no worse",
        "validate": "Say what a model is worth",
        "predict": "Ask a model about one row of a validation file, or a text",
        "compare": "Set runs side by side",
        "experiment": "Try several framings of one history",
    },
    "Live": {
        "init": "Write a settings file, beepgpt.toml, from three answers",
        "history": "Read the history of the channels that the app is in: where there is no export",
        "up": "Live on one machine",
        "backup": "Copy all that `beepgpt up` has, while it runs",
        "check": "Say what is missing to go live, without changing anything",
        "topics": "Make the topics that are missing",
        "ingest": "Put events on a topic: an export, a file, another topic in order, or live from Slack",
        "score": "Score points as they are made: who will answer",
        "alert": "Alert people to conversations they would want to be in",
        "dead-letters": "What could not be used",
        "forget": "Forget a message, a person or a channel: remove it wherever it is kept, and leave it out from then on",
    },
    "Look": {
        "outcomes": "Show how well predictions did, by model",
        "rehearse": "Replay past predictions with alerts: whom they would have alerted, how often rightly",
        "settings": "List the settings of a command, or all: values, defaults, and where each comes from",
        "help": "Show the help of a command",
    },
}
"""Each command with the beginning of its help, by group. `dead-letters` is the function `dead_letters` of the module of that name."""
MODULES = {"try": "try_export"}
"""Where a command can't be called as its module, since Python has the word."""

LINKS = ("beepgpt.config", "beepgpt.connectors", "beepgpt.dataflows")
"""In a checkout these are symbolic links to folders beside the package."""


class Commands(TyperGroup):
    """The commands by name; a module is imported when its command runs, or its flags are asked for."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command itself, in the place of its name."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            from beepgpt.commands.loading import loaded

            command = loaded(str(command.name), MODULES.get(str(command.name)))
        return name, command, rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands into the help, by their groups and whole."""
        for group, commands in COMMANDS.items():
            with formatter.section(group):
                formatter.write_dl([(f"{name:12}", f"{line}.") for name, line in commands.items()])


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for group in COMMANDS.values():
    for name, line in group.items():
        app.command(name, help=line)(lambda: None)  # its name is known; Commands.resolve_command finds what runs


def show_version(wanted: bool) -> None:
    """Print what a report of a fault should name, and end."""
    if wanted:
        from importlib.metadata import version
        from platform import python_version

        spec = find_spec("beepgpt.conversations.channel")
        build = "plain" if spec is None or (spec.origin or "").endswith(".py") else "compiled"
        print(f"beepgpt {__version__} ({build}), Python {python_version()}, Bytewax {version('bytewax')}")
        raise typer.Exit


@app.callback()
def beepgpt(
    _: Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version, and exit.")] = False,
) -> None:
    """Live chat to training examples and predictions that can be trusted."""


def main() -> None:
    """Run a command."""
    begin()
    if os.environ.get("BEEPGPT_RUN__LOG_FORMAT") == "json":
        from beepgpt.runtime import logs  # even a wrong command is reported in JSON

        logs.configure("warning", "json", whole=True)
    run_cleanly(app)


def run_cleanly(work: Callable[[], object]) -> None:
    """Do it; an error of ours is one clear message and its exit status."""
    try:
        work()
    except BeepGPTError as error:
        fail(str(error), error.exit_status)
    except ModuleNotFoundError as error:
        if error.name in LINKS:
            folder = error.name.replace(".", "/")
            fail(f"{folder} is no folder: this checkout has no symbolic links; clone it with git, or install the wheel", 1)
        if not (extras := extras_of(error.name or "")):
            raise
        fail(f"this needs {error.name}, which is not installed: pip install 'beepgpt[{','.join(extras)}]'", 1)
    except OSError as error:
        fail(f"{error.filename or 'the system'}: {error.strerror or error}", 1)
    except Exception as error:
        if isinstance(error.__cause__, SystemExit):  # asked to end while a library was loaded, which made an error of it
            raise error.__cause__ from None
        if type(error).__name__ != "BytewaxRuntimeError" or (ours := cause_of(error)) is None:
            raise
        fail(str(ours), ours.exit_status)
    except SystemExit:
        if type(sys.stdout).__name__ == "PacifyFlushWrapper":  # typer's: what reads our output has closed it
            end_quietly()
        raise
    finally:
        ignore_signals()
        remove_empty()
        flush_output()


def cause_of(error: BaseException) -> BeepGPTError | None:
    """The error of ours that Bytewax wrapped, if there is one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, BeepGPTError):
        cause = cause.__cause__ or cause.__context__
    return cause


if __name__ == "__main__":
    main()
