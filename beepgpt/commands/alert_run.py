"""One run of `beepgpt alert`: its sources, store, delivery and metrics, wired and run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from beepgpt import __version__
from beepgpt.alerts.database import AlertStoreView
from beepgpt.alerts.deciding import AlertDecider
from beepgpt.alerts.decisions import is_quiet
from beepgpt.alerts.delivery import AlertDelivery
from beepgpt.alerts.reading import AlertSource, closing_account, run_loop
from beepgpt.alerts.store import AlertStore
from beepgpt.clock import now_us
from beepgpt.commands import alerting
from beepgpt.commands.alert import policy_of, say_new, say_nobody_opts, say_threshold, threshold_of
from beepgpt.commands.alert_sources import source_of
from beepgpt.config.settings import Settings, revealed
from beepgpt.connectors.log import LogFailed, PositionLost, parse_address
from beepgpt.connectors.slack.alerts import SlackMessenger
from beepgpt.connectors.slack.members import ListedMembers
from beepgpt.connectors.webhook import webhook
from beepgpt.conversations.rules import shaping_settings
from beepgpt.errors import BadCommand
from beepgpt.runtime import metrics
from beepgpt.runtime.console import console, print_event
from beepgpt.runtime.flow_metrics import AlertFigures, AlertPulse, Waits
from beepgpt.runtime.forgotten import forgotten_of
from beepgpt.runtime.outages import Reached, watching
from beepgpt.runtime.places import is_topic, log_of
from beepgpt.runtime.specs import SpecCheck, SpecFound
from beepgpt.runtime.workers import Stop
from beepgpt.training.live import LiveThresholds, SayPair, card_in, live_in

log = logging.getLogger("beepgpt")


def run_alerts(
    places: Mapping[str, str | None], to: str | None, model: Path | None, members_of: Path | None, settings: Settings
) -> dict[str, Any]:
    """Read, decide and deliver until everything is read and delivered, or the user stops it. Returns the closing account.

    `places`: where predictions, interactions, deletions and outcomes are read; None: not. `members_of`: an export, in place of Slack.
    """
    ours = settings.alerts
    found = threshold_of(settings, model)
    say_threshold(model, found)
    thresholds = LiveThresholds(model, ours.threshold)
    policy = replace(policy_of(settings, found.value), thresholds=thresholds)
    url = revealed(ours.webhook)
    if url and urlsplit(url).scheme not in ("http", "https"):
        raise BadCommand("alerts.webhook: an address with https:// is expected, or with http:// on this machine")
    call_webhook = webhook(url, revealed(ours.webhook_secret), revealed(ours.webhook_proxy)) if url else None
    made_with, who = shaping_of(settings, model)
    check_spec = spec_check(SpecCheck(made_with, who), settings, places)
    shaping = made_with.recorded or shaping_settings(settings.rules)
    policy = replace(policy, session_gap=shaping["session_gap"])
    stop = Stop()
    with ExitStack() as stack:
        stack.enter_context(stop.listening())
        slack = alerting.slack_of(settings)
        members = slack if members_of is None else ListedMembers(members_of)
        if members is None:
            raise BadCommand(
                "nobody can say who may see which channel: set slack.bot_token (BEEPGPT_SLACK__BOT_TOKEN), or give --members EXPORT;"
                " alerts that may not be seen are never delivered"
            )
        if slack is not None:
            console.print(f"Slack: {slack.check()}")
        store = stack.enter_context(closing(AlertStore(ours.store, alone=True)))
        follows = is_topic(places["predictions"] or "") and parse_address(places["predictions"] or "").follow
        if store.is_new:
            say_new(store, follows=follows, is_first=alerting.is_unused(to, settings))
        if slack is not None and places["interactions"] is None:
            say_nobody_opts(settings, AlertStoreView(store).people()["in"], places["predictions"] or "")
        matcher = alerting.matcher_of(settings, stack)
        if follows:
            policy = replace(policy, not_before=store.born)  # what was before may have been alerted by a store that is lost
        decider = AlertDecider(
            store, policy, matcher=matcher, forgotten=forgotten_of(settings), bots=shaping["bots"], check_spec=check_spec
        )
        prepare = None if matcher is None else alerting.prepare_with(matcher, decider)
        pulse = AlertPulse()

        def is_stopping() -> bool:
            pulse.beat()
            return stop()

        readers = (
            ("interactions", lambda record, now, released, place: decider.apply_interaction(record, place)),
            ("deletions", decider.apply_record),
            ("outcomes", decider.apply_record),
            ("predictions", decider.apply_record),
        )  # preferences and deletions first
        sources = [
            stack.enter_context(
                closing(source_of(name, place, settings, decider, apply, prepare if name == "predictions" else None, is_stopping))
            )
            for name, apply in readers
            if (place := places[name]) is not None
        ]
        waits = {"release": Waits(), "message": Waits()}
        delivery = AlertDelivery(
            store,
            policy,
            members,
            slack,
            clock=now_us,
            forward=alerting.forward_to(to, settings, stack, is_stopping),
            forwarded_to=alerting.destination_kind(to),
            webhook=call_webhook,
            digest_at=ours.digest_at,
            kept=ours.kept,
            beat=pulse.beat,
            observe=lambda since, seconds: waits[since].add(seconds),
        )
        if settings.run.metrics_port:
            figures = figures_of(store, decider, waits, slack, sources, thresholds)
            stack.enter_context(metrics.serve(settings.run.metrics_port, settings.run.metrics_host, figures, pulse))
        if model is not None and ours.threshold is None:
            pair = SayPair(model, "alerts", lambda: ((name := thresholds.model), thresholds(name)), print_event)
            stack.enter_context(pair.watched())
        log.info("started", extra={"source": places["predictions"], "threshold": thresholds.current})
        waiting = AlertStoreView(store).waiting
        stack.enter_context(watching(lambda: {"messages_waiting": sum(waiting().values())}, lambda: reached_by(sources)))
        try:
            run_loop(sources, delivery, pulse, stop)
        except PositionLost as error:
            again = "give the same command again: it reads the topic from its beginning, nobody is alerted twice"
            raise LogFailed(f"{error.what}: {again}, and {store.path} keeps what people asked for") from error
        log.info("stopped" if stop() else "ended", extra={"signal": stop.signal})
        return closing_account(store, thresholds.current)


def shaping_of(settings: Settings, model: Path | None) -> tuple[SpecFound, str]:
    """What predictions have to be made with, and whose settings these are: the model's, whose threshold is taken; without one, these."""
    if model is not None and (card := card_in(live_in(model))):
        return SpecFound(str(card.get("spec")), card.get("settings")), f"the examples of {model}"
    return SpecFound(settings.rules.spec, shaping_settings(settings.rules)), "these settings"


def spec_check(check: SpecCheck, settings: Settings, places: Mapping[str, str | None]) -> SpecCheck:
    """Check what stands on the topics; returns the check. Raises OtherState."""
    for name in ("predictions", "outcomes"):
        if (place := places[name]) is not None and is_topic(place):
            address = parse_address(place)
            check.look(log_of(settings, address), address.topic)
    return check


def reached_by(sources: Sequence[AlertSource]) -> Reached:
    """How far all sources are read. Predictions have no heartbeats."""
    return Reached(sum(each.records for each in sources), sum(lag for each in sources for lag in list(each.lags.values())))


def figures_of(
    store: AlertStore,
    decider: AlertDecider,
    waits: Mapping[str, Waits],
    slack: SlackMessenger | None,
    sources: Sequence[AlertSource],
    thresholds: LiveThresholds,
    clock: Callable[[], int] = now_us,
) -> AlertFigures:
    """The metrics of a run, read whenever they are scraped. `clock`: microseconds."""
    policy = decider.policy

    def is_quiet_for(begin: int | None, end: int | None, zone: str | None) -> bool:
        return is_quiet(clock(), policy.quiet if begin is None or end is None else (begin, end), zone or policy.zone)

    view = AlertStoreView(store, is_quiet_for)
    return AlertFigures(
        counts=view.counts,
        waiting=view.waiting,
        people=view.people,
        feedback=view.feedback,
        waits=lambda: waits,
        newest=lambda: decider.newest,
        calls=lambda: {} if slack is None else dict(slack.calls),
        lags=lambda: {place: records for source in sources for place, records in list(source.lags.items())},
        clock=lambda: clock() / 1_000_000,
        build=lambda: {"version": __version__, **in_use(thresholds)},
    )


def in_use(thresholds: LiveThresholds) -> dict[str, str]:
    """The pair that is live now, for metrics: its threshold, and its model unless the threshold was set."""
    return {"threshold": f"{thresholds.current:g}", **({"model": model} if (model := thresholds.model) else {})}
