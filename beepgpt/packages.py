"""What each extra brings, and the line that installs what is missing."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

from beepgpt.errors import BeepGPTError

MODULES = {
    "label": (
        *("aiolimiter", "backoff", "detect_secrets", "httpx2", "jinja2", "openai", "phonenumbers", "sklearn", "starlette", "stdnum"),
        "uvicorn",
    ),
    "slack": ("backoff", "jinja2", "slack_sdk", "starlette", "uvicorn", "websockets"),
    "train": ("jinja2", "joblib", "lightgbm", "matplotlib", "pyarrow", "scipy", "skops", "sklearn", "threadpoolctl"),
}
"""Names to import, by the extra of pyproject.toml."""


class MissingPackage(BeepGPTError):
    """Something isn't installed that not everybody needs; the message has the line that installs it.

    >>> raise MissingPackage("a table", ["pyarrow", "polars"], "train")
    Traceback (most recent call last):
    beepgpt.packages.MissingPackage: a table needs pyarrow and polars, which are not installed: pip install 'beepgpt[train]' polars
    """

    exit_status = 2

    def __init__(self, what: str, modules: Sequence[str], *extras: str) -> None:
        """`what`: what needs the modules; `extras`: those that may bring them."""
        are = "is" if len(modules) == 1 else "are"
        super().__init__(f"{what} needs {' and '.join(modules)}, which {are} not installed: {line_for(modules, *extras)}")


def line_for(modules: Iterable[str], *extras: str) -> str:
    """The line that installs modules, by as few of the extras as bring them; those that none brings by their own names.

    >>> line_for(["jinja2", "sklearn"], "slack", "train"), line_for(["jinja2"], "slack", "train")
    ("pip install 'beepgpt[slack,train]'", "pip install 'beepgpt[slack]'")
    """
    left, chosen = dict.fromkeys(modules), list[str]()
    for extra in extras:
        if brought := [each for each in left if each in MODULES[extra]]:
            chosen.append(extra)
            left = {each: None for each in left if each not in brought}
    return " ".join(["pip install", *([f"'beepgpt[{','.join(chosen)}]'"] if chosen else []), *left])


def need(what: str, modules: Iterable[str], *extras: str) -> None:
    """Raise MissingPackage unless all modules are installed."""
    if missing := [each for each in modules if find_spec(each) is None]:
        raise MissingPackage(what, missing, *extras)


@contextmanager
def needing(what: str, *extras: str) -> Iterator[None]:
    """Around imports: one of what isn't installed raises MissingPackage."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingPackage(what, [(error.name or str(error)).partition(".")[0]], *extras) from error


def missing_of(*extras: str) -> dict[str, list[str]]:
    """The modules that are not installed, by the extra that brings them; extras that lack none are left out."""
    lacking = {extra: [each for each in MODULES[extra] if find_spec(each) is None] for extra in extras}
    return {extra: names for extra, names in lacking.items() if names}


def extras_of(module: str) -> list[str]:
    """The extras that bring a module; empty: none does."""
    return [extra for extra, names in MODULES.items() if module.partition(".")[0] in names]
