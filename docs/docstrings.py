"""Docstrings as Markdown, for the site: their examples become blocks of code. An extension of Griffe (mkdocs.yml)."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)


class FencedExamples(griffe.Extension):
    """Puts fences around each `>>>` block, which Markdown would take for a quotation."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub(lambda block: f"```pycon\n{block[0]}\n```", obj.docstring.value)
