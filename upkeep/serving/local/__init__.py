"""The one-machine cluster: what Git says, served by one model server process a version and one Envoy before them.

Read in this order: ``wanted`` (what Git says), ``shares`` (who gets the traffic now), ``envoy`` (its configuration):
these are pure. Then ``process``, ``server`` and ``gateway`` (what runs), ``daemon`` (``upkeep up``), and what others
ask it by: ``cluster``, ``counters``.
"""
