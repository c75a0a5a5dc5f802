"""Live from Slack: what comes is written before it is acknowledged, and what is missing is filled in."""
