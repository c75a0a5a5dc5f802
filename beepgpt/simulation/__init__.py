"""Simulated workspaces, for demos, tests and benchmarks: the same bytes for the same plan on every machine."""
