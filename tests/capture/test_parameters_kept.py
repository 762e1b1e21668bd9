"""Forward passes that write to parameters: the weights are as they were, to the bit, and where they were."""

import pytest
import torch
from torch import nn

from fnet_callbacks.capture.isolation import isolated
from fnet_callbacks.capture.writes import Writes
from fnet_callbacks.errors import CaptureError, FnetWarning


def momentum_by_data(m):
    for q, k in zip(m.a.parameters(), m.b.parameters(), strict=True):
        k.data = 0.9 * k.data + 0.1 * q.data


def momentum_in_place(m):
    for q, k in zip(m.a.parameters(), m.b.parameters(), strict=True):
        k.data.mul_(0.9).add_(q.data, alpha=0.1)


def momentum_at_once(m):
    torch._foreach_lerp_(list(m.b.parameters()), list(m.a.parameters()), 0.1)


def spectral_norm(m):
    m.u.copy_(nn.functional.normalize(m.a.weight @ (m.a.weight.T @ m.u), dim=0))


def clamped(m):
    m.b.weight.data.clamp_(-0.01, 0.01)


def normalised(m):
    m.b.weight[:3] = nn.functional.normalize(m.b.weight[:3], dim=1)


def by_a_view(m):
    m.b.weight.view(-1)[::2].zero_()


def data_dependent(m):
    if m.is_new:
        m.b.bias.copy_(torch.arange(float(len(m.b.bias))))
        m.is_new = False


def resized(m):
    m.b.weight.data = m.b.weight.data[:2].half()


def replaced(m):
    m.b.weight = nn.Parameter(torch.zeros_like(m.b.weight))


def frozen(m):
    m.b.weight.requires_grad_(False)


def in_memory(m):
    m.b.bias.detach().numpy()[:] = 7


WAYS = [
    *(momentum_by_data, momentum_in_place, momentum_at_once, spectral_norm, clamped, normalised, by_a_view),
    *(data_dependent, resized, replaced, frozen, in_memory),
]


class Writing(nn.Module):
    def __init__(self, write, width: int) -> None:
        super().__init__()
        self.write, self.is_new = write, True
        self.a, self.b = nn.Linear(width, width), nn.Linear(width, width)
        self.u = nn.Parameter(torch.ones(width))
        self.calls = 0

    def forward(self, x):
        y = self.a(x)
        with torch.no_grad():
            self.write(self)
        return y


def state_of(model: nn.Module) -> dict:
    return {
        name: (p.detach().clone(), p.data_ptr(), p.requires_grad, p.dtype)
        for name, p in model.named_parameters()
    }


def assert_kept(model: nn.Module, before: dict) -> None:
    now = state_of(model)
    assert now.keys() == before.keys()
    for name, (content, *rest) in before.items():
        assert torch.equal(now[name][0], content), name
        assert list(now[name][1:]) == rest, name


@pytest.mark.parametrize("width", [8, 600], ids=["small", "large"])
@pytest.mark.parametrize("write", WAYS)
def test_what_forward_writes_to_a_parameter_is_taken_back(write, width):
    if write is in_memory and width > 8:
        pytest.skip("no operation of torch's is seen to write: only a small model is compared whole")
    model, writes = Writing(write, width), Writes()
    before, objects = state_of(model), list(model.parameters())
    for _ in range(3):
        with isolated(model, seed=0, writes=writes):
            model(torch.rand(2, width))
        writes.settle()
        assert_kept(model, before)
    assert all(p is q for p, q in zip(model.parameters(), objects, strict=True))


def test_only_what_a_pass_was_seen_to_write_to_is_copied_in_a_large_model():
    model, writes = Writing(momentum_in_place, 600), Writes()
    with isolated(model, seed=0, writes=writes):
        model(torch.rand(2, 600))
    assert {id(value) for value, _ in writes.known()} == {id(p) for p in model.b.parameters()}


def test_a_large_parameter_that_is_first_written_to_later_is_told_and_kept_from_then_on():
    def later(m):
        m.calls += 1
        if m.is_late:
            m.b.weight.mul_(0.5)

    model, writes = Writing(later, 600), Writes()
    model.is_late = False
    with isolated(model, seed=0, writes=writes):
        model(torch.rand(2, 600))
    writes.settle()
    model.is_late = True
    with (
        pytest.warns(FnetWarning, match=r"wrote to `b.weight`, which the first did not"),
        isolated(model, seed=0, writes=writes),
    ):
        model(torch.rand(2, 600))
    before = state_of(model)
    with isolated(model, seed=0, writes=writes):
        model(torch.rand(2, 600))
    assert_kept(model, before)


def test_a_functional_embedding_that_renormalises_gets_its_weight_back():
    class Functional(nn.Module):
        def __init__(self, rows):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(rows, 16))

        def forward(self, i):
            return nn.functional.embedding(i, self.weight, max_norm=0.1)

    for rows in (5, 50_000):
        model = Functional(rows)
        before = state_of(model)
        with isolated(model, seed=0):
            model(torch.arange(5))
        assert_kept(model, before)


def test_weights_that_are_not_written_to_keep_autograds_count_of_writes():
    model = nn.Sequential(nn.Linear(600, 600), nn.BatchNorm1d(600), nn.Linear(600, 600))
    before = [p._version for p in model.parameters()]
    with isolated(model, seed=0):
        model(torch.rand(4, 600))
    assert [p._version for p in model.parameters()] == before


def test_a_module_that_a_list_hides_is_kept_with_its_weights_and_statistics():
    class Teacher(nn.Module):
        def __init__(self):
            super().__init__()
            self.student = nn.Linear(4, 4)
            self.hidden = [nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))]

        def forward(self, x):
            self.hidden[0][0].weight.data.mul_(0.9)
            return self.hidden[0](x) + self.student(x)

    model = Teacher()
    teacher = model.hidden[0]
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    with isolated(model, seed=0):
        model(torch.rand(8, 4))
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert teacher[1].training


@pytest.mark.parametrize(
    "lazy", [nn.LazyLinear(4), nn.Sequential(nn.Linear(3, 3), nn.LazyBatchNorm1d(affine=False))]
)
def test_a_lazy_module_is_refused_before_it_is_called(lazy):
    model = nn.Sequential(lazy)
    with pytest.raises(CaptureError, match=r"`0.*is lazy.*run the model once"), isolated(model, seed=0):
        model(torch.rand(2, 3))
    model(torch.rand(2, 3))  # what the message says
    with isolated(model, seed=0):
        model(torch.rand(2, 3))
