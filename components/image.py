"""The image that components run in on a cluster; a run on this machine ignores it."""

import os

from upkeep import __version__

IMAGE = os.environ.get("UPKEEP_IMAGE", f"upkeep/python-sklearn:{__version__}")
