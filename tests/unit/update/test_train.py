"""What the train step logs of a network's training."""

from __future__ import annotations

from upkeep.training.task import Epoch
from upkeep.update.train import SHOWN_EPOCHS, curve_metrics


def curve(epochs: int, *, watched: bool = True) -> tuple[Epoch, ...]:
    return tuple(
        Epoch(
            number=number,
            loss=1 / number,
            watched=abs(number - 5) / 10 if watched else None,
            steps=10 * number,
            accuracy=0.5 if watched else None,
        )
        for number in range(1, epochs + 1)
    )


def test_each_epoch_and_how_it_ended() -> None:
    found = curve_metrics(curve(8))
    assert found["epochs"] == 8
    assert found["best_epoch"] == 5
    assert found["loss"] == found["epoch_008_loss"] == 1 / 8
    assert found["epoch_001_watched_loss"] == 0.4
    assert found["watched_accuracy"] == 0.5
    assert len([name for name in found if name.endswith("_loss") and name.startswith("epoch_")]) == 16


def test_nothing_is_told_that_is_not_known() -> None:
    assert curve_metrics(()) == {}
    assert set(curve_metrics(curve(1, watched=False))) == {"epochs", "loss", "epoch_001_loss"}


def test_a_long_training_is_thinned_and_keeps_its_last_epoch() -> None:
    found = curve_metrics(curve(1000, watched=False))
    assert len([name for name in found if name.startswith("epoch_")]) == SHOWN_EPOCHS
    assert found["loss"] == found["epoch_1000_loss"] == 1 / 1000
