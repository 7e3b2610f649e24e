from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from upkeep.data.kinds import Column
from upkeep.drift import profile as profiles
from upkeep.drift.decay import decay
from upkeep.drift.detect import Watched, detect
from upkeep.drift.report import drift_report
from upkeep.drift.result import TwoSample
from upkeep.errors import DataError
from upkeep.spec.model import Drift

SETTINGS = Drift()


def table(**columns):
    return pa.RecordBatch.from_arrays([pa.array(values) for values in columns.values()], names=list(columns))


def watch(reference, *currents, **more):
    columns = [
        Column(name=field.name, kind="categorical" if pa.types.is_string(field.type) else "numeric")
        for field in reference.schema
    ]
    baseline = profiles.make_baseline(lambda: [reference], columns)
    return Watched(baseline, [profiles.profile([current], baseline.reference) for current in currents], **more)


def one(reference, *currents, settings=SETTINGS):
    (found,) = detect([watch(reference, *currents)], settings)
    return found


def normal(rows, mean=0.0, seed=0):
    return np.random.default_rng(seed).normal(mean, 1, rows)


def letters(rows, shares, seed=0):
    names = np.array(["a", "b", "c", "d", "e"])[: len(shares)]
    return np.random.default_rng(seed).choice(names, rows, p=shares).tolist()


def test_a_moved_column_drifts_and_says_why():
    found = one(table(x=normal(2000)), table(x=normal(1000, 0.6, 1)))
    assert found.finding == "drift"
    assert found.kind == "numeric" and found.periods_in_a_row == 1
    assert found.effect is not None and found.effect > 0.2
    assert found.p_value is not None and found.adjusted_p_value is not None and found.p_value < 1e-10
    assert found.statistics["wasserstein"] == pytest.approx(0.6, abs=0.1)
    assert found.statistics["ks"] <= found.statistics["ks_at_most"]
    assert "Kolmogorov–Smirnov" in found.reason and "past 0.1" in found.reason
    assert found.histogram is not None
    assert sum(found.histogram.reference) == pytest.approx(1) and sum(found.histogram.current) == pytest.approx(1)
    assert len(found.histogram.edges) == len(found.histogram.labels) - 1 <= 20


def test_thirty_rows_never_drift():
    found = one(table(x=normal(5000)), table(x=normal(30, 50.0, 1)))
    assert found.finding == "insufficient"
    assert "Too few rows" in found.reason
    assert one(table(x=normal(30)), table(x=normal(5000, 50.0))).finding == "insufficient"


def test_a_million_rows_with_a_tiny_shift_do_not_drift():
    found = one(table(x=normal(1_000_000)), table(x=normal(1_000_000, 0.02, 1)))
    assert found.p_value is not None and found.p_value < 1e-6
    assert found.finding == "stable" and "below" in found.reason


def test_a_large_effect_that_chance_explains_does_not_drift():
    settings = dataclasses.replace(SETTINGS, min_rows=20)
    found = one(table(x=normal(40, seed=1)), table(x=normal(40, seed=2)), settings=settings)
    assert found.effect is not None and found.effect > 0.1
    assert found.finding == "stable" and "chance may explain" in found.reason


def test_false_alarms_are_rare():
    rng = np.random.default_rng(7)
    settings = dataclasses.replace(
        SETTINGS, thresholds=dataclasses.replace(SETTINGS.thresholds, ks=0.001, jensen_shannon=0.001)
    )
    alarms = 0
    for _ in range(40):
        sides = [
            table(
                **{f"x{i}": rng.normal(size=rows) for i in range(6)},
                **{f"k{i}": rng.integers(0, 9, rows).astype(float) for i in range(2)},
                **{f"c{i}": rng.choice([f"l{j}" for j in range(60)], rows).tolist() for i in range(3)},
            )
            for rows in (600, 400)
        ]
        alarms += any(column.finding == "drift" for column in detect([watch(*sides)], settings))
    assert alarms <= 6  # at most 5 % of the runs in the mean, with hardly any threshold on the effect


def test_many_rare_categories_are_not_drift():
    rng = np.random.default_rng(8)
    names = np.array([f"id{i}" for i in range(10_000)])
    sides = [table(c=rng.choice(names, rows).tolist()) for rows in (20_000, 2000)]
    found = one(*sides)
    assert found.finding == "stable"
    assert found.statistics["jensen_shannon"] is not None and len(found.new_categories) == 20


def test_categories_new_and_vanished():
    old = letters(3000, [0.5, 0.3, 0.2])
    new = ["a"] * 600 + ["b"] * 380 + ["z"] * 15 + ["y"] * 20
    found = one(table(c=old), table(c=new))
    assert found.finding == "drift" and "Jensen–Shannon" in found.reason
    assert found.new_categories == ("y", "z")
    assert found.vanished_categories == ("c",)
    assert found.histogram is not None and found.histogram.labels[-1] == "all others"
    assert sum(found.histogram.current) == pytest.approx(1)


@pytest.mark.parametrize("rows", [800, 6000])
def test_free_text_has_no_categories_to_compare(rows):
    texts = [f"text {number}" for number in range(2 * rows)]
    texts[rows // 2] = texts[0]  # one comes twice
    found = one(table(x=texts[:rows]), table(x=texts[rows:]))
    assert found.finding == "insufficient"
    assert "as in free text" in found.reason
    assert found.new_categories == found.vanished_categories == ()
    assert found.histogram is None
    assert found.statistics["jensen_shannon"] is None
    empty = one(table(x=texts[:rows]), table(x=[None] * 900 + texts[rows : rows + 100]))
    assert empty.finding == "drift"
    assert "nulls" in empty.reason


def test_a_rare_category_may_be_missing_by_chance():
    found = one(table(c=["a"] * 5000 + ["rare"] * 2), table(c=["a"] * 1000))
    assert found.vanished_categories == () and found.finding == "stable"


def test_more_nulls_drift():
    old = [*normal(1000).tolist(), *[None] * 10]
    found = one(table(x=old), table(x=[*normal(800, seed=1).tolist(), *[None] * 200]))
    assert found.finding == "drift" and "nulls went from 1.0% to 20.0%" in found.reason
    assert found.threshold == SETTINGS.thresholds.nulls
    assert found.effect == pytest.approx(0.2 - 10 / 1010)


def test_a_column_that_is_all_null():
    nulls = pa.RecordBatch.from_arrays([pa.nulls(500, pa.float64())], names=["x"])
    assert one(nulls, nulls).finding == "insufficient"
    gone = one(table(x=normal(1000)), nulls)
    assert gone.finding == "drift" and "100.0%" in gone.reason
    assert gone.histogram is None
    few = pa.RecordBatch.from_arrays([pa.nulls(50, pa.float64())], names=["x"])
    assert one(table(x=normal(1000)), few).finding == "insufficient"


def test_no_rows_at_all_is_insufficient():
    found = one(table(x=normal(1000)), table(x=normal(1000)).slice(0, 0))
    assert found.finding == "insufficient" and found.current_rows == 0


def test_drift_must_persist_for_periods_in_a_row():
    settings = dataclasses.replace(SETTINGS, persist=2)
    old, same, moved = table(x=normal(1000)), table(x=normal(500, 0, 1)), table(x=normal(500, 1.0, 2))
    thin = table(x=normal(20, 1.0, 3))

    def run(*periods):
        found = one(old, *periods, settings=settings)
        return found.finding, found.periods_in_a_row

    assert run(moved) == ("stable", 1)
    assert run(same, moved) == ("stable", 1)
    assert run(moved, same) == ("stable", 0)
    assert run(moved, moved) == ("drift", 2)
    assert run(moved, moved, moved) == ("drift", 3)
    assert run(moved, thin, moved) == ("stable", 1)
    assert run(moved, moved, thin) == ("insufficient", 0)
    assert "2 periods in a row" in one(old, moved, settings=settings).reason


def test_exact_kolmogorov_smirnov_takes_the_values():
    a, b = normal(500), normal(400, 0.5, 1)
    watched = watch(table(x=a), table(x=b), values=lambda name: (a, np.append(b, np.nan)))
    (exact,) = detect([watched], dataclasses.replace(SETTINGS, exact_ks=True))
    (binned,) = detect([watched], SETTINGS)
    assert binned.statistics["ks"] <= exact.statistics["ks"] <= binned.statistics["ks_at_most"]
    assert exact.statistics["ks"] == exact.statistics["ks_at_most"] == exact.effect


def test_labels_and_predictions_are_told_apart_from_features():
    features = watch(table(x=normal(1000), y=letters(1000, [0.5, 0.5])), table(x=normal(900, seed=1), y=["a"] * 900))
    features = dataclasses.replace(features, roles={"y": "target"})
    report = drift_report([features], SETTINGS, reference="champion v1's training rows", periods=("2013-04",))
    assert [(column.column, column.role, column.finding) for column in report.columns] == [
        ("y", "target", "drift"),
        ("x", "feature", "stable"),
    ]
    assert report.finding == "stable"
    assert "label moved." in report.summary and "No column of 1 moved" in report.summary
    predictions = watch(table(p=normal(1000)), table(p=normal(900, 1.0)), roles={"p": "prediction"})
    both = drift_report([features, predictions], SETTINGS, reference="r")
    assert both.finding == "drift" and "predictions moved" in both.summary
    assert both.reference_digest == features.baseline.digest


def test_the_whole_is_insufficient_only_when_nothing_could_be_judged():
    thin = drift_report([watch(table(x=normal(1000)), table(x=normal(10)))], SETTINGS, reference="r")
    assert thin.finding == "insufficient" and "not enough" in thin.summary
    told = TwoSample(finding="drift", reason="…", auc=0.9, low=0.8, high=0.95, rows=9, top_columns=())
    stable = watch(table(x=normal(1000)), table(x=normal(900, seed=1)))
    assert drift_report([stable], SETTINGS, reference="r", two_sample=told).finding == "drift"


def test_a_champion_that_decays_is_drift_however_still_the_columns_are():
    still = watch(table(x=normal(1000)), table(x=normal(900, seed=1)))
    thin = watch(table(x=normal(1000)), table(x=normal(10)))
    right, wrong = (np.repeat([1.0, 0.0], counts) for counts in ((20, 380), (100, 300)))
    decays = decay(right, wrong, seed=0, resamples=200)
    for watched, said in ((still, "No column of 1 moved"), (thin, "not enough")):
        report = drift_report([watched], SETTINGS, reference="r", decay=decays)
        assert report.finding == "drift"
        assert said in report.summary
        assert "The champion's error went from 0.050 to 0.250" in report.summary
    same = decay(right, right, seed=0, resamples=200)
    assert drift_report([still], SETTINGS, reference="r", decay=same).finding == "stable"


def test_profiles_of_another_reference_are_refused():
    one_side, other = watch(table(x=normal(300)), table(x=normal(300))), watch(table(x=normal(400)), table(x=normal(9)))
    with pytest.raises(DataError, match="another reference"):
        detect([Watched(one_side.baseline, other.currents)], SETTINGS)
    with pytest.raises(DataError, match="no period"):
        detect([Watched(one_side.baseline, [])], SETTINGS)
