"""Functional codes of finished models: what they are, and what follows from them."""

import numpy as np
import pytest
import torch
from small_codes import batches, cnn, images, trained
from torch import Tensor, nn

from fnet_callbacks import FnetError, functional_codes
from fnet_callbacks.codes.layer import LayerCodes, checked_grid, default_grid, layer_codes
from fnet_callbacks.codes.measures import map_distance


def test_codes_are_standardised_channel_means_and_what_follows_from_them() -> None:
    model = cnn()
    found = functional_codes(model, batches(), grid=(4, 5))
    assert [layer.name for layer in found.layers] == ["2", "5", "8"]
    inputs, labels = images()
    with torch.no_grad():
        model.eval()
        shown = [model[:3](inputs).mean((2, 3)), model[:6](inputs).mean((2, 3)), model[:9](inputs)]
        classes = model(inputs).argmax(1)
    for layer, values in zip(found.layers, shown, strict=True):
        live = values.std(0) > 1e-6
        expected = ((values - values.mean(0)) / values.std(0, correction=0))[:, live]
        torch.testing.assert_close(layer.codes[:, live], expected, atol=2e-4, rtol=1e-3)
        assert not layer.codes[:, ~live].any()
        assert layer.n_live == int(live.sum())
        far = torch.cdist(layer.codes, layer.map.weights)
        assert layer.units.tolist() == far.argmin(1).tolist()
        assert layer.quantization_error == pytest.approx(float(far.amin(1).mean()), rel=1e-4)
        assert layer.used_units == len(np.unique(layer.units))
        assert layer.places.tolist() == [[u // 5, u % 5] for u in layer.units]
    assert found.labels is not None
    assert found.labels.tolist() == labels.tolist()
    assert found.predictions is not None
    assert found.predictions.tolist() == classes.tolist()
    first, second = found.layers[:2]
    assert np.isnan(first.map_distance)
    assert second.map_distance == map_distance(first.places, second.places)


def test_maxima_go_beside_means_where_there_is_something_to_reduce() -> None:
    model = cnn().eval()
    found = functional_codes(model, batches(), maxima=True)
    assert [len(layer.mean) for layer in found.layers] == [12, 16, 16]
    with torch.no_grad():
        shown = model[:3](images()[0])
    torch.testing.assert_close(
        found["2"].mean, torch.cat([shown.mean((2, 3)), shown.amax((2, 3))], dim=1).double().mean(0)
    )


def test_the_model_is_left_as_it_was_and_the_same_codes_come_again() -> None:
    model = cnn().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = functional_codes(model, batches(), epsilon=0.1, bounds=(0.0, 1.0))
    state = torch.get_rng_state()
    second = functional_codes(model, batches(), epsilon=0.1, bounds=(0.0, 1.0))
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    for one, other in zip(first.layers, second.layers, strict=True):
        assert torch.equal(one.map.weights, other.map.weights)
    assert np.array_equal(first.paths["pgd"].attack.displacement, second.paths["pgd"].attack.displacement)


def test_a_trained_network_knows_its_classes_in_the_last_layer() -> None:
    found = functional_codes(trained(cnn()), batches())
    last = found.layers[-1]
    assert last.label_ami > 0.4
    assert last.compactness < 0.5
    shuffled = [(x, y[torch.randperm(len(y))]) for x, y in batches()]
    chance = functional_codes(cnn(), shuffled).layers[-1]
    assert abs(chance.label_ami) < 0.1


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > -1, torch.nan, x)


def test_a_layer_with_nan_has_a_problem_and_the_others_their_codes() -> None:
    model = cnn()
    model[8] = nn.Sequential(nn.ReLU(), Broken())
    found = functional_codes(model, batches(), layers=["2", "5", "8.1"])
    assert [layer.name for layer in found.layers] == ["2", "5"]
    assert found.problems == {"8.1": "layer 8.1 shows NaN or infinite values"}
    with pytest.raises(KeyError, match="NaN"):
        found["8.1"]
    with pytest.raises(KeyError, match="is none of 2, 5"):
        found["9"]


def test_constant_codes_one_class_and_one_channel_have_written_results() -> None:
    model = cnn(channels=1)
    nn.init.zeros_(model[4].weight)
    found = functional_codes(
        model, [(x, torch.zeros_like(y)) for x, y in batches()], epsilon=0.1, bounds=(0.0, 1.0)
    )
    single, dead = found.layers[:2]
    assert single.codes.shape[1] == 1
    assert single.participation_ratio == pytest.approx(1)
    assert single.used_units > 1
    assert dead.n_live == 0
    assert dead.quantization_error == 0
    assert dead.used_units == 1
    assert dead.code_entropy == 0
    assert np.isnan(dead.participation_ratio)
    assert np.isnan(dead.map_distance)
    assert np.isnan([single.label_nmi, single.label_ami, single.compactness]).all()
    path = found.paths["pgd"]
    assert np.isnan(path.attack.displacement[1]).all()
    assert (path.attack.units[1] == -1).all()
    assert np.isnan(path.departed_share).tolist() == [False, True, True]


def test_a_map_that_goes_on_from_the_last_keeps_its_orientation() -> None:
    model = cnn().eval()
    before = functional_codes(model, batches()).layers[-1]
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1 + 0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(2)))
        values = model[:9](images()[0])
    mirrored = type(before.map)(
        before.map.weights.unflatten(0, before.map.grid).flip(1).flatten(0, 1), before.map.grid
    )

    def moved(layer: LayerCodes, places: np.ndarray) -> float:
        return float(np.linalg.norm(layer.places - places, axis=1).mean())

    warm = layer_codes("8", values, before.map.grid, initial=before.map)
    assert moved(warm, before.places) < 1.5
    turned = layer_codes("8", values, before.map.grid, initial=mirrored)
    sides = before.map.grid[1] - 1
    places = before.places * np.array([1, -1]) + np.array([0, sides])
    assert moved(turned, places) < 1.5
    assert moved(turned, before.places) > 3
    other = layer_codes("8", values, (3, 3), initial=before.map)  # one that does not fit is left aside
    assert other.map.grid == (3, 3)


def test_the_grid_has_no_more_units_than_samples() -> None:
    assert default_grid(1024) == (13, 13)
    assert default_grid(1) == (1, 1)
    for n in range(1, 200):
        rows, columns = default_grid(n)
        assert rows * columns <= n
    assert checked_grid((1, 7), 7) == (1, 7)
    with pytest.raises(FnetError, match=r"`grid=\(15, 15\)` has 225 units, more than the 200 samples"):
        functional_codes(cnn(), batches(), grid=(15, 15))


def test_mixed_precision_is_that_of_the_model_alone() -> None:
    torch.manual_seed(0)
    values = torch.randn(10, 64)[torch.arange(500) % 10] + 0.01 * torch.randn(500, 64)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer_codes("a", values, (8, 8))
    assert found.units.tolist() == torch.cdist(found.codes, found.map.weights).argmin(1).tolist()
    assert torch.equal(found.map.weights, layer_codes("a", values, (8, 8)).map.weights)
