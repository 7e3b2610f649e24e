"""What learning a new month gains, held out by row and by day: the same flights, the same learner, two splits.

    python tests/benchmarks/bench_split.py [--salts 10]

The champion learned from January to March, the challenger also from April; both answer April's held-out flights. A
salt decides which rows (or which days) are held out, so every salt is another draw of the same experiment. All of May,
which neither learned from, is the yardstick: that is how production will judge.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import f1_score, roc_auc_score
from threadpoolctl import threadpool_limits

from upkeep.data.split import hash_values, seed
from upkeep.spec.load import load

EXAMPLE = Path(__file__).parents[2] / "examples" / "flights"
MAX = 2.0**64


def flights() -> Any:
    """All flights of the example that arrived, with a column ``month``."""
    spec = importlib.util.spec_from_file_location("make_data", EXAMPLE / "make_data.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    table = made.flights()
    return table[table["month"] <= "2013-05"].reset_index(drop=True)


def held_out(keys: Any, salt: str, share: float) -> Any:
    """Whether each row is held out: by a hash of its key, as an update does it."""
    hashes = hash_values(pa.array(keys, pa.string()), seed("split", salt))
    return hashes / MAX < share


class Measured:
    """F1 and ROC AUC of two models on the same rows, a pair a salt."""

    def __init__(self) -> None:
        self.pairs: dict[str, list[tuple[float, float]]] = {"F1": [], "ROC AUC": []}

    def add(self, truth: Any, champion: Any, challenger: Any) -> None:
        said = (champion, challenger)
        self.pairs["F1"].append(tuple(f1_score(truth, chance >= 0.5) for chance in said))
        self.pairs["ROC AUC"].append(tuple(roc_auc_score(truth, chance) for chance in said))

    def row(self, what: str, metric: str) -> str:
        def spread(values: list[float], sign: str = "") -> str:
            return f"{statistics.median(values):{sign}.2f} ({min(values):{sign}.2f} to {max(values):{sign}.2f})"

        old, new = ([pair[side] for pair in self.pairs[metric]] for side in (0, 1))
        gains = [b - a for a, b in zip(old, new, strict=True)]
        return f"| {what} | {metric} | {spread(old)} | {spread(new)} | {spread(gains, '+')} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="What learning April gains, held out by row and by day.")
    parser.add_argument("--salts", type=int, default=10)
    salts = parser.parse_args().salts
    model_spec = load(EXAMPLE / "upkeep.yaml")
    columns = model_spec.data.features
    share = model_spec.data.split.held_out
    table = flights()
    inputs = table[[*columns.numeric, *columns.categorical]].copy()
    for name in columns.categorical:
        inputs[name] = inputs[name].astype("category").cat.codes
    categories = [name in columns.categorical for name in inputs.columns]
    values, late = inputs.to_numpy(np.float64), table["delayed"].to_numpy()
    month = table["month"].to_numpy()
    first, april, may = month <= "2013-03", month == "2013-04", month == "2013-05"

    def learn(rows: Any) -> Any:
        """The example's candidate ``boosting``, without preprocessing; one thread."""
        model = HistGradientBoostingClassifier(
            class_weight="balanced", categorical_features=list(np.flatnonzero(categories)), random_state=0
        )
        return model.fit(values[rows], late[rows])

    results: dict[str, Measured] = {}
    for way, key in (("by flight", "flight_id"), ("by day", "day")):
        here, ahead = Measured(), Measured()
        for number in range(salts):
            out = held_out(table[key], f"salt-{number}", share)
            champion, challenger = learn(first & ~out), learn((first | april) & ~out)
            for measured, rows in ((here, april & out), (ahead, may)):
                chances = (model.predict_proba(values[rows])[:, 1] for model in (champion, challenger))
                measured.add(late[rows], *chances)
        results[f"{way}: held-out flights of April"] = here
        results[f"{way}: all of May"] = ahead
    print("## What the split does to the figures\n")
    print(
        f"The flights example, {share:.0%} held out, {salts} salts: a model of January to March against one that also\n"
        "learned from April; median (least to most). No training saw a day of May: that is how production will judge.\n"
    )
    print("| held out, and judged on | metric | January to March | to April | gain |")
    print("| --- | --- | --- | --- | --- |")
    for what, measured in results.items():
        for metric in measured.pairs:
            print(measured.row(what, metric))


if __name__ == "__main__":
    with threadpool_limits(1):  # threads that wait for each other on busy cores cost more than they do
        main()
