"""What pyproject.toml can't say: the compiled build, and the README as a package index shows it.

With BEEPGPT_COMPILE=1, conversations/ becomes C (mypyc). What is done for every message is there, and takes between half and
two thirds of the time; the bytes are the same, which tests/laws/test_compiled.py holds. It needs mypy and a C compiler. In place,
a module that was compiled hides its source: so do it in a copy, or make a wheel (`make wheels`).
"""

import os
import re
import sys
import tomllib
from pathlib import Path

from setuptools import setup

if sys.version_info[:2] not in ((3, 11), (3, 12)):
    raise SystemExit(
        f"beepgpt needs Python 3.11 or 3.12, and this is {sys.version.split()[0]}: Bytewax, its engine, has no wheels for others."
        " With uv: uv venv --python 3.12"
    )

PLAIN = {"__init__"}
LINKS = ("config", "connectors", "dataflows")
if without := [name for name in LINKS if not Path("beepgpt", name).is_dir()]:
    raise SystemExit(f"beepgpt/{without[0]} is no folder: this checkout has no symbolic links; clone it with git")

extensions = []
if os.environ.get("BEEPGPT_COMPILE") == "1":
    from mypyc.build import mypycify

    extensions = mypycify(sorted(str(path) for path in Path("beepgpt/conversations").glob("*.py") if path.stem not in PLAIN))


def readme() -> str:
    """The README for a package index, where no file stands beside it: links to files lead to the repository.

    As long as pyproject.toml names no Repository, links are their text alone and pictures are left out.
    """
    text = Path("README.md").read_text("utf-8")
    project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
    repository = project.get("urls", {}).get("Repository")
    if repository is None:
        text = re.sub(r"^!\[[^]]*\]\((?!https?:)[^)]+\)\n+", "", text, flags=re.MULTILINE)
        return re.sub(r"\[([^]]+)\]\((?!https?:|#)[^)]+\)", r"\1", text)
    return re.sub(
        r"(!?)(\[[^]]*\])\((?!https?:|#)([^)]+)\)", lambda m: f"{m[1]}{m[2]}({repository}/{'raw' if m[1] else 'blob'}/main/{m[3]})", text
    )


setup(ext_modules=extensions, long_description=readme(), long_description_content_type="text/markdown")
