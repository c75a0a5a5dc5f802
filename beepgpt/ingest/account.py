"""The closing account of an ingest: what became of every record that was read."""

from __future__ import annotations

from typing import Any

from beepgpt.conversations.account import Account

RECORD_ENDS = ("written", "there", "copies", "letters_of_unusable", "elsewhere", "waiting")
"""What becomes of a usable record. A heartbeat counts once, though every partition gets it; only a stopped run has some `waiting`."""


def accounted_for(account: Account) -> int:
    """How many of the records that were read have an end in the account."""
    return sum(account[each] for each in RECORD_ENDS) + sum(account.by_reason("unusable").values())


def check_ingest(account: Account) -> list[str]:
    """What doesn't add up, as sentences; empty if everything does."""
    found = accounted_for(account)
    return [] if found == account["read"] else [f"{account['read']:,} records read, but {found:,} accounted for"]


def account_as_json(account: Account) -> dict[str, Any]:
    """The account as `--report` writes it."""
    return {
        **{each: account[each] for each in ("read", *RECORD_ENDS)},
        "unusable": account.by_reason("unusable"),
        "heartbeats_added": account["heartbeats_added"],
        "adds_up": not check_ingest(account),
    }
