"""The export (a zip) that Slack would give of a simulated workspace."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from beepgpt.conversations.rules import SECOND
from beepgpt.simulation.bursts import SimulatedPost
from beepgpt.simulation.history import acts, apply_act
from beepgpt.simulation.people import TOPICS, SimulatedChannel, SimulatedWorkspace, person_name, slack_id
from beepgpt.simulation.plan import Plan
from beepgpt.simulation.slack_json import body_fields, bot_user, edited_fields, message_fields, thread_fields, tombstone_fields


def write_export(plan: Plan, path: str | Path, *, folder_deep: bool = False, until: int | None = None) -> None:
    """Write the workspace's export to a zip; `folder_deep`: inside one more folder.

    `until`: as of then, microseconds; None: as of the end of the plan.
    """
    workspace = SimulatedWorkspace(plan)
    within = "Made-up Workspace Slack export/" if folder_deep else ""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        listed: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
        for index in range(plan.channels):
            channel = workspace.channel(index)
            listed[channel.private].append(_listed_channel(workspace, channel))
            if channel.left:
                for day, messages in _days(workspace, index, workspace.end if until is None else until):
                    _write(archive, f"{within}{channel.name}/{day}.json", messages)
        _write(archive, f"{within}channels.json", _array(listed[False]))
        _write(archive, f"{within}groups.json", _array(listed[True]))
        listed_people = chain((listed_person(workspace, index) for index in range(plan.people)), listed_bots(workspace))
        _write(archive, f"{within}users.json", _array(listed_people))
        _write(archive, f"{within}dms.json", "[]")


def _array(items: Iterable[Any]) -> str:
    """Format values as a JSON array, one a line."""
    return "[" + ",\n".join(json.dumps(item) for item in items) + "]"


def _write(archive: zipfile.ZipFile, name: str, text: str) -> None:
    """Add a file with a fixed time, so that the zip has the same bytes."""
    info = zipfile.ZipInfo(name, date_time=(2024, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    archive.writestr(info, text)


def _posts(workspace: SimulatedWorkspace, index: int, until: int) -> list[SimulatedPost]:
    """A channel's messages as they stood at `until`."""
    posts: list[SimulatedPost] = []
    for entry in acts(workspace, range(index, index + 1)):
        _, t, _, kind, post, _ = entry
        if t >= until:
            if kind == "post" and post.root is not None:
                post.root.replies.remove(post)
            break
        apply_act(entry)
        if kind == "post":
            posts.append(post)
    return posts


def _days(workspace: SimulatedWorkspace, index: int, until: int) -> Iterator[tuple[str, str]]:
    """Yield a channel's day files: the local date, and the messages in their final state."""
    zone = ZoneInfo(workspace.plan.time_zone)
    day = ""
    messages: list[str] = []
    for post in _posts(workspace, index, until):
        exported = exported_message(workspace, post)
        if exported is None:
            continue
        date = datetime.fromtimestamp(post.t // SECOND, zone).strftime("%Y-%m-%d")
        if date != day and messages:
            yield day, "[" + ",\n".join(messages) + "]"
            messages = []
        day = date
        messages.append(exported)
    if messages:
        yield day, "[" + ",\n".join(messages) + "]"


def exported_message(workspace: SimulatedWorkspace, post: SimulatedPost) -> str | None:
    """A message in its final state; None if it was deleted and had no replies."""
    if post.gone:
        return f"{{{tombstone_fields(workspace, post, replies=True)}}}" if post.replies else None
    exported = body_fields(workspace, post)
    if post.edited:
        exported = f"{exported},{edited_fields(workspace, post, post.edited)}"
    if post.unfurled:
        exported = f'{exported},"attachments":[{{"id":1,"title":"The notes","from_url":"https://wiki.example.com/"}}]'
    if post.replies:
        exported = f"{exported},{thread_fields(workspace, post, replies=True)}"
    if post.form == "thread_broadcast" and post.root is not None and (post.root.replies or not post.root.gone):
        root = tombstone_fields(workspace, post.root) if post.root.gone else message_fields(workspace, post.root)
        exported = f'{exported},"root":{{{root}}}'
    if post.reactions:
        by_name: dict[str, list[str]] = {}
        for name, user in post.reactions:
            by_name.setdefault(name, []).append(workspace.people[user].id)
        most = workspace.plan.named_reactors or None
        reactions = [{"name": name, "users": users[:most], "count": len(users)} for name, users in by_name.items()]
        exported = f'{exported},"reactions":{json.dumps(reactions, separators=(",", ":"))}'
    return f"{{{exported}}}"


def _listed_channel(workspace: SimulatedWorkspace, channel: SimulatedChannel) -> dict[str, Any]:
    """A channel's entry in channels.json or groups.json."""
    members = [workspace.people[who].id for who in workspace.members(channel)]
    purpose = {"value": ", ".join(dict.fromkeys(TOPICS[topic] for topic in channel.topics)), "creator": members[0], "last_set": 0}
    return {
        "id": channel.new_id or channel.id,
        "name": channel.name,
        "created": workspace.start // SECOND,
        "creator": members[0],
        "is_archived": False,
        "is_general": channel.index == 0,
        "members": members,
        "topic": {"value": "", "creator": "", "last_set": 0},
        "purpose": purpose,
    }


def listed_person(workspace: SimulatedWorkspace, index: int) -> dict[str, Any]:
    """A person's entry in users.json."""
    person = workspace.people[index]
    first, last = person_name(index)
    zone, label, offset, _ = person.office
    return {
        "id": person.id,
        "team_id": workspace.team,
        "name": f"{first}.{last}.{index}".lower(),
        "deleted": False,
        "real_name": f"{first} {last}",
        "tz": zone,
        "tz_label": label,
        "tz_offset": offset * 3600,
        "profile": {"real_name": f"{first} {last}", "display_name": first.lower(), "team": workspace.team},
        "is_admin": index == 0,
        "is_bot": False,
        "updated": workspace.start // SECOND,
    }


def listed_bots(workspace: SimulatedWorkspace) -> Iterator[dict[str, Any]]:
    """The apps' entries in users.json."""
    for topic, name in enumerate(TOPICS):
        yield {
            "id": bot_user(workspace, topic),
            "team_id": workspace.team,
            "name": f"{name}-app",
            "deleted": False,
            "real_name": name,
            "profile": {"real_name": name, "bot_id": slack_id("B", workspace.plan.seed, 100 + topic), "team": workspace.team},
            "is_bot": True,
            "updated": workspace.start // SECOND,
        }
