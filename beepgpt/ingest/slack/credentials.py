"""The app's tokens, from the settings, and the check that they suffice."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import SecretStr

from beepgpt.config.sections import SlackSettings
from beepgpt.errors import BadCommand, SlackFailed

if TYPE_CHECKING:
    from beepgpt.connectors.slack import live as slack_live

SCOPES = {
    "channels": {"channels:history", "channels:read"},
    "groups": {"groups:history", "groups:read"},
    "dms": {"im:history", "im:read"},
    "mpims": {"mpim:history", "mpim:read"},
}
"""Scopes needed for each kind of channel. Without reactions:read there are just no reactions."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SlackTokens:
    """The app's secrets; no repr shows them."""

    app: str = field(repr=False)
    bot: str = field(repr=False)
    signing: str = field(repr=False)


def tokens_of(settings: SlackSettings, *, over_http: bool) -> SlackTokens:
    """The tokens that are needed. Raises BadCommand, which names what is missing, and never what is there."""

    def revealed(secret: SecretStr | None) -> str:
        return "" if secret is None else secret.get_secret_value().strip()

    tokens = SlackTokens(revealed(settings.app_token), revealed(settings.bot_token), revealed(settings.signing_secret))
    wrong: list[str] = []
    if not tokens.bot.startswith("xoxb-"):
        wrong.append(f"slack.bot_token {'is missing' if not tokens.bot else 'is no bot token (xoxb-…)'}: set BEEPGPT_SLACK__BOT_TOKEN")
    if over_http and not tokens.signing:
        wrong.append("slack.signing_secret is missing: set BEEPGPT_SLACK__SIGNING_SECRET")
    if not over_http and not tokens.app.startswith("xapp-"):
        why = "is missing" if not tokens.app else "is no app-level token (xapp-…)"
        wrong.append(f"slack.app_token {why}: set BEEPGPT_SLACK__APP_TOKEN, or use --http PORT")
    if wrong:
        raise BadCommand("; ".join(wrong) + " (docs/slack.md says where to find them)")
    return tokens


def team_of(web: slack_live.Web, include: Collection[str]) -> str:
    """The id of the workspace that the bot's token belongs to. Raises SlackFailed if the token lacks a scope."""
    data, scopes = web.scopes()
    needed = set().union(*(SCOPES[kind] for kind in include))
    if scopes and (missing := needed - scopes):
        manifest = "config/slack-app-private.yaml" if "groups" in include else "config/slack-app.yaml"
        direct = " with these scopes of direct messages added" if any(each.startswith(("im:", "mpim:")) for each in missing) else ""
        raise SlackFailed(
            f"slack.bot_token lacks {', '.join(sorted(missing))}, needed for {', '.join(include)}: update the app from"
            f" {manifest}{direct}, and install it again"
        )
    if scopes and "reactions:read" not in scopes:
        log.warning("the app may not see reactions: it lacks the scope reactions:read")
    return str(data.get("team_id", ""))
