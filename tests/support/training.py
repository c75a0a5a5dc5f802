"""What the tests of fine-tuning and of servers' models share: a small training set, and settings that lead to the tests' server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from beepgpt.commands.train_elsewhere import run_job
from beepgpt.config.settings import Settings, read_settings
from beepgpt.training.fine_tuning import JobOptions
from tests.support.openai_server import Server
from tests.support.prepare import Example, Set, example, made

PEOPLE = ("ana", "bo", "cy", "dee")
TOPICS = ("deploy", "billing", "search", "login")
CANDIDATES = {
    "user": [*PEOPLE],
    "in_window": [0, 0, 2, 0],
    "answers_30d": [4.0, 2.0, 1.0, 0.0],
    "share_30d": [0.5, 0.25, 0.125, 0.0],
    "posts_30d": [8.0, 4.0, 2.0, 1.0],
}
WANTED = JobOptions("gpt-4.1-mini", 2, "acme", 7)


def asked_and_answered(count: int = 60) -> list[Example]:
    """Each topic has somebody who answers, now and then nobody does; half of it validates, where somebody new answers, too."""
    found = []
    for number in range(count):
        topic, person = TOPICS[number % 4], PEOPLE[number % 4]
        minute = number if number < count // 2 else 200 + number
        answer = () if number % 7 == 6 else ("new",) if number % 10 == 9 and minute > 100 else (person,)
        text = f"How does {topic} work, number {number}? Ask me at ana{number}@example.org"
        channel = "C2" if number % 5 == 4 else "C1"
        found.append(example(f"e{number}", *answer, minute=minute, text=text, channel=channel, candidates=CANDIDATES))
    return found


def training_set(folder: Path, **wanted: Any) -> Set:
    """The training set of these, for chats and with candidates."""
    folder.mkdir(parents=True, exist_ok=True)
    return made(folder, asked_and_answered(), **wanted)


def variables(server: Server, **more: object) -> dict[str, str]:
    """Settings that lead to the tests' server, as an environment."""
    told: dict[str, object] = {"base_url": server.url, "key": server.key, **more}
    return {f"BEEPGPT_PROVIDER__{name.upper()}": str(value) for name, value in told.items()}


def settings_for(server: Server, **more: object) -> Settings:
    """The same, read."""
    return read_settings(environ=variables(server, **more))


def job_of(folder: Path, server: Server, wanted: JobOptions = WANTED, *, again: bool = False, **more: object) -> dict[str, Any]:
    """Runs the job in this process, to its end; the model's card."""
    settings = settings_for(server, **more)
    return run_job(folder, folder / "models" / "tuned", wanted, settings, every=0.02, again=again)
