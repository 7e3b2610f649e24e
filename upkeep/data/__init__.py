"""Collect, validate, clean and split: from a source's files to the rows an update uses."""
