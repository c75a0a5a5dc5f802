"""The flows, one file each: steps that name functions of `conversations`."""

if __name__ != "beepgpt.dataflows":  # under two names it would be two modules, and `except` and pickles would miss
    raise ImportError("import beepgpt.dataflows")
