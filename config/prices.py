"""Prices of models: a dated table, which the user's file can extend."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from beepgpt.errors import BeepGPTError

PRICES = Path(__file__).with_name("prices.toml")
MILLION = 1_000_000

Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class BadPrices(BeepGPTError):
    """A table of prices can't be read; the message has the file and the problem."""

    exit_status = 2


class Price(BaseModel):
    """USD per million tokens, as of a day."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    as_of: date
    input: Dollars
    cached_input: Dollars
    cache_write: Dollars
    output: Dollars

    def cost(self, *, input: int, cached: int = 0, written: int = 0, output: int = 0) -> float:
        """The cost in USD. `cached` and `written`: how many of the input tokens came from the provider's cache, and were written to it.

        >>> luna = read_prices().of("gpt-6-luna")
        >>> shots, text = 2_240, 262  # tokens of the shared part and of an example
        >>> round(10_000 * luna.cost(input=shots + text, output=7), 2)
        2.54
        >>> round(10_000 * luna.cost(input=shots + text, cached=shots, output=7), 2)
        0.52
        """
        plain = max(input - cached - written, 0)
        return (plain * self.input + cached * self.cached_input + written * self.cache_write + output * self.output) / MILLION


@dataclass(frozen=True)
class Prices:
    """Known prices, by API and model."""

    known: Mapping[str, Mapping[str, Price]]
    batch: float
    """The share of the price that a batch costs."""

    def of(self, model: str, way: str = "chat") -> Price | None:
        """The price of a model or of its dated version; None: not known, and must not be guessed.

        >>> read_prices().of("gpt-4.1-2025-04-14") == read_prices().of("gpt-4.1"), read_prices().of("ft:gpt-4.1:us::abc")
        (True, None)
        """
        prices = self.known.get(way, {})
        return prices.get(model) or prices.get(re.sub(r"-\d{4}-\d{2}-\d{2}$", "", model))


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: Annotated[float, Field(ge=0, le=1)]
    chat: dict[str, Price]
    decisions: dict[str, Price]


def read_prices(path: Path | None = None) -> Prices:
    """Read the built-in prices, and the user's file over them. Raises BadPrices."""
    merged = _read(PRICES)
    if path is not None:
        given = _read(path)
        by_api = {api: {**merged[api], **given[api]} for api in ("chat", "decisions") if isinstance(given.get(api), dict)}
        merged = {**merged, **given, **by_api}
    try:
        table = _Table.model_validate(merged)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, each['loc']))}: {each['msg'].lower()}" for each in error.errors()]
        raise BadPrices(f"the prices in {path or PRICES} are wrong: {'; '.join(wrong)}") from error
    return Prices({"chat": table.chat, "decisions": table.decisions}, table.batch)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadPrices(f"the prices in {path} can't be read: {reason}") from error
