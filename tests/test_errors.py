"""One base for all errors that have a message for the user."""

import importlib
import pkgutil

import beepgpt
from beepgpt.errors import BeepGPTError

INTERNAL = {"_Bad", "_Refused", "UnreadableMember", "CallStopped", "Unconfirmed", "ApiError", "Refused"}
"""They carry something to a caller of the same room, and never reach a user."""


def test_every_error_of_ours_has_the_one_base():
    """So that `main()` catches one class, and any other error is a fault of the program."""
    modules = [
        importlib.import_module(each.name) for each in pkgutil.walk_packages(beepgpt.__path__, "beepgpt.") if "__main__" not in each.name
    ]
    errors = {
        each
        for module in modules
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Exception) and each.__module__.startswith("beepgpt.")
    }

    assert {each.__name__ for each in errors if not issubclass(each, BeepGPTError)} == INTERNAL
    assert {each.exit_status for each in errors if issubclass(each, BeepGPTError)} == {1, 2, 3, 130}
