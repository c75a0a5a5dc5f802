"""Bytes in, bytes out: connectors carry, and do not interpret."""
