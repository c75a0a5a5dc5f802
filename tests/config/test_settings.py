"""Settings are one frozen value; whatever is wrong with them is named at once, as it was written."""

from contextlib import suppress
from dataclasses import fields
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from beepgpt.config.sections import UNITS, ConversationSettings, microseconds, microseconds_of_moment
from beepgpt.config.settings import DEFAULTS, NAMES, PREFIX, SECRET, BadSettings, Settings, read_settings
from beepgpt.conversations.rules import DAY, MINUTE, SECOND, BadRules, Rules, spec_of


def problems(*, toml: Path | None = None, environ: dict[str, str] | None = None, **overrides: dict[str, object]) -> list[str]:
    with pytest.raises(BadSettings) as caught:
        read_settings(toml, overrides, environ or {})
    return caught.value.problems


def test_defaults_are_the_rules_defaults():
    """`default.toml` and `Rules()` say the same, so a library user and a command make the same examples."""
    assert read_settings(environ={}).rules == Rules()


def test_every_rule_can_be_set():
    """Settings have a name for every rule, and for nothing else; the defaults' file explains each line."""
    assert set(ConversationSettings.model_fields) == {each.name for each in fields(Rules) if each.init}
    assert all("#" in line for line in DEFAULTS.read_text("utf-8").splitlines() if " = " in line)


def test_the_later_source_wins(tmp_path: Path):
    """Default, file, environment, flags: each is beaten by the next, value by value."""
    ours = tmp_path / "ours.toml"
    ours.write_text('[conversations]\nwindow = 6\nsession_gap = "11m"\nhorizon = "2d"\n')
    environ = {"BEEPGPT_CONVERSATIONS__WINDOW": "7", "BEEPGPT_CONVERSATIONS__SESSION_GAP": "12m"}

    rules = read_settings(ours, {"conversations": {"window": 8}}, environ).rules

    assert (rules.window, rules.session_gap, rules.horizon, rules.lateness) == (8, 12 * MINUTE, 2 * DAY, 5 * SECOND)


def test_a_flag_that_was_not_given_changes_nothing():
    """The command line hands over `None` for such a flag."""
    assert read_settings(None, {"conversations": {"window": None}}, {}).rules.window == 5


def test_the_environment_can_name_the_file(tmp_path: Path):
    """`BEEPGPT_CONFIG` stands in for `--config`, and is beaten by it."""
    theirs, ours = tmp_path / "theirs.toml", tmp_path / "ours.toml"
    theirs.write_text("[run]\nworkers = 2\n")
    ours.write_text("[run]\nworkers = 3\n")
    environ = {"BEEPGPT_CONFIG": str(theirs)}

    assert read_settings(None, {}, environ).run.workers == 2
    assert read_settings(ours, {}, environ).run.workers == 3


def test_everything_wrong_is_named_at_once_as_it_was_written(tmp_path: Path):
    """A TOML key, a variable and a flag, each with its value and what is allowed."""
    ours = tmp_path / "ours.toml"
    ours.write_text('[conversations]\nlateness = 5\n[run]\nlog_level = "loud"\n')

    assert problems(
        toml=ours,
        environ={"BEEPGPT_CONVERSATIONS__WINDOW": "0", "BEEPGPT_RUN__PROGRESS": "perhaps"},
        conversations={"target": "anybody", "horizon": "31d", "max_prompt_tokens": 15},
        run={"workers": 0},
    ) == [
        "--target is 'anybody': must be 'next_user', 'interacting_users' or 'reactors'",
        f"conversations.lateness in {ours} is 5: must be a duration like 500ms, 10m, 1h 30m or 30 days",
        "--workers is 0: must be greater than or equal to 1",
        "BEEPGPT_RUN__PROGRESS is 'perhaps': must be a valid boolean",
        f"run.log_level in {ours} is 'loud': must be 'debug', 'info', 'warning' or 'error'",
        "BEEPGPT_CONVERSATIONS__WINDOW is '0': must be more than 0",
        "--max-prompt-tokens is 15: must be at least 16",
        "--horizon is '31d': must be at most thread_ttl",
    ]


@pytest.mark.parametrize(("section", "name"), SECRET)
def test_a_secret_that_is_wrong_is_not_shown(tmp_path: Path, section: str, name: str):
    """A number where text is wanted: its name is shown, and not what was given."""
    file = tmp_path / "beepgpt.toml"
    file.write_text(f"[{section}]\n{name} = 90210777\n")

    with pytest.raises(BadSettings) as raised:
        read_settings(file, environ={})

    assert str(raised.value).startswith(f"{section}.{name} in {file} is a secret: ") and "90210777" not in str(raised.value)


def test_unknown_names_are_errors_with_a_guess(tmp_path: Path):
    """A slip of the pen is never taken in silence, wherever it was made."""
    ours = tmp_path / "ours.toml"
    ours.write_text("[conversation]\nwindow = 5\n[run]\nsnapshots = 1\n")

    assert problems(
        toml=ours,
        environ={"BEEPGPT_CONVERSATION__WINDOW": "5", "BEEPGPT_CONFG": "ours.toml", "BEEPGPT_ZZZ": "", "OTHER": "1"},
        run={"worker": 2, "snapshots": 2},
    ) == [
        f"conversation.window in {ours} is unknown; did you mean conversations.window?",
        f"run.snapshots in {ours} is unknown; did you mean run.snapshot_every?",
        "BEEPGPT_CONFG is unknown; did you mean BEEPGPT_CONFIG?",
        "BEEPGPT_CONVERSATION__WINDOW is unknown; did you mean BEEPGPT_CONVERSATIONS__WINDOW?",
        "BEEPGPT_ZZZ is unknown",
        "--worker is unknown; did you mean --workers?",
        "--snapshots is unknown; did you mean --snapshot-every?",
    ]


def test_sections_are_written_one_way(tmp_path: Path):
    """No section as JSON in a variable, no capitals, no value in place of a table; the rest is still looked at."""
    ours = tmp_path / "ours.toml"
    ours.write_text("run = 5\n[Conversations]\nwindow = 6\n")

    assert problems(toml=ours, environ={"BEEPGPT_RUN": "{workers", "BEEPGPT_RUN__WORKERS": "0"}) == [
        f"run in {ours} is unknown",
        f"Conversations.window in {ours} is unknown; did you mean conversations.window?",
        "BEEPGPT_RUN is unknown",
        "BEEPGPT_RUN__WORKERS is '0': must be greater than or equal to 1",
    ]


@pytest.mark.parametrize("value", ["true", "5.0"])
def test_what_is_no_whole_number_is_refused(tmp_path: Path, value: str):
    """Python takes both for integers; and who wrote them meant something else."""
    ours = tmp_path / "ours.toml"
    ours.write_text(f"[conversations]\nwindow = {value}\n[run]\nworkers = {value}\n")

    assert problems(toml=ours) == [
        f"conversations.window in {ours} is {value.capitalize()}: must be a valid integer",
        f"run.workers in {ours} is {value.capitalize()}: must be a valid integer",
    ]


def test_only_the_mapping_is_read(monkeypatch: pytest.MonkeyPatch):
    """What the process's environment says is not asked where another one is passed in, or values are."""
    monkeypatch.setenv("BEEPGPT_RUN__WORKERS", "0")
    settings = read_settings(environ={})

    assert settings.run.workers is None
    given = {name: getattr(settings, name) for name in Settings.model_fields}
    assert Settings(**given) == settings


def test_a_negated_flag_is_named_as_it_was_written():
    """`--no-candidate` was written, not `--candidate`."""
    assert problems(conversations={"candidate": False}) == ["--no-candidate is unknown; did you mean --no-candidates?"]


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file"), (b"window 5", "Expected"), (b"zone = Berlin", "text needs quotes"), (b"\xff", "utf-8")]
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, reason: str):
    """Missing, not TOML, not text: the file and the reason, and no traceback."""
    ours = tmp_path / "ours.toml"
    if content is not None:
        ours.write_bytes(content)

    (problem,) = problems(toml=ours)

    assert problem.startswith(f"the configuration file {ours} can't be read: ")
    assert reason in problem


def test_settings_are_frozen():
    """Nobody can change a setting after it was read."""
    settings = read_settings(environ={})
    with pytest.raises(ValidationError):
        settings.run.workers = 2


@given(parts=st.lists(st.tuples(st.integers(0, 10**15), st.sampled_from(sorted(UNITS))), min_size=1, max_size=4))
def test_durations_are_exact(parts: list[tuple[int, str]]):
    """However long, no microsecond is lost: nothing goes through a float."""
    total = sum(count * UNITS[unit] for count, unit in parts)

    assert microseconds("".join(f"{count}{unit}" for count, unit in parts)) == total
    assert microseconds(" ".join(f"{count} {unit}" for count, unit in parts)) == total


@pytest.mark.parametrize(
    ("text", "expected"), [("1 day", DAY), ("30 days", 30 * DAY), ("90 seconds", 90 * SECOND), ("5 min", 5 * MINUTE), ("0s", 0)]
)
def test_durations_can_be_written_out(text: str, expected: int):
    """Units in full, in the singular and the plural."""
    assert microseconds(text) == expected


@pytest.mark.parametrize("text", ["", "10", "m", "-5s", "1.5h", "5 parsecs", "5s!", "٣s", "10 ms s", "unlimited", 10, 1.5, None, True])
def test_what_is_no_duration_is_refused(text: object):
    """Bare numbers have no unit, fractions are not exact, and only a horizon is ever unlimited."""
    with pytest.raises(ValueError, match="a duration like"):
        microseconds(text)


@given(seconds=st.integers(10**8, 10**10 - 1), behind=st.text("0123456789", min_size=1, max_size=6))
def test_moments_are_exact(seconds: int, behind: str):
    """Slack's seconds with as many digits behind the point as are given: .5 is half a second."""
    expected = seconds * SECOND + int(Decimal(f"0.{behind}") * SECOND)

    assert microseconds_of_moment(f"{seconds}.{behind}") == expected
    assert microseconds_of_moment(f"{seconds}") == seconds * SECOND
    assert read_settings(None, {"training": {"cut": f"{seconds}.{behind}"}}, {}).training.cut == expected


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_setting_can_be_a_variable(name: tuple[str, ...]):
    """As it is written in a file; a wrong value is named like any other."""
    variable = PREFIX + "__".join(name).upper()
    for value in ("22:00-07:00", "[", ""):
        with suppress(BadSettings):
            read_settings(environ={variable: value})


def test_the_spec_differs_with_the_rules():
    """Every rule shapes the examples, but for the workspace's name and how long they can be retracted; and so do the versions."""
    others: list[Rules] = [
        Rules(target="reactors"),
        Rules(scope="channel"),
        Rules(horizon=None),
        Rules(lateness=0),
        Rules(session_gap=1),
        Rules(window=6),
        Rules(thread_ttl=31 * DAY),
        Rules(kept_roots=1),
        Rules(kept_people=40),
        Rules(max_prompt_tokens=16),
        Rules(encoding="cl100k_base"),
        Rules(edits="final"),
        Rules(bots="context"),
        Rules(candidates=False),
        Rules(max_candidates=1),
    ]

    assert len(others) == len(fields(Rules)) - 3
    assert len({rules.spec for rules in [Rules(), *others]}) == len(others) + 1
    assert Rules(workspace="ours").spec == Rules(remember=0).spec == Rules().spec == spec_of(Rules())


def test_the_default_spec_is_pinned():
    """Changing it makes every topic, file and model that exists unusable: raise a version if that is meant."""
    assert Rules().spec == "bb2cb986edad"


def test_rules_name_all_their_violations():
    """One look shows what to fix."""
    with pytest.raises(BadRules) as caught:
        Rules(workspace="a\nb", target="anybody", window=0, lateness=-1, horizon=2 * DAY, thread_ttl=DAY, max_candidates=2001)  # type: ignore[arg-type]

    assert [name for name, _ in caught.value.wrong] == ["workspace", "target", "lateness", "window", "horizon", "max_candidates"]


@pytest.mark.parametrize("value", [1.0, True, "5", None])
def test_rules_take_whole_numbers_only(value: object):
    """A float would lose digits in silence; `None` is for the horizon alone."""
    with pytest.raises(BadRules, match=r"window is .*: must be a whole number"):
        Rules(window=value)  # type: ignore[arg-type]
