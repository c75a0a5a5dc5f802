"""The history of a simulated workspace: all bursts of its channels and all changes to their messages, in order of time."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from beepgpt.simulation.bursts import BURST, NO_DETAIL, Burst, SimulatedPost
from beepgpt.simulation.changes import BurstChanges
from beepgpt.simulation.draws import EXPONENTIAL, quantile
from beepgpt.simulation.people import SimulatedChannel, SimulatedWorkspace

# Time, channel index, number in that channel, kind, message, detail: the text of an edit, or the reaction and the person's index.
PlannedAct = tuple[int, int, int, str, SimulatedPost, tuple[str, int]]

# Planned time, actual time (unique within a channel), channel, kind, message, detail.
HistoryEntry = tuple[int, int, SimulatedChannel, str, SimulatedPost, tuple[str, int]]
NO_POST = SimulatedPost(0, -1, "", None, "", 0, 0)


def history(workspace: SimulatedWorkspace, indexes: range) -> Iterator[HistoryEntry]:
    """Everything that happens in these channels, in order of time; messages are yielded as they were before the change.

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
        _apply(kind, t, post, detail)


def _apply(kind: str, t: int, post: SimulatedPost, detail: tuple[str, int]) -> None:
    """Apply a change to the message."""
    if kind == "edit":
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
