"""The textbook script: train, get new data, train again, and compare both on the same test rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split


def main(folder: Path) -> dict[str, float]:
    """Accuracy of the old and of the retrained model on the original 20 % test rows."""
    original = pd.read_csv(folder / "1-original.csv")
    new = pd.read_csv(folder / "2-new.csv")
    X, y = original.drop(columns="target"), original["target"]
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=42)
    old_model = LogisticRegression(max_iter=5000).fit(X_train, y_train)

    X_more = pd.concat([X_train, new.drop(columns="target")])
    y_more = pd.concat([y_train, new["target"]])
    new_model = LogisticRegression(max_iter=5000).fit(X_more, y_more)
    return {
        "old": float(accuracy_score(y_test, old_model.predict(X_test))),
        "new": float(accuracy_score(y_test, new_model.predict(X_test))),
    }


if __name__ == "__main__":
    default = Path(__file__).parent / "work" / "data"
    print(json.dumps(main(Path(sys.argv[1]) if len(sys.argv) > 1 else default)))
