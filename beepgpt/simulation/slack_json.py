"""Messages and events of a simulated workspace as JSON, as Slack's Events API and exports write them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from json.encoder import encode_basestring_ascii as quoted

from beepgpt.conversations.events import ts_text
from beepgpt.conversations.rules import SECOND
from beepgpt.simulation.bursts import ELSEWHERE_FORMS, SimulatedPost
from beepgpt.simulation.history import BOT_FORMS, history
from beepgpt.simulation.people import TOPICS, SimulatedChannel, SimulatedWorkspace, slack_id

POSTED = ("", "thread_broadcast", "me_message", "file_share")
KIND_OF_FORM = {
    **dict.fromkeys((*POSTED, *ELSEWHERE_FORMS), "post"),
    **dict.fromkeys(BOT_FORMS, "bot"),
    "no_author": "no_author",
    "channel_join": "join",
    "channel_topic": "topic",
}

InnerEvent = tuple[int, int, SimulatedChannel, list[str], str]
SUBTYPES = {
    **dict.fromkeys(("", "app", "no_author", "by_app", "forwarded", "in_blocks", "colons"), ""),
    "slackbot": "slackbot_response",
    "old_upload": "file_share",
}
"""`subtype` of the forms that are not named after it."""


def message_id(post: SimulatedPost) -> str:
    """The `client_msg_id` of a message by a person: its 128 bits as a UUID."""
    text = f"{post.key:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _author_fields(workspace: SimulatedWorkspace, post: SimulatedPost) -> str:
    """JSON fields that name the author, without braces."""
    if post.form in POSTED:
        return f'"user":"{workspace.people[post.user].id}","client_msg_id":"{message_id(post)}","team":"{workspace.team}"'
    if post.form == "by_app":
        app = slack_id("B", workspace.plan.seed, 200)
        return f'"user":"{workspace.people[post.user].id}","bot_id":"{app}","bot_profile":{{"id":"{app}","name":"voice"}}'
    if post.form == "file_comment":
        return f'"comment":{{"user":"{workspace.people[post.user].id}","comment":{quoted(post.text)}}}'
    if post.form == "bot_message":
        return f'"bot_id":"{slack_id("B", workspace.plan.seed, post.topic)}","username":"{TOPICS[post.topic]}-bot"'
    if post.form == "app":
        bot = slack_id("B", workspace.plan.seed, 100 + post.topic)
        return f'"user":"{_user_of(workspace, post)}","bot_id":"{bot}","bot_profile":{{"id":"{bot}","name":"{TOPICS[post.topic]}"}}'
    if post.form == "slackbot":
        return '"user":"USLACKBOT"'
    if post.form == "no_author":
        return '"user":""' if post.key & 1 else ""
    return f'"user":"{workspace.people[post.user].id}"'


def _file_fields(workspace: SimulatedWorkspace, post: SimulatedPost) -> str:
    """The `files` of a `file_share`; the address has a token, as in real exports."""
    file = slack_id("F", workspace.plan.seed, post.key % (1 << 40))
    return (
        f'"files":[{{"id":"{file}","name":"notes.pdf","mimetype":"application/pdf","mode":"hosted","size":{post.key % 100000},'
        f'"url_private":"https://files.example.com/{file}/notes.pdf?token=xoxe-made-up-{post.key % 1000}"}}],'
        '"upload":false,"display_as_bot":false'
    )


def body_fields(workspace: SimulatedWorkspace, post: SimulatedPost) -> str:
    """JSON fields of a message that are the same wherever it appears, without braces."""
    ts = ts_text(post.t)
    text = quoted(post.text)
    body = f'"type":"message","ts":"{ts}","text":{quoted(_shown_text(workspace, post))}'
    author = _author_fields(workspace, post)
    if author:
        body = f"{body},{author}"
    if post.form:
        subtype = SUBTYPES.get(post.form, post.form)
        if subtype:
            body = f'{body},"subtype":"{subtype}"'
        if post.form == "file_share":
            body = f"{body},{_file_fields(workspace, post)}"
        elif post.form == "forwarded":
            body = f'{body},"attachments":[{{"is_share":true,"text":{text},"from_url":"https://chat.example.com/archives/C1/p1"}}]'
        elif post.form == "old_upload":
            body = f'{body},"upload":true,"file":{{"id":"F1","title":"notes","initial_comment":{{"comment":{text}}}}}'
    if workspace.plan.blocks or post.form == "in_blocks":
        body = (
            f'{body},"blocks":[{{"type":"rich_text","block_id":"{post.key % 0xFFFFF:05x}","elements":'
            f'[{{"type":"rich_text_section","elements":[{{"type":"text","text":{text}}}]}}]}}]'
        )
    root = post.root
    if root is not None:
        body = f'{body},"thread_ts":"{ts_text(root.t)}"'
        if root.user >= 0:
            body = f'{body},"parent_user_id":"{workspace.people[root.user].id}"'
    return body


def _shown_text(workspace: SimulatedWorkspace, post: SimulatedPost) -> str:
    """A message's `text`: Slack's own sentence about a file, or none, where the words stand elsewhere."""
    if post.form in ("forwarded", "in_blocks"):
        return ""
    name, file = f"<@{workspace.people[post.user].id}>", "<https://files.example.com/F1|notes>"
    if post.form == "old_upload":
        return f"{name} uploaded a file: {file} and commented: {post.text}"
    return f"{name} commented on {name}\u2019s file {file}: {post.text}" if post.form == "file_comment" else post.text


def bot_user(workspace: SimulatedWorkspace, topic: int) -> str:
    """User id of a topic's app."""
    return slack_id("U", workspace.plan.seed, (1 << 21) + topic)


def _user_of(workspace: SimulatedWorkspace, post: SimulatedPost) -> str:
    """The author's id as in `reply_users`."""
    if post.user >= 0:
        return workspace.people[post.user].id
    if post.form == "slackbot":
        return "USLACKBOT"
    if post.form == "app":
        return bot_user(workspace, post.topic)
    return "" if post.form == "no_author" else slack_id("B", workspace.plan.seed, post.topic)


def thread_fields(workspace: SimulatedWorkspace, root: SimulatedPost, *, replies: bool = False) -> str:
    """JSON fields of a thread's root that count its replies; with `replies`, as exports list them."""
    users = list(dict.fromkeys(_user_of(workspace, reply) for reply in root.replies))
    thread = (
        f'"thread_ts":"{ts_text(root.t)}","reply_count":{len(root.replies)},"reply_users_count":{len(users)},'
        f'"latest_reply":"{ts_text(root.replies[-1].t)}","reply_users":{json.dumps(users[:5], separators=(",", ":"))}'
    )
    if replies:
        each = ",".join(f'{{"user":"{_user_of(workspace, reply)}","ts":"{ts_text(reply.t)}"}}' for reply in root.replies)
        thread = f'{thread},"replies":[{each}]'
    return f'{thread},"is_locked":false,"subscribed":false'


def edited_fields(workspace: SimulatedWorkspace, post: SimulatedPost, t: int) -> str:
    """The `edited` field: last editor and time in whole seconds."""
    return f'"edited":{{"user":"{workspace.people[post.user].id}","ts":"{t // SECOND}.000000"}}'


def message_fields(workspace: SimulatedWorkspace, post: SimulatedPost) -> str:
    """JSON fields of a message in its current state, as it appears inside other events."""
    body = body_fields(workspace, post)
    if post.edited:
        body = f"{body},{edited_fields(workspace, post, post.edited)}"
    if post.replies:
        body = f"{body},{thread_fields(workspace, post)}"
    return body


def tombstone_fields(workspace: SimulatedWorkspace, root: SimulatedPost, *, replies: bool = False) -> str:
    """JSON fields of the tombstone of a deleted root."""
    return (
        f'"type":"message","subtype":"tombstone","text":"This message was deleted.","user":"USLACKBOT","hidden":true,'
        f'"ts":"{ts_text(root.t)}","parent_user_id":"USLACKBOT",{thread_fields(workspace, root, replies=replies)}'
    )


def _posted(workspace: SimulatedWorkspace, post: SimulatedPost) -> str:
    """JSON fields of a new `message` event."""
    body = body_fields(workspace, post)
    if post.form == "thread_broadcast" and post.root is not None:
        body = f'{body},"root":{{{tombstone_fields(workspace, post.root) if post.root.gone else message_fields(workspace, post.root)}}}'
    return body


def _changed(workspace: SimulatedWorkspace, t: int, kind: str, post: SimulatedPost, detail: tuple[str, int]) -> str:
    """JSON fields of a `message_changed` or `message_deleted` event; `post` is the message before the change."""
    previous = message_fields(workspace, post)
    ts = ts_text(t)
    if kind == "delete" and not post.replies:
        changed = f'"subtype":"message_deleted","deleted_ts":"{ts_text(post.t)}"'
    elif kind == "delete":
        changed = f'"subtype":"message_changed","message":{{{tombstone_fields(workspace, post)}}}'
    elif kind == "unfurl":
        attachment = '"attachments":[{"id":1,"title":"The notes","from_url":"https://wiki.example.com/"}]'
        changed = f'"subtype":"message_changed","message":{{{previous},{attachment}}}'
    else:
        after = replace(post, text=detail[0], edited=t)
        changed = f'"subtype":"message_changed","message":{{{message_fields(workspace, after)}}}'
    return f'"type":"message",{changed},"previous_message":{{{previous}}},"hidden":true,"ts":"{ts}"'


def event_json(
    workspace: SimulatedWorkspace, t: int, channel: SimulatedChannel, kind: str, post: SimulatedPost, detail: tuple[str, int]
) -> str:
    """The inner event of a callback, as JSON."""
    if kind == "move":
        return f'{{"type":"channel_id_changed","old_channel_id":"{channel.id}","new_channel_id":"{detail[0]}","event_ts":"{ts_text(t)}"}}'
    if kind in ("react", "unreact"):
        name, user = detail
        return (
            f'{{"type":"{"reaction_added" if kind == "react" else "reaction_removed"}","user":"{workspace.people[user].id}",'
            f'"reaction":"{name}","item":{{"type":"message","channel":"{channel.id}","ts":"{ts_text(post.t)}"}},'
            f'"item_user":"{workspace.people[post.user].id}","event_ts":"{ts_text(t)}"}}'
        )
    inner = _posted(workspace, post) if kind == "post" else _changed(workspace, t, kind, post, detail)
    kind_of_channel = "group" if channel.private else "channel"
    return f'{{{inner},"channel":"{channel.id}","event_ts":"{ts_text(t)}","channel_type":"{kind_of_channel}"}}'


def _traits(channel: SimulatedChannel, kind: str, post: SimulatedPost) -> list[str]:
    """What `planted` counts for a record; the first is its kind."""
    if kind == "unreact":
        return ["react", "unreact"]
    if kind == "delete":
        return ["delete", "tombstone"] if post.replies else ["delete"]
    if kind != "post":
        return [kind]
    traits = [KIND_OF_FORM[post.form]]
    if traits[0] == "post":
        traits.append("root" if post.root is None else "reply")
    if post.form == "thread_broadcast":
        traits.append("broadcast")
    elif post.form == "file_share":
        traits.append("file")
    elif post.form in ELSEWHERE_FORMS:
        traits.append(post.form)
    if channel.private:
        traits.append("private")
    return traits


def inner_events(workspace: SimulatedWorkspace) -> Iterator[InnerEvent]:
    """The inner events of the whole workspace, in order of time."""
    for at, t, channel, kind, post, detail in history(workspace, range(workspace.plan.channels)):
        yield at, t, channel, _traits(channel, kind, post), event_json(workspace, t, channel, kind, post, detail)
