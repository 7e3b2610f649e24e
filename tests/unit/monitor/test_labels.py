"""Label files: every format, and every way in which a row or a file may be wrong."""

from __future__ import annotations

import gzip
import io
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.monitor.monitor_make import NOON
from upkeep.errors import InputError
from upkeep.monitor.labels import LabelRules, is_label_file, is_whole, parse_labels
from upkeep.store import Entry

RULES = LabelRules(id="loan", label="late", time="known", classes=(False, True))


def parquet(columns: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


CSV = b"loan,late,known\na,true,2026-03-01T12:00:00Z\n7,0,2026-03-02\n"
JSONL = (
    b'{"loan": "a", "late": true, "known": "2026-03-01T12:00:00Z"}\n\n{"loan": 7, "late": 0, "known": "2026-03-02"}\n'
)
PARQUET = parquet({"loan": ["a", "7"], "late": [True, False], "known": [NOON, NOON + timedelta(hours=12)]})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", CSV),
        ("a.CSV", CSV),
        ("a.csv.gz", gzip.compress(CSV, mtime=0)),
        ("a.jsonl", JSONL),
        ("a.ndjson", JSONL),
        ("a.jsonl.gz", gzip.compress(JSONL, mtime=0)),
        ("a.parquet", PARQUET),
    ],
)
def test_every_format_says_the_same(name: str, data: bytes) -> None:
    found = parse_labels(name, data, RULES)
    assert found.refused == {}
    assert found.rows.to_pylist() == [
        {"id": "a", "label": "true", "time": NOON},
        {"id": "7", "label": "false", "time": NOON + timedelta(hours=12)},
    ]


def test_without_a_time_column_the_file_counts() -> None:
    rules = LabelRules(id="loan", label="late", time="", classes=(False, True))
    assert parse_labels("a.csv", CSV, rules).rows.column("time").null_count == 2


@pytest.mark.parametrize(
    ("classes", "written", "text"),
    [((0, 1), "1", "1"), ((0, 1), "1.0", "1"), (("no", "yes"), "yes", "yes"), ((False, True), "TRUE", "true"),
     ((), "x", "x")],
)  # fmt: skip
def test_labels_are_of_the_models_classes(classes: Any, written: str, text: str) -> None:
    rules = LabelRules(id="loan", label="late", time="", classes=classes)
    found = parse_labels("a.csv", f"loan,late\na,{written}\n".encode(), rules)
    assert found.rows.column("label").to_pylist() == [text]


def test_bad_rows_are_refused_with_their_reason_and_the_others_count() -> None:
    data = (
        b"loan,late,known\n"
        b"a,true,2026-03-01\n"
        b",true,2026-03-01\n"  # no id
        b"b,,2026-03-01\n"  # no label
        b"c,maybe,2026-03-01\n"  # no label of the model
        b"d,2,2026-03-01\n"
        b"e,true,yesterday\n"
        b"f,true\n"  # torn
        b"g,true,2026-03-01,more\n"
    )
    found = parse_labels("a.csv", data, RULES)
    assert found.rows.column("id").to_pylist() == ["a"]
    assert found.refused == {
        "loan names no row": 1,
        "late is empty": 1,
        "late is no label of the model": 2,
        "known is no time": 1,
        "the row has 2 fields where the header has 3": 1,
        "the row has 4 fields where the header has 3": 1,
    }


def test_torn_and_odd_json_lines_are_refused() -> None:
    data = b'{"loan": "a", "late": true, "known": null}\n[1]\n{"loan": "b", "la\n{"loan": {"x": 1}, "late": [true]}\n'
    found = parse_labels("a.jsonl", data, RULES)
    assert found.rows.column("id").to_pylist() == ["a"]
    assert found.refused == {"the line is no JSON object": 2, "late is no label of the model": 1}


def test_a_file_in_another_encoding_and_with_a_mark() -> None:
    text = "loan,late,known\nä,true,2026-03-01\n"
    rules = LabelRules(id="loan", label="late", time="known", classes=(False, True), encoding="cp1252")
    assert parse_labels("a.csv", text.encode("cp1252"), rules).rows.column("id").to_pylist() == ["ä"]
    assert parse_labels("a.csv", text.encode("utf-8-sig"), RULES).rows.column("id").to_pylist() == ["ä"]


def test_nested_columns_are_refused() -> None:
    found = parse_labels("a.parquet", parquet({"loan": [["a"]], "late": [[True]], "known": [NOON]}), RULES)
    assert len(found.rows) == 0 and found.refused == {"loan names no row": 1}


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\xff\xfe\x00", "cannot be read|no column"),
        ("a.csv", b"id,label\na,1\n", "no column loan, late, known"),
        ("a.parquet", b"PAR1", "cannot be read"),
        ("a.parquet", PARQUET[:-9], "cannot be read"),
        ("a.csv.gz", gzip.compress(CSV, mtime=0)[:-9], "cannot be read"),
        ("a.csv.gz", CSV, "cannot be read"),
        ("a.jsonl", b"\n", "no column"),
        ("a.jsonl", b"nonsense\n", "no column"),
    ],
)
def test_bad_files_are_refused_in_words(name: str, data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_labels(name, data, RULES)


@settings(max_examples=150)
@given(
    name=st.sampled_from(["a.csv", "a.jsonl", "a.parquet", "a.csv.gz", "a.jsonl.gz"]),
    data=st.binary(max_size=80) | st.binary(max_size=60).map(lambda some: CSV + some) | st.binary().map(gzip.compress),
)
def test_no_bytes_break_the_reader(name: str, data: bytes) -> None:
    try:
        found = parse_labels(name, data, RULES)
    except InputError:
        return
    assert found.rows.column("id").null_count == found.rows.column("label").null_count == 0


def test_names_of_label_files() -> None:
    for name in ("a.csv", "period=1/a.parquet", "A.JSONL"):
        assert is_label_file(name)
    for name in ("a.txt", ".a.csv", "_temporary/a.csv", "a.csv.partial", "a.csv.tmp"):
        assert not is_label_file(name)


def test_a_file_is_whole_once_it_rests() -> None:
    def whole(data: bytes, seconds: float, seen: tuple[int, datetime, datetime] | None = None, size: int | None = None,
              name: str = "a.csv") -> bool:  # fmt: skip
        entry = Entry(name, len(data) if size is None else size, NOON)
        return is_whole(entry, data, seen=seen, now=NOON + timedelta(seconds=seconds))

    assert not whole(b"a\n", 1) and whole(b"a\n", 2)
    assert not whole(b"a\n", 100, size=1)  # it grew since it was listed
    assert not whole(b"a", 2) and whole(b"a", 60)  # it stops within a line
    assert whole(b"PAR1", 2, name="a.parquet")
    # its time lies in the future: what it was at an earlier look says it
    assert not whole(b"a\n", -50, seen=(2, NOON, NOON - timedelta(seconds=51)))
    assert whole(b"a\n", -50, seen=(2, NOON, NOON - timedelta(seconds=52)))
    assert not whole(b"a\n", -50, seen=(3, NOON, NOON - timedelta(seconds=99)))
