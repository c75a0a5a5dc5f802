"""What labels cost: it is agreed to before it is spent, and a batch costs half."""

from __future__ import annotations

from pathlib import Path

import pytest

from beepgpt.config.prices import BadPrices, read_prices
from beepgpt.errors import BadCommand, RunStopped
from beepgpt.labeling.asking import CACHED_FROM
from tests.support.labeling import Labels, account, few_shots_in, made_examples, prompts_of
from tests.support.openai_model import text_of
from tests.support.openai_server import Server

LUNA = read_prices().of("gpt-6-luna")


# Money


def test_the_cost_is_what_the_tokens_cost(server: Server, labels: Labels):
    """By the tokens that the server tells, with those from its cache, and by the table's prices; the estimate is near it."""
    few_shots_in(labels.folder / "few-shots", made_examples(seed=6), 50)
    report = labels.run(server, provider__concurrency=2)

    assert LUNA
    provider, estimate = report["provider"], report["estimate"]
    tokens = provider["tokens"]
    assert estimate["shared_tokens"] > CACHED_FROM
    assert tokens["cached"] > 0.8 * tokens["input"]
    assert provider["cost"] == pytest.approx(LUNA.cost(**tokens))
    assert estimate["requests"] == provider["requests"] == len(prompts_of(labels.lines))
    assert estimate["cost"] < estimate["most"] / 3
    assert estimate["cost"] == pytest.approx(provider["cost"], rel=0.25)


def test_more_than_is_allowed_is_asked_for_before_it_is_spent(server: Server, labels: Labels):
    """Nobody is there to be asked: the command is wrong, says what it would cost, and nothing was sent."""
    with pytest.raises(BadCommand, match=r"(?s)about \$0\.0.*prices of 2026-.*more than --max-cost \$0\.00.*--max-cost 0\.0.*--yes"):
        labels.run(server, max_cost=0.0001)

    with pytest.raises(BadCommand, match=r"A batch can't be stopped.*: allow more \(--max-cost 0\.01\)$"):
        labels.run(server, max_cost=0.0001, batch=True, yes=True)

    assert (server.record.asked, server.batches) == ([], {})


def test_what_is_spent_stops_the_run_and_more_money_goes_on(server: Server, labels: Labels):
    """With `--yes` nobody is asked, and the limit holds all the same, over all starts; what is done is kept."""
    whole = len(prompts_of(labels.lines))
    limit = 0.0003
    first = labels.run(server, recovery=True, yes=True, max_cost=limit, provider__concurrency=1)
    asked = len(server.record.asked)
    second = labels.run(server, recovery=True, yes=True, max_cost=limit, provider__concurrency=1)
    nothing_more = len(server.record.asked)
    third = labels.run(server, recovery=True)

    assert "--max-cost goes on" in first["stopped_because"]
    assert limit <= first["provider"]["cost"] < 1.5 * limit
    assert 0 < account(first)["waiting"] < len(labels.lines)
    assert (first["ended"], second["ended"], third["ended"]) == (False, False, True)
    assert asked == nothing_more < whole == len(server.record.asked)
    assert third["provider"]["cost"] == pytest.approx(_cost(server), rel=1e-6)
    labels.check()


def _cost(server: Server) -> float:
    """Of all that was asked: what the server's own usage would be, asked again."""
    assert LUNA
    sizes = [sum(len(text_of(each["content"])) // 4 + 4 for each in asked.body["messages"]) for asked in server.record.asked]
    return LUNA.cost(input=sum(sizes), output=5 * len(sizes))


def test_a_model_without_a_price_needs_a_yes(server: Server, labels: Labels):
    """Or its price, from a file."""
    with pytest.raises(BadCommand, match=r"What llama takes .* is not known.*--prices FILE.*--yes"):
        labels.run(server, provider__model="llama")
    assert server.record.asked == []
    mine = labels.folder / "prices.toml"
    mine.write_text("[chat.llama]\nas_of = 2026-01-01\ninput = 1\ncached_input = 1\ncache_write = 1\noutput = 2\n")
    priced = labels.run(server, provider__model="llama", prices=mine)
    unpriced = labels.run(server, provider__model="llama", yes=True)

    assert priced["provider"]["cost"] > 0
    assert (unpriced["provider"]["cost"], unpriced["provider"]["limit"]) == (None, None)
    mine.write_text("[chat.llama]\ninput = -1\n")
    with pytest.raises(BadPrices, match="prices in"):
        labels.run(server, prices=mine)


def test_an_unknown_model_is_sent_nothing_special(server: Server, labels: Labels):
    """Other servers refuse what they don't know."""
    labels.run(server, provider__model="llama", yes=True)

    assert set(server.record.asked[0].body) == {
        "model", "messages", "response_format", "max_completion_tokens", "logprobs", "top_logprobs"
    }  # fmt: skip


# Batches


def test_a_batch_costs_half_and_comes_to_the_same(server: Server, labels: Labels, tmp_path: Path):
    """One file is sent, its answers are kept, and the flow finds all of them."""
    other = Labels(tmp_path / "other", labels.lines)
    single = other.run(server, provider__concurrency=1)
    server.record.asked.clear()
    server.record.answered.clear()
    report = labels.run(server, batch=True)

    assert {each.path for each in server.record.asked} == {"batch"}
    assert (len(server.batches), server.record.paid_twice) == (1, 0)
    assert sorted(labels.to.read_bytes().splitlines()) == sorted(other.to.read_bytes().splitlines())
    assert report["provider"]["cost"] == pytest.approx(single["provider"]["cost"] / 2)
    assert report["estimate"]["cost"] == pytest.approx(single["estimate"]["cost"] / 2)


def test_a_batch_that_expires_is_followed_by_another(server: Server, labels: Labels, monkeypatch: pytest.MonkeyPatch):
    """Half of it was done; in the end all of it is, and what was paid for is not paid for again."""
    monkeypatch.setattr("beepgpt.labeling.batches.LOOKS", 0.05)
    server.script.batch = "expired"
    report = labels.run(server, batch=True)

    assert len(server.batches) > 2
    assert (report["ended"], server.record.paid_twice) == (True, 0)
    labels.check()


def test_a_batch_that_is_turned_down_can_be_started_again(server: Server, labels: Labels):
    """The message says what to do; the same command does it."""
    server.script.batch = "failed:token_limit_exceeded"
    with pytest.raises(RunStopped, match=r"too many tokens are queued.*goes on from here"):
        labels.run(server, batch=True, recovery=True)
    server.script.batch = "completed"
    report = labels.run(server, batch=True, recovery=True)

    assert (len(server.batches), server.record.paid_twice, report["ended"]) == (2, 0, True)
    labels.check()


def test_what_a_batch_can_not_be_is_told(server: Server, labels: Labels):
    """Before anything is sent."""
    with pytest.raises(BadCommand, match="no batches of decisions"):
        labels.run(server, batch=True, provider__way="decisions")
    with pytest.raises(BadCommand, match="--batch is for --labeler provider"):
        labels.run(None, batch=True)
