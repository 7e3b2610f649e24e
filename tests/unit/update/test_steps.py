"""What single steps owe the record: evidence first, and no outage that looks like a finding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.data import make
from tests.unit.registry.registry_fakes import card, model_folder
from tests.unit.report import samples
from upkeep import records
from upkeep.data.prepared import Prepared
from upkeep.errors import IntegrityError, OutsideError
from upkeep.evaluation.result import Evaluation
from upkeep.models.manifest import Predictor
from upkeep.registry.registry import Registry
from upkeep.rollout.release import Proposal, Serving
from upkeep.spec.load import canonical
from upkeep.spec.model import Ensemble, ModelSpec
from upkeep.store import open_store
from upkeep.training.task import TrainingResult, TrainingTask
from upkeep.update import deploy, drift, evaluate, train, trained
from upkeep.update.context import Context


class Artifact:
    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.metadata: dict[str, Any] = {}


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    return make.spec(make.months(tmp_path / "data", 2), time="time")


@pytest.fixture
def prepared(tmp_path: Path, spec: ModelSpec) -> Prepared:
    return make.prepared(tmp_path, spec)


@pytest.fixture
def context(tmp_path: Path, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> Context:
    registry = Registry(open_store(str(tmp_path / "store")), spec.name)
    monkeypatch.setattr(registry, "missing", lambda digest: (), raising=False)  # the trained models have no bytes here
    return Context(spec, "0" * 64, "20260301T120000Z-abcdef", registry, "test")


def record() -> trained.TrainedCandidate:
    result = TrainingResult(
        candidate="one", strategy="retrain", params={}, seed=0, rows=1, periods=("2024-01",), seconds=0.0
    )
    return trained.TrainedCandidate(model="d" * 64, format="sklearn", size_bytes=1, parents=(), result=result)


def passing() -> Evaluation:
    evaluation = samples.passing().evaluation
    assert evaluation is not None
    return replace(evaluation, chosen="one")


def run_deploy(context: Context, prepared: Prepared, tmp_path: Path) -> str:
    from upkeep.data.collect import collect

    folder = tmp_path / "evaluated"
    records.write(folder / evaluate.EVALUATION, passing())
    records.write(tmp_path / "dataset.json", collect(context.spec))
    records.write(tmp_path / "drift.json", samples.drift_report())
    step: Callable[..., str] = deploy.deploy.__wrapped__  # type: ignore[attr-defined]  # the step, its context given
    return step(
        context,
        champion="v1",
        candidates={"one": trained.put(context.registry, record())},
        verdict="pass",
        supersede=False,
        dataset=Artifact(tmp_path / "dataset.json"),
        prepared=Artifact(prepared.path),
        drift=Artifact(tmp_path / "drift.json"),
        evaluation=Artifact(folder),
        page=Artifact(tmp_path / "page.html"),
        summary=Artifact(tmp_path / "summary.md"),
    )


def test_what_a_commit_cites_is_stored_before_the_commit(
    context: Context, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: Any, **__: Any) -> Any:
        raise Killed

    monkeypatch.setattr(deploy, "_release", killed)
    with pytest.raises(Killed):
        run_deploy(context, prepared, tmp_path)
    stored = records.from_json(Evaluation, context.registry.get_update(context.update, "evaluation.json"))
    assert stored == passing()


@pytest.mark.parametrize(
    ("outcome", "verdict"), [("barred", "fail"), ("champion_changed", "insufficient"), ("pending_other", "pass")]
)
def test_what_git_says_at_the_last_moment_takes_the_verdict_back(
    context: Context,
    prepared: Prepared,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Any,
    verdict: str,
) -> None:
    from upkeep.rollout.state import Champion
    from upkeep.update.record import UpdateRecord

    serving = Serving(
        champion=Champion(version="v1", digest="c" * 64, since="2026-03-01T12:00:00Z"),
        canary=None, phase="idle", weight=0, commit="abc",
    )  # fmt: skip
    monkeypatch.setattr(deploy, "serving_now", lambda spec: serving)
    monkeypatch.setattr(deploy, "_verify", lambda *_: "")
    monkeypatch.setattr(context.registry, "register", lambda made: replace(made, version="v2"), raising=False)
    monkeypatch.setattr(
        deploy, "propose", lambda *_, **__: Proposal(outcome=outcome, reason="so it is", commit="abc", attempts=1)
    )
    assert run_deploy(context, prepared, tmp_path) == outcome
    left = records.from_json(UpdateRecord, context.registry.get_update(context.update, "record.json"))
    assert left.verdict.verdict == verdict


def test_bytes_that_git_bars_are_not_registered(
    context: Context, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from upkeep.rollout.state import Barred, Champion
    from upkeep.update.record import UpdateRecord

    serving = Serving(
        champion=Champion(version="v1", digest="c" * 64, since="2026-03-01T12:00:00Z"),
        canary=None, phase="rolled_back", weight=0, commit="abc",
        barred=(Barred(version="v2", digest="d" * 64, since="2026-03-02T12:00:00Z", reason="more errors"),),
    )  # fmt: skip
    monkeypatch.setattr(deploy, "serving_now", lambda spec: serving)
    assert run_deploy(context, prepared, tmp_path) == "barred"
    left = records.from_json(UpdateRecord, context.registry.get_update(context.update, "record.json"))
    assert left.verdict.verdict == "fail"
    assert "v2" in left.verdict.summary
    assert "more errors" in left.verdict.summary
    assert context.registry.versions() == ()


def test_an_outage_is_an_error_and_damage_a_finding(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, registry = context.spec, context.registry
    monkeypatch.setattr(registry, "card", lambda version: card("d" * 64), raising=False)

    def asked(error: Exception) -> list[Callable[[], Any]]:
        def get_model(*_: Any) -> Path:
            raise error

        monkeypatch.setattr(registry, "get_model", get_model, raising=False)
        return [
            lambda: evaluate._candidate(registry, tmp_path, spec, record(), "", "v1"),
            lambda: evaluate._champion(registry, tmp_path, spec, "v1", ""),
            lambda: drift._predictor(spec, registry, card("d" * 64)),
        ]

    for ask in asked(OutsideError("the store cannot be reached")):
        with pytest.raises(OutsideError):
            ask()
    candidate, champion, predictor = (ask() for ask in asked(IntegrityError("a byte is flipped")))
    assert "a byte is flipped" in candidate.failed
    assert "a byte is flipped" in champion.unreadable
    assert predictor is None


@pytest.mark.parametrize("gone", ["the record", "some bytes", "all bytes", "nothing"])
def test_what_a_cached_training_made_and_a_sweep_took_ends_in_words(tmp_path: Path, gone: str) -> None:
    store = open_store(str(tmp_path / "store"))
    registry = Registry(store, "m")
    made = replace(record(), model=registry.put_model(model_folder(tmp_path / "model")))
    name = trained.put(registry, made)
    for path in (tmp_path / "store").rglob("*.*"):
        whole = gone == "all bytes" and path.parts[-3] == "models"
        if (
            whole
            or (gone == "some bytes" and path.name == "model.skops")
            or (gone == "the record" and name in path.name)
        ):
            path.unlink()
    if gone == "nothing":
        assert trained.get_all(registry, {"one": name}) == {"one": made}
        return
    with pytest.raises(OutsideError, match="a sweep took it") as caught:
        trained.get_all(registry, {"one": name})
    assert caught.value.retry
    assert "trains anew" in str(caught.value)


def test_verify_has_rows_from_all_over_the_held_out_set(prepared: Prepared, tmp_path: Path) -> None:
    class Half:
        def predict_proba(self, rows: pa.Table) -> Any:
            return np.full((rows.num_rows, 2), 0.5)

    answering: Predictor = Half()  # type: ignore[assignment]
    evaluate._write_answers(tmp_path, prepared, answering)
    held_out = prepared.count(parts=("held_out",))
    assert len(np.load(tmp_path / evaluate.ANSWERS)) == min(held_out, evaluate.VERIFY_ROWS)


@pytest.mark.parametrize(("strategy", "member"), [("retrain", True), ("adopted", False)])
def test_an_ensemble_takes_no_champion_that_held_out_rows_may_have_taught(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str, member: bool
) -> None:
    vote = Ensemble(name="vote", strategy="ensemble", members=("champion", "one"))
    spec = replace(context.spec, candidates=(make.ONE, vote))
    champion = card("c" * 64, spec=context.registry.put_spec(canonical(spec)))
    champion = replace(champion, trained=replace(champion.trained, strategy=strategy))
    monkeypatch.setattr(context.registry, "card", lambda version: champion, raising=False)
    monkeypatch.setattr(context.registry, "get_model", lambda digest, to: to, raising=False)
    prepared = make.prepared(tmp_path, spec)
    given: list[TrainingTask] = []

    class Enough(Exception):  # noqa: N818
        pass

    def fit(task: TrainingTask, *_: Any) -> Any:
        given.append(task)
        raise Enough

    monkeypatch.setattr(train, "fit", fit)
    step: Callable[..., str] = train.train.__wrapped__  # type: ignore[attr-defined]
    with pytest.raises(Enough):
        step(
            replace(context, spec=spec),
            champion="v1",
            candidate="vote",
            states={},
            members={"one": trained.put(context.registry, record())},
            prepared=Artifact(prepared.path),
            model=Artifact(tmp_path / "model"),
            metrics=Artifact(tmp_path / "metrics"),
        )
    assert ("champion" in given[0].members) == member
