"""Pages: one base, one style, and small servers on this machine."""
