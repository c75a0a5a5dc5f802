"""What the original's leak was worth: its rows on HubSpot's messages, learned and judged with the answerer's words left out, and without.

The original left out of a prompt what its answerer had said, and split at random. Both flatter: live, nobody knows whom to leave out, and
nobody has learned from what comes later. The same model of text is fitted three times and judged on the same rows, once with the prompts
that the original would have judged it by, once with those that there are when it is asked.
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # before this folder, which has a training.py, too

import numpy as np  # noqa: E402

from beepgpt.connectors.slack.export import UnreadableDay, open_export, read_days  # noqa: E402
from beepgpt.simulation.workspace import Plan, live_records  # noqa: E402
from beepgpt.training.intervals import Bootstrap, Figure  # noqa: E402
from beepgpt.training.metrics import Outcomes, outcomes_of  # noqa: E402
from beepgpt.training.points import Examples, Points  # noqa: E402
from beepgpt.training.text import TextModel, fit_text  # noqa: E402
from benchmarks import common, original  # noqa: E402
from benchmarks.original import Message, Row, prompt_of, without_answerer  # noqa: E402

CUT_US = 1_670_453_893_000_000
"""2022-12-07T22:58:13Z, where HubSpot's last 20 % of time begin."""
VALID_SHARE = 0.2
SEED = 1


class Prompted(NamedTuple):
    """A row with both of its prompts."""

    row: Row
    conversation: str
    leaking: str
    whole: str


def messages_of(path: Path) -> list[Message]:
    """An export's messages by people, as the original reads them."""
    export = open_export(path)
    days = ((channel, day) for channel in export.channels for day in read_days(export, channel) if not isinstance(day, UnreadableDay))
    stored = ({**message, "channel": channel.id} for channel, day in days for message in day.messages if message.get("user"))
    return original.read_messages(stored)


def prompted(messages: Sequence[Message]) -> Iterator[Prompted]:
    """The original's rows, in the order of their times; those of which it shows nothing, or a live system, are left out."""
    named = {(message.channel, message.ts): f"{place[0]}:{place[1]}" for place, message in original.with_conversation(messages)}
    for row in original.rows_of(messages):
        leaking, whole = prompt_of(without_answerer(row)), prompt_of(row.window)
        if leaking and whole:
            yield Prompted(row, named[row.answer.channel, row.answer.ts], leaking, whole)


def examples_with(rows: Sequence[Prompted], prompts: Sequence[str]) -> Examples:
    """Rows as a model of text reads them: of the points only the prompts matter, and the conversations, by which intervals are drawn."""
    count = len(rows)
    nothing = np.zeros(0)
    points = Points(
        conversation=[row.conversation for row in rows],
        channel=[row.row.answer.channel for row in rows],
        author=[row.row.window[-1].user for row in rows],
        prompt=list(prompts),
        prompt_ts=np.array([row.row.window[-1].ts for row in rows], np.int64),
        speakers=np.ones(count, np.int64),
        window_ts=[[]] * count,
        window_user=[[]] * count,
        people=[],
        starts=np.zeros(count + 1, np.int64),
        user=nothing.astype(np.int32),
        features=np.zeros((0, 0), np.float32),
        feature_names=(),
    )
    settled = np.array([row.row.answer.ts for row in rows], np.int64)
    return Examples(points, [str(place) for place in range(count)], [[row.row.answer.user] for row in rows], settled)


def leaking(rows: Sequence[Prompted]) -> Examples:
    """As the original wrote them."""
    return examples_with(rows, [row.leaking for row in rows])


def whole(rows: Sequence[Prompted]) -> Examples:
    """As they are known when a model is asked."""
    return examples_with(rows, [row.whole for row in rows])


def hits_of(model: TextModel, judged: Examples, boot: Bootstrap) -> dict[str, Any]:
    """hit@1 and hit@5 with their ranges, and which rows were hit."""
    outcomes: Outcomes = outcomes_of(model.predict(judged.points), judged)
    ones = np.ones(len(judged))
    return {f"hit@{k}": boot.share(ones * ((outcomes.rank > 0) & (outcomes.rank <= k)), ones) for k in (1, 5)} | {"rank": outcomes.rank}


def measured(rows: Sequence[Prompted], *, cut_us: int | None = None, least: int = 20, rounds: int = 60) -> dict[str, Any]:
    """All results: the three models on the prompts that flatter and on those that there are."""
    ordered = sorted(rows, key=lambda row: row.row.answer.ts)
    cut = cut_us if cut_us is not None else ordered[int(len(ordered) * (1 - VALID_SHARE))].row.answer.ts
    early = [row for row in ordered if row.row.answer.ts < cut]
    late = [row for row in ordered if row.row.window[-1].ts >= cut]
    mixed = list(ordered)
    random.Random(SEED).shuffle(mixed)
    held_out = int(len(mixed) * VALID_SHARE)
    rest, drawn = mixed[held_out:], mixed[:held_out]
    found: dict[str, Any] = {
        "rows": len(ordered),
        "prompt_changed_by_leak": sum(row.leaking != row.whole for row in ordered) / len(ordered),
        "train": len(early),
        "valid": len(late),
        "rows_judged": [],
    }
    boot = Bootstrap([row.conversation for row in late])
    boot_drawn = Bootstrap([row.conversation for row in drawn])

    def judge(name: str, fitted_on: Examples, flattering: Examples, served: Examples, draws: Bootstrap) -> None:
        began = time.perf_counter()
        model = fit_text(fitted_on, least=least, rounds=rounds)
        apparent, real = hits_of(model, flattering, draws), hits_of(model, served, draws)
        row: dict[str, Any] = {"name": name, "labels": len(model.labels)}
        for k in (1, 5):
            less = sum_of_differences(apparent["rank"], real["rank"], k, draws)
            row[f"hit@{k}"] = {
                "apparent": as_json(apparent[f"hit@{k}"]),
                "as_served": as_json(real[f"hit@{k}"]),
                "not_there": as_json(less),
            }
        row["fit_seconds"] = round(time.perf_counter() - began, 1)
        found["rows_judged"].append(row)
        print(row_of(row), flush=True)

    judge("leak, random split (the original)", leaking(rest), leaking(drawn), whole(drawn), boot_drawn)
    judge("leak, split by time", leaking(early), leaking(late), whole(late), boot)
    judge("no leak, split by time", whole(early), whole(late), whole(late), boot)
    return found


def sum_of_differences(apparent: Any, real: Any, k: int, draws: Bootstrap) -> Figure:
    """How much less is hit, with the interval of the difference on the same rows."""
    one, other = ((rank > 0) & (rank <= k) for rank in (apparent, real))
    return draws.share(one.astype(np.float64) - other, np.ones(len(one)))


def as_json(figure: Figure) -> dict[str, Any]:
    """As metrics.json has it."""
    return figure.as_json()


def row_of(row: dict[str, Any]) -> str:
    """A line for reading."""
    parts = []
    for k in (1, 5):
        each = row[f"hit@{k}"]
        parts.append(
            f"hit@{k} {100 * each['apparent']['value']:.1f} apparent, {100 * each['as_served']['value']:.1f} as served"
            f" ({100 * each['not_there']['value']:.1f} not there)"
        )
    return f"{row['name']:<36} {'; '.join(parts)}"


def main() -> None:
    """Measures, prints, and writes benchmarks/results/leak.json."""
    given = common.options(main.__doc__ or "")
    if given.quick or not common.HUBSPOT.exists():
        plan = Plan(seed=3, messages=4_000, channels=4, people=20, days=60)
        events = [event for event in map(common_event, live_records(plan)) if event is not None]
        print("a simulated workspace:")
        measured(list(prompted(original.read_messages(events))), least=5)
        return
    found = measured(list(prompted(messages_of(common.HUBSPOT))), cut_us=CUT_US)
    print(f"{found['rows']:,} rows, of which the leak changes {found['prompt_changed_by_leak']:.1%}")
    common.write_results("leak", 1, found)


def common_event(record: bytes) -> dict[str, Any] | None:
    """A posted message of a live record."""
    import orjson

    try:
        body = orjson.loads(record)
    except orjson.JSONDecodeError:  # the simulated stream has broken records, too
        return None
    if not isinstance(body, dict):
        return None
    event: dict[str, Any] = body.get("event", body)
    is_post = isinstance(event, dict) and event.get("type") == "message" and event.get("subtype") is None
    is_whole = is_post and all(isinstance(event.get(name), str) for name in ("user", "ts", "text", "channel"))
    return event if is_whole and re.fullmatch(r"\d{9,10}\.\d{6}", event["ts"]) else None


if __name__ == "__main__":
    main()
