"""What a message says, and who says it: its text, and what Slack puts elsewhere (docs/semantics.md, "Speech")."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

FILE_COMMENT = "file_comment"
"""Subtype of a comment on a file, before July 2018."""
STAND_INS = frozenset({"This content can't be displayed.", "This message contains interactive elements."})
"""Texts that Slack writes where a message has blocks and no text of its own."""
DEEPEST = 8
"""Lists in lists, and other parts in parts, that are read."""

_UPLOAD = re.compile(r"<@[^<>]*> (?:uploaded|shared) an? [a-z ]{1,40}: <[^<>|]*\|?([^<>]*)>(?: and commented: (.*))?", re.DOTALL)
_COMMENT = re.compile(r"<@([A-Z0-9]+)(?:\|[^<>]*)?> commented on .{1,200}?\bfile <[^<>]*>(?:: (.*))?", re.DOTALL)
_ESCAPED = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def author_of(message: dict[str, Any]) -> Any:
    """Whose words a message has: its `user`, or who commented on a file. May be anything that stands there; None: it says nobody.

    >>> author_of({"subtype": "file_comment", "comment": {"user": "U0BO", "comment": "The second one"}})
    'U0BO'
    """
    if message.get("subtype") != FILE_COMMENT:
        return message.get("user")
    comment = message.get("comment")
    if type(comment) is dict and comment.get("user"):
        return comment["user"]
    text = message.get("text")
    match = _COMMENT.fullmatch(text) if type(text) is str else None
    return match[1] if match is not None else message.get("user")


def speech_of(message: dict[str, Any]) -> Any:
    """What a message says, with Slack's markup. None is unknown; a text of a wrong type is returned as it is.

    Blocks count only where there is no text: else they hold the same words. Of attachments only forwarded messages count; a preview
    of a link is nobody's word.

    >>> speech_of({"text": "", "attachments": [{"is_share": True, "text": "It failed again"}, {"from_url": "…", "text": "A page"}]})
    'It failed again'
    >>> speech_of({"text": "", "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "Lunch?"}}]})
    'Lunch?'
    """
    text = message.get("text", "")
    subtype = message.get("subtype")
    if type(text) is not str:
        return text
    if subtype == FILE_COMMENT:
        text = _comment_text(message, text)
    elif subtype == "file_share" and "file" in message:
        text = _upload_text(message["file"], text)
    if "blocks" in message or text in STAND_INS:
        text = _own_text(message, text)
    if "attachments" in message and (forwarded := [_shared_text(each) for each in shares_of(message)]):
        text = "\n".join([each for each in (text, *forwarded) if each])
    return text


def elsewhere_in(message: dict[str, Any]) -> dict[str, Any]:
    """The fields that `speech_of` and `author_of` read beside `text` and `user`, as far as they say anything.

    >>> elsewhere_in({"text": "hi", "blocks": [{"type": "rich_text"}], "attachments": [{"text": "a preview"}]})
    {}
    """
    fields: dict[str, Any] = {}
    text, subtype = message.get("text", ""), message.get("subtype")
    if "blocks" in message and type(text) is str and _has_no_words(text):
        fields["blocks"] = message["blocks"]
    if shares := shares_of(message):
        fields["attachments"] = shares
    if subtype == FILE_COMMENT and type(comment := message.get("comment")) is dict:
        fields["comment"] = {name: comment[name] for name in ("user", "comment") if name in comment}
    if subtype == "file_share" and type(file := message.get("file")) is dict:
        fields["file"] = {name: file[name] for name in ("title", "initial_comment") if name in file}
    return fields


def shares_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The attachments of a message that are forwarded messages."""
    attachments = message.get("attachments")
    if type(attachments) is not list:
        return []
    return [each for each in attachments if type(each) is dict and each.get("is_share") is True]


def _has_no_words(text: str) -> bool:
    return text in STAND_INS or not text.strip()


def _own_text(message: dict[str, Any], text: str) -> str:
    """The text, or that of the blocks where there is none."""
    return "\n".join(_block_texts(message.get("blocks"))) if _has_no_words(text) else text


def _comment_text(message: dict[str, Any], text: str) -> str:
    comment = message.get("comment")
    if type(comment) is dict and type(said := comment.get("comment")) is str:
        return said
    match = _COMMENT.fullmatch(text)
    return text if match is None else match[2] or ""


def _upload_text(file: Any, text: str) -> str:
    """Of Slack's own wording "… uploaded a file: … and commented: …" only the file's title and the comment."""
    match = _UPLOAD.fullmatch(text)
    if match is None or type(file) is not dict:
        return text
    title, initial = file.get("title"), file.get("initial_comment")
    said = initial.get("comment") if type(initial) is dict else None
    shown = (title.translate(_ESCAPED) if type(title) is str else match[1], said if type(said) is str else match[2])
    return "\n".join([each for each in shown if each])


def _shared_text(attachment: dict[str, Any]) -> str:
    text = attachment.get("text")
    if type(text) is str and not _has_no_words(text):
        return text
    blocks = attachment.get("message_blocks")
    messages = [each.get("message") for each in blocks if type(each) is dict] if type(blocks) is list else []
    return "\n".join([line for each in messages if type(each) is dict for line in _block_texts(each.get("blocks"))])


def _block_texts(blocks: Any) -> Iterator[str]:
    """The text of each block that holds words: rich text, sections, headers, Markdown."""
    for block in blocks if type(blocks) is list else ():
        if type(block) is not dict:
            continue
        kind = block.get("type")
        if kind == "rich_text":
            yield "\n".join(_rich_lines(block.get("elements"), DEEPEST))
        elif kind in ("section", "header"):
            fields = block.get("fields")
            for part in (block.get("text"), *(fields if type(fields) is list else ())):
                yield from _text_object(part)
        elif kind == "markdown" and type(text := block.get("text")) is str:
            yield text


def _text_object(part: Any) -> Iterable[str]:
    if type(part) is not dict or type(text := part.get("text")) is not str:
        return ()
    return (text if part.get("type") == "mrkdwn" else text.translate(_ESCAPED),)


def _rich_lines(elements: Any, deepest: int) -> Iterator[str]:
    """Each part of rich text as a line: sections, quotes, code, and the entries of lists."""
    for element in elements if type(elements) is list and deepest else ():
        if type(element) is not dict:
            continue
        inside, kind = element.get("elements"), element.get("type")
        if kind == "rich_text_list":
            yield from _rich_lines(inside, deepest - 1)
        else:
            line = "".join([_rich_text(each) for each in inside if type(each) is dict]) if type(inside) is list else ""
            yield f"```{line}```" if kind == "rich_text_preformatted" else line


def _rich_text(element: dict[str, Any]) -> str:
    """An element of rich text, as a message's text would have it."""

    def named(key: str) -> str:
        value = element.get(key)
        return value if type(value) is str else ""

    kind = element.get("type")
    if kind == "text":
        return named("text").translate(_ESCAPED)
    if kind == "link":
        label = named("text").translate(_ESCAPED)
        return f"<{named('url')}|{label}>" if label else f"<{named('url')}>"
    if kind == "emoji":
        return f":{named('name')}:"
    if kind == "date":
        return named("fallback").translate(_ESCAPED)
    form = {"user": "<@{}>", "channel": "<#{}>", "usergroup": "<!subteam^{}>", "broadcast": "<!{}>"}.get(str(kind))
    return "" if form is None else form.format(named("range" if kind == "broadcast" else f"{kind}_id"))
