"""adopt: the model that already serves becomes version 1, judged like any other from then on."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from upkeep import records
from upkeep.data.collect import collect
from upkeep.data.dataset import Dataset, check_period
from upkeep.data.prepare import prepare
from upkeep.data.prepared import Prepared
from upkeep.errors import ConflictError, InputError, ModelError, Where
from upkeep.models.adopt import adopt_folder
from upkeep.models.folder import folder_size, load, read_manifest
from upkeep.registry.card import Card, Trained
from upkeep.registry.registry import Registry
from upkeep.registry.verify import verify_served
from upkeep.rollout.release import NewVersion, propose, serving_now
from upkeep.serving.manifests import ServedVersion
from upkeep.spec.load import canonical
from upkeep.spec.model import ModelSpec
from upkeep.store import open_store
from upkeep.update.code import code

SAMPLE_ROWS = 200


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """What adopting did."""

    version: str
    digest: str
    trained_until: str | None
    commit: str | None
    message: str


def adopt_model(
    spec: ModelSpec,
    model: Path,
    *,
    trained_until: str,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    environ: Mapping[str, str] = os.environ,
) -> Adopted:
    """Register the skops file ``model`` as version 1 and say in Git that it serves.

    It must take the spec's raw columns and answer real rows of its data, also in a fresh process. ``trained_until``:
    the newest period it may have learned from; empty: unknown, and then no later candidate can be compared with it.
    Raises :class:`ModelError` for a model that is refused, :class:`InputError` where something serves already or
    ``trained_until`` is no period of the data, :class:`ConflictError` where something began to serve meanwhile.
    """
    registry = Registry(open_store(spec.store, spec.object_store), spec.name)
    serving = serving_now(spec)
    if serving.champion is not None:
        raise InputError(
            f"{serving.champion.version} serves already; only the first model can be adopted",
            fix="let an update judge the model: name it as a candidate (strategy: custom)",
        )
    stamp = now()
    dataset = collect(spec, until=None, previous=registry.datasets(), environ=environ)
    if trained_until:
        periods = {file.period for file in dataset.files if file.period is not None}
        check_period(trained_until, known=periods, unit=spec.data.period, name="trained-until")
    with (
        tempfile.TemporaryDirectory(prefix="upkeep-adopt-") as name,
        registry.lock(f"adopt {model.name}", now=now) as lease,
    ):
        work = Path(name)
        rows = _sample(spec, dataset, work, environ)
        folder = work / "model"
        adopt_folder(model, spec, folder, rows=rows)
        loaded = load(folder, allowed=spec.estimators)
        verified = verify_served(folder, rows, loaded.predict_proba(rows), allowed=spec.estimators)
        if not verified.ok:
            raise ModelError(verified.message, where=Where(file=str(model)), fix="save the model again with skops")
        digest = registry.put_model(folder)
        lease.check()
        card = registry.register(
            Card(
                model=spec.name,
                version="",
                digest=digest,
                size_bytes=folder_size(folder),
                created=stamp.isoformat(timespec="seconds"),
                update=f"adopt-{digest[:12]}",
                dataset=None,
                rows={},
                spec=registry.put_spec(canonical(spec)),
                code=code(),
                trained=Trained(
                    candidate=model.name,
                    strategy="adopted",
                    params={},
                    seed=0,
                    rows=None,
                    periods=(),
                    until=trained_until or None,
                    seconds=0.0,
                ),
                scores={},
                verdict=None,
                champion=None,
                parents=(),
                profile=None,
                drift=None,
            )
        )
        served = ServedVersion(
            version=card.version, digest=digest, update=card.update, format=read_manifest(folder).format
        )
        known = trained_until or "an unknown period"
        named = records.digest(records.to_json(card))
        proposal = propose(
            spec,
            NewVersion(served=served, verdict=None, evidence=named, card=named),
            expected_champion=None,
            lines=[f"Adopted from {model.name}: it may have learned from all data up to {known}."],
        )
        if proposal.outcome not in ("first", "already"):
            raise ConflictError(
                f"{card.version} is registered, but does not serve: {proposal.reason}",
                fix="look at what serves (`upkeep versions list`), and let an update judge the model",
            )
    after = (
        f"later candidates are compared with it on periods after {trained_until}"
        if trained_until
        else "what it learned from is not known, so every later verdict will be insufficient"
    )
    return Adopted(
        version=card.version,
        digest=digest,
        trained_until=trained_until or None,
        commit=proposal.commit,
        message=f"{proposal.reason}; {after}",
    )


def _sample(spec: ModelSpec, dataset: Dataset, work: Path, environ: Mapping[str, str]) -> pa.Table:
    """Some real rows of the spec's data, its feature columns only."""
    out = work / "prepared"
    prepare(spec, dataset, out, held_out_before=None, environ=environ, progress=lambda *_: None)
    rows = Prepared(out)
    columns = [column.name for column in rows.summary.columns]
    first = next(rows.batches(parts=("train", "held_out"), columns=columns, batch_rows=SAMPLE_ROWS))
    return pa.Table.from_batches([first])
