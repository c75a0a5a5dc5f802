"""Where in a window a message stands counts: what is left out, and what came later, is judged at its place."""

from collections.abc import Sequence
from zlib import crc32

import orjson

from beepgpt.audit.findings import Audit
from beepgpt.audit.foreign import audit_pairs
from beepgpt.conversations.rules import SECOND
from tests.support.audits import PLAIN, T0, Said, everything, pairs_of, talk
from tests.support.histories import Record, lines_of, post


def judged(history: Sequence[Record], rows: list[bytes]) -> Audit:
    return audit_pairs(lines_of(history), rows, PLAIN)


def in_turns(count: int = 400) -> list[Record]:
    """Five people speak in turns, so that the author of a window's oldest message is always the one who answers."""
    people = ("ana", "bo", "cy", "di", "ed")
    return [
        post("C0", T0 + number * 30 * SECOND, people[number % 5], f"{people[number % 5]} says number {number}") for number in range(count)
    ]


def without_some_oldest(window: Said, _: str) -> list[str]:
    """Every other oldest message is left out, whoever wrote it."""
    texts = [text for _, text in window]
    return texts[1:] if len(texts) == 5 and crc32(texts[0].encode()) % 2 else texts


def test_what_is_left_out_for_its_place_gives_nobody_away():
    """Half of the oldest messages are left out: all of them are the answerer's, and so are those that stay."""
    history = in_turns()
    audit = judged(history, pairs_of(history, without_some_oldest))

    assert audit.laws[1].verdict == "kept", audit.laws[1].told
    assert audit.measured["leak_test"]["own_left_out"] > 100 and audit.measured["leak_test"]["others_left_out"] == 0


def test_a_sentence_of_later_is_named_wherever_it_stands():
    """First, in the middle, or last in a prompt."""
    history = talk()
    rows = pairs_of(history, everything)
    said = [str(record.data["text"]) for record in history if record.data is not None]
    for place in (0, 2, 5):
        body = orjson.loads(rows[100])
        texts = body["prompt"].removesuffix("\n\n###\n\n").split("\n\n")
        texts.insert(place, said[390])
        forged = orjson.dumps(body | {"prompt": "\n\n".join(texts) + "\n\n###\n\n"})
        found = {
            finding.what: finding.count for finding in judged(history, [*rows[:100], forged, *rows[101:]]).findings if finding.law == 1
        }

        assert found == {"prompts with text from after the answer": 1}, place
