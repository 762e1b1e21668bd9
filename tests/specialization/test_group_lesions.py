"""Lesions of groups of units, against a network whose outgoing weights are zero."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fnet_callbacks.capture.batch import Batch
from fnet_callbacks.capture.isolation import isolated
from fnet_callbacks.capture.layers import Layer, choose_layers
from fnet_callbacks.capture.silencer import Silencer
from fnet_callbacks.errors import FnetError
from fnet_callbacks.specialization.lesions import LayerLesions

GROUPS = [np.array([0]), np.array([1, 3]), np.arange(4), np.empty(0, np.int64)]


def mlp() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(6, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 4), nn.ReLU(inplace=True), nn.Linear(4, 3)
    )


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2, bias=False), nn.BatchNorm2d(5),
        nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(5, 3),
    )  # fmt: skip


class Skipping(nn.Module):
    """What goes round a layer has to be stacked beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.second, self.head = (
            nn.Linear(6, 5),
            nn.ReLU(),
            nn.Linear(5, 5),
            nn.Linear(5, 3),
        )
        self.scale = nn.Parameter(torch.ones(5))

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        return self.head(self.second(self.act(first)) * self.scale + first)


class Branching(Skipping):
    """Cannot be traced."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > -1e9 else -x)


class Counting(Skipping):
    """Needs the number of samples beyond the layer."""

    def forward(self, x: Tensor) -> Tensor:
        n = x.size(0)
        return super().forward(x).view(n, -1)


def batch_of(inputs: Any, labels: Tensor) -> Batch:
    return Batch(inputs, labels, len(labels))


def data(model: nn.Module) -> list[Batch]:
    torch.manual_seed(1)
    shape = (2, 6, 6) if isinstance(model, nn.Sequential) and isinstance(model[0], nn.Conv2d) else (6,)
    return [batch_of(torch.randn(n, *shape), torch.randint(0, 3, (n,))) for n in (17, 9)]


def layers(model: nn.Module, batches: list[Batch], names: Any = "auto") -> list[Layer]:
    inputs = batches[0].inputs
    return choose_layers(model, model, inputs, n_samples=len(inputs), layers=names)


def accuracy(model: Callable[[Tensor], Tensor], batches: list[Batch]) -> np.ndarray:
    hits = torch.cat([model(b.inputs).argmax(1) == b.classes for b in batches]).double()
    labels = torch.cat([b.classes for b in batches])
    return np.array([hits[labels == c].mean().item() for c in range(3)])


@pytest.mark.parametrize(
    ("make", "is_cut"), [(mlp, True), (cnn, True), (Skipping, True), (Branching, False), (Counting, False)]
)
def test_a_lesion_is_what_zeroed_outgoing_weights_do(make: Callable[[], nn.Module], is_cut: bool) -> None:
    torch.manual_seed(0)
    model = make()
    batches = data(model)
    with isolated(model, seed=0):
        for layer in layers(model, batches):
            lesions = LayerLesions(model, layer, batches, num_classes=3)
            assert lesions.is_cut == is_cut
            found = lesions.accuracies([g[g < layer.n_units] for g in GROUPS])
            following = [m for name, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
            for group, own in zip(GROUPS, found, strict=True):
                changed = copy.deepcopy(model)
                after = next_weights(changed, layer.name)
                after.weight.data[:, group[group < layer.n_units]] = 0
                np.testing.assert_allclose(own, accuracy(changed, batches), atol=1e-12)
            np.testing.assert_allclose(lesions.intact(), accuracy(model, batches))
            assert len(following) > 1


def next_weights(model: nn.Module, name: str) -> Any:
    """The layer whose weights read a nonlinearity's output."""
    if isinstance(model, Skipping):
        return model.second
    later = list(model.children())[int(name) + 1 :]
    return next(m for m in later if isinstance(m, (nn.Linear, nn.Conv2d)))


@pytest.mark.parametrize("make", [mlp, cnn, Branching])
def test_logits_are_equal_to_a_millionth(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = make()
    batches = data(model)[:1]
    seen: list[Tensor] = []

    def output_to_logits(output: Tensor) -> Tensor:
        seen.append(output)
        return output

    with isolated(model, seed=0):
        layer = layers(model, batches)[0]
        LayerLesions(model, layer, batches, num_classes=3, output_to_logits=output_to_logits).accuracies(
            [np.array([1, 3])]
        )
        changed = copy.deepcopy(model)
        next_weights(changed, layer.name).weight.data[:, [1, 3]] = 0
        torch.testing.assert_close(seen[-1], changed(batches[0].inputs), atol=1e-6, rtol=0)


@pytest.mark.parametrize("replacement", ["mean", "resample"])
@pytest.mark.parametrize("make", [mlp, cnn, Branching])
def test_a_unit_may_show_its_mean_or_that_of_another_sample(make, replacement) -> None:
    torch.manual_seed(0)
    model = make()
    batches = data(model)
    with isolated(model, seed=0):
        layer = layers(model, batches)[0]
        lesions = LayerLesions(model, layer, batches, num_classes=3, replacement=replacement, seed=4)
        shown: list[Tensor] = []
        module = model.get_submodule(layer.module)
        with module.register_forward_hook(lambda _, __, output: shown.append(output)):
            for batch in batches:
                model(batch.inputs)
        generator = torch.Generator().manual_seed(4)
        mean = torch.cat(shown).mean(0, keepdim=True)
        replaced = [
            mean if replacement == "mean" else s[torch.randperm(len(s), generator=generator)] for s in shown
        ]
        turn = iter(range(2))

        def lesion(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            found, other = output.clone(), replaced[next(turn)]
            found[:, [0, 2]] = other[:, [0, 2]]
            return found

        with module.register_forward_hook(lesion):
            expected = accuracy(model, batches)
        np.testing.assert_allclose(lesions.accuracies([np.array([0, 2])])[0], expected)


class Mixer(nn.Module):
    """A linear layer that mixes positions, behind units on the second axis."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.mix, self.head = (
            nn.Conv1d(2, 5, 1),
            nn.ReLU(),
            nn.Linear(5, 5),
            nn.Linear(5, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(self.act(self.first(x))).mean(2))


class Recurrent(nn.Module):
    """A layer that returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(2, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x.transpose(1, 2))[0].mean(1))


@pytest.mark.parametrize("make", [Mixer, Recurrent])
def test_units_that_are_not_alone_on_their_axis_are_lesioned_too(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = make()
    batches = [batch_of(torch.randn(30, 2, 5), torch.randint(0, 3, (30,)))]
    with isolated(model, seed=0):
        (layer,) = layers(model, batches)
        found = LayerLesions(model, layer, batches, num_classes=3).accuracies([np.array([1, 3])])
        silencer = Silencer(model, [layer])
        with silencer.silenced([np.array([1, 3])]):
            np.testing.assert_allclose(found[0], accuracy(model, batches))


class InPlace(nn.Module):
    """What an in-place activation changes is read again: traced, it would be another model."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.act, self.b, self.other = (
            nn.Linear(6, 5),
            nn.ReLU(inplace=True),
            nn.Linear(5, 5),
            nn.ReLU(),
        )
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.a(x)
        inner = self.act(hidden)
        return self.head(self.other(hidden + self.b(inner)))


class Optional(InPlace):
    """Another branch runs where an argument is missing."""

    def forward(self, x: Tensor, prompt: Tensor | None = None) -> Tensor:
        found = super().forward(x)
        return found if prompt is None else found + 100 * prompt


class Several(nn.Module):
    """A layer that returns a named tuple, and a model that does not know how many samples it was given."""

    class Found(NamedTuple):
        shown: Tensor
        size: int

    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return Several.Found(x.relu(), x.numel())

    def __init__(self) -> None:
        super().__init__()
        self.a, self.inner, self.head = nn.Linear(6, 5), self.Inner(), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(self.a(x)).shown)


class Batchwise(nn.Module):
    """Takes the mean over the batch away."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.act, self.head = nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.head(self.act(self.a(x)))
        return logits - 3 * logits.mean(0)


@pytest.mark.parametrize(
    ("make", "name"), [(InPlace, "other"), (Optional, "other"), (Several, "inner"), (Batchwise, "act")]
)
def test_a_lesion_is_one_of_the_model_that_is_called(make: Callable[[], nn.Module], name: str) -> None:
    torch.manual_seed(0)
    model = make()
    batches = data(model)
    with isolated(model, seed=0):
        (layer,) = layers(model, batches, name)
        lesions = LayerLesions(model, layer, batches, num_classes=3)
        np.testing.assert_allclose(lesions.intact(), accuracy(model, batches))
        found = lesions.accuracies(GROUPS)
        for group, own in zip(GROUPS, found, strict=True):
            with Silencer(model, [layer]).silenced([group]):
                np.testing.assert_allclose(own, accuracy(model, batches), atol=1e-12)


def test_in_half_precision_the_mean_is_finite() -> None:
    torch.manual_seed(0)
    model = mlp().half()
    for p in model[0].parameters():
        p.data *= 1000
    batches = [batch_of(10 * torch.rand(3000, 6).half(), torch.randint(0, 3, (3000,)))]
    with isolated(model, seed=0):
        layer = layers(model, batches)[0]
        lesions = LayerLesions(model, layer, batches, num_classes=3, replacement="mean")
        assert torch.isfinite(lesions._replacements[0]).all()


def test_a_mean_over_samples_of_several_shapes_is_refused() -> None:
    model = nn.Sequential(
        nn.Conv1d(2, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    batches = [batch_of(torch.randn(9, 2, n), torch.randint(0, 3, (9,))) for n in (5, 7)]
    with isolated(model, seed=0):
        layer = layers(model, batches)[0]
        assert LayerLesions(model, layer, batches, num_classes=3).accuracies(GROUPS).shape == (4, 3)
        with pytest.raises(FnetError, match="`replacement='mean'` needs samples of one shape; layer 1"):
            LayerLesions(model, layer, batches, num_classes=3, replacement="mean")


def test_batches_may_be_mappings() -> None:
    model = mlp()

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = model

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    named, plain = Named(), data(model)
    batches = [batch_of({"x": b.inputs}, b.classes) for b in plain]
    with isolated(named, seed=0):
        layer = choose_layers(named, named, plain[0].inputs, n_samples=17)[0]
        found = LayerLesions(named, layer, batches, num_classes=3).accuracies(GROUPS)
        np.testing.assert_allclose(found, LayerLesions(named, layer, plain, num_classes=3).accuracies(GROUPS))


def test_an_input_that_others_read_too_is_lesioned_for_its_layer_alone() -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.act, self.head = nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.first(x)
            return self.head(hidden + self.act(hidden))

    torch.manual_seed(0)
    model = Around()
    batches = data(model)
    with isolated(model, seed=0):
        inputs = batches[0].inputs
        (layer,) = choose_layers(model, model, inputs, n_samples=17, layers="act", signal="pre")
        lesions = LayerLesions(model, layer, batches, num_classes=3)
        assert not lesions.is_cut
        with Silencer(model, [layer]).silenced([np.array([0, 1])]):
            np.testing.assert_allclose(lesions.accuracies([np.array([0, 1])])[0], accuracy(model, batches))


def test_many_lesions_are_stacked_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = mlp()
    batches = data(model)
    with isolated(model, seed=0):
        layer = layers(model, batches)[0]
        groups = [np.array([i % 5]) for i in range(40)]
        whole = LayerLesions(model, layer, batches, num_classes=3).accuracies(groups)
        monkeypatch.setattr("fnet_callbacks.specialization.lesions._MAX_SAMPLES", 50)
        parts = LayerLesions(model, layer, batches, num_classes=3).accuracies(groups)
    np.testing.assert_array_equal(whole, parts)


def test_the_model_is_left_as_it_was() -> None:
    model = cnn()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with isolated(model, seed=0):
        batches = data(model)
        for layer in layers(model, batches):
            LayerLesions(model, layer, batches, num_classes=3).accuracies(GROUPS[:2])
    assert all(m.training for m in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_class_that_no_sample_has_is_nan() -> None:
    model = mlp()
    batches = [batch_of(torch.randn(5, 6), torch.zeros(5, dtype=torch.int64))]
    with isolated(model, seed=0):
        found = LayerLesions(model, layers(model, batches)[0], batches, num_classes=3).intact()
    assert np.isnan(found).tolist() == [False, True, True]


def test_wrong_arguments_are_named() -> None:
    model = mlp()
    batches = data(model)
    with isolated(model, seed=0):
        layer = layers(model, batches)[0]
        with pytest.raises(FnetError, match="`replacement='one'`"):
            LayerLesions(model, layer, batches, num_classes=3, replacement="one")  # type: ignore[arg-type]
        with pytest.raises(FnetError, match="`batches` are empty"):
            LayerLesions(model, layer, [], num_classes=3)
        with pytest.raises(FnetError, match="has units 0 to 4"):
            LayerLesions(model, layer, batches, num_classes=3).accuracies([np.array([5])])
