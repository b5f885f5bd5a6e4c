"""Benchmarks. They compare applications by ratios within one run, because absolute figures depend on the machine."""
