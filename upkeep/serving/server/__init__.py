"""The model server: one version of one model, on the KServe Python server."""
