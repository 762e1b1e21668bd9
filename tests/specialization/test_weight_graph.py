"""The graph of weights, against sums by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.models import Classifier
from fnet_callbacks.errors import CaptureError
from fnet_callbacks.specialization.weight_graph import WeightGraph, weight_graph


def blocks(graph: WeightGraph) -> dict[tuple[str, str], np.ndarray]:
    """The dense matrix between two layers, by their names."""
    dense = graph.adjacency().toarray()
    np.testing.assert_array_equal(dense, dense.T)
    assert not np.diag(dense).any()
    found = {}
    for i, source in enumerate(graph.names):
        for j, target in enumerate(graph.names[i + 1 :], i + 1):
            block = dense[np.ix_(graph.layers == j, graph.layers == i)]
            if block.any():
                found[source, target] = block
    return found


def weights(module: nn.Module) -> np.ndarray:
    return module.weight.detach().abs().double().numpy()


def test_an_mlp_is_the_absolute_weights_between_its_layers() -> None:
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)
    )
    graph = weight_graph(net, torch.zeros(1, 1, 2, 3))
    assert list(graph.names) == ["input", "1", "4", "6"]
    found = blocks(graph)
    assert set(found) == {("input", "1"), ("1", "4"), ("4", "6")}
    np.testing.assert_allclose(found["1", "4"], weights(net[4]))
    np.testing.assert_allclose(found["4", "6"], weights(net[6]))
    np.testing.assert_allclose(found["input", "1"], weights(net[1]))  # each pixel is an input
    np.testing.assert_array_equal(graph.units["2"], graph.units["1"])


class Logging(nn.Module):
    """Computes what its output does not depend on, on tokens, and pools them one axis at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.logged = nn.Linear(4, 5), nn.Linear(5, 3), []

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        hidden = self.a(x).relu()
        (hidden * hidden).sum()
        if mask is not None:
            hidden = hidden * mask
        return self.b(hidden.mean(1).mean(1))


def test_units_of_tokens_are_followed_and_what_is_only_logged_is_not() -> None:
    graph = weight_graph(Logging(), torch.zeros(2, 3, 2, 4))
    assert list(graph.names) == ["input", "a", "b"]
    assert graph.n_nodes == 4 + 5 + 3
    found = blocks(graph)
    np.testing.assert_allclose(found["input", "a"].shape, (5, 4))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, as it loads its compiler
def test_a_compiled_model_is_its_original() -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    whole, compiled = (weight_graph(model, torch.zeros(1, 6)) for model in (net, torch.compile(net)))
    np.testing.assert_array_equal(compiled.adjacency().toarray(), whole.adjacency().toarray())


class Sliced(nn.Module):
    def __init__(self, net: nn.Sequential) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net[-1](self.net[:-1](x))


def test_a_part_of_a_sequential_that_is_cut_out_for_a_call_is_followed() -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    whole, parts = (weight_graph(model, torch.zeros(1, 6)) for model in (net, Sliced(net)))
    assert list(parts.names) == ["input", "net.0", "net.2"]
    np.testing.assert_array_equal(parts.adjacency().toarray(), whole.adjacency().toarray())


def test_convolutions_have_a_node_a_channel_and_flattening_adds_positions_up() -> None:
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4, 5),
    )  # fmt: skip
    found = blocks(weight_graph(net, torch.zeros(1, 2, 4, 4)))
    np.testing.assert_allclose(found["input", "0"], weights(net[0]).sum((2, 3)))
    np.testing.assert_allclose(found["0", "3"], weights(net[3]).sum((2, 3)))
    np.testing.assert_allclose(found["3", "6"], weights(net[6]).reshape(5, 4, 4).sum(2))


@pytest.mark.parametrize("transposed", [False, True])
def test_grouped_and_transposed_convolutions_join_only_their_own_channels(transposed: bool) -> None:
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    net = nn.Sequential(kind(4, 6, 3, groups=2))
    found = blocks(weight_graph(net, torch.zeros(1, 4, 5, 5)))["input", "0"]
    assert found.shape == (6, 4)
    assert not found[:3, 2:].any()
    assert not found[3:, :2].any()
    # What one channel can do to another is what an impulse shows.
    one = kind(4, 6, 3, groups=2, bias=False)
    one.weight.data = net[0].weight.detach().abs()
    for channel in range(4):
        impulse = torch.zeros(1, 4, 9, 9)
        impulse[0, channel, 4, 4] = 1
        np.testing.assert_allclose(one(impulse).sum((2, 3))[0].detach(), found[:, channel], rtol=1e-5)


def normalised(width: int) -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(width)
    norm.running_var = torch.rand(width) + 0.5
    norm.weight.data = torch.randn(width)
    return norm


def test_a_batch_norm_scales_the_weights_into_its_units() -> None:
    net = nn.Sequential(nn.Linear(3, 4), normalised(4), nn.ReLU(), nn.Linear(4, 2))
    found = blocks(weight_graph(net, torch.zeros(2, 3)))
    scale = (net[1].weight / (net[1].running_var + net[1].eps).sqrt()).abs().detach().double().numpy()
    np.testing.assert_allclose(found["input", "0"], weights(net[0]) * scale[:, None], rtol=1e-6)
    np.testing.assert_allclose(found["0", "3"], weights(net[3]))


class Residual(nn.Module):
    def __init__(self, joins: str) -> None:
        super().__init__()
        self.joins = joins
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 4)
        self.norm = normalised(4)
        self.head = nn.Linear(8 if joins == "cat" else 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        a = functional.relu(self.first(x))
        b = self.second(a).relu()
        if self.joins == "cat":
            return self.head(torch.cat([a, b], dim=1))
        if self.joins == "mul":
            return self.head(a * b)
        return self.head(self.norm(a + b))


def test_a_residual_sum_makes_one_node_of_two_units() -> None:
    net = Residual("sum")
    graph = weight_graph(net, torch.zeros(2, 3))
    assert graph.n_nodes == 3 + 4 + 2
    np.testing.assert_array_equal(graph.units["first"], graph.units["second"])
    found = blocks(graph)
    inner = weights(net.second)
    np.fill_diagonal(inner, 0)
    dense = graph.adjacency().toarray()[np.ix_(graph.units["first"], graph.units["first"])]
    np.testing.assert_allclose(dense, inner + inner.T)
    scale = (net.norm.weight / (net.norm.running_var + net.norm.eps).sqrt()).abs().detach().double().numpy()
    np.testing.assert_allclose(found["first", "head"], weights(net.head) * scale, rtol=1e-6)


def test_a_concatenation_sets_units_side_by_side() -> None:
    net = Residual("cat")
    found = blocks(weight_graph(net, torch.zeros(2, 3)))
    np.testing.assert_allclose(found["first", "head"], weights(net.head)[:, :4])
    np.testing.assert_allclose(found["second", "head"], weights(net.head)[:, 4:])


class Odd(nn.Module):
    """Ways that look as if units passed."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.first, self.norm, self.head = nn.Conv1d(3, 4, 1), nn.BatchNorm1d(4), nn.Linear(4, 2)
        self.norm.weight.data.fill_(10.0)
        self.pool = nn.MaxPool1d(2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)  # [S, 4, 4]
        if self.what == "chunk":
            one, other = hidden.chunk(2, 1)
            return self.head(torch.cat([one, other], 1).mean(2))
        if self.what == "channel mean":
            return self.head(hidden.mean(1))
        if self.what == "pooled features":
            return self.head(self.pool(hidden.mean(2).repeat(1, 2)))
        return self.head((self.norm(hidden) + hidden).mean(2))


@pytest.mark.parametrize("what", ["chunk", "channel mean", "pooled features"])
def test_what_looks_as_if_units_passed_is_refused(what: str) -> None:
    with pytest.raises(CaptureError, match="units cannot be followed"):
        weight_graph(Odd(what), torch.zeros(2, 3, 4))


def test_a_batch_norm_beside_another_reader_leaves_the_weights_into_its_units() -> None:
    net = Odd("normalised beside it")
    found = blocks(weight_graph(net, torch.zeros(2, 3, 4)))
    np.testing.assert_allclose(found["input", "first"], weights(net.first)[..., 0], rtol=1e-6)


def test_a_product_of_units_is_named() -> None:
    with pytest.raises(CaptureError, match=r"`graph='weights'`: units cannot be followed through mul"):
        weight_graph(Residual("mul"), torch.zeros(2, 3))


def test_a_layer_that_has_no_way_through_is_named() -> None:
    net = nn.Sequential(nn.GRU(3, 4, batch_first=True))
    with pytest.raises(CaptureError, match=r"through 0 \(GRU\)"):
        weight_graph(net, torch.zeros(2, 5, 3))


def test_a_model_that_cannot_be_traced_is_named() -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(CaptureError, match=r"Branches cannot be traced by torch\.fx"):
        weight_graph(Branches(), torch.zeros(2, 3))


def test_the_model_is_left_as_it_was() -> None:
    net = nn.Sequential(nn.Linear(3, 4), normalised(4), nn.Dropout())
    net[2].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    weight_graph(net, torch.randn(5, 3))
    assert [m.training for m in net] == [True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_shuffling_keeps_the_weights_of_each_layer() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5))
    graph = weight_graph(net, torch.zeros(1, 3))
    shuffled = graph.adjacency(np.random.default_rng(0)).toarray()
    own = graph.adjacency().toarray()
    assert not np.array_equal(shuffled, own)
    for i, j in ((0, 1), (1, 2)):
        place = np.ix_(graph.layers == i, graph.layers == j)
        np.testing.assert_allclose(np.sort(shuffled[place].ravel()), np.sort(own[place].ravel()))


@pytest.mark.parametrize(("model", "n_inputs"), [("mlp", 64), ("cnn", 1)])
def test_a_lightning_module_is_traced(model: str, n_inputs: int) -> None:
    module = Classifier(model, hidden=[8, 6], regularizer="both", input_shape=(1, 8, 8))
    graph = weight_graph(module, torch.zeros(2, 1, 8, 8))
    assert graph.n_nodes == n_inputs + 8 + 6 + 10
    assert graph.names[0] == "input"


def test_a_module_that_is_called_twice_has_units_of_each_call() -> None:
    layer = nn.Linear(3, 3)
    graph = weight_graph(nn.Sequential(layer, nn.ReLU(), layer), torch.zeros(1, 3))
    assert graph.n_nodes == 9
    assert [n for n in graph.names if "#" in n] == ["0#0", "0#1"]


def test_resnet_and_others_of_the_benchmarks_are_traced() -> None:
    from benchmarks.networks import BENCHMARKS

    for name in ("mlp", "3c3d", "resnet18"):
        data, _ = BENCHMARKS[name].data(None)
        graph = weight_graph(BENCHMARKS[name].network(), data[0][0][None])
        assert graph.adjacency().nnz > 0


def test_a_scale_on_the_input_goes_with_it_through_a_flattening() -> None:
    norm = nn.BatchNorm2d(3).eval()
    norm.running_var.copy_(torch.tensor([0.25, 1.0, 4.0]))  # type: ignore[union-attr]
    model = nn.Sequential(norm, nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 2))
    found = blocks(weight_graph(model, torch.rand(2, 3, 2, 2)))["input", "2"]
    np.testing.assert_allclose(found, weights(model[2]) * np.repeat([2.0, 1.0, 0.5], 4), rtol=1e-4)
