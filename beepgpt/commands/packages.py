"""What each extra brings: the modules that are missing where it was not installed."""

from importlib.util import find_spec

MODULES = {
    "labeling": (
        *("aiolimiter", "backoff", "detect_secrets", "httpx2", "jinja2", "openai", "phonenumbers", "sklearn", "starlette", "stdnum"),
        "uvicorn",
    ),
    "slack": ("backoff", "jinja2", "slack_sdk", "starlette", "uvicorn", "websockets"),
    "training": ("jinja2", "lightgbm", "matplotlib", "pyarrow", "scipy", "skops", "sklearn", "threadpoolctl"),
}
"""Names to import, by the extra of pyproject.toml."""


def missing_of(*extras: str) -> dict[str, list[str]]:
    """The modules that are not installed, by the extra that brings them; extras that lack none are left out."""
    lacking = {extra: [each for each in MODULES[extra] if find_spec(each) is None] for extra in extras}
    return {extra: names for extra, names in lacking.items() if names}


def extras_of(module: str) -> list[str]:
    """The extras that bring a module; empty: none does."""
    return [extra for extra, names in MODULES.items() if module.partition(".")[0] in names]
