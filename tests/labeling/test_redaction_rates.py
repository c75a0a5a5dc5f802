"""How much of what must not leave is found: of simulated secrets of 20 kinds, as docs/labeling.md says."""

from __future__ import annotations

import random
import re
import string
import uuid
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path

from beepgpt.labeling.redaction import redact

EACH = 200
LETTERS = string.ascii_letters
BASE62 = LETTERS + string.digits
WORDS = re.findall(r"\w+", "correct horse battery staple river cloud window orange summer tiger planet guitar winter coffee silver garden")
Draw = random.Random


def of(alphabet: str, count: int) -> Callable[[Draw], str]:
    return lambda draw: "".join(draw.choices(alphabet, k=count))


def after(start: str, alphabet: str, count: int) -> Callable[[Draw], str]:
    """Put together here, so that no scanner takes this file for a leak."""
    return lambda draw: start + of(alphabet, count)(draw)


def generated(draw: Draw, length: int = 16) -> str:
    """As password managers make them: at least one of each class."""
    classes = (string.ascii_lowercase, string.ascii_uppercase, string.digits, string.punctuation)
    drawn = [draw.choice(each) for each in classes] + draw.choices(BASE62 + string.punctuation, k=length - 4)
    draw.shuffle(drawn)
    return "".join(drawn)


def jwt(draw: Draw) -> str:
    head, body = (urlsafe_b64encode(text).decode().rstrip("=") for text in (b'{"alg":"HS256"}', b'{"sub":"%d"}' % draw.randrange(10**9)))
    return f"{head}.{body}.{of(BASE62 + '-_', 43)(draw)}"


def private_key(draw: Draw) -> str:
    lines = "\n".join(b64encode(draw.randbytes(48)).decode() for _ in range(4))
    return f"-----BEGIN PRIVATE KEY-----\n{lines}\n-----END PRIVATE KEY-----"


KINDS: dict[str, tuple[str, Callable[[Draw], str], float]] = {
    "AWS key id": ("key id {}, ask me", after("AK" + "IA", string.ascii_uppercase + string.digits, 16), 1.0),
    "AWS secret, alone": ("use {} until Monday", of(BASE62 + "+/", 40), 0.99),
    "GitHub token": ("try {} please", after("gh" + "p_", BASE62, 36), 1.0),
    "GitLab token": ("try {} please", after("gl" + "pat-", BASE62 + "-_", 20), 1.0),
    "Slack token": ("bot has {} now", after("xo" + "xb-", string.digits, 12), 1.0),
    "Stripe key": ("live one: {}", after("sk_" + "live_", BASE62, 24), 1.0),
    "Google API key": ("maps wants {} there", after("AI" + "za", BASE62 + "-_", 35), 0.99),
    "npm token": ("publish with {}", after("np" + "m_", BASE62, 36), 0.99),
    "SendGrid key": ("mail goes by {}", lambda draw: f"S{'G.'}{of(BASE62 + '-_', 22)(draw)}.{of(BASE62 + '-_', 43)(draw)}", 1.0),
    "JWT": ("header was {} today", jwt, 1.0),
    "private key": ("here:\n{}\nthanks", private_key, 1.0),
    "32 hexadecimal digits": ("it is {} I think", of("0123456789abcdef", 32), 1.0),
    "UUID": ("it is {} I think", lambda draw: str(uuid.UUID(int=draw.getrandbits(128), version=4)), 1.0),
    "32 letters and digits": ("it is {} I think", of(BASE62, 32), 0.99),
    "32 small letters and digits": ("it is {} I think", of(string.ascii_lowercase + string.digits, 32), 0.99),
    "32 letters": ("it is {} I think", of(LETTERS, 32), 0.8),
    "password in an address": ("db is postgres://app:{}@db.example.org/app", of(BASE62, 12), 1.0),
    "generated password of 16, alone": ("{}", generated, 0.85),
    "`password:` and a word or two": ("password: {}", lambda draw: "".join(draw.sample(WORDS, 2)), 1.0),
    "four words, alone": ("{}", lambda draw: "-".join(draw.sample(WORDS, 4)), 0.0),
}
"""What is written around a secret, the secret, and the share that is found at least."""


def shares() -> dict[str, float]:
    """Of each kind the share of which not six characters in a row are left."""
    draw, found = random.Random(20), dict[str, float]()
    for kind, (around, make, _) in KINDS.items():
        whole = 0
        for _ in range(EACH):
            secret = make(draw)
            left = redact(around.format(secret)).text
            whole += not any(secret[at : at + 6] in left and secret[at : at + 6] not in around for at in range(len(secret) - 5))
        found[kind] = whole / EACH
    return found


def test_the_page_says_how_much_is_found():
    """The table is what is measured, and no kind is found less than it was."""
    page = (Path(__file__).parents[2] / "docs" / "labeling.md").read_text("utf-8")
    table = re.findall(r"^\| (.+?) \| (\d+(?:\.\d)?) % \|$", page, re.MULTILINE)
    measured = shares()

    assert table == [(kind, f"{100 * share:.1f}".removesuffix(".0")) for kind, share in measured.items()]
    assert len(KINDS) == 20
    assert {kind for kind, (_, _, least) in KINDS.items() if measured[kind] < least} == set()
