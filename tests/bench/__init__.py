"""Benchmarks: they print figures and assert nothing, for machines are noisy. `./run bench connect`."""
