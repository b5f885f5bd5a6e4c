"""Tests of wsrt.history."""
