"""The flows, one file each: steps that name functions of `conversations`."""
