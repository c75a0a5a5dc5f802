"""Makes a file's examples again from the events: all in one pass through time, a few from their prefix alone."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple
from zlib import decompress

import orjson

from beepgpt.audit.differences import KNOWN_THEN, Differences, Precision
from beepgpt.audit.example_rows import ExampleRow, digest_of, packed
from beepgpt.audit.findings import Findings
from beepgpt.audit.history import ChannelHistories, ChannelHistory, after, known_by
from beepgpt.conversations.account import Account
from beepgpt.conversations.channel import FOREVER, Channel
from beepgpt.conversations.events import MOVE, POST, Event, micros, ts_text
from beepgpt.conversations.examples import example_bytes
from beepgpt.conversations.output import Output
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.shard import Shard
from beepgpt.conversations.state import OpenPoint, conversation_id
from beepgpt.conversations.tokens import Encoding

DRAINED_EVERY = 1000
"""Events after which what a shard gave is thrown away, where it isn't needed."""
SOMEBODY_ELSE = "?somebody else"
"""No id of Slack's: another person, who gives the answer instead."""


class LackingExample(NamedTuple):
    """An example that the file lacks."""

    identity: str
    conversation: str
    prompt_ts: str
    settled_ts: str


def lacking_of(compressed: bytes) -> LackingExample:
    """What a finding says of an example."""
    body = orjson.loads(decompress(compressed))
    return LackingExample(body["id"], body["conversation"], body["prompt_ts"], body["settled_ts"])


class Replayed:
    """What a channel's replay gave: held against the file's lines as it comes, so that it isn't kept a second time."""

    def __init__(self, account: Account, digests: Collection[bytes]) -> None:
        """`digests`: of the lines of the file that are of this channel."""
        self.output = Output(account)
        self._digests = digests
        self.exact: set[bytes] = set()
        """Digests of examples that stand in the file, byte for byte."""
        self.others: dict[tuple[str, int], bytes] = {}
        """All other examples, compressed, by conversation and `prompt_ts`."""
        self.retracted: set[str] = set()
        """Ids of retractions."""

    def take(self) -> None:
        """Take over what the output has."""
        self.output.finish()
        for line in self.output.examples:
            if (digest := digest_of(line)) in self._digests:
                self.exact.add(digest)
            else:
                body = orjson.loads(line)
                self.others[body["conversation"], micros(body["prompt_ts"])] = packed(line)
        self.output.examples.clear()
        self.retracted.update(orjson.loads(line)["id"] for line in self.output.retractions)
        self.output.retractions.clear()


class Recomputation:
    """Makes a file's examples again from the events, and collects where they differ."""

    def __init__(
        self, history: ChannelHistories, rules: Rules, encoding: Encoding, until: int | None, *, precision: Precision = "exact"
    ) -> None:
        """`precision`: in which the examples have their candidates' features."""
        self.history = history
        self.rules = rules
        self.encoding = encoding
        self.until = until
        self.findings = Findings()
        self.differences = Differences(history, rules, self.findings, precision=precision)
        self.passed = 0
        """Rows that were compared in the pass."""
        self.from_scratch = 0
        """Rows that were made again from their prefix."""
        self.answered_by_another = 0
        self.of_unknown_channels = 0
        self.without_point: set[str] = set()
        """Rows at whose time there is no point: their answers are not compared."""
        self.lacking: list[LackingExample] = []
        self.lacking_at_end: list[LackingExample] = []
        """Examples that the rules give and the file lacks; the second: those that only the end of the input settles."""
        self.retracted: set[str] = set()
        self.retracted_at_end: set[str] = set()
        """Ids that the rules retract; the second: those retracted only at the end of the input, and not in the given retractions."""
        self.saw_end = False
        """Whether the file or its retractions have anything that only the end of the input gives."""

    @property
    def was_stopped(self) -> bool:
        """Whether the file lacks only what the end of the input produces, so its run was probably stopped early."""
        return bool(self.lacking_at_end or self.retracted_at_end) and not self.saw_end

    def notes(self) -> Iterator[str]:
        """Yield remarks that are no breach of a law."""
        if self.was_stopped:
            more = ((len(self.lacking_at_end), "examples"), (len(self.retracted_at_end), "retractions"))
            what = " and ".join(f"{count:,} more {name}" for count, name in more if count)
            yield f"{what} are settled only by the end of the input: the run that made these had not come to it"
        if self.of_unknown_channels and self.of_unknown_channels * 2 > self.passed + self.of_unknown_channels:
            count = self.of_unknown_channels
            yield f"{count:,} examples are of channels that the events don't have: is SOURCE the history they were made from?"
        for what, rows in self.differences.rewritten.items():
            yield f"{len(rows):,} examples say the same in other bytes than ours ({what}): their fields were compared"

    # All, in one pass

    def in_one_pass(self, rows: Sequence[ExampleRow], retracted: Collection[str] | None, *, whole: bool, only_theirs: bool = False) -> None:
        """Replay each channel once: compare each example's point before anything later is applied, and then what it became.

        `retracted`: the ids of the given retractions, if there are any. `whole`: the file should hold all examples.
        `only_theirs`: the other channels are not replayed, and the account doesn't add up.
        """
        by_channel: defaultdict[str, list[ExampleRow]] = defaultdict(list)
        for row in rows:
            by_channel[self._channel_of(row)].append(row)
        for name in sorted(by_channel if only_theirs else self.history.channels.keys() | by_channel.keys()):
            if name not in self.history.channels:
                for row in by_channel[name]:
                    self.of_unknown_channels += 1
                    self.findings.add(1, "examples of channels that the events don't have", row.where, f"no event is of channel {name}")
            else:
                self._replay(self.history.channels[name], by_channel[name], retracted, whole)
        what = "examples that the rules give and the file lacks (chosen from more, as by a time range? say --subset)"
        for each in self.lacking if self.was_stopped else [*self.lacking, *self.lacking_at_end]:
            why = f"{each.conversation} at {each.prompt_ts}, settled at {each.settled_ts}"
            self.findings.add(4, what, each.identity, why)

    def _channel_of(self, row: ExampleRow) -> str:
        return row.conversation.rsplit(":", 1 if self.rules.scope == "channel" else 2)[0]

    def _replay(self, heard: ChannelHistory, rows: Sequence[ExampleRow], given_retractions: Collection[str] | None, whole: bool) -> None:
        channel = Channel(heard.name, self.rules, self.encoding)
        by_time: defaultdict[int, list[ExampleRow]] = defaultdict(list)
        for row in rows:
            by_time[row.prompt_ts].append(row)
        due = deque(sorted(by_time.items(), key=lambda each: each[0]))
        digests = {row.digest for row in rows}
        before_end, at_end = Replayed(self.history.account, digests), Replayed(self.history.account, digests)
        settled = bisect_left(heard.events, heard.settled, key=lambda event: event.t)
        self._apply(channel, heard.events[:settled], heard.settled, due, before_end)
        channel.close(heard.settled if self.until is None else min(heard.settled, self.until + 1), before_end.output)
        before_end.take()
        self._apply(channel, heard.events[settled:], FOREVER, due, at_end)
        channel.end(heard.clock, at_end.output)
        at_end.take()
        self._compare_answers(heard, rows, before_end, at_end, whole)
        retracted, retracted_at_end = before_end.retracted, at_end.retracted
        self.retracted |= retracted | retracted_at_end
        if given_retractions is not None:
            self.retracted_at_end |= retracted_at_end.intersection(row.identity for row in rows).difference(given_retractions)
            self.saw_end = self.saw_end or not retracted_at_end.isdisjoint(given_retractions)

    def _apply(
        self, channel: Channel, events: Iterable[Event], before: int, due: deque[tuple[int, list[ExampleRow]]], replayed: Replayed
    ) -> None:
        """Apply events, and compare the examples of each time before any later event is applied; at last those from before `before`."""
        for event in events:
            # A move ends the points of its own time, too, and is applied after all that may change a window then.
            while due and due[0][0] < event.t + (event.kind == MOVE):
                self._compare_points(channel, *due.popleft())
            channel.apply(event, replayed.output)
            replayed.take()
        while due and due[0][0] < before:
            self._compare_points(channel, *due.popleft())

    def _compare_points(self, channel: Channel, t: int, rows: Sequence[ExampleRow]) -> None:
        """Compare examples at `t` with the points of a channel to which the events up to then were applied, and none after."""
        opened: dict[str, OpenPoint] = {}
        for waiting in reversed(channel.open_points):
            if waiting.t != t:
                break
            if waiting.is_open:
                opened[conversation_id(channel.id, waiting.conversation.key)] = waiting
        for row in rows:
            self.passed += 1
            waiting_here = opened.get(row.conversation)
            if waiting_here is None or waiting_here.point is None:
                self._no_point(row)
                continue
            line = row.line
            point, body = waiting_here.point, orjson.loads(line)
            known = example_bytes(
                row.identity, self.rules, channel.id, row.conversation, point, point.prompt_of(self.encoding, self.rules.max_prompt_tokens),
                speakers=waiting_here.speakers, root_missing=waiting_here.root_missing, settled_ts=row.settled_ts,
                answer_ts=None if body["answer_ts"] is None else micros(body["answer_ts"]), answer=body["answer"],
            )  # fmt: skip
            if known != line:
                self.differences.compare_known(row, body, orjson.loads(known))

    def _no_point(self, row: ExampleRow) -> None:
        self.without_point.add(row.where)
        why = f"the events up to {ts_text(row.prompt_ts)} change no window of {row.conversation} at that time that could be shown"
        self.findings.add(1, "examples where there is no point", row.where, why)

    def _compare_answers(
        self, heard: ChannelHistory, rows: Sequence[ExampleRow], before_end: Replayed, at_end: Replayed, whole: bool
    ) -> None:
        """Compare what the rows say of their answers with the examples that the replay gave."""
        exact = before_end.exact | at_end.exact
        right = {(row.conversation, row.prompt_ts): row for row in rows if row.digest in exact}
        others, others_at_end = before_end.others, at_end.others
        given = set()
        for row in rows:
            key = (row.conversation, row.prompt_ts)
            given.add(key)
            if row.digest not in exact and row.where not in self.without_point:
                made = others.get(key) or others_at_end.get(key)
                expected = orjson.loads(decompress(made)) if made is not None else right[key].body if key in right else None
                self.differences.compare_settled(row, row.body, expected, heard)
        self.saw_end = self.saw_end or not given.isdisjoint(others_at_end) or bool(at_end.exact)
        if whole:
            self.lacking += [lacking_of(line) for key, line in others.items() if key not in given]
            self.lacking_at_end += [lacking_of(line) for key, line in others_at_end.items() if key not in given]

    # A few, from scratch

    def from_prefixes(self, rows: Sequence[ExampleRow]) -> None:
        """Make each example again three times: from its prompt's prefix, from its answer's, and with somebody else's answer.

        The pass has made the first two comparisons already: they are findings here only if it found nothing.
        """
        by_channel: defaultdict[str, list[ExampleRow]] = defaultdict(list)
        for row in rows:
            by_channel[self._channel_of(row)].append(row)
        known_channels = [(self.history.channels[name], found) for name, found in by_channel.items() if name in self.history.channels]
        for heard, row, prefix in (each for channel, found in known_channels for each in self._prefixes(channel, found)):
            self.from_scratch += 1
            body = row.body
            known = self._known_alone(heard, row, prefix)
            if not any(self.findings.of(law) for law in (1, 2, 3)):
                if known is None:
                    self._no_point(row)
                else:
                    self.differences.compare_known(row, body, known)
                    self.differences.compare_settled(row, body, self._settled_by(heard, row, prefix), heard)
            by_another = self._answered_by_another(heard, row, body, prefix)
            if known is not None and by_another is not None:
                self.answered_by_another += 1
                changed = [name for name in KNOWN_THEN if known.get(name) != by_another.get(name)]
                if changed:
                    why = f"{', '.join(changed)} change if somebody else answers"
                    self.findings.add(2, "what is known at prompt_ts depends on who answers", row.where, why)

    def _prefixes(self, heard: ChannelHistory, rows: Iterable[ExampleRow]) -> Iterator[tuple[ChannelHistory, ExampleRow, dict[str, Any]]]:
        """Rows of a channel, with the snapshot of a new shard that has read the channel's events up to the row's prompt, and none after.

        One shard reads them all, once: its past is the same for the next row, and longer.
        """
        shard, read = Shard(self.rules, self.encoding), 0
        for row in sorted(rows, key=attrgetter("prompt_ts")):
            end = known_by(heard, row.prompt_ts)
            for number in range(read, end):
                shard.read(heard.events[number], "all")
                if not number % DRAINED_EVERY:
                    shard.drain()
            read = end
            yield heard, row, shard.__getstate__()

    def _known_alone(self, heard: ChannelHistory, row: ExampleRow, prefix: dict[str, Any]) -> dict[str, Any] | None:
        """The example that the events up to its prompt give if nobody answers or, where that gives none, if somebody else does."""
        silent = self._future(prefix, [], row, row.prompt_ts + (self.rules.horizon or 0))
        if silent is not None or not row.conversation.endswith(":thread"):
            return silent
        root = micros(row.conversation.rsplit(":", 2)[1])
        t = row.prompt_ts + 1
        answer = Event(t, POST, t, SOMEBODY_ELSE, "", False, False, b"", heard.name, "", root, "", False)
        return self._future(prefix, [answer], row, None)

    def _settled_by(self, heard: ChannelHistory, row: ExampleRow, prefix: dict[str, Any]) -> dict[str, Any] | None:
        """The example that settles by `settled_ts`; if there is none, the one that settles later."""
        last = heard.clock if self.rules.horizon is None else row.prompt_ts + self.rules.horizon
        for until in (row.settled_ts, last):
            events = heard.events[known_by(heard, row.prompt_ts) : after(heard, until)]
            if (settled := self._future(prefix, events, row, min(until, heard.clock))) is not None:
                return settled
        return None

    def _answered_by_another(
        self, heard: ChannelHistory, row: ExampleRow, body: dict[str, Any], prefix: dict[str, Any]
    ) -> dict[str, Any] | None:
        """The example that the events up to its answer give if somebody else posted the answer."""
        if body["answer_ts"] is None or self.rules.horizon is None:
            return None
        answer_ts = micros(body["answer_ts"])
        events = heard.events[known_by(heard, row.prompt_ts) : after(heard, row.settled_ts)]
        changed = [event._replace(user=SOMEBODY_ELSE) if event.kind == POST and event.t == answer_ts else event for event in events]
        return self._future(prefix, changed, row, row.settled_ts)

    def _future(self, prefix: dict[str, Any], events: Iterable[Event], row: ExampleRow, until: int | None) -> dict[str, Any] | None:
        """The example at a row's point if these events follow the prefix; None if there is none."""
        shard = Shard(self.rules, self.encoding, until=until, recoverable=False)
        shard.resume(prefix)
        for event in events:
            shard.read(event, "all")
        shard.end()
        for line in reversed(shard.drain().examples):
            body: dict[str, Any] = orjson.loads(line)
            if body["conversation"] == row.conversation and micros(body["prompt_ts"]) == row.prompt_ts:
                return body
        return None
