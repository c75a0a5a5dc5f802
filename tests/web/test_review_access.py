"""Whom the review lets in, and what a stranger's request can't do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.support.review import asked, cookie_of, example, page_of, reviewing
from tests.support.speed import wait_until

pytestmark = pytest.mark.xdist_group("browser")


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
