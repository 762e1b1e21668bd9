"""The instrument of lesions: what is left of accuracy as neurons are silenced."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import seed_everything
from small_models import BareNet, Net, loader, monitor_of, record, trainer
from torch import Tensor, nn

from fnet_callbacks import FnetError, Lesions, Monitor
from fnet_callbacks import functional as F


def fit(folder: Path, monitor: Monitor | None, model: Any = None, data: Any = None) -> Any:
    seed_everything(3)
    model = Net() if model is None else model
    made = trainer(folder, *([] if monitor is None else [monitor]), max_epochs=2)
    made.fit(model, data or loader(), loader(16))
    return model


def monitor(**options: Any) -> Monitor:
    return monitor_of(Lesions, **{"points": 4, "density": 0.2, **options})


def test_accuracy_is_that_of_a_network_whose_activations_are_set_to_zero(tmp_path: Path) -> None:
    data = loader(16)
    model = fit(tmp_path, monitor(probe=data, probe_size=64)).eval()
    found = record(tmp_path)
    last = found.snapshots[-1]
    arrays = {k.removeprefix("lesion."): a for k, a in found.arrays(last.step).items()}
    inputs, labels = data.dataset.tensors

    def activations(silenced: np.ndarray) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            first = model.net[1](model.net[0](inputs))
            first[:, silenced[silenced < 16]] = 0
            second = model.net[3](model.net[2](first))
            second[:, silenced[silenced >= 16] - 16] = 0
            return torch.cat([first, second], dim=1), model.net[4](second)

    none = np.array([], int)
    rows, _ = activations(none)
    selection = F.select(F.correlation_matrix(rows.numpy()), density=0.2)
    graph = F.Graph.from_sorted_edges(len(selection.nodes), selection.edges)
    n = graph.n_nodes
    counts = np.unique(np.round(np.linspace(0, n, 5)).astype(int))
    np.testing.assert_allclose(arrays["silenced"], counts / n)
    for order in ("random", "degree"):
        nodes = F.removal_order(graph, order, seed=0)
        logits = [activations(selection.nodes[nodes[:count]])[1] for count in counts]
        expected = [(each.argmax(1) == labels).float().mean().item() for each in logits]
        np.testing.assert_allclose(arrays[f"accuracy_{order}"], expected, atol=1e-6)
        area = np.trapezoid(expected, counts / n) / expected[0]
        assert last.scalars[f"lesion/{order}_tolerance"] == pytest.approx(area)
    assert last.scalars["lesion/clean_accuracy"] == pytest.approx(expected[0])


def test_training_is_not_touched(tmp_path: Path) -> None:
    watched = fit(tmp_path / "with", monitor(every_n_steps=2))
    bare = fit(tmp_path / "without", None)
    for ours, theirs in zip(watched.state_dict().values(), bare.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in watched.modules())


class Pixels(nn.Module):
    """Convolutional and recurrent: units on the second axis, and the first of a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 6, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.gru = nn.GRU(6, 5, batch_first=True)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.act(self.conv(x.flatten(1)[:, None]))
        return self.head(self.gru(hidden.transpose(1, 2))[0].mean(1))


def test_channels_and_recurrent_units_are_silenced(tmp_path: Path) -> None:
    model = fit(tmp_path, monitor(), Net(Pixels()))
    found = record(tmp_path)
    arrays = found.arrays(found.steps[-1])
    layers = found.manifest["instruments"]["lesion"]["layers"]
    assert [(layer["name"], layer["n_units"]) for layer in layers] == [("net.act", 6), ("net.gru", 5)]
    # With all units silenced every input gets the head's bias.
    guess = int(model.net.head.bias.argmax())
    _, labels = loader(16).dataset.tensors
    assert arrays["lesion.accuracy_degree"][-1] == pytest.approx((labels == guess).float().mean().item())
    assert arrays["lesion.accuracy_degree"][-1] == arrays["lesion.accuracy_random"][-1]


def test_what_needs_labels_says_so(tmp_path: Path) -> None:
    with pytest.raises(FnetError, match="Lesions found no labels"):
        fit(tmp_path, monitor(batch_to_labels=lambda batch: None))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"points": 0}, "`points=0` should be an integer of at least 1"),
        ({"seed": -1}, "`seed=-1`"),
        ({"max_neurons": 0}, "`max_neurons=0`"),
        ({"density": 2.0}, "density"),
        ({"every_n_steps": 0}, "every_n_steps"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(FnetError, match=message):
        Lesions(**arguments)


def test_a_part_of_the_module_may_be_called(tmp_path: Path) -> None:
    trainer(tmp_path, monitor(model="net"), max_epochs=1).fit(BareNet(), loader())
    assert 0 <= record(tmp_path).snapshots[-1].scalars["lesion/random_tolerance"] <= 2
