"""The one door to Keras on TensorFlow, which is an extra: nothing imports either before somebody asks here."""

from __future__ import annotations

import functools
import importlib.util
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from upkeep.errors import ModelError, Where

FIX = "pip install 'upkeep[tensorflow]'"


def installed() -> bool:
    """Whether TensorFlow and Keras are there, without importing them."""
    return all(importlib.util.find_spec(name) is not None for name in ("tensorflow", "keras"))


def keras(where: Where | None = None) -> Any:
    """Keras on TensorFlow, set so that the same work gives the same numbers. Raises :class:`ModelError` without it."""
    return _import(where or Where())[0]


def tensorflow() -> Any:
    """TensorFlow, set as :func:`keras` does. Raises :class:`ModelError` without it."""
    return _import(Where())[1]


@contextmanager
def quiet() -> Iterator[None]:
    """What Keras, TensorFlow and numpy say of one another is not for a user, who can do nothing about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@functools.cache
def _import(where: Where) -> tuple[Any, Any]:
    if not installed():
        raise ModelError("this needs Keras on TensorFlow, which is not installed", where=where, fix=FIX)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its errors are raised as well
    os.environ["KERAS_BACKEND"] = "tensorflow"  # ~/.keras/keras.json may say otherwise
    with quiet():
        import keras
        import tensorflow
    if keras.backend.backend() != "tensorflow":
        raise ModelError(
            f"Keras was started on {keras.backend.backend()} already, and models here run on TensorFlow",
            where=where,
            fix="set KERAS_BACKEND=tensorflow before anything imports keras",
        )
    tensorflow.config.experimental.enable_op_determinism()
    return keras, tensorflow
