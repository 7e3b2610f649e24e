"""Metrics, slices, paired tests, fairness, and the gate."""
