"""Benchmarks: programs with a table at the end; each runs by itself, ``python -m benchmarks.NAME``."""
