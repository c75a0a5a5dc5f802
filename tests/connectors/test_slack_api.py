"""Slack's Web API: slack_sdk's errors end in the connector."""

from typing import Any

import pytest
from slack_sdk import errors
from slack_sdk.web import SlackResponse

from beepgpt.connectors.slack.alerts import SlackMessenger
from beepgpt.errors import SlackError

ERRORS: list[Any] = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]


@pytest.mark.parametrize("foreign", ERRORS)
def test_no_error_of_slack_sdk_is_left_unmapped(foreign: Any, monkeypatch: pytest.MonkeyPatch):
    """Each that it exports becomes one of ours, without its words."""
    slack = SlackMessenger("xoxb-none")
    response = SlackResponse(
        client=None, http_verb="POST", api_url="", req_args={}, data={"error": "fatal_error"}, headers={}, status_code=500
    )
    error = errors.SlackApiError("words", response) if foreign is errors.SlackApiError else foreign.__new__(foreign)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(slack._client, "api_call", fail)
    with pytest.raises(SlackError) as raised:
        slack.check()
    assert "words" not in str(raised.value)
