"""Redaction: secrets, e-mail addresses, and numbers of phones, cards and accounts are removed from texts before they leave.

Names of people stay: who is meant is part of what a labeler judges. Tokens that look random are removed, whatever they are: better a
commit's hash too many than a key too few. The time depends on a text's length alone, and redacting a redacted text changes nothing.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from typing import Literal, get_args
from unicodedata import decimal

import phonenumbers
from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.basic_auth import BasicAuthDetector
from detect_secrets.plugins.discord import DiscordBotTokenDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.jwt import JwtTokenDetector
from detect_secrets.plugins.mailchimp import MailchimpDetector
from detect_secrets.plugins.openai import OpenAIDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector
from detect_secrets.plugins.telegram_token import TelegramBotTokenDetector
from detect_secrets.plugins.twilio import TwilioKeyDetector
from stdnum import iban, luhn

RedactedKind = Literal["secret", "email", "iban", "card", "phone"]
KINDS: tuple[RedactedKind, ...] = get_args(RedactedKind)
"""Kinds of what is removed; `[secret]` and so on stands in its place."""

# Detectors of secrets by their own form. Left out are KeywordDetector, which takes all that follows the word "password", and 700 us for a
# prompt; PrivateKeyDetector, which sees a key's first line alone; and those that go by the name before a secret, as `_NAMED` does.
_DETECTORS = (
    AWSKeyDetector,
    AzureStorageKeyDetector,
    BasicAuthDetector,
    DiscordBotTokenDetector,
    GitHubTokenDetector,
    GitLabTokenDetector,
    JwtTokenDetector,
    MailchimpDetector,
    OpenAIDetector,
    PypiTokenDetector,
    SendGridDetector,
    SlackDetector,
    SquareOAuthDetector,
    StripeDetector,
    TelegramBotTokenDetector,
    TwilioKeyDetector,
)
_FORMS: tuple[re.Pattern[str], ...] = tuple(form for detector in _DETECTORS for form in detector.denylist)
_PIECE = 256
"""Characters that a form searches at a time, overlapping by half: for some, the time grows with the square of it."""
_PASSES = 8
"""Removing one thing may uncover another. A text that still changes after so many passes was made to do so."""


@dataclass(frozen=True, slots=True)
class Redacted:
    """A redacted text, and counts of what was removed."""

    text: str
    counts: Mapping[RedactedKind, int]
    """By kind, without zeros."""


def redact(text: str) -> Redacted:
    """Redact a text.

    >>> redact("I'm ana@example.org, +1 202-555-0123, the password is hunter2").text
    "I'm [email], [phone], the password is [secret]"
    >>> redact("pay 4111 1111 1111 1111").counts
    {'card': 1}
    """
    done = text
    for _ in range(_PASSES):
        before, done = done, _pass(done)
        if before == done:
            break
    else:
        done = "[secret]"
    if done == text:
        return Redacted(text, {})
    more = Counter(_MARK.findall(done)) - Counter(_MARK.findall(text))
    if not more:
        more["secret"] = 1  # it took a mark that stood in it away
    return Redacted(done, {kind: more[kind] for kind in KINDS if more[kind]})


def _pass(text: str) -> str:
    has_digits = _DIGITS.search(text) is not None
    if has_digits:
        text = _without(text, "iban", _IBAN, _account)
    text = _without_secrets(text)
    if "@" in text or "＠" in text:
        text = _without(text, "email", _EMAIL, _address)
    if has_digits:
        text = _without(text, "card", _CARD, _card)
        text = _without(text, "phone", _PHONE, _phone)
        text = _without(text, "phone", _NAMED_PHONE, len)
    return text


# All expressions here take linear time, whatever the text: `++` and `*+` never backtrack, and all other repetitions are bounded.

_MARK = re.compile(rf"\[({'|'.join(KINDS)})\]")


def _without(text: str, kind: RedactedKind, pattern: re.Pattern[str], judge: Callable[[str], int]) -> str:
    """The text without matches of a pattern's group; `judge` returns how many characters of a match, from its first on, are removed."""
    spans = ((match.start(1), match.start(1) + judge(match[1])) for match in pattern.finditer(text))
    return _replaced(text, kind, (span for span in spans if span[0] < span[1]))


def _replaced(text: str, kind: RedactedKind, spans: Iterator[tuple[int, int]]) -> str:
    """The text with each span replaced by the kind's mark; overlapping spans become one."""
    pieces: list[str] = []
    at = end = 0
    for start, stop in sorted(spans):
        if start >= end:
            pieces += [text[at:start], f"[{kind}]"]
            at = end = stop
        elif stop > end:
            at = end = stop
    return "".join([*pieces, text[at:]]) if pieces else text


# Secrets

_PRIVATE_KEY = re.compile(
    r"-{2,5}BEGIN [^-\n]{0,40}PRIVATE KEY[^-\n]{0,10}-{2,5}"
    r"(?:[^-]*+(?:-(?!-)[^-]*+){0,20}-{2,5}END [^-\n]{0,60}-{2,5}|(?:\s*+[A-Za-z0-9+/=]{20,}+)*+(?:\s?[A-Za-z0-9+/]{0,64}={1,2})?)"
)
_SLACK = re.compile(r"(?:xoxe\.)?xox(?:[a-np-z]|o(?=-[0-9]))-[\w%-]+|xapp-[0-9]-[\w-]+")
_NAMED = re.compile(
    r"(?:(?P<password>passw(?:or)?d|passwort|pwd|pass(?:phrase|code)|contraseña|mot de passe|パスワード)"
    r"|(?:api|access|auth|private|account)[ _-]?key|hapikey|secret|token)[\w-]{0,20}"
    r"""["'`”’]?[ \t]{0,3}(?::=|=>|={1,3}|[:：]|\bis\b|は)[ \t]{0,3}["'`“‘]?(?P<value>[^\s\[\]"'`“”‘’<>]{4,}+)""",
    re.IGNORECASE,
)
"""A name for a secret, and the value behind it, which may not be one."""
_SAYS = re.compile(r"\bis\b|は", re.IGNORECASE)
_LINE_ENDS = re.compile(r"[\"'`”’.,;!?)]{0,3}[ \t]{0,3}(?:\n|\Z|[,;]|/|(?:user(?:name)?|login|host|port)\b)", re.IGNORECASE)
_CALL = re.compile(r"[($%{=/\\]|[a-z]\.[a-z]")
"""Code: a call, a variable, a path, an attribute."""
_BEARER = re.compile(r"\b(?:Bearer|Basic)[ \t]{1,3}(?P<value>[A-Za-z0-9_+/=~.-]{8,}+)")
_RUN = re.compile(r"[^\s\[\]]{16,}+")
"""Shorter runs hold no secret that a detector knows."""
_DRAWN = re.compile(r"[A-Za-z0-9_-]{20,}+")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{24,}+")
_MARKUP = re.compile(rf"://|</?[a-z]|<[#@!]|&(?:lt|gt|amp);|[@/]\d{{1,9}}\.\d|/[\w.-]{{3,64}}/|{_MARK.pattern}")
"""Addresses, paths, tags, versions, and what was redacted before: no password is looked for in them."""
_GENERATED = re.compile(r"(?<![!-~])([!-~]{12,64}+)(?![!-~])")
"""What may be a password that a program made, standing by itself."""
_HEX = re.compile(r"(?<![0-9A-Za-z])(?:[0-9a-fA-F]{32,}+|[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12})(?![0-9A-Za-z])")
_STUCK = re.compile(r"(?:\.?[A-Za-z0-9_+/=~%-])++")
"""Characters that belong together: a secret with what is attached to it."""
_DIGIT_TURN = re.compile(r"(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])")
_CASE_TURN = re.compile(r"(?<=[a-z])(?=[A-Z])")
_TURN = re.compile(rf"{_DIGIT_TURN.pattern}|{_CASE_TURN.pattern}")
_DRAWN_FROM = 0.23
"""Changes of character class for each character: random tokens have 0.4 on average, names in programs 0.1. Entropy can't separate them."""
_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
"""A word, an abbreviation or a number, as names are made of."""
_BASE64_FROM, _GENERATED_FROM = 0.32, 0.4
"""Parts for each letter and digit: random tokens of mixed case have 0.5, names and paths 0.2."""
_PLAIN = re.compile(
    r"absent|any|auth|blank|bool|boolean|bytes|changeme|changed|char|correct|credentials?|default|defined|disabled|empty|enabled|"
    r"encrypted|enter|example|expired|false|field|forgot(?:ten)?|given|hash(?:ed)?|here|hidden|in(?:correct|put|teger|valid)?|int|"
    r"known|length|masked|mandatory|missing|must|name|needed|never|new|nil|no|none|not|null|number|object|off|ok(?:ay)?|old|on|"
    r"optional|passwords?|please|protect(?:ed|ion)|provided|redacted|required|reset|same|secret|see|set|short|str(?:ing)?|strong|"
    r"text|the|this|todo|token|true|type|undefined|unknown|unset|update|user(?:name)?|valid|value|varchar|weak|working|wrong|yes|"
    r"your",
    re.IGNORECASE,
)
"""What stands behind `password:` and is none."""
_HINTS = ("pass", "pwd", "key", "secret", "token", "contraseña", "パスワード")
"""Every name of a secret contains one of these. `_NAMED` takes 50 us for a prompt, this check far less."""


def _without_secrets(text: str) -> str:
    if "PRIVATE KEY" in text:
        text = _replaced(text, "secret", (match.span() for match in _PRIVATE_KEY.finditer(text)))
    if "xox" in text or "xapp-" in text:
        text = _replaced(text, "secret", (match.span() for match in _SLACK.finditer(text)))
    if any(map(text.lower().__contains__, _HINTS)) or "Bearer" in text or "Basic" in text:
        text = _replaced(text, "secret", _named(text))
    text = _without(text, "secret", _GENERATED, _generated)
    return _replaced(text, "secret", (span for run in _RUN.finditer(text) for span in _formed(text, *run.span())))


def _named(text: str) -> Iterator[tuple[int, int]]:
    for match in _NAMED.finditer(text):
        value = match["value"].rstrip(".,;:!?)")
        is_password = match["password"] is not None
        if _looks_chosen(value, password=is_password) or (is_password and _stands_alone(text, match, value)):
            yield match.start("value"), match.start("value") + len(value)
    for match in _BEARER.finditer(text):
        if _looks_chosen(match["value"], password=False):
            yield match.span("value")


def _looks_chosen(value: str, *, password: bool) -> bool:
    """Whether a named value is a secret, and not a word as in `token: string`."""
    has_digit, has_letter = any(map(str.isdigit, value)), any(map(str.isalpha, value))
    return len(value) >= 4 and has_digit if password else len(value) >= 8 and has_digit and has_letter


def _stands_alone(text: str, match: re.Match[str], value: str) -> bool:
    """Whether a value without digits is a password: quoted, or all that follows `password:` on its line, and no word of forms."""
    quoted = text[match.start("value") - 1] in "\"'`“‘" and text[match.end("value") : match.end("value") + 1] in tuple("\"'`”’")
    if not quoted and (_SAYS.search(match[0][: match.start("value") - match.start()]) or not _LINE_ENDS.match(text, match.end("value"))):
        return False
    return 6 <= len(value) <= 64 and value.isascii() and _PLAIN.fullmatch(value) is None and _CALL.search(value) is None


def _generated(run: str) -> int:
    """The length of a run that is a generated password: of small and capital letters and digits, in no order that names have.

    >>> _generated("xK9#mQ2$vL7p"), _generated("README.md:7-8"), _generated("iPhone15ProMax")
    (12, 0, 0)
    """
    if _MARKUP.search(run) or not all(map(_has, repeat(run), (str.islower, str.isupper, str.isdigit))):
        return 0
    parts = _PART.findall(run)
    return len(run) if len(parts) >= 5 and max(map(len, parts)) < 6 and _parts(run) >= _GENERATED_FROM else 0


def _has(text: str, kind: Callable[[str], bool]) -> bool:
    return any(map(kind, text))


def _parts(token: str) -> float:
    return len(_PART.findall(token)) / max(sum(map(str.isalnum, token)), 1)


def _formed(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Spans of secrets in a run without spaces, each with the characters attached to it: forms know a secret's beginning, not its end."""
    found = [*_by_form(text, start, stop), *(match.span() for match in _DRAWN.finditer(text, start, stop) if _is_drawn(match[0]))]
    found += (match.span() for match in _BASE64.finditer(text, start, stop) if _is_base64(match[0]))
    if found:
        stuck = [match.span() for match in _STUCK.finditer(text, start, stop)]
        starts = [each[0] for each in stuck]
        for first, last in found:
            before, behind = bisect(starts, first) - 1, bisect(starts, last - 1) - 1
            yield (
                stuck[before][0] if before >= 0 and first < stuck[before][1] else first,
                max(last, stuck[behind][1] if behind >= 0 else last),
            )
    yield from (match.span() for match in _HEX.finditer(text, start, stop) if not match[0].isdecimal())


def _by_form(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    for first in range(start, max(stop - _PIECE // 2, start + 1), _PIECE // 2):
        piece = text[first : min(first + _PIECE, stop)]
        for form in _FORMS:
            yield from ((first + match.start(), first + match.end()) for match in form.finditer(piece))


def _is_drawn(token: str) -> bool:
    """Whether a token looks random: names, however long, contain words.

    >>> _is_drawn("aB3dE5gH7jK9mN1pQ2rS"), _is_drawn("getContactsByCompanyIdV3"), _is_drawn("hs_email_optout_4900834")
    (True, False, False)
    """
    digit_turns = len(_DIGIT_TURN.findall(token))
    if len(_TURN.findall(token)) >= _DRAWN_FROM * len(token) and digit_turns >= 2:
        return True
    return len(token) >= 28 and token.isalnum() and digit_turns >= 4


def _is_base64(token: str) -> bool:
    """Whether a token with `/` or `+` in it, or of letters alone, looks random.

    >>> _is_base64("aB3/dE5gH7jK9+mN1pQ2rS4tU6"), _is_base64("crm/v3/objects/contacts/batch/read")
    (True, False)
    """
    return _parts(token) >= _BASE64_FROM and len(_CASE_TURN.findall(token)) >= 2


# Addresses and numbers

_WRITTEN = "[^\\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
"""A letter of a script with spaces between words: in others, an address would not end where the sentence goes on."""
_LOCAL = rf"(?:{_WRITTEN}|[.!#$%&*+/=?^`{{|}}~-])"
_EMAIL = re.compile(rf"(?<!{_LOCAL})({_LOCAL}++[@＠](?:{_WRITTEN}|-)++(?:\.(?:{_WRITTEN}|-)++)++)")
_TOP = re.compile(r"[^\W\d_]{2}")
_DIGITS = re.compile(r"\d(?:[^\w\n]{0,3}\d){6}")
"""Fewer digits are no number of a phone, a card or an account."""
_IBAN = re.compile(r"(?<![A-Za-z0-9])(?=([A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}(?![A-Za-z0-9])))")
_CARD = re.compile(r"(?<![\w.-])(?=(\d(?:[ -]?\d){11,18}(?!\w)))")
_GAP = r"[ ().\-/\u2010-\u2015]{0,3}"
_PHONE = re.compile(rf"(?:(?<!\w)(?=[+＋])|(?<![\w.,#=/:+-])(?=[(\d]))(?=([+＋]?[ ]?\(?\d(?:{_GAP}\d){{6,14}}(?!\w)))")
_NAMED_PHONE = re.compile(
    rf"(?:\b(?:tele)?phone|\btel|\bmobile|\bcell|\bwhats ?app|\b(?:call|text|ring) me|電話|携帯)[^\d\n\[\]]{{0,12}}?"
    rf"([+＋]?\(?\d(?:{_GAP}\d){{6,14}}(?!\w))",
    re.IGNORECASE,
)
_AMERICAN = re.compile(r"\(?[2-9]\d\d(?:\) ?|[ .-])[2-9]\d\d[ .-]\d{4}(?!\d)")
_TRUNK = re.compile(r"\(?0\d{1,5}\D")
"""A first group that begins with 0, as in national phone numbers; not `0.1.3`."""


def _address(shown: str) -> int:
    """The length of an e-mail address; 0 for a package's version, as in `name@1.5`."""
    return len(shown) if _TOP.match(shown, shown.rindex(".") + 1) else 0


def _account(shown: str) -> int:
    return _longest(shown, iban.is_valid)


def _card(shown: str) -> int:
    if _digits(shown[0]) not in "23456":  # 1 are airlines, and times in milliseconds
        return 0
    return _longest(shown, lambda number: len(digits := _digits(number)) >= 12 and luhn.is_valid(digits))


def _phone(shown: str) -> int:
    """How many characters are a phone number; 0 for ten digits alone, which are rather an id."""
    if shown[0] in "+＋":
        return _longest(shown, lambda number: phonenumbers.is_possible_number(_parsed("+" + _digits(number))))
    if american := _AMERICAN.match(shown):
        return american.end() if phonenumbers.is_valid_number(_parsed("+1" + _digits(american[0]))) else 0
    return _longest(shown, _is_within_a_country) if _TRUNK.match(shown) else 0


def _is_within_a_country(shown: str) -> bool:
    return 9 <= len(_digits(shown)) <= 12 and shown.count("/") < 2  # 04/05/2023 is a date


def _parsed(number: str) -> phonenumbers.PhoneNumber:
    try:
        return phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return phonenumbers.PhoneNumber()


def _longest(shown: str, holds: Callable[[str], bool]) -> int:
    """The longest beginning, without some of the last groups, that is a number of a kind; 0 if none is."""
    end = len(shown)
    while end and not holds(shown[:end]):
        while end and shown[end - 1].isalnum():
            end -= 1
        while end and not shown[end - 1].isalnum():
            end -= 1
    return end


def _digits(shown: str) -> str:
    """The digits of any script, as ASCII digits."""
    return "".join(str(decimal(each)) for each in shown if each.isdecimal())
