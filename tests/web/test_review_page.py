"""What the review's page shows in a real browser, and that everybody can use it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.support.browser import complaints
from tests.support.review import NEGATIVE, POSITIVE, asked, cookie_of, example, few_shot, page_of, press, refused, reviewing, shown

pytestmark = pytest.mark.xdist_group("browser")


def test_the_unsure_ones_come_first(tmp_path: Path, window: BrowserContext):
    """By how far a labeler is from fifty-fifty; what nobody has an opinion of comes last."""
    lines = [example(1, p=0.02), example(2), example(3, p=0.45), example(4, p=0.8)]
    with reviewing(tmp_path, lines) as review:
        page = page_of(window, review)
        order = []
        for _ in lines:
            order += shown(page)
            press(page, "s")

        assert order == ["question 3", "question 4", "question 1", "question 2"]


TOPICS = ("the invoice for the customer is wrong", "the deployment of the server fails", "a contract needs the lawyer")
CHAT = ("thanks a lot everybody", "good morning to you all", "ok cool see you")


@pytest.mark.slow
def test_the_local_labeler_learns_while_one_decides(tmp_path: Path, window: BrowserContext):
    """It has no opinion before it has enough to learn from; then it has one of every example, and the next decisions change it."""
    texts = {number: (TOPICS if number % 2 else CHAT)[number % 3] for number in range(60)}
    lines = [example(number, f"{text} {number}") for number, text in texts.items()]
    few_shots = tmp_path / "few-shots"
    few_shots.mkdir()
    (few_shots / POSITIVE).write_bytes(b"".join(few_shot(line, "strong") for line in lines[1:20:2]))
    (few_shots / NEGATIVE).write_bytes(b"".join(few_shot(line, "weak") for line in lines[0:18:2]))
    with reviewing(tmp_path, lines, "--labeler", "local") as review:
        page = page_of(window, review, "/?view=random")
        assert "it learns from 10 strong and 10 weak ones" in page.locator(".opinions").inner_text()
        for _ in range(5):
            press(page, "y" if "the" in shown(page)[0] else "n")

        opinion = page.locator(".opinions", has_text="% strong")
        while not opinion.count():  # it thinks in its own time
            page.reload()
        for _ in range(5):
            thought = "strong" if "the" in shown(page)[0] or "lawyer" in shown(page)[0] else "weak"
            assert re.search(rf"labeler \(local\)\s+{thought}", opinion.inner_text())
            press(page, "s")
        page.goto(review.url + "/chosen")
        assert page.locator(".differs").count() == 0


@pytest.mark.slow
def test_what_others_labeled_is_learned_from(tmp_path: Path):
    """Then the local labeler has an opinion before the first few-shot."""
    labeled = tmp_path / "labeled.jsonl"
    lines = [example(number, f"{(TOPICS if number % 2 else CHAT)[number % 3]} {number}", p=number % 2) for number in range(40)]
    labeled.write_bytes(b"".join(line + b"\n" for line in lines))
    with reviewing(tmp_path, [example(99, TOPICS[0])], "--labeler", "local", "--learn-from", str(labeled)) as review:
        assert "labeler (local)</bdi>" in asked(review, "GET", "/", Cookie=cookie_of(review)).text
    labeled.write_bytes(b'{"id":"a","prompt":"secret words","signal":"great"}\n')
    said = refused(tmp_path / "examples.jsonl", "--few-shots", tmp_path / "few-shots", "--labeler", "local", "--learn-from", labeled)
    assert re.search(r'labeled\.jsonl, line 1: its "signal" is neither "strong" nor "weak"', said)


def test_rules_have_an_opinion_at_once(tmp_path: Path, window: BrowserContext):
    """Where they and the labels of SOURCE differ most is an order of its own."""
    lines = [example(1, "good morning", p=0.9), example(2, "good morning all", p=0.1), example(3, "why does the deployment fail?", p=0.3)]
    with reviewing(tmp_path, lines, "--labeler", "rules") as review:
        page = page_of(window, review, "/?view=differ")
        order = []
        for _ in range(2):
            order += shown(page)
            press(page, "s")

        assert order == ["good morning", "why does the deployment fail?"]
        assert page.locator("h2").inner_text() == "Nothing is left here"


def test_a_choice_that_others_see_otherwise_is_shown_first(tmp_path: Path, window: BrowserContext):
    """It can be moved to the other side, or taken out; the old label is in neither file."""
    lines = [example(1, p=0.1), example(2, p=0.9), example(3, p=0.2)]
    with reviewing(tmp_path, lines) as review:
        page = page_of(window, review, "/?view=newest")
        press(page, "n", "n", "y")
        page.goto(review.url + "/chosen")

        articles = page.locator("article")
        assert articles.locator(".differs").count() == 2
        assert [articles.nth(each).locator(".text").inner_text() for each in range(3)] == ["question 1", "question 2", "question 3"]
        assert "a-model" in articles.nth(0).inner_text()
        assert "weak (10 % strong)" in articles.nth(0).inner_text()
        articles.nth(1).get_by_role("button", name="It is strong").click()
        assert review.strong == [few_shot(lines[0], "strong"), few_shot(lines[1], "strong")]
        assert review.weak == [few_shot(lines[2], "weak")]
        page.locator("article", has_text="question 1").get_by_role("button", name="Take it out").click()
        assert review.strong == [few_shot(lines[1], "strong")]
        assert page.locator(".differs").count() == 0


def test_the_conversation_reads_as_a_chat(tmp_path: Path, window: BrowserContext):
    """Who said what, how long after, who answered; by name where names are known."""
    names = tmp_path / "lists"
    names.mkdir()
    (names / "users.json").write_text(json.dumps([{"id": "UANA", "name": "ana", "profile": {"display_name": "Ana Abara"}}]))
    (names / "channels.json").write_text(json.dumps([{"id": "C1", "name": "random"}]))
    with reviewing(tmp_path, [example(1, "who knows?", "I do")], "--names", str(names)) as review:
        page = page_of(window, review)

        assert page.locator("h2").inner_text() == "#random thread"
        authors = [" ".join(each.split()) for each in page.locator("#chat .who").all_inner_texts()]
        assert authors == ["Ana Abara", "Person B 1 s later"]
        assert page.locator(".answer bdi").inner_text() == "Person B answered 60 s later"


HOSTILE = [
    "<script>document.title = 'owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    '"><svg onload=document.title="owned">',
    "</p></div></main></script><script>document.title='owned'</script>",
    "<a href=\"javascript:document.title='owned'\">click</a>",
    "{{ 7 * 7 }} {% raw %} ${7*7} &lt;b&gt; <!-- ]]> ",
    "\u202eright to left from here",
    "Z\u0351\u036b\u0343" * 200,
    "שלום עולם, and English",
    "\u2028\u2029 lines",
]


def test_what_people_wrote_is_text_and_nothing_else(tmp_path: Path, window: BrowserContext):
    """Shown as it is, whatever it looks like, in every place that shows it; nothing in it runs, and no link is made of it."""
    lines = [example(number, text, "an answer", channel=text, p=0.5) for number, text in enumerate(HOSTILE, 1)]
    names = tmp_path / "users.json"
    names.write_text(json.dumps([{"id": "UANA", "name": HOSTILE[0]}, {"id": "UBO", "name": HOSTILE[1]}]))
    with reviewing(tmp_path, lines, "--names", str(names)) as review:
        page = page_of(window, review, "/?view=newest")
        for text in reversed(HOSTILE):
            assert shown(page) == [text, "an answer"]
            assert page.locator("main a, main script, main img, main svg:not(.bar)").count() == 0
            assert page.locator("#chat .who bdi").first.text_content() == HOSTILE[0]
            press(page, "y")
        page.goto(review.url + "/chosen")

        assert page.locator(".text").count() == 2 * len(HOSTILE)
        assert page.locator("main a, main script, main img, main svg:not(.bar)").count() == 0
        assert page.title() == "Your choices · BeepGPT"


LONG = ["word" * 25_000, " ".join(["two words"] * 10_000), "W" * 100_000, "\u202e" + "\ufdfa" * 5_000]


def test_the_page_never_grows_wider_than_its_window(tmp_path: Path, window: BrowserContext):
    """However long the words are, down to the narrowest phone; and what decides stays in sight."""
    with reviewing(tmp_path, [example(number, text, "short", channel="C" * 500) for number, text in enumerate(LONG)]) as review:
        page = page_of(window, review, "/?view=newest")
        for text in reversed(LONG):
            assert len(shown(page)[0]) == len(text)
            for width in (320, 390, 1200):
                page.set_viewport_size({"width": width, "height": 800})
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                assert page.get_by_role("button", name="Strong").bounding_box()["y"] < 750  # type: ignore[index]
            press(page, "s")


@pytest.mark.parametrize(
    ("scheme", "width"),
    [("light", 390), *(pytest.param(*each, marks=pytest.mark.slow) for each in (("dark", 390), ("light", 960), ("dark", 960)))],
)
def test_axe_finds_nothing_to_complain_of(tmp_path: Path, browser: Browser, scheme: Any, width: int):
    """Contrast, names, landmarks, order of headings: on every page, in every state."""
    lines = [example(1, "one", "two", "three", "four", "five", p=0.3), example(2, "one", p=0.9), example(3)]
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800}, reduced_motion="reduce")
    with reviewing(tmp_path, lines) as review:
        page = page_of(context, review, "/?view=newest")
        for _ in range(4):
            assert complaints(page) == []
            if page.get_by_role("button", name="Strong").is_enabled():
                press(page, "y")
        page.goto(review.url + "/chosen")
        assert complaints(page) == []
    context.close()


def test_focus_goes_in_the_order_of_reading_and_stays_where_it_was(tmp_path: Path, window: BrowserContext):
    """From the skip link over the orders to the buttons; after a decision the same button is in focus, for the next example."""
    with reviewing(tmp_path, [example(1), example(2)]) as review:
        page = page_of(window, review)
        order = []
        for _ in range(10):
            page.keyboard.press("Tab")
            order.append(page.evaluate("document.activeElement.innerText.split('\\n')[0]"))
            assert page.evaluate("document.activeElement.matches(':focus-visible')")

        assert [re.sub(r"\s+\d+$", "", each) for each in order] == [
            "Skip to the conversation", "Unsure first", "Disagreements", "Random", "Newest", "Your choices",
            "Y Strong", "N Weak", "S Skip", "Keys are on",
        ]  # fmt: skip
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Shift+Tab")
        press(page, "Enter")
        assert page.evaluate("document.activeElement.value") == "weak"
        assert len(review.weak) == 1


def test_changes_are_told_to_screen_readers(tmp_path: Path, window: BrowserContext):
    """The log and the status stay the elements that they were, so that what is new in them is read; progress bars say what they count."""
    with reviewing(tmp_path, [example(1), example(2)]) as review:
        page = page_of(window, review)
        page.evaluate("for (const id of ['chat', 'notice']) document.getElementById(id).stays = true")
        press(page, "y")

        assert page.get_by_role("log", name="Conversation").evaluate("each => each.stays")
        assert page.get_by_role("status").evaluate("each => each.stays")
        assert page.get_by_role("progressbar", name="Strong examples: 1; 25 to 50 are wanted").count() == 1


def test_single_keys_can_be_switched_off(tmp_path: Path, window: BrowserContext):
    """They are in the way of who speaks to the machine; the choice is remembered."""
    with reviewing(tmp_path, [example(1), example(2)]) as review:
        page = page_of(window, review)
        page.get_by_role("button", name="Keys are on").click()
        page.reload()
        page.keyboard.press("y")
        page.keyboard.press("Control+y")
        page.get_by_role("button", name="Keys are off").click()
        page.keyboard.press("Control+y")
        press(page, "n")

        assert (len(review.strong), len(review.weak)) == (0, 1)
