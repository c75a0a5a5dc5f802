"""Topics by a provider's embeddings, over HTTP: other words for the same thing are found, and nothing leaves that must not."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from beepgpt.alerts.interests import MOST_CHARACTERS, REST, EmbeddingMatcher
from beepgpt.alerts.store import AlertStore
from beepgpt.clock import now_us
from beepgpt.connectors.openai.answers import read_vectors
from beepgpt.connectors.openai.client import Client
from beepgpt.connectors.openai.values import Provider
from beepgpt.conversations.rules import SECOND
from beepgpt.errors import BadAnswer, NotAllowed
from beepgpt.labeling.redaction import redact
from tests.support import run_program
from tests.support.alerts import prediction
from tests.support.openai_server import KEY, Server, serving


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def sent(server: Server) -> list[str]:
    """All texts that it was asked about."""
    return [text for each in server.record.asked for text in each.body["input"]]


def alerted(
    folder: Path, server: Server, *predictions: dict[str, object], **more: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Di asked about databases, by a command with embeddings; the predictions to which she is alerted."""
    store = AlertStore(folder / "alerts.sqlite")
    store.set_preferences("di", opted_in=1)
    store.set_topic("di", "mysql upgrade")
    store.close()
    source, to, members = folder / "predictions.jsonl", folder / "alerts.jsonl", folder / "members"
    source.write_text("".join(json.dumps(each) + "\n" for each in predictions))
    members.mkdir()
    for name, listed in {"users": [{"id": "di"}], "channels": [{"id": "C1", "name": "c1", "members": ["di"]}]}.items():
        (members / f"{name}.json").write_text(json.dumps(listed))
    settings = {
        "BEEPGPT_ALERTS__STORE": str(folder / "alerts.sqlite"), "BEEPGPT_ALERTS__QUIET": "", "BEEPGPT_ALERTS__TOPICS": "embeddings",
        "BEEPGPT_PROVIDER__BASE_URL": server.url, "BEEPGPT_PROVIDER__KEY": KEY, **more,
    }  # fmt: skip
    done = run_program("alert", source, "--members", members, "--to", to, "--threshold", 0.9, env=settings)
    return done, [json.loads(line)["prediction"] for line in to.read_text().splitlines()] if to.exists() else []


@pytest.mark.slow
def test_other_words_for_the_same_are_found_and_secrets_stay_here(tmp_path: Path, server: Server):
    """A server on this machine needs no switch; channels that are left out, and what is too old, are not sent."""
    at = now_us() - 2 * SECOND
    about, other = (
        prediction(at, people={}, texts=["Postgres upgrade, write to ana@example.com"], conversations=["C1:1.0:session"]),
        prediction(at + 1, people={}, texts=["lunch on Friday"], conversations=["C1:2.0:session"]),
    )
    hidden = prediction(at + 2, people={}, channel="C2", texts=["the hidden upgrade"], conversations=["C2:3.0:session"])
    old = prediction(at - 3600 * SECOND, people={}, texts=["an old upgrade"], conversations=["C1:4.0:session"])
    done, found = alerted(tmp_path, server, about, other, hidden, old, BEEPGPT_PROVIDER__EXCLUDE_CHANNELS="C2")

    assert done.returncode == 0, done.stderr
    assert found == [about["id"]]
    assert "mysql upgrade" in sent(server) and "lunch on Friday" in sent(server)
    assert not [text for text in sent(server) if "ana@" in text or "hidden" in text or "old" in text]
    assert len(server.record.asked) == 2, "the probe, and one batch"


def test_nothing_is_sent_anywhere_else_before_somebody_allows_it(tmp_path: Path, server: Server):
    """The command says what there is to weigh."""
    done, _ = alerted(tmp_path, server, BEEPGPT_PROVIDER__BASE_URL="https://models.example.com/v1")
    assert done.returncode == 2 and "allow_external" in done.stderr and not server.record.asked


@pytest.mark.slow
def test_a_model_that_is_not_there_is_named_at_the_start(tmp_path: Path, server: Server):
    """Before anybody is alerted."""
    server.script.always = "404"
    done, _ = alerted(tmp_path, server, BEEPGPT_ALERTS__EMBEDDING_MODEL="no-such-model")
    assert done.returncode == 2 and "no-such-model" in done.stderr


def test_an_outage_costs_topics_and_nothing_else(server: Server):
    """It is counted, the provider is left alone for a while, and then asked again; what is known is not asked for twice."""
    now = [0.0]
    with Client(Provider(server.url, KEY, tries=1)) as client:
        matcher = EmbeddingMatcher(
            lambda texts, seconds: client.embed("m", texts, seconds),
            lambda channel, people: True,
            lambda text: redact(text).text,
            lambda: now[0],
        )
        server.script.always = "500"
        assert matcher.prepare(["mysql"], [("C1", (), "postgres")])["not_embedded"] == 2
        server.script.always = None
        assert matcher.prepare(["mysql"], [("C1", (), "postgres")])["not_embedded"] == 2 and matcher.closeness("mysql", "postgres") == 0.0
        now[0] = REST
        assert matcher.prepare(["mysql"], [("C1", (), "postgres")])["embedded"] == 2
        assert matcher.closeness("mysql", "postgres") == pytest.approx(1.0)
        asked = len(server.record.asked)
        matcher.prepare(["mysql"], [("C1", (), "postgres")])
        assert len(server.record.asked) == asked


@pytest.mark.parametrize("secret", ["ana.maria@example.com", "4111 1111 1111 1111", "aB3dE5gH7jK9mN1pQ2rS4tU6"])
def test_no_half_of_a_secret_is_sent_where_a_long_text_is_cut(server: Server, secret: str):
    """A text is redacted whole, and cut then: half an address, a card's number or a key would look like a word."""
    text = "word " * (MOST_CHARACTERS // 5 - 2) + secret
    with Client(Provider(server.url, KEY)) as client:
        matcher = EmbeddingMatcher(
            lambda texts, seconds: client.embed("m", texts, seconds), lambda channel, people: True, lambda text: redact(text).text
        )
        assert matcher.prepare([], [("C1", (), text), ("C1", (), "word " * MOST_CHARACTERS)])["embedded"] == 2

    first, second = sent(server)
    assert text.startswith(first.partition("[")[0]) and secret[:4] not in first
    assert first.rpartition("[")[2] in ("email]", "card]", "secret]")
    assert len(second) == MOST_CHARACTERS


@pytest.mark.parametrize(
    "content",
    [b"{}", b'{"data": []}', b'{"data": [{"index": 0, "embedding": ["a"]}]}', b'{"data": [{"index": 1, "embedding": [1]}]}',
     b'{"data": [{"index": 0, "embedding": [NaN]}]}', b'{"data": [{"index": 0, "embedding": []}]}'],
)  # fmt: skip
def test_what_holds_no_vectors_is_no_answer(content: bytes):
    """Whatever came in their place."""
    with pytest.raises(BadAnswer):
        read_vectors(content, 1)


def test_a_wrong_key_is_no_outage(server: Server):
    """It comes as the error that says what to do."""
    with Client(Provider(server.url, "sk-wrong")) as client, pytest.raises(NotAllowed):
        client.embed("m", ["hello"]).result()
