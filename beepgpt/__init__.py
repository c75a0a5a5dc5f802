"""Live chat to training examples and predictions that can be trusted."""

from importlib.metadata import PackageNotFoundError, version

__all__: list[str] = []

try:
    __version__ = version("beepgpt")
except PackageNotFoundError:
    __version__ = "not installed"
