"""A labeler of a few rules, which needs no key and no few-shots."""

from __future__ import annotations

import re
from concurrent.futures import Future
from functools import lru_cache
from hashlib import sha256

from beepgpt.conversations.signals import SignalVerdict
from beepgpt.conversations.tokens import SUFFIX

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
"""Words that say nothing about a conversation's topic."""
UNSPACED = re.compile(
    r"(?:お早う|おはよう|こんにちは|こんばんは|はじめまして|お疲れ様|お疲れさま|おつかれさま|ありがとう|有難う|よろしく|宜しく|お願い|了解|承知|すみません)"
    r"(?:ございま|いたしま|致しま|しま|で)*(?:した|す)?|なるほど|はい|いいえ|你好|您好|大家好|早上好|晚安|再见|谢谢|多谢|不客气|好的|收到|是的"
    r"|謝謝|안녕하세요|안녕|감사합니다|고맙습니다|고마워요|네|알겠습니다"
)
"""Courtesies in languages that put no spaces between words, or join them."""
SHORT = 4
"""Words, beside courtesies, that a strong prompt has at least."""
WORD = re.compile(r"[^\W\d_]+")
UNSPACED_SCRIPT = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]")
_STRETCHED = re.compile(r"(\w)\1{2,}")


class RulesLabeler:
    """Labels by rules: a prompt is weak if it has no words, or few beside courtesies. The verdict's model names the rule."""

    fingerprint = sha256(repr((_GREETINGS, _THANKS, UNSPACED.pattern, SHORT)).encode()).hexdigest()[:12]

    def label(self, prompt: str) -> Future[SignalVerdict]:
        """The verdict as a future that is done.

        >>> RulesLabeler().label("Good morning everyone!\\n\\n###\\n\\n").result()
        SignalVerdict(signal='weak', p=None, model='rules:greeting')
        """
        rule = rule_of(prompt)
        return done(SignalVerdict("strong" if rule == "words" else "weak", None, f"rules:{rule}"))


def rule_of(prompt: str) -> str:
    """The first rule that applies: `no_words`, `greeting`, `thanks`, `short`, or `words`, which alone means strong.

    >>> [rule_of(each) for each in ("123 !!", "Heyyy all", "thanks a lot, great", "in 5 minutes", "How do I reset my key?")]
    ['no_words', 'greeting', 'thanks', 'short', 'words']
    """
    text = prompt.removesuffix(SUFFIX).casefold()
    if not WORD.search(text):
        return "no_words"
    words = WORD.findall(UNSPACED.sub(" ", text))
    others = [word for word in words if not courtesy_of(word)]
    if not others:
        return "greeting" if any(courtesy_of(word) == "greeting" for word in words) else "thanks"
    return "words" if sum(map(_length, others)) >= SHORT else "short"


@lru_cache(maxsize=10_000)
def courtesy_of(word: str) -> str:
    """The kind of courtesy that a word is, stretched or not; empty if it is none.

    >>> [courtesy_of(each) for each in ("heyyy", "goood", "thx", "key")]
    ['greeting', 'thanks', 'thanks', '']
    """
    forms = {word, *(_STRETCHED.sub(shorter, word) for shorter in (r"\1", r"\1\1"))}
    return next((kind for kind, words in COURTESIES.items() if forms & words), "")


def _length(word: str) -> float:
    """A token's length in words: in scripts without spaces, two characters are about one word."""
    return max(len(word) / 2, 1.0) if UNSPACED_SCRIPT.search(word) else 1.0


def done(verdict: SignalVerdict) -> Future[SignalVerdict]:
    """A future that is done, with this result."""
    future: Future[SignalVerdict] = Future()
    future.set_result(verdict)
    return future
