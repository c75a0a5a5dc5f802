"""A review that goes on, and its page: in a browser, and as anybody may ask for it."""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from playwright.sync_api import BrowserContext, Page

from tests.support import program, quiet, run_program
from tests.support.speed import slowness

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
        _, rest = self.process.communicate(timeout=30 * slowness())
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


# The page in a browser


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


# What no browser asks


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
