"""A baseline that predicts who answers from the prompt alone, as the original did."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from beepgpt.errors import TooLittle
from beepgpt.training.points import Examples, Points, Predictions

NOBODY, OTHER = "", "?"
"""Labels that are no person's id."""
MOST = 40
"""People in a prediction, at most."""
LEAST = 20
"""Answers that a person needs to have a label; all others are OTHER."""
WORDS = 20_000
ROUNDS = 60
"""Of the optimizer: more gained nothing on the tuning period, and 15 are too few for a large history (docs/experiments.md)."""


@dataclass(frozen=True, slots=True)
class TextModel:
    """TF-IDF and logistic regression over people."""

    words: TfidfVectorizer
    regression: LogisticRegression

    @property
    def labels(self) -> list[str]:
        """People who have a label."""
        return [label for label in self.regression.classes_.tolist() if label not in (NOBODY, OTHER)]

    def predict(self, points: Points) -> Predictions:
        """Probabilities of the likeliest people, of nobody and of somebody else for each point."""
        labels = np.asarray(self.regression.classes_)
        places = np.flatnonzero((labels != NOBODY) & (labels != OTHER))
        most = min(MOST, len(places))
        people: list[str] = []
        named_p, nobody = [np.zeros(0)], [np.zeros(0)]
        for part in points.parts(2_000):
            p = self.regression.predict_proba(self.words.transform(part.prompt))
            top = places[np.argsort(-p[:, places], axis=1, kind="stable")[:, :most]]
            people += labels[top].ravel().tolist()
            named_p.append(np.take_along_axis(p, top, axis=1).ravel())
            nobody.append(p[:, labels == NOBODY].sum(axis=1))
        named = np.concatenate(named_p)
        silent = np.concatenate(nobody)
        rest = np.maximum(1.0 - silent - named.reshape(len(points), most).sum(axis=1), 0.0)
        return Predictions(np.arange(len(points) + 1, dtype=np.int64) * most, people, named, silent, rest)

    def state(self) -> dict[str, Any]:
        """The fields to save."""
        return {"words": self.words, "regression": self.regression}


def fit_text(examples: Examples, *, least: int = LEAST, rounds: int = ROUNDS) -> TextModel:
    """Fit on the prompts; of several answers one is taken, the first by id. Raises TooLittle."""
    given = Counter(person for answer in examples.answers for person in answer)
    named = {person for person, count in given.items() if count >= least}
    if not named:
        raise TooLittle(
            f"nobody answered {least} times or more on the training side, so there are no labels for a model of text: take more"
        )
    labels = [NOBODY if not answer else min(answer) if min(answer) in named else OTHER for answer in examples.answers]
    words = TfidfVectorizer(sublinear_tf=True, min_df=2, max_features=WORDS, dtype=np.float32)
    texts = words.fit_transform(examples.points.prompt)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it stops early on purpose
        return TextModel(words, LogisticRegression(C=5.0, max_iter=rounds).fit(texts, labels))
