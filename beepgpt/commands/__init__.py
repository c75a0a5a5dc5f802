"""The command line, a file a command: flags in, one call, a table out. Settings are wired to connectors here; the work is in the rooms."""
