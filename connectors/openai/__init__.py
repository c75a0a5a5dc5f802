"""Servers that speak OpenAI's protocol: questions, texts, vectors, batches, fine-tuning jobs, labels with probabilities."""
