"""What is piecewise linear is followed, by modules and by functional calls; what is not is named."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fnet_callbacks.errors import CaptureError
from fnet_callbacks.regions.follower import Follower
from fnet_callbacks.regions.pieces import Pieces


class Call(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def scaled(x: Tensor) -> Tensor:
    return torch.zeros_like(x).copy_(x).mul_(2).add_(1)


PIECEWISE: dict[str, nn.Module] = {
    "relu": nn.ReLU(),
    "in place": nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True)),
    "leaky": nn.LeakyReLU(0.2),
    "prelu": nn.PReLU(4),
    "rrelu": nn.RReLU(),
    "relu6": nn.ReLU6(),
    "hardtanh": nn.Hardtanh(-0.3, 0.4),
    "threshold": nn.Threshold(0.1, 0.2),
    "softshrink": nn.Softshrink(),
    "hardshrink": nn.Hardshrink(),
    "max pooling": nn.MaxPool2d(3, 2, padding=1),
    "dilated": nn.MaxPool2d(2, 2, dilation=2, ceil_mode=True),
    "adaptive": nn.AdaptiveMaxPool2d(2),
    "uneven": nn.AdaptiveMaxPool2d(3),
    "one axis": Call(lambda x: functional.max_pool1d(x[:, 0], 2)),
    "largest": Call(lambda x: x.amax((2, 3), keepdim=True)),
    "largest and where": Call(lambda x: x.max(2)[0]),
    "clamp": Call(lambda x: x.clamp(-0.5, 0.5)),
    "from below": Call(lambda x: x.clamp(min=0.1)),
    "where": Call(lambda x: torch.where(x > 0, x, 0.1 * x)),
    "mask": Call(lambda x: x * (x >= 0.3)),
    "absolute": Call(torch.abs),
    "maximum": Call(lambda x: torch.maximum(x, -2 * x)),
    "minimum": Call(lambda x: torch.minimum(x, x.flip(1))),
}
LINEAR: dict[str, nn.Module] = {
    "convolution": nn.Conv2d(4, 3, 3, padding="same"),
    "transposed": nn.ConvTranspose2d(4, 2, 2),
    "linear": nn.Linear(8, 3),
    "batch norm": nn.BatchNorm2d(4),
    "dropout": nn.Dropout(),
    "mean pooling": nn.AvgPool2d(2),
    "adaptive mean": nn.AdaptiveAvgPool2d(3),
    "upsampling": nn.Upsample(scale_factor=2, mode="bilinear"),
    "padding": Call(lambda x: functional.pad(x, (1, 1, 1, 1), mode="reflect")),
    "einsum": Call(lambda x: torch.einsum("bchw,cd->bdhw", x, torch.ones(4, 5, dtype=x.dtype))),
    "views": Call(lambda x: x.permute(0, 2, 3, 1).contiguous()[..., 1:].flatten(1)),
    "set together": Call(lambda x: torch.cat([x.chunk(2, 1)[0], x.mean(1, keepdim=True)], 1)),
    "in place": Call(scaled),
    "ratio": Call(lambda x: (1 - x) / 3),
}


def inputs() -> Tensor:
    return torch.randn(6, 4, 8, 8, dtype=torch.float64)


def seen_in(model: nn.Module, x: Tensor) -> list[tuple[str, Pieces]]:
    seen: list[tuple[str, Pieces]] = []
    follower = Follower(lambda name, pieces: seen.append((name, pieces)))
    with torch.no_grad(), follower.named(model), follower:
        model(follower.follow(x.clone()))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    return seen


def frozen(model: nn.Module, x: Tensor, other: Tensor) -> Tensor:
    """The output for ``other``, were its pieces those of ``x``."""
    follower = Follower(lambda *_: None, frozen=True)
    with torch.no_grad(), follower:
        return model(follower.follow(torch.cat([x, other])))[len(x) :]


@pytest.mark.parametrize("name", PIECEWISE)
def test_on_its_piece_an_operation_is_affine(name: str) -> None:
    model, x = PIECEWISE[name].double().eval(), inputs()
    ((_, pieces),) = seen_in(model, x)
    assert all(len(state) == len(x) for state in pieces.states())
    expected = model(x.clone())
    torch.testing.assert_close(frozen(model, x, x), expected)
    # Near by it is what it is; far off, and in between, it is affine.
    near = x + 1e-9 * torch.randn_like(x)
    torch.testing.assert_close(frozen(model, x, near), model(near.clone()), rtol=0, atol=1e-12)
    far = x + torch.randn_like(x)
    middle = frozen(model, x, (x + far) / 2)
    torch.testing.assert_close(middle, (expected + frozen(model, x, far)) / 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in PIECEWISE if n != "uneven"])
def test_a_piece_ends_where_a_margin_is_zero(name: str) -> None:
    model, x = PIECEWISE[name].double().eval(), inputs()
    ((_, pieces),) = seen_in(model, x)
    direction = torch.randn_like(x)
    follower_seen: list[Pieces] = []
    follower = Follower(lambda _, pieces: follower_seen.append(pieces), frozen=True)
    with torch.no_grad(), follower:
        model(follower.follow(torch.cat([x, x + direction])))
    both = torch.cat([m.reshape(2 * len(x), -1) for m in follower_seen[0].margins()], 1)
    now, then = both.chunk(2)
    step = -now / (then - now)
    first = torch.where((step > 0) & step.isfinite(), step, torch.inf).amin(1)
    for i, (end, state) in enumerate(zip(first.tolist(), zip(*pieces.states(), strict=True), strict=True)):
        if end == float("inf"):
            continue
        for at, is_same in ((end - 1e-7, True), (end + 1e-7, False)):
            ((_, there),) = seen_in(model, (x[i] + at * direction[i])[None])
            same = all(torch.equal(a, b[0]) for a, b in zip(state, there.states(), strict=True))
            assert same == is_same, (name, i, at)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * (x >= 0.3).float() + 0.1 * (1 - (x >= 0.3).float()) * x,
        lambda x: x * ((x > 0).float() + (x > 0.5).to(x.dtype)),
    ],
    ids=["the rest of a mask", "a sum of masks"],
)
def test_masks_are_numbers_where_they_are_made_so(function: Callable[[Tensor], Tensor]) -> None:
    model, x = Call(function), inputs()
    torch.testing.assert_close(frozen(model, x, x), model(x.clone()))
    far = x + torch.randn_like(x)
    middle = (model(x.clone()) + frozen(model, x, far)) / 2
    torch.testing.assert_close(frozen(model, x, (x + far) / 2), middle, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", LINEAR)
def test_what_is_linear_has_no_pieces(name: str) -> None:
    assert seen_in(LINEAR[name].double().eval(), inputs()) == []


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "gelu": (nn.GELU(), "gelu"),
    "silu": (nn.SiLU(), "silu"),
    "hardswish": (nn.Hardswish(), "hardswish"),
    "layer norm": (nn.LayerNorm(8), "native_layer_norm"),
    "softmax": (nn.LogSoftmax(1), "log_softmax"),
    "square": (Call(lambda x: x**2), "pow"),
    "product": (Call(lambda x: x * x), "mul"),
    "attention": (Call(lambda x: x @ x.transpose(-1, -2)), "bmm"),
    "inverse": (Call(lambda x: 2 / x), "reciprocal|div"),
    "rounded": (Call(lambda x: torch.div(x, 2, rounding_mode="floor")), "div"),
    "steps": (Call(torch.floor), "floor"),
    "scattered product": (
        Call(lambda x: x.scatter(1, torch.zeros_like(x, dtype=torch.int64), x, reduce="multiply")),
        "scatter",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_piecewise_linear_is_named(name: str) -> None:
    model, message = REFUSED[name]
    holder = nn.Sequential(nn.Identity(), model).double().eval()
    with pytest.raises(CaptureError, match=f"^1 computes ({message}), which is not piecewise linear"):
        seen_in(holder, inputs())


def test_batch_norm_in_train_mode_is_refused() -> None:
    with pytest.raises(CaptureError, match="native_batch_norm"):
        seen_in(nn.BatchNorm2d(4).double(), inputs())


def test_a_decision_by_a_value_is_named() -> None:
    with pytest.raises(CaptureError, match="the model itself decides by a value that depends on the input"):
        seen_in(Call(lambda x: x if x.sum() > 0 else -x), inputs())


def test_a_constant_is_no_input() -> None:
    model = Call(lambda x: x + functional.gelu(torch.ones(8, dtype=x.dtype)))
    assert seen_in(model, inputs()) == []
