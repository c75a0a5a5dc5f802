"""Reads examples again and checks them against the laws: ours in laws.py, those of other tools in foreign.py."""
