"""The path of attacks through codes: what is planted, and what noise does."""

import numpy as np
import pytest
import torch
from small_codes import batches, cnn, images, trained
from torch import Tensor, nn

from fnet_callbacks import functional_codes
from fnet_callbacks.attacks import fgsm, pgd
from fnet_callbacks.codes.propagation import Path, Shift, noise_like, shift


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
