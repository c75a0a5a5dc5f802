"""Outgoing connections: no redirects, no proxy but the settings', and signatures that a receiver can check."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slack_sdk.signature import Clock, SignatureVerifier

from beepgpt.connectors.http import ENVIRONMENT, Outbound
from beepgpt.connectors.openai.client import Client
from beepgpt.connectors.openai.values import Provider
from beepgpt.connectors.slack.alerts import SlackMessenger
from beepgpt.connectors.slack.client import slack_outbound
from beepgpt.connectors.slack.live import SocketLine, Web
from beepgpt.connectors.webhook import SIGNATURE_HEADER, TIMESTAMP_HEADER, signature_of, webhook
from beepgpt.errors import AddressRefused, SlackFailed
from beepgpt.runtime.places import print_proxy
from tests.support.strangers import PROXY_VARIABLES, Stranger, proxied, stranger

ROOT = Path(__file__).resolve().parents[2]
ALERT = {"id": "a1", "user": "U1", "permalink": None, "p": 0.5, "why": "Jürgen wrote"}
OUTSIDE = "http://10.255.255.1"
"""Another machine, which nothing here may reach."""
TOKEN = "xoxb-test"


@pytest.fixture
def proxy() -> Iterator[Stranger]:
    with stranger() as proxy:
        yield proxy


@pytest.fixture
def other() -> Iterator[Stranger]:
    with stranger() as other:
        yield other


@pytest.fixture
def local() -> Iterator[Stranger]:
    with stranger() as local:
        yield local


# The webhook


def test_a_webhook_on_this_machine_is_called_without_the_environments_proxy(
    local: Stranger, proxy: Stranger, monkeypatch: pytest.MonkeyPatch
):
    """By name and by address; what is posted is the alert as `--to` writes it."""
    proxied(monkeypatch, proxy)
    for url in (local.url, local.url.replace("127.0.0.1", "localhost")):
        assert webhook(f"{url}/alerts")(ALERT) == ""

    assert proxy.connections == 0
    assert [json.loads(body) for _, _, body in local.got] == [ALERT] * 2
    assert local.got[0][0] == "POST /alerts" and local.got[0][1]["idempotency-key"] == "a1"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_of_a_webhook_is_no_success(status: int, local: Stranger, other: Stranger):
    """It is not followed, and the reason names where it would have led."""
    local.redirect = (status, f"{other.url}/elsewhere?secret=1")
    said = webhook(local.url)(ALERT)

    assert f"the server redirects to {other.url.removeprefix('http://')} (HTTP {status})" in said and "alerts.webhook" in said
    assert other.connections == 0 and len(local.got) == 1


def test_a_webhook_elsewhere_needs_tls():
    """Before anything is sent."""
    with pytest.raises(AddressRefused, match=r"10\.255\.255\.1, which is not only this machine.*use an address with https://"):
        webhook(f"{OUTSIDE}/alerts")


def test_a_webhook_that_fails_says_how(local: Stranger):
    """By the status, or the error."""
    local.status = 503
    assert webhook(local.url)(ALERT) == "HTTP 503"
    local.server_close()
    local.shutdown()
    assert webhook(local.url)(ALERT) == "URLError"


def test_a_receiver_can_check_the_signature(local: Stranger):
    """As it checks Slack's: here by slack_sdk's own verifier. Without a secret there is none."""
    webhook(local.url, secret="s3cret")(ALERT)
    webhook(local.url)(ALERT)
    (_, headers, body), (_, unsigned, _) = local.got
    timestamp, signature = headers["x-beepgpt-request-timestamp"], headers["x-beepgpt-signature"]

    assert SignatureVerifier("s3cret").is_valid(body, timestamp, signature)
    assert not SignatureVerifier("another").is_valid(body, timestamp, signature)
    assert not SignatureVerifier("s3cret").is_valid(body + b" ", timestamp, signature)
    assert abs(Clock().now() - int(timestamp)) < 60
    assert not [name for name in unsigned if name.startswith("x-beepgpt")]


def test_the_docs_tell_how_to_check_it(local: Stranger):
    """Their function, run: it takes what was signed now, and nothing else."""
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "alerts.md").read_text("utf-8"), re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1], names)
    webhook(local.url, secret="s3cret")(ALERT)
    _, lowered, body = local.got[0]
    headers = {name: lowered[name.lower()] for name in (TIMESTAMP_HEADER, SIGNATURE_HEADER)}
    old = {TIMESTAMP_HEADER: "1700000000", SIGNATURE_HEADER: signature_of("s3cret", "1700000000", body)}

    assert names["is_from_beepgpt"]("s3cret", headers, body)
    assert not names["is_from_beepgpt"]("another", headers, body)
    assert not names["is_from_beepgpt"]("s3cret", headers, body + b" ")
    assert not names["is_from_beepgpt"]("s3cret", old, body), "it may have been overheard"


# Slack


def test_slack_on_this_machine_is_called_without_a_proxy(local: Stranger, proxy: Stranger, monkeypatch: pytest.MonkeyPatch):
    """Whatever the environment and the settings say."""
    proxied(monkeypatch, proxy)
    for outbound in (slack_outbound(), slack_outbound(proxy.url)):
        Web(TOKEN, f"{local.url}/", threading.Event(), outbound=outbound).try_once("auth.test")

    assert proxy.connections == 0 and len(local.got) == 2


def test_a_redirect_of_slacks_does_not_take_the_token_along(local: Stranger, other: Stranger):
    """The call fails, and says why."""
    local.redirect = (302, f"{other.url}/api")
    with pytest.raises(SlackFailed, match=r"redirects to 127\.0\.0\.1:\d+ \(HTTP 302\).*set slack\.base_url"):
        SlackMessenger(TOKEN, local.url).check()
    with pytest.raises(SlackFailed, match=r"redirects to 127\.0\.0\.1:\d+ \(HTTP 302\).*set slack\.base_url"):
        Web(TOKEN, f"{local.url}/", threading.Event()).ask("auth.test")

    assert other.connections == 0


def test_a_redirect_of_a_socket_is_not_followed(local: Stranger, other: Stranger, caplog: pytest.LogCaptureFixture):
    """It is logged, and the connection is tried again."""

    class Opener(Web):
        def ask(self, method: str, **params: Any) -> dict[str, Any]:
            return {"url": local.url.replace("http", "ws")}

    local.redirect = (307, f"{other.url.replace('http', 'ws')}/link")
    put: list[object] = []
    line = SocketLine("1", Opener(TOKEN, f"{local.url}/", threading.Event()), put.append)
    with caplog.at_level(logging.WARNING):
        line.start()
        while len(local.got) < 2:
            threading.Event().wait(0.02)
        line.close()

    assert other.connections == 0 and put == []
    assert any("cannot follow redirect" in str(vars(each).get("why")) for each in caplog.records), [
        vars(each).get("why") for each in caplog.records
    ]


@pytest.mark.parametrize("names", [(name,) for name in PROXY_VARIABLES])
def test_slack_elsewhere_is_called_through_the_environments_proxy_and_says_so(
    names: tuple[str, ...], proxy: Stranger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The password stays out of what is said; NO_PROXY holds."""
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    proxied(monkeypatch, proxy, names)
    print_proxy(slack_outbound(), f"{OUTSIDE}/api/")
    assert f"slack.base_url is called through the proxy {proxy.url.removeprefix('http://')}" in capsys.readouterr().err.replace("\n", " ")
    monkeypatch.setenv("no_proxy", "10.255.255.1")
    print_proxy(slack_outbound(), f"{OUTSIDE}/api/")
    assert capsys.readouterr().err == ""


def test_a_proxy_of_the_settings_gets_the_call_and_its_password(proxy: Stranger, monkeypatch: pytest.MonkeyPatch):
    """As a tunnel, which is where the call ends here: the proxy reaches nothing."""
    monkeypatch.setenv("NO_PROXY", "*")  # of the environment, which isn't asked
    outbound = slack_outbound(proxy.url.replace("//", "//ana:p%40ss@"))
    assert "p%40ss" not in repr(outbound)
    Web(TOKEN, f"{OUTSIDE}/api/", threading.Event(), outbound=outbound).try_once("auth.test")

    assert [target for target, _, _ in proxy.got] == ["CONNECT 10.255.255.1:80"]
    assert proxy.got[0][1]["Proxy-Authorization"] == "Basic YW5hOnBAc3M="


def test_a_proxy_of_the_settings_leads_to_a_provider_elsewhere(proxy: Stranger, monkeypatch: pytest.MonkeyPatch):
    """With allow_external, and only then; the environment's is not used."""
    with stranger() as environments:
        proxied(monkeypatch, environments)
        proxy.status = 404
        with Client(Provider(f"{OUTSIDE}/v1", "sk-x", allow_external=True, proxy=proxy.url, tries=1)) as client:
            assert "404" in str(client.embed("m", ["hello"]).exception())
        assert [target for target, _, _ in proxy.got] == [f"POST {OUTSIDE}/v1/embeddings"]
        with pytest.raises(AddressRefused, match=r"10\.255\.255\.1.*provider\.allow_external = true"):
            Client(Provider(f"{OUTSIDE}/v1", "sk-x", proxy=proxy.url))
        assert (environments.connections, proxy.connections) == (0, 1)


def test_a_provider_elsewhere_is_called_directly_unless_the_settings_name_a_proxy(proxy: Stranger, monkeypatch: pytest.MonkeyPatch):
    """The environment's is not used, unless the settings say so."""
    proxied(monkeypatch, proxy)
    assert Outbound("provider.base_url", allow_external=True).proxy_to(OUTSIDE) == ""
    assert Outbound("provider.base_url", allow_external=True, proxy=ENVIRONMENT).proxy_to(OUTSIDE) == proxy.url


@pytest.mark.parametrize("proxy", ["socks5://proxy.example.com:1080", "https://proxy.example.com", "proxy.example.com:3128"])
def test_other_kinds_of_proxies_are_refused(proxy: str):
    """By name; nothing goes directly in their place."""
    with pytest.raises(AddressRefused, match=r"slack\.base_url: the proxy for 10\.255\.255\.1 is no address like http://"):
        slack_outbound(proxy).proxy_to(OUTSIDE)
