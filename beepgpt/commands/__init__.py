"""The wiring, a file a command: the only place that knows settings, connectors, flows and conversations together."""
