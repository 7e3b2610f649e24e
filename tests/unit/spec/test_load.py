"""upkeep.yaml is read whole or refused with every problem, each at its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from upkeep import records
from upkeep.errors import IntegrityError, SpecError
from upkeep.spec import model
from upkeep.spec.load import canonical, dotted, from_canonical, load, parse, plain_scalar, resolve

MINIMAL = """\
metadata: {name: flights}
data:
  source: data
  target: {column: delayed, positive: true}
  features: {numeric: [distance]}
candidates:
  - {name: boosting, strategy: retrain, estimator: sklearn.ensemble.HistGradientBoostingClassifier}
"""
FULL = (Path(__file__).parent / "full.yaml").read_text()


def spec_of(text: str) -> model.ModelSpec:
    parsed = parse(text.encode(), "upkeep.yaml")
    assert parsed.spec is not None, "\n".join(map(str, parsed.problems))
    return parsed.spec


def problems_of(text: str | bytes) -> list[Any]:
    data = text if isinstance(text, bytes) else text.encode()
    try:
        parsed = parse(data, "upkeep.yaml")
    except SpecError as error:
        return list(error.problems)
    assert parsed.spec is None
    return list(parsed.problems)


def test_a_minimal_spec_gets_the_defaults() -> None:
    spec = spec_of(MINIMAL)
    assert spec.name == "flights"
    assert spec.store == ".upkeep"
    assert spec.data.split.held_out == 0.2
    assert spec.candidates[0].strategy == "retrain"


def test_a_full_spec_is_read_as_written() -> None:
    spec = spec_of(FULL)
    assert spec.data.limits.bad_rows == 0.01
    assert spec.rollout.steps == (0.05, 0.25, 0.5)
    assert spec.gate.better.confidence == 0.95
    assert spec.gate.fairness[0].column == "origin"
    assert spec.monitoring.update_when.decay == "2 of 3 days"
    assert spec.candidates[1].params == {"loss": "log_loss", "alpha": 1e-4}  # type: ignore[union-attr]


def test_one_fairness_rule_and_a_list_of_one_are_the_same() -> None:
    one = "gate: {fairness: {column: origin, equalized_odds_difference: 10%}}\n"
    many = "gate: {fairness: [{column: origin, equalized_odds_difference: 0.1}]}\n"
    assert spec_of(MINIMAL + one) == spec_of(MINIMAL + many)


def test_what_of_a_network_learns_may_be_a_list() -> None:
    network = "  - {{name: network, strategy: fine_tune, train: {}}}\n"
    told = {"all": "all", "layers": "{layers: [a, b]}", "lora": "{lora: {layers: [query]}}"}
    trains = {name: spec_of(MINIMAL + network.format(train)).candidates[1].train for name, train in told.items()}  # type: ignore[union-attr]
    assert trains["all"] == model.TrainedLayers()
    assert trains["layers"].layers == ("a", "b")
    assert trains["lora"].lora == model.Lora(layers=("query",))


@pytest.mark.parametrize(
    ("written", "share"),
    [
        ("0.2", 0.2),
        ("20%", 0.2),
        ("20 %", 0.2),
        ('" 20% "', 0.2),
        ("0.7%", 0.007),
        (".5%", 0.005),
        ("100%", 1.0),
        ("1", 1.0),
    ],
)
def test_shares_are_numbers_or_percentages(written: str, share: float) -> None:
    assert spec_of(MINIMAL + f"rollout: {{steps: [{written}]}}\n").rollout.steps == (share,)


@pytest.mark.parametrize(
    "written", ["20", "-0.1", "101%", "-1%", '"0.2"', "20%%", "2o%", "nan%", ".nan", ".inf", "true", "[1]", ""]
)
def test_other_shares_are_refused(written: str) -> None:
    (problem,) = problems_of(MINIMAL + f"drift: {{}}\npreprocess:\n  outliers:\n    contamination: {written}\n")
    assert problem.where.field == "preprocess.outliers.contamination"
    assert (problem.where.line, problem.where.column) == (11, 5)
    assert problem.fix


def test_yaml_is_read_by_the_rules_of_1_2() -> None:
    text = MINIMAL.replace("positive: true", "positive: no, classes: [no, yes]")
    assert spec_of(text).data.target.classes == ("no", "yes")
    assert [plain_scalar(each) for each in ("1e-4", "2013-01-01", "12:30:00", "0o17", "010", "~", "TRUE", "1_000")] == [
        1e-4, "2013-01-01", "12:30:00", 15, 10, None, True, "1_000"
    ]  # fmt: skip


CASES = [
    ("metadata: {nmae: a}", "metadata.nmae", "is not a key of `metadata`", "did you mean `name`?"),
    ("store: 12", "store", "must be text, and is 12", 'quote it: `store: "12"`'),
    ("seed: '1'", "seed", "must be a whole number", "write it without quotes: `seed: 1`"),
    ("seed: 1.5", "seed", "must be a whole number, and is 1.5", ""),
    ("seed: 123456789012345678901234567890", "seed", "does not fit 64 bits", ""),
    ("drift: {exact_ks: yes}", "drift.exact_ks", "must be true or false", "write `exact_ks: true`"),
    ("drift: {thresholds: {ks: 1}}", "drift.thresholds.ks", "must be more than 0 and less than 1, and is 1", ""),
    ("drift:", "drift", "is empty; it must be a mapping", "remove the key"),
    ("estimators: a.b", "estimators", "must be a list", "write it as a list: `estimators: [a.b]`"),
    ("api_version: upkeep.dev/v1alpha1", "api_version", "is not a key", "did you mean `apiVersion`?"),
    ("slices: [a]", "slices", "is not a key of the spec", "`slices` belongs under `data`"),
    ("preprocess: {scale: standrad}", "preprocess.scale", 'cannot be the text "standrad"', "did you mean `standard`?"),
    ("preprocess: {outliers: {quantiles: [0.1]}}", "preprocess.outliers.quantiles[1]", "too few items", ""),
    ("gate: {at_least: {recal: 0.5}}", "gate.at_least.recal", "is not a key", "did you mean `recall`?"),
    ("gate: {better: {confidence: 95}}", "gate.better.confidence", "and is 95", "did you mean `confidence: 95%`?"),
    ("rollout: {steps: [5]}", "rollout.steps[0]", "at most 1, and is 5", "did you mean `steps[0]: 5%`?"),
    ("gate: {fairness: {colum: a}}", "gate.fairness.colum", "is not a key", "did you mean `column`?"),
    ("serving: {resources: {cpu: 1}}", "serving.resources.cpu", "must be text", 'quote it: `cpu: "1"`'),
    ("store: a\nstore: b", "store", "is here twice; it was set in line 8", "remove one"),
    ("store: !!python/name:os.system x", "store", "is not allowed", "remove the tag"),
    ("<<: {store: a}", "<<", "merge key", "write the keys out"),
    ('store: "\\ud800"', "store", "half a character", ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "field", "message", "fix"), CASES, ids=[case[0][:30] for case in CASES])
def test_each_problem_has_its_place_a_plain_sentence_and_a_fix(text: str, field: str, message: str, fix: str) -> None:
    whole = MINIMAL.replace("metadata: {name: flights}", text) if text.startswith("metadata") else MINIMAL + text + "\n"
    (problem,) = problems_of(whole)
    assert problem.where.field == field
    assert problem.where.file == "upkeep.yaml"
    assert message in problem.message
    assert fix in problem.fix
    assert problem.fix
    # The place is that of the key itself, or of the list's item.
    line = whole.splitlines()[problem.where.line - 1][problem.where.column - 1 :]
    assert line.startswith(field.rsplit(".", 1)[-1].split("[", maxsplit=1)[0]) or "[" in field


def test_every_problem_comes_at_once_in_the_order_of_the_file() -> None:
    text = (
        "metadata: {name: Flights}\n"
        "data: {source: 1, targt: {column: y}, features: {numbers: [a]}}\n"
        "candidates: []\n"
        "foo: 1\n"
    )
    fields = [problem.where.field for problem in problems_of(text)]
    assert fields == ["metadata.name", "data.source", "data.targt", "data.features.numbers", "candidates", "foo"]


def test_a_misspelt_required_key_is_told_once() -> None:
    (problem,) = problems_of(MINIMAL.replace("target:", "tagret:"))
    assert problem.where.field == "data.tagret"
    assert problem.fix == "did you mean `target`?"


def test_a_missing_key_is_told_at_its_section_with_its_meaning() -> None:
    (problem,) = problems_of(MINIMAL.replace("  source: data\n", ""))
    assert problem.message == "`data` lacks `source`"
    assert (problem.where.line, problem.where.column, problem.where.field) == (2, 1, "data.source")
    assert "A file, a folder or an s3:// address" in problem.fix


def test_candidates_are_judged_by_their_strategy() -> None:
    text = MINIMAL + (
        "  - {name: a, strategy: retrian, estimator: x.y}\n"
        "  - {name: b}\n"
        "  - 5\n"
        "  - {name: c, strategy: ensemble, members: [a]}\n"
        "  - {name: d, strategy: incremental, estimator: x.y, window: 3}\n"
        "  - {name: e, strategy: custom, function: foo}\n"
    )
    told = {problem.where.field: problem for problem in problems_of(text)}
    assert told["candidates[1]"].fix == "did you mean `retrain`?"
    assert "says no `strategy`" in told["candidates[2]"].message
    assert "must be a mapping" in told["candidates[3]"].message
    assert "at least 2 items" in told["candidates[4].members"].message
    assert "is not a key of `candidates[5]`" in told["candidates[5].window"].message
    assert "package.module:function" in told["candidates[6].function"].message
    assert len(told) == 6


BROKEN = [
    (b"", "empty", (1, 1)),
    (b"# only a comment\n", "empty", (1, 1)),
    (b"- a\n- b\n", "this is a list", (1, 1)),
    (b"just text\n", "this is plain text", (1, 1)),
    (b"a: b: c\n", "not valid YAML", (1, 5)),
    (b"a: [1, 2\nb: 3\n", "not valid YAML", (2, 2)),
    (b"a:\n\t- 1\n", "not valid YAML", (2, 1)),
    (b"a: *b\n", "not valid YAML", (1, 4)),
    (b"a: 1\n---\na: 2\n", "not valid YAML", (2, 1)),
    (b"a: 1\nname: caf\xe9\n", "not UTF-8", (2, 10)),
    (b"\xff\xfea\x00:\x00", "UTF-16", (1, 1)),
    (b"a: \x07\n", "U+0007", (1, 4)),
    (b"a: &a [*a]\n", "endless", (1, 4)),
    (b"[" * 5000, "nested too deep", (None, None)),
    (b"x" * (1 << 20) + b"x", "", (None, None)),
    (b"PAR1\x15\x04\x15\x00", "may not stand in YAML", (1, 5)),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message", "place"), BROKEN, ids=[repr(each[0][:12]) for each in BROKEN])
def test_a_file_that_is_no_mapping_is_refused(
    tmp_path: Path, data: bytes, message: str, place: tuple[int | None, int | None]
) -> None:
    path = tmp_path / "upkeep.yaml"
    path.write_bytes(data)
    with pytest.raises(SpecError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert message in problem.message
    assert (problem.where.line, problem.where.column) == place
    assert problem.where.file == str(path)
    assert problem.fix


def test_aliases_are_followed_but_not_without_end() -> None:
    assert spec_of(MINIMAL.replace("[distance]", "&f [distance]") + "estimators: *f\n").estimators == ("distance",)
    bomb = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{after}: &{after} [{','.join(['*' + before] * 10)}]\n"
        for before, after in zip("abcdef", "bcdefg", strict=True)
    )
    (problem,) = problems_of(bomb)
    assert "very large" in problem.message


def test_what_cannot_be_opened_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match="a folder"):
        load(tmp_path)
    file = tmp_path / "upkeep.yaml"
    file.write_text(MINIMAL)
    with pytest.raises(SpecError, match="a file, not a folder"):
        load(file / "upkeep.yaml")


def test_a_denied_file_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    file = tmp_path / "upkeep.yaml"
    file.write_text(MINIMAL)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SpecError, match="no permission"):
        load(file)


# --- paths


def test_relative_paths_start_from_the_file(tmp_path: Path) -> None:
    text = MINIMAL.replace("source: data", "source: ../data") + "monitoring: {labels: labels}\n"
    spec = resolve(spec_of(text), tmp_path / "models")
    assert spec.data.source == str(tmp_path / "data")
    assert spec.monitoring.labels == str(tmp_path / "models" / "labels")
    assert spec.store == str(tmp_path / "models" / ".upkeep")
    assert spec.rollout.repository == str(tmp_path / "models" / ".upkeep" / "flights" / "releases.git")
    assert spec.rollout.path == "models/flights"
    assert spec.data.split.salt == "flights"
    assert resolve(spec, "/elsewhere") == spec


@pytest.mark.parametrize(
    "address",
    [
        "s3://bucket/x",
        "https://git.example.com/m.git",
        "ssh://git@host/m.git",
        "git@host:m.git",
        "file:///m.git",
        "/abs",
    ],
)
def test_addresses_stay_as_they_are(address: str) -> None:
    spec = spec_of(MINIMAL + f"rollout: {{repository: '{address}'}}\n")
    assert resolve(spec, "/somewhere").rollout.repository == address


def test_a_store_in_s3_needs_a_repository() -> None:
    with pytest.raises(SpecError, match="no default place for the Git repository"):
        resolve(spec_of(MINIMAL + "store: s3://bucket\n"), "/x")
    spec = spec_of(MINIMAL + "store: s3://bucket/\nrollout: {repository: releases}\n")
    assert resolve(spec, "/x").store == "s3://bucket/"
    local = spec_of(MINIMAL + "store: file:///a%20b\n")
    assert resolve(local, "/x").rollout.repository == "/a b/flights/releases.git"


# --- canonical form

LABELS = st.one_of(st.text(max_size=5), st.booleans(), st.integers(-(10**6), 10**6))
NAMES = st.from_regex(r"\A[a-z][-a-z0-9]{0,8}[a-z0-9]\Z")
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FINITE | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
PARAMS = st.dictionaries(st.text(max_size=8), JSON, max_size=3)
SHARES = st.floats(0, 1)
CANDIDATES = st.one_of(
    st.builds(
        model.Retrain, name=NAMES, strategy=st.just("retrain"), estimator=st.text(), params=PARAMS,
        search=st.none() | st.builds(model.Search, space=st.dictionaries(st.text(max_size=4), st.builds(
            model.SearchSpace, choices=st.none() | st.lists(JSON, max_size=3).map(tuple)), max_size=2)),
    ),
    st.builds(model.Incremental, name=NAMES, strategy=st.just("incremental"), estimator=st.text(), params=PARAMS,
              rehearsal=SHARES),
    st.builds(model.FineTune, name=NAMES, strategy=st.just("fine_tune"), base=st.sampled_from(["", "champion", "/b"]),
              network=st.none() | st.builds(model.Network, hidden=st.lists(st.integers(1, 9), max_size=3).map(tuple)),
              train=st.builds(model.TrainedLayers, last=st.none() | st.integers(1, 9),
                              lora=st.none() | st.builds(model.Lora)),
              early_stopping=st.none() | st.builds(model.EarlyStopping), rehearsal=SHARES),
    st.builds(model.Ensemble, name=NAMES, strategy=st.just("ensemble"), members=st.tuples(NAMES, NAMES),
              weights=st.none() | st.tuples(st.floats(0.1, 9), st.floats(0.1, 9))),
    st.builds(model.Custom, name=NAMES, strategy=st.just("custom"), function=st.just("a.b:c"), params=PARAMS),
)  # fmt: skip
SPECS = st.builds(
    model.ModelSpec,
    metadata=st.builds(model.Metadata, name=NAMES),
    data=st.builds(
        model.Data,
        source=st.text(),
        target=st.builds(
            model.Target,
            column=st.text(),
            positive=st.none() | LABELS,
            classes=st.none() | st.lists(LABELS, max_size=3).map(tuple),
        ),
        features=st.builds(model.Features, numeric=st.lists(st.text(max_size=5), max_size=3).map(tuple)),
        columns=st.dictionaries(
            st.text(max_size=5),
            st.builds(
                model.ColumnRule,
                min=st.none() | st.floats(allow_nan=False, allow_infinity=False),
                values=st.none() | st.lists(LABELS, max_size=3).map(tuple),
            ),
            max_size=2,
        ),
        limits=st.builds(model.Limits, bad_rows=SHARES),
        split=st.builds(model.Split, group=st.none() | st.text(max_size=4), held_out=SHARES, salt=st.text(max_size=4)),
    ),
    candidates=st.lists(CANDIDATES, min_size=1, max_size=3).map(tuple),
    gate=st.builds(
        model.Gate,
        at_least=st.dictionaries(st.sampled_from(["recall", "f1"]), SHARES),
        fairness=st.lists(st.builds(model.Fairness, column=st.text()), max_size=2).map(tuple),
    ),
    rollout=st.builds(model.Rollout, steps=st.lists(SHARES, max_size=3).map(tuple)),
    seed=st.integers(0, 2**63),
)


@given(SPECS)
@settings(max_examples=60)
def test_the_canonical_form_is_read_back_as_the_same_spec(spec: model.ModelSpec) -> None:
    data = canonical(spec)
    again = from_canonical(data, "spec")
    assert again == spec
    assert canonical(again) == data  # 1, 1.0 and True are equal, but not the same bytes


def test_the_canonical_form_does_not_depend_on_how_the_file_is_laid_out() -> None:
    document = yaml.safe_load(MINIMAL)
    shuffled = yaml.safe_dump(dict(reversed(document.items())), default_flow_style=True)
    assert records.digest(canonical(spec_of(shuffled))) == records.digest(canonical(spec_of(MINIMAL)))


def test_where_it_runs_is_no_part_of_what_it_is_made_of() -> None:
    moved = MINIMAL + "kubeflow: {steps: {train: {memory: 16Gi}}}\n"
    assert spec_of(moved) != spec_of(MINIMAL)
    assert canonical(spec_of(moved)) == canonical(spec_of(MINIMAL))


def test_a_broken_canonical_form_is_an_integrity_error() -> None:
    with pytest.raises(IntegrityError, match="where it is"):
        from_canonical(b"{}", "where it is")


# --- nothing but SpecError


@given(st.one_of(st.binary(max_size=80), st.text(alphabet="ab:-[]{}&*!#%'\"\n \t~|>?,0.", max_size=60).map(str.encode)))
@settings(max_examples=200)
def test_any_bytes_are_refused_in_words(data: bytes) -> None:
    problems = problems_of(data)
    assert problems
    assert all(problem.message and problem.fix and problem.where.file for problem in problems)


def test_dotted_paths() -> None:
    assert dotted(("candidates", 0, "params", "C")) == "candidates[0].params.C"
