"""The fields of the records that this program writes, with their meanings: tables and JSON Schemas are made of these lists."""

from __future__ import annotations

from typing import NamedTuple


class RecordField(NamedTuple):
    """A field of a record's JSON."""

    name: str
    kind: str
    """`text`, `time`, `integer`, `number`, `yes_no`, `texts`, `integers`, `numbers`; `candidates`: columns; a list of rows: of `ROWS`."""
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

PEOPLE = (
    RecordField("user", "text", "Who."),
    RecordField("p", "number", "How probable it is that they answer."),
)
"""A person of `people`."""

ROWS = {"window": WINDOW, "people": PEOPLE}
"""The fields of a row, by the kind of a list."""

_ID = RecordField("id", "text", "32 hex digits, the same in every run that makes this record.")
_SPEC = RecordField("spec", "text", "12 hex digits: the fingerprint of all settings that shape examples.")
_TARGET = RecordField("target", "text", "Whose answer counts: next_user, interacting_users or reactors.")
_CHANNEL = RecordField("channel", "text", "The channel's id.")
_WHERE = (
    _ID,
    _SPEC,
    _TARGET,
    RecordField("scope", "text", "Sessions and threads (conversation), or all of a channel as one (channel)."),
    _CHANNEL,
)
_CONVERSATION = RecordField("conversation", "text", "The conversation's id: CHANNEL:TS:thread, CHANNEL:TS:session or CHANNEL:channel.")
_SPOKEN = RecordField("speakers", "integer", "People who had spoken in the conversation up to the point.")
_PROMPT_TS = RecordField("prompt_ts", "time", "The time of the point: prompt and candidates say what was known then.")
_SPEAKERS = (_SPOKEN, RecordField("root_missing", "yes_no", "Whether the thread's root is not known."), _PROMPT_TS)
_ANSWER_TS = RecordField("answer_ts", "time", "When the answer came; null if nobody answered.", may_be_null=True)
_ANSWER = RecordField("answer", "texts", "Ids of the people who answered; empty if nobody did.")
_MODEL = RecordField("model", "text", "The model's name: 12 hex digits of one that was trained here.")
_PREDICTED = (
    _MODEL,
    RecordField(
        "part", "text", "The point's part of the model's time: fit, choose or judge; null: its card doesn't say.", may_be_null=True
    ),
    RecordField("people", "people", "Who is likely to answer, likeliest first."),
    RecordField("nobody", "number", "The probability that nobody answers."),
    RecordField("other", "number", "The probability that somebody else answers."),
)
_SHOWN = (
    RecordField("window", "window", "The messages of the prompt, oldest first."),
    RecordField("prompt", "text", "Their cleaned texts, ending in a fixed suffix."),
    RecordField("prompt_tokens", "integer", "The prompt's length in tokens."),
    RecordField("candidates", "candidates", "Who might answer, and what was known about them.", may_lack=True),
)
EXAMPLE = (
    *_WHERE,
    _CONVERSATION,
    *_SPEAKERS,
    RecordField("settled_ts", "time", "From when on the answer was certain."),
    _ANSWER_TS,
    _ANSWER,
    *_SHOWN,
)
"""An example, in the order of its keys."""

LABELED = (
    *EXAMPLE,
    RecordField("signal", "text", "Whether the answer is worth learning from: strong or weak. Silences have no label.", may_lack=True),
    RecordField("signal_p", "number", "The probability of strong; null: the labeler gives none.", may_lack=True, may_be_null=True),
    RecordField("signal_model", "text", "Who labeled it: a model's name, or person.", may_lack=True),
    RecordField("signal_instructions", "text", "Hex digits: the fingerprint of what the labeler was told.", may_lack=True),
    RecordField("summary", "text", "A line about the conversation, if one was asked for.", may_lack=True),
)
"""An example with its label."""

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

PREDICTION = (*POINT, *_PREDICTED)
"""A point, and what a model predicts at it."""

DELETION = (
    _CHANNEL,
    RecordField("ts", "time", "Which message was deleted: every prediction whose window names it is to be forgotten."),
    RecordField("deleted_ts", "time", "When it was deleted."),
)
"""A deletion stands among predictions."""

OUTCOME = (
    _ID,
    _SPEC,
    _TARGET,
    _CHANNEL,
    _CONVERSATION,
    _SPOKEN,
    _PROMPT_TS,
    RecordField("settled_ts", "time", "From when on it was certain how the point ended."),
    RecordField("how", "text", "How the point ended: answered, silent, superseded, elsewhere, merged, moved or censored."),
    _ANSWER_TS,
    _ANSWER,
    RecordField("rank", "integer", "The place of the likeliest person who answered; null if none of them was named.", may_be_null=True),
    RecordField("p", "number", "The probability of the likeliest person who answered; null if none of them was named.", may_be_null=True),
    *_PREDICTED,
)
"""What became of a prediction in one of its conversations; its id is the prediction's."""

ALERT = (
    RecordField("id", "text", "The same for the same person, kind and point."),
    RecordField("user", "text", "Who was alerted."),
    RecordField("kind", "text", "Why: they are likely to answer (answer), or asked for the topic (topic)."),
    RecordField("way", "text", "How: by a direct message (direct), or in the list alone (list)."),
    RecordField("reason", "text", "What decided it: likely, less_likely, quiet_hours or hourly_limit."),
    RecordField("prediction", "text", "The prediction's id."),
    _CONVERSATION,
    _CHANNEL,
    RecordField("message_ts", "time", "The message to which they were alerted."),
    _PROMPT_TS,
    RecordField("permalink", "text", "The message's address in Slack; null if Slack gave none.", may_be_null=True),
    _MODEL,
    RecordField("p", "number", "The probability that they answer; for a topic, how close the text is to it."),
    RecordField("why", "text", "The explanation that the person sees, one line; it quotes no message."),
    RecordField("alerted_ts", "time", "When it was decided."),
)
"""An alert, as it is forwarded to a topic or a webhook."""

DEAD_LETTER = (
    RecordField("reason", "text", "Why the record could not be used; `late`: its time had passed."),
    RecordField("place", "text", "Where it stood: the source, or one of its partitions, and the number in it."),
    RecordField("record", "text", "The record as it came.", may_lack=True),
    RecordField("record_base64", "text", "The same, in base64, if it is no UTF-8.", may_lack=True),
)
"""A record that was late or could not be used, in a file; on a topic it is as it came, with reason and place as headers."""

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

RECORDS = {
    "example": EXAMPLE,
    "labeled": LABELED,
    "retraction": RETRACTION,
    "point": POINT,
    "prediction": PREDICTION,
    "deletion": DELETION,
    "outcome": OUTCOME,
    "alert": ALERT,
    "metric": METRIC,
    "dead_letter": DEAD_LETTER,
}
"""By name, what a schema can be made of."""
