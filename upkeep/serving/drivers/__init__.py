"""Traffic drivers: three ways to say (versions, champion, weights) in manifests, and to read back what is."""

from __future__ import annotations

from upkeep.serving.drivers.canary import CanaryDriver
from upkeep.serving.drivers.driver import TrafficDriver
from upkeep.serving.drivers.knative import KnativeDriver
from upkeep.serving.drivers.route import RouteDriver
from upkeep.spec.model import ModelSpec

DRIVERS: dict[str, TrafficDriver] = {each.name: each for each in (RouteDriver(), CanaryDriver(), KnativeDriver())}


def driver_of(spec: ModelSpec) -> TrafficDriver:
    """The spec's."""
    return DRIVERS[spec.serving.traffic]
