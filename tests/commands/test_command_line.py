"""The program under bad input and bad luck, as its user meets it: run for real, judged by what it leaves and says."""

import ctypes
import json
import os
import resource
import stat
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import BEEPGPT, GENERAL, environment, events, export, lines_of, post, report_in, run, size, started, stored
from tests.support.speed import slowness

ROOT = Path(__file__).resolve().parents[2]


# The command was wrong


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ["--to", "https://localhost/x"],
            "--to https://localhost/x: a .jsonl path, -, kafka://host:port/topic or sqlite:///folder/topic is expected",
        ),
        (["--to", "kafka://localhost/x"], "kafka://localhost/x: 'localhost' is no host:port: write kafka://host:port/topic"),
        (["--to", "kafka://localhost:9092/x?follow=true"], "from, to and follow are for a SOURCE: leave them out"),
        (["--to", "o.jsonl", "--warmup", "7d"], "--warmup goes with a topic's from"),
        (["--to", "o.jsonl", "--warmup", "soon"], "--warmup soon: must be a duration like"),
        (["--to", "o.jsonl", "--idle-clock", "wall"], "--idle-clock wall is for a followed topic"),
        (["--to", "o.jsonl", "--until", "yesterday"], "--until yesterday: must be a time like 2024-01-31T12:00:00Z"),
        (["--to", "o.jsonl", "--until", ""], "must be a time like 2024-01-31T12:00:00Z"),
        (["--to", "o.jsonl", "--until", "NaN"], "--until NaN: must be a time like"),
        (["--to", "o.jsonl", "--include", "dms,privat"], "--include privat: must be of channels, groups, dms, mpims"),
        (["--to", "o.jsonl", "--workers", "0"], "--workers is '0': must be greater than or equal to 1"),
        (["--to", "o.jsonl", "--config", "none.toml"], "none.toml can't be read: No such file"),
        (["--to", "-", "--recovery", "memory"], "--recovery needs a file or a topic as --to"),
        (["--to", "in.jsonl"], "in.jsonl: would be written over SOURCE: name another file"),
        (["--to", "link.jsonl"], "link.jsonl: would be written over SOURCE"),
        (["--to", "o.jsonl", "--report", "in.jsonl"], "in.jsonl: would be written over SOURCE"),
        (["--to", "o.jsonl", "--report", "o.late.jsonl"], "o.late.jsonl: would be written over another output"),
    ],
)
def test_a_wrong_command_says_what_is_allowed(args, said, tmp_path):
    """Status 2, one line, and nothing was written: not over the source, above all."""
    before = events(tmp_path / "in.jsonl", 3).read_bytes()
    (tmp_path / "link.jsonl").symlink_to("in.jsonl")

    ran = run(tmp_path, "examples", "in.jsonl", *args)

    assert (ran.status, ran.out) == (2, b"")
    assert said in ran.line
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.jsonl", "link.jsonl"]
    assert (tmp_path / "in.jsonl").read_bytes() == before


def test_a_time_that_is_none_is_named_by_its_flag(tmp_path):
    """--since is not --until."""
    events(tmp_path / "in.jsonl", 3)
    ran = run(tmp_path, "score", "in.jsonl", "--model", "none", "--to", "p.jsonl", "--since", "yesterday")

    assert (ran.status, ran.line) == (2, "--since yesterday: must be a time like 2024-01-31T12:00:00Z or 1706702400.000000")


def test_a_source_that_is_no_file_or_export(tmp_path):
    """An address that can't be read is a wrong command."""
    ran = run(tmp_path, "examples", "https://localhost/x", "--to", "o.jsonl")

    assert ran.status == 2
    assert (
        "SOURCE https://localhost/x: a Slack export (zip or folder), a .jsonl of events, kafka://host:port/topic or sqlite:///folder/topic"
        " is expected" in ran.line
    )


def test_an_unknown_flag_names_its_likes(tmp_path):
    """A slip of the finger is told with what was perhaps meant."""
    ran = run(tmp_path, "examples", "in.jsonl", "--to", "o.jsonl", "--wokers", "3")

    assert ran.status == 2
    assert "--wokers" in ran.err and "--workers" in ran.err and "Traceback" not in ran.err


def test_all_wrong_settings_are_named_at_once(tmp_path):
    """Flags, variables and the file: everything that can't be is told in one go, each where it was given."""
    (tmp_path / "my.toml").write_text("[run]\nworker = 2\n")
    env = {"BEEPGPT_CONVERSATIONS__WINDOW": "many", "BEEPGPT_RUN__SPEED": "9"}

    ran = run(tmp_path, "examples", "in.jsonl", "--to", "o.jsonl", "--config", "my.toml", "--horizon", "1y", "--target", "who", env=env)

    assert ran.status == 2
    for said in (
        "run.worker in my.toml is unknown; did you mean run.workers?",
        "BEEPGPT_CONVERSATIONS__WINDOW is 'many': must be a valid integer",
        "BEEPGPT_RUN__SPEED is unknown",
        "--horizon is '1y': must be a duration like 500ms, 10m, 1h 30m or 30 days, or unlimited",
        "--target is 'who': must be 'next_user', 'interacting_users' or 'reactors'",
    ):
        assert said in ran.message


# Files that can't be


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["none.jsonl", "--to", "o.jsonl"], "none.jsonl: there is no such file"),
        (["none.zip", "--to", "o.jsonl"], "none.zip: there is no such file or folder"),
        (["in.jsonl", "--to", "none/o.jsonl"], "none/o.jsonl: there is no folder none: make it first"),
        (["in.jsonl", "--to", "in.jsonl/o.jsonl"], "in.jsonl/o.jsonl: in.jsonl is no folder"),
        (["in.jsonl", "--to", "folder"], "folder: is a folder: name a file in it"),
        (["in.jsonl", "--to", "o.jsonl", "--report", "none/report.json"], "none/report.json: there is no folder none"),
        (["in.jsonl", "--to", "o.jsonl", "--recovery", "in.jsonl"], "in.jsonl: can't be used as a recovery folder (File exists)"),
        (["in.jsonl", "--to", "o.jsonl", "--recovery", "folder"], "folder: is not empty, and no recovery folder: name another"),
        (["none.jsonl", "--to", "o.jsonl", "--recovery", "memory"], "none.jsonl: there is no such file"),
        (["folder", "--to", "o.jsonl"], "folder: no Slack export: it has no channels.json and no folder of days"),
        (["short.zip", "--to", "o.jsonl"], "short.zip: the zip is cut short or damaged"),
        (["bomb.zip", "--to", "o.jsonl"], "bomb.zip: a zip bomb: it would unpack to"),
    ],
)
def test_a_file_that_cannot_be_says_what_to_do(args, said, tmp_path):
    """Status 2 where it isn't there, else 1; a line that names it, and nothing was written: no recovery folder that remembers the slip."""
    events(tmp_path / "in.jsonl", 3)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thing").touch()
    if args[0] == "short.zip":
        whole = export(tmp_path / "short.zip", {"general/2023-11-14.json": [stored(n) for n in range(99)]}, channels=GENERAL)
        whole.write_bytes(whole.read_bytes()[:-100])
    if args[0] == "bomb.zip":
        claim_to_be_large(export(tmp_path / "bomb.zip", {"general/2023-11-14.json": [stored(0)]}, channels=GENERAL))
    before = sorted(each.name for each in tmp_path.iterdir())

    ran = run(tmp_path, "examples", *args)

    is_slip = any(words in said for words in ("there is no", "is no folder", "is a folder"))
    assert (ran.status, ran.out) == (2 if is_slip else 1, b"")
    assert said in ran.line
    assert sorted(each.name for each in tmp_path.iterdir()) == before


def claim_to_be_large(path: Path) -> None:
    """The zip's directory says of its last member that it unpacks to 3 GiB."""
    raw = bytearray(path.read_bytes())
    entry = raw.rindex(b"PK\x01\x02")
    raw[entry + 24 : entry + 28] = (3 << 30).to_bytes(4, "little")
    path.write_bytes(raw)


def obey_permissions() -> None:
    """From the next program on, permissions hold for root, too: without CAP_DAC_OVERRIDE."""
    if os.geteuid() == 0:
        drop_from_bounding_set, dac_override = 24, 1  # linux/prctl.h, linux/capability.h
        assert ctypes.CDLL(None).prctl(drop_from_bounding_set, dac_override, 0, 0, 0) == 0


def test_a_folder_that_may_not_be_written(tmp_path):
    """Permissions are looked at before the work, and the place is named."""
    events(tmp_path / "in.jsonl", 3)
    (tmp_path / "mine").mkdir(mode=0o500)
    places = {
        "mine/o.jsonl: may not be written": ("--to", "mine/o.jsonl"),
        "mine/r: can't be used as a recovery folder": ("--to", "o.jsonl", "--recovery", "mine/r"),
    }

    for said, given in places.items():
        assert said in run(tmp_path, "examples", "in.jsonl", *given, preexec_fn=obey_permissions).line


# Records that can't be


BROKEN: list[tuple[str, bytes]] = [
    ("not_json", b"not json"),
    ("not_json", b"\0\0\0"),
    ("not_json", b"\xff\xfe"),
    ("not_an_object", b"[]"),
    ("no_channel", b'{"type": "message", "ts": "1700000000.000100"}'),
    ("no_ts", json.dumps({"type": "message", "channel": "C1", "user": "U1", "text": "x"}).encode()),
    ("bad_ts", json.dumps(post(0) | {"ts": 1700000000}).encode()),
    ("bad_ts", json.dumps(post(0) | {"ts": "-1700000000.0"}).encode()),
    ("bad_ts", json.dumps(post(0) | {"ts": "NaN"}).encode()),
    ("bad_ts", json.dumps(post(0) | {"ts": "99999999999.0"}).encode()),
    ("future", json.dumps(post(0) | {"ts": "9999999999.0"}).encode()),
    ("too_large", json.dumps(post(0) | {"text": "x" * (1 << 20)}).encode()),
]


def test_broken_lines_go_to_the_dead_letters(tmp_path):
    """Each with its reason, its line and its bytes; what is good beside them is used; the account adds up and names the file."""
    good = [json.dumps(post(number)).encode() for number in range(4)]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join([*good, *(line for _, line in BROKEN), b"", b""]))

    ran = run(tmp_path, "examples", "in.jsonl", "--to", "o.jsonl", "--report", "report.json")

    assert ran.status == 0
    dead = lines_of(tmp_path / "o.dead-letters.jsonl")
    reasons = {each["place"]: each["reason"] for each in dead}
    assert reasons == {f"in.jsonl:{number}": reason for number, (reason, _) in enumerate(BROKEN, 5)}
    assert {each["place"]: each.get("record") for each in dead}["in.jsonl:5"] == "not json"
    assert {each["place"]: each.get("record_base64") for each in dead}["in.jsonl:7"] == "//4="
    account = report_in(tmp_path)["account"]
    assert (account["events"]["applied"], sum(account["events"]["rejected"].values())) == (4, len(BROKEN))
    assert account["examples"] == len(lines_of(tmp_path / "o.jsonl")) > 0
    assert f"{len(BROKEN)}  to o.dead-letters.jsonl" in ran.err


def test_text_of_a_megabyte_is_read(tmp_path):
    """As long as its record is not over 1 MiB; its prompt keeps its beginning."""
    large = post(0) | {"text": "word " * 200_000}
    (tmp_path / "in.jsonl").write_text(f"{json.dumps(large)}\n{json.dumps(post(1))}\n")

    assert run(tmp_path, "examples", "in.jsonl", "--to", "o.jsonl").status == 0
    example = lines_of(tmp_path / "o.jsonl")[0]
    assert example["prompt"].startswith("word word") and example["prompt_tokens"] == 2000


def test_late_records_are_kept(tmp_path):
    """What comes when its channel's clock is past it is never applied, and written beside the examples."""
    lines = [json.dumps(post(number)) for number in (0, 9, 1)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))

    ran = run(tmp_path, "examples", "in.jsonl", "--to", "o.jsonl", "--report", "report.json")

    assert (ran.status, report_in(tmp_path)["account"]["events"]["late"]) == (0, 1)
    assert [each["record"] for each in lines_of(tmp_path / "o.late.jsonl")] == [lines[2]]
    assert "o.late.jsonl" in ran.err


@pytest.mark.parametrize("raw", [b"", b"\n\n", b"\xef\xbb\xbf"])
@pytest.mark.slow
def test_an_input_without_a_record(raw, tmp_path):
    """It is done at once: no examples, and an account of nothing."""
    (tmp_path / "in.jsonl").write_bytes(raw)
    (tmp_path / "o.jsonl").write_text("of an older run\n")

    ran = run(tmp_path, "examples", "in.jsonl", "--to", "o.jsonl", "--report", "report.json")

    assert (ran.status, report_in(tmp_path)["account"]["events"]["read"]) == (0, 0)
    assert [each.name for each in sorted(tmp_path.iterdir())] == ["in.jsonl", "o.jsonl", "o.rules.json", "report.json"]
    assert size(tmp_path / "o.jsonl") == 0


def test_a_pipe_is_read_whole(tmp_path):
    """To look how it begins would take what was looked at from it."""
    source = events(tmp_path / "in.jsonl", 300).read_bytes()

    ran = run(tmp_path, "examples", "/dev/stdin", "--to", "o.jsonl", "--report", "report.json", input=source)

    assert (ran.status, report_in(tmp_path)["account"]["events"]["applied"]) == (0, 300)


# Exports that are not as they should be


DAYS: list[tuple[str, bytes]] = [
    ("day_file_not_json", b"{oops"),
    ("day_file_not_a_list", b"{}"),
    ("day_file_empty", b""),
    ("day_file_not_json", b'[{"ts": "1700000000.0"\0\0}]'),
    ("day_file_zip_bomb", b"[" + b" " * (32 << 20) + b"]"),
]


def test_day_files_that_cannot_be_read_cost_no_more_than_themselves(tmp_path):
    """Each is a dead letter by the name of the file; the days beside it are read. No users.json is needed."""
    files = {f"general/2023-11-{day}.json": raw for day, (_, raw) in enumerate(DAYS, 20)}
    messages: list[Any] = [stored(number) for number in range(4)]
    wrong: list[Any] = [stored(9, ts=1), stored(9, ts="NaN"), stored(9, ts="-1.0"), stored(9, ts="95616000000.0"), {"text": "x"}, 7, None]
    source = export(tmp_path / "e.zip", files | {"general/2023-11-14.json": messages + wrong}, channels=GENERAL)

    ran = run(tmp_path, "examples", source.name, "--to", "o.jsonl", "--report", "report.json")

    assert ran.status == 0
    dead = lines_of(tmp_path / "o.dead-letters.jsonl")
    assert {(each["reason"], each["place"]) for each in dead if each["reason"].startswith("day_")} == {
        (reason, f"general/2023-11-{day}.json") for day, (reason, _) in enumerate(DAYS, 20)
    }
    assert len(dead) == len(DAYS) + len(wrong)
    account = report_in(tmp_path)["account"]
    assert account["events"]["applied"] == 4 and account["examples"] == len(lines_of(tmp_path / "o.jsonl")) > 0


def test_names_are_anybodys(tmp_path):
    """Slashes, emoji, right-to-left marks and brackets in names of channels and files do no harm, and are shown as they are."""
    names = ["a/b", "🎉 party", "\u202eright-to-left\u200f", "[red]x[/nothing]", "日本語"]
    listing = [{"id": f"C{number}", "name": name} for number, name in enumerate(names)]
    days = {f"{name}/2023-11-14.json": [stored(0), stored(1)] for name in names}
    source = export(tmp_path / "[red] :tada: \u202e🎉.zip", days, channels=listing)
    (tmp_path / "[").mkdir()
    to = "[/x] :boom: 日本.jsonl"

    ran = run(tmp_path, "examples", source.name, "--to", to, "--report", "report.json", env={"PYTHONUTF8": "1"})

    assert (ran.status, report_in(tmp_path)["account"]["channels"]) == (0, len(names))
    assert len(lines_of(tmp_path / to)) == 5
    assert f"to {to}" in unicodedata.normalize("NFC", ran.err)


def test_what_is_left_out_of_an_export_is_told(tmp_path):
    """Channels that are not public, and files that nobody reads: how many, and how to have them."""
    files = {f"{name}/2023-11-14.json": [stored(0), stored(1)] for name in ("general", "board", "D12345678")}
    files["canvases/plan.json"] = []
    listings: dict[str, list[dict[str, str]]] = {
        "channels": GENERAL,
        "groups": [{"id": "G1", "name": "board"}],
        "dms": [{"id": "D12345678"}],
    }
    source = export(tmp_path / "e.zip", files, **listings)

    ran = run(tmp_path, "examples", source.name, "--to", "o.jsonl", "--report", "report.json")

    assert ran.status == 0
    assert "Left out, as they are not public: 1 groups, 1 dms. To read them, too: --include channels,groups,dms\n" in ran.err
    assert "Not read, as they are no day files of a channel: 1 files (canvases/plan.json)\n" in ran.err
    assert {each["channel"] for each in lines_of(tmp_path / "o.jsonl")} == {"C1"}
    report = report_in(tmp_path)
    assert (report["left_out"], report["unread"]) == ({"groups": 1, "dms": 1}, 1)

    again = run(tmp_path, "examples", source.name, "--to", "o.jsonl", "--include", "channels,groups,dms")
    assert again.status == 0 and "Left out" not in again.err
    assert {each["channel"] for each in lines_of(tmp_path / "o.jsonl")} == {"C1", "G1", "D12345678"}


# Standard output


@pytest.mark.slow
def test_standard_output_holds_examples_and_nothing_else(tmp_path):
    """With one process or several; the account goes to standard error, and no file is left."""
    events(tmp_path / "in.jsonl", 100)
    one, two = (run(tmp_path, "examples", "in.jsonl", "--to", "-", "--workers", workers) for workers in "12")

    assert (one.status, two.status) == (0, 0)
    assert all(json.loads(line)["id"] for line in one.out.splitlines())
    assert sorted(one.out.splitlines()) == sorted(two.out.splitlines()) != []
    assert "the account adds up" in one.err
    assert [each.name for each in tmp_path.iterdir()] == ["in.jsonl"]


def test_dead_letters_have_no_place_beside_standard_output(tmp_path):
    """That they are not kept is told, with what to do."""
    (tmp_path / "in.jsonl").write_text("oops\n")

    assert "1  not kept: name a file as --to to keep them" in run(tmp_path, "examples", "in.jsonl", "--to", "-").err


def test_a_reader_that_has_gone_ends_the_run_quietly(tmp_path):
    """`beepgpt … --to - | head -1`: no error, no traceback, and no work for nobody."""
    events(tmp_path / "in.jsonl", 20_000)
    with started(tmp_path, "examples", "in.jsonl", "--to", "-") as process:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline())["id"]
        process.stdout.close()
        err = process.stderr.read().decode()

    assert process.returncode == 0
    assert "Traceback" not in err and "Broken pipe" not in err
    assert "events read  20,000" not in err


def test_a_closed_standard_output(tmp_path):
    """It was closed before we started: nothing is written to what took its place."""
    events(tmp_path / "in.jsonl", 3)

    ran = run(tmp_path, "examples", "in.jsonl", "--to", "-", preexec_fn=lambda: os.close(1))

    assert (ran.status, ran.line) == (1, "standard output is closed: name a file, or open it")


# A full disk


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.slow
def test_a_full_device(workers, tmp_path):
    """One line, status 1; nothing is made beside a device."""
    events(tmp_path / "in.jsonl", 30)
    before = sorted(Path("/dev").iterdir())

    ran = run(tmp_path, "examples", "in.jsonl", "--to", "/dev/full", "--workers", workers)

    assert (ran.status, ran.line) == (1, "/dev/full: the disk is full: free some space and run it again; what was written is kept")
    assert sorted(Path("/dev").iterdir()) == before


def test_a_report_that_finds_no_room(tmp_path):
    """The examples are there, the account was shown, and the report's place is named."""
    events(tmp_path / "in.jsonl", 30)

    ran = run(tmp_path, "examples", "in.jsonl", "--to", "o.jsonl", "--report", "/dev/full")

    assert ran.status == 1 and lines_of(tmp_path / "o.jsonl")
    assert "the account adds up" in ran.err and "\nbeepgpt: /dev/full: the disk is full" in ran.err and "Traceback" not in ran.err


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.slow
def test_a_file_that_may_not_grow(workers, tmp_path):
    """What was written before the limit is whole lines, and stays."""
    events(tmp_path / "in.jsonl", 3000, channels=40)
    limit = 300_000

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    ran = run(tmp_path, "examples", "in.jsonl", "--to", "o.jsonl", "--no-candidates", "--workers", workers, preexec_fn=limited)

    assert ran.status == 1
    assert "jsonl: can't be written (File too large)" in ran.line
    for path in tmp_path.rglob("*examples*.jsonl"):
        lines_of(path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 KiB, where we may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("a small disk can't be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_leaves_a_run_that_can_go_on(small_disk, tmp_path):
    """Whether the examples or the snapshots find no room: one line, and with more room the same command ends as if nothing had been."""
    events(tmp_path / "in.jsonl", 2000)
    commands = [
        ["examples", "in.jsonl", "--to", "o.jsonl", "--recovery", "disk/memory", "--snapshot-every", "1ms"],
        ["examples", "in.jsonl", "--to", "disk/o.jsonl", "--recovery", "memory", "--snapshot-every", "1ms"],
    ]

    for command, full in zip(commands, ["disk/memory", "disk/o.jsonl"], strict=True):
        ran = run(tmp_path, *command)
        assert ran.status == 1 and ran.line.startswith(f"{full}: the disk is full: free some space")

    subprocess.run(["mount", "-o", "remount,size=40m", str(small_disk)], check=True)
    for command in commands:
        assert run(tmp_path, *command).status == 0
    assert run(tmp_path, "examples", "in.jsonl", "--to", "whole.jsonl").status == 0
    whole = (tmp_path / "whole.jsonl").read_bytes()
    assert [(tmp_path / command[3]).read_bytes() == whole for command in commands] == [True, True]


# Whose it is


def test_what_a_command_makes_is_private(tmp_path):
    """Folders 0700 and files 0600, with any umask; a device and what was there before stay as they are."""
    events(tmp_path / "in.jsonl", 30)
    (tmp_path / "out").mkdir(mode=0o755)
    (tmp_path / "out" / "o.jsonl").touch(mode=0o644)
    before = os.umask(0)
    try:
        split = ("--workers", "2", "--recovery", "r/memory", "--report", "report.json")
        made = [run(tmp_path, "examples", "in.jsonl", "--to", *each) for each in (("out/o.jsonl", *split), ("/dev/null",))]
    finally:
        os.umask(before)

    assert [each.status for each in made] == [0, 0] and stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    modes = {str(each.relative_to(tmp_path)): stat.S_IMODE(each.stat().st_mode) for each in tmp_path.rglob("*")}
    assert (modes.pop("in.jsonl"), modes.pop("out"), modes.pop("out/o.jsonl")) == (0o644, 0o755, 0o644)
    assert {name: mode for name, mode in modes.items() if mode != (0o700 if (tmp_path / name).is_dir() else 0o600)} == {}
    assert {"report.json", "r", "r/memory/run.json", "r/memory/worker-1"} <= modes.keys()


# One result, and how it looks


def test_workers_do_not_change_the_result(tmp_path):
    """Three processes make what one makes, and leave nothing else."""
    events(tmp_path / "in.jsonl", 300, channels=9)
    for workers in "13":
        assert run(tmp_path, "examples", "in.jsonl", "--to", f"o{workers}.jsonl", "--workers", workers).status == 0

    one, three = (sorted((tmp_path / f"o{workers}.jsonl").read_bytes().splitlines()) for workers in "13")
    assert one == three != []
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.jsonl", "o1.jsonl", "o1.rules.json", "o3.jsonl", "o3.rules.json"]


def test_what_is_no_terminal_gets_plain_lines(tmp_path):
    """No escapes, no progress, no sentence broken at 80 columns."""
    events(tmp_path / "in.jsonl", 30)

    ran = run(tmp_path, "examples", "in.jsonl", "--to", "o.jsonl")

    assert "\x1b" not in ran.err and "\r" not in ran.err
    assert ran.err.startswith("events read")
    *_, account, following = ran.err.splitlines()
    assert account.startswith("the account adds up; 4 channels, ")
    assert following == "next: beepgpt prepare o.jsonl --to set"


HEAVY = {
    *("aiolimiter", "detect_secrets", "httpx2", "lightgbm", "matplotlib", "numpy", "openai", "pandas", "phonenumbers", "pyarrow", "scipy"),
    *("skops", "sklearn", "slack_sdk", "starlette", "uvicorn"),
}
"""What one command or another needs, and takes up to seconds to load."""


def test_help_comes_at_once():
    """Nobody waits for a page of text, and a flow's process doesn't for what labeling or training need."""
    command = [sys.executable, "-X", "importtime", *BEEPGPT[1:], "examples", "--help"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60 * slowness(), check=True)
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in ran.stderr.splitlines()}

    assert "--recovery" in ran.stdout and "typer" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_what_is_not_installed_is_named(tmp_path):
    """Streaming needs none of what labeling and training need, and whoever wants those is told how to get it."""
    (tmp_path / "labeled.jsonl").touch()
    argv = ["beepgpt", "prepare", "labeled.jsonl", "--to", "set"]
    code = f"import sys; sys.modules['pyarrow'] = None; sys.argv = {argv}; from beepgpt.commands.app import main; main()"
    command, variables = [sys.executable, "-c", code], environment(PYTHONPATH=str(ROOT))
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60 * slowness(), cwd=tmp_path, env=variables, check=False)

    assert ran.returncode == 1 and "Traceback" not in ran.stderr
    assert "this needs pyarrow, which is not installed: pip install 'beepgpt[train]'" in ran.stderr
