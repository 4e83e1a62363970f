"""Random reads of other systems, each in an environment of its own; ``python -m benchmarks.peers`` writes the page."""
