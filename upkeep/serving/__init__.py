"""Manifests for KServe, and what serves a model."""
