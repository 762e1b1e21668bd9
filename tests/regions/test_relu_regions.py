"""Regions of piecewise-linear networks: their patterns, their affine maps, what they explain, and fewer of them."""

import copy

import numpy as np
import pytest
import torch
from small_networks import Body, Functional, convolutional, dense
from torch import Tensor, nn

from fnet_callbacks import relu_regions
from fnet_callbacks.capture.isolation import isolated
from fnet_callbacks.errors import CaptureError, FnetError
from fnet_callbacks.regions.patterns import activation_patterns


def close_together(inputs: Tensor) -> Tensor:
    """Inputs of which several are in one region."""
    near = inputs[:20].repeat_interleave(5, 0)
    return torch.cat([inputs, near + 1e-3 * torch.randn_like(near)])


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("make", [dense, convolutional])
def test_the_map_is_the_network_on_every_member(make, seed: int) -> None:
    model, inputs = make(seed)
    inputs = close_together(inputs)
    found = relu_regions(model, inputs, min_members=2)
    outputs = model.eval()(inputs.clone()).detach().double().numpy()
    np.testing.assert_allclose(found.outputs, outputs, atol=1e-6)
    assert len(found.weights) > 0
    has_map = found.labels < len(found.weights)
    labels = found.labels[has_map]
    told = np.einsum("scd,sd->sc", found.weights[labels], found.inputs[has_map]) + found.biases[labels]
    assert np.abs(told - outputs[has_map]).max() <= 1e-4 * np.abs(outputs).max()
    assert (found.errors <= 1e-4).all()
    assert found.sizes.tolist() == sorted(np.bincount(found.labels).tolist(), reverse=True)
    assert (found.sizes[: len(found.weights)] >= 2).all()
    assert (found.sizes[len(found.weights) :] < 2).all()


def test_functional_calls_have_patterns_and_maps_too() -> None:
    torch.manual_seed(0)
    model, inputs = Functional(), torch.randn(300, 6)
    found = relu_regions(model, close_together(inputs), min_members=3)
    assert (found.errors < 1e-5).all()
    assert [layer.name for layer in found.patterns.layers] == ["the model itself#0", "the model itself#1"]


def states(net: nn.Sequential, inputs: Tensor) -> list[tuple[int, ...]]:
    """Of a Linear, Hardtanh, Linear, ReLU, Linear network by hand."""
    with torch.no_grad():
        first = net[0](inputs)
        second = net[2](first.clamp(-1, 1))
    rows = torch.cat([(first > -1).int() + (first >= 1).int(), (second > 0).int()], 1)
    return [tuple(row) for row in rows.tolist()]


def hardtanh_net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(2, 4), nn.Hardtanh(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def test_regions_are_the_patterns_and_hardtanh_has_three_states() -> None:
    net, inputs = hardtanh_net(), 3 * torch.randn(500, 2)
    found = relu_regions(net, inputs, min_members=1)
    expected = states(net, inputs)
    assert len(set(expected)) == found.n_regions > 10
    by_region: dict[int, set[tuple[int, ...]]] = {}
    for label, state in zip(found.labels.tolist(), expected, strict=True):
        by_region.setdefault(label, set()).add(state)
    assert all(len(own) == 1 for own in by_region.values())
    assert found.patterns.n_units == 7
    # A unit two states away is at distance two.
    distances = found.patterns.among(np.arange(3), np.arange(50))
    for i in range(3):
        differ = [sum(abs(a - b) for a, b in zip(expected[i], other, strict=True)) for other in expected[:50]]
        assert distances[i].tolist() == differ


def test_units_that_are_never_or_always_active_are_counted_by_layer() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    net[0].bias.data = torch.tensor([-100.0, 100.0, 100.0, 0.0])
    with isolated(net, seed=0):
        patterns = activation_patterns(net, torch.randn(200, 3).split(64))
    first, second = patterns.layers
    assert (first.name, first.n_units, first.dead, first.always_on) == ("1", 4, 1, 2)
    assert (second.name, second.n_units) == ("3", 5)


def test_batches_are_put_together() -> None:
    model, inputs = convolutional(0)
    whole, parts = (relu_regions(model, inputs, min_members=1, batch_size=n) for n in (100, 7))
    np.testing.assert_array_equal(whole.labels, parts.labels)
    assert whole.patterns.layers == parts.patterns.layers


def test_purity_and_accuracy_are_those_of_the_members() -> None:
    net, inputs = hardtanh_net(), 3 * torch.randn(500, 2)
    targets = torch.randint(0, 2, (500,))
    found = relu_regions(net, inputs, targets=targets, min_members=20)
    right = (net(inputs).argmax(1) == targets).numpy()
    for region in range(found.n_regions):
        own = found.labels == region
        counts = np.bincount(targets.numpy()[own])
        assert found.purity[region] == pytest.approx(counts.max() / own.sum())
        assert found.accuracy[region] == pytest.approx(right[own].mean())
    without = relu_regions(net, inputs)
    assert np.isnan(without.purity).all()
    assert np.isnan(without.accuracy).all()


def test_contributions_and_bias_are_the_output_and_importance_is_a_share() -> None:
    model, inputs = dense(0)
    found = relu_regions(model, close_together(inputs), min_members=5)
    sample = int(np.flatnonzero(found.labels == 0)[0])
    told = found.contributions(sample).sum(1) + found.biases[0]
    np.testing.assert_allclose(told, found.outputs[sample], atol=1e-4)
    importance = found.importance()
    np.testing.assert_allclose(importance.sum(1), 1)
    own = found.labels == 0
    contrast = found.weights[0] - found.weights[0].mean(0)
    by_hand = np.mean([np.abs(contrast[c]) for c in found.predictions[own]], 0) * found.inputs.std(0)
    np.testing.assert_allclose(importance[0], by_hand / by_hand.sum())
    similarity = found.similarity()
    np.testing.assert_allclose(np.diag(similarity), 1)
    assert (np.abs(similarity) <= 1).all()
    lonely = int(np.flatnonzero(found.labels >= len(found.weights))[0])
    with pytest.raises(FnetError, match="has no map; take a smaller `min_members`"):
        found.contributions(lonely)
    with pytest.raises(FnetError, match="`sample=-1`"):
        found.contributions(-1)


@pytest.mark.parametrize("by", ["fit", "coefficients", "hamming"])
def test_merged_regions_are_as_faithful_as_they_say(by) -> None:
    model, inputs = dense(0)
    found = relu_regions(model, inputs, min_members=1)
    merged = found.merged(6, by=by)
    assert len(merged.sizes) <= 6
    assert merged.sizes.sum() == len(inputs)
    assert merged.sizes.tolist() == np.bincount(merged.labels).tolist()
    told = np.einsum("scd,sd->sc", merged.weights[merged.labels], found.inputs) + merged.biases[merged.labels]
    assert merged.agreement == pytest.approx((told.argmax(1) == found.predictions).mean())
    total = ((found.outputs - found.outputs.mean(0)) ** 2).sum()
    assert merged.r2 == pytest.approx(1 - ((told - found.outputs) ** 2).sum() / total)
    if by == "fit":
        assert merged.r2 > max(found.merged(6, by=other).r2 for other in ("coefficients", "hamming"))
    whole = found.merged(found.n_regions, by=by)
    assert whole.agreement == 1
    assert whole.r2 == pytest.approx(1)
    for group in range(len(merged.sizes)):
        own = merged.labels == group
        np.testing.assert_allclose(told[own].mean(0), found.outputs[own].mean(0), atol=1e-9)


def test_inputs_without_a_map_go_to_the_region_with_the_nearest_pattern() -> None:
    model, inputs = dense(0)
    found = relu_regions(model, close_together(inputs), min_members=5)
    merged = found.merged(len(found.weights), by="hamming")
    lonely = np.flatnonzero(found.labels >= len(found.weights))
    kept = np.array([np.flatnonzero(found.labels == r)[0] for r in range(len(found.weights))])
    distances = found.patterns.among(kept, lonely)
    for i, sample in enumerate(lonely.tolist()):
        of_same = merged.labels[kept] == merged.labels[sample]
        assert distances[of_same, i].min() == distances[:, i].min()
    assert found.merged(3).sizes.sum() == len(found.labels)


def test_the_network_of_one_output_is_explained() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    found = relu_regions(net, torch.randn(300, 4), min_members=5)
    assert found.weights.shape[1:] == (1, 4)
    assert set(found.predictions.tolist()) <= {0, 1}
    np.testing.assert_allclose(found.importance().sum(1), 1)
    assert 0.5 < found.merged(5).agreement <= 1


def test_the_model_is_left_as_it_was() -> None:
    model, inputs = convolutional(0)
    before = copy.deepcopy(model.state_dict())
    kept = inputs.clone()
    stream = torch.get_rng_state()
    relu_regions(model, inputs, min_members=1)
    assert model.training
    assert torch.equal(inputs, kept)
    assert torch.equal(stream, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_part_of_what_the_model_returns_may_be_the_output() -> None:
    class Mapped(Functional):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"logits": super().forward(x)}

    torch.manual_seed(0)
    inputs = close_together(torch.randn(100, 6))
    found = relu_regions(Mapped(), inputs, min_members=3, output_to_logits=lambda output: output["logits"])
    assert found.weights.shape[1:] == (3, 6)


def test_ten_thousand_inputs_are_grouped_at_once() -> None:
    rng = np.random.default_rng(0)
    with isolated(net := nn.Sequential(nn.Linear(3, 2000), nn.ReLU(), nn.Linear(2000, 2)), seed=0):
        patterns = activation_patterns(
            net, torch.from_numpy(rng.standard_normal((10_000, 3)).astype("f4")).split(500)
        )
    labels = patterns.groups()
    assert len(labels) == 10_000


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        (torch.randn(5, 6), {"min_members": 0}, "`min_members=0`"),
        (torch.randn(5, 6), {"batch_size": 0}, "`batch_size=0`"),
        (torch.randn(0, 6), {}, "`inputs` should be a tensor"),
        (torch.randint(0, 3, (5, 6)), {}, "`inputs` should be a tensor"),
        (torch.randn(5, 6), {"targets": np.zeros(4, int)}, r"`targets` should be integers \[5\]"),
        (torch.randn(5, 6), {"targets": np.zeros(5)}, "`targets` should be integers"),
    ],
)
def test_wrong_arguments_are_named(inputs: Tensor, options, message: str) -> None:
    with pytest.raises(FnetError, match=message):
        relu_regions(dense(0)[0], inputs, **options)


def test_wrong_ways_to_merge_are_named() -> None:
    found = relu_regions(dense(0)[0], torch.randn(30, 6), min_members=30)
    with pytest.raises(FnetError, match="no region has a map"):
        found.merged()
    found = relu_regions(dense(0)[0], torch.randn(30, 6), min_members=1)
    with pytest.raises(FnetError, match="`max_regions=0`"):
        found.merged(0)
    with pytest.raises(FnetError, match="`by='size'`"):
        found.merged(by="size")  # type: ignore[arg-type]


def test_a_unit_is_dead_by_its_slope() -> None:
    with isolated(net := Body(lambda x: x.clamp(max=1e6)), seed=0):
        bounded = activation_patterns(net, [torch.randn(50, 6)]).layers[0]
    assert (bounded.n_units, bounded.dead, bounded.always_on) == (6, 0, 6)
    with isolated(net := Body(lambda x: nn.functional.leaky_relu(x - 100)), seed=0):
        leaky = activation_patterns(net, [torch.randn(50, 6)]).layers[0]
    assert (leaky.dead, leaky.always_on) == (0, 6)


def test_distances_count_breaks() -> None:
    net = nn.Sequential(nn.Hardtanh(), nn.Linear(6, 2))
    with isolated(net, seed=0):
        low, high = (activation_patterns(net, [sign * torch.ones(4, 6) * 9]) for sign in (-1, 1))
    assert low.n_breaks == 12
    assert low.distances(high).tolist() == [12] * 4


def test_targets_may_be_any_integers() -> None:
    model, inputs = Body(torch.relu), torch.randn(40, 6)
    found = relu_regions(model, inputs, targets=np.tile([-1, 1], 20))
    assert (found.purity[found.sizes == 1] == 1).all()
    assert relu_regions(model, inputs[:1].repeat(8, 1), targets=np.tile([-1, 1], 4)).purity.tolist() == [0.5]
    assert relu_regions(model, inputs, targets=np.tile([True, False], 20)).targets.dtype == np.int64


def test_many_features_are_merged_through_the_smaller_matrix() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(400, 6), nn.ReLU(), nn.Linear(6, 2))
    inputs = torch.randn(40, 400)
    assert relu_regions(net, inputs, min_members=1).merged(5).agreement > 0.9


class Paired(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.relu(), x


def test_models_that_are_none_of_it_are_named() -> None:
    with pytest.raises(CaptureError, match="1 computes gelu, which is not piecewise linear"):
        relu_regions(nn.Sequential(nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 2)), torch.randn(9, 6))
    with pytest.raises(CaptureError, match="Linear has no piecewise-linear unit"):
        relu_regions(nn.Linear(6, 2), torch.randn(9, 6))
    with pytest.raises(FnetError, match=r"should be logits \[S, C\]"):
        relu_regions(nn.Sequential(nn.Conv1d(2, 3, 1), nn.ReLU()), torch.randn(9, 2, 5), min_members=1)
    with pytest.raises(
        FnetError, match=r"`inputs` of shape \[9, 5\] and torch\.float32: the model fails on them"
    ):
        relu_regions(dense(0)[0], torch.randn(9, 5))
    with pytest.raises(FnetError, match=r"torch\.float64: the model fails on them"):
        relu_regions(dense(0)[0], torch.randn(9, 6).double())
    with pytest.raises(FnetError, match="`inputs` hold NaN"):
        relu_regions(dense(0)[0], torch.full((9, 6), torch.nan))
    with pytest.raises(FnetError, match="got tuple; pass `output_to_logits`"):
        relu_regions(Paired(), torch.randn(9, 6))
