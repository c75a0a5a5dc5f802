"""Labelers: what says whether a prompt teaches something. Rules, a classifier that learns on this machine, an LLM at a provider."""
