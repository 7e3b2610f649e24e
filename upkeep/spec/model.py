"""The model spec: what ``upkeep.yaml`` may say, as frozen dataclasses.

These classes are the only definition. pydantic validates them at the edge (:mod:`upkeep.spec.load`) and
writes the JSON Schema from them; the attribute docstrings are the descriptions an editor shows
(:mod:`upkeep.spec.schema`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BeforeValidator, ConfigDict, Field

EDGE = ConfigDict(extra="forbid", populate_by_name=True)
"""pydantic's settings for every class here: an unknown key is an error."""


_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*%\s*")


def parse_share(value: object) -> object:
    """``"20%"`` → ``0.2``; anything else is left for pydantic to judge."""
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    return float(Decimal(match[1]) / 100) if match else value


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, dict) else tuple(value) if isinstance(value, list) else value


_NUMBER = r"(\d+(\.\d+)?|\.\d+)\s*%\s*$"
_PERCENT_0_TO_100 = r"^\s*(100(\.0+)?|\d?\d(\.\d+)?|\.\d+)\s*%\s*$"
_PERCENT_ABOVE_0_BELOW_100 = r"^\s*(?!0*(\.0+)?\s*%)(\d?\d(\.\d+)?|\.\d+)\s*%\s*$"
_PERCENT_ABOVE_0_BELOW_50 = r"^\s*(?!0*(\.0+)?\s*%)([0-4]?\d(\.\d+)?|\.\d+)\s*%\s*$"
_PERCENT_ABOVE_50_BELOW_100 = r"^\s*(50\.\d*[1-9]\d*|5[1-9](\.\d+)?|[6-9]\d(\.\d+)?)\s*%\s*$"

Share = Annotated[
    float,
    Ge(0),
    Le(1),
    BeforeValidator(
        parse_share,
        json_schema_input_type=Annotated[float, Ge(0), Le(1)] | Annotated[str, Field(pattern=_PERCENT_0_TO_100)],
    ),
]
"""A share of rows, requests or probability in [0, 1]; written ``0.2`` or ``20%``."""
OpenShare = Annotated[
    float,
    Gt(0),
    Lt(1),
    BeforeValidator(
        parse_share,
        json_schema_input_type=Annotated[float, Gt(0), Lt(1)]
        | Annotated[str, Field(pattern=_PERCENT_ABOVE_0_BELOW_100)],
    ),
]
"""A share in (0, 1), neither end allowed."""
Contamination = Annotated[
    float,
    Gt(0),
    Lt(0.5),
    BeforeValidator(
        parse_share,
        json_schema_input_type=Annotated[float, Gt(0), Lt(0.5)]
        | Annotated[str, Field(pattern=_PERCENT_ABOVE_0_BELOW_50)],
    ),
]
"""A share in (0, 0.5): outliers are never most of the rows."""
Confidence = Annotated[
    float,
    Gt(0.5),
    Lt(1),
    BeforeValidator(
        parse_share,
        json_schema_input_type=Annotated[float, Gt(0.5), Lt(1)]
        | Annotated[str, Field(pattern=_PERCENT_ABOVE_50_BELOW_100)],
    ),
]
"""A confidence level in (0.5, 1); written ``0.95`` or ``95%``."""
Points = Annotated[
    float,
    Ge(0),
    BeforeValidator(
        parse_share,
        json_schema_input_type=Annotated[float, Ge(0)] | Annotated[str, Field(pattern=r"^\s*" + _NUMBER)],
    ),
]
"""A value or a difference of a metric, not negative; ``0.02`` or ``2%``."""
DURATION = r"^\s*(\d+(\.\d+)?|\.\d+)\s*(ms|s|m|h|d)\s*$"
_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}


def parse_duration(value: object) -> object:
    """``"1.5h"`` → ``5400.0``; anything else is left for pydantic to judge."""
    match = re.fullmatch(DURATION, value) if isinstance(value, str) else None
    return float(Decimal(match[1]) * _SECONDS[match[3]]) if match else value


Seconds = Annotated[
    float,
    Ge(0),
    BeforeValidator(
        parse_duration,
        json_schema_input_type=Annotated[float, Ge(0)] | Annotated[str, Field(pattern=DURATION)],
    ),
]
"""A length of time in seconds; written ``90``, ``90s``, ``10m``, ``2h`` or ``1d``."""
Name = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=40)]
"""A lower-case DNS label (RFC 1123) that starts with a letter."""
Label = str | bool | int
"""A class label as it stands in the data."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What the model is called, and who answers for it."""

    __pydantic_config__ = EDGE
    name: Name
    """The model's name: in the store, in Git and on the cluster."""
    description: str = ""
    """One sentence for people."""
    owner: str = ""
    """Who answers for the model: a team or an address."""
    notes: tuple[str, ...] = ()
    """What a reader of the figures must know of this data, a sentence each; the update page shows them."""


@dataclass(frozen=True, kw_only=True)
class ObjectStore:
    """Where an ``s3://`` address leads."""

    __pydantic_config__ = EDGE
    endpoint: str | None = None
    """The S3 endpoint's URL; without one, AWS_ENDPOINT_URL or AWS itself. Credentials come from the environment."""
    region: str | None = None
    """The S3 region."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The label: what is predicted."""

    __pydantic_config__ = EDGE
    column: str
    """The column that holds the label."""
    positive: Label | None = None
    """The class whose precision, recall and F1 count, for two classes. Without it the metrics are macro averages."""
    classes: tuple[Label, ...] | None = None
    """All labels that may occur. A row with another label is quarantined. Without it: what the data shows."""
    task: Literal["classification"] = "classification"
    """What is predicted. Regression will be a second value here."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """The columns that the model sees, by kind."""

    __pydantic_config__ = EDGE
    numeric: tuple[str, ...] = ()
    """Columns of numbers (booleans count as 0 and 1)."""
    categorical: tuple[str, ...] = ()
    """Columns of categories: strings, booleans or integers whose size means nothing."""
    datetime: tuple[str, ...] = ()
    """Columns of times; ``preprocess.dates`` says which parts become features."""

    @property
    def all(self) -> tuple[str, ...]:
        """Every feature column, numeric first, in the order of the spec."""
        return self.numeric + self.categorical + self.datetime


@dataclass(frozen=True, kw_only=True)
class ColumnRule:
    """What one column may hold."""

    __pydantic_config__ = EDGE
    min: float | None = None
    """A smaller number is quarantined."""
    max: float | None = None
    """A larger number is quarantined."""
    values: tuple[Label, ...] | None = None
    """The known categories."""
    unknown: Literal["allow", "quarantine"] = "allow"
    """What happens to a row with a category that is not among ``values``."""
    required: bool = False
    """Quarantine rows in which this column is null."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When there is too much wrong with the data."""

    __pydantic_config__ = EDGE
    bad_rows: Share = 0.01
    """The share of quarantined rows, in any one period, past which the update stops."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which rows no training ever sees."""

    __pydantic_config__ = EDGE
    method: Literal["hash", "prequential", "random_state"] = "hash"
    """``hash``: a hash of the split key decides, for ever. ``prequential``: the newest period is scored before
    anything learns from it. ``random_state``: scikit-learn's train_test_split, once, on the first period; later
    rows are all training (guards off)."""
    group: str | None = None
    """The split key: a column, or ``day``, ``week``, ``month`` of ``data.time``. Without it, the row's id."""
    held_out: Share = 0.2
    """The share of keys that no training ever sees."""
    validation: Share = 0.2
    """The share of the training side's keys on which the best candidate is chosen; with one candidate, none."""
    salt: str = ""
    """Makes this model's split its own; the default is the model's name."""
    random_state: int = 42
    """The seed of ``method: random_state``."""
    same_content: bool = True
    """Keep a row out of training when all its content (time and target included) equals a held-out row's."""


@dataclass(frozen=True, kw_only=True)
class Privacy:
    """Columns that must not be written as they are."""

    __pydantic_config__ = EDGE
    drop: tuple[str, ...] = ()
    """Columns that are dropped before anything is written."""
    hash: tuple[str, ...] = ()
    """Columns whose values are replaced by a keyed hash (BLAKE2b) before anything is written."""
    key: str = "UPKEEP_PRIVACY_KEY"
    """The environment variable that holds the key."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """The rows to learn from."""

    __pydantic_config__ = EDGE
    source: str
    """A file, a folder or an s3:// address: CSV (plain or gzip) or Parquet, with or without ``period=…`` folders."""
    target: Target
    """What is predicted."""
    features: Features
    """The columns that the model sees, by kind."""
    period: Literal["day", "week", "month", "quarter", "year"] | None = None
    """The unit that data arrives in. Without ``period=…`` folders it is cut from ``time``, in UTC; without ``time``,
    each file is a period, in the order of their names."""
    id: str | None = None
    """The column that names a row, the same wherever the row comes back."""
    time: str | None = None
    """The column that says when the row happened."""
    columns: dict[str, ColumnRule] = field(default_factory=dict)
    """What each column may hold; rows that do not keep to it are quarantined."""
    slices: tuple[str, ...] = ()
    """Columns whose values are the subgroups on which quality and fairness are also measured."""
    limits: Limits = Limits()
    """When there is too much wrong with the data."""
    split: Split = Split()
    """Which rows no training ever sees."""
    privacy: Privacy = Privacy()
    """Columns that must not be written as they are."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """The delimiter of CSV files."""
    encoding: str = "utf-8"
    """The encoding of CSV files."""


@dataclass(frozen=True, kw_only=True)
class Outliers:
    """How outliers are told, and what is done with them."""

    __pydantic_config__ = EDGE
    method: Literal["none", "quantile", "iqr", "isolation_forest"] = "none"
    """How an outlier is told: outside two quantiles; beyond ``factor`` interquartile ranges of the quartiles; by an
    isolation forest over the numeric columns. Fitted on training rows."""
    action: Literal["clip", "drop", "flag"] = "clip"
    """``clip`` to the fence (not for isolation_forest); ``drop`` from training only; ``flag`` as a feature."""
    quantiles: tuple[Share, Share] = (0.001, 0.999)
    """The two quantiles of ``method: quantile``, the lower first."""
    factor: Annotated[float, Gt(0)] = 3.0
    """``method: iqr``: how many interquartile ranges beyond the quartiles the fence stands."""
    contamination: Contamination = 0.01
    """The share that an isolation forest calls outliers."""


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How columns become numbers. All of it is fitted on training rows and lives inside the model."""

    __pydantic_config__ = EDGE
    outliers: Outliers = Outliers()
    """How outliers are told, and what is done with them."""
    impute_numeric: Literal["auto", "median", "mean", "zero", "none"] = "auto"
    """``auto``: nulls are left to an estimator that takes them (HistGradientBoosting does), else the median;
    ``none`` leaves them to any."""
    impute_categorical: Literal["missing", "most_frequent"] = "missing"
    """``missing`` makes null a category of its own."""
    scale: Literal["standard", "robust", "min_max", "none"] = "standard"
    """How numeric columns are scaled. Trees do not mind either way."""
    encode: Literal["auto", "one_hot", "ordinal"] = "auto"
    """``auto``: ordinal for trees, one_hot otherwise."""
    max_categories: Annotated[int, Ge(2)] = 200
    """The rest of a column's categories share one place, with those never seen in training."""
    dates: tuple[Literal["hour", "day", "day_of_week", "day_of_year", "month", "year"], ...] = (
        "hour",
        "day_of_week",
        "day_of_year",
    )
    """The parts of a datetime column that become features."""


@dataclass(frozen=True, kw_only=True)
class DriftThresholds:
    """Effects smaller than these are not drift, however significant."""

    __pydantic_config__ = EDGE
    ks: Annotated[float, Gt(0), Lt(1)] = 0.1
    """Numeric columns: the Kolmogorov–Smirnov distance that counts as an effect."""
    jensen_shannon: Annotated[float, Gt(0), Lt(1)] = 0.1
    """Categorical columns: the Jensen–Shannon distance (base 2) that counts as an effect."""
    nulls: Annotated[float, Gt(0), Lt(1)] = 0.05
    """A rise or fall of the share of nulls that counts as an effect."""
    auc: Annotated[float, Gt(0.5), Lt(1)] = 0.6
    """The two-sample classifier's ROC AUC that counts as drift of the whole."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """When a change of the data counts."""

    __pydantic_config__ = EDGE
    thresholds: DriftThresholds = DriftThresholds()
    """Effects smaller than these are not drift, however significant."""
    false_discovery_rate: OpenShare = 0.05
    """Benjamini–Hochberg's level over all columns."""
    min_rows: Annotated[int, Ge(2)] = 200
    """Fewer rows on either side: ``insufficient``."""
    persist: Annotated[int, Ge(1)] = 1
    """A column drifts when it did so for this many periods in a row."""
    exact_ks: bool = False
    """Kolmogorov–Smirnov over all values, in memory, not over the profile's bins."""
    classifier_rows: Annotated[int, Ge(0)] = 20_000
    """Rows of each side that the two-sample classifier learns from; 0 turns it off."""


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """One parameter: ``low`` and ``high``, or ``choices``."""

    __pydantic_config__ = EDGE
    low: float | None = None
    """The smallest value."""
    high: float | None = None
    """The largest value."""
    log: bool = False
    """Search on a logarithmic scale."""
    integer: bool = False
    """Whole numbers only."""
    choices: tuple[Any, ...] | None = None
    """The values to choose from, in place of a range."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search for parameters with Optuna, in a budget."""

    __pydantic_config__ = EDGE
    space: dict[str, SearchSpace]
    """What is searched: a parameter of the estimator, and its range or choices."""
    trials: Annotated[int, Ge(1)] = 20
    """At most this many trials."""
    seconds: Annotated[float, Gt(0)] = 600.0
    """No new trial starts after this many seconds."""
    folds: Annotated[int, Ge(2)] = 3
    """Cross-validation folds; whole periods where there are that many."""


@dataclass(frozen=True, kw_only=True)
class Retrain:
    """Train anew, on all training rows or on a window of periods."""

    __pydantic_config__ = EDGE
    name: Name
    """The candidate's name, unlike any other's."""
    strategy: Literal["retrain"]
    """Train anew."""
    estimator: str
    """A scikit-learn classifier's import path."""
    params: dict[str, Any] = field(default_factory=dict)
    """The estimator's own parameters."""
    window: Annotated[int, Ge(1)] | None = None
    """Only the newest N periods."""
    search: Search | None = None
    """Search for better parameters within a budget."""


@dataclass(frozen=True, kw_only=True)
class Incremental:
    """Go on with ``partial_fit`` from where this candidate last stood."""

    __pydantic_config__ = EDGE
    name: Name
    """The candidate's name, unlike any other's."""
    strategy: Literal["incremental"]
    """Go on learning."""
    estimator: str
    """A scikit-learn classifier's import path; it must have ``partial_fit``."""
    params: dict[str, Any] = field(default_factory=dict)
    """The estimator's own parameters."""
    rehearsal: Share = 0.2
    """Old rows mixed in, as a share of the new rows."""
    epochs: Annotated[int, Ge(1)] = 5
    """Passes over the new rows."""
    batch_rows: Annotated[int, Ge(1)] = 1000
    """Rows a ``partial_fit`` call."""


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Vote or stack other candidates; ``champion`` may be a member."""

    __pydantic_config__ = EDGE
    name: Name
    """The candidate's name, unlike any other's."""
    strategy: Literal["ensemble"]
    """Put others together."""
    members: Annotated[tuple[str, ...], MinLen(2)]
    """Names of other candidates, or ``champion``."""
    method: Literal["soft_vote", "stacking"] = "soft_vote"
    """``soft_vote``: the weighted mean of the probabilities. ``stacking``: a final estimator learns to weigh them."""
    weights: tuple[Annotated[float, Gt(0)], ...] | None = None
    """Weights of a soft vote, in the order of the members."""


@dataclass(frozen=True, kw_only=True)
class Custom:
    """Your own function makes the estimator; it is held to the same contract."""

    __pydantic_config__ = EDGE
    name: Name
    """The candidate's name, unlike any other's."""
    strategy: Literal["custom"]
    """Your own code."""
    function: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    """``package.module:function``; called with a TrainingTask, returns a fitted scikit-learn estimator."""
    params: dict[str, Any] = field(default_factory=dict)
    """Passed on to the function."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network from nothing: the columns scaled and embedded, hidden layers, one answer a class."""

    __pydantic_config__ = EDGE
    hidden: tuple[Annotated[int, Ge(1)], ...] = (64, 32)
    """Units of each hidden layer (ReLU), the first one first."""
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    """The share of a hidden layer's units that is left out at each step."""
    embedding: Annotated[int, Ge(1)] | None = None
    """Numbers that stand for one category. Without it: half as many as the column has categories, at most 16."""


LayerNames = Annotated[tuple[str, ...], MinLen(1), BeforeValidator(_as_tuple, json_schema_input_type=tuple[str, ...])]
"""To strict pydantic a list is no tuple any more, once it looked for `train: all`."""


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters: the base stays, and each chosen layer gets two small matrices to learn."""

    __pydantic_config__ = EDGE
    rank: Annotated[int, Ge(1)] = 4
    """The inner size of the two matrices."""
    layers: LayerNames = ("query", "value")
    """Which layers: names, or the last part of their paths; the query and value projections of attention."""


@dataclass(frozen=True, kw_only=True)
class TrainedLayers:
    """What of the network learns; without any key, all of it. The layer that answers always does."""

    __pydantic_config__ = EDGE
    last: Annotated[int, Ge(1)] | None = None
    """Only the last N layers that have weights."""
    layers: LayerNames | None = None
    """Only these layers, by name."""
    lora: Lora | None = None
    """Only low-rank adapters on some layers."""


def _all_layers(value: object) -> object:
    return {} if value == "all" else _tuples(value)


def _tuples(value: object) -> object:
    """Lists as tuples: pydantic takes what a validator gives it for Python's own."""
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """How the weights move."""

    __pydantic_config__ = EDGE
    kind: Literal["adam", "sgd"] = "adam"
    """Adam (Kingma & Ba, 2015), or stochastic gradient descent."""
    rate: Annotated[float, Gt(0)] = 0.001
    """The learning rate."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the rate goes down to zero over all steps, if it does."""
    warm_up: Annotated[float, Ge(0), Lt(1)] = 0.0
    """The share of all steps over which the rate rises from zero."""
    momentum: Annotated[float, Ge(0), Lt(1)] | None = None
    """Of ``sgd``: Nesterov's momentum."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """The decoupled weight decay (Loshchilov & Hutter, 2019)."""
    clip_norm: Annotated[float, Gt(0)] | None = None
    """The largest norm of all gradients together; longer ones are shortened."""


@dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """Stop when rows of the training side that teach nothing say so, and keep the best weights."""

    __pydantic_config__ = EDGE
    share: OpenShare = 0.1
    """The share of the training side's split keys that is watched, and not learned from."""
    patience: Annotated[int, Ge(1)] = 3
    """Epochs in a row without a lower loss."""
    least: Annotated[float, Ge(0)] = 0.0
    """How much lower the loss must be to count."""


@dataclass(frozen=True, kw_only=True)
class Distill:
    """Learn the champion's answers too, against forgetting (Hinton, Vinyals & Dean, 2015)."""

    __pydantic_config__ = EDGE
    weight: OpenShare = 0.5
    """How much the champion's answers count beside the labels."""
    temperature: Annotated[float, Gt(0)] = 2.0
    """Softens both answers before they are compared."""


Devices = Literal["one", "all", "workers"]


@dataclass(frozen=True, kw_only=True)
class FineTune:
    """Adapt a Keras network: a pre-trained base, the champion, or where this candidate last stood.

    It needs the extra ``upkeep[tensorflow]``."""

    __pydantic_config__ = EDGE
    name: Name
    """The candidate's name, unlike any other's."""
    strategy: Literal["fine_tune"]
    """Fine-tune a network."""
    base: str = ""
    """A ``.keras`` file, or the folder of a model, a SavedModel or a KerasHub preset, by path or s3:// address; or
    ``champion``: that one, where it is a network. Without it: a ``network`` from nothing. Once it has a state of its
    own, a candidate goes on from there; with ``champion``, from the champion each time."""
    digest: str = ""
    """The base's SHA-256: of the file, or of the folder as ``upkeep`` names it. Needed for a path or address."""
    text: str = ""
    """With a KerasHub preset: the categorical column that it reads as text. The other columns come in beside it."""
    new_features: Literal["ignore", "add"] = "ignore"
    """Columns that the base does not take: ``ignore`` them, or ``add`` them beside it, before the layer that
    answers."""
    network: Network | None = None
    """The network where there is no base, or no champion yet."""
    train: Annotated[
        TrainedLayers,
        BeforeValidator(_all_layers, json_schema_input_type=TrainedLayers | Literal["all"]),
    ] = TrainedLayers()
    """What of the network learns; ``all``: everything."""
    keep: Literal["whole", "delta"] = "whole"
    """What is kept of the network: the ``whole``; or a ``delta``, only what learned, beside the digest of the network
    that it stands on, which the store keeps once."""
    optimizer: Optimizer = Optimizer()
    """How the weights move."""
    epochs: Annotated[int, Ge(1)] = 10
    """Passes over the rows, at most."""
    batch_rows: Annotated[int, Ge(1)] = 256
    """Rows a step."""
    max_steps: Annotated[int, Ge(1)] | None = None
    """No more steps than this in one update."""
    window: Annotated[int, Ge(1)] | None = None
    """Only the newest N periods."""
    rehearsal: Share = 0.2
    """Old rows mixed in, as a share of the new rows."""
    early_stopping: EarlyStopping | None = None
    """Stop when watched rows say so."""
    class_weight: Literal["none", "balanced"] = "none"
    """``balanced``: each class counts alike, however rare (n ÷ (classes × its rows), as scikit-learn does)."""
    unfreeze: Annotated[int, Ge(1)] | None = None
    """Gradual unfreezing: every N epochs one more layer learns, from the last one backwards (Howard & Ruder, 2018)."""
    distill: Distill | None = None
    """Learn the champion's answers too; the champion may be of any kind."""
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    """The arithmetic of training; the model itself is kept and answers in float32."""
    devices: Devices = "one"
    """What trains, each on its share of every batch: ``one`` device; ``all`` GPUs of this machine; the ``workers`` that
    ``TF_CONFIG`` lists, with all of theirs: pods that an update on Kubeflow starts."""
    checkpoint: Annotated[Seconds, Gt(0)] = 300.0
    """How often training is saved, to go on from there when it is killed."""
    search: Search | None = None
    """Search for better settings within a budget: dotted keys of this candidate, such as ``optimizer.rate``."""


Candidate = Annotated[Retrain | Incremental | FineTune | Ensemble | Custom, Field(discriminator="strategy")]
MetricName = Literal["accuracy", "precision", "recall", "f1", "roc_auc", "log_loss"]


@dataclass(frozen=True, kw_only=True)
class Better:
    """How much better than the champion a candidate must be."""

    __pydantic_config__ = EDGE
    metric: MetricName = "f1"
    """What is compared; for two classes with ``data.target.positive`` set, that of the positive class."""
    by: Points = 0.0
    """The least difference of the estimates, in the metric's own unit, in the better direction."""
    confidence: Confidence = 0.95
    """The difference's interval at this level must lie above zero."""


@dataclass(frozen=True, kw_only=True)
class OldRows:
    """What may be lost on the rows that the champion knows."""

    __pydantic_config__ = EDGE
    worse_by_at_most: Points = 0.02
    """How much worse than the champion, at most, on held-out rows of the periods the champion learned from."""


@dataclass(frozen=True, kw_only=True)
class ForgettingRule:
    """What a candidate that goes on learning (``incremental``, ``fine_tune``) may lose on any one old period."""

    __pydantic_config__ = EDGE
    worse_by_at_most: Points
    """How much worse than the model it went on from, at most, on the held-out rows of each period that this one had
    learned."""
    min_rows: Annotated[int, Ge(1)] = 100
    """An old period with fewer held-out rows is ``insufficient``."""


def _limit_alone(value: object) -> object:
    alone = isinstance(value, int | float | str) and not isinstance(value, bool)
    return {"worse_by_at_most": value} if alone else value


@dataclass(frozen=True, kw_only=True)
class SliceRule:
    """What may be lost in any one slice."""

    __pydantic_config__ = EDGE
    worse_by_at_most: Points = 0.05
    """Fails a slice that is worse than the champion by more, beyond doubt (the interval's better end too)."""
    min_rows: Annotated[int, Ge(1)] = 100
    """Smaller slices are listed as insufficient."""


@dataclass(frozen=True, kw_only=True)
class Fairness:
    """How far apart the groups of one slice column may be."""

    __pydantic_config__ = EDGE
    column: str
    """One of ``data.slices``."""
    demographic_parity_difference: Share | None = None
    """The widest gap between groups in the share that is called positive."""
    equalized_odds_difference: Share | None = None
    """The widest gap in the true or the false positive rate, whichever is wider."""
    equal_opportunity_difference: Share | None = None
    """The widest gap in the true positive rate."""
    min_rows: Annotated[int, Ge(1)] = 100
    """A group needs this many rows (and, for a rate among positives, as many positives ÷ 5) to be judged."""
    not_worse_than_champion: bool = False
    """Judge the change against the champion, not the value: for a model that is unfair already."""


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """What the model may cost."""

    __pydantic_config__ = EDGE
    latency_ms: Annotated[float, Gt(0)] | None = None
    """The 95th percentile of answering one row, in milliseconds."""
    size_mb: Annotated[float, Gt(0)] | None = None
    """The size of the model's files, in megabytes (10⁶ bytes)."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a candidate must show, before it becomes a challenger."""

    __pydantic_config__ = EDGE
    better: Better = Better()
    """How much better than the champion."""
    at_least: dict[MetricName, Points] = field(default_factory=dict)
    """Values the candidate itself must reach on the held-out rows (for log_loss: at most)."""
    old: OldRows = OldRows()
    """What may be lost on the rows that the champion knows."""
    slices: SliceRule = SliceRule()
    """What may be lost in any one slice."""
    forgetting: Annotated[
        ForgettingRule | None,
        BeforeValidator(_limit_alone, json_schema_input_type=ForgettingRule | Points | None),
    ] = None
    """What a candidate that goes on learning may lose on any one old period; a number alone is ``worse_by_at_most``.
    Default: reported, not judged."""
    fairness: Annotated[
        tuple[Fairness, ...],
        BeforeValidator(_as_tuple, json_schema_input_type=Fairness | tuple[Fairness, ...]),
    ] = ()
    """One rule or a list of them: how far apart the groups of a slice column may be."""
    budgets: Budgets = Budgets()
    """What the model may cost."""
    min_rows: Annotated[int, Ge(1)] = 200
    """Fewer held-out rows newer than the champion: ``insufficient``."""
    resamples: Annotated[int, Ge(200)] = 2000
    """Bootstrap resamples."""


@dataclass(frozen=True, kw_only=True)
class Explain:
    """What the update's page tells of the chosen candidate beside the verdict: why it answers as it does, and what less
    data would have given."""

    __pydantic_config__ = EDGE
    gradients: bool = True
    """Integrated gradients, of a network: what each column, and each word of a text, added to its answers."""
    shap: bool = False
    """SHAP values, of trees and linear models. Needs the extra ``upkeep[shap]``."""
    rows: Annotated[int, Ge(1), Le(5000)] = 200
    """Of so many held-out rows, drawn by the seed."""
    steps: Annotated[int, Ge(4), Le(500)] = 32
    """Points on the way from the baseline to a row, of integrated gradients."""
    curves: Seconds = 30.0
    """Learning curves: the candidate is trained on less, to tell how much data is needed. No such training begins
    after so long; 0: none at all."""


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How the model is served on the cluster."""

    __pydantic_config__ = EDGE
    namespace: Name = "models"
    """The Kubernetes namespace."""
    traffic: Literal["route", "canary", "knative"] = "route"
    """The traffic driver."""
    host: str = ""
    """The host of the model's route; the default is ``<name>.<namespace>.example``."""
    gateway: str = "kserve/kserve-ingress-gateway"
    """The Gateway the route hangs on: ``namespace/name``."""
    runtime: str = "upkeep-server"
    """The ServingRuntime that loads the model."""
    service_account: str = "upkeep-server"
    """The service account that may read the store."""
    min_replicas: Annotated[int, Ge(1)] = 1
    """Replicas that always run."""
    max_replicas: Annotated[int, Ge(1)] = 3
    """Replicas under load."""
    resources: dict[str, str] = field(default_factory=lambda: {"cpu": "500m", "memory": "1Gi"})
    """What one replica asks for, in Kubernetes' units."""


@dataclass(frozen=True, kw_only=True)
class Margin:
    """How much worse than the champion the canary may be, on live traffic."""

    __pydantic_config__ = EDGE
    errors: OpenShare = 0.005
    """The share of failed requests (4xx, 5xx, or no answer in time): the harm accepted over all traffic."""
    latency: OpenShare = 0.01
    """The share of requests slower than ``rollout.latency``."""
    accuracy: OpenShare = 0.02
    """Accuracy, once labels arrive."""
    precision: OpenShare | None = None
    """Precision, once labels arrive: a guardrail, which can take the canary back and no step waits for. Needs
    ``data.target.positive``. Default: not compared."""
    recall: OpenShare | None = None
    """Recall, likewise."""
    predictions: OpenShare | None = None
    """The share of positive answers (without ``data.target.positive``: of the champion's most frequent answer). A
    canary is taken back when its share is shown to be farther from the champion's, above or below. Needs the payload
    log, and no labels. Default: not compared."""


@dataclass(frozen=True, kw_only=True)
class Certainty:
    """How often an analysis may err, however often it looks."""

    __pydantic_config__ = EDGE
    rollback: OpenShare = 0.01
    """How likely a canary as good as the champion is taken back, over a whole rollout."""
    step: OpenShare = 0.05
    """How likely a canary that is worse by the margin passes a step."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A fixed limit on the canary alone, beside the comparison with the champion."""

    __pydantic_config__ = EDGE
    metric: Literal["errors", "slow", "accuracy", "precision", "recall", "f1"]
    """``errors``: the share of failed requests, clients' own errors among them; ``slow``: of those slower than
    ``rollout.latency``; the others need labels, and precision, recall and f1 ``data.target.positive``."""
    at_most: Share | None = None
    """The highest value that is let pass."""
    at_least: Share | None = None
    """The lowest value that is let pass."""
    over: Annotated[Seconds, Gt(0)] = 300.0
    """The time over which the value is taken. A label belongs to the time at which it is read, and a window of labels
    stays open until it has ``min_requests``."""
    failures: Annotated[int, Ge(1)] = 1
    """How many windows in a row must miss the limit before the canary is taken back."""
    min_requests: Annotated[int, Ge(1)] = 100
    """A window with fewer is ``insufficient``. Of precision only positive answers count, of recall positive labels, of
    f1 rows that are either."""


@dataclass(frozen=True, kw_only=True)
class WaitLimits:
    """How long a rollout may wait."""

    __pydantic_config__ = EDGE
    ready: Seconds = 1800.0
    """For the challenger to be ready, from its commit."""
    shadow: Seconds = 86400.0
    """For enough labelled requests to compare in pairs."""
    step: Seconds = 86400.0
    """For the evidence of one step."""
    otherwise: Literal["hold", "roll_back"] = "hold"
    """What happens where the evidence is insufficient at the limit: wait for a person, or take the canary back."""


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """The champion's labelled requests, answered by the canary too, compared in pairs, out of band."""

    __pydantic_config__ = EDGE
    replay: bool = True
    """Compare in pairs where ``monitoring.labels`` is set: before the first step, and beside every later one."""
    rows_per_minute: Annotated[int, Ge(1)] = 6000
    """At most so many rows are asked of the canary's model."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A time in which traffic may move forward; taking a canary back is always allowed."""

    __pydantic_config__ = EDGE
    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = ("mon", "tue", "wed", "thu", "fri")
    """The days of the week."""
    start: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "09:00"
    """From this time of day."""
    end: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$|^24:00$")] = "17:00"
    """Until this time of day, itself not included."""
    zone: str = "UTC"
    """The time zone's name (IANA)."""


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """Where events are sent: a POST with a JSON body."""

    __pydantic_config__ = EDGE
    url: str
    """Its address."""
    events: tuple[
        Literal["proposed", "moved", "promoted", "rolled_back", "held", "paused", "problem", "failing"], ...
    ] = ("promoted", "rolled_back", "held", "paused", "problem", "failing")
    """Which ones."""
    secret_env: str = ""
    """The environment variable with the key that signs the body (HMAC-SHA256, header ``X-Upkeep-Signature``)."""


@dataclass(frozen=True, kw_only=True)
class PullRequest:
    """Who opens the pull requests of ``approve_by: pull_request``."""

    __pydantic_config__ = EDGE
    host: Literal["", "github", "gitlab"] = ""
    """Where the repository is, for Upkeep to open them there. Empty: the branch is pushed, and people open theirs."""
    api: Annotated[str, Field(pattern=r"^(https?://[^\s/]+[^\s]*)?$")] = ""
    """The address of its REST API. Default: that of the repository's host."""
    token_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = "UPKEEP_GIT_TOKEN"
    """The environment variable with the token that may open them."""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """How a challenger gets the traffic."""

    __pydantic_config__ = EDGE
    repository: str = ""
    """The Git repository that is applied: a path or a URL. The default is a bare one beside the local store."""
    branch: str = "main"
    """The branch that is applied."""
    path: str = ""
    """The model's folder in the repository; the default is ``models/<name>``."""
    synced_by: Annotated[str, Field(pattern=r"^((argocd|flux):[-.a-z0-9]+/[-.a-z0-9]+)?$")] = ""
    """Who applies it on Kubernetes: ``argocd:<namespace>/<Application>`` or ``flux:<namespace>/<Kustomization>``. The
    default is what the live objects say they come from."""
    steps: tuple[Share, ...] = (0.05, 0.25, 0.5)
    """The canary's shares of the traffic, rising."""
    margin: Margin = Margin()
    """How much worse than the champion the canary may be."""
    certainty: Certainty = Certainty()
    """How often an analysis may err."""
    latency: Annotated[Seconds, Gt(0)] = 0.5
    """The objective of one request's latency; a slower one counts as slow. "p95 is within it" says that at most 5 %
    of the requests are slow."""
    timeout: Annotated[Seconds, Gt(0)] = 10.0
    """How long a request may take before it counts as failed. No step passes sooner after its traffic moved."""
    required: tuple[Literal["errors", "latency", "accuracy"], ...] = ()
    """What must be shown not worse before a step passes. Default: errors and latency; accuracy too where
    ``monitoring.labels`` is set. Everything measured can take the canary back."""
    thresholds: tuple[Threshold, ...] = ()
    """Fixed limits on the canary alone, beside the comparison."""
    every: Annotated[Seconds, Gt(0)] = 10.0
    """How often the evidence is looked at."""
    bake: Seconds = 3600.0
    """How long the old champion stays warm at 0 % after the canary has all traffic, and the evidence goes on."""
    limits: WaitLimits = WaitLimits()
    """How long a rollout may wait."""
    shadow: Shadow = Shadow()
    """Comparison in pairs."""
    approve: tuple[Share, ...] = ()
    """Weights that are left only when a person says so: some of ``steps``; 0 asks before
    the first step."""
    approve_by: Literal["command", "pull_request"] = "command"
    """How a person says so: by ``upkeep rollout resume``; or by merging a branch that holds the next step, too. What
    takes a canary back is committed at once all the same."""
    pull_request: PullRequest = PullRequest()
    """Who opens them."""
    windows: tuple[Window, ...] = ()
    """When traffic may move forward; none: always."""
    freeze: bool = False
    """Nothing moves forward while this is set."""
    brake: bool = True
    """Where the evidence says ``fail``, move the live weights at once, before the commit is applied."""
    webhooks: tuple[Webhook, ...] = ()
    """Who is told."""


@dataclass(frozen=True, kw_only=True)
class UpdateWhen:
    """What starts an update by itself."""

    __pydantic_config__ = EDGE
    schedule: str = ""
    """When an update starts on Kubeflow Pipelines: crontab's five fields, in UTC. ``upkeep schedule`` applies it."""
    decay: str = ""
    """``2 of 3 days``."""


@dataclass(frozen=True, kw_only=True)
class LabelColumns:
    """What the columns of a label file are called."""

    __pydantic_config__ = EDGE
    id: str = ""
    """The row's id, or the request's where the client sends no ``data.id``. Default: ``data.id``, else
    ``request_id``."""
    label: str = ""
    """The label. Default: ``data.target.column``."""
    time: str = ""
    """When the label became known. Default: the file's own time."""


@dataclass(frozen=True, kw_only=True)
class Payloads:
    """The log of requests and answers."""

    __pydantic_config__ = EDGE
    log: bool = True
    """Whether requests and answers are logged."""
    keep: Seconds = 30 * 86400.0
    """How long they are kept."""
    source: str = ""
    """Where the log is read: a folder or an s3:// address. Default: ``payloads/`` below the model's place in the
    store."""


@dataclass(frozen=True, kw_only=True)
class Queries:
    """What is asked of Prometheus: PromQL that gives one raw counter a version, never a rate.

    The version is found in the label ``version``, or in one that holds ``<name>-v12``. PromQL's own braces are written
    twice; known are ``{model}``, ``{namespace}``, ``{seconds}`` and ``{milliseconds}`` (``rollout.latency``)."""

    __pydantic_config__ = EDGE
    requests: str = ""
    """Requests that were answered, or that failed. Default: what an Envoy gateway counts of its clusters."""
    failed: str = ""
    """Those that failed: a 4xx, a 5xx, or no answer. A version without any must give 0, not nothing."""
    slow: str = ""
    """Those slower than ``rollout.latency``."""
    scraped: str = ""
    """When the oldest of these counters was scraped, in seconds since the epoch."""


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """What is watched while the model serves."""

    __pydantic_config__ = EDGE
    labels: str = ""
    """Where labels arrive later: a folder or an s3:// address, with the columns of ``label_columns``."""
    label_columns: LabelColumns = LabelColumns()
    """What the columns of the labels are called."""
    payloads: Payloads = Payloads()
    """The log of requests and answers."""
    prometheus: str = ""
    """The address of the Prometheus that scrapes the model's traffic. Default: what serves on one machine."""
    queries: Queries = Queries()
    """What Prometheus is asked."""
    update_when: UpdateWhen = UpdateWhen()
    """What starts an update by itself."""


@dataclass(frozen=True, kw_only=True)
class Secret:
    """A Kubernetes Secret that every step gets, by reference: Upkeep never reads what is in it."""

    __pydantic_config__ = EDGE
    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
    """The Secret's name, in the namespace that the steps run in."""
    env: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str] = field(default_factory=dict)
    """Environment variables, and the Secret's key that each one holds: ``{AWS_ACCESS_KEY_ID: access-key}``."""
    mount: Annotated[str, Field(pattern=r"^(/[^/:]+)*$")] = ""
    """The folder in which the Secret's keys stand as files."""


@dataclass(frozen=True, kw_only=True)
class Toleration:
    """A taint of nodes that a step's pod puts up with, in Kubernetes' own words."""

    __pydantic_config__ = EDGE
    key: str = ""
    """The taint's key; empty with ``operator: Exists``: every taint."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """``Equal``: of this ``value``; ``Exists``: of any."""
    value: str = ""
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect; without it: any."""


@dataclass(frozen=True, kw_only=True)
class StepNeeds:
    """What a step's pod asks for. What is not said here is as the cluster has it."""

    __pydantic_config__ = EDGE
    cpu: Annotated[str, Field(pattern=r"^(\d+(\.\d+)?|\d+m)$")] | None = None
    """CPUs requested: ``2``, ``0.5`` or ``500m``."""
    memory: Annotated[str, Field(pattern=r"^[1-9]\d*([KMGTPE]i?)?$")] | None = None
    """Memory requested, which is its limit too: ``4Gi``."""
    gpu: Annotated[int, Ge(0)] | None = None
    """GPUs; 0: none."""
    gpu_kind: Annotated[str, Field(pattern=r"^[-a-z0-9.]+(/[-A-Za-z0-9_.]+)?$")] | None = None
    """The resource's name; the default is ``nvidia.com/gpu``."""
    node_selector: dict[str, str] | None = None
    """Labels that the node must have."""
    tolerations: tuple[Toleration, ...] | None = None
    """Taints of nodes that the pod puts up with."""
    workers: Annotated[int, Ge(2)] | None = None
    """How many pods train a candidate with ``devices: workers``, each of which asks for this; the default is 2."""
    timeout: Annotated[Seconds, Ge(1)] | None = None
    """How long the pod may live before it is killed."""
    retries: Annotated[int, Ge(0)] | None = None
    """How often the step is tried again after a failure, whichever it was."""


@dataclass(frozen=True, kw_only=True)
class Kubeflow:
    """How updates run on Kubeflow Pipelines. It is no part of what a model is made of: changing it spoils no cache."""

    __pydantic_config__ = EDGE
    endpoint: Annotated[str, Field(pattern=r"^(https?://[^\s/]+[^\s]*)?$")] = ""
    """The address of KFP's API. Default: KF_PIPELINES_ENDPOINT, or KFP's service inside its cluster."""
    page: Annotated[str, Field(pattern=r"^(https?://[^\s/]+[^\s]*)?$")] = ""
    """The address of KFP's page for people. Default: ``endpoint``."""
    namespace: Annotated[str, Field(pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$", max_length=63)] = ""
    """The namespace that the steps run in: of the profile, where KFP has several users. Default: KFP's own."""
    experiment: str = ""
    """The experiment that runs are listed under; the default is the model's name."""
    service_account: str = ""
    """The service account of the steps' pods. Default: KFP's."""
    root: Annotated[str, Field(pattern=r"^([a-z0-9]+://[^\s]+)?$")] = ""
    """Where KFP keeps the steps' artifacts (its pipeline root): ``s3://bucket/prefix``. Default: KFP's."""
    env: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str] = field(default_factory=dict)
    """Environment variables that every step gets: nothing secret."""
    secrets: tuple[Secret, ...] = ()
    """Secrets that every step gets: for the store, the Git repository, ``data.privacy.key``."""
    steps: dict[str, StepNeeds] = field(default_factory=dict)
    """What each step asks for, by its name: ``collect``, ``preprocess``, ``drift``, ``train``, ``evaluate``,
    ``deploy``; ``train boosting`` is that candidate's, and ``all`` every step's. The narrower name goes first, key by
    key."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One model: its data, candidates, gate, rollout and monitoring."""

    __pydantic_config__ = EDGE
    metadata: Metadata
    """What the model is called, and who answers for it."""
    data: Data
    """The rows to learn from."""
    candidates: Annotated[tuple[Candidate, ...], MinLen(1)]
    """The models that each update trains."""
    api_version: Annotated[Literal["upkeep.dev/v1alpha1"], Field(alias="apiVersion")] = "upkeep.dev/v1alpha1"
    """The version of this file's format."""
    kind: Literal["Model"] = "Model"
    """What the file describes."""
    store: str = ".upkeep"
    """The object store: a folder or ``s3://bucket/prefix``."""
    object_store: ObjectStore = ObjectStore()
    """Where an ``s3://`` address leads."""
    preprocess: Preprocess = Preprocess()
    """How columns become numbers."""
    drift: Drift = Drift()
    """When a change of the data counts."""
    gate: Gate = Gate()
    """What a candidate must show, before it becomes a challenger."""
    explain: Explain = Explain()
    """What is told of the candidate beside the verdict."""
    serving: Serving = Serving()
    """How the model is served on the cluster."""
    rollout: Rollout = Rollout()
    """How a challenger gets the traffic."""
    monitoring: Monitoring = Monitoring()
    """What is watched while the model serves."""
    kubeflow: Kubeflow = Kubeflow()
    """How updates run on Kubeflow Pipelines."""
    estimators: tuple[str, ...] = ()
    """Import paths allowed as estimators, and when a model is loaded, beyond scikit-learn's own."""
    seed: int = 0
    """The seed of everything random."""

    @property
    def name(self) -> str:
        return self.metadata.name
