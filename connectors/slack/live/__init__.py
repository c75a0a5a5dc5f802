"""Slack, live: connections by Socket Mode, the Events API over HTTP, and the Web API. Values in, values out.

slack_sdk calls the Web API and checks signatures. The sockets themselves are of the `websockets` library: slack_sdk's own client
hands envelopes to ten threads, so that they overtake each other; it closes a connection before its successor has said hello, with
what was not read of it; and one that ends without a goodbye was noticed after 26 seconds, of which it spun for most.
"""

from beepgpt.connectors.slack.client import slack_outbound
from beepgpt.connectors.slack.live.http import HttpLine
from beepgpt.connectors.slack.live.sockets import Arrival, Changed, Down, Failed, Oversized, SocketLine, Up
from beepgpt.connectors.slack.live.web import NO_CONNECTION, OPEN, RATE_LIMITED, CallStopped, Web, history, thread
