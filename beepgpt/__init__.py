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
    from beepgpt.library.examples import SourceExamples as Examples
    from beepgpt.library.examples import examples
    from beepgpt.library.follower import Follower
    from beepgpt.library.models import TrainedModel as Model
    from beepgpt.library.models import train
    from beepgpt.library.records import ExampleRecord as Example
    from beepgpt.library.records import PointRecord as Point
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
    "BeepGPTError": ("beepgpt.errors", "BeepGPTError"),
    "ChatEvent": ("beepgpt.library.chat_events", "ChatEvent"),
    "Example": ("beepgpt.library.records", "ExampleRecord"),
    "Examples": ("beepgpt.library.examples", "SourceExamples"),
    "Follower": ("beepgpt.library.follower", "Follower"),
    "Model": ("beepgpt.library.models", "TrainedModel"),
    "Point": ("beepgpt.library.records", "PointRecord"),
    "TrainingSet": ("beepgpt.library.training_sets", "TrainingSet"),
    "audit_examples": ("beepgpt.library.auditing", "audit_examples"),
    "examples": ("beepgpt.library.examples", "examples"),
    "read_events": ("beepgpt.library.sources", "read_events"),
    "rules": ("beepgpt.library.sources", "rules"),
    "simulate": ("beepgpt.library.workspaces", "simulate"),
    "split": ("beepgpt.library.training_sets", "split"),
    "train": ("beepgpt.library.models", "train"),
}
"""Where each public name is defined, and what it is called there."""


def __getattr__(name: str) -> Any:
    """A public name, from its module, which is imported now."""
    if name not in _FROM:
        raise AttributeError(f"module 'beepgpt' has no attribute {name!r}")
    module, called = _FROM[name]
    found = globals()[name] = getattr(import_module(module), called)
    return found


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
