"""Kubernetes as a rollout sees it: :class:`~upkeep.serving.cluster.Cluster` by the API server.

It polls and never watches: a rollout looks every few seconds anyway, and a list that is read anew survives lost
connections and ``410 Gone`` without a memory of its own.
"""
