"""A layer of a user's own."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable("theirs")
class Scale(keras.layers.Layer):
    def __init__(self, by: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.by = by

    def call(self, inputs: Any) -> Any:
        return inputs * self.by

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "by": self.by}
