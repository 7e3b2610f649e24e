"""Upkeep keeps a deployed model right.

Everything the command line does is a function here; see :mod:`upkeep.api`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "abort",
    "adopt",
    "check",
    "cluster_status",
    "compile",
    "diff",
    "doctor",
    "down",
    "drift",
    "drift_files",
    "follow",
    "history",
    "init",
    "load_spec",
    "metrics",
    "newest_update",
    "outcome",
    "pause",
    "promote",
    "replay",
    "resume",
    "rollback",
    "rollout_page",
    "rollout_status",
    "run",
    "schedule",
    "spec_schema",
    "store_init",
    "submit",
    "submit_detached",
    "sweep",
    "unlock",
    "up",
    "up_detached",
    "verify",
    "version",
    "versions",
    "watch",
]

if TYPE_CHECKING:
    from upkeep.api import (
        abort,
        adopt,
        check,
        cluster_status,
        compile,
        diff,
        doctor,
        down,
        drift,
        drift_files,
        follow,
        history,
        init,
        load_spec,
        metrics,
        newest_update,
        outcome,
        pause,
        promote,
        replay,
        resume,
        rollback,
        rollout_page,
        rollout_status,
        run,
        schedule,
        spec_schema,
        store_init,
        submit,
        submit_detached,
        sweep,
        unlock,
        up,
        up_detached,
        verify,
        version,
        versions,
        watch,
    )


def __getattr__(name: str) -> Any:
    """Import :mod:`upkeep.api` when one of its functions is first asked for."""
    if name in __all__:
        from upkeep import api

        return getattr(api, name)
    raise AttributeError(f"module 'upkeep' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What is there to call, for completion, without importing it."""
    return [*globals(), *__all__]
