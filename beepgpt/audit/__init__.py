"""Reads outputs again and holds them against the laws."""
