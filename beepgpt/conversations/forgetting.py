"""Who and what is forgotten, as salted hashes, and records without them: what a reader leaves out, and what `beepgpt forget` removes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import blake2b, sha256
from typing import Any, Final

import orjson

from beepgpt.conversations.cleaning import clean
from beepgpt.conversations.events import channels_in, micros, ts_text
from beepgpt.conversations.speech import FILE_COMMENT, author_of, speech_of
from beepgpt.conversations.tokens import SEPARATOR, SUFFIX
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
_AUTHOR = re.compile(r"/team/([A-Za-z0-9]+)$")
_LINK = re.compile(r"<?https?://[^\s<>|]*/(?:team|user_profile)/([A-Za-z0-9]+)[^\s<>|]*(?:\|[^<>]*)?>?")
_PERMALINK = re.compile(
    r"<?https?://[^\s<>|]*/(?:archives|client/[A-Z0-9]+)/([A-Z0-9]+)(?:/p([0-9]{10})([0-9]{6}))?[^\s<>|]*(?:\|[^<>]*)?>?"
)
_BARE = re.compile(r"\b[CDGUW][A-Z0-9]{6,}\b")
_NAMES = re.compile(rb'"([A-Za-z0-9_.:-]{1,64})"|(?:<[@#]|/team/|/user_profile/|/archives/)([A-Za-z0-9]+)')
_LONGEST: Final = 64
"""Characters of the longest text that may be an id."""
_REMEMBERED: Final = 1 << 17
_STEP: Final = 8
"""Characters: a text is known by a beginning of so many, or a multiple of it, so that a shortened one is known, too."""

ShownText = tuple[str, str, str]
"""Channel, time of a message, and the beginning of a text that it may not be shown with any more."""

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
        self.shown: set[ShownText] = set()
        """Where `found` is set: the texts that messages of others had that say less now, as they quoted what is forgotten, or named it."""
        self._known: dict[str, bool] = {}

    def with_names(
        self,
        people: Iterable[str] = (),
        channels: Iterable[str] = (),
        messages: Iterable[tuple[str, str]] = (),
        shown: Iterable[ShownText] = (),
    ) -> Forgotten:
        """This list with more on it; a message is a channel's id and a time as Slack writes it. Raises ValueError for a bad time.

        `shown`: as `shown` of another one. What shows a message with such a text goes; the message itself says less, and stays.
        """
        named = [f"person {each}" for each in people] + [f"channel {each}" for each in channels]
        named += [f"message {channel} {ts_text(micros(ts))}" for channel, ts in messages]
        for channel, ts, text in shown:
            named += [f"changed {channel} {ts}", f"shown {channel} {ts} {text}"]
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
        forgotten channel or about a forgotten message, where somebody else forwarded it, too; and a prompt that still shows it. In other
        people's words a mention or a link stays as `<@>` or `<#>`, which names nothing.
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
        if "/archives/" in text or "/client/" in text:
            changed = _PERMALINK.sub(self._permalink, changed)
        if "<@" in text or "<#" in text:
            changed = _MENTION.sub(self._mention, changed)
        changed = _BARE.sub(self._bare, changed)
        return text if changed == text else changed

    def _bare(self, match: re.Match[str]) -> str:
        name = match[0]
        return "<@>" if self.has_person(name) else "<#>" if self.has_channel(name) else name

    def _permalink(self, match: re.Match[str]) -> str:
        channel, seconds, rest = match.groups()
        is_forgotten = self.has_channel(channel) or (seconds is not None and self.has_message(channel, f"{seconds}.{rest}"))
        return "<#>" if is_forgotten else match[0]

    def _mention(self, match: re.Match[str]) -> str:
        kind, name = match[1], match[2]
        return f"<{kind}>" if (self.has_person(name) if kind == "@" else self.has_channel(name)) else match[0]

    def _of_channel(self, name: str) -> bool:
        """Whether a name is a forgotten channel's, or one of its conversations'."""
        return self.has_channel(name.partition(":")[0])

    def _dict(self, body: dict[str, Any], channel: str) -> Any:
        link = body.get("from_url")
        quoted = _ARCHIVED.search(link) if type(link) is str else None
        if quoted is not None:
            channel = quoted[1]  # a forwarded message was said elsewhere; older ones say where by their link alone
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
        if quoted is not None and (self.has_channel(quoted[1]) or self.has_message(quoted[1], f"{quoted[2]}.{quoted[3]}")):
            return _GONE
        author = body.get("author_link")
        if type(author) is str and (named := _AUTHOR.search(author)) is not None and self.has_person(named[1]):
            self._note(body if "ts" in body or quoted is None else {"ts": f"{quoted[2]}.{quoted[3]}"}, channel)
            return _GONE
        if self._shows_changed(body, channel):
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
            if key == "message_blocks" and new is not value and len(new) < len(value):
                return _GONE  # the words of what is quoted stand beside them, too
            is_same = is_same and new is value
            kept[key] = new
        if not is_same and type(kept.get("count")) is int and type(kept.get("users")) is list:
            kept["count"] -= len(body["users"]) - len(kept["users"])  # of a reaction: nobody is missing whom Slack left out
        if not is_same and self.found is not None:
            self._note_shown(body, kept, channel)
        return body if is_same else kept

    def _edited(self, edited: dict[str, Any]) -> dict[str, Any]:
        """The mark that a message was edited, without who did it. It stays, since without it a later text would count as the first one."""
        user = edited.get("user")
        if type(user) is str and self.has_person(user):
            return {key: value for key, value in edited.items() if key != "user"}
        return edited

    def _shows_changed(self, body: dict[str, Any], channel: str) -> bool:
        """Whether a record made of messages shows one with a text that it may not be shown with any more."""
        window, prompt = body.get("window"), body.get("prompt")
        if type(window) is not list or type(prompt) is not str:
            return False
        return any(type(each) is dict and self.is_shown(channel, str(each.get("ts")), texts_in(prompt)) for each in window)

    def is_changed(self, channel: str, ts: str) -> bool:
        """Whether a message says less than it said, since it quoted or named what is forgotten."""
        return self._has(f"changed {channel} {ts}")

    def is_shown(self, channel: str, ts: str, texts: Iterable[str]) -> bool:
        """Whether one of these texts, cleaned and perhaps shortened, is one that a message may not be shown with any more.

        >>> ours = Forgotten(b"salt").with_names(shown=[("C1", "1690360253.041239", "see: a secr")])
        >>> [ours.is_shown("C1", "1690360253.041239", [text]) for text in ("see: a secr", "see:")]
        [True, False]
        """
        if not self.is_changed(channel, ts):
            return False
        for text in texts:
            cut = text.removesuffix("…").rstrip()
            beginnings = {text, *(cut[:length] for length in range(_STEP, len(cut) + 1, _STEP))}
            if any(self._hash(f"shown {channel} {ts} {each}") in self.hashes for each in beginnings):
                return True
        return False

    def _note(self, body: dict[str, Any], channel: str) -> None:
        """Note which messages are a forgotten person's: their edits and reactions may not say whose they are."""
        if self.found is None:
            return
        self.note_message(channel, body.get("ts"))
        item = body.get("item")
        if type(item) is dict and type(user := body.get("item_user")) is str and self.has_person(user):
            self.note_message(str(item.get("channel") or ""), item.get("ts"))

    def _note_shown(self, body: dict[str, Any], kept: dict[str, Any], channel: str) -> None:
        """Note how a message was shown that says less now: up to where the texts differ, so that no text of now is taken for it."""
        ts, before, after = body.get("ts"), speech_of(body), speech_of(kept)
        if not channel or type(ts) is not str or type(before) is not str or type(after) is not str:
            return
        before, after = clean(before), clean(after)
        same = next((at for at, (one, other) in enumerate(zip(before, after, strict=False)) if one != other), min(len(before), len(after)))
        if same < len(before):
            self.shown.add((channel, ts, before[: (same // _STEP + 1) * _STEP]))

    def note_message(self, channel: str, ts: Any) -> None:
        """Note a message of a forgotten person, where `found` is set."""
        if self.found is not None and channel and type(ts) is str:
            try:
                self.found.add((channel, ts_text(micros(ts))))
            except ValueError:
                return


def texts_in(prompt: str) -> list[str]:
    """The texts that a prompt shows."""
    return prompt.removesuffix(SUFFIX).split(SEPARATOR)


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
