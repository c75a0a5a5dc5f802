"""What `beepgpt alert` says at its end: commands in it can be run as they stand."""

import pytest

from beepgpt.commands.alert import print_account


def test_how_sure_a_share_is_is_said_by_a_command_that_runs(capsys: pytest.CaptureFixture[str]):
    """It stands on one line, whatever the terminal's width, to be copied."""
    rehearsal = f"beepgpt rehearse sqlite:///{'srv/' * 30}slack.predictions --outcomes sqlite:///srv/slack.outcomes --to rehearsal.html"
    print_account({"counts": {"answer:answered": 3, "answer:not_answered": 5}, "right": 0.375, "reacted": None}, rehearsal)

    (line,) = (each for each in capsys.readouterr().err.splitlines() if each.startswith("Of "))
    assert line == f"Of 8 people alerted whose day is over, 3 joined the conversation within it. How sure that is: {rehearsal}"
