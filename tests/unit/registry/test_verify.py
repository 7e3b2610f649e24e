"""A stored model is asked in a fresh process; anything but the same full answer fails."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from upkeep.data.kinds import Column
from upkeep.models.folder import load, save_sklearn
from upkeep.models.manifest import Manifest
from upkeep.registry.verify import VerifyResult, verify_served

ROWS = pa.table({"x": [0.0, 1.0, 2.0, 3.0], "y": [1.0, -1.0, 0.5, 0.0]})
ANSWERS = np.array([[0.25, 0.75]] * 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    frame = ROWS.to_pandas()
    model = make_pipeline(LogisticRegression()).fit(frame, ["no", "no", "yes", "yes"])
    path = tmp_path_factory.mktemp("models") / "model"
    columns = (Column(name="x", kind="numeric"), Column(name="y", kind="numeric"))
    manifest = Manifest(format="sklearn", columns=columns, classes=("no", "yes"), positive="yes", libraries={})
    save_sklearn(path, model, manifest)
    return path


@pytest.fixture(scope="module")
def answers(folder: Path) -> npt.NDArray[np.float64]:
    return load(folder).predict_proba(ROWS)


def program(path: Path, text: str) -> str:
    """A program to run in Python's place: gets ``-m module folder work``."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def fails(result: VerifyResult, *words: str) -> None:
    assert not result.ok
    assert all(word in result.message for word in words), result.message
    assert "Traceback" not in result.message


def test_the_same_model_passes(folder: Path, answers: npt.NDArray[np.float64]) -> None:
    result = verify_served(folder, ROWS, answers)
    assert result.ok, result.message
    assert (result.rows, result.largest_difference) == (4, 0.0)


def test_a_folder_that_does_not_load_fails(tmp_path: Path) -> None:
    fails(verify_served(tmp_path, ROWS, ANSWERS), "could not answer", "manifest.json is missing")


class TestWithoutTheModel:
    def test_no_rows_is_no_pass(self, tmp_path: Path) -> None:
        fails(verify_served(tmp_path, ROWS.slice(0, 0), ANSWERS[:0]), "no rows")

    @pytest.mark.parametrize("expected", [ANSWERS[:3], ANSWERS[:, 0], np.full((4, 2), np.nan)])
    def test_expectations_that_are_none(self, tmp_path: Path, expected: npt.NDArray[np.float64]) -> None:
        fails(verify_served(tmp_path, ROWS, expected), "the pipeline's own answers are none")

    def test_no_answer_in_time(self, tmp_path: Path) -> None:
        python = program(tmp_path / "python", "exec sleep 60")
        fails(verify_served(tmp_path, ROWS, ANSWERS, python=python, seconds=0.2), "no answer", "0.2 seconds")

    def test_killed(self, tmp_path: Path) -> None:
        fails(verify_served(tmp_path, ROWS, ANSWERS, python=program(tmp_path / "python", "kill -9 $$")), "signal 9")

    def test_silent_crash(self, tmp_path: Path) -> None:
        fails(verify_served(tmp_path, ROWS, ANSWERS, python=program(tmp_path / "python", "exit 7")), "code 7")

    def test_the_last_words_are_told(self, tmp_path: Path) -> None:
        python = program(tmp_path / "python", "echo Traceback: >&2; echo MemoryError: too large >&2; exit 1")
        fails(verify_served(tmp_path, ROWS, ANSWERS, python=python), "MemoryError: too large")

    def test_no_such_python(self, tmp_path: Path) -> None:
        fails(verify_served(tmp_path, ROWS, ANSWERS, python=str(tmp_path / "none")), "did not start")

    def test_success_without_an_answer(self, tmp_path: Path) -> None:
        fails(
            verify_served(tmp_path, ROWS, ANSWERS, python=program(tmp_path / "python", "exit 0")), "could not be read"
        )

    @pytest.mark.parametrize(
        ("answer", "word"),
        [
            (np.full((4, 2), np.nan), "NaN"),
            (ANSWERS[:, :1], "shape"),
            (ANSWERS[:2], "shape"),
            (ANSWERS.astype(np.float32), "shape"),
            (np.array(["a"]), "shape"),
        ],
    )
    def test_answers_of_another_form(self, tmp_path: Path, answer: npt.NDArray[np.float64], word: str) -> None:
        np.save(tmp_path / "made.npy", answer)
        python = program(tmp_path / "python", f'cp "{tmp_path}/made.npy" "$4/answers.npy"')
        fails(verify_served(tmp_path, ROWS, ANSWERS, python=python), word)

    def test_a_difference_is_measured(self, tmp_path: Path) -> None:
        np.save(tmp_path / "made.npy", ANSWERS)
        python = program(tmp_path / "python", f'cp "{tmp_path}/made.npy" "$4/answers.npy"')
        expected = ANSWERS.copy()
        expected[2] += (1e-6, -1e-6)
        result = verify_served(tmp_path, ROWS, expected, python=python)
        fails(result, "1 of 4 rows", "1e-06")
        assert result.largest_difference == pytest.approx(1e-6)
        assert verify_served(tmp_path, ROWS, expected, python=python, tolerance=1e-5).ok

    def test_pickles_are_not_read(self, tmp_path: Path) -> None:
        np.save(tmp_path / "made.npy", np.array([{}], dtype=object), allow_pickle=True)
        python = program(tmp_path / "python", f'cp "{tmp_path}/made.npy" "$4/answers.npy"')
        fails(verify_served(tmp_path, ROWS, ANSWERS, python=python), "could not be read")
