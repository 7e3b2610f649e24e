"""The release repository: what should serve, as Git commits."""
