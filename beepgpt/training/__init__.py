"""Examples to training sets, models and metrics: no engine, no network, no console, no settings. Clients and progress are passed in."""
