"""The settings that shape an example, and their fingerprint, `spec`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from hashlib import sha256
from typing import Literal, get_args

from beepgpt.errors import BeepGPTError

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

FACTS_VERSION = 3
"""Raised when the same events would give other features. Its name is part of the spec's hash."""

EXAMPLE_VERSION = 2
"""Raised when the same events and rules would give other examples."""

Target = Literal["next_user", "interacting_users", "reactors"]
Scope = Literal["conversation", "channel"]
EncodingName = Literal["cl100k_base", "o200k_base"]
Edits = Literal["known", "final"]
Bots = Literal["ignore", "context"]


class BadRules(BeepGPTError):
    """Settings with values that are not allowed; the message has each name and what is allowed."""

    def __init__(self, rules: object, wrong: Sequence[tuple[str, str]]) -> None:
        self.wrong = tuple(wrong)
        super().__init__("; ".join(f"{name} is {getattr(rules, name)!r}: must be {allowed}" for name, allowed in wrong))


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything that decides what an example is, checked all at once.

    >>> Rules(window=8).window
    8
    >>> Rules(window=0, horizon=40 * DAY)
    Traceback (most recent call last):
    beepgpt.conversations.rules.BadRules: window is 0: must be more than 0; horizon is 3456000000000: must be at most thread_ttl
    """

    workspace: str = "workspace"
    """Part of every example's id, and not of `spec`: two workspaces may have the same rules."""
    target: Target = "next_user"
    """Whose answer counts: who posts next, who takes part, or who reacts."""
    scope: Scope = "conversation"
    """Sessions and threads, or all of a channel as one conversation."""
    horizon: int | None = DAY
    """Microseconds after `prompt_ts` in which an answer counts; `None`: unlimited, for bounded input only."""
    lateness: int = 5 * SECOND
    """The allowed lateness: microseconds that a channel's clock may be ahead of an event that still counts."""
    session_gap: int = 10 * MINUTE
    """Microseconds of silence between a channel's roots after which a session is over."""
    window: int = 5
    """Messages of a conversation that stand in its prompt, at most."""
    thread_ttl: int = 30 * DAY
    """Microseconds after which an idle thread or session is forgotten."""
    kept_roots: int = 500
    """Newer roots in a channel after which a conversation without an open point is forgotten."""
    kept_people: int = 2000
    """People of a channel for whom features are kept."""
    max_prompt_tokens: int = 2000
    """Tokens a prompt may have, its suffix included."""
    encoding: EncodingName = "o200k_base"
    """The model's encoding, in which tokens are counted."""
    edits: Edits = "known"
    """Whether an export's edited text is unknown until its edit, or its last version is trusted."""
    bots: Bots = "ignore"
    """Whether bots' posts stand in windows; their posts are never answers."""
    candidates: bool = True
    """Whether examples carry candidates and their features."""
    max_candidates: int = 40
    """Candidates of one point."""
    remember: int = 400 * DAY
    """Microseconds after `settled_ts` during which an example can still be retracted. It shapes no example, so it is not part of `spec`."""
    spec: str = field(init=False)
    """12 hex digits that differ where these rules (the workspace apart) or their versions do."""

    def __post_init__(self) -> None:
        if wrong := list(violations(self)):
            raise BadRules(self, wrong)
        object.__setattr__(self, "spec", spec_of(self))  # frozen, and slots leave no room for a cached property


def violations(rules: Rules) -> Iterator[tuple[str, str]]:
    """Yield the name of each value that is not allowed, and what is allowed."""
    if not rules.workspace or rules.workspace.splitlines() != [rules.workspace]:
        yield "workspace", "a name on one line"  # ids join it to the rest by newlines
    for name, choices in _CHOICES.items():
        if getattr(rules, name) not in choices:
            yield name, "one of " + ", ".join(choices)
    whole: dict[str, int] = {}
    for name, least in _LEAST.items():
        value = getattr(rules, name)
        if value is None and name == "horizon":
            continue
        if type(value) is not int:  # a float would lose digits, and True is no number
            yield name, "a whole number"
        elif value < least:
            yield name, "more than 0" if least == 1 else f"at least {least}"
        else:
            whole[name] = value
    for name, limit in (("horizon", "thread_ttl"), ("max_candidates", "kept_people")):
        if name in whole and limit in whole and whole[name] > whole[limit]:
            yield name, f"at most {limit}"


def spec_of(rules: Rules) -> str:
    """The fingerprint of rules: equal where the same events give the same examples, the workspace apart.

    >>> spec_of(Rules(workspace="ours")) == spec_of(Rules(workspace="theirs"))
    True
    >>> spec_of(Rules(lateness=SECOND)) == spec_of(Rules())
    False
    """
    names = [each.name for each in fields(rules) if each.name not in ("workspace", "spec", "remember")]
    shaping = {name: getattr(rules, name) for name in names} | {"remember": 30 * DAY}  # once a rule: specs stay what they were
    versions = {"example_version": EXAMPLE_VERSION} | ({"facts_version": FACTS_VERSION} if rules.candidates else {})
    return sha256(json.dumps(shaping | versions, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:12]


_CHOICES = {
    "target": get_args(Target),
    "scope": get_args(Scope),
    "encoding": get_args(EncodingName),
    "edits": get_args(Edits),
    "bots": get_args(Bots),
}

_LEAST = {
    "horizon": 1,
    "lateness": 0,
    "session_gap": 1,
    "window": 1,
    "thread_ttl": 1,
    "kept_roots": 1,
    "kept_people": 1,
    "max_prompt_tokens": 16,
    "max_candidates": 1,
    "remember": 0,
}
