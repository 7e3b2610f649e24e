from pathlib import Path

import pyarrow as pa
import pytest

from upkeep.evaluation.cost import folder_bytes, measure_cost


class Clock:
    """Moves only when the model is asked."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_percentiles_and_throughput_come_from_the_clock() -> None:
    clock, calls = Clock(), []

    def ask(rows: pa.Table) -> None:
        calls.append(rows.num_rows)
        clock.now += 0.001 if rows.num_rows == 1 and len(calls) % 10 else 0.010

    cost = measure_cost(ask, pa.table({"x": range(30)}), 123, clock=clock)
    assert cost is not None
    assert cost.latency_ms_p50 == pytest.approx(1.0)
    assert cost.latency_ms_p95 == pytest.approx(10.0)
    assert cost.rows_per_second == pytest.approx(100_000)
    assert cost.size_bytes == 123
    assert set(calls) == {1, 1000}


def test_a_slow_model_is_not_asked_for_ever() -> None:
    clock, calls = Clock(), []

    def ask(rows: pa.Table) -> None:
        calls.append(rows.num_rows)
        clock.now += 3.0

    cost = measure_cost(ask, pa.table({"x": [1.0]}), 1, clock=clock)
    assert cost is not None
    assert len(calls) < 40
    assert cost.latency_ms_p95 == pytest.approx(3000)


def test_without_rows_nothing_is_measured() -> None:
    assert measure_cost(lambda rows: None, pa.table({"x": pa.array([], pa.float64())}), 1, clock=Clock()) is None


def test_size_is_all_files(tmp_path: Path) -> None:
    (tmp_path / "members" / "a").mkdir(parents=True)
    (tmp_path / "manifest.json").write_bytes(b"12345")
    (tmp_path / "members" / "a" / "model.skops").write_bytes(b"123")
    assert folder_bytes(tmp_path) == 8
    assert folder_bytes(None) == 0
