"""What commands that run for ever serve of themselves: whether they are ready, and their metrics."""

from __future__ import annotations

from collections import Counter
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request

from prometheus_client.parser import text_string_to_metric_families

from beepgpt.connectors.http import Outbound

TIMEOUT = 5.0
"""Seconds for a command to answer."""
LAG = "beepgpt_consumer_lag_records"
NO_ANSWER = (OSError, HTTPException, ValueError)
"""What is raised where a command does not serve yet, or no more."""
_OUTBOUND = Outbound("127.0.0.1").opener("http://127.0.0.1")


def answer_at(port: int, path: str) -> tuple[int, str]:
    """Status and text of what a command serves. Raises what is in `NO_ANSWER`."""
    try:
        with _OUTBOUND.open(Request(f"http://127.0.0.1:{port}{path}"), timeout=TIMEOUT) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def sums_at(port: int) -> Counter[str]:
    """A command's metrics, each summed over its labels. Raises what is in `NO_ANSWER`."""
    return sums_in(answer_at(port, "/metrics")[1])


def has_caught_up(port: int) -> bool:
    """Whether a command has read all that is on its topics by now."""
    try:
        return sums_at(port).get(LAG) == 0
    except NO_ANSWER:
        return False


def sums_in(text: str) -> Counter[str]:
    """The metrics of a page of Prometheus', each summed over its labels.

    >>> sums_in('# TYPE a counter\\na_total{b="c"} 2.0\\na_total{b="d"} 3.0\\n')["a_total"]
    5.0
    """
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] += sample.value  # type: ignore[assignment]
    return found
