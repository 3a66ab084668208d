"""Benchmarks: what the console costs, beside a peer that does the same with nothing around it."""
