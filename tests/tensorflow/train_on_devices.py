"""A training on devices, as a process of its own: ``<data> <devices> <out> <epochs>``.

Two processors are told apart for ``all``. ``out`` gets the weights; and, with each checkpoint, ``out.checkpoint``.
"""

from __future__ import annotations

import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.tensorflow import keras_make as make
from upkeep.errors import UpkeepError
from upkeep.models import keras_file
from upkeep.models.keras_runtime import tensorflow
from upkeep.spec.model import EarlyStopping, Network, Optimizer
from upkeep.training.train import train

FIELDS: dict[str, Any] = {
    "network": Network(hidden=(6,)),
    "batch_rows": 11,
    "optimizer": Optimizer(rate=0.02, clip_norm=0.3, weight_decay=0.01),
    "early_stopping": EarlyStopping(patience=1000),
    "class_weight": "balanced",
    "checkpoint": 1e-6,
}


class Checkpoints:
    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> None:
        return None

    def write(self, data: bytes) -> None:
        self.path.write_bytes(data)


def weights_on(root: Path, devices: Any, out: Path, epochs: int) -> list[Any]:
    candidate = make.tuned(**FIELDS, devices=devices, epochs=epochs)
    task = replace(make.task(root, candidate), checkpoints=Checkpoints(out.with_suffix(".checkpoint")))
    train(task, out.with_suffix(".model"), out.with_suffix(".state"))
    return [variable.numpy() for variable in keras_file.load(out.with_suffix(".model") / "model.keras").variables]


if __name__ == "__main__":
    root, devices, out, epochs = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    if devices == "all":
        config = tensorflow().config
        two = [config.LogicalDeviceConfiguration()] * 2
        config.set_logical_device_configuration(config.list_physical_devices("CPU")[0], two)
    try:
        np.savez(out, *weights_on(root, devices, out, epochs))
    except UpkeepError as error:
        traceback.print_exc()
        sys.exit(f"{type(error).__name__}, retry {error.retry}: {error}")
