"""Activations that cannot be read as they are: the modulus is taken, or the layer is refused by name."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from fnet_callbacks.capture.isolation import isolated
from fnet_callbacks.capture.layers import choose_layers
from fnet_callbacks.capture.watcher import Watcher
from fnet_callbacks.errors import CaptureError, FnetWarning


def rows_of(model: nn.Module, x: Tensor, layers: Any, signal: Any = "post") -> Tensor:
    with isolated(model, seed=0):
        chosen = choose_layers(model, model, x, n_samples=len(x), layers=layers, signal=signal)
        watcher = Watcher(model, chosen, [np.arange(layer.n_units) for layer in chosen])
        watcher.expect(len(x))
        with watcher.attached():
            model(x)
        return watcher.rows()


class Turning(nn.Module):
    def forward(self, x):
        return torch.complex(3 * x, 4 * x)


def test_of_complex_values_the_modulus_is_watched_and_that_is_said():
    model = nn.Sequential(nn.Linear(4, 6), Turning())
    x = torch.rand(8, 4)
    with pytest.warns(FnetWarning, match=r"the values of 1 are complex, of which the modulus is taken"):
        rows = rows_of(model, x, ["1"])
    assert rows.dtype == torch.float32
    assert torch.allclose(rows, 5 * model[0](x).abs())


class ModReLU(nn.ReLU):
    """Rectifies the modulus, and gives no complex numbers."""

    def forward(self, z):
        return super().forward(z.abs() - 1)


def test_of_complex_inputs_of_a_nonlinearity_the_modulus_is_watched_and_that_is_said():
    model = nn.Sequential(nn.Linear(4, 6), Turning(), ModReLU())
    x = torch.rand(8, 4)
    with pytest.warns(FnetWarning, match=r"the values of 2 are complex, of which the modulus is taken"):
        rows = rows_of(model, x, ["2"], signal="pre")
    assert torch.allclose(rows, 5 * model[0](x).abs())
    assert torch.allclose(rows_of(model, x, ["2"]), (5 * model[0](x).abs() - 1).relu())


class Padded(nn.Module):
    def forward(self, nested):
        return nested.to_padded_tensor(0.0).sum(1)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_a_layer_may_be_given_what_cannot_be_read():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.padded = Padded()

        def forward(self, x):
            return self.padded(torch.nested.nested_tensor(list(x), layout=torch.strided))

    x = torch.rand(8, 3, 4)
    assert torch.allclose(rows_of(Model(), x, ["padded"]), x.sum(1))


def test_complex_images_are_averaged_by_their_modulus():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), Turning())
    x = torch.rand(4, 1, 6, 6)
    with pytest.warns(FnetWarning, match="the modulus"):
        rows = rows_of(model, x, ["1"])
    assert torch.allclose(rows, 5 * model[0](x).abs().mean((2, 3)), atol=1e-6)


class Ensemble(nn.Module):
    """Four members at once, by `vmap`."""

    def __init__(self, before: nn.Module) -> None:
        super().__init__()
        members = [nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)) for _ in range(4)]
        stacked, _ = stack_module_state(members)
        self.before, self.skeleton = before, members[0]
        self.stacked = nn.ParameterDict({k.replace(".", "_"): v.detach() for k, v in stacked.items()})

    def forward(self, x):
        x = self.before(x)
        parameters = {k.replace("_", "."): v for k, v in self.stacked.items()}
        return vmap(lambda p: functional_call(self.skeleton, p, (x,)))(parameters).mean(0)


def test_members_of_a_vmap_ensemble_are_refused_by_name():
    model = Ensemble(nn.Identity())
    with pytest.raises(CaptureError, match=r"skeleton.1 cannot be watched: it is called under `torch.vmap`"):
        rows_of(model, torch.rand(8, 4), ["skeleton.1"])
    with pytest.raises(CaptureError, match=r"leaves out .*skeleton.1 \(called under `torch.vmap`"):
        rows_of(model, torch.rand(8, 4), "auto")


def test_what_stands_before_a_vmap_ensemble_is_watched():
    model = Ensemble(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    with pytest.warns(FnetWarning, match=r"leaves out skeleton.1 \(called under `torch.vmap`"):
        rows = rows_of(model, torch.rand(8, 4), "auto")
    assert rows.shape == (8, 4)


class Ragged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line, self.act = nn.Linear(4, 6), nn.ReLU()

    def forward(self, x):
        parts = [row.expand(1 + i, -1) for i, row in enumerate(x)]
        nested = self.act(self.line(torch.nested.nested_tensor(parts)))
        return torch.stack([part.mean(0) for part in nested.unbind()])


@pytest.mark.filterwarnings("ignore:.*nested tensors.*:UserWarning")
def test_nested_tensors_of_strided_layout_are_refused_by_name():
    with pytest.raises(CaptureError, match="act cannot be watched: it is a nested tensor of strided layout"):
        rows_of(Ragged(), torch.rand(4, 4), ["act"])


def test_a_hook_that_compiled_code_passes_by_names_the_compiler():
    model = nn.Sequential(torch.compile(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), backend="eager"))
    watcher = Watcher(model, [], [])
    assert watcher._cause().startswith(": 0 is compiled by `torch.compile`")
    assert Watcher(nn.Linear(1, 1), [], [])._cause() == ""
