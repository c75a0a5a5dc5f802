"""`beepgpt ingest slack`: what Slack says, put on a topic as it happens, and nothing of it lost.

One thread writes: it takes what the connections bring, in their order, sends it, waits until Kafka has confirmed, and then
acknowledges. What is known of the past is read from the topic itself: everything before its last heartbeat is there. After an
outage each channel's history is looked through from there on; until that is done its live events wait, unacknowledged, so that
nothing old comes behind something new.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import orjson
from pydantic import SecretStr
from rich.table import Table

from commands.common import BadCommand, connection_of
from commands.running import Stop, peak_memory_mb
from config.settings import Settings
from connectors import kafka, metrics
from connectors.console import console
from connectors.kafka_ingest import check_keeps
from connectors.slack_errors import SlackFailed
from connectors.slack_metrics import SlackFigures, SlackPulse
from conversations.events import micros, ts_text
from conversations.gaps import Facts, Known, facts_of
from conversations.rules import DAY, HOUR, SECOND

if TYPE_CHECKING:
    from connectors import slack_live

NAME = "slack"
"""SOURCE of this command."""
KINDS = {"channels": "public_channel", "groups": "private_channel", "dms": "im", "mpims": "mpim"}
"""What Slack calls the kinds of channels that an export has."""
SCOPES = {
    "channels": {"channels:history", "channels:read"},
    "groups": {"groups:history", "groups:read"},
    "dms": {"im:history", "im:read"},
    "mpims": {"mpim:history", "mpim:read"},
}
"""What is needed for them, beside reactions:read, without which there are just no reactions."""
REMEMBERED = HOUR
"""How long before the last heartbeat copies are known: Slack sends again what was not acknowledged for up to an hour."""
A_DAY = DAY
"""How long before its end an export is surely whole."""
OVERLAP = 5 * SECOND
"""A gap begins so much before the last heartbeat: what a flow still takes."""
BEAT_EVERY = 1.0
WAIT = 0.1
BATCH = 1_000
PROBED = 5
"""Channels of which it is looked whether their last messages have come."""
TAILS = (1_000, 50_000)
"""Offsets at the end of each partition in which its last heartbeat is looked for, before all of them."""
GONE = ("tokens_revoked", "app_uninstalled")
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
class Job:
    """The command, as it was given."""

    to: str
    address: kafka.KafkaAddress
    settings: Settings
    include: tuple[str, ...]
    http: int | None = None
    http_host: str = "127.0.0.1"


class LiveLine(Protocol):
    """A way on which events come."""

    name: str

    @property
    def good_until(self) -> float | None: ...

    def start(self) -> None: ...

    def close(self) -> None: ...

    def drop(self) -> None: ...


# What the topic knows


@dataclass
class Memory:
    """What stands on the topic."""

    known: Known
    covered: int | None
    """The last heartbeat that every partition has; None: there is none."""


def remembered(connection: kafka.Connection, topic: kafka.Topic) -> Memory:
    """Read from the topic's end: its last heartbeat, and what it holds since an hour before. Without a heartbeat: all of it."""
    beats: dict[int, int] = {}
    for back in TAILS:
        beats = {}
        for number, record in kafka.records_of(connection, topic.name, back=back):
            if (at := heartbeat_in(record.value)) is not None:
                beats[number] = max(beats.get(number, 0), at)
        if len(beats) == topic.partitions:
            break
    covered = min(beats.values()) if len(beats) == topic.partitions else None
    known = Known()
    starts = None if covered is None else kafka.offsets_at(connection, topic.name, covered - REMEMBERED)
    for _, record in kafka.records_of(connection, topic.name, starts=starts):
        if record.value is not None and heartbeat_in(record.value) is None:
            known.add(facts_of(record.value, record.timestamp))
    return Memory(known, covered)


def heartbeat_in(value: bytes | None) -> int | None:
    """The time of a heartbeat; None for any other record."""
    if value is None or len(value) > 200 or b'"heartbeat"' not in value:
        return None
    try:
        body = orjson.loads(value)
        return micros(body["at"]) if body.get("type") == "heartbeat" else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


# What an event says


def channel_of(event: Mapping[str, Any]) -> str | None:
    """The channel that an inner event is about.

    >>> channel_of({"type": "reaction_added", "item": {"type": "message", "channel": "C1", "ts": "1690360253.041239"}})
    'C1'
    """
    item = event.get("item")
    for channel in (event.get("channel"), event.get("channel_id"), item.get("channel") if isinstance(item, dict) else None):
        named = channel.get("id") if isinstance(channel, dict) else channel
        if isinstance(named, str) and named:
            return named
    return None


def user_of(payload: Mapping[str, Any]) -> str:
    """Who did something with the app."""
    user = payload.get("user")
    named = user.get("id") if isinstance(user, dict) else user
    return named if isinstance(named, str) else ""


def record_of(payload: Mapping[str, Any], received_at: int) -> bytes:
    """A callback as Slack sent it, with the time at which it came; without the verification token, which is a secret that nobody needs."""
    kept = {name: value for name, value in payload.items() if name != "token"}
    return orjson.dumps(kept | {"received_at": ts_text(received_at)})


def filled_record(event: Mapping[str, Any], team: str, received_at: int) -> bytes:
    """An event that was taken from a channel's history: it has no id at Slack."""
    return orjson.dumps({"type": "event_callback", "team_id": team, "event": event, "filled": True, "received_at": ts_text(received_at)})


def kind_of(info: Mapping[str, Any]) -> str:
    """Of a channel as the Web API tells it, in the words of an export."""
    if info.get("is_im"):
        return "dms"
    if info.get("is_mpim"):
        return "mpims"
    return "groups" if info.get("is_private") or info.get("is_group") else "channels"


# The gaps


@dataclass
class Held:
    """An arrival that waits for its channel's history."""

    arrival: slack_live.Arrival
    message: kafka.Message | None
    """None: a copy of one that waits already."""
    t: int


@dataclass
class Gap:
    """A channel of which something may be missing, or of which nothing is known yet."""

    since: int | None
    """None: only what it is has to be asked."""
    generation: int
    held: list[Held] = field(default_factory=list)


class Looked(NamedTuple):
    """What a history has, or what a channel is."""

    channel: str
    generation: int
    info: dict[str, Any] | None
    messages: list[dict[str, Any]]
    why_not: str


class Probed(NamedTuple):
    """The last messages of some channels."""

    began: float
    messages: dict[str, list[dict[str, Any]]]


class Listed(NamedTuple):
    """All channels that the app is in."""

    channels: list[dict[str, Any]]


class Checked(NamedTuple):
    """Whether the Web API answers; why not, if it doesn't."""

    why_not: str


class Asker:
    """Asks the Web API one thing after the other: first what live events wait for."""

    def __init__(self, web: slack_live.Web, put: Callable[[Any], None], is_wanted: Callable[[str, int], bool]) -> None:
        self._web = web
        self._put = put
        self._is_wanted = is_wanted
        self._jobs: queue.PriorityQueue[tuple[int, int, Callable[[], Any]]] = queue.PriorityQueue()
        self._count = 0
        self._thread = threading.Thread(target=self._run, name="slack-asker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        from connectors.slack_live import Failed, Stopped

        while True:
            _, _, job = self._jobs.get()
            try:
                if (answer := job()) is not None:
                    self._put(answer)
            except Stopped:
                return
            except Exception as error:
                self._put(Failed(error))

    def ask(self, job: Callable[[], Any], priority: int) -> None:
        """Soon; a smaller priority is sooner."""
        self._count += 1
        self._jobs.put((priority, self._count, job))

    def look(self, channel: str, gap: Gap, window: tuple[str, str, list[str]] | None, *, is_known: bool, priority: int) -> None:
        """A channel's history; without a window: just what it is."""
        self.ask(partial(self._look, channel, gap.generation, window, is_known), priority)

    def _look(self, channel: str, generation: int, window: tuple[str, str, list[str]] | None, is_known: bool) -> Looked | None:
        from connectors.slack_live import Refused, history

        if not self._is_wanted(channel, generation):
            return None
        info: dict[str, Any] | None = None
        try:
            if not is_known:
                info = self._web.ask("conversations.info", channel=channel).get("channel") or {}
            if window is None:
                return Looked(channel, generation, info, [], "")
            since, roots_since, threads = window
            return Looked(channel, generation, info, history(self._web, channel, since=since, roots_since=roots_since, threads=threads), "")
        except Refused as refused:
            return Looked(channel, generation, info, [], refused.code)

    def list_channels(self, types: str) -> None:
        """The channels that the app is in."""
        self.ask(lambda: Listed(list(self._web.pages("users.conversations", "channels", types=types, exclude_archived=True))), 0)

    def probe(self, channels: list[str], since: str) -> None:
        """Whether the last messages of these have come."""
        self.ask(partial(self._probe, channels, since), 0)

    def _probe(self, channels: list[str], since: str) -> Probed:
        from connectors.slack_live import Refused

        began, found = time.time(), {}
        for channel in channels:
            try:
                found[channel] = self._web.ask("conversations.history", channel=channel, oldest=since, limit=20).get("messages") or []
            except Refused as refused:
                log.info("a channel could not be looked at", extra={"channel": channel, "why": refused.code})
        return Probed(began, found)


# The whole of it


def run_slack(job: Job) -> tuple[dict[str, Any], int]:
    """Until somebody asks to stop. Returns the report and the exit status."""
    tokens = tokens_of(job.settings, over_http=job.http is not None)
    try:
        from connectors import slack_live
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
    patience = job.settings.kafka.patience / 1e6
    pulse = SlackPulse(asked_within=max(60, patience + 30))
    with stop.listening(), ExitStack() as stack:
        stack.callback(stopping.set)
        watch = threading.Thread(target=lambda: _until(stop, stopping), daemon=True)
        watch.start()
        try:
            who = signed_in(web, job.include)
            memory = remembered(connection, there[job.address.topic])
        except slack_live.Stopped:
            return report_of(job, Counter(), 0, began), 0
        writers = [
            stack.enter_context(_closing(kafka.Writer(connection, name, patience=patience)))
            for name in (job.address.topic, ours.interactions_topic)
        ]
        arrivals: queue.Queue[Any] = queue.Queue()
        lines: list[LiveLine] = []
        if job.http is not None:
            lines.append(slack_live.HttpLine(job.http, job.http_host, tokens.signing, arrivals.put))
        else:
            opener = slack_live.Web(tokens.app, ours.base_url, stopping, called="slack.app_token")
            lines += [slack_live.Line(str(number), opener, arrivals.put) for number in range(1, ours.connections + 1)]
        live = Live(job, there[job.address.topic].partitions, who, memory, writers[0], writers[1], web, lines, arrivals, pulse)
        if job.settings.run.metrics_port:
            figures = SlackFigures(live.counts, live.gauges, live.types_written, {"team": who.team})
            stack.enter_context(metrics.serve(job.settings.run.metrics_port, job.settings.run.metrics_host, figures, pulse))
        live.run(stop, stopping)
    return report_of(job, live.account, live.held(), began), 0


def _until(stop: Stop, stopping: threading.Event) -> None:
    """Questions that wait give up when somebody asks to stop."""
    while not stopping.is_set():
        if stop():
            stopping.set()
        time.sleep(WAIT)


@contextmanager
def _closing(writer: kafka.Writer) -> Iterator[kafka.Writer]:
    try:
        yield writer
    finally:
        writer.close()


@dataclass(frozen=True)
class Who:
    """The app, as Slack knows it."""

    team: str
    user: str


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


class Live:
    """What is on its way, and what is missing."""

    def __init__(
        self,
        job: Job,
        partitions: int,
        who: Who,
        memory: Memory,
        events: kafka.Writer,
        interactions: kafka.Writer,
        web: slack_live.Web,
        lines: list[LiveLine],
        arrivals: queue.Queue[Any],
        pulse: SlackPulse,
    ) -> None:
        self._ours = job.settings.slack
        self._include = job.include
        self._partitions = partitions
        self._who = who
        self._known = memory.known
        self._covered = memory.covered
        """Everything before is on the topic: its last heartbeat."""
        self._events = events
        self._interactions = interactions
        self._web = web
        self._lines = {line.name: line for line in lines}
        self._up: dict[str, float] = {}
        """Lines that are connected, and since when."""
        self._proven: dict[str, float | None] = {}
        """Of each of these: until when it is known that events come; None: they do, since one came."""
        self._arrivals = arrivals
        self._pulse = pulse
        self._asker = Asker(web, arrivals.put, self._is_wanted)
        self._channels: dict[str, dict[str, Any]] = {}
        self._listed = False
        self._gaps: dict[str, Gap] = {}
        self._generation = 0
        self._unfilled: set[str] = set()
        """Channels whose history was refused."""
        self._messages: list[kafka.Message] = []
        self._done: list[Callable[[], None]] = []
        self._beat_at = 0.0
        self._last_event: float | None = None
        self._checked_at = 0.0
        self._probing: tuple[str, ...] | None = None
        self._whole = False
        self.account: Counter[str] = Counter()
        self._types: Counter[str] = Counter()

    # The loop

    def run(self, stop: Stop, stopping: threading.Event) -> None:
        """Until somebody asks to stop; what came by then is written and acknowledged."""
        self._asker.start()
        watchdog = threading.Thread(target=self._watch, args=(stopping,), name="slack-watchdog", daemon=True)
        watchdog.start()
        for line in self._lines.values():
            line.start()
        try:
            while not stop():
                self._pulse.beat()
                good = self._good_until()
                is_drained = self._take(WAIT)
                self._deliver()
                if is_drained:
                    self._beat(good)
            good = self._good_until()
            while not self._take(0):
                self._deliver()
            self._deliver()
            self._beat(good)
        finally:
            stopping.set()
            for line in self._lines.values():
                line.close()

    def _watch(self, stopping: threading.Event) -> None:
        """Asks Slack from time to time whether it is still there."""
        from connectors.slack_live import Failed

        while not stopping.wait(self._ours.check / 1e6):
            try:
                self._arrivals.put(Checked(self._web.try_once("auth.test")))
            except Exception as error:
                self._arrivals.put(Failed(error))

    def _take(self, seconds: float) -> bool:
        """What has come, up to a batch of it; whether that was all."""
        try:
            came = self._arrivals.get(timeout=seconds) if seconds else self._arrivals.get_nowait()
            for _ in range(BATCH):
                self._handle(came)
                came = self._arrivals.get_nowait()
            self._handle(came)
        except queue.Empty:
            return True
        return False

    def _handle(self, came: Any) -> None:
        from connectors import slack_live

        match came:
            case slack_live.Arrival():
                self._arrived(came)
            case Looked():
                self._looked(came)
            case slack_live.Up():
                self._is_up(came)
            case slack_live.Changed():
                self._proven[came.line] = came.at
                log.info("a connection was renewed", extra={"line": came.line})
            case slack_live.Down():
                self._is_down(came)
            case Listed():
                self._has_list(came)
            case Checked():
                self._was_checked(came)
            case Probed():
                self._was_probed(came)
            case slack_live.Failed():
                raise came.error

    def _deliver(self) -> None:
        """Sends, waits until it is confirmed, and acknowledges."""
        if self._messages:
            self._events.send(self._messages)
            self._messages = []
            self._events.flush()
        self._interactions.flush()
        done, self._done = self._done, []
        for acknowledge in done:
            acknowledge()

    # Heartbeats

    def _good_until(self) -> float | None:
        """Up to when all that Slack sent has come, by this machine's clock; None while something may be missing."""
        goods: list[float] = []
        for name, line in self._lines.items():
            good = line.good_until
            if good is None or name not in self._up:
                return None
            proven = self._proven.get(name)
            goods.append(good if proven is None else min(good, proven))
        return min([time.time() - self._ours.delay / 1e6, *goods])

    def _beat(self, good: float | None) -> None:
        """Tells every partition up to when nothing is missing."""
        self._whole = good is not None and self._listed and not self._gaps and len(self._up) == len(self._lines)
        self._pulse.missing = self._why_not_whole(good)
        now = time.monotonic()
        if not self._whole or good is None or now - self._beat_at < BEAT_EVERY:
            return
        at = int((good - self._web.ahead) * 1e6)
        if self._covered is not None and at <= self._covered:
            return
        self._beat_at = now
        self._tell(at)
        self._known.forget_before(at - REMEMBERED)

    def _tell(self, at: int) -> None:
        value = b'{"type":"heartbeat","at":"%s"}' % ts_text(at).encode()
        self._events.send(kafka.Message(None, value, (), number) for number in range(self._partitions))
        self._events.flush()
        self._covered = at
        self.account["heartbeats"] += 1

    def _why_not_whole(self, good: float | None) -> str:
        if len(self._up) < len(self._lines) or good is None:
            return "not connected to Slack"
        if not self._listed:
            return "the channels are still to be listed"
        return f"the histories of {len(self._gaps):,} channels are still to be looked through" if self._gaps else ""

    # Connections

    def _is_up(self, up: slack_live.Up) -> None:
        log.info("connected to Slack", extra={"line": up.line, "connections": up.connections})
        if up.connections > len(self._lines):
            log.warning(
                "the app has more connections than this command has: Slack gives each of them a share of the events, so that those of"
                " another program are missing here until they are filled in",
                extra={"connections": up.connections, "ours": len(self._lines)},
            )
        self._up[up.line] = up.at
        self._proven[up.line] = up.at
        if len(self._up) == len(self._lines):
            if self._covered is None:
                self._begin()
            self._listed = False  # the app may have been added to some meanwhile
            self._asker.list_channels(",".join(KINDS[kind] for kind in self._include))

    def _begin(self) -> None:
        """The first heartbeat of a topic that has none: where it begins stands on it before anything else does, whatever comes then."""
        newest = self._known.newest()
        if newest is None:
            at = self._begun()
            console.print(f"The topic is empty: it begins now, at {ts_text(at)}. What was said before is in an export.")
        else:
            at = newest - A_DAY
            console.print(
                f"The topic ends at {ts_text(newest)}, and has no heartbeats: what was said since is filled in, from a day before."
            )
        self._tell(at)

    def _begun(self) -> int:
        """When all was connected, by Slack's clock."""
        return int((max(self._up.values()) - self._web.ahead) * 1e6)

    def _is_down(self, down: slack_live.Down) -> None:
        log.warning("disconnected from Slack", extra={"line": down.line, "why": down.why})
        self.account["outages"] += 1
        self._up.pop(down.line, None)
        self._generation += 1  # whatever is being looked at now may end before the gap does

    def _open_gaps(self) -> None:
        """All is connected: the channels' histories are looked through from the last heartbeat on."""
        self._generation += 1
        for channel in {**self._channels, **self._gaps}:
            if self._why_left_out(channel, {}) is None:
                self._open_gap(channel)

    def _open_gap(self, channel: str) -> None:
        since, gap = self._covered, self._gaps.get(channel)
        held = [] if gap is None else gap.held
        if gap is not None and gap.since is not None and since is not None:
            since = min(since, gap.since)
        self._gaps[channel] = Gap(since, self._generation, held)
        self._ask_for(channel, 0 if held else 1)

    def _ask_for(self, channel: str, priority: int) -> None:
        gap = self._gaps[channel]
        window = None
        if gap.since is not None:
            since = gap.since - OVERLAP
            roots = max(since - self._ours.look_back, 10**15)
            window = (ts_text(since), ts_text(roots), [ts_text(root) for root in self._known.threads(channel, since - REMEMBERED)])
        self._asker.look(channel, gap, window, is_known=channel in self._channels, priority=priority)

    def _is_wanted(self, channel: str, generation: int) -> bool:
        """Whether the answer to a question is still of use; asked by another thread."""
        gap = self._gaps.get(channel)
        return gap is not None and gap.generation == generation

    def _has_list(self, listed: Listed) -> None:
        """The channels are known: their histories are looked through, unless the topic begins here."""
        is_first = not self._channels
        self._channels |= {str(each["id"]): each for each in listed.channels}
        if is_first:
            left_out = [each for each in self._channels if self._why_left_out(each, {}) is not None]
            console.print(f"{len(self._channels) - len(left_out):,} channels; {len(left_out):,} others are left out.")
        if len(self._up) < len(self._lines):
            return
        self._listed = True
        if self._needs_filling():
            self._open_gaps()
        for channel, gap in self._gaps.items():
            if gap.generation < 0:
                gap.generation = self._generation
                self._ask_for(channel, 0)

    def _needs_filling(self) -> bool:
        """Whether the topic goes on from an earlier time than that at which this run was connected."""
        return self._covered is None or self._covered < self._begun()

    def _looked(self, looked: Looked) -> None:
        """A channel's history is here: what is missing is written, and then what waited, in the order of time."""
        gap = self._gaps.get(looked.channel)
        if gap is None or gap.generation != looked.generation:
            return
        if looked.info is not None:
            self._channels[looked.channel] = looked.info
        if looked.why_not:
            self._refused(looked)
        del self._gaps[looked.channel]
        if (why := self._why_left_out(looked.channel, {})) is not None:
            for held in gap.held:
                self._leave_out(held.arrival, why)
            return
        now = now_us()
        ready: list[tuple[int, kafka.Message]] = []
        if gap.since is not None:
            since = gap.since - OVERLAP
            found = self._known.missing(looked.channel, looked.messages, since)
            for t, event in found.events:
                record = filled_record(event, self._who.team, now)
                self._known.add(facts_of(record, now))
                ready.append((t, kafka.Message(looked.channel.encode(), record)))
            self.account.update(
                filled=len(found.events), fills=1, untimed=found.untimed, vanished=found.vanished, unreadable=found.unreadable
            )
        ready += [(held.t, held.message) for held in gap.held if held.message is not None]
        ready.sort(key=lambda each: each[0])
        self._messages += [message for _, message in ready]
        for held in gap.held:
            self._count_written(held.arrival, is_copy=held.message is None)
            self._done.append(held.arrival.acknowledge)

    def _refused(self, looked: Looked) -> None:
        told = {"channel": looked.channel, "why": looked.why_not}
        log.warning("a channel's history was refused: what was said there in the gap is missing", extra=told)
        self._unfilled.add(looked.channel)
        self.account["fills_refused"] += 1

    # Whether events come

    def _was_checked(self, checked: Checked) -> None:
        """Slack answers, or not; and where nothing came for a while, it is looked whether nothing was said."""
        if checked.why_not:
            log.warning("Slack does not answer", extra={"why": checked.why_not})
            self.account["checks_failed"] += 1
            return
        is_quiet = self._last_event is None or time.time() - self._last_event > self._ours.check / 1e6
        unproven = tuple(name for name, proven in self._proven.items() if proven is not None and name in self._up)
        if self._probing is not None or self._gaps or not self._listed or not (unproven or is_quiet) or len(self._up) < len(self._lines):
            return
        ours = [channel for channel in self._channels if self._why_left_out(channel, {}) is None]
        ours.sort(key=lambda channel: self._known.newest(channel) or 0, reverse=True)
        if not ours or self._covered is None:
            self._prove(time.time())
            return
        turn = int(self._checked_at) % max(len(ours) - 3, 1)
        self._checked_at += 2
        self._probing = unproven or tuple(self._lines)
        self._asker.probe(list(dict.fromkeys([*ours[:3], *(ours[3:] + ours[3:])[turn : turn + PROBED - 3]])), ts_text(self._covered))

    def _was_probed(self, probed: Probed) -> None:
        """A message that should have come by now, and has not: the connection is deaf."""
        suspects, self._probing = self._probing or (), None
        until = int((probed.began - self._web.ahead) * 1e6) - self._ours.delay
        missed: list[int] = []
        for channel, messages in probed.messages.items():
            if channel not in self._gaps:
                found = self._known.missing(channel, messages, self._covered or 0)
                missed += [t for t, event in found.events if t <= until and event.get("subtype") != "message_changed"]
        if not missed:
            self._prove(until / 1e6 + self._web.ahead)
            return
        log.warning("messages were posted, and did not come: the connection is deaf, and is replaced", extra={"missed": len(missed)})
        if self._covered is not None and min(missed) < self._covered:
            log.warning("heartbeats said that they had come: a flow that follows will count them as late")
            self._covered = min(missed)
        self.account["deaf"] += 1
        for name in suspects:
            if name in self._up:
                self._lines[name].drop()
                self._up.pop(name)  # no heartbeats from now on

    def _prove(self, until: float) -> None:
        for name, proven in self._proven.items():
            if proven is not None:
                self._proven[name] = max(proven, until)

    # Events

    def _arrived(self, arrival: slack_live.Arrival) -> None:
        self.account["arrived"] += 1
        self.account["retried"] += arrival.retry > 0
        self._last_event = arrival.at
        if arrival.line in self._proven:
            self._proven[arrival.line] = None
        if arrival.kind == "interactive":
            self._to_interactions(arrival, user_of(arrival.payload))
            return
        event = arrival.payload.get("event")
        if arrival.kind != "events_api" or not isinstance(event, dict):
            self._leave_out(arrival, arrival.kind if arrival.kind == "slash_commands" else "no_event")
            return
        kind = str(event.get("type"))
        if kind == "app_home_opened":
            self._to_interactions(arrival, user_of(event))
            return
        if kind in GONE:
            self._is_gone(kind, event)
        channel = channel_of(event)
        if channel is None:
            self._leave_out(arrival, "no_channel")
            return
        if (why := self._why_left_out(channel, arrival.payload)) is not None:
            self._leave_out(arrival, why)
            return
        received_at = int(arrival.at * 1e6)
        record = record_of(arrival.payload, received_at)
        if len(record) + len(channel) > self._events.most:
            log.error("an event is larger than what the topic takes, and is left out", extra={"channel": channel, "bytes": len(record)})
            self._leave_out(arrival, "too_large")
            return
        facts = facts_of(record, received_at)
        is_copy = facts in self._known
        if not is_copy:
            self._known.add(facts)
            self.account["delayed"] += self._covered is not None and facts.t < self._covered - OVERLAP and facts.key is not None
        message = None if is_copy else kafka.Message(channel.encode(), record)
        if channel not in self._channels and channel not in self._gaps:
            self._gaps[channel] = Gap(None, self._generation)
            self._ask_for(channel, 0)
        gap = self._gaps.get(channel)
        if gap is None and self._is_missing_something():
            self._gaps[channel] = gap = Gap(None, -1)  # asked for as soon as all is connected
        if gap is not None:
            if not gap.held and gap.generation >= 0 and gap.since is not None:
                self._ask_for(channel, 0)
            gap.held.append(Held(arrival, message, facts.t))
            return
        if message is not None:
            self._messages.append(message)
        self._count_written(arrival, is_copy=is_copy)
        self._done.append(arrival.acknowledge)

    def _is_missing_something(self) -> bool:
        """Whether gaps are about to be opened: what comes before that has to wait, too."""
        return not self._listed or len(self._up) < len(self._lines)

    def _count_written(self, arrival: slack_live.Arrival, *, is_copy: bool) -> None:
        self.account["duplicate" if is_copy else "written"] += 1
        if not is_copy:
            self._types[str(arrival.payload["event"].get("type"))] += 1

    def _leave_out(self, arrival: slack_live.Arrival, why: str) -> None:
        self.account[f"left_out:{why}"] += 1
        self._done.append(arrival.acknowledge)

    def _why_left_out(self, channel: str, payload: Mapping[str, Any]) -> str | None:
        """Why a channel's events are not for the topic; None if they are, or if it is not known yet what it is."""
        info = self._channels.get(channel)
        kind = "dms" if channel.startswith("D") else None if info is None else kind_of(info)
        if kind is not None and kind not in self._include:
            return kind
        told = payload.get("is_ext_shared_channel")
        known = info or {}
        is_shared = told if isinstance(told, bool) else known.get("is_ext_shared") or known.get("is_pending_ext_shared")
        return "shared" if is_shared and not self._ours.shared else None

    def _to_interactions(self, arrival: slack_live.Arrival, user: str) -> None:
        """As Slack sent it, under the user's id; written at once, since somebody waits."""
        event_id = str(arrival.payload.get("event_id") or arrival.payload.get("trigger_id") or arrival.name)
        facts = Facts(int(arrival.at * 1e6), None, event_id, None, None, None)
        if facts in self._known:
            self.account["duplicate"] += 1
            self._done.append(arrival.acknowledge)
            return
        self._known.add(facts)
        value = orjson.dumps({name: each for name, each in arrival.payload.items() if name != "token"})
        self._interactions.send([kafka.Message(user.encode() or None, value)])
        self.account["interactions"] += 1
        self._done.append(arrival.acknowledge)

    def _is_gone(self, kind: str, event: Mapping[str, Any]) -> None:
        if kind == "tokens_revoked" and not (event.get("tokens") or {}).get("bot"):
            return
        raise SlackFailed(
            f"Slack says {kind}: the app was removed from the workspace. Its policy wants the workspace's data deleted within 14"
            " business days (docs/slack.md); to go on, install the app again and set the new token"
        )

    # What is told

    def held(self) -> int:
        """Arrivals that wait for their channel's history, and are not acknowledged."""
        return sum(len(gap.held) for gap in list(self._gaps.values()))

    def counts(self) -> dict[str, int]:
        return dict(self.account) | {"rate_limited": self._web.limited}

    def types_written(self) -> dict[str, int]:
        return dict(self._types)

    def gauges(self) -> dict[str, float]:
        return {
            "connected": float(len(self._up) == len(self._lines)),
            "gaps": len(self._gaps),
            "waiting": self.held(),
            "last_event": self._last_event or 0.0,
            "ahead": self._web.ahead,
        }


def now_us() -> int:
    """The machine's time, microseconds."""
    return time.time_ns() // 1000


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


def report_of(job: Job, account: Counter[str], held: int, began: float) -> dict[str, Any]:
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
