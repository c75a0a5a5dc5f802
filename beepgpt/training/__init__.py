"""Labeled examples to training sets, models, and what they are worth."""
