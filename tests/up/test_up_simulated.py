"""`beepgpt up --simulate`: all of it on a simulated workspace, in its own time."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from beepgpt.connectors.sqlite.log import SqliteLog
from beepgpt.conversations.events import micros
from beepgpt.conversations.rules import SECOND
from beepgpt.simulation.history import history
from beepgpt.simulation.life import BORN, LIFE
from beepgpt.simulation.people import SimulatedWorkspace
from beepgpt.simulation.slack_json import POSTED, message_id
from beepgpt.up.plan import ORDER
from tests.support import program, run_program
from tests.support.kafka import started
from tests.support.speed import slowness, wait_until
from tests.support.up import children_of, kill, page_of, values_on, wait_until_back

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "live.md"
KILLS = 4
OUTCOME = re.compile(r"""class="became( right)?">\w+ \w+ (joined|did not join)<""")


def test_what_cannot_be_simulated_is_refused_before_anything_is_made(tmp_path: Path):
    """Something of a real workspace beside it, a speed that is none, a folder that is in use, no folder; nothing is made."""
    (used := tmp_path / "used").mkdir()
    (used / "up.json").write_text("{}")
    (lived := tmp_path / "lived").mkdir()
    (lived / "simulated").mkdir()
    (lived / "up.json").write_text("{}")
    tokens = {"BEEPGPT_SLACK__BOT_TOKEN": "xoxb-not-a-secret"}
    refused: dict[str, tuple[tuple[object, ...], dict[str, str]]] = {
        "so --export and --history can't be given with it": (("--simulate", "600x", "--export", tmp_path, "--history", "7d"), {}),
        "has a Slack of its own: unset the tokens of yours": (("--simulate", "600x"), tokens),
        "--simulate fast: a multiple of real time like": (("--simulate", "fast"), {}),
        "from 1x to 3,600x is expected": (("--simulate", "4000x"), {}),
        "is not empty, and a simulated life begins anew each time": (("--simulate", "600x", "--data", used), {}),
        "holds a simulated life: name another folder": (("--data", lived), {}),
        "--data: name the folder that it owns; only `--simulate 600x` goes without": ((), {}),
    }
    for words, (given, env) in refused.items():
        done = run_program("up", *given, env=env)
        assert done.returncode == 2 and words in done.stderr, done.stderr
    assert "--simulate" in run_program("up", "--help").stdout
    assert len(list(tmp_path.rglob("*"))) == 5


def planned(since: int, until: int) -> dict[str, tuple[str, str]]:
    """Channel and author of the messages by people that are posted in that time, and stay, by their ids."""
    workspace = SimulatedWorkspace(LIFE)
    posts = [(each[4], each[2].id) for each in history(workspace, range(LIFE.channels)) if each[3] == "post" and since <= each[0] < until]
    kept = ((post, channel) for post, channel in posts if post.form in POSTED and not post.doomed)
    return {message_id(post): (channel, workspace.people[post.user].id) for post, channel in kept}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_day_s_life_with_kills_loses_nothing_and_alerts_nobody_twice(tmp_path: Path):
    """From nothing to an alert, its outcome and a night's training, all on the page; each command is killed meanwhile.

    The variables of a real workspace go nowhere: its webhook is never called. The folder's files are its owner's.
    """
    data, dice = tmp_path / "life", random.Random(6)
    env = {"BEEPGPT_ALERTS__WEBHOOK": "http://127.0.0.1:9/", "BEEPGPT_ALERTS__PER_HOUR": "0"}
    command = program("up", "--simulate", f"{600 / slowness():.0f}x", "--data", data, "--night", "18:00")
    with started(command, tmp_path / "run", env) as run:
        wait_until(lambda: "The simulated clock runs" in run.said, "all of it runs", 200, said=lambda: run.said)
        assert "direct messages so far" in page_of(run) and "times as fast as yours" in page_of(run)
        for name in dice.sample(ORDER, KILLS):
            time.sleep(3 * dice.random())
            kill(run, name)
            wait_until_back(run, name)
        wait_until(lambda: "The last training, 2026-06-0" in page_of(run), "a night's training", 120, said=lambda: run.said)
        wait_until(lambda: OUTCOME.search(page_of(run)), "an outcome", 240, said=lambda: page_of(run))
        wait_until(lambda: "All is well" in page_of(run), "the page says so", said=lambda: page_of(run))
        shown = page_of(run)
        assert set(ORDER) <= set(children_of(run)) and "2026-06-0" in shown
        assert run.stop() == 0, run.said

    assert "Stopped: the simulated life is over, and all of it is in" in run.said and "goes on where" not in run.said
    log = SqliteLog(f"sqlite://{data / 'log'}")
    records = values_on(log, "slack.events")
    covered = max(int(float(each["at"]) * SECOND) for each in records if each.get("type") == "heartbeat")
    said = planned(BORN, covered - 120 * SECOND)
    assert covered - BORN > 2 * 3_600 * SECOND and len(said) > 10
    posts = [event for each in records if "user" in (event := each.get("event", each)) and "ts" in event]
    assert [each for each, count in Counter((each["channel"], each["ts"]) for each in posts).items() if count > 1] == []
    # What was filled in from Slack's histories after a kill has no id of Slack's.
    by_id = {each["client_msg_id"] for each in posts if "client_msg_id" in each}
    filled = Counter((each["channel"], each["user"]) for each in posts if micros(each["ts"]) >= BORN and "client_msg_id" not in each)
    assert Counter(who for identity, who in said.items() if identity not in by_id) - filled == Counter()
    assert values_on(log, "slack.dead-letters") == []
    alerts = Counter((each["user"], each["conversation"]) for each in values_on(log, "slack.alerts"))
    assert alerts and set(alerts.values()) == {1}
    assert re.search(r"(\d+) direct message", shown) and "the account adds up" in run.said
    assert {each.stat().st_mode & 0o077 for each in data.rglob("*")} == {0}
    assert "BEEPGPT" not in run.said and os.environ.get("BEEPGPT_CLOCK") is None
    check_commands_of_the_guide(data)


def check_commands_of_the_guide(data: Path) -> None:
    """What the guide says of a folder that stays can be said as it stands: no command of it is wrong, and the laws are kept."""
    (block,) = re.findall(r"```sh\n(log=.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    place, *commands = block.splitlines()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in commands:
        script = f"{place}\n{command}".replace("live/", f"{data.name}/")
        done = subprocess.run(["sh", "-c", script], cwd=data.parent, env={**os.environ, "PATH": path}, capture_output=True, check=False)
        assert done.returncode == 0, (script, done.stderr)


@pytest.mark.slow
def test_without_a_folder_nothing_is_left(tmp_path: Path):
    """A temporary one is made, and removed when it stops."""
    (place := tmp_path / "temporary").mkdir()
    with started(program("up", "--simulate", "60x"), tmp_path / "run", {"TMPDIR": str(place)}) as run:
        wait_until(lambda: "history: the account adds up" in run.said, "it has begun", 100, said=lambda: run.said)
        assert [each.name[:8] for each in place.iterdir()] == ["beepgpt-"]
        run.stop()
    assert list(place.iterdir()) == []
