"""Functional codes of finished models: what is read, what is planted, and what is refused."""

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fnet_callbacks import CaptureError, FnetError, functional_codes
from fnet_callbacks.attacks import fgsm, pgd
from fnet_callbacks.codes.layer import LayerCodes, checked_grid, default_grid, layer_codes
from fnet_callbacks.codes.measures import map_distance, normalized_mutual_information
from fnet_callbacks.codes.propagation import Path, Shift, noise_like, shift


def images(n: int = 200, channels: int = 1, side: int = 8) -> tuple[Tensor, Tensor]:
    """Noise in [0, 1] with one bright quarter, which is the class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 4
    found = 0.3 * torch.rand(n, channels, side, side, generator=generator)
    half = side // 2
    for i, label in enumerate(labels.tolist()):
        row, column = divmod(label, 2)
        found[i, :, row * half : (row + 1) * half, column * half : (column + 1) * half] += 0.6
    return found, labels


def cnn(channels: int = 6) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 16),
        nn.ReLU(),
        nn.Linear(16, 4),
    )


def batches(n: int = 200, size: int = 64) -> list[tuple[Tensor, Tensor]]:
    return list(zip(*(part.split(size) for part in images(n)), strict=True))


def trained(model: nn.Module, steps: int = 60) -> nn.Module:
    inputs, labels = images()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    return model


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


class Shifted(nn.Module):
    """Three equal layers; the second adds what the first pixel says, which only a large change of it sets off."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.third = (nn.Linear(16, 16) for _ in range(3))
        self.acts = nn.ModuleList(nn.ReLU() for _ in range(3))
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.acts[0](self.first(x[:, :16]))
        h = self.acts[1](self.second(h) + 5 * x[:, 16:17])
        return self.head(self.acts[2](self.third(h)))


def test_a_shift_planted_at_the_second_layer_is_located_there() -> None:
    model = Shifted().eval()
    inputs, labels = torch.rand(300, 17), torch.arange(300) % 4
    inputs[:, 16] = 0
    found = functional_codes(model, [(inputs, labels)])
    generator = torch.Generator().manual_seed(1)
    noise = 0.05 * torch.randn(2, 300, 17, generator=generator)
    noise[:, :, 16] = 0
    attacked, noisy = inputs + noise[0], inputs + noise[1]
    attacked[:, 16] = 1

    def values(x: Tensor) -> list[Tensor]:
        with torch.no_grad():
            first = model.acts[0](model.first(x[:, :16]))
            second = model.acts[1](model.second(first) + 5 * x[:, 16:17])
            return [first, second, model.acts[2](model.third(second))]

    names = [layer.name for layer in found.layers]
    path = Path(names, shift(found.layers, values(attacked)), shift(found.layers, values(noisy)))
    assert path.departure == 1
    assert path.departed_share[0] == pytest.approx(0.05, abs=0.05)
    assert (path.departed_share[1:] > 0.9).all()
    same = Path(names, shift(found.layers, values(noisy)), shift(found.layers, values(noisy)))
    assert same.departure is None
    assert same.departed_share == pytest.approx(0.05, abs=0.01)
    for what, mean in path.noise.means.items():
        assert mean == pytest.approx(
            getattr(path.noise, "changed" if what == "changed_share" else what).mean(1)
        )


def test_nothing_moves_where_nothing_changes() -> None:
    found = functional_codes(cnn().eval(), batches())
    scales = [torch.where(torch.isfinite(layer.scale), layer.scale, 0) for layer in found.layers]
    raw = [layer.codes.double() * s + layer.mean for layer, s in zip(found.layers, scales, strict=True)]
    moved = shift(found.layers, raw)
    assert moved.displacement.shape == (3, 200)
    assert moved.displacement == pytest.approx(0, abs=1e-5)
    assert not moved.changed.any()
    assert not moved.distance.any()


def test_a_departure_lasts_to_the_end() -> None:
    def shifted(displacement: list[float]) -> Shift:
        rows = np.array(displacement)[:, None] * np.ones(10)
        return Shift(rows, np.zeros_like(rows), rows, rows)

    quiet, nan = shifted([1.0, 1.0, 1.0, 1.0]), np.nan
    for attack, place in (
        *(([2, 2, 2, 2], 0), ([2, 1, 2, 2], 2), ([2, 2, 2, 1], None), ([1, 1, 1, 2], 3)),
        *(([1, 2, nan, 2], 1), ([1, 2, 2, nan], 1), ([nan, nan, nan, nan], None)),
    ):
        assert Path("abcd", shifted([float(a) for a in attack]), quiet).departure == place, attack


def test_noise_has_the_norm_of_the_attack_and_not_its_direction() -> None:
    model, (inputs, labels) = trained(cnn()).eval(), images()
    attacked = fgsm(model, inputs, labels, epsilon=0.1, bounds=(0.0, 1.0))
    noisy = noise_like(inputs, attacked, epsilon=0.1, bounds=(0.0, 1.0))
    delta, noise = (attacked - inputs).flatten(1), (noisy - inputs).flatten(1)
    torch.testing.assert_close(noise.norm(dim=1), delta.norm(dim=1))
    assert float(nn.functional.cosine_similarity(noise, delta).abs().mean()) < 0.3
    assert torch.equal(noise_like(inputs, inputs, epsilon=0.1, bounds=(0.0, 1.0)), inputs)
    assert torch.equal(noisy, noise_like(inputs, attacked, epsilon=0.1, bounds=(0.0, 1.0)))
    mean, std = 0.4, 0.2
    normal = noise_like(
        (inputs - mean) / std, (attacked - mean) / std, epsilon=0.1, bounds=(0.0, 1.0), normalize=(mean, std)
    )
    torch.testing.assert_close(normal * std + mean, noisy, atol=1e-5, rtol=1e-5)


def test_attacks_move_a_trained_network_further_than_noise_does() -> None:
    found = functional_codes(trained(cnn()), batches(), epsilon=0.1, bounds=(0.0, 1.0))
    assert set(found.paths) == {"fgsm", "pgd"}
    for path in found.paths.values():
        attack, noise = path.attack.means, path.noise.means
        assert attack["displacement"][-1] > 1.5 * noise["displacement"][-1]
        for means in (attack, noise):
            assert all(values.shape == (3,) for values in means.values())
    assert found.paths["pgd"].departure == 2


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


def test_without_labels_there_is_nothing_of_classes() -> None:
    found = functional_codes(cnn(), [x for x, _ in batches()])
    assert found.labels is None
    assert found.predictions is None
    assert np.isnan([layer.label_ami for layer in found.layers]).all()


def test_the_first_samples_are_used() -> None:
    assert functional_codes(cnn(), batches(), max_samples=100).layers[0].units.shape == (100,)


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


def test_values_of_another_width_are_refused() -> None:
    layer = layer_codes("a", torch.randn(30, 4), (2, 2))
    with pytest.raises(FnetError, match=r"`values` should be \[S, 4\]"):
        layer.standardized(torch.randn(3, 5))


class Mapping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = cnn()

    def forward(self, x: Tensor) -> Any:
        return {"logits": self.net(x)}


def trained_mapping() -> Mapping:
    model = Mapping()
    trained(model.net)
    return model


def test_logits_are_found_where_it_is_said() -> None:
    plain = functional_codes(Mapping(), batches())
    assert plain.predictions is None
    told = functional_codes(
        trained_mapping(), batches(), to_logits=lambda o: o["logits"], epsilon=0.1, bounds=(0.0, 1.0)
    )
    assert told.predictions is not None
    assert np.isfinite(told.layers[0].prediction_nmi)
    with pytest.raises(FnetError, match="pass `to_logits`"):
        functional_codes(Mapping(), batches(), epsilon=0.1, bounds=(0.0, 1.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grid": (0, 3)}, r"`grid=\(0, 3\)`"),
        ({"grid": 4}, "`grid=4`"),
        ({"epsilon": 0.1}, "belong together"),
        ({"epsilon": -1.0, "bounds": (0, 1)}, "`epsilon=-1.0`"),
        ({"epsilon": 0.1, "bounds": (0.5, 0.6)}, "raw inputs span"),
        ({"epsilon": 0.1, "bounds": 1.0}, "`bounds=1.0`"),
        ({"epsilon": 0.1, "bounds": (0, 1), "normalize": 0.5}, "normalize must be"),
        ({"max_samples": 1}, "`max_samples=1`"),
        ({"to_logits": 3}, "`to_logits=3`"),
        ({"batch_to_labels": 3}, "`batch_to_labels=3`"),
        ({"layers": "nothing"}, "matches no module"),
        ({"signal": "both"}, "`signal='both'`"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(FnetError, match=message):
        functional_codes(cnn(), batches(), **arguments)


def test_data_that_does_not_fit_is_named() -> None:
    with pytest.raises(FnetError, match="`epsilon` needs labels"):
        functional_codes(cnn(), [x for x, _ in batches()], epsilon=0.1, bounds=(0.0, 1.0))
    with pytest.raises(FnetError, match="`loader` has no batch"):
        functional_codes(cnn(), [])
    pairs = [((x, x), y) for x, y in batches()]

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = cnn()

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.net(a + b)

    assert len(functional_codes(Two(), pairs).layers) == 3
    with pytest.raises(CaptureError, match="attacks change one tensor"):
        functional_codes(Two(), pairs, epsilon=0.1, bounds=(0.0, 1.0))


def test_noise_is_apart_from_the_start_of_pgd() -> None:
    class Crop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.head = nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x[:, :, :4, :4].flatten(1))  # of the rest PGD keeps where it started

    inputs, labels = images()
    how = {"epsilon": 0.1, "bounds": (0.0, 1.0)}
    attacked = pgd(Crop(), inputs, labels, seed=3, **how)
    noise = noise_like(inputs, attacked, seed=3, **how) - inputs
    alike = nn.functional.cosine_similarity(noise.flatten(1), (attacked - inputs).flatten(1))
    assert abs(float(alike.mean())) < 0.15


def test_mixed_precision_is_that_of_the_model_alone() -> None:
    torch.manual_seed(0)
    values = torch.randn(10, 64)[torch.arange(500) % 10] + 0.01 * torch.randn(500, 64)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer_codes("a", values, (8, 8))
    assert found.units.tolist() == torch.cdist(found.codes, found.map.weights).argmin(1).tolist()
    assert torch.equal(found.map.weights, layer_codes("a", values, (8, 8)).map.weights)


class Overflowing(nn.Module):
    """NaN outside of what clean inputs show."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x.amax(1, keepdim=True) > self.largest, torch.nan, x)

    largest = 1e9


def test_a_layer_that_only_an_attack_breaks_is_nan_in_its_path() -> None:
    model = cnn().eval()
    model[8] = nn.Sequential(nn.ReLU(), breaking := Overflowing())
    with torch.no_grad():
        breaking.largest = float(model[:8](images()[0]).amax())
    layers = ["2", "5", "8.1"]
    found = functional_codes(model, batches(), layers=layers, epsilon=0.3, bounds=(0.0, 1.0))
    assert not found.problems
    broken = [np.isnan(path.attack.displacement[2]).all() for path in found.paths.values()]
    assert any(broken)
    for path in found.paths.values():
        assert np.isfinite(path.attack.displacement[:2]).all()
        assert np.isfinite(path.departed_share[:2]).all()


class PerToken(nn.Module):
    """Logits of each token, beside each other on the first axis."""

    def __init__(self) -> None:
        super().__init__()
        self.net = cnn()
        self.seen: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        output = self.net(x).repeat_interleave(7, 0)
        self.seen.append(weakref.ref(output))
        return output


def test_outputs_that_are_no_logits_of_the_samples_have_no_predictions_and_are_not_kept() -> None:
    model = PerToken()
    alive: list[int] = []
    hook = model.register_forward_pre_hook(lambda m, _: alive.append(sum(r() is not None for r in m.seen)))
    found = functional_codes(model, batches(size=20))
    hook.remove()
    assert found.predictions is None
    assert np.isfinite(found.layers[0].label_ami)
    assert max(alive) <= 1


def test_samples_without_a_label_are_left_out_of_what_is_said_of_labels() -> None:
    inputs, labels = images()
    some = torch.where(torch.arange(200) < 60, -1, labels)
    found = functional_codes(cnn(), [(inputs, some)]).layers[-1]
    whole = functional_codes(cnn(), [(inputs, labels)]).layers[-1]
    assert found.units.tolist() == whole.units.tolist()
    assert found.label_nmi == pytest.approx(
        normalized_mutual_information(whole.units[60:], labels.numpy()[60:])
    )
    none = functional_codes(cnn(), [(inputs, torch.full((200,), -1))]).layers[-1]
    assert np.isnan([none.label_nmi, none.label_ami, none.compactness]).all()
    with pytest.raises(FnetError, match="`epsilon` needs labels"):
        functional_codes(cnn(), [(inputs, some)], epsilon=0.1, bounds=(0.0, 1.0))


def test_labels_far_apart_cost_no_more() -> None:
    inputs, labels = images()
    far = functional_codes(cnn(), [(inputs, labels * 10_000_000)]).layers[-1]
    near = functional_codes(cnn(), [(inputs, labels)]).layers[-1]
    assert (far.label_nmi, far.label_ami) == (near.label_nmi, near.label_ami)


class TimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.head = nn.GRU(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0].mean(0))


def test_samples_may_be_on_the_second_axis() -> None:
    data = [(torch.rand(7, 16, 5), torch.arange(16) % 3) for _ in range(4)]
    found = functional_codes(TimeFirst(), data, max_samples=40)
    assert found.layers[0].codes.shape == (48, 8)  # batches are taken whole
    assert found.labels is not None
    assert len(found.labels) == 48


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.act, self.head = nn.Embedding(11, 6), nn.Tanh(), nn.Linear(6, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.head(self.act(self.embedding(input_ids)).mean(1))


def test_padding_is_left_out_of_means_and_maxima() -> None:
    ids = torch.randint(1, 11, (40, 9), generator=torch.Generator().manual_seed(0))
    lengths = torch.arange(40) % 9 + 1
    mask = torch.arange(9) < lengths[:, None]
    model = Tokens()
    padded = functional_codes(
        model, [{"input_ids": ids * mask, "attention_mask": mask.long()}], layers="act", maxima=True
    )
    with torch.no_grad():
        shown = model.act(model.embedding(ids))
    means = torch.stack([row[:n].mean(0) for row, n in zip(shown, lengths, strict=True)])
    maxima = torch.stack([row[:n].amax(0) for row, n in zip(shown, lengths, strict=True)])
    torch.testing.assert_close(padded["act"].mean, torch.cat([means, maxima], 1).double().mean(0))
