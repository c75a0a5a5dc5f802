"""The rules that examples were made by, remembered beside them: an example has their fingerprint alone, its spec."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from beepgpt.connectors.files import jsonl
from beepgpt.conversations.rules import BadRules, Rules, shaping_settings
from beepgpt.folders import TABLE, beside

RULES = "rules.json"
"""How the file beside `x.jsonl` ends: `x.rules.json`."""
MANIFEST = "manifest.json"
"""Of a training set, which has them under `examples`."""


class RecordedRules(NamedTuple):
    """What is remembered of rules."""

    workspace: str | None
    settings: dict[str, Any]
    """All that their spec is made of."""

    def with_others(self, rules: Rules) -> Rules | None:
        """The rules themselves, and of `rules` what is not recorded; None if this version makes other examples by them."""
        names = {each.name for each in fields(Rules)} & set(self.settings) - {"remember"}
        recorded = {name: self.settings[name] for name in names} | ({} if self.workspace is None else {"workspace": self.workspace})
        with suppress(TypeError, BadRules):
            found = replace(rules, **recorded)
            return found if shaping_settings(found) == self.settings else None
        return None


def rules_beside(examples: Path) -> Path:
    """The file of rules beside a file of examples.

    >>> rules_beside(Path("acme/examples.jsonl"))
    PosixPath('acme/examples.rules.json')
    """
    return beside(examples, RULES)


def keep_rules(rules: Rules, examples: Path) -> None:
    """Remember the rules that examples were made by. Raises CannotWrite."""
    body = {"spec": rules.spec, "workspace": rules.workspace, "settings": shaping_settings(rules)}
    jsonl.write_file(rules_beside(examples), orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def pass_rules_on(source: Path, to: Path) -> None:
    """Copy the rules beside examples to beside what was made of them; older ones there are removed."""
    if rules_beside(source).is_file():
        jsonl.write_file(rules_beside(to), rules_beside(source).read_bytes())
    else:
        rules_beside(to).unlink(missing_ok=True)


def recorded_rules(place: Path) -> RecordedRules | None:
    """What is remembered of the rules behind a file of examples, or a training set; None: nothing that can be read."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        is_set = place.is_dir() and place.suffix != TABLE
        body = orjson.loads((place / MANIFEST if is_set else rules_beside(place)).read_bytes())
        found: Mapping[str, Any] = body["examples"] if is_set else body
        return RecordedRules(found.get("workspace"), dict(found["settings"]))
    return None
