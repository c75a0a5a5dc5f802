"""The next generation of a log, and of all that is made of it, built beside the live one while that goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from operator import itemgetter
from pathlib import Path

import orjson

from beepgpt.connectors.callbacks import never
from beepgpt.connectors.log import Log, OutgoingRecord
from beepgpt.conversations.record_order import timed_record
from beepgpt.errors import RunStopped
from beepgpt.folders import make_folder
from beepgpt.runtime.recovery import noted_in
from beepgpt.up.children import free_port
from beepgpt.up.enough import ExamplesSoFar
from beepgpt.up.jobs import TRAINING, Jobs
from beepgpt.up.plan import UpPlan
from beepgpt.up.served import has_caught_up


class NextGeneration:
    """What is to take the live generation's place. A kill at any moment leaves the live one as it is. All methods raise BeepGPTError."""

    def __init__(self, plan: UpPlan, jobs: Jobs, log: Log) -> None:
        self._live, self._plan = plan, replace(plan, data=plan.data.next)
        self._jobs, self._log = jobs, log
        self._read_to: dict[int, int] = {}
        """Up to which offset the live log is in the next one, by partition."""

    def write_log(self, history: Path | None) -> None:
        """Write what the live log has by now, and a history, in the order of time."""
        live, data = self._live.data, self._plan.data
        live.check_room()
        live.begin_next(self._log)
        self._must("topics", *self._plan.topics)
        make_folder(data.recovery(""))
        report = data.recovery("log.json")
        merged = () if history is None else ("--with", history)
        how = ("--include", self._plan.include, "--scratch", live.path, "--report", report)
        self._must("next log", "ingest", live.topic("events"), *merged, "--to", data.topic("events"), *how)
        self._read_to = {int(partition): end for partition, end in orjson.loads(report.read_bytes())["read_to"].items()}
        report.unlink()

    def build(self) -> None:
        """Make its examples and its model, and the state with which `examples` and `score` go on from there."""
        self._catch_up("examples")
        self._bring_model()
        if self._plan.data.has_model:
            self._catch_up("score")

    def is_passed(self) -> bool:
        """Whether the live log is past the time from which `score` scores here: whoever has read that log has scored all from before."""
        began = noted_in(self._plan.data.recovery("score"), "started_at")
        due = 0 if began is None else began + (self._live.data.rules or {})["lateness"]
        records = self._log.records(self._live.data.topic_name("events"), starts=self._read_to)
        items = (timed_record(record.value or b"", "") for _, record in records)
        return began is None or any(each.is_heartbeat and (each.t or 0) >= due for each in items)

    def append_rest(self) -> None:
        """Append what came to the live log since, in the order of time. Nobody writes there any more."""
        rest, reached = list[tuple[int, OutgoingRecord]](), 0
        for partition, record in self._log.records(self._live.data.topic_name("events"), starts=self._read_to):
            t = timed_record(record.value or b"", "").t
            reached = reached if t is None else t
            to = partition if record.key is None else None  # a heartbeat is of its partition, all else of its channel's
            rest.append((reached, OutgoingRecord(record.key, record.value, record.headers, to, record.timestamp)))
        rest.sort(key=itemgetter(0))
        with self._log.writer(self._plan.data.topic_name("events")) as writer:
            writer.send(record for _, record in rest)

    def _catch_up(self, name: str) -> None:
        """Run a command that follows the next log until it has read all that is there; its snapshot is what it goes on from."""
        port = free_port()
        self._must(f"next {name}", *self._plan.arguments(name, port), until=partial(has_caught_up, port))

    def _bring_model(self) -> None:
        """Take the live model over, and train it anew as each night does; where other settings made it, make a first one if it can be."""
        live, data = self._live, self._plan.data
        so_far = ExamplesSoFar(self._log, data.topic_name("examples"))
        so_far.look()
        if live.data.has_model and not live.is_changed:
            shutil.copytree(live.data.model, data.model, dirs_exist_ok=True)
            self._jobs.attempt(TRAINING, self._plan.env, *self._plan.retraining)
        elif so_far.are_enough:
            job = self._jobs.attempt(TRAINING, self._plan.env, *self._plan.retraining, "--since", so_far.judged_for)
            if job.fault:
                raise RunStopped(f"{TRAINING}: {job.fault}")

    def _must(self, name: str, *arguments: object, until: Callable[[], bool] = never) -> None:
        self._jobs.must(name, self._plan.env, *arguments, is_shown=name != "topics", until=until)
