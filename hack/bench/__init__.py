"""Benchmarks: figures of one run on one machine, with ratios to compare by."""
