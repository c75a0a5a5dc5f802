"""What makes an example worth learning from: few-shots, questions, redaction, labelers. Clients and stores are passed in.

The one exception to its imports: the values of `beepgpt.connectors.openai.values`, which its requests are made of.
"""
