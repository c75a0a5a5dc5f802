"""The page of what runs: who sees it, what it says, and that it updates itself."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from beepgpt.web import local_server
from beepgpt.web.status_page import StatusPage
from tests.support.browser import complaints

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

pytestmark = pytest.mark.xdist_group("browser")

SHARE = {"value": 0.41, "low": 0.3, "high": 0.53, "count": 80}
INGEST = {
    "name": "ingest",
    "state": "running",
    "why": "",
    "since": "09:00",
    "restarts": 0,
    "makes": "event",
    "last_minute": 12,
    "lag": None,
    "words": ["3 channels; 0 others are left out."],
}
ALERT = INGEST | {"name": "alert", "makes": "alert", "last_minute": 1, "lag": 0, "restarts": 2, "words": ["Slack: Test"]}
FOUND: dict[str, Any] = {
    "workspace": "acme",
    "folder": "/srv/acme",
    "forgotten": "/home/beepgpt/forgotten.json",
    "zone": "Europe/Berlin",
    "now": "2026-11-29 10:00",
    "since": "2026-11-22 09:00",
    "services": [INGEST, ALERT],
    "job": "",
    "jobs": [],
    "channels": 3,
    "no_model": "",
    "night": "Mon 03:00",
    "model": {"name": "4f1c5a07e9e2", "threshold": 0.15, "why": "the least threshold that suits"},
    "trained": {"at": "2026-11-29 03:02", "says": "The candidate is not taken: it is worse."},
    "figures": {
        "model": "4f1c5a07e9e2",
        "from": "2026-11-22 09:00:00 Europe/Berlin",
        "until": "2026-11-29 09:00:00 Europe/Berlin",
        "first_replies": {"hit@1": SHARE},
        "answered": {"hit@1": SHARE, "hit@5": SHARE},
        "alerts": {"given": 80, "precision": SHARE, "threshold": 0.15},
    },
    "alerts": [{"day": "2026-11-28", "message": 5, "list": 1, "joined": 2, "not_joined": 1, "open": 2, "so_far": 1, "good": 1}],
    "no_alerts": {
        "people": {0: 1, 1: 14},
        "is_for_all": False,
        "since": "2026-11-22 09:00",
        "listed": {"quiet_hours": 1},
        "passed": {"participant": 5, "told_before": 2},
        "points": {"root_alone": 8},
    },
}
ALERTED = {
    "to": "Ana Abara",
    "at": "2026-06-02 16:20",
    "channel": "general",
    "excerpt": "Who knows <b>why</b>?",
    "why": "22 % likely",
    "alert": "a1",
}
SIMULATED = {"rate": 600.0, "count": 3, "inbox": [ALERTED | {"joined": each} for each in (None, True, False)], "joined": []}
CUT_OFF = "Array.from(document.querySelectorAll('td')).filter((each) => each.getBoundingClientRect().right > innerWidth).length"


class Served:
    """The page, at an address of its own, and what it shows, which a test may change."""

    def __init__(self, folder: Path, port: int) -> None:
        self.found = dict(FOUND)
        self.keys = local_server.Keys(port, "up")
        (folder / "outcomes.html").write_text("<title>Outcomes</title><style>p { color: red }</style><p>Outcomes</p>")
        linked = {"outcomes.html": ("What became of predictions", folder / "outcomes.html")}
        self.app = StatusPage(lambda: self.found, lambda: linked).app(self.keys)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A page that is served as long as the test runs."""
    with closing(local_server.listen(0)) as listener:
        served = Served(tmp_path, listener.getsockname()[1])
        with local_server.serving(served.app, listener):
            yield served


def test_only_who_started_it_sees_it(served: Served):
    """Neither the page nor a linked one is there without a token; the refusal names the command."""
    for path in ("", "pages/outcomes.html", "static/style.css"):
        with pytest.raises(urllib.error.HTTPError, match="403") as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{served.keys.port}/{path}", timeout=10)
        with refused.value:
            assert "`beepgpt up` printed" in refused.value.read().decode()


def test_it_says_what_runs_and_leads_to_the_other_pages(served: Served, window: BrowserContext):
    """A verdict first; no share without its interval; accessible on a screen and on a phone, by day and by night."""
    page = window.new_page()
    page.goto(served.keys.address())
    page.wait_for_selector("#verdict")
    for width in (1280, 660, 390):
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert complaints(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(CUT_OFF) == 0, f"all of each table is there at {width} pixels"
    assert page.inner_text("h1") == "All is well: 12 events in the last minute."
    text = " ".join(page.inner_text("main").split())
    why = ("14 people have alerts on", "took part already participant 5 they were not alerted", "quiet_hours 1 it is in Home or a digest")
    joined = "joined, of those alerted a day ago or longer; 1 of the others so far"
    for words in ("2 of 3", joined, "41 % (30–53)", "alerts from 15 % on", "Mon 03:00", "The candidate is not taken", *why):
        assert words in text, words
    page.click("text=What became of predictions")
    assert page.inner_text("p") == "Outcomes"


def test_it_updates_itself_and_what_is_unfolded_stays(served: Served, window: BrowserContext):
    """Something goes down; then there is no model any more."""
    page = window.new_page()
    page.clock.install()
    page.goto(served.keys.address())
    page.click("#lines-alert summary")
    served.found |= {"services": [INGEST, ALERT | {"state": "down", "why": "was killed (SIGKILL), and said last: Slack: Test"}]}
    page.clock.fast_forward(6_000)
    page.get_by_role("heading", name="alert: was killed (SIGKILL), and said last: Slack: Test.").wait_for()
    assert page.get_attribute("#lines-alert", "open") is not None
    served.found |= {"services": [INGEST], "no_model": "It collects: 7 of the 200.", "model": None}
    page.clock.fast_forward(6_000)
    page.get_by_role("heading", name="It collects: 7 of the 200").wait_for()


def test_a_simulated_life_has_its_inbox_on_the_page(served: Served, window: BrowserContext):
    """To whom, what, and who joined; what is quoted is text. A page of a real workspace has none."""
    page = window.new_page()
    page.goto(served.keys.address())
    assert page.locator("#inbox").count() == 0
    served.found |= {"simulated": SIMULATED}
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.reload()
        assert complaints(page) == [] and page.evaluate("document.documentElement.scrollWidth") == width
    text = page.inner_text("#inbox")
    assert page.locator("#inbox .became").all_inner_texts() == [
        "Not known yet: there is a day for it",
        "Ana Abara joined",
        "Ana Abara did not join",
    ]
    served.found |= {"simulated": SIMULATED | {"joined": [ALERTED | {"to": "Bo Cho", "joined": True}]}}
    page.reload()
    assert page.locator("#inbox .became").all_inner_texts()[-1] == "Bo Cho joined"
    for words in ("3 direct messages so far", "600 times as fast", "to Ana Abara, 2026-06-02 16:20", "#general", "Who knows <b>why</b>?"):
        assert words in text, words
