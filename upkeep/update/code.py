"""Which code ran: for the card, so that a version can be made again."""

from __future__ import annotations

import os
from importlib import metadata

from upkeep import __version__, records


def code() -> dict[str, str]:
    """upkeep's version, its Git commit where the image says it (``UPKEEP_COMMIT``), and the installed packages' digest.

    The digest is over the sorted ``name==version`` lines of the environment: the lock file as it was installed.
    """
    lines = sorted({f"{found.name.lower()}=={found.version}" for found in metadata.distributions()})
    said = {"upkeep": __version__, "packages": records.digest("\n".join(lines).encode())}
    if commit := os.environ.get("UPKEEP_COMMIT"):
        said["commit"] = commit
    return said
