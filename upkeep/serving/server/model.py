"""The model as KServe's server knows it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import kserve
import numpy as np

from upkeep.errors import ModelError
from upkeep.models.folder import load
from upkeep.models.manifest import Predictor
from upkeep.serving.server.batch import Batcher
from upkeep.serving.server.fetch import model_folder
from upkeep.serving.server.metrics import Metrics
from upkeep.serving.server.rows import MOST_ROWS, Answerer, Probabilities, Refusal, Rows, example, read, table

log = logging.getLogger("upkeep.serving.server")

_DATATYPES = {"numeric": "FP64", "categorical": "BYTES", "datetime": "BYTES"}


class NotReadyError(Exception):
    """The model has not answered its first rows yet. To a caller: 503."""


class ServedModel(kserve.Model):  # type: ignore[misc]
    """One version of one model. It is ready once it has answered rows made from its own manifest."""

    def __init__(
        self,
        name: str,
        *,
        version: str,
        address: str,
        digest: str,
        models: str = "",
        metrics: Metrics,
        allowed: Sequence[str] = (),
        most_rows: int = MOST_ROWS,
    ) -> None:
        super().__init__(name)
        self.version, self.address, self.digest = version, address, digest
        self.metrics = metrics
        self._models = models
        self._allowed = tuple(allowed)
        self._most_rows = most_rows
        self._predictor: Predictor | None = None
        self._answerer: Answerer | None = None
        self._batcher = Batcher(self._predict)

    @property
    def columns(self) -> tuple[str, ...]:
        """The raw columns, once the model is loaded."""
        return tuple(column.name for column in self._predictor.manifest.columns) if self._predictor else ()

    def load(self) -> bool:
        """Fetch, check, load and ask: blocks. Raises :class:`upkeep.errors.UpkeepError`."""
        with model_folder(self.address, self.digest, models=self._models) as (folder, digest):
            predictor = load(folder, allowed=self._allowed)
        manifest = predictor.manifest
        predictor.predict_proba(table(manifest.columns, [example(manifest.columns)]))
        self.digest = digest
        self._answerer = Answerer(model=self.name, version=self.version, classes=manifest.classes)
        self._predictor = predictor
        self.metrics.ready(self._answerer.names)
        self.ready = True
        return True

    @property
    def hung(self) -> bool:
        """Whether a prediction holds up all others, for good as it seems."""
        return self._batcher.hung

    async def healthy(self) -> bool:
        """Whether it can be asked."""
        return bool(self.ready) and not self.hung

    def stop(self) -> None:
        """Answer what waits, then no more."""
        super().stop()
        self._batcher.close()

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> dict[str, Any]:  # noqa: ARG002
        """A v1 or v2 document's answer. Raises :class:`Refusal`, :class:`NotReadyError`, :class:`ModelError`."""
        if self._predictor is None or self._answerer is None:
            raise NotReadyError
        rows = read(payload, self._predictor.manifest.columns, self._most_rows)
        is_v1 = "instances" in payload
        identity = payload.get("id", "")
        if not is_v1 and not isinstance(identity, str):
            raise Refusal("`id` is no text", fix="send it as text, or leave it out")
        probabilities = await self._ask(rows)
        return self._answerer.v1(probabilities) if is_v1 else self._answerer.v2(probabilities, identity)

    async def _ask(self, rows: Rows) -> Probabilities:
        try:
            return await self._batcher.ask(rows)
        except ModelError as error:
            (problem, *_) = error.problems
            if problem.where.field:  # nulls in a column where the model cannot take them
                raise Refusal(problem.message, field=problem.where.field, fix="send no null there") from error
            raise

    def _predict(self, parts: Sequence[Rows]) -> Probabilities:
        assert self._predictor is not None
        manifest = self._predictor.manifest
        probabilities = self._predictor.predict_proba(table(manifest.columns, parts))
        counts = np.bincount(probabilities.argmax(axis=1), minlength=len(manifest.classes))
        self.metrics.predicted(len(parts), counts.tolist())
        return probabilities

    def get_input_types(self) -> list[dict[str, Any]]:
        """For v2's model metadata."""
        columns = self._predictor.manifest.columns if self._predictor else ()
        return [{"name": column.name, "datatype": _DATATYPES[column.kind], "shape": [-1]} for column in columns]

    def get_output_types(self) -> list[dict[str, Any]]:
        """For v2's model metadata."""
        if self._answerer is None:
            return []
        return [
            {"name": "label", "datatype": self._answerer.label_type, "shape": [-1]},
            {"name": "probabilities", "datatype": "FP64", "shape": [-1, len(self._answerer.classes)]},
        ]
