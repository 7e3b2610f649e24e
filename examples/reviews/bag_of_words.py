"""A candidate of our own (``strategy: custom``): counted words and word pairs, and a linear model on them."""

from __future__ import annotations

from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from upkeep.training.custom import CustomTask


def make(task: CustomTask) -> Pipeline:
    """The fitted Pipeline. It reads ``review`` alone, which the spec says is never null."""
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    model = LogisticRegression(C=task.params["C"], max_iter=500)
    return make_pipeline(ColumnTransformer([("words", words, "review")]), model).fit(task.X, task.y)
