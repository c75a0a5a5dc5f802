"""A labeler that learns from few-shots and from labeled examples, on this machine.

It is fitted again at each start, so there is no file of it that could be stale, or run code.
"""

from __future__ import annotations

import heapq
import math
import re
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from beepgpt.conversations.signals import SignalVerdict
from beepgpt.conversations.tokens import SEPARATOR, SUFFIX
from beepgpt.labeling.agreement import LEAST, Accuracy, are_enough, groups_of, interval
from beepgpt.labeling.labelers.labeled import CannotLearn, Labeled
from beepgpt.labeling.labelers.rules import UNSPACED_SCRIPT, WORD, done

MOST = 10_000
"""Labeled examples that are learned from: more take longer, and add little."""
FOLDS = 5
"""A few-shot is judged by what was learned from the other four fifths."""


class LocalLabeler:
    """Logistic regression over words and measures of a prompt. The same examples give the same labeler."""

    def __init__(self, few_shots: Iterable[Labeled], labeled: Iterable[Labeled] = ()) -> None:
        """Fit on both; a few-shot overrides another label of its prompt. Raises CannotLearn if there are too few of either signal."""
        by_hand = _each_once(few_shots)
        chosen = heapq.nsmallest(MOST, _each_once(each for each in labeled if each.prompt not in by_hand).values(), key=_by_lot)
        self._examples = [*sorted(by_hand.values(), key=_by_lot), *chosen]
        self._by_hand = len(by_hand)
        _check_enough(self._examples)
        self._is_strong = np.array([each.signal == "strong" for each in self._examples])
        self._scorer = _scorer_of(_classifier().fit(self._prompts, self._is_strong))
        self.fingerprint = _fingerprint(self._examples)

    def label(self, prompt: str) -> Future[SignalVerdict]:
        """The verdict as a future that is done."""
        return done(verdict_of(*self.probabilities([prompt])))

    def probabilities(self, prompts: Sequence[str]) -> list[float]:
        """The probability that each prompt is strong."""
        scores = np.array([self._scorer.score(prompt) for prompt in prompts], np.float64)
        return [round(float(p), 4) for p in self._calibration.p(scores)]

    @cached_property
    def accuracy(self) -> list[Accuracy]:
        """Of the few-shots, and of the other labeled examples: by cross-validation, which takes as long as ten fits."""
        p = self._calibration.p(self._unseen)
        parts = {"few-shot": slice(0, self._by_hand), "labeled": slice(self._by_hand, None)}
        return [accuracy_of(name, p[part], self._is_strong[part], self._groups[part]) for name, part in parts.items() if len(p[part])]

    @property
    def _prompts(self) -> list[str]:
        return [each.prompt for each in self._examples]

    @cached_property
    def _groups(self) -> NDArray[np.int32]:
        return np.asarray(groups_of(self._examples), np.int32)

    @cached_property
    def _unseen(self) -> NDArray[np.float64]:
        """Each example's score by a classifier that has seen no example of its group."""
        folds = 10 if len(self._examples) < 500 else 5
        smallest = min(len(set(self._groups[self._is_strong == side].tolist())) for side in (True, False))
        if smallest < 2:
            raise CannotLearn("all examples of one signal share a conversation or messages, so nothing can judge them: choose others, too")
        split = StratifiedGroupKFold(min(folds, smallest), shuffle=True, random_state=0)
        scores: NDArray[np.float64] = cross_val_predict(
            _classifier(), self._prompts, self._is_strong, groups=self._groups, cv=split, method="decision_function"
        )
        return scores

    @cached_property
    def _calibration(self) -> _Calibration:
        if len(self._examples) < CALIBRATED_FROM:
            return _Calibration()
        fitted = LogisticRegression(C=1e6).fit(self._unseen.reshape(-1, 1), self._is_strong)
        return _Calibration(float(fitted.coef_[0, 0]), float(fitted.intercept_[0]))


@dataclass(frozen=True, slots=True)
class _Calibration:
    """Platt scaling: scores to probabilities."""

    slope: float = 1.0
    start: float = 0.0

    def p(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(1.0 / (1.0 + np.exp(-(self.slope * scores + self.start))))


def _check_enough(examples: Sequence[Labeled]) -> None:
    if not are_enough(examples):
        counts = Counter(each.signal for each in examples)
        raise CannotLearn(
            f"the local labeler has {counts['strong']} strong and {counts['weak']} weak examples to learn from, and needs {LEAST} or more"
            " of each (25 to 50 are better): choose them with `beepgpt review SOURCE`, or take --labeler rules, which needs none;"
            " for a local model nobody needs labels"
        )


def _each_once(examples: Iterable[Labeled]) -> dict[str, Labeled]:
    """One example for each prompt, whatever their order."""
    found: dict[str, Labeled] = {}
    for each in examples:
        known = found.setdefault(each.prompt, each)
        if known != each:  # strong, where people or models are not of one mind
            found[each.prompt] = min(known, each, key=lambda one: (one.signal, one.shares))
    return found


def _by_lot(labeled: Labeled) -> bytes:
    """A sort key that is random with regard to the text, and the same in every run."""
    return sha256(labeled.prompt.encode("utf-8", "surrogatepass")).digest()


def _fingerprint(examples: Sequence[Labeled]) -> str:
    """A hash of all that shapes a verdict."""
    digest = sha256(f"{version('scikit-learn')} {STRENGTH}".encode())
    for each in examples:
        digest.update(_by_lot(each) + repr((each.signal, each.shares)).encode())
    return digest.hexdigest()[:12]


STRENGTH = 2.0
"""The inverse of the regularisation (C): tried from 0.3 to 10, on prompts of which 50 and 2,000 were labeled by content and by topic."""


def _classifier() -> Any:
    words = TfidfVectorizer(analyzer=words_of, sublinear_tf=True, max_features=50_000)
    measures = make_pipeline(FunctionTransformer(measures_of), StandardScaler())
    return make_pipeline(make_union(words, measures), LogisticRegression(C=STRENGTH, max_iter=500))


@dataclass(frozen=True, slots=True)
class _Scorer:
    """A fitted classifier for one prompt at a time, thirty times as fast as the library's."""

    words: dict[str, tuple[float, float]]
    """By word: its inverse document frequency, and its coefficient."""
    measures: list[tuple[float, float, float]]
    """The mean, the standard deviation and the coefficient of each measure."""
    start: float

    def score(self, prompt: str) -> float:
        total = square = 0.0
        for word, count in Counter(words_of(prompt)).items():
            if (known := self.words.get(word)) is not None:
                weight = (1 + math.log(count)) * known[0]
                total += weight * known[1]
                square += weight * weight
        measured = zip(_measures(prompt.removesuffix(SUFFIX)), self.measures, strict=True)
        counted = sum((value - mean) / spread * counts for value, (mean, spread, counts) in measured)
        return self.start + counted + (total / math.sqrt(square) if square else 0.0)


def _scorer_of(fitted: Any) -> _Scorer:
    (_, union), (_, regression) = fitted.steps
    (_, words), (_, measures) = union.transformer_list
    spreads = measures.steps[-1][1]
    counts: list[float] = regression.coef_[0].tolist()
    rareness: list[float] = words.idf_.tolist()
    return _Scorer(
        {word: (rareness[place], counts[place]) for word, place in words.vocabulary_.items()},
        list(zip(spreads.mean_.tolist(), spreads.scale_.tolist(), counts[len(rareness) :], strict=True)),
        float(regression.intercept_[0]),
    )


_TOKEN = re.compile(r"[^\W\d_]+|\d+")


def words_of(prompt: str) -> list[str]:
    """Words; in scripts without spaces, pairs of neighboring characters.

    >>> words_of("Reset 2 keys? 鍵を交換\\n\\n###\\n\\n")
    ['reset', '2', 'keys', '鍵を', 'を交', '交換']
    """
    words: list[str] = []
    for token in _TOKEN.findall(prompt.removesuffix(SUFFIX).casefold()):
        words += [token[at : at + 2] for at in range(max(len(token) - 1, 1))] if UNSPACED_SCRIPT.search(token) else [token]
    return words


def measures_of(prompts: Sequence[str]) -> NDArray[np.float64]:
    """Lengths, counts and question marks of each prompt."""
    return np.array([_measures(prompt.removesuffix(SUFFIX)) for prompt in prompts], np.float64)


def _measures(text: str) -> list[float]:
    words = WORD.findall(text)
    messages = text.split(SEPARATOR)
    counts = (
        len(text),
        len(words),
        len({word.casefold() for word in words}),
        sum(len(word) > 6 for word in words),
        len(messages[-1]),
        sum(map(str.isdigit, text)),
        sum(not each.isalnum() and not each.isspace() for each in text),
    )
    return [
        *map(math.log1p, counts),
        float(len(messages)),
        sum(map(len, words)) / max(len(words), 1),
        float("?" in text or "？" in text),
        float("?" in messages[-1] or "？" in messages[-1]),
    ]


class BatchingLabeler:
    """A local labeler that judges all waiting prompts in one call: one by one they take ten times as long."""

    def __init__(self, labeler: LocalLabeler) -> None:
        self.fingerprint = labeler.fingerprint
        self._labeler = labeler
        self._waiting: list[tuple[str, Future[SignalVerdict]]] = []
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="local-labeler")

    def label(self, prompt: str) -> Future[SignalVerdict]:
        """A future of the verdict. Thread-safe."""
        future: Future[SignalVerdict] = Future()
        with self._lock:
            self._waiting.append((prompt, future))
            if len(self._waiting) == 1:
                self._pool.submit(self._label_all)
        return future

    def _label_all(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        try:
            probabilities = self._labeler.probabilities([prompt for prompt, _ in waiting])
        except Exception as error:
            for _, future in waiting:
                future.set_exception(error)
            return
        for (_, future), p in zip(waiting, probabilities, strict=True):
            future.set_result(verdict_of(p))


def verdict_of(p: float) -> SignalVerdict:
    """The verdict of a prompt that is strong with probability `p`."""
    return SignalVerdict("strong" if p >= 0.5 else "weak", p, "local")


def unseen_verdicts(prompts: Sequence[str], few_shots: Sequence[Labeled], labeled: Sequence[Labeled]) -> list[SignalVerdict | None]:
    """Verdicts of a labeler that learns from both; of a few-shot itself, by one that has not seen it. None: too few are left.

    Raises CannotLearn if there are too few few-shots.
    """

    def learned_without(hidden: Collection[str], of: Sequence[str]) -> dict[str, float]:
        some, others = ([each for each in those if each.prompt not in hidden] for those in (few_shots, labeled))
        return dict(zip(of, LocalLabeler(some, others).probabilities(of), strict=True))

    p = learned_without((), prompts)
    for fold in range(FOLDS):
        unseen = dict.fromkeys(each.prompt for each in few_shots[fold::FOLDS])
        for prompt in unseen:
            p.pop(prompt, None)
        with suppress(CannotLearn):
            p |= learned_without(unseen, list(unseen))
    return [verdict_of(p[each]) if each in p else None for each in prompts]


CALIBRATED_FROM = 200
"""Examples from which on probabilities are calibrated, and their calibration is judged."""
BINS = 10


def accuracy_of(of: str, p: NDArray[np.float64], is_strong: NDArray[np.bool_], groups: NDArray[np.int32]) -> Accuracy:
    """The accuracy of probabilities `p` against the truth. `groups`: a number for each example, equal where they share something."""
    right = float(((p >= 0.5) == is_strong).mean())
    low, high = interval(right, len(set(groups.tolist())))
    share = float(is_strong.mean())
    return Accuracy(
        of, len(p), right, low, high, max(share, 1 - share), _calibration_error(p, is_strong) if len(p) >= CALIBRATED_FROM else None
    )


def _calibration_error(p: NDArray[np.float64], is_strong: NDArray[np.bool_]) -> float:
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    members = [bins == each for each in range(BINS) if (bins == each).any()]
    return float(sum(abs(p[each].mean() - is_strong[each].mean()) * each.mean() for each in members))
