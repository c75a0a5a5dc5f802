"""`beepgpt try`: an export becomes a sentence and pages, whose figures are those of the commands that it runs."""

from __future__ import annotations

import html
import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from beepgpt.forgetting.kinds import found_in
from beepgpt.runtime.names import people_of
from beepgpt.simulation.workspace import Plan, names, write_export
from beepgpt.web.verdict import ALONE, BETTER, ONLY_A_TRIAL, SAME, UNAIDED, UNSURE, WORSE
from tests.support import program, quiet, run_program, start
from tests.support.browser import complaints
from tests.support.exports import zipped
from tests.support.speed import wait_until

PLAN = Plan(seed=7, messages=1_500, channels=5, people=25, days=40)
INCLUDE = ("--include", "channels,groups")
PAGES = ("index.html", "rehearsal.html", "outcomes.html", "set/models/local/report.html")


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("try") / "acme.zip"
    write_export(PLAN, path)
    return path


@pytest.fixture(scope="module")
def tried(export: Path) -> tuple[Path, str]:
    """The folder that `try` filled, and what it printed."""
    to = export.with_name("tried")
    done = run_program("try", export, "--to", to, *INCLUDE)
    assert done.returncode == 0, done.stderr
    return to, done.stdout


def steps_done(stderr: str) -> list[str]:
    """The names of the steps that were not up to date."""
    return re.findall(r"^\d/6 ([a-z ]+):.*\(\d+ s\)$", stderr, re.MULTILINE)


def test_an_export_becomes_a_sentence_and_pages(tried):
    """Standard output begins with it, and is short; what the index links to is there; the figures are those of the rehearsal."""
    to, said = tried
    sentence, *rest = said.splitlines()
    index = (to / "index.html").read_text()

    assert re.match(r"In [\d.]+ days it would have sent \d+ messages? to \d+ of 25 people; .* The better of two simple rules: ", sentence)
    assert (
        len(rest) < 12
        and f"{to}/index.html" in rest[-1]
        and rest[0] in (BETTER, SAME, ALONE, UNSURE, WORSE)
        and rest[0] in html.unescape(index)
        and rest[1] == f"{UNAIDED} {ONLY_A_TRIAL}"
        and UNAIDED in index
    )
    links = re.findall(r'href="([^"]+)"', index)
    assert [link for link in links if not (to / link).is_file()] == [] and set(links) == set(PAGES) - {"index.html"}
    alerts = int(re.search(r"sent (\d+) messages", sentence)[1])  # type: ignore[index]
    assert (
        re.search(rf"the model: \d+ of {alerts} messages judged</span>", index)
        and f"<h1>{alerts} alerts to " in (to / "rehearsal.html").read_text()
    )
    assert [path for path, kind in found_in(to) if kind is None] == []  # `forget` knows all that it makes


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_each_page_can_be_read_by_everybody(tried, browser: Browser, page: str, width: int, scheme: Any):
    """Axe finds nothing, folded and unfolded; it is short before something is unfolded, and no wider than its window."""
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    shown = context.new_page()
    shown.goto((tried[0] / page).as_uri())
    height, wide = shown.evaluate("[document.documentElement.scrollHeight, document.documentElement.scrollWidth]")
    folded = complaints(shown)
    ranges = shown.evaluate("[...document.querySelectorAll('.whole')].map(e => [e.textContent, e.getClientRects().length])")
    assert [text for text, lines in ranges if lines > 1] == [] and any("–" in text for text, _ in ranges), "no line ends within one"
    shown.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")

    assert (height < 3_000, wide) == (True, width)
    assert (folded, complaints(shown)) == ([], [])
    cut = shown.evaluate("[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).map(e => e.ariaLabel)")
    assert cut == [] or width == 390  # on a phone a table scrolls, and shows that
    scale = "Math.hypot(e.getScreenCTM().a, e.getScreenCTM().b)"
    sizes = f"[...document.querySelectorAll('figure svg text')].map(e => parseFloat(getComputedStyle(e).fontSize) * {scale})"
    assert [each for each in shown.evaluate(sizes) if each < 10] == []  # pixels
    assert shown.evaluate("document.documentElement.scrollWidth") == width
    context.close()


@pytest.mark.slow
def test_a_rehearsal_alone_finds_the_same(tried, export: Path, tmp_path: Path):
    """One rule for what alerts should be like: the page is the same, byte for byte, and so is the sentence about the threshold."""
    to, said = tried
    more = ("--model", to / "set/models/local", "--members", export, "--to", tmp_path / "page.html")
    done = run_program("rehearse", to / "predictions.jsonl", *more)

    assert done.returncode == 0, done.stderr
    back = re.compile(r'<p><a href="index.html">.*</a></p>')
    assert back.sub("", (to / "rehearsal.html").read_text()) == (tmp_path / "page.html").read_text()
    chosen = [each for each in said.splitlines()[4:-1] if "threshold" in each]  # nothing, where the usual threshold can be had
    assert done.stdout.splitlines()[: len(chosen)] == chosen


@pytest.mark.slow
@pytest.mark.parametrize("page", [each for each in PAGES if each != "outcomes.html"])
def test_hidden_names_are_hidden_everywhere(tried, browser: Browser, page: str):
    """Of those alerted, of who answered, and in what people wrote: the switch leaves none to be seen."""
    people = {word for name in names(PLAN).values() for word in re.findall(r"\w+", name.casefold()) if len(word) > 2}
    shown = browser.new_page()
    shown.goto((tried[0] / page).as_uri())
    shown.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    before = people & set(re.findall(r"\w+", shown.inner_text("main").casefold()))
    shown.check("#hide-names")
    after = people & set(re.findall(r"\w+", shown.inner_text("main").casefold()))

    assert before and after == set()
    shown.close()


def test_its_examples_are_those_of_its_own_command(tried, export: Path, tmp_path: Path):
    """Byte for byte, whatever the order."""
    done = run_program("examples", export, "--to", tmp_path / "examples.jsonl", *INCLUDE)

    assert done.returncode == 0
    made = [sorted(path.read_bytes().splitlines()) for path in (tmp_path / "examples.jsonl", tried[0] / "examples.jsonl")]
    assert made[0] == made[1] and len(made[0]) > 500


@pytest.mark.slow
def test_several_processes_make_the_same_files(tried, export: Path, tmp_path: Path):
    """A large export's examples and predictions are shared out among the processors; so small a one's only where it is said."""
    to = tmp_path / "tried"
    done = run_program("try", export, "--to", to, *INCLUDE, env={"BEEPGPT_RUN__WORKERS": "2"})

    assert (done.returncode, done.stdout.replace(str(to), str(tried[0]))) == (0, tried[1])
    same = ("examples.jsonl", "examples.names.json", "predictions.jsonl", "predictions.outcomes.jsonl", "set/models/local/model.skops")
    assert [name for name in same if (to / name).read_bytes() != (tried[0] / name).read_bytes()] == []


@pytest.mark.slow
def test_its_model_and_predictions_are_those_of_its_own_commands(tried, export: Path, tmp_path: Path):
    """Byte for byte, in other processes at another time."""
    to, model = tried[0], tmp_path / "model"
    for arguments in (("train", to / "set", "--to", model), ("score", export, "--model", model, "--to", tmp_path / "p.jsonl", *INCLUDE)):
        done = run_program(*arguments)
        assert done.returncode == 0, done.stderr

    for name in ("model.skops", "model.json"):
        assert (model / name).read_bytes() == (to / "set/models/local" / name).read_bytes()
    made = [sorted(path.read_bytes().splitlines()) for path in (tmp_path / "p.jsonl", to / "predictions.jsonl")]
    assert made[0] == made[1] and len(made[0]) > 100


def test_what_is_in_no_figure_and_each_alert_are_named(tried):
    """Moments with an unknown text are counted on the first page; alerts stand in a file that both pages name, with the page's count."""
    to = tried[0]
    withheld = json.loads((to / "steps.json").read_bytes())["scores"]["value"]["withheld"]
    index, page = ((to / name).read_text() for name in ("index.html", "rehearsal.html"))
    alerts = [json.loads(line) for line in (to / "rehearsal.alerts.jsonl").read_bytes().splitlines()]
    judged = [each for each in alerts if (each["part"], each["way"]) == ("judge", "direct")]

    assert withheld > 0 and f"{withheld:,} moments more of <em>choose</em> and <em>judge</em> are in no figure" in index
    assert f"<h1>{len(judged)} alerts to {len({each['user'] for each in judged})} people" in page
    assert "rehearsal.alerts.jsonl" in index and ".alerts.jsonl" in page
    assert "The rules know what was said and answered since the first of these predictions, and nothing of before" in page


@pytest.mark.slow
def test_names_are_shown_or_not(tried, export: Path, tmp_path: Path):
    """`--no-names`: no name of anybody stands on any page, though it does without."""
    to, _ = tried
    first = {name.partition(" ")[0].lower() for name in people_of(json.loads((to / "examples.names.json").read_bytes()))}
    shown = set(re.findall(r'class="named">([^<]+)<', (to / "index.html").read_text()))
    assert shown and shown <= first

    done = run_program("try", export, "--to", to, *INCLUDE, "--no-names")
    assert steps_done(done.stderr) == ["validation", "scores", "rehearsal"]
    page = (to / "index.html").read_text()
    recipients = set(re.findall(r">to ([^,<]+),", page))
    assert recipients and recipients <= set(names(PLAN)), "ids, not names"
    assert 'class="named"' not in page and 'id="hide-names"' not in page
    assert run_program("try", export, "--to", to, *INCLUDE).returncode == 0


@pytest.mark.slow
def test_killed_in_its_midst_it_goes_on(export: Path, tried, tmp_path: Path):
    """What was done is up to date, and the verdict is the same."""
    to = tmp_path / "killed"
    with (tmp_path / "said").open("wb") as said:
        run = start(program("try", export, "--to", to, *INCLUDE), quiet(), (said, said, said))
    wait_until(lambda: "training set" in ((to / "steps.json").read_text() if (to / "steps.json").exists() else ""), "two steps are done")
    run.send_signal(signal.SIGKILL)
    run.wait()

    done = run_program("try", export, "--to", to, *INCLUDE)

    assert steps_done(done.stderr)[:1] in (["model"], ["validation"]) and done.stdout.splitlines()[0] == tried[1].splitlines()[0]


@pytest.mark.slow
def test_stopped_while_it_scores_it_scores_the_rest(export: Path, tried, tmp_path: Path):
    """What was scored until then is not taken for all."""
    to = tmp_path / "stopped"
    with (tmp_path / "said").open("wb") as said:
        run = start(program("try", export, "--to", to, *INCLUDE), quiet(), (said, said, said))
    wait_until((to / "predictions.jsonl").exists, "it scores")
    run.send_signal(signal.SIGINT)
    run.wait()

    done = run_program("try", export, "--to", to, *INCLUDE)

    assert done.returncode == 0, done.stderr
    for name in ("predictions.jsonl", "predictions.outcomes.jsonl"):
        assert (to / name).read_bytes() == (tried[0] / name).read_bytes(), name


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "0 messages were answered by somebody else, of 0"),
        ([{"user": f"U{number % 2 + 1}", "text": "hello"} for number in range(40)], "39 messages were answered by somebody else, of 40"),
        ([{"user": "U1", "text": "alone"} for _ in range(40)], "0 messages were answered by somebody else, of 40"),
        ([{"bot_id": "B1", "subtype": "bot_message", "text": "beep"} for _ in range(40)], "Left out: bot 40"),
    ],
    ids=["empty", "few", "no replies", "only bots"],
)
def test_too_little_history_says_what_is_missing(tmp_path: Path, messages: list[dict[str, str]], said: str):
    """And how much of it would do; that is no failure, and has a status of its own."""
    day = [{"type": "message", "ts": f"{1641081600 + 60 * number}.000100", **each} for number, each in enumerate(messages)]
    path = zipped(tmp_path, ("channels.json", [{"id": "C1", "name": "general"}]), ("general/2022-01-02.json", day))

    done = run_program("try", path, "--to", tmp_path / "to")

    assert done.returncode == 3 and said in done.stderr and "at least 200 are needed" in done.stderr, done.stderr
    assert "--include channels,groups" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nothing.zip", "--to", "to"), "there is no such file or folder"),
        (("acme.zip", "--to", "acme.zip"), "acme.zip: is a file, and a folder is made there"),
        (("acme.zip", "--to", "theirs"), "holds files that are not of `beepgpt try`"),
        (("acme.zip", "--to", "to", "--no-candidates"), "--no-candidates"),
    ],
)
def test_a_wrong_command_says_what_is_wrong(export: Path, arguments: tuple[str, ...], said: str):
    """Before anything is made."""
    theirs = export.parent / "theirs" / "examples.jsonl"
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("of somebody else")
    done = run_program("try", *arguments, cwd=export.parent)

    assert theirs.read_text() == "of somebody else"
    assert done.returncode == 2 and said in done.stderr and not (export.parent / "to").exists()
