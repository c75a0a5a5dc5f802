"""What must not leave for a provider is taken out of any text, once and for all, and in a time that the text's length alone decides."""

from __future__ import annotations

import base64
import random
import string
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from stdnum import luhn

from beepgpt.labeling.redaction import KINDS, Redacted, redact

SUFFIX = "\n\n###\n\n"
KEY = "aB3dE5gH7jK9mN1pQ2rS4tU6"
"""Nobody's."""
HEX = "9f86d081884c7d659a2feaa0c55ad015"
PRIVATE_KEY = "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join([base64.b64encode(bytes(range(48))).decode()] * 3)


@pytest.mark.parametrize(
    "secret",
    [
        KEY,
        HEX,
        "9f86d081-884c-7d65-9a2f-eaa0c55ad015",
        "AKIA" + "Z" * 16,
        "ghp_" + "a" * 36,
        "glpat-" + "x" * 20,
        "xox" + "b-12345-abcde",
        "xoxe.xox" + "p-1-abc",
        "xapp-1-A0-1-abc",
        "https://hooks.slack.com/" + "services/T000/B000/XXXX",
        "sk_" + "live_" + "a" * 24,
        "SG." + "a" * 22 + "." + "b" * 43,
        "SK" + "a" * 32,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-def_ghi",
        "a" * 32 + "-us12",
        PRIVATE_KEY + "\n-----END RSA PRIVATE KEY-----",
        PRIVATE_KEY,
        PRIVATE_KEY.replace("\n", " "),
    ],
)
def test_a_secret_is_known_by_its_form(secret: str):
    """Keys, tokens, hashes and addresses with a password in them go as a whole, wherever they stand."""
    assert redact(f"here: {secret} and more").text == "here: [secret] and more"
    assert redact(f"鍵は「{secret}」です").text == "鍵は「[secret]」です"
    assert redact(secret + SUFFIX) == Redacted("[secret]" + SUFFIX, {"secret": 1})


def test_an_address_shows_no_password():
    """Nor who it belongs to."""
    assert redact("see https://ana:swordfish@example.org/path").text == "see https[secret]example.org/path"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("the password is hunter2.", "the password is [secret]."),
        ("Password: 'x9!'z", "Password: 'x9!'z"),  # too short to be told from a word
        ("pwd=12345678, then go", "pwd=[secret], then go"),
        ("PASSWORT： geheim1", "PASSWORT： [secret]"),
        ("la contraseña: abc123", "la contraseña: [secret]"),
        ("パスワードは abc123", "パスワードは [secret]"),
        ('{"api_key": "abcd1234"}', '{"api_key": "[secret]"}'),
        ("hapikey=abcd1234&limit=1", "hapikey=[secret]"),
        ("curl -H 'Authorization: Bearer abcd1234'", "curl -H 'Authorization: Bearer [secret]'"),
        ("Authorization: Basic YW5hOmh1bnRlcjI=", "Authorization: Basic [secret]"),
        ("client_secret := abcd1234", "client_secret := [secret]"),
        ("password: correcthorse", "password: [secret]"),
        ("user ana, password: correcthorse.\nbye", "user ana, password: [secret].\nbye"),
        ('{"password": "correcthorse", "a": 1}', '{"password": "[secret]", "a": 1}'),
        ("the password is `swordfish`, try it", "the password is `[secret]`, try it"),
    ],
)
def test_a_secret_is_known_by_its_name(text: str, left: str):
    """What stands behind a name for secrets goes, if it is none of the words that stand there, too."""
    assert redact(text).text == left


@pytest.mark.parametrize(
    "address", ["ana@example.org", "ana.b+list@mail.example.co.uk", "o'ana_1@example.org", "jörg@müller.de", "ana＠example.org", "1@2.com"]
)
def test_an_address_goes(address: str):
    """Whatever is written around it."""
    assert "example" not in redact(f"write to {address}, please").text
    assert redact(f"write to <{address}>.").counts == {"email": 1}
    assert redact(f"({address})").text.endswith("[email])")


def test_an_address_in_a_script_without_spaces_ends_where_the_sentence_goes_on():
    """So that the rest of it can be read."""
    assert redact("連絡先はana@example.orgです").text == "連絡先は[email]です"


@pytest.mark.parametrize(
    "phone",
    [
        "+1 202-555-0123",
        "+12025550123",
        "+49 (0) 30 901820",
        "+81 3-4545-0450",
        "＋８１ ３－４５４５－０４５０".replace("－", "-"),
        "+44 20 7946 0958",
        "(202) 555-0123",
        "202-555-0123",
        "202.555.0123",
        "030 901820-22",
        "(030) 90182022",
        "06 12 34 56 78",
        "06.12.34.56.78",
        "03-1234-5678",
        "07700 900123",
    ],
)
def test_a_phone_number_goes(phone: str):
    """As people write it, abroad, in America, and within a country."""
    assert redact(f"so {phone}, or so").text == "so [phone], or so"
    assert redact(f"so {phone}{SUFFIX}") == Redacted(f"so [phone]{SUFFIX}", {"phone": 1})


@pytest.mark.parametrize("before", ["phone: ", "Tel. ", "call me on ", "WhatsApp - ", "my mobile is ", "電話："])
def test_digits_alone_are_a_phone_number_if_they_are_called_so(before: str):
    """Ten digits may be anything; behind such a word they are not."""
    assert redact(f"{before}2025550123").text == f"{before}[phone]"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("card 4111 1111 1111 1111 thanks", "card [card] thanks"),
        ("4111-1111-1111-1111 123", "[card] 123"),
        ("378282246310005", "[card]"),
        ("６０１１１１１１１１１１１１１７", "[card]"),
        ("2 5555555555554444", "2 [card]"),
        ("DE89 3704 0044 0532 0130 00 IS MINE", "[iban] IS MINE"),
        ("GB29NWBK60161331926819.", "[iban]."),
    ],
)
def test_numbers_that_add_up_go(text: str, left: str):
    """Cards by Luhn's sum, accounts by their own, whatever numbers stand beside them."""
    assert redact(text).text == left


NETWORKS = {
    "Visa": (("4",), 16),
    "Mastercard": (("51", "53", "55", "2221", "2345", "2720"), 16),
    "American Express": (("34", "37"), 15),
    "Discover": (("6011", "644", "65"), 16),
    "JCB": (("3528", "3589"), 16),
    "Diners Club": (("300", "36", "38"), 14),
    "Maestro": (("5018", "5893", "6304", "6759"), 16),
    "UnionPay": (("62", "6222"), 19),
    "Mir": (("2200", "2204"), 16),
}
"""What the numbers of a network's cards begin with, and how many digits they have."""


@given(data=st.data(), network=st.sampled_from(sorted(NETWORKS)), gap=st.sampled_from(["", " ", "-"]))
def test_a_card_of_any_network_goes(data: st.DataObject, network: str, gap: str):
    """By the first digits that the networks have, in groups of four or in one."""
    begins, length = NETWORKS[network]
    number = data.draw(st.sampled_from(begins))
    number += data.draw(st.text("0123456789", min_size=length - 1 - len(number), max_size=length - 1 - len(number)))
    number += luhn.calc_check_digit(number)
    written = gap.join(number[at : at + 4] for at in range(0, length, 4))

    assert redact(f"pay with {written} please") == Redacted("pay with [card] please", {"card": 1})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "old thread in random channel\n\nand a reply" + SUFFIX,
        "the token is missing, and the secret: ask Ana. Password: required. API key: string",
        "Basic subscription, Bearer authentication",
        "Password: please ask Ana. Password: required\nthe password is wrong",
        "forgot the password? password: string; password=get_password()",
        "README.md:7-8 iPhone15ProMax Next.js(v15), @Scope/cms-cli@1.0.11 HTTPie/3.2.1",
        "&lt;h2&gt;Price&lt;/h2&gt; /files/U2H1YLSE6/FA2CM7YRY/a.png",
        "getContactsByCompanyIdV3 module_15695960690254 hs_email_optout_4900834 X-HubSpot-signature-v3 com.example.app-2.0.1",
        "a-very-long-name-of-a-branch-in-2023 docs/api/crm/v3/objects/contacts/batch/read",
        "npm i client@3.4.1 deploy-action@v1.5 @here me@ana @media(min-width:1280px) 5 @ 3.50",
        "portal 20837465 and 1690360253 and 1690360253.041239 and 2025550123 and 4111111111111112",
        "on 2024-01-31 10:30:45, 04/05/2023 12:30, 31.12.2023, at 10.15.7.123, v0.1.3 0.1.3 0.2.3, 100 000 000 rows, 1,000,000,000",
        "C024BE91L:1690360240.229079:thread",
        "-----BEGIN CERTIFICATE-----",
        "xoxo-ana",
        "スレッドの件、12月31日までに 1000000000 円です",
        "[email] [phone] [card] [iban] [secret]",
    ],
)
def test_what_people_write_stays(text: str):
    """Words about secrets, names of things, versions, dates, ids, and what was redacted before."""
    assert redact(text) == Redacted(text, {})


def test_what_was_taken_out_is_counted_by_kind():
    """What was not there is not told, and what stood there already is not counted."""
    text = f"[email] ana@example.org, bo@example.org; {KEY}"

    assert redact(text).counts == {"secret": 1, "email": 2}


def test_what_is_long_hides_no_secret():
    """A token in the middle of an endless run, across any of the pieces that forms look at."""
    rng = random.Random(5)
    for _ in range(50):
        run = "/" * rng.randrange(2_000) + "ghp_" + "a" * 36 + ":" * rng.randrange(2_000)

        assert "ghp_" not in redact(run).text


@pytest.mark.parametrize("alphabet", [string.ascii_letters + string.digits, string.hexdigits.lower()[:16]])
def test_most_of_what_was_drawn_by_lot_goes(alphabet: str):
    """Of 2,000 random keys of 32 characters, with no word beside them, fewer than 3 % stay."""
    rng = random.Random(5)
    keys = ["".join(rng.choices(alphabet, k=32)) for _ in range(2_000)]

    assert sum(redact(key).text == key for key in keys) < 0.03 * len(keys)


# Any text

FRAGMENTS = st.sampled_from(
    [
        *(
            "[secret]",
            "[email]",
            "[",
            "]",
            " ",
            "\n\n",
            ".",
            "-",
            "/",
            ":",
            "+",
            "(",
            ")",
            "@",
            "=",
            "0",
            "1",
            "4111",
            "555",
            "a",
            "日",
            "é",
        ),
        *("a@b.co", "@b.co", "+1 202-555-0123", "202-555-", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00", "phone ", "call me "),
        *(
            "password: ",
            "token=",
            "api key is ",
            "Bearer ",
            "hunter2",
            KEY,
            HEX,
            "xoxb-",
            "1-a",
            "AKIA",
            "ZZZZZZZZZZZZZZZZ",
            "eyJ",
            "://a:b@",
        ),
        *("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "abcdefghijklmnopqrstuvwxyz", "PRIVATE KEY"),
    ]
)
TEXTS = st.one_of(
    st.text(),
    st.text(st.characters(codec=None)),  # with halves of surrogate pairs
    st.text("0123456789 ()+-./"),
    st.lists(st.one_of(FRAGMENTS, st.text(max_size=3)), max_size=25).map("".join),
)


@example("--BEGIN PRIVATE KEY--[secret]--END --")
@given(TEXTS)
def test_what_was_redacted_stays_as_it_is(text: str):
    """Any text comes through, and a second time changes nothing."""
    once = redact(text)

    assert redact(once.text) == Redacted(once.text, {})
    assert set(once.counts) <= set(KINDS)
    assert bool(once.counts) == (once.text != text)


@given(TEXTS, TEXTS)
def test_what_is_about_an_address_does_not_save_it(before: str, behind: str):
    """Whatever stands before it and behind it."""
    assert "ana.b@example.org" not in redact(f"{before} ana.b@example.org {behind}").text


HOSTILE = [
    *("a", "@", "a@", "a.", "a@b.", "a@b.c1.", "a-", "-", "=", "%", "[", "日本1", "\u202a+1 ", "[email] a@b.co", "\n", "."),
    *("1", "1 ", "0", "01 ", "(0", "+1 202-555-0123 ", "+1202555012 ", "202-555-", "4111 ", "4111 1111 1111 1112 ", "call me ", "phone 1"),
    *("DE89 ", "DE89370400440532013001 ", "AB12CD34 ", "1.1.1.", "０"),
    *("token", "token: ", "token=a1", "password is ", "pass1word: x9 ", "Bearer ", "Bearer a1", "xox", "xoxb-", "eyJ", "eyJ.", "sk-"),
    *(
        "sk-aaaaaaaaaaaaaaaaaaaa",
        "//",
        "://a:",
        "://a:b@",
        "AKIA",
        "AKIAAAAAAAAAAAAAAAAA",
        "AC00000000000000000000000000000000",
        "aws key '",
    ),
    *(
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY----- aaaaaaaaaaaaaaaaaaaaaaaa ",
        "--",
        "-BEGIN PRIVATE KEY",
        "a1B",
        "0:",
    ),
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_no_text_takes_more_time_than_its_length_allows(unit: str):
    """100 kB of what makes expressions go back and forth: four times the text, about four times the time, and that is short."""
    quarter, whole = (seconds(unit, length) for length in (25_000, 100_000))

    assert whole < 8 * quarter + 0.2
    assert whole < 10


def seconds(unit: str, length: int) -> float:
    """Of the processor's time, so that what else runs doesn't count."""
    text = (unit * length)[:length]
    started = time.process_time()
    redact(text)
    return time.process_time() - started
