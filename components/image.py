"""The image that components run in on a cluster, and in containers here; a run in subprocesses ignores it."""

import functools
import os

from kfp import dsl

from upkeep import __version__
from upkeep.spec.model import FineTune, ModelSpec

SKLEARN = f"upkeep/sklearn:{__version__}"
TENSORFLOW = f"upkeep/tensorflow:{__version__}"
IMAGE_VARIABLE = "UPKEEP_IMAGE"
"""The environment variable that names another: one in a registry of yours, by digest, with a custom trainer in it."""

component = functools.partial(dsl.component, base_image=SKLEARN, install_kfp_package=False)
"""``dsl.component`` on our image, which has KFP in it: without this each step would begin with a ``pip install``."""


def image_of(spec: ModelSpec) -> str:
    """The one image of all steps of ``spec``'s update: with TensorFlow where a candidate is a network.

    Nearly every step of such an update may meet one (as candidate, champion, base or member of an ensemble), and a node
    pulls one image instead of two.
    """
    networks = any(isinstance(candidate, FineTune) for candidate in spec.candidates)
    return os.environ.get(IMAGE_VARIABLE) or (TENSORFLOW if networks else SKLEARN)
