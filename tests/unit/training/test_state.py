from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upkeep.training import state as states
from upkeep.training.state import LEARNED, State, among, write_state

KEYS = st.sets(st.integers(0, 40) | st.integers(0, 2**64 - 1))


@given(one=KEYS, other=KEYS, block=st.integers(1, 5))
def test_learned_rows_are_kept_sorted_whatever_the_blocks(
    one: set[int], other: set[int], block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("state") / "state"
    learned, new = (np.array(sorted(keys), dtype=np.uint64) for keys in (one, other - one))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(states, "BLOCK", block)
        write_state(folder, State(settings="s", rounds=1, periods=("p",)), learned, new)
    found = np.load(folder / LEARNED, allow_pickle=False)
    np.testing.assert_array_equal(found, np.union1d(learned, new))
    everything = np.array(sorted(one | other), dtype=np.uint64)
    assert among(everything, learned).tolist() == [int(key) in one for key in everything]


def test_it_is_the_file_that_numpy_would_write(tmp_path: Path) -> None:
    learned = np.array([1, 5, 9], dtype=np.uint64)
    write_state(tmp_path / "state", State(settings="s", rounds=1, periods=()), learned)
    np.save(tmp_path / "wanted.npy", learned, allow_pickle=False)
    assert (tmp_path / "state" / LEARNED).read_bytes() == (tmp_path / "wanted.npy").read_bytes()
