"""Benchmarks: ratios between applications on one server, measured in one run. Absolute figures move with the machine."""
