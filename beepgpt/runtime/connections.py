"""The brokers that a topic's address names, reached as the settings say."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from beepgpt.config.settings import Settings
from beepgpt.connectors import kafka


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
