"""`beepgpt ingest slack`: what Slack says, put on a topic as it happens, and nothing of it lost."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from rich.table import Table

from beepgpt.config.settings import Settings
from beepgpt.connectors import kafka
from beepgpt.connectors.kafka import check_keeps
from beepgpt.errors import BadCommand, SlackFailed
from beepgpt.ingest.slack.connections import LiveConnection
from beepgpt.ingest.slack.envelopes import Who, remembered
from beepgpt.ingest.slack.loop import WAIT, Live
from beepgpt.ingest.slack.metrics import SlackFigures, SlackPulse
from beepgpt.runtime import metrics
from beepgpt.runtime.connections import connection_of
from beepgpt.runtime.console import console
from beepgpt.runtime.workers import Stop, peak_memory_mb, program_version

if TYPE_CHECKING:
    from beepgpt.connectors.slack import live as slack_live

NAME = "slack"
"""SOURCE of this command."""
SCOPES = {
    "channels": {"channels:history", "channels:read"},
    "groups": {"groups:history", "groups:read"},
    "dms": {"im:history", "im:read"},
    "mpims": {"mpim:history", "mpim:read"},
}
"""What is needed for them, beside reactions:read, without which there are just no reactions."""
INSTALL = "pip install 'beepgpt[slack]'"

log = logging.getLogger(__name__)


# What is needed


@dataclass(frozen=True)
class Tokens:
    """The app's secrets; they are in no repr."""

    app: str = field(repr=False)
    bot: str = field(repr=False)
    signing: str = field(repr=False)


def tokens_of(settings: Settings, *, over_http: bool) -> Tokens:
    """Those that are needed. Raises BadCommand that names what is missing, and never what is there."""

    def revealed(secret: SecretStr | None) -> str:
        return "" if secret is None else secret.get_secret_value().strip()

    ours = settings.slack
    tokens = Tokens(revealed(ours.app_token), revealed(ours.bot_token), revealed(ours.signing_secret))
    wrong: list[str] = []
    if not tokens.bot.startswith("xoxb-"):
        wrong.append(f"slack.bot_token {'is missing' if not tokens.bot else 'is no bot token (xoxb-…)'}: set BEEPGPT_SLACK__BOT_TOKEN")
    if over_http and not tokens.signing:
        wrong.append("slack.signing_secret is missing: set BEEPGPT_SLACK__SIGNING_SECRET")
    if not over_http and not tokens.app.startswith("xapp-"):
        told = "is missing" if not tokens.app else "is no app-level token (xapp-…)"
        wrong.append(f"slack.app_token {told}: set BEEPGPT_SLACK__APP_TOKEN, or use --http PORT")
    if wrong:
        raise BadCommand("; ".join(wrong) + " (docs/slack.md tells where they are)")
    return tokens


@dataclass(frozen=True)
class SlackIngestJob:
    """The command, as it was given."""

    to: str
    address: kafka.KafkaAddress
    settings: Settings
    include: tuple[str, ...]
    http: int | None = None
    http_host: str = "127.0.0.1"


# The whole of it


def run_slack(job: SlackIngestJob) -> tuple[dict[str, Any], int]:
    """Until somebody asks to stop. Returns the report and the exit status."""
    tokens = tokens_of(job.settings, over_http=job.http is not None)
    try:
        from beepgpt.connectors.slack import live as slack_live
    except ModuleNotFoundError as error:
        raise BadCommand(f"beepgpt ingest slack needs {error.name}, which is not installed: {INSTALL}") from error
    began = time.monotonic()
    connection = connection_of(job.settings, job.address.bootstrap)
    there = kafka.check_topics(connection, [job.address.topic, job.settings.slack.interactions_topic])
    if not check_keeps(connection, job.address.topic):
        console.print(f"{job.address.topic}: whether it keeps old records could not be asked.")
    stop, stopping = Stop(), threading.Event()
    ours = job.settings.slack
    web = slack_live.Web(tokens.bot, ours.base_url, stopping, ours.calls_per_minute)
    pulse = SlackPulse(asked_within=max(60, job.settings.kafka.patience / 1e6 + 30))
    with stop.listening(), ExitStack() as stack:
        stack.callback(stopping.set)
        threading.Thread(target=_until, args=(stop, stopping), daemon=True).start()
        try:
            who = signed_in(web, job.include)
            memory = remembered(connection, there[job.address.topic])
        except slack_live.CallStopped:
            return report_of(job, Counter(), 0, began), 0
        patience = job.settings.kafka.patience / 1e6
        events, interactions = (
            stack.enter_context(kafka.Writer(connection, name, patience=patience)) for name in (job.address.topic, ours.interactions_topic)
        )
        arrivals: queue.Queue[Any] = queue.Queue()
        lines: list[LiveConnection] = []
        callers = [web]
        if job.http is not None:
            lines.append(slack_live.HttpLine(job.http, job.http_host, tokens.signing, arrivals.put))
        else:
            opener = slack_live.Web(tokens.app, ours.base_url, stopping, called="slack.app_token")
            callers.append(opener)
            lines += [slack_live.SocketLine(str(number), opener, arrivals.put) for number in range(1, ours.connections + 1)]
        partitions = there[job.address.topic].partitions
        live = Live(ours, job.include, who, memory, partitions, events, interactions, web, lines, arrivals, pulse)
        if job.settings.run.metrics_port:
            build = {"version": program_version(), "team": who.team}
            figures = SlackFigures(live.counts, live.gauges, live.types_written, lambda: called_by(callers), build)
            stack.enter_context(metrics.serve(job.settings.run.metrics_port, job.settings.run.metrics_host, figures, pulse))
        live.run(stop, stopping)
    return report_of(job, live.account, live.held(), began), 0


def called_by(callers: Iterable[slack_live.Web]) -> dict[tuple[str, str], int]:
    """Calls of Slack, by method and by what came of them."""
    return dict(sum((each.calls_here() for each in callers), Counter()))


def _until(stop: Stop, stopping: threading.Event) -> None:
    """Questions that wait give up when somebody asks to stop."""
    while not stopping.is_set():
        if stop():
            stopping.set()
        time.sleep(WAIT)


def signed_in(web: slack_live.Web, include: Iterable[str]) -> Who:
    """Who the bot's token makes us. Raises SlackFailed where it does not do."""
    data, scopes = web.scopes()
    needed = set().union(*(SCOPES[kind] for kind in include))
    if scopes and (missing := needed - scopes):
        raise SlackFailed(
            f"slack.bot_token lacks {', '.join(sorted(missing))}, needed for {', '.join(include)}: update the app from"
            " config/slack-app.yaml, and install it again"
        )
    if scopes and "reactions:read" not in scopes:
        log.warning("the app may not see reactions: it lacks the scope reactions:read")
    return Who(str(data.get("team_id", "")), str(data.get("user_id", "")))


# The report

MEANING = {
    "written": "to the topic, and acknowledged",
    "duplicate": "copies of what is on the topic",
    "interactions": "what people did with the app, to the other topic",
    "held": "wait for their channel's history, and come again: they are not acknowledged",
}
BESIDE = {
    "filled": "events taken from histories after an outage; their edits have times to the second",
    "untimed": "reactions in these histories: whether they came in the gap nobody can know, and they are not written",
    "vanished": "messages on the topic that the history lacks: deleted in the gap, at a time nobody can know",
    "unreadable": "messages of a history without a time",
    "fills_refused": "histories that Slack refused: what was said there in the gap is missing",
    "delayed": "came after a heartbeat had said that all was there: late in a flow that follows",
    "outages": "times at which events may have been missed",
    "heartbeats": "to every partition",
}


def report_of(job: SlackIngestJob, account: Counter[str], held: int, began: float) -> dict[str, Any]:
    """The closing account."""
    left_out = {name.partition(":")[2]: count for name, count in sorted(account.items()) if name.startswith("left_out:")}
    told = {name: account[name] for name in ("arrived", *MEANING)} | {"held": held, "left_out": left_out}
    told |= {name: account[name] for name in BESIDE}
    total = sum({name: account[name] for name in MEANING}.values()) + held + sum(left_out.values())
    wrong = [] if total == account["arrived"] else [f"arrived {account['arrived']:,}, accounted for {total:,}"]
    return {
        "command": "ingest",
        "source": NAME,
        "to": job.to,
        "seconds": round(time.monotonic() - began, 3),
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "account": told | {"adds_up": not wrong},
        "does_not_add_up": wrong,
    }


def print_report(report: Mapping[str, Any]) -> None:
    """The same, as a table."""
    account = report["account"]
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row("arrived", f"{account['arrived']:,}", "envelopes that Slack sent")
    for name, told in MEANING.items():
        if account[name]:
            table.add_row(f"  {name}", f"{account[name]:,}", told)
    if account["left_out"]:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in account["left_out"].items())
        table.add_row("  left out", f"{sum(account['left_out'].values()):,}", reasons)
    for name, told in BESIDE.items():
        if account[name]:
            table.add_row(name.replace("_", " "), f"{account[name]:,}", told)
    console.print(table)
    adds_up = "the account adds up" if account["adds_up"] else "THE ACCOUNT DOES NOT ADD UP"
    console.print(f"{adds_up}; {report['seconds']:,.1f} s, {report['peak_memory_mb']:,.0f} MB at most")
