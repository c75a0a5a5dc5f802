"""What labeling by an LLM costs: estimated before, limited while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from beepgpt.connectors.openai.values import Usage
from beepgpt.labeling.asking import OUTPUT_TOKENS, Asking

CACHED_FROM = 1024
"""Tokens of a shared beginning from which on providers cache it."""


class TokenPrice(Protocol):
    """A model's price."""

    @property
    def as_of(self) -> Any: ...
    def cost(self, *, input: int, cached: int = 0, written: int = 0, output: int = 0) -> float:
        """USD for these tokens; `input` includes the cached and the written ones."""


class Spending(Protocol):
    """Tokens that a run was charged for."""

    @property
    def usage(self) -> Usage: ...
    @property
    def batch_usage(self) -> Usage: ...
    def __add__(self, other: Any) -> Spending: ...


@dataclass(frozen=True)
class Budget:
    """The limit of a run's cost, and what its earlier starts spent."""

    price: TokenPrice | None
    """None: not known, so that no limit can be kept."""
    batch: float
    """The share of the price that a batch costs."""
    limit: float | None
    """USD, for all starts of the run."""
    before: Spending
    """By earlier starts of the run."""

    def cost(self, spent: Spending) -> float | None:
        """USD."""
        if self.price is None:
            return None
        usages = ((spent.usage, 1.0), (spent.batch_usage, self.batch))
        return sum(
            share * self.price.cost(input=each.input, cached=each.cached, written=each.written, output=each.output)
            for each, share in usages
        )

    def is_spent(self, spent: Spending) -> bool:
        """Whether this start, with those before it, has reached the limit."""
        cost = self.cost(self.before + spent)
        return self.limit is not None and cost is not None and cost >= self.limit


@dataclass(frozen=True)
class Estimate:
    """What a run will ask, counted beforehand."""

    examples: int = 0
    """Examples to be labeled."""
    requests: int = 0
    """Different prompts without a known answer."""
    shared_tokens: int = 0
    """Tokens that each request begins with."""
    text_tokens: int = 0
    """Tokens of all their texts together."""
    cost: float | None = None
    """USD; None: the model's price is not known."""
    most: float | None = None
    """USD, if the provider caches nothing."""

    @property
    def tokens(self) -> int:
        """All tokens that are sent."""
        return self.requests * self.shared_tokens + self.text_tokens


def estimated(asking: Asking, budget: Budget, examples: int, requests: int, text_tokens: int, *, at_once: int, batch: bool) -> Estimate:
    """The cost of these requests. `at_once`: requests in flight at a time, the first of which find nothing cached."""
    shared = asking.shared_tokens
    counted = Estimate(examples, requests, shared, text_tokens)
    if budget.price is None:
        return counted
    output = requests * OUTPUT_TOKENS[asking.model.way]
    share = budget.batch if batch else 1.0
    most = cost = share * budget.price.cost(input=counted.tokens, output=output)
    if shared >= CACHED_FROM and not batch:  # no provider promises a cache between the requests of a batch
        first = min(requests, at_once)
        written = first * shared if asking.model.marks_prefix else 0
        cost = budget.price.cost(input=counted.tokens, cached=(requests - first) * shared, written=written, output=output)
    return Estimate(examples, requests, shared, text_tokens, cost, most)


def dollars(cost: float) -> str:
    """USD, as a person reads them.

    >>> dollars(1234.567), dollars(0.00521), dollars(0.01)
    ('$1,234.57', '$0.0052', '$0.01')
    """
    return f"${cost:,.4f}" if cost < 0.1 and round(cost, 2) != round(cost, 4) else f"${cost:,.2f}"


def counted(prompts: Iterable[str], asking: Asking, is_known: Callable[[str], bool], watch: Callable[[int], None]) -> tuple[int, int, int]:
    """Examples, different requests without a known answer, and the tokens of their texts.

    `is_known`: whether the answer to a request's id is known; `watch` is called with the examples counted so far.
    """
    new: set[bytes] = set()
    examples = text_tokens = 0
    for prompt in prompts:
        examples += 1
        prepared = asking.request(prompt)
        name = bytes.fromhex(prepared.id)
        if name not in new and not is_known(prepared.id):
            new.add(name)
            text_tokens += prepared.request.tokens - asking.shared_tokens
        if examples % 100 == 0:
            watch(examples)
    return examples, len(new), text_tokens
