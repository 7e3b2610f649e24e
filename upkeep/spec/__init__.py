"""The model spec (``upkeep.yaml``): its shape, and how it is read."""
