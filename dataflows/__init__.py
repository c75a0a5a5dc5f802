"""The flows, one Bytewax dataflow a file: their steps name functions of other rooms."""

if __name__ != "beepgpt.dataflows":  # under two names it would be two modules, and `except` and pickles would miss
    raise ImportError("import beepgpt.dataflows")

from beepgpt.dataflows.operators import Followed, follow_channels

__all__ = ["Followed", "follow_channels"]
