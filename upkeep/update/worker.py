"""``python -m upkeep.update.worker inputs.json``: one worker of a training on several machines.

``inputs.json`` holds the inputs of the train step, the same for every worker; ``TF_CONFIG`` says which one this is::

    {"spec": "s3://…", "spec_digest": "…", "champion": "v3", "candidate": "network", "states": {}, "members": {},
     "prepared": "/shared/prepared", "model": "/shared/model"}

``prepared`` is the prepared folder, ``model`` where the first worker puts the trained model. That one prints the digest
of the training's record; the others print nothing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

from upkeep.errors import UpkeepError
from upkeep.update.train import train


def main(inputs: Path) -> int:
    """The exit code."""
    given = json.loads(inputs.read_text())
    prepared, model, metrics = (
        SimpleNamespace(path=given.pop(name, ""), metadata={}) for name in ("prepared", "model", "metrics")
    )
    try:
        record = train(**given, prepared=prepared, model=model, metrics=metrics)
    except UpkeepError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{record}\n" if record else "")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
