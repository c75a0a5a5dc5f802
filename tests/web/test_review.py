"""The review page in a real browser: what it shows, what it keeps, and whom it lets in."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from beepgpt.labeling.cards import answer_of, messages_of
from beepgpt.labeling.review_queue import ReviewedExample, Sample, spread
from tests.support import program, quiet, run_program
from tests.support.speed import wait_until

pytestmark = pytest.mark.xdist_group("browser")

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
POSITIVE, NEGATIVE = "examples_pos.jsonl", "examples_neg.jsonl"
SUFFIX = "\n\n###\n\n"


# What is reviewed


def example(number: int, *messages: str, p: float | None = None, said: str | None = None, **more: object) -> bytes:
    """An example's line; Ana and Bo take turns, and Bo answers. `p`, `said`: what it is labeled as."""
    texts = messages or (f"question {number}",)
    users = ["UANA", "UBO"]
    window = [{"ts": f"17041032{place:02}.000000", "user": users[place % 2]} for place in range(len(texts))]
    body = {
        "id": f"{number:032x}",
        "spec": "0123456789ab",
        "target": "next_user",
        "channel": "C1",
        "conversation": f"C1:{number}:thread",
        "prompt_ts": f"1704103{200 + number}.000000",
        "answer_ts": f"1704103{260 + number}.000000",
        "answer": ["UBO"],
        "window": window,
        "prompt": "\n\n".join(texts) + SUFFIX,
        **more,
    }
    if p is not None or said is not None:
        body |= {"signal": said or ("strong" if p and p >= 0.5 else "weak"), "signal_p": p, "signal_model": "a-model"}
        body |= {"signal_instructions": "0123456789ab"}
    return orjson.dumps(body)


def unlabeled(line: bytes) -> bytes:
    return orjson.dumps({name: value for name, value in orjson.loads(line).items() if not name.startswith("signal")})


def few_shot(line: bytes, said: str) -> bytes:
    return unlabeled(line)[:-1] + b',"signal":"%s"}\n' % said.encode()


@dataclass
class Review:
    """A review that goes on."""

    process: subprocess.Popen[str]
    address: str
    """With the token."""
    folder: Path
    told: list[str]
    pages: list[Page] = field(default_factory=list)
    """Closed before it ends: one that still loads something would complain that nobody answers."""

    @property
    def url(self) -> str:
        return self.address.partition("/?")[0]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def strong(self) -> list[bytes]:
        """The lines of the file, with their ends."""
        return lines_of(self.folder / POSITIVE)

    @property
    def weak(self) -> list[bytes]:
        return lines_of(self.folder / NEGATIVE)

    def end(self, by: signal.Signals = signal.SIGINT) -> str:
        """What it says when it is over; it must end well."""
        self.process.send_signal(by)
        _, rest = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, self.told
        return "".join(self.told) + rest


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


@contextmanager
def reviewing(folder: Path, lines: Sequence[bytes] | str, *flags: str, env: dict[str, str] | None = None) -> Iterator[Review]:
    """`beepgpt review` on these examples, or on this SOURCE."""
    source = lines if isinstance(lines, str) else str(folder / "examples.jsonl")
    if not isinstance(lines, str):
        Path(source).write_bytes(b"".join(line + b"\n" for line in lines))
    command = program(
        "review", source, "--few-shots", folder / "few-shots", "--no-browser", "--no-progress", *(flags or ("--labeler", "none"))
    )
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=quiet() | (env or {}))
    try:
        assert process.stderr is not None
        told = []
        while not (found := re.search(r"http://\S+", line := process.stderr.readline())):
            told.append(line)
            assert line, told
        review = Review(process, found[0], folder / "few-shots", told)
        yield review
        for page in review.pages:
            page.close()
    finally:
        process.kill()
        process.communicate()


def refused(*arguments: object) -> str:
    """What `beepgpt review` says when it can't begin."""
    done = run_program("review", *arguments, "--no-browser")
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


# The browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's own Chromium."""
    if CHROMIUM is None:
        told = "no Chromium is installed: on Debian and Ubuntu, apt-get install chromium"
        pytest.fail(told) if os.environ.get("CI") else pytest.skip(told)
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


def page_of(window: BrowserContext, review: Review, path: str = "/") -> Page:
    """The page, come in by its token."""
    page = window.new_page()
    review.pages.append(page)
    page.goto(review.address)
    page.wait_for_url(review.url + "/")
    if path != "/":
        page.goto(review.url + path)
    return page


def press(page: Page, *keys: str) -> None:
    """Each key, once the page has taken the one before."""
    for key in keys:
        with page.expect_response(lambda each: each.request.method == "GET"):
            page.keyboard.press(key)
        page.locator("#main[aria-busy=false]").wait_for()


def shown(page: Page) -> list[str]:
    """The messages of the conversation."""
    return page.locator("#chat .text").all_text_contents()


def told(page: Page) -> str:
    return page.locator("#notice").inner_text()


# What it keeps


def test_keys_decide_and_the_files_grow_line_by_line(tmp_path: Path, window: BrowserContext):
    """y, n and s; the lines are those of SOURCE with a signal behind all else, and they are there at once."""
    lines = [example(number) for number in range(1, 5)]
    with reviewing(tmp_path, lines) as review:
        page = page_of(window, review, "/?view=newest")

        press(page, "y")
        assert (review.strong, review.weak) == ([few_shot(lines[3], "strong")], [])
        assert told(page) == "Kept as strong. 1 strong, 0 weak."
        press(page, "n")
        assert review.weak == [few_shot(lines[2], "weak")]
        press(page, "s", "Y")

        assert review.strong == [few_shot(lines[3], "strong"), few_shot(lines[0], "strong")]
        assert page.locator("h2").inner_text() == "Nothing is left here"
        assert page.get_by_role("button", name="Strong").is_disabled()
        assert "2 strong and 1 weak few-shots, 1 examples skipped" in review.end()


def test_undo_goes_back_one_by_one_and_across_restarts(tmp_path: Path, window: BrowserContext):
    """Also after a kill, and also what another process decided."""
    lines = [example(number) for number in range(1, 5)]
    with reviewing(tmp_path, lines) as review:
        page = page_of(window, review, "/?view=newest")
        press(page, "y", "n", "s")
        review.process.kill()
    with reviewing(tmp_path, lines) as review:
        page = page_of(window, review, "/?view=newest")
        assert shown(page) == ["question 1"]

        press(page, "u")
        assert shown(page) == ["question 2"]
        press(page, "u")
        assert (review.strong, review.weak, told(page)) == ([few_shot(lines[3], "strong")], [], "It is no longer weak. 1 strong, 0 weak.")
        press(page, "u")
        assert (review.strong, shown(page)) == ([], ["question 4"])
        assert page.get_by_role("button", name="Undo").is_disabled()


def test_two_tabs_decide_once(tmp_path: Path, window: BrowserContext):
    """The same example in both: the second decision changes nothing, and neither undoes what it did not show."""
    lines = [example(number) for number in range(1, 4)]
    with reviewing(tmp_path, lines) as review:
        one, other = (page_of(window, review, "/?view=newest") for _ in range(2))

        press(one, "y")
        press(other, "n")
        assert (len(review.strong), len(review.weak)) == (1, 0)
        assert told(other) == "It was strong already: nothing is changed."
        press(other, "n")
        press(one, "u")

        assert (len(review.strong), len(review.weak)) == (1, 1)
        assert told(one) == "Something else was decided in the meantime: nothing is undone."


def test_it_works_without_scripts(tmp_path: Path, browser: Browser):
    """By its forms alone."""
    lines = [example(1), example(2)]
    context = browser.new_context(java_script_enabled=False)
    with reviewing(tmp_path, lines) as review:
        page = page_of(context, review, "/?view=newest")
        page.get_by_role("button", name="Weak").click()
        assert review.weak == [few_shot(lines[1], "weak")]
        assert told(page) == "Kept as weak. 0 strong, 1 weak."
        assert shown(page) == ["question 1"]
        page.get_by_role("button", name="Undo").click()
        assert review.weak == []
    context.close()


def test_what_cant_be_kept_is_told(tmp_path: Path, window: BrowserContext):
    """The file was changed by somebody else: it is left alone, and the reviewer hears of it."""
    with reviewing(tmp_path, [example(1), example(2)]) as review:
        page = page_of(window, review)
        press(page, "y")
        (review.folder / POSITIVE).write_bytes(b"")
        press(page, "y")

        assert "was changed by somebody else" in page.locator("#notice .failed").inner_text()
        assert review.strong == []


def test_a_review_that_has_ended_says_so(tmp_path: Path, browser: Browser):
    """A key that is pressed then is not lost in silence."""
    context = browser.new_context()
    with reviewing(tmp_path, [example(1)]) as review:
        page = page_of(context, review)
        review.end(signal.SIGTERM)
        page.keyboard.press("y")

        expect(page.locator("#notice .failed")).to_contain_text("The review has ended")
    context.close()


# What it shows


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
    names = tmp_path / "users.json"
    names.write_text(json.dumps([{"id": "UANA", "name": "ana", "profile": {"display_name": "Ana Abara"}}, {"id": "C1", "name": "random"}]))
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 960])
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


def complaints(page: Page) -> list[str]:
    """What axe says is wrong."""
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in Axe().run(page).response["violations"]]


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


# Whom it lets in


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    text: str


def asked(review: Review, method: str, path: str, body: str = "", **headers: str) -> Answer:
    """A request that no browser makes."""
    connection = http.client.HTTPConnection("127.0.0.1", review.port, timeout=10)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return Answer(answer.status, answer.headers, text)


def cookie_of(review: Review) -> str:
    given = asked(review, "GET", "/" + review.address.rpartition("/")[2]).headers["Set-Cookie"]
    assert given.endswith("; HttpOnly; SameSite=Strict; Path=/")
    return given.partition(";")[0]


def test_only_who_has_the_token_comes_in(tmp_path: Path):
    """Without it, with another one, with another cookie: nothing is told, and nothing is kept."""
    with reviewing(tmp_path, [example(1, "a secret")]) as review:
        port = review.port
        for path in (
            "/",
            "/chosen",
            "/static/review.js",
            "/?token=",
            "/?token=wrong",
            "/?token=%FF",
            "/chosen?" + review.address[-49:],
            "/x",
        ):
            answer = asked(review, "GET", path)
            assert (answer.status, "secret" in answer.text) == (403, False), path
        for cookie in ("", f"beepgpt-review-{port}=wrong", "=;=;\x7f", f"beepgpt-review-{port}={review.address.rpartition('=')[2]}"):
            assert asked(review, "GET", "/", Cookie=cookie).status == 403, cookie
        posted = asked(review, "POST", "/decide", f"example={1:032x}&decision=strong", Origin=review.url)

        assert (posted.status, review.strong) == (403, [])
        others = '_xsrf="; theme={"a": 1, "b"; =; \x7f=\xe9'
        assert asked(review, "GET", "/", Cookie=f"{others}; {cookie_of(review)}; last=1").status == 200
        assert "a secret" not in review.end()


def test_the_token_does_not_stay_in_the_address(tmp_path: Path, window: BrowserContext):
    """It becomes a cookie, which lets in other tabs of this browser, and scripts can't read it."""
    with reviewing(tmp_path, [example(1)]) as review:
        page = page_of(window, review)

        assert page.url == review.url + "/"
        assert page.evaluate("document.cookie") == ""
        assert page.evaluate("document.referrer") == ""
        assert [(each["httpOnly"], each["sameSite"]) for each in window.cookies()] == [(True, "Strict")]
        other = window.new_page()
        other.goto(review.url + "/chosen")
        assert other.title() == "Your choices · BeepGPT"


def test_the_browsers_own_token_opens_once(tmp_path: Path):
    """Other users of the machine see the browser's command line: by then what stands there is worth nothing."""
    seen = tmp_path / "seen"
    opener = tmp_path / "opener"
    opener.write_text(f'#!/bin/sh\nprintf %s "$1" > {seen}.new\nmv {seen}.new {seen}\n')
    opener.chmod(0o755)
    with reviewing(tmp_path, [example(1)], "--browser", env={"BROWSER": f"{opener} %s"}) as review:
        wait_until(seen.exists, f"{seen} is there")
        path = "/" + seen.read_text().rpartition("/")[2]

        assert path not in review.address
        assert [asked(review, "GET", path).status for _ in range(2)] == [200, 403]
        assert asked(review, "GET", "/" + review.address.rpartition("/")[2]).status == 200


def test_other_names_of_this_machine_are_refused(tmp_path: Path):
    """A name of somebody else's that leads here (DNS rebinding) gets nothing, even with the cookie."""
    with reviewing(tmp_path, [example(1)]) as review:
        cookie = cookie_of(review)
        hosts = [f"evil.example:{review.port}", "127.0.0.1", f"127.0.0.1.evil.example:{review.port}", f"0.0.0.0:{review.port}", ""]

        assert {host: asked(review, "GET", "/", Host=host, Cookie=cookie).status for host in hosts} == dict.fromkeys(hosts, 421)
        assert asked(review, "GET", "/", Host=f"localhost:{review.port}", Cookie=cookie).status == 200


def test_decisions_come_from_the_page_only(tmp_path: Path, browser: Browser):
    """Another site, another port of this machine, a page without an origin: refused, though the browser has the cookie."""
    form = f"example={1:032x}&decision=strong"
    with reviewing(tmp_path, [example(1)]) as review:
        cookie = cookie_of(review)
        for origin in ("https://evil.example", "http://127.0.0.1:1", f"https://127.0.0.1:{review.port}", "null", ""):
            given = {"Origin": origin} if origin else {}
            assert asked(review, "POST", "/decide", form, Cookie=cookie, **given).status == 403, origin
        context = browser.new_context()
        page_of(context, review)
        with other_site(f'<form method=post action="{review.url}/decide"><input name=example value="{1:032x}">'
                        '<input name=decision value=strong><button>go</button></form>') as site:  # fmt: skip
            stranger = context.new_page()
            stranger.goto(site)
            with stranger.expect_navigation() as went:
                stranger.get_by_role("button").click()
            assert went.value is not None
            assert went.value.status == 403
        context.close()
        assert review.strong == []

        assert asked(review, "POST", "/decide", form, Cookie=cookie, Origin=review.url).status == 303
        assert len(review.strong) == 1


@contextmanager
def other_site(page: str) -> Iterator[str]:
    """A page on another port of this machine, for the same browser's cookies."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65_536)
                connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n{page}".encode())

    thread = threading.Thread(target=answer)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_it_is_on_this_machine_only(tmp_path: Path):
    """No other address of the machine reaches it, and no other page may frame it, read it, or keep a copy."""
    with reviewing(tmp_path, [example(1)]) as review:
        with pytest.raises(OSError, match=r"refused|unreachable"):
            socket.create_connection(("127.0.0.2", review.port), timeout=5)
        answer = asked(review, "GET", "/", Cookie=cookie_of(review))

        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        named = ("Cache-Control", "X-Frame-Options", "X-Content-Type-Options", "Cross-Origin-Resource-Policy", "Referrer-Policy")
        assert [answer.headers[name] for name in named] == ["no-store", "DENY", "nosniff", "same-origin", "same-origin"]
        assert "Server" not in answer.headers


def test_the_browser_runs_nothing_that_is_not_the_pages_own(tmp_path: Path, browser: Browser):
    """Even if a text got through as markup: no inline script, no handler, no style, no picture, and no way out."""
    context = browser.new_context()
    with reviewing(tmp_path, [example(1)]) as review, other_site("hello") as site:
        page = page_of(context, review)
        page.evaluate(
            """(site) => {
              document.querySelector("main").innerHTML = `<img src="${site}" onerror="window.ran = true"><div style="color: red">a</div>`;
              const script = document.createElement("script");
              script.textContent = "window.ran = true";
              document.body.append(script);
            }""",
            site,
        )
        left = page.evaluate("(site) => fetch(site, {mode: 'no-cors'}).then(() => 'reached', () => 'blocked')", site)

        assert left == "blocked"
        assert page.evaluate("window.ran") is None
        assert page.locator("main div").evaluate("each => getComputedStyle(each).color") != "rgb(255, 0, 0)"
    context.close()


def test_nonsense_is_answered_and_changes_nothing(tmp_path: Path):
    """Unknown ids and decisions, forms that are too large, methods that there aren't."""
    with reviewing(tmp_path, [example(1), example(2)]) as review:
        known = {"Cookie": cookie_of(review), "Origin": review.url}
        real = f"example={1:032x}"
        for form in (
            "",
            "example=x&decision=strong",
            f"{real}&decision=great",
            f"{real}&decision=",
            f"{real}&decision=strong%00",
            "%FF=%FF",
        ):
            assert asked(review, "POST", "/decide", form, **known).status == 303, form
        for form in ("", f"{real}&to=strong", f"{real}&to=out", "last=x"):
            assert asked(review, "POST", "/change", form, **known).status == 303, form
            assert asked(review, "POST", "/undo", form, **known).status == 303, form
        assert asked(review, "POST", "/decide", "a" * 20_000, **known).status == 413
        assert asked(review, "DELETE", "/", **known).status == 405
        assert asked(review, "GET", "/static/..%2f..%2freview_page.py", **known).status == 404
        assert asked(review, "GET", "/?view=nothing", **known).status == 200

        assert list(review.folder.iterdir()) == []
        assert "Traceback" not in review.end()


# What it is given


def test_silences_repeated_prompts_and_what_was_retracted_are_not_shown(tmp_path: Path, window: BrowserContext):
    """A few-shot whose message was deleted since leaves its file, too."""
    lines = [example(1), example(2, answer=[], answer_ts=None), example(3, "question 1"), example(4), example(5)]
    (tmp_path / "examples.retractions.jsonl").write_bytes(b"".join(b'{"id":"%032x","retracted_ts":"1"}\n' % number for number in (4, 5)))
    (tmp_path / "few-shots").mkdir()
    (tmp_path / "few-shots" / NEGATIVE).write_bytes(few_shot(lines[4], "weak") + few_shot(example(9), "weak"))
    with reviewing(tmp_path, [*lines, b"{}", b"no json"]) as review:
        page = page_of(window, review)

        assert shown(page) == ["question 1"]
        press(page, "s")
        assert page.locator("h2").inner_text() == "Nothing is left here"
        assert review.weak == [few_shot(example(9), "weak")]
        said = review.end()
        assert f"few-shot {5:032x} is taken out: a message of it was deleted" in said
        assert "2 lines are no examples, and are left out (the first: the one after 5 others)" in said


def test_what_cant_be_reviewed_is_named(tmp_path: Path):
    """What is wrong, where, and what to do."""
    events = tmp_path / "events.jsonl"
    events.write_text('{"type": "message", "channel": "C1", "ts": "1704103200.000000", "text": "secret words"}\n')
    silent = tmp_path / "silent.jsonl"
    silent.write_bytes(example(1, answer=[]) + b"\n")
    fine = tmp_path / "fine.jsonl"
    fine.write_bytes(example(1) + b"\n")
    into = ("--few-shots", tmp_path / "few-shots")

    assert "holds no example that somebody answered (1 lines of something else)" in refused(events, *into)
    assert "holds no example that somebody answered (1 silences)" in refused(silent, *into)
    assert "no such file" in refused(tmp_path / "none.jsonl", *into)
    assert "--names" in refused(fine, *into, "--names", events)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "the port is taken" in refused(fine, *into, "--port", taken.getsockname()[1])
    with reviewing(tmp_path, [example(1)]):
        assert "a review is adding to it" in refused(fine, *into)


# Which examples, and in which order


def examples_of(numbers: Sequence[int]) -> list[bytes]:
    return [example(number) for number in numbers]


@given(order=st.permutations(range(30)), most=st.integers(1, 40), newest=st.integers(0, 5))
def test_a_sample_is_the_same_in_whatever_order_its_examples_come(order: list[int], most: int, newest: int):
    """So many by chance, and the newest; the same ones again when the run is repeated."""
    samples = []
    for numbers in (order, sorted(order)):
        sample = Sample(most, newest)
        for line in examples_of(numbers):
            sample.add(line)
        samples.append([each.id for each in sample.examples()])

    assert samples[0] == samples[1]
    assert min(most, 30) <= len(samples[0]) <= min(most + newest, 30)
    assert {f"{number:032x}" for number in range(30 - newest, 30)} <= set(samples[0])


def test_a_few_shot_of_a_strangers_hand_is_shown(tmp_path: Path):
    """An id and a prompt are all that it must have; and an example with something odd in it is none, or is shown as far as it goes."""
    (tmp_path / "few-shots").mkdir()
    (tmp_path / "few-shots" / POSITIVE).write_bytes(b'{"id":"x","prompt":"by hand","window":7,"answer":null}\n{"id":"y","prompt":""}\n')
    odd = [
        example(1, window=5),
        example(2, answer="UBO"),
        example(3, prompt_ts="soon"),
        example(4, window=[1, {}, {"ts": 3, "user": None}]),
    ]
    with reviewing(tmp_path, [*odd, example(5, channel=None, answer=[7], signal=3, signal_p="x")]) as review:
        cookie = cookie_of(review)
        assert "by hand" in asked(review, "GET", "/chosen", Cookie=cookie).text
        for number in (5, 4):
            assert f"question {number}" in asked(review, "GET", "/?view=newest", Cookie=cookie).text
            asked(review, "POST", "/decide", f"example={number:032x}&decision=skipped", Cookie=cookie, Origin=review.url)
        assert "Nothing is left here" in asked(review, "GET", "/", Cookie=cookie).text
        assert "3 lines are no examples" in review.end()


def test_conversations_take_turns():
    """The windows of one conversation overlap: its second example waits until every conversation had its first."""
    made = [ReviewedExample(name, b"", "", name[0], "") for name in ("a1", "a2", "b1", "a3", "b2", "c1")]

    assert [each.id for each in spread(made)] == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_authors_are_named_only_where_they_are_known():
    """A window also names messages that the prompt leaves out: then more than one may have written what is shown."""
    users = ["UA", "UA", "UB", "UB"]
    body = {"window": [{"ts": f"170410320{place}.000000", "user": user} for place, user in enumerate(users)], "answer": ["UC"]}
    whole, left_out = messages_of(body | {"prompt": "a\n\nb\n\nc\n\nd" + SUFFIX}, {})
    partly, said = messages_of(body | {"prompt": "b\n\nc\n\nd" + SUFFIX}, {"UB": "Bo"})

    assert [(each.author, each.when) for each in whole] == [
        ("Person A", ""),
        ("Person A", "1 s later"),
        ("Person B", "1 s later"),
        ("Person B", "1 s later"),
    ]
    assert left_out == ""
    assert [(each.author, each.seat) for each in partly] == [("Person A", 1), ("Person A or Bo", 0), ("Bo", 2)]
    assert said == "1 more in the window, without words or too far back"
    assert answer_of(body, {}) == "Somebody not seen above answered"
    assert answer_of(body | {"answer": ["UB", "UC", "UD"], "target": "reactors"}, {"UC": "Cleo"}) == (
        "Person B, Cleo, not seen above, and somebody not seen above took part"
    )
