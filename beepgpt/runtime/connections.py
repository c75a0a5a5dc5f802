"""How other machines are reached, as the settings say: a topic's brokers, and Slack's proxy."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from beepgpt.config.settings import Settings
from beepgpt.connectors import kafka
from beepgpt.connectors.http import ENVIRONMENT, Outbound, place_of
from beepgpt.runtime.console import console


def is_kafka(place: str) -> bool:
    """Whether a SOURCE or DEST is a topic."""
    return place.startswith("kafka://")


def connection_of(settings: Settings, bootstrap: str) -> kafka.Connection:
    """The brokers at `bootstrap`, as the settings say how to reach them."""
    ours = settings.kafka
    return kafka.Connection(
        bootstrap,
        protocol=ours.protocol,
        mechanism=ours.mechanism,
        user=ours.user,
        password=_revealed(ours.password),
        ca_file=_path(ours.ca_file),
        cert_file=_path(ours.cert_file),
        key_file=_path(ours.key_file),
        key_password=_revealed(ours.key_password),
    )


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)


def print_proxy(outbound: Outbound, url: str) -> None:
    """Say at the start that an address is called through a proxy, and who named it. Raises AddressRefused."""
    if proxy := outbound.proxy_to(url):
        named = "HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names" if outbound.proxy == ENVIRONMENT else "the settings name"
        console.print(f"{outbound.setting} is called through the proxy {place_of(proxy)}, which {named}.")
