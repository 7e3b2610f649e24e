"""``upkeep up`` with model servers that start in a moment: ``python -m tests.e2e.fake_up SPEC``.

Everything else is the real thing: git, the daemon, Envoy.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from upkeep import api
from upkeep.rollout.source import ReleaseSource
from upkeep.serving.local.daemon import Daemon
from upkeep.serving.local.folder import Folder, default_folder
from upkeep.serving.local.server import Launch, Watch, launch
from upkeep.serving.local.wanted import WantedServer
from upkeep.spec.model import ModelSpec

FAKE = Path(__file__).parents[1] / "unit/serving/local/fake_server.py"


def fake_launch(spec: ModelSpec, wanted: WantedServer, environ: Mapping[str, str]) -> Launch:
    """The fake server, with the real one's options."""
    real = launch(spec, wanted, environ)
    return Launch(command=(sys.executable, "-S", str(FAKE), *real.command[3:]), environ=real.environ)


async def main() -> None:
    spec = api.load_spec(sys.argv[1])
    watch = Watch(every=0.3, timeout=1.0, grace=0.5)
    folder = Folder(default_folder(spec))
    daemon = Daemon([ReleaseSource(spec)], folder, tell=print, launch_server=fake_launch, watch=watch)
    await daemon.run()


if __name__ == "__main__":
    asyncio.run(main())
