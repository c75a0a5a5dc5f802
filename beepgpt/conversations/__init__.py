"""What was said, known and answered, as pure functions of events: no engine, clock, file, network or environment."""
