"""What was known, when, and who answered: plain Python, without an engine, a clock or an environment."""
