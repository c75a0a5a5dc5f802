"""Takes the README's pictures, on a simulated workspace: python docs/make_screenshots.py.

Needs Chromium; with the font Inter (on Debian and Ubuntu, apt-get install chromium fonts-inter) they look as they do in the README.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).resolve().parents[1]
BEEPGPT = [sys.executable, "-m", "beepgpt"]
PICTURES = {"review-light": ("light", 960, 840, 1.0), "review-dark": ("dark", 960, 840, 1.0), "review-phone": ("light", 390, 844, 2.0)}
"""By name: the scheme, the window's width and height, pixels to a point."""
MOST_BYTES = 200_000
DECISIONS = 45


def main() -> None:
    """Make a workspace, judge some of its examples, and take a picture of the next one."""
    chromium = shutil.which("chromium") or sys.exit("no Chromium is installed: on Debian and Ubuntu, apt-get install chromium")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([*BEEPGPT, "demo", "--to", "demo"], cwd=folder, check=True, capture_output=True)
        (folder / "examples.jsonl").write_bytes((folder / "demo" / "examples.jsonl").read_bytes())
        take_trial(chromium, folder / "demo" / "index.html")
        take_life(chromium, folder)
        command = [*BEEPGPT, "review", "examples.jsonl", "--no-browser", "--labeler", "local", "--names", "demo/workspace.zip"]
        review = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
        try:
            take(chromium, address_in(review))
        finally:
            review.terminate()
            review.communicate()


def address_in(review: subprocess.Popen[str]) -> str:
    """What the program prints when the page is there."""
    assert review.stderr is not None
    for line in review.stderr:
        if found := re.search(r"http://\S+", line):
            return found[0]
    raise AssertionError("the review did not begin")


def take_trial(chromium: str, page_of: Path) -> None:
    """The top of a trial's page, and one alert as it looks in Slack."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        page = browser.new_page(viewport={"width": 960, "height": 690}, color_scheme="light")
        page.goto(page_of.as_uri())
        page.screenshot(path=HERE / "docs" / "index-light.png")
        page.locator(".case", has_text="Joined within a day").first.locator("article").screenshot(path=HERE / "docs" / "alert-light.png")
        browser.close()


def take_life(chromium: str, folder: Path) -> None:
    """The page of a simulated life, once somebody who was alerted has joined."""
    up = subprocess.Popen([*BEEPGPT, "up", "--simulate", "600x"], cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        address = address_in(up)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium)
            page = browser.new_page(viewport={"width": 960, "height": 760}, color_scheme="light")
            page.goto(address)
            page.locator("#inbox section:nth-of-type(-n+2) .right").first.wait_for(timeout=600_000)
            page.screenshot(path=HERE / "docs" / "up-light.png")
            browser.close()
    finally:
        up.terminate()
        up.communicate()


def take(chromium: str, address: str) -> None:
    """The pictures, of one example."""
    url = address.partition("?")[0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        for name, (scheme, width, height, scale) in PICTURES.items():
            window = browser.new_context(
                color_scheme="dark" if scheme == "dark" else "light",
                viewport={"width": width, "height": height},
                device_scale_factor=scale,
                has_touch=width < 500,
                is_mobile=width < 500,
            )
            page = window.new_page()
            page.goto(address)
            page.locator("#chat").wait_for()
            if name == next(iter(PICTURES)):
                judge(page, url)
            page.goto(f"{url}?view=unsure")
            path = HERE / "docs" / f"{name}.png"
            page.screenshot(path=path)
            assert path.stat().st_size < MOST_BYTES, f"{path} has {path.stat().st_size:,} bytes"
        browser.close()


def judge(page: Page, url: str) -> None:
    """Some decisions, until the labeler has an opinion; then on to an example in which several people speak."""
    page.goto(f"{url}?view=random")
    for _ in range(DECISIONS):
        press(page, "y" if len("".join(texts(page))) > 110 else "n")
    page.goto(f"{url}?view=unsure")
    while not page.locator(".opinions", has_text="% strong").count():
        page.reload()
    while not 3 <= len(texts(page)) <= 4 or len(set(page.locator("#chat .who bdi").all_inner_texts())) < 2:
        press(page, "s")


def texts(page: Page) -> list[str]:
    """What the conversation's messages say."""
    return page.locator("#chat .text").all_inner_texts()


def press(page: Page, key: str) -> None:
    """A key, until the page has taken it."""
    with page.expect_response(lambda each: each.request.method == "GET"):
        page.keyboard.press(key)
    page.locator("#main[aria-busy=false]").wait_for()


if __name__ == "__main__":
    main()
