"""The JSON Schema accepts what load() accepts, and the reference page is what the code says."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from upkeep.spec import schema
from upkeep.spec.load import SAFE_INTEGER, parse

jsonschema = pytest.importorskip("jsonschema")

ROOT = Path(__file__).parents[3]
FULL_TEXT = (Path(__file__).parent / "full.yaml").read_text()
FULL: dict[str, Any] = yaml.safe_load(FULL_TEXT)
FULL["candidates"][1]["params"]["alpha"] = 1e-4  # PyYAML reads YAML 1.1


@pytest.fixture(scope="module")
def validator() -> Any:
    made = schema.json_schema()
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


def loads(document: Any) -> bool:
    """Whether load() takes the document; JSON is YAML."""
    return parse(json.dumps(document).encode(), "upkeep.yaml").spec is not None


def test_the_schema_says_what_it_is() -> None:
    made = schema.json_schema()
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert made["$id"] == schema.SCHEMA_ID
    assert made["title"] == "upkeep.yaml"
    made["title"] = "changed"
    assert schema.json_schema()["title"] == "upkeep.yaml"


def test_the_example_is_valid_and_is_read(validator: Any) -> None:
    assert parse(FULL_TEXT.encode(), "full.yaml").spec is not None
    assert list(validator.iter_errors(FULL)) == []


def test_every_key_has_a_description() -> None:
    for path, node in schema._sections(schema._schema(), ""):
        for key, each in node["properties"].items():
            assert each.get("description"), f"{path}.{key} has no docstring in upkeep/spec/model.py"


EDITS: list[tuple[tuple[Any, ...], Any, bool]] = [
    (("seed",), 3, True),
    (("seed",), "3", False),
    (("seed",), True, False),
    (("apiVersion",), "upkeep.dev/v2", False),
    (("api_version",), "upkeep.dev/v1alpha1", False),
    (("metadata", "name"), "Flights", False),
    (("metadata", "name"), "a" * 41, False),
    (("data", "target", "positive"), 1, True),
    (("data", "target", "positive"), "late", True),
    (("data", "target", "positive"), 1.5, False),
    (("data", "target", "positive"), None, True),
    (("data", "features", "numeric"), "distance", False),
    (("data", "limits", "bad_rows"), "1 %", True),
    (("data", "limits", "bad_rows"), 1.5, False),
    (("data", "limits", "bad_rows"), "100.1%", False),
    (("data", "delimiter"), ";;", False),
    (("data", "columns"), {"distance": {"min": 0, "max": 10.5}}, True),
    (("data", "columns"), {"distance": {"minimum": 0}}, False),
    (("preprocess", "outliers", "contamination"), "50%", False),
    (("preprocess", "outliers", "contamination"), "0.0%", False),
    (("preprocess", "outliers", "contamination"), "49.9%", True),
    (("preprocess", "outliers", "quantiles"), [0.1, "99%"], True),
    (("preprocess", "outliers", "quantiles"), [0.1], False),
    (("drift", "false_discovery_rate"), "5%", True),
    (("drift", "false_discovery_rate"), "100%", False),
    (("drift",), None, False),
    (("candidates",), [], False),
    (("candidates", 0, "strategy"), "retrian", False),
    (("candidates", 0, "window"), 0, False),
    (("candidates", 0, "rehearsal"), 0.2, False),
    (("candidates", 1, "rehearsal"), "20%", True),
    (("candidates", 2, "members"), ["boosting"], False),
    (("candidates", 0, "search"), {"space": {"max_depth": {"low": 1, "high": 9}}}, True),
    (("candidates", 0, "search"), {"trials": 3}, False),
    (("gate", "better", "confidence"), "50%", False),
    (("gate", "better", "confidence"), "50.01%", True),
    (("gate", "better", "confidence"), 0.5, False),
    (("gate", "at_least"), {"recal": 0.5}, False),
    (("gate", "at_least"), {"recall": "55%"}, True),
    (("gate", "fairness"), [{"column": "origin"}, {"column": "carrier"}], True),
    (("gate", "fairness"), {}, False),
    (("gate", "fairness"), "origin", False),
    (("gate", "slices", "worse_by_at_most"), "250%", True),
    (("explain", "rows"), 0, False),
    (("explain", "steps"), 3, False),
    (("explain",), {"gradients": False}, True),
    (("explain", "curves"), "10s", True),
    (("explain", "curves"), 0, True),
    (("explain", "curves"), -1, False),
    (("explain", "curves"), False, False),
    (("gate", "forgetting"), 0.02, True),
    (("gate", "forgetting"), {"worse_by_at_most": "2%", "min_rows": 50}, True),
    (("gate", "forgetting"), {"min_rows": 50}, False),
    (("gate", "forgetting"), -0.1, False),
    (("gate", "forgetting"), True, False),
    (("gate", "forgetting"), "a little", False),
    (("serving", "resources"), {"cpu": 1}, False),
    (("rollout", "steps"), ["5%", 0.25], True),
    (("monitoring", "update_when", "schedule"), 3, False),
]


@pytest.mark.parametrize(("path", "value", "good"), EDITS, ids=[f"{edit[0][-1]}={edit[1]}"[:40] for edit in EDITS])
def test_schema_and_load_agree(validator: Any, path: tuple[Any, ...], value: Any, good: bool) -> None:
    document = edited(path, value)
    assert loads(document) is good
    assert validator.is_valid(document) is good


def edited(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    document = copy.deepcopy(FULL)
    above: Any = document
    for part in path[:-1]:
        above = above[part]
    above[path[-1]] = value
    return document


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


WORDS = st.sampled_from(
    ["20%", "0.5 %", "60%", "101%", "%", "", "retrain", "day", "f1", "models", "a.b:c", "-1%", "column"]
)
NUMBERS = st.sampled_from([0, 1, -1, 2, 40, 0.5, 0.7, 1.5, -0.1, 1e300, SAFE_INTEGER])
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.sampled_from(["low", "min"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(st.sampled_from(places(FULL)), ANYTHING)
@settings(max_examples=150)
def test_schema_and_load_agree_on_any_edit(validator: Any, path: tuple[Any, ...], value: Any) -> None:
    document = edited(path, value)
    assert loads(document) == validator.is_valid(document)


@given(st.sampled_from(places(FULL)), st.text(alphabet="abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8))
@settings(max_examples=50)
def test_schema_and_load_agree_on_any_added_key(validator: Any, path: tuple[Any, ...], key: str) -> None:
    document = copy.deepcopy(FULL)
    above: Any = document
    for part in path:
        above = above[part] if isinstance(above[part], dict | list) else above
    if isinstance(above, dict):
        above.setdefault(key, {})
    assert loads(document) == validator.is_valid(document)


def test_keys_are_found_where_they_belong() -> None:
    assert "window" in schema.keys_at(("candidates", 0), FULL)
    assert "window" not in schema.keys_at(("candidates", 1), FULL)
    assert schema.keys_at(("gate", "fairness"), FULL)[0] == "column"
    assert "unknown" in schema.keys_at(("data", "columns", "any name"), FULL)
    assert schema.keys_at(("candidates", 0, "params"), FULL) == ()
    assert schema.sections_with("held_out") == ("data.split",)


def test_the_committed_reference_page_is_what_the_code_says() -> None:
    page = ROOT / "docs" / "reference" / "upkeep-yaml.md"
    assert page.read_text(encoding="utf-8") == schema.reference(), "write upkeep.spec.schema.reference() to the page"


def test_the_reference_names_types_and_defaults() -> None:
    page = schema.reference()
    assert "| `held_out` | share | `0.2` | The share of keys that no training ever sees. |" in page
    assert "## `candidates[] (incremental)`" in page
    assert "## `data.columns.<name>`" in page
    assert "| `confidence` | share > 0.5, < 1 | `0.95` |" in page
    assert "| `bad_rows` | share | `0.01` |" in page
    assert "| `checkpoint` | duration ≥ 0 | `300` |" in page
    assert "| `keep` | duration ≥ 0 | `2592000` |" in page
