"""Slack exports of every shape and state, from table of contents to dataflow."""

import os
import stat
import struct
import unicodedata
import zipfile
from collections.abc import Iterator
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import bytewax.operators as op
import orjson
import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import AbortExecution
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, run_main
from hypothesis import given, settings
from hypothesis import strategies as st

from beepgpt.connectors.slack.export import (
    KINDS,
    BadExport,
    DayElements,
    Export,
    ExportSource,
    UnreadableDay,
    open_export,
    read_days,
    strip_secrets,
)
from beepgpt.connectors.slack.export.days import CHUNK, ExportChunk

DATA = Path(__file__).parents[3] / "shared" / "data"
MESSAGES = {"dd2030": 10_223, "houstondatavis-scrubbed": 1_382, "hubspot-dev-2016-2023": 177_171, "ubuntu-irc-train-dev": 227_223}

HELLO = [{"type": "message", "user": "U1", "text": "hello", "ts": "1641081600.000100"}]
GENERAL = [{"id": "C1", "name": "general"}]


def as_bytes(content: Any) -> bytes:
    return content if isinstance(content, bytes) else orjson.dumps(content)


def zipped(tmp_path: Path, *files: tuple[str, Any], name: str = "export.zip") -> Path:
    """A zip of these files, in this order, doubles too."""
    path = tmp_path / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in files:
            archive.writestr(zipfile.ZipInfo(file), as_bytes(content), zipfile.ZIP_DEFLATED)
    return path


def unpacked(tmp_path: Path, *files: tuple[str, Any]) -> Path:
    folder = tmp_path / "export"
    for file, content in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_bytes(content))
    return folder


def with_day(tmp_path: Path, raw: bytes) -> list[DayElements]:
    """An export whose second of three days is `raw`, read."""
    days = [("general/2022-01-01.json", HELLO), ("general/2022-01-02.json", raw), ("general/2022-01-03.json", HELLO)]
    return days_of(open_export(zipped(tmp_path, ("channels.json", GENERAL), *days)))


def days_of(export: Export) -> list[DayElements]:
    return [day for channel in export.channels for day in read_days(export, channel)]


def ids(export: Export) -> list[str]:
    return [channel.id for channel in export.channels]


@pytest.fixture(params=[zipped, unpacked])
def make(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_an_export_is_a_zip_or_a_folder(make, tmp_path):
    """Channels are ordered by id, days by date, and messages come as they are."""
    path = make(
        tmp_path,
        ("channels.json", [{"id": "C2", "name": "random"}, {"id": "C1", "name": "general"}]),
        ("general/2022-01-10.json", HELLO),
        ("general/2022-01-02.json", []),
        ("random/2022-01-02.json", [1, "two", None, {"ts": "no time"}]),
    )

    export = open_export(path)

    assert [(channel.id, channel.name, channel.kind) for channel in export.channels] == [
        ("C1", "general", "channels"),
        ("C2", "random", "channels"),
    ]
    assert days_of(export) == [
        DayElements(date(2022, 1, 2), "general/2022-01-02.json", [], []),
        DayElements(date(2022, 1, 10), "general/2022-01-10.json", HELLO, []),
        DayElements(date(2022, 1, 2), "random/2022-01-02.json", [1, "two", None, {"ts": "no time"}], []),
    ]


def test_an_export_may_stand_one_folder_deep(make, tmp_path):
    """Also beside the junk that macOS adds, which is no channel."""
    path = make(
        tmp_path,
        ("__MACOSX/Acme export/._channels.json", b"\0\5\26\7"),
        ("__MACOSX/Acme export/general/._2022-01-02.json", b"\0\5\26\7"),
        ("Acme export/.DS_Store", b"\0\0\0\1Bud1"),
        ("Acme export/channels.json", GENERAL),
        ("Acme export/general/2022-01-02.json", HELLO),
        ("Acme export/general/._2022-01-02.json", b"\0\5\26\7"),
    )

    export = open_export(path)

    assert ids(export) == ["C1"]
    assert days_of(export) == [DayElements(date(2022, 1, 2), "general/2022-01-02.json", HELLO, [])]


def test_private_channels_are_off_by_default(make, tmp_path):
    """Each kind is read by its own name only."""
    path = make(
        tmp_path,
        ("channels.json", GENERAL),
        ("groups.json", [{"id": "G1", "name": "secret"}]),
        ("dms.json", [{"id": "D1", "members": ["U1", "U2"]}]),
        ("mpims.json", [{"id": "G2", "name": "mpdm-ana--bo-1"}]),
        *((f"{folder}/2022-01-02.json", HELLO) for folder in ("general", "secret", "D1", "mpdm-ana--bo-1")),
    )

    assert ids(open_export(path)) == ["C1"]
    assert [channel.id for channel in open_export(path).left_out] == ["D1", "G1", "G2"]
    assert ids(open_export(path, ["dms"])) == ["D1"]
    assert ids(open_export(path, ["groups", "mpims"])) == ["G1", "G2"]
    assert len(days_of(open_export(path, KINDS))) == 4


def test_an_unknown_kind_is_named(tmp_path):
    """What a caller got wrong is not taken for an empty export."""
    with pytest.raises(ValueError, match="no such kind of channel: gruops"):
        open_export(tmp_path, ["gruops"])  # type: ignore[list-item]


def test_a_folder_that_is_not_listed_keeps_its_name(make, tmp_path):
    """No channels.json is needed; what is private by its name stays private."""
    path = make(tmp_path, *((f"{folder}/2022-01-02.json", HELLO) for folder in ("old-stuff", "D024BE91L", "mpdm-ana--bo-1")))

    export = open_export(path)

    assert ids(export) == ["old-stuff"]
    assert {channel.id: channel.kind for channel in export.left_out} == {"D024BE91L": "dms", "mpdm-ana--bo-1": "mpims"}


def test_a_channel_listed_twice_is_private_if_either_listing_is(tmp_path):
    """A channel that was made private stands in both files."""
    path = zipped(tmp_path, ("channels.json", GENERAL), ("groups.json", GENERAL), ("general/2022-01-02.json", HELLO))

    assert ids(open_export(path)) == []


def test_an_export_of_2026_has_more_beside_the_channels(make, tmp_path):
    """Canvases, lists and their comments are no channels; what was not read is reported."""
    path = make(
        tmp_path,
        ("channels.json", GENERAL),
        ("file_conversations.json", [{"id": "C9", "name": "FC:F07ABCDEF:Plan"}]),
        ("integration_logs.json", []),
        ("huddle_transcripts.json", []),
        ("general/2022-01-02.json", HELLO),
        ("general/canvas_in_the_conversation.json", []),
        ("general/2022-13-45.json", HELLO),
        ("FC:F07ABCDEF:Plan/2022-01-02.json", HELLO),
        ("canvases/2022-01-02.json", HELLO),
        ("general/attachments/2022-01-02.json", HELLO),
    )

    export = open_export(path)

    assert ids(export) == ["C1"]
    assert export.unread == (
        "FC:F07ABCDEF:Plan/2022-01-02.json",
        "canvases/2022-01-02.json",
        "general/2022-13-45.json",
        "general/attachments/2022-01-02.json",
        "general/canvas_in_the_conversation.json",
    )


@pytest.mark.parametrize("name", ["a/b", "🎉-party", "אבג‏-x", "運営がんばる", "naïve", "x" * 80])  # noqa: PLE2502
def test_channels_have_any_name(make, name, tmp_path):
    """Slashes, emoji, right-to-left marks, and both spellings of accents, in a zip and in a folder."""
    for number, folder in enumerate((unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))):
        (base := tmp_path / str(number)).mkdir()
        path = make(base, ("channels.json", [{"id": "C1", "name": name}]), (f"{folder}/2022-01-02.json", HELLO))

        export = open_export(path)

        assert [(channel.id, channel.name) for channel in export.channels] == [("C1", name)]
        assert [day.messages for day in days_of(export)] == [HELLO]


def test_names_in_utf8_that_the_zip_does_not_call_so(tmp_path):
    """Old zip programs leave the flag out, and Python reads mojibake."""
    name = "0412_運営"
    path = zipped(tmp_path, ("channels.json", [{"id": "C1", "name": name}]), (f"{name}/2022-01-02.json", HELLO))
    raw = path.read_bytes()
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for at in [at for at in range(len(raw)) if raw.startswith(signature, at)]:
            flags = struct.unpack_from("<H", raw, at + offset)[0] & ~0x800
            raw = raw[: at + offset] + struct.pack("<H", flags) + raw[at + offset + 2 :]
    path.write_bytes(raw)

    assert zipfile.ZipFile(path).namelist()[1] != f"{name}/2022-01-02.json"
    assert days_of(open_export(path)) == [DayElements(date(2022, 1, 2), f"{name}/2022-01-02.json", HELLO, [])]


def test_windows_and_dot_slash_names(tmp_path):
    """Some zip programs write backslashes, others begin every name with a dot."""
    windows = zipped(tmp_path, ("channels.json", GENERAL), ("general\\2022-01-02.json", HELLO), name="windows.zip")
    dotted = zipped(tmp_path, ("./channels.json", GENERAL), ("./general/2022-01-02.json", HELLO), name="dotted.zip")

    assert [day.place for day in days_of(open_export(windows))] == ["general/2022-01-02.json"]
    assert [day.place for day in days_of(open_export(dotted))] == ["general/2022-01-02.json"]


def test_names_that_climb_out_are_not_read(tmp_path):
    """Nothing is unpacked, so they are harmless; they are named all the same."""
    path = zipped(tmp_path, ("channels.json", GENERAL), ("../../general/2022-01-02.json", HELLO))

    export = open_export(path)

    assert days_of(export) == []
    assert export.unread == ("../../general/2022-01-02.json",)


def test_symbolic_links_are_not_followed(tmp_path):
    """Neither a file nor a folder of somebody else's gets into the examples."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "2022-01-03.json").write_bytes(orjson.dumps(HELLO))
    path = unpacked(tmp_path, ("channels.json", GENERAL), ("general/2022-01-02.json", HELLO))
    (path / "general" / "2022-01-03.json").symlink_to(elsewhere / "2022-01-03.json")
    (path / "private").symlink_to(elsewhere)

    export = open_export(path)

    assert [day.place for day in days_of(export)] == ["general/2022-01-02.json"]
    assert export.unread == ("general/2022-01-03.json", "private")


def test_a_day_file_that_stands_twice_in_the_zip(tmp_path):
    """The last one counts, as in every unzip; the earlier one is a reject."""
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = zipped(tmp_path, ("channels.json", GENERAL), ("general/2022-01-02.json", [1]), ("general/2022-01-02.json", HELLO))

    [day] = days_of(open_export(path))

    assert day.messages == HELLO
    assert [(reject.reason, reject.record) for reject in day.rejects] == [("day_file_repeated", b"[1]")]


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

    [day] = days_of(open_export(path))

    assert [reject.reason for reject in day.rejects] == ["day_file_unreadable"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no Slack export"),
        ([("notes.txt", b"hello"), ("users.json", [])], "no Slack export.*channels.json"),
        ([("a/b/channels.json", GENERAL)], r"Give the folder that has \(there is one in a/b\)"),
        ([("a/channels.json", GENERAL), ("b/channels.json", GENERAL)], r"several exports \(a, b\): unpack it"),
        ([("channels.json", b"<html>")], "channels.json can't be read .*line 1 column 1"),
        ([("channels.json", {})], "channels.json can't be read .*a list was expected"),
        ([("channels.json", b"")], "channels.json can't be read"),
        ([("groups.json", [{"id": "G1"}, "x"])], "entry 2 of groups.json is not an object"),
        ([("dms.json", [{"members": []}])], "entry 1 of dms.json has no id"),
        ([("channels.json", [{"id": "C1", "name": 5}])], "entry 1 of channels.json has a name that is no text"),
        (
            [("channels.json", GENERAL), ("groups.json", [{"id": "G1", "name": "general"}]), ("general/2022-01-02.json", HELLO)],
            "folder general may belong to C1 or G1",
        ),
        (
            [("channels.json", GENERAL), ("C1/2022-01-02.json", HELLO), ("general/2022-01-02.json", HELLO)],
            "folder general and another one both belong to C1",
        ),
    ],
)
def test_what_is_no_export_says_what_to_do(files, message, make, tmp_path):
    """The message names what was given, and the file and entry in it."""
    (tmp_path / "export").mkdir()
    path = make(tmp_path, *files)

    with pytest.raises(BadExport, match=message) as raised:
        open_export(path)
    assert str(raised.value).startswith(f"{path}: ")


def test_two_channels_of_one_name_without_messages_do_no_harm(tmp_path):
    """Only a folder that could be either's is a question."""
    path = zipped(tmp_path, ("channels.json", [*GENERAL, {"id": "C2", "name": "general"}]))

    assert ids(open_export(path)) == ["C1", "C2"]


def test_a_path_that_is_not_there(tmp_path):
    """The message names it."""
    with pytest.raises(BadExport, match=r"nowhere\.zip: there is no such file or folder"):
        open_export(tmp_path / "nowhere.zip")


def test_a_file_that_is_no_zip(tmp_path):
    """A text, an empty file, a gzip."""
    for raw in (b"hello", b"", b"\x1f\x8b\x08\0"):
        (tmp_path / "export.zip").write_bytes(raw)
        with pytest.raises(BadExport, match="neither a zip file nor a folder"):
            open_export(tmp_path / "export.zip")


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


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_day_file_that_may_not_be_read_is_a_reject(tmp_path):
    """In a folder, permissions are a day's own."""
    path = unpacked(tmp_path, ("channels.json", GENERAL), ("general/2022-01-02.json", HELLO))
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


# The source, in flows that run.


def records_of(channel: str, days: Iterator[DayElements]) -> Iterator[bytes]:
    """Stands in for the function that makes events of days."""
    for day in days:
        for number, message in enumerate(day.messages):
            yield orjson.dumps([channel, str(day.date), number, message])


def busy(tmp_path: Path) -> Export:
    """Three channels of 900 messages each, and a day that can't be read."""
    days = [(f"{name}/2022-01-0{day}.json", list(range(300))) for name in "abc" for day in (1, 2, 4)]
    return open_export(zipped(tmp_path, ("b/2022-01-03.json", b"oh no"), *days))


def flow_of(source: ExportSource, out: list[ExportChunk]) -> Dataflow:
    flow = Dataflow("export")
    op.output("write", op.input("read", flow, source), TestingSink(out))
    return flow


def values_of(chunks: list[ExportChunk]) -> list[bytes | UnreadableDay]:
    return [value for _, _, values in chunks for value in values]


def test_the_source_reads_channel_after_channel(tmp_path):
    """In chunks that are numbered, with a day's reject between the days around it; then the end is reported."""
    export = busy(tmp_path)
    out: list[ExportChunk] = []
    calls: list[Any] = []

    source = ExportSource(export, records_of, on_end=lambda: calls.append("end"), progress=lambda *seen: calls.append(seen))
    run_main(flow_of(source, out))

    expected = [record for channel in export.channels for record in records_of(channel.id, read_days(export, channel))]
    assert [value for value in values_of(out) if isinstance(value, bytes)] == expected
    assert [(partition, first, len(values)) for partition, first, values in out] == [
        ("export", 0, 1_000), ("export", 1_000, 1_000), ("export", 2_000, 701),
    ]  # fmt: skip
    at, reject = next((at, value) for at, value in enumerate(values_of(out)) if isinstance(value, UnreadableDay))
    assert (at, reject.reason, reject.place, reject.record) == (1_500, "day_file_not_json", "b/2022-01-03.json", b"oh no")
    assert [seen[0] for seen in calls[:-1]] == [1_000, 1_000, 701]
    shares = [seen[1] for seen in calls[:-1]]
    assert shares == sorted(shares) and shares[-1] == 1
    assert calls[-1] == "end"


def test_the_source_reads_only_what_is_wanted(tmp_path):
    """The other channels are some other process's."""
    out: list[ExportChunk] = []
    run_main(flow_of(ExportSource(busy(tmp_path), records_of, wanted=lambda channel: channel != "b"), out))

    assert {orjson.loads(value)[0] for value in values_of(out) if isinstance(value, bytes)} == {"a", "c"}


def test_a_stop_is_no_end(tmp_path):
    """`on_end` is not called when `stopping` says so."""
    out: list[ExportChunk] = []
    ends: list[str] = []
    run_main(flow_of(ExportSource(busy(tmp_path), records_of, stopping=lambda: len(out) == 2, on_end=lambda: ends.append("end")), out))

    assert (len(values_of(out)), ends) == (2_000, [])


def resumed(tmp_path: Path, source: ExportSource, out: list[ExportChunk]) -> None:
    """A run with a recovery store and a snapshot after every chunk."""
    store = tmp_path / "recovery"
    if not store.exists():
        store.mkdir()
        init_db_dir(store, 1)
    run_main(flow_of(source, out), epoch_interval=timedelta(0), recovery_config=RecoveryConfig(str(store)))


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    """Each record and reject comes once, in order, also when it was stopped after every chunk."""
    export = busy(tmp_path)
    out: list[ExportChunk] = []
    ends: list[str] = []
    for chunks in (1, 2, 3, 4):
        is_enough = partial(lambda chunks: len(out) == chunks, chunks)
        resumed(tmp_path, ExportSource(export, records_of, stopping=is_enough, on_end=lambda: ends.append("end")), out)

    once: list[ExportChunk] = []
    run_main(flow_of(ExportSource(export, records_of), once))
    assert (out, ends) == (once, ["end"])


def test_a_killed_run_goes_on_from_its_last_snapshot(tmp_path):
    """Nothing is missing; what came after the snapshot comes again with the same numbers."""
    export = busy(tmp_path)
    out: list[ExportChunk] = []

    def die(_count: int, _share: float) -> None:
        if out:
            raise AbortExecution

    resumed(tmp_path, ExportSource(export, records_of, progress=die), out)
    assert len(values_of(out)) == CHUNK
    resumed(tmp_path, ExportSource(export, records_of), out)

    by_number = {first: values for _, first, values in out}
    once: list[ExportChunk] = []
    run_main(flow_of(ExportSource(export, records_of), once))
    assert by_number == {first: values for _, first, values in once}


def test_another_export_is_not_resumed(tmp_path):
    """A channel with fewer records than were done is not the one that was read."""
    out: list[ExportChunk] = []
    resumed(tmp_path, ExportSource(busy(tmp_path), records_of, stopping=lambda: len(out) == 1), out)
    other = open_export(zipped(tmp_path, ("b/2022-01-01.json", HELLO), name="other.zip"))

    with pytest.raises(BaseException) as raised:
        resumed(tmp_path, ExportSource(other, records_of), out)

    assert "give the same export as before" in "".join(map(str, causes(raised.value)))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def test_large_records_make_small_chunks(tmp_path):
    """A thousand messages of a megabyte would be a gigabyte at once."""
    export = open_export(unpacked(tmp_path, ("a/2022-01-01.json", ["x" * 1_000_000 for _ in range(20)])))
    out: list[ExportChunk] = []
    run_main(flow_of(ExportSource(export, records_of), out))

    assert [len(values) for _, _, values in out] == [9, 9, 2]


@pytest.mark.realdata
@pytest.mark.parametrize("name", MESSAGES)
def test_real_exports_are_read_whole(name):
    """Every message of the real exports, and no reject."""
    if not (path := DATA / f"{name}.zip").exists():
        pytest.skip(f"the real data is not here: {path.name} is missing from ../shared/data")
    export = open_export(path)

    seen = rejected = 0
    for channel in export.channels:
        for day in read_days(export, channel):
            seen += len(day.messages)
            rejected += len(day.rejects)

    assert (seen, rejected, export.unread) == (MESSAGES[name], 0, ())


@pytest.mark.realdata
def test_an_export_is_not_loaded_whole():
    """65 MB of messages are read in far less memory than that."""
    if not (path := DATA / "hubspot-dev-2016-2023.zip").exists():
        pytest.skip("the real data is not here: ../shared/data is missing")
    import tracemalloc

    export = open_export(path)
    tracemalloc.start()
    try:
        for channel in export.channels[:12]:
            for _ in read_days(export, channel):
                pass
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
