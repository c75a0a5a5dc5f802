"""Workspaces and servers that are made up, for demos, tests and benchmarks."""
