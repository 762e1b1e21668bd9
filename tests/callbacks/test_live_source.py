"""``source="train"``: the network of the live batches, without a pass of its own."""

import warnings
from pathlib import Path

import numpy as np
import torch
from small_models import (
    CLASSES,
    FEATURES,
    Net,
    Stream,
    counting,
    fast,
    fit,
    monitor,
    network,
    record,
    robustness,
    values,
)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from fnet_callbacks import FnetWarning
from fnet_callbacks.functional import correlation_matrix


def test_live_batches_are_the_last_before_a_snapshot(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    class Watched(Net):
        def forward(self, x: Tensor) -> Tensor:
            hidden = self.net[:2](x)  # type: ignore[index]
            if self.training:
                seen.append(hidden.detach().clone())
            return self.net[2:](hidden)  # type: ignore[index]

    live = fast(5, source="train", probe_size=16, layers=["net.1"], save_correlation=True)
    ledger = fit(tmp_path, live, model=Watched())
    assert values(ledger, "fnet/n_samples") == {0: 8, 5: 16, 8: 16}
    for step, batches in ((5, seen[3:5]), (8, seen[6:8])):
        expected = correlation_matrix(torch.cat(batches).numpy())
        live = np.flatnonzero(~np.isnan(np.diag(expected)))
        found = record(tmp_path).arrays(step)["fnet.correlation"]
        np.testing.assert_allclose(found, expected[np.ix_(live, live)], atol=1e-6)


def test_live_snapshots_make_no_pass_of_their_own_after_step_0(tmp_path: Path) -> None:
    fit(tmp_path, fast(2, source="train", probe_size=16), model=counting(sizes := []))
    assert sizes == [8, 4, 8]  # the look at the model, at half of it, and step 0


def test_live_batches_come_with_dropout_on(tmp_path: Path) -> None:
    def dropped() -> Net:
        return Net(
            nn.Sequential(nn.Linear(FEATURES, 16), nn.Sigmoid(), nn.Dropout(0.5), nn.Linear(16, CLASSES))
        )

    share = {}
    for source in ("probe", "train"):
        watching = fast(4, source=source, layers=["net.2"], probe_size=32, layer_measures=[])
        share[source] = values(fit(tmp_path, watching, model=dropped()), "fnet/activation_entropy")
    assert set(share["probe"].values()) == {0.0}  # a sigmoid is always above zero
    assert share["train"][0] == 0.0
    assert min(share["train"][4], share["train"][8]) > 0.5


def test_live_batches_reach_over_the_end_of_an_epoch_cut_by_max_steps(tmp_path: Path) -> None:
    live = fast(100, source="train", probe_size=24, layer_measures=[])
    ledger = fit(tmp_path, live, max_epochs=-1, max_steps=11)
    assert values(ledger, "fnet/n_samples") == {0: 8, 11: 24}


def test_live_and_fixed_instruments_go_together(tmp_path: Path) -> None:
    instruments = [network(), network(name="live", source="train"), robustness(4)]
    ledger = fit(tmp_path, monitor(4, *instruments))
    assert ledger.steps_of("live/modularity") == ledger.steps_of("fnet/modularity") == [0, 4, 8]
    assert values(ledger, "live/n_samples") == {0: 8, 4: 32, 8: 32}


def test_activations_that_backward_computes_again_count_once(tmp_path: Path) -> None:
    class Checkpointed(Net):
        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.net, x, use_reentrant=False) if self.training else self.net(x)

    found = {}
    for name, model in (("plain", Net), ("checkpointed", Checkpointed)):
        torch.manual_seed(0)
        found[name] = fit(tmp_path / name, fast(4, source="train", probe_size=16), model=model())
    assert values(found["checkpointed"], "fnet/n_samples") == {0: 8, 4: 16, 8: 16}
    for key in ("fnet/modularity", "fnet/selectivity_entropy"):
        assert values(found["checkpointed"], key) == values(found["plain"], key)


def test_a_call_that_only_training_makes_ends_no_run(tmp_path: Path) -> None:
    class Aside(Net):
        """A nonlinearity that training calls once more, on another width, before the others."""

        def __init__(self) -> None:
            super().__init__(nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, CLASSES)))

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                self.net[1](x)  # type: ignore[index]
            return self.net(x)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ledger = fit(tmp_path, fast(4, source="train", on_error="warn"), model=Aside())
    messages = [str(w.message) for w in caught if issubclass(w.category, FnetWarning)]
    assert sum("a live batch was not seen at step" in m and "net.1" in m for m in messages) == 1
    assert ledger.steps_of("train_loss_epoch") == [7]
    assert ledger.steps_of("fnet/modularity") == [0]


def test_the_last_batches_of_a_stream_are_watched(tmp_path: Path) -> None:
    data = DataLoader(Stream(56), batch_size=8)
    ledger = fit(tmp_path, fast(100, source="train", probe_size=16), data=data)
    assert values(ledger, "fnet/n_samples") == {0: 8, 7: 16}


def test_an_end_that_nobody_could_know_has_no_snapshot_and_no_error(tmp_path: Path) -> None:
    class Stops(Net):
        def on_train_batch_end(self, *_: object) -> None:
            self.trainer.should_stop = self.global_step == 11

    instruments = [network(source="train", layer_measures=[]), network(name="fixed")]
    ledger = fit(tmp_path, monitor(100, *instruments, probe_size=8), model=Stops(), max_epochs=3)
    assert ledger.steps_of("fnet/modularity") == [0]
    assert ledger.steps_of("fixed/modularity") == [0, 11]
