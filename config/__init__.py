"""Settings: one frozen value, read once."""

if __name__ != "beepgpt.config":  # under two names it would be two modules, and `except` and pickles would miss
    raise ImportError("import beepgpt.config")
