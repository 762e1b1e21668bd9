"""Attacks: the ball and the bounds, hand-computed steps, strength, and what must stay untouched."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn

from fnet_callbacks.attacks import (
    RobustAccuracy,
    correct_predictions,
    cross_entropy,
    fgsm,
    pgd,
    robust_accuracy,
)

UNIT = (0.0, 1.0)


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)


@pytest.fixture(scope="module")
def trained(digits) -> nn.Module:
    inputs, labels = digits
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(5):
            for rows in torch.randperm(len(inputs)).split(128):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(inputs[rows]), labels[rows]).backward()
                optimizer.step()
    optimizer.zero_grad()
    return model.eval()


def linear(weight: list[list[float]]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), bias=False)
    layer.weight.data = torch.tensor(weight)
    return layer


# Both classes' weights differ by (3, -4), so the loss of class 0 rises along (-3, 4).
MODEL = linear([[3.0, 0.0], [0.0, 4.0]])
MODEL_3 = linear([[1.0, -2.0, 3.0], [0.0, 1.0, -1.0]])


def test_fgsm_is_the_sign_step_on_a_linear_model():
    inputs = torch.tensor([[0.5, 0.5], [0.05, 0.95]])
    adversarial = fgsm(MODEL, inputs, torch.tensor([0, 0]), epsilon=0.1, bounds=UNIT)
    expected = torch.tensor([[0.4, 0.6], [0.0, 1.0]])
    torch.testing.assert_close(adversarial, expected)


def test_l2_step_is_the_normalised_gradient_on_a_linear_model():
    inputs = torch.full((1, 2), 0.5)
    expected = inputs + 0.1 * torch.tensor([[-0.6, 0.8]])
    options = {"epsilon": 0.1, "bounds": UNIT, "norm": "l2"}
    torch.testing.assert_close(fgsm(MODEL, inputs, torch.tensor([0]), **options), expected)
    torch.testing.assert_close(pgd(MODEL, inputs, torch.tensor([0]), random_start=False, **options), expected)


def test_fgsm_with_normalize_steps_epsilon_in_the_raw_space():
    mean, std = torch.tensor([0.4, 0.6]), torch.tensor([0.2, 0.5])
    raw = torch.tensor([[0.5, 0.5]])
    adversarial = fgsm(
        MODEL,
        (raw - mean) / std,
        torch.tensor([0]),
        epsilon=0.1,
        bounds=UNIT,
        normalize=([0.4, 0.6], [0.2, 0.5]),
    )
    torch.testing.assert_close(adversarial * std + mean, torch.tensor([[0.4, 0.6]]))


def test_normalised_l2_step_is_the_raw_step_of_the_composed_model():
    mean, std = torch.tensor([0.4, 0.6]), torch.tensor([0.2, 0.5])
    raw, labels = torch.tensor([[0.5, 0.5]]), torch.tensor([0])
    options = {"epsilon": 0.1, "bounds": UNIT, "norm": "l2"}
    composed = fgsm(lambda x: MODEL((x - mean) / std), raw, labels, **options)
    normalised = fgsm(MODEL, (raw - mean) / std, labels, normalize=([0.4, 0.6], [0.2, 0.5]), **options)
    torch.testing.assert_close(normalised * std + mean, composed)


def test_fgsm_equals_pgd_with_one_full_step_and_no_random_start(trained, digits):
    inputs, labels = digits[0][:50], digits[1][:50]
    one_step = pgd(
        trained, inputs, labels, epsilon=0.1, bounds=UNIT, steps=1, step_size=0.1, random_start=False
    )
    assert torch.equal(fgsm(trained, inputs, labels, epsilon=0.1, bounds=UNIT), one_step)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_l2_steps_have_their_length_where_squared_gradients_leave_the_range_of_floats(size):
    steep = linear([[3 * size, 0.0], [0.0, 4 * size]])
    inputs = torch.full((1, 2), 0.5)
    adversarial = pgd(
        steep,
        inputs,
        torch.tensor([0]),
        epsilon=0.4,
        steps=1,
        step_size=0.1,
        random_start=False,
        bounds=UNIT,
        norm="l2",
        loss=lambda logits, labels: logits[:, 1] - logits[:, 0],
    )
    torch.testing.assert_close(adversarial, inputs + 0.1 * torch.tensor([[-0.6, 0.8]]))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    epsilon=st.floats(1e-3, 5.0),
    low=st.floats(-3, 1),
    width=st.floats(0.5, 4),
    norm=st.sampled_from(["linf", "l2"]),
    steps=st.integers(1, 4),
    restarts=st.integers(1, 2),
    normalized=st.booleans(),
)
def test_attacks_never_leave_the_ball_or_the_bounds(
    seed, epsilon, low, width, norm, steps, restarts, normalized
):
    generator = torch.Generator().manual_seed(seed)
    bounds = (low, low + width)
    raw = (low + width * torch.rand((4, 2, 3, 3), generator=generator)).clamp(*bounds)
    raw[0] = bounds[1]
    mean, std = ([0.1, -0.4], [0.25, 2.0]) if normalized else ([0.0, 0.0], [1.0, 1.0])
    mean_t, std_t = (torch.tensor(part).reshape(1, 2, 1, 1) for part in (mean, std))
    weight = torch.randn((18, 3), generator=generator)
    labels = torch.randint(3, (4,), generator=generator)

    def model(inputs):
        return torch.tanh(inputs.flatten(1)) @ weight

    options = {
        "epsilon": epsilon,
        "bounds": bounds,
        "norm": norm,
        "normalize": (mean, std) if normalized else None,
    }
    inputs = (raw - mean_t) / std_t
    for adversarial in (
        fgsm(model, inputs, labels, **options),
        pgd(model, inputs, labels, steps=steps, restarts=restarts, seed=seed, **options),
    ):
        seen = adversarial.double() * std_t.double() + mean_t.double()
        offset = (seen - raw.double()).flatten(1)
        distance = offset.abs().amax(1) if norm == "linf" else offset.norm(dim=1)
        rounding = 1e-5
        assert distance.max() <= epsilon + rounding
        assert seen.min() >= low - rounding
        assert seen.max() <= low + width + rounding
        assert adversarial.shape == inputs.shape
        assert adversarial.dtype == inputs.dtype


def test_bounds_hold_to_the_bit_in_the_space_of_the_model():
    inputs = torch.rand((20, 3), generator=torch.Generator().manual_seed(0))
    adversarial = pgd(MODEL_3, inputs, torch.zeros(20).long(), epsilon=0.7, bounds=UNIT, seed=3)
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1


def test_pgd_is_stronger_than_fgsm_and_both_below_clean(trained, digits):
    clean = correct_predictions(trained(digits[0]), digits[1]).float().mean().item()
    attacked = {
        attack: robust_accuracy(trained, [digits], attack=attack, epsilon=0.1, bounds=UNIT)
        for attack in ("fgsm", "pgd")
    }
    assert clean > 0.9
    assert attacked["pgd"].accuracy < attacked["fgsm"].accuracy < clean
    assert attacked["fgsm"].zero_gradient_share < 0.01


def test_pgd_raises_the_loss_of_every_norm(trained, digits):
    inputs, labels = digits[0][:200], digits[1][:200]
    clean = cross_entropy(trained(inputs), labels).mean()
    for norm, epsilon in (("linf", 0.05), ("l2", 0.5)):
        adversarial = pgd(trained, inputs, labels, epsilon=epsilon, bounds=UNIT, norm=norm)
        assert cross_entropy(trained(adversarial), labels).mean() > 2 * clean


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_restarts_never_weaken_a_sample(trained, digits, reduction):
    inputs, labels = digits[0][:100], digits[1][:100]

    def loss(logits, target):
        return nn.functional.cross_entropy(logits, target, reduction=reduction)

    def attacked_loss(restarts):
        options = {"epsilon": 0.1, "bounds": UNIT, "steps": 2, "step_size": 0.02, "seed": 5, "loss": loss}
        adversarial = pgd(trained, inputs, labels, restarts=restarts, **options)
        return cross_entropy(trained(adversarial), labels).detach()

    one, four = attacked_loss(1), attacked_loss(4)
    assert bool((four >= one - 1e-6).all())
    assert (four > one + 1e-3).float().mean() > 0.5


def test_random_start_is_uniform_in_the_ball():
    """Where there is no gradient the start is what comes back: its radius has the law r^d."""
    inputs = torch.full((4000, 2), 0.5)
    labels = torch.zeros(4000).long()
    square = pgd(lambda x: torch.zeros(len(x), 2), inputs, labels, epsilon=0.2, bounds=UNIT) - inputs
    disc = pgd(lambda x: torch.zeros(len(x), 2), inputs, labels, epsilon=0.2, bounds=UNIT, norm="l2") - inputs
    assert square.abs().mean().item() == pytest.approx(0.1, rel=0.05)
    assert (disc.norm(dim=1) < 0.1).float().mean().item() == pytest.approx(0.25, abs=0.03)


def test_seed_alone_decides_the_random_start(trained, digits):
    inputs, labels = digits[0][:20], digits[1][:20]
    runs = [pgd(trained, inputs, labels, epsilon=0.1, bounds=UNIT, steps=1, seed=s) for s in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("attack", [fgsm, pgd])
def test_gradients_inputs_modes_and_random_streams_are_untouched(digits, attack):
    inputs, labels = digits[0][:32].clone(), digits[1][:32]
    model = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Linear(8, 10))
    model[1].eval()
    nn.functional.cross_entropy(model(inputs), labels).backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    state, before = torch.get_rng_state(), inputs.clone()

    attack(model, inputs, labels, epsilon=0.1, bounds=UNIT)

    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(inputs, before)
    assert not inputs.requires_grad
    assert model.training
    assert not model[1].training


def test_no_gradient_appears_on_parameters_that_had_none(trained, digits):
    pgd(trained, digits[0][:8], digits[1][:8], epsilon=0.1, bounds=UNIT)
    assert all(parameter.grad is None for parameter in trained.parameters())


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad])
def test_attacks_work_where_gradients_are_off(trained, digits, context):
    inputs, labels = digits[0][:32], digits[1][:32]
    options = {"epsilon": 0.1, "bounds": UNIT, "restarts": 2}
    expected = pgd(trained, inputs, labels, **options)
    with context():
        adversarial = pgd(trained, inputs.clone(), labels.clone(), **options)
        counts = robust_accuracy(
            trained, [(inputs.clone(), labels.clone())], attack="pgd", epsilon=0.1, bounds=UNIT
        )
        assert not torch.is_grad_enabled()
    assert torch.equal(adversarial, expected)
    assert counts.total == 32


def test_a_recurrent_model_can_be_attacked_in_eval_mode():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.head = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 2)

        def forward(self, inputs):
            return self.head(self.gru(inputs)[0][:, -1])

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Recurrent().eval()
    inputs, labels = torch.rand((6, 5, 3), generator=torch.Generator().manual_seed(0)), torch.zeros(6).long()
    adversarial = pgd(model, inputs, labels, epsilon=0.1, bounds=UNIT)
    assert bool((cross_entropy(model(adversarial), labels) > cross_entropy(model(inputs), labels)).all())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="cuDNN's recurrent layers need a GPU")
def test_a_recurrent_model_can_be_attacked_in_eval_mode_on_cuda():
    gru = nn.GRU(3, 8, batch_first=True).cuda().eval()
    inputs = torch.rand((6, 5, 3), generator=torch.Generator().manual_seed(0)).cuda()
    labels = torch.zeros(6, device="cuda").long()
    for model in (lambda x: gru(x)[0][:, -1], nn.Sequential(gru, LastStep())):
        adversarial = pgd(model, inputs, labels, epsilon=0.1, bounds=UNIT)
        assert not torch.equal(adversarial, inputs)
    assert torch.backends.cudnn.enabled


class LastStep(nn.Module):
    def forward(self, output):
        return output[0][:, -1]


def test_a_model_that_begins_in_place_is_attacked_correctly(trained, digits):
    inputs, labels = digits[0][:16], digits[1][:16]
    expected = pgd(trained, inputs, labels, epsilon=0.1, bounds=UNIT)
    in_place = pgd(lambda x: trained(x.mul_(1.0)), inputs, labels, epsilon=0.1, bounds=UNIT)
    assert torch.equal(in_place, expected)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_a_single_logit_is_binary(shape):
    weight = torch.tensor([1.0, -1.0])
    inputs = torch.tensor([[0.6, 0.5], [0.5, 0.6], [0.9, 0.1]])
    labels = torch.tensor([1, 0, 1])

    def model(x):
        return (x @ weight).reshape(shape)

    oracle = nn.functional.binary_cross_entropy_with_logits(inputs @ weight, labels.float(), reduction="none")
    torch.testing.assert_close(cross_entropy(model(inputs), labels), oracle)
    assert correct_predictions(model(inputs), labels).tolist() == [True, True, True]
    adversarial = fgsm(model, inputs, labels, epsilon=0.1, bounds=UNIT)
    torch.testing.assert_close(adversarial, torch.tensor([[0.5, 0.6], [0.6, 0.5], [0.8, 0.2]]))
    assert robust_accuracy(
        model, [(inputs, labels)], attack="fgsm", epsilon=0.1, bounds=UNIT
    ).accuracy == pytest.approx(1 / 3)


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_zero_gradients_are_counted_and_move_nothing(attack, norm):
    """Saturated on the first sample, alive on the second."""
    inputs = torch.tensor([[0.9, 0.9], [0.1, 0.1]])
    labels = torch.tensor([0, 0])

    def masked(x):
        alive = (inputs < 0.5).float()
        return MODEL(x * alive)

    counts = robust_accuracy(
        masked, [(inputs, labels)], attack=attack, epsilon=0.05, bounds=UNIT, norm=norm, random_start=False
    )
    assert (counts.zero_gradients, counts.total) == (1, 2)
    assert counts.zero_gradient_share == 0.5
    adversarial = fgsm(masked, inputs, labels, epsilon=0.05, bounds=UNIT, norm=norm)
    assert torch.equal(adversarial[0], inputs[0])
    assert not torch.equal(adversarial[1], inputs[1])


@pytest.mark.parametrize(
    "model",
    [
        lambda x: MODEL(x).detach(),
        lambda x: MODEL(x.detach()),
        lambda x: MODEL(x) * math.nan,
        torch.no_grad()(MODEL.forward),
    ],
)
def test_models_without_a_usable_gradient_leave_the_input_alone(model):
    inputs, labels = torch.rand((5, 2), generator=torch.Generator().manual_seed(0)), torch.zeros(5).long()
    assert torch.equal(fgsm(model, inputs, labels, epsilon=0.1, bounds=UNIT, norm="l2"), inputs)
    counts = robust_accuracy(model, [(inputs, labels)], attack="pgd", epsilon=0.1, bounds=UNIT)
    assert counts.zero_gradient_share == 1


def test_counts_add_up_over_batches(trained, digits):
    batches = [(digits[0][i : i + 40], digits[1][i : i + 40]) for i in (0, 40, 80)]
    options = {"attack": "fgsm", "epsilon": 0.1, "bounds": UNIT}
    together = robust_accuracy(trained, batches, **options)
    parts = [robust_accuracy(trained, [batch], **options) for batch in batches]
    assert together == sum(parts, RobustAccuracy())
    assert together.total == 120
    assert together.accuracy == together.correct / 120
    assert together.variance == pytest.approx(120 * together.accuracy * (1 - together.accuracy))


def test_no_samples_give_nan_and_no_error(trained):
    empty = torch.zeros((0, 64)), torch.zeros(0).long()
    for norm in ("linf", "l2"):
        assert pgd(trained, *empty, epsilon=0.1, bounds=UNIT, norm=norm, restarts=2).shape == (0, 64)
    counts = robust_accuracy(trained, [empty], attack="pgd", epsilon=0.1, bounds=UNIT)
    assert counts == RobustAccuracy(0, 0, 0)
    assert math.isnan(counts.accuracy)
    assert math.isnan(counts.zero_gradient_share)


def test_float64_stays_float64():
    inputs = torch.rand((4, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    adversarial = pgd(lambda x: x**2, inputs, torch.zeros(4).long(), epsilon=0.1, bounds=UNIT)
    assert adversarial.dtype == torch.float64
    assert (adversarial - inputs).abs().max() <= 0.1 + 1e-15


def test_infinite_bounds_leave_the_ball_alone():
    inputs = torch.tensor([[1e4, -1e4]])
    adversarial = fgsm(MODEL, inputs, torch.tensor([0]), epsilon=10.0, bounds=(-math.inf, math.inf))
    torch.testing.assert_close(adversarial, inputs + torch.tensor([[-10.0, 10.0]]), atol=10, rtol=0)
