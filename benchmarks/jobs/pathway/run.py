"""The job in Pathway: each conversation's messages reduced to a sorted tuple, and its windows flattened out of it."""
# mypy: ignore-errors
# It runs in an environment of its own.

import sys

import pathway as pw

Said = tuple[str, str, str]


class Message(pw.Schema):
    """A line of the input."""

    conversation: str
    ts: str
    user: str
    text: str


@pw.udf(deterministic=True)
def examples_of(said: tuple[Said, ...]) -> list[tuple[str, pw.Json, str]]:
    """Each message but the first, with the five texts before it."""
    return [(ts, pw.Json([text for _, _, text in said[max(0, at - 5) : at]]), user) for at, (ts, user, _) in enumerate(said) if at]


def main(source: str, to: str) -> None:
    """The file as a table, grouped by conversation."""
    messages = pw.io.jsonlines.read(source, schema=Message, mode="static")
    said = pw.make_tuple(pw.this.ts, pw.this.user, pw.this.text)
    conversations = messages.groupby(pw.this.conversation).reduce(pw.this.conversation, said=pw.reducers.sorted_tuple(said))
    made = conversations.select(pw.this.conversation, made=examples_of(pw.this.said)).flatten(pw.this.made)
    examples = made.select(pw.this.conversation, ts=pw.this.made[0], window=pw.this.made[1], label=pw.this.made[2])
    pw.io.jsonlines.write(examples, to)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
