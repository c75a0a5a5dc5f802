"""A run of `beepgpt ingest slack`: connect, write events to the topic as they happen, and report what became of them."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from beepgpt import __version__
from beepgpt.config.sections import SlackSettings
from beepgpt.config.settings import Settings, revealed
from beepgpt.connectors.log import LogWriter, TopicAddress
from beepgpt.connectors.slack.scopes import CHANNELS, PEOPLE, REACTIONS, manifest_of
from beepgpt.conversations.rules import DAY
from beepgpt.errors import BadCommand, SlackFailed
from beepgpt.ingest.slack.connections import LiveConnection
from beepgpt.ingest.slack.known_records import read_contents
from beepgpt.ingest.slack.loop import WAIT, SlackFigures, SlackLoop, SlackPulse
from beepgpt.ingest.slack.retention import RetentionSweep
from beepgpt.packages import needing
from beepgpt.runtime import metrics
from beepgpt.runtime.console import console
from beepgpt.runtime.forgotten import ListWatch
from beepgpt.runtime.outages import watching
from beepgpt.runtime.places import log_of, patience_of, print_proxy
from beepgpt.runtime.workers import Stop, peak_memory_mb

if TYPE_CHECKING:
    from beepgpt.connectors.slack import live as slack_live

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SlackTokens:
    """The app's secrets; no repr shows them."""

    app: str = field(repr=False)
    bot: str = field(repr=False)
    signing: str = field(repr=False)


def tokens_of(settings: SlackSettings, *, over_http: bool) -> SlackTokens:
    """The tokens that are needed. Raises BadCommand, which names what is missing, and never what is there."""
    tokens = SlackTokens(*(revealed(each).strip() for each in (settings.app_token, settings.bot_token, settings.signing_secret)))
    wrong = _wrong_with(tokens.bot)
    if over_http and not tokens.signing:
        wrong.append("slack.signing_secret is missing: set BEEPGPT_SLACK__SIGNING_SECRET")
    if not over_http and not tokens.app.startswith("xapp-"):
        why = "is missing" if not tokens.app else "is no app-level token (xapp-…)"
        wrong.append(f"slack.app_token {why}: set BEEPGPT_SLACK__APP_TOKEN")
    _check_nothing(wrong)
    return tokens


def bot_token_of(settings: SlackSettings) -> str:
    """The bot's token, where no other is needed. Raises BadCommand as `tokens_of`."""
    token = revealed(settings.bot_token).strip()
    _check_nothing(_wrong_with(token))
    return token


def _wrong_with(bot: str) -> list[str]:
    if bot.startswith("xoxb-"):
        return []
    return [f"slack.bot_token {'is no bot token (xoxb-…)' if bot else 'is missing'}: set BEEPGPT_SLACK__BOT_TOKEN"]


def _check_nothing(wrong: list[str]) -> None:
    if wrong:
        raise BadCommand("; ".join(wrong) + " (the app's pages have them: api.slack.com/apps)")


def team_of(web: slack_live.Web, include: Collection[str]) -> str:
    """The id of the workspace that the bot's token belongs to. Raises SlackFailed if the token lacks a scope."""
    data, scopes = web.scopes()
    needed = {PEOPLE}.union(*(CHANNELS[kind] for kind in include))
    if scopes and (missing := needed - scopes):
        manifest = manifest_of(is_private="groups" in include)
        direct = " with these scopes of direct messages added" if any(each.startswith(("im:", "mpim:")) for each in missing) else ""
        raise SlackFailed(
            f"slack.bot_token lacks {', '.join(sorted(missing))}, needed for {', '.join(include)}: update the app from"
            f" {manifest}{direct}, and install it again"
        )
    if scopes and REACTIONS not in scopes:
        log.warning(f"the app may not see reactions: it lacks the scope {REACTIONS}")
    return str(data.get("team_id", ""))


NAME = "slack"
"""SOURCE of a live run."""

ARRIVAL_ENDS = ("written", "duplicate", "interactions")
"""What becomes of arrivals, beside those that are held or left out."""
OTHER_COUNTS = (
    "filled",
    "untimed",
    "vanished",
    "retention",
    "unreadable",
    "fills_refused",
    "checks_refused",
    "delayed",
    "outages",
    "heartbeats",
)


@dataclass(frozen=True)
class SlackIngestJob:
    """The arguments of `beepgpt ingest slack`."""

    to: str
    address: TopicAddress
    settings: Settings
    include: tuple[str, ...]
    http: int | None = None
    http_host: str = "127.0.0.1"


def run_slack(job: SlackIngestJob) -> tuple[dict[str, Any], int]:
    """Run until asked to stop. Returns the report and the exit status."""
    ours = job.settings.slack
    tokens = tokens_of(ours, over_http=job.http is not None)
    with needing("beepgpt ingest slack", "slack"):
        from beepgpt.connectors.slack import live as slack_live
    began = time.monotonic()
    events_log = log_of(job.settings, job.address)
    topics = events_log.check_topics([job.address.topic, ours.interactions_topic])
    topic = topics[job.address.topic]
    if not events_log.check_keeps(topic.name):
        console.print(f"{topic.name}: whether it keeps old records could not be asked.")
    remember = job.settings.rules.remember
    if ours.retention is not None and ours.retention >= remember:
        console.print(
            f"slack.retention is {ours.retention // DAY} days, and examples are remembered for {remember // DAY}: those of messages that it"
            " deletes are not retracted. Set conversations.remember higher."
        )
    stop, stopping = Stop(), threading.Event()
    outbound = slack_live.slack_outbound(revealed(ours.proxy))
    print_proxy(outbound, ours.base_url)
    web = slack_live.Web(tokens.bot, ours.base_url, stopping, ours.calls_per_minute, outbound=outbound)
    patience = patience_of(job.settings, follows=True)
    pulse = SlackPulse()

    def stopping_to_write() -> bool:
        pulse.beat()  # the loop is alive while it waits for brokers
        return stop()

    with stop.listening(), ExitStack() as stack:
        stack.callback(stopping.set)
        threading.Thread(target=_set_when_stopped, args=(stop, stopping), daemon=True).start()
        try:
            team = team_of(web, job.include)
            contents = read_contents(events_log, topic)
        except slack_live.CallStopped:
            return report_of(job, Counter(), 0, began), 0

        def writer_to(name: str, *, alone: bool = True) -> LogWriter:
            return stack.enter_context(events_log.writer(name, patience=patience, stopping=stopping_to_write, alone=alone))

        events, interactions = writer_to(topic.name), writer_to(ours.interactions_topic)
        arrivals: queue.Queue[Any] = queue.Queue()
        connections: list[LiveConnection] = []
        callers = [web]
        refused: Mapping[str, int] = {}
        if job.http is not None:
            line = slack_live.HttpLine(job.http, job.http_host, tokens.signing, arrivals.put)
            connections.append(line)
            refused = line.refused
        else:
            opener = slack_live.Web(tokens.app, ours.base_url, stopping, called="slack.app_token", outbound=outbound)
            callers.append(opener)
            connections += [slack_live.SocketLine(str(number), opener, arrivals.put) for number in range(1, ours.connections + 1)]

        retention = None if ours.retention is None else RetentionSweep(events_log, topic.name, ours.retention, arrivals.put)
        loop = SlackLoop(
            *(ours, job.include, team, contents, topic.partitions, events, interactions, web, connections, arrivals, pulse),
            lambda: writer_to(job.settings.kafka.dead_letter_topic, alone=False),
            retention,
            ListWatch(job.settings.run.forgotten).now,
        )
        if job.settings.run.metrics_port:
            build = {"version": __version__, "team": team}
            figures = SlackFigures(loop.counts, loop.gauges, loop.types_written, lambda: calls_of(callers), build, refused=lambda: refused)
            stack.enter_context(metrics.serve(job.settings.run.metrics_port, job.settings.run.metrics_host, figures, pulse))
        stack.enter_context(watching(loop.cost))
        loop.run(stop, stopping)
    return report_of(job, loop.account, loop.backfill.held(), began), 0


def calls_of(callers: Iterable[slack_live.Web]) -> dict[tuple[str, str], int]:
    """Calls of Slack's Web API, by method and result."""
    return dict(sum((each.calls_here() for each in callers), Counter()))


def _set_when_stopped(stop: Stop, stopping: threading.Event) -> None:
    """Make calls that wait give up when somebody asks to stop; runs in a thread of its own."""
    while not stopping.is_set():
        if stop():
            stopping.set()
        time.sleep(WAIT)


def report_of(job: SlackIngestJob, account: Counter[str], held: int, began: float) -> dict[str, Any]:
    """The closing account, as `--report` writes it."""
    left_out = {name.partition(":")[2]: count for name, count in sorted(account.items()) if name.startswith("left_out:")}
    counts = {name: account[name] for name in ("arrived", *ARRIVAL_ENDS)} | {"held": held, "left_out": left_out}
    counts |= {name: account[name] for name in OTHER_COUNTS}
    total = sum(account[name] for name in ARRIVAL_ENDS) + held + sum(left_out.values())
    wrong = [] if total == account["arrived"] else [f"arrived {account['arrived']:,}, accounted for {total:,}"]
    return {
        "command": "ingest",
        "source": NAME,
        "to": job.to,
        "seconds": round(time.monotonic() - began, 3),
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "account": counts | {"adds_up": not wrong},
        "does_not_add_up": wrong,
    }
