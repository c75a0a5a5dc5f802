"""docs/benchmarks.md and its plots, all from benchmarks/results/*.json: no figure is typed by hand."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DOCS = ROOT / "docs"
Rows = Sequence[Sequence[str]]


def results(name: str) -> dict[str, Any] | None:
    """A benchmark's results, if it was run."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return None
    read: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return read


def table(head: Sequence[str], rows: Rows) -> str:
    """A Markdown table; all but the first column are figures.

    >>> print(table(["what", "how many"], [["events", "3"]]))
    | what | how many |
    |---|--:|
    | events | 3 |
    """
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("|" + "|".join(cell if set(cell) <= set("-:") and cell else f" {cell} " for cell in line) + "|" for line in lines)


def figure(spread: dict[str, float], digits: int = 0) -> str:
    """A median and its spread, if there was more than one run.

    >>> figure({"median": 2.0, "min": 1.5, "max": 3.0}, 1)
    '2.0 (1.5-3.0)'
    """
    if spread["min"] == spread["max"]:
        return f"{spread['median']:,.{digits}f}"
    return f"{spread['median']:,.{digits}f} ({spread['min']:,.{digits}f}-{spread['max']:,.{digits}f})"


def verdict(reached: bool) -> str:
    """Whether a target was reached."""
    return "yes" if reached else "**no**"


def measured_on(name: str, of: dict[str, Any]) -> str:
    """Where and with what."""
    here = of["machine"]
    versions = ", ".join(
        f"{package} {version}" for package, version in of["versions"].items() if package in ("bytewax", "orjson", "tiktoken")
    )
    runs = f", medians of {of['runs']} runs, least and most in brackets" if of.get("runs", 1) > 1 else ""
    return (
        f"`benchmarks/{name.removesuffix('_hubspot')}.py`, on {here['cpu']}, {here['cores']} cores, {here['memory_gb']:g} GB,"
        f" {here['system']}, Python {here['python']}{', ' + versions if versions else ''}{runs}.{' ' + of['note'] if 'note' in of else ''}"
    )


# The chapters


def floor(of: dict[str, Any]) -> str:
    """The flow and the plain loop."""
    rows = [
        [
            f"{row['stream']}, {row['candidates']} candidates",
            figure(row["loop_per_second"]),
            figure(row["flow_per_second"]),
            figure(row["ratio"]["after start-up"], 2),
            figure(row["ratio"]["whole"], 2),
            f"{row['target']:g}",
            verdict(row["ratio"]["after start-up"]["median"] >= row["target"]),
            "yes" if row["equal"] else "**no**",
        ]
        for row in of["rows"]
    ]
    head = ["stream", "loop, records/s", "flow, records/s", "flow to loop", "with start-up", "wanted", "reached", "equal lines"]
    return (
        "How much does the dataflow cost? The floor is a plain Python loop that does the same work: it reads the file, decodes, calls"
        " `Channel.apply`, encodes and writes. The flow is `beepgpt examples`.\n\n" + table(head, rows)
    )


def parts(of: dict[str, Any]) -> str:
    """Where the time goes."""
    names = list(of["rows"][0]["parts_us_per_record"])
    rows = [
        [
            f"{row['stream']}, {row['candidates']} candidates",
            *[f"{row['parts_us_per_record'][name]:.1f}" for name in names],
            figure(row["us_per_record"], 1),
            f"{row['loads_us']['median']:.2f}",
        ]
        for row in of["rows"]
    ]
    reached = []
    for row in of["rows"]:
        for what, wanted in row["wanted"].items():
            where = f"{row['stream']}, {row['candidates']} candidates ({row['candidates_per_example']:.0f} an example on average)"
            builds = [("plain", row), *([("compiled", row["compiled"])] if row.get("compiled") else [])]
            for build, part in builds:
                value = part["normalised"][what]
                cells = [where, build, what.removeprefix("us_per_"), f"{value:.1f}", f"{wanted:.0f}", verdict(value <= wanted)]
                reached.append(cells)
    return (
        "Microseconds per record in the plain loop, by kind of work, over the second half of each stream. `the rest` is conversations,"
        " windows, points and the account.\n\n"
        + table(["stream", *("features" if name == "facts" else name for name in names), "whole", "`orjson.loads`"], rows)
        + "\n\nThe plain build's profile is flat: no function of ours takes over 6 %, and the rest is the interpreter's"
        " own work between many small calls. The compiled build (setup.py) removes that work, with the same source."
        "\n\nThe same, converted to a machine where `orjson.loads` of a record takes 1.5 microseconds:\n\n"
        + table(["stream", "build", "a", "microseconds", "wanted at most", "reached"], reached)
    )


def memory(of: dict[str, Any]) -> str:
    """Two years and four."""
    rows = [
        [
            f"{row['days'] / 365:.0f} years",
            f"{row['events']:,}",
            f"{row['channels']:,}",
            f"{row['peak_mb']:,.0f}",
            f"{row['events_per_second']:,}",
        ]
        for row in of["rows"]
    ]
    wanted = of["wanted"]
    first = of["rows"][0]["peak_mb"] <= wanted["two_years_mb"]
    return (
        table(["time", "events", "channels", "peak MB", "events/s"], rows)
        + f"\n\nWanted: at most {wanted['two_years_mb']} MB for two years ({verdict(first)}), and at most {wanted['growth']:g} times that"
        f" for four (it is {of['growth']:.2f} times: {verdict(of['growth'] <= wanted['growth'])})."
    )


def recovery(of: dict[str, Any]) -> str:
    """The price of snapshots, and the way back."""
    rows = [
        ["seconds without", figure(of["seconds_without"], 1), ""],
        ["seconds with a snapshot every 10 s", figure(of["seconds_with"], 1), ""],
        [
            "speed with to without",
            figure(of["ratio"], 2),
            f"{of['wanted']['ratio']:g}: {verdict(of['ratio']['median'] >= of['wanted']['ratio'])}",
        ],
        [
            "seconds from the restart after SIGKILL until it writes again",
            figure(of["resume_seconds"], 1),
            f"{of['wanted']['resume_seconds']:g}: {verdict(of['resume_seconds']['median'] <= of['wanted']['resume_seconds'])}",
        ],
        ["MB of the store", f"{of['store_mb']:,}", ""],
        ["peak MB without", f"{of['peak_mb_without']:,.0f}", ""],
        ["peak MB with", f"{of['peak_mb_with']:,.0f}", ""],
        ["the same lines, byte for byte", "yes" if of["equal"] else "**no**", ""],
    ]
    return f"{of['channels']:,} channels, {of['events']:,} events.\n\n" + table(["what", "measured", "wanted"], rows)


def growth(of: dict[str, Any]) -> str:
    """A table and a plot for each thing that changes."""
    said = [
        "`beepgpt examples` with candidates, one worker; events per second of a processor, without start-up. Where nothing else is said:"
        " 1,000 channels, 2,000 people, 100,000 events, windows of 5 messages. With one channel, all events are in it."
    ]
    for sweep, what in SWEEPS.items():
        rows = [
            [f"{row[sweep]:,}", figure(row["events_per_second"]), figure(row["peak_mb"])] for row in of["rows"] if row["sweep"] == sweep
        ]
        said += [table([what, "events/s", "peak MB"], rows), f"![Events per second and memory by {what}](growth-{sweep}.svg)"]
    return "\n\n".join(said)


def engines(of: dict[str, Any]) -> str:
    """Who does what on the same messages, by job, the fastest first."""
    said = [
        f"{of['events']:,} messages of 200 channels, once as small JSON lines for a job that others do well (*the window job*: each message"
        " with the last five texts before it), once as Slack's records, of which `beepgpt examples` makes all that it makes: in order of"
        " time, without duplicates, with horizons, silences, tokens and, unless it is said, features of candidates. *Our core in* another"
        " engine: that engine reads, keys by channel and writes, our code does the rest, and the lines are the same, but not put in order"
        " ([how](../benchmarks/README.md#engines)). *After start-up*: without the time that a run of one message takes. "
        + ", ".join(of["peers"].values())
        + "."
    ]
    jobs = dict.fromkeys((row["job"], row["cores"]) for row in of["rows"])
    for job, cores in sorted(jobs, key=lambda each: each[1]):
        rows = [row for row in of["rows"] if (row["job"], row["cores"]) == (job, cores)]
        done = sorted((row for row in rows if "seconds" in row), key=lambda row: float(row["seconds"]["median"]))
        lines = [
            [
                row["who"],
                figure(row["seconds"], 1),
                f"{row['start_up_seconds']:.1f}" if "start_up_seconds" in row else "-",
                f"{row['per_second']:,}",
                f"{row['per_second_after_start_up']:,}" if "per_second_after_start_up" in row else "-",
                f"{row['peak_mb']:,.0f}",
            ]
            for row in done
        ]
        lines += [[row["who"], row["failed"], "-", "-", "-", "-"] for row in rows if "failed" in row]
        head = f"{job}, {'one core' if cores == 1 else f'{cores} cores'}"
        said.append(table([head, "seconds", "start-up", "messages/s", "after start-up", "peak MB"], lines))
    said.append(table(["what is compared", "its speed to the other's", "wanted", "reached"], wanted_of_engines(of["rows"])))
    return "\n\n".join(said)


def wanted_of_engines(measured: Sequence[Mapping[str, Any]]) -> Rows:
    """The product's speed to that of the fastest engine that drives our core, and to that of the best peer at its window job."""
    done = [row for row in measured if "seconds" in row]

    def best(mode: str, ends: str = "") -> Mapping[str, Any]:
        of_job = [row for row in done if (row["mode"], row["cores"]) == (mode, 1) and row["who"].endswith(ends)]
        others = [row for row in of_job if not row["who"].startswith(("loop", "our core in loop", "beepgpt"))]
        return max(others, key=lambda row: float(row["per_second"]))

    ours = {(row["who"], row["mode"], row["cores"]): row["per_second"] for row in done}
    builds = [build for build in ("plain", "compiled") if (f"beepgpt examples, {build}", "without", 1) in ours]
    compared = [(f"beepgpt examples, {build}", mode, 1, best(mode, build), 1.0) for mode in ("without", "with") for build in builds]
    if "compiled" in builds:
        compared += [("beepgpt examples, compiled", "without", cores, best("windows"), share) for cores, share in ((1, 0.5), (2, 1.0))]
    rows = []
    for who, mode, cores, other, wanted in compared:
        job = f"{mode} candidates, {'one core' if cores == 1 else f'{cores} cores'}"
        share = ours[who, mode, cores] / other["per_second"]
        what = f"{who}, {job}, to {other['who']}, {other['job']}, one core"
        rows.append([what, f"{share:.2f}", f"{wanted:g}", verdict(share >= wanted)])
    return rows


def peers(of: dict[str, Any]) -> str:
    """The same small job for all."""
    rows = []
    for row in of["rows"]:
        if row["failed"]:
            rows.append([row["peer"], f"{row['events']:,}", "-", "-", "-", "-", row["failed"].replace("|", "/")])
            continue
        slowest, fastest = (row["events"] / row[f"seconds_{which}"] for which in ("max", "min"))
        rows.append(
            [
                "a Bytewax flow" if row["peer"] == "ours" else row["peer"],
                f"{row['events']:,}",
                f"{row['events_per_second']:,} ({slowest:,.0f}-{fastest:,.0f})",
                f"{after:,}" if (after := row["events_per_second_after_start_up"]) else "-",
                f"{row['peak_mb']:,.0f}",
                f"{row['start_up_seconds']:.1f}",
                "equal" if row["equal"] else "**different**",
            ]
        )
    job = (
        "One job for all: the last 5 messages of a conversation before each message, and its author"
        " ([how](../benchmarks/README.md#peers)). *A Bytewax flow*: a script in the shape of our flow, batched by hand, not the product;"
        f" the others are {', '.join(version for peer, version in of['versions'].items() if peer not in ('loop', 'ours'))}.\n\n"
    )
    return job + table(["who", "events", "events/s", "after start-up", "peak MB", "start-up, s", "lines"], rows)


def kafka_speed(of: dict[str, Any]) -> str:
    """From topic to topic: what was measured of it."""
    sizes = f"{of['events']:,} events of {of['bytes'] / of['events']:,.0f} bytes on average, kafka-python {of['versions']['kafka-python']}"
    said = [f"{sizes}, Apache Kafka {of['versions']['Apache Kafka']} on the same cores."]
    for name, part in of["parts"].items():
        said.append(f"### {name.capitalize()}")
        if reason := part.get("not_measured"):
            said.append(f"Not measured: {reason}.")
        if rows := part.get("rows"):
            head = ["what", "events", "seconds", "events/s", "after start-up", "processor seconds", "peak MB"]
            lines = [
                [
                    row["what"],
                    f"{row['events']:,}",
                    figure(row["seconds"], 1),
                    f"{row['events_per_second']:,}",
                    "-" if (after := row["events_per_second_after_start_up"]) is None else f"{after:,}",
                    f"{row['cpu_seconds']['median']:,.1f}",
                    f"{row['peak_mb']:,.0f}",
                ]
                for row in rows
            ]
            said.append(table(head, lines))
        if ratios := part.get("ratios"):
            lines = [
                [
                    each["what"],
                    figure(each["ratio"], 2),
                    "-" if each["target"] is None else f"{each['target']:g}",
                    "-" if each["target"] is None else verdict(each["reached"]),
                ]
                for each in ratios
            ]
            said.append(table(["speed of", "measured", "wanted", "reached"], lines))
        if micros := part.get("microseconds_a_record"):
            said.append(table(["of a file", "µs a record"], [[what, f"{value:.2f}"] for what, value in micros.items()]))
        if times := part.get("milliseconds"):
            lines = [[what.replace("_", ", "), figure(value, 1)] for what, value in times.items()]
            said.append(
                f"{part['events_per_second']} events a second, from the record that settles an example, or from its answer (which waits for"
                f" the lateness of {part['lateness_ms']:,.0f} ms), to its arrival at the broker:\n\n"
                + table(["since", "milliseconds"], lines)
            )
    return "\n\n".join(said)


def sqlite_log(of: dict[str, Any]) -> str:
    """A topic in a folder: records a second."""
    rows = [
        [
            what,
            f"{part['per_second']:,}",
            f"{part['per_cpu_second']:,}",
            *([f"{part['wanted']:,}", verdict(part["reached"])] if "wanted" in part else ["-", "-"]),
        ]
        for name, what in (("write", "written, in batches of 1,000"), ("read", "read, without an engine"), ("flow", "read, in Bytewax"))
        for part in [of["parts"][name]]
    ]
    return f"A topic in a folder (SQLite), {of['records']:,} events of {of['bytes_each']:,} bytes, 12 partitions.\n\n" + table(
        ["", "records/s", "a second of the processor", "wanted", "reached"], rows
    )


def up(of: dict[str, Any]) -> str:
    """From nothing to an alert that was right, and memory."""
    said, parts = [], of["parts"]
    if began := parts.get("bootstrap"):
        head = f"`beepgpt up --history`, {began['messages']:,} messages of history, load {began['load']:.1f}"
        said.append(table([head, "after, s"], [[step, f"{seconds:,.0f}"] for step, seconds in began["steps"].items()]))
    if slow := parts.get("slow"):
        said.append(memory_of_up("Events one a second", slow))
    if fast := parts.get("fast"):
        days = fast["rows"][-2]["seconds"] * fast["rate"] / 86_400
        rate = f"a clock that runs {fast['rate']:,.0f} times as fast as the machine's"
        said += [
            memory_of_up(f"Events as fast as all commands work them off, over {days:.1f} days of {rate}", fast),
            f"The last row is {fast['later']:,.0f} s later: {fast['examples']:,} examples are made then, and {fast['predictions']:,} points"
            " predicted: the deadline of the others came first. What grows with the stream is bounded by time: `examples` and `score` keep"
            " what waits for its horizon (a day), and each event for ten minutes, as `ingest` does for an hour, to know what Slack sends"
            " again. `score` keeps 64 bytes of each point, and what the last snapshot has of them, for as long as predictions stay on"
            " their topic (90 days), to take back what holds a deleted message: it is not flat within that time.",
        ]
    return "\n\n".join(said)


def memory_of_up(what: str, part: dict[str, Any]) -> str:
    """MB of each command as events come."""
    commands = list(part["rows"][0]["mb"])
    lines = [
        [f"{row['events']:,}", f"{row['seconds']:,.0f}", *(f"{row['mb'][command]:,.0f}" for command in commands)] for row in part["rows"]
    ]
    return f"{what}: MB of each command (load {part['load']:.1f}).\n\n" + table(
        ["events", "seconds", *(f"`{command}`" for command in commands)], lines
    )


def labeling(of: dict[str, Any]) -> str:
    """Labels by an LLM."""
    rows = [
        [
            row["run"],
            f"{row['examples']:,}",
            "-" if row["seconds"] is None else f"{row['seconds']:,.1f}",
            "-" if row["seconds"] is None else f"{row['ideal_seconds']:,.1f}",
            "-" if row["ratio"] is None else f"{row['ratio']:.2f} of {of['target']:g}: {verdict(row['ratio'] <= of['target'])}",
            f"{row['missing']} / {row['double']}",
            f"{row['paid_twice']:,}",
            f"{sum(row['dead_letters'].values()):,}",
            f"${row['cost']:.4f} / ${row['cost_by_arithmetic']:.4f}",
            f"{row['peak_mb']:,.0f}",
        ]
        for row in of["rows"]
    ]
    head = [
        "run",
        "examples",
        "seconds",
        "ideal",
        "ratio, allowed",
        "missing / double",
        "paid twice",
        "dead letters",
        "cost reported / true",
    ]
    head.append("peak MB")
    return (
        "HubSpot's examples, each with a different prompt, labeled by a test server that answers in 300 ms, 16 requests at a time."
        " *Ideal* is"
        " the time that 16 concurrent requests allow. With faults: 1 % of requests meet each of 19 faults, whose time counts as ideal."
        " With kills: ten `kill -9` besides; requests in flight at a kill, at most 16, are sent and paid for again.\n\n" + table(head, rows)
    )


def scoring(of: dict[str, Any]) -> str:
    """Predictions in real time."""
    rows = [
        [
            name,
            f"{part['points_per_second']:,}",
            f"{part['seconds']:,}",
            *(f"{part['milliseconds'][share]:,.0f}" for share in ("p50", "p90", "p99")),
            f"{part['target_ms']:,}: {verdict(part['reached'])}",
            f"{part['predicted']:,} / {part['said']:,}",
            f"{part['memory_mb']['early']:,.0f}, then {part['memory_mb']['late']:,.0f}",
        ]
        for name, part in of["parts"].items()
    ]
    head = ["model", "points/s", "seconds", "p50 ms", "p90 ms", "p99 ms", "p99 wanted", "predicted / made", "MB"]
    return (
        "How long does a prediction take? 40 channels with threads, on a real broker on the same cores, with 40 candidates a point."
        " Milliseconds from a point's release to the arrival of its prediction at a consumer. *local*: in the flow's process;"
        " *served*: by a server that takes 300 ms; *folder*: in the flow's process, over topics in a folder, without a broker."
        "\n\n" + table(head, rows)
    )


def training(of: dict[str, Any]) -> str:
    """The local model: fitting it, and asking it."""
    wanted = of["wanted"]
    rows = [
        [what, figure(of[name], digits), f"under {wanted[name]:,.0f}: {verdict(of[name]['median'] < wanted[name])}"]
        for what, name, digits in (
            ("training, s", "train_seconds", 0),
            ("one point alone, µs", "alone_us", 0),
            ("a point among a hundred, µs", "in_hundreds_us", 0),
        )
    ]
    rows.append(["a point among a hundred, µs of the processor", figure(of["in_hundreds_processor_us"]), ""])
    return (
        f"HubSpot's {of['examples']:,} training examples, including unanswered ones, with up to 40 candidates each: {of['rounds']} trees."
        " Predictions are made on one thread, from decoded JSON to the probabilities of all people.\n\n"
        + table(["what", "measured", "wanted"], rows)
    )


def prepare(of: dict[str, Any]) -> str:
    """Training sets of many examples."""
    rows = [
        [
            f"{row['examples']:,}",
            f"{row['file_mb']:,}",
            f"{row['seconds']:,.0f}",
            f"{row['examples_per_second']:,}",
            f"{row['peak_mb']:,.0f}",
        ]
        for row in of["rows"]
    ]
    peak, most = of["rows"][-1]["peak_mb"], of["wanted"]["peak_mb"]
    return (
        f"`beepgpt prepare` with chats and candidates. Each example takes {of['bytes_per_example']:,} bytes of memory;"
        f" {peak:,.0f} MB at most, wanted under {most:,}: {verdict(peak < most)}.\n\n"
        + table(["examples", "file, MB", "seconds", "examples/s", "peak MB"], rows)
    )


def label_worth(of: dict[str, Any]) -> str:
    """What labels are worth to the local model."""
    figures = [name for name in of["arms"]["no labels"] if name != "calibration_error"]

    def cell(row: dict[str, Any], name: str, *, is_base: bool) -> str:
        scale, digits = (1, 3) if name == "log_loss" else (100, 1)
        value, to, low, high = (scale * row[name][part] for part in ("value", "to_no_labels", "low", "high"))
        return f"{value:.{digits}f}" if is_base else f"{value:.{digits}f} ({to:+.{digits}f}: {low:+.{digits}f} to {high:+.{digits}f})"

    rows = [
        [name, *(cell(row, each, is_base=name == "no labels") for each in figures), f"{100 * row['calibration_error']:.1f}"]
        for name, row in of["arms"].items()
    ]
    seeds = "one seed" if of["seeds"] == 1 else f"means of {of['seeds']} seeds"
    labelers = "; ".join(f"{name} calls {each['weak']:,} weak, and is {each['accuracy']}" for name, each in of["labelers"].items())
    return (
        f"{of['export']}: the local model of {of['train']:,} examples, {of['answered']:,} of them answered, judged on {of['judged']:,}"
        f" later ones, {of['judged_answered']:,} answered, by who answered; {seeds}. Of the labelers, {labelers}."
        " In per cent (log loss in nats); in brackets the difference to no labels and its interval, paired, by conversation."
        " [labeling.md](labeling.md#are-labels-needed) says what follows.\n\n" + table(["training side", *figures, "off"], rows)
    )


def leak(of: dict[str, Any]) -> str:
    """What the original's leak was worth."""
    rows = [
        [row["name"], *(" ".join(_ranged(row[f"hit@{k}"][part]) for k in (1, 5)) for part in ("apparent", "as_served", "not_there"))]
        for row in of["rows_judged"]
    ]
    return (
        f"The original's {of['rows']:,} rows on HubSpot, and a model of text: hit@1 and hit@5 in per cent, as the original would have"
        " judged, and with the prompts that exist when the model is served. [experiments.md](experiments.md) explains it.\n\n"
        + table(["fitted on", "apparent", "as served", "not there"], rows)
    )


def _ranged(of: dict[str, Any]) -> str:
    return f"{100 * of['value']:.1f} ({100 * of['low']:.1f}–{100 * of['high']:.1f})"


def tables(of: dict[str, Any]) -> str:
    """A table of examples against lines of JSON."""
    cpu, shares, wanted = of["cpu_seconds"], of["shares"], of["wanted"]
    compared = (
        ("size", *(f"{of['bytes'][name] / 1e6:,.0f} MB" for name in ("lines", "table")), shares["size"], wanted["size"]),
        ("made by `beepgpt examples`", *_seconds(of["seconds"], "lines", "table"), 1 + shares["write"], 1 + wanted["write"]),
        ("the same, of a processor", *_seconds(cpu, "lines", "table"), 1 + shares["write_cpu"], 1 + wanted["write"]),
        ("read by pandas, of a processor", *_seconds(cpu, "read_json", "read_parquet"), 1 / shares["read"], 1 / wanted["read"]),
    )
    rows = [[*map(str, what), f"{share:.2f}", f"{most:.2f}", verdict(share <= most)] for *what, share, most in compared]
    return (
        f"{of['examples']:,} examples with candidates, of {of['events']:,} events: `--to examples.jsonl` against `--to examples.parquet`."
        " A thread writes a table while the run goes on, of candidates' numbers as the core has them: where it has a second processor the"
        f" run takes {100 * (1 + shares['write']):.0f} % of the time (without what the machine's other work, a load of"
        f" {of['load_before']:g} on {of['machine']['cores']} processors, kept it waiting), and"
        f" {100 * (1 + shares['write_cpu']):.0f} % of the processor time.\n\n"
        + table(["", "lines of JSON", "a table", "table to lines", "wanted at most", "reached"], rows)
    )


def _seconds(of: dict[str, Any], *names: str) -> list[str]:
    return [f"{of[name]['median']:.1f} s" for name in names]


CHAPTERS = {
    "floor": ("The floor", floor),
    "parts": ("Where the time goes", parts),
    "memory": ("Memory", memory),
    "recovery": ("Recovery", recovery),
    "growth": ("Growth", growth),
    "kafka_speed": ("From topic to topic", kafka_speed),
    "sqlite_log": ("A topic in a folder", sqlite_log),
    "up": ("Live on one machine", up),
    "labeling": ("Labels by an LLM", labeling),
    "scoring": ("Scoring in real time", scoring),
    "tables": ("Tables of examples", tables),
    "prepare": ("Training sets", prepare),
    "training": ("The local model", training),
    "label_worth": ("What labels are worth", label_worth),
    "label_worth_hubspot": ("What labels are worth on HubSpot", label_worth),
    "leak": ("What the original's leak was worth", leak),
    "engines": ("The product and its peers", engines),
    "peers": ("Others, on one small job", peers),
}
SWEEPS = {"channels": "channels", "people": "people of one channel", "events": "events", "window": "messages of a window"}


def page() -> str:
    """docs/benchmarks.md, of what was run."""
    chapters = []
    for name, (title, chapter) in CHAPTERS.items():
        if of := results(name):
            chapters.append(f"## {title}\n\n{chapter(of)}\n\n{measured_on(name, of)}\n")
    intro = (
        "How fast is it, how much memory does it take, and how does it grow? `make bench` measures all of it again;"
        " `benchmarks/table.py` makes"
        " this page from `benchmarks/results/`. *Wanted* are the targets that were set beforehand."
    )
    return f"# Benchmarks\n\n{intro}\n\n{summary()}\n\n" + "\n".join(chapters)


def summary() -> str:
    """The figures that say most, in one table."""
    rows: list[list[str]] = []
    if of := results("floor"):
        for row in of["rows"]:
            speed, share = row["flow_per_second"]["median"], row["ratio"]["after start-up"]["median"]
            rows.append(
                [f"{row['stream']}, {row['candidates']} candidates", f"{speed:,.0f} records/s", f"{share:.2f} of a plain loop's speed"]
            )
    if of := results("parts"):
        for row in of["rows"]:
            if row.get("compiled"):
                plain, fast = (each["normalised"]["us_per_record"] for each in (row, row["compiled"]))
                what = f"a record of {row['stream']}, {row['candidates']} candidates, compiled"
                rows.append([what, f"{fast:.0f} µs", f"plain {plain:.0f}, both converted to where `orjson.loads` of it takes 1.5"])
    if of := results("engines"):
        done = [row for row in of["rows"] if row["cores"] == 1 and "seconds" in row]
        best = max((row for row in done if row["mode"] == "windows" and row["who"] != "loop"), key=lambda row: float(row["per_second"]))
        for row in done:
            if row["who"].startswith("beepgpt"):
                share = row["per_second"] / best["per_second"]
                peer = f"{share:.2f} of the speed at which {best['who']}, the best peer, does its window job"
                rows.append([f"{row['job']}, `{row['who'].replace(', ', '`, ')}", f"{row['per_second']:,} messages/s", peer])
    if of := results("memory"):
        for row in of["rows"]:
            what = f"{row['events']:,} events over {row['days'] / 365:.0f} years"
            rows.append([what, f"{row['peak_mb']:,.0f} MB", f"at most; {row['events_per_second']:,} events/s"])
    if of := results("recovery"):
        share, seconds = of["ratio"]["median"], of["resume_seconds"]["median"]
        rows.append(
            [
                f"{of['channels']:,} channels, a snapshot every 10 s",
                f"{share:.2f} of the speed",
                f"after a kill it goes on in {seconds:.1f} s",
            ]
        )
    if of := results("kafka_speed"):
        parts = of["parts"]
        for row in parts.get("floor", {}).get("rows", [])[-1:]:
            share = parts["floor"]["ratios"][0]["ratio"]["median"]
            rows.append(
                ["from topic to topic, without candidates", f"{row['events_per_second']:,} events/s", f"{share:.2f} of kafka-python alone"]
            )
        for name in ("files", "workers"):
            for each in parts.get(name, {}).get("ratios", []):
                rows.append([each["what"].replace(" / ", " against "), f"{each['ratio']['median']:.2f} times the speed", "on two cores"])
        if times := parts.get("latency", {}).get("milliseconds"):
            rate = f"{parts['latency']['events_per_second']} events/s, live"
            for since, what in (
                ("settled", "from what settles an example to the broker"),
                ("answered", "from its answer, of which 5 s are lateness"),
            ):
                fast, slow = times[f"{since}_p50"]["median"], times[f"{since}_p99"]["median"]
                rows.append([rate, f"{fast:,.0f} ms (p99 {slow:,.0f})", what])
    if of := results("scoring"):
        for name, part in of["parts"].items():
            what = f"{part['points_per_second']} points/s for {part['seconds'] // 60:.0f} minutes, {name} model"
            rows.append([what, f"{part['milliseconds']['p50']:,.0f} ms (p99 {part['milliseconds']['p99']:,.0f})", "to the prediction"])
    return table(["measured", "", ""], rows)


# The plots


def draw(name: str, label: str, rows: list[dict[str, Any]]) -> None:
    """Events per second above memory, both by `rows[name]`; gray on nothing, so that it can be read on white and on black."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {
        "svg.hashsalt": "benchmarks",
        "svg.fonttype": "none",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    mpl.rcParams |= dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), "#808080")
    from matplotlib import pyplot

    rows = sorted(rows, key=lambda row: float(row[name]))
    figure, axes = pyplot.subplots(2, 1, sharex=True, figsize=(6, 4), layout="constrained")
    for axis, (what, text, color) in zip(
        axes, [("events_per_second", "events/s", "#3b82c4"), ("peak_mb", "peak MB", "#c46a3b")], strict=True
    ):
        at = [row[name] for row in rows]
        middle = [row[what]["median"] for row in rows]
        around = [[row[what]["median"] - row[what]["min"] for row in rows], [row[what]["max"] - row[what]["median"] for row in rows]]
        axis.errorbar(at, middle, yerr=around, marker="o", markersize=4, capsize=3, color=color)
        axis.set_ylabel(text)
        axis.set_ylim(bottom=0)
        axis.set_xscale("log")
        axis.grid(color="#808080", alpha=0.25)
    axes[-1].set_xticks(at, [f"{each:,}" for each in at], minor=False)
    axes[-1].minorticks_off()
    axes[-1].set_xlabel(label)
    figure.savefig(DOCS / f"growth-{name}.svg", transparent=True, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    """Writes the page and the plots."""
    if not any(results(name) for name in CHAPTERS):
        sys.exit("benchmarks/results/ has nothing yet: run the others first")
    if of := results("growth"):
        for sweep, what in SWEEPS.items():
            draw(sweep, what, [row for row in of["rows"] if row["sweep"] == sweep])
    (DOCS / "benchmarks.md").write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
