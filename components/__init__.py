"""KFP components: each a typed signature, and one call into :mod:`upkeep.update`."""
