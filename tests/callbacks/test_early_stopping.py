"""Early stopping that looks away for the first epochs."""

from pathlib import Path
from typing import Any

import pytest
from lightning import Callback
from small_models import Net, fast, loader, trainer

from fnet_callbacks import BurnInEarlyStopping, FnetError


class Falls(Callback):
    """Logs a value that falls for three epochs, then rises for three, then falls."""

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.log("value", [6.0, 2.0, 1.0, 3.0, 4.0, 5.0, 4.0, 3.0, 2.0, 1.0][trainer.current_epoch])


@pytest.mark.parametrize(("burn_in", "stopped_in"), [(0, 2), (1, 7), (2, 7), (6, 8)])
def test_epochs_before_the_burn_in_do_not_count(tmp_path: Path, burn_in: int, stopped_in: int) -> None:
    stopping = BurnInEarlyStopping("value", burn_in=burn_in, patience=2, check_on_train_epoch_end=True)
    trainer(tmp_path, Falls(), stopping, max_epochs=10).fit(Net(), loader())
    assert stopping.stopped_epoch == stopped_in


def test_it_follows_functional_persistence(tmp_path: Path) -> None:
    stopping = BurnInEarlyStopping(
        "fnet/modularity", burn_in=1, patience=1, min_delta=10.0, check_on_train_epoch_end=True
    )
    made = trainer(tmp_path, fast(4), stopping, max_epochs=10)
    made.fit(Net(), loader())
    assert made.current_epoch == 3  # the first that counts is the best, the next one is not better


def test_a_negative_burn_in_is_refused() -> None:
    with pytest.raises(FnetError, match="`burn_in=-1` should be an integer of at least 0"):
        BurnInEarlyStopping("value", burn_in=-1)
