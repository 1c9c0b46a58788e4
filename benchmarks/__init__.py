"""Benchmarks of auxgrad beside other programs."""
