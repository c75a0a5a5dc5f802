"""The words of pages that a reader may not know, a line each; docs/glossary.md has them all."""

from __future__ import annotations

WORDS = {
    "alert": "a direct message of the app to one person about one conversation that they are likely to join",
    "answer": "the next message of somebody else in the conversation, within the horizon",
    "answered next": "the person alerted wrote that very next message; joined is any message of theirs there within a day",
    "calibration": "whether probabilities come true: of those predicted with 30 %, 30 in 100 should answer",
    "calibration error": "by how many percentage points the probabilities are off, on average",
    "coverage": "of all who joined a conversation, those who had been alerted to it first",
    "example": "a conversation as it stood at one moment, with what came of it: who answered next, or that nobody did",
    "first reply": "an answer where one person had spoken so far: the hardest kind to predict",
    "hit@k": "of how many answers the person was among the k likeliest that the model named",
    "horizon": "how long an answer may take: one day, if it isn't set otherwise",
    "interval": "the range in brackets, which holds the truth in 95 of 100 cases; people who meet in one conversation count as one case",
    "joined": "posted in that conversation, for the first time, within a day of the alert",
    "listed": "shown in the app's Home tab in Slack, without a message: in quiet hours, beyond the hourly limit, or less likely than the"
    " threshold",
    "local model": "the model of these pages: it was made on this machine and runs there, and sends nothing to anybody",
    "log loss": "how surprised the probabilities were by what happened; lower is better",
    "mean reciprocal rank": "the mean of 1 / place of who answered among the people named",
    "parts of time": "fit: the oldest, from which the model learned; choose: by which the threshold was chosen; judge: the newest, of which"
    " all figures are",
    "point": "a moment at which a conversation changed, and somebody may answer; pages call it a moment",
    "prediction": "a moment, and the probabilities that the model gives for it",
    "probability": "how likely the model holds it that a person answers; with nobody and somebody else they make 100 %",
    "threshold": "the probability from which on a person is alerted",
    "too few to tell": "fewer than 10 points or alerts, or of fewer than 8 conversations: no share of them would mean anything",
    "unanswered": "nobody answered within the horizon",
}


def words_of(*names: str) -> dict[str, str]:
    """Some of the words, in the order of the alphabet.

    >>> list(words_of("point", "answer"))
    ['answer', 'point']
    """
    return {name: WORDS[name] for name in sorted(names, key=str.casefold)}
