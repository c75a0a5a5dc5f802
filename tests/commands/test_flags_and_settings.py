"""A command offers the flags that it reads, and reads no setting that it doesn't name: each is watched while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.core import TyperArgument
from typer.testing import CliRunner

from beepgpt.commands import flags
from beepgpt.commands.app import COMMANDS, MODULES, app
from beepgpt.commands.loading import EXAMPLES, loaded
from beepgpt.commands.reads import READS, flags_of, is_shown, read_by
from beepgpt.config.sections import Section
from beepgpt.config.settings import Name, Settings, read_settings
from beepgpt.connectors import kafka
from beepgpt.connectors.kafka import Connection
from beepgpt.connectors.log import TopicSpec
from beepgpt.labeling.few_shots import FewShots
from beepgpt.simulation.slack.server import SlackServer
from beepgpt.simulation.workspace import Plan, write_export
from beepgpt.web import local_server
from tests.support.broker import Broker, GivenBroker
from tests.support.ports import free_ports

NAMES = [name for group in COMMANDS.values() for name in group]
PLAN = Plan(seed=7, messages=1_000, channels=4, people=20, days=30)
INCLUDE = "--include channels,groups"
ALONE = {"backup", "compare", "help", "init", "settings", "experiment"}
"""Commands that get no settings from `with_settings`, and have no flags of settings."""
ON_KAFKA = {"check", "ingest", "topics"}
"""Commands that need a broker."""

RUNS = {
    "examples": [f"examples acme.zip --to examples.jsonl --recovery recovery --metrics-port PORT {INCLUDE}"],
    "prepare": ["prepare examples.jsonl --to set"],
    "label": [
        "label examples.jsonl --to labeled.jsonl --labeler rules --force --recovery label-recovery --metrics-port PORT",
        "label examples.jsonl --to labeled2.jsonl --learn-from labeled.jsonl --force",
        "label examples.jsonl --to labeled3.jsonl --labeler provider --force --yes",
    ],
    "review": ["review examples.jsonl --no-browser"],
    "train": ["train set"],
    "validate": ["validate set --model set/models/local"],
    "retrain": ["retrain examples.jsonl --model live --precision 0.01"],
    "predict": ["predict --model set/models/local --row 1"],
    "score": [f"score acme.zip --model set/models/local --to p.jsonl --recovery scores --metrics-port PORT {INCLUDE}"],
    "outcomes": ["outcomes p.outcomes.jsonl --model set/models/local"],
    "rehearse": ["rehearse p.jsonl --model set/models/local --members acme.zip --to rehearsal.html"],
    "alert": ["alert p.jsonl --members acme.zip --threshold 0.2 --metrics-port PORT"],
    "audit": [f"audit acme.zip examples.jsonl --sample 5 {INCLUDE}"],
    "dead_letters": ["dead-letters broken.jsonl"],
    "forget": ["forget --from examples.jsonl --user U1"],
}
"""What is run to see what is read, in an order in which each finds what it needs."""


class Watch:
    """Which settings are read."""

    def __init__(self) -> None:
        self.read: set[Name] = set()

    def begin(self, patch: pytest.MonkeyPatch) -> None:
        """Watch from now on; what `read_settings` does itself doesn't count."""
        sections = {field.annotation: name for name, field in Settings.model_fields.items()}
        plain, dumped = Section.__getattribute__, Section.model_dump

        def get(section: Section, name: str) -> Any:
            if name in type(section).model_fields:
                self.read.add((sections[type(section)], name))
            return plain(section, name)

        def dump(section: Section, **how: Any) -> Any:
            self.read |= {(sections[type(section)], name) for name in type(section).model_fields}
            return dumped(section, **how)

        def settings(*given: Any) -> Settings:
            found, self.read = read_settings(*given), set()
            return found

        patch.setattr(Section, "__getattribute__", get)
        patch.setattr(Section, "model_dump", dump)
        patch.setattr(flags, "read_settings", settings)


def run(command: str, *, may_fail: bool = False) -> str:
    """Run a command in this process; returns its standard output."""
    done = CliRunner().invoke(app, command.replace("PORT", str(free_ports())).split(), prog_name="beepgpt")
    assert may_fail or done.exit_code == 0, (command, done.output, done.exception)
    return done.stdout


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, set[Name]]]:
    """The settings that each command read, by its function."""
    folder, watch = tmp_path_factory.mktemp("read"), Watch()
    found: dict[str, set[Name]] = {}
    write_export(PLAN, folder / "acme.zip")
    (folder / "broken.jsonl").write_text('{"reason": "not_json", "place": "a:1", "record": "{"}\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("BEEPGPT_RUN__FORGOTTEN", str(folder / "forgotten.json"))
        patch.setenv("BEEPGPT_PROVIDER__BASE_URL", "http://127.0.0.1:1/v1")
        patch.setenv("BEEPGPT_PROVIDER__TRIES", "1")
        patch.setattr(local_server, "serve", lambda *_: None)  # it would go on until somebody ends it
        watch.begin(patch)
        for function, commands in RUNS.items():
            found[function] = set()
            for command in commands:
                if command.startswith("label") and not (folder / "few-shots").exists():
                    choose_few_shots(folder)
                run(command, may_fail=function in ("label", "outcomes"))
                found[function] |= watch.read
        yield found


def choose_few_shots(folder: Path) -> None:
    shots = FewShots(folder / "few-shots")
    for number, line in enumerate((folder / "examples.jsonl").read_bytes().splitlines()[:40]):
        shots.keep(line[8:40].decode(), line, "strong" if number % 2 else "weak")
    shots.close()


def offered(function: str) -> set[str]:
    """The flags of settings that a command has, by name, as Typer knows them."""
    name = next((each for each, other in MODULES.items() if other == function), function.replace("_", "-"))
    fields = {name for _, name in flags_of(function)}
    return {each.name for each in loaded(name, function).params if each.name in fields}


def wrong(function: str, read: set[Name]) -> tuple[set[Name], set[Name]]:
    """The flags that a command offers and doesn't read, and the settings that it reads and doesn't name."""
    logs = {("run", "log_level"), ("run", "log_format")}  # `with_settings` reads them for all
    if ("run", "metrics_port") in read:
        read = read | {("run", "metrics_host")}
    return set(flags_of(function)) - read - logs, read - set(read_by(function)) - logs


def test_every_command_is_in_the_table_and_has_its_flags():
    """And each flag of the table is one of the command."""
    functions = {MODULES.get(name, name.replace("-", "_")) for name in NAMES}

    assert set(READS) == functions and set(EXAMPLES) == set(NAMES)
    for function in functions:
        assert offered(function) == {name for _, name in flags_of(function)}, function


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("function", sorted(RUNS))
def test_a_command_reads_the_flags_that_it_offers_and_no_other_setting(read, function: str):
    assert wrong(function, read[function]) == (set(), set())


def test_a_flag_that_is_not_read_and_a_setting_that_is_not_offered_would_be_seen():
    assert wrong("outcomes", {("scoring", "people")}) == ({("scoring", "threshold")}, {("scoring", "people")})
    assert set(RUNS) | ALONE | ON_KAFKA | {"try_export", "demo", "up", "history"} == set(READS)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_try_reads_what_it_names(tmp_path: Path):
    """Its flags, and what its steps read from files and variables."""
    watch = Watch()
    write_export(PLAN, tmp_path / "acme.zip")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        watch.begin(patch)
        run(f"try acme.zip --to acme {INCLUDE}", may_fail=True)

    assert wrong("try_export", watch.read) == (set(), set())


def test_history_reads_what_it_names(slack_server: SlackServer, tmp_path: Path):
    """Its flags, and what it needs of Slack."""
    watch = Watch()
    slack_server.workspace.add_channel("C1")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        for name, value in slack_server.settings.items():
            patch.setenv(name, value)
        watch.begin(patch)
        run("history --to acme", may_fail=True)

    assert wrong("history", watch.read) == (set(), set()) and ("slack", "bot_token") in watch.read


@pytest.mark.slow
def test_commands_with_a_broker_read_what_they_name(broker: Broker | GivenBroker, tmp_path: Path):
    """`topics`, `ingest` of an export; and `check`, which has no flags of settings."""
    watch, topic = Watch(), f"test-{uuid4().hex[:12]}"
    write_export(PLAN, tmp_path / "acme.zip")
    kafka.create_topics(Connection(broker.bootstrap), [TopicSpec(topic, 1, {}, 1)])
    at = f"kafka://{broker.bootstrap}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        watch.begin(patch)
        run(f"topics {at} --prefix {topic} --partitions 1 --replicas 1")
        assert wrong("topics", watch.read) == (set(), set())
        run(f"ingest acme.zip --to {at}/{topic}.events {INCLUDE}")
        only_live = {("run", "metrics_port"), ("run", "metrics_host")}  # of SOURCE `slack`: tests/ingest/
        assert wrong("ingest", watch.read | only_live) == (set(), set())
        run(f"check --broker {at}", may_fail=True)
        assert wrong("check", watch.read) == (set(), set())


def test_a_flag_that_changes_nothing_is_refused():
    """It isn't known to the command, or is of another kind of model."""
    for command in ("outcomes o.jsonl --horizon 1d", "topics kafka://h:1 --target reactors", "validate set --model m --workers 2"):
        done = CliRunner().invoke(app, command.split())
        assert done.exit_code == 2 and "No such option" in done.output, command
    done = CliRunner().invoke(app, ["train", "set", "--way", "chat"])
    assert str(done.exception) == "--way is for --model served:NAME, and this is --model local: leave it out"


@pytest.mark.parametrize("name", NAMES)
def test_help_fits_a_screen_and_ends_with_an_example(name: str):
    """Under 40 lines at 100 columns, nothing cut; the example's flags are the command's; hidden flags are counted at the foot."""
    shown = CliRunner().invoke(app, [name, "-h"], env={"COLUMNS": "100", "TERMINAL_WIDTH": "100"}).output
    command = loaded(name, MODULES.get(name))
    known = {flag for each in command.params for flag in each.opts}

    assert len(shown.strip("\n").splitlines()) < 40 and max(map(len, shown.splitlines())) <= 100
    assert f"Example: {EXAMPLES[name]}"[:60] in shown and "Usage: " in shown
    assert {word for word in EXAMPLES[name].split() if word.startswith("--")} <= known
    function = MODULES.get(name, name.replace("-", "_"))
    for flag in flags_of(function):
        assert (f"--{flag[1].replace('_', '-')} " in shown) == is_shown(flag, function), flag


def test_settings_are_listed_with_where_they_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A variable over a file over the default; secrets are never shown; what is piped has tabs between its cells, and no padding."""
    (tmp_path / "b.toml").write_text('[run]\nworkers = 2\n[conversations]\nhorizon = "2h 30m"\n[kafka]\npassword = "geheim"\n')
    monkeypatch.setenv("BEEPGPT_RUN__WORKERS", "3")
    rows = {line.split("\t")[0]: line.split("\t") for line in run(f"settings examples --config {tmp_path / 'b.toml'}").splitlines()}

    assert rows["run.workers"][1:4] == ["3 (default: auto)", "auto or whole number", "BEEPGPT_RUN__WORKERS"]
    assert rows["conversations.horizon"][1:3] == ["2h 30m (default: 1 day)", "duration"]
    assert rows["conversations.horizon"][3] == f"conversations.horizon in {tmp_path / 'b.toml'}"
    assert rows["conversations.bots"][1:4] == ["ignore", "ignore | context", "default, or --bots"]
    assert "geheim" not in str(rows) and rows["kafka.password"][1] == "(set) (default: none)"
    assert len(rows) == len(read_by("examples")) + 1


def test_init_writes_a_file_that_every_command_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Three answers are set, all else is a comment; what is there is not overwritten; wrong answers leave no file."""
    monkeypatch.chdir(tmp_path)
    wanted = "init --workspace acme --zone Europe/Berlin --broker kafka://kafka:9092"
    run(wanted)
    settings = read_settings(tmp_path / "beepgpt.toml", environ={})

    assert (settings.conversations.workspace, settings.alerts.zone) == ("acme", "Europe/Berlin")
    assert settings.cluster.source == "kafka://kafka:9092/slack.events?follow=true"
    plain = read_settings(environ={})
    answered = {each: getattr(plain, each) for each in ("conversations", "alerts", "cluster")}
    assert settings.model_copy(update=answered) == plain
    run("init --workspace acme --zone Europe/Berlin --to up.toml")
    assert read_settings(tmp_path / "up.toml", environ={}).cluster == plain.cluster
    assert "is there already" in str(CliRunner().invoke(app, wanted.split()).exception)
    nobody = CliRunner().invoke(app, ["init", "--workspace", "a", "--to", "c.toml"])
    assert "nobody is there to be asked: give --zone" in str(nobody.exception) and not (tmp_path / "c.toml").exists()
    wrong = CliRunner().invoke(app, ["init", "--workspace", "a", "--zone", "Berlin", "--to", "d.toml"])
    assert str(wrong.exception).startswith("--zone is 'Berlin': ") and not (tmp_path / "d.toml").exists()


def test_what_stands_beside_a_flag_is_the_same_in_every_command():
    """By its name and its type: a path here and a place there differ, as a place may be a topic; no flag takes a mere `str`.

    But for `--since`: of `score` it is a time, of `retrain` how long before the end.
    """
    beside: dict[tuple[str, object], set[str | None]] = {}
    for name in {name for group in COMMANDS.values() for name in group}:
        for each in loaded(name, MODULES.get(name)).params:
            kind = each.type_descriptor.annotation
            if isinstance(each, TyperArgument):
                assert each.metavar is not None and each.metavar == each.metavar.upper().replace(".TOML", ".toml"), (name, each.name)
            elif kind in (str, list[str]):
                beside.setdefault((each.name, kind), set()).add(each.metavar)

    assert {name: found for name, found in beside.items() if len(found) > 1} == {("since", str): {"<duration>", "<time>"}}
    assert {name for name, found in beside.items() if None in found} == set()
