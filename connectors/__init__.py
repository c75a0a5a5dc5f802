"""Bytes in, bytes out: connectors carry, and do not interpret."""

if __name__ != "beepgpt.connectors":  # under two names it would be two modules, and `except` and pickles would miss
    raise ImportError("import beepgpt.connectors")
