"""Attacks that measure robustness."""
