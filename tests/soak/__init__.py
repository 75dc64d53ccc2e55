"""Slow readers at their real pace, with the real programs: `make soak`."""
