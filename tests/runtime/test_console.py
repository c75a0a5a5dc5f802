"""What moves on a terminal moves on terminals alone."""

import os
import pty
import subprocess
import sys

import pytest

CODE = "import time; from beepgpt.runtime.console import console\nwith console.status('predicting'): time.sleep(0.3)\nconsole.print('done')"


@pytest.mark.parametrize("more", [{}, {"JPY_PARENT_PID": "1"}], ids=["a terminal", "a notebook"])
def test_a_notebook_shows_no_picture_twice(more: dict[str, str]):
    """`!beepgpt` has a terminal there, which shows every step of a spinner one after the other."""
    ours, theirs = pty.openpty()
    plain = {name: value for name, value in os.environ.items() if name != "JPY_PARENT_PID"}
    subprocess.run([sys.executable, "-c", CODE], stderr=theirs, env={**plain, "TERM": "xterm", **more}, check=True, timeout=60)
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)

    assert "done" in shown
    assert ("predicting" in shown) == (not more), shown
