"""Max pooling by channels: the bits, the layout and the errors of the module alone."""

import copy

import pytest
import torch
from torch import nn

from fnet_callbacks.capture.isolation import isolated
from fnet_callbacks.capture.pooling import pool_by_channels

POOLS = {
    "overlapping": {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    "padded": {"kernel_size": 3, "stride": 2, "padding": 1},
    "dilated": {"kernel_size": 2, "stride": 1, "dilation": 2},
    "oblong": {"kernel_size": (2, 3)},
}


def quick(**arguments) -> nn.MaxPool2d:
    pool = nn.MaxPool2d(**arguments)
    pool_by_channels(pool)
    assert "forward" in vars(pool)
    return pool


def images(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    signal = torch.randn(*shape, generator=torch.Generator().manual_seed(0)).relu().to(dtype)
    signal[0, 0, 1, 1] = torch.nan
    signal[0, 1, ::2] = -0.0
    return signal


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("arguments", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("shape", [(7, 16, 11, 9), (1, 5, 8, 8), (40, 32, 28, 28)], ids=str)
def test_values_gradients_and_layout_are_those_of_the_module_to_the_bit(shape, arguments, dtype):
    found = []
    for pool in (nn.MaxPool2d(**arguments), quick(**arguments)):
        signal = images(*shape, dtype=dtype).requires_grad_()
        pooled = pool(signal)
        pooled.nan_to_num().mul(torch.linspace(-1, 1, pooled.numel()).view_as(pooled)).sum().backward()
        assert signal.grad is not None
        found.append((pooled.detach(), signal.grad))
    for plain, ours in zip(*found, strict=True):
        assert ours.stride() == plain.stride()
        torch.testing.assert_close(ours, plain, rtol=0, atol=0, equal_nan=True)
        assert torch.equal(ours.signbit() & ~ours.isnan(), plain.signbit() & ~plain.isnan())  # -0.0 too


@pytest.mark.parametrize(
    "signal",
    [
        images(6, 8, 10, 10).to(memory_format=torch.channels_last),
        images(6, 8, 10, 10)[:, :, 1:, 1:],
        images(6, 3, 10, 10),
        images(6, 8, 10, 10)[1],
        torch.empty(0, 8, 10, 10),
        images(6, 8, 10, 10).nan_to_num().mul(10).to(torch.int64),
        images(6, 8, 10, 10).as_subclass(nn.Parameter),
    ],
    ids=["channels_last", "strided", "few_channels", "one_image", "no_image", "integers", "subclass"],
)
def test_what_gains_nothing_goes_the_usual_way(signal):
    plain, ours = nn.MaxPool2d(2)(signal), quick(kernel_size=2)(signal)
    assert ours.stride() == plain.stride()
    torch.testing.assert_close(ours, plain, rtol=0, atol=0, equal_nan=True)


def test_a_model_under_vmap_pools_as_it_did():
    signal = torch.randn(3, 2, 8, 10, 10)
    assert torch.equal(
        torch.vmap(quick(kernel_size=2))(signal), nn.MaxPool2d(2)(signal.flatten(0, 1)).unflatten(0, (3, 2))
    )


def test_errors_are_the_modules_own():
    with pytest.raises(RuntimeError, match="too small"):
        quick(kernel_size=9)(torch.zeros(2, 8, 4, 4))


def test_a_models_own_pooling_is_left_alone():
    class Louder(nn.MaxPool2d):
        def forward(self, input):
            return 2 * super().forward(input)

    own = nn.MaxPool2d(2)
    own.forward = torch.zeros_like  # type: ignore[method-assign]
    model = nn.Sequential(Louder(2), nn.MaxPool2d(2, return_indices=True), own)
    pool_by_channels(model)
    assert [vars(m).get("forward") for m in model] == [None, None, torch.zeros_like]


def test_it_lasts_as_long_as_isolation_does():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2))
    with isolated(model, seed=0):
        assert "forward" in vars(model[1])
        inside = model(torch.ones(2, 3, 8, 8))
        assert torch.equal(copy.deepcopy(model)(torch.ones(2, 3, 8, 8)), inside)
    assert "forward" not in vars(model[1])
    assert torch.equal(model(torch.ones(2, 3, 8, 8)), inside)
