"""Is a network that learned from JFK and Newark worth having, where LaGuardia has 500 flights to learn from?

1. A network is pre-trained on the flights out of JFK and Newark, January to June.
2. From 500 of LaGuardia's flights, drawn anew for each sample, it is adapted in its last layers (``transfer``) or in
   every layer (``open``), and a network of the same shape learns from nothing (``nothing``).
3. All answer LaGuardia's held-out days, which no network has seen a flight of, at any airport: the split is by day.

The candidates stand in ``transfer.yaml``. What came out is printed, and stands as a table in
``work/transfer/transfer.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import make_data
import numpy as np
import numpy.typing as npt
import pandas as pd

from upkeep.api import load_spec
from upkeep.data.collect import collect
from upkeep.data.prepare import prepare
from upkeep.data.prepared import Prepared
from upkeep.evaluation.answers import Rows
from upkeep.evaluation.answers import collect as ask
from upkeep.evaluation.paired import paired
from upkeep.evaluation.resampling import widened_tail
from upkeep.evaluation.result import Interval
from upkeep.models.folder import load
from upkeep.models.keras_file import MODEL
from upkeep.spec.model import Candidate, ModelSpec
from upkeep.training.task import TrainingTask
from upkeep.training.train import train

HERE = Path(__file__).parent
WORK = HERE / "work" / "transfer"
MONTHS = tuple(f"2013-{month:02}" for month in range(1, 7))
METRIC = "roc_auc"
CONFIDENCE = 0.95
RESAMPLES = 1000
BASELINES = {"base": "the base as it came", "open": "every layer open", "nothing": "from nothing"}
"""What ``transfer`` is compared with."""


def say(text: str) -> None:
    print(f"\n── {text}", flush=True)


def prepared(name: str, table: pd.DataFrame, spec: ModelSpec) -> Prepared:
    """The rows, split as the spec says. One candidate alone needs no rows to be chosen by."""
    source, out = WORK / name, WORK / "prepared" / name
    make_data.write(source, table=table)
    data = replace(spec.data, source=str(source), slices=("day",))  # a slice column stays among the rows
    spec = replace(spec, data=data, candidates=spec.candidates[:1])
    prepare(spec, collect(spec), out)
    return Prepared(out)


def learn(candidate: Candidate, spec: ModelSpec, rows: Prepared, out: Path, seed: int) -> Path:
    """The model folder that comes of the candidate."""
    task = TrainingTask(candidate=candidate, spec=spec, prepared=rows, seed=seed)
    train(task, out, out.with_name(f"{out.name}-state"))
    return out


def spec_with_base(base: Path) -> ModelSpec:
    """``transfer.yaml`` beside the base, with its digest."""
    digest = hashlib.sha256(base.read_bytes()).hexdigest()
    path = WORK / "transfer.yaml"
    path.write_text(re.sub(r'(digest: ").*(")', rf"\g<1>{digest}\g<2>", (HERE / "transfer.yaml").read_text()))
    return load_spec(path)


def draw(table: pd.DataFrame, held_out: npt.NDArray[np.bool_], rows: int, seed: int) -> pd.DataFrame:
    """All held-out flights, and ``rows`` of the others."""
    others = table[~held_out].sample(rows, random_state=seed)
    return pd.concat([table[held_out], others]).sort_index()


def area(rows: Rows, model: str, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The model's ROC AUC for each line of ``weights``, shape (resamples, rows)."""
    scores = rows.answers[model].probabilities[:, rows.positive]
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])  # rows of one score count as a half
    late = (rows.truth == rows.positive)[order]
    ours = np.add.reduceat(weights[:, order] * late, starts, axis=1)
    others = np.add.reduceat(weights[:, order] * ~late, starts, axis=1)
    below = np.cumsum(others, axis=1) - others / 2
    return np.asarray((ours * below).sum(axis=1) / (ours.sum(axis=1) * others.sum(axis=1)))


def score(rows: Rows, model: str) -> float:
    """The model's ROC AUC."""
    return float(area(rows, model, np.ones((1, len(rows))))[0])


def gain(samples: Sequence[Rows], baseline: str, seed: int = 0) -> Interval:
    """How much more ROC AUC ``transfer`` has than the baseline, the mean over the samples, and what that mean may be:
    whole days are drawn with replacement, and samples as well."""
    days = np.unique(samples[0].groups, return_inverse=True)[1]
    count = days.max() + 1
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(np.float64)
    chosen = rng.multinomial(len(samples), np.full(len(samples), 1 / len(samples)), size=RESAMPLES)

    def difference(rows: Rows, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return area(rows, "transfer", weights) - area(rows, baseline, weights)

    estimate = np.mean([difference(rows, np.ones((1, len(rows))))[0] for rows in samples])
    by_sample = [
        np.concatenate([difference(rows, part[:, days]) for part in np.array_split(drawn, 20)]) for rows in samples
    ]
    values = (np.stack(by_sample, axis=1) * chosen).sum(axis=1) / len(samples)
    drawings = min(count, len(samples)) if len(samples) > 1 else count  # one sample cannot tell how samples differ
    tail = widened_tail(CONFIDENCE, drawings - 1)
    low, high = np.quantile(values, (tail, 1 - tail))
    return Interval(estimate=float(estimate), low=float(low), high=float(high))


def told(difference: Interval | None) -> str:
    if difference is None:
        return "not defined"
    return f"{difference.estimate:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"


def table_of(samples: Sequence[Rows], models: Sequence[str]) -> list[str]:
    """A Markdown table: a line a sample, its intervals by whole days; and one of all, by whole days and samples."""
    head = ["sample", *models, *(f"transfer - {name}" for name in BASELINES)]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for number, rows in enumerate(samples, start=1):
        differences = [
            paired(
                rows, "all", confidence=CONFIDENCE, resamples=RESAMPLES, seed=0,
                champion=baseline, candidate="transfer", metrics=(METRIC,),
            ).differences[0].difference
            for baseline in BASELINES
        ]  # fmt: skip
        cells = [str(number), *(f"{score(rows, name):.3f}" for name in models), *map(told, differences)]
        lines.append(f"| {' | '.join(cells)} |")
    means = [float(np.mean([score(rows, name) for rows in samples])) for name in models]
    cells = ["all", *(f"{mean:.3f}" for mean in means), *(told(gain(samples, name)) for name in BASELINES)]
    return [*lines, f"| {' | '.join(cells)} |"]


def verdict(samples: Sequence[Rows], baseline: str) -> str:
    found = gain(samples, baseline)
    what = f"than {BASELINES[baseline]}: {told(found)} ROC AUC"
    if found.low > 0:
        return f"Transfer is better {what}. The whole interval lies above zero."
    if found.high < 0:
        return f"Transfer is worse {what}. The whole interval lies below zero."
    return f"Transfer is not shown to be better {what}. The interval holds zero."


def main(*, rows: int, samples: int, share: float) -> None:
    started = time.monotonic()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    flights = make_data.flights()
    flights = flights[flights["month"].isin(MONTHS)].sample(frac=share, random_state=0).sort_index()
    here = flights["origin"] == "LGA"

    say(f"a network learns from {(~here).sum():,} flights out of JFK and Newark, January to June, held-out days apart")
    spec = load_spec(HERE / "transfer.yaml")
    nothing = next(one for one in spec.candidates if one.name == "nothing")
    long = replace(nothing, name="base", epochs=6, batch_rows=512)
    before = time.monotonic()
    base = learn(long, spec, prepared("elsewhere", flights[~here], spec), WORK / "models" / "base", seed=1)
    spec = spec_with_base(Path(shutil.copy(base / MODEL, WORK / "base.keras")))
    print(f"base.keras in {time.monotonic() - before:.0f} s; work/transfer/transfer.yaml names it by its digest")

    laguardia = flights[here]
    whole = prepared("laguardia", laguardia, spec)
    days = whole.table(parts=("held_out",), columns=["day"]).column("day").unique().to_pylist()
    held_out = laguardia["day"].isin(days).to_numpy()
    say(f"LaGuardia has {rows} flights to learn from; {held_out.sum():,} flights of {len(days)} held-out days judge")
    names = [one.name for one in spec.candidates]
    answers: list[Rows] = []
    for number in range(1, samples + 1):
        few = prepared(f"sample-{number}", draw(laguardia, held_out, rows, number), spec)
        models = {
            one.name: load(learn(one, spec, few, WORK / "models" / f"{one.name}-{number}", seed=number))
            for one in spec.candidates
        }
        found, broken = ask(few, {"base": load(base), **models}, classes=few.summary.classes)
        assert not broken, broken
        answers.append(found)
        scores = ", ".join(f"{name} {score(found, name):.3f}" for name in names)
        print(f"sample {number} of {samples}: ROC AUC {scores}", flush=True)

    say("what came out: ROC AUC, differences with 95 % intervals over whole days (and, of all, over samples)")
    lines = [*table_of(answers, ["base", *names]), "", *(verdict(answers, name) for name in BASELINES)]
    print("\n".join(lines))
    page = WORK / "transfer.md"
    page.write_text("\n".join(["# Transfer to LaGuardia", "", *lines, ""]))
    print(f"\ndone in {time.monotonic() - started:.0f} s\nthe table: {page}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Transfer a network to an airport with few flights to learn from.")
    parser.add_argument("--rows", type=int, default=500, help="flights that teach")
    parser.add_argument("--samples", type=int, default=5, help="how often they are drawn")
    parser.add_argument("--share", type=float, default=1.0, help="of all flights, to look quickly")
    words = parser.parse_args()
    main(rows=words.rows, samples=words.samples, share=words.share)
