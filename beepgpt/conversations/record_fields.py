"""The fields of the records that this program writes, with their meanings: tables and JSON Schemas are made of these lists."""

from __future__ import annotations

from typing import NamedTuple


class RecordField(NamedTuple):
    """A field of a record's JSON."""

    name: str
    kind: str
    """`text`, `time`, `integer`, `number`, `yes_no`, `texts`, `integers`, `numbers`; lists of rows: `window`, `candidates`."""
    about: str
    """What it means, in one sentence, for readers of tables and schemas."""
    may_be_null: bool = False
    may_lack: bool = False
    """Whether the settings decide if it is there."""


CANDIDATES = (
    RecordField("user", "texts", "Who might answer."),
    RecordField("in_window", "integers", "How many messages back they last spoke: 2 is the one before the newest, 0 not in the window."),
    RecordField("mentioned", "integers", "How many messages back they were last named with @: 1 is the newest, 0 not at all."),
    RecordField("spoke", "integers", "Their place among the first eight who spoke in the conversation; 0 is none."),
    RecordField("answers_3d", "numbers", "Their answers in the channel, counted with a half-life of 3 days."),
    RecordField("answers_30d", "numbers", "Their answers in the channel, counted with a half-life of 30 days."),
    RecordField("answers_180d", "numbers", "Their answers in the channel, counted with a half-life of 180 days."),
    RecordField("share_3d", "numbers", "Their share of the channel's answers, counted with a half-life of 3 days."),
    RecordField("share_30d", "numbers", "Their share of the channel's answers, counted with a half-life of 30 days."),
    RecordField("share_180d", "numbers", "Their share of the channel's answers, counted with a half-life of 180 days."),
    RecordField("first_7d", "numbers", "How often they were the first to reply, counted with a half-life of 7 days."),
    RecordField("first_60d", "numbers", "How often they were the first to reply, counted with a half-life of 60 days."),
    RecordField("posts_30d", "numbers", "Their posts, counted with a half-life of 30 days."),
    RecordField("seen_hours", "numbers", "Hours since their last post in the channel; -1 is never."),
    RecordField("to_author", "numbers", "Their answers to the newest message's author, counted with a half-life of 180 days."),
    RecordField("hour_share", "numbers", "The share of their posts within an hour of this time of day (UTC)."),
    RecordField("closeness", "numbers", "How alike the window's words are to those they answered before, from 0 to 1."),
)
"""The columns of `candidates`, in their order: one value for each candidate."""

WINDOW = (
    RecordField("ts", "time", "When each was posted."),
    RecordField("user", "text", "Who posted each."),
)
"""A message of `window`."""

_WHERE = (
    RecordField("id", "text", "32 hex digits, the same in every run that makes this record."),
    RecordField("spec", "text", "12 hex digits: the fingerprint of all settings that shape examples."),
    RecordField("target", "text", "Whose answer counts: next_user, interacting_users or reactors."),
    RecordField("scope", "text", "Sessions and threads (conversation), or all of a channel as one (channel)."),
    RecordField("channel", "text", "The channel's id."),
)
_SPEAKERS = (
    RecordField("speakers", "integer", "People who had spoken in the conversation up to the point."),
    RecordField("root_missing", "yes_no", "Whether the thread's root is not known."),
    RecordField("prompt_ts", "time", "The time of the point: prompt and candidates say what was known then."),
)
_SHOWN = (
    RecordField("window", "window", "The messages of the prompt, oldest first."),
    RecordField("prompt", "text", "Their cleaned texts, ending in a fixed suffix."),
    RecordField("prompt_tokens", "integer", "The prompt's length in tokens."),
    RecordField("candidates", "candidates", "Who might answer, and what was known about them.", may_lack=True),
)
EXAMPLE = (
    *_WHERE,
    RecordField("conversation", "text", "The conversation's id: CHANNEL:TS:thread, CHANNEL:TS:session or CHANNEL:channel."),
    *_SPEAKERS,
    RecordField("settled_ts", "time", "From when on the answer was certain."),
    RecordField("answer_ts", "time", "When the answer came; null if nobody answered.", may_be_null=True),
    RecordField("answer", "texts", "Ids of the people who answered; empty if nobody did."),
    *_SHOWN,
)
"""An example, in the order of its keys."""

POINT = (
    *_WHERE,
    RecordField("conversations", "texts", "The conversations in which the point stands: one, or a root's session and its own thread."),
    *_SPEAKERS,
    *_SHOWN,
)
"""A point to be scored."""

RETRACTION = (
    RecordField("id", "text", "The example that no longer holds."),
    RecordField("retracted_ts", "time", "When one of its messages was deleted."),
)

METRIC = (
    RecordField("command", "text", "What measured it: validate, outcomes or rehearse."),
    RecordField("metric", "text", "What was measured, as the command's report names it: hit@1, log_loss, precision, joined, alerts, ..."),
    RecordField("part", "text", "Of which part of time: judge, choose or fit; headlines are of judge."),
    RecordField("kind", "text", "Of which points: all, answered, first_replies or first_messages; null for alerts.", may_be_null=True),
    RecordField("model", "text", "Of which model, or of which simple rule beside it."),
    RecordField("by", "text", "What the points or people are divided by: threshold, month, ...; null: they aren't.", may_be_null=True),
    RecordField("group", "text", "Which of these: the threshold from which on somebody is named, the month, ...", may_be_null=True),
    RecordField("value", "number", "The number; null where nothing was there to be measured.", may_be_null=True),
    RecordField("low", "number", "Where its 95 % interval begins; null if it has none, or there is too little to tell.", may_be_null=True),
    RecordField("high", "number", "Where its 95 % interval ends.", may_be_null=True),
    RecordField("count", "integer", "What it is a share or mean of: so many points, alerts or answers.", may_be_null=True),
    RecordField("conversations", "integer", "In how many conversations those are.", may_be_null=True),
)
"""A number of a report, in the order of its keys."""

RECORDS = {"example": EXAMPLE, "point": POINT, "retraction": RETRACTION, "metric": METRIC}
"""By name, what a schema can be made of."""
