"""The hooks: what they collect in a pass, and that they leave."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from fnet_callbacks.capture.isolation import isolated
from fnet_callbacks.capture.layers import choose_layers
from fnet_callbacks.capture.watcher import Watcher
from fnet_callbacks.errors import CaptureError


def watcher_of(
    model: nn.Module, inputs: torch.Tensor, *, tokens_per_sample: int | None = None, **options
) -> Watcher:
    with isolated(model, seed=0):
        layers = choose_layers(model, model, inputs, n_samples=len(inputs), **options)
    units = [np.arange(layer.n_units) for layer in layers]
    return Watcher(model, layers, units, tokens_per_sample=tokens_per_sample)


def watch(watcher: Watcher, model: nn.Module, inputs: torch.Tensor, **options) -> torch.Tensor:
    watcher.expect(len(inputs), **options)
    with watcher.attached():
        model(inputs)
    return watcher.rows()


def test_rows_are_the_activations_of_all_layers_side_by_side():
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2))
    inputs = torch.rand(6, 3)
    watcher = watcher_of(model, inputs)
    expected = torch.cat([model[:2](inputs), model[:4](inputs)], dim=1)
    assert watcher.n_nodes == 9
    assert torch.equal(watch(watcher, model, inputs), expected)
    assert not watcher.rows().requires_grad


def test_only_the_units_that_are_nodes_are_kept():
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    inputs = torch.rand(6, 3)
    layers = watcher_of(model, inputs).layers
    watcher = Watcher(model, layers, [np.array([1, 4])])
    assert torch.equal(watch(watcher, model, inputs), model[:2](inputs)[:, [1, 4]])


@pytest.mark.parametrize("signal", ["pre", "post"])
def test_an_in_place_nonlinearity_shows_the_same_as_another(signal):
    inputs = torch.randn(6, 3)
    seen = []
    for inplace in (False, True):
        model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(inplace=inplace), nn.Linear(5, 2))
        torch.nn.init.constant_(model[0].weight, 0.5)
        torch.nn.init.zeros_(model[0].bias)
        seen.append(watch(watcher_of(model, inputs, signal=signal), model, inputs))
    assert torch.equal(*seen)
    assert (seen[0] < 0).any() == (signal == "pre")


def test_a_later_in_place_operation_does_not_change_what_was_seen():
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.ReLU(inplace=True), nn.Linear(5, 2))
    inputs = torch.randn(6, 3)
    rows = watch(watcher_of(model, inputs, layers="1"), model, inputs)
    assert torch.equal(rows, model[:2](inputs))
    assert (rows < 0).any()


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.relu = nn.Linear(3, 5), nn.Linear(5, 4), nn.Linear(4, 2), nn.ReLU()

    def forward(self, x):
        return self.relu(self.c(self.relu(self.b(self.relu(self.a(x))))))


def test_each_call_of_a_shared_module_is_kept_apart_also_from_one_that_is_not_watched():
    model, inputs = Shared(), torch.rand(6, 3)
    rows = watch(watcher_of(model, inputs), model, inputs)
    first = model.a(inputs).relu()
    assert torch.equal(rows, torch.cat([first, model.b(first).relu()], dim=1))


def test_the_passes_of_one_training_step_follow_one_another():
    model, inputs = Shared(), torch.rand(6, 3)
    watcher = watcher_of(model, inputs)
    once = watch(watcher, model, inputs)
    watcher.expect(6)
    with watcher.attached():
        model(inputs)
        model(inputs[:2])
    assert torch.equal(watcher.rows(), torch.cat([once, once[:2]]))


def test_an_announced_batch_forgets_the_one_before():
    model, inputs = Shared(), torch.rand(6, 3)
    watcher = watcher_of(model, inputs)
    assert torch.equal(watch(watcher, model, inputs), watch(watcher, model, inputs))


def test_hooks_leave_with_the_block_even_if_the_model_fails():
    model, inputs = Shared(), torch.rand(6, 3)
    watcher = watcher_of(model, inputs)
    with pytest.raises(RuntimeError), watcher.attached():
        model(torch.rand(6, 7))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_layer_that_did_not_fire_is_named():
    model, inputs = Shared(), torch.rand(6, 3)
    watcher = watcher_of(model, inputs)
    watcher.expect(6)
    with pytest.raises(CaptureError, match="the hook on relu#0, relu#1 did not fire in this pass"):
        watcher.rows()


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.hidden, self.act, self.head = (
            nn.Embedding(9, 3),
            nn.Linear(3, 4),
            nn.Tanh(),
            nn.Linear(4, 2),
        )

    def forward(self, x):
        return self.head(self.act(self.hidden(self.embed(x))))


def test_padding_is_left_out_of_a_samples_mean():
    model, tokens = Tokens(), torch.randint(9, (6, 5))
    mask = torch.arange(5) < torch.arange(1, 7).clamp(max=5)[:, None]
    rows = watch(watcher_of(model, tokens), model, tokens, mask=mask)
    activation = model.act(model.hidden(model.embed(tokens)))
    expected = torch.stack([a[m].mean(0) for a, m in zip(activation, mask, strict=True)])
    torch.testing.assert_close(rows, expected)


def test_all_layers_show_the_same_drawn_tokens_and_never_padding():
    model, tokens = Tokens(), torch.randint(1, 9, (6, 5))
    tokens[:, 3:] = 0  # padding, which has an embedding of its own
    watcher = watcher_of(model, tokens, layers=["embed", "act"], tokens_per_sample=2)
    rows = watch(watcher, model, tokens, mask=tokens > 0)
    assert rows.shape == (12, 7)
    expected = model.act(model.hidden(rows[:, :3]))
    torch.testing.assert_close(rows[:, 3:], expected)
    assert not (rows[:, None, :3] == model.embed.weight[0]).all(-1).any()


def test_tokens_are_drawn_once_for_a_batch_and_anew_for_the_next():
    model, tokens = Tokens(), torch.randint(9, (6, 5))
    watcher = watcher_of(model, tokens, tokens_per_sample=2)
    first, again, next_batch = (watch(watcher, model, tokens, batch_index=i) for i in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, next_batch)


def test_layers_that_do_not_share_their_tokens_are_named_even_where_the_rows_are_as_many():
    model = nn.Sequential(
        nn.Conv1d(2, 3, 1), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(3, 4, 1), nn.ReLU(), nn.Conv1d(4, 2, 1)
    )
    inputs = torch.rand(6, 2, 8)
    watcher = watcher_of(model, inputs, tokens_per_sample=2)
    with pytest.raises(CaptureError, match=r"do not share their samples \(rows: 1 12, 4 12\)"):
        watch(watcher, model, inputs)


def test_layers_of_unlike_precision_are_brought_together():
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    inputs = torch.rand(6, 3)
    watcher = watcher_of(model, inputs, layers=["0", "1"])
    watcher.expect(6)
    with watcher.attached():
        model[1](model[0](inputs).double())
    assert watcher.rows().dtype == torch.float64


def test_what_goes_wrong_in_a_hook_is_told_when_rows_are_asked_for_and_not_to_the_pass():
    class Wider(nn.Module):
        """One nonlinearity for several widths: twice in evaluation, a third time in training."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.aside = nn.Linear(3, 6), nn.Linear(6, 5), nn.Linear(5, 2)
            self.act, self.head = nn.ReLU(), nn.Linear(5, 2)

        def forward(self, x):
            hidden = self.act(self.second(self.act(self.first(x))))
            return self.head(hidden) + (self.act(self.aside(hidden)) if self.training else 0)

    model, inputs = Wider(), torch.rand(4, 3)
    watcher = watcher_of(model, inputs)
    watcher.expect(4)
    with watcher.attached():
        assert model.train()(inputs).shape == (4, 2)
    with pytest.raises(CaptureError, match="act#0"):
        watcher.rows()
    assert watch(watcher, model.eval(), inputs).shape == (4, 11)


def test_no_hook_is_left_where_a_layer_is_gone():
    model, inputs = (
        nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)),
        torch.rand(4, 3),
    )
    watcher = watcher_of(model, inputs)
    del model[3]
    del model[3]
    with pytest.raises(Exception, match="3"), watcher.attached():
        raise AssertionError("should not be reached")
    assert not model[1]._forward_hooks


def test_what_a_backward_pass_computes_again_is_not_counted():
    class Checkpointed(nn.Sequential):
        def forward(self, x):
            return checkpoint(super().forward, x, use_reentrant=False)

    model, inputs = Checkpointed(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)), torch.rand(4, 3)
    watcher = watcher_of(model, inputs)
    watcher.expect(4)
    with watcher.attached():
        model(inputs).sum().backward()
    assert watcher.rows().shape == (4, 5)
