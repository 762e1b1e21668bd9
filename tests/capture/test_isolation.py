"""Isolation: whatever a forward pass changes is as it was, to the bit, when the block is left."""

import random
from collections import Counter, deque

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from fnet_callbacks.capture.isolation import isolated


def run(module: nn.Module, *inputs: torch.Tensor, seed: int = 0) -> torch.Tensor:
    with isolated(module, seed=seed):
        return module(*inputs)


def test_every_submodule_gets_its_own_mode_back_and_is_in_eval_mode_inside():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout())
    model[1].eval()  # a frozen BatchNorm in a model that trains
    with isolated(model, seed=0):
        assert not any(m.training for m in model.modules())
    assert [m.training for m in model.modules()] == [True, True, False, True]


def test_a_models_own_train_method_is_not_called():
    class Merging(nn.Linear):
        def train(self, mode: bool = True):
            raise AssertionError("would merge weights")

    run(Merging(2, 2), torch.ones(1, 2))


def test_global_random_streams_go_on_as_if_nothing_had_been_drawn():
    def draw() -> tuple[float, float, float]:
        return torch.rand(()).item(), np.random.random(), random.random()  # noqa: NPY002

    for seed_all in (torch.manual_seed, np.random.seed, random.seed):
        seed_all(3)
    with isolated(nn.Identity(), seed=0):
        draw()
    after = draw()
    for seed_all in (torch.manual_seed, np.random.seed, random.seed):
        seed_all(3)
    assert after == draw()


def test_a_stochastic_layer_draws_the_same_in_every_block():
    class Noise(nn.Module):
        def forward(self, x):
            return x + torch.rand_like(x) + random.random() + np.random.random()  # noqa: NPY002

    first = run(Noise(), torch.zeros(3))
    torch.rand(5)
    assert torch.equal(first, run(Noise(), torch.zeros(3)))
    assert not torch.equal(first, run(Noise(), torch.zeros(3), seed=1))


class OwnGenerators(nn.Module):
    def __init__(self):
        super().__init__()
        self.torch_generator = torch.Generator().manual_seed(1)
        self.numpy_generator = np.random.default_rng(1)
        self.old_numpy_generator = np.random.RandomState(1)
        self.python_generator = random.Random(1)
        self.listed = [torch.Generator().manual_seed(2)]

    def forward(self, x):
        return x + sum(self.draw())

    def draw(self) -> list[float]:
        return [
            torch.rand((), generator=self.torch_generator).item(),
            self.numpy_generator.random(),
            self.old_numpy_generator.random(),
            self.python_generator.random(),
            torch.rand((), generator=self.listed[0]).item(),
        ]


def test_generators_of_a_module_go_on_as_if_nothing_had_been_drawn():
    model = OwnGenerators()
    run(model, torch.zeros(1))
    assert model.draw() == OwnGenerators().draw()


class Stateful(nn.Module):
    """Changes all that a forward pass may change."""

    def __init__(self):
        super().__init__()
        self.register_buffer("in_place", torch.tensor([1.0, float("nan")]))
        self.register_buffer("rebound", torch.ones(2))
        self.register_buffer("late", None)
        self.register_buffer("resized", torch.ones(2))
        self.register_buffer("retyped", torch.ones(2))
        self.count = 0
        self.cached = torch.zeros(2)
        self.array = np.zeros(2)
        self.history = [torch.zeros(2)]
        self.nested = {"train": [1], "seen": {1}, "counts": Counter(a=2)}
        self.recent = deque([1, 2], maxlen=2)
        self.gone = "here"

    def forward(self, x):
        self.in_place += 1
        self.rebound = self.rebound * 2
        self.late = torch.ones(1)
        self.resized.resize_(5)
        self.retyped.data = self.retyped.data.half()
        self.count += 1
        self.cached += 1
        self.array += 1
        self.history[0].add_(1)
        self.history.append(torch.ones(1))
        self.nested["train"].append(2)
        self.nested["seen"].add(2)
        self.nested["counts"]["a"] += 1
        self.nested["new"] = 1
        self.recent.append(3)
        self.added = nn.Linear(1, 1)
        self.note = "new"
        del self.gone
        return x


def test_buffers_and_attributes_that_forward_changes_are_brought_back():
    model = Stateful()
    objects = {name: value for name, value in vars(model).items() if not name.startswith("_")}
    rebound = model.rebound
    run(model, torch.zeros(1))
    assert torch.equal(model.in_place.isnan(), torch.tensor([False, True]))
    assert model.in_place[0] == 1
    assert model.rebound is rebound
    assert torch.equal(rebound, torch.ones(2))
    assert model.late is None
    assert torch.equal(model.resized, torch.ones(2))
    assert torch.equal(model.retyped, torch.ones(2))
    assert model.retyped.dtype == torch.float32
    assert (model.count, model.gone) == (0, "here")
    assert not hasattr(model, "note")
    assert [name for name, _ in model.named_modules()] == [""]
    assert torch.equal(model.cached, torch.zeros(2))
    assert model.array.tolist() == [0, 0]
    assert [h.tolist() for h in model.history] == [[0, 0]]
    assert model.nested == {"train": [1], "seen": {1}, "counts": Counter(a=2)}
    assert list(model.recent) == [1, 2]
    assert all(vars(model)[name] is value for name, value in objects.items())


def test_everything_is_brought_back_after_an_exception_too():
    model = Stateful().train()
    state = torch.get_rng_state()
    with pytest.raises(KeyError), isolated(model, seed=0):
        model({}["no such batch"] if model(torch.rand(1)) else None)
    assert (model.count, model.late, model.training) == (0, None, True)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert torch.backends.mha.get_fastpath_enabled()


def test_an_unchanged_buffer_is_not_written_to_so_that_a_pending_backward_still_works():
    model = nn.BatchNorm1d(2)
    model.running_mean[0] = float("nan")
    before = model.running_mean._version
    run(model, torch.rand(4, 2))
    assert model.running_mean._version == before


def test_gradients_in_the_middle_of_an_accumulation_stay():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model(torch.rand(4, 2)).pow(2).sum().backward()
    before = [p.grad.clone() for p in model.parameters()]
    pending = model(torch.rand(4, 2)).pow(2).sum()
    run(model, torch.rand(4, 2))
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before, strict=True))
    pending.backward()


def test_an_embedding_that_renormalises_its_weight_gets_it_back():
    model = nn.Embedding(5, 3, max_norm=0.1)
    before = model.weight.detach().clone()
    run(model, torch.arange(5))
    assert torch.equal(model.weight, before)


def test_states_of_metrics_stay():
    class WithMetrics(nn.Module):
        def __init__(self):
            super().__init__()
            self.accuracy = MulticlassAccuracy(3)
            self.mean = MeanMetric()

        def forward(self, x):
            self.accuracy.update(x, torch.zeros(len(x), dtype=torch.long))
            self.mean(x.sum())
            return x

    model = WithMetrics()
    model(torch.rand(4, 3))
    before = {k: v.clone() for m in (model.accuracy, model.mean) for k, v in m.metric_state.items()}
    counts = (model.accuracy.update_count, model.mean.update_count)
    run(model, torch.rand(4, 3))
    after = {k: v for m in (model.accuracy, model.mean) for k, v in m.metric_state.items()}
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert counts == (model.accuracy.update_count, model.mean.update_count) == (1, 1)


class Logging(pl.LightningModule):
    def forward(self, x):
        self.log("mean", x.mean())  # raises outside of a training loop
        self.log_dict({"sum": x.sum()})
        return x


def test_what_a_model_logs_in_forward_goes_nowhere_and_logging_works_again_afterwards():
    model = Logging()
    run(model, torch.zeros(2))
    assert "log" not in vars(model)
    assert model.log.__func__ is pl.LightningModule.log


def test_a_method_that_is_only_called_log_is_left_alone():
    class Manifold(nn.Module):
        def log(self, x):
            return x.log()

        def forward(self, x):
            return self.log(x)

    assert run(Manifold(), torch.ones(1)).item() == 0


def test_a_cached_tensor_made_inside_validations_inference_mode_stays_usable_in_training():
    class Caching(nn.Module):
        def forward(self, x):
            store.append(x * 2)
            return x

    store: list[torch.Tensor] = []
    with torch.inference_mode(), isolated(nn.Identity(), seed=0):
        Caching()(torch.ones(1))
    (store[0] * torch.ones(1, requires_grad=True)).backward()


def test_state_is_brought_back_inside_inference_mode_too():
    model = Stateful()
    with torch.inference_mode():
        run(model, torch.zeros(1))
        assert torch.is_inference_mode_enabled()
    assert (model.count, model.cached.tolist(), model.in_place[0].item()) == (0, [0, 0], 1)


def test_gradients_can_be_turned_on_inside_inference_mode_as_an_attack_does():
    model = nn.Linear(2, 1)
    with torch.inference_mode(), isolated(model, seed=0), torch.enable_grad():
        inputs = torch.ones(1, 2, requires_grad=True)
        (gradient,) = torch.autograd.grad(model(inputs).sum(), inputs)
    assert torch.equal(gradient, model.weight.detach())
    assert model.weight.grad is None


def test_a_hook_on_a_compiled_submodule_that_has_run_before_fires():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    compiled = nn.Sequential(torch.compile(model, backend="eager"))
    compiled(torch.ones(1, 2))
    fired = []
    with isolated(compiled, seed=0), model[1].register_forward_hook(lambda *_: fired.append(1)):
        compiled(torch.ones(1, 2))
    assert fired == [1]


def test_hooks_inside_a_transformer_fire_although_its_fused_path_would_pass_them_by():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 2)
    padding = torch.tensor([[False, False, True], [False, False, False]])
    fired = []
    hook = model.layers[1].linear1.register_forward_hook(lambda _, __, output: fired.append(output.shape))
    with isolated(model, seed=0), hook:
        model(torch.rand(2, 3, 8), src_key_padding_mask=padding)
    assert fired == [(2, 3, 16)]


def test_cyclic_attributes_are_no_trouble():
    model = nn.Identity()
    model.ring = []
    model.ring.append(model.ring)
    run(model, torch.ones(1))
    assert model.ring[0] is model.ring


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_models_cuda_stream_goes_on_as_if_nothing_had_been_drawn_and_starts_from_the_seed():
    device = torch.device("cuda", 0)
    before = torch.cuda.get_rng_state(device)
    drawn = []
    for _ in range(2):
        with isolated(nn.Identity(), seed=0, device=device):
            drawn.append(torch.rand(3, device=device))
    assert torch.equal(*drawn)
    assert torch.equal(torch.cuda.get_rng_state(device), before)


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.dropout, self.frozen = (
            nn.BatchNorm1d(3, momentum=0.5),
            nn.Dropout(0.5),
            nn.BatchNorm1d(3),
        )

    def forward(self, x):
        return self.dropout(self.frozen(self.norm(x)))


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(
    "make", [torch.jit.script, lambda net: torch.jit.trace(net, torch.randn(4, 3), check_trace=False)]
)
def test_parts_that_are_scripted_get_their_mode_and_buffers_back(make):
    backbone = Backbone()
    backbone.frozen.eval()
    model = nn.Sequential(make(backbone), nn.Linear(3, 3))
    modes = [m.training for m in model.modules()]
    buffers = [b.clone() for b in model.buffers()]
    with isolated(model, seed=0):
        assert not any(m.training for m in model.modules())
        model[0].norm.train()
        model(torch.randn(4, 3))
        model[0].norm.running_mean.add_(1)
    assert [m.training for m in model.modules()] == modes
    assert True in modes[1:]
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), buffers, strict=True))


class PerSample(nn.Module):
    """Has hooks that know of gradients of training alone, and a switch for them, as Opacus' wrapper."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.hooks_enabled = nn.Linear(2, 1), True
        self.line.register_full_backward_hook(self._after_backward)

    def _after_backward(self, *_):
        if self.hooks_enabled:
            raise ValueError("No activations detected")

    def forward(self, x):
        return self.line(x)


PerSample.__module__ = "opacus.grad_sample"


def test_hooks_for_gradients_of_single_samples_are_off_in_the_block_and_on_behind_it():
    model = PerSample()
    with isolated(model, seed=0), torch.enable_grad():
        inputs = torch.ones(1, 2, requires_grad=True)
        torch.autograd.grad(model(inputs).sum(), inputs)
    assert model.hooks_enabled
