"""Slack exports in every state: damaged, lying, or with secrets in them. Nothing is lost in silence."""

import os
import stat
import struct
import zipfile
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beepgpt.connectors.slack.export import KINDS, BadExport, open_export, strip_secrets
from beepgpt.errors import NoSuchInput
from tests.support.exports import GENERAL, HELLO, days_of, unpacked, with_day, zipped


@pytest.fixture(params=[zipped, unpacked])
def make(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize(
    ("raw", "reason", "detail"),
    [
        (b"", "day_file_empty", "nothing"),
        (b" \n", "day_file_empty", "nothing"),
        (b"<html>", "day_file_not_json", "line 1 column 1"),
        (b'[{"text": "a"}', "day_file_not_json", "line 1 column"),
        (b'[{"text": "a\0b"}]', "day_file_not_json", "NUL bytes"),
        (b"\0" * 100, "day_file_not_json", "NUL bytes"),
        (b"[" * 5_000 + b"]" * 5_000, "day_file_not_json", "depth limit"),
        (b'{"messages": []}', "day_file_not_a_list", "not dict"),
        (b"null", "day_file_not_a_list", "not NoneType"),
        (b'["caf\xe9"]', "day_file_not_utf8", "at byte 5"),
    ],
)
def test_a_day_file_that_cannot_be_read_is_a_reject(raw, reason, detail, tmp_path):
    """Reading goes on with the next day, and the reject has place, bytes and reason."""
    before, day, after = with_day(tmp_path, raw)

    [reject] = day.rejects
    assert (reject.reason, reject.place, reject.record) == (reason, "general/2022-01-02.json", raw)
    assert detail in reject.detail
    assert day.messages == []
    assert before.messages == after.messages == HELLO


def test_a_byte_order_mark_is_no_error(tmp_path):
    """Some editor saved the file."""
    assert with_day(tmp_path, b"\xef\xbb\xbf" + orjson.dumps(HELLO))[1].messages == HELLO


def test_half_an_emoji_does_not_cost_the_day(tmp_path):
    """Text that was cut inside of an emoji; whole ones and escaped backslashes stay."""
    day = with_day(tmp_path, rb'["cut \ud83d", "whole \ud83d\ude00", "\\ud83d", "\ude00"]')[1]

    assert day.messages == ["cut �", "whole 😀", "\\ud83d", "�"]


def test_a_damaged_member_is_a_reject(tmp_path):
    """One flipped byte in a zip costs one day."""
    text = "".join(f"{number:x} " for number in range(3_000))
    path = zipped(tmp_path, ("channels.json", GENERAL), ("general/2022-01-01.json", [text]), ("general/2022-01-02.json", HELLO))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(raw)

    damaged, whole = days_of(open_export(path))

    assert [reject.reason for reject in damaged.rejects] == ["day_file_damaged"]
    assert whole.messages == HELLO


def test_a_message_of_a_megabyte_is_read(tmp_path):
    """It compresses a thousandfold and is no bomb yet."""
    assert with_day(tmp_path, orjson.dumps(["x" * 1_000_000]))[1].messages == ["x" * 1_000_000]


def test_a_day_file_that_is_a_zip_bomb_is_a_reject(tmp_path):
    """40 MB of nothing in 40 KB; its beginning is kept, and reading goes on."""
    _, bomb, after = with_day(tmp_path, b"[" + b" " * 40_000_000 + b"]")

    assert [(reject.reason, len(reject.record)) for reject in bomb.rejects] == [("day_file_zip_bomb", 2**20)]
    assert after.messages == HELLO


def test_a_day_file_that_is_too_large_is_a_reject(make, tmp_path):
    """The limit holds in a zip and in a folder."""
    path = make(tmp_path, ("channels.json", GENERAL), ("general/2022-01-02.json", ["x" * 2_000]))

    [day] = days_of(open_export(path, max_day_file=1_000))

    assert [reject.reason for reject in day.rejects] == ["day_file_too_large"]


def test_a_zip_that_lies_about_its_sizes_is_bounded(tmp_path):
    """What the directory says of a bomb is not believed: the bytes are counted as they come."""
    path = zipped(tmp_path, ("channels.json", GENERAL), ("general/2022-01-02.json", b" " * 40_000_000))
    raw = bytearray(path.read_bytes())
    at = raw.rfind(b"PK\x01\x02")
    struct.pack_into("<I", raw, at + 24, 10)
    path.write_bytes(raw)

    [day] = days_of(open_export(path))

    assert [reject.reason for reject in day.rejects] == ["day_file_damaged"]


def test_a_zip_that_is_all_bomb_is_refused(tmp_path):
    """By its own directory it would unpack to gigabytes."""
    path = zipped(tmp_path, ("channels.json", GENERAL), *((f"general/2022-01-0{day}.json", b" " * 1_000) for day in (1, 2)))
    raw = bytearray(path.read_bytes())
    struct.pack_into("<I", raw, raw.rfind(b"PK\x01\x02") + 24, 2**32 - 2)
    path.write_bytes(raw)

    with pytest.raises(BadExport, match="zip bomb"):
        open_export(path)


def test_other_compressions_are_not_inflated(tmp_path):
    """Python's bzip2 and LZMA readers inflate without a bound."""
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("general/2022-01-02.json", b"[]")

    [day] = days_of(open_export(path, KINDS))

    assert [reject.reason for reject in day.rejects] == ["day_file_unreadable"]


def test_a_path_that_is_not_there(tmp_path):
    """The message names it."""
    with pytest.raises(NoSuchInput, match=r"nowhere\.zip: there is no such file or folder"):
        open_export(tmp_path / "nowhere.zip")


def test_a_file_that_is_no_zip(tmp_path):
    """A text, an empty file, a gzip."""
    for raw in (b"hello", b"", b"\x1f\x8b\x08\0"):
        (tmp_path / "export.zip").write_bytes(raw)
        with pytest.raises(BadExport, match="neither a zip file nor a folder"):
            open_export(tmp_path / "export.zip")


def test_a_zip_of_a_newer_format_is_not_called_damaged(tmp_path):
    """Downloading it again would not help."""
    path = zipped(tmp_path, ("channels.json", GENERAL))
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 6] = 99  # the version that is needed to read the file
    path.write_bytes(raw)
    with pytest.raises(BadExport, match=r"can't be read here \(zip file version 9\.9\): unpack it, and give the folder"):
        open_export(path)


def test_a_zip_that_is_cut_short(tmp_path):
    """Wherever the download broke off, it is said so."""
    raw = zipped(tmp_path, ("channels.json", GENERAL), ("general/2022-01-02.json", HELLO)).read_bytes()
    path = tmp_path / "cut.zip"
    for length in range(4, len(raw), 7):
        path.write_bytes(raw[:length])
        with pytest.raises(BadExport, match=r"cut short or damaged.*download it again"):
            open_export(path)


@settings(max_examples=200, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8))
def test_no_damage_to_a_zip_is_a_foreign_exception(changes, tmp_path_factory):
    """Whatever bytes are changed: it is a bad export, or it is read, with rejects or without."""
    folder = tmp_path_factory.mktemp("damaged")
    path = zipped(folder, ("channels.json", GENERAL), ("general/2022-01-01.json", HELLO), ("général/2022-01-02.json", HELLO))
    raw = bytearray(path.read_bytes())
    for at, value in changes:
        raw[at % len(raw)] = value
    path.write_bytes(raw)

    try:
        days = days_of(open_export(path, KINDS))
    except BadExport:
        return
    assert all(isinstance(day.messages, list) for day in days)


def test_an_encrypted_member_is_a_reject(tmp_path):
    """Nobody is asked for a password."""
    path = zipped(tmp_path, ("channels.json", GENERAL), ("general/2022-01-02.json", HELLO))
    raw = bytearray(path.read_bytes())
    raw[raw.rfind(b"PK\x01\x02") + 8] |= 1
    raw[raw.rfind(b"PK\x03\x04") + 6] |= 1
    path.write_bytes(raw)

    [day] = days_of(open_export(path))

    assert [reject.reason for reject in day.rejects] == ["day_file_unreadable"]


def test_a_day_file_that_may_not_be_read_is_a_reject(own_folder):
    """In a folder, permissions are a day's own."""
    path = unpacked(own_folder, ("channels.json", GENERAL), ("general/2022-01-02.json", HELLO))
    (path / "general" / "2022-01-02.json").chmod(0)

    [day] = days_of(open_export(path))

    assert [reject.reason for reject in day.rejects] == ["day_file_unreadable"]


def test_a_day_file_that_vanishes_is_a_reject(tmp_path):
    """The folder was tidied while it was read."""
    path = unpacked(tmp_path, ("channels.json", GENERAL), ("general/2022-01-02.json", HELLO))
    export = open_export(path)
    (path / "general" / "2022-01-02.json").unlink()

    [day] = days_of(export)

    assert [reject.reason for reject in day.rejects] == ["day_file_unreadable"]


def test_pipes_and_devices_in_a_folder_are_no_files(tmp_path):
    """Reading one would wait for ever."""
    path = unpacked(tmp_path, ("channels.json", GENERAL), ("general/2022-01-02.json", HELLO))
    os.mkfifo(path / "general" / "2022-01-03.json", stat.S_IRUSR | stat.S_IWUSR)

    assert [day.place for day in days_of(open_export(path))] == ["general/2022-01-02.json"]


@pytest.mark.parametrize(
    ("raw", "stripped"),
    [
        (rb'"https:\/\/files.slack.com\/T0-F0\/cat.png?t=xoxe-12-34-ab"', rb'"https:\/\/files.slack.com\/T0-F0\/cat.png"'),
        (rb'"https://files.slack.com/cat.png?token=xoxe-1-ab&size=2"', rb'"https://files.slack.com/cat.png?size=2"'),
        (rb'"https://slack.com/x?a=1&amp;t=xoxe-1-ab&amp;b=2"', rb'"https://slack.com/x?a=1&amp;b=2"'),
        (rb'"https://slack.com/x?a=1\u0026t=xoxe-1-ab\u0026b=2"', rb'"https://slack.com/x?a=1\u0026b=2"'),
        (rb'"https://slack.com/x?pub_secret=0a1b2c3d"', rb'"https://slack.com/x"'),
        (rb'"mine:\nxoxb-12-34-AbCd\nyours?"', rb'"mine:\n\nyours?"'),
        (rb'"xoxe.xoxp-1-Mi0yLTk, xapp-1-A0B1-22-ff, xoxd-a%2Fb\/c+d=="', rb'", , "'),
        (rb'"love, xoxo-Ana"', rb'"love, xoxo-Ana"'),
        (rb'"https://youtu.be/x?v=1&t=120s and ?token=of-thanks"', rb'"https://youtu.be/x?v=1&t=120s and ?token=of-thanks"'),
    ],
)  # fmt: skip
def test_secrets_are_stripped(raw, stripped):
    """Tokens go, in addresses with the parameter that carries them; people's own words stay."""
    assert strip_secrets(raw) == stripped
    orjson.loads(stripped)


def test_secrets_are_stripped_from_days_and_from_rejects(tmp_path):
    """The dead letters must not carry them either."""
    _, day, _ = with_day(tmp_path, b'[{"url_private": "https:\\/\\/x\\/y?t=xoxe-1-2"}]')
    assert day.messages == [{"url_private": "https://x/y"}]

    _, day, _ = with_day(tmp_path, b'{"url_private": "https:\\/\\/x\\/y?t=xoxe-1-2"')
    assert day.rejects[0].record == b'{"url_private": "https:\\/\\/x\\/y"'


PARTS = [
    "\\",
    "/",
    "&",
    "&amp;",
    "?",
    "t=",
    "token=",
    "pub_secret=",
    "xoxe-1-ab",
    "xoxd-a",
    "xoxe.",
    "\n",
    '"',
    "u0026",
    "%2F",
    "é",
    "a",
]


@settings(max_examples=300, deadline=None)
@given(parts=st.lists(st.sampled_from(PARTS), max_size=12), escaped=st.booleans())
def test_stripping_leaves_json(parts, escaped):
    """Whatever stands around a token, and however the text is escaped, it stays JSON and the token goes."""
    raw = orjson.dumps(["".join(parts)])
    if escaped:
        raw = raw.replace(b"/", b"\\/").replace(b"&", b"\\u0026")

    stripped = strip_secrets(raw)

    orjson.loads(stripped)
    assert b"xoxe-1" not in stripped
