"""The image that components run in on a cluster; a run on this machine ignores it."""

import functools
import os

from kfp import dsl

from upkeep import __version__

IMAGE = os.environ.get("UPKEEP_IMAGE", f"upkeep/python-sklearn:{__version__}")

component = functools.partial(dsl.component, base_image=IMAGE, install_kfp_package=False)
"""``dsl.component`` on our image, which has KFP in it: without this each step would begin with a ``pip install``."""
