"""The SDK's HTTP client, with connections by an `Outbound`: no redirects, and no proxy but the provider's."""

from __future__ import annotations

import socket

import aiohttp
from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver
from httpx2 import AsyncClient, Proxy, create_ssl_context
from openai import DefaultAioHttpClient
from openai._vendor.httpx_aiohttp import AiohttpTransport

from beepgpt.connectors.http import Outbound
from beepgpt.connectors.openai.answers import SETTING
from beepgpt.connectors.openai.values import Provider

KEPT_SECONDS = 5.0
"""How long an idle connection is kept."""


class CheckedResolver(ThreadedResolver):
    """Resolves names, and lets through what may be called: aiohttp connects to these addresses and asks no second time."""

    def __init__(self, outbound: Outbound) -> None:
        super().__init__()
        self._outbound = outbound

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """Raise AddressRefused."""
        found = await super().resolve(host, port, family)
        self._outbound.check(host, [each["host"] for each in found])
        return found


def http_client_of(provider: Provider) -> AsyncClient:
    """An HTTP client for a provider. Raises AddressRefused."""
    outbound = Outbound(
        SETTING,
        provider.allow_external,
        provider.proxy,
        "set provider.allow_external = true if what people wrote may go there",
    )
    proxy = outbound.proxy_to(provider.base_url)
    context = create_ssl_context()

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_SECONDS, ssl=context, resolver=CheckedResolver(outbound))
        return aiohttp.ClientSession(connector=connector, trust_env=False)

    # aiohttp takes half the processor time of the SDK's own transport: at 200 requests a second that is what counts.
    transport = AiohttpTransport(verify=context, proxy=Proxy(proxy) if proxy else None, client=session)
    return DefaultAioHttpClient(transport=transport, trust_env=False, follow_redirects=False)
