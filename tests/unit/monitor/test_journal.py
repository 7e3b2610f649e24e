"""Answers and labels meet: in any order, once, whatever breaks."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.monitor.monitor_make import (
    LATER,
    NOON,
    journal_of,
    lines,
    look,
    make_spec,
    row,
    write_labels,
    write_log,
)
from upkeep.errors import AccessError, ConflictError, OutsideError
from upkeep.monitor.journal import Journal, journal_path, open_journal
from upkeep.monitor.labels import label_rules
from upkeep.monitor.outcomes import Outcome, counts, coverage, outcomes, production, uneven_labels, wilson
from upkeep.monitor.payloads import sweep, wanted
from upkeep.spec.model import ModelSpec
from upkeep.store import open_store

MINUTE = timedelta(minutes=1)


def known(journal: Journal) -> list[tuple[str, str, str, str]]:
    found = journal.database.execute("SELECT key, version, predicted, label FROM outcomes ORDER BY ALL").fetchall()
    return [tuple(each) for each in found]


def seen(outcome: Outcome) -> tuple[str, str, str]:
    return outcome.version, outcome.predicted, outcome.label


def test_a_row_meets_its_label(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    write_log(tmp_path, lines("r1", [row("a"), row("b", region="south")], [True, False]))
    write_labels(tmp_path, [("a", "true", NOON + MINUTE), ("b", "1", NOON + 2 * MINUTE)])
    with journal_of(spec) as journal:
        assert look(journal, spec).answers.rows == 2
        first, second = outcomes(journal, slices=spec.data.slices)
        assert first.time == NOON and first.correct and not second.correct
        assert (first.slices, second.slices) == (("region=north",), ("region=south",))
        assert first.probability == 0.75 and first.version == "v1" and first.seq == 1
        assert first.unit == first.hash != second.hash
        assert outcomes(journal, after=1) == [second._replace(slices=())]
        assert outcomes(journal, versions=["v2"]) == [] and len(outcomes(journal, versions=["v1", "v2"])) == 2
        assert outcomes(journal, since=NOON + MINUTE) == []


def test_without_data_id_the_request_is_the_row(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, id=None)
    write_log(tmp_path, lines("r1", [row(None)], [True]) + lines("r2", [row(None), row(None)], [True, False]))
    labels = tmp_path / "labels" / "a.jsonl"
    labels.parent.mkdir()
    one, other = '{"request_id": "r1", "late": true, "known": "2026-03-02"}', '{"request_id": "r2/1", "late": false}'
    labels.write_text(f"{one}\n{other}\n")
    with journal_of(spec) as journal:
        look(journal, spec)
        assert known(journal) == [("r1", "v1", "true", "true"), ("r2/1", "v1", "false", "false")]


# --- laws ----------------------------------------------------------------------------------------------------------

LOANS = st.sampled_from("abc")
ANSWER = st.tuples(LOANS, st.sampled_from(["v1", "v2"]), st.booleans(), st.integers(0, 3))
LABEL = st.tuples(LOANS, st.booleans(), st.integers(0, 3))


def expected(answers: list[Any], labels: list[Any]) -> dict[tuple[str, str], tuple[bool, bool]]:
    """By definition: the earliest answer of a version to a row, and the row's earliest label."""
    first: dict[tuple[str, str], Any] = {}
    for place, (loan, version, said, minute) in enumerate(answers):
        key = (minute, f"r{place}")
        if (loan, version) not in first or key < first[loan, version][0]:
            first[loan, version] = (key, said)
    label: dict[str, Any] = {}
    for place, (loan, value, minute) in enumerate(labels):
        key = (minute, f"{place}.csv")
        if loan not in label or key < label[loan][0]:
            label[loan] = (key, value)
    return {key: (said, label[key[0]][1]) for key, (_, said) in first.items() if key[0] in label}


@settings(max_examples=12)
@given(data=st.data(), answers=st.lists(ANSWER, max_size=6), labels=st.lists(LABEL, max_size=5))
def test_the_order_of_arrival_never_matters(data: st.DataObject, answers: list[Any], labels: list[Any]) -> None:
    """Lines, files and looks in any order, by a journal that is closed and opened: the same table, nothing twice."""
    halves: list[tuple[str, Any]] = []
    for place, (loan, version, said, minute) in enumerate(answers):
        at = NOON + minute * timedelta(hours=1)
        both = lines(f"r{place}", [row(loan)], [said], at=at, version=version)
        halves += [("log", (each, at, version)) for each in both]
    halves += [("label", (place, each)) for place, each in enumerate(labels)]
    order = data.draw(st.permutations(halves))
    looks = data.draw(st.sets(st.integers(0, len(order)), max_size=2))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = make_spec(folder)
        numbers: list[Outcome] = []
        for step in range(len(order) + 1):
            if step in looks or step == len(order):
                with journal_of(spec, folder / "journal") as journal:
                    look(journal, spec)
                    numbers += outcomes(journal, after=len(numbers))
            if step < len(order):
                kind, what = order[step]
                if kind == "log":
                    line, at, version = what
                    write_log(folder, [line], at=at, name=version)
                else:
                    place, (loan, value, minute) = what
                    write_labels(folder, [(loan, str(value), NOON + minute * MINUTE)], f"{place}.csv")
        right_ones = expected(answers, labels)
        with journal_of(spec, folder / "journal") as journal:
            assert {(key, version) for key, version, _, _ in known(journal)} == set(right_ones)
            assert [each.seq for each in numbers] == list(range(1, len(right_ones) + 1))
            rows = production(journal, classes=(False, True), positive=True)
            right = {row.version: round((row.metrics["accuracy"] or 0) * row.labelled) for row in rows}
            for version in {key[1] for key in right_ones}:
                of_version = [said == label for (_, each), (said, label) in right_ones.items() if each == version]
                assert right[version] == sum(of_version)
        with journal_of(spec) as fresh:  # from nothing, at once: the same
            look(fresh, spec)
            answers_then = {(key, version): (said, label) for key, version, said, label in known(fresh)}
            assert answers_then == {
                key: (str(said).lower(), str(label).lower()) for key, (said, label) in right_ones.items()
            }


def test_the_same_bytes_under_another_name_are_read_once(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    write_log(tmp_path, lines("r1", [row("a")], [True]))
    first = write_labels(tmp_path, [("a", "true", NOON)])
    with journal_of(spec) as journal:
        assert look(journal, spec).label_files == 1
        (first.parent / "copy.csv").write_bytes(first.read_bytes())
        again = look(journal, spec)
        assert (again.label_files, again.labels) == (0, 0)
        assert len(outcomes(journal)) == 1


def test_a_growing_label_file_counts_each_label_once(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    write_log(tmp_path, lines("r1", [row("a"), row("b")], [True, True]))
    with journal_of(spec) as journal:
        write_labels(tmp_path, [("a", "true", NOON)])
        look(journal, spec)
        write_labels(tmp_path, [("a", "true", NOON), ("b", "false", NOON)])
        look(journal, spec)
        assert known(journal) == [("a", "v1", "true", "true"), ("b", "v1", "true", "false")]
        assert counts(journal, now=LATER).labels == 2


def test_a_revision_is_reported_and_changes_nothing(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    write_log(tmp_path, lines("r1", [row("a")], [True]))
    write_labels(tmp_path, [("a", "true", NOON)])
    with journal_of(spec) as journal:
        look(journal, spec)
        write_labels(tmp_path, [("a", "false", NOON + MINUTE)], "two.csv")
        look(journal, spec)
        assert known(journal) == [("a", "v1", "true", "true")]
        assert counts(journal, now=LATER).revised == 1
        assert production(journal, classes=(False, True), positive=True)[0].metrics["accuracy"] == 1.0


def test_a_label_may_come_before_its_request(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    write_labels(tmp_path, [("a", "true", NOON), ("never", "true", NOON)])
    with journal_of(spec) as journal:
        assert look(journal, spec).labels == 2
        assert counts(journal, now=LATER).unknown_ids == 2
        write_log(tmp_path, lines("r1", [row("a")], [True]))
        look(journal, spec)
        assert len(outcomes(journal)) == 1
        assert counts(journal, now=LATER).unknown_ids == 1


def test_a_row_asked_again_counts_once_a_version(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    some = lines("r1", [row("a")], [True]) + lines("r2", [row("a")], [False], at=NOON + MINUTE)
    write_log(tmp_path, some + lines("r3", [row("a")], [False], version="v2"))
    write_labels(tmp_path, [("a", "true", NOON)])
    with journal_of(spec) as journal:
        look(journal, spec)
        assert known(journal) == [("a", "v1", "true", "true"), ("a", "v2", "false", "true")]
        one, two = outcomes(journal)
        assert one.hash == two.hash
        assert counts(journal, now=LATER).repeated == 1


# --- bad days ------------------------------------------------------------------------------------------------------


def test_a_crash_between_two_looks_reads_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and marks go together: a look that breaks anywhere is repeated whole."""
    spec = make_spec(tmp_path)
    for number in range(5):
        write_log(tmp_path, lines(f"r{number}", [row(str(number))], [True]))
    write_labels(tmp_path, [(str(number), "true", NOON) for number in range(5)])
    monkeypatch.setattr("upkeep.monitor.payloads.BATCH_ROWS", 2)
    real = duckdb.DuckDBPyConnection

    class Breaks:
        """Runs so many statements, then dies."""

        def __init__(self, inner: Any, left: int) -> None:
            self.inner, self.left = inner, left

        def execute(self, *arguments: Any) -> Any:
            self.left -= 1
            if self.left < 0 and arguments[0] != "ROLLBACK":
                raise KeyboardInterrupt
            return self.inner.execute(*arguments)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    steps = 0
    while True:
        path = tmp_path / f"journal{steps}"
        done = False
        with journal_of(spec, path) as journal:
            assert isinstance(journal.database, real)
            journal.database = Breaks(journal.database, steps)
            try:
                look(journal, spec)
                done = True
            except KeyboardInterrupt:
                journal.database = journal.database.inner
        with journal_of(spec, path) as journal:
            look(journal, spec)
            assert journal.database.execute("SELECT count(*) FROM answers").fetchone() == (5,)
            assert [each.seq for each in outcomes(journal)] == [1, 2, 3, 4, 5]
        if done:
            break
        steps += 7
    assert steps > 20


def test_torn_lines_wait_and_nonsense_is_counted(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    request, response = lines("r1", [row("a")], [True])
    path = write_log(tmp_path, [request, b"nonsense\n", b"[1]\n", response[:50]])
    with journal_of(spec) as journal:
        found = look(journal, spec).answers
        assert (found.rows, found.unreadable, found.lines) == (0, 2, 3)
        with path.open("ab") as file:
            file.write(response[50:])
        assert look(journal, spec).answers.rows == 1
        path.write_bytes(path.read_bytes()[:-10])  # a full disk cut it
        assert look(journal, spec).answers.rows == 0


def test_bodies_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    write_log(tmp_path, lines("r1", [row("a"), row("b")], [True]))
    write_log(tmp_path, lines("r2", [row("c")], []))
    request, response = lines("r3", [row("d")], [True])
    write_log(tmp_path, [request.replace(b'"instances"', b'"odd"'), response])
    with journal_of(spec) as journal:
        found = look(journal, spec).answers
        assert found.unreadable == 2
        # its answer is known, its row is not: by the request's id
        assert journal.database.execute("SELECT _key, _by_id FROM answers").fetchall() == [("r3", False)]


def test_vanished_files_are_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec(tmp_path)
    path = write_log(tmp_path, lines("r1", [row("a")], [True]))
    labels = write_labels(tmp_path, [("a", "true", NOON)])
    monkeypatch.setattr("upkeep.monitor.journal.is_label_file", lambda _: not labels.unlink(missing_ok=True))
    with journal_of(spec) as journal:
        from upkeep.monitor import payloads

        listed = payloads.log_files

        def vanishing(*arguments: Any) -> Any:
            found = listed(*arguments)
            path.unlink(missing_ok=True)
            return found

        monkeypatch.setattr(payloads, "log_files", vanishing)
        found = look(journal, spec)
        assert (found.answers.rows, found.labels, found.problems) == (0, 0, ())


def test_no_folders_at_all(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    with journal_of(spec) as journal:
        assert look(journal, spec).answers.lines == 0
        assert production(journal, classes=(), positive=True) == () == coverage(journal)
        assert counts(journal, now=LATER).answers == 0


def test_a_half_written_label_file_is_left_for_later(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    write_log(tmp_path, lines("r1", [row("a")], [True]))
    path = write_labels(tmp_path, [("a", "true", NOON)])
    moment = datetime.fromtimestamp(path.stat().st_mtime, tz=NOON.tzinfo)
    with journal_of(spec) as journal:
        assert look(journal, spec, now=moment + timedelta(seconds=1)).waiting == ("one.csv",)
        assert look(journal, spec, now=moment + timedelta(seconds=3)).label_files == 1
        path.write_bytes(path.read_bytes() + b"b,tr")
        moment = datetime.fromtimestamp(path.stat().st_mtime, tz=NOON.tzinfo)
        assert look(journal, spec, now=moment + timedelta(seconds=30)).waiting == ("one.csv",)
        found = look(journal, spec, now=moment + timedelta(seconds=61))
        assert found.refused == {"the row has 2 fields where the header has 3": 1}


def test_a_file_of_the_future_is_taken_at_a_second_look(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    path = write_labels(tmp_path, [("a", "true", NOON)])
    os.utime(path, (LATER.timestamp(), LATER.timestamp()))
    with journal_of(spec) as journal:
        assert look(journal, spec, now=NOON).waiting == ("one.csv",)
        assert look(journal, spec, now=NOON + timedelta(seconds=1)).waiting == ("one.csv",)
        assert look(journal, spec, now=NOON + timedelta(seconds=3)).label_files == 1


def test_a_bad_label_file_is_told_at_every_look_until_it_changes(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    (tmp_path / "labels").mkdir()
    bad = tmp_path / "labels" / "bad.parquet"
    bad.write_bytes(b"PAR1 half")
    with journal_of(spec) as journal:
        for _ in range(2):
            (problem,) = look(journal, spec).problems
            assert problem.severity == "warning" and problem.where.file == str(bad)
            assert "cannot be read" in problem.message
        bad.unlink()
        assert look(journal, spec).problems == ()


def test_clock_skew_is_counted(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    write_log(tmp_path, lines("r1", [row("a")], [True]))
    write_labels(tmp_path, [("a", "true", NOON - timedelta(hours=1))])
    with journal_of(spec) as journal:
        look(journal, spec)
        found = counts(journal, now=NOON - timedelta(hours=2))
        assert (found.early, found.ahead) == (1, 1)
        found = counts(journal, now=LATER)
        assert (found.early, found.ahead) == (1, 0)


def test_another_layout_and_a_damaged_file_are_made_anew(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    write_log(tmp_path, lines("r1", [row("a")], [True]))
    path = tmp_path / "journal"
    epochs = set()
    for spoil in (lambda: None, lambda: path.write_bytes(b"nonsense" * 1000), lambda: None):
        with journal_of(spec, path) as journal:
            look(journal, spec)
            epochs.add(journal.epoch)
            assert journal.database.execute("SELECT count(*) FROM answers").fetchone() == (1,)
        spoil()
    assert len(epochs) == 2
    other = make_spec(tmp_path, id=None)
    with journal_of(other, path) as journal:
        look(journal, other)
        assert journal.epoch not in epochs
        assert journal.database.execute("SELECT _key FROM answers").fetchone() == ("r1",)


HOLDS = """
import sys, duckdb
held = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def test_another_process_is_waited_for_and_named(tmp_path: Path) -> None:
    spec, path = make_spec(tmp_path), tmp_path / "journal"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with (
            pytest.raises(ConflictError, match="another process"),
            open_journal(spec, wanted(spec), path, busy_seconds=0.0),
        ):
            pass
        assert other.stdin is not None
        other.stdin.close()
    with journal_of(spec, path) as journal:
        assert look(journal, spec).answers.lines == 0


def test_a_failing_database_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(OutsideError, match="could not be joined"), journal_of(make_spec(tmp_path)):
        raise duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate")


@pytest.mark.parametrize(
    ("text", "kind"),
    [("IO Error: Cannot open file: Permission denied", AccessError), ("IO Error: Read-only file system", AccessError),
     ("IO Error: No space left on device", OutsideError)],
)  # fmt: skip
def test_what_is_not_damaged_is_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, kind: type[Exception]
) -> None:
    path = tmp_path / "journal"
    path.write_text("kept")

    def refuse(*_: Any, **__: Any) -> Any:
        raise duckdb.IOException(text)

    monkeypatch.setattr(duckdb, "connect", refuse)
    with pytest.raises(kind), journal_of(make_spec(tmp_path), path):
        pass
    assert path.read_text() == "kept"


def test_an_object_store_serves_as_a_folder_does(tmp_path: Path) -> None:
    """There an object is whole from the moment it is there: no file waits to rest."""
    spec = make_spec(tmp_path)
    log, labels = open_store("memory://"), open_store("memory://")
    key = "date=2026-03-01/hour=12/one.jsonl"
    some = lines("r1", [row("a")], [True])
    log.put(key, some[0])
    labels.put("day=1/one.csv", b"loan,late,known\na,true,2026-03-01")
    rules = label_rules(spec, (False, True))
    with journal_of(spec) as journal:
        assert journal.look(log, labels, rules, now=NOON).labels == 1
        log.put(key, b"".join(some))
        assert journal.look(log, labels, rules, now=NOON).answers.rows == 1
        assert len(outcomes(journal)) == 1
    assert sweep(log, LATER, timedelta(days=1)) == (key,) and list(log.list()) == []


def test_forgetting_keeps_outcomes(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    write_log(tmp_path, lines("r1", [row("a")], [True]))
    write_labels(tmp_path, [("a", "true", NOON)])
    with journal_of(spec) as journal:
        look(journal, spec)
        assert journal.forget(NOON) == 0
        assert journal.forget(NOON + MINUTE) == 1
        look(journal, spec)
        (only,) = outcomes(journal, slices=["region"])
        assert only.slices == ("region=(null)",) and only.correct


def test_where_the_journal_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    spec = make_spec(tmp_path)
    assert journal_path(spec) == tmp_path / "store" / "loans" / "monitor" / "journal.duckdb"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    paths = {journal_path(replace(spec, store=f"s3://bucket/{name}")) for name in "ab"}
    assert len(paths) == 2 and all(path.parents[2] == tmp_path / "cache" for path in paths)


# --- figures -------------------------------------------------------------------------------------------------------


def many(folder: Path, labelled: dict[bool, int], spec: ModelSpec) -> None:
    """100 rows answered each way, of which so many have a label; all are right."""
    some, labels = [], []
    for said in (True, False):
        for number in range(100):
            loan = f"{said}-{number}"
            some += lines(loan, [row(loan, region="north" if number % 2 else "south")], [said],
                          at=NOON + number * timedelta(hours=1) * (not said))  # fmt: skip
            if number < labelled[said]:
                labels.append((loan, str(said), NOON + timedelta(days=1)))
    write_log(folder, some)
    write_labels(folder, labels)


def test_metrics_by_version_window_and_slice(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    many(tmp_path, {True: 60, False: 60}, spec)
    with journal_of(spec) as journal:
        look(journal, spec)
        (whole, *by_region) = production(journal, classes=(False, True), positive=True, slices=["region"])
        assert (whole.answered, whole.labelled, whole.coverage) == (200, 120, 0.6)
        assert whole.metrics == {"accuracy": 1.0, "precision": 1.0, "recall": 1.0, "f1": 1.0}
        assert {row.slice for row in by_region} == {"region=north", "region=south"}
        assert sum(row.answered for row in by_region) == 200
        days = production(journal, classes=(False, True), positive=True, window=timedelta(days=1))
        assert [row.start[:10] for row in days] == sorted((row.start[:10] for row in days), reverse=True)
        assert sum(row.answered for row in days) == 200
        assert days[-1].metrics["recall"] == 1.0 and days[0].metrics["recall"] is None
        assert production(journal, classes=(), positive=True, since=NOON + timedelta(days=30)) == ()
        assert uneven_labels(coverage(journal)) == ()


def test_an_interval_covers_the_truth(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    some, labels = [], []
    for number in range(200):
        some += lines(f"r{number}", [row(f"{number}")], [number % 3 == 0])
        labels.append((f"{number}", str(number % 4 != 0), NOON))
    write_log(tmp_path, some)
    write_labels(tmp_path, labels)
    with journal_of(spec) as journal:
        look(journal, spec)
        (only,) = production(journal, classes=(False, True), positive=True)
        said, label = [n % 3 == 0 for n in range(200)], [n % 4 != 0 for n in range(200)]
        hits = sum(s and t for s, t in zip(said, label, strict=True))
        assert only.metrics["precision"] == pytest.approx(hits / sum(said))
        assert only.metrics["recall"] == pytest.approx(hits / sum(label))
        assert only.metrics["f1"] == pytest.approx(2 * hits / (sum(said) + sum(label)))
        for name, interval in only.intervals.items():
            assert 0 <= interval.low < interval.estimate < interval.high <= 1, name
        assert set(only.intervals) == {"accuracy", "precision", "recall", "f1"}


@given(n=st.integers(1, 500), share=st.floats(0, 1))
def test_wilsons_interval_is_the_references(n: int, share: float) -> None:
    from statsmodels.stats.proportion import proportion_confint

    hits = round(n * share)
    found = wilson(hits, n)
    assert found is not None and found.low <= found.estimate <= found.high and found.low < found.high
    low, high = proportion_confint(hits, n, alpha=0.05, method="wilson")
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)
    assert wilson(0, 0) is None


def test_a_model_that_was_always_right_is_not_certain_to_be(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    many(tmp_path, {True: 30, False: 30}, spec)
    with journal_of(spec) as journal:
        look(journal, spec)
        (only,) = production(journal, classes=(False, True), positive=True)
        assert set(only.intervals) == {"accuracy", "precision", "recall"}
        assert only.intervals["precision"].high == 1.0 > only.intervals["precision"].low > 0.8


def test_labels_that_depend_on_the_answer_are_told(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    many(tmp_path, {True: 90, False: 10}, spec)
    with journal_of(spec) as journal:
        look(journal, spec)
        found = coverage(journal)
        assert [(each.predicted, each.answered, each.labelled) for each in found] == [
            ("false", 100, 10),
            ("true", 100, 90),
        ]
        (problem,) = uneven_labels(found)
        assert "90% where it said true" in problem.message and problem.severity == "warning"
