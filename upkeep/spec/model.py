"""The model spec: what ``upkeep.yaml`` may say, as frozen dataclasses.

These classes are the only definition. pydantic validates them at the edge (:mod:`upkeep.spec.load`) and
writes the JSON Schema from them; the attribute docstrings are the descriptions an editor shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BeforeValidator, ConfigDict, Field

EDGE = ConfigDict(extra="forbid", use_attribute_docstrings=True, populate_by_name=True)
"""pydantic's settings for every class here: an unknown key is an error."""


def parse_share(value: object) -> object:
    """``"20%"`` → ``0.2``; anything else is left for pydantic to judge."""
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            return float(value.strip()[:-1]) / 100
        except ValueError:
            return value
    return value


_Share = BeforeValidator(parse_share, json_schema_input_type=float | str)
Share = Annotated[float, _Share, Ge(0), Le(1)]
"""A share of rows, requests or probability in [0, 1]; written ``0.2`` or ``20%``."""
Name = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=40)]
"""A lower-case DNS label (RFC 1123) that starts with a letter."""
Label = str | bool | int
"""A class label as it stands in the data."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    __pydantic_config__ = EDGE
    name: Name
    """The model's name: in the store, in Git and on the cluster."""
    description: str = ""
    """One sentence for people."""
    owner: str = ""
    """Who answers for the model: a team or an address."""


@dataclass(frozen=True, kw_only=True)
class ObjectStore:
    __pydantic_config__ = EDGE
    endpoint: str | None = None
    """The S3 endpoint's URL; without one, AWS_ENDPOINT_URL or AWS itself. Credentials come from the environment."""
    region: str | None = None
    """The S3 region."""


@dataclass(frozen=True, kw_only=True)
class Target:
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
    __pydantic_config__ = EDGE
    bad_rows: Share = 0.01
    """The share of quarantined rows, in any one period, past which the update stops."""


@dataclass(frozen=True, kw_only=True)
class Split:
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
    __pydantic_config__ = EDGE
    drop: tuple[str, ...] = ()
    """Columns that are dropped before anything is written."""
    hash: tuple[str, ...] = ()
    """Columns whose values are replaced by a keyed hash (BLAKE2b) before anything is written."""
    key: str = "UPKEEP_PRIVACY_KEY"
    """The environment variable that holds the key."""


@dataclass(frozen=True, kw_only=True)
class Data:
    __pydantic_config__ = EDGE
    source: str
    """A file, a folder or an s3:// address: CSV (plain or gzip) or Parquet, with or without ``period=…`` folders."""
    target: Target
    features: Features
    period: Literal["day", "week", "month", "quarter", "year"] | None = None
    """The unit that data arrives in. Without ``period=…`` folders it is cut from ``time``; without ``time``, each
    file is a period, in the order of their names."""
    id: str | None = None
    """The column that names a row, the same wherever the row comes back."""
    time: str | None = None
    """The column that says when the row happened."""
    columns: dict[str, ColumnRule] = field(default_factory=dict)
    """What each column may hold; rows that do not keep to it are quarantined."""
    slices: tuple[str, ...] = ()
    """Columns whose values are the subgroups on which quality and fairness are also measured."""
    limits: Limits = Limits()
    split: Split = Split()
    privacy: Privacy = Privacy()
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """The delimiter of CSV files."""
    encoding: str = "utf-8"
    """The encoding of CSV files."""


@dataclass(frozen=True, kw_only=True)
class Outliers:
    __pydantic_config__ = EDGE
    method: Literal["none", "quantile", "iqr", "isolation_forest"] = "none"
    """How an outlier is told: outside two quantiles; beyond ``factor`` interquartile ranges of the quartiles; by an
    isolation forest over the numeric columns. Fitted on training rows."""
    action: Literal["clip", "drop", "flag"] = "clip"
    """``clip`` to the fence (not for isolation_forest); ``drop`` from training only; ``flag`` as a feature."""
    quantiles: tuple[Share, Share] = (0.001, 0.999)
    factor: Annotated[float, Gt(0)] = 3.0
    contamination: Annotated[float, Gt(0), Lt(0.5)] = 0.01
    """The share that an isolation forest calls outliers."""


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    __pydantic_config__ = EDGE
    outliers: Outliers = Outliers()
    impute_numeric: Literal["median", "mean", "zero", "none"] = "median"
    """``none`` leaves nulls to an estimator that takes them (HistGradientBoosting does)."""
    impute_categorical: Literal["missing", "most_frequent"] = "missing"
    """``missing`` makes null a category of its own."""
    scale: Literal["standard", "robust", "min_max", "none"] = "standard"
    encode: Literal["auto", "one_hot", "ordinal"] = "auto"
    """``auto``: ordinal for trees, one_hot otherwise."""
    max_categories: Annotated[int, Ge(2)] = 200
    """The rest of a column's categories share one place, with those never seen in training."""
    dates: tuple[Literal["hour", "day", "day_of_week", "day_of_year", "month", "year"], ...] = (
        "hour",
        "day_of_week",
        "day_of_year",
    )


@dataclass(frozen=True, kw_only=True)
class DriftThresholds:
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
    __pydantic_config__ = EDGE
    thresholds: DriftThresholds = DriftThresholds()
    false_discovery_rate: Annotated[float, Gt(0), Lt(1)] = 0.05
    """Benjamini–Hochberg's level over all columns."""
    min_rows: Annotated[int, Ge(2)] = 200
    """Fewer rows on either side: ``insufficient``."""
    persist: Annotated[int, Ge(1)] = 1
    """A column drifts when it did so for this many periods in a row."""
    exact_ks: bool = False
    """Kolmogorov–Smirnov over all values, in memory, not over the profile's bins."""
    classifier_rows: Annotated[int, Ge(0)] = 20_000
    """Rows of each side that the two-sample classifier learns from; 0 turns it off."""


SearchRange = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    __pydantic_config__ = EDGE
    low: float | None = None
    high: float | None = None
    log: bool = False
    """Search on a logarithmic scale."""
    integer: bool = False
    choices: tuple[Any, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Search:
    __pydantic_config__ = EDGE
    space: dict[str, SearchSpace]
    """What is searched: a parameter of the estimator, and its range or choices."""
    trials: Annotated[int, Ge(1)] = 20
    seconds: Annotated[float, Gt(0)] = 600
    folds: Annotated[int, Ge(2)] = 3
    """Cross-validation folds; whole periods where there are that many."""


@dataclass(frozen=True, kw_only=True)
class Retrain:
    """Train anew, on all training rows or on a window of periods."""

    __pydantic_config__ = EDGE
    name: Name
    strategy: Literal["retrain"]
    estimator: str
    """A scikit-learn classifier's import path."""
    params: dict[str, Any] = field(default_factory=dict)
    window: Annotated[int, Ge(1)] | None = None
    """Only the newest N periods."""
    search: Search | None = None


@dataclass(frozen=True, kw_only=True)
class Incremental:
    """Go on with ``partial_fit`` from where this candidate last stood."""

    __pydantic_config__ = EDGE
    name: Name
    strategy: Literal["incremental"]
    estimator: str
    """A scikit-learn classifier's import path; it must have ``partial_fit``."""
    params: dict[str, Any] = field(default_factory=dict)
    rehearsal: Share = 0.2
    """Old rows mixed in, as a share of the new rows."""
    epochs: Annotated[int, Ge(1)] = 5
    batch_rows: Annotated[int, Ge(1)] = 1000


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Vote or stack other candidates; ``champion`` may be a member."""

    __pydantic_config__ = EDGE
    name: Name
    strategy: Literal["ensemble"]
    members: Annotated[tuple[str, ...], MinLen(2)]
    """Names of other candidates, or ``champion``."""
    method: Literal["soft_vote", "stacking"] = "soft_vote"
    weights: tuple[Annotated[float, Gt(0)], ...] | None = None
    """Weights of a soft vote, in the order of the members."""


@dataclass(frozen=True, kw_only=True)
class Custom:
    """Your own function makes the estimator; it is held to the same contract."""

    __pydantic_config__ = EDGE
    name: Name
    strategy: Literal["custom"]
    function: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    """``package.module:function``; called with a TrainingTask, returns a fitted scikit-learn estimator."""
    params: dict[str, Any] = field(default_factory=dict)


Candidate = Annotated[Retrain | Incremental | Ensemble | Custom, Field(discriminator="strategy")]
MetricName = Literal["accuracy", "precision", "recall", "f1", "roc_auc", "log_loss"]


@dataclass(frozen=True, kw_only=True)
class Better:
    __pydantic_config__ = EDGE
    metric: MetricName = "f1"
    by: Annotated[float, Ge(0)] = 0.0
    """The least difference of the estimates, in the metric's own unit, in the better direction."""
    confidence: Annotated[float, _Share, Gt(0.5), Lt(1)] = 0.95
    """The difference's interval at this level must lie above zero."""


@dataclass(frozen=True, kw_only=True)
class OldRows:
    __pydantic_config__ = EDGE
    worse_by_at_most: Annotated[float, _Share, Ge(0)] = 0.02
    """How much worse than the champion, at most, on held-out rows of the periods the champion learned from."""


@dataclass(frozen=True, kw_only=True)
class SliceRule:
    __pydantic_config__ = EDGE
    worse_by_at_most: Annotated[float, _Share, Ge(0)] = 0.05
    """Fails a slice that is worse than the champion by more, beyond doubt (the interval's better end too)."""
    min_rows: Annotated[int, Ge(1)] = 100
    """Smaller slices are listed as insufficient."""


@dataclass(frozen=True, kw_only=True)
class Fairness:
    __pydantic_config__ = EDGE
    column: str
    """One of ``data.slices``."""
    demographic_parity_difference: Share | None = None
    equalized_odds_difference: Share | None = None
    equal_opportunity_difference: Share | None = None
    min_rows: Annotated[int, Ge(1)] = 100
    """A group needs this many rows (and, for a rate among positives, as many positives ÷ 5) to be judged."""
    not_worse_than_champion: bool = False
    """Judge the change against the champion, not the value: for a model that is unfair already."""


@dataclass(frozen=True, kw_only=True)
class Budgets:
    __pydantic_config__ = EDGE
    latency_ms: Annotated[float, Gt(0)] | None = None
    """The 95th percentile of answering one row, in milliseconds."""
    size_mb: Annotated[float, Gt(0)] | None = None


@dataclass(frozen=True, kw_only=True)
class Gate:
    __pydantic_config__ = EDGE
    better: Better = Better()
    at_least: dict[MetricName, float] = field(default_factory=dict)
    """Values the candidate itself must reach on the held-out rows (for log_loss: at most)."""
    old: OldRows = OldRows()
    slices: SliceRule = SliceRule()
    fairness: tuple[Fairness, ...] = ()
    budgets: Budgets = Budgets()
    min_rows: Annotated[int, Ge(1)] = 200
    """Fewer held-out rows newer than the champion: ``insufficient``."""
    resamples: Annotated[int, Ge(200)] = 2000
    """Bootstrap resamples."""


@dataclass(frozen=True, kw_only=True)
class Serving:
    __pydantic_config__ = EDGE
    namespace: Name = "models"
    traffic: Literal["route", "canary", "knative"] = "route"
    """The traffic driver."""
    host: str = ""
    """The host of the model's route; the default is ``<name>.<namespace>.example``."""
    gateway: str = "kserve/kserve-ingress-gateway"
    """The Gateway the route hangs on: ``namespace/name``."""
    runtime: str = "upkeep-server"
    """The ServingRuntime that loads the model."""
    service_account: str = "upkeep-server"
    min_replicas: Annotated[int, Ge(1)] = 1
    max_replicas: Annotated[int, Ge(1)] = 3
    resources: dict[str, str] = field(default_factory=lambda: {"cpu": "500m", "memory": "1Gi"})


@dataclass(frozen=True, kw_only=True)
class Margin:
    __pydantic_config__ = EDGE
    errors: Share = 0.005
    accuracy: Share = 0.02


@dataclass(frozen=True, kw_only=True)
class Rollout:
    __pydantic_config__ = EDGE
    repository: str = ""
    """The Git repository that is applied: a path or a URL. The default is a bare one beside the local store."""
    branch: str = "main"
    path: str = ""
    """The model's folder in the repository; the default is ``models/<name>``."""
    steps: tuple[Share, ...] = (0.05, 0.25, 0.5)
    """The canary's shares of the traffic, rising."""
    margin: Margin = Margin()


@dataclass(frozen=True, kw_only=True)
class UpdateWhen:
    __pydantic_config__ = EDGE
    schedule: str = ""
    """Five-field cron."""
    decay: str = ""
    """``2 of 3 days``."""


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    __pydantic_config__ = EDGE
    labels: str = ""
    """Where labels arrive later: a folder or an s3:// address."""
    update_when: UpdateWhen = UpdateWhen()


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One model: its data, candidates, gate, rollout and monitoring."""

    __pydantic_config__ = EDGE
    metadata: Metadata
    data: Data
    candidates: Annotated[tuple[Candidate, ...], MinLen(1)]
    api_version: Annotated[Literal["upkeep.dev/v1alpha1"], Field(alias="apiVersion")] = "upkeep.dev/v1alpha1"
    kind: Literal["Model"] = "Model"
    store: str = ".upkeep"
    """The object store: a folder or ``s3://bucket/prefix``."""
    object_store: ObjectStore = ObjectStore()
    preprocess: Preprocess = Preprocess()
    drift: Drift = Drift()
    gate: Gate = Gate()
    serving: Serving = Serving()
    rollout: Rollout = Rollout()
    monitoring: Monitoring = Monitoring()
    estimators: tuple[str, ...] = ()
    """Import paths allowed as estimators, and when a model is loaded, beyond scikit-learn's own."""
    seed: int = 0
    """The seed of everything random."""

    @property
    def name(self) -> str:
        return self.metadata.name
