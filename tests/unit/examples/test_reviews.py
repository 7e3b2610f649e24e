"""The made-up reviews: the same by seed, hard enough, and moving when they say they move."""

from __future__ import annotations

from functools import cache

import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline

from tests.unit.examples.examples_make import load

make = load("reviews", "make_data")
ROWS = 2000
CUES = ("slow clap", "bravo", "thanks a lot", "obviously", "in my dreams", "the queen", "more free time")


@cache
def month(name: str, seed: int = 11) -> pd.DataFrame:
    return make.reviews(name, ROWS, seed=seed).to_pandas()


def holds(name: str, words: tuple[str, ...]) -> pd.Series[bool]:
    return month(name)["review"].apply(lambda text: any(word in text for word in words))


def test_a_month_is_decided_by_its_seed() -> None:
    assert make.reviews("2025-02", 50).equals(make.reviews("2025-02", 50))
    assert make.reviews("2025-02", 50)["review"] != make.reviews("2025-03", 50)["review"]
    assert make.reviews("2025-02", 50)["review"] != make.reviews("2025-02", 50, seed=12)["review"]


def test_rows_are_what_the_spec_expects() -> None:
    rows = month("2025-05")
    assert rows["review_id"].is_unique
    assert (rows["written"].dt.strftime("%Y-%m") == "2025-05").all()
    assert rows["written"].is_monotonic_increasing
    assert not rows.isna().any().any()
    assert rows["review"].is_unique or rows["review"].duplicated().mean() < 0.01
    assert 0.4 < rows["complaint"].mean() < 0.5
    assert not rows["review"].str.contains(r"[{}]").any()


def test_products_and_words_are_new_from_april_on() -> None:
    before, after = month("2025-03"), month("2025-04")
    assert set(before["product"]) == set(make.PRODUCTS)
    assert set(after["product"]) == set(make.PRODUCTS) | set(make.NEWER_PRODUCTS)
    newer = ("goated", "next level", "janky", "a letdown")
    assert not holds("2025-03", newer).any()
    assert holds("2025-04", newer).mean() > 0.2


def test_sarcasm_begins_in_may_and_only_complaints_are_sarcastic() -> None:
    assert not holds("2025-04", CUES).any()
    sarcastic, complaint = holds("2025-05", CUES), month("2025-05")["complaint"]
    assert sarcastic[complaint].mean() > 0.15
    assert sarcastic[~complaint].mean() < 0.03  # wrong labels


def test_words_alone_do_not_decide_and_what_was_learned_ages() -> None:
    learned = pd.concat([month("2025-01"), month("2025-02")])
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), min_df=2), LogisticRegression(C=3, max_iter=500))
    model.fit(learned["review"], learned["complaint"])
    score = {
        name: f1_score(month(name)["complaint"], model.predict(month(name)["review"]))
        for name in ("2025-03", "2025-04", "2025-05")
    }
    assert 0.6 < score["2025-03"] < 0.85
    assert score["2025-04"] < score["2025-03"] - 0.02
    assert score["2025-05"] < score["2025-03"] - 0.02
