"""`beepgpt alert`: tells people about conversations, from predictions; a process of its own, so that Slack's pace holds up nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import orjson
import typer
from rich.table import Table

from beepgpt.alerts.store import AlertStore, AlertView
from beepgpt.commands.flags import with_settings
from beepgpt.config.settings import Settings, with_flags
from beepgpt.connectors import kafka
from beepgpt.connectors.files import jsonl
from beepgpt.conversations.events import micros
from beepgpt.errors import BadCommand
from beepgpt.runtime import metrics
from beepgpt.runtime.alert_metrics import AlertFigures, AlertPulse
from beepgpt.runtime.clock import now_us
from beepgpt.runtime.connections import connection_of, is_kafka
from beepgpt.runtime.console import console
from beepgpt.runtime.places import check_apart, topic_of
from beepgpt.runtime.workers import Stop, program_version

if TYPE_CHECKING:
    from beepgpt.alerts.delivery import AlertDelivery, Members
    from beepgpt.alerts.embeddings import Embeddings
    from beepgpt.alerts.handling import AlertDecider
    from beepgpt.connectors.slack.alerts import SlackMessenger

PANEL = "Alerts"
REST = 0.1
"""Seconds between two looks where there was nothing to do."""
INSTALL = "pip install 'beepgpt[slack]'"

log = logging.getLogger("beepgpt")


@with_settings
def alert(
    source: Annotated[
        str, typer.Argument(metavar="PREDICTIONS", help="kafka://host:port/slack.predictions?follow=true, or a .jsonl path.")
    ],
    settings: Settings,
    interactions: Annotated[
        str | None, typer.Option(help="What people do in Slack: kafka://host:port/slack.interactions?follow=true, or a .jsonl path.")
    ] = None,
    outcomes: Annotated[str | None, typer.Option(help="What happened, as scoring tells it: counts how often it was right.")] = None,
    deletions: Annotated[
        str | None, typer.Option(help="Messages that were deleted: slack.events itself, or what scoring writes of them.")
    ] = None,
    to: Annotated[str | None, typer.Option(help="Where each alert goes, too: kafka://host:port/slack.alerts, a .jsonl path, or -.")] = None,
    model: Annotated[Path | None, typer.Option(help="The model's folder: its validated threshold is taken.", rich_help_panel=PANEL)] = None,
    threshold: Annotated[float | None, typer.Option(help="How likely an answer has to be.", rich_help_panel=PANEL)] = None,
    list_from: Annotated[float | None, typer.Option(help="From here on it is listed in silence.", rich_help_panel=PANEL)] = None,
    per_hour: Annotated[int | None, typer.Option(help="Messages to one person an hour, at most.", rich_help_panel=PANEL)] = None,
    opted_in: Annotated[
        bool | None, typer.Option("--opted-in/--opt-in", help="Tell everybody who doesn't turn it off.", rich_help_panel=PANEL)
    ] = None,
    store: Annotated[Path | None, typer.Option(help="The file of what people asked for and were told.", rich_help_panel=PANEL)] = None,
    members: Annotated[
        Path | None, typer.Option(help="Without Slack: an export that says who may see which channel.", show_default=False)
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the closing account here, as JSON.")] = None,
) -> None:
    """Tell people about conversations they would want to be in: in Slack, on a topic, by a webhook, here."""
    given = {"threshold": threshold, "list_from": list_from, "per_hour": per_hour, "opted_in": opted_in, "store": store}
    settings = with_flags(settings, "alerts", given)
    for place in (source, interactions, outcomes, deletions):
        if place is not None and "://" not in place:
            jsonl.check_readable(Path(place))  # before a store is made
    written = [Path(each) for each in (to, report) if each is not None and each != "-" and not is_kafka(str(each))]
    for path in written:
        jsonl.check_writable(path)
    read = {"interactions": interactions, "outcomes": outcomes, "deletions": deletions, "members": members}
    check_apart(source, written, **read, store=settings.alerts.store)
    job = AlertJob(source, interactions, outcomes, deletions, to, model, members, settings)
    account = run_alerts(job)
    print_account(account)
    if report is not None:
        jsonl.write_file(report, orjson.dumps(account, option=orjson.OPT_INDENT_2) + b"\n")


@dataclass(frozen=True)
class AlertJob:
    """An `alert` command, as it was given."""

    predictions: str
    interactions: str | None
    outcomes: str | None
    deletions: str | None
    to: str | None
    model: Path | None
    members: Path | None
    settings: Settings


def run_alerts(job: AlertJob) -> dict[str, Any]:
    """Reads, decides and gives until everything is read and given, or somebody asks to stop. Returns what was counted."""
    if find_spec("slack_sdk") is None:
        raise BadCommand(f"beepgpt alert needs slack_sdk, which is not installed: {INSTALL}")
    from beepgpt.alerts.handling import AlertDecider, policy_of

    limit = threshold_of(job.settings, job.model)
    policy = policy_of(job.settings, limit)
    stop = Stop()
    with ExitStack() as stack:
        stack.enter_context(stop.listening())
        slack = slack_of(job.settings)
        if slack is None and job.members is None:
            raise BadCommand(
                "nobody can say who may see which channel: set slack.bot_token (BEEPGPT_SLACK__BOT_TOKEN), or give --members EXPORT;"
                " alerts that may not be seen are never given"
            )
        if slack is not None:
            console.print(f"Slack: {slack.check()}")
        store = stack.enter_context(closing(AlertStore(job.settings.alerts.store, alone=True)))
        embeddings = embeddings_of(job.settings, stack)
        desk = AlertDecider(store, policy, matcher=embeddings)
        prepare = None if embeddings is None else preparing(embeddings, desk)
        pulse = pulse_of(job.settings)
        streams = [stack.enter_context(closing(each)) for each in streams_of(job, desk, store, prepare)]
        courier = courier_of(job, store, policy, slack, stack, pulse)
        if job.settings.run.metrics_port:
            figures = figures_of(store, desk, courier, slack, streams, limit)
            stack.enter_context(metrics.serve(job.settings.run.metrics_port, job.settings.run.metrics_host, figures, pulse))
        log.info("started", extra={"source": job.predictions, "threshold": limit})
        while not stop():
            pulse.beat()
            read = [stream.read() for stream in streams]
            if pulse.missing:
                pulse.missing = "; ".join(told for stream in streams if (told := stream.missing()))
            gave = courier.work()
            if not any(read) and not gave:
                if all(stream.is_over for stream in streams):
                    if courier.is_idle():
                        break
                    pulse.end()
                time.sleep(REST)
        log.info("stopped" if stop() else "ended", extra={"signal": stop.signal})
        return account_of(store, limit)


# What a monitor is told


def pulse_of(settings: Settings) -> AlertPulse:
    """Whether its loop turns. What waits for the brokers may wait as long as it has patience; then the run ends by itself."""
    return AlertPulse(asked_within=max(60, settings.kafka.patience / 1e6 + 30))


def figures_of(
    store: AlertStore, desk: AlertDecider, courier: AlertDelivery, slack: SlackMessenger | None, streams: Sequence[Stream], threshold: float
) -> AlertFigures:
    """All of them, as they are whenever somebody asks."""
    view = AlertView(store)
    return AlertFigures(
        counts=view.counts,
        waiting=view.waiting,
        people=view.people,
        feedback=view.feedback,
        waits=lambda: courier.waits,
        newest=lambda: desk.newest,
        calls=lambda: {} if slack is None else dict(slack.calls),
        lags=lambda: {place: records for stream in streams for place, records in list(stream.lags.items())},
        build={"version": program_version(), "threshold": f"{threshold:g}"},
    )


def threshold_of(settings: Settings, model: Path | None) -> float:
    """How likely an answer has to be: as it was set, or as validation found for the model."""
    if settings.alerts.threshold is not None:
        return settings.alerts.threshold
    if model is None:
        raise BadCommand("how likely must an answer be? Give --model DIR, whose validated threshold is taken, or --threshold 0.5")
    path = model / "metrics.json"
    if not path.exists():
        validate = "was not validated: beepgpt validate SET --model"
        what = validate if (model / "model.json").is_file() else "is no trained model: beepgpt train SET --to"
        raise BadCommand(f"--model {model}: {what} {model}, or give --threshold 0.5 in its place")
    jsonl.check_readable(path)
    from beepgpt.training.reloading import CARD, is_of_card

    try:
        figures = orjson.loads(path.read_bytes())
        chosen = figures["threshold"]
        if (card := model / CARD).exists() and not is_of_card(figures, orjson.loads(card.read_bytes())):
            raise BadCommand(f"{path}: is of another model than the one that stands there now: validate that one, or give --threshold")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadCommand(f"{path}: is nothing that `beepgpt validate` wrote: validate the model, or give --threshold") from error
    if chosen is None:
        raise BadCommand(
            f"{path}: no threshold reached the precision that was asked for: give --threshold, or validate with a lower --precision"
        )
    return float(chosen["threshold"])


def slack_of(settings: Settings) -> SlackMessenger | None:
    """Slack, where there is a token."""
    from beepgpt.connectors.slack.alerts import SlackMessenger

    token = settings.slack.bot_token
    return None if token is None else SlackMessenger(token.get_secret_value(), settings.slack.base_url)


def embeddings_of(settings: Settings, stack: ExitStack) -> Embeddings | None:
    """Who asks a provider about topics and messages, where the settings say so; that it answers is seen before anything else."""
    if settings.alerts.topics == "words":
        return None
    from beepgpt.alerts.embeddings import PATIENCE, Embeddings
    from beepgpt.commands.models import check_may_leave, client_of, may_leave_by
    from beepgpt.errors import ProviderFailed

    check_may_leave(settings.provider, 'alerts.topics = "embeddings" asks about what people wrote')
    client, model = stack.enter_context(client_of(settings)), settings.alerts.embedding_model
    try:
        client.embed(model, [PROBE], PATIENCE).result()
    except ProviderFailed as error:
        raise BadCommand(f"alerts.embedding_model {model} at {client.provider.place}: {error}") from error
    return Embeddings(lambda texts, seconds: client.embed(model, texts, seconds), may_leave_by(settings.provider))


def preparing(embeddings: Embeddings, desk: AlertDecider) -> Callable[[Sequence[bytes], int], None]:
    """Before a chunk of predictions is decided on, while the store is not held: what it needs is asked for."""

    def prepare(records: Sequence[bytes], now: int) -> None:
        topics = sorted({words for _, words in desk.store.topics()})
        if topics:
            for what, count in embeddings.prepare(topics, desk.texts_of(records, now)).items():
                if count:
                    desk.store.count(f"topics:{what}", count)

    return prepare


PROBE = "Is it there?"
"""Embedded once before anything else; nobody wrote it."""


def courier_of(
    job: AlertJob, store: AlertStore, policy: Any, slack: SlackMessenger | None, stack: ExitStack, pulse: AlertPulse
) -> AlertDelivery:
    """Who gives the alerts, and to whom."""
    from beepgpt.alerts.delivery import AlertDelivery
    from beepgpt.connectors.slack.members import ListedMembers

    ours = job.settings.alerts
    members: Members
    if job.members is not None:
        members = ListedMembers(job.members)
    else:
        assert slack is not None
        members = slack
    webhook = None if ours.webhook is None else webhook_of(ours.webhook.get_secret_value())
    return AlertDelivery(
        store,
        policy,
        members,
        slack,
        clock=now_us,
        hand_on=handing_on(job, stack),
        webhook=webhook,
        digest_at=ours.digest_at,
        kept=ours.kept,
        handed_to="" if job.to is None else "topic" if is_kafka(job.to) else "console" if job.to == "-" else "file",
        alive=pulse.beat,
    )


def handing_on(job: AlertJob, stack: ExitStack) -> Callable[[Sequence[Mapping[str, Any]]], None]:
    """Where each alert goes, too. What was handed on when we were killed may be handed on again, with the same id and bytes."""
    if job.to is None:
        return lambda alerts: None
    if is_kafka(job.to):
        address = topic_of(job.to, "--to")
        connection = connection_of(job.settings, address.bootstrap)
        writer = stack.enter_context(kafka.Writer(connection, address.topic, patience=job.settings.kafka.patience / 1e6))

        def to_topic(alerts: Sequence[Mapping[str, Any]]) -> None:
            writer.send(kafka.OutgoingRecord(each["user"].encode(), orjson.dumps(each)) for each in alerts)
            writer.flush()

        return to_topic
    if "://" in job.to:
        raise BadCommand(f"--to {job.to}: a .jsonl path, - or kafka://host:port/topic is expected")
    path = None if job.to == "-" else Path(job.to)
    if path is not None:
        jsonl.check_writable(path)

    def to_lines(alerts: Sequence[Mapping[str, Any]]) -> None:
        lines = b"".join(orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in alerts)
        if path is None:
            typer.echo(lines, nl=False)
            return
        try:
            with path.open("ab") as file:
                file.write(lines)
        except OSError as error:
            raise jsonl.cannot_write(path, error) from error

    return to_lines


def webhook_of(url: str) -> Callable[[Mapping[str, Any]], bool]:
    """Gives an alert to a web server of yours, and says whether it took it."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise BadCommand("alerts.webhook: an address with http:// or https:// is expected")
    import http.client

    from slack_sdk.errors import SlackClientError
    from slack_sdk.webhook import WebhookClient

    silent = logging.getLogger("beepgpt.commands.alert.webhook")  # it would log what was sent
    silent.propagate = False
    client = WebhookClient(url, timeout=10, retry_handlers=[], logger=silent)

    def call(value: Mapping[str, Any]) -> bool:
        try:
            return 200 <= client.send_dict(dict(value), headers={"Idempotency-Key": value["id"]}).status_code < 300
        except (OSError, http.client.HTTPException, ValueError, SlackClientError):
            return False

    return call


# Reading

Take = Callable[[bytes, int, int | None, str], None]
"""What becomes of a record, at a time; when its point was released, if that is known; and where it stands."""


class Stream:
    """A source, read a chunk at a time; what comes of a chunk and how far it goes are written down together."""

    def __init__(
        self,
        name: str,
        source: Any,
        parts: Mapping[str, Any],
        store: AlertStore,
        take: Take,
        *,
        follows: bool,
        prepare: Callable[[Sequence[bytes], int], None] | None = None,
        ends: Mapping[str, int] | None = None,
        lags: Mapping[tuple[str, int], int] | None = None,
    ) -> None:
        """`ends`: where each part ended when this run began, by its name; `lags`: what is ahead, kept up to date by whoever reads."""
        self._name, self._source, self._store, self._take = name, source, store, take
        self._behind = dict(ends or {})
        self.lags = lags if lags is not None else {}
        self._prepare = prepare
        self._parts = dict(parts)
        self._follows = follows

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return not self._parts and not self._follows

    def missing(self) -> str:
        """What of all that was there when this run began is still to be read; empty once it was."""
        for name, end in list(self._behind.items()):
            if name not in self._parts or self._parts[name].has_come_to(end):
                del self._behind[name]
        if not self._behind:
            return ""
        return f"{self._name}: {len(self._behind)} of {len(self._parts)} partitions are not read to where they ended at the start"

    def read(self) -> bool:
        """A chunk of each of its parts; whether there was any."""
        found = False
        for name, part in list(self._parts.items()):
            try:
                chunks = part.next_batch()
            except StopIteration:
                self._parts.pop(name).close()
                continue
            if not any(values for _, _, values in chunks):
                continue
            found = True
            records = [
                (f"{whole}:{first + number}", each, None) if isinstance(each, bytes) else (f"{whole}:{each.offset}", *told_in(each))
                for whole, first, values in chunks
                for number, each in enumerate(values)
            ]
            if self._prepare is not None:
                self._prepare([record for _, record, _ in records], now_us())
            now = now_us()
            with self._store.transaction():
                for place, record, released in records:
                    self._take(record, now, released, place)
                self._store.set_place(self._name, name, list(part.snapshot()))
        return found

    def close(self) -> None:
        """Stops reading."""
        for part in self._parts.values():
            part.close()


def told_in(record: kafka.Record) -> tuple[bytes, int | None]:
    """A record's value, and when its point was released, as scoring wrote it beside."""
    released = dict(record.headers).get("released_at", b"").decode("ascii", "replace")
    with suppress(ValueError):
        return record.value or b"", micros(released)
    return record.value or b"", None


def streams_of(job: AlertJob, desk: Any, store: AlertStore, prepare: Callable[[Sequence[bytes], int], None] | None) -> Iterator[Stream]:
    """What is to be read, each from where it was left: what people asked for and what was deleted first."""
    given: list[tuple[str, str | None, Take]] = [
        ("interactions", job.interactions, lambda record, now, released, place: desk.interaction(record, place)),
        ("deletions", job.deletions, desk.record),
        ("outcomes", job.outcomes, desk.record),
        ("predictions", job.predictions, desk.record),
    ]
    for name, place, take in given:
        if place is not None:
            yield stream_of(name, place, job, store, take, prepare if name == "predictions" else None)


def stream_of(
    name: str,
    place: str,
    job: AlertJob,
    store: AlertStore,
    take: Take,
    prepare: Callable[[Sequence[bytes], int], None] | None,
) -> Stream:
    """One of them. A topic's records from before what is remembered can make no difference, and are passed over."""
    if is_kafka(place):
        address = kafka.parse_address(place)
        since = address.since
        if since is None and name != "interactions":
            since = max(now_us() - job.settings.alerts.kept, 0)
        lags: dict[tuple[str, int], int] = {}

        def note_lags(ahead: Mapping[int, int]) -> None:
            lags.update({(address.topic, number): records for number, records in ahead.items()})

        source = kafka.KafkaSource(
            connection_of(job.settings, address.bootstrap),
            address.topic,
            since=since,
            until=address.until,
            follow=address.follow,
            on_lag=note_lags,
            patience=job.settings.kafka.patience / 1e6,
        )
        identity = f"{name}:kafka:{address.topic}"
        parts = {}
        for each in source.list_parts():
            before = store.place(identity, each)
            end = source.bounds[int(each)][1]
            state = None if before is None else kafka.KafkaState(*before)._replace(end=end)
            parts[each] = source.build_part("read", each, state)
        ends = {str(number): end for number, end in source.ends.items()}
        return Stream(identity, source, parts, store, take, follows=address.follow, prepare=prepare, ends=ends, lags=lags)
    if "://" in place:
        raise BadCommand(f"{name} {place}: a .jsonl path or kafka://host:port/topic is expected")
    path = Path(place)
    file = jsonl.JsonlSource(path, max_line=1 << 30)
    identity = f"{name}:{path.resolve()}"
    before = store.place(identity, jsonl.PARTITION)
    part = file.build_part("read", jsonl.PARTITION, None if before is None else (before[0], before[1]))
    return Stream(identity, file, {jsonl.PARTITION: part}, store, take, follows=False, prepare=prepare)


# The account


def account_of(store: AlertStore, threshold: float) -> dict[str, Any]:
    """All that was counted since the store was made, and where the alerts stand that are remembered."""
    counts = store.counts()
    answered, not_answered = counts.get("answer:answered", 0), counts.get("answer:not_answered", 0)
    return {
        "command": "alert",
        "threshold": threshold,
        "alerts": store.states(),
        "counts": counts,
        "right": None if not answered + not_answered else round(answered / (answered + not_answered), 4),
    }


def print_account(account: Mapping[str, Any]) -> None:
    """The closing account, as a table."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, count in account["counts"].items():
        table.add_row(name.replace("_", " ").replace(":", ", "), f"{count:,}")
    console.print(table)
    if account["right"] is not None:
        console.print(f"{account['right']:.1%} of those who were told of a conversation whose outcome is known were the next to answer.")
