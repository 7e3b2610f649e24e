"""Upkeep keeps a deployed model right."""

__version__ = "0.1.0"
