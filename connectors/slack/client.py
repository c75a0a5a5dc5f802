"""slack_sdk's client, with connections by an `Outbound`: no redirects, which would take the token along, and no proxy but the settings'."""

from __future__ import annotations

from typing import Any
from urllib.request import Request

from slack_sdk import WebClient

from beepgpt.connectors.http import ENVIRONMENT, Outbound


def slack_outbound(proxy: str = ENVIRONMENT) -> Outbound:
    """Where calls of Slack may go: a token was given for that."""
    return Outbound("slack.base_url", allow_external=True, proxy=proxy)


class SlackClient(WebClient):
    """A WebClient for one server. Its calls raise AddressRefused, too."""

    def __init__(self, token: str, outbound: Outbound, *, base_url: str, **how: Any) -> None:
        super().__init__(token, base_url=base_url, **how)
        self._opener = outbound.opener(base_url)

    def _perform_urllib_http_request_internal(self, url: str, req: Request) -> dict[str, Any]:
        """The one method of slack_sdk that opens connections: its own follows redirects, and takes proxies without NO_PROXY."""
        with self._opener.open(req, timeout=self.timeout) as answer:
            body = answer.read().decode(answer.headers.get_content_charset() or "utf-8")
            return {"status": answer.code, "headers": answer.headers, "body": body}
