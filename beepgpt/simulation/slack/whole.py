"""A Slack for all that the program needs of one: Socket Mode, histories, and what alerts call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from beepgpt.simulation.slack import alerts_api
from beepgpt.simulation.slack import server as slack_server
from beepgpt.simulation.slack.alerts_api import Refused
from beepgpt.simulation.slack.server import ApiError, SlackServer

FOR_ALERTS = (
    *("users.info", "conversations.members", "conversations.open", "chat.getPermalink", "views.publish"),
    *("chat.postMessage", "chat.update", "chat.delete"),
)
"""Methods that beepgpt/simulation/slack/alerts_api.py answers."""


@contextmanager
def one_slack() -> Iterator[tuple[SlackServer, alerts_api.AlertedWorkspace]]:
    """Socket Mode, histories and what alerts need, by one server and one token."""
    people = alerts_api.AlertedWorkspace()

    def answering(method: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def call(given: dict[str, Any]) -> dict[str, Any]:
            try:
                with people.lock:
                    return alerts_api.answer(people, method, given)
            except Refused as refused:
                raise ApiError(str(refused)) from None

        return call

    with slack_server.serving(ack_within=1.0, retries=(0.2, 1.0, 3.0)) as server:
        of_channels, of_letters = server.methods["conversations.history"], answering("conversations.history")
        server.methods |= {method: answering(method) for method in FOR_ALERTS}
        server.methods["conversations.history"] = lambda given: (of_letters if given["channel"][0] == "D" else of_channels)(given)
        server.scopes = f"{slack_server.SCOPES},{alerts_api.SCOPES}"
        yield server, people
