"""What is audited: the lines of a file, a training set's folder or a topic, and the examples in them (law 4)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple
from zlib import compress, decompress

import orjson

from beepgpt.audit.findings import Findings
from beepgpt.conversations.chunks import StoredRecord
from beepgpt.conversations.events import micros
from beepgpt.conversations.record_fields import EXAMPLE
from beepgpt.conversations.rules import Rules, differing
from beepgpt.errors import BadCommand, BeepGPTError

FIELDS = tuple(each.name for each in EXAMPLE if not each.may_lack)


class OtherSettings(BeepGPTError):
    """The examples were made by other rules than these; the message says what to do."""

    exit_status = 2


class AuditedFiles(NamedTuple):
    """The lines that are audited."""

    lines: Iterable[bytes]
    """Examples or pairs; they can be read more than once."""
    retractions: Iterable[bytes] | None = None
    valid: Iterable[bytes] | None = None
    """The validation side, if `lines` is the training side of a split."""
    apart: Mapping[str, str] = {}
    """Of a topic: by id, why a tombstone can't take back its example."""


def examples_in(records: Iterable[tuple[int, StoredRecord]]) -> AuditedFiles:
    """The examples of a topic, each once, and its tombstones as retractions. `records`: with their partitions."""
    lines: dict[bytes, bytes] = {}
    retractions: dict[bytes, bytes] = {}
    places: defaultdict[bytes, set[int]] = defaultdict(set)
    tombstones: defaultdict[bytes, set[int]] = defaultdict(set)
    for partition, record in records:
        key = record.key or b""
        if record.value is not None:
            lines[key] = record.value
            places[key].add(partition)
        else:
            retracted = dict(record.headers).get("retracted_ts", b"").decode()
            retractions[key] = orjson.dumps({"id": key.decode(), "retracted_ts": retracted})
            tombstones[key].add(partition)
    apart = {
        key.decode(): f"its tombstone stands in partition {min(stones)}, an example in partition {min(places[key] - stones)}"
        for key, stones in tombstones.items()
        if places[key] - stones
    }
    return AuditedFiles(list(lines.values()), list(retractions.values()), apart=apart)


def sides_of(path: Path) -> tuple[Path, Path | None]:
    """The training side and the validation side of a training set's folder; a file alone has one side. Raises BadCommand."""
    if not path.is_dir():
        return path, None
    sides = [
        # What a chat or a completion was made of says itself when it was known; the others can only be guessed from their texts.
        [whole] if (whole := path / f"examples_{side}.jsonl").exists() else sorted(path.glob(f"*_{side}.jsonl"))
        for side in ("train", "valid")
    ]
    if any(len(found) != 1 for found in sides):
        raise BadCommand(f"EXAMPLES {path}: a folder with one ..._train.jsonl and one ..._valid.jsonl is expected")
    return sides[0][0], sides[1][0]


class ExampleRow(NamedTuple):
    """An example of a file, with the fields that are always needed; the others are parsed again from the line."""

    packed: bytes
    """The line, compressed: a large file's lines are most of what an audit keeps."""
    digest: bytes
    """Of the line: rows with the same digest have the same bytes."""
    where: str
    identity: str
    conversation: str
    prompt_ts: int
    settled_ts: int

    @property
    def line(self) -> bytes:
        """The example as it stands in the file."""
        return decompress(self.packed)

    @property
    def body(self) -> dict[str, Any]:
        """The example's fields."""
        body: dict[str, Any] = orjson.loads(self.line)
        return body


def packed(line: bytes) -> bytes:
    """A line compressed, in no more memory than it needs: what zlib gives stands in the buffer that it was written to."""
    return bytes(memoryview(compress(line, 1)))


def digest_of(line: bytes) -> bytes:
    """A digest that tells lines apart."""
    return blake2b(line, digest_size=16).digest()


def kind_of(lines: Iterable[bytes]) -> Literal["examples", "pairs"]:
    """Whether a file holds our examples, or prompts and completions of another tool.

    >>> kind_of([b'{"prompt": "hello", "completion": " 1"}'])
    'pairs'
    """
    for line in lines:
        body = body_of(line)
        if body is not None:
            return "examples" if {"id", "conversation", "prompt_ts"} <= body.keys() else "pairs"
    return "examples"


def body_of(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a line; None if it holds none."""
    try:
        body = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def rules_of(lines: Iterable[bytes], rules: Rules) -> Rules:
    """The given rules with the target, scope and presence of candidates of the first example.

    Raises OtherSettings if the examples were made by other rules all the same.
    """
    for line in lines:
        body = body_of(line)
        if body is None or "spec" not in body:
            continue
        shaped = rules
        if body.get("target") in ("next_user", "interacting_users", "reactors") and body.get("scope") in ("conversation", "channel"):
            shaped = replace(rules, target=body["target"], scope=body["scope"], candidates="candidates" in body)
        if body["spec"] not in (shaped.spec, rules.spec):
            raise OtherSettings(
                "these examples were made with other settings than those here (horizon, window, edits, ...), or by another version:"
                f" {differing(str(body['spec']), shaped.spec, None, shaped)}. Give audit the flags or the --config that made them; "
                "the --report of the run that did lists them under rules"
            )
        return rules if body["spec"] == rules.spec else shaped
    return rules


def read_rows(lines: Iterable[bytes], place: str, rules: Rules, findings: Findings) -> Iterator[ExampleRow]:
    """Yield a file's examples. Lines without one, and wrong ids and specs, become findings. `place`: what stands before their numbers."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{place} {number:,}"
        body = body_of(line)
        if body is None or not _is_example(body):
            missing = [name for name in FIELDS if body is None or name not in body]
            findings.add(4, "lines that are no examples", where, f"not JSON, or without {', '.join(missing[:3]) or 'right types'}")
            continue
        identity, conversation = body["id"], body["conversation"]
        named = f"{where} ({identity})"
        if body["spec"] != rules.spec:
            findings.add(4, "examples of another spec", named, f"spec {body['spec']}, where the file's first has {rules.spec}")
            continue
        parts = (body["spec"], body["target"], body["scope"], conversation, body["prompt_ts"], body["answer_ts"] or "")
        expected = sha256("\n".join((rules.workspace, *parts)).encode()).hexdigest()[:32]
        if identity != expected:
            why = f"workspace {rules.workspace}, spec, target, scope, conversation, prompt_ts and answer_ts give {expected}"
            findings.add(4, "ids that are not the hash of what they name (all of them: is --workspace right?)", named, why)
        kept = line.strip()
        times = micros(body["prompt_ts"]), micros(body["settled_ts"])
        yield ExampleRow(packed(kept), digest_of(kept), named, identity, conversation, *times)


def _is_example(body: dict[str, Any]) -> bool:
    """Whether all fields of an example are there, of the right types."""
    texts = ("id", "spec", "target", "scope", "channel", "conversation", "prompt_ts", "settled_ts", "prompt")
    if not all(name in body for name in FIELDS) or not all(isinstance(body[name], str) for name in texts):
        return False
    where = body["conversation"].removeprefix(f"{body['channel']}:")
    if not re.fullmatch(r"channel|[0-9]{9,10}\.[0-9]{6}:(thread|session)", where) or where == body["conversation"]:
        return False
    window, answer, answer_ts = body["window"], body["answer"], body["answer_ts"]
    if not (isinstance(window, list) and isinstance(answer, list) and all(isinstance(user, str) for user in answer)):
        return False
    try:
        for ts in (body["prompt_ts"], body["settled_ts"], *([] if answer_ts is None else [answer_ts]), *(each["ts"] for each in window)):
            micros(ts)
        return all(isinstance(each["user"], str) for each in window)
    except (KeyError, TypeError, ValueError):
        return False


def each_once(rows: Sequence[ExampleRow], findings: Findings) -> list[ExampleRow]:
    """Drop rows whose id occurred earlier, and add a finding for each."""
    first: dict[str, ExampleRow] = {}
    for row in rows:
        other = first.setdefault(row.identity, row)
        if other is row:
            continue
        if other.digest == row.digest:
            findings.add(4, "examples that stand twice", row.where, f"a duplicate of {other.where}")
        else:
            differs = [name for name in (*FIELDS, "candidates") if row.body.get(name) != other.body.get(name)]
            named = ", ".join(differs) or "form alone"
            findings.add(4, "ids that stand for two different examples", row.where, f"differs from {other.where} in {named}")
    return list(first.values())


def sampled(rows: Sequence[ExampleRow], count: int) -> list[ExampleRow]:
    """`count` rows, chosen by a hash, so that every audit of a file takes the same."""
    return sorted(rows, key=lambda row: sha256(row.identity.encode()).digest())[:count]
