"""Every command writes into one workspace; then a person is forgotten, and nothing of them is found there again, however it is packed."""

import json
from pathlib import Path

import pytest

from beepgpt.commands.app import COMMANDS
from beepgpt.connectors.openai.responses import Responses
from beepgpt.forgetting.kinds import FILES, FOLDERS, found_in, kind_of
from beepgpt.labeling.few_shots import FewShots
from tests.support.forgetting import ALERTING, PERSON, beepgpt, canaries_in, write_workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NOT_RUN = {
    "try": "runs examples, prepare, train, validate, score and rehearse; what it adds: tests/commands/test_try.py",
    "demo": "runs try",
    "experiment": "runs examples, prepare, train and validate, and writes what they write",
    "topics": "makes topics, and no file",
    "ingest": "writes to topics alone: tests/forgetting/test_forget_topics.py",
    "init": "writes a settings file, which holds nothing that anybody wrote",
    "check": "writes nothing",
    "history": "writes what an export has, beside a Slack: tests/ingest/test_histories.py",
    "up": "runs other commands; what it adds, whether the history is in and figures, holds nothing that anybody wrote",
    "backup": "copies what others wrote, and what it wrote is cleaned as that is",
    "settings": "prints",
    "help": "prints",
    "review": "serves a page; what it writes, few-shots, is written here by the same class",
    "dead-letters": "prints",
    "forget": "is what is tested",
}
"""Commands that don't run here, and why."""

SETTINGS = ALERTING | {"BEEPGPT_ALERTS__STORE": "ws/alerts.sqlite"}

RUNS = (
    "examples ws/export.zip --to ws/examples.jsonl --recovery ws/recovery --report ws/report.json --include channels,groups",
    "examples ws/events.jsonl --to ws/live.jsonl",
    "label ws/examples.jsonl --to ws/labeled.jsonl --labeler rules --force --few-shots ws/few-shots --recovery ws/label-recovery",
    "prepare ws/examples.jsonl --to ws/set --format chat,completion,candidates,examples",
    "train ws/set --to ws/set/models/text --model text",
    "train ws/set --to ws/set/models/local",
    "train ws/set --model export --to ws/chats",
    "validate ws/set --model ws/set/models/local",
    "validate ws/set --model ws/set/models/text",
    "retrain ws/examples.jsonl --model ws/live --since 2d --precision 0.05 --report ws/retrained.json",
    "compare ws/set/models/local ws/set/models/text --to ws/compared.json",
    "predict --model ws/set/models/local --row 1",
    "score ws/export.zip --to ws/predictions.jsonl --outcomes ws/outcomes.jsonl --model ws/set/models/local --include channels,groups",
    "alert ws/predictions.jsonl --members ws/export.zip --to ws/alerts.jsonl --threshold 0.05 --report ws/alert-report.json",
    "rehearse ws/predictions.jsonl --outcomes ws/outcomes.jsonl --members ws/export.zip --threshold 0.05 --to ws/rehearsal.html",
    "outcomes ws/outcomes.jsonl --to ws/outcomes.html --report ws/outcomes.json --metrics ws/metrics.parquet",
    "audit ws/export.zip ws/examples.jsonl --report ws/audit.json --include channels,groups --sample 20",
)


def live_events(channel: str) -> str:
    """What live Slack sends of the person: an edit with what was said before, a deletion, a late message, one that can't be read."""
    inner = {"type": "message", "channel": channel, "user": PERSON, "text": "quokkasaid hello", "ts": "1704200000.000100"}
    changed = {"type": "message", "subtype": "message_changed", "channel": channel, "ts": "1704200060.000100"}
    events: list[object] = [
        {"type": "event_callback", "event_id": "Ev1", "event": inner},
        changed | {"message": inner | {"text": "quokkaedit"}, "previous_message": inner},
        inner | {"user": "U2", "text": "well", "ts": "1704200120.000100"},
        {"type": "reaction_added", "user": "U2", "item_user": PERSON, "reaction": "+1", "event_ts": "1704200130.000100",
         "item": {"type": "message", "channel": channel, "ts": "1704200000.000100"}},
        inner | {"text": "quokkasaid late", "ts": "1704100000.000100"},
        inner | {"ts": "1704200180.000100", "text": 7, "title": "quokkatitle"},
    ]  # fmt: skip
    return "".join(json.dumps(each) + "\n" for each in events) + f'{{"user": "{PERSON}", "text": "quokkasaid cut sh\n'


def test_nothing_is_left_of_a_person_in_anything_that_any_command_wrote(tmp_path: Path):
    """In text, edits, quotes, late records, dead letters, titles, names, topics, ids; in zips, tables, snapshots, free pages, and pages."""
    workspace = tmp_path / "ws"
    workspace.mkdir()
    channel = write_workspace(workspace / "export.zip")
    (workspace / "events.jsonl").write_text(live_events(channel))
    run: set[str] = set()
    for each in RUNS:
        if each.startswith("label "):
            shots = FewShots(workspace / "few-shots")
            for line in (workspace / "examples.jsonl").read_bytes().splitlines()[:40]:
                shots.keep(json.loads(line)["id"], line, "strong" if json.loads(line)["answer"] else "weak")
            shots.close()
            Responses(workspace / "answers.sqlite").close()
        beepgpt(tmp_path, *each.split(), env=SETTINGS)
        run.add(each.split()[0])
    assert run | set(NOT_RUN) == {name for group in COMMANDS.values() for name in group}

    places = list(found_in(workspace))
    assert [path for path, kind in places if kind is None] == []
    before = canaries_in(workspace)
    held = {kind.name for path, kind in places if kind and any(Path(each) == path.relative_to(workspace) for each in before)}
    assert held == {"Slack export", "alert store", "document", "few-shots", "page", "records", "table"}
    assert {"set/candidates_train.parquet", "set/models/text/model.json", "recovery/worker-0/part-0.sqlite3"} <= set(before)
    assert {"live.late.jsonl", "live.dead-letters.jsonl", "few-shots/examples_pos.jsonl", "chats/chat_train.jsonl"} <= set(before)

    dry = beepgpt(tmp_path, "forget", "--user", PERSON, "--from", "ws")
    assert canaries_in(workspace) == before and not (tmp_path / "list" / "forgotten.json").exists()
    done = beepgpt(tmp_path, "forget", "--user", PERSON, "--from", "ws", "--yes", "--report", "report.json", env=SETTINGS)

    assert not [name for name in before if name.startswith("set/models/local/model.")]
    named = {name for name in before if name.startswith("set/models/") and name.endswith(("model.json", "model.skops"))}
    assert {name: words for name, words in canaries_in(workspace).items() if name not in named} == {}
    report = json.loads((tmp_path / "report.json").read_text())
    told = {each["place"]: each for each in report["places"]}
    assert all(f"ws/{name}".rpartition("/")[0] in told for name in named)  # what stays in a fitted model is named
    assert told["ws/set/models/text"]["rebuild"] == (
        "beepgpt prepare EXAMPLES --to SET; beepgpt train SET --to ws/set/models/text --model text;"
        " beepgpt validate SET --model ws/set/models/text"
    )
    assert "nothing was changed" in dry.stdout + dry.stderr and "hashes are on the list" in done.stdout + done.stderr
    assert PERSON not in (tmp_path / "list" / "forgotten.json").read_text()

    again = tmp_path / "again.json"
    beepgpt(tmp_path, "forget", "--from", "ws", "--yes", "--report", again)
    assert {each["kind"] for each in json.loads(again.read_text())["places"] if each["found"]} == {"model"}


def test_what_is_forgotten_stays_forgotten_and_what_is_made_again_is_what_never_knew_it(tmp_path: Path):
    """An old copy of the export, read with the list, gives what the rewritten one gives; the account has a row for what was left out."""
    write_workspace(tmp_path / "export.zip")
    (tmp_path / "old.zip").write_bytes((tmp_path / "export.zip").read_bytes())
    beepgpt(tmp_path, "forget", "--user", PERSON, "--from", "export.zip", "--yes")
    made = {}
    for source in ("old", "export"):
        beepgpt(tmp_path, "examples", f"{source}.zip", "--to", f"{source}.jsonl", "--report", f"{source}.json")
        account = json.loads((tmp_path / f"{source}.json").read_text())["account"]
        made[source] = sorted((tmp_path / f"{source}.jsonl").read_bytes().splitlines()), account

    assert made["old"][0] == made["export"][0] and made["old"][0]
    left_out = made["old"][1]["events"]["ignored"].pop("forgotten")
    assert made["old"][1]["events"].pop("read") == made["export"][1]["events"].pop("read") + left_out
    assert left_out > 50 and made["old"][1] == made["export"][1] and made["old"][1]["adds_up"]
    beepgpt(tmp_path, "audit", "old.zip", "export.jsonl")


def test_a_file_that_no_kind_recognizes_is_seen(tmp_path: Path):
    """So the test above fails when a command writes one."""
    (tmp_path / "new.kind").write_text("quokkasaid")

    assert [kind for _, kind in found_in(tmp_path)] == [None] and kind_of(tmp_path / "new.kind") is None
    assert len({kind.name for kind in (*FOLDERS, *FILES)}) == len((*FOLDERS, *FILES)) - 1  # an export is a folder or a file
