"""Why our examples differ from the original's, row by row; what it finds stands in docs/compared-with-beepgpt.md, which it writes.

A ladder leads from our rules to the original's: each rung swaps one named rule. All rows are made again on each rung. The lowest must give
what our program gives, the highest the original's file, byte for byte; then every difference between the two is some rung's.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # run as a script, it finds ours beside it, installed or not

from beepgpt.connectors.tokenizer import load_encoding  # noqa: E402
from beepgpt.conversations.cleaning import clean  # noqa: E402
from beepgpt.conversations.events import micros  # noqa: E402
from beepgpt.conversations.rules import Rules  # noqa: E402
from beepgpt.conversations.shard import run_through  # noqa: E402
from beepgpt.conversations.tokens import SEPARATOR, SUFFIX, Encoding, build_prompt, is_shown, unit_tokens  # noqa: E402
from benchmarks import original  # noqa: E402
from benchmarks.original import GAP, GOLDEN, Message  # noqa: E402

DOC = ROOT / "docs" / "compared-with-beepgpt.md"
RULES = Rules(candidates=False)
DAY = 86_400_000_000

T = TypeVar("T")


class Rule(NamedTuple):
    """A rung: what the original does otherwise than we do."""

    name: str
    ours: str
    theirs: str


LADDER = (
    Rule("root_recognised_by_thread_ts", "a root is in its session", "a root that will have replies is in its thread only"),
    Rule("first_message_of_channel_lost", "a channel's first message is one like any other", "it is lost"),
    Rule("no_horizon", "an answer comes within a day", "an answer may take any time"),
    Rule("same_author_follows", "who goes on talking answers nobody", "the author's own next message is an answer, too"),
    Rule("answerer_left_out_of_prompt", "the window as everybody saw it", "without the messages of the person who answers next"),
    Rule("newest_first", "oldest message first", "newest message first"),
    Rule("cut_at_5000_characters", "oldest messages dropped until it fits 2,000 tokens", "the first 5,000 characters"),
    Rule("code_drops_the_message", "a code block is taken out", "a message with three backticks is left out"),
    Rule("markup_lost_whole", "a link keeps its label, a channel its name", "all between `<` and `>` is lost"),
    Rule("secrets_kept", "Slack's tokens are taken out", "they stay"),
    Rule("addresses_kept", "bare addresses are taken out", "they stay"),
    Rule("lost_between_colons", "emoji names are taken out", "all between two colons is lost"),
    Rule("escapes_kept", "`&amp;` becomes `&`", "it stays"),
    Rule("white_space_kept", "white space is folded", "it is stripped at the ends only"),
    Rule("lone_marks_kept", "a message that is only `###` is left out", "it stays"),
    Rule("repeated_prompt_dropped", "every answer is an example", "none whose prompt is the last one written"),
    Rule("answer_as_number", "the answerer's id", "the answerer's place among all, between a space and ` end`"),
)
NAMES = tuple(rule.name for rule in LADDER)
CLEANING = NAMES[NAMES.index("code_drops_the_message") : NAMES.index("repeated_prompt_dropped")]

Name = tuple[str, int]
"""An answering message: its channel and its time. Neither side has two rows for one."""


class Made(NamedTuple):
    """A row on some rung."""

    window: tuple[Message, ...]
    prompt: str
    answer: str


# The ladder


def rung(messages: Sequence[Message], adopted: Set[str], encoding: Encoding) -> dict[Name, Made]:
    """The rows by our rules, but for those of the original that are adopted, in order of their times."""
    rows: dict[Name, Made] = {}
    written = ""
    for message, window in windows(messages, adopted):
        if "same_author_follows" not in adopted and window[-1].user == message.user:
            continue
        if "no_horizon" not in adopted and message.ts - window[-1].ts > DAY:
            continue
        leaks = "answerer_left_out_of_prompt" in adopted
        prompt = prompt_by([each.text for each in window if not leaks or each.user != message.user], adopted, encoding)
        if not prompt or ("repeated_prompt_dropped" in adopted and prompt == written):
            continue
        written = prompt
        rows[message.channel, message.ts] = Made(window, prompt, message.user)
    if "answer_as_number" not in adopted:
        return rows
    labels = {user: place for place, user in enumerate(sorted({message.user for message, _ in windows(messages, adopted)}))}
    return {name: made._replace(answer=f" {labels[made.answer]} end") for name, made in rows.items()}


def windows(messages: Iterable[Message], adopted: Set[str]) -> Iterator[tuple[Message, tuple[Message, ...]]]:
    """Each message with the last five before it in the conversation that it can answer in, where there are any."""
    said: dict[tuple[str, str, int], list[Message]] = {}
    last_root: dict[str, int] = {}
    session: dict[str, int] = {}
    for message in messages:
        channel, ts, thread_ts = message.channel, message.ts, message.thread_ts
        if thread_ts is not None and (thread_ts != ts or "root_recognised_by_thread_ts" in adopted):
            places = [(channel, "thread", thread_ts)]
        else:
            before, last_root[channel] = last_root.get(channel), ts
            if before is None and "first_message_of_channel_lost" in adopted:
                continue
            if channel not in session or before is None or ts - before > GAP:
                session[channel] = ts
            places = [(channel, "session", session[channel]), (channel, "thread", ts)]
        window = tuple(said.get(places[0], ())[-5:])
        if window:
            yield message, window
        for place in places:
            said.setdefault(place, []).append(message)


def prompt_by(texts: Iterable[str], adopted: Set[str], encoding: Encoding) -> str:
    """The prompt of some texts, oldest first; empty if they have nothing to show."""
    shown = [text for text in (clean_by(text, adopted) for text in texts) if text]
    if "lone_marks_kept" not in adopted:
        shown = [text for text in shown if is_shown(text)]
    if "cut_at_5000_characters" not in adopted:
        shown = fitting(shown, encoding)
    if "newest_first" in adopted:
        shown.reverse()
    joined = SEPARATOR.join(shown)
    if "cut_at_5000_characters" in adopted:
        joined = joined[:5_000]
    return joined + SUFFIX if joined else ""


def fitting(texts: list[str], encoding: Encoding) -> list[str]:
    """As many of the newest as our prompts have room for, or the beginning of the newest."""
    prompt = build_prompt([(text, unit_tokens(text, encoding)) for text in texts], encoding, RULES.max_prompt_tokens)
    if prompt.shown == 1:
        return [prompt.text.removesuffix(SUFFIX)]
    return texts[len(texts) - prompt.shown :]


EMOJI = r"(?<![A-Za-z0-9_:])(?::[\w+'-]+:)+(?![0-9:])|(?<![0-9:])(?::[\w+'-]+:)+(?![A-Za-z0-9_:])"
"""Names of emoji, of which one end stands at a word's edge."""


def clean_by(text: str, adopted: Set[str]) -> str:
    """Our cleaning, restated from docs/semantics.md, each part of it until the original's is adopted."""
    if "code_drops_the_message" not in adopted:
        text = re.sub(r"```.*?```", " ", text, flags=re.DOTALL)
    lost_whole = "markup_lost_whole" in adopted
    text = re.sub(r"<.*?>", "", text) if lost_whole else re.sub(r"<([^<>]*)>", lambda match: label_of(match[1]), text)
    if "secrets_kept" not in adopted:
        text = re.sub(r"xox[a-z]-[\w%-]+|xoxe\.xox[a-z]-[\w%-]+|xapp-\d-[\w-]+", " ", text)
    if "addresses_kept" not in adopted:
        text = re.sub(r"(?:https?|ftp)://\S+", " ", text, flags=re.IGNORECASE)
    text = re.sub(r":.*?:", "", text) if "lost_between_colons" in adopted else re.sub(EMOJI, " ", text)
    if "escapes_kept" not in adopted:
        text = re.sub(r"&(amp|lt|gt);", lambda match: {"amp": "&", "lt": "<", "gt": ">"}[match[1]], text)
    text = text.strip() if "white_space_kept" in adopted else " ".join(text.split())
    return "" if "code_drops_the_message" in adopted and "```" in text else text


def label_of(markup: str) -> str:
    """What our prompts show of one `<…>`."""
    target, _, label = markup.partition("|")
    if target.startswith("!date^"):
        return label or " "
    if target.startswith(("@", "!")) or (not target.startswith("#") and label in (target, re.sub(r"^\w+:/?/?", "", target))):
        return " "
    return label or " "


# The comparison


class Step(NamedTuple):
    """What one rule does to the rows, on top of the rungs below it."""

    rule: Rule
    gone: int
    new: int
    changed: int
    after: int


class Comparison(NamedTuple):
    """Where all rows went, and what could not be explained."""

    examples: int
    """Ours."""
    lines: int
    """The original's."""
    messages: int
    silences: int
    pairs: Counter[tuple[str, ...]]
    """Rows of both sides, by the rules that change them; `answer_as_number`, which changes all, is left out."""
    only_ours: Counter[str]
    only_theirs: Counter[str]
    neither: Counter[str]
    """Messages that answer on neither side, by the rule that takes a row away again; empty where no rung has one."""
    steps: list[Step]
    unexplained: list[str]


def compare(messages: Sequence[Message], examples: Sequence[Mapping[str, Any]], theirs: bytes, encoding: Encoding) -> Comparison:
    """Our examples for these messages, and the original's file, every row of both explained or listed as unexplained."""
    rungs = [rung(messages, frozenset(NAMES[:count]), encoding) for count in range(len(NAMES) + 1)]
    ours, last = rungs[0], rungs[-1]
    silences = [example for example in examples if example["answer_ts"] is None]
    answered = [example for example in examples if example["answer_ts"] is not None]
    unexplained = [*not_ours(ours, answered), *not_theirs(last, theirs)]

    pairs: Counter[tuple[str, ...]] = Counter()
    only_ours: Counter[str] = Counter()
    only_theirs: Counter[str] = Counter()
    neither: Counter[str] = Counter()
    evidence = Evidence(messages)
    for message in messages:
        name = message.channel, message.ts
        prompts = [prompt_in(rows, name) for rows in rungs]
        changing = tuple(rule for rule, (one, other) in zip(NAMES, pairwise(prompts), strict=True) if one != other)
        decisive = [rule for rule, (one, other) in zip(NAMES, pairwise(prompts), strict=True) if (one is None) != (other is None)]
        if name in ours and name in last:
            pairs[changing] += 1
        elif name in ours:
            only_ours[decisive[-1]] += 1
            holds = evidence.of_only_ours(decisive[-1], message, ours[name].window)
            unexplained += [] if holds else [f"only ours: {name} by {decisive[-1]}"]
        elif name in last:
            only_theirs[decisive[-1]] += 1
            unexplained += [] if evidence.of_only_theirs(decisive[-1], message) else [f"only theirs: {name} by {decisive[-1]}"]
        else:
            neither[decisive[-1] if decisive else ""] += 1
    unexplained += [f"no silence: {each['id']}" for each in silences if not evidence.of_silence(each)]

    compared = Comparison(
        examples=len(examples),
        lines=len(theirs.splitlines()),
        messages=len(messages),
        silences=len(silences),
        pairs=pairs,
        only_ours=only_ours,
        only_theirs=only_theirs,
        neither=neither,
        steps=[step_of(rule, one, other) for rule, (one, other) in zip(LADDER, pairwise(rungs), strict=True)],
        unexplained=unexplained,
    )
    return compared._replace(unexplained=[*unexplained, *sums_that_fail(compared)])


def prompt_in(rows: Mapping[Name, Made], name: Name) -> str | None:
    """The prompt of this answer's row on a rung; None if it has no row there."""
    return rows[name].prompt if name in rows else None


def step_of(rule: Rule, one: Mapping[Name, Made], other: Mapping[Name, Made]) -> Step:
    """What happens from one rung to the next."""
    both = one.keys() & other.keys()
    changed = sum(one[name][1:] != other[name][1:] for name in both)
    return Step(rule, len(one) - len(both), len(other) - len(both), changed, len(other))


def not_ours(lowest: Mapping[Name, Made], answered: Iterable[Mapping[str, Any]]) -> list[str]:
    """Where the lowest rung isn't what our program made."""
    made = {(each["channel"], micros(each["answer_ts"])): program_row(each) for each in answered}
    restated = {name: ([(each.ts, each.user) for each in row.window], row.prompt, [row.answer]) for name, row in lowest.items()}
    differing = sorted(name for name in made.keys() | restated.keys() if made.get(name) != restated.get(name))
    return [f"the lowest rung isn't ours: {name}" for name in differing]


def program_row(example: Mapping[str, Any]) -> tuple[list[tuple[int, str]], str, list[str]]:
    """What an example of ours says, in the ladder's terms."""
    return [(micros(each["ts"]), each["user"]) for each in example["window"]], example["prompt"], example["answer"]


def not_theirs(highest: Mapping[Name, Made], theirs: bytes) -> list[str]:
    """Where the highest rung isn't the original's file."""
    lines = [json.dumps({"prompt": row.prompt, "completion": row.answer}).encode() for row in highest.values()]
    expected = theirs.splitlines()
    if len(lines) != len(expected):
        return [f"the highest rung has {len(lines)} lines, the original {len(expected)}"]
    return [f"line {number} isn't the original's" for number, pair in enumerate(zip(lines, expected, strict=True), 1) if pair[0] != pair[1]]


def sums_that_fail(compared: Comparison) -> list[str]:
    """The counts of both sides, and of all messages."""
    both, ours, theirs = compared.pairs.total(), compared.only_ours.total(), compared.only_theirs.total()
    sums = {
        "our examples": (compared.examples, compared.silences + ours + both),
        "the original's lines": (compared.lines, theirs + both),
        "messages": (compared.messages, both + ours + theirs + compared.neither.total()),
        "the ladder": (compared.lines, compared.examples - compared.silences + sum(step.new - step.gone for step in compared.steps)),
    }
    return [f"{what} don't add up: {one} and {other}" for what, (one, other) in sums.items() if one != other]


# What the messages themselves say, without the ladder


class Evidence:
    """Whether a row that only one side has can be put down to a rule, judged by the messages alone."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages: dict[str, list[Message]] = {}
        for message in messages:
            self.messages.setdefault(message.channel, []).append(message)
        rows = list(original.rows_of(messages))
        self.rows = {(row.answer.channel, row.answer.ts): row for row in rows}
        self.lines = {(line.row.answer.channel, line.row.answer.ts): line.prompt for line in original.lines_of(rows)}

    def of_only_ours(self, rule: str, answer: Message, window: Sequence[Message]) -> bool:
        """Whether the original has no line for this answer, and this rule concerns it; `window` is our example's."""
        name = answer.channel, answer.ts
        if name in self.lines:
            return False
        if rule == "root_recognised_by_thread_ts":
            return any(each.thread_ts == each.ts for each in (answer, *window))
        if rule == "first_message_of_channel_lost":
            return next(each for each in self.messages[answer.channel] if each.thread_ts is None) in window
        row = self.rows.get(name)
        if row is None:
            return False
        others = original.without_answerer(row)
        prompt = original.prompt_of(others)
        if rule == "answerer_left_out_of_prompt":
            return not prompt and len(others) < len(row.window)
        if rule in CLEANING:
            return not prompt and any(is_shown_otherwise(each) for each in others)
        return rule == "repeated_prompt_dropped" and prompt == self.written_before(answer)

    def of_only_theirs(self, rule: str, answer: Message) -> bool:
        """Whether this rule can have brought the original's line for this answer."""
        row = self.rows[answer.channel, answer.ts]
        if rule == "root_recognised_by_thread_ts":
            roots = [each for each in self.messages[answer.channel] if each.ts < answer.ts and each.thread_ts in (None, each.ts)]
            return answer.thread_ts is None and any(each.thread_ts == each.ts for each in roots[-original.WINDOW :])
        if rule == "no_horizon":
            return answer.ts - row.window[-1].ts > DAY
        if rule == "same_author_follows":
            return row.window[-1].user == answer.user
        return rule in CLEANING and any(is_shown_otherwise(each) for each in original.without_answerer(row))

    def of_silence(self, example: Mapping[str, Any]) -> bool:
        """Whether nobody went on there: a thread for a day; a session until it was over, and nobody else in its newest root's thread."""
        t, said = micros(example["prompt_ts"]), self.messages[example["channel"]]
        _, root, kind = example["conversation"].rsplit(":", 2)
        replies = [each for each in said if each.thread_ts not in (None, each.ts)]
        if kind == "thread":
            thread = [each.ts for each in replies if each.thread_ts == micros(root)]
            return bool(thread) and not any(t < ts <= t + DAY for ts in thread)
        author = example["window"][-1]["user"]
        roots = [each.ts for each in said if each.thread_ts in (None, each.ts)]
        elsewhere = [each for each in replies if each.thread_ts == t and each.user != author and each.ts <= t + DAY]
        return not elsewhere and not any(t < ts <= t + GAP for ts in roots)

    def written_before(self, answer: Message) -> str:
        """The prompt of the original's last line before this answer."""
        before = ""
        for name in self.rows:
            if name == (answer.channel, answer.ts):
                return before
            before = self.lines.get(name, before)
        return before


def is_shown_otherwise(message: Message) -> bool:
    """Whether a message alone makes another prompt there than here."""
    text = clean(message.text)
    return original.prompt_of([message]) != (text + SUFFIX if is_shown(text) else "")


# The page


def tables_of(compared: Comparison, leak: original.Leak) -> dict[str, str]:
    """The page's tables, by the name of their place."""
    return {"rows": rows_table(compared), "ladder": ladder_table(compared), "pairs": pairs_table(compared), "leak": leak_table(leak)}


def rows_table(compared: Comparison) -> str:
    """Every row of both sides, once."""
    same, differing = compared.pairs[()], compared.pairs.total() - compared.pairs[()]
    answered_alone = compared.neither.total() - compared.neither[""]
    rows: list[tuple[str, int, int, int]] = [
        ("in both, with the same prompt", same, same, same),
        ("in both, the prompt differs", differing, differing, differing),
        *((f"only ours: `{rule}`", count, 0, count) for rule, count in most_first(compared.only_ours)),
        *((f"only the original's: `{rule}`", 0, count, count) for rule, count in most_first(compared.only_theirs)),
        ("on neither side, by no rule: mostly a conversation's first message", 0, 0, compared.neither[""]),
        ("on neither side: a rule of the original brings it, a later one takes it away", 0, 0, answered_alone),
        ("only ours: `silence`, nobody answered", compared.silences, 0, 0),
    ]
    totals = sum(row[1] for row in rows), sum(row[2] for row in rows), sum(row[3] for row in rows)
    ending = [
        f"| **sum** | **{totals[0]:,}** | **{totals[1]:,}** | **{totals[2]:,}** |",
        f"| there are | {compared.examples:,} | {compared.lines:,} | {compared.messages:,} |",
        f"| unexplained | {len(compared.unexplained):,} | | |",
    ]
    lines = [f"| {what} | {ours:,} | {theirs:,} | {messages:,} |" for what, ours, theirs, messages in rows]
    return table(["", "our examples", "the original's lines", "messages"], [*lines, *ending])


def ladder_table(compared: Comparison) -> str:
    """From our answered examples to the original's lines, a rule at a time."""
    begins = f"| (our examples with an answer) | | | | | | {compared.examples - compared.silences:,} |"
    steps = [
        f"| `{step.rule.name}` | {step.rule.ours} | {step.rule.theirs} | {step.gone:,} | {step.new:,} | {step.changed:,} | {step.after:,} |"
        for step in compared.steps
    ]
    return table(["rule", "ours", "the original", "gone", "new", "changed", "rows then"], [begins, *steps])


def pairs_table(compared: Comparison) -> str:
    """Rows of both sides, by all the rules that change their prompt on the way."""
    lines = [f"| {', '.join(f'`{rule}`' for rule in rules) or 'none'} | {count:,} |" for rules, count in most_first(compared.pairs)]
    return table(["rules that change the prompt", "rows"], [*lines, f"| **sum** | **{compared.pairs.total():,}** |"])


def leak_table(leak: original.Leak) -> str:
    """What leaving out the answerer does, and what it tells."""
    return table(
        ["", ""],
        [
            f"| messages with something before them in their conversation | {leak.rows:,} |",
            f"| their prompt changes by `answerer_left_out_of_prompt` | {leak.changed:,} ({leak.changed / leak.rows:.1%}) |",
            f"| … nothing is left of it | {leak.emptied:,} |",
            f"| a blind guess among the people absent from the prompt is right, on the original's prompts | {leak.hits_with:.1%} |",
            f"| … on the same prompts as a live system sees them | {leak.hits_without:.1%} |",
            f"| … by chance | {leak.hits_by_chance:.1%} |",
        ],
    )


def most_first(counts: Counter[T]) -> list[tuple[T, int]]:
    """Counts, the greatest first; equal ones by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))


def table(head: Sequence[str], lines: Sequence[str]) -> str:
    """A table of lines that are ready; all columns but the first are numbers or short."""
    return "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines])


def with_tables(page: str, tables: Mapping[str, str]) -> str:
    """The page with these tables between their marks.

    >>> with_tables("Counts:\\n\\n<!-- rows -->\\n\\nold\\n\\n<!-- /rows -->\\n", {"rows": "new"})
    'Counts:\\n\\n<!-- rows -->\\n\\nnew\\n\\n<!-- /rows -->\\n'
    """
    for name, made in tables.items():
        begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        before, found, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"the page has no place for the table {name!r}: {begin.strip()} … {end.strip()}")
        page = f"{before}{begin}\n{made}\n{end}{after}"
    return page


def compare_golden() -> tuple[Comparison, original.Leak]:
    """The comparison on the events of ../shared/golden, by our default rules."""
    records = (GOLDEN / "events.jsonl").read_bytes().splitlines()
    messages = original.golden_messages()
    encoding = load_encoding(RULES.encoding)
    examples = [json.loads(line) for line in run_through(records, RULES, encoding).examples]
    compared = compare(messages, examples, (GOLDEN / "examples.jsonl").read_bytes(), encoding)
    return compared, original.leak_of(list(original.rows_of(messages)))


def main() -> int:
    """Prints the tables and writes them into the page; 1 if anything is left unexplained."""
    if not GOLDEN.is_dir():
        print("left out: what the original made is not here (../shared/golden)")
        return 0
    compared, leak = compare_golden()
    tables = tables_of(compared, leak)
    print("\n\n".join(tables.values()))
    for each in compared.unexplained[:20]:
        print(f"unexplained: {each}", file=sys.stderr)
    if compared.unexplained:
        return 1
    DOC.write_text(with_tables(DOC.read_text("utf-8"), tables), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
