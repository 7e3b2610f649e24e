"""The candidates: one module a strategy."""
