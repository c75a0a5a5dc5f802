"""With allow_external = false no byte leaves this machine: not through a company's proxy, and not by a server's redirect."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from beepgpt.commands.alerting import matcher_of
from beepgpt.commands.predict import predicted
from beepgpt.commands.train_elsewhere import adopt_served
from beepgpt.config.settings import read_settings
from beepgpt.connectors.http import Outbound
from beepgpt.connectors.openai.client import Client
from beepgpt.connectors.openai.values import Provider
from beepgpt.errors import AddressRefused, BadCommand, BeepGPTError, NotAllowed, RunStopped
from tests.support.labeling import Labels, made_examples
from tests.support.openai_model import learned
from tests.support.openai_server import KEY, Server, serving
from tests.support.prepare import Set
from tests.support.strangers import Stranger, proxied, stranger
from tests.support.training import job_of, training_set

WAYS = ("labels", "labels in a batch", "embeddings", "served models", "predictions", "fine-tuning")
Use = Callable[..., None]
"""Uses a provider at an address; raises what the command would."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Set:
    return training_set(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def server(prepared: Set) -> Iterator[Server]:
    with serving() as server:
        chats = [json.loads(line)["messages"] for line in (prepared.folder / "chat_train.jsonl").read_bytes().splitlines()]
        server.models["mine"] = learned(chats)
        yield server


@pytest.fixture
def proxy() -> Iterator[Stranger]:
    with stranger() as proxy:
        yield proxy


@pytest.fixture
def other() -> Iterator[Stranger]:
    with stranger() as other:
        yield other


@pytest.fixture
def use(tmp_path: Path, prepared: Set, server: Server) -> Use:
    """Uses the provider at an address in one of the ways."""
    adopted = tmp_path / "adopted"
    adopt_served(prepared.folder, adopted, provider_at(server.url), "mine", "chat")

    def use(way: str, url: str, **more: Any) -> None:
        settings = provider_at(url, **more)
        of_provider: dict[str, Any] = {"provider__base_url": url, **{f"provider__{name}": value for name, value in more.items()}}
        if way.startswith("labels"):
            labels = Labels(tmp_path / "work", made_examples()[:6])
            report = labels.run(server, batch="batch" in way, **of_provider)
            if "stopped_because" in report:  # the command ends with status 1
                raise RunStopped(report["stopped_because"])
        elif way == "embeddings":
            with ExitStack() as stack:
                matcher_of(settings, stack)
        elif way == "served models":
            adopt_served(prepared.folder, tmp_path / "mine", settings, "mine", "chat")
        elif way == "predictions":
            predicted(prepared.folder, adopted, None, "How does deploy work?", settings)
        else:
            folder = tmp_path / "tuned"
            shutil.copytree(prepared.folder, folder)
            job_of(folder, server, base_url=url, **more)

    return use


def provider_at(url: str, **more: object) -> Any:
    told = {"provider__base_url": url, "provider__key": KEY, "alerts__topics": "embeddings"}
    told |= {f"provider__{name}": str(value) for name, value in more.items()}
    return read_settings(environ={f"BEEPGPT_{name.upper()}": value for name, value in told.items()})


@pytest.mark.parametrize("way", WAYS)
def test_a_proxy_of_the_environment_is_not_used(use: Use, way: str, server: Server, proxy: Stranger, monkeypatch: pytest.MonkeyPatch):
    """A server on this machine is asked directly, by name and by address, whatever HTTP_PROXY says."""
    proxied(monkeypatch, proxy)
    use(way, server.url.replace("127.0.0.1", "localhost"))

    assert proxy.connections == 0 and server.addresses


@pytest.mark.parametrize(("way", "status"), [("labels", 302), *((way, 307) for way in WAYS)])
def test_a_redirect_is_not_followed(use: Use, way: str, status: int, other: Stranger):
    """The run ends, and says what the server does and what to set; the redirect's target is never connected to."""
    with stranger() as local:
        local.redirect = (status, f"{other.url}/elsewhere")
        with pytest.raises(BeepGPTError) as caught:
            use(way, f"{local.url}/v1")
        bodies = [body for _, _, body in local.got]

    place = other.url.removeprefix("http://")
    assert f"the server redirects to {place} (HTTP {status}), and redirects are not followed" in str(caught.value)
    assert "provider.base_url" in str(caught.value)
    assert other.connections == 0
    assert len(set(bodies)) == len(bodies) > 0, "no request is tried again"


@pytest.mark.parametrize("way", WAYS)
def test_a_name_that_leads_elsewhere_is_no_name_of_this_machine(use: Use, way: str, server: Server, monkeypatch: pytest.MonkeyPatch):
    """One address of it is loopback, the other isn't: nothing is sent, not even to the first."""
    resolving(monkeypatch, "models.example.com", ["127.0.0.1", "10.0.0.7"])
    before = len(server.addresses)
    with pytest.raises(BadCommand, match=r"models\.example\.com is switched off"):
        use(way, server.url.replace("127.0.0.1", "models.example.com"))

    assert len(server.addresses) == before


def test_an_answer_of_dns_that_changes_is_noticed(server: Server, monkeypatch: pytest.MonkeyPatch):
    """Checked as loopback, and elsewhere when it is connected to: the connection is refused, and isn't tried again."""
    resolving(monkeypatch, "models.example.com", ["127.0.0.1"], then=["192.0.2.7"])
    with (
        Client(Provider(server.url.replace("127.0.0.1", "models.example.com"), KEY)) as client,
        pytest.raises(NotAllowed, match=r"models\.example\.com leads to 192\.0\.2\.7, which is not only this machine"),
    ):
        client.embed("m", ["hello"]).result()

    assert not server.addresses


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "2852039166", "[fd00:ec2::254]", "metadata.example.com"]
)
def test_metadata_addresses_are_never_called(host: str, monkeypatch: pytest.MonkeyPatch):
    """However they are written, whatever resolves to them, and also where everything else may be called."""
    resolving(monkeypatch, "metadata.example.com", ["169.254.169.254"])
    with pytest.raises(AddressRefused, match="link-local or metadata address"):
        Client(Provider(f"http://{host}/v1", KEY, allow_external=True))
    with pytest.raises(AddressRefused, match="link-local or metadata address"):
        Outbound("slack.base_url", allow_external=True).connect(host.strip("[]"), 80, 1)


def test_a_name_is_looked_up_once(monkeypatch: pytest.MonkeyPatch):
    """What was checked is what is called, whatever the name leads to a moment later."""
    resolving(monkeypatch, "moving.example.com", ["127.0.0.1"], then=["127.0.0.2"])
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        Outbound("slack.base_url").connect("moving.example.com", listening.getsockname()[1], 1) as opened,
    ):
        assert opened.getpeername() == listening.getsockname()


def resolving(monkeypatch: pytest.MonkeyPatch, name: str, addresses: Sequence[str], then: Sequence[str] = ()) -> None:
    """Lets a name resolve to these addresses; after the first time, to those of `then`."""
    real, answers = socket.getaddrinfo, [addresses]

    def getaddrinfo(host: Any, port: Any, *more: Any, **how: Any) -> Any:
        if host != name:
            return real(host, port, *more, **how)
        current = answers[0]
        if then:
            answers[0] = then
        return [info for each in current for info in real(each, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
