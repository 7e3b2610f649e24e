"""Who has no rights: for tests of what happens without permission, also where root runs them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def somebody_else(folder: Path) -> Iterator[None]:
    """As a user without rights in ``folder``, who may still pass through the folders above it."""
    if os.geteuid() != 0:
        yield
        return
    closed = [path for path in (folder, *folder.parents) if path.stat().st_uid == 0 and not path.stat().st_mode & 1]
    modes = [(path, path.stat().st_mode) for path in closed]
    for path in closed:
        path.chmod(0o755)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        for path, mode in modes:
            path.chmod(mode)
