"""Labelers that need no key: a few rules, and a small classifier that learns from few-shots and from what others have labeled.

Neither sends anything anywhere. The classifier is fitted anew at each start, so there is no file of it that could be stale, or run code.
"""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from beepgpt.conversations.signals import Signal, SignalVerdict
from beepgpt.conversations.tokens import SEPARATOR, SUFFIX
from beepgpt.errors import BeepGPTError

FEW_SHOTS: dict[Signal, str] = {"strong": "examples_pos.jsonl", "weak": "examples_neg.jsonl"}
LEAST = 10
"""Examples of each signal without which nothing can be learned; 25 to 50 are better."""
MOST = 10_000
"""Labeled examples that are learned from: more take longer, and add little."""
CALIBRATED_FROM = 200
"""Examples from which on the classifier's probabilities are fitted to how often it is right."""


class CannotLearn(BeepGPTError):
    """There is nothing to learn from, or it can't be read; the message says what to do."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class Labeled:
    """A prompt, and what a person or a model said of it."""

    prompt: str
    signal: Signal
    shares: tuple[str, ...] = ()
    """Its conversation and its messages: examples that share one are alike, so that none of them can judge what learned from another."""


# What is learned from


def read_few_shots(folder: Path) -> list[Labeled]:
    """The few-shots that a person chose. Raises CannotLearn if there are none, or one can't be read."""
    found = [labeled for signal, name in FEW_SHOTS.items() for labeled in _few_shots_in(folder / name, signal)]
    if not found:
        raise CannotLearn(f"{folder}: there are no few-shots: choose some with `beepgpt review SOURCE --few-shots {folder}`")
    return found


def _few_shots_in(path: Path, signal: Signal) -> Iterator[Labeled]:
    if not path.exists():
        return
    try:
        with path.open("rb") as lines:
            for number, labeled in _labeled_in(lines, path, signal):
                if labeled is None or labeled.signal != signal:
                    raise CannotLearn(
                        f'{path}, line {number}: its "signal" is not "{signal}", as all are in this file: mend it, or take it out'
                    )
                yield labeled
    except OSError as error:
        raise CannotLearn(f"{path}: can't be read ({error.strerror}): check its permissions") from error


def read_labeled(lines: Iterable[bytes], place: object) -> Iterator[Labeled]:
    """The labeled examples among some lines of `place`; silences, which have no label, are left out. Raises CannotLearn."""
    return (labeled for _, labeled in _labeled_in(lines, place) if labeled is not None)


def _labeled_in(lines: Iterable[bytes], place: object, untold: Signal | None = None) -> Iterator[tuple[int, Labeled | None]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, _labeled(line, f"{place}, line {number}", untold)


def _labeled(line: bytes, place: str, untold: Signal | None) -> Labeled | None:
    try:
        body: Any = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise CannotLearn(f"{place}: is no JSON: mend it, or take it out") from None
    if not isinstance(body, dict) or not isinstance(prompt := body.get("prompt"), str):
        raise CannotLearn(f"{place}: is no example: `beepgpt examples` makes them, and they have a prompt")
    if (signal := body.get("signal", untold)) is None:
        return None
    if not isinstance(signal, str) or signal not in FEW_SHOTS:
        raise CannotLearn(f'{place}: its "signal" is neither "strong" nor "weak": mend it, or take it out')
    return Labeled(prompt, signal, tuple(_shared(body)))


def _shared(body: dict[str, Any]) -> Iterator[str]:
    if isinstance(conversation := body.get("conversation"), str):
        yield conversation
    window = body.get("window")
    for message in window if isinstance(window, list) else []:
        if isinstance(message, dict):
            yield f"{body.get('channel')}:{message.get('ts')}"


# Rules

_GREETINGS = """
hi hello hey heya hiya yo howdy greetings welcome good morning afternoon evening night day weekend monday friday happy bye goodbye cheers
all everyone everybody folks team guys people there again
hallo moin servus guten morgen tag abend gute nacht tschüss zusammen ihr alle
bonjour bonsoir salut coucou bonne journée soirée au revoir tous tout le monde
hola buenos buenas días tardes noches adiós todos a oi olá bom boa dia tarde noite tchau pessoal
ciao buongiorno buonasera salve goedemorgen hoi dag cześć dzień dobry привет здравствуйте доброе утро добрый день всем
merhaba günaydın selam namaste
"""
_THANKS = """
thanks thank thankyou thx ty tysm you u so very much many a lot for the help your appreciated appreciate it yw np no problem worries anytime
great good nice cool awesome perfect amazing excellent lovely brilliant super wow yay congrats congratulations well done work job
ok okay k kk yes yeah yep yup no nope sure right true agreed indeed exactly same got fine lol haha hahaha hehe oh ah hmm
danke vielen dank schön sehr bitte gerne super toll genau ja nein klar stimmt passt
merci beaucoup bien parfait oui non accord de rien gracias muchas genial perfecto vale sí nada
obrigado obrigada muito valeu sim não grazie mille perfetto va bene sì bedankt dank je wel dzięki dziękuję спасибо да нет хорошо
teşekkürler evet hayır
"""
COURTESIES = {"greeting": frozenset(_GREETINGS.split()) - frozenset(_THANKS.split()), "thanks": frozenset(_THANKS.split())}
"""Words that say nothing of what a conversation is about."""
UNSPACED = re.compile(
    r"(?:お早う|おはよう|こんにちは|こんばんは|はじめまして|お疲れ様|お疲れさま|おつかれさま|ありがとう|有難う|よろしく|宜しく|お願い|了解|承知|すみません)"
    r"(?:ございま|いたしま|致しま|しま|で)*(?:した|す)?|なるほど|はい|いいえ|你好|您好|大家好|早上好|晚安|再见|谢谢|多谢|不客气|好的|收到|是的"
    r"|謝謝|안녕하세요|안녕|감사합니다|고맙습니다|고마워요|네|알겠습니다"
)
"""Courtesies of languages that put no spaces between words, or join them."""
SHORT = 4
"""Words beside courtesies that a prompt has to have."""
_WORD = re.compile(r"[^\W\d_]+")
_WITHOUT_SPACES = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]")
_STRETCHED = re.compile(r"(\w)\1{2,}")


class RulesLabeler:
    """Weak is what has no words, or is short once courtesies are left out; each verdict names its rule."""

    told = sha256(repr((_GREETINGS, _THANKS, UNSPACED.pattern, SHORT)).encode()).hexdigest()[:12]

    def label(self, prompt: str) -> Future[SignalVerdict]:
        """The verdict, at once.

        >>> RulesLabeler().label("Good morning everyone!\\n\\n###\\n\\n").result()
        Verdict(signal='weak', p=None, model='rules:greeting')
        """
        rule = rule_of(prompt)
        return _done(SignalVerdict("strong" if rule == "words" else "weak", None, f"rules:{rule}"))


def rule_of(prompt: str) -> str:
    """The first rule that holds: `no_words`, `greeting`, `thanks`, `short`, or `words`, which alone means strong.

    >>> [rule_of(each) for each in ("123 !!", "Heyyy all", "thanks a lot, great", "in 5 minutes", "How do I reset my key?")]
    ['no_words', 'greeting', 'thanks', 'short', 'words']
    """
    text = prompt.removesuffix(SUFFIX).casefold()
    if not _WORD.search(text):
        return "no_words"
    words = _WORD.findall(UNSPACED.sub(" ", text))
    others = [word for word in words if not courtesy_of(word)]
    if not others:
        return "greeting" if any(courtesy_of(word) == "greeting" for word in words) else "thanks"
    return "words" if sum(map(_length, others)) >= SHORT else "short"


@lru_cache(maxsize=10_000)
def courtesy_of(word: str) -> str:
    """Its kind, also if it is stretched; empty if it is none.

    >>> [courtesy_of(each) for each in ("heyyy", "goood", "thx", "key")]
    ['greeting', 'thanks', 'thanks', '']
    """
    forms = {word, *(_STRETCHED.sub(shorter, word) for shorter in (r"\1", r"\1\1"))}
    return next((kind for kind, words in COURTESIES.items() if forms & words), "")


def _length(word: str) -> float:
    """In words: where they aren't apart, two characters are about one."""
    return max(len(word) / 2, 1.0) if _WITHOUT_SPACES.search(word) else 1.0


# The classifier


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How often a classifier is right about examples when it has not seen them, nor any that share a conversation or a message."""

    of: str
    """Which examples: `few-shot` or `labeled`."""
    examples: int
    right: float
    """Share of them."""
    low: float
    high: float
    """Its interval of 95 %, as if examples that share something were one."""
    constant: float
    """What one gets by always giving the more frequent signal."""
    gap: float | None
    """Between a probability and how often it comes true, in the mean; None: too few examples to tell."""

    def __str__(self) -> str:
        """For people.

        >>> print(Accuracy("few-shot", 50, 0.82, 0.69, 0.902, 0.5, None))
        right about 82 % of 50 few-shot examples that it had not seen (95 % interval: 69 to 90 %); always saying the same would get 50 %
        """
        gap = "" if self.gap is None else f"; its probabilities are off by {100 * self.gap:.0f} points in the mean"
        return (
            f"right about {100 * self.right:.0f} % of {self.examples:,} {self.of} examples that it had not seen (95 % interval:"
            f" {100 * self.low:.0f} to {100 * self.high:.0f} %); always saying the same would get {100 * self.constant:.0f} %{gap}"
        )


class LocalLabeler:
    """Words and measures of a prompt, and a logistic regression: the same from the same examples, whenever it is fitted."""

    def __init__(self, few_shots: Iterable[Labeled], labeled: Iterable[Labeled] = ()) -> None:
        """Raises CannotLearn if there are too few of either signal. A person's word counts before what else was said of a prompt."""
        by_hand = _each_once(few_shots)
        chosen = heapq.nsmallest(MOST, _each_once(each for each in labeled if each.prompt not in by_hand).values(), key=_by_lot)
        self._examples = [*sorted(by_hand.values(), key=_by_lot), *chosen]
        self._by_hand = len(by_hand)
        _check_enough(self._examples)
        self._is_strong = np.array([each.signal == "strong" for each in self._examples])
        self._scorer = _scorer_of(_classifier().fit(self._prompts, self._is_strong))
        self.told = _told(self._examples)

    def label(self, prompt: str) -> Future[SignalVerdict]:
        """The verdict, at once."""
        (p,) = self.chances([prompt])
        return _done(SignalVerdict("strong" if p >= 0.5 else "weak", p, "local"))

    def chances(self, prompts: Sequence[str]) -> list[float]:
        """How likely each prompt is strong."""
        scores = np.array([self._scorer.score(prompt) for prompt in prompts], np.float64)
        return [round(float(p), 4) for p in self._calibration.p(scores)]

    @cached_property
    def accuracy(self) -> list[Accuracy]:
        """Of the few-shots, and of what else was labeled: by cross-validation, that takes as long as some ten more fittings."""
        p = self._calibration.p(self._unseen)
        parts = {"few-shot": slice(0, self._by_hand), "labeled": slice(self._by_hand, None)}
        return [_accuracy(name, p[part], self._is_strong[part], self._groups[part]) for name, part in parts.items() if len(p[part])]

    @property
    def _prompts(self) -> list[str]:
        return [each.prompt for each in self._examples]

    @cached_property
    def _groups(self) -> NDArray[np.int32]:
        return groups_of(self._examples)

    @cached_property
    def _unseen(self) -> NDArray[np.float64]:
        """Each example's score by a classifier that has seen nothing like it."""
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
    """Scores to probabilities, by Platt's way."""

    slope: float = 1.0
    start: float = 0.0

    def p(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(1.0 / (1.0 + np.exp(-(self.slope * scores + self.start))))


def groups_of(examples: Sequence[Labeled]) -> NDArray[np.int32]:
    """A number for each example, the same for those that share something, or something with one that does.

    >>> examples = [Labeled(str(place), "weak", tuple(shares)) for place, shares in enumerate(["ab", "c", "bd", "", ""])]
    >>> groups_of(examples).tolist()
    [0, 1, 0, 2, 3]
    """
    names: dict[str, int] = {}
    pairs = [(row, len(examples) + names.setdefault(name, len(names))) for row, each in enumerate(examples) for name in each.shares]
    rows, columns = ([pair[side] for pair in pairs] for side in (0, 1))
    size = len(examples) + len(names)
    _, found = connected_components(coo_array((np.ones(len(pairs)), (rows, columns)), shape=(size, size)), directed=False)
    return np.asarray(found[: len(examples)], np.int32)


def _check_enough(examples: Sequence[Labeled]) -> None:
    counts = Counter(each.signal for each in examples)
    if min(counts[signal] for signal in FEW_SHOTS) < LEAST:
        raise CannotLearn(
            f"the local labeler has {counts['strong']} strong and {counts['weak']} weak examples to learn from, and needs {LEAST} or more"
            " of each (25 to 50 are better): choose them with `beepgpt review SOURCE`, or take --labeler rules, which needs none"
        )


def _each_once(examples: Iterable[Labeled]) -> dict[str, Labeled]:
    """By prompt; of two that differ it doesn't matter which came first."""
    found: dict[str, Labeled] = {}
    for each in examples:
        known = found.setdefault(each.prompt, each)
        if known != each:  # strong, where people or models are not of one mind
            found[each.prompt] = min(known, each, key=lambda one: (one.signal, one.shares))
    return found


def _by_lot(labeled: Labeled) -> bytes:
    """An order that has nothing to do with what is said, and is the same in every run."""
    return sha256(labeled.prompt.encode("utf-8", "surrogatepass")).digest()


def _told(examples: Sequence[Labeled]) -> str:
    """A hash of all that shapes a verdict."""
    told = sha256(f"{version('scikit-learn')} {STRENGTH}".encode())
    for each in examples:
        told.update(_by_lot(each) + repr((each.signal, each.shares)).encode())
    return told.hexdigest()[:12]


STRENGTH = 2.0
"""How far single words may count: tried with 0.3 to 10, on prompts of which 50 and 2,000 were labeled by content and by topic."""


def _classifier() -> Any:
    words = TfidfVectorizer(analyzer=words_of, sublinear_tf=True, max_features=50_000)
    measures = make_pipeline(FunctionTransformer(measures_of), StandardScaler())
    return make_pipeline(make_union(words, measures), LogisticRegression(C=STRENGTH, max_iter=500))


@dataclass(frozen=True, slots=True)
class _Scorer:
    """A fitted classifier's arithmetic for one prompt at a time, for which the library takes thirty times as long."""

    words: dict[str, tuple[float, float]]
    """By word: how rare it is, and what it counts."""
    measures: list[tuple[float, float, float]]
    """Of each: its mean, its spread, and what it counts."""
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
    """Words, and pairs of neighbouring characters where words aren't apart.

    >>> words_of("Reset 2 keys? 鍵を交換\\n\\n###\\n\\n")
    ['reset', '2', 'keys', '鍵を', 'を交', '交換']
    """
    words: list[str] = []
    for token in _TOKEN.findall(prompt.removesuffix(SUFFIX).casefold()):
        words += [token[at : at + 2] for at in range(max(len(token) - 1, 1))] if _WITHOUT_SPACES.search(token) else [token]
    return words


def measures_of(prompts: Sequence[str]) -> NDArray[np.float64]:
    """What can be measured of each prompt: how long, how rich, whether somebody asks."""
    return np.array([_measures(prompt.removesuffix(SUFFIX)) for prompt in prompts], np.float64)


def _measures(text: str) -> list[float]:
    words = _WORD.findall(text)
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


# Accuracy

_Z = 1.959964
"""Of an interval of 95 %."""
BINS = 10


def _accuracy(of: str, p: NDArray[np.float64], is_strong: NDArray[np.bool_], groups: NDArray[np.int32]) -> Accuracy:
    right = float(((p >= 0.5) == is_strong).mean())
    low, high = interval(right, len(set(groups.tolist())))
    share = float(is_strong.mean())
    return Accuracy(of, len(p), right, low, high, max(share, 1 - share), _gap(p, is_strong) if len(p) >= CALIBRATED_FROM else None)


def interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's interval for a share of so many: honest for few, and for all or none of them.

    >>> [round(each, 3) for each in interval(1.0, 20)]
    [0.839, 1.0]
    """
    middle = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z / (1 + _Z**2 / count) * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    return min(max(middle - half, 0.0), share), max(min(middle + half, 1.0), share)  # rounding must not leave it outside


def _gap(p: NDArray[np.float64], is_strong: NDArray[np.bool_]) -> float:
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    members = [bins == each for each in range(BINS) if (bins == each).any()]
    return float(sum(abs(p[each].mean() - is_strong[each].mean()) * each.mean() for each in members))


def _done(verdict: SignalVerdict) -> Future[SignalVerdict]:
    future: Future[SignalVerdict] = Future()
    future.set_result(verdict)
    return future
