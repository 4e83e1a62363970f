"""Greedy algorithms over n samples; NumPy only, exact, and as fast as the machine."""
