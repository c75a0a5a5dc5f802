"""The checks of `beepgpt check`: each yields its subject, whether that is as it must be (None: not known), and what was found."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from beepgpt.commands.alert import threshold_of
from beepgpt.commands.topic_names import topic_names
from beepgpt.commands.topics import BESIDE, PREFIX, spec_of
from beepgpt.config.sections import SlackSettings
from beepgpt.config.settings import Settings, defaults, revealed
from beepgpt.connectors.log import KAFKA
from beepgpt.connectors.slack import export as slack_export
from beepgpt.conversations.rules import differing
from beepgpt.errors import BeepGPTError
from beepgpt.figures import percent
from beepgpt.forgetting.topics import copies_left, copies_of
from beepgpt.ingest.slack.run import team_of, tokens_of
from beepgpt.packages import line_for, missing_of
from beepgpt.runtime.places import log_of
from beepgpt.training.folder import CARD
from beepgpt.training.live import card_in, live_in

CheckFinding = tuple[str, bool | None, str]
CLOCK = 5.0
"""Seconds by which this machine's clock may be ahead: a live event must not seem to come from the future."""


def check_workspace(settings: Settings) -> Iterator[CheckFinding]:
    """Whether the settings name a workspace: it is a part of every example's id."""
    name = settings.conversations.workspace
    if name == defaults()["conversations", "workspace"].value:
        yield "settings", False, "conversations.workspace has its default: beepgpt init writes a file of settings, and --config names it"
    else:
        yield "settings", True, f"the workspace is {name}"


def check_packages() -> Iterator[CheckFinding]:
    """Whether what live commands need is installed."""
    lacking = missing_of("slack", "train")
    names = dict.fromkeys(each for names in lacking.values() for each in names)
    yield "packages", not names, f"{', '.join(names)}: not installed: {line_for(names, *lacking)}" if names else "all are installed"


def check_tokens(ours: SlackSettings) -> CheckFinding:
    """Whether both tokens are set, and whether Slack opens connections of Socket Mode by the app's: nothing else asks by that one."""
    try:
        app = tokens_of(ours, over_http=False).app
        if find_spec("slack_sdk") is not None:
            from beepgpt.connectors.slack import live as slack_live

            outbound = slack_live.slack_outbound(revealed(ours.proxy))
            opener = slack_live.Web(app, ours.base_url, threading.Event(), called="slack.app_token", outbound=outbound)
            if (why := opener.try_once(slack_live.OPEN)) not in ("", slack_live.RATE_LIMITED):  # whom Slack asks to wait, it knows
                if why.startswith(slack_live.NO_CONNECTION):
                    return "tokens", None, cannot_ask(why)
                found = f"Slack opens no connection by slack.app_token ({why}): look whether the app's settings have Socket Mode on"
                return "tokens", None, found
    except BeepGPTError as error:
        return "tokens", False, str(error)
    return "tokens", True, "slack.app_token and slack.bot_token are set"


def cannot_ask(why: str) -> str:
    """What is said where Slack can't be reached."""
    return f"Slack can't be asked ({why}): check slack.base_url, slack.proxy and the network"


def check_slack(settings: Settings, include: tuple[slack_export.ChannelKind, ...]) -> Iterator[CheckFinding]:
    """Tokens, the scopes for following channels and for alerts, and this machine's clock beside Slack's."""
    ours = settings.slack
    tokens = check_tokens(ours)
    if not revealed(ours.bot_token) or find_spec("slack_sdk") is None:
        yield tokens
        yield from ((name, None, "Slack can be asked once its bot token is set") for name in ("scopes", "clock"))
        return
    from beepgpt.connectors.slack import live as slack_live
    from beepgpt.connectors.slack.alerts import SlackMessenger

    outbound = slack_live.slack_outbound(revealed(ours.proxy))
    web = slack_live.Web(revealed(ours.bot_token), ours.base_url, threading.Event(), ours.calls_per_minute, outbound=outbound)
    try:
        why = web.try_once("auth.test")
    except BeepGPTError as error:  # the bot's token is refused
        yield "tokens", False, str(error) if tokens[1] else f"{error}; {tokens[2]}"
        yield from ((name, None, "Slack can be asked once it knows its bot token") for name in ("scopes", "clock"))
        return
    yield tokens
    if why:
        yield from ((name, None, cannot_ask(why)) for name in ("scopes", "clock"))
        return
    try:
        team_of(web, include)
        name = SlackMessenger(revealed(ours.bot_token), ours.base_url, outbound=outbound).check()
        yield "scopes", True, f"of {name}: all that {', '.join(include)} and alerts need"
    except BeepGPTError as error:
        yield "scopes", False, str(error)
    if web.ahead > CLOCK:
        yield "clock", False, f"this machine's clock is {web.ahead:.0f} s ahead of Slack's: set it (an NTP service)"
    else:
        yield "clock", True, "not ahead of Slack's"


def check_log(settings: Settings, place: str) -> Iterator[CheckFinding]:
    """The topics, by their names in the settings, and whether they have the settings that they need."""
    log, shown, names = log_of(settings, place), place.removeprefix(KAFKA), topic_names(settings)
    specs = [spec_of(each, 1, -1, {kind: names[kind] for kind in BESIDE}, settings) for each in names.values()]
    try:
        there = log.topics()
        if copies := {name: found for name in names.values() if (found := copies_of(name, there))}:
            yield "topics", False, copies_left(copies, place)
            return
        if missing := [spec.name for spec in specs if spec.name not in there]:
            made = place if is_made_by_default(missing) else f"{place}/NAME, for each"
            yield "topics", False, f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing at {shown}: beepgpt topics {made}"
            return
        differing = [each.name for each in specs if log.settings_of(each.name, each.settings) != dict(each.settings)]
    except BeepGPTError as error:
        yield "topics", None, str(error)
        return
    if differing:
        yield "topics", False, f"{', '.join(differing)} have other settings than they need: beepgpt topics {place} says which"
    else:
        yield "topics", True, f"all {len(specs)} are at {shown}"


def is_made_by_default(names: Sequence[str]) -> bool:
    """Whether `beepgpt topics` makes these topics without being told their names."""
    return all(each.startswith(f"{PREFIX}.") for each in names)


def check_model(settings: Settings, folder: Path | None) -> Iterator[CheckFinding]:
    """The model: whether it is one, of examples that are made as these settings say, with a threshold."""
    if folder is None:
        yield "model", False, "none is named: --model DIR, or cluster.model; beepgpt try makes one of an export"
        return
    try:
        card = card_in(live_in(folder))
    except BeepGPTError as error:
        yield "model", False, str(error)
        return
    if not card:
        yield "model", False, f"{folder} is no trained model ({CARD} is missing): beepgpt train SET --to {folder}"
        return
    if (spec := str(card.get("spec"))) != settings.rules.spec:
        found = f"{folder} was trained on other examples: {differing(spec, settings.rules.spec, card.get('settings'), settings.rules)}"
        yield "model", False, f"{found}: give the settings that they were made with"
        return
    try:
        threshold = threshold_of(settings, folder)
        yield "model", True, f"{folder}, alerts from {percent(threshold.value)} on, {threshold.why}"
    except BeepGPTError as error:
        yield "model", False, str(error)
