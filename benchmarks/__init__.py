"""Benchmarks: ratios between applications on one server, within one run. Absolute figures move with the machine."""
