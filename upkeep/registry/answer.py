"""The fresh process of :mod:`upkeep.registry.verify`: load a model folder, answer rows, write the answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from upkeep.errors import UpkeepError
from upkeep.models.folder import load


def main(folder: Path, work: Path) -> int:
    """Answer ``work/rows.arrow`` by the model in ``folder`` to ``work/answers.npy``; the exit code."""
    try:
        model = load(folder, allowed=json.loads((work / "allowed.json").read_text(encoding="utf-8")))
        with pa.memory_map(str(work / "rows.arrow")) as source:
            answers = model.predict_proba(pa.ipc.open_file(source).read_all())
    except UpkeepError as error:
        sys.stderr.write(error.problems[0].message + "\n")
        return error.exit_code
    np.save(work / "answers.npy", answers, allow_pickle=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
