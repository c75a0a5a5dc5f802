"""The second reading's speech: what a message says, whosever words Slack put where. It shares no code with `conversations/`."""

import re
from collections.abc import Iterator
from typing import Any

SLACKS_OWN = ("This content can't be displayed.", "This message contains interactive elements.")


def said_by(message: dict[str, Any]) -> Any:
    """Who says it: of a comment on a file the commenter."""
    if message.get("subtype") == "file_comment":
        comment = message.get("comment")
        if isinstance(comment, dict) and comment.get("user"):
            return comment["user"]
        told = told_comment(message.get("text"))
        if told:
            return told["who"]
    return message.get("user")


def told_comment(text: object) -> re.Match[str] | None:
    """Slack's own sentence about a comment on a file."""
    if not isinstance(text, str):
        return None
    return re.match(r"^<@(?P<who>[A-Z0-9]+)(\|[^<>]*)?> commented on .{1,200}?\bfile <[^<>]*>(: (?P<what>.*))?$(?!\n)", text, re.S)


def said_in(message: dict[str, Any]) -> Any:
    """The words of a message; whatever stands there if its text is no text."""
    text = message.get("text", "")
    if not isinstance(text, str):
        return text
    if message.get("subtype") == "file_comment":
        comment, told = message.get("comment"), told_comment(text)
        if isinstance(comment, dict) and isinstance(comment.get("comment"), str):
            text = comment["comment"]
        elif told:
            text = told["what"] or ""
    if message.get("subtype") == "file_share" and isinstance(message.get("file"), dict):
        text = upload(message["file"], text)
    if is_blank(text):
        text = "\n".join(in_blocks(message.get("blocks")) if "blocks" in message or text in SLACKS_OWN else [text])
    attachments = message.get("attachments")
    shares = (
        [each for each in attachments if isinstance(each, dict) and each.get("is_share") is True] if isinstance(attachments, list) else []
    )
    return "\n".join(part for part in (text, *map(forwarded, shares)) if part) if shares else text


def is_blank(text: str) -> bool:
    """Whether Slack shows something else instead."""
    return text.strip() == "" or text in SLACKS_OWN


def upload(file: dict[str, Any], text: str) -> str:
    """A file's title and the comment that came with it, in place of Slack's sentence."""
    told = re.match(
        r"^<@[^<>]*> (uploaded|shared) (a|an) [a-z ]{1,40}: <([^<>|]*)(\|?)([^<>]*)>( and commented: (?P<what>.*))?$(?!\n)", text, re.S
    )
    if not told:
        return text
    title = escaped(file["title"]) if isinstance(file.get("title"), str) else told[5]
    first = file.get("initial_comment")
    comment = first.get("comment") if isinstance(first, dict) else None
    return "\n".join(part for part in (title, comment if isinstance(comment, str) else told["what"]) if part)


def forwarded(share: dict[str, Any]) -> str:
    """What a forwarded message says."""
    if isinstance(share.get("text"), str) and not is_blank(share["text"]):
        return str(share["text"])
    quoted = share.get("message_blocks")
    messages = (
        [each["message"] for each in quoted if isinstance(each, dict) and isinstance(each.get("message"), dict)]
        if isinstance(quoted, list)
        else []
    )
    return "\n".join(line for message in messages for line in in_blocks(message.get("blocks")))


def escaped(text: str) -> str:
    """Plain text as Slack writes it among its markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def in_blocks(blocks: object) -> list[str]:
    """A text for each block, or field of one."""
    found: list[str] = []
    for block in [each for each in blocks if isinstance(each, dict)] if isinstance(blocks, list) else []:
        if block.get("type") == "rich_text":
            found.append("\n".join(rich_lines(block.get("elements"))))
        elif block.get("type") == "markdown" and isinstance(block.get("text"), str):
            found.append(block["text"])
        elif block.get("type") in ("section", "header"):
            more = block.get("fields")
            for part in [block.get("text"), *(more if isinstance(more, list) else [])]:
                if isinstance(part, dict) and isinstance(part.get("text"), str):
                    found.append(part["text"] if part.get("type") == "mrkdwn" else escaped(part["text"]))
    return found


def rich_lines(elements: object, depth: int = 1) -> Iterator[str]:
    """Lines of rich text, down to the eighth list in a list."""
    if not isinstance(elements, list) or depth > 8:
        return
    for element in elements:
        if not isinstance(element, dict):
            continue
        if element.get("type") == "rich_text_list":
            yield from rich_lines(element.get("elements"), depth + 1)
            continue
        parts = element.get("elements")
        line = "".join(rich_part(part) for part in parts if isinstance(part, dict)) if isinstance(parts, list) else ""
        yield "```" + line + "```" if element.get("type") == "rich_text_preformatted" else line


def rich_part(part: dict[str, Any]) -> str:
    """One element, in Slack's markup."""
    names = {key: value for key, value in part.items() if isinstance(value, str)}
    what = names.get("type")
    if what == "text":
        return escaped(names.get("text", ""))
    if what == "link":
        label = escaped(names.get("text", ""))
        return "<" + names.get("url", "") + ("|" + label if label else "") + ">"
    if what == "emoji":
        return ":" + names.get("name", "") + ":"
    if what == "date":
        return escaped(names.get("fallback", ""))
    if what == "user":
        return "<@" + names.get("user_id", "") + ">"
    if what == "channel":
        return "<#" + names.get("channel_id", "") + ">"
    if what == "usergroup":
        return "<!subteam^" + names.get("usergroup_id", "") + ">"
    return "<!" + names.get("range", "") + ">" if what == "broadcast" else ""
