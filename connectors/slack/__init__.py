"""Slack: exports, live events, direct messages."""
