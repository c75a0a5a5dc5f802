"""The one place that decides where outgoing connections go: which addresses are refused, and which proxy is used.

Every HTTP client of ours (provider, webhook, Slack) is given an `Outbound`, and takes its connections from there. None follows redirects.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import Message
from typing import Any, Never
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import (
    AbstractHTTPHandler,
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    OpenerDirector,
    Request,
    UnknownHandler,
    getproxies_environment,
    proxy_bypass,
)

from beepgpt.errors import AddressRefused

ENVIRONMENT = "environment"
"""The value of `Outbound.proxy` that takes the proxy from HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY."""
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
METADATA = [
    ipaddress.ip_network(each)
    for each in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32")
]
"""Link-local addresses, and those at which clouds serve the credentials of the machine that asks."""
_IPV4_IN_IPV6 = [ipaddress.ip_network(each) for each in ("::ffff:0:0/96", "64:ff9b::/96")]
_PLACE = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,253}")


@dataclass(frozen=True, slots=True)
class Outbound:
    """Where the connections of one client may go. Without `allow_external` they reach loopback addresses of this machine only."""

    setting: str
    """Names the address in errors: `provider.base_url`, say."""
    allow_external: bool = False
    proxy: str = field(default="", repr=False)
    """For other machines: an address like http://user:password@host:3128; empty: none; or ENVIRONMENT."""
    instead: str = "set allow_external = true if this may leave the machine"
    """What the user can do about a refusal."""

    def proxy_to(self, url: str) -> str:
        """The proxy for an address; empty: it is called directly, as this machine always is. Raises AddressRefused."""
        host = _host_of(url)
        addresses = resolved(host)
        self.check(host, addresses)
        if not self.allow_external or is_loopback(addresses):
            return ""
        proxy = self.proxy if self.proxy != ENVIRONMENT else _proxy_of_environment(url)
        if proxy and (urlsplit(proxy).scheme != "http" or not urlsplit(proxy).hostname):
            raise AddressRefused(
                f"{self.setting}: the proxy for {host} is no address like http://proxy.example.com:3128, and no other kind is supported:"
                ' set the proxy beside it, or "" for none'
            )
        return proxy

    def check(self, host: str, addresses: Sequence[str]) -> None:
        """Raise AddressRefused if a host with these IP addresses may not be called."""
        for each in addresses:
            if _is_metadata(each):
                raise AddressRefused(f"{self.setting}: {host} is the link-local or metadata address {each}, which is never called")
        if not self.allow_external and not is_loopback(addresses):
            where = f"leads to {', '.join(addresses)}, which is not only this machine" if addresses else "can't be resolved"
            raise AddressRefused(f"{self.setting}: {host} {where}, so nothing is sent there: {self.instead}")

    def connect(self, host: str, port: int, timeout: Any = None, proxy: str = "") -> socket.socket:
        """A TCP connection to one of the addresses that were checked, or through a proxy. Raises AddressRefused or OSError."""
        if proxy:
            return _tunnel(host, port, timeout, proxy)
        addresses = resolved(host)
        self.check(host, addresses)
        failure = OSError(f"{host} can't be resolved")
        for each in addresses:
            try:
                return socket.create_connection((each, port), timeout)
            except OSError as error:
                failure = error
        raise failure

    def open_socket(self, url: str, timeout: float) -> socket.socket:
        """A TCP connection to an address, for a client that speaks TLS and the rest by itself. Raises AddressRefused or OSError."""
        address = urlsplit(url)
        port = address.port or (443 if address.scheme in ("https", "wss") else 80)
        opened = self.connect(_host_of(url), port, timeout, self.proxy_to(url))
        opened.settimeout(None)
        return opened

    def opener(self, url: str) -> OpenerDirector:
        """urllib's client for one server; it raises AddressRefused for a redirect. Raises AddressRefused."""
        opener = OpenerDirector()
        for handler in (UnknownHandler(), HTTPDefaultErrorHandler(), HTTPErrorProcessor(), _Handler(self, self.proxy_to(url))):
            opener.add_handler(handler)
        return opener


class _Handler(AbstractHTTPHandler):
    """Opens HTTP and HTTPS by an `Outbound`, and refuses redirects."""

    def __init__(self, outbound: Outbound, proxy: str) -> None:
        super().__init__()
        self._outbound, self._proxy = outbound, proxy

    http_request = https_request = AbstractHTTPHandler.do_request_

    def http_open(self, request: Request) -> http.client.HTTPResponse:
        return self.do_open(self._maker(http.client.HTTPConnection), request)

    def https_open(self, request: Request) -> http.client.HTTPResponse:
        return self.do_open(self._maker(http.client.HTTPSConnection), request)

    def _maker(self, kind: type[http.client.HTTPConnection]) -> Any:
        def connect(address: tuple[str, int], timeout: Any, source: object) -> socket.socket:
            return self._outbound.connect(address[0], address[1], timeout, self._proxy)

        def make(host: str, **how: Any) -> http.client.HTTPConnection:
            connection = kind(host, **how)
            connection._create_connection = connect  # type: ignore[attr-defined]
            return connection

        return make

    def http_error_302(self, request: Request, answer: Any, code: int, message: str, headers: Message) -> Never:
        answer.close()
        raise AddressRefused(redirected(self._outbound.setting, code, urljoin(request.full_url, headers.get("location", ""))))

    http_error_300 = http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def redirected(setting: str, status: int, location: str) -> str:
    """What to say of a redirect. Of its target it has the host only: the rest may quote text."""
    try:
        place = urlsplit(location).netloc.rpartition("@")[2]
    except ValueError:
        place = ""
    where = place if _PLACE.fullmatch(place) else "another address"
    return (
        f"the server redirects to {where} (HTTP {status}), and redirects are not followed, since what is sent would go there:"
        f" set {setting} to the address that answers by itself"
    )


def is_this_machine(url: str) -> bool:
    """Whether all that an address resolves to is loopback.

    >>> [is_this_machine(f"http://{host}/v1") for host in ("localhost:8000", "127.0.0.1", "[::1]:80", "10.0.0.7", "localhost.invalid")]
    [True, True, True, False, False]
    """
    return is_loopback(resolved(_host_of(url)))


def is_loopback(addresses: Sequence[str]) -> bool:
    """Whether there are addresses, and all are loopback.

    >>> is_loopback(["127.0.0.1", "::1"]), is_loopback(["127.0.0.1", "10.0.0.7"]), is_loopback(["0.0.0.0"]), is_loopback([])
    (True, False, False, False)
    """
    return bool(addresses) and all(_plain(each).is_loopback for each in addresses)


def resolved(host: str) -> list[str]:
    """The IP addresses of a host; none if it can't be resolved."""
    try:
        return list(dict.fromkeys(str(each[4][0]) for each in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))) if host else []
    except (OSError, UnicodeError):
        return []


def place_of(proxy: str) -> str:
    """Host and port of a proxy, without user and password."""
    return urlsplit(proxy).netloc.rpartition("@")[2]


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _plain(address: str) -> IpAddress:
    """An address; for IPv4 in IPv6, the IPv4 address that it leads to."""
    found = ipaddress.ip_address(address)
    return ipaddress.IPv4Address(int(found) & 0xFFFFFFFF) if any(found in each for each in _IPV4_IN_IPV6) else found


def _is_metadata(address: str) -> bool:
    return any(_plain(address) in each for each in METADATA)


def _proxy_of_environment(url: str) -> str:
    found = getproxies_environment()
    if proxy_bypass(urlsplit(url).netloc.rpartition("@")[2]):
        return ""
    proxy = found.get("https") or found.get("http") or found.get("all") or ""
    return proxy if "://" in proxy or not proxy else f"http://{proxy}"


def _tunnel(host: str, port: int, timeout: Any, proxy: str) -> socket.socket:
    address = urlsplit(proxy)
    headers = {}
    if address.username is not None:
        user = f"{unquote(address.username)}:{unquote(address.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {b64encode(user.encode()).decode()}"
    connection = http.client.HTTPConnection(str(address.hostname), address.port or 80, timeout=timeout)
    connection.set_tunnel(host, port, headers)
    connection.connect()
    return connection.sock
