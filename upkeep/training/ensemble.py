"""``ensemble``: a soft vote or a stacking of other candidates, and of the champion where the spec names it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from upkeep.data.split import VALIDATION, choose_half
from upkeep.errors import DataError, ModelError, UpkeepError, Where
from upkeep.models.folder import MAX_DEPTH, align, load, model_depth, read_manifest, save_ensemble, stack
from upkeep.models.manifest import Manifest, Predictor
from upkeep.spec.model import Ensemble
from upkeep.training.estimators import plain_params
from upkeep.training.fit import candidate_field, telling
from upkeep.training.rows import labels
from upkeep.training.task import CHAMPION, TrainingTask


def ensemble(task: TrainingTask, notes: list[str], out: Path) -> tuple[dict[str, Any], int]:
    """Put the members together in ``out``; the parameters, and the rows that a final estimator learned from.

    Without a champion (a first run), or with one that cannot be a member (it cannot be loaded, wants other columns,
    knows other classes, or is an ensemble of ensembles already), the ensemble goes without it and a note says why.
    Raises :class:`ModelError` when fewer than two members are left, or when another member is missing.
    """
    assert isinstance(task.candidate, Ensemble)
    candidate = task.candidate
    wanted = task.manifest()
    members: dict[str, Predictor] = {}
    for name in candidate.members:
        try:
            members[name] = _member(task, name, wanted)
        except UpkeepError as error:
            if name != CHAMPION:
                raise
            notes.append(f"it goes without the champion: {error.problems[0].message}")
    where = Where(field=f"{candidate_field(task)}.members")
    if len(members) < 2:
        raise ModelError(
            f"an ensemble needs two members, and only {', '.join(members) or 'none'} is there; {'; '.join(notes)}",
            where=where,
            fix="name two candidates beside champion",
        )
    folders = {name: task.members[name] for name in members}
    if candidate.method == "soft_vote":
        given = dict(zip(candidate.members, candidate.weights or (1.0,) * len(candidate.members), strict=True))
        weights = tuple(float(given[name]) for name in members)
        save_ensemble(out, folders, replace(wanted, weights=weights))
        return {"method": "soft_vote", "members": list(members), "weights": list(weights)}, 0
    final, rows = _fit_final(task, members, wanted, notes)
    save_ensemble(out, folders, wanted, final_estimator=final)
    return {"method": "stacking", "members": list(members), **plain_params(final)}, rows


def _member(task: TrainingTask, name: str, wanted: Manifest) -> Predictor:
    where = Where(field=f"{candidate_field(task)}.members")
    folder = task.members.get(name)
    if folder is None:
        message = (
            "there is none that no held-out row may have taught"
            if name == CHAMPION
            else f"its member {name} was not trained"
        )
        raise ModelError(message, where=where, fix="look at why the member is missing")
    manifest = read_manifest(folder)
    columns = {column.name: column.kind for column in wanted.columns}
    strange = [column.name for column in manifest.columns if columns.get(column.name) != column.kind]
    if strange:
        raise ModelError(f"{name} takes other columns: {', '.join(strange)}", where=where, fix="leave it out")
    if model_depth(folder) + 1 > MAX_DEPTH - 1:
        raise ModelError(f"{name} is an ensemble of ensembles already", where=where, fix="leave it out")
    predictor = load(folder, allowed=task.spec.estimators)
    align(np.zeros((0, len(manifest.classes))), manifest, wanted)  # raises where classes differ
    return predictor


def _fit_final(
    task: TrainingTask, members: dict[str, Predictor], wanted: Manifest, notes: list[str]
) -> tuple[Any, int]:
    """A logistic regression over the members' probabilities (Wolpert, 1992), fitted on the half of the validation
    rows that does not choose among candidates."""
    from sklearn.linear_model import LogisticRegression

    prepared = task.prepared
    names = [column.name for column in wanted.columns]
    table = prepared.table(parts=(VALIDATION,), columns=[*names, prepared.summary.target, "_group"])
    codes = prepared.codes(table)
    teaches = ~choose_half(table.column("_group").to_numpy().astype(np.uint64)) & (codes >= 0)
    rows, codes = table.filter(teaches), codes[teaches]
    if len(set(codes.tolist())) < 2:
        raise DataError(
            f"stacking learns from half of the validation rows, and those {len(codes)} are of fewer than two classes",
            where=Where(field="data.split.validation"),
            fix="raise data.split.validation, or use method: soft_vote",
        )
    task.progress(f"learning to weigh {len(members)} members from {len(codes):,} rows", 0.5)
    answers = [align(member.predict_proba(rows), member.manifest, wanted) for member in members.values()]
    final = LogisticRegression(random_state=task.seed, max_iter=1000)
    with telling(task, notes):
        final.fit(stack(answers), labels(wanted.classes, codes))
    return final, len(codes)
