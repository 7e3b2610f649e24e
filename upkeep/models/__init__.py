"""A model folder: what a version's bytes are, how it is written, loaded and asked."""
