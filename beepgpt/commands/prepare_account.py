"""The closing account of `beepgpt prepare`, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from beepgpt.commands.output import account_table, moment, print_verdict
from beepgpt.runtime.console import console


def print_training_set(closing: Mapping[str, Any]) -> None:
    """Print where every line went, what the sides hold, and which rules were broken."""
    account = closing["account"]
    table = account_table()
    table.add_row("lines read", f"{account['read']:,}", "")
    for name, count in account["left_out"].items():
        lines = [each for each in closing["rules"].get(name, {}).get("ids", ()) if each.startswith("line ")]  # an id is hexadecimal
        where = f": {', '.join(lines[:SHOWN])}{', …' if count > SHOWN else ''}" if lines else ""
        table.add_row(f"  {name}", f"{count:,}", f"{MEANING[name]}{where}")
    for side, title in SIDES.items():
        counts = account[side]
        parts = ", ".join(f"{name} {counts[name]:,}" for name in ("answered", "silences", "weak", "unlabeled") if counts[name])
        table.add_row(title, f"{counts['examples']:,}", parts)
        rows = closing.get("rows", {}).get(side, {})
        if rows:
            parts = ", ".join(f"{name} {rows[name]:,}" for name in ("nil", "weak", "other") if name in rows)
            table.add_row("  rows of text", f"{rows['rows']:,}", f"{parts}{'; ' if parts else ''}{closing['tokens'][side]:,} tokens")
    parts = closing["parts"]
    for name, of in (
        ("choose", f"thresholds and models are chosen, from {moment(parts['choose_from'])} on"),
        ("judge", f"figures are found, from {moment(parts['judge_from'])} on"),
    ):
        table.add_row(f"  to {name}", f"{parts['examples'][name]:,}", of)
    labels = closing["labels"]
    table.add_row("labels", f"{labels['people']:,}", f"people; {labels['others'] + labels['too_many']:,} more are other")
    console.print(table)
    for name, rule in closing["rules"].items():
        if rule["count"] and name not in account["left_out"]:
            named = f" ({', '.join(rule['ids'][:SHOWN])}{', …' if rule['count'] > SHOWN else ''})" if name in NAMED else ""
            console.print(Text(f"{name}: {rule['count']:,} {rule['done']}{named}"))
    cost = closing.get("cost_per_epoch")
    price = (
        "" if "tokens" not in closing else "; what training costs is not known (--price)" if cost is None else f"; ${cost:,.2f} an epoch"
    )
    rest = f"; cut {moment(closing['cut'])}; {closing['seconds']:,.1f} s, {closing['peak_memory_mb']:,.0f} MB at most{price}"
    print_verdict(account["adds_up"], rest)


NAMED = ("long_rows", "too_many_tokens")
"""Rules whose rows are named by their ids; manifest.json has more of them."""
SHOWN = 3
SIDES = {"train": "training", "valid": "validation"}
MEANING = {
    "not_json": "no JSON",
    "not_an_example": "JSON, but no examples",
    "no_prompt": "no prompt, or one without words",
    "no_answer": "no answer, not even an empty one",
    "no_suffix": "prompts without the suffix of all others",
    "suffix_inside": "prompts with the suffix before their end",
    "replaced": "their id comes again later, and the last one counts",
    "retracted": "a message of their window was deleted",
    "silence": "nobody answered (--silences drop)",
    "weak": "not worth learning (--weak drop)",
    "few_shot": "validation: shown to the labeler, or of a conversation that was",
    "across_cut": "asked before the cut, settled after it",
    "conversation_on_both_sides": "training: their conversation goes on in validation",
    "message_on_both_sides": "training: a message of their window stands in one of validation",
    "prompt_on_both_sides": "training: validation has the same prompt",
    "over_cap": "training: people who have enough without them (--cap)",
    "over_balance": "training: nobody is named, and enough others name nobody (--balance)",
}
