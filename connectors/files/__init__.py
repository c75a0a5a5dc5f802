"""Files of JSON lines."""
