"""Who and what is forgotten, as salted hashes, and records without them: what a reader leaves out, and what `beepgpt forget` removes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import blake2b, sha256
from typing import Any, Final

import orjson

from beepgpt.conversations.events import channels_in, micros, ts_text
from beepgpt.conversations.speech import FILE_COMMENT, author_of
from beepgpt.lenient_json import decode_json

AUTHORS: Final = ("user", "user_id", "author_id", "item_user", "bot_id")
"""Keys that name whose something is: it goes with the person."""
IDENTITIES: Final = ("ts", "deleted_ts", "prompt_ts", "answer_ts", "message_ts")
"""Keys that name a message of the record's channel: a record about it goes with it. A reply stays when its root (`thread_ts`) goes."""
ESSENTIAL: Final = frozenset(
    {"event", "message", "previous_message", "item", "comment", "file", "user", "old_channel_id", "new_channel_id"}
)
"""Parts without which a record is nothing."""
_MENTION = re.compile(r"<([@#])([A-Za-z0-9]+)(?:\|[^<>]*)?>")
_ARCHIVED = re.compile(r"/archives/([A-Z0-9]+)/p([0-9]{10})([0-9]{6})")
_AUTHOR = re.compile(r"/team/([A-Z0-9]+)$")
_LINK = re.compile(r"<?https?://[^\s<>|]*/(?:team|user_profile)/([A-Za-z0-9]+)[^\s<>|]*(?:\|[^<>]*)?>?")
_BARE = re.compile(r"\b[UW][A-Z0-9]{6,}\b")
_NAMES = re.compile(rb'"([A-Za-z0-9_.:-]{1,64})"|(?:<[@#]|/team/|/user_profile/)([A-Za-z0-9]+)')
_LONGEST: Final = 64
"""Characters of the longest text that may be an id."""
_REMEMBERED: Final = 1 << 17

_GONE: Final = object()


class Forgotten:
    """The people, channels and messages that are forgotten. Only hashes are kept: nobody can read from the list who is on it.

    >>> ours = Forgotten(b"salt").with_names(people=["U1"], messages=[("C1", "1690360253.041239")])
    >>> ours.has_person("U1"), ours.has_channel("U1"), ours.has_message("C1", "1690360253.041239")
    (True, False, True)
    """

    def __init__(self, salt: bytes, hashes: Iterable[str] = ()) -> None:
        """`salt`: up to 64 bytes; `hashes`: as `hashes` of another one."""
        self.salt = salt
        self.hashes = frozenset(hashes)
        self.found: set[tuple[str, str]] | None = None
        """Where it is set: channels and times of the messages of forgotten people that `without` met."""
        self._known: dict[str, bool] = {}

    def with_names(self, people: Iterable[str] = (), channels: Iterable[str] = (), messages: Iterable[tuple[str, str]] = ()) -> Forgotten:
        """This list with more on it; a message is a channel's id and a time as Slack writes it. Raises ValueError for a bad time."""
        named = [f"person {each}" for each in people] + [f"channel {each}" for each in channels]
        named += [f"message {channel} {ts_text(micros(ts))}" for channel, ts in messages]
        return Forgotten(self.salt, self.hashes | {self._hash(each) for each in named})

    @property
    def digest(self) -> str:
        """12 hex digits that differ where the lists differ."""
        return sha256(self.salt + "\n".join(sorted(self.hashes)).encode()).hexdigest()[:12]

    def has_person(self, user: str) -> bool:
        """Whether a person is forgotten."""
        return self._has(f"person {user}")

    def has_channel(self, channel: str) -> bool:
        """Whether a channel is forgotten."""
        return self._has(f"channel {channel}")

    def has_message(self, channel: str, ts: str) -> bool:
        """Whether a message is forgotten; `ts` as Slack writes it."""
        try:
            return self._has(f"message {channel} {ts_text(micros(ts))}")
        except ValueError:
            return False

    def _hash(self, name: str) -> str:
        return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16, key=self.salt).hexdigest()

    def _has(self, name: str) -> bool:
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[name] = self._hash(name) in self.hashes
        return known

    def without(self, body: Any, channel: str = "") -> Any:
        """Decoded JSON without what is forgotten; None if nothing is left of it; the same object if nothing is forgotten in it.

        Whatever a forgotten person wrote, did or is named in by an id goes, wherever in the record it stands, and so does what is of a
        forgotten channel or about a forgotten message. In other people's words a mention stays as `<@>`, which names nobody.
        `channel`: where the record was said, if it doesn't say so itself.

        >>> ours = Forgotten(b"salt").with_names(people=["U1"])
        >>> ours.without({"type": "message", "channel": "C1", "user": "U1", "text": "hi", "ts": "1690360253.041239"})
        >>> ours.without({"user": "U2", "text": "Ask <@U1|ana>!", "reply_users": ["U1", "U2"]})
        {'user': 'U2', 'text': 'Ask <@>!', 'reply_users': ['U2']}
        >>> ours.without({"text": "Ask <https://x.slack.com/team/U1|Ana>!"})
        {'text': 'Ask <@>!'}
        """
        kept = self._value(body, channel)
        return None if kept is _GONE else kept

    def holds(self, body: Any, channel: str = "") -> bool:
        """Whether decoded JSON has anything of what is forgotten."""
        return self._value(body, channel) is not body

    def in_bytes(self, record: bytes) -> bool:
        """Whether a record that can't be decoded has the id of anything that is forgotten.

        >>> Forgotten(b"salt").with_names(people=["U1"]).in_bytes(b'{"user": "U1", "text": "cut sho')
        True
        """
        names = {(quoted or mentioned).decode() for quoted, mentioned in _NAMES.findall(record)}
        if any(self.has_person(name) or self._of_channel(name) for name in names):
            return True
        channels = [each.decode("utf-8", "replace") for each in channels_in(record)]
        return any(self.has_message(channel, name) for channel in channels for name in names)

    def _value(self, value: Any, channel: str) -> Any:
        if type(value) is str:
            return self._text(value)
        if type(value) is dict:
            return self._dict(value, channel)
        if type(value) is list:
            kept = [each for each in [self._value(each, channel) for each in value] if each is not _GONE]
            if len(kept) == len(value) and all(one is other for one, other in zip(kept, value, strict=True)):
                return value
            return kept
        return value

    def _text(self, text: str) -> Any:
        if len(text) <= _LONGEST and (self.has_person(text) or self._of_channel(text)):
            return _GONE
        changed = text
        if "/team/" in text or "/user_profile/" in text:
            changed = _LINK.sub(lambda match: "<@>" if self.has_person(match[1]) else match[0], changed)
        if "<@" in text or "<#" in text:
            changed = _MENTION.sub(self._mention, changed)
        changed = _BARE.sub(lambda match: "<@>" if self.has_person(match[0]) else match[0], changed)
        return text if changed == text else changed

    def _mention(self, match: re.Match[str]) -> str:
        kind, name = match[1], match[2]
        return f"<{kind}>" if (self.has_person(name) if kind == "@" else self.has_channel(name)) else match[0]

    def _of_channel(self, name: str) -> bool:
        """Whether a name is a forgotten channel's, or one of its conversations'."""
        return self.has_channel(name.partition(":")[0])

    def _dict(self, body: dict[str, Any], channel: str) -> Any:
        for key in ("channel_id", "channel"):
            own = body.get(key)
            if type(own) is str and own:
                channel = own
        if channel and self.has_channel(channel):
            return _GONE
        for key in AUTHORS:
            user = body.get(key)
            if type(user) is str and self.has_person(user):
                self._note(body, channel)
                return _GONE
        if body.get("subtype") == FILE_COMMENT and type(user := author_of(body)) is str and self.has_person(user):
            self._note(body, channel)
            return _GONE
        name = body.get("id")
        if type(name) is str and (self.has_person(name) or self._of_channel(name)):
            return _GONE
        creator = body.get("creator")
        if "value" in body and type(creator) is str and self.has_person(creator):
            return _GONE  # a channel's topic or purpose
        if channel:
            for key in IDENTITIES:
                ts = body.get(key)
                if type(ts) is str and self.has_message(channel, ts):
                    return _GONE
        if self._is_quoted(body):
            return _GONE
        kept: dict[str, Any] = {}
        is_same = True
        for key, value in body.items():
            new = self._edited(value) if key == "edited" and type(value) is dict else self._value(value, channel)
            if new is _GONE or (type(key) is str and len(key) <= _LONGEST and (self.has_person(key) or self.has_channel(key))):
                if key in ESSENTIAL and new is _GONE:
                    return _GONE
                is_same = False
                continue
            is_same = is_same and new is value
            kept[key] = new
        if not is_same and type(kept.get("count")) is int and type(kept.get("users")) is list:
            kept["count"] -= len(body["users"]) - len(kept["users"])  # of a reaction: nobody is missing whom Slack left out
        return body if is_same else kept

    def _edited(self, edited: dict[str, Any]) -> dict[str, Any]:
        """The mark that a message was edited, without who did it. It stays, since without it a later text would count as the first one."""
        user = edited.get("user")
        if type(user) is str and self.has_person(user):
            return {key: value for key, value in edited.items() if key != "user"}
        return edited

    def _is_quoted(self, attachment: dict[str, Any]) -> bool:
        """Whether it quotes what is forgotten: older ones say by links alone whose message it is, and which."""
        link, author = attachment.get("from_url"), attachment.get("author_link")
        if type(author) is str and (match := _AUTHOR.search(author)) and self.has_person(match[1]):
            return True
        if type(link) is not str or not (match := _ARCHIVED.search(link)):
            return False
        return self.has_channel(match[1]) or self.has_message(match[1], f"{match[2]}.{match[3]}")

    def _note(self, body: dict[str, Any], channel: str) -> None:
        """Note which messages are a forgotten person's: their edits and reactions may not say whose they are."""
        if self.found is None:
            return
        self.note_message(channel, body.get("ts"))
        item = body.get("item")
        if type(item) is dict and type(user := body.get("item_user")) is str and self.has_person(user):
            self.note_message(str(item.get("channel") or ""), item.get("ts"))

    def note_message(self, channel: str, ts: Any) -> None:
        """Note a message of a forgotten person, where `found` is set."""
        if self.found is not None and channel and type(ts) is str:
            try:
                self.found.add((channel, ts_text(micros(ts))))
            except ValueError:
                return


def without_forgotten(record: bytes, forgotten: Forgotten) -> bytes | None:
    """A record as it came, without what is forgotten; None if nothing is left of it, the same bytes if nothing is forgotten in it."""
    try:
        body = decode_json(record)
    except orjson.JSONDecodeError:
        return None if forgotten.in_bytes(record) else record
    kept = forgotten.without(body)
    if kept is body:
        return record
    return None if kept is None else orjson.dumps(kept)
