"""The browser in which pages are tested."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's own Chromium."""
    if CHROMIUM is None:
        told = "no Chromium is installed: on Debian and Ubuntu, apt-get install chromium"
        pytest.fail(told) if os.environ.get("CI") else pytest.skip(told)
    from playwright.sync_api import sync_playwright  # here, since most tests need no browser

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM)
        yield started
        started.close()


@pytest.fixture
def window(browser: Browser) -> Iterator[BrowserContext]:
    """A browser without a past. Whatever it asks of anybody but the page fails the test, and so does what its console complains of."""
    context = browser.new_context(viewport={"width": 960, "height": 900})
    wrong: list[str] = []
    context.on("request", lambda each: None if each.url.startswith("http://127.0.0.1:") else wrong.append(each.url))
    context.on("console", lambda each: wrong.append(each.text) if each.type == "error" else None)
    context.on("weberror", lambda each: wrong.append(str(each.error)))
    context.on("dialog", lambda each: wrong.append("a dialog"))
    yield context
    context.close()
    assert wrong == []


def complaints(page: Page) -> list[str]:
    """What axe says is wrong."""
    from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]

    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in Axe().run(page).response["violations"]]
