"""Custom functions that the contract suite trains."""

from __future__ import annotations

from typing import Any

from upkeep.training.custom import CustomTask


def through_the_spec(task: CustomTask) -> Any:
    """The spec's preprocessing, an estimator of one's own."""
    from sklearn.ensemble import ExtraTreesClassifier

    model = task.pipeline(ExtraTreesClassifier(n_estimators=5, random_state=task.seed, **task.params))
    return model.fit(task.X, task.y)


def all_by_hand(task: CustomTask) -> Any:
    """A pipeline of scikit-learn's own parts."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    numeric = [column.name for column in task.columns if column.kind == "numeric"]
    categorical = [column.name for column in task.columns if column.kind == "categorical"]
    columns = make_column_transformer((SimpleImputer(), numeric), (OneHotEncoder(handle_unknown="ignore"), categorical))
    return make_pipeline(columns, LogisticRegression(random_state=task.seed)).fit(task.X, task.y)
