"""How a command says that Slack will not go on with it: apart from what talks to Slack, since every command knows its errors."""


class SlackFailed(Exception):
    """Slack will not go on with us; the message says why, and what to do."""
