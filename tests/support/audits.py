"""What the tests of the audit share: a simulated workspace's examples, and what is found in a changed file of them."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from hashlib import sha256
from random import Random
from typing import Any

import orjson

from beepgpt.audit.findings import Audit
from beepgpt.audit.laws import audit_examples
from beepgpt.connectors.tokenizer import load_encoding
from beepgpt.conversations.rules import SECOND, Rules
from beepgpt.conversations.shard import RunOutput, run_through
from beepgpt.simulation.workspace import Plan, live_records
from tests.support.histories import Record, post

ENCODING = load_encoding("o200k_base")
RULES = Rules()
PLAIN = Rules(candidates=False)
T0 = 1_690_360_000 * SECOND
PLAN = Plan(messages=450, channels=3, people=15, days=12, deletions=0.05, edits=0.1)


@cache
def made_up() -> tuple[list[bytes], RunOutput]:
    """A simulated workspace's events, and its examples."""
    records = list(live_records(PLAN))
    return records, run_through(records, RULES, ENCODING)


def audited(lines: Iterable[bytes], records: Iterable[bytes] | None = None, rules: Rules = RULES, **options: Any) -> Audit:
    """An audit of a changed file against the simulated workspace, or against other events."""
    return audit_examples(made_up()[0] if records is None else records, lines, rules, ENCODING, **options)


def broken(audit: Audit, verdict: str = "broken") -> dict[int, str]:
    """Of each broken law all that was found, in one line; or of each `suspected` one."""
    laws = [judged.law for judged in audit.laws if judged.verdict == verdict]
    found = [(finding.law, f"{finding.what}: {'; '.join(each.why for each in finding.examples)}") for finding in audit.findings]
    return {law: " / ".join(told for which, told in found if which == law) for law in laws}


def body_of(line: bytes) -> dict[str, Any]:
    """An example's fields."""
    body: dict[str, Any] = orjson.loads(line)
    return body


def line_of(body: dict[str, Any]) -> bytes:
    """A forged example, under the id that it would have."""
    parts = [body["spec"], body["target"], body["scope"], body["conversation"], body["prompt_ts"], body["answer_ts"] or ""]
    return orjson.dumps(body | {"id": sha256("\n".join([RULES.workspace, *parts]).encode()).hexdigest()[:32]})


# Other tools' files


def talk(count: int = 400, seed: int = 3) -> list[Record]:
    """People talk in three channels, each sentence another one."""
    draws = Random(seed)
    history, t = [], T0
    for number in range(count):
        t += draws.randrange(1, 60) * SECOND
        words = " ".join(draws.choice(["blue", "deploy", "lunch", "server", "why", "later", "tomorrow", "please"]) for _ in range(5))
        history.append(post(f"C{draws.randrange(3)}", t, draws.choice(["ana", "bo", "cy", "di", "ed"]), f"{words} {number}"))
    return history


Said = Sequence[tuple[str, str]]


def pairs_of(history: Iterable[Record], shown: Callable[[Said, str], Iterable[str]]) -> list[bytes]:
    """What another tool makes of a history: of each channel's last five messages those that it shows, and who posted next."""
    rows, said = [], dict[str, list[tuple[str, str]]]()
    for record in history:
        assert record.data is not None
        before = said.setdefault(str(record.channel), [])
        user, text = record.data["user"], record.data["text"]
        if texts := list(shown(before[-5:], user)):
            rows.append(orjson.dumps({"prompt": "\n\n".join(texts) + "\n\n###\n\n", "completion": f" {'abcde'.index(user[0])} end"}))
        before.append((user, text))
    return rows


def everything(window: Said, _: str) -> list[str]:
    return [text for _, text in window]


def others_only(window: Said, answerer: str) -> list[str]:
    return [text for user, text in window if user != answerer]


def what_fits(window: Said, _: str) -> list[str]:
    texts = [text for _, text in window]
    while sum(map(len, texts)) > 110:
        del texts[0]
    return texts


def some(window: Said, _: str) -> list[str]:
    return [text for user, text in window if sum(text.encode()) % 4 and user]
