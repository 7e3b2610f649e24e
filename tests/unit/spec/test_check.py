"""The rules between keys: each case breaks one, and is told at its place."""

# ruff: noqa: E501  (a table of cases reads best with one case a line)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from upkeep.errors import Problem, SpecError
from upkeep.spec.check import check, load_checked, load_with_warnings, parse_decay
from upkeep.spec.load import parse

FULL_TEXT = (Path(__file__).parent / "full.yaml").read_text()
KEY = {"UPKEEP_PRIVACY_KEY": "0123456789abcdef"}


def found(text: str, environ: dict[str, str] | None = None, *, imports: bool = False) -> list[Problem]:
    parsed = parse(text.encode(), "upkeep.yaml")
    assert parsed.spec is not None, "\n".join(map(str, parsed.problems))
    return check(parsed.spec, parsed.positions, environ or {}, imports=imports)


def spec(**sections: Any) -> str:
    """A small good spec, its sections merged with ``sections`` (two levels deep)."""
    document: dict[str, Any] = {
        "metadata": {"name": "flights"},
        "data": {
            "source": "data",
            "id": "flight_id",
            "time": "departure",
            "target": {"column": "delayed", "positive": True},
            "features": {"numeric": ["distance", "hour"], "categorical": ["carrier", "origin"]},
            "slices": ["origin"],
        },
        "candidates": [candidate("boosting")],
    }
    for name, value in sections.items():
        if isinstance(value, dict):
            document[name] = {**document.get(name, {}), **value}
        else:
            document[name] = value
    return yaml.safe_dump(document, sort_keys=False)


def candidate(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "strategy": "retrain",
        "estimator": "sklearn.ensemble.HistGradientBoostingClassifier",
        **more,
    }


def ensemble(name: str, *members: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "strategy": "ensemble", "members": list(members), **more}


def target(**more: Any) -> dict[str, Any]:
    return {"target": {"column": "delayed", **more}}


def features(numeric: list[str], categorical: list[str] | None = None, **more: Any) -> dict[str, Any]:
    return {"features": {"numeric": numeric, "categorical": categorical or [], **more}}


def search(**space: Any) -> list[dict[str, Any]]:
    return [candidate("boosting", search={"space": {"max_depth": space} if space else {}})]


def network(**more: Any) -> dict[str, Any]:
    return {"candidates": [{"name": "net", "strategy": "fine_tune", **more}]}


def test_good_specs_have_no_problem() -> None:
    assert found(FULL_TEXT) == []
    assert found(spec()) == []
    for train in ("all", {"lora": {"layers": ["query"]}}, {"layers": ["hidden"]}, {"last": 2}):
        assert found(spec(**network(base="champion", train=train))) == []
    for step in ("train", "train net"):
        assert found(spec(**network(devices="workers"), kubeflow={"steps": {step: {"workers": 2}}})) == []
    limits = [{"metric": name, "at_least": 0.5} for name in ("accuracy", "precision", "recall", "f1")]
    rollout = {"margin": {"precision": 0.1, "recall": 0.1}, "thresholds": limits}
    assert found(spec(rollout=rollout, monitoring={"labels": "x"})) == []


CASES: list[tuple[str, dict[str, Any], str, str]] = [
    # what is wrong, the sections, the key it is told at, a part of the message
    ("the cluster's name", {"metadata": {"name": "cluster"}}, "metadata.name", "serves on one machine"),
    ("name like a version", {"metadata": {"name": "flights-v2"}}, "metadata.name", "ends like a version"),
    ("scheme", {"store": "gs://bucket"}, "store", "gs:// is no address"),
    ("no bucket", {"data": {"source": "s3:///x"}}, "data.source", "names no bucket"),
    ("empty source", {"data": {"source": ""}}, "data.source", "is empty"),
    ("endpoint", {"object_store": {"endpoint": "localhost:9000"}}, "object_store.endpoint", "is no URL"),
    ("no repository", {"store": "s3://bucket"}, "rollout.repository", "no default place"),
    ("password for Git", {"rollout": {"repository": "https://a:s3cr3t@git.example.com/a.git"}}, "rollout.repository",
     "holds a password"),
    ("token for Git", {"rollout": {"repository": "https://ghp_0123456789abcdef@github.com/a/a.git"}},
     "rollout.repository", "or a token"),
    ("long token for Git", {"rollout": {"repository": f"https://{'0a' * 20}@git.example.com/a.git"}},
     "rollout.repository", "or a token"),
    ("password for S3", {"object_store": {"endpoint": "http://a:s3cr3t@127.0.0.1:9000"}}, "object_store.endpoint",
     "holds a password"),
    ("password for KFP", {"kubeflow": {"endpoint": "http://a:s3cr3t@127.0.0.1:8888"}}, "kubeflow.endpoint",
     "holds a password"),
    ("password for a webhook", {"rollout": {"webhooks": [{"url": "https://a:s3cr3t@example.com/"}]}},
     "rollout.webhooks[0].url", "holds a password"),
    ("path outside", {"rollout": {"path": "../x"}}, "rollout.path", "does not stay inside"),
    ("encoding", {"data": {"encoding": "uft-8"}}, "data.encoding", "there is no encoding 'uft-8'"),
    ("delimiter", {"data": {"delimiter": '"'}}, "data.delimiter", "cannot be cut"),
    ("target as feature", {"data": features(["distance", "delayed"])}, "data.features.numeric[1]", "read the answer"),
    ("target as id", {"data": {"id": "delayed"}}, "data.id", "cannot be the id as well"),
    ("target as time", {"data": {"time": "delayed"}}, "data.time", "cannot be the time as well"),
    ("target as group", {"data": {"split": {"group": "delayed"}}}, "data.split.group", "cannot be the group"),
    ("target as slice", {"data": {"slices": ["delayed"]}}, "data.slices[0]", "the same label"),
    ("target dropped", {"data": {"privacy": {"drop": ["delayed"]}}}, "data.privacy.drop[0]", "cannot be dropped"),
    ("target hashed", {"data": {"privacy": {"hash": ["delayed"]}}}, "data.privacy.hash[0]", "cannot be hashed"),
    ("one class", {"data": target(classes=["a"])}, "data.target.classes", "two classes at least"),
    ("class twice", {"data": target(classes=["a", "b", "a"])}, "data.target.classes[2]", "is there twice"),
    ("classes mixed", {"data": target(classes=["a", 1])}, "data.target.classes", "mix numbers and text"),
    ("positive unknown", {"data": target(classes=["a", "b"], positive="c")}, "data.target.positive", "none of"),
    ("positive of another type", {"data": target(classes=[0, 1], positive=True)}, "data.target.positive", "(it is true"),
    ("positive of three", {"data": target(classes=[0, 1, 2], positive=1)}, "data.target.positive", "for two classes"),
    ("no features", {"data": {"features": {}}}, "data.features", "no features"),
    ("feature twice", {"data": features(["distance"], ["distance", "origin"])}, "data.features.categorical[0]", "twice"),
    ("time as number", {"data": features(["departure"], ["origin"])}, "data.features.numeric[0]", "is the time"),
    ("id and time", {"data": {"id": "departure"}}, "data.id", "both the id and the time"),
    ("no date parts", {"data": features(["hour"], ["origin"], datetime=["departure"]), "preprocess": {"dates": []}},
     "preprocess.dates", "no part of a date"),
    ("empty name", {"data": features([" "], ["origin"])}, "data.features.numeric[0]", "name is empty"),
    ("reserved name", {"data": features(["_row"], ["origin"])}, "data.features.numeric[0]", "begin with _"),
    ("slice twice", {"data": {"slices": ["origin", "origin"]}}, "data.slices[1]", "is in `slices` twice"),
    ("feature dropped", {"data": {"privacy": {"drop": ["carrier"]}}}, "data.privacy.drop[0]", "cannot be a feature"),
    ("id dropped", {"data": {"privacy": {"drop": ["flight_id"]}}}, "data.privacy.drop[0]", "cannot be the id"),
    ("number hashed", {"data": {"privacy": {"hash": ["hour"]}}}, "data.privacy.hash[0]", "used as a number"),
    ("dropped and hashed", {"data": {"privacy": {"drop": ["x"], "hash": ["x"]}}}, "data.privacy.drop[0]", "both dropped"),
    ("rule for nothing", {"data": {"columns": {"distanc": {"min": 0}}}}, "data.columns.distanc", "nothing uses"),
    ("min of text", {"data": {"columns": {"origin": {"min": 0}}}}, "data.columns.origin.min", "no numeric feature"),
    ("min above max", {"data": {"columns": {"hour": {"min": 9, "max": 1}}}}, "data.columns.hour", "above max"),
    ("values of a number", {"data": {"columns": {"hour": {"values": [1]}}}}, "data.columns.hour.values", "no categories"),
    ("values of the target", {"data": {"columns": {"delayed": {"values": [True]}}}}, "data.columns.delayed.values",
     "listed elsewhere"),
    ("no values", {"data": {"columns": {"origin": {"values": []}}}}, "data.columns.origin.values", "is empty"),
    ("unknown of nothing", {"data": {"columns": {"origin": {"unknown": "quarantine"}}}}, "data.columns.origin.unknown",
     "no category is known"),
    ("group without time", {"data": {"time": None, "split": {"group": "day"}}}, "data.split.group", "need a time"),
    ("nothing held out", {"data": {"split": {"held_out": 0}}}, "data.split.held_out", "nothing could be judged"),
    ("all held out", {"data": {"split": {"held_out": 1}}}, "data.split.held_out", "nothing to train"),
    ("all validation", {"data": {"split": {"validation": "100%"}}}, "data.split.validation", "nothing to train on"),
    ("no validation", {"data": {"split": {"validation": 0}}, "candidates": [candidate("a"), candidate("b")]},
     "data.split.validation", "the best is chosen"),
    ("clip a forest", {"preprocess": {"outliers": {"method": "isolation_forest"}}}, "preprocess.outliers.action", "no fence"),
    ("quantiles", {"preprocess": {"outliers": {"quantiles": [0.9, 0.1]}}}, "preprocess.outliers.quantiles", "must rise"),
    ("same names", {"candidates": [candidate("a"), candidate("a")]}, "candidates[1].name", "two candidates"),
    ("called champion", {"candidates": [candidate("champion")]}, "candidates[0].name", "serving model"),
    ("unknown member", {"candidates": [candidate("boosting"), ensemble("vote", "champion", "bosting")]},
     "candidates[1].members[1]", "there is no candidate bosting"),
    ("member of itself", {"candidates": [candidate("a"), ensemble("vote", "a", "vote")]}, "candidates[1].members[1]", "itself"),
    ("member twice", {"candidates": [candidate("a"), ensemble("vote", "a", "a")]}, "candidates[1].members[1]", "twice"),
    ("weights", {"candidates": [candidate("a"), ensemble("vote", "a", "champion", weights=[1.0])]},
     "candidates[1].weights", "1 weights for 2 members"),
    ("stacking's weights", {"candidates": [candidate("a"), ensemble("v", "a", "champion", method="stacking", weights=[1.0, 2.0])]},
     "candidates[1].weights", "learns its weights"),
    ("short estimator", {"candidates": [candidate("a", estimator="LogisticRegression")]}, "candidates[0].estimator", "import path"),
    ("foreign estimator", {"candidates": [candidate("a", estimator="xgboost.XGBClassifier")]}, "candidates[0].estimator",
     "is not allowed"),
    ("odd estimator", {"estimators": ["nothing"]}, "estimators[0]", "no import path"),
    ("low and high", {"candidates": search(low=5.0, high=5.0)}, "candidates[0].search.space.max_depth", "not below"),
    ("log", {"candidates": search(low=0.0, high=5.0, log=True)}, "candidates[0].search.space.max_depth", "logarithmic"),
    ("choices and range", {"candidates": search(low=0.0, choices=[1, 2])}, "candidates[0].search.space.max_depth", "both a range"),
    ("no range", {"candidates": search(low=0.0)}, "candidates[0].search.space.max_depth", "neither a whole range"),
    ("empty choices", {"candidates": search(choices=[])}, "candidates[0].search.space.max_depth", "choices is empty"),
    ("log choices", {"candidates": search(choices=[1], log=True)}, "candidates[0].search.space.max_depth", "for a range"),
    ("integer", {"candidates": search(low=0.5, high=3.0, integer=True)}, "candidates[0].search.space.max_depth", "whole numbers"),
    ("base not pinned", network(base="base.keras"), "candidates[0].base", "not pinned"),
    ("base in h5", network(base="base.h5", digest="a" * 64), "candidates[0].base", "never opened"),
    ("base's scheme", network(base="https://x/base.keras", digest="a" * 64), "candidates[0].base", "no address"),
    ("no base to pin", network(digest="a" * 64), "candidates[0].digest", "nothing to pin"),
    ("champion pinned", network(base="champion", digest="a" * 64), "candidates[0].digest", "nothing to pin"),
    ("no digest", network(base="base.keras", digest="abc"), "candidates[0].digest", "no SHA-256"),
    ("base and network", network(base="b.keras", digest="a" * 64, network={}), "candidates[0].network", "no network from nothing"),
    ("text without preset", network(base="champion", text="carrier"), "candidates[0].text", "only a KerasHub preset"),
    ("no text", network(base="b", digest="a" * 64, text="carier"), "candidates[0].text", "no categorical feature"),
    ("train twice", network(base="champion", train={"last": 1, "lora": {}}), "candidates[0].train", "different things"),
    ("frozen start", network(train={"last": 1}), "candidates[0].train", "must learn whole"),
    ("unfreeze adapters", network(base="champion", train={"lora": {}}, unfreeze=2), "candidates[0].unfreeze", "nothing to unfreeze"),
    ("added to nothing", network(new_features="add"), "candidates[0].new_features", "takes every column"),
    ("delta of everything", network(base="champion", keep="delta"), "candidates[0].keep", "everything learns"),
    ("adam's momentum", network(optimizer={"momentum": 0.9}), "candidates[0].optimizer.momentum", "no momentum"),
    ("network's search", network(search={"space": {"optimizer.rat": {"low": 0.1, "high": 1.0}}}), "candidates[0].search.space.optimizer.rat", "nothing that a network"),
    ("forest in a network", {**network(), "preprocess": {"outliers": {"method": "isolation_forest", "action": "flag"}}}, "candidates[0].strategy", "inside a network"),
    ("nothing to search", {"candidates": search()}, "candidates[0].search.space", "nothing to search"),
    ("custom", {"candidates": [{"name": "a", "strategy": "custom", "function": "a..b:c"}]}, "candidates[0].function", "import path"),
    ("at least too much", {"gate": {"at_least": {"recall": 55.0}}}, "gate.at_least.recall", "never above 1"),
    ("better by too much", {"gate": {"better": {"by": 1}}}, "gate.better.by", "lies between 0 and 1"),
    ("forgetting where nothing old stays held out",
     {"data": {"split": {"method": "prequential"}}, "gate": {"forgetting": 0.02}},
     "gate.forgetting", "old periods have no rows that stay held out"),
    ("fairness of no slice", {"gate": {"fairness": {"column": "orign", "equalized_odds_difference": 0.1}}},
     "gate.fairness[0].column", "not among the slices"),
    ("fairness of nothing", {"gate": {"fairness": {"column": "origin"}}}, "gate.fairness[0]", "sets no limit"),
    ("fairness without positive", {"data": target(), "gate": {"fairness": {"column": "origin", "equalized_odds_difference": 0.1}}},
     "gate.fairness[0]", "get the positive class"),
    ("fairness of three", {"data": target(classes=[0, 1, 2]),
                           "gate": {"fairness": {"column": "origin", "equalized_odds_difference": 0.1}}},
     "gate.fairness[0]", "for two classes"),
    ("replicas", {"serving": {"min_replicas": 5}}, "serving.min_replicas", "above max_replicas"),
    ("gateway", {"serving": {"gateway": "kserve"}}, "serving.gateway", "namespace/name"),
    ("no step", {"rollout": {"steps": []}}, "rollout.steps", "all traffic as soon as it is ready"),
    ("step 0", {"rollout": {"steps": [0, 0.5]}}, "rollout.steps[0]", "not between 0% and 100%"),
    ("step 1", {"rollout": {"steps": [0.5, 1]}}, "rollout.steps[1]", "not between 0% and 100%"),
    ("steps fall", {"rollout": {"steps": [0.5, 0.5]}}, "rollout.steps[1]", "must rise"),
    ("limit on recall without labels", {"rollout": {"thresholds": [{"metric": "recall", "at_least": 0.5}]}},
     "rollout.thresholds[0].metric", "needs labels"),
    ("limit on f1 without a class", {"data": target(), "monitoring": {"labels": "x"},
                                     "rollout": {"thresholds": [{"metric": "f1", "at_least": 0.5}]}},
     "rollout.thresholds[0].metric", "that of one class"),
    ("float16 on several devices", network(devices="all", precision="mixed_float16"), "candidates[0].precision", "one device alone"),
    ("a search of several workers", network(devices="workers", search={"space": {"epochs": {"choices": [1, 2]}}}), "candidates[0].search", "cannot search together"),
    ("workers of nobody", {**network(), "kubeflow": {"steps": {"train": {"workers": 2}}}}, "kubeflow.steps.train.workers", "nothing else"),
    ("workers of another step", {**network(devices="workers"), "kubeflow": {"steps": {"all": {"workers": 2}}}}, "kubeflow.steps.all.workers", "nothing else"),
    ("precision without labels", {"rollout": {"margin": {"precision": 0.1}}}, "rollout.margin.precision", "needs labels"),
    ("recall without a class", {"data": target(classes=["a", "b", "c"]), "monitoring": {"labels": "x"},
                                "rollout": {"margin": {"recall": 0.1}}},
     "rollout.margin.recall", "that of one class"),
    ("predictions without a log", {"monitoring": {"payloads": {"log": False}}, "rollout": {"margin": {"predictions": 0.1}}},
     "rollout.margin.predictions", "payloads.log` is off"),
    ("cron", {"monitoring": {"update_when": {"schedule": "0 0 3 * * *"}}}, "monitoring.update_when.schedule", "6 fields"),
    ("decay", {"monitoring": {"labels": "x", "update_when": {"decay": "4 of 3 days"}}}, "monitoring.update_when.decay",
     "can never happen"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sections", "field", "message"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_each_rule_is_told_at_its_key(sections: dict[str, Any], field: str, message: str) -> None:
    errors = [problem for problem in found(spec(**sections), KEY) if problem.severity == "error"]
    told = [problem for problem in errors if problem.where.field == field and message in problem.message]
    assert len(told) == 1, "\n".join(map(str, errors))
    assert errors == told, "a rule should not be told twice"
    assert told[0].where.line is not None
    assert told[0].fix


WARNINGS: list[tuple[str, dict[str, Any], str, str]] = [
    ("workers without a number", network(devices="workers"), "candidates[0].devices", "two workers train it"),
    ("id as feature", {"data": features(["hour"], ["flight_id", "origin"])}, "data.features.categorical[0]", "learn rows by heart"),
    ("no id, no group", {"data": {"id": None}}, "data.split", "content decides whether it is held out"),
    ("hash of nothing", {"data": {"privacy": {"hash": ["name"]}}}, "data.privacy.hash[0]", "used by nothing"),
    ("outliers of nothing", {"data": features([], ["origin"]), "preprocess": {"outliers": {"method": "iqr"}}},
     "preprocess.outliers", "there are none"),
    ("persist", {"data": {"time": None}, "drift": {"persist": 2}}, "drift.persist", "each file counts as one"),
    ("searched and set", {"candidates": [candidate("a", params={"max_depth": 3},
                                                   search={"space": {"max_depth": {"choices": [1, 2]}}})]},
     "candidates[0].search.space.max_depth", "set in `params` too"),
    ("macro F1", {"data": target(classes=[0, 1])}, "data.target", "the mean over both"),
    ("decay without labels", {"monitoring": {"update_when": {"decay": "1 of 1 day"}}}, "monitoring.update_when.decay",
     "where they arrive"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sections", "field", "message"), [case[1:] for case in WARNINGS], ids=[case[0] for case in WARNINGS]
)
def test_warnings_are_not_errors(sections: dict[str, Any], field: str, message: str) -> None:
    (problem,) = found(spec(**sections), KEY)
    assert problem.severity == "warning"
    assert problem.where.field == field
    assert message in problem.message


KUBEFLOW: list[tuple[dict[str, Any], str, str]] = [
    ({"steps": {"trian": {}}}, "kubeflow.steps.trian", "there is no step 'trian'"),
    ({"steps": {"train nobody": {}}}, "kubeflow.steps.train nobody", "there is no step"),
    ({"secrets": [{"name": "s"}]}, "kubeflow.secrets[0]", "nothing is taken from the secret s"),
    ({"env": {"A": "1"}, "secrets": [{"name": "s", "env": {"A": "a"}}]}, "kubeflow.secrets[0].env.A", "A twice"),
    ({"env": {"UPKEEP_RUN": "1"}}, "kubeflow.env.UPKEEP_RUN", "the steps' own"),
    ({"env": {"UPKEEP_PRIVACY_KEY": "1"}}, "kubeflow.env.UPKEEP_PRIVACY_KEY", "stands here in plain text"),
    ({"env": {"AWS_SECRET_ACCESS_KEY": "1"}}, "kubeflow.env.AWS_SECRET_ACCESS_KEY", "stands here in plain text"),
    ({"env": {"UPKEEP_GIT_TOKEN": "1"}}, "kubeflow.env.UPKEEP_GIT_TOKEN", "stands here in plain text"),
    (
        {"steps": {"all": {"tolerations": [{"key": "gpu", "operator": "Exists", "value": "a"}]}}},
        "kubeflow.steps.all.tolerations[0]",
        "takes any value",
    ),
    ({"steps": {"all": {"tolerations": [{}]}}}, "kubeflow.steps.all.tolerations[0]", "without a key"),
]


@pytest.mark.parametrize(("kubeflow", "field", "message"), KUBEFLOW, ids=[field for _, field, _ in KUBEFLOW])
def test_what_runs_on_kubeflow_is_held_to_its_rules(kubeflow: dict[str, Any], field: str, message: str) -> None:
    problems = found(spec(kubeflow=kubeflow))
    assert [(problem.where.field, problem.severity) for problem in problems] == [(field, "error")]
    assert message in problems[0].message


def test_a_hashing_key_that_only_kubeflow_has_lets_submit_go_on() -> None:
    secrets = [{"name": "privacy", "env": {"UPKEEP_PRIVACY_KEY": "key"}}]
    (problem,) = found(spec(data={"privacy": {"hash": ["carrier"]}}, kubeflow={"secrets": secrets}))
    assert (problem.severity, problem.where.field) == ("warning", "data.privacy.hash")
    assert "only steps on Kubeflow have UPKEEP_PRIVACY_KEY" in problem.message


def test_a_hashing_key_that_reaches_no_step_is_told() -> None:
    privacy = {"privacy": {"hash": ["tail"]}}
    kubeflow = {"secrets": [{"name": "store", "env": {"AWS_ACCESS_KEY_ID": "id"}}]}
    text = spec(data=privacy, kubeflow=kubeflow)
    told = [p for p in found(text, {"UPKEEP_PRIVACY_KEY": "k" * 32}) if p.where.field.startswith("kubeflow")]
    assert [(p.severity, p.where.field) for p in told] == [("warning", "kubeflow.secrets")]


def test_members_of_one_another_are_found() -> None:
    circle = [candidate("a"), ensemble("x", "a", "y"), ensemble("y", "a", "z"), ensemble("z", "a", "x")]
    told = [problem.where.field for problem in found(spec(candidates=circle))]
    assert told == ["candidates[1].members[1]", "candidates[2].members[1]", "candidates[3].members[1]"]
    chain = [candidate("a"), ensemble("x", "a", "y"), ensemble("y", "a", "champion")]
    assert found(spec(candidates=chain)) == []


def test_a_hash_needs_its_key_from_the_environment() -> None:
    text = spec(data={"privacy": {"hash": ["carrier"], "key": "MY_KEY"}})
    (problem,) = found(text)
    assert "the environment has no MY_KEY" in problem.message
    assert problem.severity == "error"
    (problem,) = found(text, {"MY_KEY": "short"})
    assert problem.severity == "warning"
    assert found(text, {"MY_KEY": "x" * 32}) == []


def test_listed_estimators_are_allowed_and_never_imported() -> None:
    text = spec(candidates=[candidate("a", estimator="nowhere.to.be.Found")], estimators=["nowhere.to.be.Found"])
    assert found(text, imports=True) == []


@pytest.mark.parametrize(
    ("more", "field", "message", "fix"),
    [
        ({"estimator": "sklearn.ensemble.HistGradientBosting"}, "estimator", "scikit-learn has no", "did you mean"),
        ({"estimator": "sklearn.nowhere.Thing"}, "estimator", "scikit-learn has no", ""),
        ({"estimator": "sklearn.linear_model.LinearRegression"}, "estimator", "is no classifier", ""),
        ({"strategy": "incremental"}, "estimator", "has no partial_fit", "SGDClassifier"),
        ({"params": {"learning_rte": 0.1}}, "params.learning_rte", "has no parameter", "did you mean `learning_rate`?"),
        ({"search": {"space": {"depth": {"choices": [1]}}}}, "search.space.depth", "has no parameter", "max_depth"),
        ({"params": {"learning_rate": -1}}, "params.learning_rate", "in the range (0.0, inf). Got -1", "correct"),
    ],
)
def test_scikit_learn_is_asked(more: dict[str, Any], field: str, message: str, fix: str) -> None:
    text = spec(candidates=[candidate("a", **more)])
    assert found(text, imports=False) == []
    (problem,) = found(text, imports=True)
    assert problem.where.field == f"candidates[0].{field}"
    assert message in problem.message
    assert fix in problem.fix


def test_an_estimator_in_an_estimator_is_left_to_the_fit() -> None:
    inner = {"estimator": "sklearn.tree.DecisionTreeClassifier", "estimator__max_depth": -1}
    text = spec(candidates=[candidate("a", estimator="sklearn.ensemble.AdaBoostClassifier", params=inner)])
    assert found(text, imports=True) == []


def test_decay() -> None:
    assert parse_decay("2 of 3 days") == (2, 3, "day")
    assert parse_decay(" 1 of 1 month ") == (1, 1, "month")
    for text in ("", "2 of 3", "0 of 3 days", "4 of 3 days", "two of 3 days", "2 of 3 years ago"):
        with pytest.raises(ValueError, match=r"read like|never happen|always hold"):
            parse_decay(text)


# --- both looks together


def test_a_good_file_comes_back_resolved(tmp_path: Path) -> None:
    path = tmp_path / "upkeep.yaml"
    path.write_text(spec())
    loaded = load_checked(path, {})
    assert loaded.data.source == str(tmp_path / "data")
    again, warnings = load_with_warnings(path, {}, imports=False)
    assert (again, warnings) == (loaded, ())


def test_warnings_come_along_and_do_not_raise(tmp_path: Path) -> None:
    path = tmp_path / "upkeep.yaml"
    path.write_text(spec(data={"id": None}))
    _, (warning,) = load_with_warnings(path, {}, imports=False)
    assert warning.severity == "warning"
    load_checked(path, {})


def test_problems_of_both_looks_come_at_once(tmp_path: Path) -> None:
    path = tmp_path / "upkeep.yaml"
    path.write_text(
        "metadata: {name: flights-v2}\n"
        "data:\n"
        "  source: data\n"
        "  tiem: departure\n"  # misspelt; the split below must not complain of a missing time
        "  target: {column: delayed}\n"
        "  features: {numeric: [delayed]}\n"
        "  split: {group: day}\n"
        "drift: {persist: 0}\n"
        "rollout: {steps: [50%, 5%]}\n"
        "candidates:\n"
        "  - {name: a, strategy: retrain, estimator: LogisticRegression}\n"
    )
    with pytest.raises(SpecError) as caught:
        load_checked(path, {})
    assert [problem.where.field for problem in caught.value.problems] == [
        "metadata.name",
        "data.tiem",
        "data.features.numeric[0]",
        "drift.persist",
        "rollout.steps[1]",
        "candidates[0].estimator",
    ]
    assert all(problem.where.file == str(path) and problem.where.line for problem in caught.value.problems)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("length", "good"), [(1, True), (40, True), (41, False), (48, False), (63, False)])
def test_a_name_that_the_spec_takes_fits_kubernetes_labels(tmp_path: Path, length: int, good: bool) -> None:
    """The service is ``<name>-vNNN-predictor``, and KServe labels its pods ``isvc.<name>-vNNN-predictor``."""
    path = tmp_path / "upkeep.yaml"
    path.write_text(spec(metadata={"name": "m" * length}))
    if good:
        assert load_checked(path, {}).name == "m" * length
        assert len(f"isvc.{'m' * length}-v9999-predictor") <= 63
    else:
        with pytest.raises(SpecError, match="longer than 40") as caught:
            load_checked(path, {})
        assert caught.value.problems[0].where.field == "metadata.name"


def test_a_network_without_tensorflow_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "tensorflow" else object())
    (problem,) = found(spec(**network()), imports=True)
    assert (problem.where.field, problem.severity) == ("candidates[0].strategy", "error")
    assert problem.where.line
    assert problem.fix == "pip install 'upkeep[tensorflow]'"
    assert found(spec(**network())) == []  # a rollout needs no TensorFlow


def test_no_problem_repeats_the_secret_that_it_is_about() -> None:
    sections = {
        "rollout": {"repository": "https://a:s3cr3t@git.example.com/a.git"},
        "monitoring": {"prometheus": "http://a:s3cr3t@127.0.0.1:9090"},
    }
    problems = found(spec(**sections))
    assert [problem.severity for problem in problems] == ["error", "warning"]
    assert not any("s3cr3t" in str(problem) for problem in problems)


@pytest.mark.parametrize(
    "repository", ["https://git@git.example.com/a.git", "git@git.example.com:a/a.git", "ssh://git@git.example.com/a"]
)
def test_a_users_name_in_an_address_is_no_secret(repository: str) -> None:
    assert found(spec(rollout={"repository": repository})) == []


def test_where_a_token_stands_is_no_secret() -> None:
    env = {"KF_PIPELINES_SA_TOKEN_PATH": "/var/run/token", "AWS_WEB_IDENTITY_TOKEN_FILE": "/x", "TOKENS": "7"}
    assert found(spec(kubeflow={"env": env})) == []
