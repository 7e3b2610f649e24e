"""Who applies Git, what they applied, and how they are asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from upkeep.serving.kubernetes.syncer import Syncer, applied, nudges, syncer_of
from upkeep.spec.model import Data, Features, Metadata, ModelSpec, Retrain, Rollout, Target

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SPEC = ModelSpec(
    metadata=Metadata(name="m"),
    data=Data(source="x", target=Target(column="y"), features=Features()),
    candidates=(Retrain(name="a", strategy="retrain", estimator="sklearn.tree.DecisionTreeClassifier"),),
)
ARGO = Syncer(kind="argocd", namespace="argocd", name="models")
FLUX = Syncer(kind="flux", namespace="flux-system", name="models")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def tracked(value: str) -> dict[str, Any]:
    return {"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": value}}}


def test_the_live_objects_say_where_they_come_from() -> None:
    assert syncer_of(SPEC, [{"metadata": {}}]) is None
    assert syncer_of(SPEC, [tracked("models:serving.kserve.io/InferenceService:ns/m-v1")]) == ARGO
    elsewhere = tracked("team_models:serving.kserve.io/InferenceService:ns/m-v1")
    assert syncer_of(SPEC, [{"metadata": {}}, elsewhere]) == replace(ARGO, namespace="team")
    prefix = "kustomize.toolkit.fluxcd.io"
    labels = {f"{prefix}/name": "models", f"{prefix}/namespace": "flux-system"}
    assert syncer_of(SPEC, [{"metadata": {"labels": labels}}]) == FLUX


def test_the_spec_has_the_last_word() -> None:
    for told, found in (("argocd:argocd/models", ARGO), ("flux:flux-system/models", FLUX)):
        assert syncer_of(replace(SPEC, rollout=Rollout(synced_by=told)), [tracked("other:x")]) == found


@pytest.mark.parametrize("told", ["models", "argocd:models", "helm:a/b", "flux:a/b/c", "flux:/b"])
def test_the_spec_must_name_it_whole(told: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Rollout).validate_python({"synced_by": told})


@pytest.mark.parametrize(
    ("status", "commit", "message"),
    [
        ({"sync": {"status": "Synced", "revision": COMMIT}}, COMMIT, ""),
        # the newest is known, and what was applied is the one before
        (
            {
                "sync": {"status": "OutOfSync", "revision": "f" * 40},
                "operationState": {"phase": "Succeeded", "syncResult": {"revision": COMMIT}},
            },
            COMMIT,
            "",
        ),
        (
            {
                "sync": {"status": "OutOfSync", "revision": COMMIT},
                "operationState": {"phase": "Failed", "message": "no", "syncResult": {"revision": COMMIT}},
            },
            None,
            "no",
        ),
        ({"conditions": [{"type": "ComparisonError", "message": "no such path"}]}, None, "no such path"),
        ({"sync": {"status": "Synced", "revisions": [COMMIT, "f" * 40]}}, None, ""),
        ({"sync": {"status": "Synced", "revision": "v1.2"}}, None, ""),
        ({}, None, ""),
    ],
)
def test_what_argo_cd_applied(status: dict[str, Any], commit: str | None, message: str) -> None:
    found, said = applied(ARGO, {"status": status})
    assert found == commit
    assert said.endswith(message)
    assert bool(said) is bool(message)


@pytest.mark.parametrize("revision", [f"main@sha1:{COMMIT}", f"main/{COMMIT}", COMMIT])
def test_what_flux_applied(revision: str) -> None:
    assert applied(FLUX, {"status": {"lastAppliedRevision": revision}}) == (COMMIT, "")


def test_what_holds_flux_up() -> None:
    failed = {"conditions": [{"type": "Ready", "status": "False", "message": "dry-run failed"}]}
    told = {"status": {"lastAppliedRevision": f"main@sha1:{COMMIT}", **failed}}
    assert applied(FLUX, told) == (COMMIT, "Flux's Kustomization flux-system/models: dry-run failed")
    assert applied(FLUX, {"spec": {"suspend": True}}) == (
        None,
        "Flux's Kustomization flux-system/models: it is suspended",
    )


def test_each_is_asked_in_its_own_way() -> None:
    ((path, patch),) = nudges(ARGO, {}, NOW)
    assert path == "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications/models"
    assert patch == {"metadata": {"annotations": {"argocd.argoproj.io/refresh": "normal"}}}
    source = {"spec": {"sourceRef": {"kind": "GitRepository", "name": "repo"}}}
    assert [path.rpartition("namespaces/")[2] for path, _ in nudges(FLUX, source, NOW)] == [
        "flux-system/gitrepositories/repo",
        "flux-system/kustomizations/models",
    ]
    other = {"spec": {"sourceRef": {"kind": "OCIRepository", "name": "repo"}}}
    assert len(nudges(FLUX, other, NOW)) == 1
