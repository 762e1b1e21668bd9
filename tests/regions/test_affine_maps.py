"""The affine maps of regions: by product, by gradient, and of models that hide what they do."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from small_networks import Body, dense
from torch import Tensor, nn

from fnet_callbacks import relu_regions
from fnet_callbacks.capture.isolation import isolated
from fnet_callbacks.errors import CaptureError, FnetError
from fnet_callbacks.regions.follower import Follower
from fnet_callbacks.regions.maps import affine_maps


@pytest.mark.parametrize("seed", range(10))
def test_the_product_of_a_chain_is_its_gradient(seed: int) -> None:
    model, inputs = dense(seed)
    with isolated(model, seed=0):
        by_product = affine_maps(model, inputs[:30])
        by_gradient = affine_maps(model, inputs[:30], call=lambda x: model(x))
    for a, b in zip(by_product, by_gradient, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


HIDDEN: dict[str, Callable[[Tensor], Tensor]] = {
    "of the batch": lambda x: x - x.mean(0),
    "of another sample": lambda x: x + x.flip(0),
    "through numpy": lambda x: x + torch.from_numpy(np.tanh(x.detach().numpy())),
    "a slope that depends on the input": lambda x: nn.functional.prelu(x, x[0]),
    "rounded": lambda x: x + (10 * x).long().float(),
    "compared unseen": lambda x: x * (x + 0.1).bool(),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_is_hidden_does_not_get_a_map(name: str) -> None:
    inputs = torch.randn(40, 6)
    with pytest.raises(FnetError):
        relu_regions(Body(HIDDEN[name]), inputs, min_members=1)


def test_what_autograd_does_not_see_is_in_the_map() -> None:
    inputs = torch.randn(40, 6)
    seen, unseen = (
        relu_regions(Body(f), inputs, min_members=1)
        for f in (lambda x: x + (2 * x).relu(), lambda x: x + (2 * x).relu().detach())
    )
    np.testing.assert_allclose(unseen.weights, seen.weights, atol=1e-4)


def test_what_is_done_with_the_output_is_followed_too() -> None:
    inputs = torch.randn(40, 6)
    with pytest.raises(CaptureError, match="softmax, which is not piecewise linear"):
        relu_regions(Body(torch.relu), inputs, output_to_logits=lambda output: output.softmax(1))
    plain = relu_regions(Body(torch.relu), inputs)
    cut = relu_regions(Body(torch.relu), inputs, output_to_logits=torch.relu, min_members=1)
    assert cut.patterns.n_units == plain.patterns.n_units + 3
    assert (cut.errors < 1e-5).all()


def test_samples_on_another_axis_are_refused() -> None:
    first, second = torch.randn(64, 6), torch.randn(3, 64)

    class Transposed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (second @ (first @ x.T).relu()).T

    with pytest.raises(CaptureError, match="do not have the samples on their first axis"):
        relu_regions(Transposed(), torch.randn(64, 6))


TIES: dict[str, Callable[[Tensor], Tensor]] = {
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "of two": lambda x: torch.maximum(x, -2 * x),
    "absolute": torch.abs,
    "largest": lambda x: x.view(-1, 2, 3).amax(1).repeat(1, 2),
    "least": lambda x: x.view(-1, 2, 3).min(1)[0].repeat(1, 2),
}


@pytest.mark.parametrize("name", TIES)
def test_inputs_at_a_break_have_the_map_of_their_piece(name: str) -> None:
    inputs = torch.randint(-1, 2, (60, 6), generator=torch.Generator().manual_seed(0)).float()
    found = relu_regions(Body(TIES[name]), inputs, min_members=1)
    assert (found.errors < 1e-4).all()


@pytest.mark.parametrize("name", TIES)
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_blank_inputs_have_the_map_of_their_piece_whatever_the_bias(name: str, value: float) -> None:
    model, blank = Body(TIES[name]), torch.full((2, 6), value)
    model.head[2].bias.data.fill_(3.0)
    with isolated(model, seed=0):
        weights, biases = affine_maps(model, blank)
    # The pieces of the input, from what the states of its units say.
    follower, along = Follower(lambda *_: None, frozen=True), 10 * torch.randn(2, 6)
    with torch.no_grad(), follower:
        told = model(follower.follow(torch.cat([blank, along])))[2:]
    torch.testing.assert_close(
        torch.einsum("rcd,rd->rc", weights, along) + biases, told, rtol=1e-4, atol=1e-5
    )


def test_inputs_that_the_model_writes_into_are_kept() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    inputs = torch.randn(50, 6)
    kept = inputs.clone()
    found = relu_regions(model, inputs, min_members=1)
    assert torch.equal(inputs, kept)
    np.testing.assert_array_equal(found.inputs, kept.double().numpy())
    assert (found.errors < 1e-5).all()


def test_a_chain_that_is_none_has_the_gradient() -> None:
    class Doubled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    torch.manual_seed(0)
    subclass = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), Doubled(8, 3))
    assert (relu_regions(subclass, torch.randn(30, 6), min_members=1).errors < 1e-5).all()
    late = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Flatten(), nn.Linear(15, 2))
    assert (relu_regions(late, torch.randn(30, 3, 2), min_members=1).errors < 1e-5).all()
    hooked = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    with hooked[2].register_forward_hook(lambda *a: 3 * a[2]):
        assert (relu_regions(hooked, torch.randn(30, 6), min_members=1).errors < 1e-5).all()
