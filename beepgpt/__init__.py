"""Live chat to training examples and predictions that can be trusted."""

__all__: list[str] = []

__version__ = "0.1.0"
