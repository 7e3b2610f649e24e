"""Make the two CSV files of the textbook example from scikit-learn's breast-cancer data set, rows in random order.

``1-original.csv`` (200 rows) is what the first model learns from; ``2-new.csv`` (369 rows) is what came later.
"""

from __future__ import annotations

import sys
from pathlib import Path


def write(folder: Path) -> None:
    """Write both files below ``folder``: the ten mean measurements and ``target`` (1: benign)."""
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer(as_frame=True).frame.sample(frac=1, random_state=0)
    table.columns = [name.replace(" ", "_") for name in table.columns]
    table = table[[name for name in table.columns if name.startswith("mean_")] + ["target"]]
    folder.mkdir(parents=True, exist_ok=True)
    table.iloc[:200].to_csv(folder / "1-original.csv", index=False)
    table.iloc[200:].to_csv(folder / "2-new.csv", index=False)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "work" / "data")
