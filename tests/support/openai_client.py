"""Questions to OpenAI's protocol, and clients that ask them of the tests' server."""

from __future__ import annotations

from dataclasses import replace

from beepgpt.connectors.openai.client import Client
from beepgpt.connectors.openai.values import AskedModel, Provider, Request
from tests.support.openai_script import Script, digest
from tests.support.openai_server import Server

LUNA = AskedModel("gpt-6-luna", effort="none", marks_prefix=True)
DECIDING = AskedModel("gpt-6-luna", way="decisions")
SECRET = "the launch is called off"
"""What somebody wrote, and nobody else may read."""


def question(text: str = SECRET, model: AskedModel = LUNA, tokens: int = 0) -> Request:
    shots = (("hello", "no"), ("How do I reset my key?", "yes"))
    return Request(model, "Does this conversation teach who answers what? " * 100, shots, text, tokens)


def asking(server: Server, **more: object) -> Client:
    return Client(replace(Provider(server.url, server.key), **more))  # type: ignore[arg-type]


def failing(server: Server, *faults: str | None, text: str = SECRET) -> None:
    """The first tries of a message meet these faults."""
    server.script = Script(of={digest(text): list(faults)})
