"""Bursts of talk: a session about one topic, with the threads that it opens."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from beepgpt.conversations.rules import DAY
from beepgpt.simulation import words
from beepgpt.simulation.people import TOPICS, SimulatedChannel, SimulatedWorkspace
from beepgpt.simulation.plan import FIRST_REPLY, NEXT_REPLY, SESSION_GAP, after_delay, float_sum, pick

SESSION_GOES_ON = 0.55
THREAD_STARTS = {"question": 0.6, "remark": 0.25}
THREAD_GOES_ON = 0.66
LONGEST_THREAD = 20
NEXT_DAY = 0.06
"""Share of replies that come a day or two later."""

BURST = 4.8
"""Posts by people in one session and its threads, on average."""

HABIT = 0.6
"""How often it is one of the last speakers who answers, if there are others than the author."""

RECENCY = (0.7, 0.2, 0.1)
"""Which of them, newest first."""

OFF_TOPIC = 0.1

ELSEWHERE_FORMS = ("by_app", "forwarded", "in_blocks", "old_upload", "file_comment", "colons")
"""Forms of posts by people whose author or words stand elsewhere than in `user` and `text`."""


@dataclass(slots=True, eq=False)
class SimulatedPost:
    """A message in its current state."""

    t: int
    user: int
    """Index of the author; -1 for bots and messages without an author."""
    text: str
    root: SimulatedPost | None
    form: str
    key: int
    """128 bits for its ids."""
    topic: int
    edited: int = 0
    unfurled: bool = False
    gone: bool = False
    doomed: bool = False
    """Will be deleted."""
    shielded: int = 0
    """It is not deleted before this time (microseconds)."""
    replies: list[SimulatedPost] = field(default_factory=list)
    reactions: list[tuple[str, int]] = field(default_factory=list)
    truth: tuple[tuple[int, float], ...] = ()


NO_DETAIL = ("", -1)


class Burst:
    """One session about one topic, and the threads it opens."""

    __slots__ = ("acts", "channel", "draws", "members", "posts", "random", "topic", "workspace")

    def __init__(self, workspace: SimulatedWorkspace, channel: SimulatedChannel) -> None:
        """Draw the topic."""
        self.workspace = workspace
        self.channel = channel
        self.draws = workspace.random
        self.random = workspace.random.random
        self.members = workspace.members(channel)
        self.topic = pick(channel.topics, self.draws)
        self.posts: list[SimulatedPost] = []
        self.acts: list[tuple[int, str, SimulatedPost, tuple[str, int]]] = []

    def responder(self, author: int, t: int, spoke: list[int]) -> int:
        """Draw who answers: often one of the last speakers, else by activity, knowledge and hour."""
        draw = self.random()
        others = [who for who in spoke if who != author]
        if draw < HABIT and others:
            return _by_recency(others, draw / HABIT)
        if len(self.members) == 1:
            return author
        weights = self.workspace.answering(self.channel, self.topic, t)
        place = self.members.index(author)
        before = weights[place - 1] if place else 0.0
        own = weights[place] - before
        at = self.random() * (weights[-1] - own)
        if at >= before:
            at += own
        found = bisect_right(weights, at, 0, len(weights) - 1)
        if found == place:  # by rounding
            found += 1 if place + 1 < len(weights) else -1
        return self.members[found]

    def asker(self, t: int) -> int:
        """Draw who starts the session."""
        weights = self.workspace.answering(self.channel, -1, t)
        return self.members[bisect_right(weights, self.random() * weights[-1], 0, len(weights) - 1)]

    def post(self, t: int, user: int, kind: str, root: SimulatedPost | None, spoke: list[int]) -> SimulatedPost:
        """Post a message of this kind; `spoke`: the last speakers, newest first."""
        plan = self.workspace.plan
        text = self.text(kind, user, spoke)
        form = ""
        draw = self.random()
        if draw < plan.files:
            form = "file_share"
        elif draw < plan.files + plan.me:
            form = "me_message"
        elif root is not None and 1 - draw < plan.broadcasts:
            form = "thread_broadcast"
        elif plan.elsewhere and self.random() < plan.elsewhere:
            form = pick(ELSEWHERE_FORMS, self.draws)
            text = f"{text} std::{TOPICS[self.topic]}::iterator" if form == "colons" else text
        post = SimulatedPost(t, user, text, root, form, self.draws.getrandbits(128), self.topic)
        self.posts.append(post)
        self.acts.append((t, "post", post, NO_DETAIL))
        self.channel.left -= 1
        return post

    def text(self, kind: str, user: int, spoke: list[int]) -> str:
        """Draw a sentence about the topic, sometimes about another one, sometimes with markup."""
        random = self.random
        topic = self.topic
        draw = random()
        if draw < OFF_TOPIC:
            topic = int(draw / OFF_TOPIC * len(TOPICS))
        templates = self.workspace.texts[kind][topic]
        drawn = templates[int(random() * len(templates))]
        text = drawn.text % tuple([hole[int(random() * len(hole))] for hole in drawn.holes])
        draw = random()
        plan = self.workspace.plan
        if draw < plan.links + plan.code + plan.mentions + 0.03:
            return self.adorned(text, draw, user, spoke)
        return text

    def adorned(self, text: str, draw: float, user: int, spoke: list[int]) -> str:
        """Add a link, code, a mention or an emoji to a text."""
        plan = self.workspace.plan
        topic = TOPICS[self.topic]
        number = str(int(self.random() * 9000) + 100)
        if draw < plan.links:
            label = "" if self.random() < 0.4 else "|the notes"
            return f"{text} <https://wiki.example.com/{topic}/{number}?a=1&amp;b=2{label}>"
        if draw < plan.links + plan.code:
            return text + "\n" + pick(words.CODE, self.draws).format(topic=topic, number=number)
        if draw < plan.links + plan.code + plan.mentions:
            if spoke and spoke[0] != user and self.random() < 0.7:
                return f"<@{self.workspace.people[spoke[0]].id}> {text}"
            return f"{text} (see <#{self.channel.id}|{self.channel.name}>)" if self.random() < 0.8 else f"<!here> {text}"
        return f"{text} {pick(words.EMOJI, self.draws)}"

    def remember_truth(self, post: SimulatedPost, spoke: list[int]) -> None:
        """Keep the ten likeliest answerers on the post, from the distribution that `responder` draws from."""
        if not self.workspace.keeps_truth or len(self.members) == 1:
            return
        weights = self.workspace.answering(self.channel, self.topic, post.t)
        single = [after - before for before, after in zip([0.0, *weights], weights, strict=False)]
        single[self.members.index(post.user)] = 0.0
        others = [who for who in spoke if who != post.user]
        total = float_sum(single)
        rest = (1 - HABIT if others else 1.0) / total
        probabilities = {who: weight * rest for who, weight in zip(self.members, single, strict=True) if weight}
        places = RECENCY[: len(others)]
        for who, place in zip(others, places, strict=False):
            probabilities[who] += HABIT * place / float_sum(places)
        post.truth = tuple(sorted(probabilities.items(), key=lambda item: (-item[1], item[0]))[:10])

    def thread(self, root: SimulatedPost, kind: str, spoke: list[int]) -> None:
        """Simulate the replies to a root, if there are any."""
        random = self.random
        if random() >= THREAD_STARTS[kind]:
            return
        spoke = list(spoke)
        last = root
        t = root.t
        for number in range(LONGEST_THREAD):
            if not self.channel.left or (number and random() >= THREAD_GOES_ON):
                return
            same = random() < (0.2 if number else 0.07)
            user = last.user if same else self.responder(last.user, last.t, spoke)
            t += int(after_delay(0, NEXT_REPLY if number else FIRST_REPLY, self.draws) * self.workspace.plan.reply_delay)
            if random() < NEXT_DAY:
                t += DAY if random() < 0.7 else 2 * DAY
            if t >= self.workspace.end:
                return
            last = self.post(t, user, "thanks" if user == root.user else "answer", root, spoke)
            if not root.shielded:
                root.shielded = t
            _note_speaker(spoke, user)
            self.remember_truth(last, spoke)

    def run(self, t: int) -> None:
        """Simulate the session from time `t` on: its roots, each with its thread."""
        random = self.random
        spoke: list[int] = []
        user = self.asker(t)
        kind = "question" if random() < 0.6 else "remark"
        while True:
            root = self.post(t, user, kind, None, spoke)
            _note_speaker(spoke, user)
            self.remember_truth(root, spoke)
            self.thread(root, kind if kind in THREAD_STARTS else "remark", spoke)
            t = after_delay(t, SESSION_GAP, self.draws)
            if not self.channel.left or t >= self.workspace.end or random() >= SESSION_GOES_ON:
                return
            if random() >= 0.35:
                user = self.responder(user, root.t, spoke)
                kind = "answer" if random() < 0.6 else "question"
            else:
                kind = "remark"


def _by_recency(others: list[int], draw: float) -> int:
    """Draw one of the last speakers, by `RECENCY`."""
    places = RECENCY[: len(others)]
    at = draw * float_sum(places)
    for who, place in zip(others, places, strict=False):
        at -= place
        if at < 0:
            return who
    return others[len(places) - 1]


def _note_speaker(spoke: list[int], user: int) -> None:
    """Put the newest speaker first, and keep only the last few."""
    if user in spoke:
        spoke.remove(user)
    spoke.insert(0, user)
    del spoke[len(RECENCY) + 1 :]
