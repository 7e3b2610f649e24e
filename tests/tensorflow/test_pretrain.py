"""The example's pre-training: what it hides, and the same weights for the same seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from upkeep.models.digest import folder_digest

EXAMPLE = Path(__file__).parents[2] / "examples" / "reviews"
WORDS = 300
PAD, CLS, SEP, MASK, FIRST = 0, 2, 3, 4, 5


@pytest.fixture
def pretrain(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("keras_hub")
    monkeypatch.syspath_prepend(str(EXAMPLE))
    import pretrain

    return pretrain


def tokens(rows: int, longest: int) -> np.ndarray:
    """Of 0 to ``longest - 2`` words, as a tokenizer gives them."""
    draw = np.random.default_rng(5)
    made = np.full((rows, longest), PAD, dtype=np.int32)
    for row in made:
        length = draw.integers(0, longest - 1)
        row[: length + 2] = [CLS, *draw.integers(FIRST, WORDS, length), SEP]
    return made


def test_a_fifth_of_the_words_is_hidden_and_nothing_else_changes(pretrain: Any) -> None:
    read = tokens(4000, pretrain.LONGEST)
    given, wanted, counts = pretrain.hide(read, WORDS, np.random.default_rng(1))
    places = given["mask_positions"]
    assert np.array_equal(wanted, np.take_along_axis(read, places, axis=1))
    assert (wanted[counts > 0] >= FIRST).all()  # never what is no word
    own = (read >= FIRST).sum(axis=1)
    assert np.array_equal(counts.sum(axis=1), np.ceil(0.2 * own))
    hidden = np.zeros(read.shape, dtype=bool)
    np.put_along_axis(hidden, places, counts > 0, axis=1)
    assert np.array_equal(given["token_ids"][~hidden], read[~hidden])
    assert np.array_equal(given["padding_mask"], read != PAD)
    shown = given["token_ids"][hidden]
    assert abs((shown == MASK).mean() - 0.8) < 0.02
    assert abs((shown == read[hidden]).mean() - 0.1) < 0.02


def test_every_seed_hides_others(pretrain: Any) -> None:
    read = tokens(50, pretrain.LONGEST)
    first, again, other = (pretrain.hide(read, WORDS, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["token_ids"], other["token_ids"])


@pytest.mark.slow
def test_a_seed_gives_the_same_base_in_two_processes(pretrain: Any, tmp_path: Path) -> None:
    """Also where Python orders sets and dicts of texts otherwise."""
    code = (
        "import sys; from pathlib import Path; import pretrain; "
        "pretrain.pretrain(Path(sys.argv[1]), rows=600, epochs=2, layers=1, units=8, seed=3)"
    )
    digests = []
    for number in ("1", "2"):
        environ = os.environ | {"PYTHONPATH": str(EXAMPLE), "PYTHONHASHSEED": number}
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / number)], env=environ, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        digests.append(folder_digest(tmp_path / number))
    assert digests[0] == digests[1]
