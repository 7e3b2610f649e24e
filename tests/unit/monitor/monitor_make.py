"""A small model's spec, log and labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from upkeep.monitor.journal import Journal, Look, open_journal
from upkeep.monitor.labels import label_rules
from upkeep.monitor.payloads import existing_store, wanted
from upkeep.serving.payload import REQUEST, RESPONSE
from upkeep.spec.load import parse
from upkeep.spec.model import LabelColumns, ModelSpec, ObjectStore

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = NOON + timedelta(days=400)
"""After every file's own time: all files are whole."""

SPEC = """
apiVersion: upkeep.dev/v1alpha1
kind: Model
metadata: {name: loans}
data:
  source: data
  id: loan
  time: asked
  target: {column: late, positive: true}
  features: {numeric: [amount], categorical: [region]}
  slices: [region]
candidates: [{name: a, strategy: retrain, estimator: sklearn.linear_model.LogisticRegression}]
"""


def make_spec(folder: Path, *, id: str | None = "loan", columns: LabelColumns | None = None) -> ModelSpec:
    """Payloads and labels below ``folder``."""
    spec = parse(SPEC.encode(), "upkeep.yaml").spec
    assert spec is not None
    return replace(
        spec,
        store=str(folder / "store"),
        data=replace(spec.data, id=id),
        monitoring=replace(
            spec.monitoring,
            labels=str(folder / "labels"),
            label_columns=columns or LabelColumns(time="known"),
            payloads=replace(spec.monitoring.payloads, source=str(folder / "log")),
        ),
    )


def row(loan: str | None, amount: float = 1.0, region: str = "north") -> dict[str, Any]:
    return {"amount": amount, "region": region} | ({"loan": loan} if loan is not None else {})


def lines(
    request: str,
    rows: Sequence[dict[str, Any]],
    said: Sequence[bool],
    *,
    at: datetime = NOON,
    version: str = "v1",
    chance: float = 0.75,
) -> list[bytes]:
    """A request's line and its response's."""
    head = {"inferenceservicename": f"loans-{version}", "upkeepversion": version, "id": request}
    answers = [{"label": label, "probabilities": {"False": 1 - chance, "True": chance}} for label in said]
    return [
        orjson.dumps(head | {"type": kind, "time": moment.isoformat(), "data": data}) + b"\n"
        for kind, moment, data in (
            (REQUEST, at, {"instances": list(rows)}),
            (RESPONSE, at + timedelta(seconds=0.01), {"predictions": answers}),
        )
    ]


def write_log(folder: Path, some: Sequence[bytes], *, at: datetime = NOON, name: str = "one") -> Path:
    """Append lines to a file of the log."""
    path = folder / "log" / at.strftime("date=%Y-%m-%d/hour=%H") / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(b"".join(some))
    return path


def write_labels(folder: Path, rows: Sequence[tuple[str, str, datetime]], name: str = "one.csv") -> Path:
    path = folder / "labels" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{loan},{label},{known.isoformat()}\n" for loan, label, known in rows)
    path.write_text("loan,late,known\n" + text)
    return path


@contextmanager
def journal_of(spec: ModelSpec, path: Path | None = None) -> Iterator[Journal]:
    with open_journal(spec, wanted(spec), path) as journal:
        yield journal


def look(journal: Journal, spec: ModelSpec, *, now: datetime = LATER, since: datetime | None = None) -> Look:
    return journal.look(
        existing_store(spec.monitoring.payloads.source, ObjectStore()),
        existing_store(spec.monitoring.labels, ObjectStore()),
        label_rules(spec, (False, True)),
        now=now,
        since=since,
    )
