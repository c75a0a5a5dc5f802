"""How events get onto a log: an export, a file, another topic or live Slack, each record once and in order."""
