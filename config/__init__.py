"""How BeepGPT is set up: one frozen value, read once."""
