"""Leaks and losses, planted one at a time in a copy of the code: the tests must catch each.

`python -m tests.mutations` plants all of them, runs the tests that are named here against each, and writes docs/mutations.md; with
`--whole`, as `make proof` calls it, the whole suite. `tests/laws/test_mutations.py` is the same as a test.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "mutations.md"
COPIED = (
    "beepgpt",
    "config",
    "connectors",
    "dataflows",
    "docs",
    "tests",
    "benchmarks",
    "pyproject.toml",
    "setup.py",
    "Makefile",
    "README.md",
)

PAST_ONLY = "tests/laws/test_past_only.py"
BLIND = "tests/laws/test_blind_to_the_answer.py"
PREFIX = "tests/laws/test_prefix.py"
ONE_RESULT = "tests/laws/test_one_result.py"
LIVE_AND_EXPORT = "tests/laws/test_live_and_export.py"
AS_YOU_SERVE = "tests/laws/test_train_as_you_serve.py"
NOTHING_LOST = "tests/laws/test_nothing_is_lost.py"
AGREES = "tests/laws/test_agreement.py::test_the_two_readings_agree"
CHANNEL = "tests/conversations/test_channel.py"
CANDIDATES = "tests/conversations/test_candidates.py"
EVENTS = "tests/conversations/test_events.py"


@dataclass(frozen=True)
class Mutation:
    """One leak or loss: text that is replaced in a file, and the tests that are there to catch it."""

    name: str
    breaks: str
    """What of the README's laws, or of docs/semantics.md, it breaks."""
    files: tuple[str, ...]
    """Where it is planted; what is replaced stands once in all of them together."""
    edits: tuple[tuple[str, str], ...]
    caught_by: str
    """A test file, or a test in one, that must fail."""


def _m(name: str, breaks: str, files: str | tuple[str, ...], caught_by: str, *edits: tuple[str, str]) -> Mutation:
    return Mutation(name, breaks, (files,) if isinstance(files, str) else files, edits, caught_by)


CHANNEL_PY = "beepgpt/conversations/channel.py"
EVENTS_PY = "beepgpt/conversations/events.py"
EXPORT_PY = "beepgpt/conversations/export.py"
FEATURES_PY = "beepgpt/conversations/features.py"
SHARD_PY = "beepgpt/conversations/shard.py"
REORDER_PY = "beepgpt/conversations/reorder.py"
STATE_PY = "beepgpt/conversations/state.py"
TARGETS_PY = "beepgpt/conversations/targets.py"
TOKENS_PY = "beepgpt/conversations/tokens.py"
SPLITS_PY = "beepgpt/training/splits.py"
PREPARE_PY = "beepgpt/training/prepare.py"
SCORING_PY = "dataflows/score_points.py"
SPLITS = "tests/training/test_splits.py"

MUTATIONS = (
    _m(
        "the answerer's messages are left out of the prompt (the original's leak)",
        "law 2",
        CHANNEL_PY,
        BLIND,
        (
            "        prompt = point.prompt_of(",
            "        window = tuple(message for message in point.window if message.user not in settlement.answer)\n"
            "        point = Point(point.t, window or point.window)\n"
            "        prompt = point.prompt_of(",
        ),
    ),
    _m(
        "an edit is applied at its post's time",
        "law 1",
        EXPORT_PY,
        "tests/conversations/test_export.py",
        ("            edited_at = max(edited_at, t)\n", "            edited_at = t\n"),
    ),
    _m(
        "an export's last text stands in its post",
        "law 1",
        EXPORT_PY,
        LIVE_AND_EXPORT,
        ('event | {"text": None}', "event"),
    ),
    _m(
        "reply_count is read",
        "records: known too late",
        EXPORT_PY,
        LIVE_AND_EXPORT,
        (
            '    edited = stored.get("edited")\n',
            '    if stored.get("reply_count"):\n        event["text"] = f"{event.get(\'text\')} (discussed)"\n    edited = stored.get("edited")\n',
        ),
    ),
    _m(
        "a thread's root is recognized by thread_ts",
        "records: known too late",
        (EVENTS_PY, EXPORT_PY),
        LIVE_AND_EXPORT,
        ("        root = None  # Slack", "        pass  # Slack"),
        ("    if thread_ts is not None and thread_ts != stored", "    if thread_ts is not None and stored"),
    ),
    _m(
        "a reaction after the horizon counts",
        "points and examples",
        CHANNEL_PY,
        AGREES,
        (
            "        self.close(t, output)\n        self.people.advance",
            "        if event.kind < 3:\n            self.close(t, output)\n        self.people.advance",
        ),
    ),
    _m(
        "a deletion is applied as soon as it is read",
        "laws 1 and 4",
        SHARD_PY,
        f"{ONE_RESULT}::TestLaw4OneResult::test_any_order_of_arrival_within_lateness",
        (
            "                followed.buffer.add(parsed)",
            "                self._apply(followed, parsed) if parsed.kind == 2 else followed.buffer.add(parsed)",
        ),
    ),
    _m(
        "features are those of the answer's time",
        "law 1",
        CHANNEL_PY,
        PAST_ONLY,
        (
            "        prompt = point.prompt_of(",
            "        point = Point(point.t, point.window, self._candidates(point.t, point.window, waiting.conversation))\n        prompt = point.prompt_of(",
        ),
    ),
    _m(
        "the answer is counted in the features of its own point",
        "law 2",
        CHANNEL_PY,
        BLIND,
        (
            "        first = joined[0]\n",
            "        first = joined[0]\n"
            "        waiting = first.open_point\n"
            "        if rules.candidates and waiting is not None and waiting.point is not None:\n"
            "            self.people.posted(user, t, message.words, None, False, ())\n"
            "            waiting.point = Point(waiting.t, waiting.point.window, self._candidates(t, waiting.point.window, first))\n",
        ),
    ),
    _m(
        "words are weighted by a vocabulary that is fitted on all that was read",
        "laws 1 and 4",
        FEATURES_PY,
        f"{ONE_RESULT}::TestLaw4OneResult::test_any_order_of_arrival_within_lateness",
        ("self.channel_words: bytearray | None = None", "self.channel_words: bytearray | None = _FITTED"),
        ("_NUMBERS = ", "_FITTED = bytearray(BUCKETS)\n_NUMBERS = "),
    ),
    _m(
        "features change when they are read",
        "law 4",
        FEATURES_PY,
        CANDIDATES,
        (
            "        counts = [person.counts for person in known]\n",
            "        counts = [person.counts for person in known]\n        for person in known:\n            person.seen = max(person.seen, t)\n",
        ),
    ),
    _m(
        "a reaction at its post's own time counts as an answer to it",
        "points and examples",
        TARGETS_PY,
        f"{CHANNEL}::TestSets",
        ("not (event.untimed or event.t > point.t)", "False"),
    ),
    _m(
        "silence is called at half the horizon",
        "points and examples",
        CHANNEL_PY,
        AGREES,
        ("open_points[0].t + horizon < before:", "open_points[0].t + horizon // 2 < before:"),
    ),
    _m(
        "what is censored is called silence",
        "law 3",
        CHANNEL_PY,
        PREFIX,
        ("            if self.rules.horizon is None:\n                self._settle", "            if True:\n                self._settle"),
    ),
    _m(
        "lateness is ignored: events are applied as they are read",
        "law 4",
        SHARD_PY,
        f"{ONE_RESULT}::TestLaw4OneResult::test_any_order_of_arrival_within_lateness",
        ("        watermark = buffer.watermark\n", "        watermark = clock + 1\n"),
    ),
    _m(
        "timestamps are floats",
        "words",
        EVENTS_PY,
        EVENTS,
        ('int(seconds) * 1_000_000 + (int(fraction.ljust(6, "0")) if fraction else 0)', "int(float(ts) * 1_000_000)"),
    ),
    _m(
        "a late event is dropped uncounted",
        "law 6",
        SHARD_PY,
        NOTHING_LOST,
        ("                account.count(LATE)\n", ""),
    ),
    _m(
        "a late event is counted, and lost",
        "law 6",
        SHARD_PY,
        NOTHING_LOST,
        ("                self.output.late.append(parsed.record)\n", ""),
    ),
    _m(
        "a silence of exactly the session gap ends a session",
        "conversations",
        CHANNEL_PY,
        f"{CHANNEL}::TestSessions",
        ("t - self.last_root <= self.rules.session_gap", "t - self.last_root < self.rules.session_gap"),
    ),
    _m(
        "windows hold one message more",
        "words",
        CHANNEL_PY,
        AGREES,
        ("if len(conversation.window) > rules.window:", "if len(conversation.window) > rules.window + 1:"),
    ),
    _m(
        "ties are broken by the order of arrival",
        "law 4",
        REORDER_PY,
        f"{ONE_RESULT}::TestLaw4OneResult::test_any_order_of_arrival_within_lateness",
        (
            "        heappush(self.buffered, event)\n",
            "        self.buffered.append(event)\n        self.buffered.sort(key=lambda each: each.t)\n",
        ),
        ("            yield heappop(buffered)", "            yield buffered.pop(0)"),
    ),
    _m(
        "duplicates are judged as they arrive",
        "law 4",
        SHARD_PY,
        ONE_RESULT,
        (
            "                followed.buffer.add(parsed)",
            "                account.count(DUPLICATE) if followed.buffer.is_duplicate(parsed) else followed.buffer.add(parsed)",
        ),
        ("        if followed.buffer.is_duplicate(event):", "        if False:"),
    ),
    _m(
        "duplicates are not noticed",
        "law 4",
        SHARD_PY,
        f"{ONE_RESULT}::TestLaw4OneResult::test_duplicates_change_nothing_but_their_count",
        ("        if followed.buffer.is_duplicate(event):", "        if False:"),
    ),
    _m(
        "one channel's events move another's clock",
        "law 4",
        SHARD_PY,
        AGREES,
        (
            "            self._advance(followed, max(followed.buffer.clock, parsed.t))\n",
            "            self._advance(followed, max(followed.buffer.clock, parsed.t))\n"
            "            self.heartbeats[partition] = max(self.heartbeats.get(partition, 0), parsed.t)\n",
        ),
    ),
    _m(
        "a heartbeat speaks for all partitions",
        "law 4",
        SHARD_PY,
        f"{ONE_RESULT}::TestLaw4OneResult::test_a_partition_is_not_moved_by_anothers_heartbeats",
        (
            "            self._heartbeat(parsed.at, partition)",
            "            for each in {partition, *(f.partition for f in self.followed.values())}:\n                self._heartbeat(parsed.at, each)",
        ),
    ),
    _m(
        "heartbeats don't reach the channels' clocks",
        "order",
        SHARD_PY,
        AGREES,
        ("        self.heartbeats[partition] = at\n", "        return\n"),
    ),
    _m(
        "the horizon runs from the newest message, not from the point",
        "points and examples",
        STATE_PY,
        AGREES,
        ("        self.t = point.t\n        self.point", "        self.t = point.window[-1].ts\n        self.point"),
    ),
    _m(
        "text that nobody knew yet is taken as empty",
        "law 1",
        "beepgpt/conversations/examples.py",
        AGREES,
        ("    return None in [message.text for message in window]", "    return False"),
    ),
    _m(
        "a deletion retracts nothing",
        "points and examples",
        CHANNEL_PY,
        f"{CHANNEL}::TestEditsAndDeletions",
        ("                self._retract(identity, t, output)\n", "                pass\n"),
    ),
    _m(
        "what a message said before is kept",
        "deletions",
        EVENTS_PY,
        EVENTS,
        ('    event["previous_message"] = kept\n', ""),
    ),
    _m(
        "a deletion leaves its predictions on their topic",
        "deletions",
        SCORING_PY,
        "tests/dataflows/test_deleted_predictions.py::test_a_deletion_is_followed_by_a_tombstone_of_each_prediction_that_held_the_message",
        ('                self._scored.append(Scored("tombstone", identity, None, deleted.channel))\n', ""),
    ),
    _m(
        "alerts take the time of a deletion for its message",
        "deletions",
        "beepgpt/alerts/deciding.py",
        "tests/dataflows/test_scoring.py::test_what_is_deleted_in_slack_is_withdrawn_by_alerts",
        ('str(value["channel"]), micros(value["ts"]), now)', 'str(value["channel"]), micros(value["deleted_ts"]), now)'),
    ),
    _m(
        "a thread without a reply has a silence of its own",
        "points and examples",
        TARGETS_PY,
        AGREES,
        ("if conversation.key & 1 and not conversation.replied and conversation.key != WHOLE:", "if False:"),
    ),
    _m(
        "an answer in the thread leaves the session's silence standing",
        "points and examples",
        TARGETS_PY,
        f"{CHANNEL}::TestThreads",
        ("            waiting.answered_in_thread |= waiting.point.author != event.user", "            pass"),
    ),
    _m(
        "the last author's own next message counts as the answer",
        "points and examples",
        CHANNEL_PY,
        f"{CHANNEL}::TestSessions",
        ("not bot and user != waiting.point.author", "not bot"),
    ),
    _m(
        "a bot's post counts as an answer",
        "records",
        CHANNEL_PY,
        f"{CHANNEL}::TestBots",
        ("not bot and user != waiting.point.author", "user != waiting.point.author"),
    ),
    _m(
        "a run until T closes horizons that end after T",
        "law 3",
        SHARD_PY,
        PREFIX,
        ("watermark if self.until is None else min(watermark, self.until + 1)", "watermark"),
    ),
    _m(
        "a conversation with an open point is forgotten",
        "conversations",
        CHANNEL_PY,
        f"{CHANNEL}::TestForgetting",
        ("        if conversation.needed_by or conversation.key == self.session:", "        if conversation.key == self.session:"),
    ),
    _m(
        "what is forgotten depends on when memory is swept",
        "law 4",
        CHANNEL_PY,
        f"{ONE_RESULT}::TestLaw4OneResult::test_when_memory_is_swept_changes_nothing",
        ("        if conversation is not None and self._is_too_old(conversation, t):", "        if False and conversation is not None:"),
    ),
    _m(
        "a snapshot misses what a heartbeat did",
        "law 4",
        SHARD_PY,
        ONE_RESULT,
        ("                followed.due = FOREVER\n                self._dirty[name] = None\n", "                followed.due = FOREVER\n"),
    ),
    _m(
        "the account is no part of the snapshot",
        "law 6",
        SHARD_PY,
        ONE_RESULT,
        ('        self.account.counts.update(state["counts"])\n', ""),
    ),
    _m(
        "prompts have the newest message first",
        "prompts",
        TOKENS_PY,
        CHANNEL,
        ("SEPARATOR.join([text for text, _ in shown])", "SEPARATOR.join([text for text, _ in reversed(shown)])"),
    ),
    _m(
        "token counts are added up where they don't add up",
        "prompts",
        TOKENS_PY,
        "tests/conversations/test_tokens.py",
        ('    return after.startswith("/") and not one[-1].isalnum()', "    return False"),
    ),
    _m(
        "secrets stay in an export",
        "records",
        "connectors/slack/export/days.py",
        "tests/connectors/test_slack_export_damage.py",
        ('    raw = strip_secrets(raw.removeprefix(b"\\xef\\xbb\\xbf"))', '    raw = raw.removeprefix(b"\\xef\\xbb\\xbf")'),
    ),
    _m(
        "after a kill, the file is not cut back",
        "law 4",
        "connectors/files/jsonl.py",
        "tests/connectors/test_jsonl.py",
        (
            "        os.ftruncate(self._file, self._offset)\n        os.lseek(self._file, self._offset, os.SEEK_SET)",
            "        os.lseek(self._file, 0, os.SEEK_END)",
        ),
    ),
    _m(
        "a stop is taken for the end of the input",
        "order",
        "dataflows/following.py",
        "tests/dataflows/test_kills.py",
        ("        if not (self._is_stopped or self._is_stopping()):\n            self._shard.end()", "        self._shard.end()"),
    ),
    _m(
        "a split at random",
        "law 7",
        SPLITS_PY,
        SPLITS,
        (
            "    train, valid = columns.settled_ts < cut, columns.prompt_ts >= cut\n",
            "    valid = columns.ids[:, 0] % np.uint64(5) == 0\n    train = ~valid\n",
        ),
    ),
    _m(
        "a message stands in windows on both sides",
        "law 7",
        SPLITS_PY,
        SPLITS,
        ("        leave(clashes, reason)\n", '        leave(clashes if reason != "message_on_both_sides" else valid & ~valid, reason)\n'),
    ),
    _m(
        "labels are fitted on validation, too",
        "training sets",
        PREPARE_PY,
        "tests/training/test_prepare.py::TestLabels",
        ("answers_of(columns, sides.train, wanted.answers)", "answers_of(columns, sides.train | sides.valid, wanted.answers)"),
    ),
    _m(
        "retractions are not read",
        "training sets",
        PREPARE_PY,
        "tests/training/test_prepare.py",
        ("retracted=retracted, few_shots=few_shots", "few_shots=few_shots"),
    ),
    _m(
        "a point is emitted when its answer has come",
        "law 5",
        CHANNEL_PY,
        AS_YOU_SERVE,
        ("        if output.points is not None and opened:\n", "        if output.points is not None and not self.id:\n"),
        (
            "        points = output.points\n        if points is not None and waiting.t",
            "        points = output.points\n        if points is not None and waiting.point is not None:\n"
            "            self._emit([waiting], points, output.account)\n        if points is not None and waiting.t",
        ),
    ),
    _m(
        "a scored point has the features of a day later",
        "law 5",
        CHANNEL_PY,
        AS_YOU_SERVE,
        (
            "            assert point is not None\n            conversations = tuple",
            "            assert point is not None\n            point = Point(point.t, point.window, self._candidates(point.t + DAY, point.window, first.conversation))\n"
            "            conversations = tuple",
        ),
    ),
    _m(
        "a thread's point is scored with its session's speakers",
        "law 5",
        CHANNEL_PY,
        "tests/dataflows/test_scoring.py",
        (
            "            alike.setdefault((each.point, each.speakers, each.root_missing), [])",
            "            alike.setdefault((each.point,), [])",
        ),
    ),
    _m(
        "a prediction that waits when the flow is killed is forgotten",
        "law 6",
        SCORING_PY,
        "tests/dataflows/test_scoring.py",
        ('            "lanes": lanes,', '            "lanes": [],'),
    ),
    _m(
        "predictions are joined to the outcomes of other points",
        "outcomes",
        SCORING_PY,
        "tests/dataflows/test_scoring.py",
        ("kept.pop((item.conversation, item.prompt_ts), None)", 'kept.pop(next(iter(kept), ("", 0)), None)'),
    ),
)


NOTHING = Mutation("nothing", "nothing", (), (), "")


@dataclass(frozen=True)
class Outcome:
    """What the tests said to a mutation."""

    mutation: Mutation
    failed: tuple[str, ...]
    """Tests that failed, the first first."""
    said: str
    """The end of what pytest printed."""


@contextmanager
def planted(mutation: Mutation | None) -> Iterator[Path]:
    """A copy of the code with the mutation in it. Raises ValueError if what it replaces is not there exactly once."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        copy.mkdir()
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, copy / name)
        if (ROOT.parent / "shared").is_dir():
            (Path(folder) / "shared").symlink_to(ROOT.parent / "shared")
        for old, new in mutation.edits if mutation else ():
            holding = [copy / file for file in mutation.files if old in (copy / file).read_text("utf-8")] if mutation else []
            if len(holding) != 1 or (text := holding[0].read_text("utf-8")).count(old) != 1:
                raise ValueError(f"what a mutation replaces must stand there once: {old!r}")
            holding[0].write_text(text.replace(old, new), "utf-8")
        yield copy


def run_tests(mutation: Mutation | None, tests: Sequence[str], *, stop_at_first: bool = True, seconds: float = 600) -> Outcome:
    """Runs these tests against a mutation, the same histories in every run."""
    with planted(mutation) as copy:
        environment = {**os.environ, "HYPOTHESIS_PROFILE": "planted", "PYTHONDONTWRITEBYTECODE": "1"}
        flags = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header", "-rf", "--tb=no", *(["-x"] if stop_at_first else [])]
        command = [sys.executable, "-m", "pytest", *flags, *tests]
        try:
            done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            return Outcome(mutation or NOTHING, ("(it never ended)",), f"not done after {seconds:.0f} s")
    failed = tuple(re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE))
    return Outcome(mutation or NOTHING, failed, done.stdout[-1500:] + done.stderr[-500:])


def table_of(outcomes: Sequence[Outcome]) -> str:
    """docs/mutations.md."""
    caught = sum(bool(outcome.failed) for outcome in outcomes)
    rows = [
        f"| {outcome.mutation.name} | {outcome.mutation.breaks} | {', '.join(f'`{short(test)}`' for test in outcome.failed[:2]) or '**nobody**'} |"
        for outcome in outcomes
    ]
    return "\n".join(
        [
            "# Planted leaks and losses",
            "",
            "Would the tests notice a mistake? Each row is a change to a copy of the code that breaks a law of the README or a rule of [semantics.md](semantics.md), and the",
            "test that caught it. `make mutations` plants each change, runs the tests that [tests/mutations.py](../tests/mutations.py) names for it, and writes this table.",
            "`make test` does this with the changes that break a law or read something before it was known. `make proof` does it with all of them, against the whole suite except the tests that need a broker.",
            "",
            f"Caught: {caught} of {len(outcomes)}.",
            "",
            "| planted | breaks | caught first by |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def short(test: str) -> str:
    """A test's name without its folder and parameters."""
    return re.sub(r"\[.*", "", test.removeprefix("tests/"))


WITH_A_BROKER = ("tests/*/test_*kafka*.py", "tests/ingest/test_ingest.py", "tests/deploy/*", "tests/web/test_review*.py")
QUICK = (
    "tests/conversations",
    "tests/connectors/test_jsonl.py",
    "tests/connectors/test_slack_export.py",
    "tests/connectors/test_slack_export_damage.py",
    "tests/laws/test_oracle.py",
    AGREES,
    PAST_ONLY,
    BLIND,
    PREFIX,
    ONE_RESULT,
    LIVE_AND_EXPORT,
    AS_YOU_SERVE,
    NOTHING_LOST,
)
WHOLE_SUITE = (
    *QUICK,
    "tests",
    "--ignore=tests/laws/test_mutations.py",
    *(f"--ignore-glob={each}" for each in WITH_A_BROKER),
)
"""All, the quick ones first, but the tests that talk to brokers or browsers, which take minutes and ask how the same code is carried."""


def main() -> int:
    """Plants every mutation, writes the table, and fails if one was not caught."""
    whole = "--whole" in sys.argv
    if whole and (failed := run_tests(None, WHOLE_SUITE, seconds=1800).failed):
        print(f"without any mutation, these fail: {', '.join(failed)}")  # they would catch everything
        return 1
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        tests = (lambda each: WHOLE_SUITE) if whole else (lambda each: (each.caught_by,))
        outcomes = []
        for outcome in pool.map(lambda each: run_tests(each, tests(each), seconds=1800), MUTATIONS):
            outcomes.append(outcome)
            print(f"{'caught' if outcome.failed else 'MISSED'}  {outcome.mutation.name}  {', '.join(outcome.failed[:1])}", flush=True)
    if not whole:
        TABLE.write_text(table_of(outcomes), "utf-8")
    return 0 if all(outcome.failed for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
