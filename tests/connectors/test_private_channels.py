"""Nothing of an export that can't be shown to be public is read unasked, nor shown to people who are no members."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beepgpt.connectors.slack.export import KINDS, PUBLIC, BadExport, open_export, read_days
from beepgpt.connectors.slack.members import ListedMembers
from beepgpt.ingest.slack.web_queries import Channels
from beepgpt.runtime.left_out import left_out_of, notes_on, say_left_out

RAW = {"is_channel": True, "is_group": False, "is_im": False, "is_mpim": False, "is_private": False}
"""The flags of a public channel in Slack's `conversations.list`."""
GENERAL = {"id": "C0PUBLIC1", "name": "general", **RAW, "members": ["U0ANA", "U0BO"]}
LUNCH = [{"type": "message", "user": "U0ANA", "ts": "1716200000.000100", "text": "Lunch?"}]
SECRET = [{**LUNCH[0], "ts": f"171620000{n}.000100", "text": "Do not tell"} for n in range(3)]
PEOPLE = [{"id": user, "name": user.lower()} for user in ("U0ANA", "U0BO", "U0EVE")]


def exported(tmp_path: Path, folders: Mapping[str, Any], **listings: list[dict[str, Any]]) -> Path:
    """An export in a folder: listings by their names, and the first day of each folder."""
    path = tmp_path / "export"
    path.mkdir(parents=True)
    for name, entries in listings.items():
        (path / f"{name}.json").write_text(json.dumps(entries))
    for name, messages in folders.items():
        (path / name).mkdir()
        (path / name / "2024-05-20.json").write_text(json.dumps(messages))
    return path


def read(path: Path, *include: Any) -> set[str]:
    """The channels with messages that are read."""
    return {channel.id for channel in open_export(path, include or PUBLIC).channels if any(channel.days)}


def seen_by(path: Path, user: str, *channels: str) -> set[str]:
    """The channels that a person may be alerted to."""
    members = ListedMembers(path)
    return {channel for channel in channels if members.may_see(user, channel, members.person(user))}


def private_in_channels_json(tmp_path: Path) -> Path:
    board = {**RAW, "id": "C0SECRET1", "name": "board-only", "is_private": True, "members": ["U0ANA", "U0BO"]}
    return exported(tmp_path, {"general": LUNCH, "board-only": SECRET}, channels=[GENERAL, board], groups=[], users=PEOPLE)


def test_private_in_channels_json(tmp_path: Path):
    """A private channel made since March 2021 says so itself, wherever it is listed; only its members may be alerted to it."""
    path = private_in_channels_json(tmp_path)

    assert read(path) == {"C0PUBLIC1"}
    assert read(path, "channels", "groups") == {"C0PUBLIC1", "C0SECRET1"}
    assert read(path, "channels", "unlisted") == {"C0PUBLIC1"}
    assert seen_by(path, "U0EVE", "C0PUBLIC1", "C0SECRET1") == {"C0PUBLIC1"}
    assert seen_by(path, "U0BO", "C0PUBLIC1", "C0SECRET1") == {"C0PUBLIC1", "C0SECRET1"}


def test_dm_in_channels_json(tmp_path: Path):
    """The raw list of all conversations has direct messages, too, of two people and of several."""
    talk = {"id": "D0ANABO01", "is_im": True, "user": "U0BO"}
    group = {"id": "G0MPIM001", "name": "mpdm-ana--bo--eve-1", "is_mpim": True, "is_private": True, "members": ["U0ANA", "U0BO"]}
    folders = {"general": LUNCH, "D0ANABO01": SECRET, "mpdm-ana--bo--eve-1": SECRET}
    path = exported(tmp_path, folders, channels=[GENERAL, talk, group], users=PEOPLE)

    assert read(path) == {"C0PUBLIC1"}
    assert read(path, "channels", "groups", "unlisted") == {"C0PUBLIC1"}
    assert read(path, "dms") == {"D0ANABO01"} and read(path, "mpims") == {"G0MPIM001"}
    assert seen_by(path, "U0EVE", "C0PUBLIC1", "D0ANABO01", "G0MPIM001") == {"C0PUBLIC1"}


def test_g_folder_unlisted(tmp_path: Path):
    """No public channel's id begins with G, listed or not."""
    path = exported(tmp_path, {"general": LUNCH, "G01SECRET9A": SECRET}, channels=[GENERAL], users=PEOPLE)
    export = open_export(path)

    assert read(path) == read(path, "channels", "unlisted") == {"C0PUBLIC1"}
    assert read(path, "groups") == {"G01SECRET9A"}
    assert notes_on(export) == ["Left out, as they are not public: 1 groups. To read them, too: --include channels,groups"]
    assert left_out_of(export)["unlisted"] == [{"folder": "G01SECRET9A", "kind": "groups", "day_files": 1, "messages": 3}]
    assert seen_by(path, "U0EVE", "C0PUBLIC1", "G01SECRET9A") == {"C0PUBLIC1"}


def test_private_folder_misnamed(tmp_path: Path):
    """groups.json lists board-only, whose folder an exporter called b'board-only': it is said what it probably is, and how large."""
    folders = {"general": LUNCH, "b'board-only'": SECRET}
    path = exported(
        tmp_path, folders, channels=[{"id": "C0PUBLIC1", "name": "general"}], groups=[{"id": "G0SECRET1", "name": "board-only"}]
    )
    export = open_export(path)

    assert read(path) == read(path, "channels", "groups") == {"C0PUBLIC1"}
    assert read(path, "channels", "unlisted") == {"C0PUBLIC1", "b'board-only'"}
    assert notes_on(export) == [
        "Left out, as they are not public: 1 groups. To read them, too: --include channels,groups",
        "Not read: 1 folder (b'board-only'; 1 day file), as no listing names it: nothing shows that it is public."
        " To read it, too: --include channels,unlisted",
        "The listings have 1 private conversation without a folder (board-only, whose folder is probably b'board-only'):"
        " one of the folders that are not listed is probably private",
    ]
    assert left_out_of(export) == {
        "left_out": {"groups": 1, "unlisted": 1},
        "unread": 0,
        "unlisted": [{"folder": "b'board-only'", "kind": "unlisted", "day_files": 1, "messages": 3}],
    }


@pytest.mark.parametrize("folder", ["ana", "bo.smith", "board", "board-only-old", "怼堫怼", "C0SECRET1", "Board-Only", "board-only (2)"])
def test_folders_of_other_names_are_not_read(tmp_path: Path, folder: str):
    """A direct message's folder that is named after a person, a channel that was renamed since, a name cut short or decoded wrongly."""
    path = exported(tmp_path, {"general": LUNCH, folder: SECRET}, channels=[GENERAL], groups=[{"id": "G0SECRET1", "name": "board-only"}])

    assert read(path) == read(path, "channels", "groups", "dms", "mpims") == {"C0PUBLIC1"}
    assert read(path, "unlisted") == {folder}


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (RAW, "channels"),
        ({}, "channels"),
        ({"is_private": None}, "channels"),
        ({"is_private": True}, "groups"),
        ({"is_private": 1}, "groups"),
        ({"is_group": True, "is_channel": False}, "groups"),
        ({"is_channel": False}, "groups"),
        ({"is_im": True}, "dms"),
        ({"is_mpim": True, "is_private": True, "is_group": True}, "mpims"),
        ({"id": "D0ANABO01"}, "dms"),
        ({"id": "G0SECRET1"}, "groups"),
        ({"id": "G0SECRET1", "is_private": True}, "groups"),
        ({"id": "G0OPENED1", "is_private": False}, "channels"),
        ({"name": "mpdm-ana--bo-1"}, "mpims"),
        ({"isPrivate": True}, "groups"),
        ({"Is_Private": True}, "groups"),
        ({"is_channel": "false"}, "groups"),
        ({"id": "g0secret1"}, "groups"),
    ],
)
def test_an_entrys_own_flags_count(tmp_path: Path, entry: dict[str, Any], kind: str):
    """In channels.json; elsewhere the file's name counts, too: a flag never makes anything public."""
    listed = {"id": "C1", "name": "x", **entry}
    for listing in ("channels", "groups", "dms", "mpims"):
        export = open_export(exported(tmp_path / listing, {listed["name"]: SECRET}, **{listing: [listed]}), KINDS)
        strictest = max(kind, listing, key=("channels", "groups", "mpims", "dms").index)
        assert [(channel.kind, channel.is_listed) for channel in export.channels] == [(strictest, True)], listing


@pytest.mark.parametrize(("one", "other"), list(permutations(("groups", "dms", "mpims"), 2)))
def test_what_is_listed_as_two_private_kinds_needs_both(tmp_path: Path, one: Any, other: Any):
    """Who asks for one of them has not asked for the other."""
    listed = [{"id": "C1", "name": "x"}]
    path = exported(tmp_path, {"x": SECRET}, **{one: listed, other: listed})

    assert read(path, "channels", one) == set() and read(path, one, other) == {"C1"}


def test_a_listing_counts_whatever_its_case_and_is_no_link(tmp_path: Path):
    """`Groups.json` says what is private, too; one that is a symbolic link might, and is not followed."""
    path = exported(
        tmp_path,
        {"general": LUNCH, "board": SECRET},
        channels=[GENERAL, {"id": "C1", "name": "board"}],
        groups=[{"id": "C1", "name": "board"}],
    )
    (path / "groups.json").rename(path / "Groups.json")
    assert read(path) == {"C0PUBLIC1"}

    (path / "Groups.json").rename(tmp_path / "elsewhere.json")
    (path / "groups.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(BadExport, match=r"groups\.json is a symbolic link"):
        read(path)


def test_live_the_same_flags_count():
    """Slack's descriptions of channels are judged by the same rule, and what is left out is counted by its kind."""
    channels = Channels(include=PUBLIC, shared=False)
    private = {"is_private": True}, {"is_group": True, "is_channel": False}, {"is_mpim": True, "is_private": True}, {"is_im": True}
    channels.add([GENERAL, *({**RAW, "id": f"C{number}", **flags} for number, flags in enumerate(private))])

    assert channels.wanted() == ["C0PUBLIC1"]
    assert [channels.why_left_out(f"C{number}") for number in range(4)] == ["groups", "groups", "mpims", "dms"]


def test_an_export_without_listings_is_not_read_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Nothing shows that any of it is public: it is said how many folders there are, and the run fails before it begins."""
    path = exported(tmp_path, {"a": LUNCH, "b": LUNCH, "c": LUNCH, "d": LUNCH})
    with pytest.raises(BadExport, match="nothing is left to read: 4 folders of messages"):
        say_left_out(open_export(path))
    assert capsys.readouterr().err == (
        "Not read: 4 folders (a, b, c, …; 4 day files), as there is no channels.json: nothing shows that they are public."
        " To read them, too: --include channels,unlisted\n"
    )
    say_left_out(export := open_export(path, ("channels", "unlisted")))
    assert capsys.readouterr().err == "Read, though no listing shows that they are public: 4 folders (a, b, c, …)\n"
    assert left_out_of(export) == {"left_out": {}, "unread": 0, "unlisted": []}


def test_an_exports_members_need_its_listing(tmp_path: Path):
    """Without one nobody could be told who may see what."""
    with pytest.raises(BadExport, match=r"has no channels\.json"):
        ListedMembers(exported(tmp_path, {"a": LUNCH}, users=PEOPLE))


def test_a_channel_listed_as_both_is_shown_to_the_members_of_both(tmp_path: Path):
    """The strictest listing wins, whichever of the files says more."""
    secret = {"id": "C0SECRET1", "name": "board-only"}
    path = exported(
        tmp_path,
        {"board-only": SECRET},
        channels=[{**secret, "members": ["U0ANA", "U0EVE"]}],
        mpims=[{**secret, "members": ["U0ANA", "U0BO"]}],
        users=PEOPLE,
    )

    assert [user for user in ("U0ANA", "U0BO", "U0EVE") if seen_by(path, user, "C0SECRET1")] == ["U0ANA"]


# Any listing, any folders

FLAGS: list[dict[str, bool]] = [
    {},
    RAW,
    {"is_private": True},
    {"is_group": True},
    {"is_im": True},
    {"is_mpim": True, "is_private": True},
    RAW | {"is_private": True},
]
LISTED = st.lists(
    st.tuples(st.sampled_from(["channels", "channels", "channels", "groups", "dms", "mpims"]), st.sampled_from(FLAGS)), max_size=2
)
"""In which files a conversation is listed, each time with which flags."""
PRIVATE = ("is_private", "is_group", "is_im", "is_mpim")
FOLDER = st.sampled_from(["{name}", "{name}", "{id}", "b'{name}'", "{name}-old"])


@settings(max_examples=60, deadline=None)
@given(conversations=st.lists(st.tuples(LISTED, FOLDER), min_size=1, max_size=5))
def test_by_default_only_what_every_listing_calls_public_is_read(
    tmp_path_factory: pytest.TempPathFactory, conversations: list[tuple[list[tuple[str, dict[str, bool]]], str]]
):
    """No record of a channel that any listing or flag calls private, or that nothing lists; nor is anybody else alerted to one."""
    folders: dict[str, Any] = {"general": LUNCH}
    listings: dict[str, list[dict[str, Any]]] = {"channels": [GENERAL]}
    public = {"C0PUBLIC1"}
    for number, (listed, folder) in enumerate(conversations):
        about = {"id": f"C{number}", "name": f"channel{number}"}
        folders[folder.format(**about)] = [{"text": about["id"]}]
        for listing, flags in listed:
            listings.setdefault(listing, []).append(about | flags)
        if listed and all(listing == "channels" and not any(flags.get(flag) for flag in PRIVATE) for listing, flags in listed):
            public.add(about["id"])
    path = exported(tmp_path_factory.mktemp("any"), folders, **listings)

    export, whole, members = open_export(path), open_export(path, KINDS), ListedMembers(path)

    texts = {message["text"] for channel in export.channels for day in read_days(export, channel) for message in day.messages}
    assert {channel.id for channel in export.channels} == public and texts <= public | {"Lunch?"}
    assert len(folders) == sum(len(channel.days) for channel in whole.channels)
    full = members.person("U0EVE")._replace(is_full_member=True)
    assert {channel.id for channel in whole.channels if members.may_see("U0EVE", channel.id, full)} == public
