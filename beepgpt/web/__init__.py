"""Pages for people, from values that other rooms make: one base, one style, and a small server on this machine."""
