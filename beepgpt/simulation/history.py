"""The history of a simulated workspace: all bursts of its channels and all changes to their messages, in order of time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from heapq import heappop, heappush

from beepgpt.conversations.rules import SECOND
from beepgpt.simulation import words
from beepgpt.simulation.bursts import BURST, ELSEWHERE_FORMS, NO_DETAIL, Burst, SimulatedPost
from beepgpt.simulation.people import TOPICS, SimulatedChannel, SimulatedWorkspace
from beepgpt.simulation.plan import EDIT_DELAY, EXPONENTIAL, REACTION_DELAY, after_delay, pick, quantile

BOT_FORMS = ("bot_message", "app", "slackbot")


class BurstChanges:
    """Draws what happens around and to the messages of a burst, and adds it to the burst's acts."""

    __slots__ = ("acts", "burst", "draws", "plan", "random", "workspace")

    def __init__(self, burst: Burst) -> None:
        """Prepare to change this burst."""
        self.burst = burst
        self.workspace = burst.workspace
        self.plan = burst.workspace.plan
        self.acts = burst.acts
        self.draws = burst.workspace.trouble
        self.random = burst.workspace.trouble.random

    def interrupt(self, post: SimulatedPost) -> None:
        """Add bots, joins, topic changes and messages without an author soon after a post."""
        plan = self.plan
        if self.random() < plan.bots:
            text = pick(words.BOT_TEXTS, self.draws).format(topic=TOPICS[post.topic], number=int(self.random() * 500))
            self.insert(post, pick(BOT_FORMS, self.draws), -1, text, in_thread=0.25)
        if self.random() < plan.no_author:
            self.insert(post, "no_author", -1, self.burst.text("answer", -1, []) if self.random() < 0.9 else "", in_thread=0.6)
        if self.random() < plan.joins:
            user = pick(self.burst.members, self.draws)
            name = f"<@{self.workspace.people[user].id}>"
            if self.random() < 0.8:
                self.insert(post, "channel_join", user, f"{name} has joined the channel", in_thread=0.0)
            else:
                self.insert(post, "channel_topic", user, f"{name} set the channel topic: {TOPICS[post.topic]}", in_thread=0.0)

    def insert(self, post: SimulatedPost, form: str, user: int, text: str, *, in_thread: float) -> None:
        """Add a message that is no person's answer, after a post; `in_thread`: the probability that it is a reply."""
        root = (post.root or post) if self.random() < in_thread else None
        t = post.t + SECOND + int(self.random() * 300 * SECOND)
        if root is not None and t < self.workspace.end:
            root.shielded = min(root.shielded or t, t)
        self.acts.append((t, "post", SimulatedPost(t, user, text, root, form, self.draws.getrandbits(128), post.topic), NO_DETAIL))

    def change(self, post: SimulatedPost) -> None:
        """Add unfurls, edits, reactions and a deletion of a post; nothing follows the deletion."""
        plan = self.plan
        gone = self.workspace.end
        # The replies of a deleted root stay: they keep its tombstone standing.
        if self.random() < plan.deletions and not (post.root is not None and post.root.doomed):
            gone = after_delay(max(post.t, post.shielded) + SECOND, EDIT_DELAY, self.draws)
            post.doomed = True
            self.acts.append((gone, "delete", post, NO_DETAIL))
        if plan.unfurls and "<https" in post.text and post.form not in ELSEWHERE_FORMS and self.random() < plan.unfurls:
            self.add(post.t + SECOND + int(self.random() * 2 * SECOND), gone, "unfurl", post, NO_DETAIL)
        if self.random() < plan.edits:
            self.edit(post, gone)
        if self.random() < plan.reactions / 2:
            self.react(post, gone)

    def add(self, t: int, gone: int, kind: str, post: SimulatedPost, detail: tuple[str, int]) -> None:
        """Add an act if it comes before the deletion, with a margin for times that `history` moves."""
        if t < gone - 1000:
            self.acts.append((t, kind, post, detail))

    def edit(self, post: SimulatedPost, gone: int) -> None:
        """Edit a post once or twice."""
        t = after_delay(post.t, EDIT_DELAY, self.draws)
        text = post.text + pick(words.SECOND_THOUGHTS, self.draws)
        self.add(t, gone, "edit", post, (text, -1))
        if self.random() < 0.15:
            self.add(after_delay(t, EDIT_DELAY, self.draws), gone, "edit", post, (text + pick(words.SECOND_THOUGHTS, self.draws), -1))

    def react(self, post: SimulatedPost, gone: int) -> None:
        """Add reactions by different people, two on average; one in ten is removed again."""
        seen = set()
        while True:
            t = after_delay(post.t, REACTION_DELAY, self.draws)
            weights = self.workspace.answering(self.burst.channel, post.topic, post.t)
            user = self.burst.members[bisect_right(weights, self.random() * weights[-1], 0, len(weights) - 1)]
            name = words.REACTIONS[int(self.random() * self.random() * len(words.REACTIONS))]
            if (name, user) not in seen:
                seen.add((name, user))
                self.add(t, gone, "react", post, (name, user))
                back = after_delay(t, EDIT_DELAY, self.draws)
                if self.random() < 0.1 and t < gone - 1000:
                    self.add(back, gone, "unreact", post, (name, user))
            if self.random() < 0.5:
                return


# Time, channel index, number in that channel, kind, message, detail: the text of an edit, or the reaction and the person's index.
PlannedAct = tuple[int, int, int, str, SimulatedPost, tuple[str, int]]

# Planned time, actual time (unique within a channel), channel, kind, message, detail.
HistoryEntry = tuple[int, int, SimulatedChannel, str, SimulatedPost, tuple[str, int]]
NO_POST = SimulatedPost(0, -1, "", None, "", 0, 0)


def history(workspace: SimulatedWorkspace, indexes: range) -> Iterator[HistoryEntry]:
    """Everything that happens in these channels, in order of time; messages are yielded as they were before the change."""
    for entry in acts(workspace, indexes):
        yield entry
        apply_act(entry)


def acts(workspace: SimulatedWorkspace, indexes: range) -> Iterator[HistoryEntry]:
    """The same, for a caller that applies each (`apply_act`) before it asks for the next.

    Each burst is drawn from its own seed when its time comes, so a channel has the same history alone as among others,
    and only the open bursts are in memory.
    """
    planned: list[PlannedAct] = []
    channels: dict[int, SimulatedChannel] = {}
    for index in indexes:
        channel = workspace.channel(index)
        if channel.left:
            channels[index] = channel
            _plan_burst(workspace, channel, planned)
            if channel.moves_at is not None:
                heappush(planned, (workspace.time_of(channel.moves_at), index, -2, "move", NO_POST, (channel.new_id, -1)))
    while planned:
        at, index, _, kind, post, detail = heappop(planned)
        channel = channels[index]
        if kind == "burst":
            _draw_burst(workspace, channel, at, planned)
            if channel.left:
                _plan_burst(workspace, channel, planned)
            continue
        t = channel.last = max(at, channel.last + 1)
        if kind == "post":
            post.t = t
            if post.root is not None:
                post.root.replies.append(post)
        yield at, t, channel, kind, post, detail


def apply_act(entry: HistoryEntry) -> None:
    """Apply a change to the message, or to the channel."""
    _, t, channel, kind, post, detail = entry
    if kind == "move":
        channel.id = channel.new_id
    elif kind == "edit":
        post.text = detail[0]
        post.edited = t
    elif kind == "unfurl":
        post.unfurled = True
    elif kind == "delete":
        post.gone = True
        if post.root is not None:
            post.root.replies.remove(post)
    elif kind == "react":
        post.reactions.append(detail)
    elif kind == "unreact":
        post.reactions.remove(detail)


def _plan_burst(workspace: SimulatedWorkspace, channel: SimulatedChannel, planned: list[PlannedAct]) -> None:
    """Draw the time of the channel's next burst: the earliest of those that remain."""
    workspace.random.seed(_seed_of(workspace, channel, 0))
    wait = quantile(EXPONENTIAL, workspace.random.random())
    channel.passed += (1 - channel.passed) * wait / (wait + max(channel.left / BURST, 1.0))
    heappush(planned, (workspace.time_of(channel.passed), channel.index, -1, "burst", NO_POST, NO_DETAIL))


def _seed_of(workspace: SimulatedWorkspace, channel: SimulatedChannel, purpose: int) -> int:
    """Seed for one purpose of one burst: different for each plan, channel and burst."""
    return ((workspace.plan.seed & 0xFFFFFFFF) << 96) | (channel.index << 64) | (channel.bursts << 8) | purpose


def _draw_burst(workspace: SimulatedWorkspace, channel: SimulatedChannel, t: int, planned: list[PlannedAct]) -> None:
    """Simulate a burst and the changes to its messages, and put them on the heap."""
    workspace.random.seed(_seed_of(workspace, channel, 1))
    burst = Burst(workspace, channel)
    burst.run(t)
    # Changes have draws of their own: the conversations are the same without them.
    workspace.trouble.seed(_seed_of(workspace, channel, 2))
    changes = BurstChanges(burst)
    for post in burst.posts:
        changes.interrupt(post)
    for post in burst.posts:
        changes.change(post)
    for at, kind, post, detail in burst.acts:
        if at < workspace.end:
            channel.acts += 1
            heappush(planned, (at, channel.index, channel.acts, kind, post, detail))
    channel.bursts += 1
