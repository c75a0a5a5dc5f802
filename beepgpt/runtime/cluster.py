"""A flow in Bytewax's own runner, which brings processes together, keeps the recovery store and says when a snapshot is taken."""

from __future__ import annotations

import atexit
import logging
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from prometheus_client.registry import Collector

from beepgpt.config.settings import BadSettings, Settings
from beepgpt.connectors import kafka
from beepgpt.conversations.account import sum_of
from beepgpt.runtime import logs
from beepgpt.runtime.connections import is_kafka
from beepgpt.runtime.destinations import Topics, destination_of
from beepgpt.runtime.places import Origin
from beepgpt.runtime.workers import Worker

log = logging.getLogger("beepgpt")


def cluster_topics(settings: Settings, source: str, to: str) -> tuple[Origin, Topics]:
    """The topics in the settings' section `cluster`. Raises BadSettings if they name none; `source` and `to` are its message's examples."""
    ours = settings.cluster
    if not (is_kafka(ours.source) and is_kafka(ours.to)):
        raise BadSettings(
            [
                f"a cluster reads and writes topics: set BEEPGPT_CLUSTER__SOURCE=kafka://host:port/{source}?follow=true and"
                f" BEEPGPT_CLUSTER__TO=kafka://host:port/{to} (or the same in the file that BEEPGPT_CONFIG names)"
            ]
        )
    destination = destination_of(ours.to, settings)
    assert isinstance(destination, Topics)
    return Origin(ours.source, address=kafka.parse_address(ours.source)), destination


class ClusterWorker(Worker):
    """One process of a Bytewax cluster. Bytewax decides which partitions it reads and which shards it follows."""

    def __init__(self, settings: Settings) -> None:
        """From now on it logs as the settings say, and SIGTERM and SIGINT stop its reading."""
        super().__init__(settings)
        logs.configure(settings.run.log_level, settings.run.log_format)
        self.stop.listen()

    def fail(self, error: Exception) -> None:
        """Logs what stops the flow: the engine does not say what was raised in a step."""
        log.error("%s", error, extra={"kind": type(error).__name__})

    def start(self, origin: Origin, to: str, figures: Collector, *beside: AbstractContextManager[Any]) -> None:
        """Serves metrics, and opens what is `beside`, until the process ends; then logs the account, which a flow that failed hasn't."""
        stack = ExitStack()
        for each in (self.serving(figures), *beside):
            stack.enter_context(each)
        atexit.register(stack.close)
        atexit.register(self._log_account)
        log.info("started", extra={"source": origin.text, "to": to})

    def _log_account(self) -> None:
        if self.accounts:
            log.info("account", extra={"account": sum_of(self.accounts).as_json()})
