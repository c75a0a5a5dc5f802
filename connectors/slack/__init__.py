"""Slack: exports, live events, the Web API."""
