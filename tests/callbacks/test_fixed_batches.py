"""Models that take batches of one size: the probe comes in batches as long as the loader's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import (
    CLASSES,
    FEATURES,
    Net,
    Stream,
    counting,
    fast,
    loader,
    mlp,
    monitor,
    network,
    points,
    record,
    robustness,
    trainer,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fnet_callbacks import CaptureError, FnetWarning


class Views(nn.Module):
    """Its shapes are written down."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp(16)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.view(8, FEATURES))


class Carries(nn.Module):
    """Goes on from the hidden state of the last batch."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.act, self.head = nn.GRUCell(FEATURES, 16), nn.ReLU(), nn.Linear(16, CLASSES)
        self.register_buffer("hidden", torch.zeros(8, 16))

    def forward(self, x: Tensor) -> Tensor:
        self.hidden = self.cell(x, self.hidden)
        hidden, self.hidden = self.hidden, self.hidden.detach()
        return self.head(self.act(hidden))


class Exported(nn.Module):
    """A part was exported with the shapes of an example."""

    def __init__(self) -> None:
        super().__init__()
        inner = nn.Sequential(nn.Linear(FEATURES, FEATURES))
        self.front = torch.export.export(inner, (torch.rand(8, FEATURES),)).module()
        self.body = mlp(16)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.front(x))


@pytest.mark.parametrize("make", [Views, Carries, Exported])
@pytest.mark.parametrize(
    "probe", [lambda: None, points, lambda: loader(64), lambda: loader(64, batch_size=16)],
    ids=["the loader's", "a data set", "a loader", "a loader of longer batches"],
)  # fmt: skip
def test_a_model_of_one_batch_size_is_shown_batches_of_that(
    tmp_path: Path, make: Callable[[], nn.Module], probe: Any
) -> None:
    trainer(tmp_path, fast(4, probe=probe())).fit(Net(make()), loader())
    own = record(tmp_path)
    assert own.steps == [0, 4, 8]
    assert own.series("fnet/n_samples").tolist() == [64, 64, 64]


def test_what_a_model_of_one_batch_size_shows_is_that_of_another(tmp_path: Path) -> None:
    found = []
    for name, make in (("fixed", Views), ("free", lambda: nn.Sequential(mlp(16)))):
        torch.manual_seed(0)
        trainer(tmp_path / name, fast(4)).fit(Net(make()), loader())
        found.append(record(tmp_path / name).series("fnet/mean_abs_correlation"))
    torch.testing.assert_close(*map(torch.from_numpy, found), atol=1e-6, rtol=0)


def test_a_shorter_last_batch_is_left_out_and_it_is_said(tmp_path: Path) -> None:
    watching = monitor(4, network(measures="fast"), robustness(4), probe_size=64)
    whole = DataLoader(points(20), batch_size=8, drop_last=True)
    reason = r"the last batch of the probe is left out.*16 of 20 inputs are shown"
    with pytest.warns(FnetWarning, match=reason) as said:
        trainer(tmp_path, watching).fit(Net(Views()), loader(), whole)
    assert len([w for w in said if issubclass(w.category, FnetWarning)]) == 1
    own = record(tmp_path)
    assert own.series("fnet/n_samples").tolist() == [16, 16, 16]
    assert len(own.manifest["probe"]["indices"]) == 16
    assert own.series("robust/clean_accuracy").size == 3


def test_a_model_that_takes_any_batch_is_shown_longer_ones(tmp_path: Path) -> None:
    sizes: list[int] = []
    trainer(tmp_path, fast(8)).fit(counting(sizes), loader(60))
    assert max(sizes) == 32
    assert record(tmp_path).series("fnet/n_samples").tolist() == [60, 60]


def test_where_no_length_helps_the_first_failure_is_said(tmp_path: Path) -> None:
    class Never(Views):
        def forward(self, x: Tensor) -> Tensor:
            if not self.training:
                raise ValueError(f"{len(x)} inputs are wrong")
            return super().forward(x)

    with pytest.raises(CaptureError, match="32 inputs are wrong"):
        trainer(tmp_path, fast(4)).fit(Net(Never()), loader())


def test_a_stream_comes_in_its_own_batches(tmp_path: Path) -> None:
    trainer(tmp_path, fast(4)).fit(Net(Views()), DataLoader(Stream(), batch_size=8))
    assert record(tmp_path).series("fnet/n_samples").tolist() == [8, 32, 64]
