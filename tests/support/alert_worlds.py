"""Random worlds of people, channels, conversations and wishes, and a run of them through the product and its second reading."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from beepgpt.alerts.deciding import AlertDecider
from beepgpt.alerts.decisions import Policy, alert_id
from beepgpt.alerts.delivery import AlertDelivery
from beepgpt.alerts.predictions import read_prediction
from beepgpt.alerts.store import AlertStore
from beepgpt.connectors.slack.alerts import POST, SlackMessenger
from beepgpt.errors import SlackBusy, SlackRefused
from beepgpt.simulation.slack.alerts_api import AlertedWorkspace, Refused, answer
from tests.support.alert_rules import HOUR, MINUTE, SECOND, AlertRules, Defaults, Place, Someone, ts_text
from tests.support.alerts import NOON, prediction
from tests.support.slack_web_api import TOKEN

PEOPLE = ("ana", "bo", "cy", "di", "ed")
CHANNELS = ("C1", "C2", "C3")
CHANCES = (0.1, 0.3, 0.6, 0.9)
WHOLE = "C3"
"""The channel that is one conversation, as with `scope = "channel"`."""
Step = tuple[Any, ...]


@dataclass
class World:
    """Settings, who is where at the beginning, and what happens then."""

    defaults: Defaults
    people: dict[str, str]
    private: dict[str, bool]
    members: dict[str, frozenset[str]]
    opted_in: frozenset[str]
    with_topics: frozenset[str]
    steps: list[Step] = field(default_factory=list)


# Worlds

defaults = st.builds(
    Defaults,
    threshold=st.just(0.5),
    list_from=st.sampled_from((None, 0.2, 0.7)),
    per_hour=st.sampled_from((1, 2, 3)),
    quiet=st.sampled_from(((0, 0), (13 * 60, 14 * 60), (12 * 60 + 10, 12 * 60 + 20))),
    zone=st.sampled_from(("UTC", "Europe/Berlin")),
    max_age=st.sampled_from((MINUTE, 10 * MINUTE, 2 * HOUR)),
    opted_in=st.sampled_from((False, False, True)),
    topic_from=st.just(0.5),
)
kinds = st.sampled_from(("full", "full", "full", "guest", "stranger", "left", "unknown"))
anybody, anywhere = st.sampled_from(PEOPLE), st.sampled_from(CHANNELS)
changes = st.one_of(
    st.tuples(st.just("wish"), anybody, st.sampled_from([{"opted_in": each} for each in (True, True, False, None)])),
    st.tuples(st.just("wish"), anybody, st.sampled_from([{"threshold": each} for each in (None, 0.2, 0.8)])),
    st.tuples(st.just("wish"), anybody, st.sampled_from([{"per_hour": each} for each in (None, 1, 5)])),
    st.tuples(
        st.just("wish"), anybody, st.sampled_from([{"quiet": each} for each in ((0, 0), (12 * 60, 12 * 60 + 30), (13 * 60, 9 * 60))])
    ),
    st.tuples(st.just("wish"), anybody, st.sampled_from([{"muted": frozenset(each)} for each in ((), ("C1",), ("C2", "C3"))])),
    st.tuples(st.just("wish"), anybody, st.sampled_from([{"topics": frozenset(each)} for each in ((), ("builds",), ("builds", "lunch"))])),
    st.tuples(st.just("home"), anybody),
    st.tuples(st.just("member"), anywhere, anybody, st.booleans()),
    st.tuples(st.just("member"), anywhere, anybody, st.booleans()),
    st.tuples(st.just("private"), anywhere, st.booleans()),
    st.tuples(st.just("archived"), anywhere, st.booleans()),
    st.tuples(st.just("answers"), anywhere, st.sampled_from(("known", "gone", "other"))),
    st.tuples(st.just("person"), anybody, kinds, st.sampled_from(("Etc/UTC", "Europe/Berlin", None))),
)
hot = st.one_of(
    st.tuples(
        st.just("wish"), anybody, st.sampled_from(({"opted_in": False}, {"per_hour": 1}, {"threshold": 0.8}, {"quiet": (0, 24 * 60 - 1)}))
    ),
    st.tuples(st.just("wish"), anybody, st.sampled_from([{"muted": frozenset((channel,))} for channel in CHANNELS])),
    st.tuples(st.just("member"), anywhere, anybody, st.just(False)),
    st.tuples(st.just("private"), anywhere, st.just(True)),
    st.tuples(st.just("answers"), anywhere, st.sampled_from(("gone", "other"))),
    st.tuples(st.just("person"), anybody, st.sampled_from(("guest", "stranger", "left", "unknown")), st.just("Etc/UTC")),
)
"""What may end an alert between its decision and its delivery."""
pauses = st.sampled_from((1, 1, 3, 20, 40, 5 * 60, 11 * 60, 65 * 60))


@st.composite
def worlds(draw: st.DrawFn, most: int = 45) -> World:
    """Up to `most` steps: points of sessions, threads and a whole channel, and everything that may change between them."""
    world = World(
        draw(defaults),
        {user: draw(st.sampled_from(("full", "full", "full", "guest", "left"))) for user in PEOPLE},
        {channel: draw(st.integers(0, 2)) == 2 for channel in CHANNELS},
        {channel: draw(st.frozensets(anybody, min_size=3)) for channel in CHANNELS},
        draw(st.frozensets(anybody, min_size=3)),
        draw(st.frozensets(anybody, max_size=2)),
    )
    talk = _Talk()
    for _ in range(draw(st.integers(5, most))):
        what = draw(
            st.sampled_from(
                ("point",) * 4
                + ("meanwhile",) * 3
                + ("deliver",) * 2
                + ("change",) * 3
                + ("wait", "delete", "again", "gone", "busy", "restart")
            )
        )
        if what == "point":
            world.steps += draw(talk.points())
        elif what == "meanwhile":  # between a decision and its delivery, or between two of one person's messages
            world.steps += [*draw(talk.points()), *draw(st.sampled_from(((), (("deliver", True),), (("deliver", False),))))]
            world.steps += [*draw(st.lists(hot, min_size=1, max_size=3)), *draw(st.sampled_from(((), (("wait", 31),)))), ("deliver", True)]
        elif what in ("deliver", "busy"):
            world.steps.append(("deliver", what == "deliver"))
        elif what == "change":
            world.steps.append(draw(changes))
        elif what == "wait":
            seconds = draw(pauses)
            talk.at += seconds * SECOND
            world.steps.append(("wait", seconds))
        elif what == "delete" and talk.messages:
            channel, ts = draw(st.sampled_from(talk.messages))
            world.steps.append((draw(st.sampled_from(("delete", "missing"))), channel, ts))
        elif what == "again" and talk.said:
            world.steps.append(("predict", draw(st.sampled_from(talk.said[-6:])), 0.0))
        elif what == "gone" and talk.said:
            world.steps.append(("gone", draw(st.sampled_from(talk.said[-4:]))["id"]))
        elif what == "restart":
            world.steps.append(("restart",))
    world.steps += talk.held
    world.steps += [("wait", 2), ("deliver", True)]
    return world


def _likeliest_first(number: int) -> dict[str, float]:
    """Everybody's probability, by the digits of a number: one draw is faster than five."""
    chances = {user: CHANCES[number // len(CHANCES) ** place % len(CHANCES)] for place, user in enumerate(PEOPLE)}
    return dict(sorted(chances.items(), key=lambda each: -each[1]))


class _Talk:
    """What was written so far: it makes points as the scoring flow would."""

    def __init__(self) -> None:
        self.at = NOON
        self.messages: list[tuple[str, int]] = []
        self.said: list[dict[str, Any]] = []
        self._roots: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self._session: dict[str, int] = {}
        self._threads: dict[tuple[str, int], list[tuple[int, str]]] = {}
        self.held: list[Step] = []
        """Points of messages whose events were read already: they are released with later ones."""

    @st.composite
    @staticmethod
    def _points(draw: st.DrawFn, talk: _Talk) -> list[Step]:
        before, talk.held = talk.held, []
        channel, author = draw(anywhere), draw(anybody)
        pause = draw(st.sampled_from((1, 2, 5, 30, 4 * 60, 11 * 60)))
        talk.at += pause * SECOND
        at = talk.at
        talk.messages.append((channel, at))
        how: dict[str, Any] = {
            "people": _likeliest_first(draw(st.integers(0, len(CHANCES) ** len(PEOPLE) - 1))),
            "fresh": draw(st.integers(0, 31)) != 7,
            "texts": [f"of {channel} at {at}"],
        }
        threads = [key for key in talk._threads if key[0] == channel]
        values, root = [], None
        if channel == WHOLE:
            talk._roots[channel].append((at, author))
            values.append(prediction(at, channel=channel, window=talk._roots[channel][-4:], conversations=[f"{channel}:channel"], **how))
        elif threads and draw(st.integers(0, 2)) == 0:
            key = draw(st.sampled_from(threads))
            talk._threads[key].append((at, author))
            root = key[1]
            name = f"{channel}:{ts_text(key[1])}:thread"
            values.append(prediction(at, channel=channel, window=talk._threads[key][-4:], conversations=[name], **how))
        else:
            roots = talk._roots[channel]
            starts = not roots or at - roots[-1][0] > 10 * MINUTE
            if starts:
                talk._session[channel] = at
                roots.clear()
            roots.append((at, author))
            talk._threads[channel, at] = [(at, author)]
            own, ours = f"{channel}:{ts_text(at)}:thread", f"{channel}:{ts_text(talk._session[channel])}:session"
            values.append(prediction(at, channel=channel, window=roots[-4:], conversations=[ours, own] if starts else [ours], **how))
            if not starts:
                alone = prediction(at, channel=channel, window=roots[-1:], conversations=[own], **how)
                values.append(alone | {"id": f"{alone['id']}-own"})
        talk.said += values
        closeness = draw(st.sampled_from((0.0, 0.0, 0.7)))
        event: Step = ("post", channel, at, root, author)
        points: list[Step] = [("predict", value, closeness) for value in values]
        how_read = draw(st.sampled_from(("before", "after", "alone", "never")))
        if how_read == "before":
            points = [event, *points]
        elif how_read == "after":
            points += [event]
        elif how_read == "alone":
            points, talk.held = [event], points
        return [("wait", pause), *before, *points]

    def points(self) -> st.SearchStrategy[list[Step]]:
        """The next message's points, in a channel, a moment later."""
        return _Talk._points(self)


# Runs


class WithoutHttp(SlackMessenger):
    """The client of Slack, answered by the tests' workspace without a connection: a world makes a thousand calls."""

    def __init__(self, space: AlertedWorkspace) -> None:
        super().__init__(TOKEN, "https://slack.invalid/api/")
        self.space, self.takes_messages = space, True

    def _answer(self, method: str, json: Mapping[str, Any] | None, params: Mapping[str, Any]) -> tuple[dict[str, Any], Mapping[str, Any]]:
        if method == POST and not self.takes_messages:
            raise SlackBusy(method, 1.0)
        try:
            return answer(self.space, method, json if json is not None else {name: str(value) for name, value in params.items()}), {}
        except Refused as error:
            raise SlackRefused(method, str(error)) from None


class Topics:
    """Texts are as close to every topic as the world says."""

    close = 0.0

    def closeness(self, words: str, text: str) -> float:
        """The same for all."""
        return self.close

    def learn(self, text: str) -> None:
        """Nothing."""


COUNTED = ("passed:", "refused:", "answer:direct", "answer:list", "topic:direct", "topic:list", "withdrawn", "letters_refused:")


class AlertRun:
    """A world in the product and in its second reading, side by side."""

    def __init__(self, world: World, folder: Path) -> None:
        self.now = NOON
        self.path = folder / "alerts.sqlite"
        self.space = AlertedWorkspace(clock=lambda: self.now / SECOND)
        self.rules = AlertRules(world.defaults, self.now / SECOND)
        self.policy = Policy(**asdict(world.defaults))
        self.topics = Topics()
        self.forwarded: list[str] = []
        for user in PEOPLE:
            self._person(user, world.people[user], "Etc/UTC")
        for channel in CHANNELS:
            self.space.channel(channel, *sorted(world.members[channel]), private=world.private[channel])
            self.rules.places[channel] = Place(set(world.members[channel]), world.private[channel])
        self.begin()
        for user in sorted(world.opted_in):
            self._wish(user, {"opted_in": True})
        for user in sorted(world.with_topics):
            self._wish(user, {"topics": frozenset({"builds"})})

    def begin(self) -> None:
        """A process begins."""
        self.store = AlertStore(self.path)
        self.store._db.execute("PRAGMA synchronous = OFF")
        self.decider = AlertDecider(self.store, self.policy, matcher=self.topics)
        self.slack = WithoutHttp(self.space)
        self.slack.team = "T1"
        self.delivery = AlertDelivery(
            self.store,
            self.policy,
            self.slack,
            self.slack,
            clock=lambda: self.now,
            forward=lambda rows: self.forwarded.extend(row["id"] for row in rows),
            monotonic=lambda: self.now / SECOND,
        )

    def close(self) -> None:
        """The process ends."""
        self.store.close()

    def do(self, step: Step) -> None:
        """One step, on both sides."""
        what, *how = step
        if what == "predict" and len(self.store.alerts_to_check()) > 3:
            self._deliver(True)  # one go of delivery then takes all that waits
        getattr(self, f"_{what}")(*how)

    def do_all(self, steps: Iterable[Step]) -> None:
        """Steps, with a comparison after each."""
        for step in steps:
            self.do(step)
            self.compare()

    def waits(self) -> int:
        """How many direct messages wait."""
        return len(self.store.dms("due"))

    def _predict(self, value: Mapping[str, Any], closeness: float) -> None:
        point = read_prediction(value)
        ids = {(user, kind): alert_id(user, kind, point) for user in PEOPLE for kind in ("answer", "topic")}
        self.topics.close = closeness
        with self.store.transaction():
            self.decider.apply("prediction", value, self.now)
        self.rules.predicted(value, ids, closeness, self.now)

    def _post(self, channel: str, at: int, root: int | None, user: str) -> None:
        event = {"type": "message", "channel": channel, "user": user, "text": f"of {channel} at {at}", "ts": ts_text(at)}
        with self.store.transaction():
            thread = {} if root is None else {"thread_ts": ts_text(root)}
            self.decider.apply_record(json.dumps(event | thread).encode(), self.now)
        self.rules.posted(channel, at, root, user)

    def _wait(self, seconds: int) -> None:
        self.now += seconds * SECOND

    def _delete(self, channel: str, ts: int) -> None:
        self._missing(channel, ts)
        with self.store.transaction():
            self.decider.apply("deletion", {"channel": channel, "ts": ts_text(ts), "deleted_ts": ts_text(self.now)}, self.now)
        self.rules.message_deleted(channel, ts)

    def _gone(self, prediction: str) -> None:
        with self.store.transaction():
            self.decider.apply_tombstone(prediction.encode(), self.now)
        self.rules.prediction_gone(prediction)

    def _missing(self, channel: str, ts: int) -> None:
        self.space.missing.add((channel, ts_text(ts)))
        self.rules.missing.add((channel, ts))

    def _wish(self, user: str, wishes: dict[str, Any]) -> None:
        (name, value) = next(iter(wishes.items()))
        with self.store.transaction():
            if name == "muted":
                self.store.set_muted(user, value)
            elif name == "topics":
                for words in ("builds", "lunch"):
                    self.store.set_topic(user, words, wanted=words in value)
            elif name == "quiet":
                self.store.set_preferences(user, quiet_from=value[0], quiet_to=value[1])
            else:
                self.store.set_preferences(user, **{name: int(value) if isinstance(value, bool) else value})
        self.rules.wished(user, **wishes)

    def _home(self, user: str) -> None:
        with self.store.transaction():
            self.store.note_home_opened(user)
        self.rules.with_home.add(user)

    def _member(self, channel: str, user: str, is_member: bool) -> None:
        members = self.space.channels[channel]["members"]
        if is_member and user not in members:
            members.append(user)
        elif not is_member and user in members:
            members.remove(user)
        self.rules.places[channel].members = set(members)

    def _private(self, channel: str, private: bool) -> None:
        self.space.channels[channel]["private"] = self.rules.places[channel].private = private

    def _archived(self, channel: str, archived: bool) -> None:
        self.space.channels[channel]["archived"] = archived  # who may see it stays as it was

    def _answers(self, channel: str, how: str) -> None:
        self.space.channels[channel]["answers"] = self.rules.places[channel].answer = how

    def _person(self, user: str, kind: str, zone: str | None) -> None:
        self.rules.people[user] = Someone(kind, zone)
        self.space.users.pop(user, None)
        if kind != "unknown":
            self.space.user(
                user, tz=zone, deleted=kind == "left", is_restricted=kind == "guest", **({"team_id": "T2"} if kind == "stranger" else {})
            )

    def _restart(self) -> None:
        self.close()
        self.begin()
        self.rules.restarted(self.now / SECOND)

    def _deliver(self, takes_messages: bool) -> None:
        self.slack.takes_messages = takes_messages
        with self.store.transaction():
            for user in self.rules.with_home:
                self.store.mark_home_stale(user)
        while self.delivery.work():
            pass
        self.rules.delivered(self.now, self.now / SECOND, takes_messages=takes_messages)
        self._compare_what_is_seen()

    # What must agree

    def compare(self) -> None:
        """Every alert's state, and every count."""
        rows = self.store._rows("SELECT id, user, kind, way, state FROM alert")
        found = {row["id"]: (row["user"], row["kind"], row["way"], row["state"]) for row in rows}
        assert found == {each.id: (each.user, each.kind, each.way, each.state) for each in self.rules.alerts.values()}
        counts = {name: count for name, count in self.store.counts().items() if name.startswith(COUNTED)}
        expected = Counter({name: count for name, count in self.rules.counts.items() if name.startswith(COUNTED)})
        assert counts == dict(expected)

    def _compare_what_is_seen(self) -> None:
        for user in PEOPLE:
            shown = {each["metadata"]["event_payload"]["id"]: _texts_in(each) for each in self.space.sent_to(user)}
            assert len(shown) == len(self.space.sent_to(user)), "nobody is alerted twice to one thing"
            assert shown == {identity: {text} - {""} for identity, text in self.rules.messages_of(user).items()}
        assert {user: _texts_in(view) for user, view in self.space.homes.items()} == {
            user: self.rules.home_of(user) for user in self.rules.with_home
        }
        assert sorted(self.forwarded) == sorted(self.rules.forwarded)
        counts = self.store.counts()
        for name in ("letters_sent", "told:slack"):
            assert counts.get(name, 0) == self.rules.counts[name]


def _texts_in(view: Any) -> set[str]:
    return set(re.findall(r"of C\d at \d+", json.dumps(view)))


__all__ = ["NOON", "AlertRun", "Defaults", "Step", "World", "worlds"]
