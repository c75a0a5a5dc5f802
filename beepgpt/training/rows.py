"""Rows of text: examples as prompts with completions, and the rules of `prepare_data` for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from beepgpt.conversations.tokens import Encoding
from beepgpt.training.checks import MAX_COMPLETION_PREFIX, MAX_PREFIX, NIL, OTHER, Broken, CommonPrefix, takes_leading_space
from beepgpt.training.formats import CHAT_TOKENS, SIDES, Answers, Labels, Side, TextRowsFile

RULES = ("duplicate_rows", "long_rows", "too_many_tokens", "common_prompt_prefix", "no_leading_space", "common_completion_prefix")
"""Rules about rows; those about lines are faults (checks.py)."""


class TextRows:
    """Writes the rows of a training set, one side after the other, and counts rows, tokens and broken rules."""

    def __init__(
        self,
        labels: Labels,
        encoding: Encoding,
        *,
        answers: Answers,
        is_chat: bool,
        max_tokens: int | None,
        max_characters: int | None,
        system: str = "",
    ) -> None:
        self._labels = labels
        self._encoding = encoding
        self._answers: Answers = answers
        self._max_tokens = max_tokens
        self._max_characters = max_characters
        self._more_tokens = (CHAT_TOKENS + (4 + len(encoding.encode_ordinary(system)) if system else 0)) if is_chat else 0
        self.space = " " if takes_leading_space(encoding) else ""
        self.counts: dict[Side, Counter[str]] = {side: Counter() for side in SIDES}
        self.tokens: dict[Side, int] = dict.fromkeys(SIDES, 0)
        self._broken = {name: Broken() for name in RULES}
        self._prompts, self._completions = CommonPrefix(), CommonPrefix()
        self._written: set[tuple[str, str]] = set()

    def write(self, side: Side, files: Sequence[TextRowsFile], body: Mapping[str, Any], prompt_tokens: int, *, is_repeated: bool) -> None:
        """Write an example's rows to all files. `is_repeated`: its side has the prompt more than once, so rows may be duplicates."""
        identity, prompt = body["id"], body["prompt"]
        answer = [] if body.get("signal") == "weak" else body["answer"]
        for completion in self._labels.completions(bytes.fromhex(identity), answer, self._answers):
            tokens = prompt_tokens + self._more_tokens + len(self._encoding.encode_ordinary(completion))
            if not self._is_wanted(side, identity, prompt, completion, tokens, is_repeated):
                continue
            for file in files:
                file.write(prompt, completion)
            self.tokens[side] += tokens
            self.counts[side].update(["rows", *({NIL: [NIL], OTHER: [OTHER]}.get(completion, []))])
            self._prompts.see(prompt)
            self._completions.see(completion)
            if not self.space:
                self._broken["no_leading_space"].count += 1

    def _is_wanted(self, side: Side, identity: str, prompt: str, completion: str, tokens: int, is_repeated: bool) -> bool:
        """Whether a row is written. Only rows that the model can't take are left out of validation."""
        if self._max_tokens is not None and tokens > self._max_tokens:
            self._broken["too_many_tokens"].add(identity)
            return False
        if self._max_characters is not None and len(prompt) + len(completion) > self._max_characters:
            self._broken["long_rows"].add(identity)
            if side == "train":
                return False
        if is_repeated and (prompt, completion) in self._written:
            self._broken["duplicate_rows"].add(identity)
            return side == "valid"
        if is_repeated:
            self._written.add((prompt, completion))
        return True

    def end_side(self) -> None:
        """Forget the rows of this side: the other side has no duplicates of them, since the sides share no prompt."""
        self._written.clear()

    def rules(self) -> dict[str, Broken]:
        """Every rule with its count, and what was done."""
        rules = self._broken
        rules["common_prompt_prefix"].count = self._prompts.length if self._prompts.length > MAX_PREFIX else 0
        rules["common_completion_prefix"].count = self._completions.length if self._completions.length > MAX_COMPLETION_PREFIX else 0
        done = {
            "duplicate_rows": "the same prompt and completion as an earlier row: left out of the training side, kept for validation",
            "long_rows": f"more than {self._max_characters or 0:,} characters: left out of the training side, kept for validation",
            "too_many_tokens": f"more than {self._max_tokens or 0:,} tokens, which the model can't take: left out"
            if self._max_tokens is not None
            else "not checked: the model's limit is not known (--max-tokens)",
            "common_prompt_prefix": "characters that all prompts begin with: they say nothing; nothing was changed",
            "no_leading_space": "rows whose completion begins with no space: nothing was changed, since with one it would be two tokens of"
            f" {self._encoding.name}",
            "common_completion_prefix": "characters that all completions begin with; nothing was changed",
        }
        if self._max_characters is None:
            done["long_rows"] = "not checked (--max-characters 0)"
        for name, what in done.items():
            rules[name].done = what
        return rules
