"""Rooms that all benchmarks share: clocks, the machine, and what was found beside what it should be."""
