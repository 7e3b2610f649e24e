"""A training that saves often and takes its time, to be killed: ``<data> <checkpoint> <out>``."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

from tests.tensorflow import keras_make as make
from tests.tensorflow.test_fine_tune import LONG
from upkeep.training.train import train


class Slow:
    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> None:
        return None

    def write(self, data: bytes) -> None:
        part = self.path.with_suffix(".part")
        part.write_bytes(data)
        part.replace(self.path)
        time.sleep(0.2)


if __name__ == "__main__":
    root, place, out = map(Path, sys.argv[1:])
    task = replace(make.task(root, make.tuned(**LONG)), checkpoints=Slow(place))
    train(task, out, out.with_suffix(".state"))
