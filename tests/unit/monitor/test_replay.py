"""Paired replay: only rows that neither can have learned from, each once, and nothing that favours the canary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from tests.unit.monitor.monitor_make import NOON, journal_of, lines, look, make_spec, row, write_labels, write_log
from tests.unit.registry.registry_fakes import card, dataset
from upkeep.data.kinds import Column
from upkeep.data.split import Assign, HashSplit
from upkeep.errors import ModelError
from upkeep.models.folder import save_sklearn
from upkeep.models.manifest import Manifest
from upkeep.monitor.journal import Journal
from upkeep.monitor.outcomes import model_classes
from upkeep.monitor.replay import PairCounts, Replay, Replayed, allowance, held_out_mask
from upkeep.registry.registry import Registry
from upkeep.rollout.analysis.labels import JournalLabels
from upkeep.rollout.analysis.ledger import Answered
from upkeep.rollout.state import Canary, Champion, State
from upkeep.spec.load import canonical
from upkeep.spec.model import Margin, ModelSpec, Split
from upkeep.store import open_store

COLUMNS = (Column(name="amount", kind="numeric"),)
MADE = NOON - timedelta(days=1)


def register(registry: Registry, spec: ModelSpec, folder: Path, above: float) -> str:
    """A version that says late where the amount is above a limit; its name."""
    data = pd.DataFrame({"amount": np.linspace(0, 10, 200)})
    fitted = LogisticRegression(C=1e6, max_iter=1000).fit(data, data["amount"] > above)
    manifest = Manifest(format="sklearn", columns=COLUMNS, classes=(False, True), positive=True, libraries={})
    save_sklearn(folder, fitted, manifest)
    digest = registry.put_model(folder)
    changes = {"model": spec.name, "spec": registry.put_spec(canonical(spec)), "created": MADE.isoformat()}
    made = card(digest, update=f"u{above}", dataset=registry.put_dataset(dataset("a")), **changes)
    return registry.register(made).version


@contextmanager
def world(folder: Path, amounts: dict[str, float], *, at: datetime = NOON, spec: ModelSpec | None = None,
          late_above: float = 5.0) -> Iterator[tuple[ModelSpec, Registry, Journal]]:  # fmt: skip
    """The champion (v1: above 7) answered loans of these amounts; they were late above 5. v2 says so above 5."""
    spec = spec or make_spec(folder)
    registry = Registry(open_store(spec.store), spec.name)
    for number, above in enumerate((7.0, 5.0)):
        register(registry, spec, folder / f"model{number}", above)
    some: list[bytes] = []
    for loan, amount in amounts.items():
        some += lines(f"r-{loan}", [row(loan, amount)], [amount > 7], at=at)
    write_log(folder, some, at=at)
    write_labels(folder, [(loan, str(amount > late_above), at) for loan, amount in amounts.items()])
    with journal_of(spec, folder / "journal") as journal:
        look(journal, spec)
        yield spec, registry, journal


def test_pairs_say_who_was_right(tmp_path: Path) -> None:
    with world(tmp_path, {"a": 6.0, "b": 9.0, "c": 1.0}) as (spec, registry, journal):
        done = Replay(spec, registry, "v1", "v2").step(journal, after=0, most_rows=100)
        assert done.counts == PairCounts(both_right=2, only_canary=1)
        assert done.by_slice == {"region=north": done.counts}
        assert (done.asked, done.failed, done.left, done.reached, done.skipped) == (3, 0, 0, 3, {})
        assert {pair.why for pair in done.pairs} == {"after"}
        assert len({pair.hash for pair in done.pairs}) == 3
        assert model_classes(spec, registry) == (False, True)


def test_each_row_counts_once_in_steps_of_any_size(tmp_path: Path) -> None:
    amounts = {str(number): float(number % 10) for number in range(25)}
    with world(tmp_path, amounts) as (spec, registry, journal):
        replay = Replay(spec, registry, "v1", "v2")
        whole = replay.step(journal, after=0, most_rows=100)
        steps: list[Replayed] = []
        while not steps or steps[-1].left:
            steps.append(replay.step(journal, after=steps[-1].reached if steps else 0, most_rows=4))
        assert [len(step.pairs) for step in steps] == [4, 4, 4, 4, 4, 4, 1]
        assert tuple(pair for step in steps for pair in step.pairs) == whole.pairs
        again = replay.step(journal, after=0, most_rows=100, counted={pair.hash for pair in whole.pairs}.__contains__)
        assert again.pairs == () and again.skipped == {"counted before": 25}


def test_requests_from_before_a_version_was_made_do_not_count(tmp_path: Path) -> None:
    spec = replace(make_spec(tmp_path), data=replace(make_spec(tmp_path).data, split=Split(held_out=0.0, salt="s")))
    with world(tmp_path, {"a": 6.0}, at=MADE + timedelta(seconds=30), spec=spec) as (spec, registry, journal):
        done = Replay(spec, registry, "v1", "v2").step(journal, after=0, most_rows=100)
        assert done.pairs == () and done.skipped == {"one of the two may have learned from it": 1}


def test_held_out_rows_count_whenever_they_were_asked(tmp_path: Path) -> None:
    amounts = {str(number): 6.0 for number in range(40)}
    made = make_spec(tmp_path)
    spec = replace(made, data=replace(made.data, split=Split(held_out=0.5, salt="s")))
    with world(tmp_path, amounts, at=MADE - timedelta(days=3), spec=spec) as (spec, registry, journal):
        done = Replay(spec, registry, "v1", "v2").step(journal, after=0, most_rows=100)
        assert {pair.why for pair in done.pairs} == {"held_out"}
        assign = Assign(salt="s", split=HashSplit(held_out=0.5, validation=0.2), content=("amount",), id="loan",
                        group_column=None, group_unit=None, time=None, period="p", period_unit=None,
                        file_digest="f")  # fmt: skip
        rows = pa.RecordBatch.from_pydict({"loan": list(amounts), "amount": list(amounts.values())})
        parts = assign(rows.append_column("_row_number", pa.array(range(40)))).column("_part").to_pylist()
        assert len(done.pairs) == parts.count("held_out") > 5
        assert done.skipped == {
            "one of the two may have learned from it": parts.count("train") + parts.count("validation")
        }


def test_of_a_version_with_another_split_or_of_unknown_rows_nothing_is_held_out(tmp_path: Path) -> None:
    made = make_spec(tmp_path)
    spec = replace(made, data=replace(made.data, split=Split(held_out=0.99, salt="s")))
    with world(tmp_path, {"a": 6.0}, at=MADE - timedelta(days=3), spec=spec) as (spec, registry, journal):
        other = replace(spec, data=replace(spec.data, split=Split(held_out=0.98, salt="s")))
        assert Replay(spec, registry, "v1", "v2").step(journal, after=0, most_rows=9).pairs
        assert not Replay(other, registry, "v1", "v2").step(journal, after=0, most_rows=9).pairs


@pytest.mark.parametrize("split", [Split(group="day", held_out=0.5), Split(group="region", held_out=0.5),
                                   Split(group="region", held_out=0.5, method="prequential")])  # fmt: skip
def test_the_split_key_is_that_of_training(tmp_path: Path, split: Split) -> None:
    made = make_spec(tmp_path)
    spec = replace(made, data=replace(made.data, split=replace(split, salt="s")))
    days = [NOON + timedelta(days=number) for number in range(60)]
    regions = [f"region {number}" for number in range(59)]
    table = pa.table({"asked": pa.array(days, pa.timestamp("us", tz="UTC")), "region": [*regions, None]})
    mask = held_out_mask(table, spec)
    if split.method == "prequential":
        assert not mask.any()
        return
    assign = Assign(salt="s", split=HashSplit(held_out=0.5, validation=0.2), content=("region",), id=None,
                    group_column="region" if split.group == "region" else None,
                    group_unit="day" if split.group == "day" else None, time="asked", period="p", period_unit=None,
                    file_digest="f")  # fmt: skip
    (batch,) = table.append_column("_row_number", pa.array(range(60))).to_batches()
    parts = assign(batch).column("_part").to_pylist()
    wanted = [part == "held_out" for part in parts]
    if split.group == "region":
        wanted[-1] = False  # the client did not send it
    assert mask.tolist() == wanted and 10 < mask.sum() < 50


def test_rows_that_were_not_kept_whole_do_not_count(tmp_path: Path) -> None:
    with world(tmp_path, {"a": 6.0}) as (spec, registry, journal):
        cut = lines("r9", [{"loan": "z", "region": "north"}], [True])
        write_log(tmp_path, cut)
        write_labels(tmp_path, [("z", "true", NOON)], "two.csv")
        look(journal, spec)
        done = Replay(spec, registry, "v1", "v2").step(journal, after=0, most_rows=100)
        assert len(done.pairs) == 1 and done.skipped == {"a column was not sent or not kept": 1}


def test_what_the_canary_cannot_answer_counts_as_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with world(tmp_path, {"a": 6.0, "b": 9.0, "c": 1.0}) as (spec, registry, journal):
        replay = Replay(spec, registry, "v1", "v2")
        real = type(replay._predictor).predict_proba

        def breaks(self: Any, rows: Any) -> Any:
            if 9.0 in rows.column("amount").to_pylist():
                raise ValueError("nine")
            return real(self, rows)

        monkeypatch.setattr(type(replay._predictor), "predict_proba", breaks)
        done = replay.step(journal, after=0, most_rows=100)
        assert done.counts == PairCounts(both_right=1, only_canary=1, only_champion=1) and done.failed == 1


def test_a_canary_with_columns_that_the_spec_does_not_name_is_refused(tmp_path: Path) -> None:
    with world(tmp_path, {"a": 6.0}) as (spec, registry, _):
        other = replace(spec, data=replace(spec.data, features=replace(spec.data.features, numeric=("weight",))))
        with pytest.raises(ModelError, match="amount"):
            Replay(other, registry, "v1", "v2")


def test_an_estimator_is_loaded_by_the_allow_list(tmp_path: Path) -> None:
    with world(tmp_path, {"a": 6.0}) as (spec, registry, _):
        folder = tmp_path / "other"
        data = pd.DataFrame({"amount": [0.0, 1.0] * 10})
        fitted = make_pipeline(FunctionTransformer(stranger), LogisticRegression()).fit(data, data["amount"] > 0)
        save_sklearn(folder, fitted, Manifest(format="sklearn", columns=COLUMNS, classes=(False, True), positive=True,
                                              libraries={}))  # fmt: skip
        digest = registry.put_model(folder)
        version = registry.register(card(digest, model=spec.name, update="odd", created=MADE.isoformat())).version
        with pytest.raises(ModelError):
            Replay(spec, registry, "v1", version)


def stranger(rows: Any) -> Any:
    return rows


def test_how_much_may_be_asked() -> None:
    assert allowance(6000, None, NOON) == 1000
    assert allowance(6000, NOON, NOON + timedelta(seconds=10)) == 1000
    assert allowance(6000, NOON, NOON + timedelta(days=1)) == 6000
    assert allowance(6000, NOON, NOON - timedelta(days=1)) == 1
    assert allowance(1, NOON, NOON) == 1


# --- for the analysis ----------------------------------------------------------------------------------------------


def state_of(registry: Registry) -> State:
    one, two = registry.cards()
    return State(
        model="loans",
        phase="step",
        weight=25,
        champion=Champion(version="v1", digest=one.digest, since="2026-02-01T00:00:00Z"),
        canary=Canary(version="v2", digest=two.digest, update="u"),
        update="u",
        evidence=None,
        rollout="v2-20260228T120000Z",
    )


def test_the_analysis_reads_each_outcome_and_each_pair_once(tmp_path: Path) -> None:
    with world(tmp_path, {"a": 6.0, "b": 9.0}) as (spec, registry, _):
        write_log(tmp_path, lines("c2", [row("c", 6.0)], [True], version="v2"))
        write_labels(tmp_path, [("c", "true", NOON), ("never", "true", NOON)], "two.csv")
    state = state_of(registry)
    source = JournalLabels(registry)
    now = NOON + timedelta(days=300)
    spec = replace(spec, monitoring=replace(spec.monitoring, payloads=replace(spec.monitoring.payloads, keep=4e7)))
    first = source.read(spec, state, {}, now)
    assert [(each.version, each.wrong) for each in first.outcomes] == [("v1", True), ("v1", False), ("v2", False)]
    assert {each.at for each in first.outcomes} == {NOON.timestamp()}
    said = [(each.answered_positive, each.label_positive) for each in first.outcomes]
    assert said == [(False, True), (True, True), (True, True)]
    assert sorted((each.champion_right, each.canary_right) for each in first.pairs) == [(False, True), (True, True)]
    assert first.unknown == 1 and first.cursor
    again = JournalLabels(registry).read(spec, state, first.cursor, now)
    assert (again.outcomes, again.pairs, again.unknown) == ((), (), 0)
    assert again.cursor == first.cursor

    lost = JournalLabels(registry, tmp_path / "anew").read(spec, state, first.cursor, now)
    assert (lost.outcomes, lost.pairs) == ((), ())
    assert lost.cursor and lost.cursor["journal"] != first.cursor["journal"]

    write_log(tmp_path, lines("d1", [row("d", 6.0)], [False]))
    write_labels(tmp_path, [("d", "true", NOON)], "three.csv")
    more = JournalLabels(registry, tmp_path / "anew").read(spec, state, lost.cursor, now)
    assert (len(more.outcomes), len(more.pairs)) == (1, 1)
    assert more.cursor and len(more.cursor["used"].split(",")) == 2


def test_the_analysis_says_why_labels_do_not_count(tmp_path: Path) -> None:
    """Silent, a rollout would wait for them until its limit, and nobody would know why."""
    with world(tmp_path, {"a": 6.0}) as (spec, registry, _):
        write_labels(tmp_path, [("never", "true", NOON), ("asked", "perhaps", NOON)])
        (tmp_path / "labels" / "two.csv").write_text("loan,outcome\na,true\n")
    now = NOON + timedelta(days=300)
    spec = replace(spec, monitoring=replace(spec.monitoring, payloads=replace(spec.monitoring.payloads, keep=4e7)))
    found = JournalLabels(registry).read(spec, state_of(registry), {}, now)
    assert found.outcomes == ()
    whole, rows, none = found.problems
    assert "two.csv" in whole and "there is no column late" in whole
    assert rows == "1 rows of label files were refused: late is no label of the model"
    assert none == "1 labels, and none names a request that these versions answered"


@pytest.mark.parametrize("labelled", [True, False])
def test_the_analysis_reads_each_answer_once_with_a_label_or_without(tmp_path: Path, labelled: bool) -> None:
    with world(tmp_path, {"a": 6.0, "b": 9.0}) as (spec, registry, _):
        write_log(tmp_path, lines("early", [row("z", 9.0)], [True], at=NOON - timedelta(days=3)))
        write_log(tmp_path, lines("again", [row("a", 6.0)], [True], at=NOON + timedelta(seconds=1)))
        write_log(tmp_path, lines("two", [row("c", 6.0), row("d", 7.0)], [True, True], version="v2"))
    monitoring = replace(
        spec.monitoring,
        labels=spec.monitoring.labels if labelled else "",
        payloads=replace(spec.monitoring.payloads, keep=4e7),
    )
    spec = replace(spec, monitoring=monitoring, rollout=replace(spec.rollout, margin=Margin(predictions=0.05)))
    state, source, now = state_of(registry), JournalLabels(registry), NOON + timedelta(days=300)
    first = source.read(spec, state, {}, now)
    at = NOON.timestamp()
    assert first.answers == (
        Answered(at=at, version="v1", answer="false", n=1),
        Answered(at=at, version="v1", answer="true", n=1),
        Answered(at=at, version="v2", answer="true", n=2),
    )
    assert bool(first.outcomes) == labelled
    assert first.cursor
    again = source.read(spec, state, first.cursor, now)
    assert (again.answers, again.cursor) == ((), first.cursor)

    # The journal is lost: what is newer than all that counted counts, in its place.
    later = NOON + timedelta(seconds=20)
    write_log(tmp_path, lines("three", [row("f", 6.0), row("a", 6.0)], [False, True], at=later))
    anew = JournalLabels(registry, tmp_path / "anew")
    more = anew.read(spec, state, first.cursor, now)
    assert more.answers == (Answered(at=later.timestamp(), version="v1", answer="false", n=1),)
    assert more.cursor and anew.read(spec, state, more.cursor, now).answers == ()


def test_before_the_rollout_there_is_nothing_to_compare(tmp_path: Path) -> None:
    with world(tmp_path, {"a": 6.0}, at=NOON - timedelta(days=3)) as (spec, registry, _):
        pass
    state = replace(state_of(registry), canary=None, phase="idle", weight=0)
    source = JournalLabels(registry)
    assert source.read(spec, state, {}, NOON).cursor is None
    found = source.read(spec, state_of(registry), {}, NOON)
    assert found.outcomes == ()


def test_many_looks_keep_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upkeep.rollout.analysis.labels.MOST_PARTS", 2)
    with world(tmp_path, {}) as (spec, registry, _):
        pass
    spec = replace(spec, monitoring=replace(spec.monitoring, payloads=replace(spec.monitoring.payloads, keep=4e7)))
    state, source, cursor = state_of(registry), JournalLabels(registry), dict[str, str]()
    now = NOON + timedelta(days=300)
    for number in range(5):
        write_log(tmp_path, lines(f"r{number}", [row(str(number), 6.0)], [True]))
        write_labels(tmp_path, [(str(number), "true", NOON)], f"{number}.csv")
        found = source.read(spec, state, cursor, now)
        assert len(found.outcomes) == 1 and found.cursor is not None
        cursor = found.cursor
    assert len(cursor["used"].split(",")) <= 2
    lost = JournalLabels(registry, tmp_path / "anew").read(spec, state, cursor, now)
    assert (lost.outcomes, lost.pairs) == ((), ())
