"""Where an example differs from what the events give, and why, in words (laws 1 to 4)."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import cache
from typing import Any, Literal

import orjson

from beepgpt.audit.example_rows import FIELDS, ExampleRow
from beepgpt.audit.findings import Findings, quoted
from beepgpt.audit.history import ChannelHistories, ChannelHistory, MessageVersions, after
from beepgpt.audit.own_sets import unlike_features
from beepgpt.conversations.channel import FOREVER
from beepgpt.conversations.cleaning import clean
from beepgpt.conversations.events import POST, micros, ts_text
from beepgpt.conversations.rules import Rules
from beepgpt.conversations.tokens import SEPARATOR, SUFFIX

Precision = Literal["exact", "single", "none"]
"""In which candidates' features are compared: as the examples write them, or as tables hold them; or there are none to compare."""
KNOWN_THEN = ("speakers", "root_missing", "window", "prompt", "prompt_tokens", "candidates")
KNOWN_LATER = ("settled_ts", "answer_ts", "answer")


class Differences:
    """Compares examples with those that the events give, and adds a finding for each that differs."""

    def __init__(self, history: ChannelHistories, rules: Rules, findings: Findings, *, precision: Precision = "exact") -> None:
        self.known_then = tuple(name for name in KNOWN_THEN if precision == "exact" or name != "candidates")
        self._precision = precision
        self.rules = rules
        self.findings = findings
        self.rewritten: defaultdict[str, set[str]] = defaultdict(set)
        """Rows with the right values in other bytes, by what is other about them."""
        self._messages = cache(lambda channel: history.channels[channel].messages())
        """The messages of a channel, for explanations only."""

    def compare_known(self, row: ExampleRow, body: dict[str, Any], known: dict[str, Any]) -> None:
        """Compare what an example says was known at its `prompt_ts` with what the events up to then give (`known`)."""
        differs = [name for name in self.known_then if _differs(body.get(name), known.get(name))]
        for name in ("target", "scope", "channel"):
            if body[name] != known[name]:
                self.findings.add(4, f"a wrong {name}", row.where, f"{body[name]}, where the rules give {known[name]}")
        if self._precision == "single":
            for each in unlike_features(body.get("candidates"), known.get("candidates")):
                self.findings.add(1, "columns of a table that are not what was known", row.where, f"its column candidates_{each}")
        if not differs and self._precision != "exact":
            return
        if not differs:
            extra = [name for name in body if name not in FIELDS and name != "candidates"]
            if extra:
                self.rewritten[f"more keys: {', '.join(sorted(extra))}"].add(row.where)
            elif row.line != orjson.dumps({name: body[name] for name in known}):
                self.rewritten["white space or another order of keys"].add(row.where)
            return
        if "prompt" in differs or "window" in differs:
            left_out = self._left_out(body, known)
            if left_out:
                self.findings.add(2, "prompts that leave out the answerer's own messages", row.where, left_out)
                return
        why = []
        if "prompt" in differs:
            why += self._why_prompt(row, body, known)
        for name in differs:
            if name == "window":
                why.append(self._why_window(row, body["window"], known["window"]))
            elif name == "candidates":
                why.append(_why_candidates(body.get(name), known.get(name)))
            elif name != "prompt":
                why.append(f"{name} is {body.get(name)!r}, where {known.get(name)!r} was known")
        leaks = any("after prompt_ts" in each for each in why)
        what = "examples that know the future" if leaks else f"a {differs[0]} that is not what was known"
        self.findings.add(1, what, row.where, "; ".join(why))

    def _left_out(self, body: dict[str, Any], known: dict[str, Any]) -> str:
        """Why law 2 is broken, if a prompt or window lacks messages of the answerer and nothing else; empty if that isn't so."""
        shown, units = _units(body["prompt"]), _units(known["prompt"])
        users = [each["user"] for each in known["window"]]
        messages = self._messages(known["channel"])
        texts = [_text_at(messages.get(micros(each["ts"])), micros(known["prompt_ts"])) for each in known["window"]]
        authors: defaultdict[str, set[str]] = defaultdict(set)
        for text, user in zip(texts, users, strict=True):
            authors[text].add(user)
        lacking, added = Counter(units) - Counter(shown), Counter(shown) - Counter(units)
        answer = set(body["answer"])
        windows = [each for each in known["window"] if each not in body["window"]]
        if added or not answer or not (lacking or windows) or any(each not in known["window"] for each in body["window"]):
            return ""
        if not all(authors[text] and authors[text] <= answer for text in lacking) or not all(each["user"] in answer for each in windows):
            return ""
        count = max(sum(lacking.values()), len(windows))
        return f"{count} of the {len(units)} messages known then are by {', '.join(sorted(answer))}, who answers, and are left out"

    def _why_prompt(self, row: ExampleRow, body: dict[str, Any], known: dict[str, Any]) -> list[str]:
        shown, units = _units(body["prompt"]), _units(known["prompt"])
        added = Counter(shown) - Counter(units)
        answer_ts = None if body["answer_ts"] is None else micros(body["answer_ts"])
        why = [self._why_unit(row.prompt_ts, known["channel"], unit, answer_ts) for unit in added]
        lacking = Counter(units) - Counter(shown)
        if lacking:
            why.append(f"it leaves out {quoted(next(iter(lacking)))}" + (f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""))
        if not why:
            why.append("its messages stand in another order" if shown != units else "its ending or its white space is not the rules'")
        return why

    def _why_unit(self, t: int, channel: str, unit: str, answer_ts: int | None) -> str:
        """Explain where a message comes from that doesn't belong in a prompt of time `t`."""
        messages, best = self._messages(channel), ""
        answer = messages.get(answer_ts) if answer_ts is not None else None
        if answer is not None and any(clean(text or "") == unit for _, text in answer.versions):
            return f"{quoted(unit)} is the answer itself: it was said at {ts_text(answer.ts)} by {answer.user}, after prompt_ts"
        for message in messages.values():
            for place, (known_from, text) in enumerate(message.versions):
                if text is None or clean(text) != unit:
                    continue
                if message.ts > t:
                    best = best or f"{quoted(unit)} was said at {ts_text(message.ts)} by {message.user}, after prompt_ts"
                elif known_from > t:
                    return f"{quoted(unit)} is {ts_text(message.ts)} as edited at {ts_text(known_from)}, after prompt_ts"
                elif message.deleted_at is not None and message.deleted_at <= t:
                    return f"{quoted(unit)} was deleted at {ts_text(message.deleted_at)}, before prompt_ts"
                elif place + 1 < len(message.versions) and message.versions[place + 1][0] <= t:
                    return f"{quoted(unit)} had been edited at {ts_text(message.versions[place + 1][0])}, before prompt_ts"
                else:
                    return f"{quoted(unit)} was said before, but is not in this window"
        return best or f"{quoted(unit)} was said by nobody in {channel}"

    def _why_window(self, row: ExampleRow, window: list[dict[str, Any]], known: list[dict[str, Any]]) -> str:
        for each in window:
            if each not in known:
                later = "posted after prompt_ts" if micros(each["ts"]) > row.prompt_ts else "not in the window as known then"
                return f"its window has {each['ts']}, {later}"
        return f"its window has {len(window)} messages, where {len(known)} were known, or in another order"

    def compare_settled(self, row: ExampleRow, body: dict[str, Any], expected: dict[str, Any] | None, channel: ChannelHistory) -> None:
        """Compare an example's answer with the one that the events give; `expected` is None if they give no such example."""
        if expected is not None:
            differs = [name for name in KNOWN_LATER if body[name] != expected[name]]
            if differs:
                why = "; ".join(f"{name} is {body[name]!r}, where the events give {expected[name]!r}" for name in differs)
                what = "silences that were answered" if not body["answer"] and expected["answer"] else f"a {differs[-1]} that is not so"
                self.findings.add(3, what, row.where, why)
            return
        if row.settled_ts > channel.clock:
            why = (
                f"settled_ts is {body['settled_ts']}, but {channel.name} is known up to {ts_text(channel.clock)} only: it would be censored"
                " (made with --until? say so)"
            )
            self.findings.add(3, "examples settled after the last event", row.where, why)
            return
        if not body["answer"]:
            end = FOREVER if self.rules.horizon is None else row.prompt_ts + self.rules.horizon
            why = f"something ended its point before {ts_text(min(end, channel.clock))}: it is no silence"
            place = after(channel, row.prompt_ts)
            posts = (event for event in channel.events[place : place + 50] if event.kind == POST)
            later = next((f"{event.user} posted at {ts_text(event.t)}" for event in posts), "")
            self.findings.add(3, "silences that were none", row.where, f"{why} ({later})" if later else why)
            return
        post = self._messages(channel.name).get(micros(body["answer_ts"])) if body["answer_ts"] is not None else None
        if post is None:
            why = f"no message was posted at {body['answer_ts']}"
        else:
            why = f"what {post.user} posted at {body['answer_ts']} does not answer this point"
        self.findings.add(3, "answers that are none", row.where, why)


def _differs(one: Any, other: Any) -> bool:
    """Whether two values are different bytes as JSON: to Python, 1 equals 1.0 and True."""
    return one != other or orjson.dumps(one) != orjson.dumps(other)


def _units(prompt: str) -> list[str]:
    """The messages that a prompt shows."""
    body = prompt.removesuffix(SUFFIX)
    return body.split(SEPARATOR) if body else []


def _text_at(message: MessageVersions | None, t: int) -> str:
    """A message's text as it was known at `t`, cleaned."""
    if message is None:
        return ""
    texts = [text for known_from, text in message.versions if known_from <= t]
    return clean(texts[-1] or "") if texts else ""


def _why_candidates(given: Any, known: Any) -> str:
    if not isinstance(given, dict) or not isinstance(known, dict):
        return "its candidates are missing" if given is None else "it has candidates, where the rules give none"
    if given.get("user") != known.get("user"):
        extra = [user for user in given.get("user") or () if user not in known["user"]]
        return "its candidates are other people, or in another order" + (f": {extra[0]} was no candidate then" if extra else "")
    differs = [name for name in {**known, **given} if _differs(given.get(name), known.get(name))]
    return f"of its candidates, other features: {', '.join(differs)}"
