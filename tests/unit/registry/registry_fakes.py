"""What the registry's tests share: a model folder, a card, and a store that fails on demand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from upkeep import records
from upkeep.data.dataset import DataFile, Dataset
from upkeep.evaluation.result import Reason, Scores, Verdict
from upkeep.registry.card import Card, Trained
from upkeep.registry.registry import Registry
from upkeep.store import Entry, Store

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SPEC = records.to_json({"metadata": {"name": "m"}, "gate": {"better": {"by": 0.005}}})


def model_folder(path: Path, text: str = "model") -> Path:
    """A small folder of bytes that need not be a model."""
    (path / "members" / "one").mkdir(parents=True)
    (path / "manifest.json").write_text("{}")
    (path / "model.skops").write_text(text)
    (path / "members" / "one" / "model.skops").write_text("member")
    return path


def dataset(*names: str, digest: str = "d") -> Dataset:
    return Dataset(
        files=tuple(
            DataFile(uri=f"/data/{name}", name=name, format="csv", period=None, digest=digest + name, size=1, rows=None)
            for name in names
        )
    )


def card(digest: str, *, update: str = "u1", **changes: Any) -> Card:
    scores = Scores(
        rows=100,
        positives=40,
        metrics={"f1": 0.5, "roc_auc": None},
        intervals={},
        confusion=((1, 2), (3, 4)),
        calibration=(),
        roc=(),
    )
    values: dict[str, Any] = {
        "model": "m",
        "version": "",
        "digest": digest,
        "size_bytes": 13,
        "created": "2026-03-01T12:00:00+00:00",
        "update": update,
        "dataset": None,
        "rows": {"train": 500, "held_out": 100},
        "spec": records.digest(SPEC),
        "code": {"upkeep": "0.1.0"},
        "trained": Trained(
            candidate="boosting",
            strategy="retrain",
            params={"max_iter": 100},
            seed=0,
            rows=500,
            periods=("2026-01", "2026-02"),
            until="2026-02",
            seconds=1.5,
        ),
        "scores": {"all": scores},
        "verdict": Verdict(
            verdict="pass",
            summary="it is better",
            case="champion",
            reasons=(Reason(rule="gate.better", finding="pass", text="it is better"),),
        ),
        "champion": None,
        "parents": (),
        "profile": None,
        "drift": None,
    }
    return Card(**{**values, **changes})


def publish(registry: Registry, folder: Path, *, update: str = "u1") -> Card:
    """Everything deploy does with the registry, in its order."""
    registry.put_spec(SPEC)
    data = dataset("a.csv")
    registry.put_dataset(data)
    digest = registry.put_model(folder)
    return registry.register(card(digest, update=update, dataset=data.digest))


@dataclass
class FailingStore:
    """A store whose ``fail_at``-th call (from 1) raises; ``after``: once the call has been done, as a lost reply."""

    inner: Store
    error: BaseException
    fail_at: int = 0
    after: bool = False
    calls: list[str] = field(default_factory=list)

    @property
    def uri(self) -> str:
        return self.inner.uri

    def _do(self, name: str, *arguments: Any, **options: Any) -> Any:
        self.calls.append(f"{name} {arguments[0] if arguments else ''}")
        fails = len(self.calls) == self.fail_at
        if fails and not self.after:
            raise self.error
        result = getattr(self.inner, name)(*arguments, **options)
        if fails:
            raise self.error
        return result

    def get(self, key: str) -> bytes:
        return self._do("get", key)  # type: ignore[no-any-return]

    def get_to(self, key: str, path: Path) -> None:
        self._do("get_to", key, path)

    def open(self, key: str) -> BinaryIO:
        return self._do("open", key)  # type: ignore[no-any-return]

    def put(self, key: str, data: bytes | Path) -> None:
        self._do("put", key, data)

    def create(self, key: str, data: bytes | Path) -> bool:
        return self._do("create", key, data)  # type: ignore[no-any-return]

    def exists(self, key: str) -> bool:
        return self._do("exists", key)  # type: ignore[no-any-return]

    def list(self, prefix: str = "") -> Iterator[Entry]:
        return self._do("list", prefix)  # type: ignore[no-any-return]

    def delete(self, key: str) -> None:
        self._do("delete", key)

    def delete_partials(self, before: datetime, *, prefix: str = "", dry_run: bool = False) -> tuple[str, ...]:
        return self._do("delete_partials", before, prefix=prefix, dry_run=dry_run)  # type: ignore[no-any-return]
