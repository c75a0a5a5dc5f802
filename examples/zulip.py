"""Zulip's export as chat events, for `beepgpt examples`, `train` and `score`: an adapter for a chat that isn't Slack.

tar xf zulip-export.tar.gz && python examples/zulip.py zulip-export > zulip.jsonl

Public channels only. A topic is a thread of its first message; texts and topics are what they were when they were written, and edits come
at their time. Zulip has no times for reactions, and leaves deleted messages out.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from beepgpt import ChatEvent

MENTION = re.compile(r"@\*\*([^*|]+)(?:\|(\d+))?\*\*")


def events(folder: str) -> Iterator[ChatEvent]:
    """All events of an export that was unpacked, in the order of time; reactions at the end."""
    realm = json.loads(Path(folder, "realm.json").read_bytes())
    people = {each["id"]: each for each in [*realm["zerver_userprofile"], *realm.get("zerver_userprofile_crossrealm", [])]}
    ids = {each["full_name"]: number for number, each in people.items()}
    public = {each["id"]: each["name"] for each in realm["zerver_stream"] if not each["invite_only"]}
    channels = {
        each["id"]: public[each["type_id"]] for each in realm["zerver_recipient"] if each["type"] == 2 and each["type_id"] in public
    }
    files = sorted(Path(folder).glob("messages-*.json"))
    messages = [each for file in files for each in json.loads(file.read_bytes())["zerver_message"] if each["recipient"] in channels]
    found: list[ChatEvent] = []
    sent: dict[int, tuple[str, int]] = {}
    roots: dict[tuple[str, str], int] = {}
    for message in sorted(messages, key=lambda each: each["date_sent"]):
        channel, at, sender = channels[message["recipient"]], round(message["date_sent"] * 1e6), message["sender"]
        sent[message["id"]] = channel, at
        changes = json.loads(message["edit_history"] or "[]")[::-1]  # oldest first
        topic = next((each["prev_topic"] for each in changes if "prev_topic" in each), message["subject"])
        rewritten = [each for each in changes if "prev_content" in each]
        texts = [*(each["prev_content"] for each in rewritten), message["content"]]
        named = [number or str(ids.get(name, name)) for name, number in MENTION.findall(texts[0])]
        root = roots.setdefault((channel, topic), at)
        is_bot = people.get(sender, {}).get("is_bot", False)
        found.append(ChatEvent.post(channel, str(sender), at, plain(texts[0]), thread=root, mentions=named, bot=is_bot))
        for change, text in zip(rewritten, texts[1:], strict=True):
            found.append(ChatEvent.edit(channel, at, max(change["timestamp"] * 1_000_000, at + 1), plain(text)))
    yield from sorted(found, key=lambda event: event.at or 0)
    for each in realm["zerver_reaction"]:
        if each["message"] in sent:
            yield ChatEvent.react(*sent[each["message"]], str(each["user_profile"]), each["emoji_name"], None)


def plain(text: str) -> str:
    """A text with names for mentions."""
    return MENTION.sub(lambda found: found[1], text)


if __name__ == "__main__":
    for event in events(sys.argv[1]):
        print(event.record.decode())
