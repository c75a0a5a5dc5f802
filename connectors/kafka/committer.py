"""Commits offsets to a group, for tools that show lag."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

from beepgpt.connectors.kafka.connection import RETRY, Connection, admin_of
from beepgpt.connectors.kafka.errors import KafkaFailed
from beepgpt.connectors.kafka.library import (
    OffsetAndMetadata,
    TopicPartition,
)

log = logging.getLogger(__name__)


class Committer:
    """Commits offsets to a group in a thread of its own: reading never waits for it, and failures are only logged."""

    def __init__(self, connection: Connection, topic: str, group: str) -> None:
        self._connection = connection
        self._topic = topic
        self._group = group
        self._noted: dict[int, int] = {}
        self._wake = threading.Condition()
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def note(self, number: int, offset: int) -> None:
        """Queues an offset of a partition to be committed."""
        with self._wake:
            self._noted[number] = offset
            self._is_closing = False
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="kafka-committer", daemon=True)
                self._thread.start()
            self._wake.notify()

    def close(self) -> None:
        """Waits up to 3 seconds until queued offsets are committed."""
        thread = self._thread
        if thread is not None:
            with self._wake:
                self._is_closing = True
                self._wake.notify()
            thread.join(3)

    def _run(self) -> None:
        failures = 0
        while noted := self._next():
            problem = self._commit(noted)
            failures = failures + 1 if problem else 0
            if problem and failures % 10 == 5:  # a group's first commit takes a few tries: its coordinator is only then made
                log.warning("offsets of group %s are not committed: %s", self._group, problem)
            if problem and not (self._is_closing and failures > 10):
                self._keep(noted)

    def _commit(self, noted: Mapping[int, int]) -> str:
        """Commits offsets by partition; returns what went wrong, or nothing."""
        offsets = {TopicPartition(self._topic, number): OffsetAndMetadata(offset, "", -1) for number, offset in noted.items()}
        try:
            with admin_of(self._topic, self._connection) as admin:
                results = admin.alter_group_offsets(self._group, offsets).values()
        except KafkaFailed as error:
            return str(error)
        return ", ".join(sorted({each.__name__ for each in results} - {"NoError"}))

    def _keep(self, noted: Mapping[int, int]) -> None:
        """Queues offsets for another try, unless newer ones were queued."""
        time.sleep(RETRY)
        with self._wake:
            self._noted = {**noted, **self._noted}

    def _next(self) -> dict[int, int]:
        """Waits for queued offsets and takes them; empty when closing."""
        with self._wake:
            while not self._noted and not self._is_closing:
                self._wake.wait()
            noted, self._noted = self._noted, {}
            if not noted:
                self._thread = None
            return noted
