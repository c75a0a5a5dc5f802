"""The checks of Slack: what is wrong stands under the name of what is to be mended."""

from __future__ import annotations

from collections.abc import Mapping

from beepgpt.commands.checking import check_slack
from beepgpt.config.settings import read_settings
from beepgpt.simulation.slack.alerts_api import SCOPES as SCOPES_OF_ALERTS
from beepgpt.simulation.slack.server import SCOPES, SlackServer
from tests.support.ports import free_ports


def found(settings: Mapping[str, str]) -> dict[str, tuple[bool | None, str]]:
    """What is found, by subject; each is there once."""
    each = list(check_slack(read_settings(environ=settings), ("channels",)))
    assert [name for name, _, _ in each] == ["tokens", "scopes", "clock"]
    return {name: (is_ok, words) for name, is_ok, words in each}


def test_a_network_that_is_away_is_no_fault_of_the_app():
    """Nothing is said of Socket Mode: nobody was asked."""
    nowhere = f"http://127.0.0.1:{free_ports(1)}/"
    tokens = {"BEEPGPT_SLACK__APP_TOKEN": "xapp-1-a", "BEEPGPT_SLACK__BOT_TOKEN": "xoxb-a", "BEEPGPT_SLACK__BASE_URL": nowhere}

    for is_ok, words in found(tokens).values():
        assert is_ok is None and words.startswith("Slack can't be asked (no connection: ")
        assert words.endswith("): check slack.base_url, slack.proxy and the network")


def test_each_refused_token_is_a_fault_of_the_tokens(slack_server: SlackServer):
    """The bot's is no fault of the scopes, which nobody can be asked about then."""
    slack_server.scopes = f"{SCOPES},{SCOPES_OF_ALERTS}"
    wrong = {"BEEPGPT_SLACK__BOT_TOKEN": "xoxb-wrong"}
    bot = found(slack_server.settings | wrong)
    both = found(slack_server.settings | wrong | {"BEEPGPT_SLACK__APP_TOKEN": "xapp-1-wrong"})

    assert bot["tokens"][0] is False and "slack.bot_token is refused (auth.test: invalid_auth)" in bot["tokens"][1]
    assert "slack.app_token" not in bot["tokens"][1] and "slack.app_token is refused" in both["tokens"][1]
    assert bot["scopes"] == bot["clock"] == (None, "Slack can be asked once it knows its bot token")
    assert all(is_ok for is_ok, _ in found(slack_server.settings).values())
