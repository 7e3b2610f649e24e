"""Custom functions that the contract suite trains."""

from __future__ import annotations

from pathlib import Path
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


def backbone(folder: Path, words: list[str]) -> None:
    """A KerasHub preset of a small BERT that was never trained."""
    from upkeep.models.keras_runtime import keras, quiet

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    sizes = {"num_layers": 1, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 16, "max_sequence_length": 8}
    with quiet():
        keras().utils.set_random_seed(3)
        import keras_hub

        tokenizer = keras_hub.models.BertTokenizer(vocabulary=vocabulary, lowercase=True)
        keras_hub.models.BertBackbone(vocabulary_size=len(vocabulary), **sizes).save_to_preset(str(folder))
        keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=8).save_to_preset(str(folder))
