"""The compiled build: with BEEPGPT_COMPILE=1, conversations/ becomes C (mypyc). All else stands in pyproject.toml.

What is done for every message is there, and takes between half and two thirds of the time; the bytes are the same, which
tests/laws/test_compiled.py holds. It needs mypy and a C compiler. In place, a module that was compiled hides its
source: so do it in a copy, or make a wheel (`make wheel`).
"""

import os
from pathlib import Path

from setuptools import setup

PLAIN = {"__init__"}
extensions = []
if os.environ.get("BEEPGPT_COMPILE") == "1":
    from mypyc.build import mypycify

    extensions = mypycify(sorted(str(path) for path in Path("beepgpt/conversations").glob("*.py") if path.stem not in PLAIN))
setup(ext_modules=extensions)
