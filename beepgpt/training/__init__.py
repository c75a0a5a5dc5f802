"""Examples to training sets, models and metrics: no engine, no network, no console, no settings. Clients and progress are passed in.

The one exception to its imports: the values of `beepgpt.connectors.openai.values`, by which a fine-tuning job is described.
"""
