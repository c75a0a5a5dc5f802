"""Files of lines of JSON."""
