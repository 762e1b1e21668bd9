"""``source="train"``: the network of the live batches, without a pass of its own."""

from pathlib import Path

import numpy as np
import torch
from small_models import CLASSES, FEATURES, Net, counting, fast, fit, record, robustness_monitor, values
from torch import Tensor, nn

from fnet_callbacks.functional import correlation_matrix


def test_live_batches_are_the_last_before_a_snapshot(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    class Watched(Net):
        def forward(self, x: Tensor) -> Tensor:
            hidden = self.net[:2](x)  # type: ignore[index]
            if self.training:
                seen.append(hidden.detach().clone())
            return self.net[2:](hidden)  # type: ignore[index]

    monitor = fast(5, source="train", probe_size=16, layers=["net.1"], save_correlation=True)
    ledger = fit(tmp_path, monitor, model=Watched())
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
        monitor = fast(4, source=source, layers=["net.2"], probe_size=32, layer_measures=[])
        share[source] = values(fit(tmp_path, monitor, model=dropped()), "fnet/activation_entropy")
    assert set(share["probe"].values()) == {0.0}  # a sigmoid is always above zero
    assert share["train"][0] == 0.0
    assert min(share["train"][4], share["train"][8]) > 0.5


def test_live_batches_reach_over_the_end_of_an_epoch_cut_by_max_steps(tmp_path: Path) -> None:
    monitor = fast(100, source="train", probe_size=24, layer_measures=[])
    ledger = fit(tmp_path, monitor, max_epochs=-1, max_steps=11)
    assert values(ledger, "fnet/n_samples") == {0: 8, 11: 24}


def test_live_and_fixed_monitors_go_together(tmp_path: Path) -> None:
    ledger = fit(tmp_path, fast(4), fast(4, name="live", source="train"), robustness_monitor(4))
    assert ledger.steps_of("live/modularity") == ledger.steps_of("fnet/modularity") == [0, 4, 8]
    assert values(ledger, "live/n_samples") == {0: 8, 4: 32, 8: 32}
