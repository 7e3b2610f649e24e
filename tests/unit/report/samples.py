"""Realistic updates to show: first champion, fail, pass, insufficient, many classes, and names that mean harm."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace
from math import sqrt

from upkeep.data.dataset import DataFile, Dataset
from upkeep.data.kinds import Column
from upkeep.data.prepared import PeriodCounts, Summary
from upkeep.drift.result import ColumnDrift, Decay, DriftReport, Histogram, TwoSample
from upkeep.evaluation.result import (
    Attributions,
    CandidateResult,
    ColumnAttribution,
    Cost,
    CurvePoint,
    Curves,
    Difference,
    Evaluation,
    FairnessResult,
    Forgetting,
    Importance,
    Interval,
    Paired,
    PeriodChange,
    Reason,
    Round,
    Rounds,
    Scores,
    SliceResult,
    TextAttribution,
    TokenAttribution,
    Verdict,
)
from upkeep.report.view import Lineage, Release, UpdateView
from upkeep.spec.model import Better, Budgets, Fairness, ForgettingRule, Gate
from upkeep.training.task import Epoch, TrainingResult

CARRIERS = ("UA", "B6", "EV", "DL", "AA", "MQ", "US", "9E", "WN", "VX", "FL", "AS", "F9", "YV", "HA", "OO")
HOSTILE = '<script>alert("x")</script>'


def name(text: str) -> str:
    """A digest that looks like one."""
    return hashlib.sha256(repr(text).encode()).hexdigest()


def around(estimate: float, half: float) -> Interval:
    return Interval(estimate=estimate, low=estimate - half, high=estimate + half)


def scores(seed: int, rows: int, skill: float, positives: float = 0.24) -> Scores:
    chance = random.Random(seed)
    positive = int(rows * positives)
    found = int(positive * (0.35 + skill))
    alarms = int((rows - positive) * (0.16 - skill / 4))
    precision, recall = found / (found + alarms), found / positive
    auc = 0.62 + skill / 2
    roc = tuple((x / 60, min(1.0, (x / 60) ** ((1 - auc) / auc)), 1 - x / 60) for x in range(61))
    metrics: dict[str, float | None] = {
        "accuracy": (found + rows - positive - alarms) / rows,
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall),
        "roc_auc": auc,
        "log_loss": 0.52 - skill / 5,
        "brier": 0.17 - skill / 10,
        "expected_calibration_error": 0.05 - skill / 10,
    }
    half = 1.2 / sqrt(rows)
    return Scores(
        rows=rows,
        positives=positive,
        metrics=metrics,
        intervals={
            key: around(value, half)
            for key, value in metrics.items()
            if value is not None and key not in {"brier", "expected_calibration_error"}
        },
        confusion=((rows - positive - alarms, alarms), (positive - found, found)),
        calibration=tuple(
            (
                (b + 0.5) / 10,
                min(1.0, max(0.0, (b + 0.5) / 10 + chance.uniform(-0.07, 0.07) - 0.04 + skill / 8)),
                int(rows * 0.3 * 0.7**b) + 5,
            )
            for b in range(10)
        ),
        roc=roc,
    )


def paired(row_set: str, periods: Sequence[str], champion: Scores, candidate: Scores, half: float) -> Paired:
    differences = []
    for metric in ("accuracy", "precision", "recall", "f1", "roc_auc", "log_loss"):
        was, now = champion.metrics[metric], candidate.metrics[metric]
        assert was is not None and now is not None
        better = was - now if metric == "log_loss" else now - was
        differences.append(
            Difference(metric=metric, champion=was, candidate=now, difference=around(better, half), confidence=0.95)
        )
    rows = champion.rows
    return Paired(
        row_set=row_set,  # type: ignore[arg-type]
        periods=tuple(periods),
        rows=rows,
        groups=len(periods) * 9,
        differences=tuple(differences),
        both_right=int(rows * 0.7),
        only_champion_right=int(rows * 0.06),
        only_candidate_right=int(rows * 0.09),
        both_wrong=rows - int(rows * 0.7) - int(rows * 0.06) - int(rows * 0.09),
        mcnemar_p=0.00002,
    )


def summary(periods: Sequence[str], *, bad: int = 12) -> Summary:
    chance = random.Random(len(periods))
    counts = []
    for period in periods:
        read = chance.randint(24_000, 29_500)
        quarantined, duplicates = bad + chance.randint(0, 5), chance.randint(0, 30)
        kept_out = chance.randint(0, 9)
        held_out = int(read * 0.3)
        validation = int(read * 0.14)
        train = read - quarantined - duplicates - kept_out - held_out - validation
        late = int((read - quarantined - duplicates - kept_out) * chance.uniform(0.13, 0.33))
        counts.append(
            PeriodCounts(
                period=period,
                read=read,
                quarantined=quarantined,
                duplicates=duplicates,
                train=train,
                validation=validation,
                held_out=held_out,
                kept_out=kept_out,
                reasons={"delayed: missing label": quarantined - 2, "humid: above 100": 2},
                by_class={"true": late, "false": train + validation + held_out - late},
            )
        )
    columns = tuple(
        Column(name=column, kind="numeric") for column in ("distance", "departure_minute", "temp", "precip", "visib")
    ) + tuple(Column(name=column, kind="categorical") for column in ("carrier", "origin", "dest"))
    return Summary(
        dataset=name("dataset"),
        periods=tuple(counts),
        classes=(False, True),
        columns=columns,
        target="delayed",
        positive=True,
        group="day",
    )


def dataset(periods: Sequence[str]) -> Dataset:
    return Dataset(
        files=tuple(
            DataFile(
                uri=f"work/data/period={period}/flights.parquet",
                name=f"period={period}/flights.parquet",
                format="parquet",
                period=period,
                digest=name(period),
                size=812_345,
                rows=27_004,
            )
            for period in periods
        )
    )


def numeric_drift(column: str, *, effect: float, finding: str = "drift", bins: int = 24) -> ColumnDrift:
    chance = random.Random(repr(column))
    reference = [chance.uniform(0.7, 1.3) for _ in range(bins)]
    current = [value * (0.4 + 1.2 * index / bins * (1 + effect)) for index, value in enumerate(reference)]
    return ColumnDrift(
        column=column,
        role="feature",
        kind="numeric",
        finding=finding,  # type: ignore[arg-type]
        reason=f"KS {effect:.3f} {'reaches' if effect >= 0.1 else 'stays below'} the limit 0.1; adjusted p < 0.001.",
        reference_rows=56_101,
        current_rows=19_800,
        statistics={"ks": effect, "psi": effect * 2, "jensen_shannon": effect * 1.1, "wasserstein": effect * 3},
        p_value=1e-9,
        adjusted_p_value=3e-9,
        effect=effect,
        threshold=0.1,
        reference_nulls=0.002,
        current_nulls=0.011,
        new_categories=(),
        vanished_categories=(),
        periods_in_a_row=2 if finding == "drift" else 0,
        histogram=Histogram(
            labels=tuple(f"bin {index}" for index in range(bins)),
            edges=tuple(20.0 + 3.5 * index for index in range(bins - 1)),
            reference=tuple(value / sum(reference) for value in reference),
            current=tuple(value / sum(current) for value in current),
        ),
    )


def category_drift(
    column: str, categories: Sequence[str], *, effect: float, finding: str = "drift", role: str = "feature"
) -> ColumnDrift:
    chance = random.Random(repr(column))
    reference = [chance.uniform(0.1, 1) / (index + 1) for index in range(len(categories))]
    current = [value * chance.uniform(0.5, 1.6) for value in reference]
    reference[-1] = 0.0
    return ColumnDrift(
        column=column,
        role=role,  # type: ignore[arg-type]
        kind="categorical",
        finding=finding,  # type: ignore[arg-type]
        reason=f"Jensen–Shannon distance {effect:.3f} against the limit 0.1.",
        reference_rows=56_101,
        current_rows=19_800,
        statistics={"chi2": 412.7, "psi": effect * 2, "jensen_shannon": effect},
        p_value=1e-4,
        adjusted_p_value=2e-4,
        effect=effect,
        threshold=0.1,
        reference_nulls=0.0,
        current_nulls=0.0,
        new_categories=(categories[-1],),
        vanished_categories=(),
        periods_in_a_row=1 if finding == "drift" else 0,
        histogram=Histogram(
            labels=tuple(categories),
            edges=None,
            reference=tuple(value / sum(reference) for value in reference),
            current=tuple(value / sum(current) for value in current),
        ),
    )


def drift_report(*, drifted: bool = True, periods: Sequence[str] = ("2013-04",)) -> DriftReport:
    columns = [
        numeric_drift("temp", effect=0.412),
        numeric_drift("dewp", effect=0.322),
        category_drift("dest", [f"D{index:02}" for index in range(30)], effect=0.131),
        numeric_drift("visib", effect=0.081, finding="stable"),
        numeric_drift("distance", effect=0.012, finding="stable"),
        category_drift("carrier", CARRIERS, effect=0.024, finding="stable"),
        category_drift("origin", ("EWR", "JFK", "LGA"), effect=0.011, finding="stable"),
    ]
    if not drifted:
        columns = [column for column in columns if column.finding == "stable"]
    columns.append(category_drift("delayed", ("false", "true"), effect=0.048, finding="stable", role="target"))
    columns.append(category_drift("prediction", ("false", "true"), effect=0.104, role="prediction"))
    return DriftReport(
        finding="drift" if drifted else "stable",
        summary="3 of 7 features drifted: temp, dewp and dest."
        if drifted
        else "No feature drifted, and a classifier cannot tell the samples apart.",
        reference="champion v1's training rows",
        reference_digest=name("profile"),
        periods=tuple(periods),
        reference_rows=56_101,
        current_rows=19_800,
        columns=tuple(columns),
        two_sample=TwoSample(
            finding="drift" if drifted else "stable",
            reason="The samples are easily told apart." if drifted else "The samples cannot be told apart.",
            auc=0.913 if drifted else 0.512,
            low=0.905 if drifted else 0.498,
            high=0.921 if drifted else 0.526,
            rows=20_000,
            top_columns=(("temp", 0.213), ("dewp", 0.061), ("dest", 0.004)),
        ),
        decay=Decay(
            finding="decay",
            concept_drift="yes",
            reason="The champion's error rose by 0.041 (95 % interval 0.018 to 0.064).",
            reference_error=0.2134,
            current_error=0.2544,
            rise=0.041,
            low=0.018,
            high=0.064,
            explained_error=0.2241,
            unexplained_rise=0.0303,
            unexplained_low=0.0051,
            unexplained_high=0.0555,
            effective_rows=2_314.7,
            reference_rows=24_010,
            current_rows=8_472,
        ),
    )


def slices(*, metric: str = "f1") -> tuple[SliceResult, ...]:
    chance = random.Random(16)
    found = []
    for index, carrier in enumerate(CARRIERS):
        rows = 29 if carrier == "OO" else 5_200 - 310 * index
        was = 0.28 + chance.uniform(-0.06, 0.06)
        change = chance.uniform(-0.03, 0.12)
        half = 2.2 / sqrt(rows)
        finding = "better" if change > half else "worse" if change < -half else "same"
        if rows < 100:
            finding = "insufficient"
        found.append(
            SliceResult(
                column="carrier",
                value=carrier,
                rows=rows,
                positives=rows // 4,
                finding=finding,  # type: ignore[arg-type]
                reason="29 rows, where the gate wants 100: too few to judge."
                if finding == "insufficient"
                else f"{metric} changes by {change:+.3f}.",
                champion={metric: was},
                candidate={metric: was + change},
                difference=None if finding == "insufficient" else around(change, half),
            )
        )
    for origin, change in (("EWR", 0.061), ("JFK", 0.034), ("LGA", -0.031)):
        found.append(
            SliceResult(
                column="origin",
                value=origin,
                rows=2_800,
                positives=640,
                finding="better" if change > 0.03 else "worse",
                reason=f"{metric} changes by {change:+.3f}.",
                champion={metric: 0.291},
                candidate={metric: 0.291 + change},
                difference=around(change, 0.024),
            )
        )
    return tuple(found)


def fairness(limit: float | None = 0.25) -> tuple[FairnessResult, ...]:
    return (
        FairnessResult(
            column="origin",
            measure="equal_opportunity_difference",
            finding="pass",
            reason="The difference of 0.071 (at most 0.112) keeps to the limit 0.25.",
            candidate=around(0.071, 0.041),
            champion=around(0.094, 0.039),
            limit=limit,
            judged=("EWR", "JFK", "LGA"),
            too_small=(),
            by_group={
                origin: {
                    "rows": 2_800.0,
                    "positives": 640.0,
                    "selection_rate": 0.21 + shift,
                    "true_positive_rate": 0.41 + shift,
                    "false_positive_rate": 0.14 + shift,
                }
                for origin, shift in (("EWR", 0.03), ("JFK", 0.0), ("LGA", -0.04))
            },
        ),
        FairnessResult(
            column="carrier",
            measure="demographic_parity_difference",
            finding="insufficient",
            reason="Carrier OO has 29 rows: too few to judge.",
            candidate=None,
            champion=None,
            limit=None,
            judged=CARRIERS[:-1],
            too_small=("OO",),
            by_group={"OO": {"rows": 29.0, "positives": None, "selection_rate": None}},
        ),
    )


def curves() -> Curves:
    return Curves(
        by_rows=tuple(
            CurvePoint(x=rows, label=f"{rows:,} rows", score=around(0.22 + 0.03 * index, 0.03), rows=8_472)
            for index, rows in enumerate((5_000, 10_000, 20_000, 40_000, 56_101))
        ),
        by_periods=tuple(
            CurvePoint(x=n, label=f"newest {n}", score=around(0.27 + 0.02 * n, 0.028), rows=8_472) for n in (1, 2, 3, 4)
        ),
        by_age=tuple(
            CurvePoint(x=n, label=f"age {n}", score=around(0.31 - 0.035 * n, 0.03), rows=8_000) for n in (1, 2, 3)
        ),
        more_data="Doubling the rows from 20,000 to 40,000 raised F1 by 0.030 (−0.004 to +0.064): "
        "more data still helps.",
        more_often="The champion loses 0.035 F1 with each month of age (0.012 to 0.058): update every month.",
    )


REASONS = (
    Reason(
        rule="gate.min_rows", finding="pass", text="8,472 held-out rows are newer than the champion; 200 are asked."
    ),
    Reason(
        rule="gate.better",
        finding="pass",
        text="F1 is better by 0.058 on the new rows (95 % interval +0.034 to +0.082); 0.005 is asked.",
    ),
    Reason(
        rule="gate.old",
        finding="pass",
        text="On old rows F1 is not worse by more than 0.03: +0.011 (−0.002 to +0.024).",
    ),
    Reason(rule="gate.at_least[roc_auc]", finding="pass", text="ROC AUC 0.712 reaches 0.6."),
    Reason(rule="gate.slices[carrier=OO]", finding="note", text="Carrier OO has 29 rows: too few to judge."),
    Reason(
        rule="gate.fairness[origin]",
        finding="pass",
        text="Equal opportunity by origin differs by 0.071; 0.25 is allowed.",
    ),
)


def attributions(method: str = "shap", text: str = "") -> Attributions:
    """Parts of the columns of :func:`passing`; with ``text``, of its words too: one for, one against."""
    sizes = (("carrier", 0.21), ("precip", 0.18), ("departure_minute", 0.17), ("dest", 0.05), ("temp", 0.04))
    tokens = tuple(
        TokenAttribution(text=word, value=(0.12, -0.07, 0.0, 0.004)[place % 4], joined=place == 3)
        for place, word in enumerate(text.split())
    )
    shown = TextAttribution(
        column="remark", label=True, explained=True, probability=0.71, baseline=0.4, tokens=tokens, cut=3, others=0.08
    )
    return Attributions(
        method=method,
        explains="the margin of “true”",
        rows=200,
        columns=tuple(ColumnAttribution(column=name, size=size, mean=size / 4) for name, size in sizes),
        gap=0.00002,
        left_out=("seats",),
        texts=(shown,) if text else (),
    )


def forgetting(candidate: str, row_set: str, learned: Sequence[str], new: Sequence[str]) -> Forgetting:
    """The candidate lost a little on every old period, more the older it is, and gained on the new ones."""
    changes = [(period, True, -0.012 * (len(learned) - place)) for place, period in enumerate(learned)]
    changes += [(period, False, 0.09) for period in new]
    periods = tuple(
        PeriodChange(
            period=period,
            known_before=known,
            rows=7_000 + 311 * place,
            groups=6,
            before=0.31 - 0.02 * place,
            after=0.31 - 0.02 * place + gap,
            change=around(gap, 0.018),
        )
        for place, (period, known, gap) in enumerate(changes)
    )
    names = [*learned, *new]
    rounds = tuple(
        Round(
            model=name(f"{candidate} {number}"),
            state=name(f"state {number}"),
            periods=tuple(names[: number + 1]),
            scores={period: 0.33 - 0.012 * abs(place - number) for place, period in enumerate(names[: number + 2])},
            rows=dict.fromkeys(names[: number + 2], 7_000),
        )
        for number in range(len(names))
    )
    return Forgetting(
        candidate=candidate,
        row_set="held_out" if row_set == "held_out" else "validation",
        went_on_from="where it last stood",
        from_base=False,
        failed="",
        confidence=1 - 0.05 / len(learned),
        together=0.95,
        periods=periods,
        missing=(),
        matrix=Rounds(metric="f1", rounds=rounds, chance=dict.fromkeys(names, 0.0)),
        backward=-0.024,
        backward_over=len(learned),
        forward=0.318,
        forward_over=len(names) - 1,
    )


def going_on() -> UpdateView:
    """A network that went on from where it stood, forgot too much, and is held back for it."""
    view = passing()
    assert view.evaluation is not None and view.gate is not None
    learned, new = ("2013-01", "2013-02", "2013-03"), ("2013-04",)
    forgot = "2013-01: F1 0.310 → 0.274 on 7,000 held-out rows, −0.036 (98.33 % interval −0.054 to −0.018)"
    reason = Reason(
        rule="gate.forgetting[2013-01]",
        finding="fail",
        text=f"{forgot}: more was forgotten than the 0.01 allowed, beyond doubt.",
    )
    chosen = replace(view.evaluation.candidates[0], name="network", strategy="fine_tune")
    evaluation = replace(
        view.evaluation,
        candidates=(chosen, view.evaluation.candidates[1]),
        chosen="network",
        forgetting=(
            forgetting("network", "held_out", learned, new),
            forgetting("linear", "validation", learned, new),
        ),
        attributions=(
            attributions("integrated_gradients", "held for weather at the gate , crew un avail able again " * 3),
            Attributions(
                method="shap",
                explains="",
                rows=0,
                columns=(),
                gap=None,
                missing="SHAP values are of trees and linear models; this is a network",
            ),
        ),
        verdict=replace(
            view.evaluation.verdict,
            verdict="fail",
            summary=f"network is rejected against v1. {reason.text}",
            reasons=(reason, *REASONS),
        ),
    )
    network = replace(
        view.training[0],
        candidate="network",
        strategy="fine_tune",
        params={"epochs": 8},
        warm_started=True,
        curve=tuple(
            Epoch(
                number=number,
                loss=0.55 + 0.5 / number,
                watched=0.62 + 0.3 / number + 0.012 * number,
                steps=150 * number,
                accuracy=0.79 - 0.2 / number - 0.002 * number,
            )
            for number in range(1, 9)
        ),
    )
    return replace(
        view,
        gate=replace(view.gate, forgetting=ForgettingRule(worse_by_at_most=0.01)),
        training=(network, view.training[1]),
        evaluation=evaluation,
        release=Release(outcome="Nothing was registered; v1 goes on serving."),
    )


def passing() -> UpdateView:
    """An update of the flights that the gate passes: 16 carriers, one of them too small to judge."""
    learned, new = ("2013-01", "2013-02", "2013-03"), ("2013-04",)
    periods = (*learned, *new)
    champion = {"new": scores(1, 8_472, 0.0), "old": scores(2, 24_010, 0.05), "all": scores(3, 32_482, 0.04)}
    candidate = {"new": scores(4, 8_472, 0.14), "old": scores(5, 24_010, 0.07), "all": scores(6, 32_482, 0.1)}
    by_period = {
        "champion": {p: scores(10 + i, 8_000, (0.06, 0.05, 0.05, 0.0)[i]) for i, p in enumerate(periods)},
        "candidate": {p: scores(20 + i, 8_000, (0.06, 0.08, 0.06, 0.14)[i]) for i, p in enumerate(periods)},
    }
    evaluation = Evaluation(
        metric="f1",
        classes=(False, True),
        positive=True,
        champion="v1",
        champion_model=name("champion"),
        candidates=(
            CandidateResult(
                name="boosting",
                strategy="retrain",
                model=name("boosting"),
                validation=scores(30, 15_211, 0.12),
                chosen=True,
                note="the best F1 on validation rows",
            ),
            CandidateResult(
                name="linear",
                strategy="incremental",
                model=name("linear"),
                validation=scores(31, 15_211, 0.03),
                chosen=False,
                note="F1 is 0.09 lower",
            ),
        ),
        chosen="boosting",
        chosen_model=name("boosting"),
        scores={"champion": champion, "candidate": candidate},
        by_period=by_period,
        paired=(
            paired("new", new, champion["new"], candidate["new"], 0.024),
            paired("old", learned, champion["old"], candidate["old"], 0.013),
            paired("all", periods, champion["all"], candidate["all"], 0.011),
        ),
        slices=slices(),
        fairness=fairness(),
        importance=(
            *(
                Importance(column=column, champion=(value * 0.8, 0.006), candidate=(value, 0.005))
                for column, value in (
                    ("precip", 0.082),
                    ("departure_minute", 0.064),
                    ("carrier", 0.031),
                    ("dest", 0.022),
                    ("temp", 0.018),
                    ("visib", 0.009),
                    ("origin", 0.004),
                    ("distance", -0.001),
                )
            ),
            Importance(column="seats", champion=None, candidate=(0.002, 0.001)),
        ),
        cost={
            "champion": Cost(latency_ms_p50=3.11, latency_ms_p95=4.72, rows_per_second=182_340.0, size_bytes=402_118),
            "candidate": Cost(latency_ms_p50=3.24, latency_ms_p95=4.91, rows_per_second=176_210.0, size_bytes=411_902),
        },
        curves=curves(),
        forgetting=(forgetting("linear", "validation", learned, new),),
        attributions=(attributions(text="late again"),),
        verdict=Verdict(
            verdict="pass",
            summary="boosting is better than v1 by 0.058 F1 on 8,472 new held-out rows, and not worse on the old ones.",
            case="champion",
            reasons=REASONS,
        ),
    )
    return UpdateView(
        model="flight-delays",
        description="Will a flight out of New York arrive more than 15 minutes late?",
        owner="operations research",
        update="20130501t040000-4f1c",
        started="2013-05-01T04:00:00+00:00",
        finished="2013-05-01T04:01:17+00:00",
        notes=("The weather is what was observed, not what was forecast: live figures will be lower.",),
        split_note="Whole days are held out together, since flights of one day share their weather: by-row figures "
        "would flatter.",
        gate=Gate(
            better=Better(metric="f1", by=0.005),
            at_least={"roc_auc": 0.6},
            fairness=(Fairness(column="origin", equal_opportunity_difference=0.25),),
            budgets=Budgets(latency_ms=20.0),
        ),
        dataset=dataset(periods),
        data=summary(periods),
        drift=drift_report(),
        training=(
            TrainingResult(
                candidate="boosting",
                strategy="retrain",
                params={"learning_rate": 0.1, "max_iter": 100},
                seed=0,
                rows=60_213,
                periods=periods,
                seconds=4.2,
                trials=(),
                warm_started=False,
            ),
            TrainingResult(
                candidate="linear",
                strategy="incremental",
                params={"alpha": 0.0001, "loss": "log_loss"},
                seed=0,
                rows=18_114,
                periods=periods,
                seconds=1.7,
                trials=(),
                warm_started=True,
                curve=(Epoch(number=1, loss=0.61, watched=0.6, steps=70, accuracy=0.71),),
            ),
        ),
        evaluation=evaluation,
        release=Release(
            outcome="v2 is registered and proposed at 0 % of the traffic; the rollout shifts traffic to it in steps.",
            version="v2",
            commit=name("commit")[:40],
            repository="work/store/deploy.git",
        ),
        lineage=Lineage(
            spec=name("spec"),
            dataset=name("dataset"),
            champion="v1",
            champion_model=name("champion"),
            parents=(name("champion"),),
            code={"upkeep": "0.1.0", "lock": name("lock")},
        ),
        links={"Update page": "work/store/flight-delays/updates/20130501t040000-4f1c/page.html"},
    )


def failing() -> UpdateView:
    """A bad month: the gate says no, with its reasons."""
    view = passing()
    assert view.evaluation is not None
    worse = view.evaluation.scores["champion"]
    better = view.evaluation.scores["candidate"]
    evaluation = replace(
        view.evaluation,
        scores={"champion": better, "candidate": worse},
        paired=(paired("new", ("2013-04",), better["new"], worse["new"], 0.024),),
        verdict=Verdict(
            verdict="fail",
            summary="boosting is worse than v1 by 0.058 F1 on 8,472 new held-out rows.",
            case="champion",
            reasons=(
                REASONS[0],
                Reason(rule="gate.better", finding="fail", text="F1 is worse by 0.058 (−0.082 to −0.034)."),
                Reason(rule="gate.slices[origin=LGA]", finding="fail", text="Origin LGA is worse by 0.091."),
                Reason(rule="gate.fairness[carrier]", finding="insufficient", text="Carrier OO has 29 rows."),
            ),
        ),
    )
    return replace(
        view,
        evaluation=evaluation,
        drift=drift_report(drifted=False),
        release=Release(outcome="Nothing was registered; v1 goes on serving."),
    )


def first() -> UpdateView:
    """The first champion: nothing to compare with."""
    view = passing()
    assert view.evaluation is not None
    evaluation = replace(
        view.evaluation,
        champion=None,
        champion_model=None,
        candidates=(replace(view.evaluation.candidates[0], validation=None, note="the only candidate"),),
        scores={"candidate": {"all": view.evaluation.scores["candidate"]["all"]}},
        by_period={"candidate": view.evaluation.by_period["candidate"]},
        paired=(),
        slices=tuple(
            replace(
                one, champion={}, difference=None, finding="insufficient" if one.finding == "insufficient" else "alone"
            )
            for one in slices()
        ),
        fairness=(replace(fairness()[0], champion=None),),
        importance=tuple(replace(found, champion=None) for found in view.evaluation.importance),
        cost={"candidate": view.evaluation.cost["candidate"]},
        curves=None,
        forgetting=(),
        verdict=Verdict(
            verdict="pass",
            summary="boosting becomes the first version: ROC AUC 0.670 reaches the 0.6 asked.",
            case="first",
            reasons=(REASONS[3],),
        ),
    )
    return replace(
        view,
        evaluation=evaluation,
        drift=None,
        release=Release(outcome="v1 is registered and proposed at 100 %.", version="v1", commit=name("c1")[:40]),
        lineage=Lineage(spec=name("spec"), dataset=name("dataset"), code={"upkeep": "0.1.0"}),
    )


def insufficient() -> UpdateView:
    """Too few new rows; half of the records are missing."""
    view = failing()
    assert view.evaluation is not None and view.drift is not None
    few = replace(scores(7, 60, 0.1), roc=(), calibration=())
    evaluation = replace(
        view.evaluation,
        scores={"champion": {"new": few}, "candidate": {"new": few}},
        by_period={},
        paired=(
            replace(
                paired("new", ("2013-04",), few, few, 0.2),
                groups=None,
                mcnemar_p=None,
                differences=(
                    Difference(metric="f1", champion=None, candidate=None, difference=None, confidence=0.9),
                    Difference(
                        metric="accuracy", champion=0.71, candidate=0.73, difference=around(0.02, 0.2), confidence=0.9
                    ),
                ),
            ),
        ),
        slices=tuple(found for found in view.evaluation.slices if found.finding == "insufficient"),
        fairness=(),
        importance=(),
        cost={},
        curves=None,
        verdict=Verdict(
            verdict="insufficient",
            summary="60 held-out rows are newer than the champion; 200 are asked.",
            case="champion",
            reasons=(Reason(rule="gate.min_rows", finding="insufficient", text="60 new held-out rows, 200 asked."),),
        ),
    )
    drift = replace(
        view.drift,
        finding="insufficient",
        summary="Too few current rows.",
        columns=tuple(
            replace(
                column,
                finding="insufficient",
                effect=None,
                p_value=None,
                adjusted_p_value=None,
                histogram=None,
                statistics=dict.fromkeys(column.statistics),
            )
            for column in view.drift.columns
        ),
        two_sample=replace(view.drift.two_sample, finding="insufficient", auc=None, low=None, high=None)
        if view.drift.two_sample
        else None,
        decay=Decay(
            finding="insufficient",
            concept_drift="insufficient",
            reason="Too few labelled rows.",
            reference_error=None,
            current_error=None,
            rise=None,
            low=None,
            high=None,
            explained_error=None,
            unexplained_rise=None,
            unexplained_low=None,
            unexplained_high=None,
            effective_rows=None,
            reference_rows=0,
            current_rows=60,
        ),
    )
    return replace(view, evaluation=evaluation, drift=drift, training=(), dataset=None, started=None)


def empty() -> UpdateView:
    """An update that did not get far: nothing but its name is known."""
    return UpdateView(model="flight-delays", update="20130501t040000-4f1c")


def broken_off() -> UpdateView:
    """An update that ended with an error after its data was prepared."""
    return replace(
        passing(), evaluation=None, training=(), release=None, failed="work/data: No space left on device. Free some."
    )


def multiclass(classes: int = 5) -> UpdateView:
    """More than two classes: no positive class, no ROC, macro averages."""
    view = passing()
    assert view.evaluation is not None and view.data is not None
    chance = random.Random(classes)
    names = tuple(("setosa", "versicolor", "virginica", "sibirica", "pumila")[:classes])
    names += tuple(f"class {index}" for index in range(len(names), classes))

    def many(base: Scores) -> Scores:
        confusion = tuple(
            tuple(chance.randint(700, 900) if true == answer else chance.randint(0, 120) for answer in range(classes))
            for true in range(classes)
        )
        return replace(base, positives=None, roc=(), confusion=confusion)

    evaluation = replace(
        view.evaluation,
        classes=names,
        positive=None,
        scores={
            who: {row_set: many(found) for row_set, found in sets.items()}
            for who, sets in view.evaluation.scores.items()
        },
    )
    data = replace(
        view.data,
        classes=names,
        positive=None,
        periods=tuple(
            replace(period, by_class={label: chance.randint(2_000, 5_000) for label in names})
            for period in view.data.periods
        ),
    )
    return replace(view, evaluation=evaluation, data=data)


def hostile(text: str = HOSTILE) -> UpdateView:
    """The same text in every place that a file, a spec or a user can fill."""
    view = passing()
    assert view.evaluation is not None and view.drift is not None and view.data is not None
    evaluation = view.evaluation
    bad_column = category_drift(text, (text, "b", text + "2"), effect=0.5)
    return replace(
        view,
        model=text,
        description=text,
        owner=text,
        update=text,
        notes=(text,),
        split_note=text,
        data=replace(
            view.data,
            target=text,
            group=text,
            warnings=(text,),
            classes=(text, "b", text + "2"),
            positive=None,
            periods=tuple(
                replace(period, period=text + period.period, reasons={text: 3}, by_class={text: 5, "b": 5})
                for period in view.data.periods
            ),
        ),
        dataset=replace(dataset(("2013-04",)), files=(replace(dataset((text,)).files[0], period=text),)),
        drift=replace(
            view.drift,
            summary=text,
            reference=text,
            periods=(text,),
            columns=(replace(bad_column, reason=text), replace(numeric_drift("temp", effect=0.3), column=text + "n")),
        ),
        evaluation=replace(
            evaluation,
            classes=(text, "b"),
            positive=text,
            candidates=tuple(
                replace(found, name=text, note=text, failed=text, strategy=text) for found in evaluation.candidates
            ),
            chosen=text,
            by_period={"candidate": {text: scores(1, 100, 0.1)}},
            slices=tuple(replace(found, column=text, value=text, reason=text) for found in evaluation.slices),
            fairness=tuple(
                replace(
                    found, column=text, reason=text, judged=(text,), too_small=(text,), by_group={text: {"rows": 1.0}}
                )
                for found in evaluation.fairness
            ),
            importance=(Importance(column=text, champion=None, candidate=(0.1, 0.01)),),
            verdict=Verdict(
                verdict="fail",
                summary=text,
                case="champion",
                reasons=(Reason(rule=text, finding="fail", text=text),),
            ),
        ),
        release=Release(outcome=text, version=text, commit=text, repository=text),
        lineage=Lineage(champion=text, parents=(text,), code={text: text}),
        links={text: "javascript:alert(1)", "page": 'https://example.org/"onclick="alert(1)'},
    )


def huge() -> UpdateView:
    """Names no page was made for, and thirty drifted columns."""
    text = "a_column_name_that_somebody_generated_from_a_nested_json_path_" * 3
    view = hostile(text)
    assert view.drift is not None
    columns = tuple(
        numeric_drift(f"{text}{index}", effect=0.2 + index / 100)
        if index % 2
        else category_drift(f"{text}{index}", [f"{text}{n}" for n in range(40)], effect=0.2 + index / 100)
        for index in range(30)
    )
    return replace(view, drift=replace(view.drift, columns=columns))


ALL = {
    "first": first,
    "passing": passing,
    "going_on": going_on,
    "failing": failing,
    "insufficient": insufficient,
    "empty": empty,
    "broken_off": broken_off,
    "multiclass": multiclass,
    "many_classes": lambda: multiclass(20),
    "hostile": hostile,
    "huge": huge,
}
