"""Live chat to training examples and predictions that can be trusted.

What a Python program uses, all of it from here (docs/guides/python.md). Nothing is loaded before it is used: `import beepgpt` alone takes
no time.

>>> import beepgpt, tempfile
>>> export = beepgpt.simulate(f"{tempfile.mkdtemp()}/workspace.zip", messages=200)
>>> made = beepgpt.examples(export, horizon="1d")
>>> first = next(iter(made))
>>> first.channel, first.prompt_ts < first.settled_ts, len(first.candidates["user"]) == len(first.candidates["closeness"])
('C236UB8S7TF', True, True)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beepgpt.errors import BeepGPTError
    from beepgpt.library.auditing import audit_examples
    from beepgpt.library.chat_events import ChatEvent
    from beepgpt.library.examples import Examples, examples
    from beepgpt.library.follower import Follower
    from beepgpt.library.models import Model, train
    from beepgpt.library.records import Example, Point
    from beepgpt.library.sources import read_events, rules
    from beepgpt.library.training_sets import TrainingSet, split
    from beepgpt.library.workspaces import simulate

__all__ = [
    "BeepGPTError",
    "ChatEvent",
    "Example",
    "Examples",
    "Follower",
    "Model",
    "Point",
    "TrainingSet",
    "audit_examples",
    "examples",
    "read_events",
    "rules",
    "simulate",
    "split",
    "train",
]

__version__ = "0.2.0.dev0"

_FROM = {
    "errors": ("BeepGPTError",),
    "library.auditing": ("audit_examples",),
    "library.chat_events": ("ChatEvent",),
    "library.examples": ("Examples", "examples"),
    "library.follower": ("Follower",),
    "library.models": ("Model", "train"),
    "library.records": ("Example", "Point"),
    "library.sources": ("read_events", "rules"),
    "library.training_sets": ("TrainingSet", "split"),
    "library.workspaces": ("simulate",),
}
"""The modules that define the public names."""


def __getattr__(name: str) -> Any:
    """A public name, from its module, which is imported now."""
    for module, names in _FROM.items():
        if name in names:
            found = globals()[name] = getattr(import_module(f"beepgpt.{module}"), name)
            return found
    raise AttributeError(f"module 'beepgpt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
