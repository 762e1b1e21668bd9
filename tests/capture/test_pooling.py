"""Max pooling by channels: the values, the layout and the errors of the module alone."""

import copy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fnet_callbacks import relu_regions
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
    pool_by_channels(pool.modules())
    assert "forward" in vars(pool)
    return pool


class Seen(TorchDispatchMode):
    """Follows what is pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.lengths: list[int] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.max_pool2d_with_indices.default:
            self.lengths.append(len(args[0]))
        return func(*args, **(kwargs or {}))


def images(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    signal = torch.randn(*shape, generator=torch.Generator().manual_seed(0)).relu().to(dtype)
    signal[0, 0, 1, 1] = torch.nan
    signal[0, 1, ::2] = -0.0
    return signal


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("arguments", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("shape", [(7, 16, 11, 9), (1, 5, 8, 8), (40, 32, 28, 28), (6, 64, 4, 4)], ids=str)
def test_values_and_layout_are_those_of_the_module_to_the_bit(shape, arguments, dtype):
    signal = images(*shape, dtype=dtype)
    plain, ours = nn.MaxPool2d(**arguments)(signal), quick(**arguments)(signal)
    assert ours.stride() == plain.stride()
    torch.testing.assert_close(ours, plain, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(ours.signbit() & ~ours.isnan(), plain.signbit() & ~plain.isnan())  # -0.0 too


@pytest.mark.parametrize("size", [2, 3])
def test_one_pixel_an_image_has_the_strides_of_the_module(size):
    signal = images(6, 512, size, size)
    assert quick(kernel_size=size)(signal).stride() == nn.MaxPool2d(size)(signal).stride() == (512, 1, 1, 1)


def test_it_is_the_shorter_way_that_is_taken():
    signal, pool = images(40, 32, 28, 28), quick(kernel_size=2)
    with torch.profiler.profile() as profile:
        pool(signal)
    calls = [e for e in profile.events() if e.name == "aten::max_pool2d_with_indices"]
    assert len(calls) == 2  # 3.8 MB in copies of two
    with Seen() as seen:
        pool(signal)
    assert seen.lengths == [40]  # who follows the operations sees all samples in one


def test_gradients_flow_back_as_without():
    signal = images(6, 8, 10, 10).nan_to_num()
    found = []
    for pool in (nn.MaxPool2d(3, 2), quick(kernel_size=3, stride=2)):
        inner = signal.clone().requires_grad_() * 1.0
        pooled = pool(inner)
        (gradient,) = torch.autograd.grad(pooled.square().sum(), inner)
        (transformed,) = torch.func.grad(lambda x, pool=pool: pool(x[0]).square().sum())((signal,))
        found.append((gradient, transformed, pooled.detach()))
    for plain, ours in zip(*found, strict=True):
        assert ours.stride() == plain.stride()
        assert torch.equal(ours, plain)


def test_it_is_called_and_changed_as_the_module_is():
    pool, signal = quick(kernel_size=2), images(6, 8, 10, 10)
    assert pool(input=signal).shape == (6, 8, 5, 5)
    assert torch.equal(pool(signal[1:].to_mkldnn()).to_dense(), pool(signal[1:]))
    pool.return_indices = True
    assert [t.shape for t in pool(signal)] == [(6, 8, 5, 5)] * 2


def test_regions_are_found_in_a_network_that_pools_large_images():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 32, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.MaxPool2d(16), nn.Flatten()]
    inputs = torch.randn(20, 3, 32, 32).repeat(2, 1, 1, 1)
    found = relu_regions(nn.Sequential(*layers, nn.Linear(32, 3)), inputs, batch_size=20)
    assert found.sizes.tolist() == [2] * 20


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
        images(6, 8, 2, 2)[:, :, :1, :1].contiguous(memory_format=torch.channels_last),
    ],
    ids=[
        "channels_last",
        "strided",
        "few_channels",
        "one_image",
        "no_image",
        "integers",
        "subclass",
        "one_pixel",
    ],
)
def test_what_gains_nothing_goes_the_usual_way(signal):
    size = min(2, signal.shape[-1])
    plain, ours = nn.MaxPool2d(size)(signal), quick(kernel_size=size)(signal)
    assert ours.stride() == plain.stride()
    torch.testing.assert_close(ours, plain, rtol=0, atol=0, equal_nan=True)


def test_a_model_under_vmap_pools_as_it_did():
    signal = torch.randn(3, 2, 8, 10, 10)
    assert torch.equal(
        torch.vmap(quick(kernel_size=2))(signal), nn.MaxPool2d(2)(signal.flatten(0, 1)).unflatten(0, (3, 2))
    )


def test_halves_under_autocast_are_pooled_as_they_were():
    signal = images(6, 8, 10, 10, dtype=torch.float16)
    with torch.autocast("cpu", torch.bfloat16):
        plain, ours = nn.MaxPool2d(2)(signal), quick(kernel_size=2)(signal)
    assert ours.dtype is plain.dtype
    torch.testing.assert_close(ours, plain, rtol=0, atol=0, equal_nan=True)


def test_errors_are_the_modules_own():
    with pytest.raises(RuntimeError, match="too small"):
        quick(kernel_size=9)(torch.zeros(2, 8, 4, 4))


def test_a_models_own_pooling_is_left_alone():
    class Louder(nn.MaxPool2d):
        def forward(self, input):
            return 2 * super().forward(input)

    own = nn.MaxPool2d(2)
    own.forward = torch.zeros_like  # type: ignore[method-assign]
    model = nn.Sequential(Louder(2), own)
    pool_by_channels(model.modules())
    assert [vars(m).get("forward") for m in model] == [None, torch.zeros_like]


def test_it_lasts_as_long_as_isolation_does():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2))
    with isolated(model, seed=0):
        assert "forward" in vars(model[1])
        inside = model(torch.ones(2, 3, 8, 8))
        assert torch.equal(copy.deepcopy(model)(torch.ones(2, 3, 8, 8)), inside)
    assert "forward" not in vars(model[1])
    assert torch.equal(model(torch.ones(2, 3, 8, 8)), inside)
