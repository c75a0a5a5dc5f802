"""The settings that shape an example, and their fingerprint, `spec`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from hashlib import sha256
from typing import Any, Literal, get_args

from beepgpt.errors import BeepGPTError

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

FACTS_VERSION = 4
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
    return _hash_of(shaping_settings(rules))


def shaping_settings(rules: Rules) -> dict[str, Any]:
    """All that the spec is made of: the settings by name, durations in microseconds, and the versions of the rules themselves."""
    names = [each.name for each in fields(rules) if each.name not in ("workspace", "spec", "remember")]
    shaping = {name: getattr(rules, name) for name in names} | {"remember": 30 * DAY}  # once a rule: specs stay what they were
    versions = {"example_version": EXAMPLE_VERSION} | ({"facts_version": FACTS_VERSION} if rules.candidates else {})
    return shaping | versions


def _hash_of(settings: Mapping[str, Any]) -> str:
    return sha256(json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:12]


def settings_behind(spec: str, recorded: object = None, known: Rules | None = None) -> dict[str, Any] | None:
    """The settings that a spec is made of: as recorded, those of `known` rules, or the defaults, if they give this very spec.

    >>> settings_behind(Rules(window=8).spec), settings_behind(Rules(window=8).spec, known=Rules(window=8))["window"]
    (None, 8)
    """
    tried = [recorded if isinstance(recorded, dict) else {}, {} if known is None else shaping_settings(known), shaping_settings(Rules())]
    return next((each for each in tried if _hash_of(each) == spec), None)


def differing(there: str, here: str, recorded: object = None, ours: Rules | object = None) -> str:
    """How the settings of two specs differ, in words. `recorded`: the settings there; `ours`: the rules here, or settings as recorded.

    >>> differing(Rules().spec, Rules(horizon=2 * HOUR).spec, None, Rules(horizon=2 * HOUR))
    'horizon is 1 day there, 2 hours here'
    >>> differing("0123456789ab", Rules().spec)
    'spec 0123456789ab there, bb2cb986edad here; which settings differ is not recorded'
    """
    ours = shaping_settings(ours) if isinstance(ours, Rules) else ours
    theirs, mine = settings_behind(there, recorded), settings_behind(here, ours)
    if theirs is None or mine is None:
        return f"spec {there[:40]} there, {here[:40]} here; which settings differ is not recorded"
    names = [name for name in {**mine, **theirs} if theirs.get(name) != mine.get(name)]
    values = [(_called(name), in_words(name, theirs.get(name)), in_words(name, mine.get(name))) for name in names]
    return "; ".join(f"{name} is {their} there, {our} here" for name, their, our in values)


def _called(name: str) -> str:
    return {"example_version": "the version of the rules of examples", "facts_version": "the version of the features"}.get(name, name)


def in_words(name: str, value: object) -> str:
    """A setting's value as people say it: durations in the largest unit that fits.

    >>> in_words("horizon", DAY), in_words("lateness", 90 * SECOND), in_words("horizon", None), in_words("window", 5)
    ('1 day', '90 seconds', 'unlimited', '5')
    """
    if name in DURATIONS and isinstance(value, int):
        unit, length = next(((unit, length) for unit, length in UNITS if value and value % length == 0), ("microsecond", 1))
        return f"{value // length:,} {unit}{'' if value == length else 's'}"
    if value is None:
        return "unlimited" if name == "horizon" else "not given"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


DURATIONS = ("horizon", "lateness", "session_gap", "thread_ttl", "remember")
UNITS = (("day", DAY), ("hour", HOUR), ("minute", MINUTE), ("second", SECOND), ("millisecond", 1000))

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
