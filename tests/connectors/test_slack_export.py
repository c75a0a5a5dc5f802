"""Slack exports of every shape: which channels and day files they hold."""

import struct
import unicodedata
import zipfile
from datetime import date
from typing import Any

import orjson
import pytest

from beepgpt.connectors.slack.export import KINDS, BadExport, DayElements, open_export
from beepgpt.runtime.places import origin_of
from tests.support.exports import GENERAL, HELLO, days_of, ids, unpacked, zipped


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
    """It is the id; nothing shows whether the channel is public, but for names that show that it isn't."""
    path = make(tmp_path, *((f"{folder}/2022-01-02.json", HELLO) for folder in ("old-stuff", "D024BE91L", "G024BE91L", "mpdm-ana--bo-1")))

    export = open_export(path)

    assert ids(export) == []
    assert {channel.id: channel.kind for channel in export.unlisted} == {
        "old-stuff": "unlisted", "D024BE91L": "dms", "G024BE91L": "groups", "mpdm-ana--bo-1": "mpims",
    }  # fmt: skip
    assert ids(open_export(path, ["unlisted"])) == ["old-stuff"]


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
    ("files", "message"),
    [
        ([], "no Slack export"),
        ([("notes.txt", b"hello"), ("users.json", [])], "no Slack export.*channels.json"),
        ([("a/b/channels.json", GENERAL)], r"Give the folder that has them \(there is one in a/b\)"),
        ([("a/channels.json", GENERAL), ("b/channels.json", GENERAL)], r"several exports \(a, b\): unpack it"),
        (
            [("slackdump.sqlite", b"SQLite format 3"), ("__uploads/F1/a.png", b"")],
            "a database of slackdump.*slackdump convert -f export",
        ),
        ([("workspace.json.gz", b""), ("C051D4052.json.gz", b"")], "an archive of slackdump.*slackdump convert -f export -o "),
        ([("channels.json", GENERAL), ("users.json", []), ("C051D4052.json", {"messages": []})], "a dump of slackdump.*slackdump convert"),
        ([("slackdump_1/C051D4052-1716200000.000100.json", {"messages": []})], "a dump of slackdump.*slackdump convert"),
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


@pytest.mark.parametrize(("name", "begins"), [("slackdump.sqlite", b"SQLite format 3\0 etc"), ("C051D4052.json", b'{\n "messages": []}')])
def test_a_file_of_slackdump_says_how_to_convert_it(name: str, begins: bytes, tmp_path):
    """One that is no export and no file of events."""
    path = tmp_path / name
    path.write_bytes(begins)

    with pytest.raises(BadExport, match=r"slackdump convert -f export -o \S+-export\.zip"):
        origin_of(str(path), ("channels",))
