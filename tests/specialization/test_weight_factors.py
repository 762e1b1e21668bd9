"""Weight graphs of models that multiply units: a constant factor is in the weights, any other is refused by name."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune

from fnet_callbacks.errors import CaptureError
from fnet_callbacks.specialization.weight_graph import WeightGraph, weight_graph

GAINS = (1.0, 10.0, 0.0)


class Scaled(nn.Module):
    """A hidden layer of three units, all weights 1, with what comes between it and the next."""

    def __init__(self, between: Callable[["Scaled", Tensor], Tensor]) -> None:
        super().__init__()
        self.between = between
        self.a, self.b = nn.Linear(4, 3, bias=False), nn.Linear(3, 2, bias=False)
        self.a.weight.data.fill_(1.0)
        self.b.weight.data.fill_(1.0)
        self.gain = nn.Parameter(torch.tensor(GAINS))
        self.register_buffer("mask", torch.tensor([True, True, False]))
        self.log = nn.Parameter(torch.tensor([1.0, 10.0, 1e-30]).log())
        self.layer, self.group, self.rms = nn.LayerNorm(3), nn.GroupNorm(1, 3), nn.RMSNorm(3)
        self.tracked = nn.InstanceNorm1d(3, affine=True, track_running_stats=True)
        self.plain = nn.InstanceNorm1d(3, affine=True)
        for norm in (self.layer, self.group, self.rms, self.tracked, self.plain):
            norm.weight.data = torch.tensor(GAINS)
        self.tracked.running_var.fill_(4.0)
        self.gate = nn.Sequential(nn.Linear(3, 3), nn.Sigmoid())
        self.made = nn.Linear(2, 3)
        self.made.weight.data.zero_()
        self.made.bias.data = torch.tensor(GAINS)
        self.latent = nn.Parameter(torch.ones(1, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(functional.relu(self.between(self, self.a(x))))


def of_units(graph: WeightGraph, name: str = "a") -> list[float]:
    """The sum of the weights of each unit's edges."""
    dense = graph.adjacency().toarray()
    return [float(dense[node].sum()) for node in graph.units[name]]


def unbound(m: Scaled, h: Tensor) -> Tensor:
    h.mul_(m.gain)
    return h


FOLDED: dict[str, Callable[[Scaled, Tensor], Tensor]] = {
    "times": lambda m, h: h * m.gain,
    "of the parameter": lambda m, h: m.gain.mul(h),
    "from the left": lambda m, h: m.gain * h,
    "function": lambda m, h: torch.mul(h, m.gain),
    "by keyword": lambda m, h: torch.mul(input=h, other=m.gain),
    "another name": lambda m, h: torch.multiply(m.gain, h),
    "in place": lambda m, h: h.mul_(m.gain),
    "in place, and read where it was": unbound,
    "a row": lambda m, h: h * m.gain[None],
    "expanded": lambda m, h: h * m.gain.expand_as(h),
    "of its shape": lambda m, h: h * (torch.ones_like(h) * m.gain),
    "a tensor made in forward": lambda m, h: torch.tensor(GAINS) * h,
    "made by a layer": lambda m, h: h * m.made(m.latent),
    "exponential": lambda m, h: h * torch.exp(m.log),
    "over": lambda m, h: h / torch.exp(-m.log),
    "division": lambda m, h: torch.div(h, 1 / m.log.exp(), rounding_mode=None),
    "two factors": lambda m, h: 5 * h * (m.gain / 5.0),
    "with its sign turned": lambda m, h: -(h * -m.gain),
    "one and the rest": lambda m, h: h + h * (m.gain - 1),
    "less the rest": lambda m, h: h - h.mul(1 - m.gain),
    "beside a bias": lambda m, h: m.gain * h + torch.ones(3),
    "as a second summand": lambda m, h: torch.add(torch.ones(3), h * m.gain / 2, alpha=2),
    "layer norm": lambda m, h: m.layer(h),
    "group norm": lambda m, h: m.group(h),
    "rms norm": lambda m, h: m.rms(h),
}
READ_TWICE = {
    "in place, and read where it was",
    "expanded",
    "of its shape",
    "one and the rest",
    "less the rest",
}


@pytest.mark.parametrize("name", FOLDED)
def test_a_constant_factor_is_in_the_weights_to_its_units_or_out_of_them(name: str) -> None:
    graph = weight_graph(Scaled(FOLDED[name]), torch.rand(2, 4))
    # Four weights to a unit and two out of it; where something else reads it too, the factor is in the latter.
    expected = [4 + 2 * g if name in READ_TWICE else 4 * g + 2 for g in GAINS]
    np.testing.assert_allclose(of_units(graph), expected, rtol=1e-5)


def test_a_factor_after_the_activation_is_in_the_weights_out_of_it() -> None:
    graph = weight_graph(Scaled(lambda m, h: h.tanh() * m.gain), torch.rand(2, 4))
    np.testing.assert_allclose(of_units(graph), [4 + 2 * g for g in GAINS], rtol=1e-6)


def test_what_masks_a_unit_takes_all_its_weights() -> None:
    graph = weight_graph(Scaled(lambda m, h: h * m.mask), torch.rand(2, 4))
    assert of_units(graph) == [6.0, 6.0, 2.0]
    assert of_units(weight_graph(Scaled(lambda m, h: h * 0.0), torch.rand(2, 4))) == [2.0] * 3
    assert of_units(weight_graph(Scaled(lambda m, h: -h), torch.rand(2, 4))) == [6.0] * 3
    assert of_units(weight_graph(Scaled(lambda m, h: h - h), torch.rand(2, 4))) == [4.0] * 3
    assert of_units(weight_graph(Scaled(lambda m, h: h + h), torch.rand(2, 4))) == [8.0] * 3


REFUSED: dict[str, tuple[Callable[[Scaled, Tensor], Tensor], str]] = {
    "gate of itself": (lambda m, h: h * h.sigmoid(), "mul"),
    "gate of a layer": (lambda m, h: m.gate(h) * h, "mul"),
    "square": (lambda m, h: h * h, "mul"),
    "over itself": (lambda m, h: h / h, "truediv"),
    "inverse": (lambda m, h: m.gain / h, "truediv"),
    "inverse of one": (lambda m, h: 1 / h, "truediv"),
    "whole numbers": (lambda m, h: torch.div(h, 2, rounding_mode="floor"), "div"),
    "by the largest": (lambda m, h: h / h.max(), "max"),
    "by the mean": (lambda m, h: h * h.mean(1, keepdim=True), "mean"),
    "by a norm": (lambda m, h: h / h.norm(), "norm"),
    "by what is positive": (lambda m, h: h * (h > 0), "gt"),
    "product and sum": (lambda m, h: torch.addcmul(torch.zeros(3), h, m.gain), "addcmul"),
    "quotient and sum": (lambda m, h: torch.addcdiv(torch.zeros(3), h, m.gain), "addcdiv"),
    "part of the way": (lambda m, h: torch.lerp(h, h.tanh(), 0.5), "lerp"),
    "filled": (lambda m, h: h.masked_fill(m.mask, 0.0), "masked_fill"),
    "chosen": (lambda m, h: torch.where(m.mask, h, 0.0), "where"),
    "sum of products": (lambda m, h: torch.einsum("bi,i->bi", h, m.gain), "einsum"),
    "matrix": (lambda m, h: h @ m.gain.diag(), "matmul"),
    "functional layer": (lambda m, h: functional.linear(h, m.gain.diag()), "linear"),
    "functional norm": (lambda m, h: functional.layer_norm(h, (3,), m.gain), "layer_norm"),
    "power": (lambda m, h: h**2, "pow"),
    "by chance": (lambda m, h: h * torch.rand_like(h), "rand_like"),
    "mask by chance": (lambda m, h: h * torch.bernoulli(torch.full_like(h, 0.5)), "mul"),
    "chance in forward": (lambda m, h: h * torch.rand(3), "mul"),
    "by sample": (lambda m, h: h * torch.arange(1.0, 3.0)[:, None], "mul"),
    "a part in place": (lambda m, h: [h, h[:, :2].mul_(2.0)][0], "getitem"),
    "a view in place": (lambda m, h: [h, h.view(2, 1, 3).mul_(2.0)][0], "view"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_factor_that_is_none_of_the_units_alone_is_named(name: str) -> None:
    between, what = REFUSED[name]
    with pytest.raises(CaptureError, match=rf"^`graph='weights'`: units cannot be followed through {what} "):
        weight_graph(Scaled(between), torch.rand(2, 4))


def test_what_a_hook_multiplies_is_named() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 2))
    net[0].bias.data.fill_(1.0)
    plain = weight_graph(net, torch.rand(2, 4)).adjacency().toarray()
    with net[1].register_forward_hook(lambda *a: None):
        np.testing.assert_array_equal(weight_graph(net, torch.rand(2, 4)).adjacency().toarray(), plain)
    with (
        net[1].register_forward_hook(lambda *a: a[2] * 2),
        pytest.raises(CaptureError, match=r"through 1 \(ReLU, whose output a hook changes\)"),
    ):
        weight_graph(net, torch.ones(2, 4))


def test_weights_that_are_pruned_as_they_are_used_are_read_as_they_are() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    prune.l1_unstructured(net[0], "weight", 0.5)
    net[0].weight_orig.data.mul_(3.0)  # as an optimizer would
    expected = (net[0].weight_orig * net[0].weight_mask).abs().sum(1) + net[2].weight.abs().sum(0)
    np.testing.assert_allclose(
        of_units(weight_graph(net, torch.rand(2, 4)), "0"), expected.detach(), rtol=1e-6
    )


def test_a_factor_that_is_not_finite_is_named() -> None:
    with pytest.raises(CaptureError, match=r"what truediv \(truediv\) multiplies units by is not all finite"):
        weight_graph(Scaled(lambda m, h: h / m.gain), torch.rand(2, 4))


class Images(nn.Module):
    """Two convolutions of one pixel, all weights 1, over images of 2 x 2."""

    def __init__(self, between: Callable[["Images", Tensor], Tensor]) -> None:
        super().__init__()
        self.between = between
        self.a, self.b = nn.Conv2d(4, 3, 1, bias=False), nn.Linear(3, 2, bias=False)
        self.a.weight.data.fill_(1.0)
        self.b.weight.data.fill_(1.0)
        self.gain = nn.Parameter(torch.tensor(GAINS))
        self.spots = nn.Parameter(torch.rand(2, 2))
        self.tracked = nn.InstanceNorm2d(3, affine=True, track_running_stats=True)
        self.plain, self.group = nn.InstanceNorm2d(3, affine=True), nn.GroupNorm(3, 3)
        self.tracked.running_var.fill_(4.0)
        for norm in (self.tracked, self.plain, self.group):
            norm.weight.data = torch.tensor(GAINS)
        self.over_all, self.over_rows = nn.LayerNorm((3, 2, 2)), nn.LayerNorm(2)
        self.total = nn.AvgPool2d(2, divisor_override=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.between(self, self.a(x)))


def mean(x: Tensor) -> Tensor:
    return x.relu().mean((2, 3))


BY_CHANNEL: dict[str, tuple[Callable[[Images, Tensor], Tensor], list[float]]] = {
    "times": (lambda m, h: mean(h * m.gain[:, None, None]), [6, 42, 2]),
    "of four axes": (lambda m, h: mean(m.gain.view(1, 3, 1, 1) * h), [6, 42, 2]),
    "the same at every spot": (lambda m, h: mean(h * m.gain.view(3, 1, 1).expand(3, 2, 2)), [6, 42, 2]),
    "instance norm": (lambda m, h: mean(m.plain(h)), [6, 42, 2]),
    "instance norm that tracks": (lambda m, h: mean(m.tracked(h)), [4, 22, 2]),
    "group norm": (lambda m, h: mean(m.group(h)), [6, 42, 2]),
    "layer norm that is 1 everywhere": (lambda m, h: mean(m.over_all(h)), [6, 6, 6]),
    "a sum over spots is four times their mean": (lambda m, h: h.relu().sum((2, 3)), [12, 12, 12]),
    "so is an average over one": (lambda m, h: m.total(h.relu()).squeeze(), [12, 12, 12]),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_CHANNEL)
def test_channels_are_multiplied_one_by_one(name: str) -> None:
    between, expected = BY_CHANNEL[name]
    graph = weight_graph(Images(between), torch.rand(2, 4, 2, 2))
    np.testing.assert_allclose(of_units(graph), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("between", "what"),
    [
        (lambda m, h: mean(h * m.spots), "mul"),
        (lambda m, h: mean(h / m.spots[None, None]), "truediv"),
        (lambda m, h: mean(m.over_all(h)), r"over_all \(LayerNorm\)"),
        (lambda m, h: mean(m.over_rows(h)), r"over_rows \(LayerNorm\)"),
        (lambda m, h: mean(h * h.mean((2, 3), keepdim=True).sigmoid()), "mul"),
        (lambda m, h: mean(functional.avg_pool2d(h, 2, divisor_override=3)), "avg_pool2d"),
        (lambda m, h: mean(functional.avg_pool2d(h, 2, 2, 0, False, True, 3)), "avg_pool2d"),
    ],
)
def test_what_multiplies_spots_of_a_channel_differently_is_named(between, what: str) -> None:
    model = Images(between)
    with torch.no_grad():
        for norm in (model.over_all, model.over_rows):
            norm.weight += torch.rand_like(norm.weight)
    with pytest.raises(CaptureError, match=f"followed through {what}"):
        weight_graph(model, torch.rand(2, 4, 2, 2))


class Joined(nn.Module):
    """A residual sum of units that are multiplied before it; all weights are positive, and nothing has a bias."""

    def __init__(self, sum_of: Callable[["Joined", Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.sum_of = sum_of
        self.a, self.f, self.g, self.b = (nn.Linear(3, 3, bias=False) for _ in range(4))
        for layer in (self.a, self.f, self.g, self.b):
            nn.init.uniform_(layer.weight, 0.5, 1.0)
        self.gain = nn.Parameter(torch.tensor(GAINS) / 5)
        self.norm = nn.BatchNorm1d(3)
        self.norm.running_var = torch.tensor([0.5, 2.0, 4.0])

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.sum_of(self, self.a(x)))


SUMS: dict[str, Callable[[Joined, Tensor], Tensor]] = {
    "plain": lambda m, h: h + m.f(h),
    "a number": lambda m, h: h + 0.1 * m.f(h),
    "alpha": lambda m, h: torch.add(h, m.f(h), alpha=0.1),
    "layer scale": lambda m, h: h + m.gain * m.f(h),
    "after the activation": lambda m, h: h + m.f(h).relu() * m.gain,
    "of what is summed to": lambda m, h: 0.3 * h + m.f(h),
    "of both": lambda m, h: m.gain * h + 0.5 * m.f(h),
    "none of it": lambda m, h: 0 * h + m.f(h),
    "none of the branch": lambda m, h: h + 0 * m.f(h),
    "of the sum": lambda m, h: (h + m.f(h)) / 2**0.5,
    "of a normalised one": lambda m, h: m.norm(m.g(h) + m.f(h)),
    "beside what is normalised": lambda m, h: (lambda y: y + m.g(y))(m.norm(m.f(h).relu())),
    "one after another": lambda m, h: (lambda y: 0.7 * y + m.g(y) * m.gain)(0.5 * h + m.f(h) / 3),
    "of two branches": lambda m, h: m.f(h) * m.gain + m.g(h).relu() / 3,
    "in place": lambda m, h: m.f(h).mul_(m.gain).add_(h),
    "twice the same": lambda m, h: h + m.gain * h,
}


@pytest.mark.parametrize("name", SUMS)
def test_what_goes_through_a_sum_of_multiplied_units_is_what_the_graph_says(name: str) -> None:
    model, x = Joined(SUMS[name]).double().eval(), torch.rand(1, 3, dtype=torch.float64)
    graph = weight_graph(model, x)
    # All is positive: what a node holds is what its edges bring, layer after layer.
    held = np.zeros(graph.n_nodes)
    held[graph.layers == 0] = x[0]
    for edges in graph.edges:
        held += np.bincount(edges.targets, edges.weights * held[edges.sources], minlength=graph.n_nodes)
    np.testing.assert_allclose(held[graph.units["b"]], model(x)[0].detach(), rtol=1e-5)


def test_a_sum_of_units_that_others_read_with_another_factor_is_named() -> None:
    model = Joined(lambda m, h: (lambda y: (0.5 * y + h) + m.g(y))(m.f(h)))
    with pytest.raises(CaptureError, match=r"through add \(add\)"):
        weight_graph(model, torch.rand(2, 3))


INPUTS: dict[str, tuple[Callable[[Tensor], Tensor], list[float]]] = {
    "by channel": (lambda x: (x - 0.5) / torch.tensor([0.5, 1.0])[:, None, None], [2.0] * 4 + [1.0] * 4),
    "a number": (lambda x: x * 0.1, [0.1] * 8),
    "by spot": (lambda x: x * torch.tensor([[1.0, 2.0], [0.0, 4.0]]), [1.0, 2.0, 0.0, 4.0] * 2),
    "pooled": (lambda x: functional.avg_pool2d(x * torch.tensor([1.0, 3.0])[:, None, None], 2), [1.0, 3.0]),
    "twice": (lambda x: x + 2 * x, [3.0] * 8),
}


@pytest.mark.parametrize("name", INPUTS)
def test_what_multiplies_the_input_is_in_the_weights_out_of_it(name: str) -> None:
    function, gains = INPUTS[name]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(len(gains), 3, bias=False)
            self.a.weight.data.fill_(1.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(function(x).flatten(1))

    graph = weight_graph(Net(), torch.rand(2, 2, 2, 2))
    np.testing.assert_allclose(of_units(graph, "a"), [sum(gains)] * 3, rtol=1e-6)
    dense = graph.adjacency().toarray()
    np.testing.assert_allclose(dense[graph.layers == 0].sum(1), [3 * g for g in gains], rtol=1e-6)


def test_features_of_tokens_are_multiplied_one_by_one() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 2, bias=False)
            self.gain = nn.Parameter(torch.tensor(GAINS))

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x * self.gain / 2).mean(1)

    model = Tokens()
    graph = weight_graph(model, torch.rand(2, 5, 3))
    expected = model.a.weight.detach().abs().double() * model.gain.detach() / 2
    np.testing.assert_allclose(of_units(graph), expected.sum(1), rtol=1e-6)
